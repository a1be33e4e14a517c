"""The host's part of a run: it starts one chunk after the other, and reads what the ones before have measured.

The device is never asked to wait, but where an observer has to see the state: then the host reads all that is under
way, the observers look, and the next chunk takes over the buffers of the state.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxopt_lessons._errors import InputError
from jaxopt_lessons.train import hosts
from jaxopt_lessons.train.device_plan import DevicePlan
from jaxopt_lessons.train.interrupts import Interrupt
from jaxopt_lessons.train.programs import Compiled
from jaxopt_lessons.train.progress import Progress
from jaxopt_lessons.train.run import Moment, Run
from jaxopt_lessons.train.run_length import MOST_BATCHES, Length
from jaxopt_lessons.train.scan import Metrics
from jaxopt_lessons.train.sources import Source
from jaxopt_lessons.train.state import TrainState, copied
from jaxopt_lessons.train.watch import Due, Watch

PENDING_SECONDS = 0.1
"""After so long metrics are read: to read each chunk of a single step would take longer than some steps."""

Validate = Callable[[Any], dict[str, jax.Array]]


class _Pending(NamedTuple):
    moment: Moment
    due: Due
    steps: int
    metrics: Metrics
    val_metrics: dict[str, jax.Array]


class Loop:
    """Runs the chunks of a source, with observers between them."""

    def __init__(
        self, run: Run, source: Source, watch: Watch, validate: Validate | None, plan: DevicePlan | None = None
    ):
        self._run, self._source, self._watch, self._validate, self._plan = run, source, watch, validate, plan
        self._pending: deque[_Pending] = deque()
        self._read = time.monotonic()
        self.position: Any = None
        self.bar: Progress | None = None
        self.has_begun = False

    def go(self, length: Length, interrupt: Interrupt) -> None:
        """From where the run is to its end, or to where somebody stops it."""
        run = self._run
        if run.reason is not None:  # An observer has stopped it before its first step.
            return
        step, compiled = run.step, Compiled(run.step, self._plan)
        validated = True
        with self._source.chunks(compiled, run.state, length, run.end, self._watch.stops, self.position) as chunks:
            for chunk in chunks:
                self.has_begun = True
                if run.step is not step:
                    step, compiled = run.step, Compiled(run.step, self._plan)
                state, metrics = self._source.run(compiled, run.state, chunk)
                run.state, self.position = state, chunk.position
                moment = Moment(chunk.first + chunk.steps, chunk.epoch, chunk.ends_epoch)
                val_metrics = {}
                validated = self._validate is None or moment.ends_epoch or moment.cursor == run.end
                if self._validate is not None and validated:
                    val_metrics = self._validate(state)
                due = self._watch.due(moment)
                self._pending.append(_Pending(moment, due, chunk.steps, metrics, val_metrics))
                self._let_look(due)
                if interrupt.reason is not None:
                    run.stop(interrupt.reason)
                if hosts.agree(run.reason is not None):
                    run.stop("another process has stopped")
                    break
        self.read_all()
        if run.reason is None:
            self._end_of_data(validated)

    def _end_of_data(self, validated: bool) -> None:
        """Where a stream ends nobody knows before: it may be too early, and it has to be validated yet."""
        run = self._run
        if self._validate is not None and not validated:
            self._note(run.moment, {}, jax.device_get(self._validate(run.state)), 0)
        if run.end is not None and run.cursor < run.end:
            run.stop(f"the data ended {run.end - run.cursor} steps too early")
        if run.end is None and run.cursor == MOST_BATCHES:
            run.stop(f"the largest number of batches, {MOST_BATCHES}, is reached")

    def read_all(self) -> None:
        """Reads what is under way, and waits for it."""
        self._read_chunks(len(self._pending))

    def _let_look(self, due: Due) -> None:
        if due.with_state:
            self.read_all()
            before = self._run.state
            self._watch.look(self._run, due.with_state)
            if self._run.state is not before:
                self._run.state = _taken_over(before, self._run.state)
        elif len(self._pending) > self._source.most_pending or time.monotonic() - self._read > PENDING_SECONDS:
            self._read_chunks(len(self._pending) - 1)

    def _read_chunks(self, count: int) -> None:
        """Moves the metrics of the oldest chunks to the host, waiting for them if need be."""
        chunks = [self._pending.popleft() for _ in range(count)]
        read = jax.device_get([(chunk.metrics, chunk.val_metrics) for chunk in chunks])
        for chunk, (metrics, val_metrics) in zip(chunks, read, strict=True):
            self._note(chunk.moment, metrics, val_metrics, chunk.steps)
            with self._run.without_state():
                self._watch.look(self._run, chunk.due.without_state)
        self._read = time.monotonic()

    def _note(self, moment: Moment, metrics: Any, val_metrics: dict[str, np.ndarray], steps: int) -> None:
        history = self._run.history
        if steps:
            history.append(metrics, moment.cursor + np.arange(1 - steps, 1), moment.epoch)
        if val_metrics:
            history.append(val_metrics, moment.cursor, moment.epoch)
        self._run.moment = moment
        if self.bar is not None:
            latest = {name: float(values[-1]) for name, values in metrics.items()}
            self.bar.advance(steps, moment.epoch, latest | {k: float(v) for k, v in val_metrics.items()})


def _taken_over(before: TrainState, state: TrainState) -> TrainState:
    """A copy of the state that an observer has set: whoever made it may still have it, and buffers are donated.

    Raises:
      InputError: it is not of the same structure, shapes and dtypes, or has another cursor.
    """
    expected, got = (jax.tree.map(lambda x: (x.shape, x.dtype), tree) for tree in (before, state))
    if expected != got or int(before.cursor) != int(state.cursor):
        raise InputError(
            "run.state: an observer has set a state of another structure, shape, dtype or cursor. Change the one that "
            "is there by run.state._replace(...); the data goes on where it is."
        )
    return copied(state)
