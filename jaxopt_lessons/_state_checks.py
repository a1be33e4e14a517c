"""Errors about states: of another transformation, of another kind, or lacking what was asked for."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from jaxopt_lessons._errors import InputError, some


def wrong_state(expected: type, state: Any) -> NoReturn:
    raise InputError(
        f"expected the state {expected.__name__} that init returned, got {type(state).__name__}. A state belongs to "
        "one transformation; was it made by another, or restored without its types?"
    )


def state_without_count(schedules: Sequence[str], state: Any) -> NoReturn:
    raise InputError(
        f"{', '.join(schedules)} is a schedule, and the state, {type(state).__name__}, has no count to read it at. It "
        "was made by init while there was a number, or by another transformation: call init with the schedule in "
        "place, and take the rest over with load_state_dict."
    )


def fields_exist(names: Sequence[str], fields: Sequence[str]) -> None:
    """Raises unless the state has all fields of these names."""
    missing = [name for name in names if name not in fields]
    if missing:
        raise InputError(f"the state has no field {', '.join(missing)}: there are {', '.join(fields)}.")


def wrong_chain_state(names: Sequence[str], state: Any) -> NoReturn:
    got = f"a tuple of {len(state)}" if isinstance(state, tuple) else type(state).__name__
    raise InputError(f"expected a tuple of {len(names)} states, one for each of {', '.join(names)}; got {got}.")


def wrong_states_by_name(kind: str, names: Sequence[Any], state: Any) -> NoReturn:
    got = f"one with {', '.join(map(repr, state))}" if isinstance(state, Mapping) else type(state).__name__
    raise InputError(f"expected a dict of states with the {kind} {', '.join(map(repr, names))}; got {got}.")


def state_differs(differences: Sequence[str]) -> NoReturn:
    more = f" and {len(differences) - 12} more" if len(differences) > 12 else ""
    raise InputError(f"the given state does not fit the optimizer: {'; '.join(differences[:12])}{more}.")


def no_such_record(kind: str, others: Sequence[str]) -> NoReturn:
    there = f"there is {', '.join(others)}" if others else "there is nothing left"
    raise InputError(
        f"the given state has no {kind} at its place: {there}. Is it the state of the same optimizer, with the "
        "NamedTuples that optax made? One read from a file without them must be restored into optax's init first."
    )


def surplus_records(names: Sequence[str]) -> NoReturn:
    raise InputError(f"the given state has more than the optimizer: {', '.join(names)} would be lost.")


def different_paths(field: str, expected: Sequence[str], got: Sequence[str]) -> NoReturn:
    missing, surplus = sorted(set(expected) - set(got)), sorted(set(got) - set(expected))
    parts = [f"{word} {some(paths)}" for word, paths in (("missing", missing), ("surplus", surplus)) if paths]
    raise InputError(f"the given state does not fit the parameters: in {field} {'; '.join(parts)}.")


def count_needed() -> NoReturn:
    raise InputError(
        "a schedule must know how many updates have been made, and nothing in the given state tells: pass count=..."
    )


def ambiguous_name(name: str) -> NoReturn:
    raise InputError(
        f"two leaves of the state are both called {name}: keys such as 1 and '1', or names with a slash, cannot be "
        "told apart. Rename a parameter."
    )
