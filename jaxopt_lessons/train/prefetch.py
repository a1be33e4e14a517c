"""Things made in the background while the ones before are used.

    with prefetched(make) as items:
        for item in items: ...

``make(background)`` is a generator that runs in a thread of its own. It is at most ``ahead`` items ahead: when the
consumer has taken k, at most k + ahead are made or being made, whatever the speed of either. An exception in the
generator is raised in the consumer, in the place of the item that it came instead of, as it is and with its traceback.

Leaving the ``with`` block, for whatever reason, ends the thread: at the generator's next ``background.check()``, and
always before its next item. The generator is closed in its own thread. If it does not come back (a read that blocks
for ever) the block is left after ``LEAVE_SECONDS``, and the thread, a daemon, does not keep the process alive.
"""

import collections
import contextlib
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import jax
import numpy as np

from jaxopt_lessons import numerics

AHEAD = 2
"""Items made before they are asked for: one on its way to the device while another one waits there."""

LEAVE_SECONDS = 2.0
"""How long to wait for the thread, at most, when the block is left."""


@contextlib.contextmanager
def prefetched(make: Callable[["Background"], Generator[Any]], ahead: int = AHEAD) -> Iterator["Background"]:
    """An iterator over what the generator ``make(background)`` yields, which runs ahead in a thread.

    Args:
      make: a function of the ``Background``, which is the iterator, too.
      ahead: how many items may be made before they are asked for, at least 1.
    """
    background = Background(make, ahead)
    try:
        yield background
    finally:
        background.leave()


class Background(Iterator[Any]):
    """Both ends of the thread: an iterator for the consumer; ``check`` and ``wait_until_wanted`` for the generator."""

    def __init__(self, make: Callable[["Background"], Generator[Any]], ahead: int):
        self._changed = threading.Condition()
        self._items: collections.deque[Any] = collections.deque()
        self._taken = self._asked = self._made = 0
        self._ended = self._left = False
        self._error: BaseException | None = None
        settings = _with_settings(numerics.float_dtype() == np.float64, _default_device())
        self._thread = threading.Thread(
            target=self._run, args=(make, ahead, settings), name="jaxopt_lessons.prefetch", daemon=True
        )
        self._thread.start()

    def __next__(self) -> Any:
        with self._changed:
            self._asked = self._taken + 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._items or self._ended or self._left)
            if self._items:
                self._taken += 1
                return self._items.popleft()
            error, self._error = self._error, None
        if error is None:
            raise StopIteration
        try:
            raise error
        finally:
            del error  # It holds this frame, by its traceback: a cycle.

    def leave(self) -> None:
        with self._changed:
            self._left = True
            self._items.clear()
            self._changed.notify_all()
        self._thread.join(LEAVE_SECONDS)

    def check(self) -> None:
        """Ends the generator if the consumer has left."""
        if self._left:
            raise _ConsumerLeft

    def wait_until_wanted(self) -> None:
        """Waits until the consumer has taken all there is and asks for more."""
        self._wait_for(lambda: self._asked > self._made)

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._left or condition())
        self.check()

    def _run(self, make: Callable[["Background"], Generator[Any]], ahead: int, settings: Any) -> None:
        try:
            with settings, contextlib.closing(make(self)) as items:
                while True:
                    self._wait_for(lambda: self._made < self._asked + ahead)
                    item = next(items, _END)
                    if item is _END:
                        break
                    with self._changed:
                        self._items.append(item)
                        self._made += 1
                        self._changed.notify_all()
                    del item
        except _ConsumerLeft:
            pass
        except BaseException as error:  # KeyboardInterrupt of the user's own code, too: nobody else would see it.
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                if self._left:
                    self._items.clear()
                    self._error = None
                self._changed.notify_all()


class _ConsumerLeft(BaseException):
    """Ends the generator; not an ``Exception``, so that no handler in the user's code stops it."""


_END = object()


@contextlib.contextmanager
def _with_settings(x64: bool, device: Any) -> Iterator[None]:
    """In another thread, the settings of JAX that a ``with`` block may have made for this one only."""
    with jax.enable_x64(x64), jax.default_device(device):
        yield


def _default_device() -> Any:
    """The device of a ``with jax.default_device(...)`` block around this, or None."""
    return jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
