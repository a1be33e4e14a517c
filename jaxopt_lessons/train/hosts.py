"""Several processes that train together, one on each host: who talks, when all stop, and what each gives.

``jax.distributed.initialize`` is yours to call, before anything else. Every process then runs the same program on the
devices of all. With one process all here is free.
"""

import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from jaxopt_lessons import _device_checks
from jaxopt_lessons._errors import path_name
from jaxopt_lessons._leaf import is_key
from jaxopt_lessons.types import PyTree


def is_main() -> bool:
    """Whether this process is the one that draws, prints and logs: the first of all, or the only one.

    >>> jl.is_main()
    True
    """
    return jax.process_index() == 0


def agree(stop: bool) -> bool:
    """Whether any process says stop; all must ask, and all get the same answer.

    A process that leaves the loop alone lets the others wait for ever: time limits, signals and full disks are known
    to one host only.

    Args:
      stop: what this process says.

    >>> jl.agree(False), jl.agree(True)
    (False, True)
    """
    if jax.process_count() == 1:  # ``fit`` asks after each chunk.
        return bool(stop)
    return bool(np.any(_gather(np.asarray(stop, bool))))


def put(name: str, tree: PyTree, shardings: PyTree) -> PyTree:
    """A copy of a tree that every process has whole, on the devices of all.

    Args:
      name: what it is, for the error.
      tree: a tree of arrays, the same in each process; those that are spread over all devices may lie otherwise.
      shardings: the sharding of each leaf, or the one of all.

    Raises:
      InputError: processes have different trees.
    """
    if isinstance(shardings, Sharding):
        shardings = jax.tree.map(lambda _: shardings, tree)
    if jax.process_count() == 1:
        return jax.tree.map(_copy, tree, shardings)
    paths = [(path_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
    local = [(path, _plain(leaf)) for path, leaf in paths if _is_local(leaf)]
    sums = np.asarray([zlib.crc32(np.ascontiguousarray(leaf).tobytes()) for _, leaf in local], np.uint32)
    differ = np.any(_gather(sums) != sums[None], axis=0)
    if np.any(differ):  # in one process, then in all: each is different from one of the others
        _device_checks.processes_differ(name, [path for (path, _), d in zip(local, differ, strict=True) if d])
    return jax.tree.map(_put_same, tree, shardings)


def put_local(leaf: Any, sharding: Sharding, shape: tuple[int, ...]) -> jax.Array:
    """An array of this shape on the devices of all processes, of which this process has its part."""
    if jax.process_count() == 1:
        return jax.device_put(leaf, sharding)
    return jax.make_array_from_process_local_data(sharding, np.asarray(leaf), shape)


def _copy(leaf: Any, sharding: Sharding) -> jax.Array:
    if isinstance(leaf, jax.Array) and leaf.sharding != sharding:
        leaf = jnp.copy(leaf)  # device_put would keep the buffer of one device in spite of may_alias.
    return jax.device_put(leaf, sharding, may_alias=False)


def _put_same(leaf: Any, sharding: Sharding) -> jax.Array:
    if not _is_local(leaf):
        return jax.jit(jnp.copy, out_shardings=sharding)(leaf)
    array = _plain(leaf)
    placed = jax.make_array_from_callback(array.shape, sharding, lambda part: array[part])
    return jax.random.wrap_key_data(placed, impl=jax.random.key_impl(leaf)) if is_key(leaf) else placed


def share(count: int) -> range:
    """Which of so many things are for this process, where each does some."""
    return range(jax.process_index(), count, jax.process_count())


def total(value: np.ndarray) -> np.ndarray:
    """The sum over all processes; all must ask."""
    return _gather(value).sum(axis=0, dtype=value.dtype)


def wait_for_all(name: str) -> None:
    """A barrier of all processes of the run."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def _gather(value: np.ndarray) -> np.ndarray:
    """The values of all processes along a new first axis."""
    if jax.process_count() == 1:
        return value[None]
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(value))


def _is_local(leaf: Any) -> bool:
    return not isinstance(leaf, jax.Array) or leaf.is_fully_addressable


def _plain(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
