"""Batches that are brought to the device as the data of a run, while it works on the ones before."""

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks
from jaxopt_lessons.train.chunks import MOST_STEPS, Cuts, Stops
from jaxopt_lessons.train.cost import Cost
from jaxopt_lessons.train.device_plan import DevicePlan
from jaxopt_lessons.train.host_batches import HostBatches
from jaxopt_lessons.train.in_memory import InMemory
from jaxopt_lessons.train.programs import Compiled
from jaxopt_lessons.train.run_length import MOST_BATCHES, Length, Pace, platform_of
from jaxopt_lessons.train.scan import Metrics
from jaxopt_lessons.train.state import TrainState
from jaxopt_lessons.train.stream import Stream
from jaxopt_lessons.train.super_batches import DataChunk
from jaxopt_lessons.types import PyTree

VALIDATED_AT_ONCE = 1024
"""Examples in a batch of validation, where no size was said."""


class Brought:
    """Batches that a thread brings to the device: a ``Stream``, or arrays in the host's memory or in a file."""

    most_pending = 2  # Each of them has its batches on the device.

    def __init__(self, data: Stream | HostBatches, plan: DevicePlan | None = None):
        self.data, self._plan = data, plan
        self._pace = Pace(1)
        if plan is not None and isinstance(data, HostBatches):
            plan.check_batch_size(data.batches.batch_size or data.batches.examples)
        self.batch_size = data.batches.batch_size if isinstance(data, HostBatches) else VALIDATED_AT_ONCE

    def end(self, cursor: int, length: Length) -> int | None:
        if length.steps is not None:
            return cursor + length.steps
        if isinstance(self.data, HostBatches):
            return InMemory(self.data.batches).end(cursor, length)
        _checks.require(
            length.epochs == 1 or not self.data.is_iterator,
            lambda: (
                f"fit: an iterator is read once, not {length.epochs} times; say epochs=1 or steps, or give an iterable."
            ),
        )
        per_epoch = self.data.batches_per_epoch
        return None if per_epoch is None else cursor + (length.epochs or 0) * per_epoch

    @contextlib.contextmanager
    def chunks(
        self, compiled: Compiled, state: TrainState, length: Length, end: int | None, stops: Stops, at: Any
    ) -> Iterator[Iterator[DataChunk]]:
        if end is None and _is_done(length, at):  # Before the data is opened for an epoch that is not asked for.
            yield iter(())
            return
        cuts = _CutsToCome(int(state.cursor), self.data.batches_per_epoch, MOST_BATCHES if end is None else end, stops)
        device, platform = next(iter(state.cursor.devices())), platform_of(state)

        def put(tree: PyTree) -> PyTree:
            if self._plan is not None:
                return self._put_on_devices(self._plan, tree)
            with jax.default_device(device):  # That of this thread; what is put there may go on to others.
                return jax.tree.map(jnp.asarray, tree)

        def limited() -> Iterator[DataChunk]:
            first_epoch = None if at is None else at["first_epoch"]
            for chunk in chunks:
                if not cuts.are_known:
                    self._pace = length.pace(functools.partial(_cost_of_one, compiled, state, chunk), platform)
                    cuts.come(self._pace.longest)
                first_epoch = chunk.epoch if first_epoch is None else first_epoch
                if end is None and length.epochs is not None and chunk.epoch - first_epoch >= length.epochs:
                    return  # Data that keeps its own state goes on from the end of the last epoch.
                yield chunk._replace(position={"data": chunk.position, "first_epoch": first_epoch})
                done = chunk.epoch + chunk.ends_epoch - first_epoch
                if end is None and length.epochs is not None and done >= length.epochs:
                    return

        with contextlib.ExitStack() as stack:
            stack.callback(cuts.cancel)
            resume = None if at is None else at["data"]
            rows = {} if self._rows() is None else {"rows": self._rows()}
            chunks = stack.enter_context(self.data.chunks(int(state.cursor), cuts.room, put, resume, **rows))
            stack.callback(cuts.cancel)  # Before the thread is waited for, which may be waiting for the cuts.
            yield limited()

    def run(self, compiled: Compiled, state: TrainState, chunk: DataChunk) -> tuple[TrainState, Metrics]:
        return compiled.run_given(state, chunk.batches, chunk.masks, self._pace.in_loop)

    def _rows(self) -> slice | None:
        """Which rows of each batch this process reads of arrays that all processes can read; None for all."""
        if self._plan is None or not isinstance(self.data, HostBatches) or self.data.batches.tail:
            return None
        return self._plan.rows(self.data.batches.batch_size or self.data.batches.examples)

    def _put_on_devices(self, plan: DevicePlan, tree: PyTree) -> PyTree:
        """Batches ``[length, rows, ...]`` on the devices of all processes. A process has its rows of them; of arrays
        with a smaller last batch it has read all, as that one may have to be whole on each device."""
        size = jax.tree.leaves(tree)[0].shape[1]
        if isinstance(self.data, Stream):
            return plan.put_batch(tree, size * jax.process_count())
        if self._rows() is not None:
            return plan.put_batch(tree, self.data.batches.batch_size or self.data.batches.examples)
        rows = plan.rows(size)
        return plan.put_batch(jax.tree.map(lambda x: x[:, rows], tree), size)

    def about(self) -> dict[str, Any]:
        if isinstance(self.data, HostBatches):
            return InMemory(self.data.batches).about()
        return {"data": f"a stream of {self.data.batches_per_epoch or 'unknown'} batches an epoch"}


def _is_done(length: Length, at: Any) -> bool:
    """Whether all epochs of a stream are behind it at a position, whose end no cursor tells."""
    return length.epochs is not None and (0 if at is None else at["data"]["epoch"] - at["first_epoch"]) >= length.epochs


def _cost_of_one(compiled: Compiled, state: TrainState, chunk: DataChunk) -> Cost:
    """The cost of a step on one of the batches of a chunk."""
    batch, mask = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), (chunk.batches, chunk.masks))
    return compiled.cost(state, batch, mask)


class _CutsToCome:
    """Cuts of chunks that are known after the first chunk, when it is known what a step costs.

    The first two chunks have one step each. The thread that reads the data asks here, and waits for the answer.
    """

    def __init__(self, first: int, per_epoch: int | None, end: int, stops: Stops):
        self._first = first
        self._limits = [*stops.multiples, *([] if per_epoch is None else [per_epoch])]
        self._cuts = Cuts(1, end, stops)
        self._known = threading.Event()

    @property
    def are_known(self) -> bool:
        return self._known.is_set()

    def come(self, longest: int) -> None:
        self._cuts = self._cuts._replace(longest=min(longest, *self._limits, MOST_STEPS))
        self._known.set()

    def cancel(self) -> None:
        """Lets who waits go on."""
        self._known.set()

    def room(self, cursor: int, left: int | None) -> int:
        if cursor <= self._first + 1:
            return self._cuts._replace(longest=1).room(cursor, left)
        self._known.wait()
        return self._cuts.room(cursor, left)
