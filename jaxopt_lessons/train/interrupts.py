"""Ctrl-C and SIGTERM during a run: it ends after the chunk that is under way, and nothing is lost.

A second signal does what the first would have done without this: the first may wait for a long compilation.
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Whether a signal came.

    Attributes:
      reason: its name, None as long as none came.
    """

    def __init__(self) -> None:
        self.reason: str | None = None


@contextlib.contextmanager
def caught() -> Iterator[Interrupt]:
    """Notes SIGINT and SIGTERM inside. Python lets only the main thread do so; in another, nothing changes.

    A signal that is ignored, or whose handler is not Python's, stays as it is.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before: dict[int, Any] = {}

    def handle(number: int, frame: Any) -> None:
        interrupt.reason = signal.Signals(number).name
        print(f"\n{interrupt.reason}: the run ends after this chunk; once more ends it at once.", file=sys.stderr)
        signal.signal(number, before[number])

    try:
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if handler is not None and handler is not signal.SIG_IGN:
                before[number] = handler
                signal.signal(number, handle)
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
