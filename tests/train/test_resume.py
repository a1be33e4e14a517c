"""A run that is cut off anywhere and goes on from its checkpoint is the run that was not, bit by bit."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_problems import REMAINDERS, assert_same, distance, network, noisy_loss, regression

import jaxopt_lessons as jl

DATA = regression(11)
TX = jl.adam(jl.cosine_decay_schedule(0.05, 30))
STEP = jl.with_ema(jl.with_guard(jl.make_step(noisy_loss, TX, accumulate=2)), 0.9)
STATE = jl.init_state(network(), STEP, key=3)


def stream(epoch):
    """Three batches of an order that is a function of the epoch; the last is smaller."""
    order = np.random.default_rng(epoch).permutation(11)
    for first in (0, 4, 8):
        yield tuple(x[order[first : first + 4]] for x in DATA)


@dataclasses.dataclass(frozen=True)
class Sum(jl.Observer):
    """Remembers an array and numbers, and looks at every other batch."""

    every: jl.Every = jl.Every(steps=2)  # noqa: RUF009

    def begin(self, run):
        return {"norms": jnp.zeros(2), "looks": 0, "last": 0.1}

    def observe(self, run, memory):
        norm = jl.global_norm(run.state.params)
        return {"norms": memory["norms"] + norm, "looks": memory["looks"] + 1, "last": float(run.history["loss"][-1])}


def fit(directory, data=DATA, step=STEP, state=STATE, resume=True, keep=2, every=1, others=(Sum(),), **options):
    observers = [*others, jl.Checkpoint(directory, every=jl.Every(steps=every), keep=keep)]
    if data is DATA:
        options = {"batch_size": 4} | options
    return jl.fit(step, state, data, observers=observers, resume=resume, **options)


def assert_same_run(got, expected):
    assert_same(got.state, expected.state)
    for read in (dict, lambda h: {n: h.steps(n) for n in h}, lambda h: {n: h.epochs(n) for n in h}):
        assert_same(read(got.history), read(expected.history))
    assert_same(got.observed, expected.observed)


@pytest.mark.parametrize("source", [*REMAINDERS, "stream", "file"])
def test_every_cursor_of_a_short_run_resumes_to_the_same_end(source, tmp_path):
    """The state, the history and what the observers remember, of arrays in memory, of a file and of a stream."""
    data, options = DATA, {"remainder": source} if source in REMAINDERS else {}
    if source == "stream":
        data = stream
    if source == "file":
        inputs = np.memmap(tmp_path / "inputs", np.float32, "w+", shape=DATA[0].shape)
        inputs[:] = DATA[0]
        data, options = (inputs, DATA[1]), {"batch_size": 4}
    val = regression(5, seed=1)
    run = lambda where, fails=0: fit(tmp_path / where, data, steps=7, val=val, others=(Sum(), Fails(fails)), **options)
    whole = run("whole")
    assert whole.observed["Sum"]["looks"] == 3
    assert distance(whole.state.params, STATE.params) > 0.05
    for cursor in range(1, 7):
        with pytest.raises(MishapError):
            run(f"{cursor}", fails=cursor + 1)
        assert jl.latest_step(tmp_path / f"{cursor}") == cursor
        resumed = run(f"{cursor}")
        assert_same_run(resumed, whole)
        assert resumed.compiles == 0


class MishapError(Exception):
    pass


@dataclasses.dataclass(frozen=True)
class Fails(jl.Observer):
    """Raises after so many batches."""

    cursor: int
    every: jl.Every = jl.Every(steps=1)  # noqa: RUF009

    def observe(self, run, memory):
        if run.cursor == self.cursor:
            raise MishapError


def test_a_finished_run_has_nothing_to_do(tmp_path):
    whole = fit(tmp_path, steps=4)
    again = fit(tmp_path, steps=4)
    assert_same_run(again, whole)
    assert (again.reason, again.compiles) == ("finished", 0)


class Loader:
    """Keeps its place itself, which is still that of the end after a pass."""

    def __init__(self):
        self.read = 0

    def __iter__(self):
        while self.read < 3:
            self.read += 1
            yield tuple(x[:4] for x in DATA)
        self.read = 0

    def state_dict(self):
        return {"read": self.read}

    def load_state_dict(self, state):
        self.read = state["read"]


@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize("kind", ["function", "loader"])
def test_a_finished_run_on_a_stream_of_unknown_length_has_nothing_to_do(kind, epochs, tmp_path):
    opened = []

    def two_epochs(epoch):
        opened.append(epoch)
        return stream(epoch)

    def data():
        return two_epochs if kind == "function" else Loader()

    whole = fit(tmp_path, data=data(), epochs=2)
    assert int(whole.state.cursor) == 6
    opened.clear()
    again = fit(tmp_path, data=data(), epochs=epochs)
    assert_same_run(again, whole)
    assert (again.reason, opened) == ("finished", [])


def test_an_error_of_a_save_is_not_that_of_the_next_run(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        fit(tmp_path / "file" / "below", steps=1)
    assert int(fit(tmp_path / "good", steps=1).state.cursor) == 1


def test_without_a_checkpoint_the_run_begins(tmp_path):
    first = fit(tmp_path / "new", steps=3)
    assert_same(first.state, jl.fit(STEP, STATE, DATA, steps=3, batch_size=4).state)
    assert jl.latest_step(tmp_path / "new") == 3


def test_a_longer_run_goes_on_where_a_shorter_one_ended(tmp_path):
    fit(tmp_path, epochs=1)
    assert_same(fit(tmp_path, epochs=3).state, jl.fit(STEP, STATE, DATA, epochs=3, batch_size=4).state)


def test_without_resume_a_run_that_is_there_is_not_replaced(tmp_path):
    fit(tmp_path, steps=4)
    with pytest.raises(
        ValueError, match=r"^fit: .* has a run of 4 batches already, .* Say resume=True to go on with it"
    ):
        fit(tmp_path, steps=2, resume=False)
    assert jl.latest_step(tmp_path) == 4


def test_a_run_that_is_beyond_the_end_says_so(tmp_path):
    whole = fit(tmp_path, steps=4)
    with pytest.warns(UserWarning, match="the run that is saved is 2 batches beyond the end of this one"):
        assert_same(fit(tmp_path, steps=2).state, whole.state)


def test_other_observers_are_refused_by_name_and_functions_may_come_and_go(tmp_path):
    whole = fit(tmp_path, steps=4, others=(Sum(), lambda run: None))
    assert_same(fit(tmp_path, steps=4, others=(Sum(),)).state, whole.state)
    with pytest.raises(
        jl.InputError, match=r"observers\n    checkpoint: \[\"Sum\"\]\n    this run:   \[\"Sum\", \"EarlyStopping\"\]"
    ):
        fit(tmp_path, steps=6, others=(Sum(), jl.EarlyStopping("loss")))


def test_as_many_checkpoints_are_kept_as_were_asked_for(tmp_path):
    fit(tmp_path, steps=5, keep=3)
    assert sorted(int(path.name.split("_")[1]) for path in tmp_path.iterdir()) == [3, 4, 5]


def test_the_last_state_is_saved_also_where_no_look_is_due(tmp_path):
    fit(tmp_path, steps=5, every=100)
    assert jl.latest_step(tmp_path) == 5


# ---------------------------------------------------------------------------------------------------------------------
# Another run is refused
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"step": jl.make_step(noisy_loss, jl.sgd(0.1))}, "step"),
        ({"step": jl.with_guard(jl.make_step(noisy_loss, TX, accumulate=2))}, "step"),
        ({"step": jl.with_ema(jl.with_guard(jl.make_step(noisy_loss, TX, accumulate=1)), 0.9)}, "step"),
        ({"batch_size": 5}, "batch_size"),
        ({"shuffle": False}, "shuffle"),
        ({"remainder": "wrap"}, "remainder"),
        ({"data": regression(12), "batch_size": 4}, "examples"),
        ({"state": STATE._replace(key=jax.random.key(4))}, "key"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_both(changes, differs, tmp_path):
    fit(tmp_path, steps=3)
    step = changes.get("step", STEP)
    state = jl.init_state(network(), step, key=3)
    with pytest.raises(jl.InputError, match=rf"was made by another run. They differ in\n  {differs}\n    checkpoint: "):
        fit(tmp_path, steps=5, **{"state": state, **changes})
    assert jl.latest_step(tmp_path) == 3


def test_a_model_of_another_shape_is_refused_with_its_leaves(tmp_path):
    fit(tmp_path, steps=3)
    with pytest.raises(jl.InputError, match="does not fit the tree it should be restored into"):
        fit(tmp_path, steps=5, state=jl.init_state(network(hidden=6), STEP, key=3))


def test_another_learning_rate_goes_on_and_says_so(tmp_path):
    step = jl.make_step(noisy_loss, jl.adam(0.05))
    state = jl.init_state(network(), step, key=3)
    begun = fit(tmp_path, steps=3, step=step, state=state)
    lower = step.replace(learning_rate=0.01)
    with pytest.warns(
        UserWarning, match=r"^fit: the run goes on with other hyperparameters. Up to here: .*0\.05.*0\.01"
    ):
        resumed = fit(tmp_path, steps=5, step=lower, state=state)
    assert_same(resumed.state, jl.fit(lower, begun.state, DATA, steps=2, batch_size=4).state)


@pytest.mark.parametrize("count", [0, 2])
def test_resuming_needs_one_checkpoint(count, tmp_path):
    begun = []

    class Begins(jl.Observer):
        def begin(self, run):
            begun.append(run)

    observers = [Begins(), *(jl.Checkpoint(tmp_path / str(i)) for i in range(count))]
    with pytest.raises(ValueError, match=rf"^fit: resume=True needs one observer Checkpoint.*; there are {count}"):
        jl.fit(STEP, STATE, DATA, steps=1, batch_size=4, observers=observers, resume=True)
    assert not begun


# ---------------------------------------------------------------------------------------------------------------------
# Killed
# ---------------------------------------------------------------------------------------------------------------------

KILLS, STEPS = 20, 80


def test_a_process_that_is_killed_twenty_times_ends_as_one_that_was_not(tmp_path):
    """By SIGKILL at random moments, with dropout, an average, accumulation, a schedule and a stream."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import resuming_process

    program = Path(resuming_process.__file__)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, program, str(tmp_path / "run"), str(STEPS)]
    rng = random.Random(0)
    kills, done = 0, None
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environment) as parent:
        while done is None:
            print(file=parent.stdin, flush=True)
            word, number = parent.stdout.readline().split()
            assert word == "process"
            lives = rng.randint(1, 5) if kills < KILLS else STEPS
            for line in parent.stdout:
                if line == "ended\n":
                    break
                word, *rest = line.split()
                done = rest[0] if word == "done" else None
                lives -= word == "batch"
                if lives == 0:
                    time.sleep(0.02 * rng.random())
                    os.kill(int(number), signal.SIGKILL)
                    kills += 1
        parent.stdin.close()
    assert kills == KILLS
    assert done == resuming_process.checksum(resuming_process.train(None, STEPS))
