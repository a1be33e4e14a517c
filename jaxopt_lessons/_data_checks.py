"""Errors of data that is read while a run goes on: batches of a stream, and arrays in the host's memory."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jax
import numpy as np

from jaxopt_lessons._errors import InputError, describe, path_name


def stream_expected(data: Any) -> NoReturn:
    raise TypeError(
        "data: expected an iterable or an iterator of batches, or a function of the number of the epoch that returns "
        f"one; got {describe(data)}."
    )


def epoch_argument(function: Any) -> NoReturn:
    raise TypeError(f"data: a function is called with the number of the epoch, data(epoch); {function!r} takes none.")


def no_batches(epoch: int) -> NoReturn:
    raise InputError(f"data: there is no batch in it: its pass for epoch {epoch} ended at once.")


def wrong_length(length: int, epoch: int, ended_after: int | None) -> NoReturn:
    got = f"has more in epoch {epoch}" if ended_after is None else f"ended after {ended_after} in epoch {epoch}"
    raise InputError(
        f"data: len(data) is {length}, so there should be {length} batches in an epoch, but the data {got}. len must "
        "count batches; data without a len may be of any length."
    )


def too_short_to_resume(epoch: int, batch: int) -> NoReturn:
    raise InputError(f"data: the run is to go on after batch {batch} of epoch {epoch}, but the data ended before that.")


def position_expected(position: Any, fields: Sequence[str]) -> None:
    """Raises unless a position is what the chunks of a stream gave, whole numbers and a state."""
    fits = isinstance(position, Mapping) and set(position) == set(fields)
    counts = [np.asarray(position[name]) for name in fields if name != "state"] if fits else []
    if not fits or any(count.shape or count.dtype.kind not in "iu" or count < 0 for count in counts):
        raise InputError(f"data: a position in a stream has {', '.join(fields)}; got {position!r}.")


def state_not_taken(data: Any) -> NoReturn:
    raise InputError(
        "data: the position to go on from was saved with the state of the data, but this data takes none: "
        f"{type(data).__name__} has neither set_state nor load_state_dict."
    )


def state_not_json(kind: type, where: str) -> NoReturn:
    raise InputError(
        f"data: its state has a {kind.__name__} at {where or 'the top'}, which cannot be saved; numbers, strings, "
        "bytes, arrays, and lists, tuples and dicts of them can."
    )


def state_not_encoded(error: Exception) -> NoReturn:
    raise InputError(f"data: its state, as it was saved, cannot be read: {str(error)[:200]}") from error


def leaf_not_array(path: Sequence[Any], leaf: Any) -> NoReturn:
    raise InputError(f"the leaf at {path_name(path)!r} is {describe(leaf)}, not an array of numbers.")


def leaf_overflows(path: Sequence[Any], dtype: np.dtype, narrow: np.dtype) -> NoReturn:
    raise InputError(
        f"the leaf at {path_name(path)!r} is {dtype}, and some of its numbers do not fit into {narrow}, which JAX "
        "makes of it. Make them smaller, or enable x64."
    )


def batch_sizes(paths: Sequence[Sequence[Any]], shapes: Sequence[tuple[int, ...]]) -> None:
    """Raises unless the first axes of the arrays are of one length that is not 0; single numbers may be among them."""
    sizes = {path_name(path): shape[0] for path, shape in zip(paths, shapes, strict=True) if shape}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{size} at {path!r}" for path, size in sizes.items())
        raise InputError(f"the first axes count the examples and must have equal lengths; got {shown}.")
    if not sizes:
        raise InputError("there is no array with an axis of examples in it. A list of numbers is a tree of numbers.")
    if 0 in sizes.values():
        raise InputError("there are no examples in it, the first axes have length 0.")


def batch_structure(structure: Any, first: Any) -> None:
    if structure != first:
        raise InputError(f"its tree is {structure}, and that of the batches before is {first}.")


def rows_expected(rows: Any, batch: int | None, tail: int) -> None:
    """Raises unless ``rows`` is a slice that takes rows of every batch."""
    if not isinstance(rows, slice):
        raise TypeError(f"rows: expected a slice of the rows of a batch; got {rows!r}.")
    if batch is not None and not len(range(batch)[rows]):
        raise ValueError(f"rows: {rows} takes none of the {batch} rows of a batch.")
    if tail:
        raise ValueError(
            f"rows: the last batch of an epoch has {tail} examples instead of {batch}, so {rows} is another part of it "
            "than of the others. Use remainder='drop', 'pad' or 'wrap'."
        )


def cursor_of_position(position: Any, cursor: int) -> None:
    if not isinstance(position, Mapping) or position.get("cursor") != cursor:
        raise InputError(f"data: the run goes on at cursor {cursor}, but the position of its data is {position!r}.")


def on_the_host() -> NoReturn:
    raise TypeError(
        "the data of these batches is in the host's memory: fit and evaluate read it batch by batch. To have it in the "
        "device's memory, say minibatches(..., on_host=False)."
    )


def host_leaf(path: Sequence[Any], leaf: Any) -> None:
    """Raises unless a leaf is an array that can be read by rows."""
    if not isinstance(leaf, jax.Array) and not (hasattr(leaf, "dtype") and hasattr(leaf, "__getitem__")):
        raise TypeError(f"data: the leaf at {path_name(path)!r} is {describe(leaf)}, not an array.")
