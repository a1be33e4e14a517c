"""``lr_find``: the loss while the learning rate grows exponentially, for a first guess of a learning rate.

    rate_i = low * (high / low)^(i / (steps - 1))        one step with each, on the next batch

The losses count up to the first that is not finite, or whose average is above 4 times the least so far. The averages of
that rule look back only; the smoothed curve is made afterwards, with weights on both sides, so that it does not lag:
a lagging curve suggests rates that are too large.

Paper: Smith 2015, Cyclical Learning Rates for Training Neural Networks, arXiv 1506.01186; the suggestion: fastai.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _checks, _figure, numerics
from jaxopt_lessons.train import compilation
from jaxopt_lessons.train.batches import Batches
from jaxopt_lessons.train.kept import kept
from jaxopt_lessons.train.programs import as_argument, function_of
from jaxopt_lessons.train.scan import Metrics, run_steps
from jaxopt_lessons.train.state import TrainState
from jaxopt_lessons.train.step import Step
from jaxopt_lessons.types import PyTree, Range

LOOK_BACK = 0.9
"""The decay of the averages that decide where to stop."""

WIDTH = 0.05
"""The standard deviation of the weights that smooth the curve, as a share of the number of steps."""


class LearningRates(NamedTuple):
    """What ``lr_find`` returns: one row for each step that counts.

    Attributes:
      rates: learning rates, increasing.
      losses: the loss at each of them, before its update.
      smoothed: the losses, smoothed.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray

    @property
    def suggestion(self) -> float:
        """The rate, up to the minimum, at which the smoothed loss falls fastest; ``minimum / 10`` is another rule.

        Raises:
          ValueError: the first smoothed loss is the least, or the least is lower by rounding alone.
        """
        falling = self.smoothed[: np.argmin(self.smoothed) + 1]
        rounding = np.finfo(np.float32).eps * abs(self.smoothed[0])  # the losses were float32
        _checks.require(
            falling[0] - falling[-1] > rounding,
            lambda: (
                f"lr_find: the smoothed loss falls nowhere in {len(self.rates)} steps from {self.rates[0]:g} to "
                f"{self.rates[-1]:g}. Begin with a lower rate or take larger batches; plot() draws the loss."
            ),
        )
        return float(self.rates[np.argmin(np.gradient(falling, np.log(self.rates[: len(falling)])))])

    @property
    def minimum(self) -> float:
        """The rate at which the smoothed loss is least: too large to train with; a tenth of it is a usual choice."""
        return float(self.rates[np.argmin(self.smoothed)])

    def plot(self, ax: Any = None) -> Any:
        """Draws the losses over the rates, with the suggestion and a tenth of the minimum.

        Args:
          ax: matplotlib axes to draw on, in the place of a new figure.

        Returns:
          The matplotlib ``Figure``, neither shown nor saved. Needs matplotlib.
        """
        figure, ax = _figure.axes_on(ax)
        ax.plot(self.rates, self.losses, color="#999999", linewidth=1, label="loss")
        ax.plot(self.rates, self.smoothed, label="smoothed", **_figure.line_style(0))
        marks = {"minimum / 10": self.minimum / 10}
        with contextlib.suppress(ValueError):  # If there is nothing to suggest, the curve shows why.
            marks = {"suggestion": self.suggestion, **marks}
        for number, (name, rate) in enumerate(marks.items(), 1):
            ax.axvline(rate, label=f"{name}: {rate:.2g}", **{**_figure.line_style(number), "linewidth": 1})
        ax.set_xscale("log")
        ax.set_xlabel("learning rate")
        ax.set_ylabel("loss")
        ax.legend(frameon=False, fontsize="small")
        _figure.tidy(ax)
        return figure


def lr_find(
    step: Step, state: TrainState, batches: Batches, *, low: float = 1e-7, high: float = 10.0, steps: int = 200
) -> LearningRates:
    """Trains a copy of ``state`` for some steps, each with a larger learning rate, and reports the losses.

    One compiled program, the same for any ``low`` and ``high``; ``state`` is not changed.

    Args:
      step: a step, made by ``make_step``; its ``learning_rate`` may be a schedule, which is not used.
      state: where to begin, made by ``init_state``.
      batches: made by ``minibatches``. A smaller last batch is filled up with examples of the next epoch.
      low: the first learning rate, positive.
      high: the last learning rate, above ``low``.
      steps: how many learning rates, at least 10.

    Returns:
      ``LearningRates``: ``.suggestion``, ``.minimum``, ``.plot()``, and the numbers.

    Raises:
      TypeError: the step has no ``learning_rate``, or an argument is of another type.
      ValueError: the step has several of them, a number is out of range, or the first loss is not finite already.

    >>> step = jl.make_step(lambda params, batch: 0.5 * jnp.mean(batch * params**2), jl.sgd(0.1))
    >>> batches = jl.minibatches(jnp.ones(4))
    >>> found = lr_find(step, jl.init_state(1.0, step.tx), batches, low=1e-3, high=10.0, steps=100)
    >>> bool(0.02 < found.suggestion < found.minimum < 10)
    True
    """
    if not isinstance(batches, Batches):
        raise TypeError(f"lr_find: batches must be made by minibatches; got {type(batches).__name__}.")
    if not isinstance(step, Step):
        raise TypeError(f"lr_find: step must be made by make_step; got {step!r}.")
    for name, value in (("low", low), ("high", high)):
        _checks.number("lr_find", name, value, Range(0, includes_low=False))
    _checks.require(low < high, lambda: f"lr_find: low must be below high; got {low} and {high}.")
    steps = _checks.whole("lr_find", "steps", steps, least=10)
    try:
        argument = as_argument(step.replace(learning_rate=float(low)))
    except (TypeError, ValueError) as error:
        raise type(error)(f"lr_find: {error}") from None
    if batches.tail:
        batches = dataclasses.replace(batches, remainder="wrap")
    leaves, structure = jax.tree.flatten(argument)
    rates = np.geomspace(low, high, steps)
    losses = _program(function_of(step), structure)(leaves, state, batches, rates.astype(numerics.float_dtype()))
    losses = np.asarray(losses, np.float64)
    _checks.require(
        bool(np.isfinite(losses[0])), lambda: f"lr_find: the loss is {losses[0]} before the first update already."
    )
    counted = _counted(losses)
    return LearningRates(rates[:counted], losses[:counted], _smoothed(losses[:counted], WIDTH * steps))


@kept
def _program(owner: Any, structure: Any) -> Callable[..., jax.Array]:
    """The compiled search with a step of this structure."""

    @compilation.counted()
    def find(leaves: list[Any], state: TrainState, batches: Batches, rates: jax.Array) -> jax.Array:
        step, first = jax.tree.unflatten(structure, leaves), state.cursor

        def rated(state: TrainState, batch: PyTree, mask: jax.Array | None) -> tuple[TrainState, Metrics]:
            state, metrics = step.replace(learning_rate=rates[state.cursor - first])(state, batch, mask)
            return state, {"loss": metrics["loss"]}

        _, metrics = run_steps(rated, state, batches, first, len(rates), tail=False)
        return metrics["loss"].astype(jnp.float32)

    return find


def _counted(losses: np.ndarray) -> int:
    """How many losses there are before the first that is not finite, or whose average is too large."""
    total = weight = 0.0
    least = np.inf
    for i, loss in enumerate(losses):
        if not np.isfinite(loss):
            return i
        total, weight = LOOK_BACK * total + (1 - LOOK_BACK) * loss, LOOK_BACK * weight + 1 - LOOK_BACK
        if total / weight > least + 3 * abs(least):  # 4 times the least, of losses above 0
            return i
        least = min(least, total / weight)
    return len(losses)


def _smoothed(losses: np.ndarray, width: float) -> np.ndarray:
    """Averages with the weights of a bell curve."""
    at = np.arange(len(losses))
    weights = np.exp(-0.5 * ((at[None, :] - at[:, None]) / width) ** 2)
    return weights @ losses / np.sum(weights, axis=1)
