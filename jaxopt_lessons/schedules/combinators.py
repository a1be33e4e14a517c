"""Schedules made of schedules: one after the other, their sums, and other ways to read the time.

    a.then(b)               then_schedule(a, b)             b from the end of a on
    a.hold(n)               hold_schedule(a, n)             its last value for n more updates
    a + b, a - b, -a        add_schedules(a, b)             a(t) + b(t)
    a * b, a / 2            multiply_schedules(a, b)        a(t) * b(t)
    a.clip(low, high)       clip_schedule(a, low, high)     min(max(a(t), low), high)
    a.shift(n)              shift_schedule(a, n)            a(max(t - n, 0))
    a.stretch(3 / 2)        stretch_schedule(a, 3, 2)       a(t * 2 / 3)
    a.repeat()              repeat_schedule(a)              a(t mod length)
    a.per_epoch(n)          per_epoch_schedule(a, n)        a(floor(t / n))

A schedule with a length (``linear_schedule`` and others that arrive somewhere) must run to its end before another
takes over, and no later. One without (a constant, ``exponential_decay``, a function) runs as long as it is told, but
not so short that one of its own boundaries is never reached. ``join_schedules``, optax's, is less strict.
"""

import fractions
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, _schedule_checks, numerics
from jaxopt_lessons.schedules.schedule import ScheduleLike, ScheduleLikes, Timed, schedule
from jaxopt_lessons.types import Offset, Scalar, Steps

_LARGEST_TERM = 2**15 - 1
"""Of a fraction of time: so its products with remainders stay below 2^31."""


# ---------------------------------------------------------------------------------------------------------------------
# One after the other
# ---------------------------------------------------------------------------------------------------------------------


def _in_a_row(value: Callable[[jax.Array], Any], pieces: Sequence[Timed], starts: Sequence[Any]) -> Timed:
    """``value``, made of pieces that begin at ``starts``."""
    start, last = starts[-1], pieces[-1]
    length = None if last.length is None else start + last.length
    turns: list[Any] | None = []
    for piece, begin, end in zip(pieces, starts, (*starts[1:], None), strict=True):
        known = piece.turns if end is None else _turns_before(piece, end - begin)
        turns = None if turns is None or known is None else [*turns, begin, *(begin + turn for turn in known)]
    return Timed(
        value, length, start + last.boundary, last.rests, None if turns is None else tuple(turns), last.endless
    )


def _turns_before(timed: Timed, end: Any) -> tuple[Any, ...] | None:
    """Where the beginning ``[0, end)`` of a schedule turns, with the last count of it; None if that is not known.

    What turns without an end could be cut off anywhere between its turns. Turns past the end do no harm.
    """
    if timed.turns is None or (timed.endless and timed.length is None):
        return None
    return (*timed.turns, end - 1)


@schedule
def join_schedules(schedules: ScheduleLikes, boundaries: Sequence[Offset]) -> Any:
    """One schedule after the other. ``schedules[i]`` runs from ``boundaries[i-1]`` on and counts from there.

    A schedule may be cut off before its end, or stay at its last value until the next one begins; ``then`` wants that
    to be said.

    Args:
      schedules: n schedules.
      boundaries: n - 1 increasing counts at which the next schedule takes over.

    Raises:
      ValueError: the boundaries do not increase, there is not one fewer of them than of the schedules, or a schedule
        ends before one of its own boundaries.

    >>> rate = jl.join_schedules([jl.constant_schedule(1.0), jl.constant_schedule(0.1)], [100])
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
    starts = (0, *boundaries)
    for piece, start, end in zip(schedules[:-1], starts[:-1], boundaries, strict=True):
        _schedule_checks.shows_all("join_schedules", piece.name, piece.timed.boundary, end - start)

    def value(count: jax.Array) -> jax.Array:
        result = schedules[0](count)
        for boundary, following in zip(boundaries, schedules[1:], strict=True):
            result = jnp.where(count < boundary, result, following(count - boundary))
        return result

    return _in_a_row(value, [piece.timed for piece in schedules], starts)


@schedule
def then_schedule(first: ScheduleLike, second: ScheduleLike, at: Offset | None = None) -> Any:
    """``first`` to its end, and from there ``second``, which starts at its own count 0; ``first.then(second)``.

    Args:
      first: a schedule, a function ``count -> number`` or a number.
      second: likewise.
      at: the count at which ``second`` takes over: the length of ``first``, if it has one. None: that length, also
        after ``replace`` has changed it.

    Raises:
      ValueError: ``first`` has a length and ``at`` is another number, or one of its boundaries comes later than
        ``at``, or it has no end and ``at`` is None.

    >>> jl.linear_schedule(0.0, 1.0, 2).then(0.25)(jnp.arange(4))
    Array([0.  , 0.5 , 0.25, 0.25], dtype=float32)
    """
    start = first.length if at is None else at
    if start is None:
        _schedule_checks.no_end("then_schedule", first.name, "say with at= when the next schedule takes over")
    if first.length is None:
        _schedule_checks.shows_all("then_schedule", first.name, first.timed.boundary, start)
    else:
        _schedule_checks.runs_to_its_end("then_schedule", first.name, first.length, start)

    def value(count: jax.Array) -> jax.Array:
        return jnp.where(count < start, first(count), second(count - start))

    return _in_a_row(value, [first.timed, second.timed], (0, start))


@schedule
def hold_schedule(inner: ScheduleLike, steps: Offset) -> Any:
    """A schedule that stays at its last value for some updates before it is over; ``inner.hold(steps)``.

    Args:
      inner: a schedule that comes to rest: one with a length, or a constant, or constant pieces.
      steps: for how many more updates, from its end or its last boundary on.

    Raises:
      ValueError: ``inner`` never comes to rest.

    >>> jl.constant_schedule(1.0).hold(2).then(jl.linear_schedule(1.0, 0.0, 2))(jnp.arange(5))
    Array([1. , 1. , 1. , 0.5, 0. ], dtype=float32)
    """
    timed = inner.timed
    if not timed.rests:
        _schedule_checks.no_end("hold_schedule", inner.name, "there is no last value to hold")
    end = timed.boundary if timed.length is None else timed.length
    return timed._replace(value=inner, length=end + steps)


# ---------------------------------------------------------------------------------------------------------------------
# Both at once
# ---------------------------------------------------------------------------------------------------------------------


def _at_once(value: Callable[[jax.Array], Any], first: Timed, second: Timed) -> Timed:
    """``value``, made of two schedules: over when both are, if both come to rest and one of them has an end."""
    boundary = _larger(first.boundary, second.boundary)
    for timed in (first, second):
        boundary = boundary if timed.length is None else _larger(boundary, timed.length)
    rests = first.rests and second.rests
    turns = second.turns if _is_constant(first) else first.turns if _is_constant(second) else None
    endless = first.endless or second.endless
    if not rests or first.length is second.length is None:
        return Timed(value, None, boundary, rests, turns, endless)
    return Timed(value, boundary, _larger(first.boundary, second.boundary), turns=turns, endless=endless)


def _is_constant(timed: Timed) -> bool:
    return timed.turns == () and timed.rests and _schedule_checks.known(timed.boundary) == 0 and timed.length is None


def _larger(a: Any, b: Any) -> Any:
    unknown = _schedule_checks.known(a) is None or _schedule_checks.known(b) is None
    return jnp.maximum(a, b) if unknown else max(a, b)


@schedule
def add_schedules(first: ScheduleLike, second: ScheduleLike) -> Any:
    """The sum of two schedules (or of a schedule and a number), ``first + second``; ``+`` does the same.

    Args:
      first: a schedule, a function ``count -> number`` or a number.
      second: likewise.

    >>> (jl.constant_schedule(0.25) + 0.5)(5)
    Array(0.75, dtype=float32)
    """
    return _at_once(lambda count: first(count) + second(count), first.timed, second.timed)


@schedule
def multiply_schedules(first: ScheduleLike, second: ScheduleLike) -> Any:
    """The product of two schedules (or of a schedule and a number), ``first * second``; ``*`` does the same.

    Args:
      first: a schedule, a function ``count -> number`` or a number.
      second: likewise.

    >>> (0.5 * jl.constant_schedule(0.25))(5)
    Array(0.125, dtype=float32)
    """
    return _at_once(lambda count: first(count) * second(count), first.timed, second.timed)


@schedule
def clip_schedule(inner: ScheduleLike, low: Scalar | None = None, high: Scalar | None = None) -> Any:
    """A schedule limited to ``[low, high]``; ``inner.clip(low, high)``.

    Args:
      inner: a schedule, a function ``count -> number`` or a number.
      low: the lower limit, not above ``high``; None for none.
      high: the upper limit; None for none.

    Raises:
      ValueError: there is no limit at all, or the lower one lies above the upper one.

    >>> jl.linear_schedule(1.0, 0.0, 4).clip(low=0.3)(jnp.arange(5))
    Array([1.  , 0.75, 0.5 , 0.3 , 0.3 ], dtype=float32)
    """
    _checks.require(low is not None or high is not None, "clip_schedule: needs low, high or both.")
    if low is not None and high is not None and low is not high:
        _checks.not_above("clip_schedule", "low", low, "high", high)

    def value(count: jax.Array) -> jax.Array:
        result = inner(count)
        result = result if low is None else jnp.maximum(result, low)
        return result if high is None else jnp.minimum(result, high)

    return inner.timed._replace(value=value)


# ---------------------------------------------------------------------------------------------------------------------
# Another time
# ---------------------------------------------------------------------------------------------------------------------


def _retimed(value: Callable[[jax.Array], Any], inner: Timed, when: Callable[[Any], Any]) -> Timed:
    """``value``, which does at count ``when(n)`` what ``inner`` does at n."""
    length = None if inner.length is None else when(inner.length)
    turns = None if inner.turns is None else tuple(map(when, inner.turns))
    return inner._replace(value=value, length=length, boundary=when(inner.boundary), turns=turns)


@schedule
def shift_schedule(inner: ScheduleLike, steps: Offset) -> Any:
    """A schedule begun ``steps`` updates later; until then its first value; ``inner.shift(steps)``.

    A warm restart in the middle of a run, at ``count`` updates: ``inner.shift(count)``.

    Args:
      inner: a schedule, a function ``count -> number`` or a number.
      steps: how many updates later.

    >>> jl.linear_schedule(1.0, 0.0, 2).shift(3)(jnp.arange(6))
    Array([1. , 1. , 1. , 1. , 0.5, 0. ], dtype=float32)
    """
    return _retimed(lambda count: inner(count - steps), inner.timed, lambda n: n + steps)


@schedule
def per_epoch_schedule(inner: ScheduleLike, steps_per_epoch: Steps) -> Any:
    """A schedule whose counts are epochs, as one that counts updates; ``inner.per_epoch(steps_per_epoch)``.

    It changes from epoch to epoch: ``inner(floor(count / steps_per_epoch))``.

    Args:
      inner: a schedule of epochs, a function ``epoch -> number`` or a number.
      steps_per_epoch: updates in an epoch.

    >>> jl.manual_schedule({0: 0.2, 1: 0.1}).per_epoch(steps_per_epoch=3)(jnp.arange(5))
    Array([0.2, 0.2, 0.2, 0.1, 0.1], dtype=float32)
    """
    return _retimed(lambda count: inner(count // steps_per_epoch), inner.timed, lambda n: n * steps_per_epoch)


@schedule
def stretch_schedule(inner: ScheduleLike, to: Steps, per: Steps = 1) -> Any:
    """The same curve over ``to`` updates for every ``per`` of its own; ``inner.stretch(to / per)``.

    Between the counts of ``inner`` it goes on straight lines: a jump becomes a ramp. For stairs see
    ``per_epoch_schedule``.

    Args:
      inner: a schedule, a function ``count -> number`` or a number.
      to: updates of the new schedule, up to 32767,
      per: that take the place of so many of the old one, up to 32767.

    Raises:
      ValueError: ``to`` or ``per`` is above 32767.

    >>> jl.linear_schedule(1.0, 0.0, 2).stretch(2)(jnp.arange(5))
    Array([1.  , 0.75, 0.5 , 0.25, 0.  ], dtype=float32)
    """
    for name, term in (("to", to), ("per", per)):
        known = _schedule_checks.known(term)
        small = known is None or known <= _LARGEST_TERM
        _checks.require(small, f"stretch_schedule: {name} must be at most {_LARGEST_TERM}; got {term}.")

    def value(count: jax.Array) -> jax.Array:
        share = numerics.ratio(count % to * per % to, to)
        below = _times(count, per, to)
        return numerics.toward(inner(below), inner(numerics.increment(below)), share)

    timed, turns = _retimed(value, inner.timed, lambda n: _times(n, to, per, up=True)), inner.timed.turns
    if turns is None or inner.timed.endless:  # Of endless turns, which is the nearest to a count that is read?
        return timed._replace(turns=None)
    return timed._replace(turns=(*(timed.turns or ()), *(_times(n, to, per) for n in turns)))


def _times(n: Any, a: Any, b: Any, up: bool = False) -> Any:
    """``n * a / b`` of whole numbers, rounded down or up, staying below 2^31 where ``n`` is an array."""
    whole, rest = n // b, (n % b * a + (b - 1 if up else 0)) // b
    if isinstance(n, jax.Array):
        largest = jnp.iinfo(n.dtype).max
        return jnp.where(whole > (largest - rest) // a, largest, whole * a + rest)
    return whole * a + rest


def as_fraction(factor: float) -> tuple[int, int]:
    """A number as a fraction of whole numbers that are small enough for ``stretch_schedule``."""
    if isinstance(factor, bool) or not isinstance(factor, numbers.Real) or not 0 < factor < float("inf"):
        raise ValueError(
            f"stretch: factor must be a Python number in (0, inf); got {factor!r}. For one that is known only inside "
            "jit write stretch_schedule(schedule, to, per)."
        )
    if not 1 / _LARGEST_TERM <= factor <= _LARGEST_TERM:
        raise ValueError(f"stretch: factor must be in [1 / {_LARGEST_TERM}, {_LARGEST_TERM}]; got {factor!r}.")
    exact = fractions.Fraction(float(factor))
    if exact < 1:
        return exact.limit_denominator(_LARGEST_TERM).as_integer_ratio()
    return (1 / (1 / exact).limit_denominator(_LARGEST_TERM)).as_integer_ratio()


@schedule
def repeat_schedule(inner: ScheduleLike, every: Steps | None = None, times: Steps | None = None) -> Any:
    """A schedule again and again; ``inner.repeat()``.

    Args:
      inner: a schedule, a function ``count -> number`` or a number.
      every: length of a round in updates: the length of ``inner``, if it has one. None: that length, also after
        ``replace`` has changed it.
      times: number of rounds, after which it stays at the value that ``inner`` ends with; None: without an end.

    Raises:
      ValueError: ``inner`` has a length and ``every`` is another number, or one of its boundaries comes later than
        ``every``, or it has no end and ``every`` is None.

    >>> jl.linear_schedule(1.0, 0.0, 2).repeat(times=2)(jnp.arange(6))
    Array([1. , 0.5, 1. , 0.5, 0. , 0. ], dtype=float32)
    """
    steps = inner.length if every is None else every
    if steps is None:
        _schedule_checks.no_end("repeat_schedule", inner.name, "say with every= how long a round is")
    if inner.length is None:
        _schedule_checks.shows_all("repeat_schedule", inner.name, inner.timed.boundary, steps)
    else:
        _schedule_checks.runs_to_its_end("repeat_schedule", inner.name, inner.length, steps)

    def value(count: jax.Array) -> jax.Array:
        again = inner(count % steps)
        return again if times is None else jnp.where(count // steps < times, again, inner(steps))

    turns = _turns_before(inner.timed, steps)
    if times is None:
        return Timed(value, None, inner.timed.boundary, turns=turns, endless=True)
    turns = None if turns is None else (*turns, steps * times)
    return Timed(value, steps * times, steps * (times - 1) + inner.timed.boundary, turns=turns, endless=True)
