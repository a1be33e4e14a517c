"""The points that a search trains at, and its seeds: lists of numbers as the arrays of a compiled program."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _checks, _errors, numerics


class Points(NamedTuple):
    """Combinations of hyperparameters.

    Attributes:
      points: for each a dict of Python's numbers.
      dtypes: of each hyperparameter, by its name.
    """

    points: list[dict[str, Any]]
    dtypes: dict[str, Any]

    def arrays(self, chosen: Sequence[int] | None = None) -> dict[str, np.ndarray]:
        """The numbers ``[points]`` of each hyperparameter."""
        points = self.points if chosen is None else [self.points[i] for i in chosen]
        return {name: np.array([point[name] for point in points], dtype) for name, dtype in self.dtypes.items()}

    def shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """What one lane gets."""
        return {name: jax.ShapeDtypeStruct((), dtype) for name, dtype in self.dtypes.items()}


def space_points(owner: str, space: Any) -> Points:
    """All combinations of axes, the last one fastest; or the points of a list."""
    if isinstance(space, Mapping) and all(isinstance(name, str) for name in space):
        _checks.require(bool(space), f"{owner}: space is empty: name one axis or more.")
        axes = {name: _axis(owner, name, values) for name, values in space.items()}
        points = [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]
    elif isinstance(space, (list, tuple)) and all(isinstance(point, Mapping) for point in space):
        axes = _columns(owner, space)
        points = [dict(zip(axes, point, strict=True)) for point in zip(*axes.values(), strict=True)]
    else:
        raise TypeError(f"{owner}: space must map names to lists of numbers, or be a list of points; got {space!r}.")
    return Points(points, {name: number_dtype(axis) for name, axis in axes.items()})


def _columns(owner: str, points: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    _checks.require(bool(points) and bool(points[0]), f"{owner}: space is empty: give one point or more.")
    names = list(points[0])
    for point in points:
        if set(point) != set(names) or not all(isinstance(name, str) for name in point):
            raise ValueError(f"{owner}: the points of space must have the same names; got {points[0]!r} and {point!r}.")
    return {name: _axis(owner, name, [point[name] for point in points]) for name in names}


def _axis(owner: str, name: str, values: Any) -> list[Any]:
    """The values of an axis as Python's numbers, all of one kind."""
    if isinstance(values, (np.ndarray, jax.Array)) and values.ndim == 1:
        values = list(np.asarray(values))
    if not isinstance(values, (list, tuple, range)):
        raise TypeError(f"{owner}: {name} must be a list of numbers; got {_errors.describe(values)}.")
    _checks.require(len(values) > 0, f"{owner}: {name} is empty: an axis needs one value or more.")
    numbers = [_number(owner, name, value) for value in values]
    if not all(isinstance(number, int) for number in numbers):
        return [float(number) for number in numbers]
    most = np.iinfo(jnp.result_type(int)).max
    _checks.require(
        all(abs(number) <= most for number in numbers),
        lambda: f"{owner}: {name} has whole numbers above {most}; write them as floats.",
    )
    return numbers


def _number(owner: str, name: str, value: Any) -> Any:
    """A number as Python's; of a float32 the shortest one that rounds to it, 0.1 and not 0.10000000149."""
    if isinstance(value, (np.generic, np.ndarray, jax.Array)) and not value.shape:
        value = float(str(value)) if value.dtype == np.float32 else np.asarray(value).item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{owner}: the values of {name} must be numbers; got {_errors.describe(value)}.")
    return value


def number_dtype(numbers: Sequence[Any]) -> Any:
    """JAX's integer for numbers of one kind that are whole, else its float."""
    return jnp.result_type(int) if isinstance(numbers[0], int) else numerics.float_dtype()


def seed_list(owner: str, seeds: Any) -> list[int]:
    """``0 ... seeds - 1``, or the given seeds."""
    if isinstance(seeds, (int, np.integer)):
        return list(range(_checks.whole(owner, "seeds", seeds, least=1)))
    if isinstance(seeds, (np.ndarray, jax.Array)):
        seeds = np.asarray(seeds).tolist()
    if not isinstance(seeds, (list, tuple, range)):
        raise TypeError(f"{owner}: seeds must be a number of seeds or a list of whole numbers; got {seeds!r}.")
    _checks.require(len(seeds) > 0, f"{owner}: seeds is empty.")
    return [_checks.whole(owner, "a seed", seed, least=0) for seed in seeds]


def keys_of(seeds: Sequence[int]) -> jax.Array:
    return jnp.stack([jax.random.key(seed) for seed in seeds])
