"""Inverse-time decay, the course's learning-rate decay.

    epoch = count / steps_per_epoch               floor(epoch) with staircase=True
    value = init_value / (1 + decay_rate * epoch)

With ``init_value=0.2, decay_rate=1`` the first epochs have 0.2, 0.1, 0.067, 0.05, 0.04.
"""

from typing import Any

import jax

from jaxopt_lessons import numerics
from jaxopt_lessons.schedules.schedule import Timed, schedule
from jaxopt_lessons.types import NonNegative, Scalar, Steps


@schedule
def inverse_time_decay(
    init_value: Scalar, decay_rate: NonNegative, steps_per_epoch: Steps = 1, staircase: bool = False
) -> Any:
    """``init_value / (1 + decay_rate * count / steps_per_epoch)``.

    Args:
      init_value: the value at count 0.
      decay_rate: in ``[0, inf)``, per epoch.
      steps_per_epoch: updates in an epoch; 1 to decay by update.
      staircase: change only from epoch to epoch (``floor`` of the epoch), as in the course.

    >>> inverse_time_decay(0.2, 1.0, steps_per_epoch=100, staircase=True)(jnp.array([0, 99, 100, 200, 300, 400]))
    Array([0.2       , 0.2       , 0.1       , 0.06666667, 0.05      ,
           0.04      ], dtype=float32)
    """

    def value(count: jax.Array) -> jax.Array:
        epoch = numerics.as_float(count // steps_per_epoch) if staircase else numerics.ratio(count, steps_per_epoch)
        return init_value / (1 + decay_rate * epoch)

    return Timed(value, turns=())
