"""optax's ``inject_hyperparams``: hyperparameters in the state, where a script reads them and writes into them.

    tx = inject_hyperparams(adamw)(learning_rate=cosine_decay_schedule(1e-3, 100), b1=0.9)
    state = tx.init(params)
    state.hyperparams["b1"] = 0.95           the next update has it
    state.hyperparams["learning_rate"]       the rate of the last update

For scripts that do so already. An optimizer of this library needs no wrapper: its numbers are leaves, and
``tx.replace(b1=0.95)`` compiles nothing.

State: ``count``; ``hyperparams``, the numbers by name, float32 whatever the parameters are (optax has them in the dtype
of the parameters: in bfloat16 a ``b2`` of 0.999 is 1); ``hyperparams_states``, the count of each schedule;
``inner_state``. So the updates are bit for bit those of the optimizer alone. Another departure: of factories of this
library it is known which arguments are numbers, so masks and other functions are not taken for schedules, and
``static_args`` need not name them. Of other factories every function is a schedule, as in optax.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxopt_lessons import _checks, numerics
from jaxopt_lessons.core import Functions, GradientTransformation, Part, as_transformation, gradient_transformation
from jaxopt_lessons.types import Convert, Params, Range, State, Updates


class InjectStatefulHyperparamsState(NamedTuple):
    count: jax.Array
    hyperparams: dict[str, jax.Array]
    hyperparams_states: dict[str, Any]
    inner_state: State


class WrappedScheduleState(NamedTuple):
    """What is remembered of a schedule: how many updates it was read for."""

    count: jax.Array


def inject_hyperparams(
    inner_factory: Callable[..., Any], static_args: str | Iterable[str] = (), hyperparam_dtype: Any = None
) -> Callable[..., GradientTransformation]:
    """Makes a factory whose optimizers have their hyperparameters in the state.

    Args:
      inner_factory: a factory such as ``adamw``, or a function that returns an optimizer; as a decorator, too.
      static_args: names of arguments that are to stay out of the state.
      hyperparam_dtype: dtype of the numbers; that of a float in JAX by default.

    Returns:
      A function with the arguments of ``inner_factory``, numbers or schedules ``count -> number`` (or stateful ones,
      with ``init()``, ``update(state, **extra)`` and ``schedule(state, **extra)``).

    Raises:
      ValueError: ``static_args`` names an argument that there is not.

    >>> tx = inject_hyperparams(jl.sgd)(learning_rate=0.5)
    >>> state = tx.init(jnp.ones(1))
    >>> state.hyperparams["learning_rate"] = 0.25
    >>> tx.update(jnp.ones(1), state)[0]
    Array([-0.25], dtype=float32)
    """
    signature = inspect.signature(inner_factory)
    static = {static_args} if isinstance(static_args, str) else set(static_args)
    unknown = sorted(static - set(signature.parameters))
    _checks.require(
        not unknown,
        lambda: (
            f"inject_hyperparams: static_args must name arguments of {inner_factory!r}; got {unknown}. The arguments "
            f"are: {', '.join(signature.parameters)}."
        ),
    )

    @functools.wraps(inner_factory, updated=())
    def factory(*args: Any, **kwargs: Any) -> GradientTransformation:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        kinds = {n: _kind(inner_factory, n, value) for n, value in bound.arguments.items() if n not in static}
        numbers = tuple(name for name, kind in kinds.items() if kind == "number")
        schedules = tuple(name for name, kind in kinds.items() if kind == "schedule")
        return injected(inner_factory, dict(bound.arguments), numbers, schedules, hyperparam_dtype)

    return factory


inject_stateful_hyperparams = inject_hyperparams


def _kind(factory: Callable[..., Any], name: str, value: Any) -> str:
    """``"number"``, ``"schedule"``, or ``"static"`` for all else."""
    specification = getattr(factory, "_specification", None)
    allowed: Range | None = specification.ranges[name] if specification else Range(schedules=True)
    if allowed is None or isinstance(value, (bool, np.bool_)):
        return "static"
    if isinstance(value, (int, float, np.generic, np.ndarray, jax.Array, Tracer)):
        return "number"
    return "schedule" if callable(value) and not isinstance(value, type) and allowed.schedules else "static"


def _arguments(owner: str, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Lists as tuples, whose values are leaves."""
    return {name: tuple(value) if type(value) is list else value for name, value in values.items()}


@gradient_transformation
def injected(
    factory: Callable[..., Any],
    arguments: Annotated[Any, Convert(_arguments, mixed=True)],
    numbers: tuple[str, ...],
    schedules: tuple[str, ...],
    hyperparam_dtype: Any = None,
) -> Any:
    """What ``inject_hyperparams(factory)(**arguments)`` returns.

    Args:
      factory: what makes the optimizer.
      arguments: all of its arguments.
      numbers: those that are in the state and stay as they are.
      schedules: those that are in the state and change.
      hyperparam_dtype: the dtype of the numbers.
    """
    dtype = numerics.float_dtype() if hyperparam_dtype is None else hyperparam_dtype
    signature = inspect.signature(factory)
    # The course of a rate that the decay follows is not in its value.
    kept = {"learning_rate"} & set(schedules) if arguments.get("decay") == "schedule" else set()
    stateful = {name for name in schedules if hasattr(arguments[name], "init")}

    def make(values: Mapping[str, Any]) -> GradientTransformation:
        bound = signature.bind_partial()
        changes = {name: value for name, value in values.items() if name not in kept}
        bound.arguments.update({name: changes.get(name, value) for name, value in arguments.items()})
        return as_transformation(
            "inject_hyperparams", "the result of inner_factory", factory(*bound.args, **bound.kwargs)
        )

    def as_number(value: Any) -> jax.Array:
        array = jnp.asarray(value)
        return array.astype(dtype) if jnp.issubdtype(array.dtype, jnp.floating) else array

    def first(name: str) -> Any:
        return arguments[name].init() if name in stateful else WrappedScheduleState(numerics.zero_count())

    def read(name: str, state: Any, extra: Mapping[str, Any]) -> jax.Array:
        return as_number(arguments[name](state, **extra) if name in stateful else arguments[name](state.count))

    def after(name: str, state: Any, extra: Mapping[str, Any]) -> Any:
        if name in stateful:
            return arguments[name].update(state, **extra)
        return WrappedScheduleState(numerics.increment(state.count))

    def init(params: Params) -> InjectStatefulHyperparamsState:
        states = {name: first(name) for name in schedules}
        values = {name: as_number(_plain(factory, name, arguments[name])) for name in numbers}
        values |= {name: read(name, states[name], {}) for name in schedules}
        return InjectStatefulHyperparamsState(numerics.zero_count(), values, states, make(values).init(params))

    def update(
        updates: Updates, state: InjectStatefulHyperparamsState, params: Params | None = None, **extra: Any
    ) -> Any:
        _checks.injected_names(state.hyperparams, (*numbers, *schedules))
        values = {name: as_number(value) for name, value in state.hyperparams.items()}
        values |= {name: read(name, state.hyperparams_states[name], extra) for name in schedules}
        updates, inner_state = make(values).update(updates, state.inner_state, params, **extra)
        states = {name: after(name, state.hyperparams_states[name], extra) for name in schedules}
        return updates, InjectStatefulHyperparamsState(numerics.increment(state.count), values, states, inner_state)

    def parts(state: InjectStatefulHyperparamsState) -> tuple[Part, ...]:
        known = {n: value for n, value in state.hyperparams.items() if not isinstance(value, jax.ShapeDtypeStruct)}
        tx = make({**dict.fromkeys(stateful, 0.5), **known})
        return (Part(tx.name, tx, state.inner_state),)

    def readings(state: InjectStatefulHyperparamsState) -> dict[str, jax.Array]:
        changing = [name for name in schedules if name not in stateful]
        values = {name: as_number(value) for name, value in state.hyperparams.items()}
        return values | {name: read(name, state.hyperparams_states[name], {}) for name in changing}

    rounds = make(dict.fromkeys(stateful, 0.5)).takes_half_precision
    return Functions(init, update, parts, takes_half_precision=rounds, readings=readings)


def _plain(factory: Callable[..., Any], name: str, value: Any) -> Any:
    """A number as the factory keeps it: 1 is 1.0 where any number may stand."""
    specification = getattr(factory, "_specification", None)
    whole = specification is None or specification.ranges[name].whole
    return value if whole or not isinstance(value, int) else float(value)


injected.__name__ = "inject_hyperparams"
