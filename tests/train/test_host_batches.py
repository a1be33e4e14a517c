"""Batches of arrays on the host are those in the device's memory, bit for bit, and only their rows are read."""

import json
import subprocess
import sys
import textwrap
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_problems import REMAINDERS, assert_near, assert_same, example_loss, network, regression

import jaxopt_lessons as jl
from jaxopt_lessons.train import host_batches
from jaxopt_lessons.train.evaluate import measure_all
from jaxopt_lessons.train.host_batches import HostBatches

B = 4
KEY = jax.random.key(11)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert [thread for thread in threading.enumerate() if thread.name.startswith("jaxopt_lessons")] == []


def room_of(end, longest):
    def room(cursor, left):
        steps = min(end - cursor, longest, left)
        return steps if steps == longest else 1 << (steps.bit_length() - 1) if steps > 0 else 0

    return room


def read(batches, end, longest=4, cursor=0, key=KEY, rows=None, **arguments):
    source = HostBatches(batches, key)
    with source.chunks(cursor, room_of(end, longest), jax.device_put, rows=rows, **arguments) as chunks:
        return list(chunks)


def in_memory(batches, count, key=KEY):
    """The batches of a run, as the compiled loop loads them."""
    order = batches.order(key)
    load = jax.jit(
        lambda batches, cursor, tail: batches.load(batches.locate(order, cursor, tail), tail), static_argnums=2
    )
    return [load(batches, jnp.int32(cursor), batches.is_tail(cursor)) for cursor in range(count)]


def data_of(n):
    """Leaves of several shapes and dtypes, doubles and long integers among them."""
    index = np.arange(n)
    return {"x": index[:, None] + np.array([0.1, 0.2, 0.3]), "y": index * 3, "z": (index % 7).astype(np.int8)}


def file_of(path, data):
    files = {}
    for name, array in data.items():
        files[name] = np.memmap(path / name, array.dtype, "w+", shape=array.shape)
        files[name][:] = array
        files[name].flush()
    return {name: np.memmap(path / name, x.dtype, "r", shape=x.shape) for name, x in files.items()}


@pytest.mark.parametrize("n", [3, 8, 13])
@pytest.mark.parametrize("remainder", REMAINDERS)
@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_are_those_in_memory(tmp_path, n, remainder, shuffle):
    if remainder == "drop" and n < B:
        n = B
    data = data_of(n)
    plan = {"shuffle": shuffle, "remainder": remainder}
    expected = in_memory(jl.minibatches(data, B, **plan), 17)
    on_host = jl.minibatches(file_of(tmp_path, data), B, **plan)
    assert on_host.on_host
    for longest in (1, 4):
        chunks = read(on_host, 17, longest)
        found = []
        for chunk in chunks:
            assert chunk.first == len(found)
            assert chunk.length <= longest
            assert chunk.epoch == on_host.epoch_of(chunk.first)
            assert chunk.ends_epoch == (chunk.first + chunk.length == on_host.epoch_start(chunk.epoch + 1))
            for i in range(chunk.length):
                found.append(jax.tree.map(lambda x, i=i: x[i], (chunk.batches, chunk.masks)))
        assert_same(found, expected)


@pytest.mark.parametrize("shuffle", [True, False])
def test_without_a_batch_size_a_batch_is_all_of_the_data(shuffle):
    data = data_of(5)
    (chunk,) = read(jl.minibatches(data, shuffle=shuffle, on_host=True), 2, 1)[1:]
    assert chunk[:4] == (1, 1, 1, True)
    assert_same(jax.tree.map(lambda x: x[0], chunk.batches), jax.tree.map(jnp.asarray, data))


def test_keys_give_orders():
    batches = jl.minibatches(np.arange(20), B, on_host=True)
    a, b = (np.concatenate([c.batches for c in read(batches, 5, 1, key=jax.random.key(i))]) for i in (1, 2))
    assert sorted(a.ravel()) == sorted(b.ravel()) == list(range(20))
    assert a.tolist() != b.tolist()
    raw = np.concatenate([c.batches for c in read(batches, 5, 1, key=jax.random.PRNGKey(1))])
    assert raw.tolist() == a.tolist()


@pytest.mark.parametrize("remainder", REMAINDERS)
def test_a_run_goes_on_from_every_position(remainder):
    batches = jl.minibatches(data_of(13), B, remainder=remainder, on_host=True)
    whole = read(batches, 12)
    for i, chunk in enumerate(whole):
        position = json.loads(json.dumps(chunk.position))
        rest = read(batches, 12, cursor=chunk.first + chunk.length, resume=position)
        assert [c[:4] for c in rest] == [c[:4] for c in whole[i + 1 :]]
        assert_same([c.batches for c in rest], [c.batches for c in whole[i + 1 :]])


@pytest.mark.parametrize("position", [{"cursor": 5}, {}, {"epoch": 0, "batch": 4, "skip": 4, "state": None}])
def test_a_position_of_another_place_is_refused(position):
    batches = jl.minibatches(np.arange(9), 2, on_host=True)
    with pytest.raises(jl.InputError, match="the run goes on at cursor 4, but the position of its data is"):
        HostBatches(batches, KEY).chunks(4, room_of(9, 4), jax.device_put, position)


def test_room_that_knows_no_epochs_is_cut_into_few_lengths():
    batches = jl.minibatches(np.arange(45), B, on_host=True)
    with HostBatches(batches, KEY).chunks(0, lambda cursor, left: min(24 - cursor, 100), jax.device_put) as chunks:
        assert [(chunk.length, chunk.ends_epoch) for chunk in chunks] == [
            *((8, False), (2, False), (1, False), (1, True)),
            *((8, False), (2, False), (1, False), (1, True)),
        ]


def test_a_super_batch_is_not_larger_than_it_may(monkeypatch):
    batches = jl.minibatches(np.arange(64.0), 2, on_host=True)
    monkeypatch.setattr(host_batches, "CHUNK_BYTES", 4 * 2 * 5)  # The device has floats of 4 bytes.
    assert {chunk.length for chunk in read(batches, 32, 16)} == {4}
    monkeypatch.setattr(host_batches, "CHUNK_BYTES", 1)
    assert {chunk.length for chunk in read(batches, 32, 16)} == {1}
    monkeypatch.setattr(host_batches, "CHUNK_BYTES", 2**20)
    monkeypatch.setattr(host_batches, "ROWS_AT_ONCE", 17)
    assert {chunk.length for chunk in read(batches, 32, 16)} == {8}


# ---------------------------------------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------------------------------------


class Rows:
    """An array in a file, as h5py has them: it is read by a slice, or by numbers that increase."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.read = array, array.shape, array.dtype, []

    def __getitem__(self, rows):
        numbers = np.arange(len(self.array))[rows]
        assert isinstance(rows, slice) or (np.diff(rows) > 0).all()
        self.read += numbers.tolist()
        return self.array[rows]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("remainder", REMAINDERS)
def test_only_the_rows_of_the_batches_are_read_and_each_once(shuffle, remainder):
    rows = Rows(data_of(50)["x"])
    batches = jl.minibatches(rows, B, shuffle=shuffle, remainder=remainder, on_host=True)
    (chunk,) = read(batches, 8, 8)
    plan = jl.minibatches(np.arange(50), B, shuffle=shuffle, remainder=remainder)
    assert rows.read == sorted(int(row) for batch, _ in in_memory(plan, 8) for row in batch)
    assert chunk.length == 8


@pytest.mark.parametrize("remainder", ["drop", "pad", "wrap"])
def test_processes_read_parts_of_each_batch(remainder):
    data = Rows(data_of(30)["x"])
    batches = jl.minibatches(data, B, remainder=remainder, on_host=True)
    whole = read(batches, 9)
    data.read = []
    parts = [read(batches, 9, rows=slice(i, i + 2)) for i in (0, 2)]
    assert len(data.read) <= 9 * B
    for a, b, both in zip(*parts, whole, strict=True):
        assert (a[:4], a.position) == (both[:4], both.position)
        assert_same(jnp.concatenate([a.batches, b.batches], axis=1), both.batches)
        if both.masks is not None:
            assert_same(jnp.concatenate([a.masks, b.masks], axis=1), both.masks)


def test_rows_that_are_no_part_of_every_batch_are_refused():
    def chunks(rows, **plan):
        source = HostBatches(jl.minibatches(np.arange(10), B, on_host=True, **plan), KEY)
        return source.chunks(0, room_of(1, 1), jax.device_put, rows=rows)

    with pytest.raises(ValueError, match="rows: the last batch of an epoch has 2 examples instead of 4"):
        chunks(slice(0, 2))
    with pytest.raises(ValueError, match=r"rows: slice\(4, 8, None\) takes none of the 4 rows of a batch"):
        chunks(slice(4, 8), remainder="drop")
    with pytest.raises(TypeError, match="rows: expected a slice of the rows of a batch; got 3"):
        chunks(3, remainder="drop")


def test_whole_numbers_that_do_not_fit_are_refused_by_path():
    batches = jl.minibatches({"id": np.array([1, 2**40])}, 1, shuffle=False, on_host=True)
    with pytest.raises(jl.InputError, match="the leaf at 'id' is int64, and some of its numbers do not fit into int32"):
        read(batches, 2)


def test_an_error_of_the_file_is_raised_as_it_is():
    class Broken(Rows):
        def __getitem__(self, rows):
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        read(jl.minibatches(Broken(np.zeros(9)), 2, on_host=True), 2)


def test_rows_are_located_on_the_cpu_whatever_the_default_device_is():
    """No other device is asked for anything: the rows do not wait for what it is doing."""
    other = jax.devices()[5]
    seen = []
    locate = host_batches._located

    def noted(*arguments):
        found = locate(*arguments)
        seen.extend(found.rows.devices())
        return found

    with pytest.MonkeyPatch.context() as patch, jax.default_device(other):
        patch.setattr(host_batches, "_located", noted)
        (chunk,) = read(jl.minibatches(np.arange(9), 2, on_host=True), 1, key=jax.device_put(KEY, other))
    assert set(seen) == {jax.local_devices(backend="cpu")[0]}
    assert chunk.batches.devices() == {other}


MEMORY = """
    import sys
    import jax, numpy as np
    import jaxopt_lessons as jl
    from jaxopt_lessons.train import host_batches

    def anonymous():
        lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
        return int(lines["RssAnon"].split()[0]) // 1024

    rows = 2**14
    data = np.memmap(sys.argv[1], np.float32, "w+", shape=(rows, 8192))  # 512 MB, of which the file has holes.
    data[::1000, 0] = np.arange(0, rows, 1000)
    host_batches.CHUNK_BYTES = 2**23
    jax.random.permutation(jax.random.key(0), 100)
    begin = anonymous()
    batches = jl.minibatches({"x": data, "row": np.arange(rows)}, 64)
    assert batches.on_host
    source = host_batches.HostBatches(batches, jax.random.key(0))
    peak, seen = 0, 0
    with source.chunks(0, lambda cursor, left: min(left, 512 - cursor), jax.device_put) as chunks:
        for chunk in chunks:
            x, row = np.asarray(chunk.batches["x"]), np.asarray(chunk.batches["row"])
            marked = row % 1000 == 0
            assert (x[..., 0] == np.where(marked, row, 0)).all()
            seen += marked.sum()
            peak = max(peak, anonymous())
    assert seen == 2 * 17, seen
    print(peak - begin)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_file(tmp_path):
    """Two epochs of a file of 512 MB take the memory of a few super-batches of 8 MB."""
    script = textwrap.dedent(MEMORY)
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "data")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 200


# ---------------------------------------------------------------------------------------------------------------------
# The plan, and what else takes it
# ---------------------------------------------------------------------------------------------------------------------


def test_a_file_stays_on_the_host_and_other_arrays_do_if_they_are_told_to(tmp_path):
    data = data_of(6)
    files = file_of(tmp_path, data)
    mixed = jl.minibatches({"file": files["x"], "device": jnp.arange(6), "numpy": data["y"]}, 2)
    assert mixed.on_host
    assert mixed.data["file"] is files["x"]
    assert isinstance(mixed.data["device"], np.ndarray)
    assert mixed.data["numpy"] is data["y"]
    assert not jl.minibatches(files, 2, on_host=False).on_host
    assert not jl.minibatches(data, 2).on_host
    assert jl.minibatches(data, 2, on_host=True).on_host
    assert jl.minibatches(data, 2, on_host=True).without_data().data is None
    with pytest.raises(TypeError, match="minibatches: on_host must be True or False; got 'yes'"):
        jl.minibatches(data, 2, on_host="yes")


def test_a_plan_that_shuffles_needs_a_key():
    with pytest.raises(ValueError, match="HostBatches: a plan that shuffles needs the run's key"):
        HostBatches(jl.minibatches(np.arange(4), 2, on_host=True), None)


def test_loops_on_the_device_refuse_data_on_the_host_or_read_all_of_it():
    data = regression(12)
    step = jl.make_step(example_loss, jl.sgd(0.1))
    state = jl.init_state(network(), step)
    on_host, in_device = (jl.minibatches(data, B, on_host=on_host) for on_host in (True, False))
    for make in (lambda batches: jl.make_epoch(step, batches), lambda batches: jl.make_scan(step, 3)):
        with pytest.raises(TypeError, match="is in the host's memory: fit and evaluate read it batch by batch"):
            make(on_host)(state, on_host)
        loop = jax.jit(make(in_device))
        assert_same(loop(state, on_host), loop(state, in_device))


@pytest.mark.parametrize("size", [None, 1, 4, 5, 13, 100])
def test_evaluate_reads_files_in_pieces(monkeypatch, size):
    data = regression(13)
    rows = [Rows(array) for array in data]
    monkeypatch.setattr("jaxopt_lessons.train.evaluate.READ_AT_ONCE", 2)
    params = network()
    found = measure_all(example_loss, params, jl.minibatches(rows, size, shuffle=False, on_host=True))
    assert_near(found, measure_all(example_loss, params, jl.minibatches(list(data), size, shuffle=False)))
    assert all(sorted(leaf.read) == list(range(13)) for leaf in rows)


def test_evaluate_takes_a_file(tmp_path):
    x, y = regression(10)
    files = file_of(tmp_path, {"x": x, "y": y})
    found = jl.evaluate(example_loss, network(), (files["x"], files["y"]), batch_size=3)
    assert found["loss"] == pytest.approx(jl.evaluate(example_loss, network(), (x, y))["loss"], rel=1e-6)
