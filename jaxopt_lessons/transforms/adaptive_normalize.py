"""The uphill direction of adaptive SAM: the gradient in units of the weights, with a length of one.

    T = |p| + eta
    u = T^2 * g / |T * g|                         0 where g is 0

It is the direction in which the loss rises fastest among all of one length, where each weight's step is measured by
``T``: if a layer is scaled up and the next one down, the direction goes with them. ``|T * g|`` is the Euclidean norm of
all leaves together, calculated without overflow; infinite and NaN entries are left out of it and stay as they are.

State: none. Paper: Kwon et al. 2021, arXiv 2102.11600. Their code applies ``T`` to weights only: see ``masked``.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import EmptyState, gradient_transformation
from jaxopt_lessons.types import NonNegativeOrSchedule, Params, Updates


def weighted_rule(g: jax.Array, p: jax.Array, scale: jax.Array, eta: jax.Array) -> jax.Array:
    return numerics.finite((jnp.abs(p) + eta) * (g / scale))


def adaptive_rule(
    g: jax.Array, p: jax.Array, scale: jax.Array, length: jax.Array, length_scale: jax.Array, eta: jax.Array
) -> jax.Array:
    t = jnp.abs(p) + eta
    return t * (t * (g / scale) / length_scale / numerics.divisor(length))


def finite_rule(g: jax.Array) -> jax.Array:
    return numerics.finite(g)


@gradient_transformation
def adaptive_normalize(eta: NonNegativeOrSchedule = 0.01) -> Any:
    """Divides the updates by the norm that they have in units of the weights, and gives each its weight's unit.

    Args:
      eta: added to the size of the weights, in ``[0, inf)``, so that those at 0 take part.

    Raises:
      InputError: ``update`` was called without ``params``.

    >>> tx = adaptive_normalize(eta=0.0)
    >>> params = jnp.array([1.0, 2.0])
    >>> tx.update(jnp.array([3.0, 2.0]), tx.init(params), params)[0].round(3)  # T * g is 3 and 4, of length 5
    Array([0.6, 1.6], dtype=float32)
    """

    def init(params: Params) -> EmptyState:
        return EmptyState()

    def update(updates: Updates, state: EmptyState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        _, scale = tree.scaled_global_norm(tree.map_leaves(finite_rule, updates))
        wide = tree.widen(params)
        weighted = tree.map_leaves(weighted_rule, tree.widen(updates), params=wide, read=(wide,), scale=scale, eta=eta)
        length, length_scale = tree.scaled_global_norm(weighted)
        updates = tree.map_leaves(
            adaptive_rule,
            updates,
            params=params,
            read=(params,),
            scale=scale,
            length=length,
            length_scale=length_scale,
            eta=eta,
        )
        return updates, state

    return init, update
