"""Trees of parameters as vectors: all leaves, one after the other, and back.

Half precision is float32 there; a complex number is a pair of real ones. A leaf that is divided along explicit axes of
a mesh is whole in the vector, and divided again in the tree.
"""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec

from jaxopt_lessons import _leaf, tree
from jaxopt_lessons.types import Params, PyTree


def dtype_of(params: Params) -> Any:
    """The dtype of the vector of all parameters: float32, or float64 if a leaf is."""
    return tree.scalar_like(params, 0).dtype


def as_vector(params: Params) -> jax.Array:
    """All leaves of a tree, ``[size]``."""
    dtype = dtype_of(params)
    return jnp.concatenate([jnp.ravel(_leaf.as_real(_whole(leaf), dtype)) for leaf in jax.tree.leaves(params)])


def as_rows(points: PyTree) -> jax.Array:
    """Trees with a first axis, ``[n, ...]``, as a matrix ``[n, size]``."""
    dtype = dtype_of(points)
    rows = [_leaf.as_real(_whole(leaf), dtype).reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(points)]
    return jnp.concatenate(rows, axis=1)


def as_tree(vector: jax.Array, like: Params) -> Params:
    """The tree, in the structure, shapes and dtypes of ``like``, of which ``as_vector`` makes ``vector``."""
    leaves, structure = jax.tree.flatten(like)
    ends = itertools.accumulate((math.prod(tree.real_shape(leaf)) for leaf in leaves), initial=0)
    pieces = [vector[slice(*at)] for at in itertools.pairwise(ends)]
    return jax.tree.unflatten(structure, [_as_leaf(piece, leaf) for piece, leaf in zip(pieces, leaves, strict=True)])


def times(x: jax.Array, y: jax.Array) -> jax.Array:
    """The product of matrices or vectors. Accelerators multiply in fewer digits unless they are told."""
    return jnp.matmul(x, y, precision=jax.lax.Precision.HIGHEST)


def _as_leaf(piece: jax.Array, like: jax.Array) -> jax.Array:
    real = piece.reshape(tree.real_shape(like))
    leaf = _leaf.from_pairs(real, like.dtype) if _leaf.is_complex(like) else real.astype(like.dtype)
    return _divided_as(leaf, like)


def _whole(leaf: jax.Array) -> jax.Array:
    """The leaf undivided, if it is divided along an explicit axis of a mesh: only then does its type say so."""
    sharding = jax.typeof(leaf).sharding
    is_divided = any(axes is not None for axes in sharding.spec)
    return jax.sharding.reshard(leaf, NamedSharding(sharding.mesh, PartitionSpec())) if is_divided else leaf


def _divided_as(leaf: jax.Array, like: jax.Array) -> jax.Array:
    """The leaf divided as another of its shape is, along explicit axes of a mesh."""
    sharding = jax.typeof(like).sharding
    if not any(axes is not None for axes in sharding.spec):
        return leaf
    return jax.sharding.reshard(leaf, sharding if isinstance(like, Tracer) else like.sharding)
