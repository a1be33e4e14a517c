"""Accumulation: k small batches are one large one, nothing runs in between, and nothing bad stays for ever."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import runs
from bad_inputs import bad_input

import jaxopt_lessons as jl

RNG = np.random.default_rng(0)
GRADS = [jnp.asarray(RNG.standard_normal((3, 2)), jnp.float32) for _ in range(12)]
PARAMS = jnp.asarray(RNG.standard_normal((3, 2)), jnp.float32)


def run(tx, grads, params=PARAMS, state=None):
    return runs.parameters_of(tx, params, grads, state)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_small_batches_are_one_large_batch(k):
    inner = jl.adamw(jl.linear_schedule(0.1, 0.3, 3), weight_decay=0.1)
    seen, state = run(jl.MultiSteps(inner, k), GRADS)
    means = [sum(GRADS[i : i + k]) / k for i in range(0, 12, k)]
    expected, large = run(inner, means)
    np.testing.assert_allclose(np.stack(seen[k - 1 :: k]), np.stack(expected), rtol=1e-5, atol=1e-6)
    assert int(state.inner_opt_state[0].count) == int(large[0].count) == int(state.gradient_step) == 12 // k
    for i, params in enumerate(seen):
        if i % k < k - 1:
            np.testing.assert_array_equal(params, seen[i - 1] if i else PARAMS)


def test_the_optimizer_runs_at_real_steps_only():
    calls = []

    def update(updates, state, params=None):
        jax.debug.callback(lambda: calls.append(1))
        return updates, state

    run(jl.MultiSteps((lambda params: (), update), 4), GRADS)
    jax.effects_barrier()
    assert len(calls) == 3


@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize(
    ("tx", "moves"),
    [
        (jl.MultiSteps(jl.apply_if_finite(jl.sgd(0.1), 5), 2), 5),  # the whole step is lost
        (jl.apply_if_finite(jl.MultiSteps(jl.sgd(0.1), 2), 5), 5),  # the micro-batch is lost: 11 make 5 steps
        (jl.MultiSteps(jl.sgd(0.1), 2, should_skip_update_fn=jl.skip_not_finite), 5),
    ],
    ids=repr,
)
def test_one_bad_gradient_does_not_stop_anything_for_ever(tx, moves, bad):
    grads = [*GRADS[:2], GRADS[2].at[0, 0].set(bad), *GRADS[3:]]
    seen, state = run(tx, grads)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves((seen, state)))
    before = [PARAMS, *seen[:-1]]
    assert sum(bool(np.any(a != b)) for a, b in zip(seen, before, strict=True)) == moves


@bad_input(39)
def test_a_skipped_micro_batch_changes_nothing():
    tx = jl.MultiSteps(jl.adam(0.1), 2, should_skip_update_fn=jl.skip_not_finite)
    bad = GRADS[0].at[0, 0].set(jnp.nan).at[1, 1].set(jnp.inf)
    seen, state = run(tx, [GRADS[0], bad, bad, GRADS[1], bad])
    expected, good = run(tx, GRADS[:2])
    np.testing.assert_array_equal(seen[-1], expected[-1])
    jax.tree.map(np.testing.assert_array_equal, state[:4], good[:4])
    assert {k: int(v) for k, v in state.skip_state.items()} == {"should_skip": 1, "num_not_finite": 2}
    assert {k: int(v) for k, v in good.skip_state.items()} == {"should_skip": 0, "num_not_finite": 0}


def test_large_gradients_can_be_left_out():
    skip = functools.partial(jl.skip_large_updates, max_squared_norm=100.0)
    tx = jl.MultiSteps(jl.sgd(1.0), 2, should_skip_update_fn=skip)
    seen, state = run(tx, [GRADS[0], 100 * GRADS[1], GRADS[2]])
    np.testing.assert_allclose(seen[-1], PARAMS - (GRADS[0] + GRADS[2]) / 2, rtol=1e-6)
    assert float(state.skip_state["norm_squared"]) == pytest.approx(float(jnp.sum(GRADS[2] ** 2)), rel=1e-6)


@bad_input(39, 41)
@pytest.mark.parametrize("value", [1.0, 1e25, np.inf, np.nan])
def test_the_functions_that_skip_are_those_of_optax(value):
    grads = {"a": jnp.full((3,), value, jnp.float32), "b": jnp.ones(2)}
    for ours, theirs in (
        (jl.skip_not_finite, optax.skip_not_finite),
        (
            functools.partial(jl.skip_large_updates, max_squared_norm=5.5),
            functools.partial(optax.skip_large_updates, max_squared_norm=5.5),
        ),
    ):
        skip, info = ours(grads, jnp.int32(0), None)
        expected, other = theirs(grads, jnp.int32(0), None)
        assert bool(skip) == bool(expected)
        assert info.keys() == other.keys()
        for name in info:
            np.testing.assert_allclose(info[name], other[name], rtol=1e-6)


def test_k_may_be_a_schedule_of_real_steps():
    k = lambda step: jnp.where(step < 2, 1, 3)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        grads, params = [g.astype(jnp.float64) for g in GRADS], PARAMS.astype(jnp.float64)
        theirs = optax.MultiSteps(optax.adam(0.1), k, accumulator_dtype=jnp.float64)
        seen, state = run(jl.MultiSteps(jl.adam(0.1), k), grads, params)
        expected, _ = run(theirs, grads, params)
    np.testing.assert_allclose(np.stack(seen), np.stack(expected), rtol=1e-10)
    assert int(state.gradient_step) == 5
    assert int(jl.MultiSteps(jl.sgd(0.1), jl.manual_schedule({0: 1, 1: 4})).init(PARAMS).gradient_step) == 0


def test_k_may_become_smaller_in_the_middle_of_a_mean():
    tx = jl.MultiSteps(jl.sgd(1.0), 6)
    _, state = run(tx, GRADS[:4])
    seen, state = run(tx.replace(every_k_schedule=2), GRADS[4:5], PARAMS, state)
    np.testing.assert_allclose(seen[0], PARAMS - sum(GRADS[:5]) / 5, rtol=1e-5)
    assert (int(state.mini_step), int(state.gradient_step)) == (0, 1)


@bad_input(52)
def test_half_precision_gradients_are_accumulated_in_float32():
    params = jnp.zeros(1, jnp.bfloat16)
    tx = jl.MultiSteps(jl.scale(1.0), 300, use_grad_mean=False)
    state = tx.init(params)
    assert state.acc_grads.dtype == jnp.float32
    update = jax.jit(tx.update)
    for _ in range(300):
        updates, state = update(jnp.ones(1, jnp.bfloat16), state, params)
    assert updates.dtype == jnp.bfloat16
    assert float(updates[0]) == 300  # a bfloat16 sum of ones never gets beyond 256


@pytest.mark.parametrize("params_dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("grads_dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("inner", [jl.adamw(0.1), optax.adamw(0.1), optax.sgd(0.1, 0.9)], ids=["jl", "optax", "sgd"])
def test_the_state_is_a_carry_for_any_mix_of_dtypes(inner, params_dtype, grads_dtype):
    tx = jl.MultiSteps(inner, 2, should_skip_update_fn=jl.skip_not_finite)
    params, grads = PARAMS.astype(params_dtype), GRADS[0].astype(grads_dtype)

    def body(carry, _):
        params, state = carry
        updates, state = tx.update(grads, state, params, value=jnp.bfloat16(1.0))
        return (jl.apply_updates(params, updates), state), updates

    with jax.numpy_dtype_promotion("standard"):
        (after, _), updates = jax.lax.scan(body, (params, tx.init(params)), None, length=4)
    assert updates.dtype == after.dtype == params_dtype
    assert not np.any(updates[0])
    assert np.any(updates[1])


@bad_input(41)
def test_opposite_huge_gradients_do_not_overflow():
    tx = jl.MultiSteps(jl.sgd(1.0), 2)
    updates, state = run(tx, [jnp.array([3e38]), jnp.array([-3e38])], jnp.zeros(1))
    assert float(updates[-1][0]) == 0
    _, state = run(tx, [jnp.array([3e38])] * 3, jnp.zeros(1))
    assert np.isfinite(float(state.acc_grads[0]))


def test_the_methods_of_optax():
    tx = jl.MultiSteps(jl.sgd(0.1), every_k_schedule=2)
    state, told = tx.init(PARAMS), []
    for g in GRADS[:5]:
        _, state = tx.update(g, state, PARAMS)
        told.append(bool(tx.has_updated(state)))
    assert told == [False, True, False, True, False]
    assert not bool(tx.has_updated(tx.init(PARAMS)))
    assert tx.gradient_transformation() is tx
    assert tx.inner_opt == jl.sgd(0.1)


def test_it_is_a_value_like_all_others():
    tx = jl.MultiSteps(jl.sgd(0.1), 2)
    assert isinstance(tx, jl.GradientTransformation)
    again = pickle.loads(pickle.dumps(tx))
    assert again == tx
    assert hash(again) == hash(tx)
    assert repr(tx) == "MultiSteps(opt=sgd(learning_rate=0.1), every_k_schedule=2, use_grad_mean=True)"
    assert tx.replace(learning_rate=0.2).inner_opt == jl.sgd(0.2)
    assert bool(jax.jit(lambda tx, state: tx.has_updated(state))(tx, tx.init(PARAMS))) is False
    init, update = tx
    assert update(GRADS[0], init(PARAMS))[0].shape == PARAMS.shape


def test_k_can_be_vmapped():
    def end(k):
        seen, _ = run(jl.MultiSteps(jl.sgd(1.0), k), GRADS)
        return seen[-1]

    ends = jax.vmap(end)(jnp.array([1, 2, 3]))
    for k, actual in zip((1, 2, 3), ends, strict=True):
        np.testing.assert_allclose(actual, end(k), rtol=1e-5)


@bad_input(50)
def test_counters_saturate():
    tx = jl.MultiSteps(jl.sgd(0.1), 2**31 - 1)
    largest = jnp.int32(2**31 - 1)
    state = tx.init(PARAMS)._replace(mini_step=largest - 1, gradient_step=largest)
    updates, state = tx.update(GRADS[0], state, PARAMS)
    assert np.any(updates)
    assert (int(state.mini_step), int(state.gradient_step)) == (0, 2**31 - 1)


@pytest.mark.parametrize("k", [0, -1, 1.5, "2", None, True, [2]])
def test_k_is_a_whole_number_from_one_on(k):
    with pytest.raises((ValueError, TypeError), match="MultiSteps: every_k_schedule must be"):
        jl.MultiSteps(jl.sgd(0.1), k)


def test_a_function_that_skips_must_return_one_bool():
    for skip in (jnp.float32(1.0), jnp.array([True])):
        tx = jl.MultiSteps(jl.sgd(0.1), 2, should_skip_update_fn=lambda g, step, params, skip=skip: (skip, ()))
        with pytest.raises(jl.InputError, match="MultiSteps: should_skip_update_fn must return a scalar bool; got"):
            tx.update(GRADS[0], tx.init(PARAMS), PARAMS)
