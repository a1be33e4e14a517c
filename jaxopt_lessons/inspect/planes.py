"""Planes in the space of the parameters: two directions, and where points lie in them.

A direction is a tree like the parameters. Trees of half precision are calculated in float32; a complex number is a pair
of real ones.

``random``        each filter of a direction is normal random numbers, rescaled to the norm of the parameters' filter
``through``       u = p - center, v = q - center, made orthogonal to each other and of length 1 (Garipov et al. 2018)
``main``          the plane through the center that is nearest to some points: the two first right singular vectors of
                  the matrix with the rows p_i - center. Without their mean taken off, as else the plane would not
                  be the nearest that contains the center
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import tree
from jaxopt_lessons._errors import InputError
from jaxopt_lessons.inspect.vectors import as_rows, as_tree, times
from jaxopt_lessons.train import compilation
from jaxopt_lessons.types import Params, PyTree

Directions = tuple[PyTree, PyTree]

PARALLEL = 1e-6
"""Two directions are parallel if the square of the sine between them is below this: float32 tells no more."""

ON_A_LINE = 1e-6
"""Points are on a line if what is beside it is shorter than this share of what is along it, or of the center."""


def dot(x: PyTree, y: PyTree) -> jax.Array:
    """The inner product of two trees, of complex numbers as of pairs of real ones."""
    total = tree.scalar_like(x, 0)
    for one, other in zip(*map(jax.tree.leaves, (x, y)), strict=True):
        # Not a vdot: of arrays that are divided along an explicit axis of a mesh it does not know how to add up.
        total = total + jnp.sum(jnp.real(jnp.conj(one) * other)).astype(total.dtype)
    return total


def combine(center: Params, directions: Directions, a: jax.Array, b: jax.Array) -> Params:
    """``center + a d1 + b d2``, in the dtypes of ``center``."""

    def leaf(p: jax.Array, d1: jax.Array, d2: jax.Array) -> jax.Array:
        return (p.astype(d1.dtype) + a.astype(d1.dtype) * d1 + b.astype(d1.dtype) * d2).astype(p.dtype)

    return jax.tree.map(leaf, center, *directions)


def difference(point: Params, center: Params) -> PyTree:
    return jax.tree.map(jnp.subtract, tree.widen(point), tree.widen(center))


@compilation.counted()
def gram(directions: Directions) -> jax.Array:
    """The inner products of two directions, ``[2, 2]``."""
    d1, d2 = directions
    return jnp.array([[dot(d1, d1), dot(d1, d2)], [dot(d1, d2), dot(d2, d2)]])


def check_span(directions: Directions, names: tuple[str, str], hint: str = "") -> None:
    """Raises if one of two directions is zero or not finite, or if they are parallel."""
    products = np.asarray(gram(directions), np.float64)
    for name, square in zip(names, np.diag(products), strict=True):
        if not np.isfinite(square) or square == 0:
            length = "0" if square == 0 else "that is not a finite number"
            raise InputError(f"the {name} has length {length}. {hint}".rstrip())
    cosine = products[0, 1] / np.sqrt(products[0, 0]) / np.sqrt(products[1, 1])
    if 1 - cosine**2 < PARALLEL:
        raise InputError(f"the {names[0]} and the {names[1]} are parallel: they span a line, no plane. {hint}".rstrip())


# ---------------------------------------------------------------------------------------------------------------------
# Directions
# ---------------------------------------------------------------------------------------------------------------------


def random(params: Params, key: Any, filter_axis: int) -> Directions:
    """Two random directions whose filters have the norms of those of ``params``."""
    return _random(tree.widen(params), tree.typed_key(key), filter_axis)


@compilation.counted(static_argnums=(2,))
def _random(params: Params, key: jax.Array, filter_axis: int) -> Directions:
    first, second = (
        jax.tree.map(lambda p, key: _random_leaf(p, key, filter_axis), params, tree.keys_like(one, params))
        for one in jax.random.split(key)
    )
    return first, second


def _random_leaf(param: jax.Array, key: jax.Array, filter_axis: int) -> jax.Array:
    noise = jax.random.normal(key, param.shape, param.dtype)
    axes = None
    if param.ndim > 1:
        axes = tuple(axis for axis in range(param.ndim) if axis != filter_axis % param.ndim)
    of_noise = jnp.linalg.norm(jnp.abs(noise).reshape(-1)) if axes is None else _norms(noise, axes)
    of_param = jnp.linalg.norm(jnp.abs(param).reshape(-1)) if axes is None else _norms(param, axes)
    return noise * (of_param / of_noise).astype(param.dtype)


def _norms(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return jnp.sqrt(jnp.sum(jnp.square(jnp.abs(x)), axis=axes, keepdims=True))


@compilation.counted()
def through(center: Params, p: Params, q: Params) -> Directions:
    """Orthogonal directions of length 1 that span the plane of three points; NaN where they span none."""
    u = difference(p, center)
    first = _unit(u)
    v = difference(q, center)
    return first, _unit(_without(_without(v, first), first))  # twice: once leaves what was rounded off


def _unit(x: PyTree) -> PyTree:
    length = jnp.sqrt(dot(x, x))
    return jax.tree.map(lambda leaf: leaf / length.astype(leaf.dtype), x)


def _without(x: PyTree, unit: PyTree) -> PyTree:
    """What of ``x`` is orthogonal to a direction of length 1."""
    along = dot(x, unit)
    return jax.tree.map(lambda leaf, d: leaf - along.astype(d.dtype) * d, x, unit)


@compilation.counted()
def main(points: Params, center: Params) -> tuple[Directions, jax.Array, jax.Array]:
    """The two main directions of points ``[n, ...]`` seen from the center, of length 1.

    Returns:
      The directions, how far the points are along each (the root of the sum of squares), and the norm of the center.
    """
    rows = as_rows(jax.tree.map(lambda p, c: p - c[None], tree.widen(points), tree.widen(center)))
    first, along_first = _main_direction(rows)
    # The second of what is left, and not the second of the same matrix: its square may be lost beside the first's.
    rest = rows - jnp.outer(times(rows, first), first)
    second, along_second = _main_direction(rest)
    second = second - times(second, first) * first
    second = second / jnp.linalg.norm(second)
    like = tree.widen(center)
    directions = as_tree(first, like), as_tree(second, like)
    return directions, jnp.stack([along_first, along_second]), tree.global_norm(center)


def _main_direction(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The first right singular vector of a matrix ``[n, size]``, and its singular value: by the smaller of the two
    matrices of inner products."""
    scale = jnp.max(jnp.abs(rows))
    rows = rows / jnp.where(scale > 0, scale, 1)
    n, size = rows.shape
    if size <= n:
        direction = jnp.linalg.eigh(times(rows.T, rows))[1][:, -1]
    else:
        direction = times(rows.T, jnp.linalg.eigh(times(rows, rows.T))[1][:, -1])
        direction = direction / jnp.linalg.norm(direction)
    return direction, scale * jnp.linalg.norm(times(rows, direction))


# ---------------------------------------------------------------------------------------------------------------------
# Points
# ---------------------------------------------------------------------------------------------------------------------


@compilation.counted()
def projected(
    points: Params, center: Params, directions: Directions, inverse: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Coordinates ``[n, 2]`` of points ``[n, ...]`` in a plane, and how far from it they are, ``[n]``.

    ``inverse`` is that of the matrix of the directions' inner products.
    """

    def one(point: Params) -> tuple[jax.Array, jax.Array]:
        rest = difference(point, center)
        coordinates = jnp.zeros([2], inverse.dtype)
        for _ in range(2):  # The second time of what the first one rounded off.
            along = jnp.stack([dot(d, rest) for d in directions]).astype(inverse.dtype)
            found = times(inverse, along)
            coordinates = coordinates + found
            rest = combine(rest, directions, -found[0], -found[1])
        return coordinates, tree.global_norm(rest)

    return jax.lax.map(one, points)
