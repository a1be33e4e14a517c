"""The progress bar of ``fit``: drawn on the host between compiled chunks, by tqdm.

On a terminal and in a notebook it is a bar; elsewhere, in a log say, it is a line now and then. It shows itself before
the first step, which is when the program is compiled and a person begins to wonder. In a run of several processes only
the first draws.
"""

import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol

from jaxopt_lessons.train import hosts

LINE_SECONDS = 10.0
"""From one line of a log to the next, at least."""


class Progress(Protocol):
    """What is told of the progress of a run."""

    def advance(self, steps: int, epoch: int, latest: Mapping[str, float]) -> None:
        """So many more steps are done, the last in this epoch, with these numbers."""

    def close(self) -> None:
        """The run is over."""


def make_progress(show: bool | None, total: int | None, done: int = 0) -> Progress | None:
    """What shows the progress over ``total`` steps, or None.

    Args:
      show: True to show it, False not to; None for a bar where there is a terminal or a notebook, and tqdm.
      total: how many steps there are; None if nobody knows.
      done: how many are done already.
    """
    if show is False or not hosts.is_main():
        return None
    drawn = sys.stderr.isatty() or _in_notebook()
    if show is None and not drawn:
        return None
    if not drawn:
        return Lines(total, done)
    try:
        from tqdm.auto import tqdm
    except ImportError:
        if show is None:
            return None
        raise ImportError("fit(progress=True) needs tqdm: pip install tqdm") from None
    return Bar(tqdm(total=total, initial=done, unit="step", desc="compiling", mininterval=0.2))


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


class _Latest:
    """The latest numbers, as they are shown."""

    def __init__(self) -> None:
        self.shown: dict[str, str] = {}

    def update(self, latest: Mapping[str, float]) -> None:
        self.shown |= {name: f"{value:.4g}" for name, value in latest.items() if name != "weight"}


class Bar:
    """A bar of tqdm: steps done, rate, time left, and the latest numbers."""

    def __init__(self, bar: Any):
        self._bar = bar
        self._latest = _Latest()

    def advance(self, steps: int, epoch: int, latest: Mapping[str, float]) -> None:
        self._latest.update(latest)
        self._bar.set_description(f"epoch {epoch + 1}", refresh=False)
        self._bar.set_postfix(self._latest.shown, refresh=False)
        self._bar.update(steps)

    def close(self) -> None:
        self._bar.refresh()
        self._bar.close()


class Lines:
    """The same in lines for a log, not too many of them."""

    def __init__(self, total: int | None, done: int = 0):
        self._total, self._done = total, done
        self._began = self._printed = time.monotonic()
        self._first, self._counted = done, -1
        self._latest = _Latest()
        self._epoch = 0
        self._print("compiling")

    def advance(self, steps: int, epoch: int, latest: Mapping[str, float]) -> None:
        self._latest.update(latest)
        self._done, self._epoch = self._done + steps, epoch
        if time.monotonic() - self._printed >= LINE_SECONDS:
            self._print_numbers()

    def close(self) -> None:
        if self._counted != self._done > self._first:
            self._print_numbers()

    def _print_numbers(self) -> None:
        seconds, steps = time.monotonic() - self._began, self._done - self._first
        parts = [f"epoch {self._epoch + 1}", *(f"{name} {value}" for name, value in self._latest.shown.items())]
        if steps and seconds:
            parts.append(f"{steps / seconds:.3g} steps/s")
            if self._total is not None and self._done < self._total:
                parts.append(f"{_duration((self._total - self._done) * seconds / steps)} left")
        self._counted = self._done
        self._print(", ".join(parts))

    def _print(self, text: str) -> None:
        self._printed = time.monotonic()
        total = "" if self._total is None else f"/{self._total}"
        print(f"fit: step {self._done}{total}: {text}", file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
