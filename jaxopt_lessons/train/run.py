"""``Run``: a run between two chunks, as its observers see it."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxopt_lessons.train.history import History
from jaxopt_lessons.train.state import TrainState


class Moment(NamedTuple):
    """The end of a chunk.

    Attributes:
      cursor: batches consumed.
      epoch: the epoch of the last of them, counted from 0.
      ends_epoch: whether it was the last of its epoch.
    """

    cursor: int
    epoch: int = 0
    ends_epoch: bool = False


class Snapshot(NamedTuple):
    """What has to be saved for a run to go on exactly.

    Attributes:
      cursor: batches consumed.
      tree: the state, the memories of the observers, and how far the run is.
      about: facts that a run which goes on must share, in types of JSON.
      records: the history.
    """

    cursor: int
    tree: Any
    about: dict[str, Any]
    records: dict[str, np.ndarray]


class Run:
    """A run at the end of a chunk.

    Attributes:
      moment: the end of which chunk.
      end: the cursor at which the run ends; None where the data will tell.
      history: what was measured up to here.
      resumed: whether the run went on from a checkpoint.
      reason: why the run ends; None as long as nobody stopped it.
      error: the exception that ended it; None if there is none.
      all_have_looked: whether no observer has yet to look at this moment, but those that are last.
    """

    __slots__ = (
        "_snapshot",
        "_state",
        "_state_is_there",
        "_step",
        "all_have_looked",
        "end",
        "error",
        "history",
        "moment",
        "reason",
        "resumed",
    )  # What is set to no effect, as run.learning_rate, is an error: set run.step = run.step.replace(...).

    def __init__(self, step: Any, state: TrainState, end: int | None):
        self._step, self._state = step, state
        self._snapshot: Callable[[], Snapshot] | None = None
        self._state_is_there = True
        self.moment = Moment(int(state.cursor))
        self.end = end
        self.history = History()
        self.resumed = False
        self.all_have_looked = True
        self.reason: str | None = None
        self.error: BaseException | None = None

    @property
    def cursor(self) -> int:
        """Batches consumed."""
        return self.moment.cursor

    @property
    def epoch(self) -> int:
        """The epoch of the last batch, counted from 0."""
        return self.moment.epoch

    @property
    def state(self) -> TrainState:
        """The state. The next chunk takes over its buffers: copy what is to stay, by ``jax.tree.map(jnp.copy, ...)``.

        To set it changes the run; structure, shapes and dtypes must be those of the old one.
        """
        self._check_state_is_there()
        return self._state

    @state.setter
    def state(self, state: TrainState) -> None:
        self._check_state_is_there()
        self._state = state

    @property
    def is_whole(self) -> bool:
        """Whether state, history and what the observers remember belong together; after an error they may not."""
        if not self.all_have_looked or any(leaf.is_deleted() for leaf in jax.tree.leaves(self._state)):
            return False
        try:
            return int(self._state.cursor) == self.cursor
        except Exception:  # The program that calculates it has failed.
            return False

    @property
    def step(self) -> Any:
        """The step. To set it changes the run from the next chunk on; other hyperparameters compile nothing."""
        return self._step

    @step.setter
    def step(self, step: Any) -> None:
        self._step = step

    def stop(self, reason: str) -> None:
        """Ends the run here. The first reason counts."""
        if self.reason is None:
            self.reason = reason

    def snapshot(self) -> Snapshot:
        """What has to be saved for the run to go on exactly."""
        self._check_state_is_there()
        if self._snapshot is None:
            raise AttributeError("run.snapshot: the run has not begun.")
        return self._snapshot()

    def saves(self, snapshot: Callable[[], Snapshot]) -> None:
        """Says what ``snapshot`` returns: ``fit`` does, which knows the observers and the data."""
        self._snapshot = snapshot

    @contextlib.contextmanager
    def without_state(self) -> Iterator[None]:
        """Inside, the state is not that of the moment: the device is a chunk ahead."""
        self._state_is_there = False
        try:
            yield
        finally:
            self._state_is_there = True

    def _check_state_is_there(self) -> None:
        if not self._state_is_there:
            raise AttributeError(
                "run.state: this observer says needs_state=False, so it looks when the state has gone on."
            )
