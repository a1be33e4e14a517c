"""Training where the numbers end: steps, batches and epochs at 2^31 - 1, and beyond in the numbers of the host.

``state.step`` stays at the largest int32. The cursor must not: the order of the data and the keys of the loss are
functions of it, so each batch would be the same. ``fit`` refuses to go beyond it, and a stream that does not say its
length ends there.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import bad_input
from schedule_rows import ROWS
from training_problems import assert_same, example_loss, network, noisy_loss, regression

import jaxopt_lessons as jl
from jaxopt_lessons import numerics
from jaxopt_lessons.train.run import Moment

LARGEST = 2**31 - 1
DATA = regression(24)
REMAINDERS = [("keep", 9), ("drop", 9), ("pad", 8), ("wrap", 9), ("keep", None)]


def state_at(step, cursor, updates=None):
    """The first state, but so many batches and updates later; the optimizer has counted them."""
    state = jl.init_state(network(), step, key=3)
    updates = cursor if updates is None else updates

    def counted(leaf):
        is_count = leaf.dtype == jnp.int32 and leaf.ndim == 0
        return jnp.full_like(leaf, updates) if is_count else leaf

    opt_state = jax.tree.map(counted, state.opt_state)
    return state._replace(step=jnp.int32(updates), cursor=jnp.int32(cursor), opt_state=opt_state)


def steps_and_data(remainder, batch_size, source):
    step = jl.make_step(example_loss if remainder == "pad" else noisy_loss, jl.adam(jl.linear_schedule(0.1, 0.01, 9)))
    data = jl.minibatches(DATA, batch_size, remainder=remainder, on_host=source == "host")
    return step, data


@bad_input(50)
@pytest.mark.parametrize("source", ["memory", "host"])
@pytest.mark.parametrize(("remainder", "batch_size"), REMAINDERS)
def test_a_run_goes_up_to_the_largest_cursor(remainder, batch_size, source):
    """It has the history of numbers that grow, and is cut into chunks as any other."""
    step, data = steps_and_data(remainder, batch_size, source)
    first = LARGEST - 7
    out = jl.fit(step, state_at(step, first), data, steps=7, chunk_steps=2, val=DATA)
    assert (int(out.state.step), int(out.state.cursor), out.reason) == (LARGEST, LARGEST, "finished")
    np.testing.assert_array_equal(out.history.steps("loss"), first + np.arange(1, 8))
    epochs = out.history.epochs("loss")
    assert (np.diff(epochs) >= 0).all()
    assert epochs[0] == data.epoch_of(first) > 0
    assert epochs[-1] == data.epoch_of(LARGEST - 1)
    assert np.isfinite(out.history["loss"]).all()
    np.testing.assert_allclose(out.history["learning_rate"], 0.01, rtol=1e-6)
    assert out.history.steps("val_loss")[-1] == LARGEST

    parts = jl.fit(step, state_at(step, first), data, steps=3)
    parts = jl.fit(step, parts.state, data, steps=4)
    assert_same(parts.state, out.state)


@bad_input(50)
def test_batches_at_the_end_differ_from_each_other():
    """As they would not if the cursor stood still: neither in their rows nor in their keys."""
    seen = []

    def loss(params, batch, key):
        return jl.Weighted(jnp.sum(params[None] * batch) + jax.random.uniform(key), jnp.float32(1))

    step = jl.make_step(loss, jl.sgd(1.0))
    out = jl.fit(
        step,
        jl.init_state(jnp.zeros(64), step)._replace(cursor=jnp.int32(LARGEST - 16)),
        np.eye(64, dtype=np.float32),
        steps=16,
        batch_size=4,
        observers=[jl.Lambda(lambda run: seen.append(np.asarray(run.state.params)), every=jl.Every(steps=1))],
    )
    changes = np.diff(seen, axis=0, prepend=np.zeros((1, 64)))
    assert len(seen) == 16
    assert len(np.unique(changes, axis=0)) == 16
    assert (np.sum(changes != 0, axis=1) == 4).all()
    assert len(np.unique(out.history["loss"])) == 16


@bad_input(50)
@pytest.mark.parametrize("source", ["memory", "host", "stream"])
@pytest.mark.parametrize("length", [{"steps": 8}, {"epochs": 3}, {"steps": LARGEST}, {"epochs": LARGEST}])
def test_a_run_beyond_the_largest_cursor_is_refused(length, source):
    step, data = steps_and_data("drop", 8, source)
    if source == "stream":
        data = jl.Stream([tuple(x[i : i + 8] for x in DATA) for i in (0, 8, 16)])
    with pytest.raises(ValueError, match=r"fit: the run would end after \d+ batches, .* at most 2147483647"):
        jl.fit(step, state_at(step, LARGEST - 7), data, **length)


@bad_input(50)
def test_a_stream_without_a_length_ends_at_the_largest_cursor():
    def batches():
        while True:
            yield tuple(x[:8] for x in DATA)

    step = jl.make_step(noisy_loss, jl.adam(0.01))
    out = jl.fit(step, state_at(step, LARGEST - 7), batches(), epochs=1, chunk_steps=4, val=DATA)
    assert (int(out.state.cursor), int(out.state.step), len(out.history["loss"])) == (LARGEST, LARGEST, 7)
    assert out.reason == "the largest number of batches, 2147483647, is reached"
    assert out.history.steps("val_loss").tolist() == [LARGEST]
    assert len(np.unique(out.history["loss"])) == 7


@bad_input(50)
def test_updates_may_be_as_many_as_can_be_while_batches_are_few():
    """``state.step`` stays at the largest number, and so do the counters of the optimizer."""
    step = jl.make_step(example_loss, jl.adam(jl.cosine_decay_schedule(0.1, 100, alpha=0.5)))
    out = jl.fit(step, state_at(step, 0, updates=LARGEST - 2), DATA, steps=6, batch_size=8)
    assert (int(out.state.cursor), int(out.state.step), out.steps) == (6, LARGEST, LARGEST)
    np.testing.assert_allclose(out.history["learning_rate"], np.full(6, 0.05, np.float32), rtol=1e-6)
    counts = [leaf for leaf in jax.tree.leaves(out.state.opt_state) if leaf.dtype == jnp.int32]
    assert counts
    assert all(int(count) == LARGEST for count in counts)
    assert np.isfinite(out.history["loss"]).all()


@bad_input(50)
@pytest.mark.parametrize("wrap", [lambda step: jl.with_ema(step, 0.9), jl.with_guard], ids=["ema", "guard"])
def test_what_wrappers_count_stays_at_the_largest_number(wrap):
    step = wrap(jl.make_step(lambda w, x: jnp.where(x > 0, jnp.nan, 1) * w**2, jl.sgd(0.1)))
    state = jl.init_state(1.0, step)
    full = lambda leaf: jnp.full_like(leaf, LARGEST - 1) if leaf.dtype == jnp.int32 else leaf
    state = state._replace(extras=jax.tree.map(full, state.extras))
    out = jl.fit(step, state, jnp.array([1.0] if wrap is jl.with_guard else [-1.0]), steps=3)
    counts = [int(leaf) for leaf in jax.tree.leaves(out.state.extras) if leaf.dtype == jnp.int32]
    assert set(counts) == {LARGEST}
    assert np.isfinite(jax.tree.leaves(step.eval_params(out.state))).all()


@bad_input(50, 51)
@pytest.mark.parametrize("row", [row for row in ROWS if row.length is not None], ids=lambda row: row.label)
def test_schedules_of_a_run_stay_at_their_end(row):
    step = jl.make_step(lambda w, x: (w - x) ** 2, jl.sgd(getattr(jl, row.name)(**row.arguments)))
    out = jl.fit(step, state_at_scalar(step), jnp.ones(4), steps=4, batch_size=2)
    end = np.float32(row.formula(np.float64(10.0 * row.length), **row.arguments))
    np.testing.assert_allclose(out.history["learning_rate"], np.full(4, end), rtol=2e-6, atol=1e-7)


def state_at_scalar(step):
    state = jl.init_state(0.5, step)
    full = lambda leaf: jnp.full_like(leaf, LARGEST - 2) if leaf.dtype == jnp.int32 else leaf
    return state._replace(step=jnp.int32(LARGEST - 2), opt_state=jax.tree.map(full, state.opt_state))


@bad_input(50)
def test_schedules_by_the_epoch_stay_at_their_end():
    schedule = jl.linear_schedule(1.0, 0.25, 3).per_epoch(4)
    counts = jnp.array([0, 4, 12, 10**9, LARGEST - 1, LARGEST], jnp.int32)
    values = np.asarray(jax.jit(jax.vmap(schedule))(counts))
    np.testing.assert_allclose(values, [1.0, 0.75, 0.25, 0.25, 0.25, 0.25], rtol=1e-6)


@bad_input(51)
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999, 0.999999])
@pytest.mark.parametrize("t", [10**9, LARGEST])
def test_corrections_are_exactly_1_in_the_end(decay, t):
    assert float(numerics.bias_correction(decay, jnp.int32(t))(jnp.float32)) == 1.0


@bad_input(50)
@pytest.mark.parametrize("every", [jl.Every(steps=3), jl.Every(epochs=2)], ids=["steps", "epochs"])
def test_observers_look_at_multiples_beyond_32_bits_too(every):
    """Numbers of the host: nothing wraps around."""
    number = 3 * 2**33
    due = [
        cursor
        for cursor in range(number, number + 6)
        if every.is_due(Moment(cursor, epoch=cursor - 1, ends_epoch=True), 0.0)
    ]
    assert due == ([number, number + 3] if every.steps else [number, number + 2, number + 4])


@bad_input(50)
def test_observers_look_near_the_largest_cursor():
    step, seen = jl.make_step(example_loss, jl.sgd(0.01)), []
    look = jl.Lambda(lambda run: seen.append(run.cursor), every=jl.Every(steps=3), needs_state=False)
    jl.fit(step, state_at(step, LARGEST - 7), DATA, steps=7, batch_size=8, observers=[look])
    assert seen == [n for n in range(LARGEST - 6, LARGEST + 1) if n % 3 == 0]
