"""Batches from iterables: their order, how they are cut and stacked, what is read when, errors, and going on."""

import itertools
import json
import threading
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import bad_input
from training_problems import assert_same

import jaxopt_lessons as jl
from jaxopt_lessons.train import super_batches
from jaxopt_lessons.train.prefetch import Background
from jaxopt_lessons.train.stream import Stream, is_stream

WAIT = 20
B = 3


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert [thread for thread in threading.enumerate() if thread.name.startswith("jaxopt_lessons")] == []


def batch(number, size=B):
    """A batch that can be told from all others."""
    return {"x": np.full((size, 2), number, np.float32), "y": np.arange(size, dtype=np.int32) + 10 * number}


class Loader:
    """Iterable, with or without a len; counts what is read and opened, in the thread that reads."""

    def __init__(self, batches, sized=False):
        self.batches, self.read, self.opened, self.closed = list(batches), 0, 0, 0
        if sized:
            self.__class__ = SizedLoader

    def __iter__(self):
        self.opened += 1
        return self._items()

    def _items(self):
        try:
            for item in self.batches:
                self.read += 1
                yield item
        finally:
            self.closed += 1


class SizedLoader(Loader):
    def __len__(self):
        return len(self.batches)


def room_of(end, longest):
    """As ``fit`` cuts: to the end of the run, to the end of the epoch where it is known, into few lengths."""

    def room(cursor, left=None):
        steps = min(end - cursor, longest if left is None else min(left, longest))
        return steps if steps == longest else 1 << (steps.bit_length() - 1) if steps > 0 else 0

    return room


def read(data, end, longest=4, cursor=0, resume=None, put=jax.device_put):
    with Stream(data).chunks(cursor, room_of(end, longest), put, resume) as chunks:
        return list(chunks)


def steps(chunks):
    """The batches of chunks, one by one, with cursor, epoch, and whether they end it."""
    found = []
    for chunk in chunks:
        for i in range(chunk.length):
            one = jax.tree.map(lambda x, i=i: np.asarray(x[i]), chunk.batches)
            found.append((chunk.first + i, chunk.epoch, chunk.ends_epoch and i == chunk.length - 1, one))
    return found


def numbers(chunks):
    return [int(one["y"][0]) // 10 for _, _, _, one in steps(chunks)]


# ---------------------------------------------------------------------------------------------------------------------
# Order and cutting
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("longest", [1, 3, 4, 7, 100])
@pytest.mark.parametrize("end", [1, 6, 7, 8, 17])
def test_passes_follow_each_other_and_nothing_is_lost(sized, longest, end):
    loader = Loader(map(batch, range(7)), sized)
    chunks = read(loader, end, longest)
    for cursor, (found, epoch, ends, one) in enumerate(steps(chunks)):
        assert (found, epoch, ends) == (cursor, cursor // 7, cursor % 7 == 6)
        assert_same(one, batch(cursor % 7))
    assert sum(chunk.length for chunk in chunks) == end
    assert all(chunk.masks is None for chunk in chunks)
    assert all(isinstance(leaf, jax.Array) for chunk in chunks for leaf in jax.tree.leaves(chunk.batches))
    assert loader.opened == loader.closed == -(-end // 7)


@pytest.mark.parametrize("sized", [True, False])
def test_lengths_are_few(sized):
    lengths = [chunk.length for chunk in read(Loader(map(batch, range(11)), sized), 22, 4)]
    assert lengths == [4, 4, 2, 1] * 2
    lengths = [chunk.length for chunk in read(Loader(map(batch, range(7)), sized), 14, 100)]
    assert lengths == [4, 2, 1] * 2


def test_an_iterator_is_one_pass():
    chunks = read(map(batch, range(6)), 100)
    assert numbers(chunks) == list(range(6))
    assert [(chunk.epoch, chunk.length, chunk.ends_epoch) for chunk in chunks] == [(0, 4, False), (0, 2, True)]
    assert [chunk.ends_epoch for chunk in read(map(batch, range(4)), 100)] == [True]


def test_a_function_of_the_epoch_is_asked_for_each_epoch():
    asked = []

    def data(epoch):
        asked.append(epoch)
        return (batch(10 * epoch + i) for i in range(3))

    assert numbers(read(data, 8)) == [0, 1, 2, 10, 11, 12, 20, 21]
    assert asked == [0, 1, 2]


@pytest.mark.parametrize("where", ["itself", "sampler"])
def test_set_epoch_is_called_before_each_pass(where):
    class Sampler:
        epoch = None

        def set_epoch(self, epoch):
            self.epoch = epoch

    class Shuffled(Sampler):
        def __init__(self):
            self.sampler = self if where == "itself" else Sampler()
            if where != "itself":
                self.set_epoch = None

        def __iter__(self):
            return iter([batch(10 * self.sampler.epoch + i) for i in range(2)])

    assert numbers(read(Shuffled(), 5)) == [0, 1, 10, 11, 20]
    (chunk, *_) = read(Shuffled(), 3, resume={"epoch": 2, "batch": 1, "skip": 1, "state": None})
    assert numbers([chunk]) == [21]


@pytest.mark.parametrize("sized", [True, False])
def test_ragged_batches_are_chunks_of_their_own(sized):
    loader = Loader([batch(0), batch(1), batch(2), batch(3, 2)], sized)
    chunks = read(loader, 8, 4)
    assert [(chunk.length, chunk.batches["x"].shape[1], chunk.ends_epoch) for chunk in chunks] == [
        *((2, 3, False), (1, 3, False), (1, 2, True)),
        *((2, 3, False), (1, 3, False), (1, 2, True)),
    ]
    assert numbers(chunks) == [0, 1, 2, 3] * 2


def test_dtypes_that_change_begin_a_new_chunk():
    chunks = read([np.zeros(3, np.float32), np.zeros(3, np.float32), np.zeros(3, np.int8), np.zeros(3, np.int8)], 4)
    assert [(chunk.length, chunk.batches.dtype) for chunk in chunks] == [(2, jnp.float32), (2, jnp.int8)]


def test_a_super_batch_is_not_larger_than_it_may(monkeypatch):
    monkeypatch.setattr(super_batches, "CHUNK_BYTES", 3 * sum(x.nbytes for x in batch(0).values()) + 1)
    assert [chunk.length for chunk in read(Loader(map(batch, range(7))), 14, 100)] == [2, 2, 2, 1] * 2
    monkeypatch.setattr(super_batches, "CHUNK_BYTES", 1)
    assert [chunk.length for chunk in read(Loader(map(batch, range(3))), 3, 100)] == [1, 1, 1]


@pytest.mark.parametrize("sized", [True, False])
def test_a_buffer_that_the_iterator_fills_again_and_again_is_copied_in_time(sized):
    class Refilling(SizedLoader if sized else Loader):
        def __iter__(self):
            buffer = batch(0)
            for item in self.batches:
                for name, array in buffer.items():
                    array[...] = item[name]
                yield buffer

    for longest in (1, 2, 4):
        loader = Refilling([batch(i) for i in range(5)])
        for cursor, (_, _, _, one) in enumerate(steps(read(loader, 10, longest))):
            assert_same(one, batch(cursor % 5))


# ---------------------------------------------------------------------------------------------------------------------
# What is read when
# ---------------------------------------------------------------------------------------------------------------------


def test_the_thread_reads_two_super_batches_ahead_and_not_more():
    third = threading.Event()
    puts = []

    def put(tree):
        puts.append(1)
        if len(puts) == 3:
            third.set()
        return jax.device_put(tree)

    loader = Loader(map(batch, range(1000)))
    with Stream(loader).chunks(0, room_of(10**6, 4), put) as chunks:
        first = next(chunks)
        assert first.length == 4
        assert third.wait(WAIT)
        for taken in range(2, 20):
            next(chunks)
            assert len(puts) <= taken + 2
            assert loader.read <= 4 * (taken + 2) + 1


@pytest.mark.parametrize("end", [0, 1, 3, 4, 5, 8])
def test_of_an_iterator_nothing_is_read_that_the_run_does_not_need(end):
    iterator = map(batch, range(100))
    chunks = read(iterator, end)
    assert numbers(chunks) == list(range(end))
    assert next(iterator)["y"][0] == 10 * end


def test_a_run_without_steps_reads_nothing():
    loader = Loader(map(batch, range(3)))
    assert read(loader, 0) == []
    assert loader.opened == 0


@pytest.mark.parametrize("sized", [True, False])
def test_no_pass_is_begun_before_it_is_needed(sized):
    loader = Loader(map(batch, range(3)), sized)
    room = room_of(3 if sized else 100, 4)
    with Stream(loader).chunks(0, room, jax.device_put) as chunks:
        for chunk in chunks:
            if chunk.ends_epoch:
                break
    assert (loader.opened, loader.read, loader.closed) == (1, 3, 1)


def test_no_pass_is_begun_before_the_consumer_asks_where_the_length_is_not_known(monkeypatch):
    """The run may be told by the end of an epoch that it has had enough of them."""
    waits, wait = threading.Event(), Background.wait_until_wanted

    def noted(background):
        waits.set()
        wait(background)

    monkeypatch.setattr(Background, "wait_until_wanted", noted)
    loader = Loader([batch(0)])
    with Stream(loader).chunks(0, room_of(100, 4), jax.device_put) as chunks:
        assert waits.wait(WAIT)
        assert loader.opened == 1
        assert next(chunks).ends_epoch
        assert loader.opened == 1
        assert next(chunks).epoch == 1
        assert loader.opened == 2


@pytest.mark.parametrize("longest", [2, 3, 4])
def test_an_iterator_that_has_ended_is_not_asked_again(longest):
    class BeginsAnew:
        number = 0

        def __iter__(self):
            return self

        def __next__(self):
            if self.number == 4:
                self.number = 0
                raise StopIteration
            self.number += 1
            return batch(self.number - 1)

    assert numbers(read(BeginsAnew(), 100, longest)) == [0, 1, 2, 3]

    class Opened:
        def __iter__(self):
            return BeginsAnew()

    assert numbers(read(Opened(), 9, longest)) == [0, 1, 2, 3, 0, 1, 2, 3, 0]


def test_an_iterator_of_the_user_is_not_closed():
    iterator = (batch(i) for i in range(10))
    read(iterator, 4)
    assert next(iterator)["y"][0] == 40


def test_a_pass_that_is_left_is_closed():
    loader = Loader(map(batch, range(10)))
    with Stream(loader).chunks(0, room_of(100, 2), jax.device_put) as chunks:
        next(chunks)
    assert loader.closed == loader.opened == 1


# ---------------------------------------------------------------------------------------------------------------------
# Going on
# ---------------------------------------------------------------------------------------------------------------------


class StatefulIterator:
    """grain's protocol: the iterator says and takes its state."""

    def __init__(self, size=7, kind=dict):
        self.size, self.kind, self.next_number = size, kind, 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.next_number == self.size:
            raise StopIteration
        self.next_number += 1
        return batch(self.next_number - 1, 2 if self.next_number - 1 == 4 else B)

    def get_state(self):
        return {"next": (self.next_number, 1)} if self.kind is dict else str(self.next_number).encode()

    def set_state(self, state):
        self.next_number = state["next"][0] if self.kind is dict else int(state)


class StatefulIterable:
    def __init__(self, kind=dict):
        self.kind = kind

    def __iter__(self):
        return StatefulIterator(kind=self.kind)


class StatefulLoader:
    """torchdata's protocol: the loader has the state, an order of its own for each pass, and one iterator."""

    def __init__(self, size=7):
        self.size, self.rng, self.restored, self.iterator = size, np.random.default_rng(5), None, None

    def __iter__(self):
        begin, self.restored = self.restored, None
        if begin is None:
            begin = (self.rng.integers(2**31), 0)
        self.order_seed, self.given = begin
        order = np.random.default_rng(self.order_seed).permutation(self.size)
        for number in order[self.given :]:
            self.given += 1
            yield batch(int(number))

    def state_dict(self):
        return {"seed": self.order_seed, "given": self.given, "rng": self.rng.bit_generator.state}

    def load_state_dict(self, state):
        self.restored = (state["seed"], state["given"])
        self.rng.bit_generator.state = state["rng"]


def of_epoch(epoch):
    order = np.random.default_rng(epoch).permutation(5 + epoch % 2)
    return [batch(100 * epoch + int(i)) for i in order]


KINDS = {
    "iterable": lambda: Loader([batch(i, 2 if i == 4 else B) for i in range(7)]),
    "sized": lambda: Loader([batch(i, 2 if i == 6 else B) for i in range(7)], sized=True),
    "iterator": lambda: map(batch, range(19)),
    "function": lambda: of_epoch,
    "iterator with a state": lambda: StatefulIterator(17),
    "iterable with a state": lambda: StatefulIterable(),
    "bytes as state": lambda: StatefulIterable(bytes),
    "loader with a state": StatefulLoader,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("longest", [1, 3, 4, 8])
def test_a_run_goes_on_from_every_position_as_if_it_had_not_stopped(kind, longest):
    make = KINDS[kind]
    whole = read(make(), 19, longest)
    assert len(steps(whole)) >= 17
    for i, chunk in enumerate(whole):
        position = json.loads(json.dumps(chunk.position))
        rest = read(make(), 19, longest, cursor=chunk.first + chunk.length, resume=position)
        expected = whole[i + 1 :]
        assert [c[:4] for c in rest] == [c[:4] for c in expected]
        for a, b in zip(rest, expected, strict=True):  # The states may be of different places before the same one.
            assert all(a.position[name] == b.position[name] for name in ("epoch", "batch"))
            assert "state" in kind or a.position == b.position
        for a, b in zip(rest, expected, strict=True):
            assert_same(a.batches, b.batches)


@pytest.mark.parametrize("kind", ["iterable", "sized", "function"])
def test_a_run_goes_on_from_every_cursor_without_a_position(kind):
    whole = steps(read(KINDS[kind](), 16, 4))
    for cursor in range(17):
        rest = steps(read(KINDS[kind](), 16, 4, cursor=cursor))
        assert_same(rest, whole[cursor:])


def test_an_iterator_without_a_position_goes_on_where_it_is():
    iterator = map(batch, range(20))
    assert numbers(read(iterator, 5)) == [0, 1, 2, 3, 4]
    assert numbers(read(iterator, 9, cursor=5)) == [5, 6, 7, 8]


def test_going_on_reads_only_what_it_must():
    """From a state at most one super-batch is read again, without one the pass up to there, and no pass before it."""
    loader = Loader(map(batch, range(10)), sized=True)
    chunks = read(loader, 28, 4)
    again = Loader(map(batch, range(10)), sized=True)
    position = next(chunk.position for chunk in chunks if chunk.first == 20)
    assert position == {"epoch": 2, "batch": 4, "skip": 4, "state": None}
    assert numbers(read(again, 28, 4, cursor=24, resume=position)) == [4, 5, 6, 7]
    assert (again.opened, again.read) == (1, 8)
    assert [chunk.position for chunk in chunks if chunk.ends_epoch] == [
        {"epoch": epoch, "batch": 0, "skip": 0, "state": None} for epoch in (1, 2)
    ]
    for longest in (1, 2, 4):
        for chunk in read(StatefulIterator(30), 26, longest):
            assert chunk.position["state"] is not None
            assert chunk.position["skip"] < longest


def test_a_state_is_taken_often_also_where_no_super_batch_is_ever_full():
    class Alternating(StatefulIterator):
        def __next__(self):
            return batch(self.next_number, 1 + super().__next__()["y"][0] // 10 % 2)

    chunks = read(Alternating(20), 19, 4)
    assert [chunk.length for chunk in chunks] == [1] * 19
    assert all(chunk.position["skip"] <= 1 for chunk in chunks)


def test_a_position_is_that_of_the_chunk_and_not_of_what_was_read_ahead():
    iterator = StatefulIterator(100)
    with Stream(iterator).chunks(0, room_of(90, 2), jax.device_put) as chunks:
        position = next(chunks).position
    assert iterator.next_number > 2
    assert position == {"epoch": 0, "batch": 2, "skip": 0, "state": {"next": {"tuple": [2, 1]}}}


def test_a_position_may_come_back_with_the_numbers_of_a_checkpoint():
    position = {"epoch": np.int64(1), "batch": jnp.int32(2), "skip": np.array(2), "state": None}
    (chunk,) = read(Loader(map(batch, range(5))), 10, 8, cursor=7, resume=position)[-1:]
    assert (type(chunk.epoch), chunk.position) == (int, {"epoch": 2, "batch": 0, "skip": 0, "state": None})


def test_going_on_behind_the_end_of_the_data_is_refused():
    position = {"epoch": 0, "batch": 9, "skip": 9, "state": None}
    with pytest.raises(jl.InputError, match="go on after batch 9 of epoch 0, but the data ended before that"):
        read(map(batch, range(5)), 20, cursor=9, resume=position)


def test_a_state_for_data_that_keeps_none_is_refused():
    position = read(StatefulIterator(), 4)[0].position
    with pytest.raises(jl.InputError, match="Loader has neither set_state nor load_state_dict"):
        read(Loader(map(batch, range(9))), 9, cursor=4, resume=position)


@pytest.mark.parametrize(
    "position",
    [
        *({}, {"cursor": 3}, 3, {"epoch": 1, "batch": 1}),
        {"epoch": 0, "batch": -1, "skip": 0, "state": None},
        {"epoch": None, "batch": 1, "skip": 0, "state": None},
        {"epoch": 0, "batch": 1.5, "skip": 0, "state": None},
    ],
)
def test_what_is_no_position_is_refused(position):
    with pytest.raises(jl.InputError, match="a position in a stream has epoch, batch, skip, state; got"):
        Stream([batch(0)]).chunks(3, room_of(9, 4), jax.device_put, position)


def test_grain_goes_on_from_every_position():
    grain = pytest.importorskip("grain.python")

    def make():
        data = grain.MapDataset.range(23).shuffle(seed=3).map(lambda i: np.full(2, i, np.float32))
        return data.batch(3).to_iter_dataset(grain.ReadOptions(num_threads=0))

    def forever():
        return iter(grain.MapDataset.range(23).shuffle(seed=3).repeat(3).batch(3).to_iter_dataset())

    for new in (make, forever):
        whole = read(new(), 19, 4)
        assert len(steps(whole)) == 19
        for i, chunk in enumerate(whole):
            assert chunk.position["state"] is not None or chunk.ends_epoch
            rest = read(new(), 19, 4, cursor=chunk.first + chunk.length, resume=json.loads(json.dumps(chunk.position)))
            assert_same(steps(rest), steps(whole[i + 1 :]))


def test_grain_loaders_of_bytes_go_on():
    grain = pytest.importorskip("grain.python")

    class Source:
        def __repr__(self):
            return "Source()"

        def __len__(self):
            return 22

        def __getitem__(self, i):
            return np.full(2, i, np.float32)

    def make():
        sampler = grain.IndexSampler(22, shuffle=True, seed=1, num_epochs=1, shard_options=grain.NoSharding())
        return grain.DataLoader(data_source=Source(), sampler=sampler, operations=[grain.Batch(4)], worker_count=0)

    whole = read(make(), 17, 4)
    assert set(whole[0].position["state"]) == {"bytes"}
    for i, chunk in enumerate(whole):
        rest = read(make(), 17, 4, cursor=chunk.first + chunk.length, resume=json.loads(json.dumps(chunk.position)))
        assert_same(steps(rest), steps(whole[i + 1 :]))


@pytest.mark.oracle
def test_torch_loaders():
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.arange(22.0).reshape(11, 2), torch.arange(11))

    def of_epoch(epoch):
        generator = torch.Generator().manual_seed(epoch)
        return torch.utils.data.DataLoader(data, batch_size=4, shuffle=True, generator=generator)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stream = Stream(torch.utils.data.DataLoader(data, batch_size=4))
        whole = read(of_epoch, 9, 4)
        plain = read(stream.data, 6, 4)
        rest = read(of_epoch, 9, 4, cursor=whole[2].first, resume=json.loads(json.dumps(whole[1].position)))
    assert stream.batches_per_epoch == 3
    assert [chunk.length for chunk in plain] == [2, 1, 2, 1]
    np.testing.assert_array_equal(np.concatenate([c.batches[1].reshape(-1) for c in plain[:2]]), np.arange(11))
    assert plain[0].batches[0].dtype == jnp.float32
    assert plain[0].batches[1].dtype == jnp.int32
    assert_same(steps(rest), steps(whole[2:]))
    shown = np.concatenate([c.batches[1].reshape(-1) for c in whole[:2]])
    assert sorted(shown) == list(range(11)) != shown.tolist()

    class Iterable(torch.utils.data.IterableDataset):
        def __len__(self):
            return 99

        def __iter__(self):
            return iter(range(4))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loader = torch.utils.data.DataLoader(Iterable(), batch_size=2)
        assert Stream(loader).batches_per_epoch is None
        assert [chunk.ends_epoch for chunk in read(loader, 4)] == [True, True]


# ---------------------------------------------------------------------------------------------------------------------
# Leaves
# ---------------------------------------------------------------------------------------------------------------------


def test_numbers_become_what_jax_makes_of_them():
    leaves = {
        "double": np.arange(3.0) + 0.1,
        "long": np.arange(3),
        "unsigned": np.arange(3, dtype=np.uint64),
        "half": np.arange(3, dtype=np.float16),
        "brain": jnp.arange(3, dtype=jnp.bfloat16),
        "brain of NumPy": np.asarray(jnp.arange(3, dtype=jnp.bfloat16)),
        "bytes": np.arange(3, dtype=np.uint8),
        "bools": np.array([True, False, True]),
        "complex": np.array([1j, 2, 3]),
        "device": jnp.arange(3.0),
        "float": 0.1,
        "int": 7,
        "bool": True,
        "number": np.float64(0.1),
        "none": None,
    }
    (chunk,) = read([leaves] * 3, 3, 100, cursor=0)[:1]
    expected = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * chunk.length), leaves)
    assert chunk.length == 2
    assert_same(chunk.batches, expected)
    assert all(not leaf.weak_type for leaf in jax.tree.leaves(chunk.batches))


@bad_input(53)
def test_doubles_stay_doubles_where_x64_is_enabled():
    with jax.enable_x64(True):
        (chunk,) = read([{"x": np.arange(3.0), "y": np.array([2**40] * 3)}], 1)
    assert chunk.batches["x"].dtype == np.float64
    assert np.asarray(chunk.batches["y"]).tolist() == [[2**40] * 3]


def test_doubles_that_become_infinite_are_warned_of():
    with pytest.raises(RuntimeWarning, match="overflow"):
        read([np.array([1e300])], 1)


def test_keys_are_stacked():
    keys = [(jax.random.split(jax.random.key(i), 2), np.zeros(2)) for i in range(2)]
    (chunk,) = read(keys, 2, 2)
    assert_same(chunk.batches[0], jnp.stack([key for key, _ in keys]))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"x": np.array(["a", "b"])}, "data: batch 2 of epoch 0: the leaf at 'x' is <U1[2], not an array of numbers"),
        ({"x": np.array([{}, None])}, "batch 2 of epoch 0: the leaf at 'x' is object[2], not an array"),
        ({"x": np.array(["2020"], "M8[D]")}, "the leaf at 'x' is datetime64[D][1], not an array"),
        ({"x": "text"}, "batch 2 of epoch 0: the leaf at 'x' is 'text' of type str, not an array"),
        ({"x": object}, "the leaf at 'x' is <class 'object'> of type type, not an array"),
        ({"x": np.array([1, 2**31])}, "batch 2 of epoch 0: the leaf at 'x' is int64, and some of its numbers do not"),
        ({"x": np.array([-(2**31) - 1])}, "do not fit into int32, which JAX makes of it"),
        ({"x": np.zeros(0)}, "batch 2 of epoch 0: there are no examples in it"),
        ({"x": 3.0}, "there is no array with an axis of examples in it"),
        (
            {"y": np.zeros(2)},
            "data: batch 2 of epoch 0: its tree is PyTreeDef({'y': *}), and that of the",
        ),
        ([np.zeros(2)], "its tree is PyTreeDef([*]), and that of the batches before is PyTreeDef({'x': *})"),
    ],
)
@pytest.mark.parametrize("longest", [1, 2, 4])
def test_a_batch_that_does_not_fit_is_refused_by_path_and_number(bad, message, longest):
    with pytest.raises(jl.InputError) as raised:
        read([{"x": np.zeros(2)}, {"x": np.zeros(2)}, bad], 9, longest)
    assert message in str(raised.value)


def test_first_axes_that_differ_are_refused():
    with pytest.raises(jl.InputError, match="batch 0 of epoch 0: .*equal lengths; got 3 at 'x', 2 at 'y/0'"):
        read([{"x": np.zeros(3), "y": [np.zeros((2, 3)), 1.0]}], 1)


def test_lists_of_numbers_are_trees_and_refused_if_they_are_ragged():
    with pytest.raises(jl.InputError, match="A list of numbers is a tree of numbers"):
        read([[1, 2, 3], [1, 2]], 2)


@pytest.mark.oracle
def test_tensors_that_numpy_cannot_read_raise_what_torch_says():
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError, match="requires grad") as raised:
        read([{"x": torch.zeros(2, requires_grad=True)}], 1)
    assert raised.value.__notes__ == [
        "This happened to the leaf at 'x'.",
        "This happened in batch 0 of epoch 0 of the data.",
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Errors of the data
# ---------------------------------------------------------------------------------------------------------------------


class MineError(Exception):
    pass


@pytest.mark.parametrize("at", [0, 1, 3, 4, 5])
@pytest.mark.parametrize("longest", [1, 4])
def test_an_error_in_the_data_is_raised_as_it_is(at, longest):
    error = MineError("broken file")

    def data(epoch):
        for i in itertools.count():
            if i == at:
                raise error
            yield batch(i)

    found = []
    with Stream(data).chunks(0, room_of(100, longest), jax.device_put) as chunks, pytest.raises(MineError) as raised:
        found.extend(chunks)
    assert raised.value is error
    assert error.__notes__ == [f"This happened in batch {at} of epoch 0 of the data."]
    assert numbers(found) == list(range(at))


def test_an_error_in_iter_is_raised_as_it_is():
    class Broken:
        def __iter__(self):
            raise MineError("no file")

    with pytest.raises(MineError, match="no file") as raised:
        read(Broken(), 1)
    assert raised.value.__notes__ == ["This happened when the data was opened for epoch 0."]


def test_an_error_in_put_is_raised_as_it_is():
    def put(tree):
        raise MineError("no memory")

    with pytest.raises(MineError, match="no memory"):
        read([batch(0)], 1, put=put)


def test_an_error_while_the_run_finds_its_place_closes_the_data():
    class Broken:
        closed = 0

        def __iter__(self):
            return Reading(self)

    class Reading:
        def __init__(self, owner):
            self.owner = owner

        def __iter__(self):
            return self

        def __next__(self):
            raise MineError

        def close(self):
            self.owner.closed += 1

    data = Broken()
    with pytest.raises(MineError):
        read(data, 9, cursor=4)
    assert data.closed == 1


@pytest.mark.parametrize("data", [[], Loader([]), Loader([], sized=True), lambda epoch: []])
def test_data_without_batches_is_refused(data):
    with pytest.raises(jl.InputError, match="there is no batch in it: its pass for epoch 0 ended at once"):
        read(data, 5)


def test_an_epoch_without_batches_is_refused():
    with pytest.raises(jl.InputError, match="its pass for epoch 2 ended at once"):
        read(lambda epoch: [batch(0)] * (2 - epoch), 5)


def test_an_iterator_that_was_read_already_gives_nothing():
    assert read(iter([]), 5) == []


@pytest.mark.parametrize(
    ("length", "got"), [(5, "has more in epoch 0"), (9, "ended after 7 in epoch 0"), (8, "ended after 7 in epoch 0")]
)
@pytest.mark.parametrize("longest", [1, 2, 100])
def test_a_len_that_counts_something_else_is_refused(length, got, longest):
    class Wrong(Loader):
        def __len__(self):
            return length

    with pytest.raises(jl.InputError) as raised:
        read(Wrong([batch(i) for i in range(7)]), 20, longest)
    assert f"len(data) is {length}, so there should be {length} batches in an epoch, but the data {got}" in str(
        raised.value
    )


def test_what_is_known_of_the_length():
    class Endless(Loader):
        def __len__(self):
            return 2**40

    class Shy(Loader):
        def __len__(self):
            raise NotImplementedError

    assert Stream([batch(0)] * 3).batches_per_epoch == 3
    assert Stream(Endless([batch(0)])).batches_per_epoch is None
    assert Stream(Shy([batch(0)])).batches_per_epoch is None
    assert Stream(iter([batch(0)])).batches_per_epoch is None
    assert Stream(of_epoch).batches_per_epoch is None
    assert numbers(read(Endless([batch(0), batch(1)]), 2)) == [0, 1]


def test_what_is_iterated_over_and_what_is_an_array():
    for stream in (iter([]), Loader([]), of_epoch, (batch(0) for _ in range(2)), map(batch, range(3))):
        assert is_stream(stream)
    for data in ([batch(0)], (np.zeros(3), jnp.zeros(3)), {"x": 1}, np.zeros(3), jnp.zeros(3), None, 3, "text", b""):
        assert not is_stream(data)
    assert not is_stream(jl.minibatches(np.zeros(3), 2))


@pytest.mark.parametrize("data", [3, None, "text", {"x": [1]}, np.zeros(3), jnp.zeros(3), object()])
def test_what_is_no_stream_is_refused(data):
    with pytest.raises(TypeError, match="^data: expected an iterable or an iterator of batches, or a function"):
        Stream(data)


def test_a_function_without_the_epoch_is_refused():
    with pytest.raises(TypeError, match=r"called with the number of the epoch, data\(epoch\); .*takes none"):
        Stream(lambda: [batch(0)])


def test_an_interrupt_in_the_consumer_ends_the_thread():
    def consume():
        with Stream(itertools.repeat(batch(0))).chunks(0, room_of(10**9, 4), jax.device_put) as chunks:
            for chunk in chunks:
                if chunk.first >= 8:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
