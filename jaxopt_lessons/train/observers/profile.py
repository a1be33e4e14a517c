"""``Profile``: what the device does in some steps of a run, recorded by JAX's profiler, and how long they take.

Chunks end before the first and after the last of these steps, and the device is idle at both moments, so nothing else
is in the record. Programs that were not needed before are compiled inside: chunks of a length that had not occurred.
View the directory with ``tensorboard --logdir`` (and the package xprof) or open its ``*.trace.json.gz`` in Perfetto.
"""

import dataclasses
import os
import time
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import jax

from jaxopt_lessons import _checks
from jaxopt_lessons.train.observers.observer import Observer
from jaxopt_lessons.train.run import Run


class Profiled(NamedTuple):
    """What ``Profile`` remembers; ``out.observed["Profile"]``.

    Attributes:
      first: batches consumed where the record begins.
      last: batches consumed where it ends.
      seconds_per_step: of the recorded steps; NaN if they are not over.
      began: when the record began, in seconds of the process's clock; -1 if it is not going on.
    """

    first: int
    last: int
    seconds_per_step: float
    began: float


@dataclasses.dataclass(frozen=True)
class Profile(Observer):
    """Records some steps with ``jax.profiler``.

    Attributes:
      logdir: where the record is written; it is made if it does not exist.
      steps: ``(after, until)``: the record begins after so many steps of this ``fit``, at least 1, so that the first
        one, which is compiled, is not in it, and ends after so many. A run that goes on from a checkpoint counts from
        there, if it had not finished the record.

    >>> import pathlib, tempfile
    >>> logdir = tempfile.mkdtemp()
    >>> step = jl.make_step(lambda w, x: (w - x) ** 2, jl.sgd(0.25))
    >>> profile = Profile(logdir, steps=(2, 4))
    >>> out = jl.fit(step, jl.init_state(0.0, step), jnp.array([2.0]), epochs=6, observers=[profile])
    >>> out.observed["Profile"].seconds_per_step > 0
    True
    >>> any(pathlib.Path(logdir).rglob("*.trace.json.gz"))
    True
    """

    logdir: str | os.PathLike[str]
    steps: tuple[int, int] = (10, 20)
    every = None

    def __post_init__(self) -> None:
        _checks.path("Profile", "logdir", self.logdir)
        steps = self.steps
        if not isinstance(steps, tuple) or len(steps) != 2:
            raise TypeError(f"Profile: steps must be two whole numbers (after, until); got {steps!r}.")
        _checks.whole("Profile", "steps[0]", steps[0], least=1)
        _checks.whole("Profile", "steps[1]", steps[1], least=steps[0] + 1)

    def begin(self, run: Run) -> Profiled:
        _checks.require(
            run.end is None or run.cursor + self.steps[1] <= run.end,
            lambda: f"Profile: steps={self.steps}, but the run has only {(run.end or 0) - run.cursor} steps.",
        )
        return self._planned(run)

    def _planned(self, run: Run) -> Profiled:
        return Profiled(run.cursor + self.steps[0], run.cursor + self.steps[1], float("nan"), -1.0)

    def resume(self, run: Run, memory: Profiled) -> Profiled:
        return memory if memory.seconds_per_step > 0 else self._planned(run)

    def cuts(self, run: Run) -> Sequence[int]:
        return [run.cursor + steps for steps in self.steps]

    def observe(self, run: Run, memory: Profiled) -> Profiled:
        if run.cursor == memory.first:
            jax.profiler.start_trace(str(self.logdir))
            return memory._replace(began=time.perf_counter())
        return self._stopped(run, memory)

    def end(self, run: Run, memory: Profiled) -> Profiled:
        if run.error is None and run.reason is None and not run.resumed and run.cursor < memory.first:
            text = f"Profile: the run had ended before {memory.first} batches; nothing was recorded."
            warnings.warn(text, stacklevel=2)
        return self._stopped(run, memory)

    def _stopped(self, run: Run, memory: Profiled) -> Profiled:
        """Ends the record, if there is one going on."""
        if memory.began < 0:
            return memory
        seconds = time.perf_counter() - memory.began
        jax.profiler.stop_trace()
        steps = run.cursor - memory.first
        return memory._replace(seconds_per_step=seconds / steps if steps else float("nan"), began=-1.0)
