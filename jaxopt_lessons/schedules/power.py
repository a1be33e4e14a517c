"""Powers of the time gone by.

    epoch = count / steps_per_epoch                    floor(epoch) with staircase=True
    value = init_value / (1 + epoch)^power             power_decay
    value = init_value / sqrt(1 + epoch)               inverse_square_root_decay: the course's k / sqrt(epoch number)

Without a warm-up; with one see ``noam_schedule``. ``inverse_time_decay`` is the power 1.
"""

from typing import Any

import jax

from jaxopt_lessons import numerics
from jaxopt_lessons.schedules.schedule import Timed, schedule
from jaxopt_lessons.types import Positive, Scalar, Steps


def _epoch(count: jax.Array, steps_per_epoch: Any, staircase: bool) -> jax.Array:
    return numerics.as_float(count // steps_per_epoch) if staircase else numerics.ratio(count, steps_per_epoch)


@schedule
def power_decay(init_value: Scalar, power: Positive, steps_per_epoch: Steps = 1, staircase: bool = False) -> Any:
    """``init_value * (1 + count / steps_per_epoch) ** -power``.

    Args:
      init_value: the value at count 0.
      power: in ``(0, inf)``.
      steps_per_epoch: updates in an epoch; 1 to decay by update.
      staircase: change only from epoch to epoch.

    >>> power_decay(1.0, power=2.0)(jnp.array([0, 1, 3, 9]))
    Array([1.    , 0.25  , 0.0625, 0.01  ], dtype=float32)
    """
    return Timed(lambda count: init_value * (1 + _epoch(count, steps_per_epoch, staircase)) ** -power, turns=())


@schedule
def inverse_square_root_decay(init_value: Scalar, steps_per_epoch: Steps = 1, staircase: bool = False) -> Any:
    """``init_value / sqrt(1 + count / steps_per_epoch)``.

    Args:
      init_value: the value at count 0.
      steps_per_epoch: updates in an epoch; 1 to decay by update.
      staircase: change only from epoch to epoch, as in the course.

    >>> inverse_square_root_decay(0.2)(jnp.array([0, 3, 15, 99]))
    Array([0.2 , 0.1 , 0.05, 0.02], dtype=float32)
    """
    return Timed(lambda count: init_value * jax.lax.rsqrt(1 + _epoch(count, steps_per_epoch, staircase)), turns=())
