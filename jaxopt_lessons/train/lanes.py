"""Many trainings side by side: one lane is traced, and a compiled program runs it for all points and seeds.

    lanes                        = points x seeds, the seeds fastest
    inputs and outputs of lanes  = arrays with axes [points, seeds] in front of their own

A lane takes ``(hp, given)``: one number of each hyperparameter, and what it starts with, a key or a state. It is traced
once for its shapes; what it closes over, such as the data, are arguments of the program (``consts``).
"""

import difflib
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.sharding import Mesh, PartitionSpec

from jaxopt_lessons import _checks, _errors
from jaxopt_lessons.train import compilation
from jaxopt_lessons.train.cost import cost_of
from jaxopt_lessons.train.search_space import Points
from jaxopt_lessons.types import PyTree

FEW_LANES = 4
"""On CPUs "auto" takes "vmap" up to this many lanes."""


class Layout(NamedTuple):
    """How the lanes are laid out.

    Attributes:
      share: how those of a device run: "vmap", "map" or a number at once.
      mesh: the devices to share them out over, or None.
    """

    share: str | int
    mesh: Mesh | None = None


# ---------------------------------------------------------------------------------------------------------------------
# One lane
# ---------------------------------------------------------------------------------------------------------------------


def explained(owner: str, lane: Callable[..., PyTree]) -> Any:
    """``lane`` with its errors explained, under ``jit``, which remembers how it was traced."""

    def checked(hp: dict[str, jax.Array], given: PyTree) -> PyTree:
        try:
            values = lane(hp, given)
        except KeyError as error:
            if error.args and isinstance(error.args[0], str) and error.args[0] not in hp:
                error.add_note(f"{owner}: hp has the axes of space.{_nearest(error.args[0], list(hp))}")
            raise
        except jax.errors.ConcretizationTypeError as error:
            error.add_note(
                f"{owner}: the training is traced, so it cannot call fit, or branch on a number: use make_scan or "
                "make_epoch."
            )
            raise
        return values

    return jax.jit(checked)


def require_function(owner: str, name: str, function: Any, signature: str) -> None:
    """Raises for what cannot be called, or not be kept by its identity."""
    if not callable(function):
        raise TypeError(f"{owner}: {name} must be a function {signature}; got {function!r}.")
    try:
        hash(function)
    except TypeError:
        raise TypeError(f"{owner}: {name} must be hashable, as functions are; got {function!r}.") from None


def require_arrays(owner: str, name: str, values: PyTree) -> None:
    """Raises unless a function returned a tree of arrays or numbers."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(values):
        if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, int, float, complex)):
            raise TypeError(
                f"{owner}: {name} must return a tree of arrays; the leaf at {_errors.path_name(path)!r} is "
                f"{_errors.describe(leaf)}."
            )
    if not jax.tree.leaves(values):
        raise TypeError(f"{owner}: {name} must return a tree of arrays; got {values!r}.")


def trace_with_key(owner: str, name: str, lane: Any, points: Points, seeds: int) -> Any:
    """The trace of a lane ``(hp, key)``; raises if the lanes could not differ."""
    hp = points.shapes()
    traced = lane.trace(hp, jax.ShapeDtypeStruct((), jax.random.key(0).dtype))
    jaxpr = traced.jaxpr.jaxpr
    used = {id(v) for equation in jaxpr.eqns for v in equation.invars} | {id(v) for v in jaxpr.outvars}
    *inputs, key = [id(v) in used for v in jaxpr.invars]
    unused = [name for name, is_used in zip(sorted(hp), inputs, strict=True) if not is_used]
    _checks.require(not unused, lambda: f"{owner}: {name} does not use hp[{unused[0]!r}]: all its values would be one.")
    _checks.require(key or seeds == 1, lambda: f"{owner}: {name} does not use its key: {seeds} seeds would be one.")
    return traced


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return (f" Did you mean {near[0]!r}?" if near else "") + f" There are: {', '.join(known)}."


# ---------------------------------------------------------------------------------------------------------------------
# All lanes
# ---------------------------------------------------------------------------------------------------------------------


def layout_of(owner: str, how: Any, lane: ClosedJaxpr, lanes: int) -> Layout:
    """The layout that ``how`` asks for."""
    if isinstance(how, (int, np.integer)) and not isinstance(how, bool):
        return Layout(_checks.whole(owner, "how", how, least=1))
    mesh = how if isinstance(how, Mesh) else None
    if mesh is None and (not isinstance(how, str) or how not in ("auto", "vmap", "map", "shard")):
        raise ValueError(
            f"{owner}: how must be 'auto', 'vmap', 'map', a whole number of lanes at once, 'shard' or a Mesh; "
            f"got {how!r}."
        )
    if isinstance(how, str) and how in ("vmap", "map"):
        return Layout(how)
    if how == "shard":
        mesh = Mesh(np.asarray(jax.devices()), ("lanes",))
    share = lanes if mesh is None else -(-lanes // mesh.size)
    on_cpu = (jax.default_backend() if mesh is None else mesh.devices.flat[0].platform) == "cpu"
    return Layout("map" if on_cpu and share > FEW_LANES and not cost_of(lane.jaxpr).has_convolution else "vmap", mesh)


def run(traced: Any, layout: Layout, hp: dict[str, np.ndarray], given: PyTree, chosen: Any = None) -> PyTree:
    """What all lanes return.

    Args:
      traced: the trace of a lane.
      layout: how to lay them out.
      hp: the numbers ``[points]`` of each hyperparameter.
      given: keys ``[seeds]``, the same for all points; or states ``[.., seeds]``, of which ``chosen`` says the points.
      chosen: None, or indices ``[points]`` into the first axis of ``given``.
    """
    program = _program(traced.jaxpr.jaxpr, jax.tree.structure(traced.out_info), layout)
    return program(traced.jaxpr.consts, hp, given, chosen)


@functools.lru_cache(maxsize=64)
def _program(jaxpr: Any, structure: Any, layout: Layout) -> Callable[..., PyTree]:
    """The compiled program of all lanes, for any number of points and seeds."""

    @compilation.counted()
    def run_lanes(consts: list[Any], hp: dict[str, jax.Array], given: PyTree, chosen: Any) -> PyTree:
        points = len(next(iter(hp.values())))
        if chosen is None:
            seeds = len(given)
            given = jax.numpy.tile(given, points)
        else:
            seeds = jax.tree.leaves(given)[0].shape[1]
            given = jax.tree.map(lambda x: x[chosen].reshape(points * seeds, *x.shape[2:]), given)
        inputs = {name: jax.numpy.repeat(values, seeds) for name, values in hp.items()}, given
        outputs = _over_lanes(jaxpr, layout, consts, inputs, points * seeds)
        split = [x[: points * seeds].reshape(points, seeds, *x.shape[1:]) for x in outputs]
        return jax.tree.unflatten(structure, split)

    return run_lanes


def _over_lanes(jaxpr: Any, layout: Layout, consts: list[Any], inputs: PyTree, lanes: int) -> list[jax.Array]:
    """The outputs ``[lanes, ...]``, with more lanes at the end if they fill up the share of the last device."""

    def together(consts: list[Any], inputs: PyTree) -> list[jax.Array]:
        def one(inputs: PyTree) -> list[jax.Array]:
            return jaxpr_as_fun(ClosedJaxpr(jaxpr, consts))(*jax.tree.leaves(inputs))

        if layout.share == "vmap":
            return jax.vmap(one)(inputs)
        return jax.lax.map(one, inputs, batch_size=layout.share if isinstance(layout.share, int) else None)

    mesh = layout.mesh
    if mesh is None:
        return together(consts, inputs)
    split = PartitionSpec(mesh.axis_names)
    filled = np.arange(-(-lanes // mesh.size) * mesh.size) % lanes
    inputs = jax.tree.map(lambda x: x[filled], inputs)
    share = jax.shard_map(together, mesh=mesh, in_specs=(PartitionSpec(), split), out_specs=split, check_vma=False)
    return share(consts, inputs)
