"""Checkpoints: the same bits come back, a tree of another run is refused, and a crash leaves what was complete."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import saving_process
import two_processes
from jax.sharding import NamedSharding, PartitionSpec
from saving_process import everywhere
from training_problems import backend_compiles, example_loss, network, regression

import jaxopt_lessons as jl
from jaxopt_lessons.train import checkpoint, file_sums

NARROW_FLOATS = [
    *("float8_e4m3", "float8_e3m4", "float8_e4m3fn", "float8_e5m2", "float8_e4m3b11fnuz", "float8_e4m3fnuz"),
    *("float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn"),
]
INTEGERS = ["int2", "int4", "int8", "int16", "int32", "uint2", "uint4", "uint8", "uint16", "uint32"]
SOME_DTYPES = ["bfloat16", "float32", "bool", "float8_e4m3fn", "float4_e2m1fn", "int4"]
DTYPES = ["bfloat16", "float16", "float32", "complex64", "bool", *NARROW_FLOATS, *INTEGERS]


def all_bits(name: str) -> np.ndarray:
    """256 numbers of a dtype: all there are, if there are no more, else random bits (NaNs of all kinds included)."""
    dtype, counting = jnp.dtype(name), np.arange(256, dtype=np.uint8)
    if name == "bool":
        return counting % 2 == 1
    if name in ("int2", "int4", "uint2", "uint4"):
        bits = int(name[-1])
        return (counting % 2**bits).astype(np.int8).__sub__(0 if name[0] == "u" else 2 ** (bits - 1)).astype(dtype)
    if name == "float4_e2m1fn":
        return (counting % 16).view(dtype)
    if dtype.itemsize == 1:
        return counting.view(dtype)
    return np.frombuffer(np.random.default_rng(0).bytes(256 * dtype.itemsize), dtype)


def bits(leaf):
    """What makes a leaf what it is: type, dtype, shape, bytes, and for an array of JAX where it is."""
    if not hasattr(leaf, "dtype"):
        return type(leaf), repr(leaf)
    where = (leaf.sharding, leaf.committed) if isinstance(leaf, jax.Array) else None
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        words = jax.random.key_data(leaf)
        return type(leaf), str(jax.random.key_impl(leaf)), leaf.shape, np.asarray(words).tobytes(), where
    return type(leaf), str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes(), where


def assert_same_bits(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        assert bits(a) == bits(b), jax.tree_util.keystr(path)


def abstract(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def train_state(tx=None, **changes):
    params = network() | {"half": jnp.linspace(-1, 1, 6).astype(jnp.bfloat16), "nothing": None} | changes
    return jl.init_state(params, tx or jl.adam(1e-3), key=3)


def test_bits_of_every_dtype_come_back(tmp_path):
    host = {name: all_bits(name) for name in DTYPES}
    tree = {"jax": {name: jnp.asarray(array.reshape(16, 16)) for name, array in host.items()}, "numpy": host}
    assert [str(leaf.dtype) for leaf in tree["jax"].values()] == DTYPES
    tree["jax"]["negative zeros"] = -jnp.zeros(5)
    tree["jax"]["scalars"] = [jnp.float32(1.5), jnp.int4(-3), jnp.asarray(True)]
    tree["jax"]["no elements"] = [jnp.zeros((0, 3), jnp.bfloat16), jnp.zeros(0, jnp.int4), jnp.zeros((2, 0))]
    checkpoint.save(tmp_path, tree, step=0)
    assert_same_bits(checkpoint.restore(tmp_path, tree).tree, tree)


def test_keys_come_back_with_their_generator(tmp_path):
    tree = [jax.random.key(3), jax.random.key(4, impl="rbg"), jax.random.key(5, impl="unsafe_rbg")]
    tree += [jax.random.split(jax.random.key(6), 4), jax.random.split(jax.random.key(6), 4)[:0], jax.random.PRNGKey(7)]
    checkpoint.save(tmp_path, tree, step=0)
    assert_same_bits(checkpoint.restore(tmp_path, tree).tree, tree)
    like = jax.tree.map(lambda key: jax.ShapeDtypeStruct(key.shape, key.dtype), tree)
    assert_same_bits(checkpoint.restore(tmp_path, like).tree, tree)
    like[0] = jax.random.key(3, impl="rbg")
    with pytest.raises(jl.InputError, match=r"0: expected key<rbg>\[\], the checkpoint has key<fry>\[\]"):
        checkpoint.restore(tmp_path, like)


def test_numpy_arrays_and_python_numbers_come_back(tmp_path):
    tree = {
        "numbers": [0.1, float("nan"), float("-inf"), -0.0, 5e-324, 10**30, -1, True, False, 1 + 2j, complex(-0.0, 1)],
        "text": ["", "ä\n"],
        "scalars": [np.float64(0.1), np.int64(2**62), np.bool_(True), np.str_("ab"), np.datetime64("2020-01-01")],
        "arrays": [np.arange(3.0), np.array(2), np.array(["a", "bc"]), np.zeros((0, 2)), np.arange(3, dtype=">f4")],
        "records": np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3))[:, ::2],
    }
    checkpoint.save(tmp_path, tree, step=0)
    like = jax.tree.map(lambda leaf: leaf if hasattr(leaf, "dtype") else type(leaf)(), tree)
    assert_same_bits(checkpoint.restore(tmp_path, like).tree, tree)
    assert not jax.config.jax_enable_x64


def test_containers_without_arrays_come_back(tmp_path):
    tree = (None, (), {}, [None], {"a": (), "b": jnp.ones(2)}, jl.scale_by_sign().init(jnp.ones(2)))
    checkpoint.save(tmp_path, tree, step=0)
    assert_same_bits(checkpoint.restore(tmp_path, tree).tree, tree)
    checkpoint.save(tmp_path, jnp.ones(3), step=0)
    assert_same_bits(checkpoint.restore(tmp_path, jnp.zeros(3)).tree, jnp.ones(3))
    checkpoint.save(tmp_path, (), step=0)
    assert checkpoint.restore(tmp_path, ()).tree == ()


class Anonymous:
    """A key that is written like all others of its kind."""

    def __repr__(self):
        return "key"


def test_leaves_are_found_by_their_paths(tmp_path):
    saved = OrderedDict(b=jnp.ones(2), a=jnp.zeros(2), c=1, d=2)
    like = OrderedDict(d=0, a=jnp.ones(2), c=0, b=jnp.ones(2))
    checkpoint.save(tmp_path, saved, step=0)
    restored = checkpoint.restore(tmp_path, like).tree
    assert list(restored) == ["d", "a", "c", "b"]
    assert_same_bits(dict(restored), dict(saved))
    with pytest.raises(jl.InputError, match=r"two leaves at '\[key\]'"):
        checkpoint.save(tmp_path, OrderedDict({Anonymous(): 1, Anonymous(): 2}), step=0)


def test_shardings_come_from_like(tmp_path):
    mesh = jax.make_mesh((2, 4), ("a", "b"))
    rows, both, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("a",), ("a", "b"), ()))
    tree = {name: jax.device_put(all_bits(name).reshape(16, 16), both) for name in SOME_DTYPES}
    tree["keys"] = jax.device_put(jax.random.split(jax.random.key(0), 4), rows)
    tree["key"] = jax.device_put(jax.random.key(1), everywhere)
    tree["nothing"] = jax.device_put(np.zeros((2, 0), np.float32), rows)
    tree["second"] = jax.device_put(np.ones(3, np.float32), jax.devices()[1])
    checkpoint.save(tmp_path, tree, step=0)
    assert_same_bits(checkpoint.restore(tmp_path, tree).tree, tree)
    assert_same_bits(checkpoint.restore(tmp_path, abstract(tree)).tree, tree)

    moved = jax.tree.map(lambda x: jax.device_put(x, everywhere if x.ndim < 2 else rows), tree)
    assert_same_bits(checkpoint.restore(tmp_path, abstract(moved)).tree, moved)
    free = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
    assert not any(leaf.committed for leaf in jax.tree.leaves(checkpoint.restore(tmp_path, free).tree))


def test_arrays_of_jax_and_numpy_take_each_others_place(tmp_path):
    sharding = NamedSharding(jax.make_mesh((8,), ("a",)), PartitionSpec("a"))
    host = {name: all_bits(name) for name in SOME_DTYPES}
    device = {name: jax.device_put(array, sharding) for name, array in host.items()}
    checkpoint.save(tmp_path, host, step=0)
    assert_same_bits(checkpoint.restore(tmp_path, device).tree, device)
    checkpoint.save(tmp_path, device, step=0)
    assert_same_bits(checkpoint.restore(tmp_path, host).tree, host)


def test_a_restored_state_trains_on_without_a_new_program(tmp_path):
    step = jl.make_step(example_loss, jl.adam(1e-2))
    data = regression(32)
    start = jl.init_state(network(), step, key=5)
    whole = jl.fit(step, start, data, steps=6, batch_size=8)
    half = jl.fit(step, start, data, steps=4, batch_size=8)
    rest = jl.fit(step, half.state, data, steps=2, batch_size=8)
    jl.save(tmp_path, half.state)
    restored = jl.restore(tmp_path, start)
    assert_same_bits(restored, half.state)
    resumed = jl.fit(step, restored, data, steps=2, batch_size=8)
    assert_same_bits(resumed.state, whole.state)
    assert_same_bits(resumed.state, rest.state)
    assert resumed.compiles == 0


def test_arrays_can_be_donated_as_soon_as_they_are_saved_or_restored(tmp_path):
    double = jax.jit(lambda tree: jax.tree.map(lambda x: 2 * x, tree), donate_argnums=0)
    tree = {str(i): jnp.full(100_000, np.float32(i)) for i in range(4)}
    expected = jax.tree.map(np.array, tree)
    checkpoint.save(tmp_path, tree, step=0)
    for _ in range(3):
        tree = double(tree)
    restored = checkpoint.restore(tmp_path, tree).tree
    assert_same_bits(jax.tree.map(np.asarray, restored), expected)
    doubled = double(restored)  # A buffer that cannot be donated warns.
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(restored))
    assert_same_bits(jax.tree.map(np.asarray, doubled), jax.tree.map(lambda x: 2 * x, expected))


def test_a_save_in_the_background_has_its_own_copy(tmp_path, monkeypatch):
    """What was saved is overwritten, on the device by donation and on the host, before the thread begins to write."""
    begin = threading.Event()
    write = checkpoint._write
    monkeypatch.setattr(checkpoint, "_write", lambda *arguments: [begin.wait(), write(*arguments)][1])
    double = jax.jit(lambda tree: jax.tree.map(lambda x: 2 * x, tree), donate_argnums=0)
    device = {str(i): jnp.full(100_000, np.float32(i)) for i in range(4)} | {"half": jnp.ones(3, jnp.bfloat16)}
    tree = {"device": device, "host": np.arange(3), "key": jax.random.key(3), "py": 0.1}
    expected = jax.tree.map(np.array, device)
    records = {"loss": np.arange(3.0)}
    pending = checkpoint.save_in_background(tmp_path, tree, step=4, about={"a": 1}, records=records)
    for _ in range(3):
        device = double(device)
    jax.block_until_ready(device)
    tree["host"][:] = 0
    records["loss"][:] = 0
    assert checkpoint.latest(tmp_path) is None
    begin.set()
    assert pending.result() == tmp_path / "000000.step_4"
    restored = checkpoint.restore(tmp_path, tree | {"device": device}, about={"a": 1})
    assert bits(restored.tree["key"]) == bits(jax.random.key(3))
    assert_same_bits(jax.tree.map(np.asarray, restored.tree["device"]), expected)
    assert_same_bits([restored.tree["host"], restored.tree["py"]], [np.arange(3), 0.1])
    assert_same_bits(restored.records, {"loss": np.arange(3.0)})


def test_bits_of_every_dtype_come_back_from_the_background(tmp_path):
    sharding = NamedSharding(jax.make_mesh((8,), ("a",)), PartitionSpec("a"))
    tree = {name: jnp.asarray(all_bits(name)) for name in DTYPES} | {"key": jax.random.key(3), "none": None}
    tree["spread"] = jax.device_put(all_bits("float32"), sharding)
    checkpoint.save_in_background(tmp_path, tree, step=0).result()
    assert_same_bits(checkpoint.restore(tmp_path, tree).tree, tree)


def test_saves_in_the_background_come_one_after_the_other(tmp_path, monkeypatch):
    for step in range(3):
        checkpoint.save_in_background(tmp_path, jnp.float32(step), step=step, keep=2)
    checkpoint.save(tmp_path, jnp.float32(3), step=3, keep=3)
    assert steps_in(tmp_path) == [1, 2, 3]

    def fails(*arguments):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_write_arrays", fails)
        pending = checkpoint.save_in_background(tmp_path, jnp.float32(4), step=4)
        with pytest.raises(OSError, match="the disk is full"):
            checkpoint.save_in_background(tmp_path, jnp.float32(5), step=5)
    with pytest.raises(OSError, match="the disk is full"):
        pending.result()
    assert checkpoint.latest(tmp_path) == 3
    checkpoint.save(tmp_path, jnp.float32(6), step=6)
    assert steps_in(tmp_path) == [1, 2, 3, 6]
    with pytest.raises(TypeError, match="the leaf at"):  # at once
        checkpoint.save_in_background(tmp_path, jnp.sin, step=7)


def test_nothing_is_compiled_for_a_second_save(tmp_path):
    sharding = NamedSharding(jax.make_mesh((8,), ("a",)), PartitionSpec("a"))
    tree = {name: jnp.asarray(all_bits(name)[:248]) for name in SOME_DTYPES}  # a length that no other test has
    tree |= {"key": jax.random.key(3), "spread": jax.device_put(tree["float8_e4m3fn"], sharding)}
    for step in range(2):
        with backend_compiles() as events:
            checkpoint.save(tmp_path, tree, step=step)
            checkpoint.save_in_background(tmp_path, tree, step=step).result()
            checkpoint.restore(tmp_path, tree)
        assert bool(events) == (step == 0)


RECORDS = {
    "loss": np.arange(3, dtype=np.float32),
    "a.b/c d\\ä": np.array([1.0, np.nan]),
    "loss/": np.zeros((0, 2), np.int64),
    "text": np.array(["a", "bcd"]),
    "half": all_bits("bfloat16"),
    "narrow": all_bits("int4"),
    "flag": np.array(True),
}
ABOUT = {
    "optimizer": "adam(0.1)",
    "examples": 60_000,
    "plan": {"shuffle": True, "sizes": [1, 2]},
    "none": None,
    "é": 0.1,
}


def test_facts_and_records_come_back(tmp_path):
    checkpoint.save(tmp_path, jnp.ones(2), step=7, about=ABOUT, records=RECORDS)
    restored = checkpoint.restore(tmp_path, jnp.ones(2), about=ABOUT)
    assert restored.about == ABOUT
    assert restored.step == 7
    assert list(restored.records) == list(RECORDS)
    assert_same_bits(restored.records, RECORDS)


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({"examples": 60_001}, ["examples", "checkpoint: 60000", "this run:   60001"]),
        ({"examples": 60_000.0}, ["examples", "checkpoint: 60000", "this run:   60000.0"]),
        ({"none": False}, ["none", "checkpoint: null", "this run:   false"]),
        ({"seed": "ß"}, ["seed", "checkpoint: (nothing)", 'this run:   "ß"']),
        ({"é": float("nan")}, ["é", "checkpoint: 0.1", "this run:   NaN"]),
    ],
)
def test_other_facts_are_refused(tmp_path, change, lines):
    checkpoint.save(tmp_path, jnp.ones(2), step=7, about=ABOUT)
    with pytest.raises(jl.InputError, match="made by another run") as caught:
        checkpoint.restore(tmp_path, jnp.ones(2), about=ABOUT | change)
    assert [line.strip() for line in str(caught.value).splitlines()[1:]] == lines
    with pytest.raises(jl.InputError) as caught:
        checkpoint.restore(tmp_path, jnp.ones(2), about={})
    assert all(f"\n  {name}\n" in str(caught.value) for name in ABOUT)


def test_facts_are_compared_as_json_writes_them(tmp_path):
    checkpoint.save(tmp_path, jnp.ones(2), step=7, about={"sizes": (1, 2), "d": {"a": 1, "b": float("nan")}})
    restored = checkpoint.restore(tmp_path, jnp.ones(2), about={"d": {"b": float("nan"), "a": 1}, "sizes": [1, 2]})
    assert restored.about["sizes"] == [1, 2]


STATE = train_state()


@pytest.mark.parametrize(
    ("like", "lines"),
    [
        (STATE._replace(params={"w1": STATE.params["w1"]}), None),
        (STATE._replace(extras={"ema": jnp.ones(2)}), ["extras: expected dict, the checkpoint has tuple()"]),
        (STATE._replace(model_state=jnp.ones(2)), ["model_state: expected float32[2], the checkpoint has None"]),
        (STATE._replace(step=jnp.float32(0)), ["step: expected float32[], the checkpoint has int32[]"]),
        (STATE._replace(step=jnp.zeros(1, jnp.int32)), ["step: expected int32[1], the checkpoint has int32[]"]),
        (STATE._replace(step=0), ["step: expected a Python int, the checkpoint has int32[]"]),
        (STATE._replace(step=np.int32(0)), ["step: expected a NumPy scalar int32[], the checkpoint has int32[]"]),
        (STATE._replace(opt_state=list(STATE.opt_state)), ["opt_state: expected list, the checkpoint has tuple"]),
        (tuple(STATE), ["(the tree itself): expected tuple, the checkpoint has TrainState"]),
        (train_state(half=jnp.ones(6)), None),
    ],
)
def test_another_tree_is_refused(tmp_path, like, lines):
    checkpoint.save(tmp_path, STATE, step=0)
    with pytest.raises(jl.InputError, match="^restore: the checkpoint .* does not fit") as caught:
        checkpoint.restore(tmp_path, like)
    found = [line.strip() for line in str(caught.value).splitlines()[1:]]
    if lines is not None:
        assert found[: len(lines)] == lines
    if like.__class__ is jl.TrainState and "half" not in like.params:
        assert found == [
            f"params/{name}: expected nothing, the checkpoint has {what}"
            for name, what in (("b1", "float32[5]"), ("half", "bfloat16[6]"), ("nothing", "None"), ("w2", "float32[5]"))
        ]
    if lines is None and "half" in like.params:
        assert found == ["params/half: expected float32[6], the checkpoint has bfloat16[6]"]


def test_another_optimizer_is_refused_with_the_paths(tmp_path):
    checkpoint.save(tmp_path, STATE, step=0)
    with pytest.raises(jl.InputError) as caught:
        checkpoint.restore(tmp_path, train_state(jl.sgd(0.1, momentum=0.9)))
    found = str(caught.value).splitlines()[1:]
    assert found[0] == "  opt_state/0: expected TraceState, the checkpoint has ScaleByAdamState"
    assert "  opt_state/0/trace/w1: expected float32[3,5], the checkpoint has nothing" in found
    assert "  opt_state/0/count: expected nothing, the checkpoint has int32[]" in found
    assert len(found) == 11
    assert found[-1] == "  and 7 more"  # 1 container, 5 in the trace (a None is one), 11 in Adam's state


def test_64_bits_are_not_cast_to_32(tmp_path):
    with jax.enable_x64(True):
        tree = jnp.arange(3.0)
        assert tree.dtype == np.float64
        checkpoint.save(tmp_path, tree, step=0)
        assert_same_bits(checkpoint.restore(tmp_path, tree).tree, tree)
    with pytest.raises(jl.InputError, match="float64 only under jax_enable_x64"):
        checkpoint.restore(tmp_path, jax.ShapeDtypeStruct((3,), np.float64))
    with pytest.raises(jl.InputError, match=r"expected float32\[3\], the checkpoint has float64\[3\]"):
        checkpoint.restore(tmp_path, jnp.zeros(3))
    assert_same_bits(checkpoint.restore(tmp_path, np.zeros(3)).tree, np.arange(3.0))


def gone():
    array = jnp.ones(2)
    array.delete()
    return array


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"tree": {"a": [jnp.sin]}}, TypeError, "the leaf at 'a/0' is .*PjitFunction"),
        ({"tree": {"a": np.array([None])}}, TypeError, "the leaf at 'a' is object"),
        ({"tree": {"a": np.ma.array([1.0])}}, TypeError, "the leaf at 'a'"),
        ({"tree": {"a": gone()}}, jl.InputError, "save: the array at 'a' has been deleted"),
        ({"step": -1}, ValueError, "save: step must be"),
        ({"step": 1.0}, TypeError, "save: step must be a whole number"),
        ({"keep": 0}, ValueError, "save: keep must be"),
        ({"about": {"a": {1, 2}}}, TypeError, "save: about holds what JSON can.* at 'a'"),
        ({"about": {"a": np.float32(1)}}, TypeError, "at 'a'"),
        ({"about": {1: 2}}, TypeError, "at 1"),
        ({"records": {"a": [1.0]}}, TypeError, "records map names to NumPy arrays.* at 'a'"),
        ({"records": {"a": np.array([None])}}, TypeError, "at 'a'"),
        ({"records": {1: np.ones(2)}}, TypeError, "at 1"),
    ],
)
def test_what_cannot_be_saved_is_refused_and_nothing_is_written(tmp_path, arguments, error, match):
    with pytest.raises(error, match=match):
        checkpoint.save(tmp_path / "new", **{"tree": jnp.ones(2), "step": 0, **arguments})
    assert not (tmp_path / "new").exists()


def test_tracers_are_refused(tmp_path):
    with pytest.raises(TypeError, match="the leaf at 'a' is a tracer"):
        jax.jit(lambda x: [checkpoint.save(tmp_path, {"a": x}, step=0), x][1])(jnp.ones(2))


def test_a_checkpoint_that_is_not_there(tmp_path):
    assert checkpoint.latest(tmp_path / "new") is None
    with pytest.raises(FileNotFoundError, match="there is no checkpoint in .*new"):
        checkpoint.restore(tmp_path / "new", jnp.ones(2))
    checkpoint.save(tmp_path, jnp.ones(2), step=3)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 4 .* newest are of 3\."):
        checkpoint.restore(tmp_path, jnp.ones(2), step=4)


def test_a_checkpoint_of_another_format_is_refused(tmp_path):
    file = checkpoint.save(tmp_path, jnp.ones(2), step=3) / "checkpoint.json"
    file.write_text(file.read_text().replace('"format": 1', '"format": 2'))
    file_sums.write(file.parent)
    with pytest.raises(jl.InputError, match="has the format 2"):
        checkpoint.restore(tmp_path, jnp.ones(2))
    (file.parent / file_sums.NAME).unlink()  # Another format may do without.
    with pytest.raises(jl.InputError, match="has the format 2"):
        checkpoint.restore(tmp_path, jnp.ones(2))


def steps_in(directory):
    return [int(name.split("_")[1]) for name in sorted(os.listdir(directory))]


def test_only_the_newest_are_kept(tmp_path):
    for step in range(5):
        checkpoint.save(tmp_path, jnp.float32(step), step=step, keep=3)
    assert steps_in(tmp_path) == [2, 3, 4]
    checkpoint.save(tmp_path, jnp.float32(5), step=5)
    assert steps_in(tmp_path) == [2, 3, 4, 5]
    checkpoint.save(tmp_path, jnp.float32(60), step=3, keep=3)  # the older one of step 3 does not count
    assert steps_in(tmp_path) == [4, 5, 3]
    assert float(checkpoint.restore(tmp_path, jnp.float32(0), step=3).tree) == 60
    checkpoint.save(tmp_path, jnp.float32(61), step=3, keep=3)
    assert steps_in(tmp_path) == [4, 5, 3]
    checkpoint.save(tmp_path, jnp.float32(62), step=3)
    assert steps_in(tmp_path) == [4, 5, 3]
    checkpoint.save(tmp_path, jnp.float32(7), step=7, keep=1)
    assert steps_in(tmp_path) == [7]


def test_the_newest_is_the_one_saved_last(tmp_path):
    """Also where a run went back, and where the names have another number of digits."""
    for step in (1000, 2000, 500):
        checkpoint.save(tmp_path, jnp.float32(step), step=step)
    assert checkpoint.latest(tmp_path) == jl.latest_step(tmp_path) == 500
    assert float(checkpoint.restore(tmp_path, jnp.float32(0)).tree) == 500
    assert float(checkpoint.restore(tmp_path, jnp.float32(0), step=2000).tree) == 2000
    (tmp_path / "000002.step_500").rename(tmp_path / "999999.step_500")
    checkpoint.save(tmp_path, jnp.float32(1), step=1)
    assert checkpoint.latest(tmp_path) == 1
    assert checkpoint.save(tmp_path, jnp.float32(2), step=2).name == "1000001.step_2"


def test_relative_directories(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jl.save("run/final", {"a": jnp.ones(2)})
    assert_same_bits(jl.restore("run/final", {"a": jnp.zeros(2)}), {"a": jnp.ones(2)})


def test_the_step_of_a_state_is_taken_from_it(tmp_path):
    jl.save(tmp_path, STATE._replace(step=jnp.int32(12)))
    assert jl.latest_step(tmp_path) == 12
    jl.save(tmp_path, STATE._replace(step=jnp.int32(12)), step=3)
    assert jl.latest_step(tmp_path) == 3
    jl.save(tmp_path, [jnp.ones(2)], keep=1)
    assert steps_in(tmp_path) == [0]


def test_without_orbax_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    with pytest.raises(ImportError, match=r"save needs orbax: pip install 'jaxopt_lessons\[checkpoints\]'"):
        jl.save(tmp_path, jnp.ones(2))
    assert jl.latest_step(tmp_path) is None


def assert_consistent(directory):
    """The newest checkpoint is complete and all of one save; returns its number."""
    number = checkpoint.latest(directory)
    if number is None:
        return None
    restored = checkpoint.restore(directory, everywhere(0)["tree"], about={"number": number})
    expected = everywhere(number)
    assert_same_bits((restored.tree, restored.records), (expected["tree"], expected["records"]))
    return number


class Crash(BaseException):
    """Not an Exception: like a kill, nothing is there to catch it."""


@pytest.mark.parametrize("same_step", [False, True])
def test_a_crash_at_any_moment_leaves_a_complete_checkpoint(tmp_path, monkeypatch, same_step):
    """Crashes before and after each operation on the directory that save makes, one after another."""
    places = [(checkpoint, "_write_host_part"), (checkpoint, "_write_arrays"), (checkpoint, "_flush_all")]
    places += [(Path, "mkdir"), (Path, "rename"), (shutil, "rmtree")]
    rmtree, countdown = shutil.rmtree, 0

    def crashing(function):
        def wrapped(*args, **kwargs):
            nonlocal countdown
            countdown -= 1
            if countdown == 0:
                if function is rmtree:  # a directory that is half deleted
                    next(Path(args[0]).rglob("checkpoint.json")).unlink()
                raise Crash
            result = function(*args, **kwargs)
            countdown -= 1
            if countdown == 0:
                raise Crash
            return result

        return wrapped

    for owner, name in places:
        monkeypatch.setattr(owner, name, crashing(getattr(owner, name)))
    crashes, number, saved = 0, 10, None
    while True:
        number += 1
        arguments = everywhere(10 if same_step else number)
        countdown = crashes + 1
        try:
            checkpoint.save(tmp_path, **arguments, keep=1)
        except Crash:
            crashes += 1
            found = assert_consistent(tmp_path)
            assert found in (saved, arguments["step"])
            saved = found
        else:
            break
    assert crashes >= 18  # nine operations
    countdown = 0
    assert assert_consistent(tmp_path) == arguments["step"]
    assert len(os.listdir(tmp_path)) == 1


def test_rubbish_of_a_half_written_checkpoint_is_removed_and_nothing_else(tmp_path):
    for name in (".000007.step_3.saving", ".000001.step_1.deleting", "notes", ".hidden", "000001.step_x", "step_4"):
        (tmp_path / name / "inside").mkdir(parents=True)
    assert checkpoint.latest(tmp_path) is None
    checkpoint.save(tmp_path, jnp.ones(2), step=1, keep=1)
    checkpoint.save(tmp_path, jnp.ones(2), step=2, keep=1)
    assert sorted(os.listdir(tmp_path)) == [".hidden", "000001.step_2", "000001.step_x", "notes", "step_4"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads names of open files from /proc")
def test_all_is_flushed_to_the_disk_before_a_checkpoint_gets_its_name(tmp_path, monkeypatch):
    flushed, renamed = [], []
    fsync, rename = os.fsync, Path.rename

    def recorded_rename(path, target):
        present = {path, *path.rglob("*")}
        renamed.append((present, set(flushed), len(flushed)))
        return rename(path, target)

    monkeypatch.setattr(
        os,
        "fsync",
        lambda descriptor: [flushed.append(Path(os.readlink(f"/proc/self/fd/{descriptor}"))), fsync(descriptor)],
    )
    monkeypatch.setattr(Path, "rename", recorded_rename)
    checkpoint.save(tmp_path / "new", **everywhere(1))
    ((present, before, count),) = renamed
    assert len(present) > 10
    assert present <= before
    assert flushed[count:] == [tmp_path / "new", tmp_path]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes")
def test_a_killed_process_leaves_the_last_complete_checkpoint(tmp_path):
    """Ten processes that save in a loop are killed at random moments; each goes on from what the last one left."""
    directory, rng, last, left_over = tmp_path / "run", random.Random(0), 0, 0
    command = [sys.executable, "-W", "ignore", saving_process.__file__, str(directory)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        watchdog = threading.Timer(60, parent.kill)  # a deadlock would make the test wait for ever
        watchdog.start()
        lines = (line.split() for line in parent.stdout)
        for _ in range(10):
            parent.stdin.write("another\n")
            parent.stdin.flush()
            told = {"process": None, "saved": None}
            while None in told.values():
                kind, number = next(lines)
                told[kind] = int(number)
            time.sleep(0.15 * rng.random())
            os.kill(told["process"], signal.SIGKILL)
            last = told["saved"]
            for kind, *number in lines:
                if kind == "ended":
                    break
                last = int(number[0])
            found = assert_consistent(directory)
            assert found in (last, last + 1)  # killed after the save and before it was told
            last = found
            left_over += sum(name.startswith(".") for name in os.listdir(directory))
        parent.stdin.close()
        assert parent.wait() == 0
        watchdog.cancel()
    assert last >= 10
    assert left_over > 0
    checkpoint.save(directory, **everywhere(last + 1), keep=2)
    assert steps_in(directory) == [last, last + 1]


def test_two_processes_save_and_restore_together(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | two_processes.ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(
            [sys.executable, two_processes.__file__, rank, port, str(tmp_path / "run")],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=100)
            assert output.endswith("done\n"), output
    finally:
        for process in processes:
            process.kill()


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_what_only_has_the_name_of_a_checkpoint_is_refused_by_name(kind, tmp_path):
    jl.save(tmp_path, {"a": jnp.ones(2)}, step=3)
    rubbish = tmp_path / "000099.step_7"
    rubbish.mkdir() if kind == "directory" else rubbish.write_text("")
    with pytest.raises(jl.InputError, match="000099.step_7 has the name of a checkpoint, but not what is in one"):
        jl.restore(tmp_path, {"a": jnp.ones(2)})
