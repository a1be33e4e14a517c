"""The precision of a loss: what is cast and what is not, and the scale that keeps gradients of float16 alive."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import bad_input
from training_problems import assert_near, assert_same, distance, example_loss, network, regression

import jaxopt_lessons as jl
from jaxopt_lessons.train.step import LOSS_STREAM

BATCH = regression(12)
SGD = jl.sgd(0.1)
HALVES = [jnp.bfloat16, jnp.float16]
START, INTERVAL = 2.0**15, 2000


def take_step(step, state, *arguments):
    return jax.jit(lambda *arguments: step(*arguments))(state, *arguments)


def cast(tree, dtype):
    return jax.tree.map(lambda x: jnp.asarray(x).astype(dtype), tree)


# ---------------------------------------------------------------------------------------------------------------------
# What is cast
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tx", [SGD, jl.adam(0.1)], ids=lambda tx: tx.name)
def test_without_a_policy_and_a_model_state_the_program_is_the_one_written_out(tx):
    def by_hand(state, batch):
        jax.random.fold_in(jax.random.fold_in(state.key, LOSS_STREAM), state.cursor)

        def mean(params):
            errors = example_loss(params, batch)
            loss = jl.Weighted(jnp.sum(errors), jnp.asarray(len(errors), errors.dtype))
            return loss.mean(), loss

        (_, loss), grads = jax.value_and_grad(mean, has_aux=True)(state.params)
        value = loss.mean()
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        step, cursor = (jnp.where(n < 2**31 - 1, n, 2**31 - 2) + jnp.ones([], n.dtype) for n in state[:2])
        new = state._replace(step=step, cursor=cursor, params=jl.apply_updates(state.params, updates))
        return new._replace(opt_state=opt_state), {"loss": value, "weight": loss.weight}

    step = jl.make_step(example_loss, tx)
    state = jl.init_state(network(), step)
    assert state.extras == ()
    assert str(jax.make_jaxpr(step)(state, BATCH)) == str(jax.make_jaxpr(by_hand)(state, BATCH))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("parts", [None, 3])
def test_the_loss_is_calculated_in_half_precision_and_all_else_in_float32(dtype, parts):
    seen = []

    def loss_fn(params, batch):
        seen.append({x.dtype.name for x in jax.tree.leaves((params, batch[:2]))})
        assert batch[2].dtype == jnp.int32
        assert batch[3].dtype == jnp.complex64
        assert jnp.issubdtype(batch[4].dtype, jax.dtypes.prng_key)
        errors = example_loss(params, batch[:2])
        return errors, {"error": errors}

    batch = (*BATCH, np.arange(12), np.ones(12, np.complex64), jax.random.split(jax.random.key(0), 12), 1.0)
    step = jl.make_step(loss_fn, SGD, policy=jl.Policy(dtype, loss_scale=None), accumulate=parts)
    state, metrics = take_step(step, jl.init_state(network(), step), batch)
    assert all(names == {jnp.dtype(dtype).name} for names in seen)
    assert {x.dtype.name for x in jax.tree.leaves((state.params, metrics))} == {"float32"}
    exact = jl.make_step(example_loss, SGD, accumulate=parts)
    assert_near(state.params, take_step(exact, jl.init_state(network(), exact), BATCH)[0].params, 1e-2)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("parts", [None, 2])
def test_parameters_and_batches_are_rounded_for_the_loss_and_parameters_move_as_they_are(dtype, parts):
    """Row i has an entry in column i alone: nothing is rounded but the entries, and the parameters in the loss."""
    x, params = np.float32([0.1, 0.2, 0.3, 0.7]), np.float32([1.1, 1.2, 1.3, 1.7])
    step = jl.make_step(lambda p, b: b @ p, SGD, policy=jl.Policy(dtype, loss_scale=None), accumulate=parts)
    state, metrics = take_step(step, jl.init_state(params, step), np.diag(x))
    rounded = np.asarray(cast(x, dtype), np.float32)
    np.testing.assert_allclose(state.params, params - np.float32(0.025) * rounded, 1e-7)
    assert np.max(np.abs(0.025 * (rounded - x))) > 1e-6
    products = rounded * np.asarray(cast(params, dtype), np.float32)
    np.testing.assert_allclose(metrics["loss"], products.mean(), 2.0**-8)


@pytest.mark.parametrize("dtype", HALVES)
def test_losses_and_metrics_are_averaged_in_float32(dtype):
    """In bfloat16 a sum of ones stops at 256, and in float16 at 2048."""
    loss_fn = lambda p, b: (p + jnp.ones_like(b), {"one": jnp.ones_like(b)})
    step = jl.make_step(loss_fn, SGD, policy=dtype)
    _, metrics = take_step(step, jl.init_state(0.0, step), np.zeros(5000, np.float32))
    assert (float(metrics["loss"]), float(metrics["one"]), float(metrics["weight"])) == (1, 1, 5000)


def test_batches_may_be_left_as_they_are():
    """1,000.5 would be 1,000 in bfloat16."""
    loss_fn = lambda p, b: p.astype(jnp.float32) + b.astype(jnp.float32)
    for policy, expected in ((jl.Policy(jnp.bfloat16, cast_batch=False), 1000.5), ("bfloat16", 1000.0)):
        step = jl.make_step(loss_fn, SGD, policy=policy)
        _, metrics = step(jl.init_state(0.0, step), np.array([1000.5], np.float32))
        assert float(metrics["loss"]) == expected


def test_gradients_come_back_in_the_dtype_of_their_parameters():
    seen = []

    def update(updates, state, params=None, **extra):
        seen.append({name: g.dtype.name for name, g in updates.items()})
        return updates, state

    def loss_fn(p, b):
        assert p["c"].dtype == jnp.complex64
        return jnp.sum(p["a"]) * b + jnp.sum(p["b"]) + jnp.abs(p["c"]).astype(b.dtype)

    params = {"a": jnp.ones(3, jnp.bfloat16), "b": jnp.ones(3), "c": jnp.complex64(1j)}
    for policy in ("float16", "bfloat16", "float32"):
        step = jl.make_step(loss_fn, jl.GradientTransformation(lambda p: (), update), policy=policy)
        state, _ = take_step(step, jl.init_state(params, step), np.ones(4, np.float32))
        assert seen.pop() == {"a": "bfloat16", "b": "float32", "c": "complex64"}
        assert {name: p.dtype for name, p in state.params.items()} == {name: p.dtype for name, p in params.items()}
        np.testing.assert_allclose(state.params["b"], 2.0, 1e-6)
        np.testing.assert_allclose(state.params["c"], 2j, 1e-6)


@pytest.mark.parametrize("policy", ["bfloat16", "float32", jl.Policy("float16", loss_scale=None)])
def test_only_a_scale_needs_something_in_the_state(policy):
    step = jl.make_step(example_loss, SGD, policy=policy)
    state = jl.init_state(network(), step)
    assert state.extras == ()
    new, metrics = take_step(step, state, BATCH)
    assert new.extras == ()
    assert set(metrics) == {"loss", "weight"}


# ---------------------------------------------------------------------------------------------------------------------
# The scale of the loss
# ---------------------------------------------------------------------------------------------------------------------


def faint_loss(params, batch):
    """Its gradients are the products of the two columns: 1e-8, which is 0 in float16, whose least number is 6e-8."""
    return (params["w"] * batch[:, 0] - batch[:, 0]) * batch[:, 1]


FAINT = np.full((4, 2), 1e-4, np.float32)
HUGE = np.full((4, 2), [6e4, 1], np.float32)
LARGE = np.full((4, 2), [2, 0.5], np.float32)


def drawing_loss(params, batch, key):
    """Squared errors, some of which a key leaves out."""
    errors = example_loss(params, batch)
    return errors if key is None else errors * jax.random.bernoulli(key, 0.5, errors.shape).astype(errors.dtype)


W = {"w": np.float32(0.5)}
RATE = 1e6


def make_step(loss_fn=faint_loss, tx=None, policy="float16", **options):
    return jl.make_step(loss_fn, jl.sgd(RATE) if tx is None else tx, policy=policy, **options)


def scale_of(state):
    return float(state.extras["loss_scale"]), int(state.extras["good_steps"])


def run(step, batches, state=None):
    state = jl.init_state(W, step) if state is None else state
    one, rows = jax.jit(lambda *arguments: step(*arguments)), []
    for batch in batches:
        state, metrics = one(state, batch)
        rows.append(metrics)
    return state, {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


@pytest.mark.parametrize("parts", [None, 2, 3])
def test_float16_trains_where_its_gradients_would_be_0(parts):
    state, metrics = run(make_step(accumulate=parts), [FAINT] * 5)
    np.testing.assert_allclose(state.params["w"], 0.5 - 5 * RATE * 1e-8, 2e-3)
    assert metrics["overflow"].tolist() == [0] * 5
    assert metrics["loss_scale"].tolist() == [START] * 5
    still, _ = run(make_step(policy=jl.Policy("float16", loss_scale=None), accumulate=parts), [FAINT] * 5)
    assert float(still.params["w"]) == 0.5


@pytest.mark.parametrize("parts", [None, 2])
def test_the_scale_changes_neither_loss_nor_gradient(parts):
    """Powers of 2 are exact. Were the loss itself multiplied, an optimizer that is told of it would be misled."""
    states = []
    for scale in (None, 1.0, 2.0**10):
        step = make_step(drawing_loss, jl.polyak_sgd(), jl.Policy("float16", scale), accumulate=parts)
        state, metrics = run(step, [BATCH] * 2, jl.init_state(network(), step))
        states.append((state._replace(extras=()), metrics["loss"]))
    assert_same(states[0], states[1])
    assert_near(states[1], states[2], 1e-3)


@bad_input(40, 41)
def test_an_overflow_costs_its_batch_and_half_the_scale():
    step = make_step(faint_loss, jl.adam(0.1))
    before, _ = run(step, [FAINT] * 2)
    after, metrics = run(step, [HUGE], before)
    for field in ("step", "params", "opt_state", "key", "model_state"):
        assert_same(getattr(after, field), getattr(before, field))
    assert (int(before.cursor), int(after.cursor)) == (2, 3)
    assert (scale_of(before), scale_of(after)) == ((START, 2), (START / 2, 0))
    assert (metrics["overflow"], metrics["loss_scale"], metrics["weight"]) == (1, START, 0)


@bad_input(40)
def test_a_run_with_overflows_is_the_run_without_their_batches():
    step = make_step(faint_loss, jl.adam(0.1))
    state, metrics = run(step, [FAINT, HUGE, 2 * FAINT, HUGE, 3 * FAINT])
    expected, _ = run(step, [FAINT, 2 * FAINT, 3 * FAINT])
    assert_near((state.step, state.params, state.opt_state), (expected.step, expected.params, expected.opt_state), 1e-3)
    assert metrics["overflow"].tolist() == [0, 1, 0, 1, 0]
    assert metrics["loss_scale"].tolist() == [START, START, START / 2, START / 2, START / 4]
    assert metrics["weight"].tolist() == [4, 0, 4, 0, 4]
    assert (int(state.step), int(state.cursor)) == (3, 5)


def test_the_scale_grows_after_enough_good_steps_in_a_row():
    step = make_step(faint_loss, policy=jl.Policy("float16", 8.0, growth_interval=3))
    spoiled = [FAINT * np.inf]
    _, metrics = run(step, [FAINT] * 5 + spoiled + [FAINT] * 2 + spoiled + [FAINT] * 4)
    assert metrics["loss_scale"].tolist() == [8, 8, 8, 16, 16, 16, 8, 8, 8, 4, 4, 4, 8]
    assert jl.Policy("float16").growth_interval == INTERVAL


@bad_input(40)
@pytest.mark.parametrize(("scale", "batch", "last"), [(1.0, HUGE * np.inf, 1.0), (2.0**24, FAINT, 2.0**24)])
def test_the_scale_stays_in_its_range(scale, batch, last):
    """Else zeros would make it infinite, and a spoiled batch take it to where it does not come back from."""
    loss_fn = lambda params, batch: params["w"].astype(jnp.float32) * batch[:, 0].astype(jnp.float32)
    step = make_step(loss_fn, jl.sgd(1e-9), jl.Policy(jnp.bfloat16, scale, growth_interval=1))
    state, _ = run(step, [batch] * 3)
    assert scale_of(state)[0] == last


@bad_input(46)
@pytest.mark.parametrize("kind", [np.inf, np.nan])
def test_infinite_and_nan_losses_are_overflows(kind):
    _, metrics = run(make_step(), [FAINT * kind])
    assert (metrics["overflow"], metrics["weight"]) == (1, 0)


@bad_input(40)
def test_an_optimizer_cannot_hide_an_overflow():
    step = make_step(faint_loss, jl.chain(jl.zero_nans(), jl.clip(1e-9), jl.sgd(RATE)))
    state, metrics = run(step, [HUGE])
    assert metrics["overflow"] == 1
    assert_same(state.params, jax.tree.map(jnp.asarray, W))


@bad_input(40)
@pytest.mark.parametrize("where", ["grads", "updates", "state"])
def test_gradients_that_an_optimizer_asks_for_may_overflow_too(where):
    """Here they are those far from the parameters; they get into the update, or into the state alone."""

    def far_loss(params, batch):
        return faint_loss(params, batch) * jnp.where(params["w"] > 10, params["w"], 1).astype(batch.dtype)

    def update(updates, state, params, *, grad_fn, value_fn, **extra):
        ask = jax.grad(value_fn) if where == "grads" else grad_fn
        far = ask(jax.tree.map(lambda p: p + 1000, params))
        return (updates, far["w"][None]) if where == "state" else (far, state)

    tx = jl.GradientTransformation(lambda params: jnp.zeros(1), update)
    state, metrics = run(make_step(far_loss, tx), [LARGE] * 2)
    assert metrics["overflow"].tolist() == [1, 1]
    assert (float(state.params["w"]), int(state.step), scale_of(state)) == (0.5, 0, (START / 4, 0))


def test_single_numbers_in_the_state_of_an_optimizer_may_be_infinite():
    tx = jl.chain(jl.sgd(RATE), jl.reduce_on_plateau(patience=3, accumulation_size=5))
    state, metrics = run(make_step(tx=tx), [FAINT] * 2)
    assert not all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state.opt_state))
    assert metrics["overflow"].tolist() == [0, 0]


@pytest.mark.parametrize("parts", [None, 2])
def test_gradients_that_an_optimizer_asks_for_are_scaled_too(parts):
    seen = []

    def update(updates, state, params, *, value, grad, value_fn, grad_fn, obj_fn):
        hessian = jax.jvp(jax.grad(value_fn), (params,), ({"w": jnp.float32(1)},))[1]
        seen.append((value, value_fn(params), grad, grad_fn(params, 0), jax.grad(obj_fn)(params), hessian))
        return updates, state

    def curved_loss(params, batch):
        return jnp.cosh(params["w"]) * batch[:, 0] * batch[:, 1]

    step = make_step(curved_loss, jl.GradientTransformation(lambda params: (), update), accumulate=parts)
    step(jl.init_state({"w": np.float32(2.0)}, step), FAINT)
    ((value, again, *gradients, hessian),) = seen
    np.testing.assert_allclose([value, again], 0, atol=6e-8)
    np.testing.assert_allclose([g["w"] for g in gradients], 1e-8 * np.sinh(2), 1e-2)
    np.testing.assert_allclose(hessian["w"], 1e-8 * np.cosh(2), 1e-2)


@pytest.mark.parametrize(
    "tx", [jl.polyak_sgd(), jl.sam(jl.sgd(0.05), jl.sgd(0.01), opaque_mode=True), jl.sophia(0.01)], ids=lambda t: t.name
)
@pytest.mark.parametrize("parts", [None, 3])
def test_optimizers_that_ask_about_the_batch_have_a_policy(tx, parts):
    step, exact = (make_step(drawing_loss, tx, policy, accumulate=parts) for policy in ("float16", None))
    state, metrics = run(step, [BATCH] * 2, jl.init_state(network(), step))
    expected, _ = run(exact, [BATCH] * 2, jl.init_state(network(), exact))
    assert metrics["overflow"].tolist() == [0, 0]
    assert_near(state.params, expected.params, 0.01)
    assert distance(expected.params, jax.tree.map(jnp.asarray, network())) > 0.015


# ---------------------------------------------------------------------------------------------------------------------
# With all the rest
# ---------------------------------------------------------------------------------------------------------------------


@bad_input(40)
def test_an_overflow_is_no_step_for_an_average():
    step = jl.with_ema(make_step(faint_loss), 0.5)
    state, _ = run(step, [FAINT, HUGE, FAINT])
    expected, _ = run(step, [FAINT, FAINT])
    assert_near(step.eval_params(state), step.eval_params(expected), 1e-4)
    assert int(state.extras["ema_count"]) == 2


@pytest.mark.parametrize("wrap", [jl.with_guard, lambda step: jl.with_guard(jl.with_ema(step, 0.5))])
def test_an_overflow_is_no_case_for_the_guard_and_what_is_one_keeps_the_scale(wrap):
    def update(updates, state, params, *, value, **extra):
        return jax.tree.map(lambda u: jnp.where(value > 0, jnp.float32(3e38), u), updates), state

    tx = jl.GradientTransformation(lambda params: (), update)  # 3e38 twice is too much, and no gradient's fault
    step = wrap(make_step(lambda p, b: jnp.ones_like(b[:, 0]), tx))
    state, metrics = run(step, [FAINT], jl.init_state({"w": np.float32(1e4)}, step))
    assert (metrics["skipped"], metrics["overflow"]) == (0, 0)
    state, metrics = run(step, [FAINT], state._replace(params={"w": jnp.float32(3e38)}))
    assert (metrics["skipped"], metrics["overflow"], scale_of(state)) == (1, 0, (START, 1))
    step = wrap(make_step(faint_loss))
    state, metrics = run(step, [FAINT, HUGE, FAINT])
    assert metrics["skipped"].tolist() == [0, 0, 0]
    assert metrics["overflow"].tolist() == [0, 1, 0]
    assert (int(state.step), scale_of(state)[0]) == (2, START / 2)


@bad_input(40)
def test_under_vmap_each_run_has_a_scale_of_its_own():
    step = make_step(faint_loss)
    state = jl.init_state(W, step)
    states = jax.tree.map(lambda x: jnp.stack([x, x]), state)
    states = states._replace(extras={**states.extras, "loss_scale": jnp.array([2.0**10, 2.0**20])})
    batches = np.stack([LARGE, LARGE])
    together, metrics = jax.vmap(step)(states, batches)
    assert metrics["overflow"].tolist() == [0, 1]
    assert together.extras["loss_scale"].tolist() == [2.0**10, 2.0**19]
    assert together.step.tolist() == [1, 0]
    for i in (0, 1):
        alone, _ = step(jax.tree.map(lambda x, i=i: x[i], states), batches[i])
        assert_near(jax.tree.map(lambda x, i=i: x[i], together), alone, 1e-6)


def test_a_model_state_stays_as_it_is():
    def loss_fn(params, model_state, batch):
        assert model_state["mean"].dtype == jnp.float32
        return faint_loss(params, batch), {"mean": jnp.max(batch), "count": model_state["count"] + 1}

    step = make_step(loss_fn, stateful=True)
    state = jl.init_state(W, step, model_state={"mean": 0.0, "count": 0})
    for batch in (LARGE, HUGE):
        state, _ = run(step, [batch], state)
        assert_same(state.model_state, {"mean": jnp.float32(2), "count": jnp.int32(1)})
    assert scale_of(state)[0] == START / 2


def test_whole_numbers_of_a_model_state_are_not_rounded():
    step = make_step(lambda p, s, b: (faint_loss(p, b), s.astype(jnp.float32)), stateful=True)
    with pytest.raises(jl.InputError, match=r"as float32\[\], and got it as int32\[\]"):
        step(jl.init_state(W, step, model_state=0), FAINT)


def test_fit_trains_validates_and_goes_on_with_a_policy():
    data = regression(48)
    step = make_step(drawing_loss, jl.adam(0.01), jl.Policy("float16", growth_interval=5))
    state = jl.init_state(network(), step)
    options = {"batch_size": 12, "progress": False, "val": BATCH}
    whole = jl.fit(step, state, data, steps=8, **options)
    assert whole.history["loss_scale"].tolist() == [START] * 5 + [2 * START] * 3
    first = jl.fit(step, state, data, steps=3, **options)
    second = jl.fit(step, first.state, data, steps=5, **options)
    assert_same(second.state, whole.state)
    assert (first.compiles + second.compiles) == 0 or second.compiles <= first.compiles
    in_half = jl.evaluate(drawing_loss, whole.state.params, BATCH, policy="float16")["loss"]
    assert whole.history["val_loss"][-1] == np.float32(in_half)
    exact = jl.evaluate(drawing_loss, whole.state.params, BATCH)["loss"]
    assert in_half == pytest.approx(exact, rel=1e-2)
    assert in_half != exact


def test_the_state_is_nothing_but_arrays_and_can_be_donated():
    step = make_step()
    state = jl.init_state(W, step)
    assert set(state.extras) == {"loss_scale", "good_steps"}
    assert [(x.dtype.name, x.shape) for x in jax.tree.leaves(state.extras)] == [("int32", ()), ("float32", ())]
    shapes = jax.tree.map(jax.typeof, state)
    new, _ = jax.jit(lambda *arguments: step(*arguments), donate_argnums=0)(state, FAINT)
    assert jax.tree.map(jax.typeof, new) == shapes


def test_a_state_without_a_scale_is_refused_and_can_be_completed():
    step, state = make_step(), jl.init_state(W, jl.sgd(RATE))
    with pytest.raises(jl.InputError, match=r"^make_step: the state has no extras\['loss_scale'\]"):
        step(state, FAINT)
    assert_same(state._replace(extras=step.init_extras(state.params)), jl.init_state(W, step))


@pytest.mark.parametrize("name", ["loss_scale", "overflow"])
def test_the_names_of_its_metrics_are_taken(name):
    loss_fn = lambda params, batch: (faint_loss(params, batch), {name: jnp.float32(0)})
    step = make_step(loss_fn)
    with pytest.raises(jl.InputError, match=f"^the metrics of a loss function cannot be called '{name}'"):
        step(jl.init_state(W, step), FAINT)
    step = make_step(loss_fn, policy="bfloat16")
    assert float(step(jl.init_state(W, step), FAINT)[1][name]) == 0


# ---------------------------------------------------------------------------------------------------------------------
# As a value
# ---------------------------------------------------------------------------------------------------------------------


def test_a_policy_prints_compares_and_travels():
    policy = jl.Policy(jnp.float16)
    assert repr(policy) == "Policy(compute=float16, loss_scale=32768.0, growth_interval=2000)"
    assert repr(jl.Policy("bfloat16", cast_batch=False)) == "Policy(compute=bfloat16, cast_batch=False)"
    assert policy == jl.Policy("float16", 2**15) == pickle.loads(pickle.dumps(policy)) != jl.Policy("float16", None)
    assert hash(policy) == hash(jl.Policy("float16"))
    step = make_step(example_loss, SGD, "bfloat16")
    assert repr(step) == ("make_step(loss_fn=example_loss, tx=sgd(learning_rate=0.1), policy=Policy(compute=bfloat16))")
    assert step == make_step(example_loss, SGD, jl.Policy(jnp.bfloat16)) != make_step(example_loss, SGD, None)
    assert jax.tree.leaves(step) == [0.1]
    assert step.replace(policy="float16").policy == policy


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: make_step(policy="float17"), TypeError, "^make_step: policy must be a Policy, or .*; got 'float17'"),
        (lambda: make_step(policy=3), TypeError, "^make_step: policy must be a Policy, or the floating-point dtype"),
        (lambda: make_step(policy=jnp.int8), TypeError, "^make_step: policy must be a Policy"),
        (lambda: make_step(policy=jnp.complex64), TypeError, "^make_step: policy must be a Policy"),
        (lambda: jl.Policy(jnp.complex64), TypeError, "^Policy: compute must be a floating-point dtype"),
        (lambda: jl.Policy(None), TypeError, "^Policy: compute must be a floating-point dtype"),
        (lambda: jl.Policy("float17"), TypeError, "^Policy: compute must be a floating-point dtype"),
        (
            lambda: jl.Policy("float16", 0.5),
            ValueError,
            r"^Policy: loss_scale must be a finite number in \[1, 1.6.*e\+07\]",
        ),
        (lambda: jl.Policy("float16", "none"), ValueError, "^Policy: loss_scale must be one of 'auto'; got 'none'"),
        (lambda: jl.Policy("float16", growth_interval=0), ValueError, "^Policy: growth_interval must be at least 1"),
        (lambda: jl.Policy("float16", cast_batch="no"), TypeError, "^Policy: cast_batch must be True or False"),
        (lambda: jl.evaluate(example_loss, network(), BATCH, policy="float17"), TypeError, "^evaluate: policy must be"),
    ],
)
def test_what_is_no_policy_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
