"""Mini-batches of arrays in memory, in an order that is a function of the run's key and cursor.

``minibatches(data, 64)`` is a plan and the data. Batch number ``cursor`` of the run is calculated when it is needed,
inside the compiled loop: nothing is shuffled in memory, no iterator has a position, and a run that resumes at any
cursor sees the examples it would have seen.

    batch_size=None    the whole set at each step: batch gradient descent
    batch_size=1       one example at each step: stochastic gradient descent
    batch_size=k       mini-batches

If the set is not a multiple of the batch, the remainder is

    "keep"    a smaller last batch: each example once an epoch (one more compiled program)
    "drop"    left out; another remainder each epoch
    "pad"     a last batch filled up with examples that a mask takes out again; needs a loss per example
    "wrap"    completed with the first examples of the next epoch: all batches are full, and after k epochs each example
              was there k times

Data in a file (``numpy.memmap``) stays there: ``fit`` and ``evaluate`` read the rows of each batch (``host_batches``).
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxopt_lessons import _checks, _data_checks, _errors, _training_checks
from jaxopt_lessons.train import shuffle as shuffling
from jaxopt_lessons.train.step import SHUFFLE_STREAM
from jaxopt_lessons.train.super_batches import host_array
from jaxopt_lessons.types import PyTree

REMAINDERS = ("keep", "drop", "pad", "wrap")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batches:
    """Data and the plan of how to cut it into batches; a tree whose leaves are the data. Made by ``minibatches``.

    Attributes:
      data: arrays with the examples along the first axis, all on the device or all on the host.
      examples: how many there are.
      batch_size: examples in a batch; None for all of them.
      shuffle: whether each epoch has a random order of its own.
      remainder: what happens to the examples that do not fill a batch.
    """

    data: PyTree
    examples: int = dataclasses.field(metadata={"static": True})
    batch_size: int | None = dataclasses.field(metadata={"static": True})
    shuffle: bool = dataclasses.field(metadata={"static": True})
    remainder: str = dataclasses.field(metadata={"static": True})

    @property
    def on_host(self) -> bool:
        """Whether the data is in the host's memory, or in a file."""
        return not all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(self.data))

    def without_data(self) -> "Batches":
        """The plan alone."""
        return dataclasses.replace(self, data=None)

    @property
    def full(self) -> int:
        """Batches of full size in an epoch (padded ones count as full; in "wrap", those that begin in it, at most)."""
        if self.batch_size is None:
            return 1
        if self.remainder in ("pad", "wrap"):
            return math.ceil(self.examples / self.batch_size)
        return self.examples // self.batch_size

    @property
    def tail(self) -> int:
        """Examples in the smaller last batch of an epoch; 0 if there is none."""
        return self.examples % self.batch_size if self.batch_size is not None and self.remainder == "keep" else 0

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch, the smaller one included. In "wrap" epochs have this many, or one less."""
        return self.full + (self.tail > 0)

    def epoch_start(self, epoch: int) -> int:
        """The cursor of the first batch that begins in this epoch."""
        if self.batch_size is not None and self.remainder == "wrap":
            return -(-epoch * self.examples // self.batch_size)
        return epoch * self.per_epoch

    def epoch_of(self, cursor: int) -> int:
        """The epoch in which batch number ``cursor`` begins."""
        if self.batch_size is not None and self.remainder == "wrap":
            return cursor * self.batch_size // self.examples
        return cursor // self.per_epoch

    def is_tail(self, cursor: int) -> bool:
        """Whether batch number ``cursor`` is a smaller one."""
        return self.tail > 0 and cursor % self.per_epoch == self.full

    def shapes(self) -> tuple[PyTree, jax.ShapeDtypeStruct | None]:
        """Shapes and dtypes of a batch, a full one if there is one, and of its mask."""
        size = (self.batch_size if self.full else self.tail) or self.examples
        batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype), self.data)
        is_masked = self.remainder == "pad" and self.examples % size > 0
        return batch, jax.ShapeDtypeStruct((size,), bool) if is_masked else None

    def order(self, key: jax.Array) -> jax.Array | None:
        """What the order of the examples depends on, from the root key of the run. Call it outside of loops."""
        return shuffling.seed_words(jax.random.fold_in(key, SHUFFLE_STREAM)) if self.shuffle else None

    def locate(self, order: jax.Array | None, cursor: jax.Array, tail: bool = False) -> "Location":
        """Where the examples of batch number ``cursor`` of a run are.

        Args:
          order: what ``order(key)`` returned for the root key of the run.
          cursor: which batch, an int32 scalar.
          tail: whether it is a smaller one, as ``is_tail`` says; a shape cannot depend on a traced cursor.
        """
        if self.batch_size is None:
            return Location()
        within = jnp.arange(self.tail if tail else self.batch_size, dtype=jnp.uint32)
        mask = None
        if self.remainder == "wrap":
            epoch, first = _multiply_divide(cursor, self.batch_size, self.examples)
        else:
            epoch, number = cursor // self.per_epoch, cursor % self.per_epoch
            first = number.astype(jnp.uint32) * np.uint32(self.batch_size)
            if self.remainder == "pad" and self.examples % self.batch_size:
                mask = first + within < self.examples
            elif order is None:
                return Location(first=first.astype(jnp.int32))
        position = first + within  # Beyond the last example: on into the next epoch, or masked.
        rows = position % np.uint32(self.examples)
        if order is not None:
            rows = shuffling.permuted(position, self.examples, order, epoch)
        return Location(rows=rows.astype(jnp.int32), mask=mask)

    def load(self, location: "Location", tail: bool = False) -> tuple[PyTree, jax.Array | None]:
        """The examples at a location, and their mask (None unless the remainder is "pad")."""
        if self.on_host:
            _data_checks.on_the_host()
        if location.rows is not None:
            rows = location.rows
            return jax.tree.map(lambda x: _rows_of(x, rows), self.data), location.mask
        if location.first is not None:
            first, size = location.first, self.tail if tail else self.batch_size or 0
            return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, size), self.data), None
        return self.data, None

    def map(
        self, function: Callable[..., PyTree], order: jax.Array | None = None, at_once: int | None = None
    ) -> PyTree:
        """``function(batch, mask)`` of each batch of the first epoch, the results stacked along a new first axis.

        Args:
          function: a function of a batch and its mask, of which the latter is None unless the remainder is "pad". The
            shapes of its results must not depend on the size of the batch.
          order: what ``order(key)`` returned, for a plan that shuffles.
          at_once: how many batches are mapped together, by ``vmap``; None: one after the other.
        """

        def of(cursor: jax.Array, tail: bool = False) -> PyTree:
            return function(*self.load(self.locate(order, cursor, tail), tail))

        parts = []
        if self.full:
            parts.append(jax.lax.map(of, jnp.arange(self.full, dtype=jnp.int32), batch_size=at_once))
        if self.tail:
            parts.append(jax.tree.map(lambda x: x[None], of(jnp.int32(self.full), tail=True)))
        return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)


class Location(NamedTuple):
    """The rows of a batch (with a mask of those that count), or the first of consecutive rows, or all rows."""

    rows: jax.Array | None = None
    mask: jax.Array | None = None
    first: jax.Array | None = None


NO_DATA = Batches(None, examples=1, batch_size=None, shuffle=False, remainder="keep")
"""The plan for a loss of the parameters alone, ``loss_fn(params, None)``: each batch is None."""


def minibatches(
    data: PyTree,
    batch_size: int | None = None,
    *,
    shuffle: bool = True,
    remainder: str = "keep",
    on_host: bool | None = None,
) -> Batches:
    """Puts arrays on the device and plans how to cut them into batches.

    Args:
      data: a tree of arrays with the examples along their first axes, for instance ``(x, y)``.
      batch_size: examples in a batch; None for all of them at each step, in their own order.
      shuffle: give each epoch a random order of its own, a function of the run's key and the epoch.
      remainder: "keep", "drop", "pad" or "wrap": what happens to examples that do not fill a batch.
      on_host: leave the arrays where they are, in the host's memory or in a file; ``fit`` and ``evaluate`` read the
        rows of one batch after the other. They may be anything with ``shape``, ``dtype`` and rows to be read by
        increasing numbers, ``x[[0, 2, 5]]``, an ``h5py.Dataset`` for instance. By default where one of them is a
        ``numpy.memmap``. A compiled function that takes such batches as its argument reads all of it.

    Raises:
      InputError: the first axes differ, there are no examples, a leaf is no array of numbers, or its whole numbers are
        too large for JAX's dtype, which is of 32 bits unless x64 is enabled.
      ValueError: the batch size is below 1, or the remainder would leave nothing to train on.
    """
    examples = _training_checks.leading_sizes(data)
    _checks.one_of("minibatches", "remainder", remainder, REMAINDERS)
    shuffle = _checks.flag("minibatches", "shuffle", shuffle)
    if batch_size is not None:
        batch_size = _checks.whole("minibatches", "batch_size", batch_size, least=1)
        _checks.require(
            remainder != "drop" or batch_size <= examples,
            lambda: f"minibatches: remainder='drop' with batch_size={batch_size} drops all {examples} examples.",
        )
    if on_host is None:
        on_host = any(isinstance(leaf, np.memmap) for leaf in jax.tree.leaves(data))
    if _checks.flag("minibatches", "on_host", on_host):
        data = jax.tree_util.tree_map_with_path(_on_host, data)
    else:
        with _errors.stage("data"):
            data = jax.tree_util.tree_map_with_path(_on_device, data)
    return Batches(data, examples, batch_size, shuffle, remainder)


def planned(owner: str, data: PyTree, batch_size: int | None, shuffle: bool, remainder: str) -> Batches:
    """Batches as they are, or arrays cut by the arguments of a function that takes both."""
    if not isinstance(data, Batches):
        return minibatches(data, batch_size, shuffle=shuffle, remainder=remainder)
    _checks.require(
        is_plain(batch_size, shuffle, remainder),
        lambda: f"{owner}: the data is planned by minibatches already; say batch_size, shuffle and remainder there.",
    )
    return data


def is_plain(batch_size: int | None, shuffle: bool, remainder: str) -> bool:
    """Whether nothing was said of how to cut the data."""
    return batch_size is None and shuffle is True and remainder == "keep"


def _rows_of(array: jax.Array, rows: jax.Array) -> jax.Array:
    """Rows of an array; on explicit axes of a mesh they lie as the array does, or all on each device if they cannot."""
    read = functools.partial(array.at[rows].get, mode="promise_in_bounds")
    sharding = jax.typeof(array).sharding
    if sharding.mesh.empty or AxisType.Explicit not in sharding.mesh.axis_types:
        return read()
    first, *others = sharding.spec
    names = first if isinstance(first, tuple) else (first,)
    parts = math.prod(sharding.mesh.shape[name] for name in names if name is not None)
    spec = PartitionSpec(first if len(rows) % parts == 0 else None, *others)
    return read(out_sharding=NamedSharding(sharding.mesh, spec))


def _on_device(path: Any, leaf: Any) -> jax.Array:
    return jnp.asarray(host_array(path, leaf))  # JAX alone would wrap whole numbers that are too large.


def _on_host(path: Any, leaf: Any) -> Any:
    _data_checks.host_leaf(path, leaf)
    return np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf


def _multiply_divide(x: jax.Array, factor: int, divisor: int) -> tuple[jax.Array, jax.Array]:
    """Quotient and remainder of ``x * factor`` by ``divisor``, exact although the product may not fit into 32 bits."""
    x = x.astype(jnp.uint32)
    quotient, rest = x // divisor, x % divisor
    quotient = quotient * np.uint32(factor)
    # rest * factor by doubling and adding, reduced at once: every number stays below 2 * divisor < 2^32.
    q, r = jnp.zeros_like(x), jnp.zeros_like(x)
    for bit in f"{factor:b}":
        q, r = q * 2 + r * 2 // divisor, r * 2 % divisor
        if bit == "1":
            q, r = q + (r + rest) // divisor, (r + rest) % divisor
    return quotient + q, r
