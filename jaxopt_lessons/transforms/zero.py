"""Updates of zero.

    u = 0

Whatever the gradient was, NaN included: the way to hold weights still, see ``freeze`` and ``groups``. State: none.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import tree
from jaxopt_lessons.core import EmptyState, gradient_transformation
from jaxopt_lessons.types import Params, Updates


def zero_rule(g: jax.Array) -> jax.Array:
    return jnp.zeros_like(g)


@gradient_transformation
def set_to_zero() -> Any:
    """Replaces the updates by zeros; what gradients they were made of is not calculated then.

    >>> set_to_zero().update(jnp.array([0.5, jnp.nan]), EmptyState())[0]
    Array([0., 0.], dtype=float32)
    """

    def init(params: Params) -> EmptyState:
        return EmptyState()

    def update(updates: Updates, state: EmptyState, params: Params | None = None, **extra: Any) -> Any:
        return tree.map_leaves(zero_rule, updates, params=params), state

    return init, update
