"""``Rollback``: a run that has gone wrong goes back to its last good state, and on with other data.

    bad look    the number is not finite, or above factor * median of the last good ones; or the state is not finite
    then        state = good state, but for its cursor

The cursor goes on: the batches that did it are not seen again, and all random numbers are new, as they are functions of
the key and the cursor. ``state.step`` counts updates, and comes back with the state, as does all that counts steps: the
optimizer, its schedules, averages.

A loss is measured before its step. So a state is good only if the loss was good in the look *after* it, and two are
kept: the last good one, and the one that the next look will judge. Memory: that of two states.
"""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from jaxopt_lessons import _checks
from jaxopt_lessons.train.guard import is_spoiled
from jaxopt_lessons.train.observers import monitor as monitors
from jaxopt_lessons.train.observers.observer import EACH_100_STEPS, Every, Observer, check_times
from jaxopt_lessons.train.run import Run
from jaxopt_lessons.train.state import TrainState, copied
from jaxopt_lessons.types import Range

_is_spoiled = jax.jit(is_spoiled)


class Rollbacks(NamedTuple):
    """What ``Rollback`` remembers.

    Attributes:
      good: the last good state.
      newest: the state of the last look, if that was not bad; the next one judges it.
      recent: the numbers of the last good looks, the newest last; NaN where there were fewer.
      rows: rows of the column that have been read.
      count: how often the run went back.
      in_a_row: how often since the last good look.
    """

    good: TrainState
    newest: TrainState
    recent: np.ndarray
    rows: int
    count: int
    in_a_row: int


@dataclasses.dataclass(frozen=True)
class Rollback(Observer):
    """Puts the last good state back when the loss explodes or something is not finite; ``observed`` counts it.

    Let it look before ``Checkpoint`` and after those that would stop at the same number; ``EarlyStopping`` with
    ``check_finite`` does. ``with_guard`` leaves out single steps with infinite gradients, without a copy of the state.

    Attributes:
      monitor: a column of the history. ``val_*`` counts where there is a new row, any other column by the mean since
        the last look, weighted as in ``History.mean``.
      factor: how many times the median of the recent numbers is too much, above 1. It is compared where the median is
        above 0; where it is not, as for some likelihoods, what is not finite is bad, and nothing else.
      window: how many good looks the median is over, at least 1; it is taken over fewer until there are as many.
      every: how often to look. A run goes back by one or two times this.
      most: how often in a row, at least 1: then the run ends, with the last good state.

    >>> step = jl.make_step(lambda w, x: x * w**2, jl.sgd(0.25))
    >>> data = jnp.array([1.0, 1.0, 1.0, -1e9, 1.0, 1.0])  # one row is wrong
    >>> out = jl.fit(
    ...     step,
    ...     jl.init_state(1.0, step),
    ...     data,
    ...     epochs=1,
    ...     batch_size=1,
    ...     shuffle=False,
    ...     observers=[Rollback(every=jl.Every(steps=1))],
    ... )
    >>> float(out.state.params), int(out.state.step), int(out.state.cursor), out.observed["Rollback"].count
    (0.0625, 4, 6, 1)
    """

    monitor: str = "loss"
    _: dataclasses.KW_ONLY
    factor: float = 3.0
    window: int = 10
    every: Every = EACH_100_STEPS
    most: int = 3

    def __post_init__(self) -> None:
        monitors.check_monitor("Rollback", self.monitor)
        check_times("Rollback", self)
        _checks.number("Rollback", "factor", self.factor, Range(1, includes_low=False))
        _checks.whole("Rollback", "window", self.window, least=1)
        _checks.whole("Rollback", "most", self.most, least=1)

    def begin(self, run: Run) -> Rollbacks:
        state = copied(run.state)
        return Rollbacks(state, state, np.full(self.window, np.nan), 0, 0, 0)

    def resume(self, run: Run, memory: Rollbacks) -> Rollbacks:
        if memory.in_a_row >= self.most:
            run.stop(self._reason(memory))
        return memory

    def observe(self, run: Run, memory: Rollbacks) -> Rollbacks:
        value, rows = monitors.read("Rollback", run, self.monitor, memory.rows)
        memory = memory._replace(rows=rows)
        explodes = value is not None and self._explodes(value, memory.recent)
        if explodes or _is_spoiled(run.state, memory.newest):
            return self._back(run, memory, memory.good if explodes or value is None else memory.newest)
        if value is None:
            return memory
        recent = np.append(memory.recent[1:], value)
        newest = copied(run.state)
        return memory._replace(good=memory.newest, newest=newest, recent=recent, in_a_row=0)

    def end(self, run: Run, memory: Rollbacks) -> Rollbacks:
        monitors.warn_if_absent("Rollback", run, self.monitor)
        return memory

    def _explodes(self, value: float, recent: np.ndarray) -> bool:
        known = recent[np.isfinite(recent)]
        median = np.median(known) if len(known) else 0.0
        return not np.isfinite(value) or bool(value > self.factor * median > 0)

    def _back(self, run: Run, memory: Rollbacks, good: TrainState) -> Rollbacks:
        run.state = copied(good)._replace(cursor=run.state.cursor)
        memory = memory._replace(good=good, newest=good, count=memory.count + 1, in_a_row=memory.in_a_row + 1)
        if memory.in_a_row >= self.most:
            run.stop(self._reason(memory))
        return memory

    def _reason(self, memory: Rollbacks) -> str:
        times = f"{memory.in_a_row} time{'s' * (memory.in_a_row > 1)} in a row"
        return f"{self.name}: the run went back {times}; the last good state is that of {int(memory.good.step)} updates"
