"""Wrapped optimizers in compiled training: donated, scanned, stopped in the middle of a cycle and taken up again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lessons as jl

RNG = np.random.default_rng(0)
X = RNG.standard_normal((64, 4)).astype(np.float32)
Y = X @ np.array([1.0, -2.0, 0.5, 0.0], np.float32) + 0.1 * RNG.standard_normal(64).astype(np.float32)

ADAMW = jl.chain(jl.clip_by_global_norm(1.0), jl.adamw(jl.linear_schedule(0.1, 0.05, 20)))
OPTIMIZERS = [
    jl.apply_if_finite(ADAMW, 3),
    jl.skip_nonfinite(ADAMW),
    jl.MultiSteps(ADAMW, 4),
    jl.MultiSteps(ADAMW, lambda step: 2 + step, should_skip_update_fn=jl.skip_not_finite),
    jl.lookahead(ADAMW, 5, 0.5, reset_state=True),
    jl.ema_params(ADAMW, 0.9),
    jl.swa_params(ADAMW, start=2, every=3),
    jl.polynomial_average_params(ADAMW),
    jl.sam(ADAMW, jl.chain(jl.normalize(), jl.sgd(0.05)), sync_period=3),
    jl.asam(ADAMW, rho=jl.linear_schedule(0.05, 0.01, 10)),
    jl.apply_if_finite(jl.MultiSteps(jl.lookahead(jl.ema_params(ADAMW), 3, 0.5), 2), 3),
]


def loss(params, batch):
    x, y = batch
    return (x @ params["w"] + params["b"] - y) ** 2


def run(tx, state, steps):
    return jl.fit(jl.make_step(loss, tx), state, (X, Y), steps=steps, batch_size=8, progress=False).state


def start(tx):
    return jl.init_state({"w": jnp.zeros(4), "b": jnp.zeros(())}, tx, key=1)


@pytest.mark.parametrize("tx", OPTIMIZERS, ids=lambda tx: tx.name)
def test_a_run_that_stops_in_the_middle_of_a_cycle_goes_on_bit_for_bit(tx):
    whole = run(tx, start(tx), 23)
    half = run(tx, start(tx), 13)
    named = jax.tree.map(np.asarray, jl.state_dict(tx, half.opt_state))
    half = half._replace(opt_state=jl.load_state_dict(tx, half.params, named))
    again = run(tx, half, 10)
    jax.tree.map(np.testing.assert_array_equal, (again.params, again.opt_state), (whole.params, whole.opt_state))
    evaluated = jl.eval_params(tx, whole.opt_state, whole.params)
    before = jl.evaluate(loss, start(tx).params, (X, Y))["loss"]
    assert jl.evaluate(loss, evaluated, (X, Y))["loss"] < before


@pytest.mark.parametrize("tx", OPTIMIZERS, ids=lambda tx: tx.name)
def test_compiled_steps_are_the_steps(tx):
    """One scan over all steps, and a loop in Python around the update."""
    state = start(tx)
    params, opt_state = state.params, state.opt_state
    gradient = jax.jit(jax.grad(lambda p, b: jnp.mean(loss(p, b))))
    for i in range(8):
        batch = X[8 * i : 8 * i + 8], Y[8 * i : 8 * i + 8]
        updates, opt_state = tx.update(gradient(params, batch), opt_state, params)
        params = jl.apply_updates(params, updates)
    step = jl.make_step(loss, tx)
    scanned = jl.fit(step, state, (X, Y), epochs=1, batch_size=8, shuffle=False, progress=False).state
    for a, b in zip(
        jax.tree.leaves((scanned.params, scanned.opt_state)), jax.tree.leaves((params, opt_state)), strict=True
    ):
        np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=2e-5, atol=1e-6)


def test_a_bad_batch_is_left_out_of_a_run():
    """One example of NaN: the run without it is bit for bit the run that skips its batch."""
    x = X.copy()
    x[20, 0] = np.nan  # in the third batch
    tx = jl.apply_if_finite(jl.ema_params(ADAMW), 3)
    step = jl.make_step(loss, tx)
    options = {"epochs": 1, "batch_size": 8, "shuffle": False, "progress": False}
    skipped = jl.fit(step, start(tx), (x, Y), **options).state
    rest = np.r_[0:16, 24:64]
    without = jl.fit(step, start(tx), (X[rest], Y[rest]), **options).state
    jax.tree.map(np.testing.assert_array_equal, skipped.params, without.params)
    jax.tree.map(np.testing.assert_array_equal, skipped.opt_state.inner_state, without.opt_state.inner_state)
    assert int(skipped.opt_state.total_notfinite) == 1
