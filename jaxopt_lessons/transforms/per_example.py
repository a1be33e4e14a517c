"""Clipping of each example's gradient before they are added up: what bounds one example's influence.

    s = sum over examples of g_i * min(1, C / |g_i|)                      per_example_global_norm_clip
    s = the same, leaf by leaf, with limits whose squares add up to C^2   per_example_layer_norm_clip

``g_i`` are the gradients of single examples, arrays with a first axis of examples, as ``jax.vmap(jax.grad(loss),
in_axes=(None, 0))`` gives them. No example then changes the sum by more than ``C``, which is what differentially
private training adds its noise to, and an outlier among the examples cannot decide a step alone. These are functions,
not transformations: the trees that come out do not have the shapes of those that went in.

Norms are calculated in float32 without overflow; an example of zeros stays zeros at ``C = 0``. An example with an
infinite or NaN entry makes the sum NaN, for it cannot be bounded.

Papers: Abadi et al. 2016, arXiv 1607.00133; by layers McMahan et al. 2017, arXiv 1710.06963.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _errors, _tree_checks, numerics, tree
from jaxopt_lessons.types import Number, PyTree


def per_example_global_norm_clip(grads: PyTree, l2_norm_clip: Number) -> tuple[PyTree, jax.Array]:
    """The sum of gradients of single examples, each scaled down to a global norm of at most ``l2_norm_clip``.

    Args:
      grads: a tree of arrays, all with a first axis of the same number of examples.
      l2_norm_clip: the largest norm of one example over all leaves, in ``[0, inf]``.

    Returns:
      ``(clipped_sum, num_clipped)``: the sum, in the dtypes of ``grads``, and how many examples were scaled down.

    Raises:
      InputError: the leaves have no first axis in common.

    >>> grads = jnp.array([[3.0, 4.0], [0.0, 1.0]])
    >>> per_example_global_norm_clip(grads, 2.5)
    (Array([1.5, 3. ], dtype=float32), Array(1, dtype=int32))
    """
    with _errors.stage("per_example_global_norm_clip"):
        _tree_checks.examples(grads)
        return clipped_sum(grads, l2_norm_clip)


def per_example_layer_norm_clip(
    grads: PyTree, global_l2_norm_clip: Number, uniform: bool = True
) -> tuple[PyTree, PyTree]:
    """The sum of gradients of single examples, each of whose leaves is scaled down to a norm of its own.

    Args:
      grads: a tree of arrays, all with a first axis of the same number of examples.
      global_l2_norm_clip: the largest norm of one example over all leaves, in ``[0, inf]``.
      uniform: True gives each of ``k`` leaves the limit ``global_l2_norm_clip / sqrt(k)``; False shares its square out
        by the numbers of entries.

    Returns:
      ``(clipped_sum, num_clipped)``: the sum, in the dtypes of ``grads``, and for each leaf how many examples were
      scaled down.

    Raises:
      InputError: the leaves have no first axis in common.

    >>> grads = {"w": jnp.array([[3.0, 4.0], [0.0, 1.0]]), "b": jnp.array([1.0, 2.0])}
    >>> per_example_layer_norm_clip(grads, 2.0)[1]  # norms of 5 and 1, of 1 and 2, are limited to 2 / sqrt(2)
    {'b': Array(1, dtype=int32), 'w': Array(1, dtype=int32)}
    """
    with _errors.stage("per_example_layer_norm_clip"):
        _tree_checks.examples(grads)
        leaves, treedef = jax.tree.flatten(grads)
        sizes = [1 if uniform else math.prod(leaf.shape[1:]) for leaf in leaves]
        limits = [numerics.as_float(global_l2_norm_clip) * math.sqrt(size / max(sum(sizes), 1)) for size in sizes]
        pairs = [clipped_sum(leaf, limit) for leaf, limit in zip(leaves, limits, strict=True)]
        sums, counts = zip(*pairs, strict=True) if pairs else ((), ())
        return jax.tree.unflatten(treedef, sums), jax.tree.unflatten(treedef, counts)


def clipped_sum(grads: PyTree, limit: Any) -> tuple[PyTree, jax.Array]:
    """The sum over examples, each scaled down to a norm over all leaves of at most ``limit``, and how many were."""
    if not jax.tree.leaves(grads):
        return grads, jnp.zeros([], jnp.int32)
    length, scale = jax.vmap(tree.scaled_global_norm)(grads)
    limit = jnp.asarray(limit).astype(length.dtype)
    is_long = length > limit / scale
    factors = jnp.where(is_long, limit / numerics.divisor(length) / scale, 1)
    factors = jnp.where(jnp.isfinite(length), factors, jnp.nan)

    def total(leaf: Any) -> Any:
        if not tree.is_trainable(leaf):
            return leaf[0]
        leaf = jnp.asarray(leaf)
        wide = tree.widen(leaf)
        weights = jnp.reshape(factors, (-1,) + (1,) * (wide.ndim - 1)).astype(wide.dtype)
        return jnp.sum(weights * wide, axis=0).astype(leaf.dtype)

    return jax.tree.map(total, grads), jnp.sum(is_long)
