"""The loss of a batch as a function of the parameters: its value, its gradient, and what else was measured.

A loss function is ``loss_fn(params, batch)`` or ``loss_fn(params, batch, key)`` and returns one of

    a scalar                    the mean over the batch, taken as it is
    a vector ``[batch]``        one loss per example: the step averages them
    ``Weighted(total, weight)`` a sum, and what to divide it by (tokens, say)

alone, or as ``(loss, {"accuracy": ...})`` with metrics that are scalars or vectors ``[batch]``. With a vector or a
``Weighted`` loss, means over ragged batches are exactly the means over their examples; a mean of means is not.

One with a model state, such as the running means of batch normalization, is ``loss_fn(params, model_state, batch)``, or
the same with a key, and returns the new model state last: ``(loss, model_state)`` or ``(loss, metrics, model_state)``.

With ``accumulate=k`` the gradient is calculated of ``k`` micro-batches, one after the other:

    grads = sum_i w_i grads_i / sum_i w_i        w_i: the examples, or the weight, of micro-batch i

The sums are kept in float32. It is one update with the gradient of the one big batch, and takes the memory of a small
one; the optimizer, its counters and its schedules do not notice.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _leaf, _training_checks, _tree_checks, tree
from jaxopt_lessons._labels import signature_of
from jaxopt_lessons.train.micro_batches import sum_over_parts
from jaxopt_lessons.train.policy import Policy, scaled, unscaled
from jaxopt_lessons.types import Params, PyTree


class Weighted(NamedTuple):
    """A sum over examples (or tokens, pixels ...) and their number or weight; its value is ``total / weight``."""

    total: jax.Array
    weight: jax.Array

    def mean(self) -> jax.Array:
        """``total / weight``, and 0 if nothing was weighed."""
        empty = self.weight == 0
        return jnp.where(empty, 0, self.total / jnp.where(empty, 1, self.weight))


class LossFunction(NamedTuple):
    """A loss function, and how it is called.

    Attributes:
      function: ``function(params, batch)``; with a model state ``function(params, model_state, batch)``. A key comes
        last, or by its name.
      stateful: whether it takes a model state and returns the next one.
      policy: the precision it is calculated in; None for that of its arguments.
    """

    function: Callable[..., Any]
    stateful: bool = False
    policy: Policy | None = None

    def measure(
        self,
        params: Params,
        model_state: PyTree,
        batch: PyTree,
        key: jax.Array | None,
        mask: jax.Array | None = None,
        trained: bool = False,
    ) -> tuple[Weighted, dict[str, Weighted], PyTree]:
        """The loss and the metrics of a batch, as sums and weights in float32 that can be added up over batches; and
        the model state after it, as the function returned it. ``trained``: it is going to be differentiated."""
        examples = number_of_examples(batch)
        if self.policy is not None:
            params, batch = self.policy.cast(params, batch)
        loss, metrics, model_state = self._call(params, model_state, batch, key)
        if trained:
            _training_checks.loss_with_derivative(loss)
        _training_checks.reserved_metrics(metrics, ("loss", "weight"))
        metrics = {name: _weighted(f"the metric {name!r}", value, examples, mask) for name, value in metrics.items()}
        return _weighted("the loss", loss, examples, mask), metrics, model_state

    def _call(
        self, params: Params, model_state: PyTree, batch: PyTree, key: jax.Array | None
    ) -> tuple[Any, Mapping[str, Any], PyTree]:
        """The loss, the metrics and the model state, in whatever form the function returned them."""
        if self.stateful:
            # A copy of the containers: equinox's refuses to be read again once a new one was made of it.
            result = call_loss(self.function, params, jax.tree.map(lambda leaf: leaf, model_state), batch, key=key)
            _training_checks.loss_with_model_state(result)
            loss, *metrics, model_state = result
            return loss, metrics[0] if metrics else {}, model_state
        result = call_loss(self.function, params, batch, key=key)
        if not isinstance(result, tuple) or isinstance(result, Weighted):
            return result, {}, model_state
        _training_checks.loss_with_metrics(result)
        return *result, model_state

    def next_state(self, new: PyTree, old: PyTree) -> PyTree:
        """The model state that the function returned, strongly typed; raises unless it is like the one it got."""
        if not self.stateful:
            return old
        if jax.tree.structure(new) != jax.tree.structure(old):
            _tree_checks.different_trees("the model state that the loss function returned", new, "the one it got", old)
        return jax.tree_util.tree_map_with_path(self._next_leaf, new, old)

    def _next_leaf(self, path: Any, new: Any, old: jax.Array) -> jax.Array:
        array = jnp.asarray(new) if isinstance(new, (bool, int, float, complex, np.ndarray, np.generic)) else new
        if getattr(array, "shape", None) != old.shape:
            _training_checks.model_state_changed(path, new, old)
        rounds = self.policy is not None and all(jnp.issubdtype(x.dtype, np.floating) for x in (array, old))
        if array.dtype != old.dtype and not rounds:
            _training_checks.model_state_changed(path, new, old)
        weak = getattr(array, "weak_type", False)  # A random key has no such attribute.
        return array.astype(old.dtype) if array.dtype != old.dtype or weak else array


class Measured(NamedTuple):
    """What is known of a batch: the loss and the metrics, as sums and weights, the gradient, the next model state."""

    loss: Weighted
    metrics: dict[str, Weighted]
    grads: Params
    model_state: PyTree


class WholeBatch:
    """The loss of a batch in one piece, its value and its gradient."""

    def __init__(
        self,
        loss: LossFunction,
        batch: PyTree,
        mask: jax.Array | None,
        key: jax.Array,
        model_state: PyTree = None,
        scale: jax.Array | None = None,
    ):
        self.loss, self.batch, self.mask, self.key = loss, batch, mask, key
        self.model_state, self.scale = model_state, scale

    def value(self, params: Params) -> jax.Array:
        return self.of(params)[0]

    def gradient(self, params: Params) -> Params:
        return jax.grad(self.value)(params)

    def measured(self, params: Params) -> Measured:
        (_, (loss, metrics, model_state)), grads = jax.value_and_grad(self.of, has_aux=True)(params)
        return Measured(loss, metrics, grads, model_state)

    def of(self, params: Params) -> tuple[jax.Array, tuple[Weighted, dict[str, Weighted], PyTree]]:
        """The mean of the loss, and beside it the loss, the metrics and the next model state."""
        if self.scale is not None:
            params = unscaled(params, self.scale)
        loss, metrics, new = self.loss.measure(params, self.model_state, self.batch, self.key, self.mask, True)
        if self.scale is not None:
            loss = jax.tree.map(lambda x: scaled(x, self.scale), loss)
        return loss.mean(), (loss, metrics, self.loss.next_state(new, self.model_state))


class InParts:
    """The same of micro-batches, one after the other: sums that are divided once."""

    def __init__(
        self,
        parts: int,
        loss: LossFunction,
        batch: PyTree,
        mask: jax.Array | None,
        key: jax.Array,
        model_state: PyTree = None,
        scale: jax.Array | None = None,
    ):
        self.parts, self.loss, self.key, self.model_state, self.scale = parts, loss, key, model_state, scale
        self.batch, self.mask = jax.tree.map(jnp.asarray, (batch, mask))
        self.examples = _training_checks.examples_to_divide(parts, self.batch)

    def value(self, params: Params) -> jax.Array:
        # An optimizer may differentiate this; then each part is calculated anew, and not all are in memory at once.
        @jax.checkpoint
        def loss_of(part: PyTree, number: jax.Array, model_state: PyTree) -> tuple[Weighted, PyTree]:
            loss, _, model_state = self._part(part, number, model_state).of(params)[1]
            return loss, jax.lax.stop_gradient(model_state)  # The gradient is that of ``measured``.

        return self._sum(loss_of)[0].mean()

    def gradient(self, params: Params) -> Params:
        return self.measured(params).grads

    def measured(self, params: Params) -> Measured:
        def weighed(part: PyTree, number: jax.Array, model_state: PyTree) -> tuple[Any, PyTree]:
            loss, metrics, grads, model_state = self._part(part, number, model_state).measured(params)
            grads = jax.tree.map(lambda g: g * loss.weight.astype(g.dtype), tree.widen(grads))
            return (loss, metrics, grads), model_state

        (loss, metrics, sums), model_state = self._sum(weighed)
        weight = jnp.where(loss.weight == 0, 1, loss.weight)
        grads = jax.tree.map(lambda g, p: (g / weight.astype(g.dtype)).astype(p.dtype), sums, params)
        return Measured(loss, metrics, grads, model_state)

    def _part(self, part: PyTree, number: jax.Array, model_state: PyTree) -> WholeBatch:
        batch, mask = part
        return WholeBatch(self.loss, batch, mask, jax.random.fold_in(self.key, number), model_state, self.scale)

    def _sum(self, function: Callable[..., Any]) -> Any:
        return sum_over_parts(function, (self.batch, self.mask), self.examples, self.parts, self.model_state)


# ---------------------------------------------------------------------------------------------------------------------
# Measuring a loss
# ---------------------------------------------------------------------------------------------------------------------


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
    if value is None or isinstance(value, (str, bytes, Mapping)) or _leaf.is_key(value):
        _training_checks.loss_type(name, value)
    value = jnp.asarray(value)
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        _training_checks.real_loss(name, value)
    return value.astype(_leaf.compute_dtype(value.dtype))


def number_of_examples(batch: PyTree) -> int:
    """The length of the first axis of the first array that has one; 1 if none has."""
    return next((leaf.shape[0] for leaf in jax.tree.leaves(batch) if jnp.ndim(leaf) > 0), 1)


def call_loss(function: Callable[..., Any], *arguments: Any, key: jax.Array | None) -> Any:
    """Calls a loss with the key as its argument ``key``, or else after the others, if it has one of the two."""
    parameters = signature_of(function)
    if parameters is None:  # Something built in: no key.
        return function(*arguments)
    if "key" in parameters and parameters["key"].kind is not inspect.Parameter.POSITIONAL_ONLY:
        return function(*arguments, key=key)
    with_key = tree.required_arguments(function) > len(arguments)
    return function(*arguments, key) if with_key else function(*arguments)
