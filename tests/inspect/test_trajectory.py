"""The path of a run: what is recorded is what a loop written by hand, and ``fit``, go through."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_problems import (
    assert_near,
    assert_same,
    backend_compiles,
    distance,
    example_loss,
    network,
    noisy_loss,
    plain,
    regression,
    visits,
)

import jaxopt_lessons as jl
from jaxopt_lessons.train import compilation
from jaxopt_lessons.train.batches import NO_DATA

trajectory = jl.inspect.trajectory


def bowl(params, _):
    return 0.5 * (params["x"] ** 2 + 10 * params["y"] ** 2)


START = {"x": np.float32(2.0), "y": np.float32(-1.0)}

OPTIMIZERS = {
    "sgd": jl.sgd(0.05),
    "momentum": jl.sgd(0.05, momentum=0.9),
    "adam": jl.adam(0.1),
    "chain": jl.chain(
        jl.clip_by_global_norm(1.0), jl.scale_by_adam(), jl.scale_by_schedule(jl.linear_schedule(-1, 0, 7))
    ),
    "schedule": jl.adamw(jl.cosine_decay_schedule(0.2, 9)),
    "noise": jl.noisy_sgd(0.05),
    "groups": jl.groups({"x": jl.adam(0.1)}, default=jl.sgd(0.05)),
}


def rows(tree, index):
    return jax.tree.map(lambda x: x[index], tree)


def by_hand(tx, params, loss_fn, steps):
    """Parameters and states before each step and after the last, and the losses."""
    params = jax.tree.map(jnp.asarray, params)
    path, losses = [(params, tx.init(params))], []

    @jax.jit
    def after(params, state):
        loss, grads = jax.value_and_grad(loss_fn)(params, None)
        updates, state = tx.update(grads, state, params)
        return (jl.apply_updates(params, updates), state), loss

    for _ in range(steps):
        row, loss = after(*path[-1])
        path.append(row)
        losses.append(loss)
    return path, losses


@pytest.mark.parametrize("tx", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_it_is_the_loop_written_by_hand(tx):
    step = jl.make_step(bowl, tx)
    run = trajectory(step, jl.init_state(START, step), steps=9)
    path, losses = by_hand(tx, START, bowl, 9)
    assert jax.tree.structure((run.params, run.opt_state)) == jax.tree.structure(path[0])
    for i, expected in enumerate(path):
        assert_near(rows((run.params, run.opt_state), i), expected)
    assert distance(rows(run.params, 0), rows(run.params, 9)) > 0.05
    np.testing.assert_allclose(run.losses, losses, rtol=1e-5)
    np.testing.assert_array_equal(run.steps, np.arange(10))
    assert_same((run.state.params, run.state.opt_state), rows((run.params, run.opt_state), 9))
    assert int(run.state.step) == int(run.state.cursor) == 9
    for name, values in run.params.items():
        np.testing.assert_array_equal(run.updates[name], np.diff(values))


PLANS = {
    "all": {},
    "shuffled": {"batch_size": 4, "remainder": "drop"},
    "padded": {"batch_size": 4, "remainder": "pad"},
    "wrapped": {"batch_size": 4, "remainder": "wrap"},
    "smaller last": {"batch_size": 4},
    "smaller only": {"batch_size": 20},
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_it_goes_where_fit_goes(plan):
    """The same bits, where fit has no other program for a smaller batch; and the same batches everywhere."""
    step = jl.make_step(noisy_loss, jl.adam(0.05))
    state, data = jl.init_state(network(), step, key=3), regression(11)
    batches = jl.minibatches(data, **plan)
    run = trajectory(step, state, data, 8, **plan)
    fitted = jl.fit(step, state, batches, steps=8)
    assert_near(run.state, fitted.state)
    if not batches.tail:
        assert_same(run.state, fitted.state)
    np.testing.assert_allclose(run.losses, fitted.history["loss"], rtol=1e-5)
    np.testing.assert_array_equal(run.metrics["weight"], fitted.history["weight"])
    np.testing.assert_array_equal(run.learning_rates["learning_rate"], fitted.history["learning_rate"])


def test_every_row_is_where_fit_was():
    step = jl.make_step(noisy_loss, jl.sgd(0.1, momentum=0.9))
    state, batches = jl.init_state(network(), step), jl.minibatches(regression(12), 4)
    run = trajectory(step, state, batches, 6)
    for steps in (3, 6):
        assert_same(rows((run.params, run.opt_state), steps), jl.fit(step, state, batches, steps=steps).state[2:4])


def test_every_example_comes_once_an_epoch():
    step = jl.make_step(visits, jl.sgd(1.0))
    run = trajectory(step, jl.init_state(np.zeros(7, np.float32), step), np.arange(7), 6, batch_size=3)
    np.testing.assert_array_equal(run.params[3], np.ones(7))
    np.testing.assert_array_equal(run.params[6], 2 * np.ones(7))
    np.testing.assert_array_equal(jnp.sum(run.updates, axis=1), [3, 3, 1, 3, 3, 1])
    order = trajectory(
        step, jl.init_state(np.zeros(7, np.float32), step), np.arange(7), 3, batch_size=3, shuffle=False
    ).updates
    np.testing.assert_array_equal(order, [[1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0, 1]])


def test_without_data_it_is_fit_too():
    step = jl.make_step(bowl, jl.adam(0.1))
    state = jl.init_state(START, step)
    assert_same(trajectory(step, state, steps=20).state, jl.fit(step, state, NO_DATA, steps=20).state)


def test_it_goes_on_in_the_middle_of_an_epoch():
    step = jl.make_step(noisy_loss, jl.adam(0.05))
    state, data = jl.init_state(network(), step), regression(12)
    whole = trajectory(step, state, data, 10, batch_size=4)
    first = trajectory(step, state, data, 4, batch_size=4)
    second = trajectory(step, first.state, data, 6, batch_size=4)
    assert_same(second.params, rows(whole.params, slice(4, None)))
    np.testing.assert_array_equal(second.steps, np.arange(4, 11))
    assert_same(second.state, whole.state)


def test_one_row_in_every_few():
    every = 3
    tx = jl.adam(jl.linear_schedule(0.1, 0.0, 12))
    step = jl.make_step(lambda p, b: (noisy_loss(p, b, None), {"mean": jnp.mean(b[0])}), tx)
    state, data = jl.init_state(network(), step), regression(10)
    whole = trajectory(step, state, data, 12, batch_size=4)
    thin = trajectory(step, state, data, 12, batch_size=4, every=every)
    assert_near((thin.params, thin.opt_state), rows((whole.params, whole.opt_state), slice(None, None, every)))
    at = slice(0, 12, every)
    for few, all_of in (
        (thin.losses, whole.losses),
        (thin.metrics["mean"], whole.metrics["mean"]),
        (thin.metrics["weight"], whole.metrics["weight"]),
        (thin.learning_rates["learning_rate"], whole.learning_rates["learning_rate"]),
    ):
        np.testing.assert_allclose(few, all_of[at], rtol=1e-5)
    np.testing.assert_array_equal(thin.steps, np.arange(0, 13, every))
    assert_near(thin.updates, jax.tree.map(lambda x: np.diff(x, axis=0), thin.params), 0)
    assert_near(thin.state, whole.state)


def test_moments_are_those_of_the_formula():
    step = jl.make_step(lambda w, _: 3 * w, jl.adam(0.1, b1=0.5, b2=0.75))
    run = trajectory(step, jl.init_state(1.0, step), steps=3)
    np.testing.assert_allclose(run.moments("mu"), 3 * (1 - 0.5 ** np.arange(4)), rtol=1e-6)
    np.testing.assert_allclose(run.moments("nu"), 9 * (1 - 0.75 ** np.arange(4)), rtol=1e-6)
    by_name = jl.state_dict(step.tx, run.opt_state)
    (nu,) = [part["nu"] for part in by_name.values() if "nu" in part]
    np.testing.assert_array_equal(jax.tree.leaves(nu)[0], run.moments("nu"))


def test_moments_inside_of_wrappers_and_trees():
    tx = jl.chain(jl.clip(1.0), jl.lookahead(jl.adam(jl.linear_schedule(0.1, 0.0, 5)), 2, 0.5))
    step = jl.make_step(bowl, tx)
    run = trajectory(step, jl.init_state(START, step), steps=5)
    assert jax.tree.structure(run.moments("nu")) == jax.tree.structure(START)
    np.testing.assert_allclose(run.moments("nu")["y"][1], 1e-3, rtol=1e-4)  # (1 - b2) times the clipped gradient


def test_moments_that_are_not_there_or_not_one():
    step = jl.make_step(bowl, jl.adam(0.1))
    run = trajectory(step, jl.init_state(START, step), steps=1)
    with pytest.raises(ValueError, match=r"^moments: the optimizer's state has no field 'nuu'. Did you mean 'nu'\? It"):
        run.moments("nuu")
    with pytest.raises(ValueError, match="It has: none."):
        trajectory(step, jl.init_state(START, step), steps=1, opt_state=False).moments("nu")
    two = jl.make_step(bowl, jl.chain(jl.trace(0.9), jl.scale(0.1), jl.trace(0.5)))
    with pytest.raises(ValueError, match=r"^moments: 2 parts of the optimizer's state have a field 'trace'; jl.state"):
        trajectory(two, jl.init_state(START, two), steps=1).moments("trace")


def test_wrapped_steps():
    step = jl.with_guard(jl.with_ema(jl.make_step(lambda w, x: jnp.mean(jnp.log(x) * w), jl.sgd(0.5)), 0.5))
    data = np.array([1.0, 2.0, -1.0, 4.0], np.float32)
    run = trajectory(step, jl.init_state(0.0, step), data, 4, batch_size=1, shuffle=False)
    np.testing.assert_allclose(run.params, -0.5 * np.log([1, 1, 2, 2, 8]), rtol=1e-6)
    np.testing.assert_array_equal(run.steps, np.arange(5))
    assert int(run.state.extras["skipped"]) == 1
    assert int(run.state.step) == 3


def test_learning_rates_by_name():
    step = jl.make_step(bowl, OPTIMIZERS["groups"])
    rates = trajectory(step, jl.init_state(START, step), steps=2).learning_rates
    assert sorted(float(rate[0]) for rate in rates.values()) == [np.float32(0.05), np.float32(0.1)]
    step = jl.make_step(bowl, OPTIMIZERS["schedule"])
    run = trajectory(step, jl.init_state(START, step), steps=9)
    expected = [jl.cosine_decay_schedule(0.2, 9)(i) for i in range(9)]
    np.testing.assert_allclose(run.learning_rates["learning_rate"], expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.complex64])
def test_other_dtypes(dtype):
    step = jl.make_step(lambda w, _: jnp.sum(jnp.abs(w - 1).astype(jnp.float32) ** 2), jl.sgd(0.25))
    run = trajectory(step, jl.init_state(jnp.array([3.0, 5.0], dtype), step), steps=2)
    assert run.params.dtype == dtype
    np.testing.assert_allclose(np.asarray(run.params).astype(complex), [[3, 5], [2, 3], [1.5, 2]], rtol=1e-6)
    assert run.updates.dtype == (jnp.float32 if dtype == jnp.bfloat16 else dtype)
    np.testing.assert_allclose(run.updates, np.asarray([[-1, -2], [-0.5, -1]], run.updates.dtype), rtol=1e-6)


def test_the_state_stays_alive():
    step = jl.make_step(example_loss, jl.adam(0.1))
    state, data = jl.init_state(network(), step), regression(8)
    before = jax.tree.map(lambda x: np.array(plain(x)), state)
    first = trajectory(step, state, data, 3)
    jl.fit(step, first.state, data, steps=2)
    assert_same(jax.tree.map(plain, state), before)
    assert_same(trajectory(step, state, data, 3).state, first.state)


def test_another_rate_or_start_compiles_nothing():
    step = jl.make_step(example_loss, jl.adam(0.1))
    batches = jl.minibatches(regression(10), 4)
    trajectory(step, jl.init_state(network(), step), batches, 6, every=2)
    state, later = (
        jl.init_state(network(1), step, key=1),
        jl.fit(step, jl.init_state(network(), step), batches, steps=2),
    )
    with compilation.count() as compiled, backend_compiles() as events:
        run = trajectory(step.replace(learning_rate=0.5), state, batches, 6, every=2)
        trajectory(step, later.state, batches, 6, every=2)
    assert compiled == events == []
    assert float(run.learning_rates["learning_rate"][0]) == 0.5
    with compilation.count() as compiled:
        trajectory(step, state, batches, 8, every=2)
    assert compiled == ["follow"]


def test_memory_is_limited():
    step = jl.make_step(lambda w, _: jnp.sum(w**2), jl.adam(0.1))
    state = jl.init_state(np.ones(1000, np.float32), step)
    row = 3 * 4000 + 8  # parameters, two moments, two counts
    with pytest.raises(ValueError, match="^trajectory: 11 rows of 11.7 KiB take 129 KiB on the device") as raised:
        trajectory(step, state, steps=10, limit=11 * row - 1)
    assert "Say every=2 or more" in str(raised.value)
    with pytest.raises(ValueError, match=r"limit=23 \(23 bytes\). Say fewer steps, opt_state=False"):
        trajectory(step, state, steps=10, limit=23)
    assert trajectory(step, state, steps=10, limit=11 * row).params.shape == (11, 1000)
    assert trajectory(step, state, steps=10, limit=6 * row, every=2).params.shape == (6, 1000)
    alone = trajectory(step, state, steps=10, limit=11 * 4000, opt_state=False)
    assert alone.opt_state is None
    assert_same(alone.state, trajectory(step, state, steps=10).state)
    with pytest.raises(ValueError, match=r"take \d+(\.\d+)? GiB on the device, more than limit=2147483648 \(2 GiB\)"):
        trajectory(step, state, steps=200_000)


STEP = jl.make_step(bowl, jl.sgd(0.1))
STATE = jl.init_state(START, STEP)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: trajectory(3, STATE), TypeError, "trajectory: step must be a step, made by make_step"),
        (
            lambda: trajectory(STEP, START),
            TypeError,
            "trajectory: state must be made by init_state(params, step); got {",
        ),
        (lambda: trajectory(STEP, STATE, steps=0), ValueError, "trajectory: steps must be at least 1; got 0."),
        (lambda: trajectory(STEP, STATE, steps=2.0), TypeError, "trajectory: steps must be a whole number"),
        (lambda: trajectory(STEP, STATE, steps=4, every=0), ValueError, "trajectory: every must be at least 1"),
        (lambda: trajectory(STEP, STATE, steps=5, every=2), ValueError, "multiple of every; got steps=5 and every=2."),
        (lambda: trajectory(STEP, STATE, opt_state=2), TypeError, "trajectory: opt_state must be True or False"),
        (lambda: trajectory(STEP, STATE, limit=0), ValueError, "trajectory: limit must be at least 1; got 0."),
        (lambda: trajectory(STEP, STATE, batch_size=2), ValueError, "trajectory: without data there are no batches"),
        (
            lambda: trajectory(STEP, STATE, jl.minibatches(np.ones(4), 2), shuffle=False),
            ValueError,
            "trajectory: the data is planned by minibatches already",
        ),
        (lambda: trajectory(STEP, STATE, (np.ones(3), np.ones(4))), jl.InputError, "must have equal lengths"),
        (
            lambda: trajectory(STEP, STATE, jl.minibatches(np.ones(4), 2, on_host=True)),
            TypeError,
            "the data of these batches is in the host's memory",
        ),
        (lambda: trajectory(lambda state, batch: (state, {}), STATE), ValueError, "the step measures no loss"),
        (
            lambda: jax.jit(lambda state: trajectory(STEP, state).losses)(STATE),
            TypeError,
            "trajectory: the results are numbers on the host",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert message in str(raised.value)


@pytest.mark.parametrize("name", jl.inspect.__all__)
def test_documentation(name):
    value = getattr(jl.inspect, name)
    text = inspect.getdoc(value)
    assert text
    if inspect.isfunction(value):
        for argument in inspect.signature(value).parameters:
            assert f"\n  {argument}: " in text, argument
