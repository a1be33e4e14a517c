"""Arrays on the device as the data of a run: the compiled program cuts its batches itself."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax

from jaxopt_lessons.train.batches import Batches
from jaxopt_lessons.train.chunks import Chunk, Stops, chunks_in_memory, cuts_of_run
from jaxopt_lessons.train.device_plan import DevicePlan
from jaxopt_lessons.train.programs import Compiled
from jaxopt_lessons.train.run_length import Length, Pace, platform_of
from jaxopt_lessons.train.scan import Metrics
from jaxopt_lessons.train.state import TrainState


class InMemory:
    """Arrays on the device, cut into batches by the compiled program."""

    most_pending = 32

    def __init__(self, batches: Batches, plan: DevicePlan | None = None):
        self.batches = batches if plan is None else plan.place_data(batches)
        self.batch_size = batches.batch_size
        self._pace = Pace(1)

    def end(self, cursor: int, length: Length) -> int:
        if length.steps is not None:
            return cursor + length.steps
        epoch = self.batches.epoch_of(cursor)
        return cursor + self.batches.epoch_start(epoch + (length.epochs or 0)) - self.batches.epoch_start(epoch)

    @contextlib.contextmanager
    def chunks(
        self, compiled: Compiled, state: TrainState, length: Length, end: int | None, stops: Stops, at: Any
    ) -> Iterator[Iterator[Chunk]]:
        assert end is not None
        self._pace = length.pace(lambda: compiled.cost(state, *self.batches.shapes()), platform_of(state))
        cursor = int(state.cursor)
        yield chunks_in_memory(self.batches, cursor, cuts_of_run(self.batches, cursor, end, self._pace.longest, stops))

    def run(self, compiled: Compiled, state: TrainState, chunk: Chunk) -> tuple[TrainState, Metrics]:
        return compiled.run_in_memory(state, self.batches, chunk.length, chunk.tail, self._pace.in_loop)

    def about(self) -> dict[str, Any]:
        plan = self.batches
        return {
            "examples": plan.examples,
            "batch_size": plan.batch_size,
            "shuffle": plan.shuffle,
            "remainder": plan.remainder,
            "data": {
                jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}"
                for path, leaf in jax.tree_util.tree_leaves_with_path(plan.data)
            },
        }
