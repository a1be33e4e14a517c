"""Optimistic gradients in the game they were made for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lessons as jl


def distance_from_equilibrium(tx, steps=400):
    """``x`` minimizes and ``y`` maximizes ``x y``, from (1, 2)."""
    params = jnp.array([1.0, 2.0])

    def body(carry, _):
        params, state = carry
        updates, state = tx.update(jnp.array([1.0, -1.0]) * params[::-1], state, params)
        return (jl.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(body, (params, tx.init(params)), None, length=steps)
    return float(jnp.hypot(*params))


def test_gradient_descent_spirals_outward():
    assert distance_from_equilibrium(jl.sgd(0.1)) > 10


@pytest.mark.parametrize(
    "tx",
    [
        jl.optimistic_gradient_descent(0.3),
        jl.optimistic_adam(0.01, 1.0),
        jl.optimistic_adam_v2(1.0, alpha=0.01, beta=1.0),
    ],
    ids=lambda tx: tx.name,
)
def test_optimism_spirals_inward(tx):
    assert distance_from_equilibrium(tx) < 1e-2 or distance_from_equilibrium(tx, 2000) < 1e-2


def test_the_first_gradient_has_not_changed():
    tx = jl.scale_by_optimistic_gradient(alpha=1.0, beta=5.0)
    g = jnp.array([3.0])
    updates, state = tx.update(g, tx.init(g), g)
    np.testing.assert_array_equal(updates, g)
    np.testing.assert_array_equal(tx.update(g, state, g)[0], g)


def test_optimistic_adam_takes_schedules():
    params, g = jnp.zeros(2), jnp.array([1.0, -3.0])
    tx = jl.optimistic_adam(jl.manual_schedule({0: 0.1, 1: 0.2}), nesterov=False)
    state = tx.init(params)
    first, state = tx.update(g, state, params)
    second, state = tx.update(g, state, params)
    np.testing.assert_allclose(first, [-0.1, 0.1], rtol=1e-5)
    np.testing.assert_allclose(second, [-0.2, 0.2], rtol=1e-5)
