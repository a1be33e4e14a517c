"""Mathematics on the leaves of a tree: state that looks like the parameters, masks, dtypes, norms, ``map_leaves``."""

import hashlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxopt_lessons import _checks, numerics
from jaxopt_lessons._leaf import compute_dtype, dtype_of, is_complex, is_trainable
from jaxopt_lessons._map_leaves import check_updates, map_leaves, sum_leaves
from jaxopt_lessons.types import Convert, Labels, Mask, Params, PyTree, Updates

__all__ = [
    "all_finite",
    "cast_like",
    "check_updates",
    "copy_like",
    "distance",
    "full_like",
    "global_norm",
    "is_trainable",
    "keys_like",
    "label_leaves",
    "limited_norm",
    "map_leaves",
    "mask_leaves",
    "merge",
    "pick",
    "real_shape",
    "reduced_like",
    "scalar_like",
    "scaled_global_norm",
    "select",
    "states_like",
    "sum_leaves",
    "trainable",
    "widen",
    "zeros_like",
]


def full_like(params: Params, fill: Any, dtype: Any = None) -> PyTree:
    """A tree of constants with the structure, shapes and shardings of ``params``.

    Leaves that are not trainable become None. The dtype is that of the parameter, but float32 for half precision: an
    average with decay 0.999 does not move in bfloat16. ``dtype`` overrides it. A complex leaf stays complex and gets
    ``fill`` in both parts.
    """

    def full(leaf: Any) -> Any:
        if not is_trainable(leaf):
            return None
        kept = jnp.dtype(dtype) if dtype is not None else compute_dtype(dtype_of(leaf))
        value = jnp.asarray(fill).astype(kept)
        if is_complex(leaf):  # a pair of real numbers, each of them filled
            part = value.astype(compute_dtype(kept))
            value = jax.lax.complex(part, part)
        return jnp.full_like(leaf, value, dtype=value.dtype)

    return jax.tree.map(full, params)


def zeros_like(params: Params, dtype: Any = None) -> PyTree:
    """``full_like`` with zeros."""
    return full_like(params, 0, dtype)


def reduced_like(params: Params, axes: Callable[[Any], Any], *, keepdims: bool = False) -> PyTree:
    """Zeros of the shapes and shardings that a reduction of each leaf gives: statistics of rows, columns or blocks.

    Args:
      params: the tree to describe.
      axes: ``axes(leaf)``, the axes that are reduced: an int or a tuple. None for a leaf without such a statistic,
        where ``[0.]`` takes the place. If it returns a list, a list stands beside the leaf, with zeros for each item.
      keepdims: whether reduced axes stay, with length 1.

    Returns:
      A tree of real arrays, float32 for half precision; None for the leaves that are not trainable.
    """

    def zeros(leaf: Any, axis: Any) -> jax.Array:
        dtype = compute_dtype(dtype_of(leaf))
        if axis is None:
            return jnp.zeros([1], dtype)
        if axis == ():
            return jnp.zeros_like(leaf, dtype=dtype)
        # The result of an abstract reduction has the sharding that the real one will have.
        return jnp.zeros_like(jax.eval_shape(lambda x: jnp.sum(x, axis, keepdims=keepdims), leaf), dtype=dtype)

    def beside(leaf: Any) -> Any:
        if not is_trainable(leaf):
            return None
        found = axes(leaf)
        return [zeros(leaf, axis) for axis in found] if isinstance(found, list) else zeros(leaf, found)

    return jax.tree.map(beside, params)


def copy_like(params: Params, dtype: Any = None) -> PyTree:
    """A copy of ``params`` for an optimizer to keep in its state.

    It shares no memory with ``params``, so both can be donated. Dtypes and leaves that are not trainable as in
    ``full_like``.
    """

    def copy(leaf: Any) -> Any:
        if not is_trainable(leaf):
            return None
        kept = jnp.dtype(dtype) if dtype is not None else compute_dtype(dtype_of(leaf))
        if is_complex(leaf):
            kept = jnp.dtype(jnp.complex128 if compute_dtype(kept) == jnp.float64 else jnp.complex64)
        return jnp.copy(jnp.asarray(leaf).astype(kept))

    return jax.tree.map(copy, params)


def scalar_like(params: Params, fill: Any) -> jax.Array:
    """A number of the widest dtype in which the leaves of ``params`` are calculated: float32, or float64."""
    dtypes = [dtype_of(leaf) for leaf in jax.tree.leaves(params) if is_trainable(leaf)]
    return jnp.full([], fill, compute_dtype(*dtypes))


def real_shape(leaf: Any) -> tuple[int, ...]:
    """The shape in which a rule sees a leaf: a complex number is a pair of real ones along a last axis."""
    return (*np.shape(leaf), 2) if is_complex(leaf) else np.shape(leaf)


def widen(tree: PyTree) -> PyTree:
    """The tree with its half-precision leaves in float32; every other leaf as it is."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if is_half_precision(leaf) else leaf, tree)


def has_half_precision(tree: PyTree) -> bool:
    """Whether ``widen`` would change anything."""
    return any(map(is_half_precision, jax.tree.leaves(tree)))


def is_half_precision(leaf: Any) -> bool:
    return is_trainable(leaf) and jnp.finfo(dtype_of(leaf)).bits < 32


def trainable(tree: PyTree) -> PyTree:
    """``tree`` with None in the place of every leaf that is not trainable."""
    return jax.tree.map(lambda leaf: leaf if is_trainable(leaf) else None, tree)


def all_finite(tree: PyTree) -> jax.Array:
    """Whether no trainable leaf holds an infinite or NaN entry: a scalar bool.

    Args:
      tree: a tree of arrays; leaves that are not trainable do not count.
    """
    return sum_leaves(_not_finite_rule, trainable(tree), combine=jnp.maximum) == 0


def _not_finite_rule(x: jax.Array) -> jax.Array:
    return jnp.max(jnp.where(jnp.isfinite(x), 0, jnp.ones_like(x)), initial=0)


def select(condition: Any, new: PyTree, old: PyTree) -> PyTree:
    """``new`` if a scalar bool is true, else ``old``, in the dtypes of ``old``: for states that move or stay as one.

    Nothing is multiplied: what is not chosen may be infinite or NaN.

    Args:
      condition: a scalar bool.
      new: a tree of arrays of any kind.
      old: a tree of the same structure and shapes.
    """
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), states_like(new, old), old)


def states_like(new: PyTree, old: PyTree) -> PyTree:
    """``new`` in the dtypes of ``old``: for the states of other libraries, which may change theirs."""
    return jax.tree.map(lambda a, b: a if a.dtype == b.dtype else a.astype(b.dtype), new, old)


def cast_like(updates: Updates, reference: PyTree) -> Updates:
    """``updates`` in the dtypes of ``reference``, a tree of the same structure and shapes."""
    return map_leaves(_identity_rule, updates, params=reference)


def _identity_rule(g: jax.Array) -> jax.Array:
    return g


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
            path: labels(_checks.keys_name(keys), leaf)
            for path, keys, leaf in named_leaves(params)
            if is_trainable(leaf)
        }
        if None in found.values():
            _checks.label_is_none(name, next(path for path, label in found.items() if label is None))
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
        _checks.labels_differ(name, missing, surplus)
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
            found.append((path + inner, tuple(map(_checks.key_name, path + inner[1:])), leaf))
    return found


def _is_box(node: Any) -> bool:
    if isinstance(node, (dict, list, tuple, np.ndarray, jax.Array)):
        return False
    children = jax.tree_util.tree_leaves_with_path(node, is_leaf=lambda child: child is not node)
    return [path for path, _ in children] == [(jax.tree_util.GetAttrKey("value"),)]


def _empty_nodes(tree: PyTree) -> set[tuple[str, ...]]:
    """The names along the paths to None and to containers without leaves."""
    nodes = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda node: not jax.tree.leaves(node))
    return {tuple(map(_checks.key_name, path)) for path, node in nodes if not jax.tree.leaves(node)}


def pick(tree: PyTree, where: PyTree) -> PyTree:
    """``tree`` with None in the place of every leaf for which ``where``, a tree of bools, does not hold True."""
    chosen = dict(jax.tree_util.tree_leaves_with_path(where))
    return jax.tree_util.tree_map_with_path(lambda path, leaf: leaf if chosen.get(path) else None, tree)


def merge(tree: PyTree, part: PyTree) -> PyTree:
    """``tree`` with the leaves of ``part`` in their places."""
    new = dict(jax.tree_util.tree_leaves_with_path(part))
    return jax.tree_util.tree_map_with_path(lambda path, leaf: new.get(path, leaf), tree)


def _as_bool(chosen: Any) -> bool:
    is_array = isinstance(chosen, (np.ndarray, jax.Array)) and chosen.shape == () and chosen.dtype == np.bool_
    if not isinstance(chosen, (bool, np.bool_)) and (isinstance(chosen, Tracer) or not is_array):
        hint = " It must be known before compilation." if isinstance(chosen, Tracer) else ""
        raise _checks.InputError(f"a mask has bools as leaves; got {_checks.describe(chosen)}.{hint}")
    return bool(chosen)


def required_arguments(function: Callable[..., Any]) -> int:
    """How many positional arguments a function has that no default stands in for."""
    parameters = inspect.signature(function).parameters.values()
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty for p in parameters)


def global_norm(tree: PyTree) -> jax.Array:
    """The Euclidean norm of all trainable leaves together: ``sqrt(sum |x|^2)``.

    Calculated in float32 (float64 if a leaf is) after dividing by the largest entry, so neither 400 bfloat16 leaves nor
    an entry of 1e30 spoil it. Infinite or NaN entries give an infinite or NaN norm. The derivative at 0 is 0.

    Args:
      tree: a tree of arrays; leaves that are not trainable do not count.
    """
    length, scale = scaled_global_norm(tree)
    return scale * length


def scaled_global_norm(tree: PyTree) -> tuple[jax.Array, jax.Array]:
    """The ``global_norm`` of the leaves divided by ``scale``, and ``scale``, which is that of their largest entry."""
    trained = jax.tree.map(lambda leaf: leaf if is_trainable(leaf) else None, tree)
    scale = numerics.scale_of(sum_leaves(_largest_rule, trained, combine=jnp.maximum))
    total = sum_leaves(_scaled_square_rule, trained, scale=scale)
    return jnp.where(total == 0, 0, numerics.root(total)), scale


def _largest_rule(x: jax.Array) -> jax.Array:
    return jnp.max(jnp.abs(x), initial=0)


def _scaled_square_rule(x: jax.Array, scale: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(x / scale))


def limited_norm(tree: PyTree) -> tuple[jax.Array, jax.Array]:
    """``numerics.limited_norm`` of all trainable leaves together: of the finite entries, and a factor for the updates.

    Args:
      tree: a tree of arrays; leaves that are not trainable do not count.
    """
    return numerics.limited(global_norm(jax.tree.map(numerics.finite, trainable(tree))))


def distance(params: Params, start: PyTree) -> jax.Array:
    """The Euclidean distance of all trainable leaves together from those of ``start``, as a ``limited_norm``.

    Args:
      params: a tree of arrays.
      start: what ``copy_like`` made of it earlier.
    """
    return limited_norm(map_leaves(_difference_rule, start, read=(params,)))[0]


def _difference_rule(start: jax.Array, p: jax.Array) -> jax.Array:
    return p - start


Key: TypeAlias = Annotated[Any, Convert(_checks.random_key)]
"""An argument that is the start of random numbers: a seed, which is static, or a key of ``jax.random``, a leaf."""


def keys_like(key: Any, tree: PyTree) -> PyTree:
    """A tree of random keys, one for each trainable leaf of ``tree``.

    The key of a leaf is made of ``key`` and of the leaf's path alone: it stays the same whatever other leaves come,
    go or change places. Fold a count into ``key`` first to have other numbers at each step.

    Args:
      key: a seed, or a key of ``jax.random``, typed or not.
      tree: the tree to describe.

    Returns:
      A tree of typed keys; None for the leaves that are not trainable.
    """
    trained = jax.tree.map(lambda leaf: leaf if is_trainable(leaf) else None, tree)
    paths, treedef = jax.tree_util.tree_flatten_with_path(trained)
    if not paths:
        return trained
    names = jnp.asarray(np.stack([_digest(jax.tree_util.keystr(path)) for path, _ in paths]))
    keys = jax.vmap(_fold_in_both, in_axes=(None, 0))(typed_key(key), names)
    return jax.tree.unflatten(treedef, [keys[i] for i in range(len(paths))])


def typed_key(key: Any) -> jax.Array:
    """A key of ``jax.random`` made of a seed, of raw key data or of a typed key."""
    if isinstance(key, int):
        return jax.random.key(key)
    return key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)


def _digest(name: str) -> np.ndarray:
    """64 bits of a name as two words, the same in every process and on every machine."""
    return np.frombuffer(hashlib.blake2b(name.encode(), digest_size=8).digest(), "<u4")


def _fold_in_both(key: jax.Array, words: jax.Array) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(key, words[0]), words[1])


if not TYPE_CHECKING:  # optax's names for arithmetic on trees, which a type checker need not accept
    from jaxopt_lessons._tree_names import attribute as __getattr__  # noqa: F401
