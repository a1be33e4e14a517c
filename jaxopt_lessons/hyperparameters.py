"""The hyperparameters of an optimizer by name: read at any time, changed at any time, without a wrapper.

    tx = chain(clip_by_global_norm(1.0), adamw(warmup_cosine_decay_schedule(0.0, 1e-3, 100, 1000)))
    hyperparams(tx, state)
    == {"clip_by_global_norm.max_norm": 1.0, "adamw.learning_rate": 0.00042, "adamw.b1": 0.9, ...}
    tx = set_hyperparams(tx, {"adamw.b1": 0.95, "*.max_norm": 0.5})

A name is that of a transformation and of its argument. So that it stays the same when an optimizer is composed anew:

* a chain adds nothing to the names, nor does a wrapper with one transformation inside (its own arguments stand beside);
* where a wrapper has several inside, theirs begin with a label: of the group or partition, of a ``named_chain``, or the
  argument of the wrapper: ``encoder.adamw.learning_rate``, ``adv_optimizer.sgd.learning_rate``;
* a second transformation of one name is ``clip_2``. Inside a preset such as ``adamw`` nothing has a name of its own.

The value of a schedule is that of the next update: the schedule at the count that the part which uses it keeps in its
own state, inside ``MultiSteps`` too. What an optimizer finds out by itself stands there as well: the ``scale`` of
``reduce_on_plateau``, the ``estim_lr`` of Prodigy, and what a state of ``inject_hyperparams`` holds, of ours or of
optax's (a rate of optax's is that of the last update). That is read from the state, and cannot be set.
"""

import contextlib
import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from jaxopt_lessons import _checks, _errors, _schedule_checks, _state_checks, numerics
from jaxopt_lessons._named_parts import (
    Child,
    Numbering,
    Owner,
    calculating_parts,
    children_of,
    named_owners,
    only_composes,
    scope_of,
)
from jaxopt_lessons._value import Value, changed_at, values_inside
from jaxopt_lessons.core import GradientTransformation, Part, as_transformation, pair_of_functions
from jaxopt_lessons.types import State
from jaxopt_lessons.wrappers.groups import groups, transforms_of, with_stars


def hyperparams(tx: Any, state: State) -> dict[str, Any]:
    """All numbers that the next update will use, by name.

    Args:
      tx: the optimizer.
      state: its state; reading changes nothing. In compiled code the values are tracers, and can be returned.

    Returns:
      A dict in the order of the transformations: numbers as they were given, schedules as scalars at their counts.

    >>> tx = jl.chain(jl.clip(1.0), jl.sgd(jl.linear_schedule(1.0, 0.0, 4), momentum=0.9))
    >>> state = tx.init(jnp.zeros(1))
    >>> _, state = tx.update(jnp.ones(1), state)
    >>> {name: float(value) for name, value in hyperparams(tx, state).items()}
    {'clip.max_delta': 1.0, 'sgd.learning_rate': 0.75, 'sgd.momentum': 0.9}
    """
    tx = as_transformation("hyperparams", "tx", tx)
    found: dict[str, Any] = {}
    for owner in named_owners(tx, state):
        made_of = list(calculating_parts(owner))
        for name, value in owner.tx.hyperparameters.items():
            used = _rate_used(made_of, value) if name == "learning_rate" else value
            found |= dict(_current(f"{owner.name}.{name}", used, made_of))
        found |= {f"{owner.name}.{name}": value for name, value in _readings(owner, made_of).items()}
    return found


def set_hyperparams(tx: Any, changes: Mapping[str, Any]) -> GradientTransformation:
    """The optimizer with other hyperparameters. Where a number becomes another number nothing compiles again.

    Args:
      tx: the optimizer; it stays as it is.
      changes: new numbers or schedules by name, ``{"adamw.learning_rate": 1e-4}``, as in ``hyperparams``. ``*`` in a
        name stands for any characters (``"*.b1"``), ``?`` for one. The arguments of a schedule have names too:
        ``"adamw.learning_rate.peak_value"``. What is changed of the default of ``groups`` is changed for all groups
        that do not say otherwise. In the middle of a run a schedule can take the place of a number where the state
        counts, as for a learning rate; a weight decay or a limit that is to change must be one from the start.

    Raises:
      ValueError: no hyperparameter has the name (the nearest ones are listed), two of the changes are for the same one
        or one is inside another, or a value is out of its range.

    >>> set_hyperparams(jl.chain(jl.clip(1.0), jl.sgd(0.1)), {"sgd.learning_rate": 0.01, "clip.*": 2.0})
    chain(clip(max_delta=2.0), sgd(learning_rate=0.01))
    """
    tx = as_transformation("set_hyperparams", "tx", tx)
    if not isinstance(changes, Mapping):
        raise TypeError(
            f"set_hyperparams: changes must map names to values, as in {{'adam.b1': 0.95}}; got {changes!r}."
        )
    own = [(f"{o.name}.{n}", v) for o in named_owners(tx) for n, v in o.tx.hyperparameters.items()]
    outer, inner = [name for name, _ in own], [name for one in own for name in _names_inside(*one)]
    wanted: dict[str, Any] = {}
    for pattern, value in changes.items():
        for name in _matching(pattern, outer, inner):
            _checks.require(
                name not in wanted, lambda name=name: f"set_hyperparams: two of the changes are for {name!r}."
            )
            wanted[name] = value
    for name in wanted:
        whole = next((one for one in wanted if name.startswith(f"{one}.")), None)
        _checks.require(
            whole is None, lambda name=name, whole=whole: f"set_hyperparams: {name!r} is inside {whole!r}; change one."
        )
    return _changed(tx, wanted, "", Numbering())


def learning_rates(tx: GradientTransformation, state: State) -> dict[str, Any]:
    """The learning rate of the next update as ``{"learning_rate": rate}``, or those of several optimizers by name.

    Beside it, by name, what is found out as a factor of it: the ``scale`` of ``reduce_on_plateau``, say.

    Those of optimizers in a wrapper that does not say where their states are, and reads schedules, are left out, and
    those of optax's optimizers.
    """
    rates: dict[str, Any] = {}
    factors: dict[str, Any] = {}
    for owner in named_owners(tx, state):
        made_of = list(calculating_parts(owner))
        rate = owner.tx.hyperparameters.get("learning_rate")
        if rate is not None:
            with contextlib.suppress(_schedule_checks.UnknownCountError):
                rates |= dict(_current(f"{owner.name}.learning_rate", _rate_used(made_of, rate), made_of))
        if owner.tx.made_by(pair_of_functions):
            continue
        found = _readings(owner, made_of)
        if "learning_rate" in found:
            rates[f"{owner.name}.learning_rate"] = found["learning_rate"]
        factors |= {f"{owner.name}.{name}": found[name] for name in ("scale", "estim_lr") if name in found}
    if len(rates) == 1:
        (rate,) = rates.values()
        rates = {"learning_rate": rate}
    return rates | factors


# ---------------------------------------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------------------------------------


def _rate_used(made_of: list[Part], given: Any) -> Any:
    """The learning rate of the part that multiplies by it: a preset may have added a warm-up."""
    inside = (part.tx.hyperparameters.get("learning_rate") for part in made_of)
    return next((rate for rate in inside if rate is not None), given)


def _current(name: str, value: Any, made_of: list[Part]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (tuple, list)):
        for i, item in enumerate(value):
            yield from _current(f"{name}.{i}", item, made_of)
    elif callable(value):
        yield name, numerics.as_float(value(_count_for(name, value, made_of)))
    else:
        yield name, value


def _count_for(name: str, schedule: Any, made_of: list[Part]) -> Any:
    """The count at which the part that uses a schedule will use it next."""
    for part in made_of:
        if any(_holds(v, schedule) for v in part.tx.hyperparameters.values()):
            if "count" not in getattr(part.state, "_fields", ()):
                with _errors.stage(part.name):
                    _state_checks.state_without_count([name], part.state)
            return part.state.count
    return _schedule_checks.schedule_without_count(name)


def _holds(value: Any, schedule: Any) -> bool:
    """Whether a hyperparameter is the schedule, or is calculated from it."""
    return value is schedule or (
        isinstance(value, Value) and any(_holds(inner, schedule) for inner in _contents(value).values())
    )


def _contents(value: Value) -> dict[str, Any]:
    """The numbers and schedules among the arguments of a schedule, by name."""
    inner = {".".join(map(str, place)): one for place, one in values_inside(value)}
    return {**value.hyperparameters, **inner}


def _readings(owner: Owner, made_of: list[Part]) -> dict[str, Any]:
    """What the transformation found out itself; of a pair of functions, what optax injected into its state."""
    if owner.tx.made_by(pair_of_functions):
        holders = jax.tree.leaves(owner.state, is_leaf=_has_hyperparams)
        return {name: v for holder in holders if _has_hyperparams(holder) for name, v in holder.hyperparams.items()}
    return {name: value for part in made_of for name, value in part.tx.readings(part.state).items()}


def _has_hyperparams(state: Any) -> bool:
    return isinstance(getattr(state, "hyperparams", None), Mapping)


# ---------------------------------------------------------------------------------------------------------------------
# Changing
# ---------------------------------------------------------------------------------------------------------------------


def _names_inside(name: str, value: Any) -> Iterator[str]:
    """The names of the numbers inside a hyperparameter that is a schedule, or has several numbers."""
    for key, item in _items(value).items():
        yield f"{name}.{key}"
        yield from _names_inside(f"{name}.{key}", item)


def _items(value: Any) -> dict[str, Any]:
    if isinstance(value, Value):
        return _contents(value)
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    return {str(i): item for i, item in enumerate(value)} if isinstance(value, tuple) else {}


def _matching(pattern: str, outer: list[str], inner: list[str]) -> list[str]:
    """The names that a pattern means: itself, or those it fits; of numbers in schedules, if it fits no others."""
    if not isinstance(pattern, str):
        raise TypeError(f"set_hyperparams: a name must be a string; got {pattern!r}.")
    if pattern in outer or pattern in inner:
        return [pattern]
    pieces = [".".join(map(re.escape, piece.split("?"))) for piece in re.split(r"\*+", pattern)]
    expression = re.compile(with_stars(pieces, "."), re.DOTALL)
    for known in (outer, inner):
        found = list(filter(expression.fullmatch, known))
        if found:
            return found
    near = [name for name in outer if _abbreviates(pattern, name)] or difflib.get_close_matches(pattern, outer + inner)
    return _checks.unknown_hyperparameter(pattern, outer, near[:3])


def _abbreviates(short: str, name: str) -> bool:
    """Whether the last parts of two names have letters in common, in order, as lr and learning_rate."""
    letters = iter(name.rpartition(".")[2])
    return all(letter in letters for letter in short.rpartition(".")[2])


def _changed(
    tx: GradientTransformation, wanted: Mapping[str, Any], prefix: str, numbering: Numbering
) -> GradientTransformation:
    name = "" if only_composes(tx) else prefix + numbering.name(tx.name)
    before = children_of(tx)
    after = [_changed(child.tx, wanted, *scope_of(child, prefix, numbering)) for child in before]
    if tx.made_by(groups):
        tx = _with_groups(tx, before, after)
    else:
        for child, new in zip(before, after, strict=True):
            tx = tx if new is child.tx else changed_at(tx, child.place, new)
    own = {argument: _new(f"{name}.{argument}", value, wanted) for argument, value in tx.hyperparameters.items()}
    changes = {argument: new for argument, new in own.items() if new is not tx.hyperparameters[argument]}
    return tx.replace(**changes) if changes else tx


def _new(name: str, value: Any, wanted: Mapping[str, Any]) -> Any:
    """A hyperparameter, or the schedule it is, with what is wanted in its place or inside it."""
    if name in wanted:
        return wanted[name]
    items = _items(value)
    news = {key: _new(f"{name}.{key}", item, wanted) for key, item in items.items()}
    changes = {key: new for key, new in news.items() if new is not items[key]}
    if not changes:
        return value
    if isinstance(value, Value):
        for place in [(n,) for n in value.hyperparameters] + [place for place, _ in values_inside(value)]:
            if (key := ".".join(map(str, place))) in changes:
                value = changed_at(value, place, changes[key])
        return value
    if isinstance(value, Mapping):
        return {key: news[str(key)] for key in value}
    return tuple(news.values())


def _with_groups(
    tx: GradientTransformation, before: list[Child], after: list[GradientTransformation]
) -> GradientTransformation:
    """Groups with other transformations: what the new default does not give a group of itself goes into its rule.

    So what is changed for all groups adds nothing to the rules, and is the same program.
    """
    if all(new is child.tx for child, new in zip(before, after, strict=True)):
        return tx
    rules, default = dict(tx.arguments["rules"]), tx.arguments["default"]
    if default is not None:
        default = after[-1]
    by_default = transforms_of(rules, default)
    for rule, child, new in zip(rules, before, after, strict=False):
        if new is child.tx:
            continue
        if isinstance(rules[rule], Mapping):
            rules[rule] = {**rules[rule], **_differences(child.tx, new, by_default[child.label])}
        else:
            rules[rule] = new
    if default is not tx.arguments["default"]:
        tx = changed_at(tx, ("default",), default)
    return changed_at(tx, ("rules",), rules)


def _differences(
    old: GradientTransformation, new: GradientTransformation, by_default: GradientTransformation
) -> dict[str, Any]:
    """The arguments that have changed, to something else than the default gives."""
    owners = (named_owners(tx) for tx in (old, new, by_default))
    return {
        name: value
        for one, other, given in zip(*owners, strict=True)
        for name, value in other.tx.hyperparameters.items()
        if value is not one.tx.hyperparameters.get(name) and not _same(value, given.tx.hyperparameters.get(name))
    }


def _same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and isinstance(a, (int, float, Value)) and a == b)
