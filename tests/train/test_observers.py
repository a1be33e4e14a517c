"""Observers in general: when they look, what they see and may change, in which order, and what happens to errors."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_problems import assert_same, backend_compiles, distance, example_loss, network, noisy_loss, regression

import jaxopt_lessons as jl

DATA = regression(11)
SGD = jl.sgd(0.1)
STEP = jl.make_step(noisy_loss, SGD)
STATE = jl.init_state(network(), SGD, key=3)


def fit(*observers, step=STEP, state=STATE, data=DATA, **options):
    options = ({} if "steps" in options else {"epochs": 3}) | {"batch_size": 4} | options
    return jl.fit(step, state, data, observers=observers, **options)


class MishapError(Exception):
    pass


@dataclasses.dataclass(frozen=True)
class Notes(jl.Observer):
    """Writes down what happens to it."""

    book: list[Any]
    every: jl.Every = jl.Every(epochs=1)  # noqa: RUF009
    needs_state: bool = True
    label: str = "notes"
    is_last: bool = False

    @property
    def name(self):
        return self.label

    def begin(self, run):
        self.book.append((self.label, "begin", run.cursor))
        return 0

    def observe(self, run, memory):
        self.book.append((self.label, run.cursor, run.epoch, len(run.history["loss"])))
        return memory + 1

    def end(self, run, memory):
        self.book.append((self.label, "end", run.cursor, memory))
        return memory * 10


# ---------------------------------------------------------------------------------------------------------------------
# When they look
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("needs_state", [True, False])
@pytest.mark.parametrize("chunk_steps", [None, 1, 2])
@pytest.mark.parametrize(
    ("every", "looks"),
    [
        (jl.Every(epochs=1), [3, 6, 9]),
        (jl.Every(epochs=2), [6]),
        (jl.Every(steps=1), [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (jl.Every(steps=4), [4, 8]),
        (jl.Every(steps=100), []),
        (jl.Every(seconds=1e6), []),
    ],
)
def test_they_look_when_they_are_due(every, looks, chunk_steps, needs_state):
    """With the history up to there, and no more; whether they need the state or not."""
    book = []
    result = fit(Notes(book, every, needs_state), chunk_steps=chunk_steps)
    assert [entry[1] for entry in book[1:-1]] == looks
    assert all(rows == cursor for _, cursor, _, rows in book[1:-1])
    assert [entry[2] for entry in book[1:-1]] == [(cursor - 1) // 3 for cursor in looks]
    assert book[0] == ("notes", "begin", 0)
    assert book[-1] == ("notes", "end", 9, len(looks))
    assert result.observed == {"notes": 10 * len(looks)}


def test_seconds_are_at_the_end_of_a_chunk():
    book = []
    fit(Notes(book, jl.Every(seconds=1e-9)), chunk_steps=1)
    assert [entry[1] for entry in book[1:-1]] == list(range(1, 10))


def test_they_change_nothing():
    whole = fit()
    looked = fit(Notes([], jl.Every(steps=2)), lambda run: run.state, Notes([], needs_state=False, label="late"))
    assert_same(looked.state, whole.state)
    assert_same(dict(looked.history), dict(whole.history))


def test_an_observer_sees_the_validation_of_its_moment():
    seen = []
    result = fit(lambda run: seen.append(float(run.history["val_loss"][-1])), val=regression(5, seed=1))
    assert seen == result.history["val_loss"].tolist()


def test_an_observer_sees_the_state_of_its_moment():
    seen = []
    fit(jl.Lambda(lambda run: seen.append(jax.device_get(run.state.params)), every=jl.Every(steps=2)))
    for params, steps in zip(seen, (2, 4, 6, 8), strict=True):
        assert_same(params, jax.device_get(fit(steps=steps).state.params))


def test_who_needs_no_state_does_not_get_it():
    with pytest.raises(AttributeError, match=r"^run.state: this observer says needs_state=False"):
        fit(jl.Lambda(lambda run: run.state, needs_state=False))

    def sets(run):
        run.state = STATE

    with pytest.raises(AttributeError, match=r"^run.state: this observer says needs_state=False"):
        fit(jl.Lambda(sets, needs_state=False))


def test_order_is_as_given_with_the_last_last_and_ends_backwards():
    book = []
    made = [Notes(book, label="last", is_last=True), Notes(book, label="a"), Notes(book, label="b")]
    fit(*made, epochs=1)
    labels = [entry[0] for entry in book]
    assert labels == ["a", "b", "last", "a", "b", "last", "last", "b", "a"]


def test_two_of_a_name_have_memories_of_their_own():
    result = fit(Notes([], jl.Every(steps=1)), Notes([], jl.Every(epochs=1)))
    assert result.observed == {"notes": 90, "notes_2": 30}


def test_an_observer_may_serve_several_runs():
    book = []
    observer = Notes(book)
    assert fit(observer).observed == fit(observer).observed == {"notes": 30}


def test_observers_compile_nothing_more():
    step = jl.make_step(noisy_loss, jl.sgd(0.2))
    looks = [jl.Lambda(lambda run: None, every=jl.Every(epochs=1))]
    fit(*looks, step=step)
    with backend_compiles() as events:
        assert fit(*looks, step=step).compiles == 0
    assert len(events) == 0


# ---------------------------------------------------------------------------------------------------------------------
# What they may do
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("needs_state", [True, False])
def test_an_observer_ends_the_run(needs_state):
    def look(run):
        if run.cursor >= 6:
            run.stop("enough")
            run.stop("too late")

    result = fit(jl.Lambda(look, needs_state=needs_state), epochs=100)
    assert result.reason == "enough"
    assert int(result.state.cursor) == len(result.history["loss"])
    assert int(result.state.cursor) == 6 if needs_state else 6 <= int(result.state.cursor) < 300
    assert_same(result.state, fit(steps=int(result.state.cursor)).state)


def test_an_observer_changes_the_learning_rate_and_nothing_compiles():
    def look(run):
        run.step = run.step.replace(learning_rate=0.1 / 2 ** (run.epoch + 1))

    fit()
    result = fit(look)
    assert result.compiles == 0
    np.testing.assert_allclose(result.history["learning_rate"], np.repeat([0.1, 0.05, 0.025], 3), 1e-6)
    state = STATE
    for rate in (0.1, 0.05, 0.025):
        state = fit(step=STEP.replace(learning_rate=rate), state=state, epochs=1).state
    assert_same(result.state, state)


def test_an_observer_changes_the_state():
    def look(run):
        if run.cursor == 3:
            run.state = run.state._replace(params=jax.tree.map(jnp.zeros_like, run.state.params))

    result = fit(look, epochs=2)
    middle = fit(epochs=1).state
    zeroed = middle._replace(params=jax.tree.map(jnp.zeros_like, middle.params))
    assert_same(result.state, fit(state=zeroed, epochs=1).state)


def test_a_state_that_is_kept_must_be_copied():
    """The next chunk has taken over its buffers."""
    kept = []
    fit(lambda run: kept.append((run.state, jax.tree.map(jnp.copy, run.state))), epochs=2)
    (first, copy), _ = kept
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first.params))
    assert_same(copy, fit(epochs=1).state)


# ---------------------------------------------------------------------------------------------------------------------
# Errors
# ---------------------------------------------------------------------------------------------------------------------


def raising(run):
    if run.cursor >= 6:
        raise MishapError("in the observer")


@pytest.mark.parametrize("needs_state", [True, False])
def test_an_error_of_an_observer_comes_out_with_the_state(needs_state):
    book = []
    with pytest.raises(MishapError, match="^in the observer") as raised:
        fit(Notes(book), jl.Lambda(raising, needs_state=needs_state), epochs=4)
    result = raised.value.fit_result
    cursor = int(result.state.cursor)
    assert cursor == 6 if needs_state else 6 <= cursor <= 12
    assert len(result.history["loss"]) == cursor
    assert_same(result.state, fit(steps=cursor).state)
    assert book[-1][:2] == ("notes", "end")
    assert any(f"after {cursor} batches" in note for note in raised.value.__notes__)
    assert_same(fit(state=result.state, steps=12 - cursor).state, fit(epochs=4).state)


def test_an_error_of_the_loss_in_a_later_program_comes_out_with_the_state():
    """The program of the smaller batch is traced when the first chunk has been done."""

    def loss(params, batch):
        if len(batch[0]) == 3:
            raise MishapError("in the loss")
        return example_loss(params, batch)

    with pytest.raises(MishapError, match="^in the loss") as raised:
        fit(step=jl.make_step(loss, SGD))
    result = raised.value.fit_result
    assert int(result.state.cursor) == 2 == len(result.history["loss"])
    assert_same(result.state, fit(step=jl.make_step(example_loss, SGD), steps=2).state)


def test_a_state_that_could_not_be_calculated_is_not_saved(tmp_path):
    def host(x):
        if x > 0:
            raise MishapError("on the host")
        return x

    def loss(params, batch):
        x, y, bad = batch
        mishap = jax.pure_callback(host, jax.ShapeDtypeStruct((), jnp.float32), jnp.max(bad))
        return example_loss(params, (x, y)) + mishap

    bad = (np.arange(11) == 9).astype(np.float32)
    observers = [jl.Checkpoint(tmp_path, jl.Every(epochs=1))]
    with pytest.raises(jax.errors.JaxRuntimeError, match="on the host"):
        fit(*observers, step=jl.make_step(loss, SGD), data=(*DATA, bad), shuffle=False, chunk_steps=1)
    assert jl.latest_step(tmp_path) is None


def test_a_state_that_comes_as_an_error_is_not_whole():
    """As the results of a program that failed on an accelerator."""

    class Failed:
        def is_deleted(self):
            return False

        def __int__(self):
            raise MishapError("on the device")

    run = jl.Run(STEP, STATE, None)
    assert run.is_whole
    run.state = STATE._replace(cursor=Failed())
    assert not run.is_whole


@pytest.mark.parametrize("at", [0, 1, 4])
def test_an_error_of_a_stream_comes_out_with_the_state(at):
    def batches():
        for number in range(at):
            yield tuple(x[number : number + 4] for x in DATA)
        raise MishapError("in the stream")

    with pytest.raises(MishapError, match="^in the stream") as raised:
        jl.fit(STEP, STATE, batches(), steps=10)
    result = getattr(raised.value, "fit_result", None)
    if at:
        assert int(result.state.cursor) == at == len(result.history["loss"])
        assert result.reason == "MishapError"
    assert any(frame.name == "batches" for frame in raised.traceback)


def test_there_is_nothing_to_save_before_the_run_begins():
    class Early(Notes):
        def begin(self, run):
            run.snapshot()

    with pytest.raises(AttributeError, match="^run.snapshot: the run has not begun"):
        fit(Early([]))


def test_an_error_of_begin_comes_before_any_step():
    class Bad(jl.Observer):
        def begin(self, run):
            raise MishapError("at the beginning")

    with pytest.raises(MishapError, match="^at the beginning"):
        fit(Bad())


def test_an_error_at_the_end_comes_out_after_all_have_ended():
    class Bad(jl.Observer):
        def end(self, run, memory):
            raise MishapError("at the end")

    book = []
    with pytest.raises(MishapError, match="^at the end") as raised:
        fit(Notes(book), Bad(), epochs=1)
    assert book[-1] == ("notes", "end", 3, 1)
    assert_same(raised.value.fit_result.state, fit(epochs=1).state)


def test_an_error_after_an_error_is_a_note():
    class Bad(jl.Observer):
        def end(self, run, memory):
            raise ValueError("at the end")

    with pytest.raises(MishapError, match="^in the observer") as raised:
        fit(Bad(), raising, epochs=4)
    assert any("another one: ValueError: at the end" in note for note in raised.value.__notes__)


def test_a_failed_run_is_saved_where_all_is_whole(tmp_path):
    """After an error of the stream; not after one of an observer, when the others may or may not have looked."""

    def batches():
        for number in range(5):
            yield tuple(x[number : number + 4] for x in DATA)
        raise MishapError

    with pytest.raises(MishapError):
        jl.fit(STEP, STATE, batches(), steps=10, observers=[jl.Checkpoint(tmp_path / "stream", jl.Every(steps=3))])
    assert jl.latest_step(tmp_path / "stream") == 5
    with pytest.raises(MishapError):
        fit(jl.Checkpoint(tmp_path / "observer", jl.Every(steps=2)), raising, epochs=4)
    assert jl.latest_step(tmp_path / "observer") == 4


# ---------------------------------------------------------------------------------------------------------------------
# Bad arguments
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [3, "Checkpoint", jl.Checkpoint, None])
def test_what_is_no_observer_is_refused(bad):
    with pytest.raises(TypeError, match="^fit: observers must be observers or functions of the run; got"):
        fit(bad)


def test_an_observer_that_does_nothing_is_refused():
    class OfAnotherLibrary(jl.Observer):
        def on_epoch_end(self, run):
            pass

    with pytest.raises(TypeError, match="^fit: the observer OfAnotherLibrary does nothing: it has none of the methods"):
        fit(OfAnotherLibrary())


def test_what_is_set_to_no_effect_is_an_error():
    def look(run):
        run.learning_rate = 0.1

    with pytest.raises(AttributeError, match="learning_rate"):
        fit(look)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "^Every: say one of steps, epochs and seconds; got none"),
        ({"steps": 1, "epochs": 1}, "^Every: say one of steps, epochs and seconds; got steps and epochs"),
        ({"steps": 0}, "^Every: steps must be"),
        ({"epochs": 1.5}, "^Every: epochs must be"),
        ({"seconds": 0.0}, "^Every: seconds must be"),
    ],
)
def test_every_is_one_of_three(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        jl.Every(**arguments)


def test_the_function_of_a_lambda_is_one():
    with pytest.raises(TypeError, match="^Lambda: function must be a function of the run; got 3"):
        jl.Lambda(3)


def test_distance_is_no_constant():
    """The control of the comparisons above."""
    assert distance(fit(epochs=1).state.params, fit(epochs=2).state.params) > 1e-3


def test_a_state_that_an_observer_sets_is_copied():
    """Who made it still has it after the run."""

    def look(run):
        if run.cursor in (3, 6):
            run.state = kept._replace(cursor=run.state.cursor, step=run.state.step)

    kept = jax.tree.map(jnp.copy, STATE)
    fit(look, epochs=3)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(kept))
    assert_same(fit(state=kept, epochs=1).state, fit(epochs=1).state)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state._replace(cursor=jnp.int32(0)),
        lambda state: state._replace(params={}),
        lambda state: state._replace(params=jax.tree.map(lambda x: x.astype(jnp.float16), state.params)),
    ],
    ids=["cursor", "structure", "dtype"],
)
def test_a_state_that_does_not_fit_is_refused(change):
    def look(run):
        run.state = change(run.state)

    with pytest.raises(jl.InputError, match=r"^run.state: an observer has set a state of another structure, shape"):
        fit(look)
