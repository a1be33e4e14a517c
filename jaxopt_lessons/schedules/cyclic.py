"""Cyclic learning rates: up and down on straight lines, again and again.

    height = 0 at the beginning of a cycle, 1 after steps_up updates, 0 again after steps_down more
    value  = base_value + (peak_value - base_value) * height * scale
    scale  = 1                         mode="triangular"
    scale  = 0.5^(cycles before)       mode="triangular2"
    scale  = gamma^count               mode="exp_range"

A momentum that goes the other way is ``cyclic_schedule(max_momentum, base_momentum, ...)``. Paper: Smith 2015, arXiv
1506.01186.
"""

from typing import Annotated, Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, _schedule_checks, numerics
from jaxopt_lessons.schedules.schedule import Timed, schedule
from jaxopt_lessons.types import Number, Range, Scalar, Steps

_MODES = ("triangular", "triangular2", "exp_range")


@schedule
def cyclic_schedule(
    base_value: Scalar,
    peak_value: Scalar,
    steps_up: Steps,
    steps_down: Steps | None = None,
    mode: str = "triangular",
    gamma: Annotated[Number, Range(0, 1, includes_low=False)] = 1.0,
) -> Any:
    """From ``base_value`` up to ``peak_value`` and down again, without an end.

    Args:
      base_value: the value at the beginning of each cycle.
      peak_value: the value ``steps_up`` updates later, in the first cycle.
      steps_up: length of the way up, in updates.
      steps_down: length of the way down, in updates; None for the same.
      mode: ``"triangular"``, ``"triangular2"`` to halve the height from cycle to cycle, or ``"exp_range"`` to multiply
        it by ``gamma`` from update to update.
      gamma: of the mode ``"exp_range"``, in ``(0, 1]``.

    Raises:
      ValueError: there is no such mode.

    >>> cyclic_schedule(0.0, 1.0, steps_up=2, mode="triangular2")(jnp.arange(9))
    Array([0.  , 0.5 , 1.  , 0.5 , 0.  , 0.25, 0.5 , 0.25, 0.  ], dtype=float32)
    """
    _checks.one_of("cyclic_schedule", "mode", mode, _MODES)
    down = steps_up if steps_down is None else steps_down
    _schedule_checks.countable("cyclic_schedule", steps_up + down)

    def value(count: jax.Array) -> jax.Array:
        position, cycle = count % (steps_up + down), count // (steps_up + down)
        height = jnp.where(
            position < steps_up, numerics.ratio(position, steps_up), numerics.ratio(steps_up + down - position, down)
        )
        if mode == "triangular2":
            height = height * jnp.exp2(-numerics.as_float(cycle))
        if mode == "exp_range":
            height = height * jnp.power(gamma, numerics.as_float(count))
        return base_value + (peak_value - base_value) * height

    turns: tuple[Any, ...] = (steps_up,)
    if mode == "exp_range":  # count * gamma^count is largest at the count -1 / log(gamma), or beside it.
        top = jnp.minimum(-1 / jnp.log(numerics.as_float(gamma)), numerics.as_float(steps_up))
        turns = (jnp.floor(top).astype(jnp.int32), jnp.ceil(top).astype(jnp.int32), steps_up)
    return Timed(value, turns=turns, endless=True)
