"""A history as one table: a row for each number of batches consumed, with blanks where a column has no row.

    batches,epoch,learning_rate,loss,weight,val_loss
    1,0,0.001,0.5321,32.0,
    2,0,0.001,0.4989,32.0,0.4711

Numbers are written with the digits that tell them from all others of their dtype, so they come back as they were; NaN
is ``nan`` and infinity ``inf``.
"""

import csv
import io
import os
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

if typing.TYPE_CHECKING:
    from jaxopt_lessons.train.history import History


def header(history: "History") -> str:
    """The first line, with the names of the columns."""
    return _line(["batches", "epoch", *history])


def lines(history: "History", after: int = -1) -> str:
    """The rows of more than ``after`` batches, a line for each."""
    batches = batches_of(history, after)
    columns = [batches.astype(str), *(texts for _, texts in _filled(history, batches, after))]
    return "".join(map(_line, zip(*columns, strict=True)))


def write(path: str | os.PathLike[str], history: "History") -> None:
    """Puts the whole table into a file, complete or not at all."""
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.writing")
    unfinished.write_text(header(history) + lines(history), encoding="utf-8")
    unfinished.replace(path)


def arrays(history: "History") -> Mapping[str, Any]:
    """The columns with as many rows each, "batches" and "epoch" first; NaN where there is a blank."""
    batches = batches_of(history)
    found: dict[str, Any] = {"batches": batches}
    for name, at, values in _placed(history, batches, -1):
        if len(at) == len(batches):
            found[name] = values
        else:
            found[name] = np.full(len(batches), np.nan, np.result_type(values, np.float32))
            found[name][at] = values
    return found


def batches_of(history: "History", after: int = -1) -> np.ndarray:
    """The numbers of batches after which something was measured, above ``after``."""
    steps = [_above(history.steps(name), after) for name in history]
    return np.unique(np.concatenate(steps)) if steps else np.zeros(0, np.int32)


def _placed(history: "History", batches: np.ndarray, after: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """For each column its name, where among the batches its rows are, and the values there."""
    epochs = np.zeros(len(batches), np.int32)
    for name in history:
        epochs[np.searchsorted(batches, _above(history.steps(name), after))] = _last(
            history.epochs(name), history, name, after
        )
    yield "epoch", np.arange(len(batches)), epochs
    for name in history:
        at = np.searchsorted(batches, _above(history.steps(name), after))
        if len(np.unique(at)) < len(at):
            raise ValueError(f"history: {name!r} has two rows for the same number of batches; a table has one.")
        yield name, at, _last(history[name], history, name, after)


def _filled(history: "History", batches: np.ndarray, after: int) -> Iterator[tuple[str, np.ndarray]]:
    for name, at, values in _placed(history, batches, after):
        texts = np.full(len(batches), "", object)
        texts[at] = values.astype(str)
        yield name, texts


def _above(steps: np.ndarray, after: int) -> np.ndarray:
    return steps[np.searchsorted(steps, after, side="right") :]


def _last(values: np.ndarray, history: "History", name: str, after: int) -> np.ndarray:
    return values[len(values) - len(_above(history.steps(name), after)) :]


def _line(cells: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
