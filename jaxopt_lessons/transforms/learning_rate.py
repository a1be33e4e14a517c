"""Multiplication by a number that may depend on the count of updates: the last stage of an optimizer.

    u = -learning_rate(count) * g        count = 0, 1, 2, ...

State: ``count``, 4 bytes in all, for constants as for schedules, so one can take the other's place in the middle of a
run.
"""

from typing import Any, NamedTuple

import jax
from jax.core import Tracer

from jaxopt_lessons import _errors, numerics, tree
from jaxopt_lessons.core import GradientTransformation, gradient_transformation
from jaxopt_lessons.transforms.scale import scale_rule
from jaxopt_lessons.types import NonNegativeOrSchedule, Params, ScalarOrSchedule, Updates


class ScaleByScheduleState(NamedTuple):
    count: jax.Array


@gradient_transformation
def scale_by_schedule(step_size_fn: ScalarOrSchedule) -> Any:
    """Multiplies the updates by the schedule's value: ``u = step_size_fn(count) * g``.

    Args:
      step_size_fn: a schedule ``count -> factor``, called with 0 at the first update; or a number.

    See also ``scale_by_learning_rate``, which flips the sign for descent.
    """

    def init(params: Params) -> ScaleByScheduleState:
        return ScaleByScheduleState(count=numerics.zero_count())

    def update(updates: Updates, state: ScaleByScheduleState, params: Params | None = None, **extra: Any) -> Any:
        updates = tree.map_leaves(scale_rule, updates, params=params, step_size=step_size_fn)
        return updates, ScaleByScheduleState(numerics.increment(state.count))

    return init, update


@gradient_transformation
def scale_by_learning_rate(learning_rate: NonNegativeOrSchedule, *, flip_sign: bool = True) -> Any:
    """Multiplies the updates by minus the learning rate: ``u = -learning_rate(count) * g``.

    Args:
      learning_rate: a number in ``[0, inf)`` or a schedule of such numbers.
      flip_sign: False leaves out the minus: gradient ascent.

    >>> tx = scale_by_learning_rate(0.1)
    >>> tx.update(jnp.array([1.0, -2.0]), tx.init(jnp.zeros(2)))[0]
    Array([-0.1,  0.2], dtype=float32)
    """

    def init(params: Params) -> ScaleByScheduleState:
        return ScaleByScheduleState(count=numerics.zero_count())

    def update(updates: Updates, state: ScaleByScheduleState, params: Params | None = None, **extra: Any) -> Any:
        step_size = -numerics.as_float(learning_rate) if flip_sign else learning_rate
        updates = tree.map_leaves(scale_rule, updates, params=params, step_size=step_size)
        return updates, ScaleByScheduleState(numerics.increment(state.count))

    return init, update


def warn_of_raw_gradients(owner: str, tx: GradientTransformation, what: str, instead: str) -> None:
    """Warns where raw gradients pass a transformation that makes the step, and so no later stage will see to them.

    Args:
      owner: who lets them pass.
      tx: the transformation; the step is made by ``scale_by_learning_rate``, at any depth.
      what: what keeps its raw gradients, or consists of them.
      instead: what to write.
    """
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tx)):
        return  # A transformation that passes through jit is made anew: whoever made it has been warned.
    if any(part.made_by(scale_by_learning_rate) and part.arguments["flip_sign"] for part in tx.walk()):
        _errors.warning(
            f"{owner}: {tx.name} makes the step, and {what} raw gradients, which are then added to the weights. "
            f"{instead}"
        )
