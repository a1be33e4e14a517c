"""Every row of the table against its NumPy oracle and against optax, argument by argument."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import bad_input
from cases import CASES, Case, stepped

import jaxopt_lessons as jl
from jaxopt_lessons.types import Range

STEPS = 12


def sequence(seed=0, dtype=np.float64):
    """Gradients and parameters of successive steps."""
    rng = np.random.default_rng(seed)
    grads, params = rng.standard_normal((2, STEPS, 3, 2)).astype(dtype)
    return list(grads), list(params)


@functools.cache
def compiled(name):
    """The update of a row, with the transformation as an argument: other numbers compile nothing."""
    (case,) = (case for case in CASES if case.name == name)
    return jax.jit(lambda tx, g, s, p: case.update(tx)(g, s, p))


def run(case, tx, grads, params):
    """The updates of each step (or what the row is about), as an array [steps, ...]."""
    state, update = tx.init(jnp.asarray(params[0])), compiled(case.name)
    updates = []
    for g, p in zip(grads, params, strict=True):
        u, state = update(tx, jnp.asarray(g), state, jnp.asarray(p))
        updates.append(jl.eval_params(tx, state, jl.apply_updates(jnp.asarray(p), u)) if case.evaluates else u)
    return np.stack([np.asarray(u) for u in updates])


VARIANTS = [(case, {}) for case in CASES] + [(case, changes) for case in CASES for changes in case.variants()]


def variant_name(variant):
    case, changes = variant
    return case.name + "".join(f"-{name}" for name in changes)


@pytest.mark.parametrize("variant", VARIANTS, ids=variant_name)
def test_oracle(variant):
    """In float64 to rounding, in float32 to the tolerance of the row."""
    case, changes = variant
    expected = np.stack(case.run_oracle(*sequence(), **changes))
    with jax.enable_x64(True):
        actual = run(case, case.make(**changes), *sequence())
    assert actual.dtype == np.float64
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)
    actual = run(case, case.make(**changes), *sequence(dtype=np.float32))
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=case.tolerance, atol=case.tolerance)


@pytest.mark.parametrize("variant", VARIANTS, ids=variant_name)
def test_optax(variant):
    case, changes = variant
    if "optax" in case.exempt:
        assert case.optax is None
        return
    if case.beyond & set(changes):
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            case.optax(**{**case.arguments, **changes})
        return
    grads, params = sequence(1)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        theirs = case.optax(**{**case.arguments, **changes})
        state, update, updates = theirs.init(jnp.asarray(params[0])), jax.jit(case.update(theirs)), []
        for g, p in zip(grads, params, strict=True):
            u, state = update(jnp.asarray(g), state, jnp.asarray(p))
            updates.append(np.asarray(u))
        ours = run(case, case.make(**changes), grads, params)
    np.testing.assert_allclose(ours, np.stack(updates), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v[1]], ids=variant_name)
def test_every_argument_matters(variant):
    """The other value of an argument moves the result by far more than the tolerance of the tests above."""
    case, changes = variant
    (name, *beside) = changes
    with_it = np.stack(case.run_oracle(*sequence(), **changes))
    without = np.stack(case.run_oracle(*sequence(), **{key: changes[key] for key in beside}))
    assert np.max(np.abs(with_it - without)) > 100 * case.tolerance, name


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_row_knows_every_argument(case: Case):
    parameters = inspect.signature(case.factory).parameters.values()
    names = {p.name for p in parameters if p.kind is not p.VAR_POSITIONAL}
    assert names == set(case.others) | set(case.dtypes) | set(case.silent)


@pytest.mark.parametrize("case", [case for case in CASES if case.dtypes], ids=lambda case: case.name)
def test_dtype_arguments(case: Case):
    params = jnp.ones(3)
    momentum = {"momentum": 0.9} if "momentum" in case.others else {}
    for name in case.dtypes:
        state = case.make(**momentum, **{name: jnp.bfloat16}).init(params)
        dtypes = [leaf.dtype for leaf in jax.tree.leaves(state) if leaf.shape]
        assert dtypes.count(jnp.bfloat16) == 1, f"{name} chooses the dtype of one tree of the state"
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(case.make().init(params)) if leaf.shape)


def scheduled_arguments(case: Case):
    ranges = case.factory._specification.ranges
    return [name for name, allowed in ranges.items() if isinstance(allowed, Range) and allowed.schedules]


SCHEDULED = [(case, name) for case in CASES for name in scheduled_arguments(case)]


@pytest.mark.parametrize(("case", "name"), SCHEDULED, ids=[f"{case.name}-{name}" for case, name in SCHEDULED])
def test_every_hyperparameter_takes_a_schedule(case: Case, name: str):
    """A scheduled hyperparameter has at each update the value of the schedule at the number of updates before it."""
    grads, params = sequence(2)
    first = case.scheduled.get(name, 0.5)
    first, then = first if isinstance(first, tuple) else (first, first / 2)
    schedule = stepped(first, then)
    with jax.enable_x64(True):
        actual = run(case, case.make(**{name: schedule}), grads, params)
        constant = run(case, case.make(**{name: first}), grads, params)
    expected = np.stack(case.run_oracle(grads, params, **{name: schedule}))
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(actual[:2], constant[:2], rtol=1e-12)
    assert np.max(np.abs(actual[2:] - constant[2:])) > 1e-4


def test_the_course_numbers():
    """Momentum and Adam as in the course's chapter: first steps that can be done by hand."""
    g = jnp.array([2.0])
    first = {
        "ema_momentum": jl.ema_momentum(0.1),  # v = 0.1 * 2
        "rmsprop": jl.rmsprop(0.1, decay=0.99, eps_in_sqrt=False),  # 2 / (0.1 * 2) = 10
        "adam": jl.adam(0.1),  # sign(g)
    }
    updates = {name: float(tx.update(g, tx.init(g), g)[0][0]) for name, tx in first.items()}
    assert updates == pytest.approx({"ema_momentum": -0.02, "rmsprop": -1.0, "adam": -0.1}, rel=1e-6)


def test_adam_without_correction_would_take_a_first_step_of_sqrt_ten():
    """0.1 g / sqrt(0.001 g^2) = 3.16: why Adam corrects its averages."""
    uncorrected = jl.chain(jl.ema(0.9, debias=False))
    g = jnp.array([5.0])
    m, _ = uncorrected.update(g, uncorrected.init(g))
    v, _ = jl.ema(0.999, debias=False).update(g**2, jl.ema(0.999).init(g))
    assert float((m / jnp.sqrt(v))[0]) == pytest.approx(3.1623, rel=1e-4)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999, 0.99999])
@pytest.mark.parametrize("t", [1, 2, 3, 10, 1000, 10**6, 10**9, 2**31 - 1])
def test_bias_correction(decay, t):
    exact = -np.expm1(t * np.log(np.float64(np.float32(decay)))) if decay else 1.0
    actual = jl.numerics.bias_correction(decay, jnp.int32(t))(jnp.float32)
    assert float(actual) == pytest.approx(exact, rel=3e-7)
    if t == 10**9 and decay <= 0.999:
        assert float(actual) == 1.0


@bad_input(50)
def test_increment_saturates():
    largest = jnp.int32(2**31 - 1)
    assert int(jl.numerics.increment(jnp.int32(7))) == 8
    assert int(jl.numerics.increment(largest)) == int(largest)
    assert int(jl.numerics.increment(largest - 1)) == int(largest)
