"""Multiplication by a constant.

    u = step_size * g

State: none.
"""

from typing import Any

import jax

from jaxopt_lessons import tree
from jaxopt_lessons.core import EmptyState, gradient_transformation
from jaxopt_lessons.types import Params, ScalarOrSchedule, Updates


def scale_rule(g: jax.Array, step_size: jax.Array) -> jax.Array:
    return step_size * g


@gradient_transformation
def scale(step_size: ScalarOrSchedule) -> Any:
    """Multiplies the updates by a number: ``u = step_size * g``.

    Args:
      step_size: the factor, of either sign; -learning_rate makes gradient descent.

    >>> tx = scale(-0.1)
    >>> tx.update(jnp.array([1.0, -2.0]), tx.init(jnp.zeros(2)))[0]
    Array([-0.1,  0.2], dtype=float32)
    """

    def init(params: Params) -> EmptyState:
        return EmptyState()

    def update(updates: Updates, state: EmptyState, params: Params | None = None, **extra: Any) -> Any:
        return tree.map_leaves(scale_rule, updates, params=params, step_size=step_size), state

    return init, update
