"""What the weight decay of the presets is multiplied by: the learning rate, its course, or nothing."""

import inspect
import typing

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import adam
from cases.case import at

import jaxopt_lessons as jl

RNG = np.random.default_rng(0)
STEPS = 6
GRADS, PARAMS = RNG.standard_normal((2, STEPS, 3, 2))
RATE = jl.warmup_cosine_decay_schedule(0.02, 0.1, warmup_steps=2, decay_steps=7, end_value=0.01)
FALLING = jl.linear_schedule(0.5, 0.2, 4)
MODES = "lr", "schedule", "independent"


def with_modes():
    """The presets whose ``decay`` is one of three words."""
    for case in cases.CASES:
        parameter = inspect.signature(case.factory).parameters.get("decay")
        if parameter is not None and typing.get_args(parameter.annotation) == MODES:
            yield case


CASES = list(with_modes())
every_preset = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_mode = pytest.mark.parametrize("mode", MODES)


def run(case, tx, dtype=jnp.float32, update=None):
    state, updates = tx.init(jnp.asarray(PARAMS[0], dtype)), []
    update = update or case.update(tx)
    for g, p in zip(GRADS, PARAMS, strict=True):
        u, state = update(jnp.asarray(g, dtype), state, jnp.asarray(p, dtype))
        updates.append(np.asarray(u, np.float64))
    return np.stack(updates)


def test_there_are_presets_with_modes():
    assert len(CASES) >= 15


@every_mode
@pytest.mark.parametrize("weight_decay", [0.3, FALLING], ids=["constant", "falling"])
@pytest.mark.parametrize("rate", [0.1, RATE], ids=["constant", "scheduled"])
def test_adamw_is_its_oracle(mode, rate, weight_decay):
    (case,) = (case for case in CASES if case.name == "adamw")
    with jax.enable_x64(True):
        expected = adam.adamw(list(GRADS), list(PARAMS), rate, weight_decay=weight_decay, decay=mode)
        actual = run(case, jl.adamw(rate, weight_decay=weight_decay, decay=mode), jnp.float64)
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-14)


@every_mode
@every_preset
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_every_preset_in_every_mode(case, mode, dtype):
    """The step without decay, and then what the formula adds, at each count of a schedule."""
    tx = case.make(learning_rate=RATE, weight_decay=FALLING, decay=mode)
    rates, decays = (np.array([at(schedule, t) for t in range(STEPS)]) for schedule in (RATE, FALLING))
    factor = {"lr": rates, "schedule": rates / 0.1, "independent": np.ones(STEPS)}[mode]
    params = np.asarray(jnp.asarray(PARAMS, dtype), np.float64)
    grads_as_rounded = np.asarray(jnp.asarray(GRADS, dtype), np.float32)
    free = case.make(learning_rate=RATE, weight_decay=0.0, decay=mode)
    state, expected = free.init(jnp.asarray(params[0], jnp.float32)), []
    for g, p, f, wd in zip(grads_as_rounded, params, factor, decays, strict=True):
        u, state = case.update(free)(jnp.asarray(g), state, jnp.asarray(p, jnp.float32))
        expected.append(np.asarray(u, np.float64) - f * wd * p)
    tolerance = 1e-5 if dtype == jnp.float32 else 2**-8
    np.testing.assert_allclose(run(case, tx, dtype), expected, rtol=tolerance, atol=1e-7)


@every_mode
@every_preset
def test_a_mask(case, mode):
    mask = next(name for name in inspect.signature(case.factory).parameters if name.endswith("mask"))
    masked = case.make(learning_rate=RATE, weight_decay=0.3, decay=mode, **{mask: lambda path, leaf: leaf.ndim < 2})
    free = case.make(learning_rate=RATE, weight_decay=0.0, decay=mode)
    np.testing.assert_array_equal(run(case, masked), run(case, free))


def test_the_state_of_the_usual_decay_is_that_of_the_chain():
    for tx in (jl.adamw(0.1), jl.adamw(RATE, decay="lr")):
        state = tx.init(jnp.ones(3))
        assert [type(stage).__name__ for stage in state] == ["ScaleByAdamState", "EmptyState", "ScaleByScheduleState"]


def test_another_peak_is_no_other_decay():
    """With gradients of 0 only the decay is left: the same for every height of the schedule, and one program."""
    params, traces = jnp.ones(3), []

    @jax.jit
    def shrunk(tx, params):
        traces.append(tx)
        state = tx.init(params)
        for _ in range(STEPS):
            updates, state = tx.update(jnp.zeros(3), state, params)
            params = jl.apply_updates(params, updates)
        return params

    make = lambda peak, mode: jl.adamw(jl.linear_schedule(peak, 0.0, STEPS), weight_decay=0.1, decay=mode)
    followed = [shrunk(make(peak, "schedule"), params) for peak in (1e-3, 0.02, 0.5)]
    assert len(traces) == 1
    expected = np.prod([1 - 0.1 * (1 - t / STEPS) for t in range(STEPS)])
    np.testing.assert_allclose(np.stack(followed), expected, rtol=1e-6)
    usual = [shrunk(make(peak, "lr"), params) for peak in (0.02, 0.5)]
    assert usual[0][0] - usual[1][0] > 0.1
    stacked = jax.vmap(lambda peak: make(peak, "schedule"))(jnp.array([1e-3, 0.02, 0.5]))
    np.testing.assert_allclose(jax.vmap(shrunk, (0, None))(stacked, params), expected, rtol=1e-6)


def test_a_rate_of_zero():
    """0 throughout is a number, not 0 / 0."""
    for rate in (0.0, jl.constant_schedule(0.0), jl.linear_schedule(0.0, 0.0, 3)):
        tx = jl.adamw(rate, weight_decay=0.25, decay="schedule")
        params = jnp.array([2.0])
        assert tx.update(jnp.ones(1), tx.init(params), params)[0] == -0.5


@every_preset
def test_a_wrong_word(case):
    with pytest.raises(ValueError, match=f"{case.name}: decay must be one of 'lr', 'schedule', 'independent'"):
        case.make(decay="L2")


def test_a_peak_that_is_not_known():
    warm = jl.warmup(3, from_zero=True)
    for rate in (lambda count: 0.1, warm * RATE, RATE.then(lambda count: 0.1 * count)):
        with pytest.raises(ValueError, match="adamw: decay='schedule' needs a learning rate with a known largest"):
            jl.adamw(rate, decay="schedule")
        with pytest.raises(ValueError, match="Write decay='independent', and give weight_decay a schedule"):
            jl.adamw(rate).replace(decay="schedule")
        jl.adamw(rate, weight_decay=RATE, decay="independent")


def test_it_is_shown_where_it_is_not_the_usual_one():
    assert "decay='independent'" in repr(jl.adamw(0.1, decay="independent"))
    assert (
        repr(jl.adamw(0.1, decay="lr")) == "adamw(learning_rate=0.1, b1=0.9, b2=0.999, eps=1e-08, weight_decay=0.0001)"
    )
