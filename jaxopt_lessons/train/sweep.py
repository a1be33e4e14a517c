"""``sweep``: whole trainings at all points of a grid and for several seeds, as one compiled program.

    lanes          = points x seeds
    values[lane]   = run(point, jax.random.key(seed))

How the lanes are laid out in the program:

    "vmap"    all at once: the largest operations, and the memory of all lanes
    "map"     one after the other in a loop: the memory of one lane
    n         n at once, in a loop
    "shard"   spread over the devices, a share for each
    "auto"    "vmap" on accelerators; on CPUs "map" for many lanes, except with convolutions

On two CPU cores, compiled, "map" took 0.96 to 1.6 times as long as "vmap", longer for small networks and as long for
784-128-128-10 (tests/benchmarks/sweep.py); it needs the memory of one lane and compiles in half the time. But a
convolution that ``run`` has outside of loops would come into one: 1.4 to 2.6 times as long (jax issue 12868). The
arrays that ``run`` closes over, such as its data, are arguments of the program and not constants of it.
"""

import difflib
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.sharding import Mesh, PartitionSpec

from jaxopt_lessons import _checks, _errors, numerics
from jaxopt_lessons.train import compilation
from jaxopt_lessons.train.cost import cost_of
from jaxopt_lessons.train.sweep_result import SweepResult
from jaxopt_lessons.types import PyTree

FEW_LANES = 4
"""On CPUs "auto" takes "vmap" up to this many lanes."""

Run = Callable[[dict[str, jax.Array], jax.Array], PyTree]


def sweep(
    run: Run, space: Mapping[str, Any], seeds: int | Sequence[int] = 1, *, how: str | int | Mesh = "auto"
) -> SweepResult:
    """Runs a training at all combinations of some hyperparameters, as one compiled program.

    Args:
      run: a pure function ``run(hp, key)`` that trains and returns a tree of arrays, such as ``{"loss": loss}``. ``hp``
        is a dict with one value of each axis, a scalar array; ``key`` is ``jax.random.key(seed)``, the same for all
        points. It is traced, so it takes steps with ``make_scan`` or ``make_epoch`` and not with ``fit``. Its programs
        are kept by the identity of the function: define it once.
      space: the axes, a dict of lists or arrays ``[n]`` of numbers; all combinations are run, the last axis fastest. An
        axis of whole numbers only arrives as int32, any other as float32 (the integer and float of JAX).
      seeds: how many seeds, ``0 ... seeds - 1``, or a list of them.
      how: "vmap", "map", a whole number of lanes at once, "shard" for all devices or a ``Mesh`` for the devices of one
        (the lanes that fill up the last share are dropped), or "auto".

    Returns:
      A ``SweepResult``, with the outputs of ``run`` in ``values``, on axes ``[points, seeds]`` in front of their own.

    Raises:
      TypeError: an axis is no list of numbers, ``run`` does not return arrays, or a seed is no whole number.
      ValueError: an axis is empty or not used by ``run``, or ``how`` is none of those.

    >>> def run(hp, key):
    ...     start = jax.random.normal(key)
    ...     return {"loss": (start * (1 - hp["learning_rate"]) ** 10) ** 2}
    >>> result = sweep(run, {"learning_rate": [0.1, 1.0, 3.0]}, seeds=4)
    >>> result.values["loss"].shape, result.best()
    ((3, 4), {'learning_rate': 1.0})
    """
    if not callable(run):
        raise TypeError(f"sweep: run must be a function (hp, key) -> tree of arrays; got {run!r}.")
    axes = _axes(space)
    seeds = _seeds(seeds)
    lanes = math.prod(len(axis) for axis in axes.values()) * len(seeds)
    traced = _trace(run, axes, len(seeds))
    layout, mesh = _layout(how, traced.jaxpr, lanes)
    points = [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]
    hp = {name: np.array([point[name] for point in points], _dtype(axis)) for name, axis in axes.items()}
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    program = _program(traced.jaxpr.jaxpr, jax.tree.structure(traced.out_info), layout, mesh)
    return SweepResult(points, seeds, program(traced.jaxpr.consts, hp, keys))


# ---------------------------------------------------------------------------------------------------------------------
# What to run
# ---------------------------------------------------------------------------------------------------------------------


def _axes(space: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The values of each axis as Python's numbers, all of one kind."""
    if not isinstance(space, Mapping) or not all(isinstance(name, str) for name in space):
        raise TypeError(f"sweep: space must map names to lists of numbers; got {space!r}.")
    _checks.require(bool(space), "sweep: space is empty: name one axis or more.")
    return {name: _axis(name, values) for name, values in space.items()}


def _axis(name: str, values: Any) -> list[Any]:
    if isinstance(values, (np.ndarray, jax.Array)) and values.ndim == 1:
        values = list(np.asarray(values))
    if not isinstance(values, (list, tuple, range)):
        raise TypeError(f"sweep: {name} must be a list of numbers; got {_errors.describe(values)}.")
    _checks.require(len(values) > 0, f"sweep: {name} is empty: an axis needs one value or more.")
    numbers = [_number(name, value) for value in values]
    if not all(isinstance(number, int) for number in numbers):
        return [float(number) for number in numbers]
    most = np.iinfo(jnp.result_type(int)).max
    _checks.require(
        all(abs(number) <= most for number in numbers),
        lambda: f"sweep: {name} has whole numbers above {most}; write them as floats.",
    )
    return numbers


def _number(name: str, value: Any) -> Any:
    """A number as Python's; of a float32 the shortest one that rounds to it, 0.1 and not 0.10000000149."""
    if isinstance(value, (np.generic, np.ndarray, jax.Array)) and not value.shape:
        value = float(str(value)) if value.dtype == np.float32 else np.asarray(value).item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"sweep: the values of {name} must be numbers; got {_errors.describe(value)}.")
    return value


def _dtype(numbers: list[Any]) -> Any:
    return jnp.result_type(int) if isinstance(numbers[0], int) else numerics.float_dtype()


def _seeds(seeds: Any) -> list[int]:
    if isinstance(seeds, (int, np.integer)):
        return list(range(_checks.whole("sweep", "seeds", seeds, least=1)))
    if isinstance(seeds, (np.ndarray, jax.Array)):
        seeds = np.asarray(seeds).tolist()
    if not isinstance(seeds, (list, tuple, range)):
        raise TypeError(f"sweep: seeds must be a number of seeds or a list of whole numbers; got {seeds!r}.")
    _checks.require(len(seeds) > 0, "sweep: seeds is empty.")
    return [_checks.whole("sweep", "a seed", seed, least=0) for seed in seeds]


@functools.lru_cache(maxsize=64)
def _jitted(run: Run) -> Any:
    """``run`` with its errors explained, under ``jit``, which remembers how it was traced."""

    def checked(hp: dict[str, jax.Array], key: jax.Array) -> PyTree:
        try:
            values = run(hp, key)
        except KeyError as error:
            if error.args and isinstance(error.args[0], str) and error.args[0] not in hp:
                error.add_note(f"sweep: hp has the axes of space.{_nearest(error.args[0], list(hp))}")
            raise
        except jax.errors.ConcretizationTypeError as error:
            error.add_note(
                "sweep: run is traced, so it cannot call fit, or branch on a number: use make_scan or make_epoch."
            )
            raise
        for path, leaf in jax.tree_util.tree_leaves_with_path(values):
            if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, int, float, complex)):
                raise TypeError(
                    f"sweep: run must return a tree of arrays; the leaf at {_errors.path_name(path)!r} is "
                    f"{_errors.describe(leaf)}."
                )
        if not jax.tree.leaves(values):
            raise TypeError(f"sweep: run must return a tree of arrays; got {values!r}.")
        return values

    return jax.jit(checked)


def _trace(run: Run, axes: dict[str, list[Any]], seeds: int) -> Any:
    """The jaxpr and the outputs of one lane; raises if the lanes could not differ."""
    try:
        jitted = _jitted(run)
    except TypeError:
        raise TypeError(f"sweep: run must be hashable, as functions are; got {run!r}.") from None
    hp = {name: jax.ShapeDtypeStruct((), _dtype(axis)) for name, axis in axes.items()}
    traced = jitted.trace(hp, jax.ShapeDtypeStruct((), jax.random.key(0).dtype))
    jaxpr = traced.jaxpr.jaxpr
    used = {id(v) for equation in jaxpr.eqns for v in equation.invars} | {id(v) for v in jaxpr.outvars}
    *inputs, key = [id(v) in used for v in jaxpr.invars]
    unused = [name for name, is_used in zip(sorted(axes), inputs, strict=True) if not is_used]
    _checks.require(not unused, lambda: f"sweep: run does not use hp[{unused[0]!r}]: all its values would be one.")
    _checks.require(key or seeds == 1, lambda: f"sweep: run does not use its key: {seeds} seeds would be one.")
    return traced


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return (f" Did you mean {near[0]!r}?" if near else "") + f" There are: {', '.join(known)}."


# ---------------------------------------------------------------------------------------------------------------------
# How to run it
# ---------------------------------------------------------------------------------------------------------------------


def _layout(how: Any, lane: ClosedJaxpr, lanes: int) -> tuple[str | int, Mesh | None]:
    """How the lanes of a device run, "vmap", "map" or a number at once, and the mesh to share them out over."""
    if isinstance(how, (int, np.integer)) and not isinstance(how, bool):
        return _checks.whole("sweep", "how", how, least=1), None
    mesh = how if isinstance(how, Mesh) else None
    if mesh is None and (not isinstance(how, str) or how not in ("auto", "vmap", "map", "shard")):
        raise ValueError(
            "sweep: how must be 'auto', 'vmap', 'map', a whole number of lanes at once, 'shard' or a Mesh; "
            f"got {how!r}."
        )
    if isinstance(how, str) and how in ("vmap", "map"):
        return how, None
    if how == "shard":
        mesh = Mesh(np.asarray(jax.devices()), ("lanes",))
    share = lanes if mesh is None else -(-lanes // mesh.size)
    on_cpu = (jax.default_backend() if mesh is None else mesh.devices.flat[0].platform) == "cpu"
    return "map" if on_cpu and share > FEW_LANES and not cost_of(lane.jaxpr).has_convolution else "vmap", mesh


@functools.lru_cache(maxsize=64)
def _program(jaxpr: Any, structure: Any, layout: str | int, mesh: Mesh | None) -> Callable[..., PyTree]:
    """The compiled program of all lanes, for any number of points and seeds."""

    @compilation.counted()
    def run_lanes(consts: list[Any], hp: dict[str, jax.Array], keys: jax.Array) -> PyTree:
        points, seeds = len(next(iter(hp.values()))), len(keys)

        def lane(consts: list[Any], inputs: tuple[dict[str, jax.Array], jax.Array]) -> list[jax.Array]:
            return jaxpr_as_fun(ClosedJaxpr(jaxpr, consts))(*jax.tree.leaves(inputs))

        def together(consts: list[Any], inputs: PyTree) -> list[jax.Array]:
            one = functools.partial(lane, consts)
            if layout == "vmap":
                return jax.vmap(one)(inputs)
            return jax.lax.map(one, inputs, batch_size=layout if isinstance(layout, int) else None)

        inputs = {name: jnp.repeat(values, seeds) for name, values in hp.items()}, jnp.tile(keys, points)
        if mesh is None:
            outputs = together(consts, inputs)
        else:
            lanes = PartitionSpec(mesh.axis_names)
            filled = np.arange(-(-points * seeds // mesh.size) * mesh.size) % (points * seeds)
            inputs = jax.tree.map(lambda x: x[filled], inputs)
            share = jax.shard_map(
                together, mesh=mesh, in_specs=(PartitionSpec(), lanes), out_specs=lanes, check_vma=False
            )
            outputs = share(consts, inputs)
        split = [x[: points * seeds].reshape(points, seeds, *x.shape[1:]) for x in outputs]
        return jax.tree.unflatten(structure, split)

    return run_lanes
