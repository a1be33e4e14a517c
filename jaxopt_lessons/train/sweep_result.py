"""``SweepResult``: what the lanes of a sweep returned, as a table, a best point and a figure."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from jaxopt_lessons import _checks, _errors, _figure
from jaxopt_lessons.types import PyTree


class Table(list[dict[str, Any]]):
    """Rows of dicts with the same keys, printed as a text with aligned columns."""

    def __str__(self) -> str:
        if not self:
            return "(no rows)"
        rows = [list(self[0]), *([_number(value) for value in row.values()] for row in self)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows)

    __repr__ = __str__


class SweepResult:
    """What ``sweep`` returns. It is immutable.

    A metric is a leaf of ``values``, by its name ``"loss"`` or path ``"test/loss"``; of curves ``[steps]`` the last
    number counts. By default it is ``"loss"`` if there is one, or else the only one.

    Attributes:
      points: the hyperparameters of each point, a list of dicts.
      seeds: the seeds, a list.
      values: what the lanes returned: a tree of arrays with axes ``[points, seeds]`` in front of their own.
    """

    __slots__ = ("points", "seeds", "values")

    points: list[dict[str, Any]]
    seeds: list[int]
    values: PyTree

    def __init__(self, points: list[dict[str, Any]], seeds: list[int], values: PyTree):
        for name, value in (("points", points), ("seeds", seeds), ("values", values)):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("SweepResult is immutable.")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("SweepResult is immutable.")

    def __reduce__(self) -> tuple[Any, ...]:
        return SweepResult, (self.points, self.seeds, self.values)

    def __repr__(self) -> str:
        axes, values = ", ".join(self.points[0]), ", ".join(_leaves(self.values))
        return f"SweepResult({len(self.points)} points of {axes}; {len(self.seeds)} seeds; {values})"

    def table(self, metric: str | None = None, mode: str | None = None) -> Table:
        """A row for each point: its hyperparameters, and over the seeds the mean, the standard deviation and the best.

        The deviation is that of a sample (0 for one seed). A mean with a NaN is NaN; the best is that of the others.

        Args:
          metric: the name of the metric.
          mode: "min" or "max": which number is the best; to be said of all but a loss.
        """
        numbers, mode = self._metric("table", metric), self._mode("table", metric, mode)
        taken = [name for name in ("mean", "std", "best") if name in self.points[0]]
        _checks.require(
            not taken, lambda: f"table: an axis cannot be called {taken[0]!r}, as a column of the table is."
        )
        best = _sign(mode) * np.min(_losses(numbers, mode), axis=1)
        best = np.where(np.isfinite(best), best, np.nan)
        columns = zip(self.points, *_mean_and_std(numbers), best, strict=True)
        return Table({**point, "mean": float(m), "std": float(s), "best": float(b)} for point, m, s, b in columns)

    def best(self, metric: str | None = None, mode: str | None = None) -> dict[str, Any]:
        """The point whose mean over the seeds is the best; the first of equal ones.

        A point with a lane that is NaN or infinite is never the best.

        Args:
          metric: the name of the metric.
          mode: "min" or "max"; to be said of all but a loss.

        Raises:
          ValueError: every point has a lane that is NaN or infinite.
        """
        ranking = self._ranking("best", metric, mode)
        _checks.require(bool(ranking), "best: every point has a lane that is NaN or infinite; there is no best one.")
        return dict(self.points[ranking[0]])

    def mean(self, metric: str | None = None) -> np.ndarray:
        """The mean over the seeds at each point, float64; where a lane is NaN or infinite it is not finite either.

        Args:
          metric: the name of the metric.
        """
        return _mean_and_std(self._metric("mean", metric))[0]

    def ranking(self, metric: str | None = None, mode: str | None = None) -> list[int]:
        """The numbers of the points, from the best mean over the seeds to the worst; equal ones in their order.

        Points with a lane that is NaN or infinite are left out.

        Args:
          metric: the name of the metric.
          mode: "min" or "max"; to be said of all but a loss.
        """
        return self._ranking("ranking", metric, mode)

    def plot(self, x: str | None = None, y: str | None = None, *, log: bool = False, ax: Any = None) -> Any:
        """Draws a metric over an axis: the mean over the seeds, in a band of one standard deviation to each side.

        There is a line for each combination of the other axes. Where a lane is NaN or infinite the line has a gap.

        Args:
          x: the name of the axis; by default the first.
          y: the name of the metric.
          log: a logarithmic axis for ``x``; values that are not positive are left out.
          ax: matplotlib axes to draw on, in the place of a new figure.

        Returns:
          The matplotlib ``Figure``, neither shown nor saved. Needs matplotlib.
        """
        y, _ = metric_leaf("plot", self.values, y, axes=2)
        mean, std = _mean_and_std(self._metric("plot", y))
        x = next(iter(self.points[0])) if x is None else x
        _known("plot", "axis", x, list(self.points[0]))
        lines: dict[tuple[Any, ...], list[int]] = {}
        for i, point in enumerate(self.points):
            lines.setdefault(tuple(item for item in point.items() if item[0] != x), []).append(i)
        figure, ax = _figure.axes_on(ax)
        for number, (others, chosen) in enumerate(lines.items()):
            chosen = np.asarray(sorted(chosen, key=lambda i: self.points[i][x]))
            at = np.array([self.points[i][x] for i in chosen], float)
            middle, half = (np.where(np.isfinite(mean[chosen]), z[chosen], np.nan) for z in (mean, std))
            style = _figure.line_style(number)
            ax.plot(at, middle, marker="o", markersize=4, label=point_label(others) or None, **style)
            if len(self.seeds) > 1:
                ax.fill_between(at, middle - half, middle + half, color=style["color"], alpha=0.2, linewidth=0)
        if len(lines) > 1:
            ax.legend(frameon=False, fontsize="small")
        if log:
            ax.set_xscale("log", nonpositive="mask")
        ax.set_xlabel(x.replace("_", " "))
        ax.set_ylabel(y.replace("_", " "))
        _figure.tidy(ax)
        return figure

    def _ranking(self, owner: str, metric: str | None, mode: str | None) -> list[int]:
        means = np.mean(_losses(self._metric(owner, metric), self._mode(owner, metric, mode)), axis=1)
        return [int(i) for i in np.argsort(means, stable=True) if np.isfinite(means[i])]

    def _mode(self, owner: str, metric: str | None, mode: str | None) -> str:
        """Which number is better: what is said, and the smaller one of losses and of numbers without a name."""
        if mode is not None:
            _checks.one_of(owner, "mode", mode, ("min", "max"))
            return mode
        name, _ = metric_leaf(owner, self.values, metric, axes=2)
        nameless = name == _errors.path_name(())
        _checks.require(
            nameless or "loss" in name or "error" in name,
            lambda: f"{owner}: is the best {name!r} the smallest or the largest? Say mode='min' or mode='max'.",
        )
        return "min"

    def _metric(self, owner: str, metric: str | None) -> np.ndarray:
        """One number for each point and seed, float64."""
        where = f" for {len(self.points)} points and {len(self.seeds)} seeds"
        _, leaf = metric_leaf(owner, self.values, metric, axes=2, where=where)
        return np.asarray(leaf[:, :, -1] if leaf.ndim == 3 else leaf).astype(np.float64)


def metric_leaf(owner: str, values: PyTree, metric: str | None, axes: int = 0, where: str = "") -> tuple[str, Any]:
    """The name and the array of a metric in a tree; raises if there is none, or if it is no number or curve.

    Args:
      owner: who asks.
      values: a tree of arrays, or of their shapes.
      metric: the name, or None for "loss" or the only one.
      axes: how many axes stand in front of those of a lane.
      where: what an error says about these.
    """
    leaves = _leaves(values)
    name = _default(owner, leaves) if metric is None else metric
    _known(owner, "metric", name, list(leaves))
    leaf = leaves[name]
    real = any(jax.numpy.issubdtype(leaf.dtype, kind) for kind in (np.floating, np.integer, np.bool_))
    if len(leaf.shape) > axes + 1 or not real or 0 in leaf.shape:
        raise ValueError(
            f"{owner}: a metric is one real number in each lane, or a curve of them; {name!r} is "
            f"{_errors.describe(leaf)}{where}."
        )
    return name, leaf


def _default(owner: str, leaves: dict[str, Any]) -> str:
    _checks.require(
        len(leaves) == 1 or "loss" in leaves, lambda: f"{owner}: say which metric; there are: {', '.join(leaves)}."
    )
    return "loss" if "loss" in leaves else next(iter(leaves))


def _leaves(values: PyTree) -> dict[str, Any]:
    return {_errors.path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(values)}


def _sign(mode: str) -> int:
    return 1 if mode == "min" else -1


def _losses(numbers: np.ndarray, mode: str) -> np.ndarray:
    """Numbers of which the smallest is the best: infinite in the place of all that are not finite."""
    return np.where(np.isfinite(numbers), _sign(mode) * numbers, np.inf)


def _mean_and_std(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(invalid="ignore"):  # infinite - infinite
        seeds = numbers.shape[1]
        return np.mean(numbers, axis=1), np.std(numbers, axis=1, ddof=1) if seeds > 1 else 0 * numbers[:, 0]


def _known(owner: str, kind: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=3)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ValueError(f"{owner}: there is no {kind} {name!r}.{hint} There are: {', '.join(known)}.")


def point_label(items: Iterable[tuple[str, Any]]) -> str:
    """Hyperparameters in a legend."""
    return ", ".join(f"{name.replace('_', ' ')} {_number(value)}" for name, value in items)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
