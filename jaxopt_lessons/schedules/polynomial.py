"""A power of the time that is left.

r = 1 - clip((count - transition_begin) / transition_steps, 0, 1)
value = end_value + (init_value - end_value) * r^power
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics
from jaxopt_lessons.schedules.schedule import Timed, schedule
from jaxopt_lessons.types import Offset, Positive, Scalar, Steps


@schedule
def polynomial_schedule(
    init_value: Scalar, end_value: Scalar, power: Positive, transition_steps: Steps, transition_begin: Offset = 0
) -> Any:
    """From ``init_value`` to ``end_value`` like a power of the time left, and constant before and after it.

    Args:
      init_value: the value at ``transition_begin`` and before.
      end_value: the value from ``transition_begin + transition_steps`` on.
      power: in ``(0, inf)``; 1 is a straight line, above 1 it falls steeply at first, below 1 at last.
      transition_steps: length of the transition, in updates, at least 1 (for 0 optax stays at ``init_value``).
      transition_begin: where it begins, in updates.

    >>> polynomial_schedule(16.0, 0.0, power=2.0, transition_steps=4)(jnp.arange(6))
    Array([16.,  9.,  4.,  1.,  0.,  0.], dtype=float32)
    """

    def value(count: jax.Array) -> jax.Array:
        left = jnp.clip(transition_steps - (count - transition_begin), 0, transition_steps)
        return numerics.toward(end_value, init_value, numerics.ratio(left, transition_steps) ** power)

    return Timed(value, transition_begin + transition_steps, boundary=transition_begin, turns=())
