"""Training runs of random sizes: the loop by hand, each example once, and runs that were cut off."""

import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from training_problems import REMAINDERS, assert_near, assert_same, network, noisy_loss, regression, visits

import jaxopt_lessons as jl
from properties import law

TX = jl.chain(jl.clip_by_global_norm(1.0), jl.adam(jl.cosine_decay_schedule(0.05, 9)))
STEP = jl.make_step(noisy_loss, TX)


@st.composite
def plans(draw):
    """Sizes of a run: of the data, the batches, the chunks, and how many updates."""
    examples = draw(st.sampled_from([1, 4, 5, 7]))
    return {
        "examples": examples,
        "batch_size": draw(st.sampled_from([None, *(k for k in (1, 2, 3) if k <= examples)])),
        "remainder": draw(st.sampled_from(REMAINDERS)),
        "shuffle": draw(st.booleans()),
        "chunk_steps": draw(st.sampled_from([None, 1, 3])),
        "epochs": draw(st.integers(1, 2)),
        "key": draw(st.integers(0, 2**31 - 1)),
    }


def run(plan, step=STEP, state=None, data=None, **options):
    options = {name: plan[name] for name in ("batch_size", "remainder", "shuffle", "chunk_steps", "epochs")} | options
    data = regression(plan["examples"]) if data is None else data
    state = jl.init_state(network(), step, key=plan["key"]) if state is None else state
    return jl.fit(step, state, data, **options)


def batches_of(plan, data, state, steps):
    """The batches of a run with their masks: slices of the data, if nothing is shuffled and every epoch is alike."""
    n, size = plan["examples"], plan["batch_size"] or plan["examples"]
    batches = jl.minibatches(data, plan["batch_size"], shuffle=plan["shuffle"], remainder=plan["remainder"])
    for cursor in range(steps):
        tail = batches.is_tail(cursor)
        batch, mask = batches.load(batches.locate(batches.order(state.key), jnp.int32(cursor), tail), tail)
        if not plan["shuffle"]:
            first = cursor * size if plan["remainder"] == "wrap" else cursor % batches.per_epoch * size
            rows = np.arange(first, first + size)
            rows = rows % n if plan["remainder"] in ("wrap", "pad") else rows[rows < n]
            np.testing.assert_array_equal(batch[0][: len(rows)], data[0][rows])
        yield batch, mask


@law(short=2, long=40, plan=plans())
def test_fit_is_the_loop_by_hand_over_the_same_batches(plan):
    data = regression(plan["examples"])
    state = jl.init_state(network(), STEP, key=plan["key"])
    result = run(plan, state=state)
    step, losses = jax.jit(STEP), []
    for batch, mask in batches_of(plan, data, state, int(result.state.cursor)):
        state, metrics = step(state, batch) if mask is None else step(state, batch, mask)
        losses.append(metrics["loss"])
    assert_near(result.state, state, 5e-6)
    np.testing.assert_allclose(result.history["loss"], np.array(losses), rtol=1e-5)


@law(short=5, long=60, plan=plans())
def test_each_example_is_there_once_in_an_epoch(plan):
    """``visits`` counts them in the parameters; the remainder decides what becomes of the last ones."""
    n, size, epochs = plan["examples"], plan["batch_size"] or plan["examples"], plan["epochs"]
    assume(plan["remainder"] != "pad")  # it needs a loss per example
    step = jl.make_step(visits, jl.sgd(1.0))
    state = jl.init_state(jnp.zeros(n), step, key=plan["key"])
    found = np.asarray(run(plan, step, state, np.arange(n)).state.params)
    if plan["remainder"] == "keep" or n % size == 0:
        np.testing.assert_array_equal(found, np.full(n, epochs))
    elif plan["remainder"] == "drop":
        assert found.sum() == epochs * (n - n % size)
        assert found.max() <= epochs
    else:  # All batches are full: the last epoch begins where the one before it was completed.
        assert found.sum() == -(-epochs * n // size) * size
        assert found.max() - found.min() <= 1


@law(short=2, long=40, plan=plans(), accumulate=st.integers(2, 5))
def test_accumulation_is_the_whole_batch_at_once(plan, accumulate):
    """Whether or not its parts are equal, for a loss without noise."""
    assume(accumulate <= (plan["batch_size"] or plan["examples"]))
    loss = lambda params, batch: noisy_loss(params, batch, None)
    whole, parts = (jl.make_step(loss, jl.sgd(0.1, momentum=0.9), accumulate=k) for k in (None, accumulate))
    assert_near(run(plan, parts).state, run(plan, whole).state, 5e-6)


@law(short=2, long=25, plan=plans(), cut=st.integers(1, 5))
def test_a_run_that_was_cut_off_goes_on_as_if_it_had_not(plan, cut):
    """From a checkpoint after any step: state and history, bit by bit."""
    with tempfile.TemporaryDirectory() as directory:
        options = {"epochs": None, "steps": 6}
        whole = run(plan, **options)
        observers = [jl.Checkpoint(directory, every=jl.Every(steps=1))]
        first = run(plan, observers=observers, epochs=None, steps=cut)
        assert first.steps == cut
        resumed = run(plan, observers=observers, resume=True, **options)
        assert_same(resumed.state, whole.state)
        assert_same(dict(resumed.history), dict(whole.history))
