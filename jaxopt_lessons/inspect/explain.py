"""An optimizer in words, for given parameters: what happens to a gradient, what trains which leaf, what it costs.

    print(explain(tx, params))

Everything is read from the value and from ``jax.eval_shape(tx.init, params)``: nothing is allocated and nothing runs,
so a model that fits on no machine at hand can be explained from its shapes. The warnings are those of ``rules``.
"""

import inspect
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxopt_lessons import _checks, _errors, tree
from jaxopt_lessons._named_parts import only_composes
from jaxopt_lessons._value import _show
from jaxopt_lessons.core import GradientTransformation, Part, ScheduledState, as_transformation, pair_of_functions
from jaxopt_lessons.inspect import rules
from jaxopt_lessons.inspect.facts import Does
from jaxopt_lessons.inspect.flow import Node, Way, node_of, way_of
from jaxopt_lessons.inspect.page import Line, Section, Table, as_html, as_text
from jaxopt_lessons.types import Params, State
from jaxopt_lessons.wrappers.groups import groups

MANY = 24
"""So many leaves are listed one by one; more of them in groups of equals."""

FROZEN = "frozen"


class Explanation(NamedTuple):
    """What ``explain`` found out. It prints as text, and as tables in a notebook.

    Attributes:
      sections: the text, section by section.
      warnings: what is suspicious about the optimizer, a sentence each.
      state_bytes: size of the state.
      parameters: number of entries of all leaves that can be trained.
      extra_arguments: keyword arguments that ``update`` cannot do without, such as ``"value"``.
      evaluates_other_weights: whether the weights to evaluate are not those that are trained: see ``eval_params``.
    """

    sections: tuple[Section, ...]
    warnings: tuple[str, ...]
    state_bytes: int
    parameters: int
    extra_arguments: tuple[str, ...]
    evaluates_other_weights: bool

    def __str__(self) -> str:
        return as_text(self.sections)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(self.sections)


def explain(tx: Any, params: Params, *, steps: int | None = None, every_leaf: bool = False) -> Explanation:
    """Says what an optimizer does to which parameter, what it keeps for that, and what looks like a mistake.

    Args:
      tx: the optimizer, of this library, optax or one's own.
      params: the parameters, or their shapes: a tree of arrays or of ``jax.ShapeDtypeStruct``.
      steps: the number of updates to come, if it is known: schedules that end too early or too late are found then.
      every_leaf: list every leaf by itself; else more than 24 are put together where they are treated alike.

    Returns:
      An ``Explanation``. Its text has the transformations in the order in which a gradient passes them, their
      hyperparameters under the names of ``hyperparams``, the leaves with their groups and the bytes of state that they
      cost, and warnings; ``.warnings`` has these as a tuple.

    Raises:
      InputError: the optimizer does not fit the parameters.

    >>> tx = jl.chain(jl.scale_by_adam(), jl.clip_by_global_norm(1.0), jl.scale_by_learning_rate(0.1))
    >>> found = explain(tx, {"w": jax.ShapeDtypeStruct((1000,), "float32")})
    >>> found.state_bytes, found.warnings[0][:53]
    (8008, 'clip_by_global_norm comes after scale_by_adam: it lim')
    """
    tx = as_transformation("explain", "tx", tx)
    every_leaf = _checks.flag("explain", "every_leaf", every_leaf)
    if steps is not None:
        steps = _checks.whole("explain", "steps", steps, least=1)
    with _errors.stage("explain"):
        state = jax.eval_shape(tx.init, tree.trainable(params))
        node = node_of(tx)
        way = way_of(node, params)
        leaves = _leaves(tx, state, params, way)
        warnings = tuple(rules.warnings_of(node, way, params, steps))
        others = _evaluates_other_weights(tx, state, params)
    extra = rules.extra_arguments(tx)
    total = sum(map(_bytes, jax.tree.leaves(state)))
    shared = total - sum(leaf.state_bytes for leaf in leaves)
    parameters = sum(leaf.size for leaf in leaves if leaf.is_parameter)
    sections = (
        Section(_summary(leaves, parameters, total)),
        Section("What happens to a gradient, in this order", tuple(_listing(node, 0, set()))),
        _leaf_section(leaves, shared, every_leaf),
        Section("Use", tuple(_usage(way, others, extra))),
        Section("Warnings" if warnings else "No warnings", tuple(Line(0, "-", text) for text in warnings)),
    )
    return Explanation(sections, warnings, total, parameters, tuple(extra), others)


def _summary(leaves: list["_Leaf"], parameters: int, total: int) -> str:
    frozen = sum(leaf.size for leaf in leaves if leaf.notes == FROZEN)
    share = total / parameters if parameters else 0.0
    return (
        f"{_count(len(leaves), 'leaf', 'leaves')}, {_count(parameters, 'parameter')}"
        + (f" ({frozen:,} frozen)" if frozen else "")
        + f", {_count(total, 'byte')} of state"
        + (f", {share:.4g} a parameter" if share >= 0.01 else "")
    )


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


# ---------------------------------------------------------------------------------------------------------------------
# The transformations
# ---------------------------------------------------------------------------------------------------------------------


def _listing(node: Node, indent: int, shown: set[Any]) -> Iterator[Line]:
    """A transformation, its arguments, what a preset is made of (the first time), and what stands inside."""
    if node.label:
        yield Line(indent, f"{node.label}:", "")
        indent += 1
    if not only_composes(node.tx):
        yield Line(indent, node.name, _does_in_words(node.tx))
        yield from (Line(indent + 1, *argument) for argument in _arguments(node))
        if node.tx.assembled is not None:
            yield from calculating_parts(node, indent + 1, shown)
        indent += 1
    elif not node.children:
        yield Line(indent, node.name, _does_in_words(node.tx))
    for child in node.children:
        yield from _listing(child, indent, shown)


def _does_in_words(tx: GradientTransformation) -> str:
    if tx.made_by(pair_of_functions):
        function = tx.arguments["update"]
        return f"A pair of functions of {getattr(function, '__module__', None) or 'unknown origin'}."
    documentation = inspect.getdoc(tx.factory)
    return documentation.splitlines()[0].replace("``", "") if documentation else "(it has no docstring)"


def _arguments(node: Node) -> Iterator[tuple[str, str]]:
    """Hyperparameters, all of them, and settings that are not as they are by default."""
    numbers = node.tx.hyperparameters
    inside = {child.argument for child in node.children}
    inside |= {"rules", "default"} if node.tx.made_by(groups) else set()
    inside |= {"init", "update"} if node.tx.made_by(pair_of_functions) else set()
    for name, value in node.tx.arguments.items():
        if name in numbers and isinstance(value, tuple):
            yield from ((f"{node.name}.{name}.{i}", _show(item)) for i, item in enumerate(value))
        elif name in numbers or (name not in inside and not _is_default(node.tx, name, value)):
            yield f"{node.name}.{name}", _show(value)


def _is_default(tx: GradientTransformation, name: str, value: Any) -> bool:
    default = inspect.signature(tx.factory).parameters[name].default
    return value is None or value is default or (type(value) is type(default) and value == default)


def calculating_parts(node: Node, indent: int, shown: set[Any]) -> Iterator[Line]:
    """The parts of a preset that have no name of their own."""
    named = {id(child.tx) for child in node.children}

    def parts(tx: GradientTransformation, indent: int) -> Iterator[Line]:
        for inner in tx.inside():
            if id(inner) in named or inner.name == "identity":
                continue
            if only_composes(inner):
                yield from parts(inner, indent)
            else:
                yield Line(indent, inner.name, _does_in_words(inner))
                yield from parts(inner, indent + 1)

    found = list(parts(node.tx, indent + 1))
    names = (node.tx.name, *(line.left for line in found))
    if names in shown:
        yield Line(indent, "made of the same as above", "")
    elif found:
        yield Line(indent, "made of", "")
        yield from found
    shown.add(names)


# ---------------------------------------------------------------------------------------------------------------------
# The leaves
# ---------------------------------------------------------------------------------------------------------------------


class _Leaf(NamedTuple):
    """A row of the table of leaves, and what is the same in rows that are put together."""

    path: str
    array: str
    size: int
    group: str
    notes: str
    state_bytes: int
    is_parameter: bool


def _leaves(tx: GradientTransformation, state: State, params: Params, way: Way) -> list[_Leaf]:
    named = tree.named_leaves(params)
    kept = _bytes_by_path(tx, state, [path for path, _, _ in named])
    rows = []
    for path, keys, leaf in named:
        name, trainable = _errors.keys_name(keys), tree.is_trainable(leaf)
        array = _errors.describe(leaf) if hasattr(leaf, "shape") and hasattr(leaf, "dtype") else type(leaf).__name__
        size = math.prod(np.shape(leaf)) if trainable else 0
        group = " + ".join(way.labels.get(name, ()))
        notes = ", ".join(_notes(name, way)) if trainable else "not a parameter"
        rows.append(_Leaf(name, array, size, group, notes, kept.get(path, 0), trainable))
    return rows


def _notes(path: str, way: Way) -> Iterator[str]:
    """What is special about a leaf."""
    stages = [stage for stage in way.stages if path in stage.leaves]
    stops = [stage for stage in stages if stage.does & Does.STOPS]
    moved = any(
        stage.does & (Does.DECAYS | Does.ADDS_NOISE) and any(stop in stage.before for stop in stops) for stage in stages
    )
    if stops and not moved:
        yield FROZEN
        return
    if any(stage.does & Does.DESCENDS for stage in way.stages) and not any(
        stage.does & (Does.DESCENDS | Does.UNKNOWN) for stage in stages
    ):
        yield "raw gradient"
    if any(stage.does & Does.DECAYS for stage in way.stages):
        decays = any(stage.does & (Does.DECAYS | Does.UNKNOWN) for stage in stages)
        yield "decays" if decays else "no decay"


def _bytes(leaf: Any) -> int:
    return math.prod(leaf.shape) * leaf.dtype.itemsize


def _bytes_by_path(tx: GradientTransformation, state: State, paths: list[tuple[Any, ...]]) -> dict[Any, int]:
    """The bytes of state that belong to each leaf: what stands at its path in a field of a state."""
    kept, known = dict.fromkeys(paths, 0), set(paths)
    longest = max(map(len, paths), default=0)
    for path, leaf in _kept(Part(tx.name, tx, state)):
        if () in known:
            kept[()] += _bytes(leaf) if leaf.shape else 0
            continue
        owner = next(
            (
                path[start : start + length]
                for length in range(min(longest, len(path)), 0, -1)
                for start in range(len(path) - length, -1, -1)
                if path[start : start + length] in known
            ),
            None,
        )
        if owner is not None:
            kept[owner] += _bytes(leaf)
    return kept


def _kept(part: Part) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The leaves of a state with their paths inside the field of the state that they are in."""
    state = part.state.inner if isinstance(part.state, ScheduledState) else part.state
    parts = part.tx.parts(part.state)
    owned = [id(one.state) for one in parts]
    fields = 1 if hasattr(state, "_fields") else 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(state, is_leaf=lambda node: id(node) in owned):
        if id(leaf) not in owned:
            yield path[fields:], leaf
    for one in parts:
        yield from _kept(one)


def _leaf_section(leaves: list[_Leaf], shared: int, every_leaf: bool) -> Section:
    grouped, noted = any(leaf.group for leaf in leaves), any(leaf.notes for leaf in leaves)
    rows = [(1, leaf) for leaf in leaves] if every_leaf or len(leaves) <= MANY else _put_together(leaves)
    header = ["leaf", "array", *["group"] * grouped, *[""] * noted, "state bytes"]
    counted = any(number > 1 for number, _ in rows)
    table = []
    for number, leaf in rows:
        times = [f"{number} x" if number > 1 else ""] if counted else []
        cells = [leaf.path, leaf.array, *[leaf.group] * grouped, *[leaf.notes] * noted]
        table.append((*times, *cells, f"{leaf.state_bytes:,}"))
    if shared:
        table.append((*[""] * counted, "(together)", *[""] * (len(header) - 2), f"{shared:,}"))
    return Section("Leaves", (), Table((*[""] * counted, *header), tuple(table)))


def _put_together(leaves: Iterable[_Leaf]) -> list[tuple[int, _Leaf]]:
    """Leaves that are treated alike as one row: how many, and their common path."""
    alike: dict[Any, list[_Leaf]] = {}
    for leaf in leaves:
        depth, name = leaf.path.count("/"), leaf.path.rpartition("/")[2]
        alike.setdefault((name if depth else "", depth, *leaf[1:5]), []).append(leaf)
    return [
        (len(same), same[0]._replace(path=_common(same), state_bytes=sum(leaf.state_bytes for leaf in same)))
        for same in alike.values()
    ]


def _common(leaves: list[_Leaf]) -> str:
    """Their path, with a star where they differ."""
    names = zip(*(leaf.path.split("/") for leaf in leaves), strict=True)
    return "/".join(name[0] if len(set(name)) == 1 else "*" for name in names)


# ---------------------------------------------------------------------------------------------------------------------
# How to use it
# ---------------------------------------------------------------------------------------------------------------------


def _evaluates_other_weights(tx: GradientTransformation, state: State, params: Params) -> bool:
    """Whether ``eval_params`` returns other arrays than it gets."""
    same: list[bool] = []

    def look(state: State, params: Params) -> None:
        found = jax.tree.leaves(tx.eval_params(state, params))
        same.append(all(a is b for a, b in zip(found, jax.tree.leaves(params), strict=True)))

    jax.eval_shape(look, state, tree.trainable(params))
    return not same[0]


def _usage(way: Way, others: bool, extra: Any) -> Iterator[Line]:
    needed = "".join(f", {name}=..." for name in extra)
    by = "; ".join(f"{name}= is needed by {', '.join(owners)}" for name, owners in extra.items())
    yield Line(0, f"update(updates, state, params{needed})", by)
    if others:
        owners = [stage.owner for stage in way.stages if stage.does & Does.FOLLOWS_WEIGHTS]
        whose = f", kept by {owners[-1]}" if owners else ""
        yield Line(
            0, "eval_params(tx, state, params)", f"The weights to evaluate{whose}; params are those that are trained."
        )
    else:
        yield Line(0, "params", "The weights to evaluate are those that are trained.")
