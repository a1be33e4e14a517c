"""Schedules against NumPy formulas in float64, against optax, and at the ends of time."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lessons as jl


def clamp(x):
    return np.clip(x, 0.0, 1.0)


def warmup_cosine(t, init, peak, warmup, steps, end=0.0, power=1.0):
    up = init + (peak - init) * t / max(warmup, 1)
    down = end + (peak - end) * ((1 + np.cos(np.pi * clamp((t - warmup) / (steps - warmup)))) / 2) ** power
    return np.where(t < warmup, up, down)


# name, arguments, the formula of t >= 0, and whether optax has the same under the same name
ROWS = [
    ("constant_schedule", {"value": 0.3}, lambda t: 0.3 + 0 * t, True),
    (
        "linear_schedule",
        {"init_value": 1.0, "end_value": 0.25, "transition_steps": 7, "transition_begin": 3},
        lambda t: 1 - 0.75 * clamp((t - 3) / 7),
        True,
    ),
    (
        "exponential_decay",
        {"init_value": 0.5, "transition_steps": 5, "decay_rate": 0.3},
        lambda t: 0.5 * 0.3 ** (t / 5),
        True,
    ),
    (
        "exponential_decay",
        {"init_value": 0.5, "transition_steps": 5, "decay_rate": 0.5, "staircase": True, "transition_begin": 2},
        lambda t: 0.5 * 0.5 ** (np.maximum(t - 2, 0) // 5),
        True,
    ),
    (
        "exponential_decay",
        {"init_value": 0.5, "transition_steps": 5, "decay_rate": 0.3, "end_value": 0.1},
        lambda t: np.maximum(0.5 * 0.3 ** (t / 5), 0.1),
        True,
    ),
    (
        "exponential_decay",
        {"init_value": 0.5, "transition_steps": 5, "decay_rate": 1.3, "end_value": 0.8},
        lambda t: np.minimum(0.5 * 1.3 ** (t / 5), 0.8),
        False,  # at huge counts optax has NaN: inf is clipped too late
    ),
    (
        "cosine_decay_schedule",
        {"init_value": 0.3, "decay_steps": 9, "alpha": 0.1, "exponent": 2.0},
        lambda t: 0.3 * (0.9 * ((1 + np.cos(np.pi * clamp(t / 9))) / 2) ** 2 + 0.1),
        True,
    ),
    (
        "warmup_cosine_decay_schedule",
        {"init_value": 0.1, "peak_value": 1.0, "warmup_steps": 4, "decay_steps": 11, "end_value": 0.2},
        lambda t: warmup_cosine(t, 0.1, 1.0, 4, 11, 0.2),
        True,
    ),
    (
        "warmup_cosine_decay_schedule",
        {"init_value": 0.1, "peak_value": 1.0, "warmup_steps": 0, "decay_steps": 11, "exponent": 1.5},
        lambda t: warmup_cosine(t, 0.1, 1.0, 0, 11, 0.0, 1.5),
        True,
    ),
    (
        "piecewise_constant_schedule",
        {"init_value": 1.0, "boundaries_and_scales": {3: 0.5, 7: 0.1}},
        lambda t: np.where(t < 3, 1.0, np.where(t < 7, 0.5, 0.05)),
        False,  # optax changes one update later than it documents
    ),
    ("inverse_time_decay", {"init_value": 0.2, "decay_rate": 0.5}, lambda t: 0.2 / (1 + 0.5 * t), False),
    (
        "inverse_time_decay",
        {"init_value": 0.2, "decay_rate": 1.0, "steps_per_epoch": 4, "staircase": True},
        lambda t: 0.2 / (1 + t // 4),
        False,
    ),
    (
        "manual_schedule",
        {"values": {0: 1.0, 3: 0.5, 7: 0.1}},
        lambda t: np.where(t < 3, 1.0, np.where(t < 7, 0.5, 0.1)),
        False,
    ),
]
every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
FAR = np.array([2**24 - 1, 2**24, 2**24 + 1, 2**31 - 1], dtype=np.int64)


@every_row
def test_formula(row):
    name, arguments, formula, _ = row
    schedule = getattr(jl, name)(**arguments)
    counts = np.concatenate([np.arange(16), FAR])
    with np.errstate(over="ignore"):
        expected = formula(counts.astype(np.float64))
    for call in (schedule, jax.jit(schedule.__call__), jax.vmap(schedule)):
        values = call(jnp.asarray(counts, jnp.int32))
        assert values.dtype == jnp.float32
        np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-7)
    passed = jax.jit(lambda schedule, t: schedule(t))(schedule, jnp.asarray(counts, jnp.int32))
    np.testing.assert_allclose(passed, expected, rtol=1e-6, atol=1e-7)


@every_row
def test_one_count_at_a_time(row):
    name, arguments, formula, _ = row
    schedule = getattr(jl, name)(**arguments)
    assert schedule(-1) == schedule(0)
    for count in (0, 3, 7):
        for kind in (int, np.int32, np.uint8, jnp.int32):
            value = schedule(kind(count))
            assert (value.shape, value.dtype) == ((), jnp.float32)
            np.testing.assert_allclose(value, formula(np.float64(count)), rtol=1e-6)
    with pytest.raises(TypeError, match=f"{name}: count must be a whole number"):
        schedule(1.5)


@every_row
def test_float64(row):
    name, arguments, formula, _ = row
    with jax.enable_x64(True):
        values = getattr(jl, name)(**arguments)(jnp.arange(16))
        assert values.dtype == jnp.float64
        np.testing.assert_allclose(values, formula(np.arange(16.0)), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("row", [row for row in ROWS if row[3]], ids=lambda row: row[0])
def test_optax(row):
    name, arguments, _, _ = row
    counts = jnp.arange(20)
    with jax.numpy_dtype_promotion("standard"):
        theirs = jax.vmap(getattr(optax, name)(**arguments))(counts)
    np.testing.assert_allclose(getattr(jl, name)(**arguments)(counts), theirs, rtol=2e-6, atol=1e-7)


@every_row
def test_numbers_are_leaves_and_one_trace_serves_all(row):
    name, arguments, _, _ = row
    traces = []

    @jax.jit
    def run(schedule):
        traces.append(schedule)
        return schedule(jnp.arange(5))

    schedule = getattr(jl, name)(**arguments)
    for factor in (1, 2, 3):
        scaled = jax.tree.map(lambda x, factor=factor: x * factor if isinstance(x, float) else x + factor, schedule)
        run(scaled)
    assert len(traces) == 1


def test_the_table_of_the_course():
    """a0 = 0.2, decay rate 1: 0.1, 0.067, 0.05, 0.04 in epochs 1 to 4."""
    schedule = jl.inverse_time_decay(0.2, 1.0, steps_per_epoch=50, staircase=True)
    np.testing.assert_allclose(schedule(50 * jnp.arange(1, 5)), [0.1, 0.0667, 0.05, 0.04], atol=5e-5)
    assert schedule(99) == schedule(50)


def test_large_boundaries_are_exact():
    """float32 cannot tell 2^24 from 2^24 + 1; a boundary can."""
    edge = 2**24 + 1
    for schedule in (
        jl.manual_schedule({0: 1.0, edge: 0.5}),
        jl.piecewise_constant_schedule(1.0, {edge: 0.5}),
        jl.constant_schedule(1.0).then(jl.constant_schedule(0.5), at=edge),
    ):
        for call in (schedule, lambda t, s=schedule: jax.jit(lambda s, t: s(t))(s, t)):
            assert (float(call(edge - 1)), float(call(edge))) == (1.0, 0.5)


def test_cosines_end_exactly():
    assert jl.cosine_decay_schedule(1e12, 10)(10) == 0
    assert jl.warmup_cosine_decay_schedule(0.0, 1e12, 2, 10)(10) == 0


def test_then():
    schedule = jl.linear_schedule(0.0, 1.0, 10).then(jl.cosine_decay_schedule(1.0, 20), at=10)
    same = jl.warmup_cosine_decay_schedule(0.0, 1.0, 10, 30)
    np.testing.assert_allclose(schedule(jnp.arange(40)), same(jnp.arange(40)), atol=1e-6)
    three = jl.constant_schedule(1.0).then(0.5, at=3).then(lambda count: jnp.where(count < 1, 0.0, 0.2), at=5)
    np.testing.assert_allclose(three(jnp.arange(8)), [1, 1, 1, 0.5, 0.5, 0, 0.2, 0.2], atol=1e-7)


def test_join_is_optax_join():
    ours = jl.join_schedules([jl.linear_schedule(0.0, 1.0, 3), lambda count: 2.0, jl.constant_schedule(0.5)], [3, 6])
    theirs = optax.join_schedules(
        [optax.linear_schedule(0.0, 1.0, 3), lambda count: 2.0, optax.constant_schedule(0.5)], [3, 6]
    )
    with jax.numpy_dtype_promotion("standard"):
        np.testing.assert_allclose(ours(jnp.arange(9)), [theirs(t) for t in range(9)], atol=1e-7)


def test_arithmetic():
    line = jl.linear_schedule(1.0, 0.0, 4)
    counts = jnp.arange(6)
    np.testing.assert_allclose((line * line)(counts), np.square(line(counts)), rtol=1e-6)
    np.testing.assert_allclose((line * 3.0)(counts), (3.0 * line)(counts))
    np.testing.assert_allclose((line + 1.0)(counts), 1 + line(counts))
    np.testing.assert_allclose((1.0 + line)(counts), (line + 1.0)(counts))
    np.testing.assert_allclose((line + (lambda count: 0.5))(counts), 0.5 + line(counts))
    assert 2.0 * line == jl.multiply_schedules(line, 2.0)


def test_schedules_of_schedules_vmap():
    rates = jax.vmap(lambda peak: jl.linear_schedule(peak, 0.0, 4))(jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(jax.vmap(lambda s: s(jnp.arange(3)))(rates), [[1, 0.75, 0.5], [2, 1.5, 1]])


def test_derivative():
    derivative = jax.grad(lambda peak: jnp.sum(jl.cosine_decay_schedule(peak, 10)(jnp.arange(10))))(0.3)
    np.testing.assert_allclose(derivative, np.sum((1 + np.cos(np.pi * np.arange(10) / 10)) / 2), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: jl.cosine_decay_schedule(0.1, 0),
            ValueError,
            r"decay_steps must be a whole number in \[1, 2\^31 - 1\]",
        ),
        (lambda: jl.linear_schedule(0.1, 0.0, 0), ValueError, "transition_steps"),
        (lambda: jl.linear_schedule(0.1, 0.0, 10, -1), ValueError, "transition_begin"),
        (lambda: jl.linear_schedule(0.1, 0.0, 2.5), ValueError, "transition_steps must be a whole number"),
        (lambda: jl.linear_schedule(0.1, 0.0, 2**31), ValueError, "transition_steps"),
        (lambda: jl.linear_schedule("0.1", 0.0, 10), TypeError, "init_value"),
        (lambda: jl.linear_schedule(lambda t: t, 0.0, 10), TypeError, "init_value must be .* not a schedule"),
        (lambda: jl.exponential_decay(0.1, 10, 0.0), ValueError, "decay_rate"),
        (lambda: jl.inverse_time_decay(0.1, -1.0), ValueError, "decay_rate"),
        (lambda: jl.warmup_cosine_decay_schedule(0.0, 1.0, 10, 10), ValueError, r"\(warmup_steps, decay_steps\) must"),
        (lambda: jl.join_schedules([0.1, 0.2], [10, 20]), ValueError, "2 schedules need 1 boundaries; got 2"),
        (lambda: jl.join_schedules([0.1, 0.2, 0.3], [20, 10]), ValueError, r"boundaries must increase; got \(20, 10\)"),
        (lambda: jl.join_schedules([0.1, 0.2, 0.3], [10, 10]), ValueError, "boundaries must increase"),
        (lambda: jl.join_schedules([], []), TypeError, "one schedule or more"),
        (lambda: jl.join_schedules([0.1, "x"], [10]), TypeError, "constant_schedule: value"),
        (lambda: jl.join_schedules([0.1, 0.2], 10), TypeError, "boundaries must be a list or tuple"),
        (lambda: jl.constant_schedule(0.1).then(0.2, at=1.5), ValueError, "boundaries must be a whole number"),
        (lambda: jl.piecewise_constant_schedule(0.1, {-1: 0.5}), ValueError, "must not be negative; got -1"),
        (lambda: jl.piecewise_constant_schedule(0.1, {1.5: 0.5}), TypeError, "must be whole numbers; got 1.5"),
        (lambda: jl.piecewise_constant_schedule(0.1, [0.5]), TypeError, "must map steps to numbers"),
        (lambda: jl.manual_schedule({5: 0.1}), ValueError, "must say where to begin"),
        (lambda: jl.manual_schedule({0: "x"}), TypeError, "manual_schedule: values"),
        (lambda: jl.constant_schedule(0.1) * "x", TypeError, "constant_schedule: value"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
