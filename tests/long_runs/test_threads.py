"""Several threads that train at once: each gets the bits it gets alone, and counts its own compilations.

Python changes threads after a microsecond here, not after five milliseconds, so that what is not safe shows.
"""

import functools
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_problems import assert_same, example_loss, network, noisy_loss, regression

import jaxopt_lessons as jl
from jaxopt_lessons.train import compilation
from jaxopt_lessons.train.kept import kept


@pytest.fixture(autouse=True)
def threads_change_often():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def at_once(works):
    """What functions return that begin at the same moment, each in a thread of its own."""
    results, errors, start = [None] * len(works), [], threading.Barrier(len(works))

    def run(number, work):
        try:
            start.wait()
            results[number] = work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


OPTIMIZERS = {
    "adam": lambda rate: jl.adam(rate),
    "schedule": lambda rate: jl.sgd(jl.linear_schedule(rate, 0.0, 20), momentum=0.9),
    "chain": lambda rate: jl.chain(jl.clip_by_global_norm(1.0), jl.adamw(rate)),
    "partition": lambda rate: jl.partition({"matrix": jl.adam(rate), "vector": jl.sgd(rate)}, of_matrices),
}


def of_matrices(params):
    return jax.tree.map(lambda leaf: "matrix" if leaf.ndim > 1 else "vector", params)


def by_fit(loss, optimizer, seed):
    step = jl.with_ema(jl.make_step(loss, OPTIMIZERS[optimizer](0.05)), 0.9)
    data = regression(32, seed)
    out = jl.fit(step, jl.init_state(network(seed), step, key=seed), data, epochs=3, batch_size=8, val=data)
    return out.state, out.history.to_records()


def by_stream(loss, optimizer, seed):
    step, (x, y) = jl.make_step(loss, OPTIMIZERS[optimizer](0.05)), regression(32, seed)
    data = lambda epoch: ((x[i : i + 8], y[i : i + 8]) for i in range(0, 32, 8))
    out = jl.fit(step, jl.init_state(network(seed), step, key=seed), data, epochs=2)
    return out.state, out.history.to_records()


def by_scan(loss, optimizer, seed):
    step = jl.make_step(loss, OPTIMIZERS[optimizer](0.05))
    batches = jl.minibatches(regression(32, seed), 8)
    return jax.jit(jl.make_scan(step, 6))(jl.init_state(network(seed), step, key=seed), batches)


def by_hand(loss, optimizer, seed):
    step, data = jl.make_step(loss, OPTIMIZERS[optimizer](0.05)), jax.tree.map(jnp.asarray, regression(32, seed))
    state, jitted = jl.init_state(network(seed), step, key=seed), jax.jit(step)
    for _ in range(3):
        state, _ = jitted(state, data)
    return state, jl.evaluate(example_loss, state.params, data, batch_size=8)


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("train", [by_fit, by_stream, by_scan, by_hand])
def test_threads_that_train_at_once_get_what_they_get_alone(train, optimizer, threads):
    """Of one loss function, so that they share its programs, which all of them want to compile first."""
    shared = lambda params, batch, key: noisy_loss(params, batch, key)
    together = at_once([functools.partial(train, shared, optimizer, seed) for seed in range(threads)])
    alone = [train(noisy_loss, optimizer, seed) for seed in range(threads)]
    for got, expected in zip(together, alone, strict=True):
        assert_same(got, expected)


def test_compilations_are_counted_by_the_thread_that_compiles():
    """A call of what is compiled already is none, whatever another thread compiles of the same function meanwhile."""

    @compilation.counted()
    def total(x):
        return sum(jnp.sin(x + i) for i in range(20))

    ready = jnp.ones(3)
    total(ready)

    def calls():
        with compilation.count() as compiled:
            for _ in range(300):
                total(ready)
        return len(compiled)

    def compiles():
        with compilation.count() as compiled:
            for size in range(4, 16):
                total(np.ones(size, np.float32))
        return len(compiled)

    assert at_once([calls, compiles, calls, calls]) == [0, 12, 0, 0]


def test_reasons_of_compilations_are_read_while_others_are_written():
    """One thread has trees of few leaves, another of many, and each is compared with the one before."""

    @compilation.counted()
    def first(tree):
        return tree["x0"]

    def calls(leaves):
        with compilation.count() as compiled:
            for size in range(1, 16):
                first({f"x{i}": np.ones(size, np.float32) for i in range(leaves)})
        return len(compiled), len(compiled.again)

    counts = at_once([functools.partial(calls, leaves) for leaves in (1, 2, 30, 31)])
    assert [made for made, _ in counts] == [15] * 4
    assert all(14 <= again <= 15 for _, again in counts)


def test_eight_threads_keep_one_thing_for_each_key():
    @kept
    def thing(owner, key):
        return owner, key, object()

    for _ in range(50):
        owner = lambda: None
        at_once([lambda owner=owner: [thing(owner, key) for key in range(5)]] * 8)
        again = [thing(owner, key) for key in range(5)]
        assert all(thing(owner, key) is again[key] for key in range(5))
        assert [kept_for[:2] for kept_for in again] == [(owner, key) for key in range(5)]


@pytest.mark.parametrize(
    "use",
    [
        lambda: jl.adam(jl.cosine_decay_schedule(0.1, 100)).init(network()),
        lambda: hash(jl.chain(jl.clip(1.0), jl.adamw(1e-3, weight_decay=0.1))),
        lambda: repr(jl.adam(1e-3).replace(b1=0.8)),
        lambda: jl.adafactor(1e-3).update(network(1), jl.adafactor(1e-3).init(network()), network()),
        lambda: jl.adam(1e-3, mu_dtype="bfloat16").update(
            network(1), jl.adam(1e-3, mu_dtype="bfloat16").init(network())
        ),
        lambda: jl.minibatches(regression(9), 4, remainder="wrap").locate(None, jnp.int32(5)),
    ],
    ids=["init", "hash", "replace", "factored", "moments", "batches"],
)
def test_eight_threads_get_the_same_of_the_caches_of_the_module(use):
    alone = use()
    for got in at_once([lambda: [use() for _ in range(5)]] * 8):
        for one in got:
            if isinstance(one, (int, str)):
                assert one == alone
            else:
                assert_same(one, alone)
