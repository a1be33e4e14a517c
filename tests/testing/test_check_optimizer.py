"""``check_optimizer``: every property can fail, for the right reason; what it reports, and what it refuses."""

import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lessons as jl
from jaxopt_lessons import _checks
from jaxopt_lessons.testing import check_optimizer
from jaxopt_lessons.testing.check_optimizer import PROPERTIES
from jaxopt_lessons.types import NonNegative

GOOD = jl.sgd(0.1, momentum=0.9)


def around(update=None, init=None, inner=GOOD):
    """A good optimizer with another ``update``, or another ``init``."""
    return init or inner.init, update or inner.update


def stateless(rule, **options):
    """An optimizer without a state and without checks: ``rule(gradient)``."""
    return lambda params: (), lambda g, state, params=None: (jax.tree.map(rule, g, **options), state)


def with_memory(first, rule):
    """One that has an array for each leaf and no checks: ``rule(gradient, memory) -> (update, memory)``."""

    def update(g, state, params=None):
        both = jax.tree.map(rule, g, state)
        return tuple(jax.tree.map(lambda _, x, i=i: x[i], g, both) for i in (0, 1))

    return lambda params: jax.tree.map(first, params), update


def counting(rule, count=lambda: jnp.zeros((), jnp.int32), step=lambda c: c + 1):
    """One that counts its updates: ``rule(gradient, count)``."""

    def update(g, state, params=None):
        return jax.tree.map(lambda g: rule(g, state), g), step(state)

    return lambda params: count(), update


def changed_updates(change):
    """A good optimizer whose updates are changed on their way out: ``change(updates, gradients, params)``."""

    def update(g, state, params=None):
        updates, state = GOOD.update(g, state, params)
        return change(updates, g, params), state

    return around(update)


def heavy_ball(g, m):
    m = 0.9 * m + g
    return -0.1 * m, m


PLAIN = with_memory(jnp.zeros_like, heavy_ball)
"""What one writes first: right numbers, and no checks."""


def divided_by_the_norm(updates, g, params):
    norm = jnp.sqrt(sum((jnp.sum(x.astype(jnp.float32) ** 2) for x in jax.tree.leaves(g)), jnp.float32(1e-9)))
    return jax.tree.map(lambda u: u / norm.astype(u.dtype), updates)


def by_place(updates, g, params):
    leaves, structure = jax.tree.flatten(updates)
    return jax.tree.unflatten(structure, [(i + 1) * leaf for i, leaf in enumerate(leaves)])


def first_is_raw(updates, g, params):
    leaves, structure = jax.tree.flatten(updates)
    return jax.tree.unflatten(structure, [*jax.tree.leaves(g)[:1], *leaves[1:]])


def needs_params(g, state, params=None):
    if params is None:
        raise TypeError("argument of type 'NoneType' is not iterable")
    return GOOD.update(g, state, params)


def zeros_for_all(g, state, params=None):
    updates, state = GOOD.update(g, state, params)
    none = lambda x: x is None
    return jax.tree.map(lambda u, p: jnp.zeros(jnp.shape(p)) if u is None else u, updates, params, is_leaf=none), state


def speechless(g, state, params=None):
    try:
        return GOOD.update(g, state, params)
    except ValueError:
        raise ValueError("incompatible shapes") from None


def gives_up(limit):
    """Leaves out steps with NaN, but not more than ``limit`` in a row: then NaN fills the memory."""

    def update(g, state, params=None):
        inner, bad = state
        finite = jl.tree.all_finite(g)
        updates, new = GOOD.update(g, inner, params)
        take = finite | (bad >= limit)
        chosen = jax.tree.map(lambda a, b: jnp.where(take, a, b), new, inner)
        updates = jax.tree.map(lambda u: jnp.where(take, u, jnp.zeros_like(u)), updates)
        return updates, (chosen, jnp.where(finite, 0, bad + 1))

    return lambda params: (GOOD.init(params), jnp.zeros((), jnp.int32)), update


def stops(limit):
    """Leaves out steps with NaN, and after ``limit`` of them every step."""

    def update(g, state, params=None):
        inner, bad = state
        bad = jnp.where(jl.tree.all_finite(g), bad, bad + 1)
        updates, new = GOOD.update(g, inner, params)
        take = jl.tree.all_finite(g) & (bad < limit)
        chosen = jax.tree.map(lambda a, b: jnp.where(take, a, b), new, inner)
        return jax.tree.map(lambda u: jnp.where(take, u, jnp.zeros_like(u)), updates), (chosen, bad)

    return lambda params: (GOOD.init(params), jnp.zeros((), jnp.int32)), update


def refuses_none(g, state, params=None):
    if any(leaf is None for leaf in g.values()):
        raise ValueError("None has no dtype")
    return GOOD.update(g, state, params)


def in_a_list(g, state, params=None):
    """Whose updates of no leaves are a list."""
    updates, state = GOOD.update(g, state, params)
    return updates if jax.tree.leaves(updates) else [updates], state


@jax.custom_batching.custom_vmap
def not_batched(x):
    return x


@not_batched.def_vmap
def _doubled(size, batched, x):
    return 2 * x, batched[0]


def from_host(x):
    return jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential")


def noise_of_init(params):
    return GOOD.init(params), jnp.asarray(np.random.normal(), jnp.float32)


def noisy(g, state, params=None):
    updates, inner = GOOD.update(g, state[0], params)
    return updates, (inner, state[1])


@jl.gradient_transformation
def moved_by_extras(rate: NonNegative = 0.1):
    def update(updates, state, params=None, **extra):
        return jl.tree.map_leaves(lambda g: (-0.2 if extra else -0.1) * g, updates, params=params), state

    return lambda params: jl.EmptyState(), update


@jl.gradient_transformation
def with_a_static_number(rate: NonNegative = 0.1):
    fixed = float(rate)

    def update(updates, state, params=None, **extra):
        return jl.tree.map_leaves(lambda g: -fixed * g, updates, params=params), state

    return lambda params: jl.EmptyState(), update


class Thing:
    """Equal to nothing but itself."""


@jl.gradient_transformation
def with_a_thing(thing=None):
    return GOOD.init, GOOD.update


NAN = r"is nan; expected a finite number"
BROKEN = {
    "runs": (around(lambda g, state, params=None: unknown(g)), "raised NameError.*test_check_optimizer.py"),  # noqa: F821
    "mixed_trees": (stateless(lambda g: -g * (1 / g.size)), "raised ZeroDivisionError"),
    "init_needs_shapes_only": (
        around(init=lambda p: (GOOD.init(p), [float(x.sum()) for x in jax.tree.leaves(p)])[0]),
        "raised ConcretizationTypeError|raised TracerArrayConversionError",
    ),
    "state_is_made_of_arrays": (
        (lambda p: 0.5, lambda g, s, p=None: (g, s)),
        r"the state at '\(the only leaf\)' is 0.5 of type float",
    ),
    "state_owns_its_arrays": (
        (lambda p: p, lambda g, s, p=None: (g, s)),
        "the state at 'dense/bias' is the same array as the parameter at 'dense/bias'",
    ),
    "state_keeps_its_form": (
        with_memory(jnp.zeros_like, lambda g, m: (-g, m.astype(g.dtype))),
        r"float32, parameters bfloat16\) the state after update at 'dense/bias' is float32\[3\], before bfloat16\[3\]",
    ),
    "state_is_a_loop_carry": (
        (lambda p: [jnp.zeros(())], lambda g, s, p=None: (g, tuple(s))),
        "raised TypeError: scan",
    ),
    "state_of_other_params_is_refused": (
        with_memory(jnp.zeros_like, heavy_ball),
        "parameters with 1 as the last axis: expected an error",
    ),
    "missing_params_are_named": (around(needs_params), "without params update raised TypeError"),
    "updates_have_the_dtypes_of_params": (
        changed_updates(lambda u, g, p: jax.tree.map(lambda x: x.astype(jnp.float32), u)),
        r"the update at 'dense/bias' is float32\[3\], the parameter float16\[3\]",
    ),
    "half_precision_is_calculated_in_float32": (
        with_memory(jnp.zeros_like, heavy_ball),
        r"\(float16\) the state at 'dense/bias' is float16\[3\]; expected float32",
    ),
    "x64_does_not_change_float32": (
        stateless(lambda g: -jnp.asarray(np.float64(0.1)) * g),
        r"the update at 'dense/bias' is float64\[3\]; expected no 64 bits",
    ),
    "python_numbers_do_not_retrace": (
        with_memory(jnp.zeros_like, heavy_ball),
        r"at 'a' is float32\[\] \(a weak type\)",
    ),
    "complex_parameters_are_pairs_of_real_ones": (
        stateless(lambda g: -g / (1 + jnp.abs(g))),
        "the third complex update, in pairs",
    ),
    "none_stays_none": (
        stateless(lambda g: -jnp.ones(2) if g is None else -g, is_leaf=lambda x: x is None),
        "with None among the parameters, the update has the structure",
    ),
    "untrained_leaves_are_left_alone": (around(zeros_for_all), r"the update of int32\[3\] with the gradient None"),
    "integer_params_with_gradients_are_refused": (stateless(lambda g: -g), r"int32\[3\] and the gradient float32\[3\]"),
    "leaves_of_any_shape": (stateless(lambda g: -g / g.shape[0]), r"a parameter float32\[\]: raised IndexError"),
    "empty_trees": (
        (lambda p: max(x.size for x in jax.tree.leaves(p)), lambda g, s, p=None: (g, s)),
        "raised ValueError: max",
    ),
    "gradient_shapes_are_checked": (
        (lambda p: (), lambda g, s, p=None: (jax.tree.map(lambda g, p: -g * p, g, p), s)),
        "the gradient at 'dense/bias' is a scalar: expected an error",
    ),
    "gradient_structures_are_checked": (
        stateless(lambda g: -g),
        "the gradient at 'dense/bias' is None: expected an err",
    ),
    "gradient_dtypes_are_checked": (
        stateless(lambda g: -g),
        "the gradient at 'dense/bias' is int32: expected an error",
    ),
    "errors_name_the_leaf": (around(speechless), "expected an error that names 'dense/bias'"),
    "leaves_are_independent": (changed_updates(divided_by_the_norm), "at step 1 the update at 'dense/kernel'"),
    "order_of_leaves_does_not_matter": (changed_updates(by_place), "in backward order, at step 1, the update at '0'"),
    "zero_gradients_move_nothing": (
        stateless(lambda g: -g / jnp.abs(g)),
        rf"\(float16\) at the zero gradient 1 .*{NAN}",
    ),
    "zero_gradients_are_forgotten": (
        with_memory(lambda p: jnp.ones(p.shape, bool), lambda g, m: (jnp.where(m, -g, 0 * g), m & (g != 0))),
        r"\(float16\) after zero gradients, the update at 'dense/bias'\[0\] is 0 for 500 ordinary gradients",
    ),
    "constant_gradients_are_finite": (
        with_memory(jnp.zeros_like, lambda g, m: (-g / jnp.abs(g - m), g)),
        "at the equal gradient 2 the update at 'dense/bias'.* is -?inf",
    ),
    "zero_params_are_finite": (
        changed_updates(lambda u, g, p: jax.tree.map(lambda u, p: u / jnp.abs(p), u, p)),
        "with zero parameters, at the gradient 1, the update at 'dense/bias'.* is -?inf",
    ),
    "tiny_gradients_are_finite": (stateless(lambda g: -(g * g) / (g * g)), f"with gradients of 1e-25, .*{NAN}"),
    "huge_gradients_do_not_overflow": (
        stateless(lambda g: -g / (1 + g * g)),
        "with gradients of 1e.20 in float32 the update at 'dense/bias'.* is 0, with others",
    ),
    "huge_gradients_are_forgotten": (
        with_memory(jnp.zeros_like, lambda g, v: (-g, v + g * g)),
        "after a gradient of 1e.20 in float32 the state at 'dense/bias'.* is inf",
    ),
    "nan_gradients_stay_where_they_are": (stateless(lambda g: -jnp.nan_to_num(g, nan=1.0)), "what is wrong is hidden"),
    "infinite_gradients_stay_where_they_are": (stateless(lambda g: -jnp.clip(g, -1, 1)), "what is wrong is hidden"),
    "nan_steps_that_are_left_out_stay_out": (gives_up(3), f"after thirty steps with NaN that were left out, .*{NAN}"),
    "leaves_move_the_same_way": (changed_updates(first_is_raw), "'dense/kernel' goes against .* 'dense/bias' along it"),
    "jit_equals_eager": (
        stateless(lambda g: -g * (2 if isinstance(g, jax.core.Tracer) else 1)),
        "compiled, the update at 'dense/bias'",
    ),
    "one_trace_for_many_steps": (
        counting(lambda g, c: -g, lambda: 0.0, lambda c: jnp.float32(1)),
        "four steps traced update 2 times",
    ),
    "runs_are_deterministic": (around(noisy, noise_of_init), "in a second run the state at '1' is"),
    "vmap_equals_loop": (stateless(lambda g: -not_batched(g)), "under vmap the update at 'dense/bias'"),
    "derivatives_of_update_are_finite": (
        stateless(lambda g: -g / (jnp.sqrt(g * g) + 1e-4)),
        "with zero gradients the derivative for the gradient at 'w' is .nan",
    ),
    "nothing_calls_the_host": (stateless(lambda g: -from_host(g)), "update has the primitive pure_callback"),
    "counters_saturate": (counting(lambda g, c: -g), "goes from 2147483647 to -2147483648"),
    "long_runs_go_on": (
        counting(
            lambda g, c: -g / jnp.sqrt(1 + c * c).astype(g.dtype), step=lambda c: jnp.where(c < 2**31 - 1, c + 1, c)
        ),
        f"after a billion updates, the update .*{NAN}",
    ),
    "unknown_extras_are_accepted": (moved_by_extras(), "with more keyword arguments the update at 'dense/bias'"),
    "prints_and_compares": (with_a_thing(Thing()), "a deep copy is not equal"),
    "pickles": (with_a_thing(Thing()), "back from pickle it is with_a_thing"),
    "new_numbers_compile_nothing": (with_a_static_number(), "raised ConcretizationTypeError"),
}


def starts_itself(g, state, params=None):
    """Decays, and leaves zero by itself."""
    updates, state = GOOD.update(g, state, params)
    at_zero = lambda p: jnp.all(p == 0) & jnp.all(jnp.array([jnp.all(x == 0) for x in jax.tree.leaves(g)]))
    return jax.tree.map(lambda u, p: u + jnp.where(at_zero(p), 0.25, -0.01 * p).astype(u.dtype), updates, params), state


def spoils_its_memory(g, state, params=None):
    """Leaves out the step with NaN, and keeps the NaN for all entries of all leaves."""
    updates, new = GOOD.update(g, state, params)
    total = sum((jnp.sum(x.astype(jnp.float32)) for x in jax.tree.leaves(g)), jnp.float32(0))
    updates = jax.tree.map(lambda u: jnp.where(jnp.isfinite(total), u, 0).astype(u.dtype), updates)
    return updates, jax.tree.map(lambda x: x + (0 * total).astype(x.dtype), new)


@jl.gradient_transformation
def shaped_by_a_number(rate: NonNegative = 0.1, parts: bool = True):
    many = isinstance(rate, float) and rate < 0.1

    def update(updates, state, params=None, **extra):
        return jl.tree.map_leaves(lambda g: -0.1 * g, updates, params=params), state

    return lambda params: (jnp.zeros(()),) * (1 + many) if parts else jnp.zeros(1 + many), update


OTHERWISE = [
    (
        "zero_gradients_move_nothing",
        around(starts_itself),
        "with zero parameters, at zero gradients, the update .* is 0.25",
    ),
    (
        "nan_gradients_stay_where_they_are",
        around(spoils_its_memory),
        "after a step with nan that was left out, .* is nan",
    ),
    (
        "nan_steps_that_are_left_out_stay_out",
        around(*stops(3)[::-1]),
        r"after thirty steps with NaN that were left out, the update at .* is 0 for 500 ordinary gradients",
    ),
    ("untrained_leaves_are_left_alone", around(refuses_none), "None has no dtype; expected no update, or an error"),
    ("empty_trees", around(in_a_list), r"the updates of the parameters \{\} are \[\{\}\]"),
    ("half_precision_is_calculated_in_float32", stateless(lambda g: -(g + 3 - 3)), "calculated in float32"),
    ("complex_parameters_are_pairs_of_real_ones", stateless(lambda g: -abs(g)), "the update of complex64.* is float32"),
    ("long_runs_go_on", counting(lambda g, c: -g * (1 + c % 2)), "and at the next count"),
    ("long_runs_go_on", counting(lambda g, c: -g * (c < 10**6)), "after a billion updates, the update .* is 0"),
    ("new_numbers_compile_nothing", shaped_by_a_number(), "the structure of the state is another"),
    ("new_numbers_compile_nothing", shaped_by_a_number(parts=False), "were traced 2 times"),
]
"""The same properties, broken in the other ways that the check tells apart."""


@pytest.mark.parametrize("number", range(len(OTHERWISE)), ids=lambda i: f"{OTHERWISE[i][0]}-{i}")
def test_an_optimizer_broken_otherwise_fails(number):
    name, tx, message = OTHERWISE[number]
    (row,) = check_optimizer(tx, only=[name]).rows
    assert row.outcome == "failed", row
    assert re.search(message, row.message), row.message


def test_errors_that_do_not_name_the_hyperparameter_fail(monkeypatch):
    def nameless(owner, name, value, allowed):
        _checks.require(not isinstance(value, str) and value >= 0, "wrong number")

    monkeypatch.setattr(_checks, "number", nameless)
    (row,) = check_optimizer(jl.sgd(0.1), only=["hyperparameters_are_checked"]).rows
    assert "learning_rate=nan raised ValueError: wrong number; expected that it names learning_rate" in row.message


def test_the_only_leaf_has_no_name():
    (row,) = check_optimizer(GOOD, params=jnp.ones(3), only=["errors_name_the_leaf"]).rows
    assert row.outcome == "passed", row


@pytest.mark.parametrize(
    ("method", "wrong", "message"),
    [
        ("__eq__", lambda self, other: True, "with 0.3 in the place of 0.1 it is equal"),
        ("__repr__", lambda self: "an optimizer", "it prints as an optimizer; expected the call of sgd"),
    ],
)
def test_values_that_compare_or_print_wrongly_fail(monkeypatch, method, wrong, message):
    monkeypatch.setattr(jl.GradientTransformation, method, wrong)
    (row,) = check_optimizer(jl.sgd(0.1), only=["prints_and_compares"]).rows
    assert (row.outcome, row.message[: len(message)]) == ("failed", message)


def test_functions_are_found_in_what_a_factory_is_given():
    """By name, as pickle does: in tuples, in dicts, in optimizers inside."""
    in_dict = jl.partition({"a": jl.sgd(lambda count: 0.1)}, "a")
    for tx in (in_dict, jl.chain(jl.clip(1.0), in_dict)):
        (row,) = check_optimizer(tx, only=["pickles"]).rows
        assert row.outcome == "not applicable"
        assert row.message.endswith("<lambda> is not at the top of a module.")


def test_complex_parameters_may_be_refused():
    def real_only(g):
        if jnp.iscomplexobj(g):
            raise TypeError("complex parameters are not for me")
        return -g

    (row,) = check_optimizer(stateless(real_only), only=["complex_parameters_are_pairs_of_real_ones"]).rows
    assert row.outcome == "not applicable"
    assert "complex parameters are refused: TypeError: complex parameters are not for me" in row.message


def test_each_property_is_broken_here():
    assert {*BROKEN, "hyperparameters_are_checked"} == {*PROPERTIES}


@pytest.fixture(autouse=True)
def _as_users_have_it():
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_optimizer_fails(name):
    tx, message = BROKEN[name]
    (row,) = check_optimizer(tx, only=[name]).rows
    assert row.outcome == "failed"
    assert re.search(message, row.message), row.message


def test_unchecked_hyperparameters_fail(monkeypatch):
    monkeypatch.setattr(_checks, "number", lambda *args: None)
    (row,) = check_optimizer(jl.sgd(0.1), only=["hyperparameters_are_checked"]).rows
    assert "learning_rate=nan is accepted" in row.message


def test_a_good_optimizer_passes():
    report = check_optimizer(GOOD)
    assert report.passed, report
    assert {row.name for row in report.rows} == {*PROPERTIES}
    report.raise_if_failed()


def test_it_may_be_asked_with_64_bits():
    """Python's numbers have 64 bits then, and the trees of the check have not."""
    with jax.enable_x64(True):
        check_optimizer(GOOD).raise_if_failed()


# -- the report -------------------------------------------------------------------------------------------------------

TWO = ["vmap_equals_loop", "state_keeps_its_form"]


def test_the_report_of_failures():
    report = check_optimizer(PLAIN, only=TWO)
    assert not report.passed
    assert [row.name for row in report.rows] == TWO[::-1]  # in the order of the contract
    assert [row.name for row in report.failures] == ["state_keeps_its_form"]
    assert report["vmap_equals_loop"].outcome == "passed"
    assert "1 passed, 1 failed, 0 not applicable" in str(report)
    assert "Three sets of parameters under vmap are three runs." in str(report)
    assert report.failures[0].message in " ".join(str(report).split())
    assert all(len(line) <= 100 for line in str(report).splitlines()[1:])
    assert repr(report) == str(report)
    assert "state_keeps_its_form" in report._repr_html_()
    with pytest.raises(AssertionError, match="state_keeps_its_form"):
        report.raise_if_failed()
    with pytest.raises(KeyError, match="no property 'runs' was asked for"):
        report["runs"]


def test_every_property_has_a_row_and_a_promise():
    report = check_optimizer(around(lambda g, state, params=None: 1 / 0))
    assert [row.name for row in report.rows] == [*PROPERTIES]
    assert all(row.promise.endswith(".") for row in report.rows)
    assert report.rows[0].outcome == "failed"
    assert {row.outcome for row in report.rows[1:]} == {"not applicable"}
    assert {row.message for row in report.rows[1:]} == {"update does not run: see runs."}


def test_an_exception_is_asked_for_all_the_same():
    report = check_optimizer(PLAIN, only=TWO, except_={"state_keeps_its_form": "float32 is all that it sees"})
    assert report.passed
    row = report["state_keeps_its_form"]
    assert (row.outcome, row.message) == ("not applicable", "except_: float32 is all that it sees")
    report = check_optimizer(PLAIN, only=TWO, except_={"vmap_equals_loop": "a guess"})
    assert "it holds: take it out" in report["vmap_equals_loop"].message
    assert report["vmap_equals_loop"].outcome == "failed"


def test_properties_of_values_do_not_apply_to_a_pair():
    report = check_optimizer(PLAIN, only=["pickles", "hyperparameters_are_checked"])
    assert report.passed
    assert {row.outcome for row in report.rows} == {"not applicable"}
    assert str(report).count("a plain pair of functions is no value") == 1


def test_a_local_factory_is_not_pickled():
    @jl.gradient_transformation
    def local(rate: NonNegative = 0.1):
        return GOOD.init, GOOD.update

    (row,) = check_optimizer(local(), only=["pickles"]).rows
    assert (row.outcome, row.message[-36:]) == ("not applicable", "local is not at the top of a module.")


def test_extra_arguments_are_found():
    report = check_optimizer(jl.polyak_sgd(), only=["runs"])
    assert report.called_with == ("value",)
    assert "(update was called with value=)" in str(report)
    assert check_optimizer(GOOD, only=["runs"]).called_with == ()
    seen = []

    def update(g, state, params=None, *, losses):
        seen.append(losses)
        return GOOD.update(g, state, params)

    assert check_optimizer(around(update), only=["runs"], extra={"losses": 3.0}).passed
    assert check_optimizer(
        around(update), only=["runs"], extra=lambda p: {"losses": jax.tree.leaves(p)[0].shape}
    ).passed
    assert seen[0] == 3.0
    assert seen[-1] == (3,)
    with pytest.raises(
        ValueError, match=r"hutchinson_\w+ needs obj_fn: call check_optimizer\(tx, extra=\{'obj_fn': ...\}\)"
    ):
        check_optimizer(jl.sophia(0.1))


def test_params_of_ones_own():
    tx = jl.freeze({"a": True, "b": False})
    assert not check_optimizer(tx, only=["runs"]).passed
    params = {"a": jnp.ones(2), "b": jnp.ones((2, 2), jnp.bfloat16), "n": 3}
    assert check_optimizer(jl.masked(GOOD, {"a": True, "b": False}, unmasked="zero"), params, only=["runs"]).passed
    row = check_optimizer(PLAIN, params, only=["state_keeps_its_form"]).rows[0]
    assert "at 'a' is float32[2]" in row.message


def test_wrong_arguments():
    with pytest.raises(TypeError, match="check_optimizer: tx must be a gradient transformation"):
        check_optimizer(jl.adam)
    with pytest.raises(ValueError, match="only has no 'vmap_equal_loop'. Did you mean 'vmap_equals_loop'?"):
        check_optimizer(GOOD, only=["vmap_equal_loop"])
    with pytest.raises(ValueError, match="except_ has no 'run'. Did you mean 'runs'?"):
        check_optimizer(GOOD, except_={"run": "why"})
    with pytest.raises(TypeError, match="must map names of properties to reasons"):
        check_optimizer(GOOD, except_=["runs"])
    with pytest.raises(TypeError, match="must say why"):
        check_optimizer(GOOD, except_={"runs": ""})
    with pytest.raises(ValueError, match="nothing to train|no array with numbers to train"):
        check_optimizer(GOOD, {"n": jnp.arange(3)})
    with pytest.raises(TypeError, match="extra must be a dict or a function"):
        check_optimizer(GOOD, extra=1.0)
    for extra in (lambda params: 3, {1: 2}):
        with pytest.raises(TypeError, match="extra must be, or return, a dict of keyword arguments by their names"):
            check_optimizer(GOOD, extra=extra)
    with pytest.raises(ValueError, match="extra has 'params', which update gets anyway"):
        check_optimizer(GOOD, extra={"params": 3})
    with pytest.raises(ValueError, match="only is empty"):
        check_optimizer(GOOD, only=[])
    for tolerance in (-1e-6, np.nan, np.inf, 1.0):
        with pytest.raises(ValueError, match="check_optimizer: tolerance must be"):
            check_optimizer(GOOD, tolerance=tolerance)
    for tolerance in ("tight", True, None):
        with pytest.raises(TypeError, match="check_optimizer: tolerance must be"):
            check_optimizer(GOOD, tolerance=tolerance)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda g, state: None, "update returned one NoneType; expected the pair (updates, state)."),
        (lambda g, state: g, "update returned one dict; expected the pair (updates, state)."),
        (lambda g, state: (g, state, 1), "update returned one tuple; expected the pair (updates, state)."),
        (lambda g, state: "ab", "update returned one str; expected the pair (updates, state)."),
    ],
)
def test_what_is_no_pair_of_updates_and_state(returned, message):
    tx = (lambda params: (), lambda g, state, params=None: returned(g, state))
    names = ["runs", "jit_equals_eager"]
    assert [row.message for row in check_optimizer(tx, only=names).rows] == [message, "update does not run: see runs."]
    # Asked for without ``runs``: the answer that is no pair is not the error that is wanted.
    assert check_optimizer(tx, only=["gradient_shapes_are_checked"]).rows[0].message == message


@pytest.mark.parametrize("leaf", ["text", lambda: 3])
def test_a_state_that_is_no_array(leaf):
    tx = (lambda params: {"kind": leaf}, lambda g, state, params=None: (g, state))
    message = check_optimizer(tx, only=["runs"]).rows[0].message
    assert message.startswith("the state at 'kind' is ")
    assert message.endswith("expected an array.")


def test_a_state_of_python_numbers_fails_as_such():
    tx = (lambda params: 0, lambda g, state, params=None: (jax.tree.map(lambda x: -0.1 * x, g), state + 1))
    names = [
        "state_is_made_of_arrays",
        "state_of_other_params_is_refused",
        "x64_does_not_change_float32",
        "half_precision_is_calculated_in_float32",
        "counters_saturate",
        "long_runs_go_on",
    ]
    report = check_optimizer(tx, only=names)
    assert [row.name for row in report.failures] == ["state_is_made_of_arrays"]


def test_an_exception_for_runs():
    """That it runs all the same is one failure, and hides nothing; that it does not leaves nothing to ask."""
    names = ["runs", "jit_equals_eager"]
    works = check_optimizer(GOOD, only=names, except_={"runs": "why"})
    assert [row.outcome for row in works.rows] == ["failed", "passed"]

    def update(g, state, params=None):
        raise RuntimeError("never")

    broken = check_optimizer(around(update), only=names, except_={"runs": "why"})
    assert [row.message for row in broken.rows] == ["except_: why", "update does not run: see runs."]


class MomentumState(NamedTuple):
    trace: jl.types.Updates


@jl.gradient_transformation
def in_twenty_lines(learning_rate: NonNegative, decay: float = 0.9):
    def init(params):
        return MomentumState(jl.tree.zeros_like(params))

    def rule(g, m, learning_rate, decay):
        m = decay * m + g
        return -learning_rate * m, m

    def update(updates, state: MomentumState, params=None, **extra):
        numbers = {"learning_rate": learning_rate, "decay": decay}
        updates, trace = jl.tree.map_leaves(rule, updates, state.trace, params=params, **numbers)
        return updates, MomentumState(trace)

    return init, update


def test_an_optimizer_in_twenty_lines_passes():
    report = check_optimizer(in_twenty_lines(0.1))
    report.raise_if_failed()
    assert {row.name for row in report.of("not applicable")} == {
        "nan_steps_that_are_left_out_stay_out",
        "counters_saturate",
        "long_runs_go_on",
    }
