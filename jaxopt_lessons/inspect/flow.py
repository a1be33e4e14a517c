"""The way of the updates through an optimizer: which parts see which leaves, and in which order.

A preset is taken apart into what it is assembled of, groups and masks into the leaves that they choose. Each primitive
transformation on the way is a ``Stage``: it knows the stages before it, the wrappers around it, and whose it is.
"""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import jax

from jaxopt_lessons import _errors, tree
from jaxopt_lessons._named_parts import Numbering, children_of, only_composes, scope_of
from jaxopt_lessons._value import values_inside
from jaxopt_lessons.core import GradientTransformation, chain
from jaxopt_lessons.inspect.facts import Does, does, fact_of
from jaxopt_lessons.types import Mask, Params, PyTree
from jaxopt_lessons.wrappers.groups import groups, labels_in
from jaxopt_lessons.wrappers.masked import masked
from jaxopt_lessons.wrappers.named_chain import named_chain
from jaxopt_lessons.wrappers.partition import partition

PACKAGE = __name__.split(".")[0]


class Node(NamedTuple):
    """A transformation that somebody wrote, not one inside a preset.

    Attributes:
      name: the name that its hyperparameters begin with; of a chain, which has none, what it is.
      label: what distinguishes it from the others in its wrapper, a group for instance; often empty.
      argument: of its wrapper, the argument that it is, or is in.
    """

    name: str
    label: str
    argument: str
    tx: GradientTransformation
    children: tuple["Node", ...]


def node_of(tx: GradientTransformation) -> Node:
    return _node(tx, "", "", "", Numbering())


def _node(tx: GradientTransformation, label: str, argument: str, prefix: str, numbering: Numbering) -> Node:
    name = tx.name if only_composes(tx) else prefix + numbering.name(tx.name)
    children = []
    for child in children_of(tx):
        inside = str(child.place[0]) if child.place else ""
        children.append(_node(child.tx, child.label, inside, *scope_of(child, prefix, numbering)))
    return Node(name, label, argument, tx, tuple(children))


def every(node: Node) -> Iterator[Node]:
    """A node and all nodes inside it, those outside before those inside."""
    yield node
    for child in node.children:
        yield from every(child)


class Preset(NamedTuple):
    """One use of a preset: two of one name are two."""

    name: str
    number: int


class Stage(NamedTuple):
    """A primitive transformation on the way of the updates.

    Attributes:
      tx: the transformation.
      owner: the name of what somebody wrote and this is, or is a part of.
      preset: the preset of the library that it is a part of; None: it stands by itself.
      does: what it does to the updates.
      leaves: the paths of the leaves that it does it to.
      before: the stages that the updates have passed when they arrive.
      within: the wrappers around it, the outermost first.
    """

    tx: GradientTransformation
    owner: str
    preset: Preset | None
    does: Does
    leaves: frozenset[str]
    before: tuple["Stage", ...]
    within: tuple["Stage", ...]

    @property
    def title(self) -> str:
        """How to call it: ``adamw``, or ``the weight decay of adamw``."""
        name = self.tx.name if self.preset is None else self.preset.name
        title = self.owner if self.owner.rpartition(".")[2].startswith(name) else f"{name} of {self.owner}"
        decays = self.preset is not None and self.does & Does.DECAYS and not self.does & Does.SETS_RATE
        return f"the weight decay of {title}" if decays else title


class Way(NamedTuple):
    """What the way through an optimizer shows.

    Attributes:
      stages: all stages, in the order in which the updates leave them.
      aside: those that the updates do not pass, in the adversary of SAM for instance.
      labels: the groups of each leaf, by its path.
    """

    stages: tuple[Stage, ...]
    aside: tuple[Stage, ...]
    labels: dict[str, tuple[str, ...]]


def way_of(node: Node, params: Params) -> Way:
    """The way of the updates of ``params`` through an optimizer.

    Args:
      node: the optimizer.
      params: the parameters; only structure, shapes and dtypes are read.
    """
    walk = _Walk()
    stages = walk.through(node.tx, (), _Place(params, (), node.name, None, (node,)))
    return Way(stages, tuple(walk.aside), walk.labels)


def paths_of(params: Params) -> frozenset[str]:
    """The paths of the trainable leaves."""
    return frozenset(_errors.keys_name(keys) for _, keys, leaf in tree.named_leaves(params) if tree.is_trainable(leaf))


class _Place(NamedTuple):
    """Where a walk is.

    Attributes:
      params: the parameters there, with None for those that do not come there.
      within: the wrappers around.
      owner: the name of the last node.
      preset: the preset inside which it is, the outermost one.
      nodes: what somebody wrote inside of it.
    """

    params: Params
    within: tuple[Stage, ...]
    owner: str
    preset: Preset | None
    nodes: tuple[Node, ...]

    @property
    def is_rebuilt(self) -> bool:
        """Whether a wrapper around shows the leaves in another tree than that of ``params``."""
        return any(fact_of(stage.tx).rebuilds for stage in self.within)


class _Walk:
    def __init__(self) -> None:
        self.aside: list[Stage] = []
        self.labels: dict[str, tuple[str, ...]] = {}
        self._presets = 0

    def through(self, tx: GradientTransformation, before: tuple[Stage, ...], at: _Place) -> tuple[Stage, ...]:
        """The stages that the updates leave in ``tx``."""
        node = next((node for node in at.nodes if node.tx is tx), None)
        if node is not None:
            at = at._replace(owner=node.name, preset=None, nodes=node.children)
        if tx.assembled is not None:
            if at.preset is None and tx.factory.__module__.split(".")[0] == PACKAGE:
                self._presets += 1
                at = at._replace(preset=Preset(tx.name, self._presets))
            return self.through(tx.assembled, before, at)
        if tx.made_by(chain) or tx.made_by(named_chain):
            return self._one_after_the_other(tx, before, at)
        if tx.made_by(groups) or tx.made_by(partition):
            return self._side_by_side(tx, before, at)
        stage = Stage(tx, at.owner, at.preset, does(tx), _leaves(tx, at.params), before, at.within)
        left: tuple[Stage, ...] = ()
        if tx.made_by(masked):
            inside = _chosen(tx.arguments["mask"], at.params)
            if tx.arguments["unmasked"] == "zero":
                outside = paths_of(at.params) - paths_of(inside)
                left = (stage._replace(does=Does.STOPS, leaves=outside),)
            at = at._replace(params=inside)
        for place, inner in values_inside(tx):
            if isinstance(inner, GradientTransformation):
                there = at._replace(within=(*at.within, stage), nodes=_named(at.nodes, place[0]))
                if place[0] in fact_of(tx).aside:
                    self.aside += self.through(inner, (), there)
                else:
                    left += self.through(inner, before + left, there)
        return left if tx.made_by(masked) else (*left, stage)

    def _one_after_the_other(
        self, tx: GradientTransformation, before: tuple[Stage, ...], at: _Place
    ) -> tuple[Stage, ...]:
        left: tuple[Stage, ...] = ()
        nodes = list(at.nodes)
        for inner in (value for _, value in values_inside(tx) if isinstance(value, GradientTransformation)):
            left += self.through(inner, before + left, at._replace(nodes=tuple(nodes)))
            own = next((node for node in nodes if node.tx is inner), None)
            if own is not None:  # The same transformation may be there twice, under two names.
                nodes.remove(own)
        return left

    def _side_by_side(self, tx: GradientTransformation, before: tuple[Stage, ...], at: _Place) -> tuple[Stage, ...]:
        labels = None if at.is_rebuilt else labels_in(tx, at.params)  # None: any leaf may be in any group
        for path, label in _by_path(labels).items():
            self.labels[path] = (*self.labels.get(path, ()), str(label))
        left: tuple[Stage, ...] = ()
        alone = len(at.nodes) == 1  # A node alone has no label.
        for node in at.nodes:
            params = at.params
            if labels is not None:
                own = jax.tree.map(lambda label, node=node: alone or str(label) == node.label, labels)
                params = tree.pick(params, own)
            left += self.through(node.tx, before, at._replace(params=params, nodes=(node,)))
        return left


def _named(nodes: tuple[Node, ...], argument: str) -> tuple[Node, ...]:
    """The nodes of one argument first: the same optimizer may be two arguments."""
    return tuple(sorted(nodes, key=lambda node: node.argument != argument))


def _by_path(labels: PyTree) -> dict[str, object]:
    return {_errors.keys_name(keys): label for _, keys, label in tree.named_leaves(labels)}


def _leaves(tx: GradientTransformation, params: Params) -> frozenset[str]:
    mask = tx.arguments.get("mask")
    return paths_of(params if mask is None or tx.made_by(masked) else _chosen(mask, params))


def _chosen(mask: Mask, params: Params) -> Params:
    """The parameters that a mask chooses; all of them inside a wrapper that shows other trees."""
    with contextlib.suppress(_errors.InputError):
        return tree.pick(params, tree.mask_leaves(mask, params))
    return params
