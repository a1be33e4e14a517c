"""Projections: the nearest point, in the Euclidean sense, of a set that parameters must stay in.

    projection_non_negative    x >= 0                        projection_l1_ball         sum |x| <= scale
    projection_box             lower <= x <= upper           projection_l1_sphere       sum |x| = scale
    projection_hypercube       0 <= x <= scale               projection_l2_ball         |x| <= scale
    projection_linf_ball       |x_i| <= scale                projection_l2_sphere       |x| = scale
    projection_simplex         x >= 0, sum x = scale         projection_hyperplane      <a, x> = b
    projection_vector          x = t a                       projection_halfspace       <a, x> <= b

Names, arguments and numbers are those of ``optax.projections``. A set is one of all leaves of a tree together: the sum
is over all of them. Leaves that are not trainable stay; complex ones are refused, except where only their norm counts.
Half-precision leaves are calculated in float32. Of several nearest points (a sphere seen from its center) zero stays
zero.

``keep_params_in`` makes an optimizer a projected one. Duchi et al. 2008 (simplex and l1 ball).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.types import NonNegative, PyTree

__all__ = [
    "projection_box",
    "projection_halfspace",
    "projection_hypercube",
    "projection_hyperplane",
    "projection_l1_ball",
    "projection_l1_sphere",
    "projection_l2_ball",
    "projection_l2_sphere",
    "projection_linf_ball",
    "projection_non_negative",
    "projection_simplex",
    "projection_vector",
]


def clip_rule(x: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
    return jnp.clip(x, lower, upper)


def multiply_rule(x: jax.Array, factor: jax.Array) -> jax.Array:
    return factor * x


def multiple_rule(x: jax.Array, a: jax.Array, factor: jax.Array) -> jax.Array:
    return factor * a


def step_rule(x: jax.Array, a: jax.Array, length: jax.Array) -> jax.Array:
    return x + length * a


def product_rule(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.sum(x * y)


def projection_non_negative(tree: PyTree) -> PyTree:
    """The nearest tree without negative entries: ``max(x, 0)``.

    Args:
      tree: the tree to project.
    """
    return projection_box(tree, 0.0, jnp.inf)


def projection_box(tree: PyTree, lower: Any, upper: Any) -> PyTree:
    """The nearest tree with ``lower <= x <= upper``.

    Args:
      tree: the tree to project.
      lower: a number, or a tree of numbers or arrays like ``tree``.
      upper: the same.

    >>> projection_box(jnp.array([-1.0, 0.3, 4.0]), 0.0, 1.0)
    Array([0. , 0.3, 1. ], dtype=float32)
    """
    return _map(clip_rule, tree, _like(lower, tree), _like(upper, tree))


def projection_hypercube(tree: PyTree, scale: Any = 1.0) -> PyTree:
    """The nearest tree with ``0 <= x <= scale``.

    Args:
      tree: the tree to project.
      scale: a number, or a tree of numbers or arrays like ``tree``.
    """
    return projection_box(tree, 0.0, scale)


def projection_linf_ball(tree: PyTree, scale: NonNegative = 1.0) -> PyTree:
    """The nearest tree with ``-scale <= x <= scale``.

    Args:
      tree: the tree to project.
      scale: the largest absolute value.
    """
    return projection_box(tree, -scale, scale)


def projection_simplex(tree: PyTree, scale: NonNegative = 1.0) -> PyTree:
    """The nearest tree without negative entries whose sum is ``scale``: probabilities, by default.

    ``max(x - theta, 0)`` with the ``theta`` that gives the sum, found by sorting.

    Args:
      tree: the tree to project.
      scale: the sum.

    >>> projection_simplex(jnp.array([0.6, 0.8, -1.0])).round(3)
    Array([0.4, 0.6, 0. ], dtype=float32)
    """
    vector, restore = _as_vector(tree)
    return restore(_onto_simplex(vector, scale))


def projection_l1_ball(tree: PyTree, scale: NonNegative = 1.0) -> PyTree:
    """The nearest tree with ``sum |x| <= scale``; it has zeros if it had to move.

    Args:
      tree: the tree to project.
      scale: the radius.
    """
    vector, restore = _as_vector(tree)
    inside = jnp.sum(jnp.abs(vector)) <= scale
    return restore(jnp.where(inside, vector, _onto_l1_sphere(vector, scale)))


def projection_l1_sphere(tree: PyTree, scale: NonNegative = 1.0) -> PyTree:
    """The nearest tree with ``sum |x| = scale``.

    Args:
      tree: the tree to project.
      scale: the radius.
    """
    vector, restore = _as_vector(tree)
    return restore(_onto_l1_sphere(vector, scale))


def projection_l2_ball(tree: PyTree, scale: NonNegative = 1.0) -> PyTree:
    """The nearest tree with a Euclidean norm of at most ``scale``.

    Args:
      tree: the tree to project.
      scale: the radius.

    >>> projection_l2_ball(jnp.array([3.0, 4.0]))
    Array([0.6, 0.8], dtype=float32)
    """
    norm = _norm(tree)
    return _multiply(tree, jnp.where(norm > scale, scale / jnp.where(norm > scale, norm, 1), 1))


def projection_l2_sphere(tree: PyTree, scale: NonNegative = 1.0) -> PyTree:
    """The nearest tree with a Euclidean norm of ``scale``.

    Args:
      tree: the tree to project.
      scale: the radius.
    """
    norm = _norm(tree)
    return _multiply(tree, jnp.where(norm == 0, 1, scale / jnp.where(norm == 0, 1, norm)))


def projection_hyperplane(x: PyTree, a: PyTree, b: Any) -> PyTree:
    """The nearest tree with ``<a, x> = b``.

    Args:
      x: the tree to project.
      a: the normal, a tree like ``x``, not zero.
      b: a number.
    """
    return _map(step_rule, x, a, length=(b - _dot(x, a)) / _dot(a, a))


def projection_halfspace(x: PyTree, a: PyTree, b: Any) -> PyTree:
    """The nearest tree with ``<a, x> <= b``.

    Args:
      x: the tree to project.
      a: the normal, a tree like ``x``, not zero.
      b: a number.
    """
    return _map(step_rule, x, a, length=jnp.minimum((b - _dot(x, a)) / _dot(a, a), 0))


def projection_vector(x: PyTree, a: PyTree) -> PyTree:
    """The nearest multiple of a tree.

    Args:
      x: the tree to project.
      a: the direction, a tree like ``x``, not zero.
    """
    return _map(multiple_rule, x, a, factor=_dot(x, a) / _dot(a, a))


def same_rule(x: jax.Array) -> jax.Array:
    return x


def _map(rule: Any, x: PyTree, *others: PyTree, **hyper: Any) -> PyTree:
    read = tuple(map(tree.trainable, others))
    return tree.merge(x, tree.map_leaves(rule, tree.trainable(x), read=read, real_only=True, **hyper))


def _multiply(x: PyTree, factor: jax.Array) -> PyTree:
    return tree.merge(x, tree.map_leaves(multiply_rule, tree.trainable(x), factor=factor))


def _norm(x: PyTree) -> jax.Array:
    return tree.global_norm(x)


def _dot(x: PyTree, y: PyTree) -> jax.Array:
    return tree.sum_leaves(product_rule, tree.trainable(x), tree.trainable(y))


def _like(bound: Any, x: PyTree) -> PyTree:
    """``bound`` for each leaf of ``x``, if it is a number."""
    if jax.tree_util.all_leaves([bound]) and np.ndim(bound) == 0:
        return jax.tree.map(lambda leaf: numerics.as_float(bound), tree.trainable(x))
    return jax.tree.map(jnp.asarray, bound)


def _as_vector(x: PyTree) -> tuple[jax.Array, Callable[[jax.Array], PyTree]]:
    """All trainable leaves in one vector, and the way back."""
    leaves, structure = jax.tree.flatten(tree.widen(_map(same_rule, tree.trainable(x))))
    dtype = jnp.result_type(tree.scalar_like(x, 0))
    ends = np.cumsum([np.size(leaf) for leaf in leaves])[:-1]

    def restore(vector: jax.Array) -> PyTree:
        pieces = jnp.split(vector, ends) if leaves else []
        shaped = [piece.reshape(np.shape(leaf)) for piece, leaf in zip(pieces, leaves, strict=True)]
        return tree.merge(x, tree.cast_like(jax.tree.unflatten(structure, shaped), tree.trainable(x)))

    vector = [jnp.ravel(leaf).astype(dtype) for leaf in leaves]
    return jnp.concatenate([jnp.zeros(0, dtype), *vector]), restore


def _onto_simplex(x: jax.Array, scale: Any) -> jax.Array:
    if not x.size:
        return x
    scale = jnp.asarray(scale).astype(x.dtype)
    x = x - jnp.max(x)  # The projection does not see it, and the sums are of smaller numbers.
    descending = -jnp.sort(-x)
    excess = jnp.cumsum(descending) - scale
    number = jnp.arange(1, x.size + 1)
    kept = jnp.maximum(jnp.sum(descending * number.astype(x.dtype) > excess), 1)
    return jnp.maximum(x - excess[kept - 1] / kept.astype(x.dtype), 0)


def _onto_l1_sphere(x: jax.Array, scale: Any) -> jax.Array:
    return jnp.sign(x) * _onto_simplex(jnp.abs(x), scale)
