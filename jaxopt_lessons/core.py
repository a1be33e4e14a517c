"""Gradient transformations: what an optimizer is, and how two of them make a third.

A gradient transformation is a pure pair of functions::

    state          = tx.init(params)
    updates, state = tx.update(grads, state, params)
    params         = apply_updates(params, updates)

``update`` turns gradients into the step to add to the parameters. Clipping, momentum, Adam's scaling and the
multiplication by minus the learning rate are all gradient transformations; an optimizer is a ``chain`` of them. Each
is also a *value*: it prints, compares, pickles, and passes through ``jit``, ``vmap`` and ``grad`` (see ``_value``).

Write one by decorating a function that returns the pair::

    @gradient_transformation
    def scale_by_momentum(decay: DecayRateOrSchedule = 0.9):
        def init(params):
            return TraceState(trace=tree.zeros_like(params))
        def update(updates, state: TraceState, params=None, **extra):
            updates, trace = tree.map_leaves(momentum_rule, updates, state.trace, params=params, decay=decay)
            return updates, TraceState(trace)
        return init, update

A wrapper, whose state holds the states of other transformations, returns ``Functions(init, update, parts,
eval_params)`` instead of the pair, so that they can be found there.

``update`` sees numbers. If the caller gave a schedule instead, the number is the schedule's value at the state's
``count``; for a state without a ``count`` one is kept beside it, in a ``ScheduledState``.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple, ParamSpec, Self, TypeAlias

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, _errors, _schedule_checks, _state_checks, numerics, tree
from jaxopt_lessons._value import Value, value_factory
from jaxopt_lessons.types import Convert, Params, State, Updates

P = ParamSpec("P")


class EmptyState(NamedTuple):
    """The state of a transformation that remembers nothing."""


class ScheduledState(NamedTuple):
    """The state of a transformation with a scheduled hyperparameter and no ``count`` of its own."""

    count: jax.Array
    inner: State


class Part(NamedTuple):
    """One of the transformations inside another: its name there, the transformation, and its state."""

    name: str
    tx: "GradientTransformation"
    state: State


class Functions(NamedTuple):
    """What a wrapper is made of: the pair, and two ways to look into its state.

    Attributes:
      init: ``init(params) -> state``.
      update: ``update(updates, state, params, **extra) -> (updates, state)``.
      parts: ``parts(state)``, the ``Part`` s inside. None: there are none.
      eval_params: ``eval_params(state, params)``, the weights to evaluate. None: ask the parts one after the other.
      takes_half_precision: whether it must see half-precision parameters as they are, to round for them. A chain
        gives all others float32.
      readings: ``readings(state)``, what it found out itself and uses as others use hyperparameters, by name.
    """

    init: Callable[[Params], State]
    update: Callable[..., tuple[Updates, State]]
    parts: Callable[[State], Iterable[Part]] | None = None
    eval_params: Callable[[State, Params], Params] | None = None
    takes_half_precision: bool = False
    readings: Callable[[State], Mapping[str, Any]] | None = None


class _Made(NamedTuple):
    """What a decorated function returned, and how its ``update`` may be called."""

    functions: Functions
    state_type: type | None
    takes_params: bool
    extra_names: frozenset[str] | None  # None: every extra argument
    needed: tuple[str, ...]  # extra arguments without a default


class GradientTransformation(Value):
    """A pure ``(init, update)`` pair that is also a value.

    ``GradientTransformation(init, update)`` makes one from two plain functions; ``@gradient_transformation`` makes
    factories of them. Unpack it when you want the plain pair: ``init, update = tx``.
    """

    __slots__ = ()

    def __new__(cls, init: Callable[[Params], State], update: Callable[..., tuple[Updates, State]]) -> Any:
        return pair_of_functions(init, update)

    def init(self, params: Params) -> State:
        """The state before the first update, for parameters of these shapes; reads no values of ``params``."""
        made = self._make()
        with self._stage(made):
            if isinstance(made, GradientTransformation):
                return made.init(params)
            state = made.functions.init(params)
            if not self._schedules() or _has_count(state):
                return state
            return ScheduledState(numerics.zero_count(), state)

    def update(self, updates: Updates, state: State, params: Params | None = None, **extra: Any) -> Any:
        """Transforms ``updates``.

        Args:
          updates: gradients, or the output of an earlier transformation.
          state: what ``init`` or the last ``update`` returned.
          params: the current parameters; some transformations need them, all of them use their dtypes.
          **extra: arguments that some transformations need (``value=``, the loss, for instance); others ignore them.

        Returns:
          ``(updates, state)``: the updates in the dtypes of ``params`` (of ``updates`` if there are no ``params``),
          the state with exactly the structure, shapes and dtypes it had.

        Raises:
          InputError: a tree, the state or an argument does not fit; the message names the stage and the leaf.
        """
        made = self._make()
        with self._stage(made):
            if isinstance(made, GradientTransformation):
                return made.update(updates, state, params, **extra)
            if not self._schedules():
                return _call(made, updates, state, params, extra)
            if not _has_count(state):
                _state_checks.state_without_count(list(self._schedules()), state)
            made = self.at(state.count)._make()
            if not isinstance(state, ScheduledState):
                return _call(made, updates, state, params, extra)
            updates, inner = _call(made, updates, state.inner, params, extra)
            return updates, ScheduledState(numerics.increment(state.count), inner)

    def parts(self, state: State) -> tuple[Part, ...]:
        """The transformations inside this one with their states; none for one that is not made of others."""
        made = self._make()
        with self._stage(made):
            if isinstance(made, GradientTransformation):
                return made.parts(state)
            return tuple(made.functions.parts(_own(made, state))) if made.functions.parts else ()

    def eval_params(self, state: State, params: Params) -> Params:
        """The weights to evaluate and to keep, where they are not those that are trained: averages, for instance."""
        made = self._make()
        with self._stage(made):
            if isinstance(made, GradientTransformation):
                return made.eval_params(state, params)
            own = _own(made, state)
            if self._schedules():
                made = self.at(state.count)._make()
            if made.functions.eval_params is not None:
                return made.functions.eval_params(own, params)
            for part in self.parts(state):
                params = part.tx.eval_params(part.state, params)
            return params

    def readings(self, state: State) -> dict[str, Any]:
        """What this transformation found out itself and uses as others use hyperparameters: a step size, for instance.

        Not what those inside it found out; so nothing for a preset.
        """
        made = self._make()
        if isinstance(made, GradientTransformation):
            return {}
        if self._schedules():
            made = self.at(state.count)._make()
        inner = state.inner if isinstance(state, ScheduledState) else state
        return dict(made.functions.readings(inner)) if made.functions.readings else {}

    @property
    def assembled(self) -> "GradientTransformation | None":
        """What a preset such as ``adam`` puts together; None for a transformation with an ``update`` of its own."""
        made = self._make()
        return made if isinstance(made, GradientTransformation) else None

    def inside(self) -> list["GradientTransformation"]:
        """What this transformation is made of: the chain of a preset, or the transformations among its arguments."""
        if self.assembled is not None:
            return [self.assembled]
        values = jax.tree.leaves(
            list(self._arguments.values()), is_leaf=lambda value: isinstance(value, GradientTransformation)
        )
        return [value for value in values if isinstance(value, GradientTransformation)]

    def walk(self) -> Iterator["GradientTransformation"]:
        """This transformation and all inside it, at any depth, those outside before those inside.

        >>> [tx.name for tx in jl.chain(jl.clip(1.0), jl.sgd(0.1)).walk()]
        ['chain', 'clip', 'sgd', 'chain', 'identity', 'scale_by_learning_rate']
        """
        yield self
        for tx in self.inside():
            yield from tx.walk()

    @property
    def takes_half_precision(self) -> bool:
        """Whether this transformation, or one inside it, must see half-precision parameters as they are."""
        every = (tx._make() for tx in self.walk())
        return any(isinstance(made, _Made) and made.functions.takes_half_precision for made in every)

    def seen(self, params: Params) -> Params:
        """``params`` as a wrapper gives them to this transformation: float32 for half precision, which is rounded once.

        Only a transformation that rounds for half-precision parameters sees them as they are.
        """
        return params if self.takes_half_precision else tree.widen(params)

    def at(self, count: Any) -> Self:
        """This transformation with the schedules among its own arguments replaced by their values at ``count``."""
        now = {name: _schedule_checks.scheduled(name, value, count) for name, value in self._schedules().items()}
        return self._copy(**{name: numerics.as_float(value) for name, value in now.items()})

    def _stage(self, made: Any) -> contextlib.AbstractContextManager[None]:
        """Errors inside begin with this name; that a preset is a chain does not stand in them, its user wrote none."""
        is_chain = isinstance(made, GradientTransformation) and made.made_by(chain)
        return _errors.stage(self.name, chain.__name__ if is_chain else None)

    def _finish(self, made: Any) -> Any:
        if isinstance(made, GradientTransformation):
            return made
        functions = _as_functions(made)
        if functions is None:
            _checks.transformation_expected(self.name, "what it returns", made)
        parameters = inspect.signature(functions.update).parameters
        positional = [p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            extra_names = None
        else:
            extra_names = frozenset(parameters) - {p.name for p in positional[:3]}
        annotation = positional[1].annotation if len(positional) > 1 else None
        takes_params = len(positional) > 2 or any(p.kind is p.VAR_POSITIONAL for p in parameters.values())
        state_type = annotation if _is_state_type(annotation) else None
        needed = tuple(p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY and p.default is p.empty)
        return _Made(functions, state_type, takes_params, extra_names, needed)

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        return iter((self.init, self.update))


def _has_count(state: State) -> bool:
    return "count" in getattr(state, "_fields", ())


def _is_state_type(annotation: Any) -> bool:
    return isinstance(annotation, type) and hasattr(annotation, "_fields")


def _as_functions(value: Any) -> Functions | None:
    """``Functions`` of a pair or of themselves; None for anything else."""
    if isinstance(value, Functions):
        return value
    if isinstance(value, tuple) and len(value) == 2 and callable(value[0]) and callable(value[1]):
        return Functions(*value)
    return None


def _own(made: _Made, state: State) -> State:
    """The state of the functions, without the count that may stand beside it; raises for one of another type."""
    state = state.inner if isinstance(state, ScheduledState) else state
    if made.state_type is not None and not isinstance(state, made.state_type):
        _state_checks.wrong_state(made.state_type, state)
    return state


def _call(made: _Made, updates: Updates, state: State, params: Params | None, extra: dict[str, Any]) -> Any:
    if made.state_type is not None and not isinstance(state, made.state_type):
        _state_checks.wrong_state(made.state_type, state)
    for name in made.needed:
        if name not in extra:
            _checks.missing_extra(name)
    if made.extra_names is not None:
        extra = {name: value for name, value in extra.items() if name in made.extra_names}
    arguments = (updates, state, params) if made.takes_params else (updates, state)
    return made.functions.update(*arguments, **extra)


def gradient_transformation(body: Callable[P, Any]) -> Callable[P, GradientTransformation]:
    """Makes a factory of gradient transformations from a function that returns ``(init, update)``.

    Args:
      body: the function. It may also return ``Functions``, or a transformation such as a ``chain``. Its arguments
        annotated with a range of ``jaxopt_lessons.types`` (``Scalar``, ``DecayRateOrSchedule``), with ``float``, or
        given as transformations, schedules or arrays are leaves of the transformation; all others are static. Annotate
        the ``state`` of ``update`` with its NamedTuple to have a foreign state refused by name. ``init`` must not read
        an argument that may be a schedule.
    """
    return value_factory(GradientTransformation, body)


@gradient_transformation
def pair_of_functions(init: Callable[[Params], State], update: Callable[..., tuple[Updates, State]]) -> Any:
    return init, update


pair_of_functions.__name__ = "GradientTransformation"


def as_transformation(owner: str, name: str, value: Any) -> GradientTransformation:
    """``value``, made a transformation if it is a pair of functions; ``owner`` and ``name`` are named in the error."""
    if isinstance(value, GradientTransformation):
        return value
    functions = _as_functions(value)
    if functions is None:
        _checks.transformation_expected(owner, name, value)
    return GradientTransformation(functions.init, functions.update)


Transformation: TypeAlias = Annotated[Any, Convert(as_transformation)]
"""An argument that is a gradient transformation; a pair of functions (optax's, or plain ones) becomes one."""


@gradient_transformation
def chain(*transforms: Transformation) -> Any:
    """Applies transformations one after the other: each gets the updates that the one before it returned.

    ``chain(clip_by_global_norm(1.0), adam(1e-3))`` clips, then lets Adam choose the step. The state is the tuple of the
    states. ``chain()`` is the identity. Half-precision updates and parameters are float32 between the stages: the
    result is rounded once, at the end.

    Args:
      *transforms: gradient transformations, or pairs of functions ``(init, update)`` such as optax's.

    Raises:
      TypeError: an argument is not an ``(init, update)`` pair.
      ValueError: a stage that rounds for half-precision parameters is not the last one.
    """
    for stage in transforms[:-1]:
        _checks.rounds_last("chain", stage.name, stage.takes_half_precision)

    def init(params: Params) -> tuple[State, ...]:
        return tuple(stage.init(stage.seen(params)) for stage in transforms)

    def update(updates: Updates, state: tuple[State, ...], params: Params | None = None, **extra: Any) -> Any:
        reference = updates if params is None else params
        rounds = tree.has_half_precision(reference)
        if rounds:
            updates = tree.widen(updates)
        new_state = []
        for _, stage, stage_state in parts(state):
            seen = stage.seen(params) if rounds else params
            updates, stage_state = stage.update(updates, stage_state, seen, **extra)
            new_state.append(stage_state)
        if rounds and params is None:  # What aggregates the gradients of examples returns other shapes than it got.
            dtypes = jax.tree.map(jnp.result_type, reference)
            reference = jax.tree.map(lambda u, dtype: jax.ShapeDtypeStruct(u.shape, dtype), updates, dtypes)
        if rounds or not transforms:
            updates = tree.cast_like(updates, reference)
        return updates, tuple(new_state)

    def parts(state: tuple[State, ...]) -> list[Part]:
        if not isinstance(state, tuple) or len(state) != len(transforms):
            _state_checks.wrong_chain_state([stage.name for stage in transforms], state)
        return [Part(stage.name, stage, stage_state) for stage, stage_state in zip(transforms, state, strict=True)]

    return Functions(init, update, parts)


@gradient_transformation
def identity() -> Any:
    """Returns the updates as they came, in the dtypes of the parameters."""

    def init(params: Params) -> EmptyState:
        return EmptyState()

    def update(updates: Updates, state: EmptyState, params: Params | None = None, **extra: Any) -> Any:
        return tree.cast_like(updates, updates if params is None else params), state

    return init, update


def apply_updates(params: Params, updates: Updates) -> Params:
    """``params + updates``, leaf by leaf, added in float32 for half precision and kept in the dtypes of ``params``.

    Leaves of ``params`` that are not trainable (integers, functions, random keys) stay as they are; ``updates`` has
    None there.

    Args:
      params: the parameters.
      updates: what to add to them, in the same structure and shapes.

    Raises:
      InputError: the trees differ in structure or shape.
    """
    with _errors.stage("apply_updates"):
        added = tree.map_leaves(_add_rule, updates, params=params, read=(params,))
        return tree.merge(params, added)


def _add_rule(u: jax.Array, p: jax.Array) -> jax.Array:
    return jnp.add(p, u)


def eval_params(tx: Any, state: State, params: Params) -> Params:
    """The weights to evaluate and to keep: those of a parameter average or of a schedule-free optimizer, or ``params``.

    They are found through any nesting of chains, wrappers and groups. Where two of them have such weights, one inside
    the other, those of the outer one count: ``ema_params(lookahead(...))`` has an average to evaluate, and
    ``lookahead(ema_params(...))`` slow weights.

    Args:
      tx: the optimizer; for one that is not of this library the answer is ``params``.
      state: its state.
      params: the parameters that are trained.
    """
    return as_transformation("eval_params", "tx", tx).eval_params(state, params)
