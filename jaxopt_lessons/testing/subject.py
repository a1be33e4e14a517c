"""What is asked of: an optimizer with parameters, made comparable, and the words in which a property fails.

The compiled step is shared by all properties that need the same trees: most of the time goes into compiling.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import tree
from jaxopt_lessons._errors import describe, path_name
from jaxopt_lessons._leaf import is_key
from jaxopt_lessons.core import GradientTransformation
from jaxopt_lessons.types import Params, PyTree, State, Updates

HALF = (jnp.float16, jnp.bfloat16)
MIXES = ((jnp.float32, jnp.float32), *((d, d) for d in HALF), (jnp.float32, jnp.bfloat16), (jnp.float16, jnp.float32))
"""Dtypes of gradients and parameters that meet in training."""


class Failed(Exception):  # noqa: N818  # an outcome, and not an error of the check
    """The optimizer does not have the property; the message says where, what was expected, and what came."""


class NotApplicable(Exception):  # noqa: N818
    """The property cannot be asked of this optimizer; the message says why."""


def default_params() -> Params:
    """What trees of parameters have: matrices, vectors, a number, no entries, None, half precision."""
    return {
        **default_core(),
        "stack": [filled((), 2), None, filled((0, 3), 3)],
        "half": {"bfloat16": filled((4,), 4, jnp.bfloat16), "float16": filled((2, 2), 5, jnp.float16)},
    }


def default_core() -> Params:
    """The part of it on which numbers are compared: every program that is compiled for it takes its time."""
    return {"dense": {"kernel": filled((3, 2), 0), "bias": filled((3,), 1)}, "none": None}


def filled(shape: tuple[int, ...], seed: int, dtype: Any = jnp.float32) -> jax.Array:
    """Numbers of a normal distribution, none of them near 0, so that no update of them is 0 by chance."""
    values = np.random.default_rng(seed).standard_normal(shape)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        values = values + 1j * np.random.default_rng(seed + 1000).standard_normal(shape)
    else:
        values = np.where(values < 0, values - 0.1, values + 0.1)
    return jnp.asarray(np.asarray(values).astype(dtype))


class Subject:
    """An optimizer, the parameters it is tried on, and its extra arguments.

    Args:
      tx: the optimizer.
      params: its parameters: a tree of arrays, and None.
      core: the part of them on which numbers are compared; by default all.
      extra: ``extra(params)``, the keyword arguments of ``update``.
      tolerance: relative difference of numbers that should be equal, and come from different programs.
      is_value: whether the optimizer was made by ``@gradient_transformation``.
      strict: whether the tolerance is relative to every entry, and not to the largest one of a leaf.
    """

    def __init__(
        self,
        tx: GradientTransformation,
        params: Params,
        extra: Callable[[Params], Mapping[str, Any]] = lambda params: {},
        *,
        core: Params | None = None,
        tolerance: float = 1e-6,
        is_value: bool = True,
        strict: bool = False,
    ):
        self.tx, self.params, self.extra = tx, params, extra
        self.core = params if core is None else core
        self.tolerance, self.is_value, self.strict = tolerance, is_value, strict

    # -- calls --------------------------------------------------------------------------------------------------------

    def init(self, params: Params, tx: GradientTransformation | None = None) -> State:
        return (tx or self.tx).init(params)

    def update(
        self,
        updates: Updates,
        state: State,
        params: Params | None = None,
        tx: GradientTransformation | None = None,
        **more: Any,
    ) -> Any:
        extra = self.extra(updates if params is None else params)
        result = (tx or self.tx).update(updates, state, params, **{**extra, **more})
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise Failed(f"update returned one {type(result).__name__}; expected the pair (updates, state).")
        return result

    @functools.cached_property
    def step(self) -> Callable[..., Any]:
        """``update``, compiled once for all properties."""
        return jax.jit(lambda updates, state, params: self.update(updates, state, params))

    def run(self, params: Params, gradients: list[Updates], step: Callable[..., Any] | None = None) -> Any:
        """The updates for each gradient, at the same parameters, and the last state."""
        state, every = self.init(params), []
        for g in gradients:
            updates, state = (step or self.step)(g, state, params)
            every.append(updates)
        return every, state

    def shapes(self, grad_dtype: Any, param_dtype: Any) -> Any:
        """State, updates and new state as shapes, for gradients and parameters of these dtypes."""
        key = np.dtype(grad_dtype), np.dtype(param_dtype)
        if key not in self._shapes:
            params = self.cast(param_dtype)
            state = self.init(params)
            updates, new_state = jax.eval_shape(self.update, self.gradients(self.cast(grad_dtype)), state, params)
            self._shapes[key] = params, state, updates, new_state
        return self._shapes[key]

    @functools.cached_property
    def _shapes(self) -> dict[Any, Any]:
        return {}

    def mixes(self) -> Iterator[tuple[str, Any]]:
        """What to call each mix of dtypes that meets in training, and its ``shapes``."""
        for grad_dtype, param_dtype in MIXES:
            name = f"(gradients {np.dtype(grad_dtype).name}, parameters {np.dtype(param_dtype).name})"
            yield name, self.shapes(grad_dtype, param_dtype)

    # -- trees --------------------------------------------------------------------------------------------------------

    def cast(self, dtype: Any) -> Params:
        """The core of the parameters in one dtype; complex ones stay complex."""

        def one(leaf: jax.Array) -> jax.Array:
            return jnp.asarray(np.asarray(leaf).astype(jnp.complex64 if jnp.iscomplexobj(leaf) else dtype))

        return jax.tree.map(one, self.core)

    @functools.cached_property
    def wide(self) -> Params:
        """The core of the parameters in float32."""
        return self.cast(jnp.float32)

    def gradients(self, like: Params, seed: int = 0) -> Updates:
        """Random gradients with the shapes and dtypes of ``like``; no entry is near 0."""
        leaves, structure = jax.tree.flatten(like)
        made = [filled(np.shape(leaf), 100 * (seed + 1) + i, leaf.dtype) for i, leaf in enumerate(leaves)]
        return jax.tree.unflatten(structure, made)

    @functools.cached_property
    def least(self) -> Params:
        """Parameters in float32 for the programs that take longest to compile: one leaf, or those that were given."""
        return self.wide if self.core is self.params else {"w": filled((3, 2), 0)}

    def fill(self, like: Params, value: float) -> Updates:
        return jax.tree.map(lambda leaf: jnp.asarray(np.full(leaf.shape, value).astype(leaf.dtype)), like)

    def paths(self, like: Params) -> list[tuple[Any, jax.Array]]:
        """The leaves that have entries, with their paths."""
        return [(path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(like) if leaf.size]

    def replaced(self, like: PyTree, path: Any, new: Any) -> PyTree:
        """The tree with another leaf at one path."""
        return jax.tree_util.tree_map_with_path(lambda p, leaf: new if p == path else leaf, like)

    # -- comparisons --------------------------------------------------------------------------------------------------

    def close(self, what: str, actual: PyTree, expected: PyTree, than: str, tolerance: float | None = None) -> None:
        """Fails at the first leaf that differs by more than the tolerance."""
        tolerance = self.tolerance if tolerance is None else tolerance
        same_structure(what, actual, expected, than)
        for path, a, e in pairs(actual, expected):
            a, e = wide(a), wide(e)
            allowed = tolerance * np.abs(e)
            if not self.strict and e.size:
                allowed = tolerance * np.max(np.abs(np.where(np.isfinite(e), e, 0)))
            both_odd = (np.isnan(a) & np.isnan(e)) | (a == e) if e.dtype.kind in "fc" else a == e
            with np.errstate(invalid="ignore"):
                bad = ~(both_odd | (np.abs(a - e) <= allowed + 1e-30)) if e.dtype.kind in "fc" else ~both_odd
            if np.any(bad):
                where = tuple(np.argwhere(bad)[0])
                raise Failed(f"{place(what, path, where)} is {a[where]:.9g}, {than} {e[where]:.9g}.")


def equal(what: str, actual: PyTree, expected: PyTree, than: str) -> None:
    """Fails at the first leaf that is not the same, bit by bit."""
    same_structure(what, actual, expected, than)
    for path, a, e in pairs(actual, expected):
        a, e = wide(a), wide(e)
        if not np.array_equal(a, e, equal_nan=a.dtype.kind in "fc"):
            where = tuple(np.argwhere(~((a == e) | ((a != a) & (e != e))))[0])
            raise Failed(f"{place(what, path, where)} is {a[where]:.9g}, {than} {e[where]:.9g}.")


def same_structure(what: str, actual: PyTree, expected: PyTree, than: str) -> None:
    a, e = jax.tree.structure(actual), jax.tree.structure(expected)
    if a != e:
        raise Failed(f"{what} has the structure {a}, {than} {e}.")


def same_form(what: str, actual: PyTree, expected: PyTree, than: str) -> None:
    """Fails unless structures, shapes, dtypes and weak types are equal."""
    same_structure(what, actual, expected, than)
    for path, a, e in pairs(actual, expected):
        a, e = form(a), form(e)
        if a != e:
            raise Failed(f"{place(what, path)} is {shown(a)}, {than} {shown(e)}.")


def form(leaf: Any) -> tuple[tuple[int, ...], Any, bool]:
    aval = leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)
    return aval.shape, aval.dtype, bool(getattr(aval, "weak_type", False))


def shown(leaf: tuple[tuple[int, ...], Any, bool]) -> str:
    shape, dtype, weak = leaf
    return f"{describe(jax.ShapeDtypeStruct(shape, dtype))}{' (a weak type)' if weak else ''}"


def pairs(a: PyTree, b: PyTree) -> Iterator[tuple[Any, Any, Any]]:
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        yield path, x, y


def wide(leaf: Any) -> np.ndarray:
    """A leaf that NumPy can calculate with."""
    if is_key(leaf):
        return np.asarray(jax.random.key_data(leaf))
    array = np.asarray(leaf)
    if jnp.issubdtype(array.dtype, jnp.floating):
        return array.astype(np.float64)
    return array.astype(np.complex128) if array.dtype.kind == "c" else array


def place(what: str, path: Any, where: tuple[Any, ...] = ()) -> str:
    """``the update at 'dense/kernel'[0, 1]``."""
    index = f"[{', '.join(map(str, where))}]" if where else ""
    return f"{what} at {path_name(path)!r}{index}"


def finite(what: str, values: PyTree) -> None:
    """Fails at the first entry that is infinite or NaN."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(values):
        array = wide(leaf)
        if array.dtype.kind in "fc" and not np.all(np.isfinite(array)):
            where = tuple(np.argwhere(~np.isfinite(array))[0])
            raise Failed(f"{place(what, path, where)} is {array[where]}; expected a finite number.")


def raises(what: str, function: Callable[..., Any], *arguments: Any) -> Exception:
    """The error that a call raises when it is traced; fails if it raises none."""
    try:
        result = jax.eval_shape(function, *arguments)
    except Failed:
        raise
    except Exception as error:
        return error
    leaves = [shown(form(leaf)) for leaf in jax.tree.leaves(result[0])]
    returned = ", ".join(leaves[:2]) + (", ..." if len(leaves) > 2 else "")
    raise Failed(f"{what}: expected an error, update returned {returned or 'no arrays'}")


def brief(error: BaseException, length: int = 200) -> str:
    """Kind and beginning of an error, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:length]}{'...' if len(text) > length else ''}"


def trainable(params: Params) -> Params:
    """The leaves that an optimizer trains, as arrays; None in the place of others."""
    return jax.tree.map(jnp.asarray, tree.trainable(params))
