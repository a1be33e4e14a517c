"""A straight line between two numbers.

x = clip(numerics.ratio(count - transition_begin, transition_steps), 0, 1)
value = init_value + (end_value - init_value) * x
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics
from jaxopt_lessons.schedules.schedule import schedule
from jaxopt_lessons.types import Offset, Scalar, Steps


@schedule
def linear_schedule(
    init_value: Scalar, end_value: Scalar, transition_steps: Steps, transition_begin: Offset = 0
) -> Any:
    """From ``init_value`` to ``end_value`` on a straight line, and constant before and after it.

    Args:
      init_value: the value at ``transition_begin`` and before.
      end_value: the value from ``transition_begin + transition_steps`` on.
      transition_steps: length of the line, in updates.
      transition_begin: where the line begins, in updates.

    >>> linear_schedule(1.0, 0.0, transition_steps=4)(jnp.arange(6))
    Array([1.  , 0.75, 0.5 , 0.25, 0.  , 0.  ], dtype=float32)
    """

    def value(count: jax.Array) -> jax.Array:
        x = jnp.clip(numerics.ratio(count - transition_begin, transition_steps), 0, 1)
        return init_value + (end_value - init_value) * x

    return value
