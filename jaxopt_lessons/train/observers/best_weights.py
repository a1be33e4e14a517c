"""``BestWeights``: the weights of the best look, kept while the run goes on, and put into the state at its end.

What is kept is a copy of the weights to evaluate (``step.eval_params``), and of the model's state where there is one.
Memory: that of the parameters once more, from the beginning of the run on.
"""

import dataclasses
from typing import Any, NamedTuple

from jaxopt_lessons.train import interrupts
from jaxopt_lessons.train.observers import monitor as monitors
from jaxopt_lessons.train.observers.observer import EACH_EPOCH, Every, Observer, check_times
from jaxopt_lessons.train.run import Run
from jaxopt_lessons.train.state import copied
from jaxopt_lessons.types import Params, PyTree


class Best(NamedTuple):
    """What ``BestWeights`` remembers; ``out.observed["BestWeights"]``.

    Attributes:
      params: the weights to evaluate, of the best look; those of the beginning as long as there is none.
      model_state: what the model kept then, or None.
      value: the number that was the best.
      cursor: batches consumed then; -1 if no number was finite.
      rows: rows of the column that have been read.
    """

    params: Params
    model_state: PyTree
    value: float
    cursor: int
    rows: int


@dataclasses.dataclass(frozen=True)
class BestWeights(Observer):
    """Keeps the weights of the best look, and puts them into the state at the end of the run.

    At the end ``out.state.params`` are those weights, and ``model_state`` is that of the same moment; all else in the
    state, the optimizer's above all, is that of the last step. Where the step or the optimizer keeps an average to
    evaluate (``with_ema``, ``schedule_free`` ...), it is the best average that is now in ``params``: evaluate these,
    not ``step.eval_params(out.state)``.

    The state stays that of the last step, so that one can go on with it, after an error (in ``fit_result``) and after
    Ctrl-C or SIGTERM; ``out.observed["BestWeights"].params`` has the best weights there too. So it is in what
    ``Checkpoint`` saves, whenever it does. If no look had a number, or none that is finite, nothing is put anywhere.

    Attributes:
      monitor: a column of the history. ``val_*`` counts where there is a new row, any other column by the mean since
        the last look, which was measured with the weights before each step, not with those that are kept.
      mode: "min" or "max": which number is better.
      every: how often to look. A validation at the end of the run counts, whenever that is.

    >>> step = jl.make_step(lambda w, x: (w - x) ** 2, jl.sgd(0.75))  # jumps from one side of x to the other
    >>> out = jl.fit(
    ...     step,
    ...     jl.init_state(0.0, step),
    ...     jnp.array([1.0]),
    ...     epochs=3,
    ...     val=jnp.array([1.5]),
    ...     observers=[BestWeights()],
    ... )
    >>> out.history["val_loss"].tolist(), float(out.state.params), out.observed["BestWeights"].cursor
    ([0.0, 0.5625, 0.140625], 1.5, 1)
    """

    monitor: str = "val_loss"
    _: dataclasses.KW_ONLY
    mode: str = "min"
    every: Every = EACH_EPOCH

    def __post_init__(self) -> None:
        monitors.check_monitor("BestWeights", self.monitor, self.mode)
        check_times("BestWeights", self)

    def begin(self, run: Run) -> Best:
        return Best(*_weights(run), monitors.worst(self.mode), -1, 0)

    def observe(self, run: Run, memory: Best) -> Best:
        value, rows = monitors.read("BestWeights", run, self.monitor, memory.rows)
        if value is None or not monitors.is_better(value, memory.value, self.mode):
            return memory._replace(rows=rows)
        return Best(*_weights(run), value, run.cursor, rows)

    def end(self, run: Run, memory: Best) -> Best:
        interrupted = run.reason in [signal.name for signal in interrupts.SIGNALS]
        if run.error is not None or interrupted:
            return memory
        monitors.warn_if_absent("BestWeights", run, self.monitor)
        if self.monitor.startswith("val_") and self.monitor in run.history:
            memory = self.observe(run, memory)  # A run may end, and be validated, between two looks.
        if memory.cursor >= 0:
            params, model_state = copied((memory.params, memory.model_state))
            run.state = run.state._replace(params=params, model_state=model_state)
        return memory


def _weights(run: Run) -> tuple[Any, Any]:
    """Copies of the weights to evaluate and of the model's state."""
    evaluated = getattr(run.step, "eval_params", lambda state: state.params)
    return copied((evaluated(run.state), run.state.model_state))
