"""``map_leaves`` and ``sum_leaves``: the ways a rule reaches the leaves of a tree.

They take care of everything that is not the rule. Structures and shapes are compared; arithmetic is float32 for
half-precision leaves; results get the dtypes they must have; complex leaves are treated as pairs of real numbers; and
the rule is traced once for each distinct shape and dtype, not once for each leaf.
"""

import functools
import itertools
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxopt_lessons import _leaf, _tree_checks
from jaxopt_lessons.types import Params, PyTree, Updates


def map_leaves(
    rule: Callable[..., Any],
    updates: Updates,
    *states: PyTree,
    params: Params | None = None,
    read: Sequence[PyTree] = (),
    where: PyTree | None = None,
    states_have_shape: bool | Sequence[bool | Callable[[Any], Any]] = True,
    real_only: bool = False,
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
      read: further trees that the rule only reads, for instance ``(params,)``; leaves that are not numbers with a
        fraction (integers, random keys) reach it as they are.
      where: a tree of Python bools with the structure of ``updates``, as ``mask_leaves`` makes it. The rule skips the
        leaves with False: their updates and states stay.
      states_have_shape: whether a state leaf has the shape of its gradient, which is then checked; a sequence if one
        state has and another has not. False for factored states: beside a gradient may then stand None, an array of
        any shape or a small tree of them (of real ones: see ``tree.real_shape``). The rule must return each in the
        structure and the shapes it had all the same. A function ``leaf -> shape`` in the sequence says what shape such
        a state must have.
      real_only: True for a rule in which axes have a meaning; complex leaves, whose pairs of real numbers add an axis,
        are then refused.
      **hyper: numbers, and functions ``dtype -> number``, reach the rule as scalars of the dtype it calculates in;
        bools, None, strings and tuples reach it as they are.

    Returns:
      The new updates, or with states ``(updates, *states)``.

    Raises:
      InputError: the trees differ in structure or shape, or a gradient is not floating point or complex.
    """
    leaves, treedef = jax.tree.flatten(updates)
    targets = leaves if params is None else _matching(treedef, updates, params, "params")
    _check_gradients(updates, leaves, targets)
    if real_only:
        _check_real(updates, targets)
    have_shape = [states_have_shape] * len(states) if isinstance(states_have_shape, bool) else states_have_shape
    state_columns = [
        _matching(treedef, updates, state, "state") if has_shape is True else _beside(treedef, updates, state)
        for state, has_shape in zip(states, have_shape, strict=True)
    ]
    for column, has_shape in zip(state_columns, have_shape, strict=True):
        _check_state_shapes(updates, leaves, column, has_shape)
    without_shape = tuple(i for i, has_shape in enumerate(have_shape, start=1) if has_shape is not True)
    read_columns = [targets if tree is params else _matching(treedef, updates, tree, "a read tree") for tree in read]
    chosen = treedef.flatten_up_to(where) if where is not None else [True] * len(leaves)

    rows = [
        _Row(arrays, tuple(map(_dtypes_of, (target, *arrays[1 : 1 + len(states)]))), without_shape)
        for target, arrays in zip(targets, zip(leaves, *state_columns, *read_columns, strict=True), strict=True)
    ]
    apply = _Application(rule, hyper)
    results: list[Any] = [None if apply_rule else row.unchanged() for row, apply_rule in zip(rows, chosen, strict=True)]
    for part in _parts_of_equal_rows(rows, chosen):
        try:
            outputs = apply([rows[i] for i in part])
        except _WrongShape as error:
            _tree_checks.wrong_result_shape(_name(rule), _path(updates, part[0]), *error.args)
        for i, output in zip(part, outputs, strict=True):
            results[i] = output
    columns = list(zip(*results, strict=True)) if results else [()] * (1 + len(states))
    trees = [jax.tree.unflatten(treedef, column) for column in columns]
    return tuple(trees) if states else trees[0]


def sum_leaves(rule: Callable[..., Any], *trees: PyTree, combine: Callable[..., Any] = jnp.add, **hyper: Any) -> Any:
    """The sum over all leaves of a number that a rule calculates of each.

    Equivalent to ``sum(rule(*leaves, **hyper) for leaves in zip(*map(jax.tree.leaves, trees)))``.

    Args:
      rule: ``rule(*leaves, **hyper)``, returning a scalar or a tuple of scalars. Its arguments are real, float32 or
        wider, as those of a rule of ``map_leaves``. Of an array without elements it must return the neutral element:
        a tree without leaves has the sum of one of those.
      *trees: trees of one structure; the shapes of their leaves may differ.
      combine: what to do with two of the scalars, ``jnp.maximum`` for instance.
      **hyper: as in ``map_leaves``.

    Returns:
      A scalar of the widest dtype calculated in, or a tuple of them.

    Raises:
      InputError: the trees differ in structure, or a leaf of the first one is not floating point or complex.
    """
    first, *others = trees
    leaves, treedef = jax.tree.flatten(first)
    _check_gradients(first, leaves, leaves)
    columns = [_matching(treedef, first, tree, "a further tree") for tree in others]
    rows = [_Row(arrays, (), ()) for arrays in zip(leaves, *columns, strict=True)]
    rows = rows or [_Row((jnp.zeros([0]),) * len(trees), (), ())]
    apply, results = _Application(rule, hyper), []
    for part in _parts_of_equal_rows(rows, [True] * len(rows)):
        results += apply([rows[i] for i in part])
    dtype = np.result_type(*(row.compute for row in rows))
    totals = [
        functools.reduce(combine, [value.astype(dtype) for value in column]) for column in zip(*results, strict=True)
    ]
    return tuple(totals) if len(totals) > 1 else totals[0]


def check_updates(updates: Updates, params: Params | None, *states: PyTree) -> None:
    """Raises unless ``updates`` are gradients of ``params``: in structure, shape and kind of number.

    Further trees are states, and must have the structure and the shapes of ``updates``.
    """
    leaves, treedef = jax.tree.flatten(updates)
    targets = leaves if params is None else _matching(treedef, updates, params, "params")
    _check_gradients(updates, leaves, targets)
    for state in states:
        _check_state_shapes(updates, leaves, _matching(treedef, updates, state, "state"), True)


class _Row(NamedTuple):
    """What the rule gets of one leaf, and the dtypes of what it returns: none for scalars of the dtype it works in.

    ``without_shape`` are the places of states that need not have the shape of the leaf.
    """

    arrays: tuple[Any, ...]
    dtypes: tuple[Any, ...]
    without_shape: tuple[int, ...]

    @property
    def compute(self) -> np.dtype:
        return _leaf.compute_dtype(*itertools.chain(*self.dtypes), *map(_leaf.dtype_of, jax.tree.leaves(self.arrays)))

    @property
    def signature(self) -> Any:
        """What rows must have in common to go through one call: structures, shapes, dtypes, and where they are."""
        arrays, structure = jax.tree.flatten(self.arrays)
        places = (array.sharding for array in arrays if not isinstance(array, Tracer) and isinstance(array, jax.Array))
        kinds = tuple((np.shape(array), _leaf.dtype_of(array)) for array in arrays)
        return kinds, structure, self.dtypes, tuple(places)

    def unchanged(self) -> tuple[Any, ...]:
        """The update in its dtype, and the old state."""
        return jnp.asarray(self.arrays[0]).astype(self.dtypes[0][0]), *self.arrays[1 : len(self.dtypes)]


def _dtypes_of(entry: Any) -> tuple[np.dtype, ...]:
    """The dtypes of a leaf, or of the small tree that stands beside one."""
    return (_leaf.dtype_of(entry),) if hasattr(entry, "dtype") else tuple(map(_leaf.dtype_of, jax.tree.leaves(entry)))


# ---------------------------------------------------------------------------------------------------------------------
# Calling the rule
# ---------------------------------------------------------------------------------------------------------------------


class _Application:
    """A rule with its hyperparameters, to be applied to rows of equal signature."""

    def __init__(self, rule: Callable[..., Any], hyper: dict[str, Any]):
        flags = {name: value for name, value in hyper.items() if value is None or isinstance(value, (bool, str, tuple))}
        numbers = {name: value for name, value in hyper.items() if name not in flags}
        # A function of a module is kept with its traces; whatever may hold tracers must not outlive this call.
        make = _compiled_and_kept if _holds_nothing(rule) else _compiled
        self._compiled = make(rule, tuple(flags.items()), tuple(numbers))
        self._scalars = functools.cache(lambda dtype: _stacked(numbers.values(), dtype))

    def __call__(self, rows: list[_Row]) -> list[tuple[jax.Array, ...]]:
        row = rows[0]
        static = row.dtypes, row.compute, row.without_shape
        return self._compiled([row.arrays for row in rows], self._scalars(row.compute), static)


class _WrongShape(Exception):  # noqa: N818
    """Position, expected and actual result of a rule that changed a shape."""


def _compiled(rule: Callable[..., Any], flags: tuple[tuple[str, Any], ...], names: tuple[str, ...]) -> Any:
    """The rule on the arrays of equal leaves, with casts around it; a nested ``jit``, so one trace serves them all.

    The hyperparameters come in one vector: each argument of a nested ``jit`` costs time for each leaf.
    """

    def leaf_rule(arrays: Any, scalars: jax.Array, static: Any) -> Any:
        dtypes, compute, without_shape = static
        inputs = _enter(arrays, compute, without_shape, _any_complex(dtypes))
        outputs = rule(*inputs, **{name: scalars[i] for i, name in enumerate(names)}, **dict(flags))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        if not dtypes:
            return outputs
        return tuple(map(_leave, range(len(dtypes)), outputs, arrays, dtypes))

    def leaves_rule(rows: Any, scalars: jax.Array, static: Any) -> Any:
        return [one(arrays, scalars, static) for arrays in rows]

    leaf_rule.__name__, leaves_rule.__name__ = _name(rule), f"{_name(rule)}_on_leaves"
    one = jax.jit(leaf_rule, static_argnums=2)
    many = jax.jit(leaves_rule, static_argnums=2)
    return lambda rows, *others: many(rows, *others) if len(rows) > 1 else [one(rows[0], *others)]


def _any_complex(dtypes: tuple[tuple[np.dtype, ...], ...]) -> bool:
    return any(jnp.issubdtype(dtype, jnp.complexfloating) for dtype in itertools.chain(*dtypes))


def _enter(arrays: Sequence[Any], compute: np.dtype, without_shape: Sequence[int], leaves_pairs: bool) -> list[Any]:
    """The arguments of a rule: real arrays of the dtype to calculate in.

    If one of the leaves is complex, or if the rule is to return a complex one, real companions become pairs too; states
    without the shape of the leaf stay as they are.
    """
    pairs = leaves_pairs or any(_leaf.is_complex(leaf) for leaf in jax.tree.leaves(arrays) if _leaf.is_trainable(leaf))

    def enter(position: int, leaf: Any) -> Any:
        if not _leaf.is_trainable(leaf):
            return leaf
        return (_leaf.as_pairs if pairs and position not in without_shape else _leaf.as_real)(leaf, compute)

    return [jax.tree.map(functools.partial(enter, i), entry) for i, entry in enumerate(arrays)]


def _leave(position: int, output: Any, entry: Any, dtypes: tuple[np.dtype, ...]) -> Any:
    """What a rule returned, in the structure, shapes and dtypes of what came in."""
    got, structure = jax.tree.flatten(output)
    came, expected = jax.tree.flatten(entry)
    if structure != expected:
        raise _WrongShape(position, entry, output)
    left = [
        (_leaf.from_pairs if jnp.issubdtype(dtype, jnp.complexfloating) else _leaf.as_real)(array, dtype)
        for array, dtype in zip(got, dtypes, strict=True)
    ]
    for array, leaf in zip(left, came, strict=True):
        if array.shape != np.shape(leaf):
            raise _WrongShape(position, leaf, array)
    return jax.tree.unflatten(structure, left)


def _holds_nothing(rule: Callable[..., Any]) -> bool:
    if not isinstance(rule, types.FunctionType) or "<locals>" in rule.__qualname__:
        return False
    return not (rule.__closure__ or rule.__defaults__ or rule.__kwdefaults__)


def _name(rule: Callable[..., Any]) -> str:
    return getattr(rule, "__name__", type(rule).__name__)


_compiled_and_kept = functools.lru_cache(maxsize=1024)(_compiled)


def _stacked(numbers: Iterable[Any], dtype: np.dtype) -> jax.Array:
    """Hyperparameters as one vector of ``dtype``."""
    scalars: list[Any] = [value(dtype) if callable(value) else jnp.asarray(value).astype(dtype) for value in numbers]
    return jnp.stack(scalars) if scalars else jnp.zeros([0], dtype)


def _parts_of_equal_rows(rows: list[_Row], chosen: list[bool], size: int = 16) -> Iterator[list[int]]:
    """The places of rows with equal signature: many of them in parts of 16, few of them one by one.

    A nested ``jit`` costs a tenth of a millisecond of tracing wherever it is called, so 1,000 leaves should not call
    it 1,000 times; but a part of another length is another trace, which must pay.
    """
    alike: dict[Any, list[int]] = {}
    for i, row in enumerate(rows):
        if chosen[i]:
            alike.setdefault(row.signature, []).append(i)
    for places in alike.values():
        step = size if len(places) >= 4 * size else 1
        whole = len(places) - len(places) % step
        yield from (places[i : i + step] for i in range(0, whole, step))
        yield from ([i] for i in places[whole:])


# ---------------------------------------------------------------------------------------------------------------------
# Comparing trees
# ---------------------------------------------------------------------------------------------------------------------


def _matching(treedef: Any, updates: Updates, tree: PyTree, name: str) -> list[Any]:
    """The leaves of ``tree`` beside those of ``updates``; leaves that are not trainable may face None."""
    leaves, structure = jax.tree.flatten(tree)
    if structure == treedef:
        return leaves
    leaves, structure = jax.tree.flatten(jax.tree.map(lambda leaf: leaf if _leaf.is_trainable(leaf) else None, tree))
    if structure != treedef:  # A model may hold Python numbers that are settings, where a gradient has None.
        arrays = [leaf if hasattr(leaf, "dtype") else None for leaf in leaves]
        arrays, without_numbers = jax.tree.flatten(jax.tree.unflatten(structure, arrays))
        if without_numbers == treedef:
            return arrays
        _tree_checks.different_trees("updates", updates, name, jax.tree.unflatten(structure, leaves))
    return leaves


def _beside(treedef: Any, updates: Updates, tree: PyTree) -> list[Any]:
    """What stands in ``tree`` where ``updates`` has leaves: arrays, None or small trees."""
    try:
        return treedef.flatten_up_to(tree)
    except (ValueError, TypeError, KeyError):
        _tree_checks.different_trees("updates", updates, "state", tree, beside=True)


def _check_real(updates: Updates, targets: list[Any]) -> None:
    for i, target in enumerate(targets):
        if _leaf.is_complex(target):
            _tree_checks.complex_refused(_path(updates, i), target)


def _check_gradients(updates: Updates, leaves: list[Any], targets: list[Any]) -> None:
    for i, (leaf, target) in enumerate(zip(leaves, targets, strict=True)):
        if not _leaf.is_trainable(leaf):
            _tree_checks.not_differentiable(_path(updates, i), leaf)
        if np.shape(leaf) != np.shape(target):
            _tree_checks.different_shapes(_path(updates, i), "updates", leaf, "params", target)
        if not _leaf.is_trainable(target):
            _tree_checks.untrained_parameter(_path(updates, i), target)
        if _leaf.is_complex(leaf) and not _leaf.is_complex(target):
            _tree_checks.complex_gradient(_path(updates, i), leaf, target)


def _check_state_shapes(updates: Updates, leaves: list[Any], column: list[Any], has_shape: Any) -> None:
    for i, (leaf, state_leaf) in enumerate(zip(leaves, column, strict=True)):
        if has_shape is True and np.shape(leaf) != np.shape(state_leaf):
            _tree_checks.different_shapes(_path(updates, i), "updates", leaf, "state", state_leaf)
        expected: Any = has_shape(leaf) if callable(has_shape) else None
        if expected is not None and expected != np.shape(state_leaf):
            _tree_checks.wrong_state_shape(_path(updates, i), leaf, state_leaf, expected)


def _path(tree: PyTree, position: int) -> tuple[Any, ...]:
    """The key path of a leaf, by its position among the leaves."""
    return jax.tree_util.tree_leaves_with_path(tree)[position][0]
