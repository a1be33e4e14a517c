"""Mathematics on the leaves of a tree: state that looks like the parameters, masks, norms, and ``map_leaves``."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _checks, numerics
from jaxopt_lessons._leaf import as_real, compute_dtype, dtype_of, is_complex, is_trainable
from jaxopt_lessons._map_leaves import map_leaves
from jaxopt_lessons.types import Mask, Params, PyTree

__all__ = ["full_like", "global_norm", "is_trainable", "map_leaves", "mask_leaves", "zeros_like"]


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
    leaves = [leaf for leaf in jax.tree.leaves(tree) if is_trainable(leaf)]
    dtype = compute_dtype(*map(dtype_of, leaves))
    if not leaves:
        return jnp.zeros([], dtype)
    parts = [as_real(leaf, dtype) for leaf in leaves]
    largest = functools.reduce(jnp.maximum, [jnp.max(jnp.abs(part), initial=0) for part in parts])
    tiny = jnp.finfo(dtype).tiny  # The reciprocal of a larger scale would be subnormal, and flushed to 0.
    scale = jax.lax.stop_gradient(jnp.where(jnp.isfinite(largest), jnp.clip(largest, tiny, 1 / tiny), 1))
    total = functools.reduce(jnp.add, [jnp.sum(jnp.square(part / scale)) for part in parts])
    return jnp.where(total == 0, 0, scale * numerics.root(total))
