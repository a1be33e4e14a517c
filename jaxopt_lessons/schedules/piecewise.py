"""Constant pieces, by factors or by hand, and lines between the same points.

    piecewise_constant_schedule(0.1, {500: 0.5, 800: 0.1})    0.1, from 500 on 0.05, from 800 on 0.005
    manual_schedule({0: 0.1, 500: 0.05, 800: 0.01})           the values themselves
    piecewise_interpolate_schedule("linear", 0.1, {500: 0.5, 800: 0.1})
                                                              0.1 at 0, 0.05 at 500, 0.005 at 800, and lines between

The counts at which the value changes belong to the structure of the schedule, the numbers are its leaves. So those of
a run under way are changed by hand without compiling: ``schedule.replace(values={0: 0.1, 500: 0.02, 800: 0.01})``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics
from jaxopt_lessons.schedules.cosine import half_cosine
from jaxopt_lessons.schedules.schedule import Timed, schedule
from jaxopt_lessons.types import NonNegative, Scalar


@schedule
def piecewise_constant_schedule(
    init_value: Scalar, boundaries_and_scales: Mapping[int, NonNegative] | None = None
) -> Any:
    """``init_value``, multiplied by each scale from its boundary on.

    Args:
      init_value: the value before the first boundary.
      boundaries_and_scales: ``{count: factor}``; the factor, in ``[0, inf)``, acts from update ``count`` on.

    >>> piecewise_constant_schedule(1.0, {2: 0.5, 4: 0.5})(jnp.arange(6))
    Array([1.  , 1.  , 0.5 , 0.5 , 0.25, 0.25], dtype=float32)
    """

    def value(count: jax.Array) -> jax.Array:
        result = jnp.broadcast_to(numerics.as_float(init_value), jnp.shape(count))
        for boundary, factor in (boundaries_and_scales or {}).items():
            result = jnp.where(count < boundary, result, result * factor)
        return result

    turns = tuple(boundaries_and_scales or ())
    return Timed(value, boundary=max(turns, default=0), rests=True, turns=turns)


EASINGS: dict[str, Callable[[jax.Array], jax.Array]] = {"linear": lambda x: x, "cosine": lambda x: 1 - half_cosine(x)}
"""From 0 at 0 to 1 at 1."""


def interpolated(count: jax.Array, boundaries: Sequence[Any], values: Sequence[Any], easing: str) -> jax.Array:
    """From ``values[0]`` at count 0 to ``values[i]`` at ``boundaries[i-1]``, and constant after the last of them."""
    result = jnp.broadcast_to(numerics.as_float(values[0]), jnp.shape(count))
    start = 0
    for end, before, after in zip(boundaries, values, values[1:], strict=False):
        x = EASINGS[easing](jnp.clip(numerics.ratio(count - start, jnp.maximum(end - start, 1)), 0, 1))
        result = jnp.where(count < start, result, numerics.toward(before, after, x))
        result = jnp.where(count < end, result, after)
        start = end
    return result


@schedule
def piecewise_interpolate_schedule(
    interpolate_type: str, init_value: Scalar, boundaries_and_scales: Mapping[int, NonNegative] | None = None
) -> Any:
    """Through ``init_value`` and its products with the scales, at their boundaries, on straight or on cosine lines.

    Args:
      interpolate_type: ``"linear"``, or ``"cosine"`` for half a period from each value to the next.
      init_value: the value at count 0.
      boundaries_and_scales: ``{count: factor}``; at ``count`` the value is that at the boundary before times the
        factor, in ``[0, inf)``.

    >>> piecewise_interpolate_schedule("linear", 1.0, {2: 0.5, 4: 0.0})(jnp.arange(6))
    Array([1.  , 0.75, 0.5 , 0.25, 0.  , 0.  ], dtype=float32)
    """
    _checks.one_of("piecewise_interpolate_schedule", "interpolate_type", interpolate_type, tuple(EASINGS))
    boundaries, values = tuple(boundaries_and_scales or ()), [init_value]
    for factor in (boundaries_and_scales or {}).values():
        values.append(values[-1] * factor)

    def value(count: jax.Array) -> jax.Array:
        return interpolated(count, boundaries, values, interpolate_type)

    if not boundaries:
        return Timed(value, rests=True, turns=())
    return Timed(value, boundaries[-1], boundary=max((0, *boundaries[:-1])), turns=boundaries)


@schedule
def manual_schedule(values: Mapping[int, Scalar]) -> Any:
    """The learning rate by hand: ``{count: value}``, each value from its count on until the next.

    Args:
      values: the value at count 0 and after each change.

    Raises:
      ValueError: there is no value for count 0.

    >>> manual_schedule({0: 0.1, 3: 0.02})(jnp.arange(5))
    Array([0.1 , 0.1 , 0.1 , 0.02, 0.02], dtype=float32)
    """
    _checks.require(
        0 in values,
        lambda: (
            f"manual_schedule: values must have a value for count 0, as in {{0: 0.1, 500: 0.01}}; got {dict(values)!r}."
        ),
    )

    def value(count: jax.Array) -> jax.Array:
        result = jnp.broadcast_to(numerics.as_float(values[0]), jnp.shape(count))
        for start, following in values.items():
            result = jnp.where(count < start, result, following)
        return result

    return Timed(value, boundary=max(values), rests=True, turns=tuple(values))
