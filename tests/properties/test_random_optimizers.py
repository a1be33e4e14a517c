"""The contract, of optimizers put together at random: forms, programs, values, names, and what stays where it is."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from training_problems import assert_same

import jaxopt_lessons as jl
from jaxopt_lessons.testing.subject import form, wide
from properties import law
from properties.strategies import (
    DECIDES,
    FUNCTIONS,
    HALF,
    REAL,
    Drawn,
    Problem,
    for_complex,
    gradients,
    independent,
    optimizers,
    problems,
    trees,
)

COMPLEX = [*REAL, jnp.complex64]


def assert_same_form(actual, expected):
    """Structures, shapes, dtypes and weak types are equal."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert form(a) == form(e)


def assert_near(actual, expected, tolerance=2e-5):
    """Equal structures, what is not finite at the same places, and the rest relative to the largest of a leaf."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, a), e in zip(jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True):
        a, e = wide(a), wide(e)
        np.testing.assert_array_equal(np.isfinite(a), np.isfinite(e), err_msg=jax.tree_util.keystr(path))
        a, e = np.where(np.isfinite(a), a, 0), np.where(np.isfinite(e), e, 0)
        largest = np.max(np.abs(e), initial=0.0)
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * largest + 1e-30, err_msg=jax.tree_util.keystr(path))


def steps_of(problem: Problem, step):
    """The parameters along a run, and the last state."""
    params, state, seen = problem.params, problem.drawn.tx.init(problem.params), []
    for g in problem.grads:
        params, state = step(params, state, g)
        seen.append(params)
    return seen, state


def step_of(drawn: Drawn):
    def step(params, state, g):
        updates, state = drawn.update(g, state, params)
        return jl.apply_updates(params, updates), state

    return step


# -- forms ------------------------------------------------------------------------------------------------------------


@law(short=20, long=500, problem=problems(dtypes=REAL, mixed=True), with_complex=problems(1, COMPLEX, for_complex))
def test_init_needs_shapes_and_update_keeps_every_form(problem, with_complex):
    for params, drawn, (g, *_) in (problem, with_complex):
        state = drawn.tx.init(params)
        assert_same_form(jax.eval_shape(drawn.tx.init, params), state)
        updates, new_state = jax.eval_shape(drawn.update, g, state, params)
        assert_same_form(new_state, state)
        assert_same_form(updates, params)


# -- programs ---------------------------------------------------------------------------------------------------------


def certain(case):
    """Without what makes a whole step of a difference in the last bit."""
    return not any(case.name in names for names in DECIDES.values())


@law(short=3, long=80, problem=problems(dtypes=[jnp.float32, jnp.bfloat16], rows=certain, most=2))
def test_jit_is_eager(problem):
    tolerance = 2**-6 if any(leaf.dtype in HALF for leaf in jax.tree.leaves(problem.params)) else 2e-5
    step = step_of(problem.drawn)
    assert_near(steps_of(problem, jax.jit(step))[0], steps_of(problem, step)[0], tolerance)


@law(short=5, long=150, problem=problems(3, REAL, kinds=("normal", "zero", "tiny", "nan", "inf"), most=3))
def test_a_scan_is_the_loop(problem):
    """The same compiled step in a loop on the host and in one on the device, bit by bit."""
    step = step_of(problem.drawn)
    seen, state = steps_of(problem, jax.jit(step))

    @jax.jit
    def scan(params, state, grads):
        def body(carry, g):
            params, state = step(*carry, g)
            return (params, state), params

        return jax.lax.scan(body, (params, state), grads)

    grads = jax.tree.map(lambda *g: jnp.stack(g), *problem.grads)
    (_, last), every = scan(problem.params, problem.drawn.tx.init(problem.params), grads)
    expected = jax.tree.map(lambda *p: jnp.stack(p), *seen)
    assert_same_form(every, expected)
    assert_same_form(last, state)
    if not problem.drawn.names & set().union(*DECIDES.values()):
        assert_near(every, expected, 2**-6 if any(p.dtype in HALF for p in jax.tree.leaves(expected)) else 2e-5)


# -- values -----------------------------------------------------------------------------------------------------------


def names_of(value, names):
    """The functions among the arguments of a value, at any depth, by the names with which they print."""
    if isinstance(value, jl.GradientTransformation | jl.Schedule):
        names_of(dict(value.arguments), names)
    elif isinstance(value, dict):
        names_of(list(value.values()), names)
    elif isinstance(value, tuple | list):
        for item in value:
            names_of(item, names)
    elif callable(value) and hasattr(value, "__qualname__"):
        names[value.__qualname__] = value
    return names


@st.composite
def any_optimizer(draw, depth=4):
    return draw(optimizers(draw(trees()), depth))


@law(short=100, long=5000, drawn=any_optimizer())
def test_it_prints_pickles_and_flattens_as_what_it_is(drawn):
    from properties.strategies import Layer

    tx = drawn.tx
    names = {**vars(jl), "inf": float("inf"), "Layer": Layer, **FUNCTIONS, **names_of(tx, {})}
    leaves, structure = jax.tree.flatten(tx)
    for again in (eval(repr(tx), names), pickle.loads(pickle.dumps(tx)), jax.tree.unflatten(structure, leaves)):
        assert again == tx
        assert hash(again) == hash(tx)
        assert repr(again) == repr(tx)
        assert jax.tree.structure(again) == structure
        assert jax.tree.leaves(again) == leaves
    numbers = [i for i, leaf in enumerate(leaves) if isinstance(leaf, float)]
    for i in numbers:
        other = [*leaves[:i], leaves[i] / 2 + 0.125 if leaves[i] != 0.25 else 0.5, *leaves[i + 1 :]]
        assert jax.tree.unflatten(structure, other) != tx


@law(short=25, long=1000, problem=problems(1))
def test_hyperparameters_are_read_by_name_and_set_by_name(problem):
    tx = problem.drawn.tx
    state = tx.init(problem.params)
    values = jl.hyperparams(tx, state)
    numbers = {name: value for name, value in values.items() if isinstance(value, float)}
    settable = {name: value for name, value in numbers.items() if can_be_set(problem.drawn, name, value)}
    again = jl.set_hyperparams(tx, settable)
    assert {n: v for n, v in jl.hyperparams(again, state).items() if n in settable} == settable
    assert jax.tree.structure(again.init(problem.params)) == jax.tree.structure(state)
    for name, value in settable.items():
        other = next(x for x in (0.75 * value, 1.25 * value, value) if can_be_set(problem.drawn, name, x))
        changed = jl.hyperparams(jl.set_hyperparams(tx, {name: other}), state)
        assert changed[name] == other
        others = [n for n in settable if n != name and not changes_too(problem.drawn, name, n)]
        assert {n: changed[n] for n in others} == {n: settable[n] for n in others}


def changes_too(drawn, name, other):
    """Whether another hyperparameter may change with one: that of a group with that of the default, for instance."""
    of_a_group = "groups" in drawn.names and other.rpartition(".")[2] == name.rpartition(".")[2]
    return of_a_group or repeated(drawn, other)


def repeated(drawn, name):
    """``schedule_free`` repeats the learning rate of the optimizer inside: one changes with the other."""
    return name.endswith(".learning_rate") and "schedule_free" in drawn.names


def can_be_set(drawn, name, value):
    """Whether the number is in the range; a reading, such as the scale of a plateau, can never be set.

    Nor can what ``schedule_free`` repeats, if the optimizer inside is a chain of two that have it.
    """
    allowed = ["no hyperparameter", " must be a ", *(["'learning_rate' is ambiguous"] if repeated(drawn, name) else [])]
    try:
        jl.set_hyperparams(drawn.tx, {name: value})
    except ValueError as error:
        if not any(words in str(error) for words in allowed):
            raise
        return False
    return True


# -- names and sizes --------------------------------------------------------------------------------------------------


@law(short=120, long=1000, problem=problems(1, REAL), seed=st.integers(0, 99))
def test_a_state_by_names_comes_back(problem, seed):
    tx, params = problem.drawn.tx, problem.params
    rng = np.random.default_rng(seed)

    def other(leaf):
        """No two leaves are alike."""
        if jnp.issubdtype(leaf.dtype, jnp.inexact) or leaf.dtype == jnp.int32:
            return jnp.asarray(rng.integers(0, 1000, leaf.shape)).astype(leaf.dtype)
        return leaf

    state = jax.tree.map(other, tx.init(params))
    named = jl.state_dict(tx, state)
    assert sorted(map(id, jax.tree.leaves(named))) == sorted(map(id, jax.tree.leaves(state)))
    assert_same(jl.load_state_dict(tx, params, named), state)


@law(short=25, long=1000, problem=problems(1, COMPLEX, for_complex))
def test_explain_knows_the_bytes_of_the_state(problem):
    tx, params = problem.drawn.tx, problem.params
    found = jl.explain(tx, params)
    assert found.state_bytes == sum(leaf.nbytes for leaf in jax.tree.leaves(tx.init(params)))
    assert found.parameters == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert str(found).startswith(f"{len(jax.tree.leaves(params))} lea")
    assert set(found.extra_arguments) <= set(problem.drawn.extras)


# -- what stays where it is -------------------------------------------------------------------------------------------


@st.composite
def one_leaf_changed(draw):
    """A problem, and the same with gradients of any kind for one leaf."""
    params, drawn, grads = draw(problems(2, dtypes=[jnp.float32, jnp.bfloat16], rows=independent, least=2))
    place = draw(st.integers(0, len(jax.tree.leaves(params)) - 1))
    wild = draw(gradients(params, ("huge", "nan", "inf", "-inf", "tiny", "zero")))
    structure = jax.tree.structure(params)
    changed = []
    for g in grads:
        leaves = jax.tree.leaves(g)
        leaves[place] = jax.tree.leaves(wild)[place]
        changed.append(jax.tree.unflatten(structure, leaves))
    return Problem(params, drawn, grads), Problem(params, drawn, changed), place


@law(short=5, long=150, case=one_leaf_changed())
def test_the_gradient_of_a_leaf_moves_no_other(case):
    """Not even one that is NaN, infinite or huge: bit by bit."""
    problem, changed, place = case
    step = jax.jit(step_of(problem.drawn))
    expected, actual = (jax.tree.leaves(steps_of(p, step)[0][-1]) for p in (problem, changed))
    for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
        if i != place:
            np.testing.assert_array_equal(wide(a), wide(e))
