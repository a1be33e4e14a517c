"""``Checkpoint``: saves the run to disk from time to time, so that ``fit(resume=True)`` goes on with it.

What is saved is all that the run has: its state, what its observers remember, its history, and where its data is. It is
copied to the host, and written while the run goes on. A process that is killed at any moment leaves the last complete
checkpoint. See ``train/checkpoint.py`` for what is on the disk.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from jaxopt_lessons import _checks
from jaxopt_lessons.train import checkpoint
from jaxopt_lessons.train.observers.observer import EACH_EPOCH, Every, Observer, check_times
from jaxopt_lessons.train.run import Run

if TYPE_CHECKING:
    from concurrent.futures import Future


class CheckpointMemory(NamedTuple):
    """The cursor that was saved last, and the save that may be under way."""

    cursor: int
    writing: "Future[Any] | None" = None


@dataclasses.dataclass(frozen=True)
class Checkpoint(Observer):
    """Saves the run (needs orbax), also at its end, and when it is interrupted or fails.

    ``fit(..., resume=True)``, with the same arguments and observers, goes on from the newest checkpoint. Without
    ``resume`` the run begins anew, and what it saves takes the place of what is in the directory: give each run its
    own. What is saved is a whole run; it comes back by ``fit`` with ``resume``, not by ``restore``.

    Attributes:
      directory: where the checkpoints are; it is made if it does not exist.
      every: how often.
      keep: how many of the newest checkpoints stay; None for all.

    >>> import tempfile
    >>> step = jl.make_step(lambda w, x: (w - x) ** 2, jl.sgd(0.25))
    >>> state, data = jl.init_state(0.0, step), jnp.array([2.0])
    >>> checkpoint = Checkpoint(tempfile.mkdtemp())
    >>> out = jl.fit(step, state, data, epochs=2, observers=[checkpoint])
    >>> out = jl.fit(step, state, data, epochs=3, observers=[checkpoint], resume=True)
    >>> int(out.state.step), out.history["loss"].tolist()
    (3, [4.0, 1.0, 0.25])
    """

    directory: str | os.PathLike[str]
    every: Every = EACH_EPOCH
    keep: int | None = 2
    is_last = True

    def __post_init__(self) -> None:
        _checks.path("Checkpoint", "directory", self.directory)
        check_times("Checkpoint", self)
        if self.keep is not None:
            _checks.whole("Checkpoint", "keep", self.keep, least=1)

    def begin(self, run: Run) -> CheckpointMemory:
        return CheckpointMemory(run.cursor)

    def resume(self, run: Run, memory: CheckpointMemory) -> CheckpointMemory:
        return CheckpointMemory(run.cursor)

    def observe(self, run: Run, memory: CheckpointMemory) -> CheckpointMemory:
        saved = run.snapshot()
        save = checkpoint.save_in_background if jax.process_count() == 1 else checkpoint.save
        arguments = {"step": saved.cursor, "about": saved.about, "records": saved.records, "keep": self.keep}
        writing = save(self.directory, saved.tree, **arguments)
        return CheckpointMemory(saved.cursor, None if isinstance(writing, os.PathLike) else writing)

    def end(self, run: Run, memory: CheckpointMemory) -> CheckpointMemory:
        if run.cursor != memory.cursor and run.is_whole:
            memory = self.observe(run, memory)
        if memory.writing is not None:
            checkpoint.finish(memory.writing)  # Raises what went wrong in the background.
        return CheckpointMemory(memory.cursor)

    def saved(self) -> int | None:
        """The batches of the newest checkpoint; None if there is none."""
        return checkpoint.latest(self.directory)

    def newest(self, like: Any, facts: Mapping[str, Any]) -> "checkpoint.Restored | None":
        """The newest checkpoint, None if there is none.

        Raises:
          InputError: it is of another run: of another optimizer, of other data, of another key.
        """
        if self.saved() is None:
            return None
        return checkpoint.restore(self.directory, like, about=facts)
