"""A grid of hyperparameters as one stack of optimizers, for ``vmap``.

    points = all combinations of the axes' values, the last axis fastest
    tx     = the optimizers of the points, leaf by leaf on a leading axis: one lane for each

So ``jax.vmap(run)(grid(adamw, learning_rate=[1e-4, 1e-3], weight_decay=[0.0, 0.1]).tx)`` is four runs in one program,
and other values in the lists compile nothing.
"""

import difflib
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _checks, numerics
from jaxopt_lessons._value import Value


class Grid(Sequence[Any]):
    """What ``grid`` returns: a stack of optimizers, and what each lane is. ``grid[i]`` is the optimizer of lane i.

    Attributes:
      tx: the stack: an optimizer whose leaves have a leading axis, for ``vmap``.
      points: for each lane the values of the axes, by name.
    """

    __slots__ = ("_members", "points", "tx")

    def __init__(self, tx: Any, points: list[dict[str, Any]], members: list[Any]):
        self.tx = tx
        self.points = points
        self._members = members

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, lane: Any) -> Any:
        return self._members[lane]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._members)

    def __repr__(self) -> str:
        return f"Grid({len(self)} of {self._members[0].name}: {', '.join(self.points[0])})"


def grid(factory: Callable[..., Any], /, **axes: Any) -> Grid:
    """Optimizers for all combinations of some hyperparameters, stacked for ``vmap``.

    Args:
      factory: ``adamw`` or another factory, or a function that returns an optimizer:
        ``lambda learning_rate, max_norm: chain(clip_by_global_norm(max_norm), adam(learning_rate))``.
      axes: arguments of the factory. A list, tuple, range or array is an axis of the grid: numbers, or schedules that
        differ in their numbers only. Any other value is the same in all lanes.

    Returns:
      A ``Grid``: ``.tx``, the stack; ``.points``, a dict for each lane; ``len``; and the optimizer of a lane by index.
      The last axis changes fastest.

    Raises:
      TypeError: the factory has no such argument, an axis is no hyperparameter but part of the structure (a flag, a
        mask, a dtype), or the optimizers differ in more than numbers.
      ValueError: an axis is empty, or a value out of range.

    >>> lanes = grid(jl.adamw, learning_rate=[1e-4, 1e-3], weight_decay=[0.0, 1.0])
    >>> lanes.points[1], lanes.tx.arguments["weight_decay"]
    ({'learning_rate': 0.0001, 'weight_decay': 1.0}, Array([0., 1., 0., 1.], dtype=float32))
    >>> jax.vmap(lambda tx: tx.update(jnp.ones(1), tx.init(jnp.ones(1)), jnp.ones(1))[0])(lanes.tx).ravel().round(4)
    Array([-0.0001, -0.0002, -0.001 , -0.002 ], dtype=float32)
    """
    _checks.function("grid", "factory", factory)
    owner = f"grid of {getattr(factory, '__name__', 'a factory')}"
    _check_names(owner, factory, axes)
    values = {name: _values(owner, name, value) for name, value in axes.items() if _is_axis(value)}
    fixed = {name: value for name, value in axes.items() if name not in values}
    points = [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]
    members = [_member(owner, factory, point, fixed) for point in points]
    for name, choices in values.items():
        _check_axis(owner, name, choices, points, members)
    _check_structure(owner, members)
    return Grid(jax.tree.map(_stacked, *members), points, members)


def _is_axis(value: Any) -> bool:
    return isinstance(value, (list, tuple, range)) or (isinstance(value, (np.ndarray, jax.Array)) and value.ndim > 0)


def _check_names(owner: str, factory: Callable[..., Any], axes: Mapping[str, Any]) -> None:
    parameters = inspect.signature(factory).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in axes:
        if name not in parameters:
            near = difflib.get_close_matches(name, parameters, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{owner}: no argument {name!r}.{hint} The arguments are: {', '.join(parameters)}.")


def _values(owner: str, name: str, axis: Any) -> list[Any]:
    if isinstance(axis, (np.ndarray, jax.Array)):
        if axis.ndim != 1:
            raise TypeError(f"{owner}: {name} must have one axis of numbers; got an array of shape {axis.shape}.")
        axis = np.asarray(axis).tolist() if axis.dtype != jnp.bfloat16 else np.asarray(axis, np.float32).tolist()
    axis = list(axis)
    if not axis:
        raise ValueError(f"{owner}: {name} is empty: an axis needs one value or more.")
    return axis


def _member(owner: str, factory: Callable[..., Any], point: Mapping[str, Any], fixed: Mapping[str, Any]) -> Value:
    try:
        made = factory(**point, **fixed)
    except (TypeError, ValueError) as error:
        where = ", ".join(f"{name}={value!r}" for name, value in point.items())
        raise type(error)(f"{owner}, at {where}: {error}") from None
    if not isinstance(made, Value):
        raise TypeError(f"{owner}: must return an optimizer of this library; got {made!r}.")
    return made


def _check_axis(owner: str, name: str, choices: list[Any], points: list[dict[str, Any]], members: list[Any]) -> None:
    """Raises if values of an axis by themselves change the structure."""
    rest = {key: value for key, value in points[0].items() if key != name}
    line = [
        (point[name], member)
        for point, member in zip(points, members, strict=True)
        if all(point[key] is value for key, value in rest.items())
    ]
    schedules = [isinstance(choice, Value) for choice in choices]
    for value, member in line:
        if jax.tree.structure(member) == jax.tree.structure(line[0][1]):
            continue
        if any(schedules):
            hint = "" if all(schedules) else " Write constant_schedule(...) for a number among schedules of one family."
            raise TypeError(
                f"{owner}: the values of {name} must differ in their numbers only; {line[0][0]!r} and {value!r} differ "
                f"in structure.{hint}"
            )
        raise TypeError(
            f"{owner}: {name} is no number but part of the structure, and with {line[0][0]!r} and {value!r} there are "
            "two programs. Make a grid for each."
        )


def _check_structure(owner: str, members: Sequence[Any]) -> None:
    structure = jax.tree.structure(members[0])
    for member in members:
        if jax.tree.structure(member) != structure:
            raise TypeError(f"{owner}: {members[0]!r} and {member!r} differ in structure. Make a grid for each.")


def _stacked(*leaves: Any) -> jax.Array:
    """Leaves of one place, of all lanes: floats in the precision of JAX's, whole numbers and arrays as they are."""
    if all(isinstance(leaf, float) for leaf in leaves):
        return jnp.asarray(leaves, numerics.float_dtype())
    return jnp.stack([jnp.asarray(leaf) for leaf in leaves])
