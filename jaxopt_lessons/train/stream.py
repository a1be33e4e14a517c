"""``Stream``: batches that come from an iterable, stacked in the background while the device works.

    an iterable                 a pass over it is an epoch; then there is another pass
    a function ``data(epoch)``  a pass over the iterable that it returns: the order may be a function of the epoch
    an iterator                 one pass, then the run ends

A thread reads, converts, stacks and puts batches on the device, at most two super-batches ahead. Each of them says from
which position the data goes on after it. A run that goes on from there sees the batches that it would have seen, if a
pass over the data is the same each time, or if the data keeps a state of its own (``passes``). An iterable that makes
up another order for each pass is neither, ``torch``'s ``DataLoader(shuffle=True)`` for instance: write a function of
the epoch that gives it a generator with the epoch as its seed, or let it (or its ``sampler``) have ``set_epoch``, which
is called with the number of the epoch before each pass.
"""

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxopt_lessons import _data_checks
from jaxopt_lessons.train.chunks import pieces
from jaxopt_lessons.train.passes import FIELDS, START, Pass
from jaxopt_lessons.train.prefetch import Background, prefetched
from jaxopt_lessons.train.super_batches import DataChunk, Put, Room, Stack
from jaxopt_lessons.types import PyTree

ENDLESS = 2**31
"""A ``len`` from here on means that there is no end: more batches than a cursor can count."""


def is_stream(data: Any) -> bool:
    """Whether data is to be iterated over: neither an array nor a tree of them, as a list or dict of arrays is."""
    if isinstance(data, (str, bytes)) or hasattr(data, "shape") or not jax.tree_util.all_leaves([data]):
        return False
    return callable(data) or hasattr(data, "__iter__") or hasattr(data, "__next__")


class Stream:
    """Batches from outside, as super-batches on the device.

    Args:
      data: an iterable of batches, each a tree of arrays; or a function ``data(epoch)`` that returns one; or an
        iterator, which is read once, and never closed.

    Attributes:
      is_iterator: whether the data is read once.
      batches_per_epoch: ``len(data)``, or None if the data has none, or none that can be trusted. Data with a ``len``
        of another number than its batches is refused where that turns out.

    Raises:
      TypeError: the data is none of these.
      InputError: its ``len`` is 0.

    >>> stream = Stream([jnp.full(2, number) for number in range(5)])
    >>> stream.batches_per_epoch
    5
    >>> with stream.chunks(0, lambda cursor, left: min(4, left, 7 - cursor), jax.device_put) as chunks:
    ...     [(chunk.first, chunk.length, chunk.ends_epoch, chunk.batches.shape) for chunk in chunks]
    [(0, 4, False, (4, 2)), (4, 1, True, (1, 2)), (5, 2, False, (2, 2))]
    """

    def __init__(self, data: Any):
        self.data = data
        self.is_iterator = hasattr(data, "__next__")
        self._is_function = callable(data) and not hasattr(data, "__iter__") and not self.is_iterator
        if self._is_function:
            _takes_epoch(data)
        elif not hasattr(data, "__iter__") or isinstance(data, (str, bytes, Mapping, np.ndarray, jax.Array)):
            _data_checks.stream_expected(data)
        self.batches_per_epoch: int | None = None if self.is_iterator or self._is_function else _length(data)
        if self.batches_per_epoch == 0:
            _data_checks.no_batches(0)

    def chunks(
        self, cursor: int, room: Room, put: Put, resume: PyTree | None = None
    ) -> contextlib.AbstractContextManager[Iterator[DataChunk]]:
        """The super-batches of a run, in a ``with`` block; leaving it ends the thread that reads them.

        A super-batch has as many batches as there is room for, if they are of equal shapes and dtypes and do not take
        more than ``CHUNK_BYTES``. Where they change, and where an epoch ends, what there is is cut into powers of two.

        Reading stays behind the run as far as can be: no pass is begun before it is known that it is needed, and of an
        iterator nothing is read that the run has no room for. What was read ahead when the block is left is lost to
        an iterator, though.

        Args:
          cursor: the number of the first batch in the run.
          room: how many batches fit from a cursor on; called in the thread, at cursors that grow.
          put: what brings ``(batches, masks)`` to the device; called in the thread.
          resume: the ``position`` of the chunk before. None: an iterator goes on where it is, and other data after its
            first ``cursor`` batches, which are counted from ``len(data)``, or by reading them.

        Raises:
          Exception: whatever the data raises, after the batches before it.
          InputError: a batch is no tree of arrays, or not of the same tree as the one before; or there are none.
        """
        if resume is not None:
            _data_checks.position_expected(resume, FIELDS)
        return prefetched(functools.partial(self._chunks, cursor, room, put, resume))

    def _chunks(
        self, cursor: int, room: Room, put: Put, resume: PyTree | None, background: Background
    ) -> Generator[DataChunk]:
        if room(cursor, self.batches_per_epoch) <= 0:
            return
        source = self._begin(cursor, resume, background)
        while True:
            with contextlib.closing(source):
                while (most := room(cursor, source.left)) > 0:
                    stack = source.collect(most)
                    if stack is None:
                        break
                    yield from self._cut(source, stack, cursor, room, put)
                    cursor += stack.count
                    del stack  # Or its memory is held while the next one is filled.
            if self.is_iterator or room(cursor, self.batches_per_epoch) <= 0:
                return
            if self.batches_per_epoch is None:
                background.wait_until_wanted()  # The run may end with the epoch.
            source = self._open({**START, "epoch": source.epoch + 1}, background, source.structure)

    def _cut(self, source: Pass, stack: Stack, cursor: int, room: Room, put: Put) -> Iterator[DataChunk]:
        """The chunks of a stack: one if it is full; powers of two if the data ended, or changed its shape, before."""
        before = source.collected - stack.count
        full = stack.count == stack.most
        if full:
            source.mark()
            if source.left == 0 or (source.left is None and self._may_look_ahead(room(cursor + stack.count, None))):
                source.look_ahead()
        first = 0
        for length in pieces(stack.count, stack.most):
            end = first + length
            ends_epoch = source.ended and end == stack.count
            batches, masks = put((stack.cut(first, end), None))
            position = source.position(before + end, ends_epoch)
            yield DataChunk(cursor + first, length, source.epoch, ends_epoch, batches, masks, position)
            first = end
        if not full and not source.ended and not source.has_failed:
            source.mark()

    def _may_look_ahead(self, room: int) -> bool:
        """Whether one batch more may be read to see whether it is there: of the user's iterator, if it will be used."""
        return not self.is_iterator or room > 0

    def _begin(self, cursor: int, resume: PyTree | None, background: Background) -> Pass:
        """The pass in which the run goes on, at the batch with which it does."""
        if resume is not None:
            return self._open({**resume, **{name: int(resume[name]) for name in FIELDS if name != "state"}}, background)
        if self.is_iterator:
            return self._open(START, background)
        if self.batches_per_epoch is not None:
            epoch, batch = divmod(cursor, self.batches_per_epoch)
            return self._open({**START, "epoch": epoch, "batch": batch, "skip": batch}, background)
        epoch, rest = 0, cursor
        while True:
            source = self._open({**START, "epoch": epoch}, background)
            rest -= source.skip(rest)
            if not rest:
                return source
            source.close()
            epoch += 1

    def _open(self, position: dict[str, Any], background: Background, structure: Any = None) -> Pass:
        epoch = position["epoch"]
        try:
            data = self.data(epoch) if self._is_function else self.data
            if not self.is_iterator:
                _set_epoch(data, epoch)
            length = None if self.is_iterator else _length(data)
            return Pass(data, self.is_iterator, length, position, background.check, structure)
        except Exception as error:
            error.add_note(f"This happened when the data was opened for epoch {epoch}.")
            raise


def _takes_epoch(function: Callable[[int], Any]) -> None:
    try:
        inspect.signature(function).bind(0)
    except TypeError:
        _data_checks.epoch_argument(function)
    except ValueError:
        pass  # A builtin without a signature.


def _set_epoch(data: Any, epoch: int) -> None:
    """Tells the data the number of the epoch, and its sampler: ``torch``'s convention for an order of each epoch."""
    for owner in (data, getattr(data, "sampler", None)):
        set_epoch = getattr(owner, "set_epoch", None)
        if callable(set_epoch):
            set_epoch(epoch)


def _length(data: Any) -> int | None:
    """How many batches a pass has, or None if it is not known."""
    torch_data = sys.modules.get("torch.utils.data")
    if torch_data is not None and isinstance(getattr(data, "dataset", None), torch_data.IterableDataset):
        return None  # torch: an estimate, if several workers read.
    try:
        length = len(data)
    except (TypeError, NotImplementedError, AttributeError, OverflowError):
        return None
    return length if length < ENDLESS else None
