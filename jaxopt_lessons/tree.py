"""Mathematics on the leaves of a tree: state that looks like the parameters, masks, dtypes, norms, ``map_leaves``."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _tree_checks
from jaxopt_lessons._labels import label_leaves, mask_leaves, merge, named_leaves, pick, required_arguments
from jaxopt_lessons._leaf import StateDtype, compute_dtype, dtype_of, is_complex, is_trainable, trainable
from jaxopt_lessons._map_leaves import check_updates, map_leaves, sum_leaves
from jaxopt_lessons._norms import (
    all_finite,
    distance,
    global_norm,
    global_norm1,
    limited_norm,
    not_finite,
    scaled_global_norm,
)
from jaxopt_lessons._random_keys import Key, keys_like, typed_key
from jaxopt_lessons.types import Params, PyTree, Updates

__all__ = [
    "Key",
    "StateDtype",
    "all_finite",
    "cast_like",
    "check_updates",
    "copy_like",
    "distance",
    "full_like",
    "global_norm",
    "global_norm1",
    "is_trainable",
    "keys_like",
    "label_leaves",
    "limited_norm",
    "map_leaves",
    "mask_leaves",
    "merge",
    "named_leaves",
    "not_finite",
    "pick",
    "real_shape",
    "reduced_like",
    "required_arguments",
    "scalar_like",
    "scaled_global_norm",
    "select",
    "states_like",
    "sum_leaves",
    "trainable",
    "typed_key",
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
        _tree_checks.has_numbers(leaf)
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


if not TYPE_CHECKING:  # optax's names for arithmetic on trees, which a type checker need not accept
    from jaxopt_lessons._tree_names import attribute as __getattr__  # noqa: F401
