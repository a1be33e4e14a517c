"""Every error text of the library.

Three tiers, by what can be known when: a wrong hyperparameter raises when the transformation is built; a wrong tree
raises when it is traced and names the stage, the leaf, what was expected and what came; a numerical failure never
raises inside compiled code.
"""

import contextlib
import difflib
import inspect
import itertools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import jax
import numpy as np
from jax.core import Tracer

from jaxopt_lessons.types import Range


class InputError(ValueError):
    """A tree, a state or an extra argument does not fit the transformation it was given to.

    The message begins with the stage that refused it, outermost first: ``adamw > scale_by_adam: ...``.
    """

    def __init__(self, message: str, stages: tuple[str, ...] = ()):
        super().__init__(message)
        self.message = message
        self.stages = stages

    def __str__(self) -> str:
        return f"{' > '.join(self.stages)}: {self.message}" if self.stages else self.message


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Prefixes the errors raised inside with the name of the stage."""
    try:
        yield
    except InputError as error:
        error.stages = (name, *error.stages)
        raise


def warning(message: str) -> None:
    """Warns, and points at the line outside the library that is the cause."""
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level + 1)


_PACKAGE = os.path.dirname(__file__) + os.sep


# ---------------------------------------------------------------------------------------------------------------------
# Hyperparameters, checked when a transformation is built
# ---------------------------------------------------------------------------------------------------------------------


def number(owner: str, name: str, value: Any, allowed: Range) -> None:
    """Raises unless ``value`` is a number in ``allowed``, a tracer, or a schedule where that is allowed."""
    what = f"{owner}: {name}"
    if callable(value) and not isinstance(value, type):
        if allowed.schedules:
            return
        raise TypeError(f"{what} must be {allowed}, not a schedule; got {value!r}.")
    if isinstance(value, Tracer):
        return
    expected = f"{allowed}, or a schedule" if allowed.schedules else f"{allowed}"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.generic, np.ndarray, jax.Array)):
        raise TypeError(f"{what} must be {expected}; got {value!r} of type {type(value).__name__}.")
    if not isinstance(value, (int, float)):
        if value.dtype.kind not in "iuf" and not jax.numpy.issubdtype(value.dtype, np.floating):
            raise TypeError(f"{what} must be {expected}; got dtype {value.dtype}.")
        if value.shape:
            raise TypeError(
                f"{what} must be {expected}, a single number; got an array of shape {value.shape}. "
                f"For a stack of them write jax.vmap({owner})(...)."
            )
        value = jax.device_get(value).item()
    rounded = float(np.float32(value)) if allowed.high == 1 else value  # 0.99999999 is 1.0 in float32
    if value not in allowed or rounded not in allowed:
        raise ValueError(f"{what} must be {allowed}; got {value!r}.")


def flag(owner: str, name: str, value: Any) -> bool:
    """A bool, NumPy's or 0 or 1 included; raises for anything else."""
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise TypeError(f"{owner}: {name} must be True or False; got {value!r} of type {type(value).__name__}.")


def milestones(owner: str, name: str, value: Any) -> dict[int, Any]:
    """A mapping of steps to numbers, in the order of the steps; raises if a step is not a whole number from 0 on."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{owner}: {name} must map steps to numbers, as in {{1000: 0.1}}; got {value!r}.")
    for step in value:
        if isinstance(step, bool) or not isinstance(step, (int, np.integer)):
            raise TypeError(f"{owner}: the steps of {name} must be whole numbers; got {step!r}.")
        if step < 0:
            raise ValueError(f"{owner}: the steps of {name} must not be negative; got {step}.")
    return {int(step): value[step] for step in sorted(value)}


def sequence(owner: str, name: str, value: Any) -> tuple[Any, ...]:
    """A list or tuple as a tuple; raises for anything else."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{owner}: {name} must be a list or tuple of numbers; got {value!r}.")
    return tuple(value)


def random_key(owner: str, value: Any) -> Any:
    """A seed as an int, or a single key of ``jax.random``, typed or not; raises for anything else."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, (jax.Array, np.ndarray)):
        if jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key) and not value.shape:
            return value
        if value.dtype == np.uint32 and value.shape == jax.random.key_data(jax.random.key(0)).shape:
            return value
    got = describe(value) if hasattr(value, "dtype") else repr(value)
    raise TypeError(f"{owner}: key must be a seed or one key of jax.random, such as jax.random.key(0); got {got}.")


def state_dtype(owner: str, value: Any) -> Any:
    """A dtype with fractions, or None; raises for anything else."""
    try:
        fits = value is None or jax.numpy.issubdtype(jax.numpy.dtype(value), np.inexact)
    except TypeError:
        fits = False
    if not fits:
        raise TypeError(f"{owner}: the dtype of a state must be floating point, as jnp.bfloat16 is; got {value!r}.")
    return value


def arguments(owner: str, error: TypeError, given: Iterable[str], known: Sequence[str]) -> NoReturn:
    """Re-raises a failed call with the name of the function and, for an unknown keyword, the nearest known one."""
    unknown = [name for name in given if name not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise TypeError(
            f"{owner}: got an unknown argument {unknown[0]!r}.{hint} The arguments are: {', '.join(known)}."
        ) from None
    raise TypeError(f"{owner}: {error}.") from None


def unhashable(owner: str, name: str, value: Any) -> NoReturn:
    raise TypeError(
        f"{owner}: {name} is part of the structure of the value and must be hashable; got {value!r} of type "
        f"{type(value).__name__}."
    )


def transformation_expected(owner: str, value: Any) -> NoReturn:
    raise TypeError(
        f"{owner}: expected a gradient transformation, an (init, update) pair; got {value!r} of type "
        f"{type(value).__name__}."
    )


def by_label(owner: str, name: str, value: Any) -> Mapping[Any, Any]:
    """A mapping by labels that can be the keys of a state; raises for anything else."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{owner}: {name} must map labels to transformations; got {value!r}.")
    if not value:
        raise ValueError(f"{owner}: {name} must have at least one label.")
    try:
        sorted(value)
    except TypeError:
        raise TypeError(
            f"{owner}: the labels of {name} must be of one kind, such as strings; got {list(value)}."
        ) from None
    return value


def name_and_value(owner: str, pair: Any) -> tuple[str, Any]:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not isinstance(pair[0], str):
        raise TypeError(f"{owner}: the arguments are pairs of a name and a transformation; got {pair!r}.")
    return pair[0], pair[1]


def pairs(owner: str, name: str, value: Any) -> list[tuple[Any, Any]]:
    """The items of a mapping, or of a list of pairs; raises for anything else."""
    if isinstance(value, Mapping):
        return list(value.items())
    if not isinstance(value, (tuple, list)) or not all(isinstance(p, (tuple, list)) and len(p) == 2 for p in value):
        raise TypeError(f"{owner}: {name} must be a mapping or a list of pairs; got {value!r}.")
    return [(key, item) for key, item in value]


def rounds_last(owner: str, name: str, rounds: bool) -> None:
    """Raises if a transformation rounds its steps for half-precision parameters: ``owner`` would change them after."""
    require(
        not rounds,
        f"{owner}: {name} has its steps rounded for half-precision parameters, which what comes after would spoil. Let "
        "the precision wrapper be the last and outermost one.",
    )


def increasing(owner: str, name: str, values: Sequence[Any]) -> None:
    """Raises unless the numbers increase strictly; tracers are let through."""
    known = [value for value in values if not isinstance(value, Tracer)]
    if any(not a < b for a, b in itertools.pairwise(known)):
        raise ValueError(f"{owner}: {name} must increase; got {tuple(values)}.")


def not_above(owner: str, low_name: str, low: Any, high_name: str, high: Any) -> None:
    """Raises if one number lies above another; tracers are let through."""
    if not isinstance(low, Tracer) and not isinstance(high, Tracer) and np.any(np.greater(low, high)):
        raise ValueError(f"{owner}: {low_name} must not be above {high_name}; got {low} and {high}.")


def known(value: Any) -> int | None:
    """A whole number where it is known: neither a tracer nor a stack of numbers."""
    return None if isinstance(value, Tracer) or np.ndim(value) else int(value)


def countable(owner: str, steps: Any) -> None:
    """Raises if a schedule takes more updates than a counter can count; unknown numbers are let through."""
    if (known(steps) or 0) > np.iinfo(np.int32).max:
        raise ValueError(f"{owner}: takes {steps} updates; counters go up to 2^31 - 1.")


def shows_all(owner: str, name: str, boundary: Any, steps: Any) -> None:
    """Raises if a schedule that runs for ``steps`` updates changes later than that; unknown numbers are let through."""
    last, steps = known(boundary), known(steps)
    if last is not None and steps is not None and last > steps:
        raise ValueError(f"{owner}: {name} runs for {steps} updates, and would never reach its boundary at {last}.")


def runs_to_its_end(owner: str, name: str, length: Any, steps: Any) -> None:
    """Raises if a schedule of a known length is given another number of updates; unknown numbers are let through."""
    length, steps = known(length), known(steps)
    if length is None or steps is None or length == steps:
        return
    problem = f"{owner}: {name} takes {length} updates, not {steps}"
    if steps < length:
        raise ValueError(f"{problem}: its last {length - steps} would be cut off. join_schedules does so.")
    raise ValueError(f"{problem}. Write .hold({steps - length}) to stay at its last value for {steps - length} more.")


def no_end(owner: str, name: str, remedy: str) -> NoReturn:
    raise ValueError(f"{owner}: {name} has no end of its own; {remedy}.")


def whole_count(owner: str, count: Any) -> jax.Array:
    """``count`` as an array of signed integers, so that differences are right; raises for other numbers."""
    dtype = jax.numpy.result_type(count)
    if not jax.numpy.issubdtype(dtype, np.integer):
        raise TypeError(f"{owner}: count must be a whole number of updates, an integer; got {describe(count)}.")
    count = jax.numpy.asarray(count)
    if count.dtype == np.int64:
        return count
    if count.dtype in (np.uint32, np.uint64):
        count = jax.numpy.minimum(count, np.asarray(np.iinfo(np.int32).max, count.dtype))
    return count.astype(np.int32)


def require(condition: bool, message: str | Callable[[], str]) -> None:
    """Raises ``ValueError(message)`` unless ``condition`` holds: for conditions between several arguments."""
    if not condition:
        raise ValueError(message() if callable(message) else message)


# ---------------------------------------------------------------------------------------------------------------------
# Trees, checked when they are traced
# ---------------------------------------------------------------------------------------------------------------------


def path_name(path: Sequence[Any]) -> str:
    """``params/dense/kernel``-like name of a leaf; the empty path is the tree itself."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/") or "(the only leaf)"


def key_name(key: Any) -> str:
    """The name of one step of a path."""
    return jax.tree_util.keystr((key,), simple=True)


def keys_name(keys: Sequence[str]) -> str:
    """The ``path_name`` of a path given by the names along it."""
    return "/".join(keys) or path_name(())


def describe(leaf: Any) -> str:
    """``float32[3,4]`` for an array, the type's name for anything else."""
    if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
        return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
    return f"{leaf!r} of type {type(leaf).__name__}"


def different_trees(name: str, tree: Any, reference_name: str, reference: Any) -> NoReturn:
    """Raises the first difference between the structures of two trees, by path."""
    here = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    there = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(reference)}
    missing = [path for path in there if path not in here]
    extra = [path for path in here if path not in there]
    if missing or extra:
        parts = []
        if missing:
            parts.append(f"nothing at {_some(missing)}, where {reference_name} has {describe(there[missing[0]])}")
        if extra:
            parts.append(f"{describe(here[extra[0]])} at {_some(extra)}, where {reference_name} has nothing")
        raise InputError(f"{name} and {reference_name} differ in structure. {name} has {'; and '.join(parts)}.")
    where, kind, other = _first_container(tree, reference)
    raise InputError(
        f"{name} and {reference_name} differ in structure: they have the same leaves in different containers. At "
        f"{where} {name} has {kind} and {reference_name} has {other}."
    )


def labels_differ(name: str, missing: Mapping[Any, Any], surplus: Mapping[Any, Any]) -> NoReturn:
    """Raises where a tree of labels and the parameters differ; both mappings are by the names along a path."""
    parts = []
    if missing:
        paths = _some(list(map(keys_name, missing)))
        parts.append(f"nothing at {paths}, where params has {describe(next(iter(missing.values())))}")
    if surplus:
        paths = _some(list(map(keys_name, surplus)))
        parts.append(f"{describe(next(iter(surplus.values())))} at {paths}, where params has nothing")
    raise InputError(f"{name} and params differ in structure. {name} has {'; and '.join(parts)}.")


def label_is_none(name: str, path: Sequence[Any]) -> NoReturn:
    raise InputError(f"{name} returned None for {path_name(path)!r}: every leaf needs a label.")


def _some(paths: list[str], most: int = 3) -> str:
    shown = ", ".join(repr(path) for path in paths[:most])
    return shown if len(paths) <= most else f"{shown} and {len(paths) - most} more"


def _first_container(tree: Any, reference: Any, path: tuple[Any, ...] = ()) -> tuple[str, str, str]:
    def children(node: Any) -> list[tuple[tuple[Any, ...], Any]]:
        found = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)[0]
        return [] if len(found) == 1 and not found[0][0] else found

    if type(tree) is type(reference):
        for (key, child), (_, other) in zip(children(tree), children(reference), strict=False):
            if jax.tree.structure(child) != jax.tree.structure(other):
                return _first_container(child, other, path + key)
    if type(tree) is not type(reference):
        return path_name(path), _a(type(tree)), _a(type(reference))
    return path_name(path), str(jax.tree.structure(tree)), str(jax.tree.structure(reference))


def _a(kind: type) -> str:
    return f"a {kind.__module__.split('.')[0]}.{kind.__qualname__}".replace("builtins.", "")


def different_shapes(path: Sequence[Any], name: str, leaf: Any, reference_name: str, reference: Any) -> NoReturn:
    raise InputError(
        f"at {path_name(path)!r} {name} has {describe(leaf)} and {reference_name} has {describe(reference)}. The "
        "shapes must be equal; nothing is broadcast."
    )


def wrong_state_shape(path: Sequence[Any], leaf: Any, state: Any, expected: tuple[int, ...]) -> NoReturn:
    raise InputError(
        f"at {path_name(path)!r} updates has {describe(leaf)} and the state beside it {describe(state)}, which should "
        f"have the shape {list(expected)}. Was the state made for other parameters or arguments?"
    )


def wrong_result_shape(rule: str, path: Sequence[Any], position: int, expected: Any, got: Any) -> NoReturn:
    what = "the update" if position == 0 else f"state {position}"
    raise InputError(
        f"at {path_name(path)!r} the rule {rule} returned {what} as {describe(got)} where {describe(expected)} came "
        "in. Was the state made for other parameters?"
    )


def not_differentiable(path: Sequence[Any], leaf: Any) -> NoReturn:
    hint = "float0 marks a leaf with no gradient" if getattr(leaf, "dtype", None) == jax.dtypes.float0 else ""
    raise InputError(
        f"at {path_name(path)!r} the gradient is {describe(leaf)}, which is not a floating-point or complex array"
        f"{' (' + hint + ')' if hint else ''}. Split the parameters into trained and untrained ones first, and leave "
        "None where a leaf is not trained."
    )


def complex_gradient(path: Sequence[Any], leaf: Any, parameter: Any) -> NoReturn:
    raise InputError(
        f"at {path_name(path)!r} the gradient is {describe(leaf)} and the parameter {describe(parameter)}: an "
        "imaginary part would be lost."
    )


def complex_refused(path: Sequence[Any], leaf: Any) -> NoReturn:
    raise InputError(
        f"at {path_name(path)!r} the leaf is {describe(leaf)}: the axes of a leaf have a meaning here, and complex "
        "numbers have none among them. Keep real and imaginary parts as leaves of their own."
    )


def untrained_parameter(path: Sequence[Any], leaf: Any) -> NoReturn:
    raise InputError(
        f"at {path_name(path)!r} the parameter is {describe(leaf)} and cannot take a fractional update. Split the "
        "parameters into trained and untrained ones first, and leave None where a leaf is not trained."
    )


def wrong_blocks(path: Sequence[Any], shape: tuple[int, ...], kept: Any, problem: str) -> NoReturn:
    raise InputError(
        f"at {path_name(path)!r} a leaf of shape {list(shape)} has no blocks {kept!r}: {problem}. Give an axis, or a "
        "tuple of axes and of pairs (axis, number of pieces)."
    )


def examples(grads: Any) -> None:
    """Raises unless all leaves have a first axis of the same length."""
    sizes = set()
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        sizes.add(np.shape(leaf)[:1])
        if len(sizes) > 1 or () in sizes:
            raise InputError(
                f"at {path_name(path)!r} the gradient is {describe(leaf)}: all leaves need a first axis of the same "
                "number of examples, as jax.vmap(jax.grad(loss), in_axes=(None, 0)) gives them."
            )


def units_unknown(shape: tuple[int, ...]) -> NoReturn:
    raise InputError(f"a leaf has the shape {list(shape)}: say with axis=... along which axes a unit's weights lie.")


def params_needed() -> NoReturn:
    raise InputError("needs the parameters: call update(updates, state, params).")


def missing_extra(name: str) -> NoReturn:
    raise InputError(f"needs {name}: call update(updates, state, params, {name}=...).")


def loss_value(value: Any) -> jax.Array:
    """The argument ``value=`` of ``update`` as an array; raises unless it is one real number."""
    dtype = np.dtype(float) if type(value) in (int, float) else getattr(value, "dtype", np.dtype(bool))
    real = jax.numpy.issubdtype(dtype, np.floating) or jax.numpy.issubdtype(dtype, np.integer)
    if not real or np.shape(value):
        raise InputError(
            "value must be the loss, one real number: call update(updates, state, params, value=loss); got "
            f"{describe(value)}."
        )
    return jax.numpy.asarray(value)


def scalar_bool(name: str, value: Any) -> jax.Array:
    """What a function that decides returned, as an array; raises unless it is one bool."""
    array = jax.numpy.asarray(value)
    if array.dtype != np.bool_ or array.shape:
        raise InputError(f"{name} must return a scalar bool; got {describe(array)}.")
    return array


def wrong_state(expected: type, state: Any) -> NoReturn:
    raise InputError(
        f"expected the state {expected.__name__} that init returned, got {type(state).__name__}. A state belongs to "
        "one transformation; was it made by another, or restored without its types?"
    )


def fields_exist(names: Sequence[str], fields: Sequence[str]) -> None:
    """Raises unless the state has all fields of these names."""
    missing = [name for name in names if name not in fields]
    if missing:
        raise InputError(f"the state has no field {', '.join(missing)}: there are {', '.join(fields)}.")


def wrong_chain_state(names: Sequence[str], state: Any) -> NoReturn:
    got = f"a tuple of {len(state)}" if isinstance(state, tuple) else type(state).__name__
    raise InputError(f"expected a tuple of {len(names)} states, one for each of {', '.join(names)}; got {got}.")


def wrong_states_by_name(kind: str, names: Sequence[Any], state: Any) -> NoReturn:
    got = f"one with {', '.join(map(repr, state))}" if isinstance(state, Mapping) else type(state).__name__
    raise InputError(f"expected a dict of states with the {kind} {', '.join(map(repr, names))}; got {got}.")


def labels_known(known: Sequence[Any], given: Sequence[Any]) -> None:
    """Raises unless the labels of the leaves are those of the transformations, each of which has a leaf."""
    unknown = [label for label in dict.fromkeys(given) if label not in known]
    unused = [label for label in known if label not in given]
    if given and (unknown or unused):
        parts = [f"no transformation has the label {', '.join(map(repr, unknown))}"] if unknown else []
        parts += [f"no leaf has the label {', '.join(map(repr, unused))}"] if unused else []
        raise InputError(
            f"{' and '.join(parts)}. The transformations are for {', '.join(map(repr, known))}; the labels of the "
            f"leaves are {', '.join(map(repr, dict.fromkeys(given)))}."
        )


def rules_without_parameters(
    idle: Mapping[str, int], rules: Sequence[str], uncovered: Sequence[str], paths: Sequence[str]
) -> NoReturn:
    """Raises for rules that no parameter belongs to, with how many fitted, and parameters that no rule fits."""
    parts = [
        f"{name!r} fits {'only parameters that belong to earlier rules' if fitting else 'no parameter'}"
        for name, fitting in idle.items()
    ]
    if uncovered:
        parts.append(f"no rule fits {_some(list(uncovered), 12)}, and there is no default")
    raise InputError(
        f"{'; '.join(parts)}. The rules are {', '.join(map(repr, rules)) or 'none'}; the parameters are "
        f"{_some(list(paths), 12)}. In a pattern * stays within one name and ** crosses names, as in '**/bias' and "
        "'encoder/**'."
    )


def mask_by_pattern(pattern: str) -> NoReturn:
    raise InputError(
        f"a mask is a tree of bools or a function; got the string {pattern!r}. Patterns are for groups; here write "
        "lambda path, leaf: path.startswith('encoder/'), for instance."
    )


def state_differs(differences: Sequence[str]) -> NoReturn:
    more = f" and {len(differences) - 12} more" if len(differences) > 12 else ""
    raise InputError(f"the given state does not fit the optimizer: {'; '.join(differences[:12])}{more}.")


def no_such_record(kind: str, others: Sequence[str]) -> NoReturn:
    there = f"there is {', '.join(others)}" if others else "there is nothing left"
    raise InputError(
        f"the given state has no {kind} at its place: {there}. Is it the state of the same optimizer, with the "
        "NamedTuples that optax made? One read from a file without them must be restored into optax's init first."
    )


def surplus_records(names: Sequence[str]) -> NoReturn:
    raise InputError(f"the given state has more than the optimizer: {', '.join(names)} would be lost.")


def different_paths(field: str, expected: Sequence[str], got: Sequence[str]) -> NoReturn:
    missing, surplus = sorted(set(expected) - set(got)), sorted(set(got) - set(expected))
    parts = [f"{word} {_some(paths)}" for word, paths in (("missing", missing), ("surplus", surplus)) if paths]
    raise InputError(f"the given state does not fit the parameters: in {field} {'; '.join(parts)}.")


def count_needed() -> NoReturn:
    raise InputError(
        "a schedule must know how many updates have been made, and nothing in the given state tells: pass count=..."
    )


def ambiguous_name(name: str) -> NoReturn:
    raise InputError(
        f"two leaves of the state are both called {name}: keys such as 1 and '1', or names with a slash, cannot be "
        "told apart. Rename a parameter."
    )


# ---------------------------------------------------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------------------------------------------------


def loss_with_metrics(result: tuple[Any, ...]) -> None:
    """Raises unless ``result`` is ``(loss, dict of metrics)``."""
    if len(result) != 2 or not isinstance(result[1], Mapping):
        kinds = ", ".join(type(item).__name__ for item in result)
        raise InputError(f"a loss function returns a loss, or (loss, dict of metrics); got a tuple of ({kinds}).")


def reserved_metrics(metrics: Mapping[str, Any]) -> None:
    taken = [name for name in ("loss", "weight") if name in metrics]
    if taken:
        raise InputError(f"the metrics of a loss function cannot be called {taken[0]!r}: the step reports its own.")


def loss_shape(name: str, got: str, examples: int) -> NoReturn:
    raise InputError(
        f"{name} must be a scalar, one number per example (shape ({examples},)), or Weighted(total, weight) of two "
        f"scalars; got {got}."
    )


def loss_per_example(name: str, kind: str) -> NoReturn:
    raise InputError(
        f"{name} is {kind}, which already contains the examples that fill up the batch. With remainder='pad' return "
        "one number per example, or use remainder='keep', 'drop' or 'wrap'."
    )


def unmasked_step() -> NoReturn:
    raise InputError(
        "the step takes no mask, so it cannot tell the examples that fill up the last batch. Use remainder='keep', "
        "'drop' or 'wrap', or a step (state, batch, mask)."
    )


def real_loss(name: str, value: Any) -> NoReturn:
    raise InputError(f"{name} must be real; got {describe(value)}.")


def leading_sizes(data: Any) -> int:
    """The common length of the first axes; raises if there are none or if they differ."""
    sizes = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        if not hasattr(leaf, "shape"):
            raise TypeError(f"data: the leaf at {path_name(path)!r} is {describe(leaf)}, not an array.")
        if not leaf.shape:
            raise InputError(f"data: the leaf at {path_name(path)!r} is a single number, without an axis of examples.")
        sizes[path_name(path)] = leaf.shape[0]
    if not sizes:
        raise InputError("data: there are no arrays in it.")
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{size} at {path!r}" for path, size in sizes.items())
        raise InputError(f"data: the first axes count the examples and must have equal lengths; got {shown}.")
    size = next(iter(sizes.values()))
    if size == 0:
        raise InputError("data: there are no examples in it, the first axes have length 0.")
    return size


def whole(owner: str, name: str, value: Any, least: int) -> int:
    """``value`` as an int; raises unless it is a whole number of at least ``least``."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{owner}: {name} must be a whole number; got {value!r} of type {type(value).__name__}.")
    if value < least:
        raise ValueError(f"{owner}: {name} must be at least {least}; got {value}.")
    return int(value)


def one_of(owner: str, name: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{owner}: {name} must be one of {', '.join(map(repr, choices))}; got {value!r}.")
