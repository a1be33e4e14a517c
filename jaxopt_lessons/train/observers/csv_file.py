"""``CSV``: the history as a file of comma-separated values that grows while the run goes on.

    batches,epoch,learning_rate,loss,weight,val_loss        a row for each step; blank where a column has no row

A look appends whole lines in one write. Where a column is new, as ``val_loss`` is after the first epoch, and where a
run goes on from a checkpoint, the whole file is written anew, beside the old one, whose name it then takes: it has the
rows of the history, and none that a killed process had written after its last checkpoint.
"""

import dataclasses
import os
from pathlib import Path
from typing import NamedTuple

from jaxopt_lessons import _checks
from jaxopt_lessons.train import history_table, hosts
from jaxopt_lessons.train.history import History
from jaxopt_lessons.train.observers.observer import EACH_EPOCH, Every, Observer, check_times
from jaxopt_lessons.train.run import Run


class Written(NamedTuple):
    """What has been written.

    Attributes:
      cursor: the batches of the last row; -1 for none.
      columns: how many columns there are.
      cells: how many numbers are in them.
    """

    cursor: int
    columns: int
    cells: int


@dataclasses.dataclass(frozen=True)
class CSV(Observer):
    """Writes the history to a file; see ``History.to_csv`` for what is in it.

    An older file of this name is replaced at the first look, unless the run goes on from a checkpoint. In a run of
    several processes only the first writes.

    Attributes:
      path: the file; its directory must exist.
      every: how often to write; what is left is written at the end of the run, after an error too.

    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "run.csv"
    >>> step = jl.make_step(lambda w, x: (w - x) ** 2, jl.sgd(0.25))
    >>> out = jl.fit(step, jl.init_state(0.0, step), jnp.array([2.0]), epochs=2, observers=[CSV(file)])
    >>> print(file.read_text())
    batches,epoch,learning_rate,loss,weight
    1,0,0.25,4.0,1.0
    2,1,0.25,1.0,1.0
    <BLANKLINE>
    """

    path: str | os.PathLike[str]
    every: Every = EACH_EPOCH
    needs_state = False

    def __post_init__(self) -> None:
        _checks.path("CSV", "path", self.path)
        check_times("CSV", self)

    def begin(self, run: Run) -> Written:
        directory = Path(self.path).absolute().parent
        if not directory.is_dir():
            raise FileNotFoundError(f"CSV: there is no directory {str(directory)!r}.")
        return Written(-1, 0, 0)

    def resume(self, run: Run, memory: Written) -> Written:
        return self.observe(run, memory._replace(columns=-1))

    def observe(self, run: Run, memory: Written) -> Written:
        new = _size(run.history)
        if new == memory or not hosts.is_main():
            return new
        if new.columns != memory.columns or _cells(run.history, memory.cursor) != memory.cells:
            history_table.write(self.path, run.history)
        else:
            with open(self.path, "ab", buffering=0) as file:
                file.write(history_table.lines(run.history, memory.cursor).encode())
        return new

    def end(self, run: Run, memory: Written) -> Written:
        return self.observe(run, memory)


def _size(history: History) -> Written:
    last = max((int(history.steps(name)[-1]) for name in history), default=-1)
    return Written(last, len(history), _cells(history, last))


def _cells(history: History, cursor: int) -> int:
    """How many numbers there are in the rows up to one."""
    return sum(int((history.steps(name) <= cursor).sum()) for name in history)
