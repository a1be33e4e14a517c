"""One pass over a user's data, and how to come back to any batch of it.

A position is ``{"epoch", "batch", "skip", "state"}``: ``batch`` batches of the pass for ``epoch`` are done. To come
back, the ``state`` is given back to the data, if there is one, and ``skip`` batches are read and left out. So data
without a state of its own is come back to by reading it again up to there, and from a state is never far.

The state is that of ``get_state``/``set_state`` (grain) or ``state_dict``/``load_state_dict`` (torchdata), of the
iterator or of what it is an iterator over. It is taken at the ends of super-batches, not for each batch: what is read
ahead must not count, and super-batches that end early are reached from the state before them.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from jaxopt_lessons import _data_checks
from jaxopt_lessons._errors import InputError, stage
from jaxopt_lessons.train import json_state
from jaxopt_lessons.train.super_batches import HostBatch, Stack, host_batch

FIELDS = ("epoch", "batch", "skip", "state")
START = {"epoch": 0, "batch": 0, "skip": 0, "state": None}


class Pass:
    """The iterator of one pass, after the batches of a position.

    Args:
      data: an iterable, or the user's own iterator.
      borrowed: whether it is that: then it is not closed, and there is no pass after this one.
      length: how many batches there are, or None.
      position: where to begin.
      check: called before each read; may raise.
      structure: the tree of the batches, if some were read before.

    Attributes:
      epoch: the number of the pass.
      count: how many batches were read, those before the position included.
      ended: whether there are no more.
    """

    def __init__(
        self,
        data: Any,
        borrowed: bool,
        length: int | None,
        position: dict[str, Any],
        check: Callable[[], None],
        structure: Any = None,
    ):
        self.epoch, self.count = position["epoch"], position["batch"] - position["skip"]
        self.ended, self.structure = False, structure
        self._borrowed, self._length, self._check = borrowed, length, check
        self._pending: HostBatch | None = None
        self._failure: Exception | None = None
        self._iterator, self._keeper = _opened(data, borrowed, position["state"])
        self._marked, self._state = 0, None  # Without a state, a pass is come back to from its beginning.
        self._to_mark = self._keeper is not None
        if self.skip(position["skip"]) < position["skip"]:
            _data_checks.too_short_to_resume(self.epoch, position["batch"])
        if self.left == 0:
            self.look_ahead()

    @property
    def collected(self) -> int:
        """How many batches were collected: those read but for the one that is waiting."""
        return self.count - (self._pending is not None)

    @property
    def left(self) -> int | None:
        """How many batches are still to be collected, if that is known."""
        return None if self._length is None else self._length - self.collected

    def close(self) -> None:
        """Closes an iterator that was opened here (a generator, to run its ``finally``)."""
        close = getattr(self._iterator, "close", None)
        if close is not None and not self._borrowed:
            close()

    def skip(self, batches: int) -> int:
        """Reads so many batches and leaves them out; returns how many there were."""
        try:
            for done in range(batches):
                if self._read() is _END:
                    return done
        except BaseException:
            self.close()
            raise
        return batches

    def collect(self, most: int) -> Stack | None:
        """The next batches, up to ``most`` if they are alike; None if there are no more.

        Each is copied before the next one is read: iterators may fill the same arrays again and again.
        """
        if self._failure is not None:
            raise self._failure
        batch = self._pending if self._pending is not None else self._next()
        self._pending = None
        if batch is None:
            return None
        if self._to_mark:
            self.mark()  # Not before the first batch: the state of a loader may still be that of its last pass.
        stack = Stack(batch, most)
        while stack.count < stack.most and not self.ended:
            try:
                batch = self._next()
            except Exception as error:
                self._failure = error  # The batches before it are good, and come first.
                break
            if batch is not None and stack.fits(batch):
                stack.add(batch)
            elif batch is not None:
                self._pending = batch
                break
        return stack

    def look_ahead(self) -> None:
        """Reads one batch more, to know whether there is one. If that fails, the next ``collect`` does."""
        if self._pending is not None or self.ended:
            return
        try:
            self._pending = self._next()
        except Exception as error:
            if self._length is not None:
                raise  # There should have been no more, and so it is not the next super-batch that is spoilt.
            self._failure = error

    @property
    def has_failed(self) -> bool:
        """Whether the next ``collect`` raises."""
        return self._failure is not None

    def mark(self) -> None:
        """Takes the state of the data, if it keeps one, from which later positions are reached."""
        if self._keeper is not None:
            self._to_mark = False
            self._marked, self._state = self.count, json_state.encode(self._keeper.state())

    def position(self, batch: int, ends_epoch: bool) -> dict[str, Any]:
        """Where the pass is after so many batches, of which none is from before the last mark."""
        of_loader = self._keeper is not None and self._keeper.owner is not self._iterator
        if ends_epoch and not self._borrowed and not of_loader:
            return {**START, "epoch": self.epoch + 1}
        return {"epoch": self.epoch, "batch": batch, "skip": batch - self._marked, "state": self._state}

    def _next(self) -> HostBatch | None:
        batch = self._read()
        if batch is _END:
            return None
        with stage(f"data: batch {self.count - 1} of epoch {self.epoch}"):
            try:
                converted = host_batch(batch)
            except InputError:
                raise
            except Exception as error:
                self._note_where(error, self.count - 1)
                raise
            if self.structure is None:
                self.structure = converted.structure
            _data_checks.batch_structure(converted.structure, self.structure)
            return converted

    def _read(self) -> Any:
        if self.ended:
            return _END  # Not asked again: there are iterators that would begin anew.
        self._check()
        try:
            batch = next(self._iterator)
        except StopIteration:
            self.ended = True
            if self._length is not None and self._length != self.count:
                _data_checks.wrong_length(self._length, self.epoch, self.count)
            if not self.count and not self._borrowed:
                _data_checks.no_batches(self.epoch)
            return _END
        except Exception as error:
            self._note_where(error, self.count)
            raise
        if self._length is not None and self.count == self._length:
            _data_checks.wrong_length(self._length, self.epoch, None)
        self.count += 1
        return batch

    def _note_where(self, error: Exception, batch: int) -> None:
        error.add_note(f"This happened in batch {batch} of epoch {self.epoch} of the data.")


_END = object()


def _opened(data: Any, borrowed: bool, state: Any) -> tuple[Iterator[Any], "Keeper | None"]:
    """An iterator over the data in a state, and what keeps this state: the data, the iterator, or None if none does.

    A loader that keeps its state itself takes it before it is asked for an iterator.
    """
    keeper = None if borrowed else _keeper(data)
    if keeper is not None and state is not None:
        keeper.restore(json_state.decode(state))
    iterator = iter(data)
    if keeper is None:
        keeper = _keeper(iterator)
        if state is not None and keeper is None:
            _data_checks.state_not_taken(data)
        if keeper is not None and state is not None:
            keeper.restore(json_state.decode(state))
    return iterator, keeper


class Keeper(NamedTuple):
    """What keeps the state of a pass, and its methods that say the state and go back to one."""

    owner: Any
    state: Callable[[], Any]
    restore: Callable[[Any], Any]


def _keeper(owner: Any) -> Keeper | None:
    for names in (("get_state", "set_state"), ("state_dict", "load_state_dict")):
        state, restore = (getattr(owner, name, None) for name in names)
        if callable(state) and callable(restore):
            return Keeper(owner, state, restore)
    return None
