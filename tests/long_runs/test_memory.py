"""Memory over 10^6 steps and over 1,000 runs, and what is left of a run that is over: nothing.

What may grow is the history: a row of each column for each step, 8 bytes and 4 for each column, in buffers that are at
most half empty. All else is counted in processes of its own, in the second half: blocks of Python's memory, arrays
on the devices and compiled programs. A leak of one small thing in each chunk, a dict or an array, is far above what is
allowed; so says the control that plants one.
"""

import functools
import gc
import json
import pickle
import subprocess
import sys
import weakref
from pathlib import Path

import jax
import jax.numpy as jnp
import long_run_process
import numpy as np
import pytest
from training_problems import example_loss, network, regression

import jaxopt_lessons as jl
from jaxopt_lessons.train.evaluate import measure_all
from jaxopt_lessons.train.kept import KEPT, kept

MB = 2**20
CHUNKS_A_RUN = 5
"""At least: of the three runs of a turn, and their validations."""


def measured(kind: str, count: int, leak: str = "none"):
    tests = Path(long_run_process.__file__).parent
    command = [sys.executable, "-W", "error", long_run_process.__file__, kind, str(count), leak]
    environment = {"PYTHONPATH": f"{tests.parent}:{tests}", "PATH": "", "JAX_PLATFORMS": "cpu", "HOME": str(tests)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def growth(samples):
    """From half way to the end: caches of Python and JAX fill up, slower and slower."""
    first, last = samples[4], samples[-1]
    return {name: last[name] - first[name] for name in first}


def chunks_of(grown, kind):
    return grown["done"] * CHUNKS_A_RUN if kind == "runs" else grown["done"] // long_run_process.CHUNK


def leaks(samples, kind):
    """What grew that must not, by name. Resident memory comes in pages and arenas, so it may wander by some MB."""
    grown = growth(samples)
    allowed = {"arrays": 0, "array_bytes": 0, "programs": 0, "blocks": chunks_of(grown, kind) // 2}
    found = {name: grown[name] for name, most in allowed.items() if grown[name] > most}
    resident = grown["resident"] - grown["history"]
    return found | ({"resident": resident} if resident > 16 * MB else {})


SIZES = [pytest.param(30_000, id="short"), pytest.param(10**6, id="whole", marks=pytest.mark.long)]


@pytest.mark.parametrize("steps", SIZES)
@pytest.mark.parametrize("kind", ["memory", "stream", "wrapped"])
def test_more_steps_take_memory_for_their_history_alone(kind, steps):
    result = measured(kind, steps)
    samples = result["samples"]
    assert [sample["done"] for sample in samples] == [steps * i // 10 for i in range(1, 11)]
    assert leaks(samples, kind) == {}, result
    columns = {name: rows for name, rows in result["rows"].items() if not name.startswith("val_")}
    assert set(columns.values()) == {steps}
    assert result["finite"]
    validations = sum(rows for name, rows in result["rows"].items() if name.startswith("val_"))
    rows_take = steps * (8 + 4 * len(columns)) + validations * 12
    assert rows_take <= samples[-1]["history"] <= 1.5 * rows_take + 8192


@pytest.mark.parametrize(
    "count", [pytest.param(120, id="short"), pytest.param(1000, id="whole", marks=pytest.mark.long)]
)
def test_more_runs_leave_nothing(count):
    result = measured("runs", count)
    assert leaks(result["samples"], "runs") == {}, result


@pytest.mark.parametrize(
    ("leak", "shown_by"),
    [("dict", {"blocks"}), ("array", {"arrays", "array_bytes", "blocks"}), ("pages", {"resident"})],
)
def test_a_leak_in_each_chunk_would_be_found(leak, shown_by):
    found = leaks(measured("memory", 6000, leak)["samples"], "memory")
    assert shown_by <= set(found)


def test_a_leak_in_each_run_would_be_found():
    assert "blocks" in leaks(measured("runs", 20, "dict")["samples"], "runs")


# ---------------------------------------------------------------------------------------------------------------------
# What is left of a run that is over
# ---------------------------------------------------------------------------------------------------------------------


class Problem:
    """A loss function that closes over data, and data to train on; nobody else has them."""

    def __init__(self):
        x, y = (jnp.asarray(array) for array in regression(32))
        closed_over = jnp.ones(3)

        def loss(params, batch):
            return example_loss(params, batch) * closed_over[0]

        self.loss, self.data, self.closed_over = loss, (x, y), closed_over
        self.step = jl.make_step(loss, jl.adam(jl.linear_schedule(0.1, 0.01, 10)))
        self.state = jl.init_state(network(), self.step)
        self.batches = jl.minibatches(self.data, 8)

    def fit(self, data=None, **options):
        return jl.fit(self.step, self.state, self.batches if data is None else data, **{"epochs": 2, **options})

    def references(self):
        arrays = jax.tree.leaves((self.data, self.batches.data, self.state.params, self.state.opt_state))
        return [weakref.ref(thing) for thing in (self.loss, self.step, self.closed_over, *arrays)]


def stream_of(problem):
    data = jax.tree.map(np.asarray, problem.data)
    return lambda epoch: (tuple(x[i : i + 8] for x in data) for i in range(0, 32, 8))


def swept(problem):
    def run(hp, key):
        step = problem.step.replace(b1=hp["b1"])
        state = jl.init_state(network(), step.tx, key=key)
        return jl.make_scan(step, 4)(state, problem.batches)[1]["loss"][-1]

    return jl.sweep(run, {"b1": [0.5, 0.9]}, seeds=2)


def halved(problem):
    def init(hp, key):
        return jl.init_state(network(), problem.step.tx, key=key)

    def train(hp, state, steps):
        state, metrics = jl.make_scan(problem.step.replace(b1=hp["b1"]), steps)(state, problem.batches)
        return state, metrics["loss"][-1]

    return jl.successive_halving(init, train, {"b1": [0.5, 0.7, 0.9]}, rungs=[2, 4])


USES = {
    "fit": lambda p: p.fit(),
    "fit, loop by loop": lambda p: p.fit(loop="steps"),
    "fit with validation": lambda p: p.fit(val=p.data, val_batch_size=8),
    "fit on a stream": lambda p: p.fit(stream_of(p)),
    "fit on the host": lambda p: p.fit(jl.minibatches(jax.tree.map(np.asarray, p.data), 8, on_host=True)),
    "fit with observers": lambda p: p.fit(val=p.data, observers=[jl.BestWeights(), jl.EarlyStopping(), jl.Rollback()]),
    "fit on devices": lambda p: p.fit(
        p.data, batch_size=8, plan=jl.make_plan(jax.make_mesh((8,), ("data",))), val=p.data
    ),
    "evaluate": lambda p: jl.evaluate(p.loss, p.state.params, p.data, batch_size=8),
    "evaluate from the host": lambda p: measure_all(
        p.loss, p.state.params, jl.minibatches(jax.tree.map(np.asarray, p.data), 8, shuffle=False, on_host=True)
    ),
    "lr_find": lambda p: jl.lr_find(p.step.replace(learning_rate=0.1), p.state, p.batches, steps=10),
    "sweep": swept,
    "successive_halving": halved,
    "trajectory": lambda p: jl.inspect.trajectory(p.step, p.state, p.batches, steps=4),
    "curvature": lambda p: jl.inspect.curvature(p.loss, p.state.params, p.data),
    "noise_scale": lambda p: jl.inspect.noise_scale(p.loss, p.state.params, p.data),
}


def dead(references):
    gc.collect()
    return [ref for ref in references if ref() is not None] == []


@pytest.mark.parametrize("use", USES)
def test_of_a_run_that_is_over_nothing_is_kept(use):
    """Neither its data, its parameters and what came out, nor the loss function and what that closes over."""
    problem = Problem()
    result = USES[use](problem)
    references = [*problem.references(), *(weakref.ref(x) for x in jax.tree.leaves(result) if isinstance(x, jax.Array))]
    assert not dead(references)  # the control
    del problem, result
    assert dead(references)


def fails_in_the_loss(problem):
    def loss(params, batch):
        return problem.loss(params, batch) @ batch  # a tuple

    return jl.fit(jl.make_step(loss, jl.sgd(0.1)), problem.state, problem.batches, epochs=1)


def fails_in_the_data(problem):
    def data(epoch):
        yield from stream_of(problem)(epoch)
        raise RuntimeError("the file is broken")

    return problem.fit(data)


def fails_in_an_observer(problem):
    def look(run):
        raise RuntimeError("no room", len(jax.tree.leaves(problem.state)))

    return problem.fit(observers=[look])


def is_interrupted(problem):
    def look(run):
        raise KeyboardInterrupt

    return problem.fit(stream_of(problem), observers=[look])


@pytest.mark.parametrize("fails", [fails_in_the_loss, fails_in_the_data, fails_in_an_observer, is_interrupted])
def test_of_a_run_that_failed_nothing_is_kept_but_what_the_error_has(fails):
    problem = Problem()
    references = problem.references()
    try:
        fails(problem)
    except BaseException as raised:
        error = raised.with_traceback(None)  # whose frames hold everything
    assert isinstance(error, (RuntimeError, TypeError, KeyboardInterrupt))
    error.__context__ = error.__cause__ = None
    del problem
    last = []
    if fails is fails_in_the_loss:
        del references[2]  # JAX itself keeps the constants of a trace that failed: make_jaxpr alone does so.
    else:
        assert int(error.fit_result.state.cursor) == 4
        last = [weakref.ref(x) for x in jax.tree.leaves(error.fit_result.state)]
    gc.collect()
    assert None not in [ref() for ref in last]
    del error
    assert dead([*references, *last])


# ---------------------------------------------------------------------------------------------------------------------
# Where it is kept
# ---------------------------------------------------------------------------------------------------------------------


@kept
def pair(owner, *key):
    made.append(key)
    return owner, key


made = []


class Callable:
    """Takes no attribute, as far as ``kept`` knows."""

    def __call__(self):
        return 0


def double(x):
    return 2 * x


OWNERS = {
    "function": lambda: lambda x: 2 * x,
    "partial": lambda: functools.partial(double, 3),
    "jitted": lambda: jax.jit(lambda x: 2 * x),
    "object": Callable,
    "method": lambda: Callable().__call__,
}


@pytest.mark.parametrize("kind", OWNERS)
def test_what_is_made_is_kept_for_each_owner_and_key(kind):
    first, second = OWNERS[kind](), OWNERS[kind]()
    made.clear()
    results = [pair(owner, key) for owner in (first, second, first) for key in (1, 2, 1)]
    assert made == [(1,), (2,)] * 2
    assert results == [(owner, (key,)) for owner in (first, second, first) for key in (1, 2, 1)]


@pytest.mark.parametrize("kind", ["function", "partial", "jitted"])
def test_it_dies_with_its_owner(kind):
    owner = OWNERS[kind]()
    result = weakref.ref(closed_over := Callable())
    pair(owner, closed_over)
    del closed_over
    made.clear()
    gc.collect()
    assert result() is not None
    del owner
    assert dead([result])


def test_of_other_owners_the_latest_are_kept():
    owners = [Callable() for _ in range(KEPT + 10)]
    references = [weakref.ref(owner) for owner in owners]
    for owner in owners:
        pair(owner)
    del owners, owner
    gc.collect()
    assert [ref() is not None for ref in references] == [False] * 10 + [True] * KEPT


def test_a_wrapper_does_not_share_what_its_function_has():
    function = OWNERS["function"]()
    pair(function, 1)
    wrapper = functools.wraps(function)(lambda x: function(x))
    made.clear()
    assert pair(wrapper, 1)[0] is wrapper
    assert pair(function, 1)[0] is function
    assert made == [(1,)]


def test_a_function_that_is_pickled_by_value_takes_nothing_along():
    partial = functools.partial(double, 3)
    pair(partial, lambda: None)  # which no pickle can hold
    again = pickle.loads(pickle.dumps(partial))
    made.clear()
    assert again() == 6
    assert pair(again, 5)[0] is again
    assert made == [(5,)]
