"""``with_guard``: a step that would not stay finite is left out, and counted, and everything else goes on."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bad_inputs import bad_input
from training_problems import assert_near, assert_same, example_loss, network, noisy_loss, regression, scalar_loss

import jaxopt_lessons as jl

BATCH = regression(6)
ADAM = jl.adam(0.1)
GOOD, BAD_LOSS, BAD_GRADIENT, OVERFLOW = 0.0, 1.0, 2.0, 3.0


def fallible_loss(params, batch):
    """``example_loss`` where ``what`` is 0; else it is NaN, or it is finite and its gradient NaN or infinite."""
    x, y, what = batch
    w = params["w2"][0]
    factor = jnp.where(what == BAD_LOSS, jnp.nan, 1)
    radicand = jnp.where(what == BAD_GRADIENT, 0, 1)
    steep = jnp.where(what == OVERFLOW, 3e38, 0) * w
    root = jnp.sqrt(radicand + 0 * w) - jnp.sqrt(radicand)  # 0, and its derivative 0, or 0 times infinity
    return factor * example_loss(params, (x, y)) + root + 100 * (steep - jax.lax.stop_gradient(steep))


def batch_of(what, seed=0):
    x, y = regression(6, seed)
    return x, y, np.full(6, what, np.float32)


def run(step, whats, state=None):
    state = jl.init_state(network(), step, key=1) if state is None else state
    one = jax.jit(lambda *arguments: step(*arguments))
    rows = []
    for seed, what in enumerate(whats):
        state, metrics = one(state, batch_of(what, seed))
        rows.append(metrics)
    return state, {name: np.array([row[name] for row in rows]) for name in rows[0]}


def guarded(tx=ADAM, loss_fn=fallible_loss, **options):
    return jl.with_guard(jl.make_step(loss_fn, tx, **options))


@bad_input(39, 40)
@pytest.mark.parametrize("what", [BAD_LOSS, BAD_GRADIENT, OVERFLOW])
def test_a_step_that_would_not_stay_finite_changes_nothing_but_the_cursor(what):
    step = guarded()
    before, _ = run(step, [GOOD])
    after, metrics = run(step, [what], before)
    for field in ("step", "params", "opt_state", "key", "model_state"):
        assert_same(getattr(after, field), getattr(before, field))
    assert (int(before.cursor), int(after.cursor), int(after.extras["skipped"])) == (1, 2, 1)
    assert (metrics["skipped"], metrics["weight"]) == (1, 0)
    assert np.isfinite(metrics["loss"]) == (what != BAD_LOSS)


@pytest.mark.parametrize("what", [BAD_LOSS, BAD_GRADIENT, OVERFLOW])
def test_without_the_guard_they_would_not_be_finite(what):
    state, _ = run(jl.make_step(fallible_loss, ADAM), [what])
    assert not all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((state.params, state.opt_state)))


def test_good_steps_are_those_of_the_step_inside():
    state, metrics = run(guarded(), [GOOD] * 4)
    plain, plain_metrics = run(jl.make_step(fallible_loss, ADAM), [GOOD] * 4)
    assert_near(state._replace(extras=()), plain)
    assert_near({k: v for k, v in metrics.items() if k != "skipped"}, plain_metrics)
    assert metrics["skipped"].tolist() == [0, 0, 0, 0]
    assert int(state.extras["skipped"]) == 0


@bad_input(39, 40)
def test_a_run_with_bad_batches_is_the_run_without_them():
    whats = [GOOD, BAD_GRADIENT, GOOD, BAD_LOSS, OVERFLOW, GOOD]
    state, metrics = run(guarded(), whats)
    assert metrics["skipped"].tolist() == [0, 1, 0, 1, 1, 0]
    step = jl.make_step(example_loss, ADAM)
    plain = jl.init_state(network(), step)
    for seed in (0, 2, 5):
        plain, _ = step(plain, regression(6, seed))
    assert_near((state.params, state.opt_state), (plain.params, plain.opt_state), 2e-6)
    assert (int(state.step), int(state.cursor), int(state.extras["skipped"])) == (3, 6, 3)


@bad_input(39)
def test_the_state_of_the_optimizer_is_judged_too():
    """The update is finite and the state is not; that of an optimizer which begins with an infinite number is."""

    def update(updates, state, params=None):
        return updates, state / jnp.mean(updates["b1"] * 0)

    tx = jl.GradientTransformation(lambda params: jnp.ones(3), update)
    state, metrics = run(guarded(tx), [GOOD])
    assert metrics["skipped"] == 1
    np.testing.assert_array_equal(state.opt_state, np.ones(3))
    plateau = jl.chain(jl.sgd(0.1), jl.reduce_on_plateau(patience=3))
    assert not all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(plateau.init(network())))
    assert run(guarded(plateau), [GOOD, BAD_GRADIENT, GOOD])[1]["skipped"].tolist() == [0, 1, 0]


def test_states_with_random_keys_and_whole_numbers_are_guarded():
    tx = jl.chain(jl.add_noise(0.1, 0.5, 3), jl.adam(0.1))
    before, _ = run(guarded(tx), [GOOD])
    after, _ = run(guarded(tx), [BAD_GRADIENT], before)
    assert_same(after.opt_state, before.opt_state)
    with pytest.raises(AssertionError):
        assert_same(run(guarded(tx), [GOOD], before)[0].opt_state, before.opt_state)


@bad_input(40, 54)
@jax.numpy_dtype_promotion("standard")
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.complex64])
def test_parameters_of_every_dtype_are_guarded(dtype):
    def loss_fn(params, batch):
        return (
            jnp.real(jnp.sum(params * params.conj() if dtype == jnp.complex64 else params)).astype(jnp.float32) * batch
        )

    step = jl.with_guard(jl.make_step(loss_fn, optax.sgd(0.5)))
    state = jl.init_state(jnp.ones(3, dtype), step)
    same, metrics = step(state, jnp.array([jnp.inf]))
    assert_same(same.params, state.params)
    assert float(metrics["skipped"]) == 1
    moved, metrics = step(same, jnp.array([1.0]))
    assert float(metrics["skipped"]) == 0
    assert moved.params.dtype == dtype
    assert np.all(np.asarray(moved.params) != np.asarray(state.params))


@bad_input(39)
def test_under_vmap_each_run_is_guarded_by_itself():
    step = guarded()
    state = jl.init_state(network(), step)
    batches = [batch_of(what) for what in (GOOD, BAD_GRADIENT, GOOD, BAD_LOSS)]
    together, metrics = jax.vmap(step, in_axes=(None, 0))(state, jax.tree.map(lambda *x: np.stack(x), *batches))
    assert metrics["skipped"].tolist() == [0, 1, 0, 1]
    assert together.step.tolist() == [1, 0, 1, 0]
    for i, batch in enumerate(batches):
        assert_near(jax.tree.map(lambda x, i=i: x[i], together), step(state, batch)[0], 2e-6)


def test_no_branch_is_taken():
    step = guarded()
    jaxpr = jax.make_jaxpr(lambda *arguments: step(*arguments))(jl.init_state(network(), step), batch_of(GOOD))
    assert "cond[" not in str(jaxpr)


@bad_input(39)
def test_a_micro_batch_that_is_not_finite_spoils_its_update_only():
    x, y, what = batch_of(GOOD)
    what[4] = BAD_GRADIENT
    step = guarded(accumulate=3)
    state, metrics = step(jl.init_state(network(), step), (x, y, what))
    assert float(metrics["skipped"]) == 1
    state, metrics = step(state, (x, y, 0 * what))
    assert (float(metrics["skipped"]), int(state.step)) == (0, 1)


# ---------------------------------------------------------------------------------------------------------------------
# In a run
# ---------------------------------------------------------------------------------------------------------------------


def data_with(bad):
    """40 examples of which those at ``bad`` have a NaN gradient; in batches of 4, in their order."""
    what = np.zeros(40, np.float32)
    what[bad] = BAD_LOSS
    return (*regression(40), what)


def fit(step, data, state=None, **options):
    state = jl.init_state(network(), step, key=1) if state is None else state
    return jl.fit(step, state, data, batch_size=4, shuffle=False, progress=False, **{"epochs": 2} | options)


@bad_input(39)
def test_fit_goes_on_and_the_means_of_its_history_are_those_of_the_good_batches():
    out = fit(guarded(), data_with([5, 17]), val=batch_of(GOOD))
    skipped = np.array([0, 1, 0, 0, 1, 0, 0, 0, 0, 0] * 2, bool)
    np.testing.assert_array_equal(out.history["skipped"], skipped)
    np.testing.assert_array_equal(np.isnan(out.history["loss"]), skipped)
    assert (int(out.state.step), int(out.state.cursor)) == (16, 20)
    assert out.history.steps("loss").tolist() == list(range(1, 21))
    losses = out.history["loss"].reshape(2, 10)[:, ~skipped[:10]]
    np.testing.assert_allclose(out.history.epoch_mean("loss"), losses.mean(1), 1e-6)
    np.testing.assert_allclose(out.history.epoch_mean("skipped"), [0.2, 0.2])
    assert np.all(np.isfinite(out.history["val_loss"]))


def test_a_run_that_goes_on_is_the_run_that_did_not_stop():
    step, data = guarded(), data_with([5, 17])
    whole = fit(step, data)
    first = fit(step, data, steps=7, epochs=None)
    second = fit(step, data, first.state, steps=13, epochs=None)
    assert_same(second.state, whole.state)
    np.testing.assert_array_equal(second.history["loss"], whole.history["loss"][7:])


@bad_input(46)
def test_a_loss_that_is_not_finite_has_no_weight_though_its_step_is_taken():
    def loss_fn(params, batch):
        return example_loss(params, batch) + jnp.nan

    tx = jl.chain(jl.zero_nans(), jl.sgd(0.1))
    state, metrics = jl.with_guard(jl.make_step(loss_fn, tx))(
        jl.init_state(network(), jl.with_guard(jl.make_step(loss_fn, tx))), BATCH
    )
    assert (float(metrics["skipped"]), float(metrics["weight"]), int(state.step)) == (0, 0, 1)


def test_a_second_run_with_another_learning_rate_compiles_nothing():
    data = data_with([5])
    fit(guarded(jl.adam(0.1)), data)
    out = fit(guarded(jl.adam(0.1)).replace(learning_rate=0.02), data)
    assert out.compiles == 0
    np.testing.assert_allclose(out.history["learning_rate"], 0.02, 1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# As a value
# ---------------------------------------------------------------------------------------------------------------------


def test_a_guarded_step_is_a_value_like_the_step_inside():
    step = guarded(jl.sgd(0.1), example_loss)
    inside = jl.make_step(example_loss, jl.sgd(0.1))
    assert repr(step) == f"with_guard(step={inside!r})"
    assert step == jl.with_guard(inside) != inside
    assert pickle.loads(pickle.dumps(step)) == step
    assert jax.tree.leaves(step) == [0.1]
    assert (step.tx, step.loss_fn, step.inner) == (inside.tx, example_loss, inside)
    assert step.replace(learning_rate=0.2) == jl.with_guard(inside.replace(learning_rate=0.2))
    state = jl.init_state(network(), step)
    assert step.learning_rates(state) == {"learning_rate": 0.1}
    assert_same(step.eval_params(state), state.params)


def test_the_optimizers_weights_to_evaluate_are_those_of_the_guarded_step():
    step = guarded(jl.ema_params(jl.sgd(0.1), 0.5))
    state, _ = run(step, [GOOD, GOOD])
    assert_same(step.eval_params(state), step.tx.eval_params(state.opt_state, state.params))


def test_a_fresh_state_can_be_donated():
    step = guarded()
    state = jl.init_state(network(), step)
    new, _ = jax.jit(lambda *arguments: step(*arguments), donate_argnums=0)(state, batch_of(GOOD))
    assert int(new.step) == 1


def test_a_state_without_the_count_is_refused_and_can_be_completed():
    step = guarded(loss_fn=example_loss)
    state = jl.init_state(network(), ADAM)
    with pytest.raises(
        jl.InputError, match=r"^with_guard: the state has no extras\['skipped'\]. Make it by init_state"
    ):
        step(state, BATCH)
    assert_same(state._replace(extras=step.init_extras(state.params)), jl.init_state(network(), step))


def test_a_plain_function_can_be_guarded():
    inside = jl.make_step(fallible_loss, ADAM)
    step = jl.with_guard(lambda state, batch: inside(state, batch))
    state = jl.init_state(network(), inside)
    state = state._replace(extras=step.init_extras(state.params))
    assert run(step, [GOOD, BAD_GRADIENT], state)[1]["skipped"].tolist() == [0, 1]
    unweighted = jl.with_guard(lambda state, batch: (inside(state, batch)[0], {}))
    assert sorted(run(unweighted, [BAD_GRADIENT], state)[1]) == ["skipped"]
    with pytest.raises(AttributeError, match="the step was not made by make_step, and tells no optimizer"):
        jl.init_state(network(), step)


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        (ADAM, TypeError, r"^with_guard: step must be a step, made by make_step, or a function .*; got adam\("),
        (guarded(), ValueError, "^with_guard: the step has one inside already"),
        (jl.with_ema(guarded(), 0.9), ValueError, "^with_guard: the step has one inside already"),
    ],
)
def test_what_cannot_be_guarded_is_refused(step, error, message):
    with pytest.raises(error, match=message):
        jl.with_guard(step)


def test_the_name_of_its_metric_is_taken():
    step = guarded(loss_fn=lambda params, batch: (example_loss(params, batch), {"skipped": jnp.float32(0)}))
    with pytest.raises(jl.InputError, match="^the metrics of a loss function cannot be called 'skipped'"):
        step(jl.init_state(network(), step), BATCH)


def test_the_random_numbers_go_on_after_a_skipped_step():
    step = guarded(loss_fn=lambda p, b, key: (noisy_loss(p, b[:2], key) + b[2], {"u": jax.random.uniform(key)}))
    _, metrics = run(step, [np.nan, np.nan, GOOD])
    assert metrics["skipped"].tolist() == [0, 0, 0]  # The gradient of a constant is 0.
    assert len(set(metrics["u"].tolist())) == 3


@bad_input(40)
def test_a_scalar_loss_is_guarded():
    step = guarded(loss_fn=lambda params, batch: scalar_loss(params, batch) * jnp.inf)
    assert float(step(jl.init_state(network(), step), BATCH)[1]["skipped"]) == 1
