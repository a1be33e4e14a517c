"""Checks of schedules: how many updates they take, at which count they are asked, and what they return.

``owner`` is the function that raises. Numbers that are not known yet, tracers and stacks of them, are let through.
"""

from collections.abc import Callable
from typing import Any, NoReturn

import jax
import numpy as np
from jax.core import Tracer

from jaxopt_lessons import _checks
from jaxopt_lessons._errors import InputError, describe


def known(value: Any) -> int | None:
    """A whole number where it is known: neither a tracer nor a stack of numbers."""
    return None if isinstance(value, Tracer) or np.ndim(value) else int(value)


def countable(owner: str, steps: Any) -> None:
    """Raises if a schedule takes more updates than a counter can count; unknown numbers are let through."""
    if (known(steps) or 0) > np.iinfo(np.int32).max:
        raise ValueError(f"{owner}: takes {steps} updates; counters go up to 2^31 - 1.")


def shows_all(owner: str, name: str, boundary: Any, steps: Any) -> None:
    """Raises if a schedule that runs for ``steps`` updates changes later than that; unknown numbers are let through."""
    last, steps = known(boundary), known(steps)
    if last is not None and steps is not None and last > steps:
        raise ValueError(f"{owner}: {name} runs for {steps} updates, and would never reach its boundary at {last}.")


def runs_to_its_end(owner: str, name: str, length: Any, steps: Any) -> None:
    """Raises if a schedule of a known length is given another number of updates; unknown numbers are let through."""
    length, steps = known(length), known(steps)
    if length is None or steps is None or length == steps:
        return
    problem = f"{owner}: {name} takes {length} updates, not {steps}"
    if steps < length:
        raise ValueError(f"{problem}: its last {length - steps} would be cut off. join_schedules does so.")
    raise ValueError(f"{problem}. Write .hold({steps - length}) to stay at its last value for {steps - length} more.")


def no_end(owner: str, name: str, remedy: str) -> NoReturn:
    raise ValueError(f"{owner}: {name} has no end of its own; {remedy}.")


def whole_count(owner: str, count: Any) -> jax.Array:
    """``count`` as an array of signed integers, so that differences are right; raises for other numbers.

    One that JAX would wrap around, as it does with integers of 64 bits, is the last count, or the first.
    """
    if isinstance(count, (int, np.integer)) and not isinstance(count, bool):
        largest = np.iinfo(jax.numpy.result_type(int)).max
        count = min(max(int(count), -largest), largest)
    number = isinstance(count, (int, float, np.ndarray, np.generic, jax.Array, Tracer))
    if not number or not jax.numpy.issubdtype(jax.numpy.result_type(count), np.integer):
        raise TypeError(f"{owner}: count must be a whole number of updates, an integer; got {describe(count)}.")
    count = jax.numpy.asarray(count)
    if count.dtype == np.int64:
        return count
    if count.dtype in (np.uint32, np.uint64):
        count = jax.numpy.minimum(count, np.asarray(np.iinfo(np.int32).max, count.dtype))
    return count.astype(np.int32)


def scheduled(name: str, schedule: Callable[[Any], Any], count: Any) -> Any:
    """What a schedule returns at ``count``; raises unless it is one real number: a model can be called too."""
    try:
        value = schedule(count)
    except (InputError, jax.errors.JAXTypeError):
        raise
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name} is called as a schedule, with the number of updates that were made, and raised "
            f"{type(error).__name__}: {error}. It is {schedule!r}."
        ) from error
    if not _checks.is_real_number(value):
        raise InputError(
            f"{name} is called as a schedule, and must return one real number; got {describe(value)}. It is "
            f"{schedule!r}."
        )
    return value


class UnknownCountError(ValueError):
    """A schedule whose count cannot be found in a state."""


def schedule_without_count(name: str) -> NoReturn:
    raise UnknownCountError(
        f"hyperparams: {name} is a schedule, and no part of the state tells at which count it is. A wrapper of your "
        "own must say where the states of the transformations inside are: return Functions(init, update, parts)."
    )
