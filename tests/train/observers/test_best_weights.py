"""``BestWeights``: which weights are kept, and where they are at the end."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import bad_input
from observer_runs import BATCH, DATA, VAL, fit, script
from training_problems import assert_same, distance, example_loss, network

import jaxopt_lessons as jl

FAST = jl.make_step(example_loss, jl.adam(0.2))
"""So fast that validation is best after the third of six epochs."""


def run(step=FAST, **options):
    return fit(step, jl.init_state(network(), step, key=3), **{"epochs": 6} | options)


def test_the_weights_of_the_best_look_are_in_the_state_at_the_end():
    result, plain = run(observers=[jl.BestWeights()]), run()
    best = int(np.argmin(plain.history["val_loss"]))
    assert best not in (0, 5)
    then = run(epochs=best + 1)
    assert_same(result.state.params, then.state.params)
    assert distance(result.state.params, plain.state.params) > 1e-2
    assert_same(result.state._replace(params=None), plain.state._replace(params=None))
    assert_same(result.history.to_records(), plain.history.to_records())
    memory = result.observed["BestWeights"]
    assert_same(memory.params, then.state.params)
    assert (memory.value, memory.cursor) == (float(plain.history["val_loss"][best]), 3 * (best + 1))
    evaluated = jl.evaluate(example_loss, result.state.params, VAL)["loss"]
    assert evaluated == pytest.approx(memory.value, rel=1e-5)


def test_what_is_kept_and_what_is_returned_are_arrays_of_their_own():
    result = run(observers=[jl.BestWeights()])
    jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state.params), donate_argnums=0)(result.state)
    kept = jax.tree.leaves(result.observed["BestWeights"].params)
    assert not any(leaf.is_deleted() for leaf in kept)


def test_mode_max_keeps_the_largest():
    result, plain = run(observers=[jl.BestWeights(mode="max")]), run()
    assert result.observed["BestWeights"].cursor == 3 * (int(np.argmax(plain.history["val_loss"])) + 1)


def test_the_first_of_equal_looks_is_the_best():
    result = fit(**script([3, 2, 2, 4]), observers=[jl.BestWeights("loss", every=jl.Every(steps=1))])
    assert result.observed["BestWeights"].cursor == 2


def test_the_weights_to_evaluate_are_kept():
    """The average that the step keeps, and that was validated."""
    step = jl.with_ema(FAST, 0.5)
    result, plain = run(step, observers=[jl.BestWeights()]), run(step)
    best = int(np.argmin(plain.history["val_loss"]))
    then = run(step, epochs=best + 1)
    assert_same(result.state.params, step.eval_params(then.state))
    assert distance(result.state.params, then.state.params) > 1e-2
    assert_same(result.state.extras, plain.state.extras)


def counted(state, batch):
    """Gradient descent with a state of the model that counts the batches."""
    grads = jax.grad(lambda params: jnp.mean(example_loss(params, batch)))(state.params)
    params = jax.tree.map(lambda p, g: p - 1.5 * g, state.params, grads)
    loss = jnp.mean(example_loss(state.params, batch))
    state = state._replace(step=state.step + 1, cursor=state.cursor + 1, model_state=state.model_state + 1)
    return state._replace(params=params), {"loss": loss}


def test_the_state_of_the_model_is_that_of_the_same_moment():
    state = jl.init_state(network(), jl.sgd(0.1), model_state=np.float32(0))
    result = fit(counted, state, val_loss_fn=example_loss, epochs=8, observers=[jl.BestWeights()])
    best = int(np.argmin(result.history["val_loss"]))
    assert best != 7
    assert result.state.model_state == 3 * (best + 1)
    assert result.state.cursor == 24


@bad_input(46)
def test_without_a_finite_number_nothing_is_put_anywhere():
    options = script([np.nan, np.inf])
    result = fit(**options, observers=[jl.BestWeights("loss")])
    assert_same(result.state, fit(**options).state)
    assert result.observed["BestWeights"].cursor == -1
    assert_same(result.observed["BestWeights"].params, options["state"].params)


def test_after_an_error_the_state_is_one_to_go_on_with():
    def broken(run):
        if run.cursor == 15:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="^broken") as raised:
        run(observers=[jl.BestWeights(), broken])
    assert_same(raised.value.fit_result.state, run(epochs=5).state)
    best = raised.value.fit_result.observed["BestWeights"]
    assert 0 < best.cursor < 15
    assert_same(best.params, run(epochs=best.cursor // 3).state.params)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_after_a_signal_too(number, capsys):
    def interrupt(run):
        if run.cursor == 15:
            os.kill(os.getpid(), number)

    result = run(observers=[jl.BestWeights(), interrupt])
    assert result.reason == number.name
    assert_same(result.state, run(epochs=5).state)
    assert 0 < result.observed["BestWeights"].cursor < 15


def test_a_run_that_is_stopped_early_has_the_best_weights():
    result = run(observers=[jl.EarlyStopping(patience=1), jl.BestWeights()])
    best = result.observed["BestWeights"]
    assert result.state.cursor == best.cursor + 3
    assert_same(result.state.params, run(epochs=best.cursor // 3).state.params)


def test_a_checkpoint_has_the_state_of_the_run(tmp_path):
    """Not the best weights beside the state of the optimizer at the end: with those one cannot go on."""
    observers = [jl.BestWeights(), jl.Checkpoint(tmp_path)]
    result = run(observers=observers)
    longer = run(observers=observers, epochs=8, resume=True)
    whole = run(observers=[jl.BestWeights()], epochs=8)
    assert_same(longer.state, whole.state)
    assert_same(longer.observed["BestWeights"], whole.observed["BestWeights"])
    again = run(observers=observers, epochs=8, resume=True)
    assert_same(again.state, longer.state)
    assert result.observed["BestWeights"].value >= longer.observed["BestWeights"].value


def test_looking_changes_nothing():
    assert_same(
        run(observers=[jl.BestWeights("loss", every=jl.Every(steps=2))], epochs=2).history.to_records(),
        run(epochs=2).history.to_records(),
    )
    assert len(DATA[0]) > BATCH


@pytest.mark.parametrize("steps", [4, 5])
def test_a_validation_at_the_end_of_the_run_counts_between_two_looks(steps):
    """The run ends inside an epoch, and is validated there: here it is best at the end."""
    slow = jl.make_step(example_loss, jl.sgd(0.05))
    result = run(slow, epochs=None, steps=steps, observers=[jl.BestWeights()])
    assert result.history.steps("val_loss").tolist() == [3, steps]
    assert result.history["val_loss"][1] < result.history["val_loss"][0]
    assert result.observed["BestWeights"].cursor == steps
    assert_same(result.state, run(slow, epochs=None, steps=steps).state)


def test_a_stream_that_ends_is_validated_and_that_counts():
    batches = iter([tuple(x[i : i + BATCH] for x in DATA) for i in (0, 4, 0, 4)])
    slow = jl.make_step(example_loss, jl.sgd(0.05))
    state = jl.init_state(network(), slow, key=3)
    result = jl.fit(slow, state, batches, epochs=1, val=VAL, observers=[jl.BestWeights(every=jl.Every(steps=3))])
    assert result.observed["BestWeights"].cursor == 4
    assert result.observed["BestWeights"].value == float(result.history["val_loss"][-1])


def test_what_is_left_of_the_steps_at_the_end_is_no_look():
    """A mean over fewer steps than the others is noise."""
    result = fit(**script([5, 4, 4, 3, 0]), observers=[jl.BestWeights("loss", every=jl.Every(steps=2))])
    assert (result.observed["BestWeights"].cursor, result.observed["BestWeights"].value) == (4, 3.5)
