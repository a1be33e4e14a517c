"""All leaves as one vector.

    u = unflatten(inner(flatten(g)))

The inner transformation sees one vector of float32 (float64 if a leaf is), complex leaves as pairs of real numbers, and
so does its state; the updates come back in the shapes and dtypes of the parameters. What an algorithm does to a matrix
it cannot do any more, and a norm of a leaf becomes the global norm. It is for methods that are written for vectors, and
for their tests. It does not make anything faster: the copies cost more than the calls that they save.

State: that of the inner transformation. It fits all parameters of the same total size, and is not sharded as they are.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _checks, _leaf, _tree_checks, tree
from jaxopt_lessons.core import Functions, Part, Transformation, gradient_transformation
from jaxopt_lessons.types import Params, PyTree, State, Updates


@gradient_transformation
def flatten(inner: Transformation) -> Any:
    """Shows a transformation all leaves as one vector.

    Args:
      inner: the transformation.

    >>> tx = flatten(jl.scale(2.0))
    >>> params = {"a": jnp.ones(2), "b": jnp.ones(())}
    >>> tx.update(params, tx.init(params), params)[0]
    {'a': Array([2., 2.], dtype=float32), 'b': Array(2., dtype=float32)}
    """
    _checks.rounds_last("flatten", inner.name, inner.takes_half_precision)

    def init(params: Params) -> State:
        for leaf in jax.tree.leaves(params):
            _tree_checks.has_numbers(leaf)
        return inner.init(_vector(tree.trainable(params)))

    def update(updates: Updates, state: State, params: Params | None = None, **extra: Any) -> Any:
        tree.check_updates(updates, params)
        reference = updates if params is None else tree.pick(params, tree.mask_leaves(True, updates))
        dtype = _vector_dtype((updates, reference))
        vector = None if params is None else _vector(reference, dtype)
        flat, state = inner.update(_vector(updates, dtype, reference), state, vector, **extra)
        return _tree(flat, reference), state

    def parts(state: State) -> list[Part]:
        return [Part(inner.name, inner, state)]

    def eval_params(state: State, params: Params) -> Params:
        trained = tree.trainable(params)
        return tree.merge(params, _tree(inner.eval_params(state, _vector(trained)), trained))

    return Functions(init, update, parts, eval_params)


def _vector_dtype(trained: PyTree) -> np.dtype:
    return _leaf.compute_dtype(*map(_leaf.dtype_of, jax.tree.leaves(trained)))


def _vector(trained: PyTree, dtype: Any = None, like: PyTree | None = None) -> jax.Array:
    """All leaves, complex ones as pairs, and real ones too where that of ``like`` is complex."""
    dtype = dtype or _vector_dtype(trained)
    leaves = jax.tree.leaves(trained)
    pieces = [
        (_leaf.as_pairs if _leaf.is_complex(target) else _leaf.as_real)(leaf, dtype).reshape(-1)
        for leaf, target in zip(leaves, leaves if like is None else jax.tree.leaves(like), strict=True)
    ]
    return jnp.concatenate(pieces) if pieces else jnp.zeros([0], dtype)


def _tree(vector: jax.Array, like: PyTree) -> PyTree:
    """The pieces of a vector in the structure, the shapes and the dtypes of a tree."""
    leaves, treedef = jax.tree.flatten(like)
    if not leaves:
        return like
    shapes = [tree.real_shape(leaf) for leaf in leaves]
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])
    pieces = [piece.reshape(shape) for piece, shape in zip(jnp.split(vector, ends[:-1]), shapes, strict=True)]
    outputs = [
        (_leaf.from_pairs if _leaf.is_complex(leaf) else _leaf.as_real)(piece, _leaf.dtype_of(leaf))
        for piece, leaf in zip(pieces, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, outputs)
