"""Super-batches: several steps' batches, stacked along a new first axis, as one compiled program takes them.

A batch that comes from outside is a tree of NumPy arrays, of tensors that NumPy can read (PyTorch's on the CPU,
TensorFlow's), of JAX arrays or of Python numbers. It becomes what ``jnp.asarray`` makes of it, float32 of doubles for
instance, but on the host: ``put`` brings whole super-batches to the device. JAX arrays stay on the device they are on.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _data_checks, numerics
from jaxopt_lessons._errors import path_name
from jaxopt_lessons.types import PyTree

CHUNK_BYTES = 2**27
"""Size of a super-batch, at most, if one batch is not larger. Of those read ahead three are in memory at a time."""

Room: TypeAlias = Callable[[int, int | None], int]
"""``room(cursor, left) -> n``: how many steps the chunk that begins at ``cursor`` may have; 0 ends the run. ``left``:
how many batches there are before the end of the epoch, or before a smaller one; None where that is not known."""

Put: TypeAlias = Callable[[PyTree], PyTree]
"""Brings a tree of host arrays to the device, or to several."""


class DataChunk(NamedTuple):
    """Several consecutive batches of one epoch.

    Attributes:
      first: the cursor of the first one.
      length: how many there are.
      epoch: the number of the epoch.
      ends_epoch: whether the last of them is the last of the epoch.
      batches: their arrays ``[length, batch, ...]``, on the device.
      masks: which examples count, bools ``[length, batch]``; None if all do.
      position: what ``chunks(resume=...)`` goes on from after this chunk; JSON can hold it.
    """

    first: int
    length: int
    epoch: int
    ends_epoch: bool
    batches: PyTree
    masks: jax.Array | None
    position: dict[str, Any]

    @property
    def steps(self) -> int:
        """How many steps are taken on it."""
        return self.length


class HostBatch(NamedTuple):
    """The leaves of a batch as NumPy arrays (or JAX arrays, where they came as such), and its tree."""

    leaves: list[Any]
    structure: Any

    @property
    def kinds(self) -> list[Any]:
        """What batches of one super-batch agree in, beside the tree: shapes, dtypes, and where the arrays are."""
        return [(leaf.shape, leaf.dtype, isinstance(leaf, jax.Array)) for leaf in self.leaves]


def host_batch(batch: PyTree) -> HostBatch:
    """A batch as arrays of JAX's dtypes; raises ``InputError`` with the path of a leaf that is none."""
    with_paths, structure = jax.tree_util.tree_flatten_with_path(batch)
    leaves = [host_array(path, leaf) for path, leaf in with_paths]
    _data_checks.batch_sizes([path for path, _ in with_paths], [leaf.shape for leaf in leaves])
    return HostBatch(leaves, structure)


def host_array(path: Any, leaf: Any) -> Any:
    if isinstance(leaf, jax.Array):
        return leaf
    if not isinstance(leaf, (bool, int, float, complex)) and not hasattr(leaf, "__array__"):
        _data_checks.leaf_not_array(path, leaf)
    try:
        array = np.asarray(leaf)
    except Exception as error:
        error.add_note(f"This happened to the leaf at {path_name(path)!r}.")
        raise
    if not _is_numeric(array.dtype):
        _data_checks.leaf_not_array(path, leaf)
    return narrowed(path, array)


@functools.lru_cache(maxsize=64)
def _is_numeric(dtype: np.dtype) -> bool:
    return jnp.issubdtype(dtype, np.number) or dtype == np.bool_


_NARROW = {
    np.dtype(wide): np.dtype(narrow) for wide, narrow in (("f8", "f4"), ("c16", "c8"), ("i8", "i4"), ("u8", "u4"))
}


def narrow_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype that JAX makes of one: of 64 bits only where x64 is enabled."""
    narrow = _NARROW.get(dtype)
    return dtype if narrow is None or numerics.float_dtype() == np.float64 else narrow


def narrowed(path: Any, array: np.ndarray) -> np.ndarray:
    """The array in JAX's dtype for it; raises ``InputError`` if whole numbers do not fit, which JAX would wrap."""
    dtype = narrow_dtype(array.dtype)
    if dtype == array.dtype:
        return array
    if dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        if array.max() > limits.max or array.min() < limits.min:
            _data_checks.leaf_overflows(path, array.dtype, dtype)
    return array.astype(dtype)  # NumPy warns of doubles that become infinite.


class Stack:
    """Batches of equal trees, shapes and dtypes, copied one by one into arrays with a new first axis."""

    def __init__(self, batch: HostBatch, most: int):
        self.structure, self.kinds = batch.structure, batch.kinds
        size = sum(leaf.nbytes for leaf in batch.leaves)
        self.most = min(most, power_of_two(CHUNK_BYTES // max(size, 1)))
        self.count = 0
        self._columns = [
            [] if isinstance(leaf, jax.Array) else np.empty((self.most, *leaf.shape), leaf.dtype)
            for leaf in batch.leaves
        ]
        self.add(batch)

    def fits(self, batch: HostBatch) -> bool:
        return batch.structure == self.structure and batch.kinds == self.kinds

    def add(self, batch: HostBatch) -> None:
        for column, leaf in zip(self._columns, batch.leaves, strict=True):
            if isinstance(column, list):
                column.append(leaf)
            else:
                column[self.count] = leaf
        self.count += 1

    def cut(self, first: int, end: int) -> PyTree:
        """The batches from ``first`` to ``end``, stacked."""
        columns = [column[first:end] for column in self._columns]
        stacked = [jnp.stack(column) if isinstance(column, list) else column for column in columns]
        return jax.tree.unflatten(self.structure, stacked)


def power_of_two(n: int) -> int:
    """The largest power of two up to n, and 1 for less."""
    return 1 << (max(n, 1).bit_length() - 1)
