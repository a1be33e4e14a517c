"""Steps that are not finite are left out whole, counted, and given up on without harm to the state."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import runs
from bad_inputs import bad_input

import jaxopt_lessons as jl

RNG = np.random.default_rng(0)
PARAMS = {"w": jnp.asarray(RNG.standard_normal((3, 2)), jnp.float32), "b": jnp.ones(2)}
GRADS = [jax.tree.map(lambda p: jnp.asarray(RNG.standard_normal(p.shape), jnp.float32), PARAMS) for _ in range(6)]
SCHEDULED = jl.chain(jl.clip_by_global_norm(1.0), jl.adamw(jl.linear_schedule(0.1, 0.2, 4), weight_decay=0.1))


def spoil(grads, bad, position=1):
    return {**grads, "b": grads["b"].at[position].set(bad)}


def run(tx, grads, params=PARAMS):
    return runs.parameters_of(tx, params, grads)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@bad_input(39, 40)
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize(
    "inner", [SCHEDULED, jl.sgd(0.1, momentum=0.9), jl.MultiSteps(SCHEDULED, 2), jl.ema_params(SCHEDULED)], ids=repr
)
def test_a_bad_step_is_as_if_it_had_not_been(inner, bad):
    """Parameters, moments, counts, schedules, accumulators and averages are bit for bit those without the bad steps."""
    tx = jl.apply_if_finite(inner, 3)
    mixed = [GRADS[0], spoil(GRADS[1], bad), GRADS[2], GRADS[3], spoil(GRADS[1], bad), spoil(GRADS[4], bad), GRADS[5]]
    with_bad, state = run(tx, mixed)
    without, expected = run(tx, [GRADS[0], GRADS[2], GRADS[3], GRADS[5]])
    assert_equal(with_bad[-1], without[-1])
    assert_equal(with_bad[1], with_bad[0])
    assert_equal(state.inner_state, expected.inner_state)
    assert (int(state.notfinite_count), int(state.total_notfinite), bool(state.last_finite)) == (0, 3, True)


@bad_input(39)
def test_counts():
    tx = jl.skip_nonfinite(jl.sgd(0.1))
    state, seen = tx.init(PARAMS), []
    for bad in (True, False, True, True):
        _, state = tx.update(spoil(GRADS[0], np.nan) if bad else GRADS[0], state)
        seen.append((int(state.notfinite_count), bool(state.last_finite), int(state.total_notfinite)))
    assert seen == [(1, False, 1), (0, True, 1), (1, False, 2), (2, False, 3)]


@bad_input(39)
def test_after_the_limit_the_failure_is_shown_and_the_state_is_kept():
    tx = jl.apply_if_finite(SCHEDULED, 2)
    params, state = PARAMS, tx.init(PARAMS)
    _, state = tx.update(GRADS[0], state, params)
    before = state.inner_state
    for i in range(5):
        updates, state = tx.update(spoil(GRADS[1], np.nan), state, params)
        assert int(state.notfinite_count) == i + 1
        assert bool(np.all(np.isfinite(updates["b"]))) == (i < 2)
        assert_equal(state.inner_state, before)
    # With parameters from elsewhere the run goes on as if nothing had been.
    updates, state = tx.update(GRADS[2], state, params)
    expected, _ = SCHEDULED.update(GRADS[2], before, params)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), updates, expected)
    assert int(state.notfinite_count) == 0


@bad_input(39)
def test_a_limit_of_zero_never_skips():
    tx = jl.apply_if_finite(jl.sgd(1.0), 0)
    updates, _ = tx.update(jnp.array([jnp.nan, 1.0]), tx.init(jnp.zeros(2)))
    np.testing.assert_array_equal(updates, [np.nan, -1.0])


@bad_input(39, 50)
def test_no_limit_means_never():
    tx = jl.skip_nonfinite(jl.sgd(1.0))
    state = tx.init(jnp.zeros(1))._replace(notfinite_count=jnp.int32(2**31 - 1), total_notfinite=jnp.int32(2**31 - 1))
    updates, state = tx.update(jnp.array([jnp.nan]), state)
    assert float(updates[0]) == 0
    assert int(state.notfinite_count) == int(state.total_notfinite) == 2**31 - 1


def test_numbers_of_optax_until_the_limit_and_beyond_it():
    """For an optimizer whose state cannot be poisoned, giving up included."""
    grads = [GRADS[0], *[spoil(g, np.nan) for g in GRADS[:4]], GRADS[4]]
    ours, theirs = jl.apply_if_finite(jl.sgd(0.1), 2), optax.apply_if_finite(optax.sgd(0.1), 2)
    state, other = ours.init(PARAMS), theirs.init(PARAMS)
    for g in grads:
        u, state = ours.update(g, state, PARAMS)
        v, other = theirs.update(g, other, PARAMS)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), u, v)
        assert [int(x) for x in state[:3]] == [int(x) for x in other[:3]]


@bad_input(41)
def test_an_update_that_overflows_on_its_way_out_is_left_out():
    tx = jl.apply_if_finite(jl.chain(jl.trace(0.9), jl.scale(1e30)), 3)
    state = tx.init(jnp.zeros(1))
    updates, state = tx.update(jnp.array([1e20]), state)
    assert float(updates[0]) == 0
    assert float(state.inner_state[0].trace[0]) == 0
    half = jl.apply_if_finite(jl.scale(1e3), 3)
    updates, state = half.update(jnp.array([1e3], jnp.float16), half.init(jnp.zeros(1, jnp.float16)))
    assert float(updates[0]) == 0
    assert not bool(state.last_finite)


@bad_input(39)
def test_what_is_left_out_has_no_derivative_of_nan():
    tx = jl.apply_if_finite(jl.adam(0.1), 3)

    def end(tx, g):
        updates, state = tx.update(jnp.array([jnp.nan, 1.0]), tx.init(jnp.zeros(2)))
        later, _ = tx.update(g, state)
        return jnp.sum(updates) + jnp.sum(later)

    derivative = jax.grad(end, argnums=(0, 1), allow_int=True)(tx, jnp.array([1.0, 2.0]))
    assert all(np.all(np.isfinite(d)) for d in jax.tree.leaves(derivative) if d.dtype != jax.dtypes.float0)
    assert float(derivative[0].arguments["inner"].arguments["learning_rate"]) == pytest.approx(-2.0, rel=1e-5)


@bad_input(40)
def test_one_of_a_stack_is_skipped_alone():
    tx = jl.apply_if_finite(jl.adam(0.1), 3)
    params = jnp.zeros((3, 2))
    states = jax.vmap(tx.init)(params)
    grads = jnp.ones((3, 2)).at[1, 0].set(jnp.inf)
    updates, states = jax.vmap(tx.update)(grads, states, params)
    np.testing.assert_array_equal(np.any(np.asarray(updates) != 0, axis=1), [True, False, True])
    np.testing.assert_array_equal(states.inner_state[0].count, [1, 0, 1])


def test_states_of_any_kind_stay():
    """Random keys, whole numbers and bools in the state of the wrapped transformation are selected too."""

    def init(params):
        return {"key": jax.random.key(0), "n": jnp.int8(3), "flag": jnp.array(False)}

    def update(updates, state, params=None):
        key, _ = jax.random.split(state["key"])
        return updates, {"key": key, "n": state["n"] + jnp.int8(1), "flag": ~state["flag"]}

    tx = jl.apply_if_finite((init, update), 3)
    state = tx.init(jnp.zeros(1))
    _, skipped = jax.jit(tx.update)(jnp.array([jnp.nan]), state)
    _, taken = jax.jit(tx.update)(jnp.array([1.0]), state)
    assert jnp.all(jax.random.key_data(skipped.inner_state["key"]) == jax.random.key_data(jax.random.key(0)))
    assert jnp.any(jax.random.key_data(taken.inner_state["key"]) != jax.random.key_data(jax.random.key(0)))
    assert (int(skipped.inner_state["n"]), bool(skipped.inner_state["flag"])) == (3, False)
    assert (int(taken.inner_state["n"]), bool(taken.inner_state["flag"])) == (4, True)


def test_a_limit_is_a_whole_number_from_zero_on():
    for limit in (-1, 1.5, "3", True):
        with pytest.raises((ValueError, TypeError), match="apply_if_finite: max_consecutive_errors must be"):
            jl.apply_if_finite(jl.sgd(0.1), limit)
