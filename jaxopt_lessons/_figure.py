"""What all figures share: colors and dashes, a new figure, and how a panel looks.

matplotlib is imported when something is drawn.
"""

from typing import Any

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe & Ito's, which color-blind readers tell apart, without the yellow."""

DASHES = ("-", "--", "-.", ":")


def new_figure(panels: int = 1, height: float = 2.2) -> tuple[Any, list[Any]]:
    """A figure with panels one below the other, each ``height`` inches high, and its axes."""
    need_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 1.2 + height * panels), layout="constrained", dpi=120)
    return figure, list(figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0])


def axes_on(ax: Any) -> tuple[Any, Any]:
    """The figure of these axes, and the axes; new ones if they are None."""
    if ax is not None:
        are_axes(ax)
        return ax.figure, ax
    figure, (ax,) = new_figure(height=3.0)
    return figure, ax


def are_axes(ax: Any) -> None:
    """Raises unless something can be drawn on ``ax``."""
    if not hasattr(ax, "figure") or not hasattr(ax, "plot"):
        raise TypeError(f"plot: ax must be the axes of a matplotlib figure; got {ax!r} of type {type(ax).__name__}.")


def need_matplotlib() -> None:
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise ImportError("plot needs matplotlib: pip install matplotlib") from None


def line_style(number: int) -> dict[str, Any]:
    """The color, dash and width of the curve with this number; curves with numbers below 28 differ."""
    return {"color": COLORS[number % len(COLORS)], "linestyle": DASHES[number % len(DASHES)], "linewidth": 2}


def tidy(axis: Any) -> None:
    """A faint grid, no frame, hardly any margin."""
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.margins(x=0.01)
