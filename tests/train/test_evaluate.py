"""The loss on a set of data: exact means over its examples, however they are cut."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_problems import example_loss, network, regression, scalar_loss, weighted_loss

import jaxopt_lessons as jl
from jaxopt_lessons.train import compilation

N = 23
DATA = regression(N)
PARAMS = jax.tree.map(jnp.asarray, network())
SIZES = (None, 1, 4, 22, 23, 24, 100)


def exact():
    x, y = (part.astype(np.float64) for part in DATA)
    weights = {name: np.asarray(leaf, np.float64) for name, leaf in PARAMS.items()}
    return (np.tanh(x @ weights["w1"] + weights["b1"]) @ weights["w2"] - y) ** 2


@pytest.mark.parametrize("loss_fn", [example_loss, scalar_loss, weighted_loss])
@pytest.mark.parametrize("batch_size", SIZES)
def test_the_loss_is_the_mean_over_all_examples(loss_fn, batch_size):
    measured = jl.evaluate(loss_fn, PARAMS, DATA, batch_size=batch_size)
    assert type(measured["loss"]) is float
    assert measured == {"loss": pytest.approx(exact().mean(), rel=2e-6)}


def test_the_mean_of_the_means_of_batches_would_be_another_number():
    errors = exact()
    mean_of_means = np.mean([errors[i : i + 4].mean() for i in range(0, N, 4)])
    assert abs(mean_of_means / errors.mean() - 1) > 1e-3


@pytest.mark.parametrize("batch_size", SIZES)
def test_metrics_are_means_over_all_examples(batch_size):
    def loss(params, batch):
        errors = example_loss(params, batch)
        size = errors.size
        metrics = {
            "wrong": errors > 1,
            "error": jnp.mean(errors),
            "tokens": jl.Weighted(jnp.float32(10 * size), jnp.float32(4 * size)),
        }
        return errors, metrics

    measured = jl.evaluate(loss, PARAMS, DATA, batch_size=batch_size)
    assert measured == {
        "loss": pytest.approx(exact().mean(), rel=2e-6),
        "wrong": pytest.approx((exact() > 1).mean(), rel=1e-6),
        "error": pytest.approx(exact().mean(), rel=2e-6),
        "tokens": pytest.approx(2.5, rel=1e-6),
    }
    assert 0 < measured["wrong"] < 1


@pytest.mark.parametrize("batch_size", SIZES)
def test_weights_are_added_up_before_the_division(batch_size):
    def loss(params, batch):
        weights = batch[0]
        return jl.Weighted(jnp.sum(weights * batch[1]), jnp.sum(weights))

    weights, values = np.arange(N, dtype=np.float32), np.sin(np.arange(N)).astype(np.float32)
    measured = jl.evaluate(loss, PARAMS, (weights, values), batch_size=batch_size)
    assert measured["loss"] == pytest.approx(np.average(values, weights=weights), rel=1e-5)


def test_a_weight_of_0_gives_0():
    assert jl.evaluate(lambda p, b: jl.Weighted(jnp.float32(0), jnp.float32(0)), PARAMS, DATA) == {"loss": 0.0}


def test_a_loss_that_takes_a_key_gets_none():
    given = []

    def loss(params, batch, key):
        given.append(key)
        return example_loss(params, batch)

    measured = jl.evaluate(loss, PARAMS, DATA, batch_size=4)
    assert measured["loss"] == pytest.approx(exact().mean(), rel=2e-6)
    assert set(given) == {None}


def test_the_examples_come_in_their_own_order():
    def loss(params, batch):
        return batch, {"first": batch[0]}

    assert jl.evaluate(loss, PARAMS, np.arange(6.0, dtype=np.float32), batch_size=3)["first"] == pytest.approx(1.5)


def test_one_loss_and_shape_is_one_program_for_all_parameters():
    def loss(params, batch):
        return example_loss(params, batch)

    with compilation.count() as compiled:
        first = jl.evaluate(loss, PARAMS, DATA, batch_size=4)
    assert len(compiled) == 1
    with compilation.count() as compiled:
        again = jl.evaluate(loss, PARAMS, DATA, batch_size=4)
        other = jl.evaluate(loss, jax.tree.map(lambda x: 2 * x, PARAMS), regression(N, seed=5), batch_size=4)
    assert compiled == []
    assert first == again
    assert first != other


def test_what_the_loss_function_raises_comes_out():
    def loss(params, batch):
        raise RuntimeError("not today")

    with pytest.raises(RuntimeError, match="not today"):
        jl.evaluate(loss, PARAMS, DATA)


def test_data_and_sizes_are_checked():
    with pytest.raises(jl.InputError, match="^data: the first axes count the examples"):
        jl.evaluate(example_loss, PARAMS, (DATA[0], DATA[1][:3]))
    with pytest.raises(ValueError, match="batch_size must be at least 1; got 0"):
        jl.evaluate(example_loss, PARAMS, DATA, batch_size=0)
    with pytest.raises(jl.InputError, match="the loss must be a scalar, one number per example"):
        jl.evaluate(lambda params, batch: batch[0], PARAMS, DATA)
    for wrong in (None, jl.make_step(example_loss, jl.sgd(0.1))):
        with pytest.raises(TypeError, match="evaluate: loss_fn must be a function"):
            jl.evaluate(wrong, PARAMS, DATA)
    with pytest.raises(TypeError, match="evaluate: the results are numbers on the host"):
        jax.jit(lambda params: jl.evaluate(example_loss, params, DATA))(PARAMS)
