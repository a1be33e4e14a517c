"""The contract of every transformation, row by row of the table (design, section 3)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import bad_input
from cases import CONTRACT, Case, half
from cases import rows as every_case
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from runs import assert_close

import jaxopt_lessons as jl
from jaxopt_lessons.testing import counters, values
from jaxopt_lessons.testing.check_optimizer import PROPERTIES, ask
from jaxopt_lessons.testing.subject import Subject

HALF = [jnp.float16, jnp.bfloat16]


def tree_of(dtype=jnp.float32, fill=None):
    """Nested, with None, a 0-d and a zero-size leaf, and the same array twice."""
    rng = np.random.default_rng(3)

    def leaf(*shape):
        values = rng.standard_normal(shape) if fill is None else np.full(shape, fill)
        return jnp.asarray(values).astype(dtype)

    tied = leaf(4)
    return {"w": leaf(3, 2), "list": [leaf(), None, leaf(0, 3)], "tied": (tied, tied)}


def assert_same_avals(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, b.weak_type)


def scheduled(case: Case):
    """The row with schedules wherever it takes one."""
    ranges = case.factory._specification.ranges
    return case.make(**{name: half for name, allowed in ranges.items() if allowed is not None and allowed.schedules})


class CaseSubject(Subject):
    """A row as ``check_optimizer`` sees an optimizer; numbers are compared entry by entry."""

    def __init__(self, case: Case, tx: jl.GradientTransformation, core=None):
        params = tree_of() if core is None else core
        super().__init__(tx, params, lambda params: case.extras, strict=True)
        self.case = case

    def update(self, updates, state, params=None, tx=None, **more):
        return self.case.update(tx or self.tx)(updates, state, params, **more)


CANCELS = {"vmap_equals_loop"}
"""Where terms cancel, so that small entries have large relative errors: relative to the largest entry of a leaf."""

TOLERANCES = {"jit_equals_eager": 3e-7, "x64_does_not_change_float32": 5e-7}

MAY_NOT_APPLY = {
    "state_of_other_params_is_refused": "no array of the state has an axis.",
    "nan_steps_that_are_left_out_stay_out": "a step with NaN is not left out: it is seen in the update.",
    "counters_saturate": "no whole number of the state grows with every update.",
    "long_runs_go_on": "no whole number of the state grows with every update.",
    "pickles": "pickle finds functions by their names, and ",
    "new_numbers_compile_nothing": "it has no hyperparameters that are numbers.",
    "hyperparameters_are_checked": "it has no hyperparameters that are numbers.",
}
"""The properties that some rows cannot be asked for, and the only reason there may be."""


def exempt(case: Case) -> dict[str, str]:
    """What the row is exempt from, and hiding what it is there to hide."""
    hides = dict(case.exempt)
    if any(np.isnan(bad) for bad in case.hides):
        hides["nan_gradients_stay_where_they_are"] = "it is there to replace NaN"
    if any(np.isinf(bad) for bad in case.hides):
        hides["infinite_gradients_stay_where_they_are"] = "it is there to replace what is infinite"
    return hides


SCHEDULED = ["init_needs_shapes_only", "state_keeps_its_form", "updates_have_the_dtypes_of_params"]


TRIES = {
    "mixed_trees": [19, 28, 29],
    "state_of_other_params_is_refused": [37],
    "missing_params_are_named": [36],
    "half_precision_is_calculated_in_float32": [52],
    "x64_does_not_change_float32": [53],
    "python_numbers_do_not_retrace": [26],
    "complex_parameters_are_pairs_of_real_ones": [54],
    "none_stays_none": [19],
    "untrained_leaves_are_left_alone": [20, 25],
    "integer_params_with_gradients_are_refused": [25],
    "init_needs_shapes_only": [34],
    "state_owns_its_arrays": [32],
    "leaves_of_any_shape": [28, 29, 30],
    "empty_trees": [18],
    "gradient_shapes_are_checked": [23],
    "gradient_structures_are_checked": [20, 21],
    "gradient_dtypes_are_checked": [24],
    "errors_name_the_leaf": [20, 23],
    "zero_gradients_move_nothing": [43],
    "zero_gradients_are_forgotten": [43],
    "constant_gradients_are_finite": [45],
    "zero_params_are_finite": [44],
    "tiny_gradients_are_finite": [42],
    "huge_gradients_do_not_overflow": [41],
    "huge_gradients_are_forgotten": [41],
    "nan_gradients_stay_where_they_are": [39],
    "infinite_gradients_stay_where_they_are": [40],
    "nan_steps_that_are_left_out_stay_out": [39],
    "counters_saturate": [50],
    "long_runs_go_on": [51],
    "hyperparameters_are_checked": [2, 3],
}
"""The bad inputs that a property tries."""


@functools.lru_cache(maxsize=2)
def subject_of(name: str) -> CaseSubject:
    """The row of this name; its compiled programs are shared by all its properties."""
    case = next(case for case in CONTRACT if case.name == name)
    return CaseSubject(case, case.make())


@pytest.mark.parametrize(
    ("case", "name"),
    [
        pytest.param(
            case,
            name,
            id=f"{case.name}-{name}",
            marks=[
                *([pytest.mark.xfail(reason=exempt(case)[name], strict=True)] if name in exempt(case) else []),
                *([bad_input(*TRIES[name])] if name in TRIES else []),
            ],
        )
        for case in CONTRACT
        for name in PROPERTIES
    ],
)
def test_property(case: Case, name):
    """What ``check_optimizer`` asks of any optimizer."""
    subject = subject_of(case.name)
    subject.tolerance, subject.strict = TOLERANCES.get(name, 1e-6), name not in CANCELS
    row = ask(PROPERTIES[name], subject)
    assert row.outcome != "failed", row.message
    if row.outcome == "not applicable":
        assert row.message.startswith(MAY_NOT_APPLY[name]), row.message


@every_case
@pytest.mark.parametrize(
    "name", ["init_needs_shapes_only", "state_keeps_its_form", "updates_have_the_dtypes_of_params"]
)
def test_property_with_schedules(case: Case, name):
    row = ask(PROPERTIES[name], CaseSubject(case, scheduled(case)))
    assert row.outcome == "passed", row.message


# -- 1. init ----------------------------------------------------------------------------------------------------------


@every_case
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_state_and_updates_keep_shardings(case: Case, axis_type):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(axis_type,))
    sharding = NamedSharding(mesh, P("data"))
    params = jax.device_put(jnp.arange(32.0).reshape(16, 2), sharding)
    tx = case.make()
    with jax.set_mesh(mesh):
        state = tx.init(params)
        updates, new_state = jax.jit(case.update(tx))(params, state, params)
    for leaf in jax.tree.leaves((state, updates, new_state)):
        if leaf.shape == params.shape:
            assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
    here = jnp.arange(32.0).reshape(16, 2)
    alone = case.update(tx)(here, tx.init(here), here)
    assert_close((updates, new_state), alone, rtol=1e-6)


# -- 2, 3. state ------------------------------------------------------------------------------------------------------


def namedtuples(state):
    if hasattr(state, "_fields"):
        yield state
    if isinstance(state, (tuple, dict)):
        for item in state.values() if isinstance(state, dict) else state:
            yield from namedtuples(item)


@every_case
def test_state_is_made_of_namedtuples_with_known_fields(case: Case):
    fields = set()
    for changes in [{}, *case.variants()]:
        state = case.make(**changes).init(tree_of())
        fields |= {name for node in namedtuples(state) for name in node._fields}
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    assert fields == case.fields


@every_case
def test_structure_of_the_state_does_not_depend_on_numbers(case: Case):
    structure = jax.tree.structure(case.make().init(tree_of()))
    for changes in case.other_numbers():
        assert jax.tree.structure(case.make(**changes).init(tree_of())) == structure


# -- 6. extras and params ---------------------------------------------------------------------------------------------


@bad_input(36)
@every_case
def test_missing_params_are_named(case: Case):
    tx = case.make()
    state = tx.init(tree_of())
    if case.needs_params:
        with pytest.raises(jl.InputError, match=r"\w: needs the parameters: call update\("):
            case.update(tx)(tree_of(), state)
    else:
        case.update(tx)(tree_of(), state)


# -- 7. trees ---------------------------------------------------------------------------------------------------------


@bad_input(25, 33, 34)
@every_case
def test_leaves_that_are_not_trainable_get_no_state_and_no_update(case: Case):
    tx = case.make()
    params = {"w": jnp.ones(2), "n": jnp.arange(3), "f": jax.nn.relu, "key": jax.random.key(0)}
    grads = {"w": jnp.ones(2), "n": None, "f": None, "key": None}
    state = tx.init(params)
    assert_same_avals(jax.tree.map(jax.typeof, state), jax.tree.map(jax.typeof, tx.init(grads)))
    updates, _ = case.update(tx)(grads, state, params)
    assert jax.tree.structure(updates) == jax.tree.structure(grads)
    applied = jl.apply_updates(params, updates)
    assert applied["f"] is jax.nn.relu
    np.testing.assert_array_equal(applied["n"], [0, 1, 2])


WRONG_TREES = {
    "missing key": (lambda t: {"a": t["a"]}, r"updates has nothing at 'b/0', where params has float32\[2\]"),
    "extra key": (lambda t: {**t, "c": t["a"]}, r"updates has float32\[3,2\] at 'c', where params has nothing"),
    "None": (lambda t: {**t, "a": None}, r"updates has nothing at 'a', where params has float32\[3,2\]"),
    "container": (lambda t: {**t, "b": tuple(t["b"])}, "At b updates has a tuple and params has a list"),
    "broadcastable shape": (
        lambda t: {**t, "a": t["a"][0]},
        r"at 'a' updates has float32\[2\] and params has float32\[3,2\]",
    ),
    "scalar": (lambda t: {**t, "a": jnp.ones(())}, r"at 'a' updates has float32\[\] and params has float32\[3,2\]"),
    "integers": (lambda t: {**t, "b": [jnp.arange(2)]}, r"at 'b/0' the gradient is int32\[2\]"),
    "float0": (lambda t: {**t, "b": [np.zeros(2, jax.dtypes.float0)]}, "float0 marks a leaf with no gradient"),
}


@bad_input(20, 21, 22, 23, 24)
@every_case
@pytest.mark.parametrize("wrong", WRONG_TREES)
def test_wrong_gradients_are_named(case: Case, wrong):
    change, message = WRONG_TREES[wrong]
    params = {"a": jnp.ones((3, 2)), "b": [jnp.ones(2)]}
    tx = case.make()
    state = tx.init(params)
    with pytest.raises(jl.InputError, match=message) as error:
        case.update(tx)(change(params), state, params)
    assert str(error.value).startswith(tx.name)


@bad_input(25)
@every_case
def test_integer_params_with_float_gradients_are_refused(case: Case):
    tx = case.make()
    params = {"n": jnp.arange(3)}
    with pytest.raises(jl.InputError, match=r"'n'.*|updates has float32\[3\] at 'n'"):
        case.update(tx)({"n": jnp.ones(3)}, tx.init(params), params)


@bad_input(37)
@every_case
def test_state_of_another_transformation_is_refused(case: Case):
    tx = case.make()
    params = {"a": jnp.ones(2)}
    for state in (None, {}, (1, 2, 3), jl.EmaState(jnp.int32(0), params) if case.name != "ema" else ()):
        with pytest.raises(jl.InputError, match="expected "):
            case.update(tx)(params, state, params)


@bad_input(37)
@every_case
def test_state_of_other_params_is_refused(case: Case):
    tx = case.make()
    params = {"a": jnp.ones((2, 3))}
    for other in ({"a": jnp.ones((3, 2))}, {"a": jnp.ones((2, 1))}, {"b": jnp.ones((2, 3))}, [jnp.ones((2, 3))]):
        state = tx.init(other)
        if any(leaf.shape for leaf in jax.tree.leaves(state)):
            with pytest.raises(jl.InputError, match=r"state|update"):
                case.update(tx)(params, state, params)


# -- 8. values --------------------------------------------------------------------------------------------------------


def without_eps(case: Case):
    """Each safeguard at 0, if 0 is allowed."""
    ranges = case.factory._specification.ranges
    return {name: 0.0 for name in ("eps", "eps_root") if name in case.others and 0.0 in ranges[name]}


@bad_input(7, 43)
@every_case
@pytest.mark.parametrize("dtype", [*HALF, jnp.float32, jnp.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("eps", ["default", "zero"])
def test_zero_gradients_give_zero_updates(case: Case, dtype, eps):
    """Without any decay, and with each safeguard at 0 if that is allowed."""
    off = {"weight_decay": 0.0} if "weight_decay" in case.others else {}
    if eps == "zero":
        off |= without_eps(case)
        off |= {name: 0.0 for name in ("initial_scale", "initial_accumulator_value") if name in case.others}
    subject = CaseSubject(case, case.make(**off))
    with jax.enable_x64(dtype == jnp.float64), jax.debug_nans(True):
        params, state = values.zero_gradients(subject, dtype, decay=False)
    # Afterwards it can still move.
    with jax.enable_x64(dtype == jnp.float64):
        updates, state = subject.step(subject.fill(params, 1.0), state, params)
        assert all(np.all(np.asarray(u, np.float64) != 0) for u in jax.tree.leaves(updates))


@bad_input(41)
@every_case
@pytest.mark.parametrize(("dtype", "huge"), [(jnp.float32, 1e20), (jnp.float32, 3e38), (jnp.float16, 300.0)])
def test_one_huge_gradient_does_not_stop_a_weight_for_ever(case: Case, dtype, huge):
    tx = case.make()
    params = jnp.ones(3, dtype)
    state = tx.init(params)
    _, state = case.update(tx)(jnp.asarray([huge, -huge, 1.0], dtype), state, params)
    assert all(np.all(np.isfinite(np.asarray(leaf, np.float64))) for leaf in jax.tree.leaves(state))
    # A decaying memory of 1e20 needs some time to fade; the point is that it does.
    update = jax.jit(case.update(tx))
    for _ in range(case.forgets):
        updates, state = update(jnp.ones(3, dtype), state, params)
    assert np.all(np.isfinite(np.asarray(updates, np.float64)))
    if not {"nu", "sum_of_squares"} & case.fields:
        assert np.all(np.asarray(updates, np.float64) != 0)


@bad_input(41)
def test_adam_recovers_from_a_huge_gradient():
    tx = jl.scale_by_adam(b2=0.9)
    params = jnp.zeros(1)
    state = tx.init(params)
    updates, state = tx.update(jnp.array([1e30]), state, params)
    assert float(updates[0]) == pytest.approx(1.0, rel=1e-5)
    update = jax.jit(tx.update)
    for _ in range(1000):
        updates, state = update(jnp.ones(1), state, params)
    assert float(updates[0]) == pytest.approx(1.0, rel=1e-3)


@bad_input(39, 40)
@every_case
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_non_finite_gradients_are_seen_and_stay_where_they_are(case: Case, bad):
    """Nothing hides a non-finite gradient; it spoils its own entry and no other."""
    tx = case.make()
    params = jnp.ones(3)
    updates, _ = case.update(tx)(jnp.array([bad, 1.0, 2.0]), tx.init(params), params)
    assert np.isfinite(updates[0]) == any(np.array_equal(bad, hidden, equal_nan=True) for hidden in case.hides)
    assert np.all(np.isfinite(updates[1:]))
    assert np.all(updates[1:] != 0)


@bad_input(42)
@every_case
def test_tiny_gradients_give_small_updates(case: Case):
    """With each safeguard at 0 if that is allowed."""
    values.tiny_gradients(CaseSubject(case, case.make(**without_eps(case)), core=jnp.ones(3)), largest=2)


# -- 9. transformations of JAX ----------------------------------------------------------------------------------------


@every_case
def test_a_value_may_be_an_argument(case: Case):
    tx = case.make()
    params = tree_of()
    state = tx.init(params)
    eager = case.update(tx)(params, state, params)
    passed = jax.jit(lambda tx, g, s, p: case.update(tx)(g, s, p))(tx, params, state, params)
    assert_close(passed, eager, rtol=3e-7, atol=1e-30)


@every_case
def test_vmap_over_hyperparameters_is_the_loop(case: Case):
    params = jnp.array([0.3, -0.7])
    numbers = [c for c in case.variants() if len(c) == 1 and all(isinstance(v, float) for v in c.values())]
    for changes in numbers:
        ((name, value),) = changes.items()
        values = jnp.array([value / 2, value])
        stacked = jax.vmap(lambda v, name=name: case.make(**{name: v}))(values)
        actual = jax.vmap(lambda tx: case.update(tx)(params, tx.init(params), params)[0])(stacked)
        each = [case.make(**{name: float(v)}) for v in values]
        loop = [case.update(tx)(params, tx.init(params), params)[0] for tx in each]
        assert_close(actual, jnp.stack(loop), rtol=1e-6)


@every_case
def test_hypergradient_is_the_finite_difference(case: Case):
    grads, params = jnp.array([0.8, -0.3]), jnp.array([1.0, 2.0])
    with jax.enable_x64(True):
        grads, params = grads.astype(jnp.float64), params.astype(jnp.float64)

        def final(tx):
            def body(carry, _):
                params, state = carry
                updates, state = case.update(tx)(grads * params, state, params)
                return (jl.apply_updates(params, updates), state), None

            (end, _), _ = jax.lax.scan(body, (params, tx.init(params)), None, length=4)
            return jnp.sum(end**2)

        # An eps of 1e-8 is too small for a finite difference.
        ranges = case.factory._specification.ranges
        changes = {name: 0.1 for name in ("eps", "eps_root") if name in case.others}
        for name, value in case.make().arguments.items():
            if isinstance(value, float) and value == ranges[name].high:  # no step beyond the end of a range
                changes[name] = case.others[name]
        tx = case.make(**changes)
        names = [name for name, value in tx.arguments.items() if isinstance(value, float) and value != 0]
        both = jax.jit(jax.value_and_grad(final, allow_int=True))
        _, exact = both(tx)
        for name in names:
            value = tx.arguments[name]
            # 0.999 is nearer to the end of its range than to 0, and 1 - 0.999 is what counts.
            h = 1e-5 * min(value, ranges[name].high - value)
            # Made anew: replace would change the same number where it stands a second time, in an optimizer inside.
            (below, _), (above, _) = (both(case.make(**{**changes, name: value + sign * h})) for sign in (-1, 1))
            np.testing.assert_allclose(exact.arguments[name], (above - below) / (2 * h), rtol=1e-5, atol=1e-7)


# -- 10. counters -----------------------------------------------------------------------------------------------------


@bad_input(50)
@every_case
def test_counters_saturate(case: Case):
    """Those too that grow only now and then."""

    def counts(path, leaf):
        return leaf.dtype == jnp.int32 and not any(getattr(key, "name", None) in case.cyclic for key in path)

    for tx in (case.make(), scheduled(case)):
        counters.saturate(CaseSubject(case, tx), counts)
