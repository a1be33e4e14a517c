"""One of two processes of a run that save and restore together: ``python two_processes.py RANK PORT DIRECTORY``."""

import os
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from jaxopt_lessons import InputError
from jaxopt_lessons.train import checkpoint

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
    "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
}
"""What the processes are to be started with: each has two devices, the run has four."""


def words(leaf: Any) -> np.ndarray:
    """A leaf as a NumPy array, keys as their words."""
    leaf = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    return np.asarray(leaf)


def here(tree: Any) -> list[Any]:
    """What this process has of arrays that are spread over both."""
    leaves = jax.tree.leaves(tree)
    parts = [words(shard.data).tobytes() for leaf in leaves for shard in leaf.addressable_shards]
    return [(leaf.shape, leaf.dtype, leaf.sharding) for leaf in leaves] + parts


def spread(dtype: Any, sharding: NamedSharding) -> jax.Array:
    array = (np.arange(64).reshape(8, 8) % 8).astype(dtype)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def save_and_restore(directory: str) -> None:
    mesh = jax.make_mesh((4,), ("a",))
    rows, columns = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("a",), (None, "a")))
    everywhere = NamedSharding(mesh, PartitionSpec())
    placed = {"rows": (np.float32, rows), "same": (jnp.bfloat16, everywhere)}
    placed |= {"float8": (jnp.float8_e4m3fn, rows), "int4": (jnp.int4, rows)}
    both = {name: spread(*how) for name, how in placed.items()}
    both["key"] = jax.jit(lambda: jax.random.key(3), out_shardings=everywhere)()
    both["keys"] = jax.jit(lambda: jax.random.split(jax.random.key(3), 4), out_shardings=rows)()
    own = {"count": jnp.int32(5), "key": jax.random.key(7), "half": jnp.ones(3, jnp.bfloat16), "numpy": np.arange(3)}
    tree = {"both": both, "own": own, "number": 1.5}

    for step in range(3):
        checkpoint.save(directory, tree, step=step, records={"loss": np.arange(2.0)}, keep=2)
    assert sorted(os.listdir(directory)) == ["000001.step_1", "000002.step_2"]
    assert checkpoint.latest(directory) == 2

    restored = checkpoint.restore(directory, tree)
    assert here(restored.tree["both"]) == here(both)
    assert restored.tree["number"] == 1.5
    np.testing.assert_array_equal(restored.records["loss"], np.arange(2.0))
    for name, leaf in own.items():
        assert restored.tree["own"][name].dtype == leaf.dtype
        np.testing.assert_array_equal(words(restored.tree["own"][name]), words(leaf))

    moved = both | {name: spread(dtype, columns) for name, (dtype, _) in placed.items()}
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), moved)
    assert here(checkpoint.restore(directory, tree | {"both": like}).tree["both"]) == here(moved)

    refuse_what_is_damaged(Path(directory), tree)
    assert here(checkpoint.restore(directory, tree, step=1).tree["both"]) == here(both)


def refuse_what_is_damaged(directory: Path, tree: Any) -> None:
    """One process damages a file of the newest checkpoint that the other wrote; neither may go on with it."""
    newest = directory / "000002.step_2"
    file = sorted(newest.glob("arrays/ocdbt.process_1/d/*"))[0]
    multihost_utils.sync_global_devices("saved")
    if jax.process_index() == 0:
        contents = bytearray(file.read_bytes())
        contents[len(contents) // 2] ^= 1
        file.write_bytes(contents)
    multihost_utils.sync_global_devices("damaged")
    with pytest.raises(InputError, match=f"{file.name} is not as it was written.*step=1"):
        checkpoint.restore(directory, tree)


if __name__ == "__main__":
    rank, port, folder = sys.argv[1:]
    jax.distributed.initialize(f"localhost:{port}", 2, int(rank))
    assert jax.process_count() == 2
    save_and_restore(folder)
    print("done", flush=True)
