"""Parameters that must stay in a set: each step is cut so that it ends there.

    keep_params_nonnegative    u = max(u, -p)                    p + u >= 0
    keep_params_in             u = projection(p + u) - p         p + u in the set of the projection

So an optimizer becomes a projected one: ``chain(sgd(0.1), keep_params_in(projections.projection_simplex))`` is
projected gradient descent. Put it after the learning rate, at the end of the chain, and inside a wrapper that rounds
(``master_weights(chain(adam(1e-3), keep_params_nonnegative()))``). Parameters that are not in the set move into it with
the first update, whatever that is.

The step is a difference, so ``p + u`` is the projected point up to rounding: in the last digit of float32, or of half
precision. 0 is reached exactly, and never passed. Entries that the projection does not move keep their updates to the
bit. A complex entry is a pair of real ones; ``keep_params_in`` leaves them to the projection. State: none.

With an adaptive optimizer the end point is in the set, but not the nearest one by the optimizer's own measure.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, tree
from jaxopt_lessons.core import EmptyState, gradient_transformation
from jaxopt_lessons.types import Params, Updates


def nonnegative_rule(u: jax.Array, p: jax.Array) -> jax.Array:
    return jnp.where(p + u < 0, -p, u)


def add_rule(u: jax.Array, p: jax.Array) -> jax.Array:
    return p + u


def cut_rule(u: jax.Array, p: jax.Array, projected: jax.Array) -> jax.Array:
    return jnp.where(projected == p + u, u, projected - p)


@gradient_transformation
def keep_params_nonnegative() -> Any:
    """Cuts the steps of an optimizer at zero, so that no parameter becomes negative.

    Raises:
      InputError: ``update`` was called without ``params``.

    >>> tx = jl.chain(jl.sgd(1.0), keep_params_nonnegative())
    >>> params = jnp.array([1.0, 1.0])
    >>> tx.update(jnp.array([0.5, 3.0]), tx.init(params), params)[0]
    Array([-0.5, -1. ], dtype=float32)
    """

    def init(params: Params) -> EmptyState:
        return EmptyState()

    def update(updates: Updates, state: EmptyState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        return tree.map_leaves(nonnegative_rule, updates, params=params, read=(params,)), state

    return init, update


@gradient_transformation
def keep_params_in(projection: Callable[[Params], Params]) -> Any:
    """Cuts the steps of an optimizer so that the parameters stay in a set.

    Args:
      projection: a function of the whole tree of parameters that returns the nearest tree in the set: one of
        ``jaxopt_lessons.projections``, or ``lambda params: projection_box(params, 0.0, 1.0)``. Write such a function
        once, at the top of a module: another one is another transformation and compiles again. For some of the leaves
        only: ``masked(keep_params_in(...), mask)``.

    Raises:
      InputError: ``update`` was called without ``params``, or the projection changed the tree.

    >>> tx = jl.chain(jl.sgd(1.0), keep_params_in(jl.projections.projection_l2_ball))
    >>> params = jnp.array([0.0, 0.5])
    >>> tx.update(jnp.array([-3.0, -3.5]), tx.init(params), params)[0]
    Array([0.6, 0.3], dtype=float32)
    """

    def init(params: Params) -> EmptyState:
        return EmptyState()

    def update(updates: Updates, state: EmptyState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        wide = tree.widen(params)
        steps = tree.cast_like(updates, wide)
        projected = projection(tree.map_leaves(add_rule, steps, read=(wide,)))
        return tree.map_leaves(cut_rule, steps, params=params, read=(wide, projected)), state

    return init, update
