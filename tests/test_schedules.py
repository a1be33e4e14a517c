"""Every schedule against its formula in float64 and against optax, at every count and at the ends of time."""

import functools
import inspect
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bad_inputs import bad_input
from schedule_rows import ROWS, Row

import jaxopt_lessons as jl

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.label)
COUNTS = np.arange(-1, 45)
FAR = np.array([2**24 - 1, 2**24, 2**24 + 1, 2**31 - 1], dtype=np.int64)
ALL = np.concatenate([COUNTS, FAR])
VARIANTS = [(row, {}) for row in ROWS] + [(row, {name: row.others[name]}) for row in ROWS for name in row.others]
COMBINATORS = {
    "add_schedules",
    "clip_schedule",
    "hold_schedule",
    "join_schedules",
    "multiply_schedules",
    "per_epoch_schedule",
    "repeat_schedule",
    "shift_schedule",
    "stretch_schedule",
    "then_schedule",
}
"""They have tests of their own, in ``schedules/test_combinators.py``."""


def make(row: Row, **changes) -> jl.Schedule:
    return getattr(jl, row.name)(**{**row.arguments, **changes})


def expected(row: Row, counts, **changes):
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        return row.formula(np.maximum(counts, 0).astype(np.float64), **{**row.arguments, **changes})


def variant_name(variant):
    row, changes = variant
    return "-".join([row.label, *changes])


@functools.cache
def compiled():
    """The schedule as an argument: its numbers are traced."""
    return jax.jit(lambda schedule, counts: schedule(counts))


@pytest.mark.parametrize("variant", VARIANTS, ids=variant_name)
def test_formula(variant):
    """At every count from -1 to past the end, and far away; the numbers closed over and traced."""
    row, changes = variant
    schedule, counts = make(row, **changes), jnp.asarray(ALL, jnp.int32)
    for values in (schedule(counts), compiled()(schedule, counts)):
        assert values.dtype == jnp.float32
        np.testing.assert_allclose(values, expected(row, ALL, **changes), rtol=2e-6, atol=1e-7)


@every_row
def test_jit_and_vmap(row: Row):
    schedule, counts = make(row), jnp.asarray(ALL, jnp.int32)
    for call in (jax.jit(schedule.__call__), jax.vmap(schedule), jax.jit(jax.vmap(schedule))):
        np.testing.assert_allclose(call(counts), expected(row, ALL), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v[1]], ids=variant_name)
def test_every_argument_matters(variant):
    """The other value of an argument moves the values by far more than the tolerance above."""
    row, changes = variant
    assert np.max(np.abs(expected(row, COUNTS, **changes) - expected(row, COUNTS))) > 1e-3


def public_schedules():
    made = {name: f for name, f in vars(jl).items() if inspect.isfunction(f) and hasattr(f, "_specification")}
    names = {name for name, f in made.items() if f._specification.kind is jl.Schedule}
    return sorted(names - COMBINATORS - {"schedule"})


@pytest.mark.parametrize("name", public_schedules())
def test_the_table_knows_every_argument(name):
    rows = [row for row in ROWS if row.name == name]
    assert set(inspect.signature(getattr(jl, name)).parameters) == {other for row in rows for other in row.others}


def test_all_of_optax_is_there():
    """All of ``optax.schedules`` but its types and ``inject_hyperparams``, with its arguments and their defaults."""
    names = [n for n in dir(optax.schedules) if inspect.isfunction(getattr(optax.schedules, n)) and "inject" not in n]
    assert len(names) >= 14
    for name in names:
        theirs = inspect.signature(getattr(optax, name)).parameters.values()
        ours = inspect.signature(getattr(jl, name)).parameters.values()
        assert [(p.name, p.default) for p in ours] == [(p.name, p.default) for p in theirs]


@pytest.mark.parametrize("row", [row for row in ROWS if row.optax], ids=lambda row: row.label)
def test_optax(row: Row):
    counts = jnp.arange(45)
    theirs = getattr(optax, row.name)(**row.arguments)
    with jax.numpy_dtype_promotion("standard"):
        values = np.array([theirs(count) for count in counts])
    np.testing.assert_allclose(make(row)(counts), values, rtol=2e-6, atol=1e-7)


@every_row
def test_one_count_at_a_time(row: Row):
    schedule = make(row)
    assert schedule(-1) == schedule(0)
    for count in (0, 3, 7):
        for kind in (int, np.int32, np.uint8, jnp.int32):
            value = schedule(kind(count))
            assert (value.shape, value.dtype) == ((), jnp.float32)
            np.testing.assert_allclose(value, expected(row, np.float64(count)), rtol=2e-6, atol=1e-7)
    assert schedule(jnp.zeros((2, 3), jnp.int32)).shape == (2, 3)
    for count in (1.5, 2.0, jnp.ones(2), True):
        with pytest.raises(TypeError, match=f"{row.name}: count must be a whole number"):
            schedule(count)


@every_row
def test_float64(row: Row):
    with jax.enable_x64(True):
        for counts in (jnp.asarray(COUNTS, jnp.int32), jnp.asarray(COUNTS, jnp.int64)):
            values = make(row)(counts)
            assert values.dtype == jnp.float64
            np.testing.assert_allclose(values, expected(row, COUNTS), rtol=1e-13, atol=1e-14)


@every_row
def test_one_trace_serves_a_family(row: Row):
    """Numbers are leaves: of ten schedules the first one compiles, and each has its own values."""
    traces = []

    @jax.jit
    def run(schedule):
        traces.append(schedule)
        return schedule(jnp.arange(30))

    schedule = make(row)
    scaled = [
        jax.tree.map(lambda x, k=k: x * (1 - k / 20) if isinstance(x, float) else x + k, schedule) for k in range(10)
    ]
    values = [run(member) for member in scaled]
    assert len(traces) == 1
    assert len({member.tobytes() for member in map(np.asarray, values)}) == 10


@every_row
def test_length(row: Row):
    """After its length a schedule stays as it is, and one update before it was not there yet."""
    schedule = make(row)
    assert schedule.length == row.length
    assert schedule.timed.boundary == row.boundary
    if row.length is not None:
        values = np.asarray(schedule(jnp.asarray(row.length + np.arange(-1, 20), jnp.int32)))
        assert np.all(values[1:] == values[1])
        assert (values[0] == values[1]) == row.early


@every_row
def test_values(row: Row):
    schedule = make(row)
    assert schedule == make(row)
    assert hash(schedule) == hash(make(row))
    assert all(schedule != make(row, **{name: other}) for name, other in row.others.items())
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert eval(repr(schedule), {name: getattr(jl, name) for name in public_schedules()}) == schedule
    (name, other), *_ = row.others.items()
    assert schedule.replace(**{name: other}) == make(row, **{name: other})


@every_row
def test_derivatives_are_finite(row: Row):
    """Also at the end, where a root or a power of 0 would have an infinite one, and with an argument of 0."""
    counts = jnp.arange(30)
    zeros = [{name: other} for name, other in row.others.items() if other == 0]
    for changed in [{}, *zeros]:
        schedule = make(row, **changed)
        derivative = jax.jit(jax.grad(lambda schedule: jnp.sum(schedule(counts)), allow_int=True))(schedule)
        floats = [leaf for leaf in jax.tree.leaves(derivative) if leaf.dtype != jax.dtypes.float0]
        assert floats
        assert all(np.isfinite(leaf) for leaf in floats), changed
        assert any(leaf != 0 for leaf in floats)


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
        jl.constant_schedule(1.0).hold(edge).then(0.5),
        jl.step_decay(1.0, edge, 0.5),
        jl.halving_schedule(1.0, edge),
        jl.multistep_decay(1.0, [edge], 0.5),
        jl.inverse_time_decay(1.0, 1.0, edge, staircase=True),
        jl.manual_schedule({0: 1.0, 1: 0.5}).per_epoch(edge),
        jl.manual_schedule({0: 1.0, 1: 0.5}).shift(edge - 1),
    ):
        for call in (schedule, lambda t, s=schedule: compiled()(s, t)):
            assert (float(call(edge - 1)), float(call(edge))) == (1.0, 0.5)


@bad_input(50)
@pytest.mark.parametrize("x64", [False, True])
def test_counts_that_no_counter_reaches(x64):
    with jax.enable_x64(x64):
        line = jl.linear_schedule(1.0, 0.0, 4)
        for count in (2**31, 2**40, np.int64(2**40), np.uint64(2**63), 2**70):
            assert line(count) == 0.0
        assert line(np.int64(-(2**40))) == line(-(2**70)) == 1.0


def test_the_ends_of_time_are_read_in_whole_numbers():
    """Where a float32 time would have lost its last digits: just before the end of a long decay."""
    steps = 2**31 - 1
    for schedule in (jl.linear_to_zero(1.0, steps), jl.polynomial_schedule(1.0, 0.0, 1.0, steps)):
        np.testing.assert_allclose(schedule(steps - 5), 5 / steps, rtol=1e-6)
    end = jl.cosine_decay_restarts(1.0, 2**30, t_mul=1)
    assert (end(2**30 - 1), end(2**30)) == (0, 1)
    assert jl.cyclic_schedule(0.0, 1.0, 2**29)(2**29) == 1
    with pytest.raises(ValueError, match=r"takes 2147483648 updates; counters go up to 2\^31 - 1"):
        jl.linear_schedule(1.0, 0.0, steps, 1)
    with pytest.raises(ValueError, match="cyclic_schedule: takes 4294967294 updates"):
        jl.cyclic_schedule(0.0, 1.0, steps)


def test_ends_are_exact():
    for schedule in (
        jl.cosine_decay_schedule(1e12, 10),
        jl.warmup_cosine_decay_schedule(0.0, 1e12, 2, 10),
        jl.linear_to_zero(1e12, 10),
        jl.rex_schedule(1e12, 10),
        *(jl.wsd_schedule(0.0, 1e12, 2, 3, 5, cooldown=c) for c in ("linear", "1-sqrt", "cosine", "power")),
    ):
        assert schedule(10) == 0
        assert schedule(9) > 0


def test_the_first_values_of_a_warm_up():
    """optax's convention, 0 at first, wherever optax has the schedule; both where the name says so."""
    assert jl.warmup(10, 1e-3, from_zero=True)(0) == 0
    np.testing.assert_allclose(
        jl.warmup(10, 1e-3, from_zero=False)(jnp.array([0, 8, 9])), [1e-4, 9e-4, 1e-3], rtol=1e-6
    )
    assert jl.warmup(1, 1e-3, from_zero=False)(0) == jnp.float32(1e-3)
    assert jl.wsd_schedule(0.0, 1.0, 10, 5, 5)(0) == 0
    assert jl.noam_schedule(1, 4)(0) == 0.125
    with pytest.raises(TypeError, match="missing a required argument: 'from_zero'"):
        jl.warmup(10, 1e-3)


def test_schedules_of_schedules_vmap():
    rates = jax.vmap(lambda peak: jl.linear_schedule(peak, 0.0, 4))(jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(jax.vmap(lambda s: s(jnp.arange(3)))(rates), [[1, 0.75, 0.5], [2, 1.5, 1]])
    shares = jnp.array([0.25, 0.5])
    rates = jax.vmap(lambda pct: jl.cosine_onecycle_schedule(8, 1.0, pct))(shares)
    assert np.argmax(jax.vmap(lambda s: s(jnp.arange(9)))(rates), axis=1).tolist() == [2, 4]


def test_derivative():
    derivative = jax.grad(lambda peak: jnp.sum(jl.cosine_decay_schedule(peak, 10)(jnp.arange(10))))(0.3)
    np.testing.assert_allclose(derivative, np.sum((1 + np.cos(np.pi * np.arange(10) / 10)) / 2), rtol=1e-6)


def test_phases_of_one_cycle_are_the_shares_for_every_length():
    """Products such as 0.29 * 100, a little below a whole number in floating point, are that number, traced or not."""
    for steps in range(10, 400):
        for share in (0.1, 0.29, 0.3, 0.57):
            schedule = jl.cosine_onecycle_schedule(steps, 1.0, share)
            top = int(share * steps + 1e-9)
            assert schedule.timed.boundary == top
    with jax.enable_x64(True):
        assert jl.cosine_onecycle_schedule(100, 1.0, 0.29).timed.boundary == 29


@pytest.mark.parametrize("boundaries", [{0: 0.5}, {0: 0.5, 4: 0.2}, {}, None], ids=str)
@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_a_boundary_at_the_beginning_and_none_at_all(kind, boundaries):
    ours = jl.piecewise_interpolate_schedule(kind, 0.8, boundaries)
    theirs = optax.piecewise_interpolate_schedule(kind, 0.8, boundaries)
    counts = jnp.arange(8)
    with jax.numpy_dtype_promotion("standard"):
        np.testing.assert_allclose(ours(counts), [theirs(count) for count in counts], rtol=1e-6)
    assert ours.length == (max(boundaries) if boundaries else None)
    slopes = jax.jacobian(lambda first: jl.piecewise_interpolate_schedule(kind, first, boundaries)(counts))(1.0)
    np.testing.assert_allclose(slopes, ours(counts) / 0.8, rtol=1e-6)


def test_one_cycle_and_its_momentum_in_an_optimizer():
    tx = jl.sgd(
        jl.cosine_onecycle_schedule(4, 1.0, 0.5), momentum=jl.cosine_onecycle_momentum_schedule(4, 0.5, 0.9, 0.5)
    )
    rates, momenta = [0.04, 0.52, 1.0, 0.5], [0.9, 0.7, 0.5, 0.7]
    state, trace = tx.init(jnp.zeros(())), 0.0
    for rate, momentum in zip(rates, momenta, strict=True):
        trace = 1 + momentum * trace
        update, state = tx.update(jnp.ones(()), state)
        np.testing.assert_allclose(update, -rate * trace, rtol=1e-5)


def test_one_cycle_and_its_momentum_turn_together():
    for rate, momentum in (
        (jl.cosine_onecycle_schedule(37, 1.0, 0.4), jl.cosine_onecycle_momentum_schedule(37, pct_start=0.4)),
        (jl.linear_onecycle_schedule(37, 1.0, 0.4), jl.linear_onecycle_momentum_schedule(37, pct_start=0.4)),
    ):
        assert np.argmax(rate(jnp.arange(38))) == np.argmin(momentum(jnp.arange(38))) == 14


@pytest.mark.parametrize("end_value", [0.5, 2.0])
def test_a_decay_by_1_has_its_limit_above(end_value):
    """As in optax, where rates from 1 on have an upper limit and only those below 1 a lower one."""
    ours, theirs = (make(1.0, 5, 1.0, end_value=end_value) for make in (jl.exponential_decay, optax.exponential_decay))
    assert float(ours(3)) == float(theirs(3)) == min(1.0, end_value)


def test_chebyshev_orders_as_many_steps_as_there_are_counts():
    def order(count: int, steps: int) -> int:
        k = order(count // 2, steps // 2) if steps > 1 else 0
        return steps - 1 - k if count % 2 else k

    steps, least, most = 2**30, 0.1, 1.0
    counts = [0, 1, 2, 3, 2**29, 2**29 + 1, 2**30 - 1]
    k = np.array([order(count, steps) for count in counts], float)
    expected = 1 / ((most + least) / 2 - (most - least) / 2 * np.cos((k + 0.5) * np.pi / steps))
    values = jl.chebyshev_schedule(least, most, steps)(jnp.array(counts))
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    assert [order(count, 4) for count in range(4)] == [0, 3, 1, 2]
    with pytest.raises(ValueError, match=r"steps must be a whole number in \[1, 2\^30\]; got 2147483648"):
        jl.chebyshev_schedule(least, most, 2**31)


def test_chebyshev_steps_are_the_best_for_a_quadratic():
    """After all steps the error is that of the Chebyshev polynomial, and no step size order spoils it on the way."""
    schedule = jl.chebyshev_schedule(0.1, 1.0, steps=32)
    curvatures = np.linspace(0.1, 1.0, 101)
    rates = np.asarray(schedule(jnp.arange(32)), np.float64)
    assert sorted(np.argsort(np.argsort(-rates))) == list(range(32)), "every root once"
    error = np.max(np.abs(np.prod(1 - np.outer(rates, curvatures), axis=0)))
    bound = 1 / np.cosh(32 * np.arccosh(1.1 / 0.9))
    assert error <= bound * 1.001
    assert np.max(np.abs((1 - 2 / 1.1 * curvatures) ** 32)) > 100 * bound, "one step size for all does worse"
    so_far = np.cumprod(1 - np.outer(rates, curvatures), axis=0)
    assert np.max(np.abs(so_far)) < 30
    in_order = np.cumprod(1 - np.outer(np.sort(rates)[::-1], curvatures), axis=0)
    assert np.max(np.abs(in_order)) > 1e4


def test_the_values_of_a_manual_schedule_change_between_two_fits_without_compiling():
    def loss_fn(params, batch):
        return (params - batch) ** 2

    tx = jl.sgd(jl.manual_schedule({0: 0.1, 3: 0.05}))
    step = jl.make_step(loss_fn, tx)
    data = jnp.arange(8.0)
    state = jl.init_state(jnp.zeros(()), tx, key=0)
    first = jl.fit(step, state, data, epochs=1, batch_size=2)
    by_hand = step.replace(values={0: 0.1, 3: 0.5})
    again = jl.fit(by_hand, state, data, epochs=1, batch_size=2)
    assert again.compiles == 0
    assert first.state.params != again.state.params

    traces = []

    @jax.jit
    def run(schedule, count):
        traces.append(count)
        return schedule(count)

    schedule = jl.manual_schedule({0: 0.1, 3: 0.05})
    assert run(schedule, 5) == jnp.float32(0.05)
    assert run(schedule.replace(values={0: 0.1, 3: 0.5}), 5) == 0.5
    assert len(traces) == 1
    assert run(schedule.replace(values={0: 0.1, 4: 0.5}), 5) == 0.5
    assert len(traces) == 2, "other counts are another structure"


def test_a_share_of_a_run():
    run = jl.fraction_of(10_000)
    assert (run(0), run(0.05), run(1), run(1.0)) == (0, 500, 10_000, 10_000)
    for total in range(1, 200):
        run = jl.fraction_of(total)
        pieces = [run.between(a, b) for a, b in ((0.0, 0.05), (0.05, 1 / 3), (1 / 3, 0.8), (0.8, 1.0))]
        assert sum(pieces) == total
        assert abs(run(0.05) - 0.05 * total) <= 0.5
    assert jl.fraction_of(100)(0.29) == 29
    for share in (-0.1, 1.1, float("nan"), "0.5", True):
        with pytest.raises(ValueError, match=r"fraction_of: a share of the run must be a number in \[0, 1\]"):
            run(share)
    with pytest.raises(ValueError, match="fraction_of: start must not be above end; got 0.5 and 0.2"):
        run.between(0.5, 0.2)
    with pytest.raises(ValueError, match="fraction_of: total must be at least 1"):
        jl.fraction_of(0)
    with pytest.raises(TypeError, match="fraction_of: total must be a whole number"):
        jl.fraction_of(1e4)


def test_batch_scaling():
    assert jl.linear_batch_scaling(0.1, 512, 256) == 0.2
    assert jl.sqrt_batch_scaling(0.1, 1024, 256) == 0.2
    assert jl.sqrt_batch_scaling(0.1, 64, 256) == 0.05
    schedule = jl.linear_to_zero(0.1, 10)
    np.testing.assert_allclose(jl.linear_batch_scaling(schedule, 64, 256)(jnp.arange(11)), schedule(jnp.arange(11)) / 4)
    assert jl.sqrt_batch_scaling(lambda count: jnp.where(count < 9, 0.1, 0.0), 4, 1)(3) == jnp.float32(0.2)
    for scaling in (jl.linear_batch_scaling, jl.sqrt_batch_scaling):
        with pytest.raises(ValueError, match=f"{scaling.__name__}: batch_size must be at least 1; got 0"):
            scaling(0.1, 0, 256)
        with pytest.raises(TypeError, match=f"{scaling.__name__}: reference_batch_size must be a whole number"):
            scaling(0.1, 32, 25.6)
