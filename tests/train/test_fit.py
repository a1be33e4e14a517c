"""``fit``: a run in chunks on the host is the same run in one piece, however it is cut, stopped or compiled."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_problems import (
    REMAINDERS,
    assert_near,
    assert_same,
    backend_compiles,
    distance,
    example_loss,
    network,
    noisy_loss,
    plain,
    quadratic,
    regression,
    scalar_loss,
    visits,
    weighted_loss,
)

import jaxopt_lessons as jl
from jaxopt_lessons.train import chunks as chunks_module
from jaxopt_lessons.train.programs import Compiled

N, B = 11, 4
DATA = regression(N)
ADAM, SGD = jl.adam(0.05), jl.sgd(0.1)
STEP = jl.make_step(noisy_loss, ADAM)
STATE = jl.init_state(network(), ADAM, key=3)
PER_EPOCH = {"keep": 3, "drop": 2, "pad": 3, "wrap": 3}


def fit(data=DATA, step=STEP, state=STATE, **options):
    if not isinstance(data, jl.Batches):
        options = {"batch_size": B} | options
    if "steps" not in options:
        options = {"epochs": 2} | options
    return jl.fit(step, state, data, **options)


def without_rates(history):
    return {name: history[name] for name in history if name != "learning_rate"}


def history_of(*results):
    """The columns of one run, or of its parts end to end."""
    names = {name: None for result in results for name in result.history}
    return {
        name: [np.concatenate([read(r.history)(name) for r in results if name in r.history]) for read in READERS]
        for name in names
    }


READERS = (lambda history: history.__getitem__, lambda history: history.steps, lambda history: history.epochs)


# ---------------------------------------------------------------------------------------------------------------------
# The same run
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch_size", "remainder"), [(B, "keep"), (B, "pad"), (None, "keep")])
def test_a_fit_is_its_epochs_by_hand(batch_size, remainder):
    result = fit(batch_size=batch_size, remainder=remainder)
    batches = jl.minibatches(DATA, batch_size, remainder=remainder)
    epoch = jax.jit(jl.make_epoch(STEP, batches))
    state, first = epoch(STATE, batches)
    state, second = epoch(state, batches)
    assert_near(result.state, state)
    by_hand = jax.tree.map(lambda *x: np.asarray(jnp.concatenate(x)), first, second)
    assert_near(without_rates(result.history), by_hand, tolerance=2e-6)
    assert distance(state.params, STATE.params) > 0.05


def test_a_wrapped_fit_is_its_scan_by_hand():
    result = fit(remainder="wrap", steps=7)
    batches = jl.minibatches(DATA, B, remainder="wrap")
    state, metrics = jax.jit(jl.make_scan(STEP, 7))(STATE, batches)
    assert_near(result.state, state)
    assert_near(without_rates(result.history), jax.tree.map(np.asarray, metrics), tolerance=2e-6)


@pytest.mark.parametrize("remainder", REMAINDERS)
def test_epochs_are_as_many_steps(remainder):
    by_epochs = fit(remainder=remainder, epochs=4)
    steps = {"keep": 12, "drop": 8, "pad": 12, "wrap": 11}[remainder]
    by_steps = fit(remainder=remainder, steps=steps)
    assert len(by_epochs.history["loss"]) == steps == by_epochs.steps == int(by_epochs.state.cursor)
    assert repr(by_epochs).startswith(f"FitResult(steps={steps}, reason='finished'")
    assert_same(by_epochs.state, by_steps.state)
    assert_same(history_of(by_epochs), history_of(by_steps))


@pytest.mark.parametrize("remainder", REMAINDERS)
def test_a_run_that_stops_at_any_cursor_and_goes_on_is_the_run_that_did_not_stop(remainder):
    """Bit by bit, for parameters, optimizer, key and history, with a loss that draws random numbers."""
    batches, total = jl.minibatches(DATA, B, remainder=remainder), 7
    whole = fit(batches, steps=total)
    assert int(whole.state.cursor) == total
    for cursor in range(total + 1):
        begun = fit(batches, steps=cursor)
        resumed = fit(batches, state=begun.state, steps=total - cursor)
        assert_same(resumed.state, whole.state)
        assert_same(history_of(begun, resumed), history_of(whole))


@pytest.mark.parametrize("remainder", ["keep", "wrap"])
def test_the_length_of_chunks_changes_nothing(remainder):
    """Bit by bit; 14 steps are two epochs of seven batches, in chunks of 7, of 1, and of 3 and what is left."""
    batches, val = jl.minibatches(regression(27), B, remainder=remainder), regression(5, seed=1)
    whole = fit(batches, steps=14, val=val, val_batch_size=3)
    assert len(whole.history["val_loss"]) == 2
    for options in ({"chunk_steps": 1}, {"chunk_steps": 3}, {"chunk_steps": 4}):
        cut = fit(batches, steps=14, val=val, val_batch_size=3, **options)
        assert_same(cut.state, whole.state)
        assert_same(history_of(cut), history_of(whole))


def test_a_loop_of_a_given_length():
    assert_same(fit(loop="scan", chunk_steps=2).state, fit(loop="scan").state)


def test_steps_that_are_no_loop_are_the_same_run():
    """To rounding: XLA may fuse a step differently outside of a loop."""
    assert_near(fit(loop="steps").state, fit(loop="scan").state)


@pytest.mark.parametrize("multiples", [(), (5,), (3, 4)])
@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 5, 6, 7, 100])
@pytest.mark.parametrize("remainder", REMAINDERS)
def test_chunks_are_within_the_limit_and_end_where_they_have_to(chunk, remainder, multiples):
    batches = jl.minibatches(np.zeros(27), B, remainder=remainder)
    for cursor in range(8):
        for total in (0, 1, 6, 7, 20):
            chunks = chunks_of(batches, cursor, total, chunk, multiples)
            position = cursor
            for part in chunks:
                last = part.first + part.steps - 1
                assert part.first == position
                assert part.steps >= 1
                assert part.length <= chunk
                assert batches.epoch_of(part.first) == batches.epoch_of(last) == part.epoch
                assert [batches.is_tail(c) for c in range(part.first, last + 1)] == [False] * part.length + [
                    True
                ] * part.tail
                assert part.ends_epoch == (batches.epoch_of(last + 1) > part.epoch)
                assert all(c % multiple for c in range(part.first + 1, last + 1) for multiple in multiples)
                position += part.steps
            assert position == cursor + total
    whole_epochs = chunks_of(batches, 0, 4 * batches.per_epoch, chunk, multiples)
    assert len({(part.length, part.tail) for part in whole_epochs}) <= (6 if multiples else 4)


@pytest.mark.parametrize(
    ("batches_in_epoch", "total", "multiples", "lengths"),
    [
        (1003, 1000, (), {1000}),
        (1003, 2500, (), {1003, 494}),
        (23, 230, (), {23}),
        (2000, 4000, (), {1000}),
        (100, 1000, (30,), {30, 10, 20}),
        (10, 1, (), {1}),
        (5, 5, (100,), {5}),
        (2000, 0, (), set()),
    ],
)
def test_a_run_needs_few_programs(batches_in_epoch, total, multiples, lengths):
    batches = jl.minibatches(np.zeros(batches_in_epoch), 1)
    assert {chunk.length for chunk in chunks_of(batches, 0, total, 1024, multiples)} == lengths


def chunks_of(batches, cursor, total, limit, multiples=()):
    cuts = chunks_module.cuts_of_run(batches, cursor, cursor + total, limit, chunks_module.Stops(multiples))
    return list(chunks_module.chunks_in_memory(batches, cursor, cuts))


def test_a_fit_without_its_steps_is_the_identity():
    """The control of the tests above: they would also pass if nothing ever happened."""
    moved = [distance(fit(steps=steps).state.params, STATE.params) for steps in (0, 1, 2)]
    assert moved[0] == 0
    assert 0.01 < moved[1] < moved[2]


@pytest.mark.parametrize("n", [3, 5, 12])
@pytest.mark.parametrize("remainder", ["keep", "wrap"])
def test_every_example_is_visited_as_often_as_there_are_epochs(n, remainder):
    step = jl.make_step(visits, jl.sgd(1.0))
    state = jl.init_state(np.zeros(n, np.float32), step.tx)
    result = jl.fit(step, state, np.arange(n), epochs=B, batch_size=B, remainder=remainder)
    np.testing.assert_array_equal(result.state.params, np.full(n, B))


def test_an_epoch_that_is_asked_for_inside_an_epoch_ends_inside_the_next():
    begun = fit(steps=2)
    result = fit(state=begun.state, epochs=1)
    assert int(result.state.cursor) == 2 + PER_EPOCH["keep"]
    assert result.history.epochs("loss").tolist() == [0, 1, 1]
    assert result.history.steps("loss").tolist() == [3, 4, 5]


def test_a_state_that_comes_back_as_numpy_arrays_goes_on():
    """As a checkpoint does; only the key is an array that NumPy does not have."""
    whole, begun = fit(steps=7), fit(steps=4)
    restored = jax.tree.map(np.asarray, begun.state._replace(key=None))._replace(key=begun.state.key)
    result = fit(state=restored, steps=3)
    assert_same(result.state, whole.state)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(result.state))


def test_steps_and_cursor_are_counted_apart():
    """After an update that was dropped the data is one batch ahead of the optimizer."""
    ahead = STATE._replace(cursor=jnp.int32(4), step=jnp.int32(3))
    result = fit(state=ahead, steps=4)
    assert (int(result.state.cursor), int(result.state.step)) == (8, 7)
    assert result.history.steps("loss").tolist() == [5, 6, 7, 8]
    assert result.history.epochs("loss").tolist() == [1, 1, 2, 2]


@pytest.mark.parametrize("options", [{"epochs": 0}, {"steps": 0}])
def test_no_epochs_are_no_change(options):
    result = fit(**options)
    assert_same(result.state, STATE)
    assert len(result.history) == 0


# ---------------------------------------------------------------------------------------------------------------------
# Data
# ---------------------------------------------------------------------------------------------------------------------


def test_data_may_be_numpy_or_jax_arrays_or_planned():
    reference = fit()
    on_device = jax.tree.map(jnp.asarray, DATA)
    assert_same(fit(on_device).state, reference.state)
    assert_same(fit(jl.minibatches(DATA, B)).state, reference.state)
    assert_same(fit(jl.minibatches(DATA, B, shuffle=False)).state, fit(shuffle=False).state)
    assert distance(fit(shuffle=False).state.params, reference.state.params) > 1e-3


def test_data_may_be_a_dict():
    def loss(params, batch):
        return example_loss(params, (batch["x"], batch["y"]))

    result = fit({"y": DATA[1], "x": DATA[0]}, step=jl.make_step(loss, ADAM))
    assert_same(result.state, fit(step=jl.make_step(example_loss, ADAM)).state)


def test_another_key_is_another_order():
    step = jl.make_step(example_loss, ADAM)
    one, other = (fit(step=step, state=jl.init_state(network(), ADAM, key=key)).state for key in (0, 1))
    assert distance(one.params, other.params) > 1e-3


@pytest.mark.parametrize("options", [{"batch_size": B}, {"shuffle": False}, {"remainder": "drop"}])
def test_a_plan_beside_planned_data_is_refused(options):
    with pytest.raises(ValueError, match=r"^fit: the data is planned by minibatches already; say batch_size, shuffle"):
        fit(jl.minibatches(DATA, B), **options)


# ---------------------------------------------------------------------------------------------------------------------
# Buffers
# ---------------------------------------------------------------------------------------------------------------------


def test_what_the_caller_gave_stays_alive():
    params = jax.tree.map(jnp.array, network())
    before = jax.tree.map(np.array, params)
    state = jl.init_state(params, ADAM)
    data = jax.tree.map(jnp.asarray, DATA)
    once = fit(data, state=state)
    again = fit(data, state=state)
    assert_same(once.state, again.state)
    middle = once.state
    fit(data, state=middle)
    for tree in (params, state, data, middle):
        for leaf in jax.tree.leaves(tree):
            assert not leaf.is_deleted()
            plain(leaf)
    assert_same(params, jax.tree.map(jnp.asarray, before))


def test_the_state_inside_of_a_run_is_donated(monkeypatch):
    """Else a run would need the memory of two states."""
    given = []
    run_in_memory = Compiled.run_in_memory

    def spy(compiled, state, *rest):
        given.append(state)
        return run_in_memory(compiled, state, *rest)

    monkeypatch.setattr(Compiled, "run_in_memory", spy)
    fit(steps=2, chunk_steps=1)
    assert len(given) == 2
    for state in given:
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state.params, state.opt_state)))


def test_one_array_in_two_places_works():
    """Donating one buffer twice is refused by XLA."""
    shared = jnp.ones(3, jnp.float32)

    def loss(params, batch):
        return quadratic(params["a"], batch) + quadratic(2 * params["b"], batch)

    step, data = jl.make_step(loss, ADAM), regression(8)[0]
    tied = jl.fit(step, jl.init_state({"a": shared, "b": shared}, ADAM), data, epochs=2, batch_size=4)
    apart = jl.fit(step, jl.init_state({"a": shared, "b": shared + 0}, ADAM), data, epochs=2, batch_size=4)
    assert_same(tied.state, apart.state)
    assert distance(tied.state.params["a"], tied.state.params["b"]) > 1e-3
    assert not shared.is_deleted()


def test_parameters_that_are_also_model_state_and_data_stay_alive():
    shared = jnp.asarray(regression(8)[0])
    state = jl.init_state(shared, SGD, model_state=shared)
    result = jl.fit(jl.make_step(lambda p, b: jnp.sum((p[:1] - b) ** 2, axis=1), SGD), state, shared, steps=2)
    assert not shared.is_deleted()
    np.testing.assert_array_equal(result.state.model_state, shared)


# ---------------------------------------------------------------------------------------------------------------------
# Compiling
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("remainder", ["keep", "wrap"])
def test_a_second_run_compiles_nothing(remainder):
    """By our own count and by the events of JAX; nor does a run with another learning rate, key or data."""

    def loss(params, batch, key):
        return noisy_loss(params, batch, key)

    def run(rate=0.05, key=0, seed=0, tx=jl.adam, state=None):
        step = jl.make_step(loss, tx(rate))
        state = jl.init_state(network(), step.tx, key=key) if state is None else state
        val = regression(5, seed=2)
        with backend_compiles() as events:
            result = fit(regression(N, seed), step, state, epochs=4, remainder=remainder, val=val)
        return result, len(events)

    first, events = run()
    assert 2 <= first.compiles <= 5
    assert events >= first.compiles
    for again, events in (run(), run(rate=0.5), run(key=7), run(seed=1), run(state=first.state)):
        assert again.compiles == 0
        assert events == 0
    other, events = run(tx=jl.sgd)
    assert other.compiles > 0
    assert events >= other.compiles


def test_a_learning_rate_of_any_kind_is_the_same_program():
    def loss(params, batch):
        return example_loss(params, batch)

    def run(rate):
        return fit(step=jl.make_step(loss, jl.sgd(rate)), state=jl.init_state(network(), SGD))

    assert run(0.1).compiles > 0
    rates = (0.2, 1, np.float32(0.25), np.float64(0.5), np.asarray(0.5), jnp.float32(0.5), jnp.asarray(0.5))
    results = [run(rate) for rate in rates]
    assert [result.compiles for result in results] == [0] * 7
    for result in results[-3:]:
        assert_same(result.state, results[3].state)


def test_a_replaced_learning_rate_compiles_nothing_and_is_used():
    fit(steps=3)
    result = fit(step=STEP.replace(learning_rate=0.01), steps=3)
    assert result.compiles == 0
    assert_same(result.state, fit(step=jl.make_step(noisy_loss, jl.adam(0.01)), steps=3).state)
    assert distance(result.state.params, fit(steps=3).state.params) > 1e-2


def test_long_epochs_need_few_programs():
    """Equal chunks where the number of batches has a divisor that fits, two lengths where it has none."""
    for batches_in_epoch, lengths in ((12, {4}), (10, {2}), (7, {4, 3}), (4, {4}), (5, {1})):
        batches = jl.minibatches(np.zeros(batches_in_epoch), 1)
        found = {chunk.length for chunk in chunks_of(batches, 0, 2 * batches_in_epoch, 4)}
        assert max(found) <= 4
        assert len(found) <= 2
        assert found == lengths or batches_in_epoch == 5


def test_a_run_says_what_was_compiled_again_and_why():
    def loss(params, batch):
        return example_loss(params, batch)

    step, state = jl.make_step(loss, SGD), jl.init_state(network(), SGD)
    assert fit(step=step, state=state, steps=2).recompiled == ()
    assert fit(step=step, state=state, steps=1).recompiled == ()  # another length of chunk is no other argument
    again = fit(regression(12), step=step, state=state, steps=3)  # and that in a program that is new
    assert again.compiles > 0
    assert again.recompiled[0].startswith(
        "run_chunk was compiled again: batches.data[0] was float32[11, 3], is float32[12"
    )


# ---------------------------------------------------------------------------------------------------------------------
# Steps that are no loop
# ---------------------------------------------------------------------------------------------------------------------


def convolution_loss(params, batch):
    x, y = batch
    return (jnp.tanh(jax.lax.conv(x[:, None, :, None], params["kernel"], (1, 1), "SAME")).mean((1, 2, 3)) - y) ** 2


@pytest.mark.parametrize(
    ("loss_fn", "options", "expected"),
    [
        (convolution_loss, {}, {(1, False)}),
        (convolution_loss, {"chunk_steps": 2}, {(1, False)}),
        (convolution_loss, {"loop": "scan"}, {(2, True)}),
        (example_loss, {}, {(2, True)}),
        (example_loss, {"loop": "steps"}, {(1, False)}),
        (example_loss, {"chunk_steps": 1}, {(1, True)}),
    ],
)
def test_convolutions_are_not_left_in_a_loop_on_a_cpu(loss_fn, options, expected, monkeypatch):
    assert jax.default_backend() == "cpu"
    chunks = set()
    run = Compiled.run_in_memory

    def spy(compiled, state, batches, length, tail, in_loop):
        chunks.add((length, in_loop))
        return run(compiled, state, batches, length, tail, in_loop)

    monkeypatch.setattr(Compiled, "run_in_memory", spy)
    params = {"kernel": np.ones((2, 1, 3, 1), np.float32)} if loss_fn is convolution_loss else network()
    fit(step=jl.make_step(loss_fn, SGD), state=jl.init_state(params, SGD), steps=2, **options)
    assert chunks == expected


# ---------------------------------------------------------------------------------------------------------------------
# Steps of one's own
# ---------------------------------------------------------------------------------------------------------------------


def descend(state, batch):
    """Gradient descent by hand."""
    loss, grads = jax.value_and_grad(scalar_loss)(state.params, batch)
    params = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, grads)
    return state._replace(params=params, step=state.step + 1, cursor=state.cursor + 1), {"loss": loss}


def test_a_plain_function_is_a_step():
    state = jl.init_state(network(), SGD)
    by_hand, reference = fit(step=descend, state=state), fit(step=jl.make_step(scalar_loss, SGD), state=state)
    assert_near(by_hand.state.params, reference.state.params)
    np.testing.assert_allclose(by_hand.history["loss"], reference.history["loss"], 1e-6)
    assert set(by_hand.history) == {"loss"}
    np.testing.assert_allclose(by_hand.history.epoch_mean("loss"), by_hand.history["loss"].reshape(2, 3).mean(axis=1))
    assert fit(step=descend, state=state).compiles == 0


def masks(state, batch, mask):
    return state._replace(step=state.step + 1, cursor=state.cursor + 1), {"kept": jnp.sum(mask)}


@pytest.mark.parametrize("step", [masks, lambda state, batch, mask=None: masks(state, batch, mask)])
def test_a_plain_function_that_takes_a_mask_gets_it(step):
    result = fit(step=step, remainder="pad")
    assert result.history["kept"].tolist() == [4, 4, 3] * 2


def test_a_plain_function_without_a_mask_refuses_padding():
    with pytest.raises(jl.InputError, match="^the step takes no mask, so it cannot tell the examples that fill up"):
        fit(step=descend, remainder="pad")
    assert len(fit(regression(12), step=descend, remainder="pad").history["loss"]) == 6


def test_a_plain_function_needs_a_loss_to_validate_with():
    val = regression(5, seed=1)
    with pytest.raises(
        ValueError, match="^fit: a step that make_step did not make has no loss to validate with; say val"
    ):
        fit(step=descend, val=val)
    result = fit(step=descend, val=val, val_loss_fn=example_loss)
    assert result.history["val_loss"][-1] == pytest.approx(jl.evaluate(example_loss, result.state.params, val)["loss"])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32, jnp.bfloat16, np.complex64])
def test_arrays_inside_of_a_loss_keep_their_dtype(dtype):
    """A loss that is a tree (``Partial``, an equinox module) is an argument of the program, like the optimizer."""
    given = []

    def loss(constant, params, batch):
        given.append(constant.dtype)
        return example_loss(params, batch)

    step = jl.make_step(jax.tree_util.Partial(loss, jnp.ones(2, dtype)), SGD)
    fit(step=step, state=jl.init_state(network(), SGD), steps=1)
    assert set(given) == {jnp.dtype(dtype)}


# ---------------------------------------------------------------------------------------------------------------------
# What is measured
# ---------------------------------------------------------------------------------------------------------------------


def test_the_history_has_a_row_for_each_step():
    result = fit(epochs=3)
    assert set(result.history) == {"loss", "weight", "learning_rate"}
    assert result.history["weight"].tolist() == [4, 4, 3] * 3
    assert result.history.steps("loss").tolist() == list(range(1, 10))
    assert result.history.epochs("loss").tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert result.history["loss"].dtype == np.float32
    assert result.seconds > 0


def test_the_history_has_the_learning_rate_of_each_step():
    """That of its schedule at the count of the step, through chains and wrappers, and after a resume."""
    rate = jl.linear_schedule(0.5, 0.0, 10)
    expected = [0.5, 0.45, 0.4, 0.35, 0.3, 0.25]
    for tx in (jl.sgd(rate), jl.chain(jl.clip(1.0), jl.adamw(rate)), jl.apply_if_finite(jl.lion(rate), 3)):
        step, state = jl.make_step(example_loss, tx), jl.init_state(network(), tx)
        first = fit(step=step, state=state, epochs=1)
        second = fit(step=step, state=first.state, epochs=1)
        np.testing.assert_allclose(
            np.concatenate([first.history["learning_rate"], second.history["learning_rate"]]), expected, 1e-6
        )
    step = jl.make_step(example_loss, jl.sgd(0.25))
    assert fit(step=step, state=jl.init_state(network(), step.tx)).history["learning_rate"].tolist() == [0.25] * 6


def test_several_learning_rates_have_a_column_each():
    rate = jl.linear_schedule(0.5, 0.0, 10)
    tx = jl.groups({"b*": {"learning_rate": 0.125}}, default=jl.sgd(rate))
    params = {"w": jnp.ones((3, 1)), "bias": jnp.zeros((1, 1))}
    loss = lambda params, batch: jnp.sum(jnp.square(batch[0] @ params["w"] + params["bias"][0, 0] - batch[1]), -1)
    data = (jnp.ones((8, 3)), jnp.ones((8, 1)))
    history = fit(data, jl.make_step(loss, tx), jl.init_state(params, tx), steps=3).history
    assert set(history) == {"loss", "weight", "b*.sgd.learning_rate", "default.sgd.learning_rate"}
    assert history["b*.sgd.learning_rate"].tolist() == [0.125] * 3
    np.testing.assert_allclose(history["default.sgd.learning_rate"], [0.5, 0.45, 0.4], 1e-6)


def test_the_history_has_what_was_found_out_about_the_rate():
    tx = jl.chain(jl.sgd(0.0), jl.reduce_on_plateau(factor=0.5, patience=2))
    step = jl.make_step(lambda params, batch: jnp.ones(()), tx)
    history = fit(step=step, state=jl.init_state(network(), tx)).history
    assert history["learning_rate"].tolist() == [0.0] * 6
    assert history["reduce_on_plateau.scale"].tolist() == [1, 1, 1, 0.5, 0.5, 0.25]


@pytest.mark.parametrize("name", ["learning_rate", "batches", "epoch", "val_loss", "val_"])
def test_a_metric_may_not_be_called_as_a_column_that_fit_makes(name):
    step = jl.make_step(lambda params, batch: (example_loss(params, batch), {name: jnp.ones(())}), SGD)
    state = jl.init_state(network(), SGD)
    with pytest.raises(jl.InputError, match=f"cannot be called '{name}': fit records its own"):
        fit(step=step, state=state)


def test_the_history_of_a_wrapped_run_counts_a_batch_to_the_epoch_it_begins_in():
    result = fit(remainder="wrap", epochs=4)
    assert result.history.epochs("loss").tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3]


@pytest.mark.parametrize("loss_fn", [example_loss, scalar_loss, weighted_loss])
def test_epoch_means_are_means_over_all_examples(loss_fn):
    """With a learning rate of 0 every epoch measures the same function on the same examples, in batches of 4 and 3."""
    frozen = jl.sgd(0.0)
    step, state = jl.make_step(loss_fn, frozen), jl.init_state(network(), frozen)
    history = fit(step=step, state=state, epochs=3).history
    exact = float(np.mean(example_loss(state.params, DATA)))
    np.testing.assert_allclose(history.epoch_mean("loss"), [exact] * 3, 1e-6)
    unweighted = history["loss"].reshape(3, 3).mean(axis=1)
    assert np.max(np.abs(unweighted / exact - 1)) > 1e-3


def test_metrics_are_columns():
    def loss(params, batch):
        errors = example_loss(params, batch)
        return errors, {"large": errors > 0.5, "spread": jnp.std(errors)}

    step, state = jl.make_step(loss, jl.sgd(0.0)), jl.init_state(network(), SGD)
    history = fit(step=step, state=state, val=DATA).history
    assert set(without_rates(history)) == {"loss", "large", "spread", "weight", "val_loss", "val_large", "val_spread"}
    exact = np.mean(np.asarray(example_loss(state.params, DATA)) > 0.5)
    np.testing.assert_allclose(history.epoch_mean("large"), [exact] * 2, 1e-6)
    np.testing.assert_allclose(history["val_large"], [exact] * 2, 1e-6)


@pytest.mark.parametrize("examples", [1, 7])
def test_validation_is_the_exact_mean_however_it_is_cut(examples):
    val = regression(examples, seed=1)

    def loss(params, batch, key):
        errors = example_loss(params, batch)
        return errors if key is None else errors + 100, {"large": errors > 0.5}

    step, state = jl.make_step(loss, SGD), jl.init_state(network(), SGD)
    columns = []
    for size in (None, 1, 4, 100):
        history = fit(step=step, state=state, val=val, val_batch_size=size).history
        assert history.steps("val_loss").tolist() == [3, 6]
        assert history.epochs("val_loss").tolist() == [0, 1]
        columns.append([history["val_loss"], history["val_large"]])
    final = np.asarray(example_loss(fit(step=step, state=state).state.params, val))
    np.testing.assert_allclose(columns[0][0][-1], final.mean(), 1e-5)
    np.testing.assert_allclose(columns[0][1][-1], (final > 0.5).mean(), 1e-5)
    for column in columns[1:]:
        np.testing.assert_allclose(column, columns[0], 1e-5)


def test_validation_measures_the_parameters_after_the_epoch():
    val = regression(7, seed=1)
    history = fit(val=val, epochs=3).history
    for epochs in (1, 2, 3):
        params = fit(epochs=epochs).state.params
        expected = jl.evaluate(noisy_loss, params, val)["loss"]
        assert history["val_loss"][epochs - 1] == pytest.approx(expected, rel=1e-5)
    assert len(set(history["val_loss"].tolist())) == 3


@pytest.mark.parametrize(
    ("options", "at"),
    [
        ({"steps": 5}, [3, 5]),
        ({"steps": 6}, [3, 6]),
        ({"steps": 2}, [2]),
        ({"steps": 5, "remainder": "drop"}, [2, 4, 5]),
        ({"epochs": 3, "remainder": "wrap"}, [3, 6, 9]),
        ({"epochs": 3, "remainder": "wrap", "batch_size": 20}, [1, 2]),
        ({"epochs": 2, "batch_size": None}, [1, 2]),
        ({"epochs": 0}, []),
    ],
)
def test_validation_is_after_each_epoch_and_at_the_end(options, at):
    history = fit(val=regression(4, seed=1), **options).history
    assert (history.steps("val_loss").tolist() if "val_loss" in history else []) == at


def test_validation_may_have_a_loss_of_its_own():
    val = regression(7, seed=1)

    def other(params, batch):
        return example_loss(params, batch) + 1, {"m": jnp.float32(2)}

    own, default = fit(val=val, val_loss_fn=other), fit(val=val)
    assert_same(own.state, default.state)
    np.testing.assert_allclose(own.history["val_loss"], default.history["val_loss"] + 1, 1e-6)
    assert own.history["val_m"].tolist() == [2, 2]
    assert "m" not in own.history


def test_validation_changes_nothing_in_the_run():
    with_val, without = fit(val=regression(7, seed=1), val_batch_size=2), fit()
    assert_same(with_val.state, without.state)
    np.testing.assert_array_equal(with_val.history["loss"], without.history["loss"])


# ---------------------------------------------------------------------------------------------------------------------
# Convergence
# ---------------------------------------------------------------------------------------------------------------------

ROWS = regression(32, seed=4)[0]


def train_quadratic(rate, batch_size, epochs=30, loss_fn=quadratic):
    step = jl.make_step(loss_fn, jl.sgd(rate))
    state = jl.init_state(np.full(3, 5.0, np.float32), step.tx)
    return jl.fit(step, state, ROWS, epochs=epochs, batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [None, 8])
def test_a_run_converges_and_a_run_with_learning_rate_0_does_not(batch_size):
    def distance_to_minimum(rate):
        return np.max(np.abs(train_quadratic(rate, batch_size).state.params - ROWS.mean(axis=0)))

    assert distance_to_minimum(0.3 if batch_size is None else 0.05) < 0.3
    assert distance_to_minimum(0.0) > 4


def test_batch_gradient_descent_converges_to_the_minimum():
    params = train_quadratic(0.5, None).state.params
    np.testing.assert_allclose(params, ROWS.mean(axis=0), atol=1e-6)


def test_batch_gradient_descent_goes_down_at_every_step_and_stochastic_does_not():
    batch = train_quadratic(0.1, None).history["loss"]
    assert batch.shape == (30,)
    assert np.all(np.diff(batch) < 0)
    stochastic = train_quadratic(0.1, 1, epochs=2).history["loss"]
    assert stochastic.shape == (64,)
    assert np.sum(np.diff(stochastic) > 0) > 10
    assert stochastic[-32:].mean() < stochastic[:8].mean()


# ---------------------------------------------------------------------------------------------------------------------
# Errors
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, r"^fit: say either epochs=\.\.\. or steps=\.\.\., and not both"),
        ({"epochs": 1, "steps": 1}, ValueError, r"^fit: say either epochs=\.\.\. or steps=\.\.\., and not both"),
        ({"epochs": -1}, ValueError, "^fit: epochs must be at least 0; got -1"),
        ({"steps": -1}, ValueError, "^fit: steps must be at least 0; got -1"),
        ({"epochs": 1.0}, TypeError, "^fit: epochs must be a whole number; got 1.0 of type float"),
        ({"steps": 2.5}, TypeError, "^fit: steps must be a whole number; got 2.5 of type float"),
        ({"epochs": True}, TypeError, "^fit: epochs must be a whole number; got True of type bool"),
        ({"steps": np.bool_(True)}, TypeError, "^fit: steps must be a whole number"),
        ({"epochs": "3"}, TypeError, "^fit: epochs must be a whole number; got '3' of type str"),
        ({"epochs": 1, "val_loss_fn": example_loss}, ValueError, "^fit: val_loss_fn or val_batch_size without val"),
        ({"epochs": 1, "val_batch_size": 3}, ValueError, "^fit: val_loss_fn or val_batch_size without val"),
        ({"epochs": 1, "val": DATA, "val_batch_size": 0}, ValueError, "batch_size must be at least 1; got 0"),
        ({"epochs": 1, "val": (DATA[0], DATA[1][:2])}, jl.InputError, "^data: the first axes count the examples"),
        ({"epochs": 1, "batch_size": 0}, ValueError, "^minibatches: batch_size must be at least 1; got 0"),
        ({"epochs": 1, "remainder": "cut"}, ValueError, "^minibatches: remainder must be one of"),
        ({"epochs": 1, "batch_size": 20, "remainder": "drop"}, ValueError, "drops all 11 examples"),
        ({"epochs": 1, "step": None}, TypeError, "^fit: step must be a step, made by make_step"),
        ({"epochs": 1, "state": network()}, TypeError, r"^fit: state must be made by init_state\(params, step\); got"),
        (
            {"epochs": 1, "plan": "data"},
            TypeError,
            r"^fit: plan must be made by make_plan\(mesh\); got 'data' of type str",
        ),
        ({"epochs": 1, "resume": "yes"}, TypeError, "^fit: resume must be True or False; got 'yes' of type str"),
        ({"epochs": 1, "observers": jl.EarlyStopping()}, TypeError, "^fit: observers must be a list of observers; got"),
        ({"epochs": 1, "observers": None}, TypeError, "^fit: observers must be a list of observers; got None"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_by_name(options, error, message):
    with pytest.raises(error, match=message):
        jl.fit(**({"step": STEP, "state": STATE, "data": DATA} | options))


def test_numbers_of_numpy_are_whole_numbers():
    assert len(jl.fit(STEP, STATE, DATA, epochs=np.int64(1), batch_size=np.int32(B)).history["loss"]) == 3


@pytest.mark.parametrize("where", ["loss", "val"])
def test_what_a_loss_raises_comes_out(where):
    class MishapError(Exception):
        pass

    def broken(params, batch):
        raise MishapError("in the loss")

    step = jl.make_step(broken if where == "loss" else example_loss, SGD)
    options = {"val": DATA, "val_loss_fn": broken} if where == "val" else {}
    with pytest.raises(MishapError, match="^in the loss") as raised:
        fit(step=step, state=jl.init_state(network(), SGD), **options)
    noted = any("measured the loss on val" in note for note in getattr(raised.value, "__notes__", []))
    assert noted == (where == "val")


def test_a_result_prints_what_there_is_to_see():
    shown = repr(fit(val=regression(4, seed=1))._replace(compiles=0, seconds=0.1234))
    history = r"History\(.*loss: 6.*val_loss: 2\)"
    expected = rf"FitResult\(steps=6, reason='finished', history={history}, compiles=0, seconds=0\.123\)"
    assert re.fullmatch(expected, shown)


def test_a_scalar_loss_with_padding_is_refused():
    step, state = jl.make_step(scalar_loss, SGD), jl.init_state(network(), SGD)
    with pytest.raises(jl.InputError, match=r"^the loss is .* With remainder='pad' return one number per example"):
        fit(step=step, state=state, remainder="pad")
    assert len(fit(regression(12), step=step, state=state, remainder="pad").history["loss"]) == 6


def test_a_weighted_loss_with_padding_is_refused():
    """Its sums contain the filling, and no mask can take that out again."""
    step, state = jl.make_step(weighted_loss, SGD), jl.init_state(network(), SGD)
    with pytest.raises(jl.InputError, match=r"^the loss is .* With remainder='pad' return one number per example"):
        fit(step=step, state=state, remainder="pad")


def test_the_state_of_another_optimizer_is_refused():
    with pytest.raises(jl.InputError, match="expected the state ScaleByAdamState that init returned"):
        fit(state=jl.init_state(network(), SGD))


def test_validation_uses_the_weights_to_evaluate():
    """The average of the parameters, where the optimizer keeps one."""
    tx = jl.ema_params(jl.sgd(0.1), 0.5)
    step = jl.make_step(lambda params, batch: (params - batch) ** 2, tx)
    data = jnp.array([1.0, 3.0, 5.0, 7.0])
    out = jl.fit(step, jl.init_state(jnp.zeros(()), tx), data, epochs=3, val=data, progress=False)
    average = step.eval_params(out.state)
    assert average == jl.eval_params(tx, out.state.opt_state, out.state.params) != out.state.params
    np.testing.assert_allclose(out.history["val_loss"][-1], np.mean((average - data) ** 2), rtol=1e-6)
    assert step.eval_params(out.state) is not out.state.params
    plain = jl.make_step(lambda params, batch: (params - batch) ** 2, jl.sgd(0.1))
    state = jl.init_state(jnp.zeros(()), plain.tx)
    assert plain.eval_params(state) is state.params
