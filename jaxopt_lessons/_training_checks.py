"""Errors of training: what a loss function returns, and the data."""

from collections.abc import Mapping
from typing import Any, NoReturn

import jax

from jaxopt_lessons._errors import InputError, describe, path_name


def loss_with_metrics(result: tuple[Any, ...]) -> None:
    """Raises unless ``result`` is ``(loss, dict of metrics)``."""
    if len(result) != 2 or not isinstance(result[1], Mapping):
        kinds = ", ".join(type(item).__name__ for item in result)
        raise InputError(f"a loss function returns a loss, or (loss, dict of metrics); got a tuple of ({kinds}).")


def reserved_metrics(metrics: Mapping[str, Any]) -> None:
    taken = [name for name in ("loss", "weight") if name in metrics]
    if taken:
        raise InputError(f"the metrics of a loss function cannot be called {taken[0]!r}: the step reports its own.")


def recorded_metrics(metrics: Mapping[str, Any], rates: Mapping[str, Any]) -> None:
    taken = [name for name in rates if name in metrics]
    if taken:
        raise InputError(f"the metrics of a loss function cannot be called {taken[0]!r}: fit records its own.")


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
