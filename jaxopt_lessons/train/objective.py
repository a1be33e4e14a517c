"""The loss of a batch as a function of the parameters: its value, its gradient, and what else was measured.

A loss function is ``loss_fn(params, batch)`` or ``loss_fn(params, batch, key)`` and returns one of

    a scalar                    the mean over the batch, taken as it is
    a vector ``[batch]``        one loss per example: the step averages them
    ``Weighted(total, weight)`` a sum, and what to divide it by (tokens, say)

alone, or as ``(loss, {"accuracy": ...})`` with metrics that are scalars or vectors ``[batch]``. With a vector or a
``Weighted`` loss, means over ragged batches are exactly the means over their examples; a mean of means is not.

With ``accumulate=k`` the gradient is calculated of ``k`` micro-batches, one after the other:

    grads = sum_i w_i grads_i / sum_i w_i        w_i: the examples, or the weight, of micro-batch i

The sums are kept in float32. It is one update with the gradient of the one big batch, and takes the memory of a small
one; the optimizer, its counters and its schedules do not notice.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import _leaf, _training_checks, tree
from jaxopt_lessons.train.micro_batches import sum_over_parts
from jaxopt_lessons.types import Params, PyTree


class Weighted(NamedTuple):
    """A sum over examples (or tokens, pixels ...) and their number or weight; its value is ``total / weight``."""

    total: jax.Array
    weight: jax.Array

    def mean(self) -> jax.Array:
        """``total / weight``, and 0 if nothing was weighed."""
        empty = self.weight == 0
        return jnp.where(empty, 0, self.total / jnp.where(empty, 1, self.weight))


class WholeBatch:
    """The loss of a batch in one piece, its value and its gradient."""

    def __init__(self, loss_fn: Callable[..., Any], batch: PyTree, mask: jax.Array | None, key: jax.Array):
        self.loss_fn, self.batch, self.mask, self.key = loss_fn, batch, mask, key

    def value(self, params: Params) -> jax.Array:
        return self._loss(params)[0]

    def gradient(self, params: Params) -> Params:
        return jax.grad(self.value)(params)

    def measured(self, params: Params) -> tuple[Weighted, dict[str, Weighted], Params]:
        """The loss, the metrics and the gradient."""
        (_, (loss, metrics)), grads = jax.value_and_grad(self._loss, has_aux=True)(params)
        return loss, metrics, grads

    def _loss(self, params: Params) -> tuple[jax.Array, tuple[Weighted, dict[str, Weighted]]]:
        loss, metrics = measure(self.loss_fn, params, self.batch, self.key, self.mask)
        return loss.mean(), (loss, metrics)


class InParts:
    """The same of micro-batches, one after the other: sums that are divided once."""

    def __init__(self, parts: int, loss_fn: Callable[..., Any], batch: PyTree, mask: jax.Array | None, key: jax.Array):
        self.parts, self.loss_fn, self.key = parts, loss_fn, key
        self.batch, self.mask = jax.tree.map(jnp.asarray, (batch, mask))
        self.examples = _training_checks.examples_to_divide(parts, self.batch)

    def value(self, params: Params) -> jax.Array:
        # An optimizer may differentiate this; then each part is calculated anew, and not all are in memory at once.
        loss = jax.checkpoint(lambda part, number: self._part(part, number)._loss(params)[1][0])
        return self._sum(loss).mean()

    def gradient(self, params: Params) -> Params:
        return self.measured(params)[2]

    def measured(self, params: Params) -> tuple[Weighted, dict[str, Weighted], Params]:
        def weighed(part: PyTree, number: jax.Array) -> tuple[Weighted, dict[str, Weighted], Params]:
            loss, metrics, grads = self._part(part, number).measured(params)
            return loss, metrics, jax.tree.map(lambda g: g * loss.weight.astype(g.dtype), tree.widen(grads))

        loss, metrics, sums = self._sum(weighed)
        weight = jnp.where(loss.weight == 0, 1, loss.weight)
        return loss, metrics, jax.tree.map(lambda g, p: (g / weight.astype(g.dtype)).astype(p.dtype), sums, params)

    def _part(self, part: PyTree, number: jax.Array) -> WholeBatch:
        batch, mask = part
        return WholeBatch(self.loss_fn, batch, mask, jax.random.fold_in(self.key, number))

    def _sum(self, function: Callable[..., Any]) -> Any:
        return sum_over_parts(function, (self.batch, self.mask), self.examples, self.parts)


# ---------------------------------------------------------------------------------------------------------------------
# Measuring a loss
# ---------------------------------------------------------------------------------------------------------------------


def measure(
    loss_fn: Callable[..., Any], params: Params, batch: PyTree, key: jax.Array | None, mask: jax.Array | None = None
) -> tuple[Weighted, dict[str, Weighted]]:
    """The loss and the metrics of a batch, as sums and weights in float32 that can be added up over batches."""
    result = call_loss(loss_fn, params, batch, key)
    metrics: dict[str, Any] = {}
    if isinstance(result, tuple) and not isinstance(result, Weighted):
        _training_checks.loss_with_metrics(result)
        result, metrics = result
    _training_checks.reserved_metrics(metrics, ("loss", "weight"))
    examples = number_of_examples(batch)
    loss = _weighted("the loss", result, examples, mask)
    return loss, {name: _weighted(f"the metric {name!r}", value, examples, mask) for name, value in metrics.items()}


def _weighted(name: str, value: Any, examples: int, mask: jax.Array | None) -> Weighted:
    if isinstance(value, Weighted):
        total, weight = (_as_real(name, part) for part in value)
        if total.shape or weight.shape:
            _training_checks.loss_shape(name, f"Weighted with shapes {total.shape} and {weight.shape}", examples)
        if mask is not None:
            _training_checks.loss_per_example(name, "a Weighted")
        return Weighted(total, weight)
    value = _as_real(name, value)
    if value.shape == (examples,):
        if mask is None:
            return Weighted(jnp.sum(value), jnp.asarray(examples, value.dtype))
        return Weighted(jnp.sum(jnp.where(mask, value, 0)), jnp.sum(mask.astype(value.dtype)))
    if value.shape:
        _training_checks.loss_shape(name, f"an array of shape {value.shape}", examples)
    if mask is not None:
        _training_checks.loss_per_example(name, "a scalar")
    return Weighted(value * examples, jnp.asarray(examples, value.dtype))


def _as_real(name: str, value: Any) -> jax.Array:
    value = jnp.asarray(value)
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        _training_checks.real_loss(name, value)
    return value.astype(_leaf.compute_dtype(value.dtype))


def number_of_examples(batch: PyTree) -> int:
    """The length of the first axis of the first array that has one; 1 if none has."""
    return next((leaf.shape[0] for leaf in jax.tree.leaves(batch) if jnp.ndim(leaf) > 0), 1)


def call_loss(loss_fn: Callable[..., Any], params: Params, batch: PyTree, key: jax.Array | None) -> Any:
    """Calls a loss with the key as its argument ``key``, or else as its third argument, if it has one of the two."""
    try:
        parameters = inspect.signature(loss_fn).parameters
    except (TypeError, ValueError):  # Something built in: two arguments.
        return loss_fn(params, batch)
    if "key" in parameters and parameters["key"].kind is not inspect.Parameter.POSITIONAL_ONLY:
        return loss_fn(params, batch, key=key)
    return loss_fn(params, batch, key) if tree.required_arguments(loss_fn) > 2 else loss_fn(params, batch)
