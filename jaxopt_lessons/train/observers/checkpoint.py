"""``Checkpoint``: saves the run to disk from time to time, so that ``fit(resume=True)`` goes on with it.

What is saved is all that the run has: its state, what its observers remember, its history, and where its data is. A
process that is killed at any moment leaves the last complete checkpoint. See ``checkpoint`` for what is on the disk.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxopt_lessons import _checks
from jaxopt_lessons.train import checkpoint
from jaxopt_lessons.train.observers.observer import EACH_EPOCH, Every, Observer
from jaxopt_lessons.train.run import Run


@dataclasses.dataclass(frozen=True)
class Checkpoint(Observer):
    """Saves the run (needs orbax), also at its end, and when it is interrupted or fails.

    Attributes:
      directory: where the checkpoints are; it is made if it does not exist.
      every: how often.
      keep: how many of the newest checkpoints stay; None for all.
    """

    directory: str | os.PathLike[str]
    every: Every = EACH_EPOCH
    keep: int | None = 2
    is_last = True

    def __post_init__(self) -> None:
        if self.keep is not None:
            _checks.whole("Checkpoint", "keep", self.keep, least=1)

    def begin(self, run: Run) -> int:
        return run.cursor

    def resume(self, run: Run, memory: int) -> int:
        return run.cursor

    def observe(self, run: Run, memory: int) -> int:
        saved = run.snapshot()
        checkpoint.save(
            Path(self.directory),
            saved.tree,
            step=saved.cursor,
            about=saved.about,
            records=saved.records,
            keep=self.keep,
        )
        return saved.cursor

    def end(self, run: Run, memory: int) -> int:
        return self.observe(run, memory) if run.cursor != memory and run.is_whole else memory

    def newest(self, like: Any, facts: Mapping[str, Any]) -> "checkpoint.Restored | None":
        """The newest checkpoint, None if there is none.

        Raises:
          InputError: it is of another run: of another optimizer, of other data, of another key.
        """
        step = checkpoint.latest(Path(self.directory))
        return None if step is None else checkpoint.restore(Path(self.directory), like, step=step, about=facts)
