"""A grid of hyperparameters under vmap, against the loop over its points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lessons as jl

PARAMS = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([0.1, -0.3])}
CURVATURE = {"w": jnp.array([[1.0, 4.0], [2.0, 0.5]]), "b": jnp.array([3.0, 1.0])}


def run(tx):
    """Eight steps on a quadratic bowl: the parameters after each."""

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(jax.tree.map(jnp.multiply, CURVATURE, params), state, params)
        params = jl.apply_updates(params, updates)
        return (params, state), params

    return jax.lax.scan(step, (PARAMS, tx.init(PARAMS)), None, length=8)[1]


def rate(peak):
    return jl.warmup_cosine_decay_schedule(0.0, peak, 2, 8)


GRIDS = {
    "adamw": lambda: jl.grid(jl.adamw, learning_rate=[0.01, 0.1], weight_decay=[0.0, 0.1, 0.3]),
    "arrays and ranges": lambda: jl.grid(jl.adamw, learning_rate=np.logspace(-3, -1, 3), weight_decay=range(3)),
    "a jax array": lambda: jl.grid(jl.adam, learning_rate=jnp.array([0.1, 0.2])),
    "schedules": lambda: jl.grid(jl.adamw, learning_rate=[rate(0.1), rate(0.3)], b1=(0.5, 0.9)),
    "schedules that the decay follows": lambda: jl.grid(
        jl.adamw, learning_rate=[rate(0.1), rate(0.3)], weight_decay=[0.0, 0.2], decay="schedule"
    ),
    "fixed arguments": lambda: jl.grid(jl.adamw, learning_rate=[0.1, 0.2], weight_decay=0.3, nesterov=True, b1=0.5),
    "a chain": lambda: jl.grid(
        lambda learning_rate, max_norm: jl.chain(jl.clip_by_global_norm(max_norm), jl.sgd(learning_rate)),
        learning_rate=[0.1, 0.2],
        max_norm=[0.5, 5.0],
    ),
    "whole numbers": lambda: jl.grid(
        lambda peak, steps: jl.sgd(jl.cosine_decay_schedule(peak, steps)), peak=[0.1, 0.2], steps=[4, 6]
    ),
    "transformations": lambda: jl.grid(
        jl.lookahead, fast_optimizer=[jl.sgd(0.05), jl.sgd(0.1)], slow_step_size=[0.5, 0.9], sync_period=2
    ),
}


@pytest.mark.parametrize("name", GRIDS)
def test_vmap_over_a_grid_is_the_loop(name):
    lanes = GRIDS[name]()
    traces = []

    @jax.jit
    @jax.vmap
    def runs(tx):
        traces.append(tx)
        return run(tx)

    together = runs(lanes.tx)
    runs(jax.tree.map(lambda leaf: leaf * 1, lanes.tx))
    assert len(traces) == 1
    assert len(lanes) == len(lanes.points) > 1
    alone = [run(tx) for tx in lanes]
    jax.tree.map(
        lambda batch, *single: np.testing.assert_allclose(batch, np.stack(single), rtol=2e-5, atol=1e-6),
        together,
        *alone,
    )
    last = np.asarray(together["w"][:, -1]).reshape(len(lanes), -1)
    assert all(np.max(np.abs(a - b)) > 1e-4 for i, a in enumerate(last) for b in last[:i])


def test_the_last_axis_is_fastest():
    lanes = jl.grid(jl.adamw, learning_rate=[1e-3, 1e-2], weight_decay=[0.0, 0.1])
    assert lanes.points == [
        {"learning_rate": 1e-3, "weight_decay": 0.0},
        {"learning_rate": 1e-3, "weight_decay": 0.1},
        {"learning_rate": 1e-2, "weight_decay": 0.0},
        {"learning_rate": 1e-2, "weight_decay": 0.1},
    ]
    for i, point in enumerate(lanes.points):
        assert lanes[i] == jl.adamw(**point)
        for name, value in point.items():
            assert lanes.tx.arguments[name][i] == np.float32(value)
    assert all(leaf.shape == (4,) for leaf in jax.tree.leaves(lanes.tx))
    assert repr(lanes) == "Grid(4 of adamw: learning_rate, weight_decay)"


def test_float64():
    with jax.enable_x64(True):
        lanes = jl.grid(jl.adam, learning_rate=[0.1, 0.2])
        assert float(lanes.tx.arguments["b2"][0]) == 0.999


def with_momentum_if_fast(learning_rate):
    return jl.sgd(learning_rate, 0.9 if learning_rate > 0.1 else None)


def with_momentum_if_fast_and_steady(learning_rate, factor):
    return jl.sgd(learning_rate, 0.9 if learning_rate * factor > 0.3 else None)


def test_a_factory_may_take_any_keywords():
    def any_sgd(**keywords):
        return jl.sgd(**keywords)

    assert jl.grid(any_sgd, learning_rate=[0.1, 0.2]).points == [{"learning_rate": 0.1}, {"learning_rate": 0.2}]


ERRORS = {
    "unknown": (lambda: jl.grid(jl.adamw, learning_rte=[0.1]), TypeError, "Did you mean 'learning_rate'?"),
    "empty": (lambda: jl.grid(jl.adamw, learning_rate=[]), ValueError, "grid of adamw: learning_rate is empty"),
    "static": (
        lambda: jl.grid(jl.adamw, learning_rate=[0.1], nesterov=[False, True]),
        TypeError,
        "nesterov is no number but part of the structure, and with False and True there are two programs",
    ),
    "a word": (
        lambda: jl.grid(jl.adamw, learning_rate=[0.1, 0.2], decay=["lr", "schedule"]),
        TypeError,
        "decay is no number but part of the structure",
    ),
    "out of range": (
        lambda: jl.grid(jl.adamw, learning_rate=[0.1], b1=[0.9, 1.5]),
        ValueError,
        r"at learning_rate=0.1, b1=1.5: adamw: b1 must be a finite number in \[0, 1\)",
    ),
    "a matrix": (lambda: jl.grid(jl.adam, learning_rate=np.ones((2, 2))), TypeError, r"an array of shape \(2, 2\)"),
    "two families": (
        lambda: jl.grid(jl.adam, learning_rate=[rate(0.1), jl.constant_schedule(0.1)]),
        TypeError,
        "warmup_cosine_decay_schedule.* and constant_schedule.* differ in structure",
    ),
    "numbers among schedules": (
        lambda: jl.grid(jl.adam, learning_rate=[0.1, jl.constant_schedule(0.1)]),
        TypeError,
        "0.1 and constant_schedule.* differ in structure. Write constant_schedule",
    ),
    "a schedule where none is taken": (
        lambda: jl.grid(jl.momo, lower_bound=[jl.constant_schedule(0.1)]),
        TypeError,
        "lower_bound must be a finite number, not a schedule",
    ),
    "a factory with ifs": (
        lambda: jl.grid(with_momentum_if_fast, learning_rate=[0.1, 0.2]),
        TypeError,
        "learning_rate is no number but part of the structure",
    ),
    "a factory with ifs of two arguments": (
        lambda: jl.grid(with_momentum_if_fast_and_steady, learning_rate=[0.1, 0.2], factor=[1.0, 2.0]),
        TypeError,
        r"sgd\(.*\) and sgd\(.*momentum=0.9\) differ in structure. Make a grid for each",
    ),
    "no optimizer": (lambda: jl.grid(lambda a: (a, a), a=[1.0]), TypeError, "must return an optimizer"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    make, kind, message = ERRORS[case]
    with pytest.raises(kind, match=message):
        make()
