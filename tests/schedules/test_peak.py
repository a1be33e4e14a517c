"""The largest value of a schedule, against all its values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from schedule_rows import ROWS

import jaxopt_lessons as jl

COUNTS = np.concatenate([np.arange(3000), [2**24, 2**31 - 2, 2**31 - 1]])
VARIANTS = [(row, {}) for row in ROWS] + [(row, {name: row.others[name]}) for row in ROWS for name in row.others]


def peak_and_largest(schedule):
    """As it knows it, and by brute force."""
    return schedule.peak, jnp.max(schedule(jnp.asarray(COUNTS, jnp.int32)))


def assert_known(schedule, *others):
    """Its peak is the largest of all its values."""
    for changed in (schedule, *others):
        peak, largest = peak_and_largest(changed)
        assert peak.shape == ()
        assert peak.dtype == jnp.float32
        np.testing.assert_allclose(peak, largest, rtol=1e-6)
    if "restarts" not in str(schedule):  # The lowest of the cycles is far away.
        np.testing.assert_allclose(*peak_and_largest(0.1 - 0.5 * schedule), rtol=1e-6, atol=1e-7)


def make(variant):
    row, changes = variant
    return getattr(jl, row.name)(**{**row.arguments, **changes})


def name(variant):
    return "-".join([variant[0].label, *variant[1]])


@pytest.mark.parametrize("variant", VARIANTS, ids=name)
def test_every_schedule(variant):
    schedule = make(variant)
    assert_known(schedule, schedule.clip(high=0.3))
    if not variant[1]:
        np.testing.assert_allclose(jax.jit(lambda s: s.peak)(schedule), schedule.peak, rtol=1e-6)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.label)
def test_another_time(row):
    schedule = make((row, {}))
    for changed in (schedule.shift(4), schedule.per_epoch(3)):
        assert_known(changed)
    for factor in (2, 1.5, 2 / 3, 0.3):
        changed = schedule.stretch(factor)
        if schedule.timed.endless:
            assert changed.peak is None
        else:
            assert_known(changed)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.label)
def test_one_after_the_other(row):
    schedule = make((row, {}))
    low = jl.warmup_cosine_decay_schedule(0.0, 0.05, 5, 9)
    assert_known(low.then(schedule))
    at = schedule.timed.boundary + 4 if schedule.length is None else None
    if schedule.timed.endless and schedule.length is None:
        assert schedule.then(low, at).peak is None
        assert schedule.repeat(every=at).peak is None
    else:
        assert_known(schedule.then(low, at))
        assert_known(schedule.repeat(every=at))
        assert_known(schedule.repeat(every=at, times=3))
        assert_known(schedule.repeat(every=at, times=3).then(low))
        for cut in (schedule.timed.boundary + 1, 40):
            assert_known(jl.join_schedules([0.01, low, schedule, low], [2, 11, 11 + cut]))
    if schedule.timed.rests:
        assert_known(schedule.hold(7))


EXTREMES = {
    "restarts upside down": (-jl.cosine_decay_restarts(1.0, 4, alpha=0.25), -0.25),
    "growth": (jl.exponential_decay(0.5, 10, 1.5), np.inf),
    "growth with a limit below its start": (jl.exponential_decay(0.5, 10, 1.5, end_value=0.2), 0.2),
    "growth with a limit": (jl.exponential_decay(0.5, 10, 1.5, end_value=3.0), 3.0),
    "a limit inside the warm-up": (
        jl.warmup_exponential_decay_schedule(0.0, 1.0, 4, 10, 1.5, end_value=0.5),
        0.75,  # 0, 0.25, 0.5, 0.75, 0.5, ...
    ),
    "no warm-up": (jl.warmup_exponential_decay_schedule(9.0, 1.0, 0, 10, 0.5), 1.0),
    "no warm-up of a cosine": (jl.warmup_cosine_decay_schedule(9.0, 1.0, 0, 10), 1.0),
    "no warm-up of a trapezoid": (jl.wsd_schedule(9.0, 1.0, 0, 2, 4), 1.0),
    "a peak that stretching leaves out": (jl.manual_schedule({0: 0.0, 3: 1.0, 4: 0.0}).stretch(1 / 2), 0.0),
    "a peak between two counts": (jl.wsd_schedule(0.0, 1.0, 3, 0, 6, cooldown="linear").stretch(1 / 2), 5 / 6),
    "restarts that rise to higher peaks": (jl.cosine_decay_restarts(1.0, 2**29, t_mul=1, m_mul=2.0), 8.0),
    "restarts of one length at the end of time": (
        jl.cosine_decay_restarts(1e-3, 2**20, t_mul=1, m_mul=1.01),
        1e-3 * 1.01**2047,
    ),
    "restarts that rise until counts end": (jl.cosine_decay_restarts(1.0, 3, m_mul=1.5), 1.5**29),  # 3 (2^29 - 1)
    "the first value of cycles that fall": (jl.cyclic_schedule(1.0, 0.5, 4), 1.0),
    "cycles that fade on the way up": (jl.cyclic_schedule(0.0, 1.0, 100, mode="exp_range", gamma=0.9), 0.1 * 0.9**10),
}


@pytest.mark.parametrize("case", EXTREMES)
def test_extremes(case):
    schedule, peak = EXTREMES[case]
    np.testing.assert_allclose(schedule.peak, peak, rtol=1e-4)


def test_unknown_for_functions_and_for_two_at_once():
    a, b = jl.warmup(5, from_zero=True), jl.linear_schedule(1.0, 0.1, 10)
    half = jl.constant_schedule(0.5) * (lambda count: 1.0 / (count + 1))
    for schedule in (a * b, a + b, a - b, half, half.shift(2), b.then(half), half.then(b, at=3), 2 * (a * b)):
        assert schedule.peak is None
    for schedule in (2 * b / 4 + 1, b * jl.constant_schedule(0.3) * 2):
        assert_known(schedule)


def test_one_program_for_all_peaks_and_under_vmap():
    traces = []

    @jax.jit
    def peaks(schedule):
        traces.append(schedule)
        return schedule.peak

    heights = np.linspace(0.1, 0.9, 5, dtype=np.float32)
    make = lambda height: jl.warmup(7, height, from_zero=False).then(jl.cosine_decay_schedule(0.5, 11, alpha=0.1))
    for height in heights:
        np.testing.assert_allclose(peaks(make(height)), max(height, 0.5), rtol=1e-6)
    assert len(traces) == 1
    stacked = jax.vmap(make)(jnp.asarray(heights))
    np.testing.assert_allclose(jax.vmap(lambda s: s.peak)(stacked), np.maximum(heights, 0.5), rtol=1e-6)
    steps = jax.vmap(lambda n: jl.noam_schedule(16, n).peak)(jnp.array([1, 4, 16]))
    np.testing.assert_allclose(steps, [0.25, 0.125, 0.0625], rtol=1e-6)


def test_gradient_of_the_peak():
    peak = lambda height: jl.warmup_cosine_decay_schedule(0.0, height, 3, 9).peak
    assert jax.grad(peak)(0.3) == 1.0


def test_float64():
    with jax.enable_x64(True):
        peak = jl.cosine_decay_schedule(0.1, 9).shift(3).peak
        assert peak.dtype == jnp.float64
        assert float(peak) == 0.1
