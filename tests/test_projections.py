"""Projections give the nearest point, by optax's numbers and by the inequality that characterizes it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bad_inputs import bad_input

import jaxopt_lessons as jl

RNG = np.random.default_rng(0)


def random_tree(scale=2.0):
    return {"w": jnp.asarray(scale * RNG.standard_normal((3, 2))), "b": [jnp.asarray(scale * RNG.standard_normal())]}


NORMAL = {"w": RNG.standard_normal((3, 2)), "b": [np.array(0.5)]}
LOWER = {"w": np.full((3, 2), -0.5), "b": [np.array(0.25)]}
ARGUMENTS = {
    "projection_box": [(-0.5, 1.0), (LOWER, 0.5)],
    "projection_halfspace": [(NORMAL, 0.3), (NORMAL, -5.0)],
    "projection_hypercube": [(), (0.5,)],
    "projection_hyperplane": [(NORMAL, 0.3)],
    "projection_l1_ball": [(), (3.0,), (100.0,)],
    "projection_l1_sphere": [(), (100.0,)],
    "projection_l2_ball": [(), (2.0,), (100.0,)],
    "projection_l2_sphere": [(), (100.0,)],
    "projection_linf_ball": [(), (0.5,)],
    "projection_non_negative": [()],
    "projection_simplex": [(), (3.0,), (1e-3,)],
    "projection_vector": [(NORMAL,)],
}
CASES = [(name, arguments) for name, several in ARGUMENTS.items() for arguments in several]
every_projection = pytest.mark.parametrize(("name", "arguments"), CASES)
CONVEX = [case for case in CASES if "sphere" not in case[0]]


def vector(x):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(x)])


def test_all_projections_of_optax_are_here():
    assert sorted(jl.projections.__all__) == sorted(ARGUMENTS)
    assert {name for name in dir(optax.projections) if name.startswith("projection_")} == set(ARGUMENTS)


@every_projection
def test_optax(name, arguments):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for _ in range(5):
            x = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), random_tree())
            given = [jax.tree.map(jnp.asarray, a) for a in arguments]
            if name in ("projection_box", "projection_hypercube"):  # optax takes trees only
                given = given if len(given) == 2 else [0.0, *(given or [1.0])]
                given = [jax.tree.map(lambda _, b=b: b, x) if jax.tree_util.all_leaves([b]) else b for b in given]
                theirs = optax.projections.projection_box(x, *given)
            else:
                theirs = getattr(optax.projections, name)(x, *given)
            ours = getattr(jl.projections, name)(x, *arguments)
            assert jax.tree.structure(ours) == jax.tree.structure(x)
            np.testing.assert_allclose(vector(ours), vector(theirs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "arguments"), CONVEX)
def test_the_nearest_point(name, arguments):
    """``<x - y, z - y> <= 0`` for every z of a convex set characterizes its point y next to x."""
    project = lambda x: getattr(jl.projections, name)(x, *arguments)
    for _ in range(5):
        x, z = random_tree(5.0), project(random_tree(5.0))
        y = project(x)
        assert np.dot(vector(x) - vector(y), vector(z) - vector(y)) <= 1e-3
        np.testing.assert_allclose(vector(project(y)), vector(y), atol=1e-5)


@every_projection
def test_dtypes_other_leaves_and_transformations(name, arguments):
    project = lambda x: getattr(jl.projections, name)(x, *arguments)
    for dtype in (jnp.bfloat16, jnp.float32):
        x = jax.tree.map(lambda leaf, dtype=dtype: leaf.astype(dtype), random_tree())
        y = project(x)
        assert jax.tree.map(jax.typeof, y) == jax.tree.map(jax.typeof, x)
        np.testing.assert_allclose(vector(jax.jit(project)(x)), vector(y), rtol=0.01)
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, -leaf]), random_tree())
    if not any(map(np.ndim, jax.tree.leaves(arguments))):
        loop = [project(jax.tree.map(lambda leaf, i=i: leaf[i], stack)) for i in range(2)]
        mapped = jax.vmap(project)(stack)
        for i, y in enumerate(loop):
            one = jax.tree.map(lambda leaf, i=i: leaf[i], mapped)
            np.testing.assert_allclose(vector(one), vector(y), rtol=1e-5, atol=1e-6)
    derivative = jax.grad(lambda x: jnp.sum(vector_of(project(x)) ** 2))(random_tree())
    assert np.all(np.isfinite(vector(derivative)))


def vector_of(x):
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(x)])


def test_the_derivative_of_the_simplex():
    x, direction = (jnp.asarray(RNG.standard_normal(6), jnp.float32) for _ in range(2))
    _, tangent = jax.jvp(jl.projections.projection_simplex, (x,), (direction,))
    y = np.asarray(jl.projections.projection_simplex(x))
    kept = y > 0
    expected = np.where(kept, direction - np.mean(np.asarray(direction)[kept]), 0)
    np.testing.assert_allclose(tangent, expected, atol=1e-6)


def test_corners():
    project = jl.projections
    np.testing.assert_array_equal(project.projection_l2_sphere(jnp.zeros(3)), np.zeros(3))
    np.testing.assert_array_equal(project.projection_l2_ball(jnp.zeros(3), 0.0), np.zeros(3))
    np.testing.assert_array_equal(project.projection_l2_ball(jnp.ones(3), 0.0), np.zeros(3))
    np.testing.assert_array_equal(project.projection_simplex(jnp.ones(2), 0.0), np.zeros(2))
    np.testing.assert_allclose(project.projection_l2_ball(jnp.array([3e30, 4e30])), [0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(project.projection_simplex(jnp.array([1e6, 1e6 - 0.5])), [0.75, 0.25], rtol=1e-6)
    for empty in ({}, [], jnp.zeros((0, 3))):
        for name in ("simplex", "l1_ball", "l2_ball", "box"):
            arguments = (0.0, 1.0) if name == "box" else ()
            result = getattr(project, f"projection_{name}")(empty, *arguments)
            assert jax.tree.structure(result) == jax.tree.structure(empty)
    mixed = {"w": jnp.array([3.0, 4.0]), "n": jnp.arange(2), "f": jax.nn.relu}
    result = project.projection_l2_ball(mixed)
    np.testing.assert_allclose(result["w"], [0.6, 0.8], rtol=1e-6)
    assert result["f"] is jax.nn.relu
    np.testing.assert_allclose(jnp.abs(project.projection_l2_ball(jnp.array([3 + 4j]))), [1.0], rtol=1e-6)
    with pytest.raises(jl.InputError, match="complex"):
        project.projection_simplex(jnp.array([1 + 1j]))


# -- in an optimizer --------------------------------------------------------------------------------------------------


def test_projected_gradient_descent_solves_least_squares_on_the_simplex():
    a, b = jnp.asarray(RNG.standard_normal((20, 5)), jnp.float32), jnp.asarray(RNG.standard_normal(20), jnp.float32)
    loss = lambda x: jnp.sum((a @ x - b) ** 2)
    tx = jl.chain(jl.sgd(0.01), jl.keep_params_in(jl.projections.projection_simplex))
    x = jnp.full(5, 5.0)
    state = tx.init(x)
    update = jax.jit(tx.update)
    for _ in range(500):
        updates, state = update(jax.grad(loss)(x), state, x)
        x = jl.apply_updates(x, updates)
    assert float(jnp.sum(x)) == pytest.approx(1.0, abs=1e-6)
    slopes = np.asarray(jax.grad(loss)(x))
    active = np.asarray(x) > 1e-5
    assert np.ptp(slopes[active]) < 1e-2
    assert np.all(slopes[~active] > slopes[active].max() - 1e-2)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda dtype: dtype.__name__)
def test_nonnegative_parameters_stay_so(dtype):
    tx = jl.chain(jl.sgd(1.0), jl.keep_params_nonnegative())
    params = jnp.asarray(np.abs(RNG.standard_normal(500)), dtype)
    state = tx.init(params)
    for _ in range(20):
        updates, state = tx.update(jnp.asarray(RNG.standard_normal(500), dtype), state, params)
        params = jl.apply_updates(params, updates)
        assert np.all(np.asarray(params, np.float32) >= 0)
    assert 0 < np.sum(np.asarray(params) == 0) < params.size


def test_small_updates_inside_the_set_are_not_rounded_away():
    tx = jl.keep_params_in(jl.projections.projection_non_negative)
    params = jnp.ones(2)
    updates, _ = tx.update(jnp.array([1e-12, -3e-9]), tx.init(params), params)
    np.testing.assert_array_equal(updates, np.float32([1e-12, -3e-9]))


def test_some_of_the_leaves_only():
    tx = jl.masked(jl.keep_params_nonnegative(), lambda path, leaf: path == "w")
    params = {"w": jnp.ones(1), "b": jnp.ones(1)}
    updates, _ = tx.update({"w": jnp.array([-3.0]), "b": jnp.array([-3.0])}, tx.init(params), params)
    assert (float(updates["w"][0]), float(updates["b"][0])) == (-1.0, -3.0)


# -- zero_nans, scale_gradient, split_real_and_imaginary --------------------------------------------------------------


@bad_input(39)
def test_zero_nans_tells_where_they_were():
    tx = jl.zero_nans()
    params = {"w": jnp.ones(2), "b": [jnp.ones(()), None], "n": jnp.arange(2)}
    state = tx.init(params)
    assert jax.tree.map(bool, state.found_nan) == {"w": False, "b": [False, None], "n": None}
    grads = {"w": jnp.array([jnp.nan, jnp.inf]), "b": [jnp.ones(()), None], "n": None}
    updates, state = tx.update(grads, state, params)
    np.testing.assert_array_equal(updates["w"], [0, np.inf])
    assert jax.tree.map(bool, state.found_nan) == {"w": True, "b": [False, None], "n": None}
    _, state = tx.update(jax.tree.map(jnp.ones_like, grads), state, params)
    assert not any(map(bool, jax.tree.leaves(state.found_nan))), "of the last update only"


@pytest.mark.parametrize("scale", [0.0, 1.0, -2.0, 0.5])
def test_scale_gradient(scale):
    x = {"a": jnp.array([1.0, 2.0]), "h": jnp.ones(2, jnp.bfloat16), "n": jnp.arange(2)}
    y = jl.scale_gradient(x, scale)
    jax.tree.map(np.testing.assert_array_equal, y, x)
    loss = lambda a, s: jnp.sum(jl.scale_gradient({"a": a, "n": x["n"]}, s)["a"] ** 3)
    np.testing.assert_allclose(jax.grad(loss)(x["a"], scale), scale * 3 * x["a"] ** 2)
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(x["a"], jnp.float32(scale)), scale * 3 * x["a"] ** 2)
    _, tangent = jax.jvp(lambda a: jl.scale_gradient(a, scale), (x["a"],), (jnp.ones(2),))
    np.testing.assert_allclose(tangent, [scale, scale])
    half = jax.grad(lambda h: jnp.sum(jl.scale_gradient(h, jnp.float32(scale))))(x["h"])
    np.testing.assert_array_equal(half, jnp.full(2, scale, jnp.bfloat16), strict=True)
    theirs = jax.grad(lambda a: jnp.sum(optax.scale_gradient(a, scale) ** 3))(x["a"])
    np.testing.assert_allclose(theirs, scale * 3 * x["a"] ** 2)


def test_a_stopped_gradient_may_be_infinite():
    assert float(jax.grad(lambda x: jnp.sqrt(jl.scale_gradient(x, 0)))(0.0)) == 0.0


@bad_input(54)
def test_complex_parameters_for_optimizers_of_real_ones():
    rng = np.random.default_rng(1)
    params = {"z": jnp.asarray(rng.standard_normal(4) + 1j * rng.standard_normal(4), jnp.complex64), "x": jnp.ones(3)}
    ours = jl.split_real_and_imaginary(optax.adam(0.1))
    theirs = optax.contrib.split_real_and_imaginary(optax.adam(0.1))
    plain = jl.adam(0.1)
    states = [tx.init(params) for tx in (ours, theirs, plain)]
    for _ in range(3):
        grads = jax.tree.map(lambda p: p * jnp.asarray(rng.standard_normal(p.shape), p.dtype), params)
        with jax.numpy_dtype_promotion("standard"):
            results = [tx.update(grads, s, params) for tx, s in zip((ours, theirs, plain), states, strict=True)]
        updates, states = zip(*results, strict=True)
        for other in updates[1:]:
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5), updates[0], other)
    assert updates[0]["z"].dtype == jnp.complex64
    evaluated = jl.eval_params(ours, states[0], params)
    jax.tree.map(np.testing.assert_array_equal, evaluated, params)
    tx = jl.split_real_and_imaginary(jl.ema_params(jl.sgd(0.1), 0.5))
    updates, state = tx.update(params, tx.init(params), params)
    assert jl.eval_params(tx, state, params)["z"].dtype == jnp.complex64
