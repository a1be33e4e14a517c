"""Schedules drawn: one by itself, several for comparison, or all hyperparameters of an optimizer that have one.

    plot(rate)                                       to its end
    plot({"cosine": a, "wsd": b}, log=True)          together
    plot(adamw(rate, b1=momentum), 1000)             a panel for each: learning_rate, b1
    plot(tx, 1000, steps_per_epoch=100).savefig("schedules.png")

All counts are evaluated in one call; of long runs are drawn the extremes of each stretch and both ends of its largest
jump, so no spike or step is missed. Needs matplotlib.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _checks, _figure, _schedule_checks
from jaxopt_lessons._value import _show
from jaxopt_lessons.core import GradientTransformation
from jaxopt_lessons.grid import Grid
from jaxopt_lessons.inspect.flow import Node, every, node_of
from jaxopt_lessons.schedules.schedule import Schedule, as_schedule

STRETCHES = 600
"""Into so many stretches a long run is cut; up to six counts of each are drawn."""

MOST = 2**24
"""Updates: more of them are too many to look at one by one."""


class _Curve(NamedTuple):
    """A schedule with its name, and the quantity that it is a schedule of."""

    name: str
    quantity: str
    schedule: Schedule


def plot(
    thing: Any,
    steps: int | None = None,
    *,
    ax: Any = None,
    log: bool = False,
    steps_per_epoch: int | None = None,
    quantity: str = "value",
    constants: bool = False,
) -> Any:
    """Draws schedules over the updates of a run.

    Args:
      thing: a schedule (a function ``count -> number`` is one), a transformation, all of whose scheduled
        hyperparameters are drawn under the names of ``hyperparams``, or several of them: a list, a ``grid``, or a dict
        by name. Schedules of one quantity share a panel. Inside ``MultiSteps`` updates are steps of the optimizer.
      steps: how many updates to draw, up to 2^24: the counts ``0 ... steps - 1``. None: to the end of the longest
        schedule that has one.
      ax: matplotlib axes to draw on, in the place of a new figure; for schedules of one quantity.
      log: a logarithmic axis for the values; numbers that are not positive are left out.
      steps_per_epoch: updates in an epoch, for a second axis that counts epochs.
      quantity: what the schedules in ``thing`` that are not arguments of a transformation are of: ``"learning rate"``.
      constants: list the hyperparameters that are numbers below the panels.

    Returns:
      The matplotlib ``Figure``, neither shown nor saved.

    Raises:
      ImportError: matplotlib is not installed.
      ValueError: nothing is scheduled, no schedule has an end and ``steps`` is None, or there are several quantities
        for one ``ax``.

    >>> figure = plot(jl.adamw(jl.linear_schedule(1.0, 0.0, 4)))
    >>> figure.axes[0].lines[0].get_ydata().tolist()
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """
    log, constants = _checks.flag("plot", "log", log), _checks.flag("plot", "constants", constants)
    _checks.text("plot", "quantity", quantity)
    curves = list(_curves(thing, quantity))
    _checks.require(bool(curves), lambda: f"plot: nothing is scheduled in {_show(thing)}.")
    if steps is None:
        lengths = [_schedule_checks.known(c.schedule.length) for c in curves if c.schedule.length is not None]
        known = [length for length in lengths if length is not None]
        _checks.require(
            bool(known),
            lambda: f"plot: {curves[0].name} has no end of its own; say with steps= how many updates to draw.",
        )
        steps = max(known) + 1
    steps = _checks.whole("plot", "steps", steps, least=1)
    _checks.require(steps <= MOST, lambda: f"plot: steps must be at most 2^24; got {steps}.")
    if steps_per_epoch is not None:
        _checks.whole("plot", "steps_per_epoch", steps_per_epoch, least=1)
    panels: dict[str, list[_Curve]] = {}
    for curve in curves:
        panels.setdefault(curve.quantity, []).append(curve)
    figure, axes = _axes(len(panels), ax, list(panels))
    for i, (axis, (name, drawn)) in enumerate(zip(axes, panels.items(), strict=True)):
        _draw(axis, drawn, steps)
        axis.set_ylabel(name.replace("_", " "))
        if log:
            axis.set_yscale("log", nonpositive="mask")
        if i == len(axes) - 1:
            axis.set_xlabel("updates")
        if i == 0 and steps_per_epoch is not None:
            epochs = axis.secondary_xaxis(
                "top", functions=(lambda x: x / steps_per_epoch, lambda x: x * steps_per_epoch)
            )
            epochs.set_xlabel("epochs")
    if constants:
        _list_constants(figure, list(_constants(thing)))
    return figure


# ---------------------------------------------------------------------------------------------------------------------
# What to draw
# ---------------------------------------------------------------------------------------------------------------------


def _curves(thing: Any, quantity: str) -> Iterator[_Curve]:
    if isinstance(thing, (list, tuple, Grid)):
        thing = dict(zip(_names(thing), thing, strict=True))
    if isinstance(thing, Mapping):
        for name, one in thing.items():
            for curve in _curves(one, quantity):
                inside = isinstance(one, (GradientTransformation, Mapping, list, tuple, Grid))
                yield curve._replace(name=f"{name}: {curve.name}" if inside else str(name))
    elif isinstance(thing, GradientTransformation):
        for name, argument, value in _hyperparameters(thing):
            if callable(value):
                yield _Curve(name, argument, as_schedule("plot", argument, value))
    elif callable(thing) and not isinstance(thing, type):
        schedule = as_schedule("plot", quantity, thing)
        yield _Curve(schedule.name if schedule is thing else _show(thing), quantity, schedule)
    else:
        raise TypeError(
            f"plot: thing must be a schedule or a transformation, or a list or a dict of them; got {thing!r}."
        )


def _names(things: Any) -> list[str]:
    """Names for the items of a list: those of their factories, or the whole calls where these are equal."""
    names = [thing.name if isinstance(thing, (Schedule, GradientTransformation)) else _show(thing) for thing in things]
    if len(set(names)) < len(names):
        names = [_show(thing) for thing in things]
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        seen[name] = seen.get(name, 0) + 1
        names[i] = name if seen[name] == 1 else f"{name} ({seen[name]})"
    return names


def _hyperparameters(tx: GradientTransformation) -> Iterator[tuple[str, str, Any]]:
    """The name, the argument and the value of each number or schedule."""
    for node in every(node_of(tx)):
        for argument, value in node.tx.hyperparameters.items():
            if argument == "learning_rate":
                value = _rate_used(node, value)
            items = value if isinstance(value, tuple) else (value,)
            for i, item in enumerate(items):
                name = f"{node.name}.{argument}" + (f".{i}" if isinstance(value, tuple) else "")
                yield name, argument, item


def _rate_used(node: Node, given: Any) -> Any:
    """The learning rate of the part that multiplies by it: a preset may have added a warm-up."""
    named = {id(child.tx) for child in node.children}
    inside = (
        tx.hyperparameters["learning_rate"]
        for tx in (node.tx.assembled.walk() if node.tx.assembled is not None else ())
        if id(tx) not in named and "learning_rate" in tx.hyperparameters
    )
    return next(inside, given)


def _constants(thing: Any) -> Iterator[str]:
    if isinstance(thing, Mapping):
        thing = list(thing.values())
    if isinstance(thing, (list, tuple, Grid)):
        for one in thing:
            yield from _constants(one)
    elif isinstance(thing, GradientTransformation):
        yield from (f"{name} = {_show(value)}" for name, _, value in _hyperparameters(thing) if not callable(value))


# ---------------------------------------------------------------------------------------------------------------------
# Numbers
# ---------------------------------------------------------------------------------------------------------------------


def _points(schedule: Schedule, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts and values to draw."""
    counts = np.arange(steps, dtype=np.int32)
    values = np.asarray(jax.vmap(schedule)(jnp.asarray(counts)), np.float64)
    kept = _telling(values)
    return counts[kept], values[kept]


def _telling(values: np.ndarray) -> np.ndarray:
    """The indices to draw: all, or of each stretch both ends, both extremes and both sides of the largest jump."""
    if len(values) <= 6 * STRETCHES:
        return np.arange(len(values))
    finite = np.where(np.isfinite(values), values, 0)
    jumps = np.append(np.abs(np.diff(finite)), 0)
    edges = np.linspace(0, len(values), STRETCHES + 1).astype(int)
    kept = {0, len(values) - 1}
    for start, end in itertools.pairwise(edges):
        piece, jump = finite[start:end], start + int(np.argmax(jumps[start:end]))
        kept |= {start, end - 1, start + int(np.argmin(piece)), start + int(np.argmax(piece)), jump, jump + 1}
    return np.array(sorted(i for i in kept if i < len(values)))


# ---------------------------------------------------------------------------------------------------------------------
# Drawing
# ---------------------------------------------------------------------------------------------------------------------


def _axes(number: int, ax: Any, quantities: list[str]) -> tuple[Any, list[Any]]:
    _figure.need_matplotlib()
    if ax is not None:
        _checks.require(
            number == 1,
            lambda: f"plot: there are schedules of {', '.join(quantities)}, for which one ax is too few; leave out ax.",
        )
        _figure.are_axes(ax)
        return ax.figure, [ax]
    return _figure.new_figure(number)


def _draw(axis: Any, curves: list[_Curve], steps: int) -> None:
    labels = _short_and_different([curve.name for curve in curves])
    for i, (curve, label) in enumerate(zip(curves, labels, strict=True)):
        counts, values = _points(curve.schedule, steps)
        axis.plot(
            counts,
            values,
            label=label,
            marker="o" if steps <= 20 else None,
            markersize=4,
            **_figure.line_style(i),
        )
    if len(curves) == 1:
        axis.set_title(_short(curves[0].name), fontsize="medium", loc="left")
    else:
        axis.legend(frameon=False, fontsize="small")
    _figure.tidy(axis)


def _short(name: str, most: int = 60) -> str:
    return name if len(name) <= most else f"{name[: most - 3]}..."


def _short_and_different(names: list[str]) -> list[str]:
    """Names that fit, with a number where what tells them apart does not."""
    labels: list[str] = []
    for i, name in enumerate(names):
        before = sum(_short(other) == _short(name) for other in names[:i])
        labels.append(f"{_short(name, 54)} ({before + 1})" if before else _short(name))
    return labels


def _list_constants(figure: Any, constants: list[str]) -> None:
    lines = [", ".join(constants[i : i + 3]) for i in range(0, len(constants), 3)]
    if lines:
        figure.supxlabel("\n".join(lines), fontsize="small", color="#555555")
