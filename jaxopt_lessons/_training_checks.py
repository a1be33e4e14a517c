"""Errors of training: what a loss function returns, and the data."""

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import jax
import numpy as np
from jax.core import Tracer

from jaxopt_lessons._errors import InputError, describe, path_name


def loss_function_expected(owner: str, value: Any) -> NoReturn:
    raise TypeError(
        f"{owner}: loss_fn must be a function (params, batch) -> loss; got {value!r} of type {type(value).__name__}."
    )


def step_in_place_of_loss(owner: str, step: Any) -> NoReturn:
    raise TypeError(
        f"{owner}: loss_fn must be a function (params, batch) -> loss; got {step!r}, a step already. Its loss function "
        "is step.loss_fn."
    )


def not_traced(owner: str, *values: Any) -> None:
    """Raises if there is a tracer among the arguments of a function whose results are numbers on the host."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values)):
        raise TypeError(
            f"{owner}: the results are numbers on the host, so it cannot be called inside of jit, vmap or grad; got "
            "arguments that are traced."
        )


def loss_with_metrics(result: tuple[Any, ...]) -> None:
    """Raises unless ``result`` is ``(loss, dict of metrics)``."""
    if len(result) != 2 or not isinstance(result[1], Mapping):
        kinds = ", ".join(type(item).__name__ for item in result)
        raise InputError(f"a loss function returns a loss, or (loss, dict of metrics); got a tuple of ({kinds}).")


def loss_with_model_state(result: Any) -> None:
    """Raises unless ``result`` is ``(loss, model_state)`` or ``(loss, dict of metrics, model_state)``."""
    forms = "with stateful=True a loss function returns (loss, model_state) or (loss, dict of metrics, model_state)"
    if type(result) is not tuple:
        raise InputError(f"{forms}; got one {type(result).__name__}.")
    if len(result) not in (2, 3) or (len(result) == 3 and not isinstance(result[1], Mapping)):
        kinds = ", ".join(type(item).__name__ for item in result)
        raise InputError(f"{forms}; got a tuple of ({kinds}).")


def model_state_changed(path: Any, new: Any, old: Any) -> NoReturn:
    raise InputError(
        f"at {path_name(path)!r} the loss function returned the model state as {describe(new)}, and got it as "
        f"{describe(old)}. Shapes and dtypes must stay the same, or each step would be another program."
    )


def model_state_needed() -> NoReturn:
    raise InputError(
        "stateful=True: the state has no model_state to call the loss function with. Make it by init_state(params, "
        "step, model_state=...); {} if there is nothing in it."
    )


def stateful_with_mask() -> NoReturn:
    raise InputError(
        "stateful=True: the examples that fill up the last batch would count in the model state, which a mask cannot "
        "take out again. Use remainder='keep', 'drop' or 'wrap'; with batch statistics one of the last two."
    )


def stateful_loss(
    owner: str, parameters: Mapping[str, Any] | None, stateful: bool, switch: str = "stateful=True"
) -> None:
    """Raises if a loss function takes a model state and is not said to, or the other way round."""
    if parameters is None:
        return
    positional = [name for name, p in parameters.items() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if not stateful and positional[1:2] == ["model_state"]:
        raise ValueError(f"{owner}: loss_fn takes a model_state; say {switch}.")
    rest = any(p.kind is p.VAR_POSITIONAL for p in parameters.values())
    if stateful and len(positional) < 3 and not rest:
        raise ValueError(
            f"{owner}: with {switch} loss_fn must be a function (params, model_state, batch) or (params, "
            f"model_state, batch, key); its arguments are ({', '.join(parameters)})."
        )


def policy_expected(owner: str, value: Any) -> NoReturn:
    raise TypeError(
        f"{owner}: policy must be a Policy, or the floating-point dtype of one, 'bfloat16' or 'float16'; got {value!r}."
    )


def reserved_metrics(
    metrics: Mapping[str, Any], reserved: Iterable[str], reason: str = "the step reports its own"
) -> None:
    taken = [name for name in reserved if name in metrics]
    if taken:
        raise InputError(f"the metrics of a loss function cannot be called {taken[0]!r}: {reason}.")


def loss_type(name: str, value: Any) -> NoReturn:
    raise InputError(f"{name} must be a number or an array; got one {type(value).__name__}.")


def loss_with_derivative(loss: Any) -> None:
    """Raises for a loss of whole numbers or of bools, whose derivative is 0 wherever there is one."""
    dtype = getattr(loss[0] if isinstance(loss, tuple) else loss, "dtype", None)
    if dtype is not None and (jax.numpy.issubdtype(dtype, np.integer) or dtype == np.bool_):
        raise InputError(
            f"the loss must be floating point to have a derivative; got {dtype.name}. Errors that are counted go into "
            "the metrics, beside a loss that is differentiable, such as a cross-entropy."
        )


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


def examples_to_divide(parts: int, batch: Any) -> int:
    """How many examples there are to be cut into parts; raises if the leaves of a batch do not agree."""
    sizes = {path_name(path): leaf.shape[0] for path, leaf in jax.tree_util.tree_leaves_with_path(batch) if leaf.ndim}
    if len(set(sizes.values())) != 1:
        shown = ", ".join(f"{size} at {path!r}" for path, size in sizes.items()) or "no array with an axis"
        raise InputError(
            f"accumulate={parts} cuts each batch along the first axes of its arrays, which must have equal lengths, "
            f"those of the examples; got {shown}."
        )
    return next(iter(sizes.values()))


def unmasked_step() -> NoReturn:
    raise InputError(
        "the step takes no mask, so it cannot tell the examples that fill up the last batch. Use remainder='keep', "
        "'drop' or 'wrap', or a step (state, batch, mask)."
    )


def step_expected(owner: str, name: str, value: Any) -> NoReturn:
    raise TypeError(
        f"{owner}: {name} must be a step, made by make_step, or a function (state, batch) -> (state, metrics); got "
        f"{value!r} of type {type(value).__name__}."
    )


def step_arguments(owner: str, name: str, function: Any, parameters: Mapping[str, Any] | None) -> None:
    """Raises unless a plain function can be called as ``(state, batch)``, or with a mask."""
    if parameters is None:
        return
    positional = [p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    rest = any(p.kind is p.VAR_POSITIONAL for p in parameters.values())
    if len(required) > 3 or (len(positional) < 2 and not rest):
        raise TypeError(
            f"{owner}: {name} must be a function (state, batch) -> (state, metrics); got {function!r}, whose arguments "
            f"are ({', '.join(parameters)})."
        )


def step_result(function: Any, result: Any) -> None:
    """Raises unless a plain function returned ``(state, metrics)``."""
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], Mapping):
        kinds = ", ".join(type(item).__name__ for item in result) if type(result) is tuple else type(result).__name__
        raise InputError(
            f"the step {getattr(function, '__name__', function)} must return (state, dict of metrics); got {kinds}. A "
            "loss function is made a step by make_step(loss_fn, tx)."
        )


def made_by(owner: str, name: str, value: Any, kind: type, maker: str) -> None:
    """Raises unless ``value`` is what the function ``maker`` makes."""
    if not isinstance(value, kind):
        raise TypeError(f"{owner}: {name} must be made by {maker}; got {describe(value)}.")


def wrapped_once(owner: str, step: Any) -> None:
    """Raises if one of the steps inside is made by the wrapper that is to wrap it."""
    while step is not None:
        if step.name == owner:
            raise ValueError(f"{owner}: the step has one inside already, and both would keep the same in state.extras.")
        step = step.inner


def kept_in_extras(owner: str, name: str, extras: Any) -> Any:
    """What a wrapper keeps in ``state.extras``; raises if it is not there."""
    if not isinstance(extras, Mapping) or name not in extras:
        raise InputError(
            f"{owner}: the state has no extras[{name!r}]. Make it by init_state(params, step), with the step that is "
            "taken, or complete one that you have: state._replace(extras=step.init_extras(state.params))."
        )
    return extras[name]


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
