"""Many steps in one program: what a Python loop of steps does, in one piece and under every transformation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_problems import (
    REMAINDERS,
    assert_near,
    assert_same,
    distance,
    example_loss,
    network,
    noisy_loss,
    quadratic,
    regression,
    visits,
)

import jaxopt_lessons as jl
from jaxopt_lessons.train import scan

N, B = 11, 4
DATA = regression(N)
ADAM = jl.adam(0.05)
STEP = jl.make_step(noisy_loss, ADAM)
STATE = jl.init_state(network(), ADAM, key=3)


@functools.cache
def compiled(step):
    return jax.jit(lambda state, batch, mask: step(state, batch, mask))


@functools.cache
def compiled_scan(length, unroll=1):
    return jax.jit(jl.make_scan(STEP, length, unroll=unroll))


def python_loop(step, state, batches, count):
    """One compiled step after the other, on batches that are calculated one by one."""
    order, rows = batches.order(state.key), []
    for _ in range(count):
        tail = batches.is_tail(int(state.cursor))
        batch, mask = batches.load(batches.locate(order, state.cursor, tail=tail), tail=tail)
        state, metrics = compiled(step)(state, batch, mask)
        rows.append(metrics)
    return state, jax.tree.map(lambda *row: jnp.stack(row), *rows)


# ---------------------------------------------------------------------------------------------------------------------
# make_scan
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch_size", "remainder"), [(B, "drop"), (B, "pad"), (B, "wrap"), (None, "keep")])
def test_a_scan_is_the_loop_of_steps(batch_size, remainder):
    batches = jl.minibatches(DATA, batch_size, remainder=remainder)
    state, metrics = compiled_scan(7)(STATE, batches)
    expected_state, expected_metrics = python_loop(STEP, STATE, batches, 7)
    assert_near(state, expected_state)
    assert_near(metrics, expected_metrics)
    assert metrics["loss"].shape == metrics["weight"].shape == (7,)
    assert (int(state.step), int(state.cursor)) == (7, 7)
    assert distance(state.params, STATE.params) > 0.1


@pytest.mark.parametrize("remainder", ["drop", "pad", "wrap"])
def test_pieces_of_any_length_agree_bit_by_bit(remainder):
    batches = jl.minibatches(DATA, B, remainder=remainder)
    whole_state, whole = compiled_scan(6)(STATE, batches)
    for length in (1, 3):
        state, rows, piece = STATE, [], compiled_scan(length)
        for _ in range(6 // length):
            state, metrics = piece(state, batches)
            rows.append(metrics)
        assert_same(state, whole_state)
        assert_same(jax.tree.map(lambda *row: jnp.concatenate(row), *rows), whole)


def test_batches_located_before_the_loop_and_inside_agree_bit_by_bit(monkeypatch):
    batches = jl.minibatches(DATA, B, remainder="pad")
    before = compiled_scan(6)(STATE, batches)
    jaxpr_before = str(jax.make_jaxpr(jl.make_scan(STEP, 6))(STATE, batches))
    monkeypatch.setattr(scan, "LOCATED_AT_ONCE", 6 * B - 1)
    assert str(jax.make_jaxpr(jl.make_scan(STEP, 6))(STATE, batches)) != jaxpr_before
    assert_same(jax.jit(jl.make_scan(STEP, 6))(STATE, batches), before)


def test_unrolling_changes_nothing_but_the_last_bit():
    batches = jl.minibatches(DATA, B, remainder="wrap")
    assert_near(compiled_scan(6, unroll=3)(STATE, batches), compiled_scan(6)(STATE, batches))


def test_a_scan_visits_the_examples_of_several_epochs():
    batches = jl.minibatches(np.arange(N), B, remainder="wrap")
    step = jl.make_step(visits, jl.sgd(1.0))
    state, _ = jax.jit(jl.make_scan(step, N))(jl.init_state(np.zeros(N, np.float32), step.tx), batches)
    np.testing.assert_array_equal(state.params, np.full(N, B))


def test_a_scan_refuses_batches_of_two_sizes():
    scan_of_7 = jl.make_scan(STEP, 7)
    with pytest.raises(ValueError, match=r"^make_scan: the last batch of an epoch has 3 examples instead of 4\. Use "):
        scan_of_7(STATE, jl.minibatches(DATA, B))


@pytest.mark.parametrize(("length", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError)])
def test_a_scan_of_no_steps_is_refused(length, error):
    with pytest.raises(error, match="^make_scan: length must be "):
        jl.make_scan(STEP, length)


# ---------------------------------------------------------------------------------------------------------------------
# make_epoch
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch_size", "remainder"), [(B, "keep"), (B, "drop"), (B, "pad"), (None, "keep"), (20, "keep")]
)
def test_an_epoch_is_the_loop_of_its_steps(batch_size, remainder):
    batches = jl.minibatches(DATA, batch_size, remainder=remainder)
    state, metrics = jax.jit(jl.make_epoch(STEP, batches))(STATE, batches)
    expected_state, expected_metrics = python_loop(STEP, STATE, batches, batches.per_epoch)
    assert_near(state, expected_state)
    assert_near(metrics, expected_metrics)
    weights = {(B, "keep"): [4, 4, 3], (B, "drop"): [4, 4], (B, "pad"): [4, 4, 3]}
    assert metrics["weight"].tolist() == weights.get((batch_size, remainder), [N])
    assert metrics["loss"].shape == metrics["weight"].shape


@pytest.mark.parametrize("n", [3, 11])
def test_an_epoch_visits_every_example_once(n):
    batches = jl.minibatches(np.arange(n), B)
    step = jl.make_step(visits, jl.sgd(1.0))
    epoch = jl.make_epoch(step, batches)
    state, metrics = epoch(jl.init_state(np.zeros(n, np.float32), step.tx))
    np.testing.assert_array_equal(state.params, np.ones(n))
    assert int(state.cursor) == len(metrics["loss"]) == -(-n // B)


def test_an_epoch_that_begins_inside_one_goes_through_all_of_it():
    batches = jl.minibatches(np.arange(N), B)
    step = jl.make_step(visits, jl.sgd(1.0))
    state = jl.init_state(np.zeros(N, np.float32), step.tx)._replace(cursor=jnp.int32(4), step=jnp.int32(4))
    state, _ = jl.make_epoch(step, batches)(state)
    np.testing.assert_array_equal(state.params, np.ones(N))
    assert (int(state.cursor), int(state.step)) == (7, 7)


def test_two_epochs_are_two_orders():
    batches = jl.minibatches(DATA, B)
    epoch = jax.jit(jl.make_epoch(jl.make_step(example_loss, jl.sgd(0.0)), batches))
    state = jl.init_state(network(), jl.sgd(0.0))
    once, first = epoch(state, batches)
    _, second = epoch(once, batches)
    _, again = epoch(state, batches)
    assert_same(first, again)
    assert distance(first["loss"], second["loss"]) > 0.01
    totals = [np.sum(metrics["loss"] * metrics["weight"]) for metrics in (first, second)]
    np.testing.assert_allclose(totals[0], totals[1], 1e-5)


def test_an_epoch_refuses_batches_that_belong_to_two():
    with pytest.raises(ValueError, match=r"^make_epoch: with remainder='wrap' .* use make_scan"):
        jl.make_epoch(STEP, jl.minibatches(DATA, B, remainder="wrap"))
    for batches in (jl.minibatches(regression(12), B, remainder="wrap"), jl.minibatches(DATA, remainder="wrap")):
        _, metrics = jl.make_epoch(STEP, batches)(STATE)
        assert len(metrics["loss"]) == batches.per_epoch


# ---------------------------------------------------------------------------------------------------------------------
# Transformations
# ---------------------------------------------------------------------------------------------------------------------


def test_vmap_over_seeds_is_the_loop_over_seeds():
    batches = jl.minibatches(DATA, B)
    epoch = jl.make_epoch(STEP, batches)

    def run(key):
        return epoch(jl.init_state(network(), ADAM, key=key), batches)

    keys = jax.random.split(jax.random.key(0), 3)
    together = jax.jit(jax.vmap(run))(keys)
    alone = [jax.jit(run)(key) for key in keys]
    for i in range(3):
        assert_near(jax.tree.map(lambda x, i=i: x[i], together), alone[i])
    assert distance(alone[0][0].params, alone[1][0].params) > 1e-3


def test_vmap_over_learning_rates_is_the_loop_over_learning_rates():
    batches = jl.minibatches(DATA, B, remainder="wrap")

    def run(rate):
        return jl.make_scan(STEP.replace(learning_rate=rate), 5)(STATE, batches)[1]["loss"]

    rates = jnp.array([0.0, 0.01, 0.1])
    together = jax.jit(jax.vmap(run))(rates)
    assert_near(together, jnp.stack([jax.jit(run)(rate) for rate in rates]))
    assert distance(together[0], together[2]) > 1e-2


def test_the_derivative_by_the_learning_rate_is_the_formula():
    """Gradient descent on h/2 p^2 has p_T = (1 - a h)^T p_0; so the loss after T steps is known, and its derivative."""
    h, p0, rate, length = 1.7, 1.3, 0.2, 9
    step = jl.make_step(lambda params, batch: 0.5 * h * params**2 * batch, jl.sgd(0.1))
    state = jl.init_state(p0, step.tx)
    batches = jl.minibatches(np.ones(3, np.float32))

    def final_loss(rate):
        final, _ = jl.make_scan(step.replace(learning_rate=rate), length)(state, batches)
        return 0.5 * h * final.params**2

    value, slope = jax.jit(jax.value_and_grad(final_loss))(rate)
    factor = 1 - rate * h
    np.testing.assert_allclose(value, 0.5 * h * factor ** (2 * length) * p0**2, 1e-5)
    np.testing.assert_allclose(slope, -(h**2) * length * factor ** (2 * length - 1) * p0**2, 1e-5)


def test_the_derivative_through_shuffled_batches_is_the_slope():
    batches = jl.minibatches(DATA, B, remainder="pad")

    @jax.jit
    def final_loss(rate):
        final, _ = jl.make_scan(STEP.replace(learning_rate=rate), 6)(STATE, batches)
        return jnp.mean(example_loss(final.params, jax.tree.map(jnp.asarray, DATA)))

    rate, step = 0.05, 2e-3
    slope = (final_loss(rate + step) - final_loss(rate - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(final_loss)(rate), slope, 2e-2)
    assert abs(slope) > 0.1


@pytest.mark.parametrize("remainder", REMAINDERS)
def test_nothing_calls_back_from_a_compiled_run(remainder):
    batches = jl.minibatches(DATA, B, remainder=remainder)

    def run(step, state, batches):
        return scan.run_steps(step, state, batches, state.cursor, 3, batches.tail > 0)

    def talking_loss(params, batch):
        jax.debug.print("{}", batch[1])
        return example_loss(params, batch)

    names = set(primitives(jax.make_jaxpr(run)(STEP, STATE, batches).jaxpr))
    assert "scan" in names
    assert "tanh" in names
    assert not {name for name in names if "callback" in name or "debug" in name}
    talking = set(primitives(jax.make_jaxpr(run)(jl.make_step(talking_loss, ADAM), STATE, batches).jaxpr))
    assert {name for name in talking if "callback" in name or "debug" in name}


def primitives(jaxpr):
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for parameter in equation.params.values():
            for inner in jax.tree.leaves(parameter, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from primitives(inner)


def test_the_data_is_an_argument_of_the_program_and_not_a_constant():
    """A constant would be compiled into the program again for other data of the same shape."""
    traces = []

    @jax.jit
    def run(state, batches):
        traces.append(batches)
        return jl.make_epoch(jl.make_step(quadratic, ADAM), batches)(state, batches)[0].params

    state = jl.init_state(np.zeros(3, np.float32), ADAM)
    one, other = (run(state, jl.minibatches(regression(N, seed)[0], B)) for seed in (0, 1))
    assert len(traces) == 1
    assert distance(one, other) > 1e-3


@pytest.mark.parametrize("kind", ["scan", "epoch"])
def test_a_single_step_can_be_differentiated_inside_of_jit(kind):
    """Of hyperparameters, as longer loops can: a scan of one step, and an epoch of batch gradient descent."""
    step = jl.make_step(example_loss, jl.sgd(0.1))
    state = jl.init_state(network(), step)
    batches = jl.minibatches(regression(8), 8 if kind == "scan" else None)
    one = jl.make_scan(step, 1) if kind == "scan" else jl.make_epoch(step, batches)

    def moved(rate):
        taken = (
            jl.make_scan(step.replace(learning_rate=rate), 1)
            if kind == "scan"
            else jl.make_epoch(step.replace(learning_rate=rate), batches)
        )
        return jnp.sum(taken(state, batches)[0].params["b1"])

    expected = jnp.sum(one(state, batches)[0].params["b1"] - state.params["b1"]) / 0.1  # SGD is linear in its rate
    assert jax.jit(jax.grad(moved))(0.1) == pytest.approx(float(expected), rel=1e-5)
