"""Norms that a step measures on request: of the gradient, of the update, of the parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import bad_input
from training_problems import assert_same, example_loss, network, quadratic, regression, scalar_loss

import jaxopt_lessons as jl
from jaxopt_lessons.train.step import NORMS

BATCH = regression(6)


def measured(metrics, loss_fn=example_loss, tx=None, params=None, batch=BATCH, **options):
    step = jl.make_step(loss_fn, jl.sgd(0.1) if tx is None else tx, metrics=metrics, **options)
    return step(jl.init_state(network() if params is None else params, step), batch)[1]


def flat(tree):
    return np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(tree)])


@pytest.mark.parametrize("accumulate", [None, 4])
def test_norms_are_those_of_all_leaves_together(accumulate):
    """The gradient is measured before the optimizer clips it, the parameters before they move."""
    tx = jl.chain(jl.clip_by_global_norm(1e-3), jl.sgd(2.0))
    metrics = measured(NORMS, tx=tx, accumulate=accumulate)
    gradient = np.linalg.norm(flat(jax.grad(scalar_loss)(jax.tree.map(jnp.asarray, network()), BATCH)))
    parameters = np.linalg.norm(flat(network()))
    assert gradient > 0.1
    expected = {
        "gradient_norm": gradient,
        "update_norm": 2e-3,
        "parameter_norm": parameters,
        "update_ratio": 2e-3 / parameters,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, 1e-5, err_msg=name)
        assert (metrics[name].shape, metrics[name].dtype) == ((), jnp.float32)
    assert set(metrics) == {"loss", "weight", *NORMS}


@pytest.mark.parametrize("name", NORMS)
def test_what_is_asked_for_is_measured_and_nothing_else(name):
    assert set(measured([name])) == {"loss", "weight", name}


@bad_input(41)
def test_norms_of_half_precision_are_calculated_in_float32():
    """In float16 the squares overflow."""
    params = jnp.full((1000,), 1000.0, jnp.float16)
    metrics = measured(["parameter_norm"], lambda p, b: 0 * jnp.sum(p * 0), params=params)
    assert metrics["parameter_norm"].dtype == jnp.float32
    np.testing.assert_allclose(metrics["parameter_norm"], 1000 * 1000**0.5, 1e-6)


@bad_input(43, 44)
def test_the_ratio_of_a_step_away_from_zeros_is_infinite_and_that_of_none_is_0():
    batch = np.ones((2, 3), np.float32)
    zeros = np.zeros(3, np.float32)
    assert measured(["update_ratio"], quadratic, params=zeros, batch=batch)["update_ratio"] == jnp.inf
    assert measured(["update_ratio"], quadratic, params=zeros, batch=0 * batch)["update_ratio"] == 0


def test_without_a_request_nothing_is_calculated():
    """There is no square root in a step of gradient descent on a loss without one."""

    def program(**options):
        step = jl.make_step(example_loss, jl.sgd(0.1), **options)
        return str(jax.make_jaxpr(lambda *arguments: step(*arguments))(jl.init_state(network(), step), BATCH))

    assert "sqrt" not in program()
    assert program() == program(metrics=[])
    for name in NORMS:
        assert "sqrt" in program(metrics=[name])


def test_fit_records_them():
    step = jl.make_step(example_loss, jl.sgd(0.1), metrics=["gradient_norm"])
    out = jl.fit(
        step, jl.init_state(network(), step), regression(10), epochs=2, batch_size=4, val=BATCH, progress=False
    )
    assert out.history["gradient_norm"].shape == (6,)
    assert np.all(out.history["gradient_norm"] > 0)
    assert set(out.history) == {"loss", "weight", "learning_rate", "val_loss", "gradient_norm"}


@pytest.mark.parametrize("accumulate", [None, 2])
@pytest.mark.parametrize("name", NORMS)
def test_names_that_are_asked_for_are_taken(name, accumulate):
    loss_fn = lambda params, batch: (example_loss(params, batch), {name: jnp.float32(3)})
    with pytest.raises(jl.InputError, match=f"^the metrics of a loss function cannot be called '{name}'"):
        measured(NORMS, loss_fn, accumulate=accumulate)
    assert float(measured((), loss_fn, accumulate=accumulate)[name]) == 3


def test_the_order_in_which_they_are_named_does_not_matter():
    step = jl.make_step(example_loss, jl.sgd(0.1), metrics=["update_norm", "gradient_norm", "update_norm"])
    assert step == jl.make_step(example_loss, jl.sgd(0.1), metrics=("gradient_norm", "update_norm"))
    assert repr(step).endswith("metrics=('gradient_norm', 'update_norm'))")
    assert step.replace(metrics=()) == jl.make_step(example_loss, jl.sgd(0.1))
    assert_same(step.replace(metrics=())(jl.init_state(network(), step), BATCH)[1], measured(()))


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        (
            ["grad_norm"],
            ValueError,
            r"^make_step: metrics has no 'grad_norm'. Did you mean 'gradient_norm'\? There are:",
        ),
        (["loss"], ValueError, "^make_step: metrics has no 'loss'. There are: 'gradient_norm', 'update_norm'"),
        ([3], ValueError, "^make_step: metrics has no 3. There are: "),
        ("gradient_norm", TypeError, r"^make_step: metrics must be a sequence of names, as in \['gradient_norm'\]"),
        (None, TypeError, "^make_step: metrics must be a sequence of names"),
    ],
)
def test_other_names_are_refused_with_the_nearest(metrics, error, message):
    with pytest.raises(error, match=message):
        jl.make_step(example_loss, jl.sgd(0.1), metrics=metrics)
