"""Bad inputs 50 to 54: counters at their ends, 10^9 steps, dtypes of moments, 64 bits, complex numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, Case
from training_problems import example_loss, network, noisy_loss, regression

import jaxopt_lessons as jl
from bad_inputs import bad_input
from bad_inputs.row_runs import LENGTH, Properties, Run, is_finite, not_finite, random, wide

LAST = 2**31 - 1
BILLION = 10**9
ROW = Properties()


def counters_of(case: Case, state):
    """The paths of the whole numbers in a state that do not go round in a circle."""

    def counts(path, leaf):
        return leaf.dtype == jnp.int32 and not any(getattr(key, "name", None) in case.cyclic for key in path)

    return {path for path, leaf in jax.tree_util.tree_leaves_with_path(state) if counts(path, leaf)}


def with_counters(state, paths, value):
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.full_like(leaf, value) if path in paths else leaf, state
    )


# ---------------------------------------------------------------------------------------------------------------------
# 50 counters at the end
# ---------------------------------------------------------------------------------------------------------------------


@ROW.ask(
    50,
    dtypes=("float16", "bfloat16"),
    only=lambda case: bool(counters_of(case, case.make().init({"w": jnp.zeros((3, 2))}))),
    exempt={"sam": "the adversary's optimizer begins anew with each climb, and its count with it"},
)
def counters_stay_at_their_ends(case: Case, dtype):
    """After ten steps in half precision, ten with every counter at 2^31 - 1: all stay, and the updates are finite."""
    run = Run(case, dtype).go(random(1, LENGTH))
    paths = counters_of(case, run.state)
    run.state = with_counters(run.state, paths, LAST)
    run.go(random(2, LENGTH))
    assert is_finite(run.updates), not_finite(run.updates)
    for path, leaf in jax.tree_util.tree_leaves_with_path(run.state):
        if path in paths:
            assert (leaf.dtype, int(leaf)) == (jnp.int32, LAST), jax.tree_util.keystr(path)


def everything():
    """A step with all that counts: micro-batches, a scale of the loss, a guard, an average."""
    step = jl.make_step(example_loss, jl.adam(0.1), accumulate=2, policy=jl.Policy("float16", growth_interval=LAST))
    return jl.with_ema(jl.with_guard(step), 0.9)


COUNTERS = ("step", "cursor", "ema_count", "opt_state count")


def set_counter(state, name, value):
    value = jnp.int32(value)
    if name in ("step", "cursor"):
        return state._replace(**{name: value})
    if name == "opt_state count":
        return state._replace(opt_state=with_counters(state.opt_state, int32_paths(state.opt_state), value))
    return state._replace(extras={**state.extras, name: value})


def counter(state, name):
    if name in ("step", "cursor"):
        return int(getattr(state, name))
    if name == "opt_state count":
        (found,) = {int(leaf) for leaf in jax.tree.leaves(state.opt_state) if leaf.dtype == jnp.int32}
        return found
    return int(state.extras[name])


def int32_paths(state):
    return {path for path, leaf in jax.tree_util.tree_leaves_with_path(state) if leaf.dtype == jnp.int32}


@pytest.fixture(scope="module")
def compiled():
    step = everything()
    return step, jax.jit(lambda state, batch: step(state, batch))


@bad_input(50)
@pytest.mark.parametrize("name", COUNTERS)
def test_counters_of_a_run_stay_at_their_ends(compiled, name):
    """One before the end it is reached, and then kept; training goes on."""
    step, once = compiled
    state = set_counter(jl.init_state(network(), step), name, LAST - 1)
    seen = [counter(state, name)]
    for _ in range(3):
        before = state
        state, _ = once(state, regression(6))
        seen.append(counter(state, name))
    assert seen == [LAST - 1, LAST, LAST, LAST]
    assert is_finite(state.params)
    moved = jax.tree.map(lambda a, b: np.any(np.asarray(a) != np.asarray(b)), state.params, before.params)
    assert all(jax.tree.leaves(moved))


@bad_input(50)
def test_the_count_of_good_steps_begins_again_at_its_end(compiled):
    """Its end is the interval, at most 2^31 - 1 steps: there the scale is doubled."""
    step, once = compiled
    state = set_counter(jl.init_state(network(), step), "good_steps", LAST - 1)
    seen, scale = [], float(state.extras["loss_scale"])
    for _ in range(2):
        state, _ = once(state, regression(6))
        seen.append(counter(state, "good_steps"))
    assert seen == [0, 1]
    assert float(state.extras["loss_scale"]) == 2 * scale


@bad_input(50)
def test_the_count_of_skipped_steps_stays_at_its_end():
    step = jl.with_guard(jl.make_step(example_loss, jl.sgd(0.1)))
    state = set_counter(jl.init_state(network(), step), "skipped", LAST - 1)
    x, y = regression(6)
    seen = []
    for _ in range(3):
        state, _ = step(state, (x * np.nan, y))
        seen.append(int(state.extras["skipped"]))
    assert seen == [LAST, LAST, LAST]


@bad_input(50)
@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_at_the_end_of_the_cursor_are_rows_of_the_data(shuffle):
    """2^31 - 3 batches in, across what an epoch counter can count: five steps, each with rows that there are."""
    batches = jl.minibatches(np.arange(11, dtype=np.float32), 4, shuffle=shuffle, remainder="wrap")
    step = jl.make_step(lambda w, x: w * x, jl.sgd(0.0))
    state = jl.init_state(1.0, step, key=3)._replace(cursor=jnp.int32(LAST - 2))
    state, metrics = jax.jit(jl.make_scan(step, 5))(state, batches)
    assert int(state.cursor) == LAST
    losses = np.asarray(metrics["loss"])
    assert np.all((losses >= 1.5) & (losses <= 8.5))  # means of four different rows of 0 to 10
    assert len(set(losses.tolist())) > 1


@bad_input(50)
@pytest.mark.parametrize("where", ["mini_step", "gradient_step"])
def test_an_accumulation_far_beyond_its_cycle_ends_it(where):
    """A count of a cycle that is too large, as of another k, begins a new one, and does not wait for 2^31 steps."""
    tx = jl.MultiSteps(jl.sgd(1.0), 2)
    state = tx.init(jnp.zeros(2))._replace(**{where: jnp.int32(LAST)})
    moved = []
    for _ in range(4):
        updates, state = tx.update(jnp.ones(2), state, jnp.zeros(2))
        assert is_finite(updates)
        moved.append(bool(np.any(np.asarray(updates) != 0)))
    assert any(moved)
    assert 0 <= int(state.mini_step) < 2
    assert int(state.gradient_step) <= LAST


# ---------------------------------------------------------------------------------------------------------------------
# 51 a billion steps
# ---------------------------------------------------------------------------------------------------------------------


def decays(case: Case):
    """All betas at 0.5: after forty steps their powers are 0 in float32."""
    ranges, rates = case.factory._specification.ranges, {}
    for name, value in case.make().arguments.items():
        allowed = ranges.get(name)
        if name == "betas":
            rates[name] = (0.5,) * len(value)
        elif isinstance(value, float) and allowed and (allowed.low, allowed.high) == (0, 1):
            rates |= {} if allowed.includes_high else {name: 0.5}
    return rates


def has_a_correction(case: Case):
    """Whether it counts, and has betas of its own."""
    inner = any(isinstance(value, jl.GradientTransformation) for value in case.make().arguments.values())
    counts = bool(counters_of(case, case.make().init({"w": jnp.zeros((3, 2))})))
    return counts and bool(decays(case)) and not inner and not case.evaluates


@ROW.ask(
    51,
    only=has_a_correction,
    exempt={
        "madgrad": "its gradients count by the root of the count",
        "nadam_dozat": "the schedule of its momentum takes longer than forty steps",
        "schedule_free_radam": "with a beta of 0.5 it waits for ever",
    },
)
def after_a_billion_steps_the_correction_is_1(case: Case, dtype):
    """The published rule in float64 after forty steps, where the powers are 0 already, has the same updates."""
    changes = decays(case)
    run = Run(case, dtype, {"w": random(1)["w"]}, **changes)
    g = {"w": random(2, 5 * LENGTH)["w"]}
    for i in range(5):
        if i == 4:
            run.state = with_counters(run.state, counters_of(case, run.state), BILLION)
        run.go({"w": g["w"][i * LENGTH : (i + 1) * LENGTH]})
    narrow = [x.astype(np.float32).astype(np.float64) for x in g["w"]]
    params = [random(1)["w"].astype(np.float32).astype(np.float64)] * len(narrow)
    expected = np.stack(case.run_oracle(narrow, params, **changes)[-LENGTH:])
    np.testing.assert_allclose(wide(run.updates["w"]), expected, rtol=1e-4, atol=1e-6)
    assert np.all(expected != 0)


# ---------------------------------------------------------------------------------------------------------------------
# 52 moments of half precision
# ---------------------------------------------------------------------------------------------------------------------

NEEDS = {"adafactor": {"momentum": 0.9}, "sgd": {"momentum": 0.9}}
"""What there is no average without."""

WITH_DTYPES = [(case, name) for case in CASES if case.part_of is None for name in case.dtypes]


@bad_input(52)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize(("case", "name"), WITH_DTYPES, ids=[f"{case.name}-{name}" for case, name in WITH_DTYPES])
def test_what_is_asked_for_is_kept_and_near_to_float32(case: Case, name, dtype):
    """Twenty steps, those of squares with 0.999: in the dtype that was asked for, within its rounding of float32."""
    beside = NEEDS.get(case.name, {})
    run, plain = Run(case, **{name: dtype}, **beside), Run(case, **beside)
    for i in range(2):
        for each in (run, plain):
            each.go(random(2 + i, LENGTH))
    narrow = [leaf for leaf in jax.tree.leaves(run.state) if leaf.dtype == dtype]
    assert narrow
    assert not [leaf for leaf in jax.tree.leaves(plain.state) if leaf.dtype == dtype]
    assert is_finite((run.updates, narrow))
    for a, e in zip(jax.tree.leaves(run.updates), jax.tree.leaves(plain.updates), strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(wide(a), wide(e), rtol=0, atol=20 * 2.0**-8 * np.max(np.abs(wide(e))))


@bad_input(52)
@pytest.mark.parametrize("bad", [jnp.int8, "uint8", bool], ids=str)
@pytest.mark.parametrize(("case", "name"), WITH_DTYPES, ids=[f"{case.name}-{name}" for case, name in WITH_DTYPES])
def test_whole_numbers_are_no_moments(case: Case, name, bad):
    with pytest.raises(TypeError, match=f"{case.name}: {name} must be a floating-point dtype, as jnp.bfloat16 is; got"):
        case.make(**{name: bad})


# ---------------------------------------------------------------------------------------------------------------------
# 53 64 bits
# ---------------------------------------------------------------------------------------------------------------------


def three_steps():
    step = jl.with_ema(
        jl.with_guard(jl.make_step(noisy_loss, jl.adamw(jl.linear_schedule(0.1, 0.01, 9)), accumulate=2)), 0.9
    )
    state, once = jl.init_state(network(), step, key=3), jax.jit(lambda state, batch: step(state, batch))
    for seed in range(3):
        new, metrics = once(state, regression(6, seed))
        assert jax.tree.map(jax.typeof, new) == jax.tree.map(jax.typeof, state)
        state = new
    return state, metrics, step.eval_params(state)


@bad_input(53)
def test_a_run_in_float32_stays_so_where_64_bits_are_enabled():
    """State, average and weights to evaluate; and the numbers are those without."""
    expected = three_steps()
    with jax.enable_x64(True):
        got = three_steps()
    for a, e in zip(jax.tree.leaves((got[0], got[2])), jax.tree.leaves((expected[0], expected[2])), strict=True):
        assert a.dtype == e.dtype
        if jnp.issubdtype(e.dtype, jnp.floating):
            np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got[1]["loss"], expected[1]["loss"], rtol=1e-5)


@bad_input(53)
def test_fit_and_evaluate_stay_in_float32_where_64_bits_are_enabled():
    def run():
        step = jl.make_step(example_loss, jl.adam(0.1))
        out = jl.fit(
            step, jl.init_state(network(), step), regression(12), epochs=2, batch_size=4, val=regression(5, 1),
            progress=False,
        )  # fmt: skip
        return out.state, out.history["val_loss"], jl.evaluate(example_loss, out.state.params, regression(5, 1))

    expected = run()
    with jax.enable_x64(True):
        state, losses, measured = run()
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {np.dtype(np.float32)}
    assert not [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.dtype in (np.float64, np.int64)]
    np.testing.assert_allclose(losses, expected[1], rtol=1e-5)
    assert measured["loss"] == pytest.approx(expected[2]["loss"], rel=1e-5)


@ROW.by_row()
def test_row(case: Case, dtype, asked):
    asked(case, dtype)
