"""Decay in steps: at every so many updates, or at given ones.

value = init_value * decay_rate^floor(count / transition_steps)           step_decay
value = init_value * 0.5^floor(count / transition_steps)                  halving_schedule
value = init_value * decay_rate^(number of milestones up to count)        multistep_decay
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics
from jaxopt_lessons.schedules.schedule import Timed, schedule
from jaxopt_lessons.types import Offset, Positive, Scalar, Steps


@schedule
def step_decay(init_value: Scalar, transition_steps: Steps, decay_rate: Positive = 0.1) -> Any:
    """``init_value``, multiplied by ``decay_rate`` every ``transition_steps`` updates.

    Args:
      init_value: the value at count 0.
      transition_steps: updates from one change to the next.
      decay_rate: the factor, in ``(0, inf)``.

    >>> step_decay(1.0, transition_steps=2, decay_rate=0.5)(jnp.arange(6))
    Array([1.  , 1.  , 0.5 , 0.5 , 0.25, 0.25], dtype=float32)
    """

    def value(count: jax.Array) -> jax.Array:
        return init_value * jnp.power(decay_rate, numerics.as_float(count // transition_steps))

    return Timed(value, turns=())


@schedule
def halving_schedule(init_value: Scalar, transition_steps: Steps) -> Any:
    """``init_value``, halved every ``transition_steps`` updates.

    Args:
      init_value: the value at count 0.
      transition_steps: updates from one halving to the next.

    >>> halving_schedule(0.8, transition_steps=2)(jnp.arange(6))
    Array([0.8, 0.8, 0.4, 0.4, 0.2, 0.2], dtype=float32)
    """
    return Timed(lambda count: init_value * jnp.exp2(-numerics.as_float(count // transition_steps)), turns=())


@schedule
def multistep_decay(init_value: Scalar, milestones: Sequence[Offset], decay_rate: Positive = 0.1) -> Any:
    """``init_value``, multiplied by ``decay_rate`` at each milestone.

    Args:
      init_value: the value before the first milestone.
      milestones: increasing counts of updates; the factor acts from the milestone itself on.
      decay_rate: the factor, in ``(0, inf)``.

    Raises:
      ValueError: the milestones do not increase.

    >>> multistep_decay(1.0, milestones=[2, 3], decay_rate=0.5)(jnp.arange(5))
    Array([1.  , 1.  , 0.5 , 0.25, 0.25], dtype=float32)
    """
    _checks.increasing("multistep_decay", "milestones", milestones)

    def value(count: jax.Array) -> jax.Array:
        passed = jnp.zeros(jnp.shape(count))
        for milestone in milestones:
            passed = passed + jnp.where(count < milestone, 0.0, 1.0)
        return init_value * jnp.power(decay_rate, passed)

    return Timed(value, boundary=milestones[-1] if milestones else 0, rests=True, turns=())
