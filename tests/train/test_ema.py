"""``with_ema``: an average of the parameters in the state of the run, and the weights to evaluate."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import bad_input
from training_problems import assert_near, assert_same, distance, example_loss, network, regression

import jaxopt_lessons as jl

BATCH = regression(6)
SGD = jl.sgd(0.1)
STEP = jl.make_step(example_loss, SGD)


def run(step, steps, state=None, batch=BATCH):
    state = jl.init_state(network(), step) if state is None else state
    trail = [state]
    for _ in range(steps):
        trail.append(step(trail[-1], batch)[0])
    return trail


def test_the_average_is_the_formula():
    """Three parameters with the weights 0.81, 0.9 and 1, divided by their sum; in NumPy."""
    trail = run(jl.with_ema(STEP, 0.9), 3)
    for name in network():
        expected = np.average([state.params[name] for state in trail[1:]], axis=0, weights=[0.81, 0.9, 1.0])
        np.testing.assert_allclose(trail[-1].extras["ema"][name], expected, 1e-5, 1e-6)
    assert int(trail[-1].extras["ema_count"]) == 3


@pytest.mark.parametrize("debias", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_it_is_the_average_that_ema_params_keeps(decay, debias):
    of_step, of_tx = jl.with_ema(STEP, decay, debias), jl.make_step(example_loss, jl.ema_params(SGD, decay, debias))
    for a, b in zip(run(of_step, 4), run(of_tx, 4), strict=True):
        assert_near(of_step.eval_params(a), of_tx.eval_params(b))
        assert_near(a.params, b.params)


def test_the_training_goes_on_as_without_it():
    assert_same(run(jl.with_ema(STEP, 0.9), 3)[-1].params, run(STEP, 3)[-1].params)


def test_before_the_first_step_the_parameters_are_evaluated():
    step = jl.with_ema(STEP, 0.9)
    state = jl.init_state(network(), step)
    assert_same(step.eval_params(state), state.params)
    other = state._replace(params=jax.tree.map(lambda x: x + 1, state.params))
    assert_same(step.eval_params(other), other.params)


@bad_input(52)
def test_half_precision_is_averaged_in_float32_and_evaluated_as_it_is():
    """In bfloat16 an average with decay 0.999 would not move."""
    step = jl.with_ema(jl.make_step(lambda p, b: jnp.sum(p) + 0 * b, jl.sgd(1.0)), 0.999, debias=False)
    state = jl.init_state(jnp.full(2, 256.0, jnp.bfloat16), step)
    state = run(step, 50, state, jnp.zeros(1, jnp.bfloat16))[-1]
    assert state.extras["ema"].dtype == jnp.float32
    expected = 206 + sum(0.999 ** (50 - n) for n in range(1, 50))
    np.testing.assert_allclose(state.extras["ema"], expected, 1e-5)
    assert step.eval_params(state).dtype == jnp.bfloat16


def test_no_memory_is_shared_with_the_parameters():
    """So a fresh state can be donated, and so can each that follows."""
    step = jl.with_ema(STEP, 0.9)
    state = jl.init_state(jax.tree.map(jnp.array, network()), step)
    once = jax.jit(lambda *arguments: step(*arguments), donate_argnums=0)
    for _ in range(3):
        state, _ = once(state, BATCH)
    assert int(state.extras["ema_count"]) == 3
    assert np.all(np.isfinite(state.extras["ema"]["w1"]))


# ---------------------------------------------------------------------------------------------------------------------
# With other wrappers, and in a run
# ---------------------------------------------------------------------------------------------------------------------


@bad_input(39)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda step: jl.with_ema(jl.with_guard(step), 0.5),
        lambda step: jl.with_guard(jl.with_ema(step, 0.5)),
    ],
    ids=["ema outside", "guard outside"],
)
def test_steps_that_a_guard_left_out_do_not_count(wrap):
    step = wrap(STEP)
    bad = (BATCH[0] * np.nan, BATCH[1])
    state = run(step, 1)[-1]
    same = run(step, 2, state, bad)[-1]
    assert_same(
        {k: v for k, v in same.extras.items() if k != "skipped"},
        {k: v for k, v in state.extras.items() if k != "skipped"},
    )
    assert int(same.extras["skipped"]) == 2
    assert_near(
        step.eval_params(run(step, 2, same)[-1]), jl.with_ema(STEP, 0.5).eval_params(run(jl.with_ema(STEP, 0.5), 3)[-1])
    )
    assert jax.tree.structure(same) == jax.tree.structure(jl.init_state(network(), step))


def test_fit_validates_with_the_average():
    step, data, val = jl.with_ema(STEP, 0.95), regression(40), regression(20, 1)
    out = jl.fit(step, jl.init_state(network(), step), data, epochs=2, batch_size=8, val=val, progress=False)
    expected = jl.evaluate(example_loss, step.eval_params(out.state), val)["loss"]
    np.testing.assert_allclose(out.history["val_loss"][-1], expected, 1e-6)
    assert abs(expected - jl.evaluate(example_loss, out.state.params, val)["loss"]) > 1e-3
    assert int(out.state.extras["ema_count"]) == 10
    again = jl.fit(
        step.replace(decay=0.5), jl.init_state(network(), step), data, epochs=2, batch_size=8, val=val, progress=False
    )
    assert again.compiles == 0
    assert distance(again.state.extras["ema"], out.state.extras["ema"]) > 1e-3
    assert_same(again.state.params, out.state.params)


def test_vmap_over_decays_is_the_loop_over_decays():
    decays = jnp.array([0.0, 0.5, 0.9])
    state = run(jl.with_ema(STEP, 0.9), 1)[-1]
    together = jax.vmap(lambda decay: jl.with_ema(STEP, decay)(state, BATCH)[0].extras["ema"])(decays)
    for i, decay in enumerate(decays):
        one = jl.with_ema(STEP, float(decay))(state, BATCH)[0].extras["ema"]
        assert_near(jax.tree.map(lambda x, i=i: x[i], together), one)


def test_the_outermost_weights_to_evaluate_count():
    step = jl.with_ema(jl.make_step(example_loss, jl.ema_params(SGD, 0.0)), 0.9)
    state = run(step, 3)[-1]
    assert_same(step.eval_params(state), state.extras["ema"])
    assert distance(step.eval_params(state), step.inner.eval_params(state)) > 1e-3


# ---------------------------------------------------------------------------------------------------------------------
# As a value
# ---------------------------------------------------------------------------------------------------------------------


def test_an_averaging_step_is_a_value_like_the_step_inside():
    step = jl.with_ema(STEP, 0.9)
    assert repr(step) == f"with_ema(step={STEP!r}, decay=0.9, debias=True)"
    assert step == jl.with_ema(STEP, decay=0.9) != jl.with_ema(STEP, 0.8)
    assert pickle.loads(pickle.dumps(step)) == step
    assert jax.tree.leaves(step) == [0.1, 0.9]
    assert (step.tx, step.loss_fn) == (SGD, example_loss)
    changed = jl.with_guard(step).replace(learning_rate=0.2, decay=0.5)
    assert changed == jl.with_guard(jl.with_ema(STEP.replace(learning_rate=0.2), 0.5))


def test_a_state_without_the_average_is_refused_and_can_be_completed():
    step = jl.with_ema(STEP, 0.9)
    state = jl.init_state(network(), SGD)
    with pytest.raises(jl.InputError, match=r"^with_ema: the state has no extras\['ema'\]. Make it by init_state"):
        step(state, BATCH)
    with pytest.raises(jl.InputError, match=r"^with_ema: the state has no extras\['ema'\]"):
        step.eval_params(state)
    assert_same(state._replace(extras=step.init_extras(state.params)), jl.init_state(network(), step))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((STEP, 1.0), ValueError, r"^with_ema: decay must be .* in \[0, 1\); got 1.0"),
        ((STEP,), TypeError, "^with_ema: missing a required argument: 'decay'"),
        ((SGD, 0.9), TypeError, "^with_ema: step must be a step, made by make_step"),
        ((jl.with_ema(STEP, 0.9), 0.9), ValueError, "^with_ema: the step has one inside already"),
    ],
)
def test_other_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        jl.with_ema(*arguments)
