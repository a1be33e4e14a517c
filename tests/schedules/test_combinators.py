"""Schedules made of schedules: what they return, how long they take, and what they refuse."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lessons as jl

COUNTS = jnp.arange(-1, 40)
LINE = jl.linear_schedule(1.0, 0.0, 4)
COSINE = jl.cosine_decay_schedule(0.7, 9, alpha=0.1)
STAIRS = jl.manual_schedule({0: 1.0, 3: 0.5, 7: 0.1})
GROWTH = jl.exponential_decay(1.0, 5, 1.1)


def function(count):
    return jnp.where(count < 2, 0.9, 0.2)


KINDS = {
    "constant": jl.constant_schedule(0.4),
    "line": LINE,
    "cosine": COSINE,
    "stairs": STAIRS,
    "growth": GROWTH,
    "function": jl.constant_schedule(1.0) * function,
    "joined": LINE.then(COSINE),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def values(schedule, counts=COUNTS):
    """In float64; the numbers of the schedule closed over, and the same traced."""
    alone = np.asarray(schedule(counts), np.float64)
    traced = jax.jit(lambda schedule, counts: schedule(counts))(schedule, counts)
    np.testing.assert_allclose(traced, alone, rtol=1e-6, atol=1e-7)
    return alone


def assert_same(schedule, expected, **tolerances):
    np.testing.assert_allclose(values(schedule), expected, **{"rtol": 1e-6, "atol": 1e-7, **tolerances})


def read(schedule, counts):
    """The schedule at counts, one by one."""
    return np.array([float(schedule(int(count))) for count in counts])


# -- one after the other ----------------------------------------------------------------------------------------------


def test_then():
    schedule = jl.linear_schedule(0.0, 1.0, 10).then(jl.cosine_decay_schedule(1.0, 20))
    assert schedule.length == 30
    assert_same(schedule, values(jl.warmup_cosine_decay_schedule(0.0, 1.0, 10, 30)), atol=1e-6)
    assert_same(jl.linear_schedule(0.0, 1.0, 10).then(jl.cosine_decay_schedule(1.0, 20), at=10), values(schedule))
    three = jl.constant_schedule(1.0).then(0.5, at=3).then(function, at=5)
    np.testing.assert_allclose(three(jnp.arange(8)), [1, 1, 1, 0.5, 0.5, 0.9, 0.9, 0.2], atol=1e-7)


@every_kind
def test_then_is_join(kind):
    first = KINDS[kind]
    at = 13 if first.length is None else first.length
    assert_same(first.then(COSINE, at=at), values(jl.join_schedules([first, COSINE], [at])))
    assert first.then(COSINE, at=at).length == at + 9


def test_then_is_associative():
    a, b, c = jl.warmup(3, from_zero=True), LINE, COSINE
    assert_same(a.then(b).then(c), values(a.then(b.then(c))))
    assert a.then(b).then(c).length == a.then(b.then(c)).length == 16


def test_the_boundary_moves_with_the_length():
    """Without ``at`` it is the length, whatever that becomes; with it ``replace`` is refused."""
    schedule = jl.warmup(5, from_zero=True).then(LINE)
    longer = schedule.replace(steps=8)
    assert longer.length == 12
    assert_same(longer, values(jl.warmup(8, from_zero=True).then(LINE)))
    with pytest.raises(ValueError, match="then_schedule: warmup takes 8 updates, not 5"):
        jl.warmup(5, from_zero=True).then(LINE, at=5).replace(steps=8)


TRAPEZOID = jl.wsd_schedule(0.1, 1.0, 3, 4, 11, 0.2)  # over after 18, falls from 7 on
CYCLE = {"init_value": 0.1, "peak_value": 1.0}

COURSES = {
    "then": (LINE.then(STAIRS), None, 4 + 7),
    "then at": (jl.constant_schedule(1.0).then(STAIRS, at=3), None, 3 + 7),
    "join": (jl.join_schedules([LINE, STAIRS, LINE], [4, 12]), 12 + 4, 12),
    "cycles": (jl.sgdr_schedule([{**CYCLE, "warmup_steps": w, "decay_steps": 2 + w} for w in (1, 2, 3)]), 12, 7 + 3),
    "shift": (TRAPEZOID.shift(5), 5 + 18, 5 + 7),
    "shift of one without an end": (STAIRS.shift(5), None, 5 + 7),
    "slower": (TRAPEZOID.stretch(1.5), 27, 11),
    "faster": (TRAPEZOID.stretch(0.3), 6, 3),
    "hold": (STAIRS.hold(5), 7 + 5, 7),
    "per epoch": (TRAPEZOID.per_epoch(3), 3 * 18, 3 * 7),
    "twice": (TRAPEZOID.repeat(times=2), 2 * 18, 18 + 7),
    "three times": (TRAPEZOID.repeat(times=3), 3 * 18, 2 * 18 + 7),
    "three times, every 9": (STAIRS.repeat(every=9, times=3), 3 * 9, 2 * 9 + 7),
    "for ever": (TRAPEZOID.repeat(), None, 7),
    "clip": (TRAPEZOID.clip(high=0.5), 18, 7),
    "multiple": (2 * TRAPEZOID, 18, 7),
    "sum": (STAIRS + LINE, 7, 7),
    "product": (LINE * TRAPEZOID, 18, 7),
}


def test_the_last_of_as_many_rounds_as_there_can_be():
    """float32 cannot tell (3 * 2^29 - 1) / 3 from 2^29."""
    rounds = jl.manual_schedule({0: 1.0, 1: 0.5, 2: 0.25}).repeat(every=3, times=2**29)
    assert values(rounds, jnp.array([0, 3, 3 * 2**29 - 3, 3 * 2**29 - 1])).tolist() == [1.0, 1.0, 1.0, 0.25]


@pytest.mark.parametrize("course", COURSES)
def test_where_it_ends_and_where_something_last_begins(course):
    schedule, length, boundary = COURSES[course]
    assert schedule.length == length
    assert schedule.timed.boundary == boundary


def test_join_is_optax_join():
    pieces = [jl.linear_schedule(0.0, 1.0, 3), lambda count: 2.0, jl.constant_schedule(0.5)]
    theirs = [optax.linear_schedule(0.0, 1.0, 3), lambda count: 2.0, optax.constant_schedule(0.5)]
    for boundaries in ([3, 6], [2, 6], [5, 6]):  # run to its end, cut off, held
        ours, expected = jl.join_schedules(pieces, boundaries), optax.join_schedules(theirs, boundaries)
        with jax.numpy_dtype_promotion("standard"):
            np.testing.assert_allclose(ours(jnp.arange(9)), [expected(t) for t in range(9)], atol=1e-7)


def test_hold():
    held = LINE.hold(3).then(COSINE)
    assert (LINE.hold(3).length, held.length) == (7, 16)
    assert_same(held, values(jl.join_schedules([LINE, COSINE], [7])))
    assert jl.constant_schedule(1.0).hold(5).length == 5
    assert STAIRS.hold(5).length == 12
    assert LINE.hold(0).then(COSINE).length == 13
    assert values(STAIRS.hold(5).then(0.3))[[12, 13]].round(6).tolist() == [0.1, 0.3]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: LINE.then(COSINE, at=3),
            "then_schedule: linear_schedule takes 4 updates, not 3: its last 1 would be cut off. join_schedules ",
        ),
        (
            lambda: LINE.then(COSINE, at=10),
            "linear_schedule takes 4 updates, not 10. Write .hold(6) to stay at its last value for 6 more.",
        ),
        (
            lambda: GROWTH.then(COSINE),
            "then_schedule: exponential_decay has no end of its own; say with at= when the next schedule takes over.",
        ),
        (
            lambda: STAIRS.then(COSINE, at=6),
            "then_schedule: manual_schedule runs for 6 updates, and would never reach its boundary at 7.",
        ),
        (
            lambda: jl.constant_schedule(1.0).then(0.5, at=50).then(0.1, at=30),
            "then_schedule: then_schedule runs for 30 updates, and would never reach its boundary at 50.",
        ),
        (
            lambda: jl.join_schedules([LINE.then(COSINE), COSINE], [3]),
            "join_schedules: then_schedule runs for 3 updates, and would never reach its boundary at 4.",
        ),
        (
            lambda: jl.join_schedules([LINE, STAIRS, LINE], [4, 10]),
            "join_schedules: manual_schedule runs for 6 updates, and would never reach its boundary at 7.",
        ),
        (
            lambda: jl.exponential_decay(1.0, 10, 0.5, transition_begin=20).then(COSINE, at=5),
            "would never reach its boundary at 20.",
        ),
        (lambda: GROWTH.hold(5), "hold_schedule: exponential_decay has no end of its own; there is no last value to"),
        (lambda: GROWTH.repeat(), "repeat_schedule: exponential_decay has no end of its own; say with every= how long"),
        (
            lambda: LINE.repeat(3),
            "repeat_schedule: linear_schedule takes 4 updates, not 3: its last 1 would be cut off",
        ),
        (lambda: LINE.repeat(5), "repeat_schedule: linear_schedule takes 4 updates, not 5. Write .hold(1) to stay"),
        (lambda: STAIRS.repeat(6), "repeat_schedule: manual_schedule runs for 6 updates, and would never reach"),
        (lambda: LINE.repeat(times=2**30), "repeat_schedule: takes 4294967296 updates; counters go up to 2^31 - 1."),
        (lambda: LINE.then(COSINE, at=1.5), "then_schedule: at must be a whole number in [0, 2^31 - 1]; got 1.5."),
        (lambda: LINE.shift(-1), "shift_schedule: steps must be a whole number in [0, 2^31 - 1]; got -1."),
        (lambda: LINE.hold(-1), "hold_schedule: steps must be a whole number in [0, 2^31 - 1]; got -1."),
        (lambda: LINE.per_epoch(0), "per_epoch_schedule: steps_per_epoch must be a whole number in [1, 2^31 - 1]"),
        (lambda: LINE.clip(), "clip_schedule: needs low, high or both."),
        (lambda: LINE.clip(0.5, 0.1), "clip_schedule: low must not be above high; got 0.5 and 0.1."),
        (lambda: LINE.stretch(0), "stretch: factor must be a Python number in (0, inf); got 0."),
        (lambda: LINE.stretch(float("nan")), "stretch: factor must be a Python number in (0, inf); got nan."),
        (lambda: LINE.stretch(40_000), "stretch: factor must be in [1 / 32767, 32767]; got 40000."),
        (lambda: LINE.stretch(1e-9), "stretch: factor must be in [1 / 32767, 32767]; got 1e-09."),
        (lambda: jl.stretch_schedule(LINE, 40_000), "stretch_schedule: to must be at most 32767; got 40000."),
        (
            lambda: jl.fraction_of(10).between("a", 0.5),
            "fraction_of: a share of the run must be a number in [0, 1]; got 'a'",
        ),
        (lambda: LINE / 0, "linear_schedule: cannot be divided by 0."),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        call()
    assert message in str(error.value)


def test_only_numbers_divide():
    with pytest.raises(TypeError, match="linear_schedule: only a number can divide a schedule"):
        LINE / COSINE


def test_numbers_of_numpy():
    for number in (np.float32(2), np.float64(2), np.array(2.0), jnp.float32(2)):
        assert number * LINE == LINE * number
        assert_same(number - LINE, 2 - values(LINE))
    assert LINE.stretch(np.float32(1.1)) == LINE.stretch(1.1)
    with pytest.raises(
        TypeError, match=r"second must be a finite number, or a schedule, a single number; got an array of shape \(3,\)"
    ):
        np.ones(3) * LINE  # NumPy would make an array of three schedules


def test_unknown_lengths_are_let_through():
    """Inside jit a length may be a tracer."""

    @jax.jit
    def run(steps, at, count):
        line = jl.linear_schedule(1.0, 0.0, steps)
        return line.then(0.5, at=at)(count), line.then(0.5)(count), line.repeat()(count), line.hold(at).then(0.5)(count)

    counts = jnp.arange(8)
    expected = [[1, 0.5, 0.5, 0.5], [1, 0.75, 0.5, 0.25], [1, 0.75, 0.5, 0.25], [1, 0.75, 0.5, 0.25]]
    for actual, first in zip(run(4, 1, counts), expected, strict=True):
        np.testing.assert_allclose(actual[:4], first)
    np.testing.assert_allclose(run(4, 1, counts)[3][4:], [0, 0.5, 0.5, 0.5])


# -- arithmetic -------------------------------------------------------------------------------------------------------


@every_kind
def test_arithmetic(kind):
    a, x = KINDS[kind], values(KINDS[kind])
    assert_same(a * a, x**2)
    assert_same(3.0 * a, 3 * x)
    assert_same(a * 3, 3 * x)
    assert_same(a + 1, 1 + x)
    assert_same(0.5 + a, 0.5 + x)
    assert_same(a - 0.5, x - 0.5)
    assert_same(0.5 - a, 0.5 - x)
    assert_same(-a, -x)
    assert_same(a - LINE, x - values(LINE))
    assert_same(a / 3, x / 3)
    assert_same(a + function, x + values(KINDS["function"]))
    assert_same(function - a, values(KINDS["function"]) - x)
    assert_same(a.clip(0.2, 0.5), np.clip(x, 0.2, 0.5))
    assert_same(a.clip(low=0.3), np.maximum(x, 0.3))
    assert_same(a.clip(high=0.3), np.minimum(x, 0.3))


def test_arithmetic_makes_values():
    assert jl.multiply_schedules(LINE, 2.0) == 2.0 * LINE
    assert jl.add_schedules(LINE, COSINE) == LINE + COSINE
    assert 2.0 * LINE != 3.0 * LINE
    assert (2.0 * LINE).replace(value=3.0) == 3.0 * LINE


def test_lengths_of_sums_and_products():
    """Over when both are; with something that goes on they have no end, but must not be cut off earlier."""
    for both in (jl.add_schedules, jl.multiply_schedules):
        assert both(LINE, COSINE).length == 9
        assert both(0.5, COSINE).length == 9
        assert both(STAIRS, LINE).length == 7
        assert both(STAIRS, 0.5).length is None
        assert both(GROWTH, COSINE).length is None
        with pytest.raises(ValueError, match="runs for 8 updates, and would never reach its boundary at 9"):
            both(GROWTH, COSINE).then(0.1, at=8)
        assert both(GROWTH, COSINE).then(0.1, at=9).length is None
    assert (LINE.clip(0.1), (-LINE), LINE / 2)[0].length == 4
    assert (-LINE).length == (LINE / 2).length == (1 - LINE).length == 4


# -- other times ------------------------------------------------------------------------------------------------------


@every_kind
def test_shift(kind):
    a = KINDS[kind]
    assert_same(a.shift(6), read(a, np.asarray(COUNTS) - 6))
    assert a.shift(2).shift(4)(COUNTS).tolist() == a.shift(6)(COUNTS).tolist()
    assert a.shift(6).length == (None if a.length is None else a.length + 6)


@every_kind
def test_per_epoch(kind):
    a = KINDS[kind]
    assert_same(a.per_epoch(3), read(a, np.asarray(COUNTS) // 3))
    assert a.per_epoch(2).per_epoch(3)(COUNTS).tolist() == a.per_epoch(6)(COUNTS).tolist()
    assert a.per_epoch(3).length == (None if a.length is None else 3 * a.length)


@every_kind
@pytest.mark.parametrize("factor", [1, 3, 0.5, 1.2, 1 / 3, 2.75])
def test_stretch(kind, factor):
    a = KINDS[kind]
    time = np.maximum(np.asarray(COUNTS), 0) / factor
    known = np.arange(200)
    assert_same(a.stretch(factor), np.interp(time, known, read(a, known)), rtol=5e-6)
    if a.length is not None:
        assert a.stretch(factor).length == int(np.ceil(round(a.length * factor, 9)))


def test_stretch_of_a_curve_is_the_curve():
    np.testing.assert_allclose(LINE.stretch(2.5)(COUNTS), jl.linear_schedule(1.0, 0.0, 10)(COUNTS), atol=1e-6)
    long = jl.cosine_decay_schedule(1.0, 1000).stretch(2)
    counts = jnp.arange(0, 2100, 7)
    np.testing.assert_allclose(long(counts), jl.cosine_decay_schedule(1.0, 2000)(counts), atol=2e-6)


def test_stretch_far_away():
    """In whole numbers: at 2^31 - 1 nothing overflows, and a boundary above 2^24 is where it should be."""
    edge = 2**25 + 1
    stairs = jl.manual_schedule({0: 1.0, edge: 0.5})
    assert (stairs.stretch(3)(3 * edge - 3), stairs.stretch(3)(3 * edge)) == (1, 0.5)
    for factor in (1 / 32767, 32767 / 32766):
        assert (stairs.stretch(factor)(0), stairs.stretch(factor)(2**31 - 1)) == (1, 0.5)
    slow, edge = jl.manual_schedule({0: 1.0, 2**16: 0.5}).stretch(32767), 2**16 * 32767
    assert (slow(edge - 32767), slow(edge), slow(2**31 - 1)) == (1, 0.5, 0.5)
    with pytest.raises(ValueError, match="stretch_schedule: takes 1099478106111 updates"):
        stairs.stretch(32767)
    lengths = jax.jit(lambda steps: jl.linear_schedule(1.0, 0.0, steps).stretch(1.25).length)(10**9)
    assert lengths == 1_250_000_000


def test_repeat():
    assert_same(LINE.repeat(), read(LINE, np.maximum(COUNTS, 0) % 4))
    assert LINE.repeat().length is None
    three = LINE.repeat(times=3)
    assert three.length == 12
    assert_same(three, np.where(COUNTS < 12, read(LINE, np.maximum(COUNTS, 0) % 4), 0))
    assert_same(GROWTH.repeat(6), read(GROWTH, np.maximum(COUNTS, 0) % 6))
    assert_same(STAIRS.repeat(8, times=2), np.where(COUNTS < 16, read(STAIRS, np.maximum(COUNTS, 0) % 8), 0.1))
    longer = LINE.repeat().replace(transition_steps=5)
    assert_same(longer, values(jl.linear_schedule(1.0, 0.0, 5).repeat()))
    assert_same(jl.cosine_decay_schedule(1.0, 7).repeat(), values(jl.cosine_decay_restarts(1.0, 7, t_mul=1)))
    assert LINE.repeat()(2**31 - 1) == LINE((2**31 - 1) % 4)
    with pytest.raises(ValueError, match="clip_schedule runs for 18 updates, and would never reach its boundary at 19"):
        jl.join_schedules([LINE.hold(1).then(COSINE).repeat(times=2).clip(0.1), 0.5], [18])


def test_a_warm_restart_in_the_middle_of_a_run():
    """At 7 updates of a run that is resumed, the schedule begins anew."""
    schedule = jl.warmup(2, 0.3, from_zero=True).then(jl.cosine_decay_schedule(0.3, 10))
    tx = jl.sgd(schedule)
    state = tx.init(jnp.zeros(()))
    for _ in range(7):
        _, state = tx.update(jnp.ones(()), state)
    resumed, rates = tx.replace(learning_rate=schedule.shift(7)), []
    for _ in range(12):
        update, state = resumed.update(jnp.ones(()), state)
        rates.append(-float(update))
    np.testing.assert_allclose(rates, schedule(jnp.arange(12)), atol=1e-7)


def test_a_run_in_shares():
    run = jl.fraction_of(1000)
    rate = jl.warmup(run(0.05), 1e-3, from_zero=True).then(jl.cosine_decay_schedule(1e-3, run.between(0.05, 1)))
    assert rate.length == 1000
    assert_same(rate, values(jl.warmup_cosine_decay_schedule(0.0, 1e-3, 50, 1000)))


# -- values -----------------------------------------------------------------------------------------------------------

COMBINED = {
    "then": (lambda a: a.then(COSINE, at=None if a.length else 9), "then_schedule"),
    "join": (lambda a: jl.join_schedules([a, 0.5], [20]), "join_schedules"),
    "hold": (lambda a: a.hold(3), "hold_schedule"),
    "add": (lambda a: a + 0.5, "add_schedules"),
    "multiply": (lambda a: a * 0.5, "multiply_schedules"),
    "clip": (lambda a: a.clip(0.2, 0.4), "clip_schedule"),
    "shift": (lambda a: a.shift(5), "shift_schedule"),
    "per_epoch": (lambda a: a.per_epoch(3), "per_epoch_schedule"),
    "stretch": (lambda a: a.stretch(1.5), "stretch_schedule"),
    "repeat": (lambda a: a.repeat(None if a.length else 9), "repeat_schedule"),
}


@pytest.mark.parametrize("kind", ["line", "stairs"])
@pytest.mark.parametrize("combinator", COMBINED)
def test_combined_schedules_are_values(combinator, kind):
    make, name = COMBINED[combinator]
    schedule = make(KINDS[kind])
    assert schedule.name == name
    assert schedule == make(KINDS[kind])
    assert hash(schedule) == hash(make(KINDS[kind]))
    assert schedule != make(GROWTH if combinator != "hold" else COSINE)
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert eval(repr(schedule), vars(jl).copy()) == schedule
    assert values(schedule)[3] != values(0.9 * schedule)[3]


@pytest.mark.parametrize("combinator", COMBINED)
def test_one_trace_serves_a_family(combinator):
    traces = []

    @jax.jit
    def run(schedule):
        traces.append(schedule)
        return schedule(jnp.arange(30))

    schedule = COMBINED[combinator][0](LINE)
    scaled = [
        jax.tree.map(lambda x, k=k: x * (1 - k / 20) if isinstance(x, float) else x + k, schedule) for k in range(10)
    ]
    results = {np.asarray(run(member)).tobytes() for member in scaled}
    assert len(traces) == 1
    assert len(results) == 10


def test_a_schedule_of_ones_own_may_have_a_length():
    @jl.schedule
    def two_lines(peak: jl.types.Scalar, steps: jl.types.Steps):
        def value(count):
            return peak * jnp.where(count < steps, 1.0, 0.5)

        return jl.Timed(value, 2 * steps, boundary=steps)

    assert two_lines(0.3, 5).length == 10
    assert two_lines(0.3, 5).then(LINE).length == 14
    with pytest.raises(ValueError, match="two_lines runs for 4 updates, and would never reach its boundary at 5"):
        jl.join_schedules([two_lines(0.3, 5), LINE], [4])
    jl.join_schedules([two_lines(0.3, 5), LINE], [6])
