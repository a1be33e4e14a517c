"""Where the batches of a run come from: arrays on the device, or chunks of batches that are brought there.

A source cuts itself into chunks and runs a compiled step over one of them. Two are here: ``InMemory``, of which the
program cuts its batches itself, and ``Brought``, for streams and arrays on disk.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks
from jaxopt_lessons.train.batches import Batches
from jaxopt_lessons.train.chunks import CHUNK_SECONDS, MOST_STEPS, Chunk, chunks_in_memory, cuts_of_epochs
from jaxopt_lessons.train.cost import Cost
from jaxopt_lessons.train.programs import Compiled
from jaxopt_lessons.train.scan import Metrics
from jaxopt_lessons.train.state import TrainState

LOOPS = ("auto", "scan", "steps")


class Length(NamedTuple):
    """How long a run is, and its chunks.

    Attributes:
      epochs: epochs to go through from where the run is; None where ``steps`` is given.
      steps: steps to take.
      chunk_steps: steps in a chunk, at most; None to choose by what a step costs.
      loop: "scan", a loop in the compiled program; "steps", a program of one step; "auto".
    """

    epochs: int | None
    steps: int | None
    chunk_steps: int | None
    loop: str

    def longest(self, cost: Callable[[], Cost], platform: str) -> int:
        """Steps in a chunk, at most."""
        if self.loop == "steps":
            return 1
        if self.chunk_steps is not None and self.loop == "scan":
            return self.chunk_steps
        cost_of_step = cost()
        if self.loop == "auto" and platform == "cpu" and cost_of_step.has_convolution:
            return 1
        if self.chunk_steps is not None:
            return self.chunk_steps
        fitting = int(CHUNK_SECONDS / max(cost_of_step.seconds(platform), 1e-9))
        return min(MOST_STEPS, 1 << (max(fitting, 1).bit_length() - 1))


def length_of(epochs: int | None, steps: int | None, chunk_steps: int | None, loop: str) -> Length:
    """The length of a run from the arguments of ``fit``, checked."""
    _checks.require((epochs is None) != (steps is None), "fit: say either epochs=... or steps=..., and not both.")
    epochs = None if epochs is None else _checks.whole("fit", "epochs", epochs, least=0)
    steps = None if steps is None else _checks.whole("fit", "steps", steps, least=0)
    chunk_steps = None if chunk_steps is None else _checks.whole("fit", "chunk_steps", chunk_steps, least=1)
    _checks.one_of("fit", "loop", loop, LOOPS)
    return Length(epochs, steps, chunk_steps, loop)


class Source(Protocol):
    """Where the batches of a run come from."""

    def end(self, cursor: int, length: Length) -> int | None:
        """The cursor at which a run ends that begins at ``cursor``; None where the data will tell."""

    def chunks(
        self, compiled: Compiled, state: TrainState, length: Length, end: int | None, multiples: Sequence[int], at: Any
    ) -> AbstractContextManager[Iterator[Any]]:
        """The chunks of a run from the state on; ``at`` is the position of the chunk before, None for none."""
        ...

    def run(self, compiled: Compiled, state: TrainState, chunk: Any) -> tuple[TrainState, Metrics]:
        """Starts the steps of a chunk."""
        ...

    def about(self) -> dict[str, Any]:
        """Facts about the data that a run which goes on must share."""
        ...


class InMemory:
    """Arrays on the device, cut into batches by the compiled program."""

    def __init__(self, batches: Batches):
        self.batches = batches

    def end(self, cursor: int, length: Length) -> int:
        if length.steps is not None:
            return cursor + length.steps
        epoch = self.batches.epoch_of(cursor)
        return cursor + self.batches.epoch_start(epoch + (length.epochs or 0)) - self.batches.epoch_start(epoch)

    @contextlib.contextmanager
    def chunks(
        self, compiled: Compiled, state: TrainState, length: Length, end: int | None, multiples: Sequence[int], at: Any
    ) -> Iterator[Iterator[Chunk]]:
        assert end is not None
        limit = length.longest(lambda: self._cost(compiled, state), _platform(state))
        yield chunks_in_memory(self.batches, int(state.cursor), cuts_of_epochs(self.batches, end, limit, multiples))

    def run(self, compiled: Compiled, state: TrainState, chunk: Chunk) -> tuple[TrainState, Metrics]:
        return compiled.run_in_memory(state, self.batches, chunk.length, chunk.tail)

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

    def _cost(self, compiled: Compiled, state: TrainState) -> Cost:
        def first(batches: Batches, key: jax.Array) -> Any:
            return batches.load(batches.locate(batches.order(key), jnp.int32(0), tail=tail), tail=tail)

        tail = not self.batches.full
        return compiled.cost(state, *jax.eval_shape(first, self.batches, state.key))


def _platform(state: TrainState) -> str:
    """The platform of the devices that hold the state."""
    return next(iter(state.cursor.devices())).platform
