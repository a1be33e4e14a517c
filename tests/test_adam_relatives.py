"""What sets apart ADOPT, Adan, StableAdamW, MADGRAD and others, beyond their equations."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bad_inputs import bad_input

import jaxopt_lessons as jl


def updates_of(tx, grads, params=None):
    params = jnp.zeros_like(grads[0]) if params is None else params
    state, found = tx.init(params), []
    for g in grads:
        u, state = tx.update(g, state, params)
        found.append(u)
    return found, state


@bad_input(39, 40)
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("use_clipping", [True, False])
def test_adopt_shows_a_gradient_that_is_not_finite(bad, use_clipping):
    grads = [jnp.ones(3), jnp.array([bad, 1.0, 2.0])]
    (first, second), _ = updates_of(jl.scale_by_adopt(use_clipping=use_clipping), grads)
    assert np.all(first == 0)
    assert not np.isfinite(second[0])
    assert np.all(np.isfinite(second[1:]) & (second[1:] != 0))


def test_adopt_limits_a_gradient_that_is_new_to_its_weight():
    """After zeros the divisor is eps; without clipping the step would be a million."""
    grads = [jnp.zeros(1), jnp.ones(1)]
    (_, limited), _ = updates_of(jl.scale_by_adopt(b1=0.0), grads)
    (_, free), _ = updates_of(jl.scale_by_adopt(b1=0.0, use_clipping=False), grads)
    np.testing.assert_allclose([limited[0], free[0]], [1.0, 1e6], rtol=1e-6)


def converged(tx):
    """Reddi's example: gradients 30 and twice -10 in turn; the best point in [-1, 1] is -1."""

    def body(carry, t):
        x, state = carry
        updates, state = tx.update(jnp.where(t % 3 == 0, 30.0, -10.0), state, x)
        return (jnp.clip(x + updates, -1.0, 1.0), state), x

    _, path = jax.lax.scan(body, (jnp.array(0.0), tx.init(jnp.array(0.0))), jnp.arange(30_000))
    return float(jnp.mean(path[-3000:]))


def test_adopt_converges_where_adam_does_not():
    rate = lambda count: 0.05 / jnp.sqrt(count.astype(jnp.float32) + 1.0)
    assert converged(jl.adam(rate, b1=0.0, b2=0.1)) > 0.9
    assert converged(jl.adopt(rate, b1=0.0, b2=0.1, use_clipping=False)) < -0.5


def test_adan_weighs_differences_as_its_authors_do():
    """With ``b2 = 1/2`` optax's ``1 - b2`` is the same number; with any other it is not."""
    rng = np.random.default_rng(0)
    grads = list(jnp.asarray(rng.standard_normal((5, 3)), jnp.float32))
    for b2, equal in ((0.5, True), (0.92, False)):
        ours, _ = updates_of(jl.adan(0.1, b2=b2), grads)
        with jax.numpy_dtype_promotion("standard"):
            theirs, _ = updates_of(optax.adan(0.1, b2=b2), grads)
        assert np.allclose(ours, theirs, rtol=1e-4) is equal


def test_adan_survives_gradients_that_change_sign_at_the_limit_of_float32():
    grads = [jnp.array([3e38, 1.0]), jnp.array([-3e38, 1.0]), jnp.array([3e38, 1.0])]
    found, state = updates_of(jl.scale_by_adan(), grads)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((found, state)))


def test_stable_adamw_slows_down_where_gradients_outgrow_their_average():
    tame = [jnp.full(4, 1e-3)] * 20
    spike = [*tame, jnp.full(4, 1.0)]
    stable = updates_of(jl.scale_by_stable_adamw(b2=0.999), spike)[0][-1]
    adam = updates_of(jl.scale_by_adam(b2=0.999, eps=1e-6), spike)[0][-1]
    ratio = np.sqrt((1 - 0.999**21) / (1 - 0.999))  # of the spike to the root of an average of 21 squares
    np.testing.assert_allclose(adam / stable, ratio, rtol=1e-2)


def test_stable_adamw_divides_the_decay_too():
    params = jnp.array([5.0, -3.0])
    grads = [jnp.full(2, 1e-3)] * 20 + [jnp.full(2, 1.0)]
    plain, decayed = (updates_of(jl.scale_by_stable_adamw(weight_decay=w), grads, params)[0][-1] for w in (0.0, 0.1))
    ratio = np.sqrt((1 - 0.99**21) / (1 - 0.99))
    np.testing.assert_allclose(decayed - plain, 0.1 * params / ratio, rtol=1e-2)


def test_madgrad_starts_from_where_it_began():
    """A weight set to another value is led back: the steps are those of a sum of gradients from ``x0``."""
    tx = jl.madgrad(0.1, momentum=0.5)
    start = jnp.array([1.0])
    state = tx.init(start)
    updates, _ = tx.update(jnp.zeros(1), state, jnp.array([3.0]))
    np.testing.assert_allclose(updates, [-1.0])


def test_acprop_does_not_know_the_gradient_it_divides():
    """The update is linear in its gradient, whatever its size."""
    past = [jnp.array([v]) for v in (1.0, -2.0, 0.5)]
    one, ten = (updates_of(jl.scale_by_acprop(), [*past, jnp.array([g])])[0][-1] for g in (1.0, 10.0))
    np.testing.assert_allclose(ten, 10 * one, rtol=1e-6)


def test_mars_is_limited_leaf_by_leaf():
    params = {"large": jnp.zeros(2), "small": jnp.zeros(2)}
    grads = {"large": jnp.array([30.0, 40.0]), "small": jnp.array([0.03, 0.04])}
    tx = jl.scale_by_mars(b1=0.0)
    _, state = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(state.mu["large"], [0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(state.mu["small"], [0.03, 0.04], rtol=1e-6)
    np.testing.assert_allclose(state.previous_gradient["large"], [30.0, 40.0])


def test_ademamix_remembers_what_adam_has_forgotten():
    grads = [jnp.ones(1)] + [jnp.zeros(1)] * 200
    old, young = (updates_of(tx, grads)[0][-1] for tx in (jl.scale_by_ademamix(), jl.scale_by_adam()))
    assert float(old[0]) > 1e4 * float(young[0]) > 0


def test_the_slow_average_of_ademamix_stays_in_float32():
    state = jl.scale_by_ademamix(mu_dtype=jnp.bfloat16).init(jnp.zeros(2, jnp.bfloat16))
    assert (state.m1.dtype, state.m2.dtype, state.nu.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
