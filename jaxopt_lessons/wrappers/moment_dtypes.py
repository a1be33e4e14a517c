"""Moments in bfloat16: half of the memory of an optimizer's state, whatever the optimizer.

    state = widened(state)             the chosen fields in float32
    u, state = inner.update(g, state)
    state = rounded(state)             the chosen fields in bfloat16 again

An average with decay 0.999 moves by a thousandth of the difference at each step, and bfloat16 cannot hold it: rounded
to the nearest, ``nu`` stands still as long as the squares of the gradients are between 0 and three times of it. So the
default is to round at random, up or down, right on average (Zamirai et al. 2020, arXiv 2010.06192); the random numbers
are a function of the key, of ``count`` and of where the array stands in the state.

A field that its state annotates as one array (``m: jax.Array``), not as a tree like the parameters (``mu: Params``), is
no moment, whatever its name: Mechanic's ``m`` and ``v`` are sums of a few bets, which decide the length of every step.

Not for rules that subtract two moments, such as centered RMSprop, whose variance is then mostly rounding. float16 is
refused: squares of gradients below 2e-4 are zero in it, and those above 256 infinite.

State: ``count``, and that of ``inner`` with the chosen fields in bfloat16: Adam's is 4 bytes a parameter instead of 8.
Single numbers and complex arrays stay as they are. The parameters have a precision of their own: ``with_precision``.
"""

import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _checks, _state_checks, numerics, rounding, tree
from jaxopt_lessons.core import Functions, Part, Transformation, gradient_transformation
from jaxopt_lessons.types import Params, PyTree, State, Updates

MOMENTS = ("mu", "nu", "nu_max", "trace", "m", "v", "n", "m1", "m2")
"""The fields that one dtype for all moments stands for: averages of gradients and of their squares."""


class MomentDtypesState(NamedTuple):
    count: jax.Array
    inner: State


def stochastic_rule(x: jax.Array, key: jax.Array) -> jax.Array:
    return rounding.stochastic_round(x, jnp.bfloat16, key)


@gradient_transformation
def moment_dtypes(
    inner: Transformation,
    dtypes: Any = jnp.bfloat16,
    *,
    rounding: Literal["stochastic", "nearest"] = "stochastic",
    key: tree.Key = 0,
) -> Any:
    """Keeps the moments in the state of an optimizer in bfloat16.

    Args:
      inner: the optimizer, of this library or of optax.
      dtypes: ``jnp.bfloat16`` for all moments (the fields ``mu``, ``nu``, ``nu_max``, ``trace``, ``m``, ``v``, ``n``,
        ``m1``, ``m2``, where there are such trees), or a dict such as ``{"mu": jnp.bfloat16}`` by the names of the
        fields; ``None`` or ``jnp.float32`` leaves a field as it is.
      rounding: ``"stochastic"`` or ``"nearest"``, which makes a slow average stand still.
      key: where the random numbers start: a seed, or a key of ``jax.random``.

    Raises:
      ValueError: a dtype is neither bfloat16 nor float32.
      InputError: the state of ``inner`` has no field of a given name.

    >>> tx = moment_dtypes(jl.adam(1e-3), {"nu": jnp.bfloat16})
    >>> tx.init(jnp.zeros(2)).inner[0].nu
    Array([0, 0], dtype=bfloat16)
    """
    names = chosen_fields("moment_dtypes", "dtypes", dtypes)
    _checks.one_of("moment_dtypes", "rounding", rounding, ("stochastic", "nearest"))

    def init(params: Params) -> MomentDtypesState:
        state = inner.init(params)
        if isinstance(dtypes, Mapping) and any(map(tree.is_trainable, jax.tree.leaves(params))):
            _state_checks.fields_exist(tuple(dtypes), sorted(_fields(state)))
        return MomentDtypesState(numerics.zero_count(), narrowed(state, None))

    def update(updates: Updates, state: MomentDtypesState, params: Params | None = None, **extra: Any) -> Any:
        reference = updates if params is None else params
        updates, inner_state = inner.update(updates, widened(state.inner), params, **extra)
        updates = tree.cast_like(updates, reference)  # optax's take the dtype of their moments
        step_key = jax.random.fold_in(tree.typed_key(key), state.count) if rounding == "stochastic" else None
        return updates, MomentDtypesState(numerics.increment(state.count), narrowed(inner_state, step_key))

    def parts(state: MomentDtypesState) -> list[Part]:
        return [Part("inner", inner, state.inner)]

    def eval_params(state: MomentDtypesState, params: Params) -> Params:
        return inner.eval_params(widened(state.inner), params)

    def widened(state: State) -> State:
        return tree.merge(state, tree.widen(_moments(state, names)))

    def narrowed(state: State, key: jax.Array | None) -> State:
        moments = jax.tree.map(lambda x: x.astype(jnp.float32), _moments(state, names))
        if key is not None:
            moments = tree.map_leaves(stochastic_rule, moments, read=(tree.keys_like(key, moments),))
        return tree.merge(state, jax.tree.map(lambda x: x.astype(jnp.bfloat16), moments))

    return Functions(init, update, parts, eval_params)


def chosen_fields(owner: str, argument: str, dtypes: Any) -> frozenset[str]:
    """The names of the fields to be kept in bfloat16; raises for any other dtype."""
    single = not isinstance(dtypes, Mapping)
    by_name = dict.fromkeys(MOMENTS, dtypes) if single else dict(dtypes)
    for field, dtype in by_name.items():
        name = argument if single else f"{argument}[{field!r}]"
        if dtype is None:
            continue
        _checks.state_dtype(owner, name, dtype)
        allowed = jnp.dtype(dtype) in (jnp.bfloat16, jnp.float32)
        _checks.require(
            allowed,
            lambda name=name, dtype=dtype: (
                f"{owner}: {name} must be bfloat16 or float32, for moments need the range of float32; got "
                f"{jnp.dtype(dtype).name}."
            ),
        )
    return frozenset(name for name, dtype in by_name.items() if dtype is not None and jnp.dtype(dtype) == jnp.bfloat16)


def _moments(state: State, names: frozenset[str]) -> PyTree:
    """The real arrays in the fields of these names; None in the place of everything else."""

    def keep(path: tuple[Any, ...], leaf: Any) -> Any:
        is_array = getattr(leaf, "ndim", 0) > 0 and jnp.issubdtype(leaf.dtype, jnp.floating)
        field = _field(state, path)
        return leaf if is_array and field and field[1] in names and not _is_one_array(*field) else None

    return jax.tree_util.tree_map_with_path(keep, state)


def _fields(state: State) -> set[str]:
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    return {field[1] for field in (_field(state, path) for path in paths) if field is not None}


@functools.lru_cache(maxsize=1024)
def _is_one_array(state_type: type, name: str) -> bool:
    """Whether a state says that a field is one array (as optax says it: one array or a number), not a tree of them."""
    annotation = state_type.__annotations__.get(name, Any)
    if isinstance(annotation, (str, typing.ForwardRef)):  # from __future__ import annotations
        try:
            annotation = typing.get_type_hints(state_type)[name]
        except NameError:  # only a type checker can read it
            return False
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    kinds = typing.get_args(annotation) if is_union else [annotation]
    numbers = (jax.Array, np.ndarray, np.generic, complex, float, int)
    return all(isinstance(kind, type) and issubclass(kind, numbers) for kind in kinds)


def _field(state: State, path: tuple[Any, ...]) -> tuple[type, str] | None:
    """The innermost state on the way to a leaf, and its field; fields of the parameters may be called as these are."""
    node, field = state, None
    for key in path:
        if isinstance(key, jax.tree_util.GetAttrKey):
            if isinstance(node, tuple) and type(node).__name__.endswith("State"):
                field = type(node), key.name
            node = getattr(node, key.name)
        elif isinstance(key, jax.tree_util.SequenceKey):
            node = node[key.idx]
        elif isinstance(key, jax.tree_util.DictKey):
            node = node[key.key]
        else:  # inside of a node of the parameters
            break
    return field
