"""An optimizer state of optax, taken over by the same optimizer of this library.

    state = jl.convert_state(jl.adamw(1e-3), params, state)

Both keep their numbers in NamedTuples of the same names and fields, so they can be matched in order. Two things differ.
Hyperparameters are not part of our states: those that optax keeps (``inject_hyperparams``, the ``b1`` of
schedule-free) are left behind. And every learning rate counts its updates, where a constant one of optax has no state:
the count is that of the other parts.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxopt_lessons import _checks, _errors, _state_checks
from jaxopt_lessons.core import GradientTransformation, Part, ScheduledState, as_transformation
from jaxopt_lessons.named_state import put, without_chains
from jaxopt_lessons.types import Params, PyTree, State

IN_OPTAX = {
    "ApplyEveryState": {"ApplyEvery"},
    "ConditionallyTransformState": {"ConditionallyMaskState"},
    "ScaleByAcpropState": {"ScaleByBeliefState"},
    "ScaleByAdamaxState": {"ScaleByAdamState"},
    "ScaleByAdoptState": {"ScaleByAdamState"},
    "ScaleByRStdDevState": {"ScaleByRStdDevWithCountState"},
    "ScaleByRadamState": {"ScaleByAdamState"},
    "ScaleByRmsState": {"ScaleByRmsWithCountState"},
    "ScaleByYogiState": {"ScaleByAdamState"},
}
"""What optax calls some of our states, where not the same."""

FIELDS = {("ApplyEvery", "count"): "mini_step"}
"""Fields of optax's states that have another name here."""

LEFT_BEHIND = {"b1", "key", "rng_key", "step_count"}
"""Fields of optax's states that are arguments here, hyperparameters and keys of random numbers; and a count from 1."""


class Record(NamedTuple):
    """One NamedTuple of a state, without those inside it."""

    kind: str
    fields: dict[str, dict[str, Any]]  # field -> path -> leaf


def convert_state(tx: Any, params: Params, state: State, *, count: int | None = None) -> State:
    """The state of ``tx`` that goes on where a state of optax left off.

    Args:
      tx: the optimizer of this library.
      params: the parameters.
      state: the state of the same optimizer of optax.
      count: how many updates have been made; needed only if no part of ``state`` tells and a schedule wants to know.

    Raises:
      InputError: the two states are not those of the same optimizer and parameters; the message says what differs.
    """
    with _errors.stage("convert_state"):
        tx = as_transformation("convert_state", "tx", tx)
        count = None if count is None else _checks.whole("convert_state", "count", count, least=0)
        template = tx.init(params)
        leaves, treedef = jax.tree.flatten(template)
        ours = list(_our_records(Part(tx.name, tx, jax.tree.unflatten(treedef, range(len(leaves))))))
        theirs = list(_their_records(state))
        count = _count(theirs) if count is None else count
        for record in ours:
            fields = {}
            if theirs and theirs[0].kind in {record.kind, *IN_OPTAX.get(record.kind, ())}:
                fields = theirs.pop(0).fields
            elif set(record.fields) != {"count"}:
                _state_checks.no_such_record(record.kind, [other.kind for other in theirs])
            for field, places in record.fields.items():
                values = fields.pop(field, None)
                if values is None and field == "count":
                    values = {"": _needed_count(tx, count)}
                _fill(leaves, f"{record.kind}.{field}", places, values or {})
            surplus = sorted(field for field, values in fields.items() if values and field not in LEFT_BEHIND)
            if surplus:
                _state_checks.surplus_records([f"{record.kind}.{field}" for field in surplus])
        if theirs:
            _state_checks.surplus_records([other.kind for other in theirs])
        return jax.tree.unflatten(treedef, leaves)


def _fill(leaves: list[Any], field: str, places: dict[str, int], values: dict[str, Any]) -> None:
    """Puts the values of one field into the places of their paths."""
    if set(places) != set(values):
        _state_checks.different_paths(field, sorted(places), sorted(values))
    for path, position in places.items():
        here, there = leaves[position], values[path]
        if np.shape(here) != np.shape(there):
            _state_checks.state_differs(
                [f"{field} at {path!r} is {_errors.describe(there)}, not {_errors.describe(here)}"]
            )
        leaves[position] = put(there, here)


def _our_records(part: Part) -> Iterator[Record]:
    for inside in without_chains(part):
        parts = inside.tx.parts(inside.state)
        state = inside.state
        if isinstance(state, ScheduledState):
            yield Record("ScheduledState", {"count": {"": state.count}})
            state = state.inner
        record = Record(type(state).__name__, _fields(state, [one.state for one in parts]))
        if any(record.fields.values()):
            yield Record(record.kind, {field: leaves for field, leaves in record.fields.items() if leaves})
        for one in parts:
            yield from _our_records(one)


def _their_records(state: PyTree) -> Iterator[Record]:
    """The NamedTuples of optax in a state, from the outside in; those without arrays are left out."""
    if _is_optax_state(state):
        if "Hyperparams" in type(state).__name__:  # inject_hyperparams: its own fields are hyperparameters
            yield from _their_records(state.inner_state)
            return
        inner = [node for field in state for node in _outermost(field)]
        kind = type(state).__name__
        fields = {FIELDS.get((kind, field), field): leaves for field, leaves in _fields(state, inner).items() if leaves}
        if fields:
            yield Record(kind, fields)
    else:
        inner = _outermost(state)
    for node in inner:
        yield from _their_records(node)


def _is_optax_state(node: Any) -> bool:
    return hasattr(node, "_fields") and type(node).__module__.split(".")[0] == "optax"


def _outermost(tree: PyTree) -> list[Any]:
    return [node for node in jax.tree.leaves(tree, is_leaf=_is_optax_state) if _is_optax_state(node)]


def _fields(state: Any, without: list[Any]) -> dict[str, dict[str, Any]]:
    """The leaves of each field by path, without those of the states inside."""
    omitted = {id(one) for one in without}
    fields = zip(state._fields, state, strict=True) if hasattr(state, "_fields") else [("state", state)]
    result = {}
    for name, value in fields:
        leaves = jax.tree_util.tree_leaves_with_path(value, is_leaf=lambda node: id(node) in omitted)
        result[name] = {
            jax.tree_util.keystr(path, simple=True, separator="/"): leaf
            for path, leaf in leaves
            if id(leaf) not in omitted
        }
    return result


def _count(records: list[Record]) -> Any:
    """The number of updates that a state tells."""
    counts = [record.fields["count"][""] for record in records if "" in record.fields.get("count", {})]
    counts += [record.fields["step_count"][""] - 1 for record in records if "step_count" in record.fields]
    return counts[0] if counts else None


def _needed_count(tx: GradientTransformation, count: Any) -> Any:
    if count is None and _is_scheduled(tx):
        _state_checks.count_needed()
    return np.int32(0) if count is None else count


def _is_scheduled(value: Any) -> bool:
    """Whether a schedule stands somewhere among the arguments of a transformation."""
    if isinstance(value, GradientTransformation):
        return any(map(_is_scheduled, value.arguments.values()))
    if isinstance(value, (tuple, list)):
        return any(map(_is_scheduled, value))
    if isinstance(value, Mapping):
        return any(map(_is_scheduled, value.values()))
    return callable(value)
