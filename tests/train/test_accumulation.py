"""Micro-batches: one update with the gradient of the one big batch, in the memory of a small one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bad_inputs import bad_input
from training_problems import (
    assert_near,
    distance,
    example_loss,
    network,
    noisy_loss,
    regression,
    scalar_loss,
    weighted_loss,
)

import jaxopt_lessons as jl
from jaxopt_lessons.train.cost import cost_of
from jaxopt_lessons.train.step import LOSS_STREAM

BATCH = regression(12)


def take_step(loss_fn, accumulate, batch=BATCH, mask=None, tx=None, params=None, steps=1, **options):
    step = jl.make_step(loss_fn, jl.adam(0.1) if tx is None else tx, accumulate=accumulate, **options)
    state = jl.init_state(network() if params is None else params, step, key=3)
    for _ in range(steps):
        state, metrics = jax.jit(lambda *arguments: step(*arguments))(state, batch, mask)
    return state, metrics


def with_metrics(loss_fn):
    """The loss with a metric of each kind; the whole numbers are 0, 1, 2 ... in the examples' order."""

    def loss(params, batch):
        errors = example_loss(params, batch)
        metrics = {"largest": errors, "hits": errors < 0.5, "mean": jnp.mean(errors)}
        return loss_fn(params, batch), metrics | {"tokens": jl.Weighted(jnp.sum(errors), jnp.float32(3 * errors.size))}

    return loss


def ragged_loss(params, batch):
    """A weight that differs between examples, 0 for some: tokens in sentences of different lengths."""
    lengths = jnp.array([5.0, 0.0, 1.0, 2.0] * 3)[batch[2]]
    return jl.Weighted(jnp.sum(lengths * example_loss(params, batch[:2])), jnp.sum(lengths))


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 5, 8, 12, 20])
@pytest.mark.parametrize("loss_fn", [scalar_loss, example_loss, weighted_loss])
def test_micro_batches_are_the_one_big_batch(loss_fn, parts):
    """Also those of unequal sizes, of 3, 3, 2, 2 and 2 examples, and no more of them than there are examples."""
    loss_fn = with_metrics(loss_fn)
    assert_near(take_step(loss_fn, parts), take_step(loss_fn, None), 2e-6)


def test_the_comparison_could_fail():
    """A batch that is off by one example is found out."""
    assert (
        distance(take_step(example_loss, None, tuple(x[:-1] for x in BATCH))[1], take_step(example_loss, 4)[1]) > 1e-3
    )


@pytest.mark.parametrize("parts", [2, 4, 5, 12])
def test_weights_that_differ_between_micro_batches_count(parts):
    """Also micro-batches of weight 0."""
    batch = (*BATCH, np.arange(12))
    got, expected = (
        take_step(ragged_loss, parts, batch, tx=jl.sgd(0.1)),
        take_step(ragged_loss, None, batch, tx=jl.sgd(0.1)),
    )
    assert_near(got, expected)
    assert float(got[1]["weight"]) == 24


def test_a_batch_of_weight_0_changes_nothing():
    state, metrics = take_step(
        lambda p, b: jl.Weighted(jnp.sum(p * 0.0), jnp.float32(0)), 3, params=np.ones(2, np.float32)
    )
    np.testing.assert_array_equal(state.params, np.ones(2))
    assert float(metrics["loss"]) == float(metrics["weight"]) == 0


@pytest.mark.parametrize("parts", [2, 3, 5, 12])
@pytest.mark.parametrize("counting", [12, 7, 1])
def test_masked_examples_change_nothing(parts, counting):
    """Micro-batches of nothing but masked examples included."""
    mask = np.arange(12) < counting
    got = take_step(example_loss, parts, mask=mask)
    assert_near(got, take_step(example_loss, None, tuple(x[:counting] for x in BATCH)), 2e-6)
    assert float(got[1]["weight"]) == counting


@pytest.mark.parametrize("remainder", ["keep", "drop", "pad", "wrap"])
def test_fit_with_micro_batches_is_fit_without(remainder):
    """Of 50 examples the last batch has 2, or is filled up with 14 that are masked."""
    runs = []
    for parts in (None, 4):
        step = jl.make_step(example_loss, jl.sgd(0.05), accumulate=parts)
        state = jl.init_state(network(), step)
        runs.append(jl.fit(step, state, regression(50), epochs=3, batch_size=16, remainder=remainder, progress=False))
    assert_near(runs[1].state, runs[0].state, 2e-6)
    np.testing.assert_allclose(runs[1].history["loss"], runs[0].history["loss"], 1e-5)
    assert int(runs[1].state.step) == len(runs[1].history["loss"])


def test_one_update_is_counted_and_one_schedule_step_taken():
    tx = jl.sgd(jl.linear_schedule(0.1, 0.0, 10))
    state, _ = take_step(example_loss, 4, tx=tx, steps=3)
    assert (int(state.step), int(state.cursor)) == (3, 3)
    np.testing.assert_allclose(jl.hyperparams(tx, state.opt_state)["sgd.learning_rate"], 0.07, 1e-6)


@jax.numpy_dtype_promotion("standard")
def test_optax_optimizers_take_micro_batches():
    assert_near(
        take_step(example_loss, 4, tx=optax.adam(0.1), steps=3),
        take_step(example_loss, None, tx=optax.adam(0.1), steps=3),
        1e-5,
    )


@bad_input(52)
def test_gradients_of_half_precision_are_added_in_float32():
    """Each gradient is 1; in bfloat16 the sum of a thousand would stop at 256. The optimizer gets bfloat16, as ever."""
    seen = []

    def update(updates, state, params=None):
        seen.append(updates.dtype)
        return updates, state

    tx = jl.GradientTransformation(lambda params: (), update)
    params = jnp.zeros((), jnp.bfloat16)
    state, _ = take_step(lambda p, b: p + 0 * b, 1000, jnp.zeros(1000, jnp.bfloat16), tx=tx, params=params)
    assert float(state.params) == 1
    assert state.params.dtype == seen[0] == jnp.bfloat16


@bad_input(54)
def test_complex_parameters_descend():
    c = np.array([[1 + 2j, -3 - 1j], [3 + 0j, 1j]], np.complex64)
    loss_fn = lambda params, batch: jnp.sum(jnp.abs(params[None] - batch) ** 2, axis=1)
    state, _ = take_step(loss_fn, 2, c, tx=jl.sgd(0.25), params=np.zeros(2, np.complex64))
    np.testing.assert_allclose(state.params, c.mean(0) / 2, 1e-6)


def test_single_numbers_in_a_batch_belong_to_every_micro_batch():
    loss_fn = lambda params, batch: batch[1] * example_loss(params, batch[0])
    assert_near(take_step(loss_fn, 3, (BATCH, 2.0)), take_step(loss_fn, None, (BATCH, 2.0)), 2e-6)


# ---------------------------------------------------------------------------------------------------------------------
# Keys
# ---------------------------------------------------------------------------------------------------------------------


def drawing_loss(params, batch, key):
    """Tells the sum of random numbers, times the number of the example: which key came with which example."""
    return example_loss(params, batch[:2]), {"drawn": jax.random.uniform(key) * batch[2]}


def test_the_key_of_a_micro_batch_depends_on_the_root_key_the_cursor_and_its_number():
    """It is the same in every release, or a run that goes on with the next one would change its course."""
    drawn = []
    for number in range(3):
        batch = (*BATCH, np.float32(np.arange(12) // 4 == number))
        state = jl.init_state(network(), jl.sgd(0.1), key=1)._replace(cursor=jnp.int32(5), step=jnp.int32(2))
        _, metrics = jl.make_step(drawing_loss, jl.sgd(0.1), accumulate=3)(state, batch)
        key = jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(jax.random.key(1), LOSS_STREAM), 5), number)
        np.testing.assert_allclose(metrics["drawn"], jax.random.uniform(key) / 3, 1e-6)
        drawn.append(float(metrics["drawn"]))
    assert len(set(drawn)) == 3


def test_micro_batches_of_unequal_sizes_have_keys_of_their_own():
    batch = tuple(np.concatenate([x[:1]] * 5) for x in BATCH)
    step = jl.make_step(
        lambda p, b, key: (noisy_loss(p, b, key), {"u": jax.random.uniform(key)}), jl.sgd(0.1), accumulate=2
    )
    _, metrics = step(jl.init_state(network(), step, key=1), batch)
    keys = [
        jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(jax.random.key(1), LOSS_STREAM), 0), i) for i in (0, 1)
    ]
    expected = (3 * jax.random.uniform(keys[0]) + 2 * jax.random.uniform(keys[1])) / 5
    np.testing.assert_allclose(metrics["u"], expected, 1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# What the optimizer is told
# ---------------------------------------------------------------------------------------------------------------------


def test_the_optimizer_is_told_about_the_whole_batch():
    seen = []

    def update(updates, state, params, *, value, grad, value_fn, grad_fn):
        seen.append((value, grad, value_fn(params), grad_fn(params, 0), jax.grad(value_fn)(params)))
        return updates, state

    tx = jl.GradientTransformation(lambda params: (), update)
    for parts in (None, 5):
        jl.make_step(example_loss, tx, accumulate=parts)(jl.init_state(network(), tx), BATCH)
    whole, in_parts = seen
    assert_near(in_parts, whole, 2e-6)
    assert_near(in_parts[3:], (in_parts[1], in_parts[1]), 2e-6)


@pytest.mark.parametrize(
    "tx", [jl.polyak_sgd(), jl.sam(jl.sgd(0.05), jl.sgd(0.01), opaque_mode=True)], ids=lambda tx: tx.name
)
def test_optimizers_that_ask_about_the_batch_take_micro_batches(tx):
    assert_near(take_step(example_loss, 4, tx=tx, steps=2), take_step(example_loss, None, tx=tx, steps=2), 1e-5)


def test_derivatives_of_a_step_go_through_the_micro_batches():
    def after(rate, parts):
        step = jl.make_step(example_loss, jl.sgd(rate), accumulate=parts)
        return scalar_loss(step(jl.init_state(network(), step), BATCH)[0].params, BATCH)

    derivative = jax.grad(after)(0.1, 5)
    np.testing.assert_allclose(derivative, jax.grad(after)(0.1, None), 1e-5)
    assert derivative != 0


# ---------------------------------------------------------------------------------------------------------------------
# Memory, and loops
# ---------------------------------------------------------------------------------------------------------------------


def temporary_bytes(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("size", [4096, 4093])
def test_the_activations_of_one_micro_batch_are_in_memory_at_once(size):
    def deep_loss(params, batch):
        hidden = batch
        for w in params:
            hidden = jnp.tanh(hidden @ w)
        return jnp.mean(hidden, axis=1)

    params = [np.eye(64, dtype=np.float32)] * 8
    batch = np.ones((size, 64), np.float32)
    needed = {}
    for parts in (None, 16):
        step = jl.make_step(deep_loss, jl.sgd(0.1), accumulate=parts)
        needed[parts] = temporary_bytes(lambda *a, step=step: step(*a), jl.init_state(params, step), batch)
    assert needed[16] < needed[None] / 4


def convolution_loss(params, batch):
    images, labels = batch
    features = jax.lax.conv(images, params["kernel"], (1, 1), "SAME")
    return (jnp.mean(jnp.tanh(features), axis=(1, 2, 3)) - labels) ** 2


def test_convolutions_are_not_left_in_a_loop_on_a_cpu():
    """XLA takes many times as long for them there. Other losses stay in a loop, with one copy of the program."""
    assert jax.default_backend() == "cpu"
    rng = np.random.default_rng(0)
    params = {"kernel": rng.standard_normal((4, 1, 3, 3)).astype(np.float32)}
    batch = rng.standard_normal((8, 1, 6, 6)).astype(np.float32), np.ones(8, np.float32)
    for loss_fn, start, data, copies in (
        (jax.checkpoint(convolution_loss), params, batch, 4),
        (example_loss, network(), BATCH, 1),
    ):
        step = jl.make_step(loss_fn, jl.sgd(0.1), accumulate=4)
        jaxpr = jax.make_jaxpr(lambda *arguments, step=step: step(*arguments))(jl.init_state(start, step), data)
        assert [e.params["unroll"] for e in jaxpr.eqns if e.primitive.name == "scan"] == [copies]
    assert_near(
        take_step(convolution_loss, 4, batch, params=params, tx=jl.sgd(0.1)),
        take_step(convolution_loss, None, batch, params=params, tx=jl.sgd(0.1)),
    )


def convolved(x):
    return jax.lax.conv(x, jnp.ones((1, 1, 3, 3)), (1, 1), "SAME")


@pytest.mark.parametrize(
    "inside",
    [
        lambda f: f,
        jax.jit,
        jax.checkpoint,
        lambda f: jax.grad(lambda x: jnp.sum(f(x))),
        lambda f: lambda x: jax.lax.map(f, x[None]),
        lambda f: lambda x: jax.lax.cond(x[0, 0, 0, 0] > 0, f, jnp.sin, x),
    ],
    ids=["itself", "jit", "checkpoint", "grad", "map", "cond"],
)
def test_a_convolution_is_found_wherever_it_is(inside):
    x = jnp.ones((2, 1, 5, 5))
    assert cost_of(jax.make_jaxpr(inside(convolved))(x).jaxpr).has_convolution
    assert not cost_of(jax.make_jaxpr(inside(jnp.tanh))(x).jaxpr).has_convolution


# ---------------------------------------------------------------------------------------------------------------------
# As an argument
# ---------------------------------------------------------------------------------------------------------------------


def test_the_number_of_micro_batches_is_part_of_the_value():
    step = jl.make_step(example_loss, jl.sgd(0.1), accumulate=np.int64(4))
    assert repr(step) == "make_step(loss_fn=example_loss, tx=sgd(learning_rate=0.1), accumulate=4)"
    assert step == jl.make_step(example_loss, jl.sgd(0.1), accumulate=4)
    assert step != step.replace(accumulate=2) == jl.make_step(example_loss, jl.sgd(0.1), accumulate=2)
    assert jax.tree.leaves(step) == [0.1]


@pytest.mark.parametrize(
    ("accumulate", "error", "message"),
    [
        (0, ValueError, "^make_step: accumulate must be at least 1; got 0"),
        (2.0, TypeError, "^make_step: accumulate must be a whole number; got 2.0"),
        (True, TypeError, "^make_step: accumulate must be a whole number; got True"),
    ],
)
def test_a_number_of_micro_batches_that_is_none_is_refused(accumulate, error, message):
    with pytest.raises(error, match=message):
        jl.make_step(example_loss, jl.sgd(0.1), accumulate=accumulate)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"x": np.ones((6, 3)), "y": np.ones(4)}, "^accumulate=2 cuts .*; got 6 at 'x', 4 at 'y'"),
        (np.float32(1.0), "^accumulate=2 cuts .*; got no array with an axis"),
    ],
)
def test_a_batch_that_cannot_be_cut_is_refused_with_its_sizes(batch, message):
    with pytest.raises(jl.InputError, match=message):
        take_step(lambda params, batch: jnp.float32(0), 2, batch)


def test_a_scalar_with_masked_examples_is_refused_in_micro_batches_too():
    with pytest.raises(jl.InputError, match="^the loss is a scalar, which already contains the examples that fill up"):
        take_step(scalar_loss, 3, mask=np.arange(12) < 7)
