"""A warm-up: a straight line from nothing, or nearly nothing, to the learning rate.

    value = peak_value * min(count / steps, 1)                from_zero=True
    value = peak_value * min((count + 1) / steps, 1)          from_zero=False

Both are in use, and they differ in the first update. With the first formula, optax's and that of most papers, its
learning rate is 0 and it moves nothing but the averages of the optimizer; the peak comes at count ``steps``. With the
second it is ``peak_value / steps``, and the last update of the warm-up has the peak already.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics
from jaxopt_lessons.schedules.schedule import Timed, schedule
from jaxopt_lessons.types import Scalar, Steps


@schedule
def warmup(steps: Steps, peak_value: Scalar = 1.0, *, from_zero: bool) -> Any:
    """A straight line up to ``peak_value``, which takes ``steps`` updates.

    ``warmup(100, 1e-3, from_zero=True).then(decay)`` puts it before a schedule, ``warmup(100, from_zero=True) * decay``
    on top of one.

    Args:
      steps: length of the warm-up, in updates.
      peak_value: the value at its end.
      from_zero: whether the first value is 0, or ``peak_value / steps``; there is no default, since both are usual.

    >>> warmup(4, from_zero=True)(jnp.arange(5)), warmup(4, from_zero=False)(jnp.arange(5))
    (Array([0.  , 0.25, 0.5 , 0.75, 1.  ], dtype=float32), Array([0.25, 0.5 , 0.75, 1.  , 1.  ], dtype=float32))
    """

    def value(count: jax.Array) -> jax.Array:
        done = jnp.minimum(count, steps) if from_zero else jnp.minimum(count, steps - 1) + 1
        return peak_value * numerics.ratio(done, steps)

    return Timed(value, steps, turns=())


@schedule
def warmup_constant_schedule(init_value: Scalar, peak_value: Scalar, warmup_steps: Steps) -> Any:
    """A straight line from ``init_value`` to ``peak_value``, and constant from there.

    Args:
      init_value: the value at count 0.
      peak_value: the value from count ``warmup_steps`` on.
      warmup_steps: length of the warm-up, in updates, at least 1 (for 0 optax stays at ``init_value`` for ever).

    >>> warmup_constant_schedule(0.0, 1.0, warmup_steps=2)(jnp.arange(4))
    Array([0. , 0.5, 1. , 1. ], dtype=float32)
    """

    def value(count: jax.Array) -> jax.Array:
        return numerics.toward(init_value, peak_value, numerics.ratio(jnp.minimum(count, warmup_steps), warmup_steps))

    return Timed(value, boundary=warmup_steps, rests=True, turns=())
