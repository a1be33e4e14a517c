"""REX: a decay that stays high for long and falls steeply at the end, for a fixed budget of updates.

    r = 1 - min(count / decay_steps, 1)
    value = init_value * r / (1/2 + r/2)

Paper: Chen, Wolfe & Kyrillidis 2021, arXiv 2107.04197.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics
from jaxopt_lessons.schedules.schedule import Timed, schedule
from jaxopt_lessons.types import Scalar, Steps


@schedule
def rex_schedule(init_value: Scalar, decay_steps: Steps) -> Any:
    """From ``init_value`` to 0, slowly at first.

    Args:
      init_value: the value at count 0.
      decay_steps: length of the decay, in updates.

    >>> rex_schedule(3.0, decay_steps=2)(jnp.arange(4))
    Array([3., 2., 0., 0.], dtype=float32)
    """

    def value(count: jax.Array) -> jax.Array:
        r = numerics.ratio(jnp.maximum(decay_steps - count, 0), decay_steps)
        return init_value * (2 * r / (1 + r))

    return Timed(value, decay_steps, turns=())
