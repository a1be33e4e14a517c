"""``ReduceOnPlateau``: a lower learning rate whenever a number has stopped improving.

    look with a number:  better than the best by more than min_delta?   looks = 0, else looks = looks + 1
                         during cooldown                                 looks = 0
    looks = patience     scale = max(factor * scale, min_scale), looks = 0, and the cooldown begins
    rate                 scale * the rate of the step that ``fit`` was given

The rules are PyTorch's, whose ``patience`` is smaller by 1 for the same run (there one more look leads to a reduction)
and whose threshold is ours with ``threshold_mode="abs"``. ``reduce_on_plateau`` is a transformation that judges the
training loss of the steps themselves, in compiled code; this looks from outside, at validation too.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from jaxopt_lessons import _checks
from jaxopt_lessons._value import Value, values_inside
from jaxopt_lessons.schedules.combinators import multiply_schedules
from jaxopt_lessons.schedules.schedule import Schedule
from jaxopt_lessons.train.observers import monitor as monitors
from jaxopt_lessons.train.observers.observer import EACH_EPOCH, Every, Observer, check_times
from jaxopt_lessons.train.run import Run
from jaxopt_lessons.types import Range


class Plateau(NamedTuple):
    """What ``ReduceOnPlateau`` remembers.

    Attributes:
      rows: rows of the column that have been read.
      best: the best number.
      looks: how many looks with a number there were since, or since the last reduction or cooldown.
      cooldown: how many more are not judged.
      scale: the factor so far.
      base: the hyperparameter that it multiplies; 1 where that is a schedule.
    """

    rows: int
    best: float
    looks: int
    cooldown: int
    scale: float
    base: float


@dataclasses.dataclass(frozen=True)
class ReduceOnPlateau(Observer):
    """Multiplies the learning rate by ``factor`` when a number has not improved for ``patience`` looks.

    ``run.step`` gets another learning rate, and nothing compiles again. Where the rate is a schedule it is ``1.0 *
    schedule`` from the beginning of the run on, which is another program than that of a run without this observer. The
    rate is set from that of the beginning: what other observers make of it in between is undone by a reduction.

    Attributes:
      monitor: a column of the history. ``val_*`` counts where there is a new row, any other column by the mean since
        the last look, weighted as in ``History.mean``.
      factor: what the rate is multiplied by, in ``(0, 1)``.
      patience: looks with a number, in a row and without an improvement, that lead to a reduction; at least 1.
      min_delta: an improvement is one by more than this, at least 0, in the unit of the column.
      cooldown: looks after a reduction that are not judged.
      min_scale: the rate falls no further than to this share of what it was, in ``[0, 1]``.
      mode: "min" or "max": which number is better.
      hyperparameter: the argument of the optimizer that is reduced, a number or a schedule. There must be one only of
        that name.
      every: how often to look.

    >>> step = jl.make_step(lambda w, x: (w - x) ** 2, jl.sgd(1.0))  # jumps over x to the other side
    >>> reduce = ReduceOnPlateau("loss", factor=0.5, patience=2)
    >>> out = jl.fit(step, jl.init_state(0.0, step), jnp.array([3.0]), epochs=5, observers=[reduce])
    >>> out.history["learning_rate"].tolist(), float(out.state.params)
    ([1.0, 1.0, 1.0, 0.5, 0.5], 3.0)
    """

    monitor: str = "val_loss"
    factor: float = 0.1
    patience: int = 10
    _: dataclasses.KW_ONLY
    min_delta: float = 0.0
    cooldown: int = 0
    min_scale: float = 0.0
    mode: str = "min"
    hyperparameter: str = "learning_rate"
    every: Every = EACH_EPOCH

    def __post_init__(self) -> None:
        owner = "ReduceOnPlateau"
        monitors.check_monitor(owner, self.monitor, self.mode)
        check_times(owner, self)
        _checks.text(owner, "hyperparameter", self.hyperparameter)
        _checks.number(owner, "factor", self.factor, Range(0, 1, includes_low=False, includes_high=False))
        _checks.whole(owner, "patience", self.patience, least=1)
        _checks.number(owner, "min_delta", self.min_delta, Range(0))
        _checks.whole(owner, "cooldown", self.cooldown, least=0)
        _checks.number(owner, "min_scale", self.min_scale, Range(0, 1))

    def begin(self, run: Run) -> Plateau:
        now = self._current(run)
        if isinstance(now, Schedule) or callable(now):
            run.step = run.step.replace(**{self.hyperparameter: multiply_schedules(1.0, now)})
            now = 1.0
        return Plateau(0, monitors.worst(self.mode), 0, 0, 1.0, float(now))

    def resume(self, run: Run, memory: Plateau) -> Plateau:
        """The scale from before, of the rate that the step has now."""
        now = self._current(run)
        memory = memory._replace(base=1.0 if callable(now) else float(now))
        if memory.scale != 1:
            self._set(run, memory)
        return memory

    def observe(self, run: Run, memory: Plateau) -> Plateau:
        value, rows = monitors.read("ReduceOnPlateau", run, self.monitor, memory.rows)
        memory = memory._replace(rows=rows)
        if value is None:
            return memory
        if monitors.is_better(value, memory.best, self.mode, self.min_delta):
            memory = memory._replace(best=value, looks=0)
        else:
            memory = memory._replace(looks=memory.looks + 1)
        if memory.cooldown:
            memory = memory._replace(cooldown=memory.cooldown - 1, looks=0)
        if memory.looks < self.patience:
            return memory
        scale = max(self.factor * memory.scale, self.min_scale)
        memory = memory._replace(scale=scale, looks=0, cooldown=self.cooldown)
        self._set(run, memory)
        return memory

    def end(self, run: Run, memory: Plateau) -> Plateau:
        monitors.warn_if_absent("ReduceOnPlateau", run, self.monitor)
        return memory

    def _current(self, run: Run) -> Any:
        """The hyperparameter as the step has it now."""
        if not isinstance(run.step, Value):
            raise TypeError(f"ReduceOnPlateau: needs a step that make_step made; got {run.step!r}.")
        found = list(_arguments(run.step, self.hyperparameter))
        if not found and any(True for _ in _arguments(run.step, "init")):
            raise TypeError(
                f"ReduceOnPlateau: the optimizer is a pair of functions, in which no {self.hyperparameter} can be "
                "replaced. Let jl.scale_by_learning_rate make the step: jl.chain(optax.scale_by_adam(), "
                "jl.scale_by_learning_rate(0.1)), for instance."
            )
        if len(found) != 1:
            run.step.replace(**{self.hyperparameter: 1.0})  # It says what is wrong: there is none, or several.
        if found[0] is None:
            raise ValueError(f"ReduceOnPlateau: {self.hyperparameter} is None; there is no number to reduce.")
        return found[0]

    def _set(self, run: Run, memory: Plateau) -> None:
        now = self._current(run)
        # A schedule is the product that ``begin`` made of it.
        new = multiply_schedules(memory.scale, now.arguments["second"]) if callable(now) else memory.scale * memory.base
        run.step = run.step.replace(**{self.hyperparameter: new})


def _arguments(value: Value, name: str) -> Iterator[Any]:
    """The arguments of this name that ``replace`` would change: the outermost."""
    if name in value.arguments:
        yield value.arguments[name]
        return
    for _, part in values_inside(value):
        yield from _arguments(part, name)
