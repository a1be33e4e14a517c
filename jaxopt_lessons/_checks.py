"""Checks of single arguments: hyperparameters when a transformation is built, loss and parameters when it is called.

Wrong types raise ``TypeError``, wrong values ``ValueError``, with the name of the function (``owner``) and of the
argument; tracers are let through. What does not fit ``update`` raises ``InputError``.
"""

import difflib
import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import jax
import numpy as np
from jax.core import Tracer

from jaxopt_lessons._errors import InputError, describe, path_name
from jaxopt_lessons.types import Range

ELSEWHERE = {"lr": "learning_rate", "beta1": "b1", "beta_1": "b1", "beta2": "b2", "beta_2": "b2"}
"""What other libraries call an argument, where it is too unlike to be found by its letters."""


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
    rounded = _in_float32(value)
    fits = value in allowed and (allowed.whole or rounded in allowed)
    if not fits or (isinstance(value, int) and np.isinf(rounded)):
        raise ValueError(f"{what} must be {allowed}; got {value!r}.")


def _in_float32(value: float) -> float:
    """What a number is when it is calculated with: 0.99999999 is 1, 1e-50 is 0 and 1e39 is infinite."""
    try:
        with np.errstate(over="ignore", under="ignore"):
            return float(np.float32(value))
    except OverflowError:  # a whole number that is too large for any float
        return float("inf") if value > 0 else -float("inf")


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


def random_key(owner: str, name: str, value: Any) -> Any:
    """A seed as an int, or a single key of ``jax.random``, typed or not; raises for anything else."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"{owner}: {name}, as a seed, must be a whole number of 64 bits; got {value}.")
        return int(value)
    if isinstance(value, (jax.Array, np.ndarray)):
        if jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key) and not value.shape:
            return value
        if value.dtype == np.uint32 and value.shape == jax.random.key_data(jax.random.key(0)).shape:
            return value
    got = describe(value) if hasattr(value, "dtype") else repr(value)
    raise TypeError(f"{owner}: {name} must be a seed or one key of jax.random, such as jax.random.key(0); got {got}.")


def state_dtype(owner: str, name: str, value: Any) -> Any:
    """A dtype with fractions, or None; raises for anything else."""
    dtype = np.dtype(float) if value is None else as_dtype(value)
    if dtype is None or not jax.numpy.issubdtype(dtype, np.inexact):
        raise TypeError(f"{owner}: {name} must be a floating-point dtype, as jnp.bfloat16 is; got {value!r}.")
    return value


def as_dtype(value: Any) -> np.dtype | None:
    """The dtype that ``value`` is or names; None for anything else, for numbers and arrays that have one too."""
    if value is None or isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return None
    try:
        return jax.numpy.dtype(value)
    except (TypeError, ValueError):
        return None


def arguments(owner: str, error: TypeError, given: Iterable[str], known: Sequence[str]) -> NoReturn:
    """Re-raises a failed call with the name of the function and, for an unknown keyword, the nearest known one."""
    unknown = [name for name in given if name not in known]
    if unknown:
        here = ELSEWHERE.get(unknown[0])
        near = [here] if here in known else difflib.get_close_matches(unknown[0], known, n=1)
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


def transformation_expected(owner: str, name: str, value: Any) -> NoReturn:
    hint = ""
    if hasattr(value, "gradient_transformation"):  # optax.MultiSteps, whose update is called with other arguments
        hint = " Write its .gradient_transformation()."
    elif hasattr(value, "_specification"):
        hint = f" Call it: {getattr(value, '__name__', name)}(...)."
    raise TypeError(
        f"{owner}: {name} must be a gradient transformation, an (init, update) pair; got {value!r} of type "
        f"{type(value).__name__}.{hint}"
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


def require(condition: bool, message: str | Callable[[], str]) -> None:
    """Raises ``ValueError(message)`` unless ``condition`` holds: for conditions between several arguments."""
    if not condition:
        raise ValueError(message() if callable(message) else message)


def params_needed(updates: Any) -> None:
    """Raises, where ``params`` is None, unless ``updates`` is None too: that is a tree without leaves, not a lack."""
    if updates is not None:
        raise InputError("needs the parameters: call update(updates, state, params).")


def missing_extra(name: str) -> NoReturn:
    raise InputError(f"needs {name}: call update(updates, state, params, {name}=...).")


def is_real_number(value: Any) -> bool:
    """Whether this is one real number, traced or not, whole or not; a bool is none."""
    dtype = np.dtype(float) if type(value) in (int, float) else getattr(value, "dtype", np.dtype(bool))
    real = jax.numpy.issubdtype(dtype, np.floating) or jax.numpy.issubdtype(dtype, np.integer)
    return real and not np.shape(value)


def loss_value(value: Any) -> jax.Array:
    """The argument ``value=`` of ``update`` as an array; raises unless it is one real number."""
    if not is_real_number(value):
        raise InputError(
            "value must be the loss, one real number: call update(updates, state, params, value=loss); got "
            f"{describe(value)}."
        )
    return jax.numpy.asarray(value)


def scalar_bool(name: str, value: Any) -> jax.Array:
    """What a function that decides returned, as an array; raises unless it is one bool."""
    is_array = isinstance(value, (int, float, complex, np.ndarray, np.generic, jax.Array, Tracer))
    array = jax.numpy.asarray(value) if is_array else value
    if not is_array or array.dtype != np.bool_ or array.shape:
        raise InputError(f"{name} must return a scalar bool; got {describe(array)}.")
    return array


def whole(owner: str, name: str, value: Any, least: int | None = None, most: int | None = 2**31 - 1) -> int:
    """``value`` as an int; raises unless it is a whole number of at least ``least`` and at most ``most``: of what
    a counter can count, if nothing else is said."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{owner}: {name} must be a whole number; got {value!r} of type {type(value).__name__}.")
    if least is not None and value < least:
        raise ValueError(f"{owner}: {name} must be at least {least}; got {value}.")
    if most is not None and abs(value) > most:
        raise ValueError(f"{owner}: {name} must be at most {most}; got {value}.")
    return int(value)


def function(owner: str, name: str, value: Any) -> Any:
    """``value``; raises unless it can be called."""
    if not callable(value):
        raise TypeError(f"{owner}: {name} must be a function; got {value!r} of type {type(value).__name__}.")
    return value


def text(owner: str, name: str, value: Any) -> str:
    """``value``; raises unless it is a string with something in it."""
    if not isinstance(value, str) or not value:
        raise TypeError(f"{owner}: {name} must be text; got {value!r} of type {type(value).__name__}.")
    return value


def path(owner: str, name: str, value: Any) -> None:
    """Raises unless ``value`` is the path of a file or a directory."""
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise TypeError(f"{owner}: {name} must be a path; got {value!r} of type {type(value).__name__}.")


def mask(owner: str, name: str, value: Any) -> Any:
    """``value``; raises for a tree with a leaf that is no bool. Whether it fits the parameters is seen with them."""
    if value is None:
        raise TypeError(f"{owner}: {name} must be {_mask_kinds(name)}; got None.")
    if callable(value) and jax.tree_util.all_leaves([value]):
        return value
    for path, leaf in jax.tree_util.tree_leaves_with_path(value):
        if isinstance(leaf, (bool, np.bool_, Tracer)):
            continue
        if not isinstance(leaf, (np.ndarray, jax.Array)) or leaf.dtype != np.bool_ or leaf.shape:
            where = f" at {path_name(path)!r}" if path else ""
            hint = " Patterns are for groups; here write lambda path, leaf: path.startswith('encoder/'), for instance."
            hint = hint if isinstance(leaf, str) else ""
            raise TypeError(f"{owner}: {name} must be {_mask_kinds(name)}; got {describe(leaf)}{where}.{hint}")
    return value


def _mask_kinds(name: str) -> str:
    return f"a tree of bools, a function {name}(params) that returns one, or {name}(path, leaf) -> bool"


def axes(owner: str, name: str, value: Any) -> Any:
    """``value``; raises unless it is an axis or a tuple of axes."""
    for axis in value if isinstance(value, tuple) else (value,):
        whole(owner, name, axis)
    return value


def one_of(owner: str, name: str, value: Any, choices: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{owner}: {name} must be one of {', '.join(map(repr, choices))}; got {value!r}.")


def some_of(owner: str, name: str, value: Any, choices: Sequence[str]) -> tuple[str, ...]:
    """The chosen words in the order of ``choices``; raises for one that is not there, and says the nearest."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{owner}: {name} must be a sequence of names, as in [{choices[0]!r}]; got {value!r}.")
    chosen = tuple(value)
    for word in chosen:
        if word not in choices:
            near = difflib.get_close_matches(str(word), choices, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{owner}: {name} has no {word!r}.{hint} There are: {', '.join(map(repr, choices))}.")
    return tuple(word for word in choices if word in chosen)


def unknown_hyperparameter(pattern: str, known: Sequence[str], near: Sequence[str]) -> NoReturn:
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise ValueError(
        f"set_hyperparams: no hyperparameter is called {pattern!r}.{hint} There are: {', '.join(known) or 'none'}."
    )


def injected_names(written: Iterable[str], known: Sequence[str]) -> None:
    """Raises if the hyperparameters in a state are not those that were injected: a name may have been mistyped."""
    unknown, missing = sorted(set(written) - set(known)), sorted(set(known) - set(written))
    if unknown or missing:
        problem = f"has {unknown[0]!r}, which is none" if unknown else f"lacks {missing[0]!r}"
        raise InputError(f"state.hyperparams {problem}. The hyperparameters are: {', '.join(sorted(known))}.")
