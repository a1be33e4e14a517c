"""``HostBatches``: mini-batches of arrays in the host's memory or in a file, under the plan of ``minibatches``.

Batch number ``cursor`` has the same examples, in the same order, as if the data were on the device: the rows are
calculated by the same function, on the CPU for a whole super-batch at once. Only these rows are read, each once, in
the order in which they lie in the file. So a file may be larger than the memory, and a run goes on from any cursor.
"""

import contextlib
import functools
import math
from collections.abc import Generator, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _checks, _data_checks, _leaf
from jaxopt_lessons.train.batches import Batches, Location
from jaxopt_lessons.train.chunks import pieces
from jaxopt_lessons.train.prefetch import Background, prefetched
from jaxopt_lessons.train.super_batches import (
    CHUNK_BYTES,
    DataChunk,
    Put,
    Room,
    narrow_dtype,
    narrowed,
    power_of_two,
)
from jaxopt_lessons.types import PyTree

ROWS_AT_ONCE = 2**22
"""Rows in a super-batch, at most: their numbers are 16 MB, and some more while they are calculated."""


class HostBatches:
    """The batches of a run on host arrays, as super-batches on the device.

    Args:
      batches: what ``minibatches`` made of arrays that it left on the host.
      key: the root key of the run; None if the plan does not shuffle.

    Attributes:
      batches: the plan and the arrays.
      batches_per_epoch: how many batches there are in an epoch; "wrap" may have one less.

    >>> batches = jl.minibatches(jnp.arange(7), 3, on_host=True)
    >>> source = HostBatches(batches, jax.random.key(0))
    >>> with source.chunks(0, lambda cursor, left: min(left, 3 - cursor), jax.device_put) as chunks:
    ...     [(chunk.first, chunk.length, chunk.ends_epoch, chunk.batches.shape) for chunk in chunks]
    [(0, 2, False, (2, 3)), (2, 1, True, (1, 1))]
    """

    def __init__(self, batches: Batches, key: jax.Array | None):
        self.batches = batches
        self.batches_per_epoch = batches.per_epoch
        self._plan = batches.without_data()
        _checks.require(
            key is not None or not batches.shuffle, "HostBatches: a plan that shuffles needs the run's key."
        )
        with on_cpu():
            self._order = None if key is None else self._plan.order(_copied(key))

    def chunks(
        self, cursor: int, room: Room, put: Put, resume: PyTree | None = None, rows: slice | None = None
    ) -> contextlib.AbstractContextManager[Iterator[DataChunk]]:
        """The super-batches of a run, in a ``with`` block; leaving it ends the thread that reads them.

        A super-batch has as many batches as there is room for, if they do not take more than ``CHUNK_BYTES``; a smaller
        batch at the end of an epoch is one of its own.

        Args:
          cursor: the number of the first batch in the run.
          room: how many batches fit from a cursor on; called in the thread.
          put: what brings ``(batches, masks)`` to the device; called in the thread.
          resume: the ``position`` of the chunk before. The cursor says all; they are compared.
          rows: which rows of each batch to read, where every process reads a part; None for all.

        Raises:
          InputError: the position is not that of the cursor.
          ValueError: there are batches of which ``rows`` is not a part.
        """
        if resume is not None:
            _data_checks.cursor_of_position(resume, cursor)
        if rows is not None:
            _data_checks.rows_expected(rows, self.batches.batch_size or self.batches.examples, self.batches.tail)
        return prefetched(functools.partial(self._chunks, cursor, room, put, rows or slice(None)))

    def _chunks(self, cursor: int, room: Room, put: Put, rows: slice, background: Background) -> Generator[DataChunk]:
        batches = self.batches
        while True:
            background.check()
            epoch = batches.epoch_of(cursor)
            end = batches.epoch_start(epoch + 1)
            tail = batches.is_tail(cursor)
            length = self._length(room, cursor, 1 if tail else end - (batches.tail > 0) - cursor, rows)
            if length <= 0:
                return
            found, masks = self._locate(cursor, length, tail)
            found, masks = found[:, rows], None if masks is None else masks[:, rows]
            data = jax.tree_util.tree_map_with_path(functools.partial(_read, found), batches.data)
            first, cursor = cursor, cursor + length
            data, masks = put((data, masks))
            yield DataChunk(first, length, epoch, cursor == end, data, masks, {"cursor": cursor})
            del data, masks

    def _length(self, room: Room, cursor: int, alike: int, rows: slice) -> int:
        """How many batches to take of those of equal size."""
        length = room(cursor, alike)
        if length > alike:
            length = next(pieces(alike, length))
        examples = len(range(self.batches.batch_size or self.batches.examples)[rows])
        size = sum(math.prod(x.shape[1:]) * narrow_dtype(x.dtype).itemsize for x in jax.tree.leaves(self.batches.data))
        most = min(CHUNK_BYTES // max(size, 1), ROWS_AT_ONCE) // examples
        return min(length, power_of_two(most))

    def _locate(self, cursor: int, length: int, tail: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Row numbers ``[length, batch]`` of consecutive batches, and their masks."""
        with on_cpu():
            where = _located(self._plan, self._order, np.int32(cursor), length, tail)
        if where.rows is not None:
            return np.asarray(where.rows), None if where.mask is None else np.asarray(where.mask)
        if where.first is not None:
            size = self.batches.tail if tail else self.batches.batch_size or 0
            return np.asarray(where.first)[:, None] + np.arange(size), None
        return np.broadcast_to(np.arange(self.batches.examples), (length, self.batches.examples)), None


@functools.partial(jax.jit, static_argnames=("length", "tail"))
def _located(plan: Batches, order: jax.Array | None, first: jax.Array, length: int, tail: bool) -> Location:
    numbers = first + jnp.arange(length, dtype=jnp.int32)
    return jax.vmap(lambda number: plan.locate(order, number, tail=tail))(numbers)


def _read(rows: np.ndarray, path: Any, leaf: Any) -> np.ndarray:
    """The rows ``[length, batch]`` of an array or file, each read once and in the order of the file."""
    wanted, inverse = np.unique(rows, return_inverse=True)
    consecutive = wanted[-1] - wanted[0] + 1 == wanted.size
    found = np.asarray(leaf[wanted[0] : wanted[-1] + 1] if consecutive else leaf[wanted])
    return narrowed(path, found)[inverse.reshape(rows.shape)]


def on_cpu() -> contextlib.AbstractContextManager[Any]:
    """Calculates on the CPU inside, where nothing waits for the work of an accelerator; if JAX may use it."""
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:  # JAX_PLATFORMS names others only.
        return contextlib.nullcontext()


def _copied(key: jax.Array) -> jax.Array:
    """A key of the accelerator's memory on the default device."""
    if not _leaf.is_key(key):
        return jnp.asarray(np.asarray(key))
    words = jnp.asarray(np.asarray(jax.random.key_data(key)))
    return jax.random.wrap_key_data(words, impl=jax.random.key_impl(key))
