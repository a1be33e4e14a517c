"""Which leaf is which: masks, labels and the names of leaves, and trees of some of the leaves."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from jaxopt_lessons import _errors, _tree_checks
from jaxopt_lessons._leaf import is_trainable
from jaxopt_lessons.types import Labels, Mask, Params, PyTree


def mask_leaves(mask: Mask, params: Params) -> PyTree:
    """A tree of Python bools, one for each trainable leaf of ``params``.

    Args:
      mask: a tree of bools with the structure of ``params`` or a prefix of it; or ``mask(params)`` that returns one;
        or ``mask(path, leaf) -> bool`` with a path such as ``"dense/kernel"``.
      params: the tree to describe.
    """
    if _takes_path_and_leaf(mask):  # whatever it returns, the match of a regular expression for instance
        return label_leaves(lambda path, leaf: bool(mask(path, leaf)), params, "mask")
    return jax.tree.map(_as_bool, label_leaves(mask, params, "mask"))


def _takes_path_and_leaf(labels: Any) -> bool:
    return _is_function(labels) and required_arguments(labels) == 2


def _is_function(labels: Any) -> bool:
    """Whether it is a function, and not a module with leaves that happens to be callable."""
    return callable(labels) and jax.tree_util.all_leaves([labels])


def label_leaves(labels: Labels, params: Params, name: str = "labels") -> PyTree:
    """A tree of labels, one for each trainable leaf of ``params``, None for every other leaf.

    Args:
      labels: a tree of labels with the keys of ``params``, or of its upper levels; or ``labels(params)`` that returns
        one; or ``labels(path, leaf) -> label`` with a path such as ``"dense/kernel"``. Containers are compared by
        their keys, so a dict describes a ``FrozenDict``, a module or a NamedTuple too.
      params: the tree to describe.
      name: what to call ``labels`` in an error.

    Raises:
      InputError: a trainable leaf has no label, or a label stands where ``params`` has nothing.
    """
    if _takes_path_and_leaf(labels):
        found = {
            path: labels(_errors.keys_name(keys), leaf)
            for path, keys, leaf in named_leaves(params)
            if is_trainable(leaf)
        }
        if None in found.values():
            _tree_checks.label_is_none(name, next(path for path, label in found.items() if label is None))
        return _put(found, params)
    if _is_function(labels):
        labels = labels(params)
    given = {keys: label for _, keys, label in named_leaves(labels)}
    found, used, missing = {}, set(), {}
    for path, keys, leaf in named_leaves(params):
        prefixes = [keys[:i] for i in range(len(keys) + 1) if keys[:i] in given]
        used.update(prefixes)
        if is_trainable(leaf) and not prefixes:
            missing[keys] = leaf
        elif is_trainable(leaf):
            found[path] = given[prefixes[0]]
    surplus = {keys: label for keys, label in given.items() if keys and keys not in used}
    if surplus:
        empty = _empty_nodes(params)
        surplus = {keys: label for keys, label in surplus.items() if keys not in empty}
    if missing or surplus:
        _tree_checks.labels_differ(name, missing, surplus)
    return _put(found, params)


def _put(found: dict[Any, Any], params: Params) -> PyTree:
    return jax.tree_util.tree_map_with_path(lambda path, leaf: found.get(path), params)


def named_leaves(tree: PyTree) -> list[tuple[tuple[Any, ...], tuple[str, ...], Any]]:
    """Each leaf with its key path and with the names along it.

    A box, an object around a single ``value`` such as a variable of flax, adds no name.
    """
    found = []
    for path, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_box):
        for inner, leaf in jax.tree_util.tree_leaves_with_path(node):
            found.append((path + inner, tuple(map(_errors.key_name, path + inner[1:])), leaf))
    return found


def _is_box(node: Any) -> bool:
    if isinstance(node, (dict, list, tuple, np.ndarray, jax.Array)):
        return False
    children = jax.tree_util.tree_leaves_with_path(node, is_leaf=lambda child: child is not node)
    return [path for path, _ in children] == [(jax.tree_util.GetAttrKey("value"),)]


def _empty_nodes(tree: PyTree) -> set[tuple[str, ...]]:
    """The names along the paths to None and to containers without leaves."""
    nodes = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda node: not jax.tree.leaves(node))
    return {tuple(map(_errors.key_name, path)) for path, node in nodes if not jax.tree.leaves(node)}


def pick(tree: PyTree, where: PyTree) -> PyTree:
    """``tree`` with None in the place of every leaf for which ``where``, a tree of bools, does not hold True."""
    chosen = dict(jax.tree_util.tree_leaves_with_path(where))
    return jax.tree_util.tree_map_with_path(lambda path, leaf: leaf if chosen.get(path) else None, tree)


def merge(tree: PyTree, part: PyTree) -> PyTree:
    """``tree`` with the leaves of ``part`` in their places."""
    new = dict(jax.tree_util.tree_leaves_with_path(part))
    return jax.tree_util.tree_map_with_path(lambda path, leaf: new.get(path, leaf), tree)


def _as_bool(chosen: Any) -> bool:
    if isinstance(chosen, str):
        _tree_checks.mask_by_pattern(chosen)
    is_array = isinstance(chosen, (np.ndarray, jax.Array)) and chosen.shape == () and chosen.dtype == np.bool_
    if not isinstance(chosen, (bool, np.bool_)) and (isinstance(chosen, Tracer) or not is_array):
        hint = " It must be known before compilation." if isinstance(chosen, Tracer) else ""
        raise _errors.InputError(f"a mask has bools as leaves; got {_errors.describe(chosen)}.{hint}")
    return bool(chosen)


def signature_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    """The arguments of a function, None for something built in that does not tell."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return None


def required_arguments(function: Callable[..., Any]) -> int:
    """How many positional arguments a function has that no default stands in for; 0 if it does not tell."""
    parameters = (signature_of(function) or {}).values()
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty for p in parameters)
