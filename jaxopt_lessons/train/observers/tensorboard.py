"""``TensorBoard``: the numbers of a run as TensorBoard's event files, while it goes on.

A training column has a point for each look, the mean since the look before; ``val_*`` has one for each row. The
horizontal axis is the number of batches consumed, and tags are the names of the columns.

The files are written by the package ``tensorboard``, without TensorFlow. A run that goes on from a checkpoint begins a
new file, which tells TensorBoard to forget what a killed process had written after that checkpoint.
"""

import dataclasses
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxopt_lessons import _checks
from jaxopt_lessons.train import hosts
from jaxopt_lessons.train.history import History
from jaxopt_lessons.train.observers.observer import EACH_100_STEPS, Every, Observer, check_times
from jaxopt_lessons.train.run import Run


class Events(NamedTuple):
    """What ``TensorBoard`` remembers.

    Attributes:
      file: when its file was begun, in nanoseconds since 1970.
      cursor: batches of the last row of the training columns that was read; -1 for none.
      val_cursor: those of the last row of ``val_*``.
    """

    file: int
    cursor: int
    val_cursor: int


@dataclasses.dataclass(frozen=True)
class TensorBoard(Observer):
    """Writes scalars for TensorBoard (needs tensorboard): ``tensorboard --logdir runs`` shows all runs below ``runs``.

    The axis is the number of batches consumed. A training column has a point for each look, the mean since the one
    before; ``val_*`` has one for each validation. In a run of several processes only the first writes.

    Attributes:
      logdir: the directory of this run, ``"runs/adam-1e-3"`` for instance; it is made if it does not exist.
      every: how often there is a point; what is left is written at the end of the run, after an error too.

    >>> import pathlib, tempfile
    >>> step = jl.make_step(lambda w, x: (w - x) ** 2, jl.sgd(0.25))
    >>> logdir = tempfile.mkdtemp()
    >>> out = jl.fit(step, jl.init_state(0.0, step), jnp.array([2.0]), epochs=2, observers=[TensorBoard(logdir)])
    >>> len(list(pathlib.Path(logdir).glob("events.out.tfevents.*")))
    1
    """

    logdir: str | os.PathLike[str]
    every: Every = EACH_100_STEPS
    needs_state = False

    def __post_init__(self) -> None:
        _checks.path("TensorBoard", "logdir", self.logdir)
        check_times("TensorBoard", self)

    def begin(self, run: Run) -> Events:
        _needed()
        return Events(time.time_ns(), -1, -1)

    def resume(self, run: Run, memory: Events) -> Events:
        memory = memory._replace(file=time.time_ns())
        self._write(memory, [_restart(run.cursor + 1)])
        return memory

    def observe(self, run: Run, memory: Events) -> Events:
        events = [_scalar(*point) for point in _points(run.history, memory)]
        if events:
            self._write(memory, events)
        ends = {True: memory.val_cursor, False: memory.cursor}
        for name in run.history:
            ends[_is_val(name)] = int(run.history.steps(name)[-1])
        return memory._replace(cursor=ends[False], val_cursor=ends[True])

    def end(self, run: Run, memory: Events) -> Events:
        return self.observe(run, memory)

    def _write(self, memory: Events, events: list[Any]) -> None:
        """Appends to the file, which begins by saying what it is."""
        if not hosts.is_main():
            return
        records, messages = _needed()
        seconds, nanoseconds = divmod(memory.file, 10**9)
        # TensorBoard reads the files of a directory in the order of their names.
        path = Path(self.logdir) / f"events.out.tfevents.{seconds}.{nanoseconds:09d}.{socket.gethostname()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            writer = records.RecordWriter(file)
            if file.tell() == 0:
                writer.write(messages.Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
            for event in events:
                writer.write(event.SerializeToString())


def _points(history: History, memory: Events) -> Iterator[tuple[str, int, float]]:
    """Name, batches and number of what is new."""
    for name in history:
        steps = history.steps(name)
        new = slice(int(np.searchsorted(steps, memory.val_cursor if _is_val(name) else memory.cursor, "right")), None)
        if _is_val(name):
            yield from ((name, int(at), float(value)) for at, value in zip(steps[new], history[name][new], strict=True))
        elif np.any(history.weights(name)[new]):
            yield name, int(steps[-1]), history.mean(name, new)


def _is_val(name: str) -> bool:
    return name.startswith("val_")


def _scalar(name: str, batches: int, value: float) -> Any:
    _, messages = _needed()
    event = messages.Event(wall_time=time.time(), step=batches)
    event.summary.value.add(tag=name, simple_value=value)
    return event


def _restart(batches: int) -> Any:
    """What makes TensorBoard forget all events from this number of batches on."""
    _, messages = _needed()
    start = messages.SessionLog(status=messages.SessionLog.START)
    return messages.Event(wall_time=time.time(), step=batches, session_log=start)


def _needed() -> tuple[Any, Any]:
    """The modules of tensorboard that write records and that know what is in them."""
    try:
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer import record_writer
    except ImportError:
        raise ImportError("TensorBoard needs tensorboard: pip install tensorboard") from None
    return record_writer, event_pb2
