"""One step of training, and what a loss function may return.

    loss, grads    = value_and_grad(loss_fn)(params, batch)
    updates, state = tx.update(grads, state, params)
    params         = apply_updates(params, updates)

A loss function is ``loss_fn(params, batch)`` or ``loss_fn(params, batch, key)`` and returns one of

    a scalar                    the mean over the batch, taken as it is
    a vector ``[batch]``        one loss per example: the step averages them
    ``Weighted(total, weight)`` a sum, and what to divide it by (tokens, say)

alone, or as ``(loss, {"accuracy": ...})`` with metrics that are scalars or vectors ``[batch]``. With a vector or a
``Weighted`` loss, means over ragged batches are exactly the means over their examples; a mean of means is not.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, _leaf, _training_checks, hyperparameters, numerics, tree
from jaxopt_lessons._value import Value, value_factory
from jaxopt_lessons.core import GradientTransformation, Transformation, apply_updates
from jaxopt_lessons.train.state import TrainState
from jaxopt_lessons.types import Params, PyTree

SHUFFLE_STREAM, LOSS_STREAM = 0x73687566, 0x6C6F7373
"""What is folded into the root key first, so that shuffling and dropout never share random numbers. Not small numbers:
``split(key, n)[i]`` is ``fold_in(key, i)``, and people split the same key to initialize their parameters."""


class Weighted(NamedTuple):
    """A sum over examples (or tokens, pixels ...) and their number or weight; its value is ``total / weight``."""

    total: jax.Array
    weight: jax.Array

    def mean(self) -> jax.Array:
        """``total / weight``, and 0 if nothing was weighed."""
        empty = self.weight == 0
        return jnp.where(empty, 0, self.total / jnp.where(empty, 1, self.weight))


class Step(Value):
    """A pure function ``(state, batch) -> (state, metrics)``, as a value: its leaves are the hyperparameters of ``tx``.

    ``metrics`` is a dict of scalars: ``loss``, the metrics of the loss function, and ``weight``, the number of examples
    (or the weight of a ``Weighted`` loss) they are means over.
    """

    __slots__ = ()

    @property
    def loss_fn(self) -> Callable[..., Any] | None:
        """The loss function; None for a step that ``make_step`` did not make."""
        return self._arguments.get("loss_fn")

    @property
    def tx(self) -> GradientTransformation:
        """The optimizer."""
        return self._arguments["tx"]

    def eval_params(self, state: TrainState) -> Params:
        """The weights to evaluate and to keep: ``state.params``, or the average that the optimizer keeps of them."""
        tx = self._arguments.get("tx")
        return state.params if tx is None else tx.eval_params(state.opt_state, state.params)

    def learning_rates(self, state: TrainState) -> dict[str, Any]:
        """The learning rate of the next step, ``{"learning_rate": rate}``; those of several optimizers by name."""
        tx = self._arguments.get("tx")
        return {} if tx is None else hyperparameters.learning_rates(tx, state.opt_state)

    def __call__(
        self, state: TrainState, batch: PyTree, mask: jax.Array | None = None
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Applies one update.

        Args:
          state: the run so far.
          batch: what the loss function takes: arrays with the examples along the first axis.
          mask: bools ``[batch]``, False for examples that only fill up the batch; needs a loss per example.
        """
        return self._make()(state, batch, mask)


def _make_step(loss_fn: Callable[..., Any], tx: Transformation) -> Any:
    """Makes the step of a training run from a loss function and an optimizer.

    Args:
      loss_fn: ``loss_fn(params, batch)`` or ``loss_fn(params, batch, key)``; ``key`` is new at each step, and None when
        the loss is measured on validation data. It returns a scalar, a vector ``[batch]`` or a ``Weighted``, alone or
        with a dict of metrics.
      tx: the optimizer: a gradient transformation, or a pair of functions such as optax's. Its ``update`` is called
        with all that an optimizer may want to know of the batch: ``value``, ``grad``, ``value_fn(params)`` (also called
        ``obj_fn``) and ``grad_fn(params, i)``, for Polyak's step size, Sophia or sharpness-aware minimization.

    Returns:
      A pure function ``step(state, batch) -> (state, metrics)``. It is not compiled: put it into ``jit``, ``vmap`` or
      ``scan``, or hand it to ``fit``. ``step.replace(learning_rate=...)`` gives one with another learning rate.
    """
    _checks.require(callable(loss_fn), "make_step: loss_fn must be a function (params, batch) -> loss.")

    def step(state: TrainState, batch: PyTree, mask: jax.Array | None) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.fold_in(state.key, LOSS_STREAM), state.cursor)

        def objective(params: Params) -> tuple[jax.Array, tuple[jax.Array, dict[str, Weighted]]]:
            loss, metrics = measure(loss_fn, params, batch, key, mask)
            return loss.mean(), (loss.weight, metrics)

        def value_fn(params: Params) -> jax.Array:
            return objective(params)[0]

        def grad_fn(params: Params, _: Any = None) -> Params:
            return jax.tree.map(_descent_convention, jax.grad(value_fn)(params))

        (loss, (weight, metrics)), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
        grads = jax.tree.map(_descent_convention, grads)
        extra = {"value": loss, "grad": grads, "value_fn": value_fn, "obj_fn": value_fn, "grad_fn": grad_fn}
        updates, opt_state = tx.update(grads, state.opt_state, state.params, **extra)
        new_state = state._replace(
            step=numerics.increment(state.step),
            cursor=numerics.increment(state.cursor),
            params=apply_updates(state.params, updates),
            opt_state=opt_state,
        )
        return new_state, {"loss": loss, **{k: m.mean() for k, m in metrics.items()}, "weight": weight}

    return step


_make_step.__name__ = _make_step.__qualname__ = "make_step"
make_step: Callable[[Callable[..., Any], Any], Step] = value_factory(Step, _make_step)


def _step_of(function: Callable[..., Any]) -> Any:
    """A step from a plain function ``(state, batch, mask) -> (state, metrics)``, or without the mask."""
    if tree.required_arguments(function) > 2 or "mask" in inspect.signature(function).parameters:
        return function

    def step(state: TrainState, batch: PyTree, mask: jax.Array | None) -> Any:
        if mask is not None:
            _training_checks.unmasked_step()
        return function(state, batch)

    return step


step_of: Callable[[Callable[..., Any]], Step] = value_factory(Step, _step_of)


def _descent_convention(grad: jax.Array) -> jax.Array:
    """``jax.grad`` of a real function of a complex number is the conjugate of the direction of steepest ascent."""
    return jnp.conj(grad) if jnp.issubdtype(grad.dtype, jnp.complexfloating) else grad


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
    _training_checks.reserved_metrics(metrics)
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
