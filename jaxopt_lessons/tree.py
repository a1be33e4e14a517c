"""Mathematics on the leaves of a tree.

``map_leaves`` is the one way an update rule reaches the leaves. It takes care of everything that is not the rule:
structure and shapes are compared, arithmetic is float32 for half-precision leaves, results get the dtypes they must
have, complex leaves are treated as pairs of real numbers, and the rule is traced once for each distinct shape and
dtype, not once for each leaf.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _checks, numerics
from jaxopt_lessons.types import Mask, Params, PyTree, Updates

__all__ = ["compute_dtype", "full_like", "global_norm", "is_trainable", "map_leaves", "mask_leaves", "zeros_like"]


def is_trainable(leaf: Any) -> bool:
    """Whether a leaf is a floating-point or complex array, or a Python float: something with a gradient."""
    dtype = getattr(leaf, "dtype", None)
    if dtype is None:
        return isinstance(leaf, (float, complex))
    return jnp.issubdtype(dtype, np.inexact)


@functools.lru_cache(maxsize=1024)
def compute_dtype(*dtypes: Any) -> np.dtype:
    """The real dtype to calculate in: float64 if any of the dtypes is 64 bits to the number, else float32."""
    wide = any(jnp.finfo(dtype).bits == 64 for dtype in dtypes if jnp.issubdtype(dtype, np.inexact))
    return np.dtype(np.float64 if wide else np.float32)


# ---------------------------------------------------------------------------------------------------------------------
# State that looks like the parameters
# ---------------------------------------------------------------------------------------------------------------------


def full_like(params: Params, fill: Any, dtype: Any = None) -> PyTree:
    """A tree of constants with the structure, shapes and shardings of ``params``.

    Leaves that are not trainable become None. The dtype is that of the parameter, but float32 for half precision: an
    average with decay 0.999 does not move in bfloat16. ``dtype`` overrides it. A complex leaf stays complex and gets
    ``fill`` in both parts.
    """

    def full(leaf: Any) -> Any:
        if not is_trainable(leaf):
            return None
        kept = jnp.dtype(dtype) if dtype is not None else compute_dtype(_dtype(leaf))
        value = jnp.asarray(fill).astype(kept)
        if jnp.issubdtype(_dtype(leaf), np.complexfloating):  # a pair of real numbers, each of them filled
            part = value.astype(compute_dtype(kept))
            value = jax.lax.complex(part, part)
        return jnp.full_like(leaf, value, dtype=value.dtype)

    return jax.tree.map(full, params)


def zeros_like(params: Params, dtype: Any = None) -> PyTree:
    """``full_like`` with zeros."""
    return full_like(params, 0, dtype)


# ---------------------------------------------------------------------------------------------------------------------
# One rule, every leaf
# ---------------------------------------------------------------------------------------------------------------------


def map_leaves(
    rule: Callable[..., Any],
    updates: Updates,
    *states: PyTree,
    params: Params | None = None,
    read: Sequence[PyTree] = (),
    where: PyTree | None = None,
    states_have_shape: bool = True,
    **hyper: Any,
) -> Any:
    """Applies an update rule to every leaf of ``updates``.

    Equivalent, for one leaf, to::

        u, *new_states = rule(g, *states, *read, **hyper)

    Args:
      rule: ``rule(g, *state_leaves, *read_leaves, **hyper)``, returning ``u`` or ``(u, *new_state_leaves)`` with the
        shapes that came in. Its arguments are float32 arrays, or float64 if one of the leaves is. Define it at the
        top of a module and it is traced once for each shape in the life of the process.
      updates: the gradients, or the output of an earlier transformation; None is structure.
      *states: trees with the structure of ``updates``, which the rule returns anew, in the same shapes and dtypes.
      params: if given, the new updates get the dtypes of its leaves, else those of the old updates.
      read: further trees that the rule only reads, for instance ``(params,)``.
      where: a tree of Python bools with the structure of ``updates``, as ``mask_leaves`` makes it. The rule skips the
        leaves with False: their updates and states stay.
      states_have_shape: whether a state leaf has the shape of its gradient, which is then checked. False for factored
        states; the rule must return each in the shape it had all the same.
      **hyper: numbers, and functions ``dtype -> number``, reach the rule as scalars of the dtype it calculates in;
        bools, None and strings reach it as they are.

    Returns:
      The new updates, or with states ``(updates, *states)``.

    Raises:
      InputError: the trees differ in structure or shape, or a gradient is not floating point or complex.
    """
    leaves, treedef = jax.tree.flatten(updates)
    targets = leaves if params is None else _matching(treedef, updates, params, "params")
    for i, (leaf, target) in enumerate(zip(leaves, targets, strict=True)):
        if not is_trainable(leaf):
            _checks.not_differentiable(_path(updates, i), leaf)
        if np.shape(leaf) != np.shape(target):
            _checks.different_shapes(_path(updates, i), "updates", leaf, "params", target)
        if not is_trainable(target):
            _checks.untrained_parameter(_path(updates, i), target)
    state_columns = [_matching(treedef, updates, tree, "state") for tree in states]
    for column in state_columns if states_have_shape else ():
        for i, (leaf, state_leaf) in enumerate(zip(leaves, column, strict=True)):
            if np.shape(leaf) != np.shape(state_leaf):
                _checks.different_shapes(_path(updates, i), "updates", leaf, "state", state_leaf)
    read_columns = [
        targets if tree is params else _matching(treedef, updates, tree, "a tree that is read") for tree in read
    ]
    chosen = treedef.flatten_up_to(where) if where is not None else [True] * len(leaves)

    flags = {name: value for name, value in hyper.items() if value is None or isinstance(value, (bool, str))}
    numbers = {name: value for name, value in hyper.items() if name not in flags}
    compiled = _compiled(rule, tuple(flags.items()), tuple(numbers))
    scalars = functools.cache(lambda dtype: _stacked(numbers.values(), dtype))

    results: list[Any] = [None] * len(leaves)
    alike: dict[Any, list[int]] = {}
    rows = list(zip(leaves, *state_columns, *read_columns, strict=True))
    for i, arrays in enumerate(rows):
        dtypes = tuple(map(_dtype, (targets[i], *arrays)))
        kept = dtypes[:1] + dtypes[2 : 2 + len(states)]
        if chosen[i]:
            alike.setdefault((tuple(map(np.shape, arrays)), dtypes, kept), []).append(i)
        else:
            results[i] = (jnp.asarray(arrays[0]).astype(kept[0]), *arrays[1 : 1 + len(states)])
    for (_, dtypes, kept), places in alike.items():
        compute = compute_dtype(*dtypes)
        for part in _parts(places):
            try:
                outputs = compiled([rows[i] for i in part], scalars(compute), kept, compute)
            except _WrongShape as error:
                _checks.wrong_result_shape(rule.__name__, _path(updates, part[0]), *error.args)
            for i, output in zip(part, outputs, strict=True):
                results[i] = output
    columns = list(zip(*results, strict=True)) if results else [()] * (1 + len(states))
    trees = [jax.tree.unflatten(treedef, column) for column in columns]
    return trees[0] if not states else tuple(trees)


class _WrongShape(Exception):  # noqa: N818
    """Position, expected and actual result of a rule that changed a shape."""


def _compiled(rule: Callable[..., Any], flags: tuple[tuple[str, Any], ...], names: tuple[str, ...]) -> Any:
    # A closure may hold tracers and must not outlive this call; a function of a module is kept with its traces.
    return (_compile if getattr(rule, "__closure__", None) else _kept)(rule, flags, names)


def _compile(rule: Callable[..., Any], flags: tuple[tuple[str, Any], ...], names: tuple[str, ...]) -> Any:
    """The rule on the arrays of one leaf, with casts around it; a nested ``jit``, so one trace serves equal leaves.

    The hyperparameters come in one vector: each argument of a nested ``jit`` costs time for each leaf.
    """

    def leaf_rule(arrays: Any, scalars: jax.Array, dtypes: Any, compute: Any) -> Any:
        is_complex = any(jnp.issubdtype(_dtype(array), np.complexfloating) for array in arrays)
        enter, leave = (_as_pairs, _as_complex) if is_complex else (_as_real, _as_real)
        numbers = {name: scalars[i] for i, name in enumerate(names)}
        outputs = rule(*(enter(array, compute) for array in arrays), **numbers, **dict(flags))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        outputs = tuple(leave(output, dtype) for output, dtype in zip(outputs, dtypes, strict=True))
        for position, (output, array) in enumerate(zip(outputs, arrays, strict=False)):
            if output.shape != np.shape(array):
                raise _WrongShape(position, array, output)
        return outputs

    def leaves_rule(rows: Any, scalars: jax.Array, dtypes: Any, compute: Any) -> Any:
        return [one(arrays, scalars, dtypes, compute) for arrays in rows]

    leaf_rule.__name__, leaves_rule.__name__ = rule.__name__, f"{rule.__name__}_on_leaves"
    one = jax.jit(leaf_rule, static_argnums=(2, 3))
    many = jax.jit(leaves_rule, static_argnums=(2, 3))
    return lambda rows, *others: many(rows, *others) if len(rows) > 1 else [one(rows[0], *others)]


_kept = functools.lru_cache(maxsize=1024)(_compile)


def _parts(places: list[int], size: int = 16) -> Iterator[list[int]]:
    """Many equal leaves in parts of 16, few of them one by one: a trace for each size of a part must pay."""
    size = size if len(places) >= 4 * size else 1
    whole = len(places) - len(places) % size
    yield from (places[i : i + size] for i in range(0, whole, size))
    yield from ([i] for i in places[whole:])


def _stacked(numbers: Iterable[Any], dtype: np.dtype) -> jax.Array:
    """Hyperparameters as one vector of ``dtype``."""
    scalars: list[Any] = [value(dtype) if callable(value) else jnp.asarray(value).astype(dtype) for value in numbers]
    return jnp.stack(scalars) if scalars else jnp.zeros([0], dtype)


def _path(tree: PyTree, position: int) -> tuple[Any, ...]:
    """The key path of a leaf, by its position among the leaves."""
    return jax.tree_util.tree_leaves_with_path(tree)[position][0]


def _as_real(array: Any, dtype: Any) -> jax.Array:
    return jnp.asarray(array).astype(dtype)


def _as_pairs(array: Any, dtype: Any) -> jax.Array:
    """A complex array as real pairs along a new last axis, so a rule treats both parts as separate weights."""
    array = jnp.asarray(array)
    return jnp.stack([jnp.real(array), jnp.imag(array)], axis=-1).astype(dtype)


def _as_complex(pairs: jax.Array, dtype: Any) -> jax.Array:
    return jax.lax.complex(pairs[..., 0], pairs[..., 1]).astype(dtype)


def _dtype(leaf: Any) -> np.dtype:
    """The dtype a leaf has inside JAX: NumPy's float64 is float32 there unless x64 is enabled."""
    return jnp.result_type(leaf) if isinstance(leaf, (int, float, complex, np.ndarray, np.generic)) else leaf.dtype


def _matching(treedef: Any, updates: Updates, tree: PyTree, name: str) -> list[Any]:
    """The leaves of ``tree`` beside those of ``updates``; leaves that are not trainable may face None."""
    leaves, structure = jax.tree.flatten(tree)
    if structure == treedef:
        return leaves
    leaves, structure = jax.tree.flatten(jax.tree.map(lambda leaf: leaf if is_trainable(leaf) else None, tree))
    if structure != treedef:
        _checks.different_trees("updates", updates, name, jax.tree.unflatten(structure, leaves))
    return leaves


# ---------------------------------------------------------------------------------------------------------------------
# Masks and norms
# ---------------------------------------------------------------------------------------------------------------------


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
    dtype = compute_dtype(*map(_dtype, leaves))
    if not leaves:
        return jnp.zeros([], dtype)
    parts = []
    for leaf in leaves:
        is_complex = jnp.issubdtype(_dtype(leaf), np.complexfloating)
        parts.append(_as_pairs(leaf, dtype) if is_complex else _as_real(leaf, dtype))
    largest = functools.reduce(jnp.maximum, [jnp.max(jnp.abs(part), initial=0) for part in parts])
    usable = jnp.isfinite(largest) & (largest > 0)
    scale = jax.lax.stop_gradient(jnp.where(usable, jnp.maximum(largest, jnp.finfo(dtype).tiny), 1))
    total = functools.reduce(jnp.add, [jnp.sum(jnp.square(part / scale)) for part in parts])
    return jnp.where(total == 0, 0, scale * numerics.root(total))
