"""Half a period of a cosine, with and without a warm-up.

    x = min(count / decay_steps, 1)
    value = init_value * ((1 - alpha) * ((1 + cos(pi * x)) / 2)^exponent + alpha)

Paper: Loshchilov & Hutter 2016, arXiv 1608.03983 (one period, no restart).
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics
from jaxopt_lessons.schedules.schedule import Timed, schedule
from jaxopt_lessons.types import Offset, Positive, Scalar, Steps


def half_cosine(x: jax.Array) -> jax.Array:
    """``(1 + cos(pi x)) / 2`` for x in [0, 1], and exactly 0 from 1 on, where rounding would leave 2e-15 at 1."""
    return jnp.where(x < 1, jnp.cos(jnp.pi / 2 * x) ** 2, 0)


@schedule
def cosine_decay_schedule(init_value: Scalar, decay_steps: Steps, alpha: Scalar = 0.0, exponent: Positive = 1.0) -> Any:
    """From ``init_value`` to ``alpha * init_value`` along half a cosine, and constant from there.

    Args:
      init_value: the value at count 0.
      decay_steps: length of the decay, in updates.
      alpha: the last value as a fraction of the first.
      exponent: power of the cosine term, in ``(0, inf)``.

    >>> cosine_decay_schedule(8.0, decay_steps=3)(jnp.arange(5)).round()
    Array([8., 6., 2., 0., 0.], dtype=float32)
    """

    def value(count: jax.Array) -> jax.Array:
        x = numerics.ratio(count, decay_steps)
        return init_value * ((1 - alpha) * half_cosine(x) ** exponent + alpha)

    return Timed(value, decay_steps, turns=())


@schedule
def warmup_cosine_decay_schedule(
    init_value: Scalar,
    peak_value: Scalar,
    warmup_steps: Offset,
    decay_steps: Steps,
    end_value: Scalar = 0.0,
    exponent: Positive = 1.0,
) -> Any:
    """A straight line up to ``peak_value``, then half a cosine down to ``end_value``.

    The value at count ``c`` of the warm-up is ``init_value + (peak_value - init_value) * c / warmup_steps``: the very
    first update has ``init_value``, the peak comes at ``c = warmup_steps``.

    Args:
      init_value: the value at count 0.
      peak_value: the value at count ``warmup_steps``.
      warmup_steps: length of the warm-up in updates, less than ``decay_steps``; 0 for none.
      decay_steps: length of warm-up and decay together, in updates.
      end_value: the value from ``decay_steps`` on.
      exponent: power of the cosine term, in ``(0, inf)``.

    Raises:
      ValueError: the warm-up is not shorter than the whole.

    >>> warmup_cosine_decay_schedule(0.0, 1.0, warmup_steps=2, decay_steps=4)(jnp.arange(6)).round(3)
    Array([0. , 0.5, 1. , 0.5, 0. , 0. ], dtype=float32)
    """
    _checks.increasing("warmup_cosine_decay_schedule", "(warmup_steps, decay_steps)", (warmup_steps, decay_steps))

    def value(count: jax.Array) -> jax.Array:
        up = init_value + (peak_value - init_value) * numerics.ratio(count, jnp.maximum(warmup_steps, 1))
        x = numerics.ratio(jnp.maximum(count - warmup_steps, 0), decay_steps - warmup_steps)
        down = end_value + (peak_value - end_value) * half_cosine(x) ** exponent
        return jnp.where(count < warmup_steps, up, down)

    return Timed(value, decay_steps, boundary=warmup_steps, turns=(warmup_steps,))
