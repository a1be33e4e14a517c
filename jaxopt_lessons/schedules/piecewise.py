"""Constant pieces: by factors, or by hand.

    piecewise_constant_schedule(0.1, {500: 0.5, 800: 0.1})    0.1, from 500 on 0.05, from 800 on 0.005
    manual_schedule({0: 0.1, 500: 0.05, 800: 0.01})           the values themselves

The counts at which the value changes belong to the structure of the schedule, the numbers are its leaves.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics
from jaxopt_lessons.schedules.schedule import schedule
from jaxopt_lessons.types import Scalar


@schedule
def piecewise_constant_schedule(init_value: Scalar, boundaries_and_scales: Mapping[int, Scalar] | None = None) -> Any:
    """``init_value``, multiplied by each scale from its boundary on.

    Args:
      init_value: the value before the first boundary.
      boundaries_and_scales: ``{count: factor}``; the factor acts on updates number ``count`` and later.

    >>> piecewise_constant_schedule(1.0, {2: 0.5, 4: 0.5})(jnp.arange(6))
    Array([1.  , 1.  , 0.5 , 0.5 , 0.25, 0.25], dtype=float32)
    """

    def value(count: jax.Array) -> jax.Array:
        result = jnp.broadcast_to(numerics.as_float(init_value), jnp.shape(count))
        for boundary, factor in (boundaries_and_scales or {}).items():
            result = jnp.where(count < boundary, result, result * factor)
        return result

    return value


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
    _checks.require(0 in values, "manual_schedule: values must say where to begin, as in {0: 0.1, 500: 0.01}.")

    def value(count: jax.Array) -> jax.Array:
        result = jnp.broadcast_to(numerics.as_float(values[0]), jnp.shape(count))
        for start, following in values.items():
            result = jnp.where(count < start, result, following)
        return result

    return value
