"""What the wrappers for half-precision parameters share: the leaves that concern them, and a rule applied to those."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _tree_checks, rounding, tree
from jaxopt_lessons.types import Params, PyTree, Updates

_DTYPES = (jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float16))


def half_leaves(params: Params) -> PyTree:
    """``params`` with None in the place of every leaf that is not bfloat16 or float16."""
    return jax.tree.map(lambda leaf: leaf if getattr(leaf, "dtype", None) in _DTYPES else None, params)


def replace_half_leaves(params: Params, halves: PyTree) -> Params:
    """``params`` with the leaves of ``halves`` in the place of the half-precision ones."""
    try:
        return jax.tree.map(lambda leaf, half: leaf if half is None else half, tree.widen(params), halves)
    except (ValueError, TypeError, KeyError):
        _tree_checks.different_trees("state", halves, "params", params)


def map_half_leaves(
    rule: Callable[..., Any],
    updates: Updates,
    *states: PyTree,
    params: Params,
    read: Sequence[PyTree] = (),
    **hyper: Any,
) -> tuple[Any, ...]:
    """Applies a rule to the half-precision leaves; the other updates stay as they are.

    Args:
      rule: ``rule(u, *state_leaves, p, *read_leaves, dtype=..., **hyper)``, as one of ``tree.map_leaves``, with the
        name of the parameter's dtype. The update that it returns must be a number of that dtype.
      updates: steps in float32.
      *states: trees as ``half_leaves`` makes them, which the rule returns anew.
      params: the parameters.
      read: further such trees, which the rule only reads.
      **hyper: as in ``tree.map_leaves``.

    Returns:
      ``(updates, *states)``, the updates in the dtypes of ``params``.
    """
    updates = tree.cast_like(updates, tree.widen(params))
    halves = half_leaves(params)
    paths = dict(jax.tree_util.tree_leaves_with_path(halves))
    chosen = jax.tree_util.tree_map_with_path(lambda path, u: u if path in paths else None, updates)
    chosen, *new_states = map_by_dtype(rule, chosen, *states, halves=halves, read=(halves, *read), **hyper)
    return tree.cast_like(tree.merge(updates, chosen), params), *new_states


def map_by_dtype(rule: Callable[..., Any], leaves: PyTree, *states: PyTree, halves: PyTree, **others: Any) -> list[Any]:
    """``tree.map_leaves``, whose rule gets the name of the dtype of the leaf of ``halves`` too, as ``dtype``."""
    dtypes, trees = jax.tree.map(lambda leaf: leaf.dtype.name, halves), [leaves, *states]
    for dtype in sorted(set(jax.tree.leaves(dtypes))):
        where = jax.tree.map(lambda name, dtype=dtype: name == dtype, dtypes)
        mapped = tree.map_leaves(rule, *trees, where=where, dtype=dtype, **others)
        trees = list(mapped) if states else [mapped]
    return trees


def step_between(p: jax.Array, new: jax.Array, dtype: str) -> tuple[jax.Array, jax.Array]:
    """The step from ``p`` to ``new``, two numbers of ``dtype``, as such a number; and where ``p`` plus the step lands.

    That is ``new`` itself if the two are within a factor of two of each other: their difference is then a number of
    ``dtype`` (Sterbenz). If not, as when a weight turns its sign, ``new`` may be missed by half a unit of the step.
    """
    step = rounding.round_nearest(new - p, dtype)
    return step, rounding.round_nearest(p + step, dtype)


def random_step(p: jax.Array, w: jax.Array, uniform: jax.Array, dtype: str) -> jax.Array:
    """A step from ``p``, a number of ``dtype``, to one of two such numbers around ``w``, whose mean is ``w``.

    Args:
      p: where the step starts.
      w: where it should lead on average.
      uniform: random numbers in ``[0, 1)``.
      dtype: the name of the dtype.
    """
    below = rounding.round_down(rounding.round_down(w, dtype) - p, dtype)
    above = rounding.round_up(rounding.round_up(w, dtype) - p, dtype)
    low, high = (rounding.round_nearest(p + step, dtype) for step in (below, above))  # low <= w <= high
    return jnp.where(uniform * (high - low) < w - low, above, below)
