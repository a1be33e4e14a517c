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

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from jaxopt_lessons.train import lanes
from jaxopt_lessons.train.kept import kept
from jaxopt_lessons.train.search_space import Points, keys_of, seed_list, space_points
from jaxopt_lessons.train.sweep_result import SweepResult
from jaxopt_lessons.types import PyTree

Run = Callable[[dict[str, jax.Array], jax.Array], PyTree]
Space = Mapping[str, Any] | Sequence[Mapping[str, Any]]


def sweep(run: Run, space: Space, seeds: int | Sequence[int] = 1, *, how: str | int | Mesh = "auto") -> SweepResult:
    """Runs a training at all combinations of some hyperparameters, as one compiled program.

    Args:
      run: a pure function ``run(hp, key)`` that trains and returns a tree of arrays, such as ``{"loss": loss}``. ``hp``
        is a dict with one value of each axis, a scalar array; ``key`` is ``jax.random.key(seed)``, the same for all
        points. It is traced, so it takes steps with ``make_scan`` or ``make_epoch`` and not with ``fit``. Its programs
        are kept by the identity of the function: define it once.
      space: the axes, a dict of lists or arrays ``[n]`` of numbers; all combinations are run, the last axis fastest. Or
        the points themselves, a list of dicts with the same names, such as random ones. Where all numbers of a name are
        whole they arrive as int32, else as float32 (the integer and float of JAX).
      seeds: how many seeds, ``0 ... seeds - 1``, or a list of them.
      how: "vmap", "map", a whole number of lanes at once, "shard" for all devices or a ``Mesh`` for the devices of one
        (the lanes that fill up the last share are dropped), or "auto".

    Returns:
      A ``SweepResult``, with the outputs of ``run`` in ``values``, on axes ``[points, seeds]`` in front of their own.

    Raises:
      TypeError: the space is not of numbers, ``run`` does not return arrays, or a seed is no whole number.
      ValueError: an axis is empty or not used by ``run``, the points have different names, or ``how`` is none of those.

    >>> def run(hp, key):
    ...     start = jax.random.normal(key)
    ...     return {"loss": (start * (1 - hp["learning_rate"]) ** 10) ** 2}
    >>> result = sweep(run, {"learning_rate": [0.1, 1.0, 3.0]}, seeds=4)
    >>> result.values["loss"].shape, result.best()
    ((3, 4), {'learning_rate': 1.0})
    """
    points, seeds = space_points("sweep", space), seed_list("sweep", seeds)
    traced = trace("sweep", run, points, len(seeds))
    layout = lanes.layout_of("sweep", how, traced.jaxpr, len(points.points) * len(seeds))
    return SweepResult(points.points, seeds, lanes.run(traced, layout, points.arrays(), keys_of(seeds)))


def trace(owner: str, run: Run, points: Points, seeds: int) -> Any:
    """The trace of one lane."""
    lanes.require_function(owner, "run", run, "(hp, key) -> tree of arrays")
    return lanes.trace_with_key(owner, "run", _lane(run, owner), points, seeds)


@kept
def _lane(run: Run, owner: str) -> Any:
    def lane(hp: dict[str, jax.Array], key: jax.Array) -> PyTree:
        values = run(hp, key)
        lanes.require_arrays(owner, "run", values)
        return values

    return lanes.explained(owner, lane)
