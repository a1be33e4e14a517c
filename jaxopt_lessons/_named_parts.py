"""The transformations inside an optimizer, each under a name that stays the same when it is composed anew.

What the names are made of is said in ``hyperparameters``, which reads and changes the numbers of each; ``inspect``
explains them.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from jaxopt_lessons._value import values_inside
from jaxopt_lessons.core import GradientTransformation, Part, chain
from jaxopt_lessons.types import State
from jaxopt_lessons.wrappers.groups import groups, transforms_of
from jaxopt_lessons.wrappers.named_chain import named_chain


class Owner(NamedTuple):
    """A transformation with a name, and its state where one is given."""

    name: str
    tx: GradientTransformation
    state: State | None


class Child(NamedTuple):
    """A transformation among the arguments of another: where, and the label that its names begin with, if any."""

    place: tuple[Any, ...]
    label: str
    tx: GradientTransformation


class Numbering:
    """Names for transformations that stand beside each other: the second ``clip`` is ``clip_2``."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def name(self, name: str) -> str:
        self._seen[name] = self._seen.get(name, 0) + 1
        return name if self._seen[name] == 1 else f"{name}_{self._seen[name]}"


def named_owners(
    tx: GradientTransformation, state: State | None = None, prefix: str = "", numbering: Numbering | None = None
) -> Iterator[Owner]:
    """All transformations with a name, those outside before those inside."""
    numbering = numbering or Numbering()
    if not only_composes(tx):
        yield Owner(prefix + numbering.name(tx.name), tx, state)
    children = children_of(tx)
    for child, inner in zip(children, _states(tx, state, children), strict=True):
        yield from named_owners(child.tx, inner, *scope_of(child, prefix, numbering))


def only_composes(tx: GradientTransformation) -> bool:
    return tx.made_by(chain) or tx.made_by(named_chain)


def scope_of(child: Child, prefix: str, numbering: Numbering) -> tuple[str, Numbering]:
    return (f"{prefix}{child.label}.", Numbering()) if child.label else (prefix, numbering)


def children_of(tx: GradientTransformation) -> list[Child]:
    if tx.made_by(groups):
        transforms = transforms_of(tx.arguments["rules"], tx.arguments["default"])
        return [Child((), label, inner) for label, inner in transforms.items()]
    found = [(place, inner) for place, inner in values_inside(tx) if isinstance(inner, GradientTransformation)]
    unlabelled = tx.made_by(chain) or len(found) == 1
    return [Child(place, "" if unlabelled else _label(tx, place), inner) for place, inner in found]


def _label(tx: GradientTransformation, place: tuple[Any, ...]) -> str:
    """The name in a named chain, the key in a mapping, the name of the argument."""
    if tx.made_by(named_chain):
        return tx.arguments[place[0]][place[1]][0]
    return ".".join(map(str, place[1:] or place))


def _states(tx: GradientTransformation, state: State | None, children: list[Child]) -> list[State | None]:
    """The states of the children inside the state of ``tx``; None for a wrapper that does not tell."""
    if state is None:
        return [None] * len(children)
    if tx.made_by(groups):
        by_label = {part.name: part.state for part in tx.parts(state)}
        return [by_label[child.label] for child in children]
    wanted = {id(child.tx) for child in children}
    parts = [part for part in _parts_inside(tx, state, wanted) if id(part.tx) in wanted]
    states: list[State | None] = []
    for child in children:  # The same transformation may be there twice.
        at = next((i for i, part in enumerate(parts) if part.tx is child.tx), None)
        states.append(None if at is None else parts.pop(at).state)
    return states


def _parts_inside(tx: GradientTransformation, state: State, stop: set[int]) -> Iterator[Part]:
    """The parts at any depth, but none inside a part with one of these identities."""
    for part in tx.parts(state):
        yield part
        if id(part.tx) not in stop:
            yield from _parts_inside(part.tx, part.state, stop)


def calculating_parts(owner: Owner) -> Iterator[Part]:
    """What calculates in the place of a transformation: itself, or what a preset put together that has no name.

    With tracers among its numbers a preset puts it together anew each time, with new schedules.
    """
    named = {id(child.tx) for child in children_of(owner.tx)}

    def calculating(part: Part) -> Iterator[Part]:
        if part.tx.assembled is not None:
            yield from calculating(part._replace(tx=part.tx.assembled))
            return
        yield part
        for inner in part.tx.parts(part.state):
            if id(inner.tx) not in named:
                yield from calculating(inner)

    if owner.state is not None:
        yield from calculating(Part(owner.tx.name, owner.tx, owner.state))
