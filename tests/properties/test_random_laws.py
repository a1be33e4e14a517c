"""Equations between optimizers, and between schedules, for parts that are drawn at random."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

import jaxopt_lessons as jl
from properties import law
from properties.strategies import (
    HALF,
    ROW,
    Drawn,
    arguments_of,
    end_of,
    gradients,
    has,
    independent,
    inside,
    labels,
    masks,
    numbers,
    optimizers,
    problems,
    schedules,
    together,
    trees,
)
from properties.test_random_optimizers import assert_near, certain, wide

BOTH = [jnp.float32, jnp.bfloat16]


def updates_of(drawn, params, grads):
    """The parameters along a run, and the updates: in one compiled program."""

    @jax.jit
    def run(params, grads):
        state, every = drawn.tx.init(params), []
        for g in grads:
            updates, state = drawn.update(g, state, params)
            params = jl.apply_updates(params, updates)
            every.append((updates, params))
        return every

    return run(params, grads)


def assert_equal(actual, expected):
    """Bit by bit, and NaN where there is NaN."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, a), e in zip(jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == e.dtype
        np.testing.assert_array_equal(wide(a), wide(e), err_msg=jax.tree_util.keystr(path))


def tolerance_of(params):
    """Half precision is rounded once, and may be rounded another way."""
    return 2**-6 if any(leaf.dtype in HALF for leaf in jax.tree.leaves(params)) else 2e-5


def assert_same_run(one, other, params, grads):
    assert_near(updates_of(one, params, grads), updates_of(other, params, grads), tolerance_of(params))


def with_tx(drawn, tx):
    return drawn._replace(tx=tx)


# -- masks, groups, chains --------------------------------------------------------------------------------------------


WITH_TREES = ("masked", "freeze", "selective_transform", "groups", "partition", "multi_transform")
"""Rows in which the random masks and labels stand: they fit one tree only."""


def fits_any_tree(case):
    return certain(case) and case.name not in WITH_TREES


@law(short=4, long=120, problem=problems(dtypes=BOTH, rows=fits_any_tree, depth=2, most=3), data=st.data())
def test_a_mask_of_all_is_no_mask_and_one_of_none_is_nothing(problem, data):
    params, drawn, grads = problem
    every = data.draw(st.sampled_from([True, jax.tree.map(lambda _: True, params)]))
    none = jax.tree.map(lambda _: False, params)
    unmasked = data.draw(st.sampled_from(["keep", "zero"]))
    masked = lambda mask: with_tx(drawn, jl.masked(drawn.tx, mask, unmasked=unmasked))
    assert_same_run(masked(every), drawn, params, grads)
    nothing = jl.identity() if unmasked == "keep" else jl.set_to_zero()
    found = updates_of(masked(none), params, grads)
    assert_equal(found, updates_of(with_tx(drawn, nothing), params, grads))


@st.composite
def groups(draw):
    """Parameters, a label for each, an optimizer for each label, and the parts of the tree."""
    params = draw(trees(BOTH, least=2))
    which = draw(labels(params))
    parts = {n: inside(params, jax.tree.map(lambda x, n=n: x == n, which)) for n in ("one", "two")}
    drawn = {n: draw(optimizers(part, 1, certain)) for n, part in parts.items()}
    assume(set(jax.tree.leaves(which)) == {"one", "two"})
    return params, which, drawn, [draw(gradients(params)) for _ in range(2)]


@law(short=4, long=100, case=groups(), kind=st.sampled_from(["partition", "groups", "masked"]))
def test_groups_are_optimizers_alone_on_their_parts(case, kind):
    params, which, drawn, grads = case
    one, two = drawn["one"], drawn["two"]
    where = {n: jax.tree.map(lambda x, n=n: x == n, which) for n in drawn}
    if kind == "partition":
        tx = jl.partition({"one": one.tx, "two": two.tx}, which)
    elif kind == "groups":
        tx = jl.groups({"one": one.tx}, two.tx, labels=jax.tree.map({"one": "one", "two": "default"}.get, which))
    else:
        assume(not one.tx.takes_half_precision)
        tx = jl.chain(*(jl.masked(drawn[n].tx, where[n], unmasked="keep") for n in drawn))
    both = updates_of(Drawn(tx, one.rows + two.rows), params, grads)
    for n in drawn:
        part = lambda tree, n=n: jl.tree.pick(tree, where[n])
        alone = updates_of(drawn[n], part(params), [part(g) for g in grads])
        assert_near([(part(u), part(p)) for u, p in both], alone, tolerance_of(params))


@law(short=4, long=100, params=trees(BOTH, most=3), data=st.data())
def test_chains_are_associative_and_the_identity_is_neutral(params, data):
    a, b = (data.draw(optimizers(params, 1, certain, rounds=False)) for _ in range(2))
    c = data.draw(optimizers(params, 1, certain))
    grads = [data.draw(gradients(params)) for _ in range(2)]
    chain, one = jl.chain, jl.identity()
    flat = together(chain(a.tx, b.tx, c.tx), ROW["chain"], a, b, c)
    expected = updates_of(flat, params, grads)
    others = [chain(chain(a.tx, b.tx), c.tx), chain(a.tx, chain(b.tx, c.tx)), chain(one, a.tx, one, b.tx, one, c.tx)]
    others.append(jl.named_chain(("x", a.tx), ("y", b.tx), ("z", c.tx)))
    for tx in data.draw(st.permutations(others))[:2]:
        assert_near(updates_of(with_tx(flat, tx), params, grads), expected, tolerance_of(params))
    # One after the other, by hand: each gets what the one before it returned.
    wide_params = jl.tree.widen(params)
    states, last = [x.tx.init(x.tx.seen(params)) for x in (a, b, c)], grads[0]
    u = jl.tree.widen(last)
    for x, state in zip((a, b, c), states, strict=True):
        seen = params if x.tx.takes_half_precision else wide_params
        u, _ = jax.jit(x.update)(u, state, seen)
    assert_near(u, expected[0][0], tolerance_of(params))


@law(short=4, long=100, problem=problems(2, rows=fits_any_tree, depth=2), data=st.data())
def test_frozen_weights_stay_bit_by_bit(problem, data):
    params, drawn, grads = problem
    mask = data.draw(masks(params))
    frozen = jl.tree.mask_leaves(mask, params)
    kind = data.draw(st.sampled_from(["selective_transform", "freeze", "masked", "groups"]))
    if kind == "selective_transform":
        tx = jl.selective_transform(drawn.tx, freeze_mask=mask)
    elif kind == "freeze":
        assume(not drawn.tx.takes_half_precision)
        tx = jl.chain(drawn.tx, jl.freeze(mask))
    elif kind == "masked":
        tx = jl.masked(drawn.tx, jax.tree.map(lambda x: not x, frozen), unmasked="zero")
    else:
        assume(True in jax.tree.leaves(frozen))
        which = jax.tree.map(lambda x: "cold" if x else "default", frozen)
        tx = jl.groups({"cold": "freeze"}, drawn.tx, labels=which)
    after = updates_of(with_tx(drawn, tx), params, grads)[-1][1]
    assert_equal(jl.tree.pick(after, frozen), jl.tree.pick(params, frozen))
    if kind == "freeze":
        moving = jax.tree.map(lambda x: not x, frozen)
        expected = updates_of(drawn, params, grads[:1])[0]
        assert_near(
            jl.tree.pick(updates_of(with_tx(drawn, tx), params, grads[:1])[0][0], moving),
            jl.tree.pick(expected[0], moving),
        )


# -- steps ------------------------------------------------------------------------------------------------------------


def hands_on(case):
    """Rows that are taken as they come, without a step between the calls."""
    return certain(case)


@law(short=4, long=100, problem=problems(4, rows=hands_on, depth=1), k=st.integers(1, 3), mean=st.booleans())
def test_several_micro_batches_are_one_step_from_their_mean(problem, k, mean):
    params, drawn, grads = problem
    grads = grads[: 4 - 4 % k]
    every = updates_of(with_tx(drawn, jl.MultiSteps(drawn.tx, k, use_grad_mean=mean)), params, grads)
    total = lambda *g: sum(g[1:], g[0]) / (k if mean else 1)
    joined = [jax.tree.map(total, *grads[i : i + k]) for i in range(0, len(grads), k)]
    assert_near([every[i] for i in range(k - 1, len(grads), k)], updates_of(drawn, params, joined), 1e-4)
    for i, (updates, _) in enumerate(every):
        if i % k < k - 1:
            assert all(not np.any(leaf) for leaf in jax.tree.leaves(updates))


@law(short=4, long=100, problem=problems(3, rows=certain, depth=1))
def test_lookahead_all_the_way_at_every_step_is_the_fast_optimizer(problem):
    params, drawn, grads = problem
    assume(not drawn.tx.takes_half_precision)
    assert_same_run(with_tx(drawn, jl.lookahead(drawn.tx, 1, 1.0)), drawn, params, grads)


KEEPS_STILL = (
    *("apply_if_finite", "skip_nonfinite", "MultiSteps", "lookahead", "ema_params", "swa_params"),
    *("polynomial_average_params", "cautious", "master_weights", "split_master_weights", "kahan"),
    *("stochastic_rounding", "moment_dtypes", "with_precision", "flatten", "selective_transform"),
    *("split_real_and_imaginary", "conditionally_mask"),
)
"""Wrappers whose step is nothing where that of the optimizer inside is nothing."""


def has_a_rate(case):
    """Presets whose learning rate may be 0; ``schedule_free`` repeats the one of the optimizer inside."""
    allowed = case.factory._specification.ranges.get("learning_rate")
    is_preset = not case.name.startswith("scale_by_") and case.name != "schedule_free"
    return is_preset and not case.per_example and allowed is not None and 0.0 in allowed


@st.composite
def standing_still(draw):
    """A preset with a learning rate of 0, in wrappers that hand its steps on."""
    params = draw(trees(BOTH, most=3))
    case = draw(st.sampled_from([c for c in ROW.values() if has_a_rate(c)]))
    changes = {**draw(arguments_of(case)), "learning_rate": 0.0}
    if case.name == "madgrad":  # its rule adds eps to the rate, which shows after huge gradients
        changes["eps"] = 0.0
    drawn = Drawn(case.make(**changes), (case,))
    for name in draw(st.lists(st.sampled_from(KEEPS_STILL), max_size=2)):
        wrapper = ROW[name]
        assume(not (drawn.tx.takes_half_precision and name in ("lookahead", "flatten")))
        argument = next(n for n in ("inner", "opt", "optimizer", "fast_optimizer") if n in wrapper.make().arguments)
        tx = wrapper.make(**{**draw(arguments_of(wrapper)), argument: drawn.tx})
        drawn = together(tx, wrapper, drawn)
    return params, drawn, [draw(gradients(params, ("normal", "zero", "tiny", "huge"))) for _ in range(3)]


@law(short=5, long=200, case=standing_still())
def test_a_learning_rate_of_zero_moves_nothing(case):
    params, drawn, grads = case
    for _, after in updates_of(drawn, params, grads):
        assert_equal(after, params)


# -- leaves -----------------------------------------------------------------------------------------------------------


def alike(case):
    """Rows to which names and order of the leaves mean nothing."""
    return independent(case) and not has("order_of_leaves_does_not_matter", case) and case.name not in RANDOM


RANDOM = {
    "stochastic_rounding": "its random numbers are made of the path of the leaf",
    "moment_dtypes": "its random numbers are made of the path of the leaf",
    "hutchinson_estimator_diag_hessian": "its random numbers are made of the path of the leaf",
    "scale_by_sophia": "its random numbers are made of the path of the leaf",
    "sophia": "its random numbers are made of the path of the leaf",
}


def unmasked(case):
    return alike(case) and case.name not in WITH_TREES


@law(short=4, long=120, data=st.data())
def test_names_order_and_neighbours_of_leaves_change_nothing(data):
    """Leaves in a list, in another order, under other names, and beside a leaf with any gradients: bit by bit."""
    params = list(jax.tree.leaves(data.draw(trees(BOTH, most=3))))
    drawn = data.draw(optimizers(params, 2, unmasked))
    grads = [data.draw(gradients(params)) for _ in range(2)]
    expected = updates_of(drawn, params, grads)
    order = data.draw(st.permutations(range(len(params))))
    other = numbers(7, (3,), jnp.float32)
    names = data.draw(st.permutations(["p", "q", "r", "s"]))[: len(params)]

    def renamed(leaves, more):
        named = {f"{name}/inside": leaves[i] for name, i in zip(names, order, strict=False)}
        return {"unrelated": more, "kept": (named, None)}

    wild = [data.draw(gradients(other, ("normal", "huge", "nan", "inf"))) for _ in grads]
    found = updates_of(drawn, renamed(params, other), [renamed(g, w) for g, w in zip(grads, wild, strict=True)])
    for (u, p), (expected_u, expected_p) in zip(found, expected, strict=True):
        for name, i in zip(names, order, strict=False):
            assert_near(u["kept"][0][f"{name}/inside"], expected_u[i], tolerance_of(params))
            assert_near(p["kept"][0][f"{name}/inside"], expected_p[i], tolerance_of(params))


@law(short=4, long=100, problem=problems(2, rows=certain, depth=1, most=3), n=st.integers(1, 3))
def test_vmap_over_stacked_trees_is_the_loop(problem, n):
    params, drawn, grads = problem
    assume(not any(c.name in ("flatten",) for c in drawn.rows))
    factors = [1.0, -0.5, 2.0][:n]
    scaled = lambda tree: [jax.tree.map(lambda x, f=f: f * x, tree) for f in factors]
    stacked = lambda tree: jax.tree.map(lambda *x: jnp.stack(x), *scaled(tree))

    def run(params, grads):
        state, every = drawn.tx.init(params), []
        for g in grads:
            updates, state = drawn.update(g, state, params)
            params = jl.apply_updates(params, updates)
            every.append(params)
        return every

    found = jax.jit(jax.vmap(run))(stacked(params), [stacked(g) for g in grads])
    one = jax.jit(run)
    loop = [one(p, [scaled(g)[i] for g in grads]) for i, p in enumerate(scaled(params))]
    assert_near(found, jax.tree.map(lambda *x: jnp.stack(x), *loop), 1e-4)


INVARIANT = {
    "adam": {"eps": 0.0, "eps_root": 0.0},
    "scale_by_adam": {"eps": 0.0, "eps_root": 0.0},
    "adamax": {"eps": 0.0},
    "amsgrad": {"eps": 0.0, "eps_root": 0.0},
    "nadam": {"eps": 0.0, "eps_root": 0.0},
    "laprop": {"eps": 0.0},
    "adan": {"eps": 0.0, "eps_root": 0.0},
    "adam_atan2": {},
    "adam_mini": {"eps": 0.0},
    "rmsprop": {"eps": 0.0, "initial_scale": 0.0},
    "lion": {},
    "sign_sgd": {},
    "signum": {},
    "normalize": {},
    "normalize_by_update_norm": {"eps": 0.0},
}
"""What does not see the unit of the loss, with each safeguard at 0."""


@st.composite
def invariant(draw):
    name = draw(st.sampled_from(list(INVARIANT)))
    changes = {n: v for n, v in draw(arguments_of(ROW[name])).items() if n != "weight_decay"}
    return Drawn(ROW[name].make(**{**changes, **INVARIANT[name]}), (ROW[name],))


@law(
    short=5,
    long=150,
    params=trees(most=3),
    drawn=invariant(),
    factor=st.sampled_from([2.0**-20, 2.0**-3, 1.7, 2.0**10, 1e4]),
    data=st.data(),
)
def test_the_unit_of_the_loss_does_not_matter(params, drawn, factor, data):
    grads = [data.draw(gradients(params)) for _ in range(3)]
    larger = [jax.tree.map(lambda x: factor * x, g) for g in grads]
    assert_near(updates_of(drawn, params, larger), updates_of(drawn, params, grads), 1e-4)


# -- schedules --------------------------------------------------------------------------------------------------------

COUNTS = np.array([*range(25), 31, 40, 64, 100, 127], np.int32)


def values(schedule, counts=COUNTS):
    return np.asarray(jax.jit(lambda s, c: s(c))(schedule, jnp.asarray(counts)))


def assert_same_values(actual, expected, tolerance=2e-6):
    largest = np.max(np.abs(expected[np.isfinite(expected)]), initial=0.0)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * largest)


@law(short=8, long=200, schedule=schedules(depth=2))
def test_a_schedule_is_one_function_however_it_is_called(schedule):
    """At an array, at each count alone, mapped, compiled, closed over, and at whole numbers of every kind."""
    eager = np.asarray(schedule(jnp.asarray(COUNTS)))
    assert eager.dtype == np.float32
    assert eager.shape == COUNTS.shape
    assert_same_values(values(schedule), eager)
    assert_same_values(np.asarray(jax.jit(schedule)(jnp.asarray(COUNTS))), eager)
    assert_same_values(np.asarray(jax.vmap(schedule)(jnp.asarray(COUNTS))), eager)
    for i in (0, 7, 29):
        for count in (int(COUNTS[i]), np.int64(COUNTS[i]), jnp.int8(COUNTS[i]), jnp.uint8(COUNTS[i])):
            at = schedule(count)
            assert at.dtype == jnp.float32
            assert at.shape == ()
            assert_same_values(np.asarray([at]), eager[i : i + 1], 2e-6)
    for dtype in (jnp.int8, jnp.uint8, jnp.int16, jnp.uint32):
        np.testing.assert_array_equal(np.asarray(schedule(jnp.asarray(COUNTS).astype(dtype))), eager)


@law(short=25, long=2000, schedule=schedules())
def test_a_schedule_prints_and_flattens_as_what_it_is(schedule):
    leaves, structure = jax.tree.flatten(schedule)
    again = eval(repr(schedule), vars(jl))
    assert again == schedule
    assert hash(again) == hash(schedule)
    assert jax.tree.unflatten(structure, leaves) == schedule


@law(short=10, long=300, schedule=schedules())
def test_the_peak_of_a_schedule_is_its_largest_value(schedule):
    """And its length is where it comes to rest."""
    long = np.concatenate([np.arange(600), [2**24, 2**31 - 2, 2**31 - 1]])
    seen = values(schedule, long)
    if schedule.peak is not None:
        assert seen.max() <= schedule.peak + 1e-6 * np.abs(schedule.peak) + 1e-9
        near = np.abs(seen - schedule.peak) <= 2e-6 * np.max(np.abs(seen)) + 1e-9
        assert (
            np.any(near)
            or not np.isfinite(schedule.peak)
            or int(schedule.timed.boundary) > 500
            or schedule.timed.endless
        )
    if schedule.length is not None and int(schedule.length) < 600:
        rest = seen[int(schedule.length) : 600]
        assert_same_values(rest, np.full_like(rest, rest[0]))


@law(
    short=4,
    long=80,
    a=schedules(depth=2),
    b=schedules(depth=2),
    n=st.integers(1, 9),
    factor=st.sampled_from([-2.0, 0.0, 0.5, 3.0]),
)
def test_laws_of_schedules(a, b, n, factor):
    va, vb, counts = values(a), values(b), COUNTS
    assert_same_values(values(a + b), va + vb, 1e-5)
    assert_same_values(values(a * b), va * vb, 1e-5)
    assert_same_values(values(b + a), values(a + b))
    assert_same_values(values(factor * a - b), factor * va - vb, 1e-5)
    assert_same_values(values(a.shift(n)), values(a, np.maximum(counts - n, 0)))
    assert_same_values(values(a.per_epoch(n)), values(a, counts // n))
    assert_same_values(values(a.stretch(3.0), 3 * counts), va, 1e-5)
    assert_same_values(values(a.clip(low=0.1, high=0.5)), np.clip(va, np.float32(0.1), np.float32(0.5)))
    end = end_of(a)
    after = np.maximum(counts - end, 0)
    expected = np.where(counts < end, va, values(b, after))
    assert_same_values(values(a.then(b, at=end)), expected)
    if end > 0:
        assert_same_values(values(jl.join_schedules([a, b], [end])), expected)
        assert_same_values(values(a.repeat(every=end)), values(a, counts % end))
        rounds = np.where(counts // end < n, counts % end, end)
        assert_same_values(values(a.repeat(every=end, times=n)), values(a, rounds))
    if a.timed.rests:
        held = a.hold(n)
        assert_same_values(values(held), va)
        assert int(held.length) == (int(a.timed.boundary) if a.length is None else int(a.length)) + n


@law(short=15, long=500, schedule=schedules(depth=1), other=st.sampled_from([0.05, 0.6]))
def test_replaced_numbers_are_those_of_a_schedule_made_anew(schedule, other):
    arguments = schedule.arguments
    names = [n for n, v in arguments.items() if isinstance(v, float) and n in schedule.hyperparameters]
    for name in names:
        try:
            anew = schedule.factory(**{**arguments, name: other})
        except ValueError:
            continue
        replaced = schedule.replace(**{name: other})
        assert replaced == anew
        np.testing.assert_array_equal(values(replaced), values(anew))
        assert jax.tree.structure(replaced) == jax.tree.structure(schedule)
