"""Mathematics on the leaves of a tree: state that looks like the parameters, masks, dtypes, norms, ``map_leaves``."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _checks, numerics
from jaxopt_lessons._leaf import compute_dtype, dtype_of, is_complex, is_trainable
from jaxopt_lessons._map_leaves import map_leaves, sum_leaves
from jaxopt_lessons.types import Mask, Params, PyTree, Updates

__all__ = [
    "cast_like",
    "copy_like",
    "full_like",
    "global_norm",
    "is_trainable",
    "map_leaves",
    "mask_leaves",
    "real_shape",
    "sum_leaves",
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


def real_shape(leaf: Any) -> tuple[int, ...]:
    """The shape in which a rule sees a leaf: a complex number is a pair of real ones along a last axis."""
    return (*np.shape(leaf), 2) if is_complex(leaf) else np.shape(leaf)


def widen(tree: PyTree) -> PyTree:
    """The tree with its half-precision leaves in float32; every other leaf as it is."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if _is_half(leaf) else leaf, tree)


def has_half_precision(tree: PyTree) -> bool:
    """Whether ``widen`` would change anything."""
    return any(map(_is_half, jax.tree.leaves(tree)))


def _is_half(leaf: Any) -> bool:
    return is_trainable(leaf) and jnp.finfo(dtype_of(leaf)).bits < 32


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
    if callable(mask) and jax.tree_util.all_leaves([mask]):
        if required_arguments(mask) == 2:
            return jax.tree_util.tree_map_with_path(
                lambda path, leaf: bool(mask(_checks.path_name(path), leaf)) if is_trainable(leaf) else None, params
            )
        mask = mask(params)
    try:
        return jax.tree.map(
            lambda chosen, subtree: jax.tree.map(
                lambda leaf: _as_bool(chosen) if is_trainable(leaf) else None, subtree
            ),
            mask,
            params,
        )
    except (ValueError, TypeError, KeyError) as error:
        if isinstance(error, _checks.InputError):
            raise
        _checks.different_trees("mask", mask, "params", params)


def _as_bool(chosen: Any) -> bool:
    if not isinstance(chosen, (bool, np.bool_)):
        raise _checks.InputError(f"a mask has bools as leaves; got {_checks.describe(chosen)}.")
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
    trained = jax.tree.map(lambda leaf: leaf if is_trainable(leaf) else None, tree)
    largest = sum_leaves(_largest_rule, trained, combine=jnp.maximum)
    tiny = jnp.finfo(largest.dtype).tiny  # The reciprocal of a larger scale would be subnormal, and flushed to 0.
    scale = jax.lax.stop_gradient(jnp.where(jnp.isfinite(largest), jnp.clip(largest, tiny, 1 / tiny), 1))
    total = sum_leaves(_scaled_square_rule, trained, scale=scale)
    return jnp.where(total == 0, 0, scale * numerics.root(total))


def _largest_rule(x: jax.Array) -> jax.Array:
    return jnp.max(jnp.abs(x), initial=0)


def _scaled_square_rule(x: jax.Array, scale: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(x / scale))
