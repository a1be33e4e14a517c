"""Which examples each batch holds, for every remainder, compared with a plan written out in plain Python."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_problems import REMAINDERS, plain, regression

import jaxopt_lessons as jl
from jaxopt_lessons.train import batches as batches_module
from jaxopt_lessons.train import shuffle

B = 4
SIZES = [1, 2, B - 1, B, B + 1, 13, 3 * B]
PLANS = [(n, remainder) for n in SIZES for remainder in REMAINDERS if not (remainder == "drop" and n < B)]
COUNT = 44
KEY = jax.random.key(11)


def expected_batches(n, size, remainder, count):
    """The first ``count`` batches as ``(epoch it begins in, positions, positions that count)``, counted over epochs."""
    if remainder == "wrap":
        positions = [list(range(c * size, (c + 1) * size)) for c in range(count)]
        return [(p[0] // n, p, p) for p in positions]
    made = []
    for epoch in range(count + 1):
        for begin in range(0, n, size):
            inside = list(range(begin, min(begin + size, n)))
            whole = list(range(begin, begin + size))
            if len(inside) < size and remainder == "drop":
                continue
            shown = whole if remainder == "pad" else inside
            made.append((epoch, [epoch * n + p for p in shown], [epoch * n + p for p in inside]))
    return made[:count]


def load_all(batches, count, key=KEY):
    """The first ``count`` batches, each with its mask, as the training loop loads them."""
    order = batches.order(key)

    def loader(tail):
        def load(cursor):
            return batches.load(batches.locate(order, cursor, tail=tail), tail=tail)

        return jax.tree.map(np.asarray, jax.jit(jax.vmap(load))(jnp.arange(count)))

    full, smaller = loader(False) if batches.full else None, loader(True) if batches.tail else None
    picked = [smaller if batches.is_tail(cursor) else full for cursor in range(count)]
    return [jax.tree.map(lambda x, c=cursor: x[c], part) for cursor, part in enumerate(picked)]


@functools.cache
def loaded(n, remainder, shuffled=True):
    """The first batches of 4 of the numbers below n."""
    return load_all(jl.minibatches(np.arange(n), B, shuffle=shuffled, remainder=remainder), COUNT)


@functools.cache
def stream(n):
    """The examples at positions that are counted over epochs: the whole permutation of each epoch, end to end."""
    seed = jl.minibatches(np.zeros(n), B).order(KEY)
    positions = jnp.arange(n, dtype=jnp.uint32)
    orders = jax.jit(jax.vmap(lambda epoch: shuffle.permuted(positions, n, seed, epoch)))
    return np.asarray(orders(jnp.arange(-(-2 * COUNT * B // n)))).reshape(-1)


# ---------------------------------------------------------------------------------------------------------------------
# Which examples
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "remainder"), PLANS)
@pytest.mark.parametrize("shuffled", [True, False])
def test_every_batch_is_the_one_of_the_plan(n, remainder, shuffled):
    source = stream(n) if shuffled else np.arange(2 * COUNT * B) % n
    plan = expected_batches(n, B, remainder, COUNT)
    for (_, positions, inside), (rows, mask) in zip(plan, loaded(n, remainder, shuffled), strict=True):
        assert rows.shape == (len(positions),)
        if remainder == "pad" and n % B:
            assert mask.dtype == bool
            assert mask.tolist() == [position in inside for position in positions]
            rows = rows[mask]
        else:
            assert mask is None
        assert rows.tolist() == source[inside].tolist()


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("remainder", ["keep", "pad"])
def test_every_example_is_there_once_an_epoch(n, remainder):
    per_epoch = -(-n // B)
    for begin in range(0, COUNT - per_epoch + 1, per_epoch):
        epoch = loaded(n, remainder)[begin : begin + per_epoch]
        assert sorted(np.concatenate([rows if mask is None else rows[mask] for rows, mask in epoch])) == list(range(n))


@pytest.mark.parametrize("n", [B, B + 1, 13, 3 * B])
def test_drop_leaves_out_another_remainder_each_epoch(n):
    per_epoch = n // B
    left_out = set()
    for begin in range(0, COUNT - per_epoch + 1, per_epoch):
        seen = np.concatenate([rows for rows, _ in loaded(n, "drop")[begin : begin + per_epoch]])
        assert len(set(seen)) == len(seen) == n - n % B
        left_out |= set(range(n)) - set(seen)
    assert len(left_out) > n % B if n % B else not left_out


@pytest.mark.parametrize("n", SIZES)
def test_after_k_wrapped_epochs_every_example_was_there_k_times(n):
    assert all(rows.shape == (B,) and mask is None for rows, mask in loaded(n, "wrap"))
    rows = np.concatenate([rows for rows, _ in loaded(n, "wrap")])
    for begin in range(0, COUNT * B - n + 1, n):
        assert sorted(rows[begin : begin + n]) == list(range(n))


@pytest.mark.parametrize("shuffled", [True, False])
def test_203_wrapped_batches_of_32_of_203_examples_hold_each_32_times(shuffled):
    found = load_all(jl.minibatches(np.arange(203), 32, shuffle=shuffled, remainder="wrap"), 203)
    assert np.bincount(np.concatenate([rows for rows, _ in found])).tolist() == [32] * 203


@pytest.mark.parametrize("remainder", ["keep", "wrap"])
def test_orders_differ_between_epochs_and_between_keys(remainder):
    batches = jl.minibatches(np.arange(40), B, remainder=remainder)
    one, other = load_all(batches, 30), load_all(batches, 30, jax.random.key(12))
    epochs = [tuple(np.concatenate([rows for rows, _ in run[i : i + 10]])) for run in (one, other) for i in (0, 10, 20)]
    assert len(set(epochs)) == 6
    assert tuple(range(40)) not in epochs


@pytest.mark.parametrize("shuffled", [True, False])
def test_a_batch_larger_than_the_data_wraps_around_more_than_once(shuffled):
    batches = jl.minibatches(np.arange(3), 10, shuffle=shuffled, remainder="wrap")
    rows = np.concatenate([rows for rows, _ in load_all(batches, 6)])
    assert rows.tolist() == (stream(3)[:60] if shuffled else np.arange(60) % 3).tolist()


@pytest.mark.parametrize("remainder", REMAINDERS)
def test_batch_size_1_is_one_example_at_a_time(remainder):
    batches = jl.minibatches(np.arange(7), 1, remainder=remainder)
    assert (batches.full, batches.tail, batches.per_epoch) == (7, 0, 7)
    found = load_all(batches, 14)
    assert all(rows.shape == (1,) and mask is None for rows, mask in found)
    for epoch in (found[:7], found[7:]):
        assert sorted(int(rows[0]) for rows, _ in epoch) == list(range(7))


@pytest.mark.parametrize("remainder", REMAINDERS)
def test_without_a_batch_size_a_batch_is_the_data_itself(remainder):
    data = {"x": np.arange(10.0, dtype=np.float32).reshape(5, 2), "y": np.arange(5)}
    batches = jl.minibatches(data, remainder=remainder)
    assert (batches.full, batches.tail, batches.per_epoch) == (1, 0, 1)
    batch, mask = batches.load(batches.locate(batches.order(KEY), jnp.int32(3)))
    assert mask is None
    assert batch["x"] is batches.data["x"]
    np.testing.assert_array_equal(batch["x"], data["x"])
    np.testing.assert_array_equal(batch["y"], data["y"])
    assert [batches.epoch_start(e) for e in range(3)] == [0, 1, 2]
    assert [batches.epoch_of(c) for c in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("remainder", REMAINDERS)
@pytest.mark.parametrize("shuffled", [True, False])
def test_the_arrays_of_a_tree_stay_aligned(remainder, shuffled):
    index = np.arange(13)
    data = {
        "image": index[:, None, None] + np.zeros((13, 2, 3), np.float32),
        "rest": (index * 10, [index.astype(np.int8), None], np.stack([index, -index], axis=1)),
    }
    batches = jl.minibatches(data, B, shuffle=shuffled, remainder=remainder)
    for batch, _ in load_all(batches, 8):
        rows = batch["rest"][1][0].astype(int)
        assert batch["rest"][1][1] is None
        assert batch["image"].shape == (len(rows), 2, 3)
        np.testing.assert_array_equal(batch["image"], rows[:, None, None] + np.zeros((len(rows), 2, 3)))
        np.testing.assert_array_equal(batch["rest"][0], rows * 10)
        np.testing.assert_array_equal(batch["rest"][2], np.stack([rows, -rows], axis=1))


# ---------------------------------------------------------------------------------------------------------------------
# Epochs and cursors
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 11, 12, 203])
@pytest.mark.parametrize(
    ("size", "remainder"), [(size, remainder) for size in (1, 3, 4, 7, 32) for remainder in REMAINDERS]
)
def test_epochs_begin_where_the_plan_says(n, size, remainder):
    if remainder == "drop":
        n = max(n, size)
    batches = jl.minibatches(np.zeros(n), size, remainder=remainder)
    plan = expected_batches(n, size, remainder, 60)
    begins = [epoch for epoch, _, _ in plan]
    assert [batches.epoch_of(cursor) for cursor in range(60)] == begins
    assert [batches.is_tail(cursor) for cursor in range(60)] == [len(shown) < size for _, shown, _ in plan]
    for epoch in range(begins[-1]):
        assert batches.epoch_start(epoch) == next(c for c, begin in enumerate(begins) if begin >= epoch)
    if remainder != "wrap":
        assert begins.count(0) == min(batches.per_epoch, 60)
        assert batches.full + (batches.tail > 0) == batches.per_epoch
        assert batches.tail == (n % size if remainder == "keep" else 0)
    else:
        assert {begins.count(e) for e in range(begins[-1])} <= {0, batches.per_epoch - 1, batches.per_epoch}


def test_wrapped_batches_are_exact_where_the_product_needs_more_than_32_bits():
    n, size = 203, 3001
    batches = jl.minibatches(np.arange(n), size, shuffle=False, remainder="wrap")
    cursors = [0, 1, 1_431_655, 2**31 // size + 1, 2**32 // size, 2**32 // size + 1, 2**30 + 12345, 2**31 - 1]
    rows = jax.jit(jax.vmap(lambda c: batches.locate(None, c).rows))(jnp.asarray(cursors, jnp.int32))
    for cursor, found in zip(cursors, np.asarray(rows), strict=True):
        np.testing.assert_array_equal(found, [(cursor * size + i) % n for i in range(size)])


@pytest.mark.parametrize("divisor", [1, 2, 203, 2**16 + 1, 60_000_011, 2**30 + 3, 1_431_655_766, 2**31 - 1])
@pytest.mark.parametrize("factor", [1, 2, 32, 1023, 65_537, 2**20])
def test_the_product_is_divided_exactly(divisor, factor):
    """``x * factor`` by ``divisor``, for every ``x`` whose quotient, the number of an epoch, fits into 32 bits."""
    largest = min(2**31 - 1, (2**32 - 1) * divisor // factor)
    rng = np.random.default_rng(divisor % 1000 + factor)
    xs = [0, 1, min(divisor - 1, largest), min(divisor, largest), largest, *rng.integers(0, largest + 1, 200).tolist()]
    quotients, rests = batches_module._multiply_divide(jnp.asarray(xs, jnp.int32), factor, divisor)
    assert [divmod(x * factor, divisor) for x in xs] == list(zip(quotients.tolist(), rests.tolist(), strict=True))


# ---------------------------------------------------------------------------------------------------------------------
# The plan as a value
# ---------------------------------------------------------------------------------------------------------------------


def test_the_leaves_are_the_data_and_the_plan_is_structure():
    a, b = (jl.minibatches((np.full((6, 2), fill), np.arange(6)), 4) for fill in (0.0, 1.0))
    assert [plain(leaf).shape for leaf in jax.tree.leaves(a)] == [(6, 2), (6,)]
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert jax.tree.structure(a) != jax.tree.structure(jl.minibatches(a.data, 3))
    assert jax.tree.structure(a) != jax.tree.structure(jl.minibatches(a.data, 4, shuffle=False))
    assert jax.tree.structure(a) != jax.tree.structure(jl.minibatches(a.data, 4, remainder="pad"))
    assert jax.jit(lambda batches: batches)(a).examples == 6
    with pytest.raises(dataclasses.FrozenInstanceError):
        a.batch_size = 3


def test_numpy_arrays_are_put_on_the_device_and_jax_arrays_stay_where_they_are():
    x = jnp.arange(6.0)
    batches = jl.minibatches((x, np.arange(6)), np.int64(2))
    assert batches.data[0] is x
    assert isinstance(batches.data[1], jax.Array)
    assert type(batches.batch_size) is int
    assert (batches.batch_size, batches.examples, batches.shuffle, batches.remainder) == (2, 6, True, "keep")


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({"x": np.zeros((5, 2)), "y": np.zeros(4)}, jl.InputError, "equal lengths; got 5 at 'x', 4 at 'y'"),
        ({"x": np.zeros((0, 2))}, jl.InputError, "no examples in it, the first axes have length 0"),
        ({"x": np.zeros(5), "scale": np.float32(2)}, jl.InputError, "at 'scale' is a single number"),
        ({"x": np.zeros(5), "name": "train"}, TypeError, "at 'name' is 'train' of type str, not an array"),
        ([1.0, 2.0], TypeError, "at '0' is 1.0 of type float, not an array"),
        ((), jl.InputError, "there are no arrays in it"),
        (None, jl.InputError, "there are no arrays in it"),
        ({"x": np.array(["a", "b"])}, jl.InputError, "the leaf at 'x' is <U1[2], not an array of numbers"),
        ({"x": np.array([1.0, "b"], object)}, jl.InputError, "the leaf at 'x' is object[2], not an array of numbers"),
        ({"x": np.array([1, 2**31])}, jl.InputError, "the leaf at 'x' is int64, and some of its numbers do not fit"),
        ({"x": np.array([1, 2**32], np.uint64)}, jl.InputError, "the leaf at 'x' is uint64, and some of its numbers"),
    ],
)
def test_data_that_cannot_be_cut_is_refused_by_name(data, error, message):
    with pytest.raises(error, match="^data: ") as raised:
        jl.minibatches(data, 2)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1; got 0"),
        ({"batch_size": -1}, ValueError, "batch_size must be at least 1; got -1"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be a whole number; got 2.5 of type float"),
        ({"batch_size": 2.0}, TypeError, "batch_size must be a whole number; got 2.0 of type float"),
        ({"batch_size": True}, TypeError, "batch_size must be a whole number; got True of type bool"),
        ({"batch_size": "3"}, TypeError, "batch_size must be a whole number; got '3' of type str"),
        ({"batch_size": 6, "remainder": "drop"}, ValueError, "batch_size=6 drops all 5 examples"),
        ({"batch_size": 2, "remainder": "cut"}, ValueError, "one of 'keep', 'drop', 'pad', 'wrap'; got 'cut'"),
        ({"shuffle": "no"}, TypeError, "shuffle must be True or False; got 'no' of type str"),
        ({"remainder": None}, ValueError, "one of 'keep', 'drop', 'pad', 'wrap'; got None"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_by_name(arguments, error, message):
    with pytest.raises(error, match="^minibatches: ") as raised:
        jl.minibatches(np.zeros((5, 2)), **arguments)
    assert message in str(raised.value)


def test_drop_with_a_batch_of_all_examples_is_allowed():
    assert jl.minibatches(np.zeros(5), 5, remainder="drop").per_epoch == 1


@pytest.mark.parametrize("batch_size", [None, 4, 11, 20])
@pytest.mark.parametrize("remainder", REMAINDERS)
def test_the_shapes_of_a_batch_are_those_of_the_first(batch_size, remainder):
    if remainder == "drop" and batch_size == 20:
        return
    batches = jl.minibatches(regression(11), batch_size, remainder=remainder)
    where = batches.locate(batches.order(jax.random.key(0)), jnp.int32(0), tail=not batches.full)
    first = batches.load(where, tail=not batches.full)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), batches.shapes()) == jax.tree.map(
        lambda x: (x.shape, x.dtype), first
    )
