"""What an argument cannot be, read off its range or its annotation."""

import math
import typing
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_lessons as jl
from jaxopt_lessons._checks import random_key, state_dtype
from jaxopt_lessons.core import as_transformation
from jaxopt_lessons.schedules.schedule import as_schedule
from jaxopt_lessons.types import Chosen, Convert, Range


def numbers_outside(allowed: Range) -> dict[str, float]:
    """Numbers that are not in a range, by what is wrong with them."""
    bad = {"nan": math.nan, "minus infinity": -math.inf, "too large for a float": 10**400}
    if allowed.finite:
        bad["infinity"] = math.inf
    if allowed.finite and not allowed.whole and allowed.high == math.inf:
        bad["infinite in float32"] = 1e39
    if allowed.low > -math.inf:
        bad["below"] = allowed.low - 1
    if not allowed.includes_low:
        bad["at the open lower end"] = allowed.low
        if allowed.low == 0:
            bad["zero in float32"] = 1e-50
    if allowed.high < math.inf:
        bad["above"] = allowed.high + 1
    if not allowed.includes_high and allowed.high < math.inf:
        bad["at the open upper end"] = allowed.high
        bad["rounded to the open upper end"] = float(np.nextafter(allowed.high, 0))
    if allowed.whole:
        bad["half a step"] = allowed.low + 0.5
    return bad


OTHER_TYPES = {
    "text": "1e-3",
    "list": [0.5],
    "bool": True,
    "numpy bool": np.bool_(True),
    "complex": 0.5 + 0j,
    "complex array": np.complex64(0.5),
    "two numbers": np.array([0.5, 0.5]),
    "bytes": b"0.5",
    "dict": {"a": 0.5},
    "class": float,
}
"""What is no number, by name."""

NUMBERS = {"number": 0.5, "nan": math.nan}
SWITCH = {**NUMBERS, "text": "yes", "two": 2, "none": None, "list": [True]}
FUNCTION = {**NUMBERS, "text": "tanh", "none": None, "list": [abs], "bool": True}
WORD = {**NUMBERS, "another word": "Nearest", "none": None, "list": ["hard"], "bool": True, "array": np.zeros(2)}
DTYPE = {**NUMBERS, "text": "1e-3", "whole": jnp.int32, "name": "int8", "bool": True, "scalar": np.float32(1.0)}
MASK = {**NUMBERS, "text": "**/bias", "whole": 1, "leaves": {"a": True, "b": 1}, "array": np.ones(2, bool)}
OPTIMIZER = {**NUMBERS, "text": "adam", "none": None, "factory": jl.adam, "list": [jl.adam(0.1)], "function": abs}
KEY = {**NUMBERS, "text": "0", "none": None, "bool": True, "keys": jax.random.split(jax.random.key(0)), "list": [0]}
WHOLE = {**NUMBERS, "text": "1", "none": None, "bool": True, "list": [1], "three": 3.0}
SCHEDULE = {"nan": math.nan, "infinity": math.inf, "too large for a float": 10**400, **OTHER_TYPES}
del SCHEDULE["class"]
TEXT = {**NUMBERS, "none": None, "empty": "", "list": ["a"]}


def kind_of(annotation: Any) -> str | None:
    """What an argument that is no hyperparameter must be."""
    found = _metadata(annotation, Convert)
    if found is not None:
        kinds = {state_dtype: "dtype", as_transformation: "optimizer", random_key: "key", as_schedule: "schedule"}
        return kinds.get(found.function)
    if _metadata(annotation, Chosen) is not None:
        return "mask"
    kinds = [item for item in typing.get_args(annotation) if item is not type(None)]
    if type(None) in typing.get_args(annotation) and len(kinds) == 1:
        annotation = kinds[0]
    if typing.get_origin(annotation) is typing.Literal:
        return "word"
    if typing.get_origin(annotation) is Callable:
        return "function"
    return {bool: "switch", int: "whole", str: "text"}.get(annotation)


def takes_none(parameter: Any) -> bool:
    return parameter.default is None or type(None) in typing.get_args(parameter.annotation)


def _metadata(annotation: Any, kind: type) -> Any:
    if typing.get_origin(annotation) is typing.Annotated:
        return next((item for item in typing.get_args(annotation)[1:] if isinstance(item, kind)), None)
    return next(filter(None, (_metadata(item, kind) for item in typing.get_args(annotation))), None)


BAD = {
    "switch": (SWITCH, TypeError, "must be True or False; got "),
    "function": (FUNCTION, TypeError, "must be a function; got "),
    "word": (WORD, ValueError, "must be one of '"),
    "dtype": (DTYPE, TypeError, "must be a floating-point dtype, as jnp.bfloat16 is; got "),
    "mask": (MASK, TypeError, "must be a tree of bools, a function "),
    "optimizer": (OPTIMIZER, TypeError, "must be a gradient transformation, an (init, update) pair; got "),
    "key": (KEY, TypeError, "must be a seed or one key of jax.random, such as jax.random.key(0); got "),
    "whole": (WHOLE, TypeError, "must be a whole number; got "),
    "text": (TEXT, TypeError, "must be text; got "),
    "schedule": (SCHEDULE, TypeError, "must be a finite number"),
}
"""Kind of argument: what it cannot be, the type of the error, and its words."""
