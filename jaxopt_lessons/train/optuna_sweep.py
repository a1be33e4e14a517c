"""``optuna_sweep``: an Optuna study whose trials run many at a time, as lanes of one compiled program.

    repeat:   ask for ``batch`` trials  ->  one program runs them for all seeds  ->  tell their results

Optuna suggests numbers, and numbers are arguments of the program: the first round compiles it, the others do not. By
itself Optuna runs one trial after the other, or many in processes that compile each for itself.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxopt_lessons import _checks, _errors, numerics
from jaxopt_lessons.train import lanes
from jaxopt_lessons.train.search_space import Points, keys_of, seed_list
from jaxopt_lessons.train.sweep import Run, trace
from jaxopt_lessons.train.sweep_result import SweepResult, metric_leaf
from jaxopt_lessons.types import PyTree

OWNER = "optuna_sweep"


def optuna_sweep(
    study: Any,
    run: Run,
    space: Mapping[str, Any],
    seeds: int | Sequence[int] = 1,
    *,
    trials: int,
    batch: int = 8,
    metric: str | Sequence[str] | None = None,
    how: str | int | Mesh = "auto",
) -> SweepResult:
    """Runs trials of an Optuna study, ``batch`` at a time, each round as one compiled program.

    A trial is told the mean over the seeds. One with a lane that is NaN or infinite is told to have failed, as are all
    trials of a round that raises, before the error goes on. The sampler sees the results of a round only after it: a
    larger ``batch`` is faster and searches less closely.

    Args:
      study: an Optuna ``Study``; its direction says which number is the best.
      run: a pure function ``run(hp, key)`` that trains and returns a tree of arrays, as in ``sweep``.
      space: names and their Optuna distributions: ``FloatDistribution``, ``IntDistribution``, or
        ``CategoricalDistribution`` of numbers. Where all numbers of a distribution are whole they arrive as int32, else
        as float32. They are traced: what changes a shape or a function, such as the width of a layer or the name of an
        optimizer, has a study of its own for each value.
      seeds: how many seeds, ``0 ... seeds - 1``, or a list of them.
      trials: how many trials to run in all.
      batch: how many of them at a time. If ``trials`` is no multiple of it, the lanes that the last round does not need
        run its first trial again, and are dropped.
      metric: the name of the metric in what ``run`` returns; by default "loss", or the only one. Of a curve the last
        number counts. For a study of several objectives a list of names.
      how: the layout of the lanes, as in ``sweep``.

    Returns:
      A ``SweepResult`` of these trials, in their order, with NumPy arrays in ``values``. Needs optuna.

    Raises:
      TypeError: ``space`` has something that is no distribution of numbers, or what ``sweep`` raises.
      ValueError: there are other numbers of metrics and of the study's objectives, or what ``sweep`` raises.

    >>> import optuna
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    >>> def run(hp, key):
    ...     return {"loss": (hp["x"] - 2) ** 2 + 0.01 * jax.random.normal(key)}
    >>> space = {"x": optuna.distributions.FloatDistribution(-10.0, 10.0)}
    >>> result = optuna_sweep(study, run, space, trials=64, batch=8)
    >>> abs(result.best()["x"] - 2) < 0.3, result.best() == study.best_params, len(study.trials)
    (True, True, 64)
    """
    optuna = _optuna()
    if not isinstance(study, optuna.Study):
        raise TypeError(f"{OWNER}: study must be an optuna.Study; got {_errors.describe(study)}.")
    dtypes = _dtypes(optuna, space)
    seeds = seed_list(OWNER, seeds)
    trials = _checks.whole(OWNER, "trials", trials, least=1)
    batch = min(_checks.whole(OWNER, "batch", batch, least=1), trials)
    traced = trace(OWNER, run, Points([], dtypes), len(seeds))
    metrics = _metrics(study, traced.out_info, metric)
    layout = lanes.layout_of(OWNER, how, traced.jaxpr, batch * len(seeds))
    keys = keys_of(seeds)
    rounds = []
    for begin in range(0, trials, batch):
        with _asked(optuna, study, space, min(batch, trials - begin)) as asked:
            points = Points([_plain(trial.params, dtypes) for trial in asked], dtypes)
            filled = [*range(len(asked)), *[0] * (batch - len(asked))]
            values = jax.device_get(lanes.run(traced, layout, points.arrays(filled), keys))
            values = jax.tree.map(lambda x: x[: len(asked)], values)
            rounds.append(SweepResult(points.points, seeds, values))
            _tell(optuna, study, asked, np.stack([rounds[-1].mean(name) for name in metrics], axis=1))
    points = [point for round_ in rounds for point in round_.points]
    return SweepResult(points, seeds, jax.tree.map(_joined, *[round_.values for round_ in rounds]))


@contextlib.contextmanager
def _asked(optuna: Any, study: Any, space: Mapping[str, Any], number: int) -> Iterator[list[Any]]:
    """Trials that fail, and do not stay open for ever, if something raises."""
    asked: list[Any] = []
    try:
        for _ in range(number):
            asked.append(study.ask(dict(space)))
        yield asked
    except BaseException:
        for trial in asked:
            study.tell(trial, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)
        raise


def _tell(optuna: Any, study: Any, asked: list[Any], means: np.ndarray) -> None:
    """The means ``[trials, objectives]``, or that a trial failed."""
    for trial, mean in zip(asked, means, strict=True):
        if np.all(np.isfinite(mean)):
            study.tell(trial, mean.tolist())
        else:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)


def _dtypes(optuna: Any, space: Any) -> dict[str, Any]:
    """The dtype in which each number arrives; raises for what a traced number cannot be."""
    if not isinstance(space, Mapping) or not all(isinstance(name, str) for name in space):
        raise TypeError(f"{OWNER}: space must map names to distributions of Optuna; got {space!r}.")
    _checks.require(bool(space), f"{OWNER}: space is empty: name one hyperparameter or more.")
    return {name: _dtype(optuna.distributions, name, distribution) for name, distribution in space.items()}


def _dtype(kinds: Any, name: str, distribution: Any) -> Any:
    if isinstance(distribution, kinds.FloatDistribution):
        return numerics.float_dtype()
    if isinstance(distribution, kinds.IntDistribution):
        return _whole_dtype(name, (distribution.low, distribution.high))
    if not isinstance(distribution, kinds.CategoricalDistribution):
        raise TypeError(f"{OWNER}: {name} must be a distribution of Optuna; got {_errors.describe(distribution)}.")
    choices = distribution.choices
    if not all(isinstance(choice, (int, float)) and not isinstance(choice, bool) for choice in choices):
        raise TypeError(
            f"{OWNER}: {name} has choices that are no numbers, {choices}. All trials run in one program, in which only "
            "numbers differ: make a study for each choice, or a number of it that run branches on with jax.lax.switch."
        )
    if all(isinstance(choice, int) for choice in choices):
        return _whole_dtype(name, choices)
    return numerics.float_dtype()


def _whole_dtype(name: str, numbers: Sequence[int]) -> Any:
    most = np.iinfo(jnp.result_type(int)).max
    _checks.require(
        all(abs(number) <= most for number in numbers), lambda: f"{OWNER}: {name} has whole numbers above {most}."
    )
    return jnp.result_type(int)


def _metrics(study: Any, outputs: PyTree, metric: str | Sequence[str] | None) -> list[str]:
    """The name of the metric of each objective."""
    metrics = [metric] if metric is None or isinstance(metric, str) else list(metric)
    _checks.require(
        len(metrics) == len(study.directions),
        lambda: f"{OWNER}: the study has {len(study.directions)} objectives, and metric names {len(metrics)}.",
    )
    return [metric_leaf(OWNER, outputs, name)[0] for name in metrics]


def _plain(params: Mapping[str, Any], dtypes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: (int if np.issubdtype(dtype, np.integer) else float)(params[name]) for name, dtype in dtypes.items()}


def _joined(*parts: Any) -> Any:
    """Along the first axis; keys of JAX have no form in NumPy."""
    return (np if isinstance(parts[0], np.ndarray) else jnp).concatenate(parts)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ImportError(f"{OWNER} needs optuna: pip install optuna") from None
    return optuna
