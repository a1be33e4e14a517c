"""``History``: what a run measured, as NumPy columns.

history["loss"]              one number for each step
history["val_loss"]          one number for each validation
history.steps("val_loss")    the step after which each of them was measured
history.epoch_mean("loss")   one number for each epoch, every example with equal weight
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


class History(Mapping[str, np.ndarray]):
    """Columns by name. Training metrics have a row for each step, ``val_*`` a row for each validation."""

    def __init__(self) -> None:
        self._columns: dict[str, list[np.ndarray]] = {}
        self._steps: dict[str, list[np.ndarray]] = {}
        self._epochs: dict[str, list[np.ndarray]] = {}

    def append(self, metrics: Mapping[str, Any], steps: Any, epoch: int) -> None:
        """Adds rows: one number, or one for each of ``steps``, to each column."""
        steps = np.atleast_1d(np.asarray(steps))
        for name, values in metrics.items():
            values = np.atleast_1d(np.asarray(values))
            if values.shape != steps.shape:
                raise ValueError(f"history: {name!r} has shape {values.shape} for {steps.shape} steps.")
            self._columns.setdefault(name, []).append(values)
            self._steps.setdefault(name, []).append(steps)
            self._epochs.setdefault(name, []).append(np.full(steps.shape, epoch))

    def __getitem__(self, name: str) -> np.ndarray:
        return self._column(self._columns, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        return f"History({', '.join(f'{name}: {len(self[name])}' for name in self)})"

    def steps(self, name: str) -> np.ndarray:
        """The steps of the whole run when each row was measured; of one ``fit``, those that were skipped count too."""
        return self._column(self._steps, name)

    def epochs(self, name: str) -> np.ndarray:
        """The epoch that each row belongs to, counted from 0."""
        return self._column(self._epochs, name)

    def epoch_mean(self, name: str) -> np.ndarray:
        """The mean of each epoch, weighted by the number of examples (or the weight) behind each row.

        Rows of weight 0 are left out, whatever stands there: NaN, for instance, where ``with_guard`` skipped a step.
        Its column ``skipped`` is the share of such steps.
        """
        values, epochs = self[name], self.epochs(name)
        weights = self["weight"] if "weight" in self._columns and name != "skipped" else np.ones(len(values))
        if len(weights) != len(values):  # a column of validations
            weights = np.ones(len(values))
        weighed = np.where(weights == 0, 0, values) * weights
        totals = [np.sum(weighed[epochs == e], dtype=float) for e in np.unique(epochs)]
        return np.array(
            [t / (np.sum(weights[epochs == e]) or 1) for e, t in zip(np.unique(epochs), totals, strict=True)]
        )

    def to_dict(self) -> dict[str, list[float]]:
        """Plain lists, for JSON."""
        return {name: self[name].tolist() for name in self}

    def _column(self, columns: dict[str, list[np.ndarray]], name: str) -> np.ndarray:
        if name not in columns:
            known = ", ".join(self._columns) or "nothing yet"
            raise KeyError(f"history has no {name!r}; it has {known}")
        columns[name] = [np.concatenate(columns[name])]
        return columns[name][0]
