"""Arithmetic on trees under the names of ``optax.tree``, for scripts and transformations written with them.

``jl.tree`` answers to these names, ``jl.tree.add(x, y)``, without listing them: new code writes ``jax.tree.map``.
"""

import functools
import operator
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics
from jaxopt_lessons._leaf import compute_dtype
from jaxopt_lessons.types import PyTree


def add(x: PyTree, y: PyTree, *others: PyTree) -> PyTree:
    return jax.tree.map(lambda *leaves: functools.reduce(operator.add, leaves), x, y, *others)


def sub(x: PyTree, y: PyTree) -> PyTree:
    return jax.tree.map(operator.sub, x, y)


def mul(x: PyTree, y: PyTree) -> PyTree:
    return jax.tree.map(operator.mul, x, y)


def div(x: PyTree, y: PyTree) -> PyTree:
    return jax.tree.map(operator.truediv, x, y)


def scale(scalar: Any, tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: scalar * leaf, tree)


def add_scale(x: PyTree, scalar: Any, y: PyTree) -> PyTree:
    """``x + scalar * y`` in the dtypes of ``x``."""
    return jax.tree.map(lambda a, b: a + (scalar * b).astype(a.dtype), x, y)


def where(condition: Any, x: PyTree, y: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), x, y)


def clip(tree: PyTree, min_value: Any = None, max_value: Any = None) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.clip(leaf, min_value, max_value), tree)


def cast(tree: PyTree, dtype: Any) -> PyTree:
    return tree if dtype is None else jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


def real(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.real, tree)


def conj(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.conj, tree)


def ones_like(tree: PyTree, dtype: Any = None) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.ones_like(leaf, dtype=dtype), tree)


def allclose(a: PyTree, b: PyTree, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> jax.Array:
    close = jax.tree.map(lambda x, y: jnp.allclose(x, y, rtol, atol, equal_nan), a, b)
    return jnp.all(jnp.array(jax.tree.leaves(close), bool))


def total(tree: PyTree) -> Any:
    return sum(map(jnp.sum, jax.tree.leaves(tree)))


def largest(tree: PyTree) -> jax.Array:
    return jnp.max(jnp.array([jnp.max(leaf) for leaf in jax.tree.leaves(tree)]))


def smallest(tree: PyTree) -> jax.Array:
    return jnp.min(jnp.array([jnp.min(leaf) for leaf in jax.tree.leaves(tree)]))


def size(tree: PyTree) -> int:
    return sum(jnp.size(leaf) for leaf in jax.tree.leaves(tree))


def vdot(x: PyTree, y: PyTree) -> Any:
    return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, x, y)))


def norm(tree: PyTree, ord: int | float | str | None = None, squared: bool = False) -> jax.Array:  # noqa: A002
    """The 2-norm (None or 2), the 1-norm or the largest entry (inf) of all leaves together, or its square."""
    sizes = [jnp.abs(leaf) for leaf in jax.tree.leaves(tree)]
    wide = compute_dtype(*(leaf.dtype for leaf in sizes))
    if ord in (None, 2):
        length = numerics.norm(jnp.array([numerics.norm(leaf.astype(wide)) for leaf in sizes], wide))
    elif ord == 1:
        length = jnp.sum(jnp.array([jnp.sum(leaf.astype(wide)) for leaf in sizes], wide))
    elif ord in (float("inf"), "inf"):
        length = jnp.max(jnp.array([jnp.max(leaf, initial=0) for leaf in sizes], wide), initial=0)
    else:
        raise ValueError(f"norm: ord must be one of None, 1, 2 and inf; got {ord!r}.")
    return length**2 if squared else length


def split_key_like(rng_key: jax.Array, target_tree: PyTree) -> PyTree:
    leaves, treedef = jax.tree.flatten(target_tree)
    return jax.tree.unflatten(treedef, list(jax.random.split(rng_key, len(leaves))))


def random_like(
    rng_key: jax.Array,
    target_tree: PyTree,
    sampler: Callable[[jax.Array, Any, Any], jax.Array] = jax.random.normal,
    dtype: Any = None,
) -> PyTree:
    keys = split_key_like(rng_key, target_tree)
    return jax.tree.map(lambda leaf, key: sampler(key, leaf.shape, dtype or leaf.dtype), target_tree, keys)


def bias_correction(moment: PyTree, decay: Any, count: Any) -> PyTree:
    return jax.tree.map(lambda m: m / (1 - decay**count).astype(m.dtype), moment)


def update_moment(updates: PyTree, moments: PyTree, decay: Any, order: int) -> PyTree:
    return jax.tree.map(lambda g, m: (1 - decay) * g**order + decay * m, updates, moments)


def update_moment_per_elem_norm(updates: PyTree, moments: PyTree, decay: Any, order: int) -> PyTree:
    return jax.tree.map(lambda g, m: (1 - decay) * jnp.abs(g) ** order + decay * m, updates, moments)


def update_infinity_moment(updates: PyTree, moments: PyTree, decay: Any, eps: Any) -> PyTree:
    return jax.tree.map(lambda g, m: jnp.maximum(jnp.abs(g) + eps, decay * m), updates, moments)


def get(tree: PyTree, key: str, default: Any = None) -> Any:
    """What stands in the field, or under the key, of this name in a state; ``default`` if there is none.

    Raises:
      KeyError: there are several.
    """
    found = list(_named(tree, key))
    if len(found) > 1:
        raise KeyError(f"Found {len(found)} values named {key!r} in the tree.")
    return found[0] if found else default


def replace(tree: PyTree, /, **values: Any) -> PyTree:
    """``tree`` with new values in all fields, and under all keys, of these names.

    Raises:
      KeyError: there is none.
    """
    missing = [key for key in values if not list(_named(tree, key))]
    if missing:
        raise KeyError(f"Found no values named {missing[0]!r} in the tree.")
    return _replaced(tree, values)


def _items(node: Any) -> list[tuple[Any, Any]]:
    if isinstance(node, dict):
        return list(node.items())
    if isinstance(node, (tuple, list)):
        return list(zip(getattr(node, "_fields", range(len(node))), node, strict=True))
    return []


def _named(node: Any, key: str) -> Iterator[Any]:
    for name, value in _items(node):
        if name == key:
            yield value
        else:
            yield from _named(value, key)


def _replaced(node: Any, values: dict[str, Any]) -> Any:
    new = {name: values[name] if name in values else _replaced(value, values) for name, value in _items(node)}
    if isinstance(node, dict):
        return type(node)(new)
    if hasattr(node, "_fields"):
        return type(node)(**new)
    return type(node)(new.values()) if isinstance(node, (tuple, list)) else node


NAMES = {
    "sum": total,
    "max": largest,
    "min": smallest,
    "set": replace,
    **{
        function.__name__: function
        for function in (
            *(add, add_scale, allclose, bias_correction, cast, clip, conj, div, get, mul, norm, ones_like),
            *(random_like, real, scale, size, split_key_like, sub, update_infinity_moment, update_moment),
            *(update_moment_per_elem_norm, vdot, where),
        )
    },
}
"""By the names they have in ``optax.tree``."""


def attribute(name: str) -> Any:
    """What ``jl.tree.<name>`` is for these names."""
    if name not in NAMES:
        raise AttributeError(f"module 'jaxopt_lessons.tree' has no attribute {name!r}")
    return NAMES[name]
