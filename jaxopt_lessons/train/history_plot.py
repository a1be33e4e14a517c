"""``History.plot``: the columns of a history as curves."""

import math
import typing
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _checks, _figure
from jaxopt_lessons.transforms.ema import ema
from jaxopt_lessons.types import Range

if typing.TYPE_CHECKING:
    from jaxopt_lessons.train.history import History

SMOOTHED_SHARE = 1 / 50
"""Of the steps: over so many the average goes that is drawn by default."""

RATES = "learning rate"


def plot(history: "History", names: Sequence[str], x: str, log: bool, smooth: float | None, axes: Any) -> Any:
    """See ``History.plot``."""
    _checks.one_of("plot", "x", x, ("steps", "epochs"))
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise TypeError(f"plot: columns are given one by one, plot('loss', 'val_loss'); got {wrong[0]!r}.")
    log = _checks.flag("plot", "log", log)
    if smooth is not None:
        _checks.number("plot", "smooth", smooth, Range(0, 1, includes_high=False))
    panels = _panels(history, names or [name for name in history if name not in ("weight", "val_weight")])
    _checks.require(bool(panels), "plot: the history has no column to draw.")
    if axes is None:
        figure, axes = _figure.new_figure(len(panels))
    else:
        axes = list(np.ravel(axes))
        _checks.require(
            len(axes) == len(panels),
            lambda: f"plot: axes must be one for each of {', '.join(panels)}; got {len(axes)}.",
        )
        figure = axes[0].figure
    for axis, (title, columns) in zip(axes, panels.items(), strict=True):
        for number, name in enumerate(columns):
            _draw(axis, history, name, number, x, smooth, is_rate=title == RATES)
        axis.set_ylabel(columns[0].replace("_", " ") if len(columns) == 1 else title)
        if log and title != RATES:
            axis.set_yscale("log", nonpositive="mask")
        if x == "epochs":
            axis.xaxis.get_major_locator().set_params(integer=True)
        if len(columns) > 1:
            axis.legend(frameon=False, fontsize="small")
        _figure.tidy(axis)
    axes[-1].set_xlabel("epochs" if x == "epochs" else "batches")
    return figure


def _panels(history: "History", names: Sequence[str]) -> dict[str, list[str]]:
    """The columns of each panel, by its title: what is measured in training and in validation shares one.

    The loss is the first, and rates are the last.
    """
    panels: dict[str, list[str]] = {}
    for name in names:
        history.steps(name)  # raises if there is no such column
        title = RATES if name.endswith("learning_rate") else name.removeprefix("val_").replace("_", " ")
        panels.setdefault(title, []).append(name)
    order = {"loss": 0, RATES: 2}
    return dict(sorted(panels.items(), key=lambda panel: order.get(panel[0], 1)))


def _draw(axis: Any, history: "History", name: str, number: int, x: str, smooth: float | None, is_rate: bool) -> None:
    style, label = _figure.line_style(number), name.replace("_", " ")
    is_val = name.startswith("val_")
    if x == "epochs":
        epochs = np.unique(history.epochs(name)) + 1
        axis.plot(epochs, history.epoch_mean(name), marker="o", markersize=4, label=label, **style)
    elif is_val or is_rate:
        points = {"marker": "o", "markersize": 4} if is_val else {}
        axis.plot(history.steps(name), history[name], label=label, **points, **style)
    else:
        counts = history.weights(name) != 0
        steps, values = history.steps(name)[counts], history[name][counts]
        decay = _default_decay(len(values)) if smooth is None else smooth
        if decay == 0:
            axis.plot(steps, values, label=label, **style)
            return
        axis.plot(steps, values, color=style["color"], linewidth=0.7, alpha=0.35)
        axis.plot(steps, smoothed(values, decay), label=label, **style)


def _default_decay(rows: int) -> float:
    """That of an average over a share of the rows: it goes over about ``1 / (1 - decay)``."""
    return 1 - 1 / max(1, math.ceil(rows * SMOOTHED_SHARE))


def smoothed(values: np.ndarray, decay: float) -> np.ndarray:
    """The exponentially weighted average up to each value, with bias correction."""
    tx = ema(decay)

    def body(state: Any, value: jax.Array) -> tuple[Any, jax.Array]:
        average, state = tx.update(value, state)
        return state, average

    values = np.asarray(values, np.float32)
    return np.asarray(jax.lax.scan(body, tx.init(jnp.zeros([])), jnp.asarray(values))[1])
