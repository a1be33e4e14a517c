"""Transformations at some of the updates, and steps that are saved up."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import bad_input

import jaxopt_lessons as jl

PARAMS = {"a": jnp.ones(2)}


def run(tx, steps, **extra):
    state, updates = tx.init(PARAMS), []
    for i in range(steps):
        u, state = tx.update({"a": jnp.full(2, i + 1.0)}, state, PARAMS, **extra)
        updates.append(float(u["a"][0]))
    return updates, state


def odd(step):
    return step % 2 == 1


def test_what_happens_at_the_other_updates():
    assert run(jl.conditionally_transform(jl.trace(0.5), odd), 4)[0] == [1.0, 2.0, 3.0, 5.0]
    updates, state = run(jl.conditionally_mask(jl.trace(0.5), odd), 4)
    assert updates == [0.0, 2.0, 0.0, 5.0]
    assert int(state.step) == 4


def test_the_inner_transformation_counts_its_own():
    tx = jl.conditionally_mask(jl.sgd(jl.manual_schedule({0: 1.0, 1: 10.0})), odd)
    updates, state = run(tx, 4)
    assert updates == [0.0, -2.0, 0.0, -40.0]
    assert [int(leaf) for leaf in jax.tree.leaves(state)] == [2, 4]


def test_extra_arguments():
    tx = jl.conditionally_mask(jl.scale(1.0), lambda step, value, **rest: value < 1, forward_extra_args=True)
    assert run(tx, 2, value=0.5, other=None)[0] == [1.0, 2.0]
    assert run(tx, 2, value=2.0, other=None)[0] == [0.0, 0.0]
    assert run(jl.conditionally_mask(jl.scale(1.0), odd), 2, value=0.5)[0] == [0.0, 2.0]


def test_what_is_left_out_is_not_calculated():
    """A branch, not a selection: nothing of the inner transformation runs at the other updates."""
    calls = []

    def update(updates, state, params=None):
        jax.debug.callback(lambda: calls.append(1))
        return updates, state

    tx = jl.conditionally_mask((lambda params: (), update), odd)
    state = tx.init(PARAMS)
    for _ in range(4):
        _, state = jax.jit(tx.update)(PARAMS, state, PARAMS)
    jax.effects_barrier()
    assert len(calls) == 2


def test_a_condition_is_one_bool():
    for condition in (lambda step: step, lambda step: jnp.array([True])):
        with pytest.raises(jl.InputError, match="conditionally_mask: should_transform_fn"):
            run(jl.conditionally_mask(jl.scale(1.0), condition), 1)


@pytest.mark.parametrize("inner", [jl.sgd(0.1), jl.chain(jl.clip(1.0), jl.lookahead(jl.adam(0.1), 5, 0.5))])
def test_an_optimizer_that_is_left_out_at_times_warns(inner):
    """Raw gradients added to the weights are a step up."""
    message = f"conditionally_transform: {inner.name} makes the step.*raw gradients.*conditionally_mask"
    with pytest.warns(UserWarning, match=message) as caught:
        tx = jl.conditionally_transform(inner, odd)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.jit(lambda tx: tx.update(PARAMS, tx.init(PARAMS), PARAMS))(tx)
        jl.conditionally_mask(inner, odd)
        jl.conditionally_transform(jl.scale_by_adam(), odd)
        jl.conditionally_transform(jl.scale_by_learning_rate(0.1, flip_sign=False), odd)


def test_weights_to_evaluate_are_found_inside():
    tx = jl.conditionally_mask(jl.swa_params(jl.sgd(1.0)), odd)
    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(4):
        updates, state = tx.update(params, state, params)
        params = jl.apply_updates(params, updates)
    inside = tx.arguments["inner"]
    np.testing.assert_array_equal(
        jl.eval_params(tx, state, params)["a"], jl.eval_params(inside, state.inner_state, params)["a"]
    )


def test_apply_every():
    updates, state = run(jl.chain(jl.apply_every(3), jl.scale(-1.0)), 7)
    assert updates == [0, 0, -6, 0, 0, -15, 0]
    assert int(state[0].mini_step) == 1
    with pytest.raises(ValueError, match="apply_every: k must be a whole number"):
        jl.apply_every(0)


@bad_input(40)
def test_an_infinite_update_is_forgotten_after_its_step():
    tx = jl.apply_every(2)
    state, seen = tx.init(jnp.zeros(1)), []
    for g in (jnp.inf, 1.0, 2.0, 3.0):
        u, state = tx.update(jnp.array([g]), state)
        seen.append(float(u[0]))
    assert seen == [0.0, np.inf, 0.0, 5.0]
