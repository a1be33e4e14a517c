"""``HalvingResult``: the rungs of a search by successive halving, as a table, a best point and a figure."""

from typing import Any, NamedTuple

import numpy as np

from jaxopt_lessons import _checks, _figure
from jaxopt_lessons.train.sweep_result import SweepResult, Table, point_label
from jaxopt_lessons.types import PyTree


class HalvingResult(NamedTuple):
    """What ``successive_halving`` returns.

    Attributes:
      rungs: the ``SweepResult`` of each rung, with the points that trained in it.
      steps: how many steps those had taken at its end, from the beginning.
      chosen: the numbers of those points in ``rungs[0].points``, a list for each rung.
      state: the states at the end of the last rung: a tree of arrays with axes ``[points, seeds]``.
      metric: the name of the metric that decided.
      mode: "min" or "max".
    """

    rungs: list[SweepResult]
    steps: list[int]
    chosen: list[list[int]]
    state: PyTree
    metric: str
    mode: str

    def __repr__(self) -> str:
        rungs = ", ".join(f"{len(rung.points)} to {steps}" for rung, steps in zip(self.rungs, self.steps, strict=True))
        seeds = len(self.rungs[0].seeds)
        return f"HalvingResult(points of {', '.join(self.rungs[0].points[0])} to steps: {rungs}; {seeds} seeds)"

    def best(self) -> dict[str, Any]:
        """The best point of the last rung.

        Raises:
          ValueError: every point of it has a lane that is NaN or infinite.
        """
        return self.rungs[-1].best(self.metric, self.mode)

    def table(self) -> Table:
        """A row for each point: its hyperparameters, the steps that it took, and its metric then.

        The columns of the metric are those of ``SweepResult.table``, at the last rung that the point trained in.
        """
        names = list(self.rungs[0].points[0])
        _checks.require("steps" not in names, "table: an axis cannot be called 'steps', as a column of the table is.")
        rows: dict[int, dict[str, Any]] = {}
        for chosen, steps, rung in zip(self.chosen, self.steps, self.rungs, strict=True):
            for number, row in zip(chosen, rung.table(self.metric, self.mode), strict=True):
                point = {name: row.pop(name) for name in names}
                rows[number] = {**point, "steps": steps, **row}
        return Table(rows.values())

    def plot(self, *, log: bool = False, ax: Any = None) -> Any:
        """Draws the mean of the metric over the seeds, at each rung, as a line for each point.

        Points of the last rung have a color and a name; the others are grey and end at the rung where they lost. Where
        a lane is NaN or infinite there is a gap.

        Args:
          log: a logarithmic axis for the metric.
          ax: matplotlib axes to draw on, in the place of a new figure.

        Returns:
          The matplotlib ``Figure``, neither shown nor saved. Needs matplotlib.
        """
        figure, ax = _figure.axes_on(ax)
        curves: dict[int, list[float]] = {}
        for chosen, rung in zip(self.chosen, self.rungs, strict=True):
            for number, mean in zip(chosen, rung.mean(self.metric).tolist(), strict=True):
                curves.setdefault(number, []).append(mean if np.isfinite(mean) else np.nan)
        left = self.chosen[-1]
        for number in [*(number for number in curves if number not in left), *left]:
            curve, last = curves[number], number in left
            style = _figure.line_style(left.index(number)) if last else {"color": "0.75", "linewidth": 1}
            label = point_label(self.rungs[0].points[number].items()) if last else None
            ax.plot(self.steps[: len(curve)], curve, marker="o", markersize=4, label=label, **style)
        ax.legend(frameon=False, fontsize="small")
        if log:
            ax.set_yscale("log", nonpositive="mask")
        ax.set_xlabel("steps")
        ax.set_ylabel(self.metric.replace("_", " "))
        _figure.tidy(ax)
        return figure
