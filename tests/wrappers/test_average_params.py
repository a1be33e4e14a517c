"""Averages of parameters: of those after the update, by the definition, read through any nesting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs
from bad_inputs import bad_input

import jaxopt_lessons as jl

RNG = np.random.default_rng(0)
GRADS = [jnp.asarray(g, jnp.float32) for g in RNG.standard_normal((40, 3))]
START = jnp.array([1.0, -2.0, 0.5])


def run(tx, grads=GRADS, params=START):
    return runs.parameters_of(tx, params, grads)


WEIGHTS = {
    "ema": (lambda tx: jl.ema_params(tx, 0.9), lambda n: 0.9 ** np.arange(n)[::-1]),
    "long ema": (lambda tx: jl.ema_params(tx), lambda n: 0.999 ** np.arange(n)[::-1]),
    "ema as torch": (
        lambda tx: jl.ema_params(tx, 0.9, debias=False),
        lambda n: np.array([0.9 ** (n - 1), *(0.1 * 0.9 ** np.arange(n - 1)[::-1])]),
    ),
    "ema that remembers nothing": (lambda tx: jl.ema_params(tx, 0.0), lambda n: np.arange(n) == n - 1),
    "mean": (lambda tx: jl.swa_params(tx), np.ones),
    "tail": (lambda tx: jl.swa_params(tx, start=30), lambda n: np.arange(n) >= 30),
    "swa": (
        lambda tx: jl.swa_params(tx, start=10, every=5),
        lambda n: (np.arange(1, n + 1) > 10) & (np.arange(1, n + 1) % 5 == 0),
    ),
    "polynomial of degree 0": (lambda tx: jl.polynomial_average_params(tx, 0.0), np.ones),
    "polynomial of degree 1": (lambda tx: jl.polynomial_average_params(tx, 1.0), lambda n: np.arange(1, n + 1)),
    "polynomial of degree 2": (
        lambda tx: jl.polynomial_average_params(tx, 2.0),
        lambda n: np.arange(1, n + 1) * np.arange(2, n + 2),
    ),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_average_has_the_weights_of_the_definition(name):
    make, weights = WEIGHTS[name]
    tx = make(jl.adam(0.1))
    seen, state = run(tx)
    expected = np.average(np.stack(seen), axis=0, weights=weights(len(seen)))
    np.testing.assert_allclose(jl.eval_params(tx, state, seen[-1]), expected, rtol=2e-6, atol=1e-6)
    alone, _ = run(jl.adam(0.1))
    np.testing.assert_array_equal(np.stack(seen), np.stack(alone))


@pytest.mark.parametrize(
    "nest",
    [
        lambda tx: jl.chain(jl.clip_by_global_norm(10.0), tx),
        lambda tx: jl.chain(jl.chain(tx)),
        lambda tx: jl.apply_if_finite(tx, 3),
        lambda tx: jl.MultiSteps(tx, 1),
        lambda tx: jl.apply_if_finite(jl.chain(jl.MultiSteps(tx, 1)), 3),
        lambda tx: jl.sam(tx, jl.sgd(0.1), sync_period=1),
    ],
)
def test_it_is_found_through_any_nesting(nest):
    inner = jl.swa_params(jl.sgd(0.1))
    seen, state = run(nest(inner))
    np.testing.assert_allclose(jl.eval_params(nest(inner), state, seen[-1]), np.mean(np.stack(seen), 0), rtol=1e-5)


def test_before_there_is_an_average_it_is_the_parameters():
    tx = jl.ema_params(jl.sgd(0.1), start=3)
    for n in (0, 1, 3):
        seen, state = run(tx, GRADS[:n])
        params = seen[-1] if seen else START
        np.testing.assert_array_equal(jl.eval_params(tx, state, params), params)
    seen, state = run(tx, GRADS[:5])
    assert np.any(jl.eval_params(tx, state, seen[-1]) != seen[-1])


@pytest.mark.parametrize("make", [jl.ema_params, jl.swa_params, jl.polynomial_average_params])
def test_the_average_of_a_constant_is_the_constant(make):
    """Bit for bit, after any number of steps."""
    tx = make(jl.sgd(0.0))
    _, state = jax.lax.scan(lambda s, _: (tx.update(START, s, START)[1], None), tx.init(START), None, length=3000)[::-1]
    np.testing.assert_array_equal(state.average, START)
    assert int(state.num_averaged) == 3000


@bad_input(39)
def test_skipped_and_accumulated_steps_are_not_averaged():
    tx = jl.apply_if_finite(jl.MultiSteps(jl.swa_params(jl.sgd(0.1)), 2), 3)
    grads = [*GRADS[:2], GRADS[2] * jnp.nan, *GRADS[2:5]]
    seen, state = run(tx, grads)
    assert int(state.inner_state.inner_opt_state.num_averaged) == 2
    np.testing.assert_allclose(jl.eval_params(tx, state, seen[-1]), (seen[1] + seen[4]) / 2, rtol=1e-6)


@bad_input(52)
def test_half_precision_is_averaged_in_float32():
    """Steps of the last bit of a bfloat16 number: their average lies between the numbers."""
    params = jnp.ones(1, jnp.bfloat16)
    tx = jl.swa_params(jl.scale(1.0))
    state = tx.init(params)
    for g in (2**-7, -(2**-7), 2**-7):
        updates, state = tx.update(jnp.array([g], jnp.bfloat16), state, params)
        params = jl.apply_updates(params, updates)
    assert state.average.dtype == jnp.float32
    assert float(state.average[0]) == pytest.approx(1 + 2 / 3 * 2**-7, rel=1e-6)
    assert jl.eval_params(tx, state, params).dtype == jnp.bfloat16


def test_the_average_is_of_the_rounded_parameters():
    """An update too small for the parameter does not show in the average either."""
    params = jnp.ones(1, jnp.bfloat16)
    tx = jl.ema_params(jl.scale(1.0))
    _, state = tx.update(jnp.array([1e-3], jnp.bfloat16), tx.init(params), params)
    assert float(state.average[0]) == 1.0


def test_a_scheduled_decay_is_always_a_weighted_mean():
    """Between the smallest and the largest parameter, whatever the schedule."""
    tx = jl.ema_params(jl.sgd(0.1), jl.linear_schedule(0.0, 0.99, 20))
    seen, state = run(tx)
    average = jl.eval_params(tx, state, seen[-1])
    assert np.all((np.min(np.stack(seen), 0) <= average) & (average <= np.max(np.stack(seen), 0)))


def test_leaves_that_are_not_trainable_pass():
    params = {"w": jnp.ones(2), "n": jnp.arange(2), "f": jax.nn.relu, "key": jax.random.key(0), "none": None}
    grads = {"w": jnp.ones(2), "n": None, "f": None, "key": None, "none": None}
    tx = jl.ema_params(jl.sgd(0.5))
    updates, state = tx.update(grads, tx.init(params), params)
    average = jl.eval_params(tx, state, jl.apply_updates(params, updates))
    np.testing.assert_array_equal(average["w"], [0.5, 0.5])
    assert average["f"] is jax.nn.relu
    assert average["none"] is None
    np.testing.assert_array_equal(average["n"], [0, 1])
