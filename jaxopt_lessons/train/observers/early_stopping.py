"""``EarlyStopping``: ends a run that has stopped improving, or has gone wrong.

    look with a number:  is it better than the best by more than min_delta?   yes: best = it, looks = 0
                                                                              no:  looks = looks + 1
    the run ends         where looks = patience, or where the number is not finite, or beyond divergence

The run ends at the moment of that look, with the state of the last step; ``BestWeights`` gives those of the best look.
"""

import dataclasses
import math
from typing import NamedTuple

from jaxopt_lessons import _checks
from jaxopt_lessons.train.observers import monitor as monitors
from jaxopt_lessons.train.observers.observer import EACH_EPOCH, Every, Observer, check_times
from jaxopt_lessons.train.run import Run
from jaxopt_lessons.types import Range


class Improvement(NamedTuple):
    """What ``EarlyStopping`` remembers.

    Attributes:
      rows: rows of the column that have been read.
      value: the number of the last look that had one.
      cursor: batches consumed then; -1 if there was none.
      best: the best number.
      best_cursor: batches consumed when it was measured; -1 if no number was finite.
      looks: how many looks with a number there were since.
    """

    rows: int
    value: float
    cursor: int
    best: float
    best_cursor: int
    looks: int


@dataclasses.dataclass(frozen=True)
class EarlyStopping(Observer):
    """Stops when a number has not improved for ``patience`` looks. ``out.reason`` tells why a run ended.

    A run that goes on from a checkpoint (``fit(resume=True)``) stops again before its first step where its patience is
    at an end; with more patience it goes on.

    Attributes:
      monitor: a column of the history. ``val_*`` counts where there is a new row, any other column by the mean since
        the last look, weighted as in ``History.mean``.
      patience: looks with a number, in a row, that may go by without an improvement; the last of them ends the run.
      min_delta: an improvement is one by more than this, at least 0, in the unit of the column.
      mode: "min" or "max": which number is better.
      every: how often to look.
      check_finite: stop at once at a number that is infinite or NaN; else it is one that has not improved.
      divergence: stop at once at a number above this one (below it if mode is "max"); None for no limit.

    >>> step = jl.make_step(lambda w, x: (w - x) ** 2, jl.sgd(0.5))  # arrives at x in one step
    >>> out = jl.fit(
    ...     step,
    ...     jl.init_state(0.0, step),
    ...     jnp.array([3.0]),
    ...     epochs=100,
    ...     observers=[EarlyStopping("loss", patience=3)],
    ... )
    >>> out.reason
    'EarlyStopping: loss has not improved on 0 in 3 looks; the best was after 2 batches'
    >>> int(out.state.step)
    5
    """

    monitor: str = "val_loss"
    patience: int = 5
    _: dataclasses.KW_ONLY
    min_delta: float = 0.0
    mode: str = "min"
    every: Every = EACH_EPOCH
    check_finite: bool = True
    divergence: float | None = None

    def __post_init__(self) -> None:
        monitors.check_monitor("EarlyStopping", self.monitor, self.mode)
        check_times("EarlyStopping", self)
        _checks.whole("EarlyStopping", "patience", self.patience, least=1)
        _checks.number("EarlyStopping", "min_delta", self.min_delta, Range(0))
        _checks.flag("EarlyStopping", "check_finite", self.check_finite)
        if self.divergence is not None:
            _checks.number("EarlyStopping", "divergence", self.divergence, Range())

    def begin(self, run: Run) -> Improvement:
        return Improvement(0, 0.0, -1, monitors.worst(self.mode), -1, 0)

    def resume(self, run: Run, memory: Improvement) -> Improvement:
        self._judge(run, memory)
        return memory

    def observe(self, run: Run, memory: Improvement) -> Improvement:
        value, rows = monitors.read("EarlyStopping", run, self.monitor, memory.rows)
        memory = memory._replace(rows=rows)
        if value is None:
            return memory
        memory = memory._replace(value=value, cursor=run.cursor)
        if monitors.is_better(value, memory.best, self.mode, self.min_delta):
            memory = memory._replace(best=value, best_cursor=run.cursor, looks=0)
        else:
            memory = memory._replace(looks=memory.looks + 1)
        self._judge(run, memory)
        return memory

    def end(self, run: Run, memory: Improvement) -> Improvement:
        monitors.warn_if_absent("EarlyStopping", run, self.monitor)
        return memory

    def _judge(self, run: Run, memory: Improvement) -> None:
        problem = self._problem(memory)
        if problem is not None:
            run.stop(f"{self.name}: {self.monitor} {problem}")

    def _problem(self, memory: Improvement) -> str | None:
        """Why the run has to end, from what is remembered alone: a run that goes on ends for the same reason."""
        now = f"was {memory.value:.6g} after {memory.cursor} batches"
        if memory.cursor < 0:
            return None
        if self.check_finite and not math.isfinite(memory.value):
            return now
        if self.divergence is not None and monitors.is_better(self.divergence, memory.value, self.mode):
            return f"{now}, beyond divergence={self.divergence:.6g}"
        if memory.looks < self.patience:
            return None
        looks = f"in {memory.looks} look{'s' * (memory.looks > 1)}"
        if memory.best_cursor < 0:
            return f"has not been a finite number {looks}"
        margin = f" by more than {self.min_delta:g}" if self.min_delta else ""
        best = f"the best was after {memory.best_cursor} batches"
        return f"has not improved on {memory.best:.6g}{margin} {looks}; {best}"
