"""``Value``: a factory and the arguments it was called with, as an immutable pytree.

An optimizer, a schedule and a training step are all *values*. ``adam(1e-3)`` keeps the function ``adam`` and its bound
arguments and calls the function only when its result is needed. From that follows everything a value can do:

* it prints as the call that made it, compares and hashes by its arguments, copies and pickles;
* it is a pytree. Its children are the hyperparameters (arguments annotated with a ``Range``, see ``types``), arrays,
  and arguments that are values themselves; all other arguments are static, part of the tree's structure. So it passes
  through ``jit``, ``vmap`` and ``grad``, and another learning rate does not compile anything;
* ``replace`` returns it with some arguments changed, however deeply they are nested.

The arguments are checked once, when the value is built, not when it is unflattened: JAX does that with placeholders.
"""

import difflib
import functools
import inspect
import sys
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ParamSpec, Self, TypeVar

import jax
import numpy as np
from jax.core import Tracer

from jaxopt_lessons import _checks, _errors
from jaxopt_lessons.types import Chosen, Convert, Range, Repeated

P = ParamSpec("P")
V = TypeVar("V", bound="Value")
M = TypeVar("M", Range, Convert, Repeated, Chosen)
_PACKAGE = "jaxopt_lessons"
_VARIADIC = inspect.Parameter.VAR_POSITIONAL


class Value:
    """Base class of transformations, schedules and steps. Subclasses say what a factory's result is used for."""

    __slots__ = ("__weakref__", "_arguments", "_children", "_factory", "_hash", "_made", "_structure")

    _factory: Callable[..., Any]
    _arguments: Mapping[str, Any]
    _children: tuple[str, ...]
    _structure: tuple[Any, ...]

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        jax.tree_util.register_pytree_with_keys(cls, _flatten_with_keys, functools.partial(_unflatten, cls), _flatten)

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of the factory that made this value."""
        return self._factory.__name__

    @property
    def arguments(self) -> Mapping[str, Any]:
        """All arguments of the call that made this value, defaults included."""
        return MappingProxyType(dict(self._arguments))

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """The arguments that are numbers or schedules, without those that are None."""
        ranges = _specification(self._factory).ranges
        return MappingProxyType(
            {name: v for name, v in self._arguments.items() if v is not None and ranges[name] is not None}
        )

    @property
    def factory(self) -> Callable[..., Any]:
        """The function that made this value."""
        return self._factory

    def made_by(self, factory: Callable[..., Any]) -> bool:
        """Whether this value is what a call of ``factory`` returned: ``adam(0.1).made_by(adam)``."""
        return self._factory is factory

    def replace(self, **changes: Any) -> Self:
        """Returns this value with arguments changed: its own, or else those of the one value inside that has them.

        ``chain(clip(1.0), adam(1e-3)).replace(learning_rate=3e-4)`` changes the learning rate of ``adam``. An argument
        that repeats one inside, as that of ``schedule_free``, is changed there too. Nothing compiles again when a
        number is replaced by a number.

        Raises:
          TypeError: no value inside has such an argument.
          ValueError: several have it, or the new argument is out of range.
        """
        result = self
        for name, value in changes.items():
            owners = list(_owners(result, name))
            if not owners:
                known = sorted(_argument_names(result))
                near = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise TypeError(f"{self.name}: no argument {name!r} to replace.{hint} There are: {', '.join(known)}.")
            if len(owners) > 1:
                raise ValueError(
                    f"{self.name}: {name!r} is ambiguous, it belongs to {', '.join(map(_dotted, owners))}. Replace it "
                    "in the part you mean before you compose the parts."
                )
            result = _replace_at(result, owners[0], name, value)
        _make_throughout(result)
        return result

    def _make(self) -> Any:
        """The factory's result for these arguments; made on first use and kept, unless they are tracers."""
        try:
            return self._made
        except AttributeError:
            specification = _specification(self._factory)
            if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(self)):
                return self._finish(specification.call(self._arguments))
            with jax.ensure_compile_time_eval():  # What the body calculates is no part of a trace in progress.
                made = self._finish(specification.call(self._arguments))
            object.__setattr__(self, "_made", made)
            return made

    def _finish(self, made: Any) -> Any:
        """What a subclass keeps of the factory's result."""
        return made

    def _schedules(self) -> dict[str, Callable[..., Any]]:
        """The schedules among this value's own hyperparameters, by the names of the arguments."""
        ranges = _specification(self._factory).ranges
        return {n: value for n, value in self._arguments.items() if ranges[n] is not None and callable(value)}

    def _copy(self, **changes: Any) -> Self:
        """The same value with arguments changed and not checked."""
        return _new(type(self), self._factory, {**self._arguments, **changes})

    # -- how it behaves -----------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self.name} is immutable: use replace({name}=...), which returns a new one.")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{self.name} is immutable.")

    def __repr__(self) -> str:
        specification = _specification(self._factory)
        parts = []
        for name, value in self._arguments.items():
            parameter = specification.parameters[name]
            if parameter.kind is _VARIADIC:
                parts += [_show(item) for item in value]
            elif not _is_off(value, parameter.default):
                parts.append(f"{name}={_show(value)}")
        return f"{self.name}({', '.join(parts)})"

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, Value):
            return NotImplemented
        return self is other or (hash(self) == hash(other) and _identity(self) == _identity(other))

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            object.__setattr__(self, "_hash", hash(_identity(self)))
            return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (_public_name(self._factory) or self._factory, dict(self._arguments))


# ---------------------------------------------------------------------------------------------------------------------
# Making values
# ---------------------------------------------------------------------------------------------------------------------


def value_factory(kind: type[Value], body: Callable[P, Any]) -> Callable[P, Any]:
    """Turns ``body`` into a function with the same signature that returns a ``kind`` holding the bound arguments."""
    specification = _Specification(kind, body)

    @functools.wraps(body)
    def factory(*args: P.args, **kwargs: P.kwargs) -> Any:
        value = _new(kind, factory, specification.bind(args, kwargs))
        value._make()  # A body that refuses its arguments refuses them now.
        return value

    factory._specification = specification  # type: ignore[attr-defined]
    return factory


class _Specification:
    """What a factory knows about its arguments: the signature, and the range of each hyperparameter."""

    def __init__(self, kind: type[Value], body: Callable[..., Any]):
        signature = inspect.signature(body)
        if any(isinstance(parameter.annotation, str) for parameter in signature.parameters.values()):
            signature = inspect.signature(body, eval_str=True)
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
            raise TypeError(f"{body.__name__}: a factory of values names its arguments; it cannot take **keywords.")
        self.kind = kind
        self.body = body
        self.signature = signature
        self.parameters = signature.parameters
        self.ranges = {name: _metadata(parameter.annotation, Range) for name, parameter in self.parameters.items()}
        converts = {name: _metadata(parameter.annotation, Convert) for name, parameter in self.parameters.items()}
        self.repeated = {n for n, parameter in self.parameters.items() if _metadata(parameter.annotation, Repeated)}
        self.mixed = frozenset(name for name, convert in converts.items() if convert is not None and convert.mixed)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        owner = self.body.__name__
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            _checks.arguments(owner, error, kwargs, list(self.parameters))
        bound.apply_defaults()
        return {name: self.check(name, value) for name, value in bound.arguments.items()}

    def check(self, name: str, value: Any) -> Any:
        """The argument as it is kept (lists as tuples, mappings sorted, 1 as 1.0); raises if it is not allowed."""
        owner, parameter, allowed = self.body.__name__, self.parameters[name], self.ranges[name]
        convert = _metadata(parameter.annotation, Convert)
        if convert is not None and parameter.kind is _VARIADIC:
            return tuple(convert.function(owner, f"{name}[{i}]", item) for i, item in enumerate(value))
        if convert is not None:
            return convert.function(owner, name, value)
        if parameter.annotation is bool:
            return _checks.flag(owner, name, value)
        if value is None and _takes_none(parameter):
            return value
        if _metadata(parameter.annotation, Chosen) is not None:
            _checks.mask(owner, name, value)
        elif (check := _check_of_kind(parameter.annotation)) is not None:
            return check(owner, name, value)
        if isinstance(value, list) and _is_child(value, allowed is not None):
            value = tuple(value)
        if isinstance(value, (dict, list)) and _container(parameter.annotation) is not Mapping:
            value = jax.tree.map(lambda leaf: leaf, value)  # The caller may change what he gave us.
        if allowed is None:
            return value
        container = _container(parameter.annotation)
        if container is Mapping:
            value = _checks.milestones(owner, name, value)
            items = value.values()
        elif container is Sequence or parameter.kind is _VARIADIC:
            value = items = _checks.sequence(owner, name, value)
        else:
            items = [value]
        for item in items:
            _checks.number(owner, name, item, allowed)
        return _with_whole_numbers(value) if allowed.whole else _with_floats(value)

    def call(self, arguments: Mapping[str, Any]) -> Any:
        args, kwargs = [], {}
        variadic = any(parameter.kind is _VARIADIC for parameter in self.parameters.values())
        for name, parameter in self.parameters.items():
            if parameter.kind is _VARIADIC:
                args += arguments[name]
            elif parameter.kind is parameter.POSITIONAL_ONLY or (
                variadic and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            ):
                args.append(arguments[name])
            else:
                kwargs[name] = arguments[name]
        return self.body(*args, **kwargs)


def _with_floats(value: Any) -> Any:
    """Whole numbers as floats where any number may stand: 1 and 1.0 are one learning rate and one program."""
    if isinstance(value, Mapping):
        return {step: _with_floats(item) for step, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_with_floats, value))
    if isinstance(value, np.ndarray):
        return value[()]  # a scalar, which nobody can change
    return float(value) if isinstance(value, int) else value


def _with_whole_numbers(value: Any) -> Any:
    """10.0 as 10 where a whole number must stand: differences of counts must stay whole."""
    if isinstance(value, Mapping):
        return {step: _with_whole_numbers(item) for step, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_with_whole_numbers, value))
    fractional = isinstance(value, float) or jax.numpy.issubdtype(getattr(value, "dtype", int), np.inexact)
    return int(value) if fractional and not isinstance(value, Tracer) else value


def _specification(factory: Callable[..., Any]) -> _Specification:
    return factory._specification  # type: ignore[attr-defined]


def _metadata(annotation: Any, kind: type[M]) -> M | None:
    """The ``Range`` or ``Convert`` in an annotation such as ``DecayRate | None``; a bare ``float`` is any number."""
    if annotation is float and kind is Range:
        return typing.cast(M, Range())
    if typing.get_origin(annotation) is Callable:
        return None
    if typing.get_origin(annotation) is typing.Annotated:
        return next((item for item in typing.get_args(annotation)[1:] if isinstance(item, kind)), None)
    return next(filter(None, (_metadata(item, kind) for item in typing.get_args(annotation))), None)


def _check_of_kind(annotation: Any) -> Callable[[str, str, Any], Any] | None:
    """The check of an argument that is no hyperparameter and has one plain kind: a function, a word, a whole number."""
    kinds = [item for item in typing.get_args(annotation) if item is not type(None)]
    if type(None) in typing.get_args(annotation) and len(kinds) == 1:
        annotation = kinds[0]
    if typing.get_origin(annotation) is typing.Literal:
        choices = typing.get_args(annotation)
        if all(isinstance(choice, str) for choice in choices):
            return functools.partial(_one_of, choices)
        return None
    if typing.get_origin(annotation) is Callable:
        return _checks.function
    if set(kinds) == {int, tuple[int, ...]}:
        return _checks.axes
    return {int: _checks.whole, str: _checks.text}.get(annotation) if isinstance(annotation, type) else None


def _one_of(choices: tuple[str, ...], owner: str, name: str, value: Any) -> Any:
    _checks.one_of(owner, name, value, choices)
    return value


def _takes_none(parameter: inspect.Parameter) -> bool:
    return parameter.default is None or type(None) in typing.get_args(parameter.annotation)


def _container(annotation: Any) -> type | None:
    """``Mapping`` or ``Sequence`` where the annotation asks for several numbers, else None."""
    origins = {typing.get_origin(item) for item in (annotation, *typing.get_args(annotation))}
    return next((kind for kind in (Mapping, Sequence) if kind in origins), Sequence if tuple in origins else None)


def _new(kind: type[V], factory: Callable[..., Any], arguments: Mapping[str, Any]) -> V:
    """A value with these arguments, unchecked."""
    ranges, mixed = _specification(factory).ranges, _specification(factory).mixed
    children = tuple(n for n, value in arguments.items() if n in mixed or _is_child(value, ranges[n] is not None))
    static = tuple((n, _frozen(factory, n, arguments[n])) for n in arguments if n not in children)
    static += tuple((n, _skeleton(factory, n, arguments[n])) for n in arguments if n in mixed)
    return _assemble(kind, (factory, tuple(arguments), children, static), arguments)


def _public_name(factory: Callable[..., Any]) -> str | None:
    """Its name in ``jaxopt_lessons``, None if it has none there: what is kept in pickles, where files may move."""
    is_public = getattr(sys.modules[_PACKAGE], factory.__name__, None) is factory
    return factory.__name__ if is_public else None


def _unpickled(factory: Callable[..., Any] | str, arguments: Mapping[str, Any]) -> Value:
    """The value that was pickled, by this version or an older one: arguments that have come since have their defaults.

    Pickles name this function, so it stays where it is.
    """
    if isinstance(factory, str):
        factory = typing.cast(Callable[..., Any], getattr(sys.modules[_PACKAGE], factory))
    specification = _specification(factory)
    if unknown := sorted(set(arguments) - set(specification.parameters)):
        raise TypeError(f"{factory.__name__}: the pickle has an argument {unknown[0]!r}, which there is no more.")
    defaults = {
        name: arguments[name] if name in arguments else specification.check(name, parameter.default)
        for name, parameter in specification.parameters.items()
    }
    return _new(specification.kind, factory, defaults)


def _assemble(kind: type[V], structure: tuple[Any, ...], arguments: Mapping[str, Any]) -> V:
    value = object.__new__(kind)
    for slot, content in (
        ("_factory", structure[0]),
        ("_arguments", arguments),
        ("_children", structure[2]),
        ("_structure", structure),
    ):
        object.__setattr__(value, slot, content)
    return value


def _is_child(value: Any, is_hyperparameter: bool) -> bool:
    """Whether an argument is a child of the tree (its numbers are leaves) or part of its structure."""
    if isinstance(value, Value):
        return True
    if isinstance(value, (tuple, list)):
        return _has_child(value, is_hyperparameter)
    if isinstance(value, dict):
        return is_hyperparameter or _has_child(value.values(), False)
    if callable(value):
        numbers = (leaf for leaf in jax.tree.leaves(value) if isinstance(leaf, (np.ndarray, jax.Array)))
        return any(jax.numpy.issubdtype(leaf.dtype, np.inexact) for leaf in numbers)
    if isinstance(value, (np.ndarray, jax.Array, np.generic)):
        return is_hyperparameter or value.dtype != np.bool_
    return is_hyperparameter and not isinstance(value, bool)


def _has_child(items: Iterable[Any], is_hyperparameter: bool) -> bool:
    """Whether all items of a container are children, and not all of them None."""
    items = [item for item in items if item is not None]
    return bool(items) and all(_is_child(item, is_hyperparameter) for item in items)


# ---------------------------------------------------------------------------------------------------------------------
# Values as trees
# ---------------------------------------------------------------------------------------------------------------------


def _flatten(value: Value) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    children = {name: value._arguments[name] for name in value._children}
    if mixed := _specification(value._factory).mixed:
        skeletons = {name: item for name, item in value._structure[3] if name in mixed}
        children |= {name: tuple(_children_at(item, children[name])) for name, item in skeletons.items()}
    return tuple(children.values()), value._structure


def _flatten_with_keys(value: Value) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    children, structure = _flatten(value)
    return tuple(zip(map(jax.tree_util.GetAttrKey, value._children), children, strict=True)), structure


def _unflatten(kind: type[V], structure: tuple[Any, ...], children: Any) -> V:
    factory, names, child_names, static = structure
    found, mixed = dict(zip(child_names, children, strict=True)), _specification(factory).mixed
    for name, item in static:
        found[name] = _filled(item, iter(found[name])) if name in mixed else _thawed(item)
    return _assemble(kind, structure, {name: found[name] for name in names})


def _skeleton(factory: Callable[..., Any], name: str, content: Any) -> tuple[Any, ...]:
    """A mixed argument without its children: containers in their order, names and settings."""
    if isinstance(content, dict):
        return "dict", tuple(content), tuple(_skeleton(factory, name, item) for item in content.values())
    if isinstance(content, tuple):
        return "tuple", range(len(content)), tuple(_skeleton(factory, name, item) for item in content)
    if _is_child(content, isinstance(content, float)):
        return ("child",)
    return "static", _frozen(factory, name, content)


def _children_at(skeleton: tuple[Any, ...], content: Any) -> typing.Iterator[Any]:
    """What stands where a skeleton has its children: values, floats and arrays, or placeholders for them."""
    kind, *rest = skeleton
    if kind in ("dict", "tuple"):
        for key, item in zip(*rest, strict=True):
            yield from _children_at(item, content[key])
    elif kind == "child":
        yield content


def _filled(skeleton: tuple[Any, ...], children: typing.Iterator[Any]) -> Any:
    """The argument of which ``_skeleton`` and ``_children_at`` are the two halves."""
    kind, *rest = skeleton
    if kind in ("dict", "tuple"):
        filled = {key: _filled(item, children) for key, item in zip(*rest, strict=True)}
        return filled if kind == "dict" else tuple(filled.values())
    return next(children) if kind == "child" else _thawed(rest[0])


class _Frozen:
    """An unhashable static argument, such as a mask tree, compared and hashed by its contents."""

    def __init__(self, content: Any):
        leaves, structure = jax.tree.flatten(content)
        self.content = content
        self.identity = (structure, tuple(map(_leaf_identity, leaves)))
        self.hash = hash(self.identity)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, _Frozen) and self.identity == other.identity

    def __hash__(self) -> int:
        return self.hash


def _frozen(factory: Callable[..., Any], name: str, value: Any) -> Any:
    try:
        hash(value)
        return value
    except TypeError:
        try:
            return _Frozen(value)
        except TypeError:
            _checks.unhashable(factory.__name__, name, value)


def _thawed(item: Any) -> Any:
    return item.content if isinstance(item, _Frozen) else item


def _identity(value: Value) -> tuple[Any, ...]:
    leaves, structure = jax.tree.flatten(value)
    return type(value), structure, tuple(map(_leaf_identity, leaves))


def _leaf_identity(leaf: Any) -> Any:
    """A hashable stand-in for a leaf: numbers and arrays by what they hold, tracers and placeholders by identity."""
    if isinstance(leaf, Tracer):
        return id(leaf)
    if isinstance(leaf, (np.ndarray, np.generic, jax.Array)):
        if isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return str(leaf.dtype), leaf.shape, np.asarray(jax.random.key_data(leaf)).tobytes()
        array = np.asarray(leaf)
        return str(leaf.dtype), array.shape, array.tobytes()
    hash(leaf)
    return leaf


# ---------------------------------------------------------------------------------------------------------------------
# Printing and replacing
# ---------------------------------------------------------------------------------------------------------------------


def _is_off(value: Any, default: Any) -> bool:
    """Arguments left at a default of None, False, 0 or () switch something off, and are not shown; nor are words."""
    word = isinstance(default, str)
    off = default is None or (isinstance(default, (bool, int, float, tuple)) and not default)
    return (off or word) and type(value) is type(default) and value == default


def _show(value: Any) -> str:
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        if value.shape or isinstance(value, Tracer):
            return _errors.describe(value)
        return str(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        fields = zip(value._fields, value, strict=True)  # type: ignore[attr-defined]
        return f"{type(value).__qualname__}({', '.join(f'{name}={_show(item)}' for name, item in fields)})"
    if isinstance(value, tuple):
        return f"({', '.join(map(_show, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(map(_show, value))}]"
    if type(value) is dict:
        return f"{{{', '.join(f'{_show(key)}: {_show(item)}' for key, item in value.items())}}}"
    if callable(value) and not isinstance(value, Value) and hasattr(value, "__qualname__"):
        return value.__qualname__
    return repr(value)


def values_inside(value: Value) -> list[tuple[tuple[Any, ...], Value]]:
    """The values among the arguments, each with its place: the argument's name, and indices or keys inside that."""
    return [
        ((name, *place), part) for name in value._children for place, part in _values_in(value._arguments[name], ())
    ]


def changed_at(value: V, place: Sequence[Any], new: Any) -> V:
    """``value`` with ``new`` at a place among its arguments, checked: the name of an argument, and keys inside that."""
    argument, *inside = place
    content = _changed(value._arguments[argument], inside, lambda _: new)
    changed = value._copy(**{argument: _specification(value._factory).check(argument, content)})
    changed._make()
    return changed


def _values_in(content: Any, place: tuple[Any, ...]) -> typing.Iterator[tuple[tuple[Any, ...], Value]]:
    if isinstance(content, Value):
        yield place, content
    elif isinstance(content, (tuple, list, dict)):
        for key, item in content.items() if isinstance(content, dict) else enumerate(content):
            yield from _values_in(item, (*place, key))


def _owners(value: Value, name: str, path: tuple[Any, ...] = ()) -> typing.Iterator[tuple[Any, ...]]:
    if name in value._arguments:
        yield (*path, value)
        return
    for place, part in values_inside(value):
        yield from _owners(part, name, (*path, value, place))


def _argument_names(value: Value) -> set[str]:
    return set(value._arguments).union(*(_argument_names(part) for _, part in values_inside(value)))


def _dotted(owner: tuple[Any, ...]) -> str:
    return " > ".join(item.name for item in owner if isinstance(item, Value))


def _replace_at(value: Value, owner: tuple[Any, ...], name: str, new: Any) -> Any:
    if len(owner) == 1:
        specification = _specification(value._factory)
        changed = value._copy(**{name: specification.check(name, new)})
        for (argument, *place), part in values_inside(changed) if name in specification.repeated else ():
            if any(_owners(part, name)):
                replaced = part.replace(**{name: new})
                content = _changed(changed._arguments[argument], place, lambda _, replaced=replaced: replaced)
                changed = changed._copy(**{argument: content})
    else:
        (argument, *place), rest = owner[1], owner[2:]
        content = _changed(value._arguments[argument], place, lambda part: _replace_at(part, rest, name, new))
        changed = value._copy(**{argument: content})
    return changed


def _changed(content: Any, place: Sequence[Any], change: Callable[[Any], Any]) -> Any:
    """``content`` with ``change`` applied to what stands at a place inside it."""
    if not place:
        return change(content)
    key, *rest = place
    if isinstance(content, dict):
        return {**content, key: _changed(content[key], rest, change)}
    return tuple(_changed(item, rest, change) if i == key else item for i, item in enumerate(content))


def _make_throughout(value: Value) -> None:
    """Lets every body inside refuse arguments that do not go together."""
    value._make()
    for _, part in values_inside(value):
        _make_throughout(part)
