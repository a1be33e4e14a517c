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

With ``accumulate=k`` the gradient is calculated of ``k`` micro-batches, one after the other:

    grads = sum_i w_i grads_i / sum_i w_i        w_i: the examples, or the weight, of micro-batch i

The sums are kept in float32. It is one update with the gradient of the one big batch, and takes the memory of a small
one; the optimizer, its counters and its schedules do not notice.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, ParamSpec, TypeAlias

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, _leaf, _training_checks, hyperparameters, numerics, tree
from jaxopt_lessons._value import Value, value_factory
from jaxopt_lessons.core import GradientTransformation, Transformation, apply_updates
from jaxopt_lessons.train.micro_batches import sum_over_parts
from jaxopt_lessons.train.state import TrainState
from jaxopt_lessons.types import Convert, Params, PyTree

P = ParamSpec("P")

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


NORMS = ("gradient_norm", "update_norm", "parameter_norm", "update_ratio")
"""What ``make_step`` measures where it is asked to."""


class StepFunctions(NamedTuple):
    """What a wrapper of a step is made of.

    Attributes:
      step: ``step(state, batch, mask) -> (state, metrics)``.
      init: ``init(params)``, a dict of what the wrapper keeps in ``state.extras``. None: nothing.
      eval_params: ``eval_params(state)``, the weights to evaluate. None: those of the step inside.
    """

    step: Callable[..., Any]
    init: Callable[[Params], dict[str, Any]] | None = None
    eval_params: Callable[[TrainState], Params] | None = None


class Step(Value):
    """A pure function ``(state, batch) -> (state, metrics)``, as a value: its leaves are the hyperparameters of ``tx``.

    ``metrics`` is a dict of scalars: ``loss``, the metrics of the loss function, and ``weight``, the number of examples
    (or the weight of a ``Weighted`` loss) they are means over.
    """

    __slots__ = ()

    @property
    def inner(self) -> "Step | None":
        """The step that this one wraps; None if it wraps none."""
        return self._arguments.get("step")

    @property
    def loss_fn(self) -> Callable[..., Any] | None:
        """The loss function; None for a step that ``make_step`` did not make."""
        return self._argument_inside("loss_fn")

    @property
    def tx(self) -> GradientTransformation:
        """The optimizer; a step that ``make_step`` did not make has no such attribute."""
        tx = self._argument_inside("tx")
        if tx is None:
            raise AttributeError(f"{self.name}: the step was not made by make_step, and tells no optimizer.")
        return tx

    def init_extras(self, params: Params) -> PyTree:
        """What the wrappers of the step keep in ``state.extras`` before the first step, by name; ``()`` for nothing."""
        extras = dict(self.inner.init_extras(params)) if self.inner is not None else {}
        init = self._make().init
        return extras | (init(params) if init is not None else {}) or ()

    def eval_params(self, state: TrainState) -> Params:
        """The weights to evaluate and to keep: ``state.params``, or an average of them that a wrapper of the step or
        the optimizer keeps; that of the outermost."""
        eval_params = self._make().eval_params
        if eval_params is not None:
            return eval_params(state)
        if self.inner is not None:
            return self.inner.eval_params(state)
        tx = self._arguments.get("tx")
        return state.params if tx is None else tx.eval_params(state.opt_state, state.params)

    def learning_rates(self, state: TrainState) -> dict[str, Any]:
        """The learning rate of the next step, ``{"learning_rate": rate}``; those of several optimizers by name."""
        tx = self._argument_inside("tx")
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
        return self._make().step(state, batch, mask)

    def _argument_inside(self, name: str) -> Any:
        """An argument of the innermost step, None if it has none of this name."""
        return self._arguments.get(name) if self.inner is None else self.inner._argument_inside(name)

    def _finish(self, made: Any) -> StepFunctions:
        return made if isinstance(made, StepFunctions) else StepFunctions(made)


def step_factory(body: Callable[P, Any]) -> Callable[P, Step]:
    """Makes a factory of steps from a function that returns ``step(state, batch, mask)``, or ``StepFunctions``."""
    return value_factory(Step, body)


def _parts(owner: str, value: Any) -> int | None:
    return None if value is None else _checks.whole(owner, "accumulate", value, least=1)


def _norms(owner: str, value: Any) -> tuple[str, ...]:
    return _checks.some_of(owner, "metrics", value, NORMS)


@step_factory
def make_step(
    loss_fn: Callable[..., Any],
    tx: Transformation,
    *,
    accumulate: Annotated[int | None, Convert(_parts)] = None,
    metrics: Annotated[Sequence[str], Convert(_norms)] = (),
) -> Any:
    """Makes the step of a training run from a loss function and an optimizer.

    Args:
      loss_fn: ``loss_fn(params, batch)`` or ``loss_fn(params, batch, key)``; ``key`` is new at each step, and None when
        the loss is measured on validation data. It returns a scalar, a vector ``[batch]`` or a ``Weighted``, alone or
        with a dict of metrics.
      tx: the optimizer: a gradient transformation, or a pair of functions such as optax's. Its ``update`` is called
        with all that an optimizer may want to know of the batch: ``value``, ``grad``, ``value_fn(params)`` (also called
        ``obj_fn``) and ``grad_fn(params, i)``, for Polyak's step size, Sophia or sharpness-aware minimization.
      accumulate: how many micro-batches to cut each batch into, to save memory; None for the whole batch at once. Each
        has a key of its own. A batch that cannot be cut into equal parts, such as a smaller last one, is cut into parts
        that differ by one example. Each part counts by its weight, a scalar by its number of examples: the update is
        that of the whole batch if the loss is a mean over examples (not over a batch's tokens, which would be a mean
        of means: return ``Weighted``), and if no example or weight depends on the others or on the parameters.
      metrics: what else to measure, norms over all parameters together, in float32: "gradient_norm", before the
        optimizer clips; "update_norm", the length of the step; "parameter_norm", before the step; "update_ratio", the
        step's length by theirs, infinite for a step away from zeros. The loss function's metrics cannot have the names
        of those.

    Returns:
      A pure function ``step(state, batch) -> (state, metrics)``. It is not compiled: put it into ``jit``, ``vmap`` or
      ``scan``, or hand it to ``fit``. ``step.replace(learning_rate=...)`` gives one with another learning rate.

    Raises:
      TypeError, ValueError: an argument is not one of these; the nearest name is said.

    >>> step = make_step(lambda w, x: (w - x) ** 2, jl.sgd(0.25), accumulate=2, metrics=["gradient_norm"])
    >>> state, metrics = step(jl.init_state(0.0, step), jnp.array([1.0, 2.0, 6.0]))
    >>> {name: float(value) for name, value in metrics.items()}  # of the parts [1, 2] and [6]
    {'loss': 13.666666984558105, 'weight': 3.0, 'gradient_norm': 6.0}
    """
    _checks.require(callable(loss_fn), "make_step: loss_fn must be a function (params, batch) -> loss.")

    def step(state: TrainState, batch: PyTree, mask: jax.Array | None) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.fold_in(state.key, LOSS_STREAM), state.cursor)
        of_batch = _WholeBatch if accumulate in (None, 1) else functools.partial(_InParts, accumulate)
        objective = of_batch(loss_fn, batch, mask, key)

        def grad_fn(params: Params, _: Any = None) -> Params:
            return jax.tree.map(_descent_convention, objective.gradient(params))

        loss, found, grads = objective.measured(state.params)
        grads = jax.tree.map(_descent_convention, grads)
        value, value_fn = loss.mean(), objective.value
        extra = {"value": value, "grad": grads, "value_fn": value_fn, "obj_fn": value_fn, "grad_fn": grad_fn}
        updates, opt_state = tx.update(grads, state.opt_state, state.params, **extra)
        new_state = state._replace(
            step=numerics.increment(state.step),
            cursor=numerics.increment(state.cursor),
            params=apply_updates(state.params, updates),
            opt_state=opt_state,
        )
        _training_checks.reserved_metrics(found, metrics)
        measured = {"loss": value, **{name: m.mean() for name, m in found.items()}, "weight": loss.weight}
        return new_state, measured | _measured_norms(metrics, grads, updates, state.params)

    return step


def _measured_norms(names: Sequence[str], grads: Params, updates: Params, params: Params) -> dict[str, jax.Array]:
    norms = {}
    if "gradient_norm" in names:
        norms["gradient_norm"] = tree.global_norm(grads)
    if "update_norm" in names or "update_ratio" in names:
        norms["update_norm"] = tree.global_norm(updates)
    if "parameter_norm" in names or "update_ratio" in names:
        norms["parameter_norm"] = tree.global_norm(params)
    if "update_ratio" in names:
        update = norms["update_norm"]
        norms["update_ratio"] = update / jnp.where(update == 0, 1, norms["parameter_norm"])
    return {name: norms[name].astype(numerics.float_dtype()) for name in names}


@step_factory
def step_of(function: Callable[..., Any]) -> Any:
    """A step from a plain function ``(state, batch, mask) -> (state, metrics)``, or without the mask."""
    if tree.required_arguments(function) > 2 or "mask" in inspect.signature(function).parameters:
        return function

    def step(state: TrainState, batch: PyTree, mask: jax.Array | None) -> Any:
        if mask is not None:
            _training_checks.unmasked_step()
        return function(state, batch)

    return step


def as_step(owner: str, value: Any) -> Step:
    """``value``, made a step if it is a function ``(state, batch) -> (state, metrics)``."""
    if isinstance(value, Step):
        return value
    if not callable(value):
        _training_checks.step_expected(owner, value)
    return step_of(value)


StepLike: TypeAlias = Annotated[Any, Convert(as_step)]
"""An argument that is a step; a plain function becomes one."""


def _descent_convention(grad: jax.Array) -> jax.Array:
    """``jax.grad`` of a real function of a complex number is the conjugate of the direction of steepest ascent."""
    return jnp.conj(grad) if jnp.issubdtype(grad.dtype, jnp.complexfloating) else grad


# ---------------------------------------------------------------------------------------------------------------------
# The loss of a batch, as a function of the parameters
# ---------------------------------------------------------------------------------------------------------------------


class _WholeBatch:
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


class _InParts:
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

    def _part(self, part: PyTree, number: jax.Array) -> _WholeBatch:
        batch, mask = part
        return _WholeBatch(self.loss_fn, batch, mask, jax.random.fold_in(self.key, number))

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
