"""What a schedule is, and how two of them make a third.

A schedule maps the count of updates made so far, ``0, 1, 2, ...``, to a number. It is a value: it prints, compares,
pickles and composes, and its numbers are leaves, so a new peak compiles nothing::

    warmup = linear_schedule(0.0, 1e-3, transition_steps=100)
    rate   = warmup.then(cosine_decay_schedule(1e-3, 900), at=100)
    rate   = 0.5 * rate

Write one by decorating a function that returns ``count -> number``::

    @schedule
    def inverse_square_root(init_value: NonNegative, steps: Steps):
        def value(count):
            return init_value * jax.lax.rsqrt(1 + count / steps)
        return value

``value`` gets ``count`` as an integer array, at least 0; the result is cast to float32 (float64 under x64). The
arguments arrive as plain numbers or scalars. Whole numbers of steps stay integers, so that ``count < boundary`` is
exact up to 2^31; where time enters a formula, use the ratio ``count / steps``.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, ParamSpec, TypeAlias

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics
from jaxopt_lessons._value import Value, value_factory
from jaxopt_lessons.types import Convert, Number, Offset, Scalar, ScheduleFn

P = ParamSpec("P")


class Schedule(Value):
    """A function of the count of updates, as a value. Call it: ``schedule(count)``."""

    __slots__ = ()

    def __call__(self, count: Number) -> jax.Array:
        """The number at ``count`` updates, as float32 (float64 under x64). Counts below 0 are read as 0.

        Args:
          count: whole number of updates made so far, or an array of them (the result has its shape).
        """
        count = _checks.whole_count(self.name, count)
        return jnp.asarray(self._make()(jnp.maximum(count, 0))).astype(numerics.float_dtype())

    def then(self, other: ScheduleFn, at: Number) -> "Schedule":
        """This schedule before count ``at``, and from there ``other``, which starts at its own count 0."""
        return join_schedules([self, other], [at])

    def __mul__(self, other: "ScheduleFn | Number") -> "Schedule":
        return multiply_schedules(self, other)

    def __add__(self, other: "ScheduleFn | Number") -> "Schedule":
        return add_schedules(self, other)

    __rmul__ = __mul__
    __radd__ = __add__


def schedule(body: Callable[P, Callable[[jax.Array], Any]]) -> Callable[P, Schedule]:
    """Makes a factory of schedules from a function that returns ``count -> number``.

    Args:
      body: a function whose arguments annotated with a range of ``jaxopt_lessons.types`` are leaves of the schedule.
    """
    return value_factory(Schedule, body)


@schedule
def _from_function(function: ScheduleFn) -> Any:
    return function


_from_function.__name__ = "Schedule"


@schedule
def constant_schedule(value: Scalar) -> Any:
    """The same number for ever.

    Args:
      value: the number.

    >>> constant_schedule(0.1)(1000)
    Array(0.1, dtype=float32)
    """
    return lambda count: jnp.broadcast_to(numerics.as_float(value), jnp.shape(count))


def _as_schedule(owner: str, value: Any) -> Schedule:
    if isinstance(value, Schedule):
        return value
    if callable(value):
        return _from_function(value)
    return constant_schedule(value)


def _as_schedules(owner: str, values: Any) -> tuple[Schedule, ...]:
    if not isinstance(values, (tuple, list)) or not values:
        raise TypeError(f"{owner}: schedules must be a list of one schedule or more; got {values!r}.")
    return tuple(_as_schedule(owner, value) for value in values)


ScheduleLike: TypeAlias = Annotated[Any, Convert(_as_schedule)]
"""An argument that is a schedule; a function becomes one, and a number becomes a constant one."""

ScheduleLikes: TypeAlias = Annotated[Any, Convert(_as_schedules)]


@schedule
def add_schedules(first: ScheduleLike, second: ScheduleLike) -> Any:
    """The sum of two schedules (or of a schedule and a number), ``first + second``; ``+`` does the same.

    Args:
      first: a schedule, a function ``count -> number`` or a number.
      second: likewise.

    >>> (constant_schedule(0.25) + 0.5)(5)
    Array(0.75, dtype=float32)
    """
    return lambda count: first(count) + second(count)


@schedule
def multiply_schedules(first: ScheduleLike, second: ScheduleLike) -> Any:
    """The product of two schedules (or of a schedule and a number), ``first * second``; ``*`` does the same.

    Args:
      first: a schedule, a function ``count -> number`` or a number.
      second: likewise.

    >>> (0.5 * constant_schedule(0.25))(5)
    Array(0.125, dtype=float32)
    """
    return lambda count: first(count) * second(count)


@schedule
def join_schedules(schedules: ScheduleLikes, boundaries: Sequence[Offset]) -> Any:
    """One schedule after the other. ``schedules[i]`` runs from ``boundaries[i-1]`` on and counts from there.

    Args:
      schedules: n schedules.
      boundaries: n - 1 increasing counts at which the next schedule takes over.

    Raises:
      ValueError: the boundaries do not increase, or there is not one fewer of them than of the schedules.

    >>> rate = join_schedules([constant_schedule(1.0), constant_schedule(0.1)], [100])
    >>> rate(99), rate(100)
    (Array(1., dtype=float32), Array(0.1, dtype=float32))
    """
    _checks.require(
        len(boundaries) == len(schedules) - 1,
        lambda: (
            f"join_schedules: {len(schedules)} schedules need {len(schedules) - 1} boundaries; got {len(boundaries)}."
        ),
    )
    _checks.increasing("join_schedules", "boundaries", boundaries)

    def value(count: jax.Array) -> jax.Array:
        result = schedules[0](count)
        for boundary, following in zip(boundaries, schedules[1:], strict=True):
            result = jnp.where(count < boundary, result, following(count - boundary))
        return result

    return value
