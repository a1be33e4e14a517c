"""Lookahead with plain parameters: the numbers of optax's pairs, and the slow weights to evaluate."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bad_inputs import bad_input

import jaxopt_lessons as jl

TARGET = np.linspace(-1.0, 2.0, 6).reshape(3, 2)


def gradient(params):
    return (params - jnp.asarray(TARGET, params.dtype)) * jnp.asarray([[1.0, 0.1]], params.dtype)


@pytest.mark.parametrize("reset_state", [False, True])
@pytest.mark.parametrize(("ours", "theirs"), [(jl.sgd(0.3, 0.9), optax.sgd(0.3, 0.9)), (jl.adam(0.1), optax.adam(0.1))])
def test_a_run_of_plain_parameters_has_the_fast_and_slow_weights_of_optax(ours, theirs, reset_state):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        tx = jl.lookahead(ours, 5, 0.4, reset_state)
        other = optax.lookahead(theirs, 5, 0.4, reset_state)
        params = jnp.zeros((3, 2))
        pair = optax.LookaheadParams.init_synced(params)
        state, other_state = tx.init(params), other.init(pair)
        for i in range(23):
            updates, state = tx.update(gradient(params), state, params)
            params = jl.apply_updates(params, updates)
            updates, other_state = other.update(gradient(pair.fast), other_state, pair)
            pair = optax.apply_updates(pair, updates)
            np.testing.assert_allclose(params, pair.fast, rtol=1e-10, atol=1e-12)
            slow = jl.eval_params(tx, state, params)
            np.testing.assert_allclose(slow, pair.slow, rtol=1e-10, atol=1e-12)
            if i % 5 == 4:
                np.testing.assert_allclose(params, slow, rtol=1e-12, atol=1e-14)
            else:
                assert np.any(np.abs(params - slow) > 1e-6)


def test_slow_weights_are_found_in_any_nesting_and_keep_what_is_not_trained():
    params = {"w": jnp.ones(2, jnp.bfloat16), "n": jnp.arange(2), "f": jax.nn.relu}
    grads = {"w": jnp.ones(2, jnp.bfloat16), "n": None, "f": None}
    tx = jl.chain(jl.clip(1.0), jl.apply_if_finite(jl.lookahead(jl.sgd(0.25), 3, 0.5), 2))
    state = tx.init(params)
    updates, state = tx.update(grads, state, params)
    moved = jl.apply_updates(params, updates)
    slow = jl.eval_params(tx, state, moved)
    assert slow["f"] is jax.nn.relu
    assert slow["w"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(slow["w"].astype(jnp.float32), [1.0, 1.0])
    np.testing.assert_array_equal(moved["w"].astype(jnp.float32), [0.75, 0.75])
    np.testing.assert_array_equal(slow["n"], [0, 1])


@pytest.mark.parametrize("average", [jl.ema_params, jl.swa_params])
def test_the_outer_weights_are_those_to_evaluate(average):
    """Outside there is the mean of what was trained, steps back and all; inside it would not see them."""
    inside = jl.lookahead(average(jl.sgd(1.0)), 2, 0.5)
    outside = average(jl.lookahead(jl.sgd(1.0), 2, 0.5))
    params, state = jnp.array([10.0]), inside.init(jnp.array([10.0]))
    other_params, other_state, trained = params, outside.init(params), []
    for _ in range(4):
        updates, state = inside.update(jnp.array([2.0]), state, params)
        params = jl.apply_updates(params, updates)
        updates, other_state = outside.update(jnp.array([2.0]), other_state, other_params)
        other_params = jl.apply_updates(other_params, updates)
        trained.append(other_params)
    np.testing.assert_allclose(jl.eval_params(inside, state, params), state.slow)
    np.testing.assert_allclose(trained, [[8.0], [8.0], [6.0], [6.0]])
    np.testing.assert_allclose(jl.eval_params(outside, other_state, other_params), np.mean(trained), rtol=1e-3)
    hidden = inside.arguments["fast_optimizer"].eval_params(state.fast_state, params)
    assert abs(float(hidden[0]) - np.mean(trained)) > 0.9, "the average inside is that of weights nobody trained"


@bad_input(52)
def test_slow_weights_of_half_precision_are_float32():
    """Steps too small for bfloat16 arrive in the slow weights, and from there in the parameters."""
    params = jnp.ones(1, jnp.bfloat16)
    tx = jl.lookahead(jl.sgd(1e-3), 1, 1.0)
    state = tx.init(params)
    _, state = tx.update(jnp.ones(1, jnp.bfloat16), state, params)
    assert state.slow.dtype == jnp.float32
    assert float(state.slow[0]) == pytest.approx(0.999, rel=1e-6)


def test_a_fresh_state_begins_where_the_weights_are():
    """An optimizer that remembers its first parameters gets those of the moment."""

    def init(params):
        return {"x0": jnp.copy(params)}

    def update(updates, state, params=None):
        return -updates, state

    tx = jl.lookahead((init, update), 2, 0.5, reset_state=True)
    params = jnp.array([10.0])
    state = tx.init(params)
    for expected in (10.0, 8.0):
        updates, state = tx.update(jnp.array([2.0]), state, params)
        params = jl.apply_updates(params, updates)
        assert float(state.fast_state["x0"][0]) == expected
    assert float(params[0]) == 8.0


def test_ranges():
    for period in (0, 1.5):
        with pytest.raises(ValueError, match="lookahead: sync_period must be a whole number"):
            jl.lookahead(jl.sgd(0.1), period, 0.5)
    for size in (-0.1, 1.1):
        with pytest.raises(ValueError, match="lookahead: slow_step_size must be"):
            jl.lookahead(jl.sgd(0.1), 5, size)


def test_an_optimizer_that_rounds_is_refused():
    """Between its steps lookahead writes parameters of its own, which would not be rounded as it rounds."""
    with pytest.raises(ValueError, match="lookahead: kahan has its steps rounded for half-precision parameters"):
        jl.lookahead(jl.kahan(jl.sgd(1e-3)), 100, 0.5)
