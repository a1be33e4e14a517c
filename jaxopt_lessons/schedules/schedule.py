"""What a schedule is.

A schedule maps the count of updates made so far, ``0, 1, 2, ...``, to a number. It is a value: it prints, compares,
pickles and composes, and its numbers are leaves, so a new peak compiles nothing::

    rate = warmup(100, 1e-3, from_zero=True).then(cosine_decay_schedule(1e-3, 900))
    rate = 0.5 * rate

Write one by decorating a function that returns ``count -> number``::

    @schedule
    def square_root_growth(init_value: NonNegative, steps: Steps):
        def value(count):
            return init_value * jnp.sqrt(1 + count / steps)
        return value

``value`` gets ``count`` as an integer array, at least 0; the result is cast to float32 (float64 under x64). The
arguments arrive as plain numbers or scalars. Whole numbers of steps stay integers, so that ``count < boundary`` is
exact up to 2^31; where time enters a formula, use the ratio ``count / steps``.

A schedule with an end returns ``Timed(value, length)`` instead. Then ``then`` and ``repeat`` know where it ends, and
refuse to cut it off. One that says at which counts it turns, ``Timed(value, length, turns=(warmup_steps,))``, knows its
largest value, ``peak``.
"""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, ParamSpec, TypeAlias

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, _schedule_checks, numerics
from jaxopt_lessons._value import Value, value_factory
from jaxopt_lessons.types import Convert, Number, Range, Scalar, ScheduleFn

P = ParamSpec("P")

_LAST = 2**31 - 1
"""The last count."""


class Timed(NamedTuple):
    """What the function of a schedule with an end or with boundaries returns. Counts may be tracers.

    Attributes:
      value: ``count -> number``.
      length: the number of updates after which it is over and stays as it is; None if it has no end.
      boundary: the last count at which something begins, such as the decay after a warm-up: to stop before it would be
        a mistake.
      rests: whether one without an end stays as it is from ``boundary`` on.
      turns: counts, or arrays of counts, between which it only rises or only falls, as it does before the first of them
        and from the last one on; None if they are not known. Counts at which it does not turn do no harm.
      endless: whether it turns again and again after that. Then the largest and the smallest of all its values are at
        the turns, or at count 0.
    """

    value: Callable[[jax.Array], Any]
    length: Any = None
    boundary: Any = 0
    rests: bool = False
    turns: tuple[Any, ...] | None = None
    endless: bool = False


class Schedule(Value):
    """A function of the count of updates, as a value. Call it: ``schedule(count)``.

    ``Schedule(function)`` makes one of a plain function ``count -> number``, as it prints.
    """

    __slots__ = ()
    __array_ufunc__ = (
        None  # An array of NumPy's leaves the arithmetic to the schedule, entry by entry it makes no sense.
    )

    def __new__(cls, function: ScheduleFn) -> Any:
        return _from_function(function)

    def __call__(self, count: Number) -> jax.Array:
        """The number at ``count`` updates, as float32 (float64 under x64). Counts below 0 are read as 0.

        Args:
          count: whole number of updates made so far, or an array of them (the result has its shape).
        """
        count = _schedule_checks.whole_count(self.name, count)
        return jnp.asarray(self.timed.value(jnp.maximum(count, 0))).astype(numerics.float_dtype())

    @property
    def timed(self) -> Timed:
        """The function without checks, and what is known of its course."""
        return self._make()

    @property
    def length(self) -> Any:
        """After how many updates it is over and stays as it is; None for one without an end, such as a constant."""
        return self.timed.length

    @property
    def peak(self) -> Any:
        """The largest of its values, at whichever count that is; None if it is not known, as for a function.

        It is known of every schedule of this library, also of one with another time, with limits, or after another,
        and of its products and sums with numbers; not of the product or sum of two schedules that both change. Of one
        that grows without a limit it is that at count ``2^31 - 1``, or infinite.

        >>> (2 * jl.warmup_cosine_decay_schedule(0.0, 0.25, warmup_steps=100, decay_steps=900)).peak
        Array(0.5, dtype=float32)
        """
        turns = self.timed.turns
        if turns is None:
            return None
        counts = [min(turn, _LAST) if isinstance(turn, int) else turn for turn in (0, *turns, _LAST)]
        counts = [jnp.ravel(jnp.asarray(count).astype(jnp.int32)) for count in counts]
        return jnp.max(self(jnp.concatenate(counts)))

    def _finish(self, made: Any) -> Timed:
        timed = made if isinstance(made, Timed) else Timed(made)
        _schedule_checks.countable(self.name, timed.boundary if timed.length is None else timed.length)
        return timed if timed.length is None else timed._replace(rests=True)

    def then(self, other: "ScheduleFn | Number", at: Number | None = None) -> "Schedule":
        """This schedule to its end, and from there ``other``, which starts at its own count 0.

        Args:
          other: a schedule, a function ``count -> number`` or a number.
          at: the count at which ``other`` takes over. It may be left out, and must not be another number, where this
            schedule has a length; one without an end runs as long as ``at`` says.

        Raises:
          ValueError: this schedule would be cut off, or has no end and no ``at`` was given.
        """
        return _combinators().then_schedule(self, other, at)

    def hold(self, steps: Number) -> "Schedule":
        """This schedule with its last value held for ``steps`` more updates; makes a constant one that ends."""
        return _combinators().hold_schedule(self, steps)

    def shift(self, steps: Number) -> "Schedule":
        """This schedule begun ``steps`` updates later; until then its first value.

        After a resume at ``count`` updates, ``schedule.shift(count)`` is the schedule anew: a warm restart.
        """
        return _combinators().shift_schedule(self, steps)

    def stretch(self, factor: float) -> "Schedule":
        """The same curve over ``factor`` times as many updates, on straight lines between the counts of this one.

        A jump becomes a ramp of ``factor`` updates; for stairs see ``per_epoch``.

        Args:
          factor: a Python number above 0, below 1 to be faster; taken as a fraction of whole numbers up to 32767.
        """
        return _combinators().stretch_schedule(self, *_combinators().as_fraction(factor))

    def repeat(self, every: Number | None = None, times: Number | None = None) -> "Schedule":
        """This schedule again and again, from its count 0 each time.

        Args:
          every: length of a round in updates: that of the schedule if it has one, and may then be left out.
          times: number of rounds, after which it stays at its last value; None: without an end.
        """
        return _combinators().repeat_schedule(self, every, times)

    def per_epoch(self, steps_per_epoch: Number) -> "Schedule":
        """This schedule, whose counts are epochs, as one that counts updates; it changes from epoch to epoch."""
        return _combinators().per_epoch_schedule(self, steps_per_epoch)

    def clip(self, low: Number | None = None, high: Number | None = None) -> "Schedule":
        """This schedule, limited to ``[low, high]``; None for no limit."""
        return _combinators().clip_schedule(self, low, high)

    def __mul__(self, other: "ScheduleFn | Number") -> "Schedule":
        return _combinators().multiply_schedules(self, other)

    def __add__(self, other: "ScheduleFn | Number") -> "Schedule":
        return _combinators().add_schedules(self, other)

    def __neg__(self) -> "Schedule":
        return -1.0 * self

    def __sub__(self, other: "ScheduleFn | Number") -> "Schedule":
        return self + -1.0 * as_schedule(self.name, "other", other)

    def __rsub__(self, other: "ScheduleFn | Number") -> "Schedule":
        return other + -self

    def __truediv__(self, divisor: Number) -> "Schedule":
        if callable(divisor):
            raise TypeError(f"{self.name}: only a number can divide a schedule; got {divisor!r}.")
        if isinstance(divisor, (int, float)) and divisor == 0:
            raise ValueError(f"{self.name}: cannot be divided by 0.")
        return self * (1 / divisor)

    __rmul__ = __mul__
    __radd__ = __add__


def _combinators() -> Any:
    """The module of the functions behind the methods; it is made of schedules, so it cannot be imported above."""
    from jaxopt_lessons.schedules import combinators

    return combinators


def schedule(body: Callable[P, Callable[[jax.Array], Any] | Timed]) -> Callable[P, Schedule]:
    """Makes a factory of schedules from a function that returns ``count -> number``, or ``Timed(value, length)``.

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
    return Timed(lambda count: jnp.broadcast_to(numerics.as_float(value), jnp.shape(count)), rests=True, turns=())


def as_schedule(owner: str, name: str, value: Any) -> Schedule:
    """``value``, made a schedule if it is a function or a number."""
    if isinstance(value, Schedule):
        return value
    if callable(value):
        return _from_function(value)
    _checks.number(owner, name, value, Range(schedules=True))
    return constant_schedule(value)


def _as_schedules(owner: str, name: str, values: Any) -> tuple[Schedule, ...]:
    if not isinstance(values, (tuple, list)) or not values:
        raise TypeError(f"{owner}: {name} must be a list of one schedule or more; got {values!r}.")
    return tuple(as_schedule(owner, f"{name}[{i}]", value) for i, value in enumerate(values))


ScheduleLike: TypeAlias = Annotated[Any, Convert(as_schedule)]
"""An argument that is a schedule; a function becomes one, and a number becomes a constant one."""

ScheduleLikes: TypeAlias = Annotated[Any, Convert(_as_schedules)]
