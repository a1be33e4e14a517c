"""SGDR: warm restarts. The learning rate falls along half a cosine, jumps up, and falls again.

    value = end + (peak - end) * (1 + cos(pi * t / T)) / 2          t updates after a restart, T those of the cycle

Cycle by cycle from a list (``sgdr_schedule``, optax's), or from a formula, with ``T`` growing by a factor:

    T_i = first_decay_steps * t_mul^i,    peak_i = init_value * m_mul^i,    end_i = alpha * peak_i

Paper: Loshchilov & Hutter 2016, arXiv 1608.03983.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics
from jaxopt_lessons.schedules.cosine import half_cosine, warmup_cosine_decay_schedule
from jaxopt_lessons.schedules.schedule import Schedule, Timed, schedule
from jaxopt_lessons.types import Convert, Positive, Scalar, Steps


def _cycles(owner: str, name: str, values: Any) -> tuple[Schedule, ...]:
    given = tuple(values) if not isinstance(values, (Mapping, Schedule)) and hasattr(values, "__iter__") else ()
    cycles = [warmup_cosine_decay_schedule(**value) if isinstance(value, Mapping) else value for value in given]
    if not cycles or any(getattr(cycle, "name", None) != "warmup_cosine_decay_schedule" for cycle in cycles):
        raise TypeError(
            f"{owner}: {name} must be a list of one dict or more, each with the arguments of "
            f"warmup_cosine_decay_schedule; got {values!r}."
        )
    return tuple(cycles)


@schedule
def sgdr_schedule(cosine_kwargs: Annotated[Any, Convert(_cycles)]) -> Any:
    """Cosine decays with warm-ups, one after the other.

    Args:
      cosine_kwargs: a list with the arguments of ``warmup_cosine_decay_schedule`` for each cycle, as dicts, or with the
        schedules themselves. A cycle takes its ``decay_steps`` updates; after the last one its ``end_value`` stays.

    Raises:
      TypeError: it is empty or something else.

    >>> cycle = dict(init_value=0.0, peak_value=1.0, warmup_steps=1, decay_steps=3)
    >>> sgdr_schedule([cycle, dict(cycle, peak_value=0.5)])(jnp.arange(8)).round(3)
    Array([0.  , 1.  , 0.5 , 0.  , 0.5 , 0.25, 0.  , 0.  ], dtype=float32)
    """
    starts = [0]
    for cycle in cosine_kwargs:
        starts.append(starts[-1] + cycle.length)

    def value(count: jax.Array) -> jax.Array:
        result = cosine_kwargs[0](count)
        for start, cycle in zip(starts[1:], cosine_kwargs[1:], strict=False):
            result = jnp.where(count < start, result, cycle(count - start))
        return result

    turns: list[Any] = []
    for start, end, cycle in zip(starts, starts[1:], cosine_kwargs, strict=False):
        turns += [start, start + cycle.timed.boundary, end - 1]
    return Timed(value, starts[-1], boundary=starts[-2] + cosine_kwargs[-1].timed.boundary, turns=(*turns, starts[-1]))


@schedule
def cosine_decay_restarts(
    init_value: Scalar, first_decay_steps: Steps, t_mul: Steps = 2, m_mul: Positive = 1.0, alpha: Scalar = 0.0
) -> Any:
    """Cosine decays, one after the other without an end, each ``t_mul`` times as long as the one before.

    Args:
      init_value: the value at count 0.
      first_decay_steps: length of the first cycle, in updates.
      t_mul: how many times as long the next cycle is, a whole number; 1 for cycles of one length.
      m_mul: what the peak is multiplied by from cycle to cycle, in ``(0, inf)``.
      alpha: the value that a cycle goes to, as a fraction of its peak.

    >>> cosine_decay_restarts(8.0, first_decay_steps=3, m_mul=0.5)(jnp.arange(10)).round()
    Array([8., 6., 2., 4., 4., 3., 2., 1., 0., 2.], dtype=float32)
    """

    def value(count: jax.Array) -> jax.Array:
        largest = jnp.iinfo(count.dtype).max
        first = jnp.full_like(count, first_decay_steps)
        cycle = jnp.where(jnp.equal(t_mul, 1), count // first, 0)
        elapsed, length, exact = count - cycle * first, first, numerics.as_float(first)
        for _ in range(31):  # Lengths at least double, so no more restarts come before 2^31.
            over = elapsed >= length
            elapsed, cycle = jnp.where(over, elapsed - length, elapsed), cycle + over.astype(cycle.dtype)
            longer = jnp.where(length > largest // t_mul, largest, length * t_mul)
            length, exact = jnp.where(over, longer, length), jnp.where(over, exact * numerics.as_float(t_mul), exact)
        peak = init_value * jnp.power(m_mul, numerics.as_float(cycle))
        return peak * ((1 - alpha) * half_cosine(numerics.ratio(elapsed, exact)) + alpha)

    return Timed(value, turns=_first_and_last_counts(first_decay_steps, t_mul), endless=True)


def _first_and_last_counts(first: Any, t_mul: Any) -> tuple[jax.Array, ...]:
    """Of the cycles, each: those of the first 31, after which there are no more unless all are of one length.

    Then the others lie between the first and the last, which is there too, in everything.
    """
    largest = jnp.asarray(jnp.iinfo(jnp.int32).max)
    length = jnp.asarray(first).astype(jnp.int32)
    factor = jnp.asarray(t_mul).astype(jnp.int32)
    starts = [largest // length * length, length]
    for _ in range(30):
        length = jnp.where(length > largest // factor, largest, length * factor)
        starts.append(jnp.where(starts[-1] > largest - length, largest, starts[-1] + length))
    return (jnp.stack(starts), jnp.stack(starts) - 1)
