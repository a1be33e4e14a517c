"""Bad inputs 39 to 48 and 54 on every transformation: what it makes of values, in runs of ten to fifty updates."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, Case

import jaxopt_lessons as jl
from bad_inputs import bad_input
from bad_inputs.row_runs import (
    DTYPES,
    LENGTH,
    ROWS,
    Properties,
    Run,
    full,
    is_finite,
    not_finite,
    precision,
    random,
    settled,
    wide,
    without_eps,
)

HALVES = ("float16", "bfloat16")
EVERY = (*HALVES, "float32", "float64")
HUGE = {"float16": 300.0, "bfloat16": 1e20, "float32": 1e20, "float64": 1e160}
"""Finite numbers whose squares are not, or nearly so."""


ROW = Properties()


def new_faults(state, before):
    """The arrays of a state that are not finite, and were so before."""
    return sorted(set(not_finite(state)) - set(not_finite(before)))


TOO_LARGE = ("acprop", "float16")
"""It divides by what it expected: eps after zeros, and a gradient over that is more than float16 can hold."""


def goes_on(run: Run, *, after_nothing: bool = False):
    """Ten ordinary gradients: the updates are finite, and each entry moves."""
    run.go(random(7, LENGTH))
    if after_nothing and (run.case.name, run.dtype) == TOO_LARGE:
        assert not is_finite(run.updates)
        return
    assert is_finite(run.updates), not_finite(run.updates)
    assert settled(run.updates)


# ---------------------------------------------------------------------------------------------------------------------
# 39 NaN, 40 infinite
# ---------------------------------------------------------------------------------------------------------------------

SPOILT = {3: np.nan, 4: np.inf, 7: -np.inf}
"""Which of ten gradients have a bad entry."""


@functools.lru_cache(maxsize=2)
def guarded(name):
    case = ROWS[name]
    update = case.update(jl.skip_nonfinite(case.make()))

    @jax.jit
    def run(params, state, gradients):
        def one(carry, g):
            params, state = carry
            updates, state = update(g, state, params)
            return (jl.apply_updates(params, updates), state), updates

        return jax.lax.scan(one, (params, state), gradients)

    return run


@ROW.ask(39, 40)
def a_guard_leaves_bad_steps_out_of_every_optimizer(case: Case, dtype):
    """Parameters and state are bit for bit those of the run without them; each is counted, and moves nothing."""
    good = random(2, LENGTH)
    bad = jax.tree.map(np.copy, good)
    for i, value in SPOILT.items():
        bad["w"][i, 1, 0] = value
    kept = [i for i in range(LENGTH) if i not in SPOILT]
    # The bad ones at the end: the same program, with as many steps.
    order = np.array(kept + list(SPOILT))
    rows = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), (bad, jax.tree.map(lambda x: x[order], bad)))
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), random(1))
    state = jl.skip_nonfinite(case.make()).init(params)
    (mixed, after), updates = guarded(case.name)(params, state, rows[0])
    (expected, apart), _ = guarded(case.name)(params, state, rows[1])
    jax.tree.map(np.testing.assert_array_equal, (mixed, after.inner_state), (expected, apart.inner_state))
    assert (int(after.total_notfinite), int(after.notfinite_count), bool(after.last_finite)) == (3, 0, True)
    assert (int(apart.total_notfinite), int(apart.notfinite_count), bool(apart.last_finite)) == (3, 3, False)
    assert all(np.all(leaf[np.array(list(SPOILT))] == 0) for leaf in jax.tree.leaves(updates))
    assert all(np.any(a != b) for a, b in zip(jax.tree.leaves(mixed), jax.tree.leaves(params), strict=True))


BAD_ENTRIES = {
    "one inf": {(0, 0): np.inf},
    "one -inf": {(2, 1): -np.inf},
    "one NaN": {(1, 0): np.nan},
    "NaN and inf": {(0, 0): np.nan, (0, 1): np.inf, (2, 0): -np.inf},
    "all inf": {(i, j): np.inf for i in range(3) for j in range(2)},
    "all NaN": {(i, j): np.nan for i in range(3) for j in range(2)},
}


def clipped(tx, updates, params, dtype):
    with precision(dtype):
        cast = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf).astype(DTYPES[dtype])), (updates, params))
        return jax.tree.map(wide, jax.jit(tx.update)(cast[0], tx.init(cast[1]), cast[1])[0])


def spoil(updates, where):
    w = np.copy(updates["w"])
    for index, value in where.items():
        w[index] = value
    return {**updates, "w": w}


CLIPS = {
    "clip": jl.clip(0.75),
    "clip_by_global_norm": jl.clip_by_global_norm(1.0),
    "clip_by_block_rms": jl.clip_by_block_rms(0.5),
    "adaptive_grad_clip": jl.adaptive_grad_clip(0.1),
    "zero_nans": jl.zero_nans(),
}


@bad_input(39, 40)
@pytest.mark.parametrize("dtype", EVERY)
@pytest.mark.parametrize("where", BAD_ENTRIES)
@pytest.mark.parametrize("name", CLIPS)
def test_a_clip_makes_neither_zeros_nor_nan_of_the_others(name, where, dtype):
    """What each clip documents, entry by entry: the other leaf and the other entries are finite, and not 0."""
    tx, g, params = CLIPS[name], random(3), random(1)
    with precision(dtype):
        g, params = (jax.tree.map(lambda x: wide(np.asarray(x).astype(DTYPES[dtype])), t) for t in (g, params))
    bad = spoil(g, BAD_ENTRIES[where])
    got, plain = clipped(tx, bad, params, dtype), clipped(tx, g, params, dtype)
    wrong = ~np.isfinite(bad["w"])
    if name == "clip_by_global_norm":  # without a norm there is no direction to keep: nothing is changed
        jax.tree.map(np.testing.assert_array_equal, got, bad)
        return
    np.testing.assert_array_equal(got["b"], plain["b"])
    assert np.all(got["b"] != 0)
    others = got["w"][~wrong]
    assert np.all(np.isfinite(others))
    assert np.all(others != 0)
    if name == "clip":
        np.testing.assert_array_equal(got["w"], np.clip(bad["w"], -0.75, 0.75))  # NaN stays NaN
    elif name == "zero_nans":
        np.testing.assert_array_equal(got["w"], np.where(np.isnan(bad["w"]), 0, bad["w"]))
    elif name == "clip_by_block_rms":
        np.testing.assert_array_equal(np.isnan(got["w"]), wrong)
        np.testing.assert_array_equal(others, np.clip(g["w"], -0.5, 0.5)[~wrong])
    else:  # by the norm of the entries that are finite; the bad ones stay as they are
        zeroed = clipped(tx, {**g, "w": np.where(wrong, 0, g["w"])}, params, dtype)["w"]
        np.testing.assert_array_equal(others, zeroed[~wrong])
        np.testing.assert_array_equal(got["w"][wrong], bad["w"][wrong])


@bad_input(39, 40)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layerwise", [False, True], ids=["global", "layer"])
def test_an_example_without_a_norm_does_not_pass_for_clipped(bad, layerwise):
    """Its sum is not finite, which a guard sees: it is never left out in silence, as privacy would need its noise."""
    g = random(3, 4)
    g["w"][2, 0, 0] = bad
    g = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), g)
    clip = jl.per_example_layer_norm_clip if layerwise else jl.per_example_global_norm_clip
    clipped, _ = clip(g, 1.0)
    assert not is_finite(clipped["w"])
    if layerwise:
        assert is_finite(clipped["b"])


# ---------------------------------------------------------------------------------------------------------------------
# 41 huge, 42 tiny
# ---------------------------------------------------------------------------------------------------------------------


def huge_then_ordinary(size, leaves=("w", "b"), steps=3):
    g = random(2, LENGTH)
    for name in leaves:
        g[name][:steps] *= size
    return g


@ROW.ask(41, dtypes=EVERY)
def huge_gradients_everywhere_leave_finite_states_and_ordinary_ones_move_again(case: Case, dtype):
    run = Run(case, dtype)
    before = run.state
    run.go(huge_then_ordinary(HUGE[dtype]))
    assert new_faults(run.state, before) == []
    assert is_finite(run.updates), not_finite(run.updates)
    goes_on(run)


@ROW.ask(41, dtypes=EVERY, only=lambda case: "leaves_are_independent" not in case.exempt)
def a_huge_gradient_in_one_leaf_is_nothing_to_another(case: Case, dtype):
    run, plain = Run(case, dtype), Run(case, dtype)
    run.go(huge_then_ordinary(HUGE[dtype], leaves=("b",)))
    plain.go(random(2, LENGTH))
    np.testing.assert_array_equal(run.updates["w"], plain.updates["w"])
    assert is_finite(run.updates["b"])


@ROW.ask(41, dtypes=EVERY)
def huge_parameters_have_finite_updates(case: Case, dtype):
    size = {"float16": 1e3, "float64": 1e150}.get(dtype, 1e18)
    run = Run(case, dtype, random(1, size=size))
    before = run.state
    run.go(random(2, LENGTH))
    assert is_finite(run.updates), not_finite(run.updates)
    assert new_faults(run.state, before) == []


@bad_input(41)
@pytest.mark.parametrize("size", [1e10, 1e15, 1e17, 5e18], ids=str)
@pytest.mark.parametrize("name", ["polyak_sgd", "momo"])
def test_a_step_by_the_loss_over_a_huge_squared_norm_has_its_length(name, size):
    """``value / |g|^2 * g``, where the first factor is below what float32 holds."""
    g = random(2)["w"] * size / 4
    params = {"w": jnp.zeros((3, 2))}
    tx = ROWS[name].make()
    updates, _ = jax.jit(ROWS[name].update(tx))({"w": jnp.asarray(g, jnp.float32)}, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], -1.5 / np.sum(g**2) * g, rtol=1e-5)


TINY = {
    "float16": (1e-5, 6e-8),
    "bfloat16": (1e-25, 1e-38, 1e-40),
    "float32": (1e-25, 1e-38, 1e-45),
    "float64": (1e-160, 1e-308, 5e-324),
}
"""Numbers whose squares are 0; the last of each are subnormal."""


@ROW.ask(42, dtypes=EVERY)
def ten_tiny_gradients_give_no_large_step_and_are_forgotten(case: Case, dtype):
    tiny_gradients(case, dtype)


@ROW.ask(42, dtypes=("float16", "float32"), only=lambda case: bool(without_eps(case)))
def ten_tiny_gradients_without_eps_give_no_large_step_and_are_forgotten(case: Case, dtype):
    tiny_gradients(case, dtype, **without_eps(case))


def tiny_gradients(case: Case, dtype, **changes):
    for i, size in enumerate(TINY[dtype]):
        run = Run(case, dtype, **changes)
        before = run.state
        run.go(random(3 + i, LENGTH, size=size))
        assert is_finite(run.updates), (size, not_finite(run.updates))
        assert new_faults(run.state, before) == []
        assert max(np.max(np.abs(wide(leaf))) for leaf in jax.tree.leaves(run.updates)) <= 4
    goes_on(run, after_nothing=True)


# ---------------------------------------------------------------------------------------------------------------------
# 43 zeros, 44 zero parameters, 45 the same for ever
# ---------------------------------------------------------------------------------------------------------------------

POSITIVE = jax.tree.map(np.abs, random(1))
"""Parameters inside of the sets that some rows keep them in."""


FALLS = "the loss that it is told stays, and its scale falls below float16"


def without_decay(case: Case):
    return {"weight_decay": 0.0} if "weight_decay" in case.others else {}


@ROW.ask(
    43,
    dtypes=EVERY,
    exempt={
        "noisy_sgd": "noise is what it adds",
        "fromage": "the weights shrink whatever their gradients",
        "reduce_on_plateau-float16": FALLS,
    },
)
def twenty_zero_gradients_move_nothing_and_ordinary_ones_do(case: Case, dtype):
    """Compiled, with every NaN on the way an error; without weight decay."""
    with jax.debug_nans(True):
        run = Run(case, dtype, POSITIVE, **without_decay(case))
        for _ in range(2):
            run.go(full(0.0, LENGTH), moves=True)
            assert all(np.all(wide(leaf) == 0) for leaf in jax.tree.leaves(run.updates))
    for name, leaf in POSITIVE.items():
        np.testing.assert_array_equal(wide(run.params[name]), wide(leaf.astype(DTYPES[dtype])))
    goes_on(run, after_nothing=True)


@ROW.ask(44, dtypes=EVERY)
def parameters_of_zero_get_away_from_it(case: Case, dtype):
    """Fifty steps in float32; ten in others, for the rows that let a weight grow by its own size each time."""
    run, left = Run(case, dtype, full(0.0)), full(0.0)
    for i in range(5 if dtype == "float32" else 1):
        run.go(random(2 + i, LENGTH), moves=True)
        assert is_finite((run.updates, run.params)), not_finite((run.updates, run.params))
        left = jax.tree.map(lambda so_far, u: so_far + np.any(wide(u) != 0, axis=0), left, run.updates)
    assert all(np.all(leaf > 0) for leaf in jax.tree.leaves(left))


@ROW.ask(
    45,
    dtypes=EVERY,
    exempt={
        "dadapt_adamw-float16": "its estimate grows as long as gradients agree, until its steps leave float16",
        "reduce_on_plateau-float16": FALLS,
    },
)
def fifty_equal_gradients_give_finite_steps_in_one_direction(case: Case, dtype):
    """Nothing divides by how the gradients differ, nor does a step turn round where nothing has changed."""
    same = jax.tree.map(lambda leaf: np.repeat(leaf[None], LENGTH, axis=0), random(4))
    run, signs = Run(case, dtype, POSITIVE, **without_decay(case)), None
    before = run.state
    for _ in range(5):
        run.go(same)
        assert is_finite(run.updates), not_finite(run.updates)
        assert settled(run.updates)
        now = jax.tree.map(lambda u: np.sign(np.sum(wide(u), axis=0)), run.updates)
        signs = now if signs is None else signs
        jax.tree.map(np.testing.assert_array_equal, now, signs)
    assert new_faults(run.state, before) == []


# ---------------------------------------------------------------------------------------------------------------------
# 46 the loss
# ---------------------------------------------------------------------------------------------------------------------

TAKES_VALUE = {case.name for case in CASES if "value" in case.extras and case.part_of is None}
REJECTS = ("polyak_sgd", "momo", "momo_adam")
"""The rows whose steps are made of the loss."""
LOSSES = np.linspace(2.0, 1.0, LENGTH)


def with_losses(name, changes, order=None):
    """A run in which the losses at some steps are others; ``order`` is that in which the ten steps come."""
    losses = LOSSES.copy()
    for i, value in changes.items():
        losses[i] = value
    order = np.arange(LENGTH) if order is None else np.asarray(order)
    g = jax.tree.map(lambda leaf: leaf[order], random(2, LENGTH))
    return Run(ROWS[name]).go(g, moves=True, value=losses[order].astype(np.float32))


@bad_input(46)
def test_the_rows_that_take_a_loss_are_known():
    assert {*REJECTS, "reduce_on_plateau", "conditionally_transform", "conditionally_mask"} == TAKES_VALUE


@bad_input(46)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("name", REJECTS)
def test_a_step_with_a_bad_loss_is_rejected(name, bad):
    """Its update is 0, and all that follows is bit for bit as if it had not been."""
    spoilt = (2, 5)
    run = with_losses(name, dict.fromkeys(spoilt, bad))
    for i in spoilt:
        assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(run.steps[i]))
    assert all(np.all(leaf != 0) for leaf in jax.tree.leaves(run.steps[3]))
    order = [i for i in range(LENGTH) if i not in spoilt] + list(spoilt)
    apart = with_losses(name, dict.fromkeys(spoilt, bad), order)
    jax.tree.map(np.testing.assert_array_equal, run.params, apart.params)
    if name == "polyak_sgd":  # its only state is the count of its schedule, of all updates
        assert int(run.state[1].count) == LENGTH
    else:
        jax.tree.map(np.testing.assert_array_equal, run.state, apart.state)
        assert int(run.state.count) == LENGTH - len(spoilt)


@bad_input(46)
@pytest.mark.parametrize("huge", [3e38, -3e38], ids=str)
@pytest.mark.parametrize("name", [*REJECTS, "reduce_on_plateau"])
def test_after_a_huge_loss_ordinary_ones_move(name, huge):
    run = with_losses(name, {2: huge, 3: huge})
    assert is_finite((run.updates, run.params))
    assert new_faults(run.state, Run(ROWS[name]).state) == []
    for i in range(100):
        run.go(random(20 + i, LENGTH), value=LOSSES.astype(np.float32))
        assert is_finite(run.updates)
        if settled(run.updates):
            return
    raise AssertionError("it never moves again")


@bad_input(46)
@pytest.mark.parametrize("bad", [np.nan, np.inf], ids=str)
def test_a_guard_leaves_out_a_curvature_that_is_not_finite(bad):
    """Sophia, of a loss whose second derivative is bad: its average of curvatures stays what it was."""

    def of(factor):
        return lambda params: sum(jnp.sum(x**2) * factor for x in jax.tree.leaves(params))

    tx = jl.skip_nonfinite(jl.sophia(0.1, update_interval=1))
    params, g = (jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), random(i)) for i in (1, 2))
    update = jax.jit(lambda g, s, p, factor: tx.update(g, s, p, obj_fn=of(factor)))
    state = tx.init(params)
    for factor in (1.0, bad, bad, 1.0, 1.0):
        updates, state = update(g, state, params, factor)
        moved = [np.any(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(updates)]
        assert is_finite((updates, state))
    assert all(moved)


# ---------------------------------------------------------------------------------------------------------------------
# 47 singular statistics
# ---------------------------------------------------------------------------------------------------------------------


def with_zero_lines(length):
    """Gradients of which the first row and the second column of the matrix are 0, and the others of rank 1."""
    g = random(5, length)
    left, right = random(6)["b"], random(7)["w"][0]
    g["w"] = np.repeat((left[:, None] * right[None, :])[None], length, axis=0) * g["b"][:, :1, None]
    g["w"][:, 0] = 0
    g["w"][:, :, 1] = 0
    return g


@ROW.ask(
    47,
    dtypes=(*HALVES, "float32"),
    exempt={
        "noisy_sgd": "noise is what it adds",
        "fromage": "the weights shrink whatever their gradients",
        "centralize": "the mean over a column is taken off its zeros too",
    },
)
def zero_rows_and_columns_are_finite_and_stay(case: Case, dtype):
    """Of factored, blockwise and layerwise statistics: nothing divides by a mean of zeros."""
    run = Run(case, dtype, POSITIVE, **without_decay(case))
    before = run.state
    run.go(with_zero_lines(LENGTH))
    u = wide(run.updates["w"])
    assert is_finite(run.updates)
    assert new_faults(run.state, before) == []
    assert np.all(u[:, 0] == 0)
    assert np.all(u[:, :, 1] == 0)
    assert np.all(np.any(u[:, 1:, 0] != 0, axis=0))
    goes_on(run, after_nothing=True)


# ---------------------------------------------------------------------------------------------------------------------
# 54 complex numbers
# ---------------------------------------------------------------------------------------------------------------------

AXES = "the axes of a leaf have a meaning"
REFUSES = dict.fromkeys(["adafactor", "adam_mini", "came", "sm3", "adaptive_grad_clip", "centralize"], AXES)
REFUSES["keep_params_in"] = ""
"""The rows that refuse complex parameters, with what their errors say."""


def complex_steps(length=3):
    rng, shape = np.random.default_rng(8), (length, 2, 3)
    return rng.choice([-1, 1], shape) * rng.uniform(0.5, 1.5, shape) + 1j * rng.uniform(0.5, 1.5, shape)


def pairs_of(z):
    return np.stack([np.real(z), np.imag(z)], axis=-1).astype(np.float32)


@ROW.ask(54)
def complex_parameters_are_pairs_of_real_ones_or_refused(case: Case, dtype):
    """Three steps that move, from 1 + 1i; RAdam's first ones do not."""
    tx = case.make()

    def run(start, gradients):
        params, seen, step = {"z": jnp.asarray(start)}, [], jax.jit(case.update(tx))
        state = tx.init(params)
        for g in gradients:
            updates, state = step({"z": jnp.asarray(g)}, state, params)
            params = jl.apply_updates(params, updates)
            seen.append(np.asarray(params["z"]))
        return seen

    start, steps = (
        np.full((2, 3), 1 + 1j, np.complex64),
        complex_steps(8 if "radam" in case.name else 3).astype(np.complex64),
    )
    if case.name in REFUSES:
        with pytest.raises(jl.InputError, match=rf"{case.name}.*complex64.*{REFUSES[case.name]}"):
            run(start, steps)
        return
    got, expected = run(start, steps), run(pairs_of(start), pairs_of(steps))
    for a, e in zip(got, expected, strict=True):
        assert a.dtype == np.complex64
        np.testing.assert_allclose(pairs_of(a), e, rtol=2e-6, atol=1e-6)
    assert np.max(np.abs(got[-1] - start)) > 1e-6


@ROW.by_row()
def test_row(case: Case, dtype, asked):
    asked(case, dtype)
