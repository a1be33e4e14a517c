"""Random keys for the leaves of a tree, each made of the leaf's path alone."""

import hashlib
from typing import Annotated, Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _checks
from jaxopt_lessons._leaf import trainable
from jaxopt_lessons.types import Convert, PyTree

Key: TypeAlias = Annotated[Any, Convert(_checks.random_key)]
"""An argument that is the start of random numbers: a seed, which is static, or a key of ``jax.random``, a leaf."""


def keys_like(key: Any, tree: PyTree) -> PyTree:
    """A tree of random keys, one for each trainable leaf of ``tree``.

    The key of a leaf is made of ``key`` and of the leaf's path alone: it stays the same whatever other leaves come,
    go or change places. Fold a count into ``key`` first to have other numbers at each step.

    Args:
      key: a seed, or a key of ``jax.random``, typed or not.
      tree: the tree to describe.

    Returns:
      A tree of typed keys; None for the leaves that are not trainable.
    """
    trained = trainable(tree)
    paths, treedef = jax.tree_util.tree_flatten_with_path(trained)
    if not paths:
        return trained
    names = jnp.asarray(np.stack([_digest(jax.tree_util.keystr(path)) for path, _ in paths]))
    keys = jax.vmap(_fold_in_both, in_axes=(None, 0))(typed_key(key), names)
    return jax.tree.unflatten(treedef, [keys[i] for i in range(len(paths))])


def typed_key(key: Any) -> jax.Array:
    """A key of ``jax.random`` made of a seed, of raw key data or of a typed key."""
    if isinstance(key, int):
        return jax.random.key(key)
    return key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)


def _digest(name: str) -> np.ndarray:
    """64 bits of a name as two words, the same in every process and on every machine."""
    return np.frombuffer(hashlib.blake2b(name.encode(), digest_size=8).digest(), "<u4")


def _fold_in_both(key: jax.Array, words: jax.Array) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(key, words[0]), words[1])
