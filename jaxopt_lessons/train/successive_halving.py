"""``successive_halving``: many trainings begin, and at each rung the best ones go on.

    n_0     = number of points
    n_i     = max(floor(n_(i-1) / eta), 1)        the best n_i of the rung before go on
    rung i  = rungs[i] - rungs[i-1] more steps for n_i points

Rungs ``r, eta r, eta^2 r ...`` cost about the same each: with 81 points, eta 3 and rungs 1, 3, 9, 27, 81 all together
297 steps for 81 points that are looked at and one that is trained for 81, in the place of 6,561.

One compiled program for each rung, the first one with the beginning of the trainings. Between rungs the host reads one
number of each lane. Those that lost are not carried along under a mask: the next program gathers the states of the
others and has fewer lanes. All seeds of a point go on together; what counts is their mean.

Hyperband is this for several pairs of a number of points and a first rung.

Paper: Jamieson & Talwalkar 2016, Non-stochastic Best Arm Identification and Hyperparameter Optimization, arXiv
1502.07943; several pairs: Li et al. 2018, Hyperband, arXiv 1603.06560.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxopt_lessons import _checks, _errors
from jaxopt_lessons.train import lanes
from jaxopt_lessons.train.halving_result import HalvingResult
from jaxopt_lessons.train.kept import kept
from jaxopt_lessons.train.search_space import keys_of, seed_list, space_points
from jaxopt_lessons.train.sweep import Space
from jaxopt_lessons.train.sweep_result import SweepResult, metric_leaf
from jaxopt_lessons.types import PyTree

OWNER = "successive_halving"

Init = Callable[[dict[str, jax.Array], jax.Array], PyTree]
Train = Callable[[dict[str, jax.Array], Any, int], tuple[PyTree, PyTree]]


def successive_halving(
    init: Init,
    train: Train,
    space: Space,
    seeds: int | Sequence[int] = 1,
    *,
    rungs: Sequence[int],
    eta: int = 3,
    metric: str | None = None,
    mode: str = "min",
    how: str | int | Mesh = "auto",
) -> HalvingResult:
    """Trains at all points of a space for a few steps, and goes on with the best, again and again.

    A point with a lane that is NaN or infinite never goes on. If no point is left the search ends at that rung.

    Args:
      init: a pure function ``init(hp, key) -> state`` that begins a training: ``hp`` and ``key`` as in ``sweep``, and
        ``state`` any tree of arrays, such as a ``TrainState``.
      train: a pure function ``train(hp, state, steps) -> (state, values)`` that goes on for ``steps`` steps, an int,
        as ``make_scan(step, steps)`` does, and returns a tree of arrays such as ``{"loss": loss}``. What it does must
        depend on the state alone, so that steps in two rungs are those of one training. The programs are kept by the
        identity of both functions: define them once.
      space: the axes or the points, as in ``sweep``.
      seeds: how many seeds, ``0 ... seeds - 1``, or a list of them.
      rungs: at how many steps, counted from the beginning, the points are compared, increasing; the last is the length
        of the whole training.
      eta: one in ``eta`` points goes on, rounded down, at least one; 2 or more.
      metric: the name of the metric in ``values`` that counts; by default "loss", or the only one. Of a curve the last
        number counts.
      mode: "min" or "max": which number is the best.
      how: the layout of the lanes, as in ``sweep``, for each rung by itself.

    Returns:
      A ``HalvingResult``: a ``SweepResult`` for each rung, the states that are left, a table, the best point, a figure.

    Raises:
      TypeError: ``rungs`` are no whole numbers, ``train`` does not return a pair, or what ``sweep`` raises.
      ValueError: ``rungs`` do not increase, ``eta`` is below 2, there is no such metric, or what ``sweep`` raises.

    >>> def init(hp, key):
    ...     return jax.random.normal(key)
    >>> def train(hp, x, steps):
    ...     x = x * (1 - hp["learning_rate"]) ** steps
    ...     return x, {"loss": x**2}
    >>> space = {"learning_rate": [0.001, 0.01, 0.1, 0.5, 1.5, 2.5]}
    >>> result = successive_halving(init, train, space, seeds=2, rungs=[2, 6, 18], eta=2)
    >>> [[point["learning_rate"] for point in rung.points] for rung in result.rungs]
    [[0.001, 0.01, 0.1, 0.5, 1.5, 2.5], [0.1, 0.5, 1.5], [0.5]]
    """
    points, seeds = space_points(OWNER, space), seed_list(OWNER, seeds)
    lanes.require_function(OWNER, "init", init, "(hp, key) -> state")
    lanes.require_function(OWNER, "train", train, "(hp, state, steps) -> (state, values)")
    first, *others = _lengths(rungs)
    eta = _checks.whole(OWNER, "eta", eta, least=2)
    _checks.one_of(OWNER, "mode", mode, ("min", "max"))
    traced = lanes.trace_with_key(OWNER, "the training", _first_rung(train, init, first), points, len(seeds))
    metric, _ = metric_leaf(OWNER, traced.out_info[1], metric)

    def run(traced: Any, chosen: list[int], given: PyTree, rows: list[int] | None) -> tuple[PyTree, SweepResult]:
        layout = lanes.layout_of(OWNER, how, traced.jaxpr, len(chosen) * len(seeds))
        numbers = None if rows is None else np.asarray(rows)
        state, values = lanes.run(traced, layout, points.arrays(chosen), given, numbers)
        return state, SweepResult([points.points[i] for i in chosen], seeds, values)

    chosen = [list(range(len(points.points)))]
    state, result = run(traced, chosen[0], keys_of(seeds), None)
    results = [result]
    for steps in others:
        rows = sorted(results[-1].ranking(metric, mode)[: max(len(chosen[-1]) // eta, 1)])
        if not rows:
            break
        chosen.append([chosen[-1][row] for row in rows])
        traced = _next_rung(train, steps).trace(points.shapes(), jax.tree.map(_of_one_lane, state))
        state, result = run(traced, chosen[-1], state, rows)
        results.append(result)
    return HalvingResult(results, [int(steps) for steps in rungs][: len(results)], chosen, state, metric, mode)


def _lengths(rungs: Any) -> list[int]:
    """How many steps each rung takes."""
    if not isinstance(rungs, (list, tuple, range, np.ndarray)):
        raise TypeError(f"{OWNER}: rungs must be a list of numbers of steps, as in [10, 30, 90]; got {rungs!r}.")
    ends = [_checks.whole(OWNER, "a rung", steps, least=1) for steps in rungs]
    _checks.require(len(ends) > 0, f"{OWNER}: rungs is empty.")
    _checks.increasing(OWNER, "rungs", ends)
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


@kept
def _first_rung(train: Train, init: Init, steps: int) -> Any:
    def lane(hp: dict[str, jax.Array], key: jax.Array) -> tuple[PyTree, PyTree]:
        state = init(hp, key)
        lanes.require_arrays(OWNER, "init", state)
        return _trained(train, hp, jax.tree.map(jnp.asarray, state), steps)

    return lanes.explained(OWNER, lane)


@kept
def _next_rung(train: Train, steps: int) -> Any:
    return lanes.explained(OWNER, lambda hp, state: _trained(train, hp, state, steps))


def _trained(train: Train, hp: dict[str, jax.Array], state: PyTree, steps: int) -> tuple[PyTree, PyTree]:
    result = train(hp, state, steps)
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"{OWNER}: train must return a pair (state, values); got {_errors.describe(result)}.")
    lanes.require_arrays(OWNER, "train", result[0])
    lanes.require_arrays(OWNER, "train", result[1])
    return result


def _of_one_lane(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape[2:], leaf.dtype)
