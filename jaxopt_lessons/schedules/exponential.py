"""Exponential decay, smooth or in stairs, with and without a warm-up.

    x = (count - transition_begin) / transition_steps          floor(x) with staircase=True
    value = init_value * decay_rate^x                          init_value for x <= 0; not past end_value

``decay_rate=0.5, staircase=True`` halves the value every ``transition_steps`` updates.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics
from jaxopt_lessons.schedules.schedule import Timed, schedule
from jaxopt_lessons.types import Offset, Positive, Scalar, Steps


@schedule
def exponential_decay(
    init_value: Scalar,
    transition_steps: Steps,
    decay_rate: Positive,
    transition_begin: Offset = 0,
    staircase: bool = False,
    end_value: Scalar | None = None,
) -> Any:
    """``init_value * decay_rate ** ((count - transition_begin) / transition_steps)``.

    Args:
      init_value: the value at ``transition_begin`` and before.
      transition_steps: updates in which the value is multiplied by ``decay_rate`` once.
      decay_rate: the factor, in ``(0, inf)``; below 1 it is a decay.
      transition_begin: where the decay begins, in updates.
      staircase: change only at multiples of ``transition_steps``.
      end_value: the value stops here: a lower bound for a decay, an upper bound for growth.

    >>> exponential_decay(0.2, transition_steps=2, decay_rate=0.5, staircase=True)(jnp.arange(5))
    Array([0.2 , 0.2 , 0.1 , 0.1 , 0.05], dtype=float32)
    """

    def value(count: jax.Array) -> jax.Array:
        elapsed = jnp.maximum(count - transition_begin, 0)
        return _decayed(init_value, elapsed, transition_steps, decay_rate, staircase, end_value)

    return Timed(value, boundary=transition_begin, turns=())


def _decayed(init_value: Any, elapsed: jax.Array, steps: Any, decay_rate: Any, staircase: bool, end_value: Any) -> Any:
    x = numerics.as_float(elapsed // steps) if staircase else numerics.ratio(elapsed, steps)
    result = init_value * jnp.power(decay_rate, x)
    if end_value is not None:
        result = jnp.where(decay_rate < 1, jnp.maximum(result, end_value), jnp.minimum(result, end_value))
    return result


@schedule
def warmup_exponential_decay_schedule(
    init_value: Scalar,
    peak_value: Scalar,
    warmup_steps: Offset,
    transition_steps: Steps,
    decay_rate: Positive,
    transition_begin: Offset = 0,
    staircase: bool = False,
    end_value: Scalar | None = None,
) -> Any:
    """A straight line up to ``peak_value``, then ``exponential_decay`` from there.

    The very first update has ``init_value``, the peak comes at count ``warmup_steps``.

    Args:
      init_value: the value at count 0.
      peak_value: the value at count ``warmup_steps``.
      warmup_steps: length of the warm-up, in updates; 0 for none.
      transition_steps: updates in which the value is multiplied by ``decay_rate`` once.
      decay_rate: the factor, in ``(0, inf)``; below 1 it is a decay.
      transition_begin: where the decay begins, in updates after the warm-up.
      staircase: change only at multiples of ``transition_steps``.
      end_value: the value stops here: a lower bound for a decay, an upper bound for growth.

    >>> warmup_exponential_decay_schedule(0.0, 0.8, warmup_steps=2, transition_steps=1, decay_rate=0.5)(jnp.arange(5))
    Array([0. , 0.4, 0.8, 0.4, 0.2], dtype=float32)
    """

    def value(count: jax.Array) -> jax.Array:
        up = init_value + (peak_value - init_value) * numerics.ratio(count, jnp.maximum(warmup_steps, 1))
        elapsed = jnp.maximum(count - warmup_steps - transition_begin, 0)
        down = _decayed(peak_value, elapsed, transition_steps, decay_rate, staircase, end_value)
        return jnp.where(count < warmup_steps, up, down)

    # Where an end_value below the peak cuts off what grows, the last update of the warm-up is the largest.
    return Timed(value, boundary=warmup_steps + transition_begin, turns=(warmup_steps - 1, warmup_steps))
