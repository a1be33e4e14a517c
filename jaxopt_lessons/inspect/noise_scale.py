"""``noise_scale``: how much the gradients of examples differ, and the batch size that follows from it.

    G = E g            S = trace Cov(g)            g: the gradient of the loss of one example, drawn at random
    B_noise = S / |G|^2                            the batch whose noise is as long as its gradient

One step of gradient descent with a batch of ``B`` examples, at its best learning rate, lowers the loss by a share
``1 / (1 + B_noise / B)`` of what the full gradient does. (This is the paper's simple noise scale, which takes the
curvature to be equal in all directions; the exact one weighs ``S`` and ``|G|^2`` by the Hessian.) From it follow

    learning_rate(B) = largest / (1 + B_noise / B)     for gradient descent: linear in small batches, constant in large
    steps(B)    = S_min (1 + B_noise / B)              to reach a given loss
    examples(B) = E_min (1 + B / B_noise)              = B * steps(B), with E_min = S_min * B_noise

Measured from groups of examples, ``j = 1 ... J``, of ``b_j`` of the ``N`` examples and of weight ``w_j``, with the
gradients ``G_j`` of their mean losses:

    G^ = sum_j w_j G_j / W                             W = sum_j w_j: the gradient of all examples
    S^ = 1 / (J - 1) sum_j r_j^2 b_j |G_j - G^|^2      r_j = (w_j / b_j) / (W / N): 1 unless examples have weights
    |G|^2^ = |G^|^2 - S^ / N

Both are unbiased for losses without weights, whatever the sizes of the groups, if the examples are independent; with
weights (tokens, say) up to terms of order ``1 / N``. Their quotient has a bias of order ``1 / N``. The differences are
taken group by group in a second pass, not as ``sum |G_j|^2 - J |G^|^2``, which rounding spoils where noise is small.
The standard errors are those of the delta method, from how much each group moves the three numbers. (That of ``|G|^2``
is up to 1.4 times too large where the gradient is lost in its noise.)

Groups larger than 1 are for losses that are no mean over examples, as with batch normalization; they cost precision,
for there are fewer. The data are shuffled for them.

Paper: McCandlish, Kaplan, Amodei & OpenAI Dota Team 2018, An Empirical Model of Large-Batch Training, arXiv 1812.06162,
section 2 and appendix A. Departures: two passes over all examples instead of two batch sizes; standard errors.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _checks, _errors, _training_checks, tree
from jaxopt_lessons.inspect.mean_loss import mean_loss, planned_loss, real_params
from jaxopt_lessons.inspect.vectors import as_vector
from jaxopt_lessons.train import compilation
from jaxopt_lessons.train.batches import Batches
from jaxopt_lessons.train.kept import kept
from jaxopt_lessons.train.objective import LossFunction
from jaxopt_lessons.types import Params, PyTree, Range

AT_ONCE = 2**25
"""Numbers in the gradients of the groups that are in memory together, at most, unless one alone has more."""


class NoiseScale(NamedTuple):
    """What ``noise_scale`` returns.

    Attributes:
      noise_scale: ``S / |G|^2`` in examples. Infinite where the gradient cannot be told from 0 by these examples, as at
        a minimum; NaN where all gradients are 0.
      noise_scale_error: its standard error; infinite or NaN with it.
      gradient_squared: ``|G|^2``, the squared length of the gradient of the loss over all examples there could be. An
        unbiased estimate may be negative: then ``|G|^2`` is small compared with its error.
      gradient_squared_error: its standard error.
      covariance_trace: ``S``, the sum of the variances of all entries of the gradient of one example.
      covariance_trace_error: its standard error.
      examples: how many examples were measured.
    """

    noise_scale: float
    noise_scale_error: float
    gradient_squared: float
    gradient_squared_error: float
    covariance_trace: float
    covariance_trace_error: float
    examples: int

    def __repr__(self) -> str:
        return (
            f"NoiseScale({self.noise_scale:.4g} +- {self.noise_scale_error:.2g} examples, "
            f"|G|^2={self.gradient_squared:.4g} +- {self.gradient_squared_error:.2g}, "
            f"S={self.covariance_trace:.4g} +- {self.covariance_trace_error:.2g}, of {self.examples} examples)"
        )

    def speedup(self, batch_size: Any) -> Any:
        """``1 / (1 + noise_scale / batch_size)``: the progress of a step as a share of that with the full gradient.

        It is also the largest useful learning rate of gradient descent with such batches, as a share of that with the
        full gradient. Steps to a given loss are ``1 / speedup`` times those with the full gradient.

        Args:
          batch_size: examples in a batch, positive; a number or an array.

        >>> NoiseScale(100.0, 0.0, 1.0, 0.0, 100.0, 0.0, 1000).speedup(100)
        0.5
        """
        return 1 / (1 + self.noise_scale / _batch_sizes("speedup", batch_size))

    def cost(self, batch_size: Any) -> Any:
        """``1 + batch_size / noise_scale``: examples to a given loss, as a multiple of those with the smallest batches.

        Args:
          batch_size: examples in a batch, positive; a number or an array.

        >>> NoiseScale(100.0, 0.0, 1.0, 0.0, 100.0, 0.0, 1000).cost(100)
        2.0
        """
        with np.errstate(divide="ignore"):  # Without noise each example beyond the first is for nothing.
            multiple = 1 + np.divide(_batch_sizes("cost", batch_size), self.noise_scale)
        return multiple if np.ndim(multiple) else float(multiple)


def _batch_sizes(owner: str, batch_size: Any) -> Any:
    for size in np.ravel(batch_size):
        _checks.number(owner, "batch_size", size, Range(0, includes_low=False))
    return np.asarray(batch_size, float) if np.ndim(batch_size) else float(batch_size)


def noise_scale(
    loss_fn: Callable[..., Any],
    params: Params,
    data: PyTree,
    *,
    batch_size: int | None = None,
    group: int = 1,
    key: Any = 0,
    model_state: PyTree = None,
    policy: Any = None,
) -> NoiseScale:
    """The gradient noise scale: the batch size above which larger batches save few steps.

    Below it twice the batch (and twice the learning rate) needs about half the steps; above it, hardly fewer. It grows
    while the loss falls. It costs two gradients of all examples.

    Args:
      loss_fn: as for ``make_step``; one that takes a key gets None.
      params: where to look: a tree of real floating-point leaves.
      data: a tree of arrays with the examples along their first axes, which are put on the device. They stand for all
        examples there could be, of which they are taken to be independent draws; so a random part of the set does.
      batch_size: how many examples at a time; None for as many as have gradients of 2^25 numbers. It changes memory and
        time, not the result.
      group: examples whose gradients are taken together, from 1 to half of all. More than 1 for a loss that is not a
        mean over examples. The last group may be smaller.
      key: for groups of several, the start of the random order of the examples: a seed, or a key of ``jax.random``.
      model_state: the model state of a loss that takes one, which stays as it is; None for a loss that takes none.
      policy: the precision of the loss, as for ``make_step``.

    Returns:
      ``NoiseScale``: ``.noise_scale`` in examples, what it is the quotient of, standard errors, and what it predicts:
      ``.speedup(batch_size)`` and ``.cost(batch_size)``.

    Raises:
      InputError: a parameter is complex or of whole numbers, or there is none; the data or the loss do not fit.
      TypeError: an argument is of another type, or is traced.
      ValueError: a number is out of range, there are fewer than two groups, or a gradient is infinite or NaN.

    >>> x = jnp.array([1.0, 3.0, 1.0, 3.0])  # gradients -1, -3, -1, -3: S = 4 / 3, |G|^2 = 4 - S / 4
    >>> noise_scale(lambda p, batch: -p * batch, 0.0, x)
    NoiseScale(0.3636 +- 0.23 examples, |G|^2=3.667 +- 2.3, S=1.333 +- 0, of 4 examples)
    """
    _training_checks.not_traced("noise_scale", params, data, model_state)
    key = tree.typed_key(_checks.random_key("noise_scale", key))
    group = _checks.whole("noise_scale", "group", group, least=1)
    if data is None:
        raise TypeError("noise_scale: data must be a tree of arrays with examples along their first axes; got None.")
    if batch_size is not None:
        batch_size = _checks.whole("noise_scale", "batch_size", batch_size, least=1)
    params = real_params("noise_scale", params)
    loss, batches = planned_loss("noise_scale", loss_fn, data, group, model_state, policy, shuffle=group > 1)
    _checks.require(
        batches.per_epoch > 1,
        lambda: f"noise_scale: of {batches.examples} examples there is one group of {group}; two are needed.",
    )
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    at_once = max(1, AT_ONCE // size if batch_size is None else batch_size // group)
    with _errors.stage("noise_scale"):
        groups = _program(loss.function, loss, min(at_once, batches.per_epoch))(
            params, batches, model_state, batches.order(key)
        )
    return _estimates(_Groups(*(np.asarray(x, np.float64) for x in groups)), batches.without_data())


class _Groups(NamedTuple):
    """Of each group its weight, ``|G_j - G^|^2`` and ``(G_j - G^) . G^``; and ``|G^|^2``."""

    weights: Any
    squares: Any
    along: Any
    total: Any


@kept
def _program(owner: Any, loss: LossFunction, at_once: int) -> Callable[..., _Groups]:
    @compilation.counted()
    def gradients_of_groups(params: Params, batches: Batches, model_state: PyTree, order: jax.Array | None) -> _Groups:
        wide = tree.widen(params)

        def mean_and_weight(wide: Params, batch: PyTree) -> tuple[jax.Array, jax.Array]:
            measured = loss.measure(tree.states_like(wide, params), model_state, batch, None)[0]
            return measured.mean(), measured.weight

        def compared(batch: PyTree, _: None) -> tuple[jax.Array, jax.Array, jax.Array]:
            gradient, weight = jax.grad(mean_and_weight, has_aux=True)(wide, batch)
            difference = as_vector(gradient) - whole
            return weight, jnp.sum(difference**2), jnp.sum(difference * whole)

        with jax.default_matmul_precision("highest"):
            whole = as_vector(
                jax.grad(lambda wide: mean_loss(loss, wide, batches, model_state, params, order, at_once))(wide)
            )
            weights, squares, along = batches.map(compared, order, at_once)
        return _Groups(weights, squares, along, jnp.sum(whole**2))

    return gradients_of_groups


def _estimates(groups: _Groups, batches: Batches) -> NoiseScale:
    """The estimates, and their errors from what each group contributes to them."""
    count, examples = batches.per_epoch, batches.examples
    sizes = np.full(count, min(batches.batch_size or 0, examples))
    sizes[batches.full :] = batches.tail
    _checks.require(bool(np.any(groups.weights)), "noise_scale: the examples have no weight.")
    share = groups.weights / np.sum(groups.weights)
    spread = count / (count - 1) * (share * examples / sizes) ** 2 * sizes * groups.squares
    trace = float(np.mean(spread))
    squared = float(groups.total) - trace / examples
    to_trace = spread - trace
    to_squared = 2 * count * share * groups.along - to_trace / examples
    _checks.require(
        math.isfinite(trace) and math.isfinite(squared),
        f"noise_scale: the gradient is not finite; the squared length of that of all examples is {groups.total:g}.",
    )
    if squared > 0:
        scale = trace / squared
        error = _error((to_trace - scale * to_squared) / squared)
    else:
        scale = error = math.inf if trace > 0 else math.nan
    return NoiseScale(scale, error, squared, _error(to_squared), trace, _error(to_trace), examples)


def _error(contributions: np.ndarray) -> float:
    """The standard error of a mean of independent contributions around 0."""
    count = len(contributions)
    return math.sqrt(float(np.sum(contributions**2)) / (count * (count - 1)))
