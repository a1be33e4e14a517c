"""The progress bar of ``fit``: drawn on the host between compiled chunks, by tqdm.

It is off where there is no terminal to draw it on, and it shows itself before the first step, which is when the
program is compiled and a person begins to wonder.
"""

import sys
from collections.abc import Mapping
from typing import Any


def make_progress(show: bool | None, total: int) -> "Progress | None":
    """A bar over ``total`` steps, or None. ``show=None`` shows it on a terminal where tqdm is installed."""
    if show is False:
        return None
    if show is None and not sys.stderr.isatty():
        return None
    try:
        from tqdm.auto import tqdm
    except ImportError:
        if show is None:
            return None
        raise ImportError("fit(progress=True) needs tqdm: pip install tqdm") from None
    return Progress(tqdm(total=total, unit="step", desc="compiling", mininterval=0.2))


class Progress:
    """Steps done, with the latest means behind them."""

    def __init__(self, bar: Any):
        self._bar = bar
        self._shown: dict[str, str] = {}

    def advance(self, steps: int, epoch: int, latest: Mapping[str, float]) -> None:
        self._bar.set_description(f"epoch {epoch + 1}", refresh=False)
        self.show(latest)
        self._bar.update(steps)

    def show(self, latest: Mapping[str, float]) -> None:
        self._shown |= {name: f"{value:.4g}" for name, value in latest.items() if name != "weight"}
        self._bar.set_postfix(self._shown, refresh=False)

    def close(self) -> None:
        self._bar.refresh()
        self._bar.close()
