"""One step of training.

    loss, grads    = value_and_grad(loss_fn)(params, batch)
    updates, state = tx.update(grads, state, params)
    params         = apply_updates(params, updates)

What a loss function may return, and how a batch is cut into micro-batches, is in ``objective``: the optimizer, its
counters and its schedules see one batch and one gradient. The precision of the loss is in ``policy``. Wrappers,
``with_guard`` and ``with_ema``, take a step and give one.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, ParamSpec, TypeAlias

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, _training_checks, hyperparameters, numerics, tree
from jaxopt_lessons._labels import signature_of
from jaxopt_lessons._value import Value, value_factory
from jaxopt_lessons.core import GradientTransformation, Transformation, apply_updates
from jaxopt_lessons.train.objective import InParts, LossFunction, WholeBatch
from jaxopt_lessons.train.policy import Policy, as_policy, init_scale, step_or_overflow
from jaxopt_lessons.train.state import TrainState
from jaxopt_lessons.types import Convert, Params, PyTree

P = ParamSpec("P")

SHUFFLE_STREAM, LOSS_STREAM = 0x73687566, 0x6C6F7373
"""What is folded into the root key first, so that shuffling and dropout never share random numbers. Not small numbers:
``split(key, n)[i]`` is ``fold_in(key, i)``, and people split the same key to initialize their parameters."""


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
    def stateful(self) -> bool:
        """Whether the loss function takes a model state and returns the next one."""
        return bool(self._argument_inside("stateful"))

    @property
    def policy(self) -> Policy | None:
        """The precision in which the loss is calculated; None for that of the parameters and the batch."""
        return self._argument_inside("policy")

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


def _parts(owner: str, name: str, value: Any) -> int | None:
    return None if value is None else _checks.whole(owner, name, value, least=1)


def _norms(owner: str, name: str, value: Any) -> tuple[str, ...]:
    return _checks.some_of(owner, name, value, NORMS)


def _as_loss(owner: str, name: str, value: Any) -> Callable[..., Any]:
    if not callable(value):
        _training_checks.loss_function_expected(owner, value)
    if isinstance(value, Step):
        _training_checks.step_in_place_of_loss(owner, value)
    return value


@step_factory
def make_step(
    loss_fn: Annotated[Callable[..., Any], Convert(_as_loss)],
    tx: Transformation,
    *,
    accumulate: Annotated[int | None, Convert(_parts)] = None,
    metrics: Annotated[Sequence[str], Convert(_norms)] = (),
    stateful: bool = False,
    policy: Annotated[Any, Convert(as_policy)] = None,
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
      stateful: whether the model has a state that is not trained, such as the running means of batch normalization. The
        loss function is ``loss_fn(params, model_state, batch)`` or ``loss_fn(params, model_state, batch, key)`` then,
        and returns ``(loss, model_state)`` or ``(loss, metrics, model_state)`` with a model state of the structure,
        shapes and dtypes of the one it got: ``state.model_state`` of the next step. On validation data it is called
        with None for its key, as any loss, and the model state it returns is thrown away. Micro-batches hand it on, in
        their order; the functions that an optimizer gets begin with that of the step.
      policy: the precision of the loss: "bfloat16" or "float16", or a ``Policy``; None for that of the parameters and
        the batch. The parameters stay as they are; they and floating-point batches are cast for the loss function. With
        "float16" the loss is scaled where gradients are calculated, and the step has two more metrics: ``loss_scale``
        and ``overflow``, 1 where a gradient was infinite or NaN: then the step is not taken, as with ``with_guard``,
        and ``weight`` is 0. Make the state by ``init_state(params, step)``: it keeps the scale in its extras.

    Returns:
      A pure function ``step(state, batch) -> (state, metrics)``. It is not compiled: put it into ``jit``, ``vmap`` or
      ``scan``, or hand it to ``fit``. ``step.replace(learning_rate=...)`` gives one with another learning rate.

    Raises:
      TypeError, ValueError: an argument is not one of these; the nearest name is said.
      InputError: from the step, if the loss function returns something else, or the state lacks what is needed.

    >>> step = make_step(lambda w, x: (w - x) ** 2, jl.sgd(0.25), accumulate=2, metrics=["gradient_norm"])
    >>> state, metrics = step(jl.init_state(0.0, step), jnp.array([1.0, 2.0, 6.0]))
    >>> {name: float(value) for name, value in metrics.items()}  # of the parts [1, 2] and [6]
    {'loss': 13.666666984558105, 'weight': 3.0, 'gradient_norm': 6.0}

    A model with a state: the running mean of the inputs, which are to be counted from it.

    >>> def loss_fn(w, mean, x, key):
    ...     mean = mean if key is None else 0.5 * mean + 0.5 * jnp.mean(x)
    ...     return (w * (x - mean)) ** 2, mean
    >>> step = make_step(loss_fn, jl.sgd(0.25), stateful=True)
    >>> state = jl.init_state(1.0, step, model_state=0.0)
    >>> state, _ = step(state, jnp.array([1.0, 3.0]))
    >>> float(state.params), float(state.model_state)
    (0.0, 1.0)
    """
    _training_checks.stateful_loss("make_step", signature_of(loss_fn), stateful)
    of_batch = WholeBatch if accumulate in (None, 1) else functools.partial(InParts, accumulate)
    loss_function = LossFunction(loss_fn, stateful, policy)
    scaling = policy if policy is not None and policy.loss_scale is not None else None

    def step(state: TrainState, batch: PyTree, mask: jax.Array | None) -> tuple[TrainState, dict[str, jax.Array]]:
        _training_checks.made_by("make_step", "state", state, TrainState, "init_state(params, step)")
        key = jax.random.fold_in(jax.random.fold_in(state.key, LOSS_STREAM), state.cursor)
        model_state = _model_state(state, mask) if stateful else None
        scale = _training_checks.kept_in_extras("make_step", "loss_scale", state.extras) if scaling else None
        objective = of_batch(loss_function, batch, mask, key, model_state, scale)

        def grad_fn(params: Params, _: Any = None) -> Params:
            return jax.tree.map(_descent_convention, objective.gradient(params))

        loss, found, grads, model_state = objective.measured(state.params)
        grads = jax.tree.map(_descent_convention, grads)
        value, value_fn = loss.mean(), objective.value
        extra = {"value": value, "grad": grads, "value_fn": value_fn, "obj_fn": value_fn, "grad_fn": grad_fn}
        updates, opt_state = tx.update(grads, state.opt_state, state.params, **extra)
        new_state = state._replace(
            step=numerics.increment(state.step),
            cursor=numerics.increment(state.cursor),
            params=apply_updates(state.params, updates),
            opt_state=opt_state,
            model_state=model_state if stateful else state.model_state,
        )
        _training_checks.reserved_metrics(found, (*metrics, "loss_scale", "overflow") if scaling else metrics)
        measured = {"loss": value, **{name: m.mean() for name, m in found.items()}, "weight": loss.weight}
        if scaling is not None:
            new_state, measured = step_or_overflow(scaling, state, new_state, measured, grads, updates)
        return new_state, measured | _measured_norms(metrics, grads, updates, state.params)

    return step if scaling is None else StepFunctions(step, lambda params: init_scale(scaling))


def _model_state(state: TrainState, mask: jax.Array | None) -> PyTree:
    """The model state that a stateful loss is called with."""
    if state.model_state is None:
        _training_checks.model_state_needed()
    if mask is not None:
        _training_checks.stateful_with_mask()
    return state.model_state


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
    masked = tree.required_arguments(function) > 2 or "mask" in (signature_of(function) or {})

    def step(state: TrainState, batch: PyTree, mask: jax.Array | None) -> Any:
        if mask is not None and not masked:
            _training_checks.unmasked_step()
        try:
            result = function(state, batch, mask) if masked else function(state, batch)
        except (TypeError, AttributeError) as error:
            error.add_note(
                "It came from a function that was given as a step and called as step(state, batch). A loss function is "
                "made a step by make_step(loss_fn, tx)."
            )
            raise
        _training_checks.step_result(function, result)
        return result

    return step


def as_step(owner: str, name: str, value: Any) -> Step:
    """``value``, made a step if it is a function ``(state, batch) -> (state, metrics)``."""
    if isinstance(value, Step):
        return value
    if not callable(value):
        _training_checks.step_expected(owner, name, value)
    _training_checks.step_arguments(owner, name, value, signature_of(value))
    return step_of(value)


StepLike: TypeAlias = Annotated[Any, Convert(as_step)]
"""An argument that is a step; a plain function becomes one."""


def _descent_convention(grad: jax.Array) -> jax.Array:
    """``jax.grad`` of a real function of a complex number is the conjugate of the direction of steepest ascent."""
    return jnp.conj(grad) if jnp.issubdtype(grad.dtype, jnp.complexfloating) else grad
