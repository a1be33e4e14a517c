"""A straight line between two numbers.

    x = clip((count - transition_begin) / transition_steps, 0, 1)
    value = init_value + (end_value - init_value) * x

``linear_to_zero`` is the decay that Bergsma et al. 2025, arXiv 2502.15938, find best for language models, after a short
warm-up: ``warmup(100, 1e-3, from_zero=True).then(linear_to_zero(1e-3, 900))``.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics
from jaxopt_lessons.schedules.schedule import Timed, schedule
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

    return Timed(value, transition_begin + transition_steps, boundary=transition_begin, turns=())


@schedule
def linear_to_zero(init_value: Scalar, decay_steps: Steps) -> Any:
    """From ``init_value`` on a straight line to exactly 0, and 0 from there.

    Args:
      init_value: the value at count 0.
      decay_steps: length of the line, in updates.

    >>> linear_to_zero(1.0, decay_steps=4)(jnp.arange(6))
    Array([1.  , 0.75, 0.5 , 0.25, 0.  , 0.  ], dtype=float32)
    """

    def value(count: jax.Array) -> jax.Array:
        return init_value * numerics.ratio(jnp.maximum(decay_steps - count, 0), decay_steps)

    return Timed(value, decay_steps, turns=())
