"""Short runs of an optimizer, and the comparison of what comes out of them."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_lessons as jl


def updates_of(tx, params, grads):
    """The update for each gradient, all at the same parameters, and the last state."""
    state, update, updates = tx.init(params), jax.jit(tx.update), []
    for g in grads:
        u, state = update(g, state, params)
        updates.append(u)
    return updates, state


def parameters_of(tx, params, grads, state=None):
    """The parameters after each gradient, and the last state."""
    state, update, seen = tx.init(params) if state is None else state, jax.jit(tx.update), []
    for g in grads:
        updates, state = update(g, state, params)
        params = jl.apply_updates(params, updates)
        seen.append(params)
    return seen, state


def weights_in_float64(tx, start, noise):
    """Where a quadratic with noise in its gradient leads: ``noise[i] + 0.5 * weights`` at step ``i``."""
    with jax.enable_x64(True):
        params = jnp.asarray(start)
        state = tx.init(params)
        for n in noise:
            updates, state = tx.update(jnp.asarray(n) + 0.5 * params, state, params)
            params = jl.apply_updates(params, updates)
    return np.asarray(params)


def assert_close(actual, expected, **tolerances):
    """Equal structures, and numbers within the tolerances of ``numpy.testing.assert_allclose``."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(wide(a), wide(e), **tolerances)


def wide(x):
    """A leaf that NumPy can compare: real numbers of any precision as float64."""
    return np.asarray(x, np.float64) if jnp.issubdtype(jnp.result_type(x), jnp.floating) else np.asarray(x)
