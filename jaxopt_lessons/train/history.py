"""``History``: what a run measured, as NumPy columns.

history["loss"]              one number for each step
history["val_loss"]          one number for each validation
history.steps("val_loss")    the batches consumed when each of them was measured
history.epoch_mean("loss")   one number for each epoch, every example with equal weight
history.plot()               a figure; to_csv, to_pandas and to_dict take it elsewhere

Memory: 8 bytes a step, and 4 for each column.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_lessons.train import history_plot, history_table


class History(Mapping[str, np.ndarray]):
    """Columns by name. Training metrics have a row for each step, ``val_*`` a row for each validation."""

    def __init__(self) -> None:
        self._tables: list[_Table] = []
        self._table_of: dict[str, _Table] = {}

    def append(self, metrics: Mapping[str, Any], steps: Any, epoch: int | np.ndarray) -> None:
        """Adds rows to columns: to all that were added together before, one for each of ``steps``."""
        steps = np.atleast_1d(np.asarray(steps))
        rows = {name: np.atleast_1d(np.asarray(values)) for name, values in metrics.items()}
        for name, values in rows.items():
            if values.shape != steps.shape:
                raise ValueError(f"history: {name!r} has shape {values.shape} for {steps.shape} steps.")
        tables = list(dict.fromkeys(self._table_of[name] for name in rows if name in self._table_of))
        known = {name for table in tables for name in table.columns}
        if missing := sorted(known - set(rows)):
            raise ValueError(
                f"history: {', '.join(sorted(rows))} come without {missing[0]!r}, which has the same rows."
            )
        new = [name for name in rows if name not in known]
        if new:
            tables.append(_Table(new))
            self._tables.append(tables[-1])
            self._table_of |= dict.fromkeys(new, tables[-1])
        for table in tables:
            table.append({name: rows[name] for name in table.columns}, steps, epoch)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._table(name).columns[name].values

    def __iter__(self) -> Iterator[str]:
        return iter(self._table_of)

    def __len__(self) -> int:
        return len(self._table_of)

    def __repr__(self) -> str:
        return f"History({', '.join(f'{name}: {len(self[name])}' for name in self)})"

    def steps(self, name: str) -> np.ndarray:
        """The batches of the whole run consumed when each row was measured, those of skipped steps included."""
        return self._table(name).steps.values

    def epochs(self, name: str) -> np.ndarray:
        """The epoch that each row belongs to, counted from 0."""
        return self._table(name).epochs.values

    def epoch_mean(self, name: str) -> np.ndarray:
        """The mean of each epoch, weighted by the number of examples (or the weight) behind each row.

        Rows of weight 0 are left out, whatever stands there: NaN, for instance, where ``with_guard`` skipped a step.
        Its column ``skipped`` is the share of such steps.
        """
        epochs = self.epochs(name)
        return np.array([self.mean(name, epochs == epoch) for epoch in np.unique(epochs)])

    def mean(self, name: str, rows: Any = slice(None)) -> float:
        """The mean of some rows, with the weights of ``epoch_mean``."""
        values, weights = self[name][rows], self.weights(name)[rows]
        weighed = np.where(weights == 0, 0, values) * weights
        return np.sum(weighed, dtype=float) / (np.sum(weights) or 1)

    def weights(self, name: str) -> np.ndarray:
        """The number of examples (or the weight) behind each row, 1 where none was measured."""
        table = self._table(name)
        if "weight" in table.columns and name != "skipped":
            return table.columns["weight"].values
        return np.ones(len(self[name]))

    def to_dict(self) -> dict[str, list[float]]:
        """Plain lists, for JSON."""
        return {name: self[name].tolist() for name in self}

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes a table with a row for each number of batches consumed: ``batches``, ``epoch``, and the columns.

        Where a column has no row there is a blank. Numbers come back as they were, as numbers of their dtype.

        Args:
          path: the file; it is replaced if it exists.
        """
        history_table.write(path, self)

    def to_pandas(self) -> Any:
        """A pandas ``DataFrame`` (needs pandas) with a row for each number of batches consumed, which is its index.

        Its columns are ``epoch`` and those of the history, with NaN where a column has no row.
        """
        try:
            import pandas
        except ImportError:
            raise ImportError("History.to_pandas needs pandas: pip install pandas") from None
        columns = dict(history_table.arrays(self))
        index = pandas.Index(columns.pop("batches"), name="batches")
        return pandas.DataFrame(columns, index=index)

    def plot(
        self, *names: str, x: str = "steps", log: bool = False, smooth: float | None = None, axes: Any = None
    ) -> Any:
        """Draws columns: a panel for each quantity, with training and validation together, one for learning rates.

        The numbers of the steps are thin lines, and thick ones on top are their exponentially weighted averages, with
        bias correction, as of ``jl.ema``. ``val_*`` are points on a line.

        Args:
          names: which columns; by default all but the weights. ``"loss"`` does not include ``"val_loss"``.
          x: "steps", the batches consumed; or "epochs": the mean of each epoch, weighted as in ``epoch_mean``, and
            nothing to smooth.
          log: logarithmic axes for all but learning rates; values that are not positive are left out.
          smooth: the decay of the average, in ``[0, 1)``; 0 for none; None for an average over a 50th of the steps.
          axes: matplotlib axes to draw on, one for each panel, in the place of a new figure.

        Returns:
          The matplotlib ``Figure``, neither shown nor saved. Needs matplotlib.

        >>> step = jl.make_step(lambda w, x: (w - x) ** 2, jl.adam(jl.linear_schedule(0.5, 0.0, 60)))
        >>> data = jax.random.normal(jax.random.key(0), (80,))
        >>> out = jl.fit(step, jl.init_state(5.0, step), data, epochs=3, batch_size=4, val=data[:20])
        >>> figure = out.history.plot(log=True)
        >>> [axis.get_ylabel() for axis in figure.axes]
        ['loss', 'learning rate']
        """
        return history_plot.plot(self, names, x, log, smooth, axes)

    def to_records(self) -> dict[str, np.ndarray]:
        """Everything as arrays by name, for ``from_records``: what a checkpoint keeps."""
        records = {}
        for number, table in enumerate(self._tables):
            records |= {f"{number}/steps": table.steps.values, f"{number}/epochs": table.epochs.values}
            records |= {f"{number}/column/{name}": column.values for name, column in table.columns.items()}
        return records

    @classmethod
    def from_records(cls, records: Mapping[str, np.ndarray]) -> "History":
        """The history that ``to_records`` took apart."""
        history = cls()
        for number in sorted({int(key.split("/")[0]) for key in records}):
            begin = f"{number}/column/"
            columns = {key.removeprefix(begin): values for key, values in records.items() if key.startswith(begin)}
            history.append(columns, records[f"{number}/steps"], records[f"{number}/epochs"])
        return history

    def _table(self, name: str) -> "_Table":
        if name not in self._table_of:
            known = ", ".join(self._table_of) or "nothing yet"
            raise KeyError(f"history has no {name!r}; it has {known}")
        return self._table_of[name]


class _Table:
    """Columns that have the same rows."""

    def __init__(self, names: Iterable[str]):
        self.columns = {name: _Column() for name in names}
        self.steps, self.epochs = _Column(), _Column()

    def append(self, rows: Mapping[str, np.ndarray], steps: np.ndarray, epoch: int | np.ndarray) -> None:
        for name, values in rows.items():
            self.columns[name].append(values)
        self.steps.append(steps.astype(np.int32))
        self.epochs.append(np.broadcast_to(np.asarray(epoch, np.int32), steps.shape))


class _Column:
    """A vector that grows: rows are added one at a time without being copied each time."""

    def __init__(self) -> None:
        self._space = np.empty(0)
        self._length = 0

    @property
    def values(self) -> np.ndarray:
        view = self._space[: self._length]
        view.flags.writeable = False
        return view

    def append(self, values: Sequence[Any] | np.ndarray) -> None:
        values = np.asarray(values)
        dtype = values.dtype if not self._length else np.result_type(self._space, values)
        needed = self._length + len(values)
        if needed > len(self._space) or dtype != self._space.dtype:
            space = np.empty(max(needed, len(self._space) * 3 // 2), dtype)
            space[: self._length] = self._space[: self._length]
            self._space = space
        self._space[self._length : needed] = values
        self._length = needed
