"""Numbers that belong to all leaves of a tree together: norms and distances, without overflow."""

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxopt_lessons import numerics
from jaxopt_lessons._errors import InputError, path_name
from jaxopt_lessons._leaf import trainable
from jaxopt_lessons._map_leaves import map_leaves, sum_leaves
from jaxopt_lessons.types import Params, PyTree


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
    trained = trainable(tree)
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


def global_norm1(tree: PyTree) -> jax.Array:
    """The sum of the absolute values of the finite entries of all leaves together.

    Args:
      tree: a tree of floating-point or complex arrays; a complex number counts as two real ones.
    """
    return sum_leaves(_norm1_rule, tree)


def _norm1_rule(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.abs(numerics.finite(x)))


def distance(params: Params, start: PyTree) -> jax.Array:
    """The Euclidean distance of all trainable leaves together from those of ``start``, as a ``limited_norm``.

    Args:
      params: a tree of arrays.
      start: what ``copy_like`` made of it earlier.
    """
    return limited_norm(map_leaves(_difference_rule, start, read=(params,)))[0]


def _difference_rule(start: jax.Array, p: jax.Array) -> jax.Array:
    return p - start


def all_finite(tree: PyTree) -> jax.Array:
    """Whether no trainable leaf holds an infinite or NaN entry: a scalar bool.

    Args:
      tree: a tree of arrays; leaves that are not trainable do not count.
    """
    return sum_leaves(_not_finite_rule, trainable(tree), combine=jnp.maximum) == 0


def not_finite(tree: PyTree) -> dict[str, int]:
    """Which leaves hold infinite or NaN entries, and how many: to look, on the host, where a run has gone wrong.

    Args:
      tree: a tree of arrays, parameters, gradients or a state; leaves that are not trainable do not count.

    Returns:
      The number of such entries by the path of the leaf; nothing for a leaf without any.

    Raises:
      InputError: the tree is traced; inside a compiled function use ``all_finite``.

    >>> not_finite({"dense": {"kernel": jnp.array([1.0, jnp.nan, jnp.inf]), "bias": jnp.zeros(2)}})
    {'dense/kernel': 2}
    """
    leaves = jax.tree_util.tree_leaves_with_path(trainable(tree))
    if any(isinstance(leaf, Tracer) for _, leaf in leaves):
        raise InputError("not_finite: the tree is traced, and has no numbers yet; inside jit use all_finite.")
    counts = jax.device_get([jnp.sum(~jnp.isfinite(leaf)) for _, leaf in leaves])
    return {path_name(path): int(count) for (path, _), count in zip(leaves, counts, strict=True) if count}


def _not_finite_rule(x: jax.Array) -> jax.Array:
    return jnp.max(jnp.where(jnp.isfinite(x), 0, jnp.ones_like(x)), initial=0)
