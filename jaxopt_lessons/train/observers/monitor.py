"""What observers that watch one number share: the number itself, and which of two numbers is better.

    val_*           counts where there is a new row: the newest of them
    other columns   count by the mean of their new rows, weighted as in ``History.mean``

Rows of weight 0 are left out, whatever stands there: steps that ``with_guard`` skipped. Where nothing else is new there
is no number, and the observer waits for the next look.
"""

import math
import warnings
from typing import Any, NamedTuple

import numpy as np

from jaxopt_lessons import _checks
from jaxopt_lessons.train.history import History
from jaxopt_lessons.train.run import Run

MODES = ("min", "max")


class Reading(NamedTuple):
    """What a look has found.

    Attributes:
      value: the number; None if there is no new one.
      rows: the rows of the column up to here.
    """

    value: float | None
    rows: int


def check_monitor(owner: str, monitor: Any, mode: str = "min") -> None:
    """Raises unless these are the name of a column, and "min" or "max"."""
    if not isinstance(monitor, str):
        raise TypeError(f"{owner}: monitor must be the name of a column of the history; got {monitor!r}.")
    _checks.one_of(owner, "mode", mode, MODES)


def read(owner: str, run: Run, column: str, rows: int) -> Reading:
    """The number that a column has now, of which ``rows`` rows have been read.

    Raises:
      ValueError: there is no such column, and no validation to come that would make it.
    """
    history = run.history
    if column not in history:
        if not len(history):
            return Reading(None, rows)
        if column.startswith("val_") and not _has_validated(run):
            return Reading(None, rows)
        hint = " fit(val=...) measures those that begin with val_." if column.startswith("val_") else ""
        raise ValueError(
            f"{owner}: monitor={column!r} is no column of the history. There are: {', '.join(history) or 'none'}.{hint}"
        )
    new = slice(rows, len(history[column]))
    return Reading(_value(history, column, new), new.stop)


def warn_if_absent(owner: str, run: Run, column: str) -> None:
    """At the end of a run: says that nothing was ever monitored, where no look could tell that nothing would be."""
    if run.error is None and run.reason is None and len(run.history) and column not in run.history:
        text = f"{owner}: monitor={column!r} was never measured in this run, so nothing was done. fit(val=...) would."
        warnings.warn(text, stacklevel=2)


def _value(history: History, column: str, rows: slice) -> float | None:
    if not np.any(history.weights(column)[rows]):  # no new row, or none that counts
        return None
    return float(history[column][-1] if column.startswith("val_") else history.mean(column, rows))


def _has_validated(run: Run) -> bool:
    """Whether an epoch has ended in this run, after which ``fit`` validates if it does at all."""
    first = next(iter(run.history), None)
    return run.moment.ends_epoch or (first is not None and run.history.epochs(first)[0] < run.epoch)


def worst(mode: str) -> float:
    """The number that every finite one is better than."""
    return np.inf if mode == "min" else -np.inf


def is_better(value: float, best: float, mode: str, min_delta: float = 0.0) -> bool:
    """Whether a number is better than the best one by more than ``min_delta``; what is not finite never is."""
    return math.isfinite(value) and (value < best - min_delta if mode == "min" else value > best + min_delta)
