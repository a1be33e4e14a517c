"""Noam: a warm-up, then the inverse square root of time. The schedule of the first transformers.

    t = count + 1
    value = factor * model_size^(-1/2) * min(t^(-1/2), t * warmup_steps^(-3/2))

The peak ``factor / sqrt(model_size * warmup_steps)`` comes at ``t = warmup_steps``; the first update has a
``warmup_steps`` th of it. Paper: Vaswani et al. 2017, arXiv 1706.03762, section 5.3.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics
from jaxopt_lessons.schedules.schedule import Timed, schedule
from jaxopt_lessons.types import Scalar, Steps


@schedule
def noam_schedule(model_size: Steps, warmup_steps: Steps, factor: Scalar = 1.0) -> Any:
    """A warm-up on a straight line, then a decay like ``1 / sqrt(count)``.

    Args:
      model_size: the width of the transformer, a whole number (512 in the paper).
      warmup_steps: length of the warm-up, in updates (4000 in the paper).
      factor: what all values are multiplied by.

    >>> noam_schedule(model_size=1, warmup_steps=4)(jnp.array([0, 1, 3, 15, 99]))
    Array([0.125, 0.25 , 0.5  , 0.25 , 0.1  ], dtype=float32)
    """

    def value(count: jax.Array) -> jax.Array:
        t = numerics.increment(count)
        peak = factor * jax.lax.rsqrt(numerics.as_float(model_size)) * jax.lax.rsqrt(numerics.as_float(warmup_steps))
        return peak * jnp.minimum(numerics.ratio(t, warmup_steps), jnp.sqrt(numerics.ratio(warmup_steps, t)))

    return Timed(value, boundary=warmup_steps - 1, turns=(warmup_steps - 1,))
