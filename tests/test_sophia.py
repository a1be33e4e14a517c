"""Sophia, and the estimate of curvature it divides by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import bad_input
from test_convergence import bowl, minimum, regression

import jaxopt_lessons as jl

HESSIAN = jnp.array([[3.0, 1.0, 0.0], [1.0, 2.0, -0.5], [0.0, -0.5, 1.0]])


def coupled(params):
    return params @ HESSIAN @ params / 2


def estimates(tx, obj_fn, params, steps):
    def body(state, _):
        estimate, state = tx.update(params, state, params, obj_fn=obj_fn)
        return state, estimate

    return jax.lax.scan(body, tx.init(params), None, length=steps)[1]


def test_the_estimate_is_the_diagonal_on_the_average():
    found = estimates(jl.hutchinson_estimator_diag_hessian(), coupled, jnp.ones(3), 4000)
    np.testing.assert_allclose(jnp.mean(found, axis=0), jnp.diag(HESSIAN), atol=0.08)
    # Its variance is the sum of the squares beside the diagonal.
    np.testing.assert_allclose(jnp.var(found, axis=0), [1.0, 1.25, 0.25], atol=0.08)


def test_the_estimate_is_exact_for_a_diagonal_hessian():
    curvature = {"w": jnp.arange(6.0).reshape(3, 2), "b": jnp.array(-4.0), "none": None, "name": jax.nn.relu}
    params = jax.tree.map(lambda leaf: leaf if callable(leaf) else jnp.ones_like(leaf), curvature)

    def loss(p):
        return sum(jnp.sum(curvature[name] * p[name] ** 2) / 2 for name in ("w", "b"))

    tx = jl.hutchinson_estimator_diag_hessian()
    (estimate, _) = tx.update(params, tx.init(params), params, obj_fn=loss)
    np.testing.assert_allclose(estimate["w"], curvature["w"])
    np.testing.assert_allclose(estimate["b"], -4.0)
    assert estimate["name"] is None


def test_the_two_parts_of_a_complex_parameter_have_signs_of_their_own():
    """Their curvatures are 2 and 6, and what couples them comes and goes with the signs."""

    def loss(z):
        x, y = jnp.real(z), jnp.imag(z)
        return jnp.sum(x**2 + 3 * y**2 + 5 * x * y)

    found = estimates(jl.hutchinson_estimator_diag_hessian(), loss, jnp.ones(2, jnp.complex64), 200)
    for part, curvature in ((jnp.real(found), 2.0), (jnp.imag(found), 6.0)):
        assert sorted(set(np.asarray(part - curvature).ravel().tolist())) == [-5.0, 5.0]


def test_the_signs_depend_on_seed_count_and_path():
    tx = jl.hutchinson_estimator_diag_hessian(1)
    params = {"a": jnp.ones(3)}

    def loss(p):
        return sum(coupled(leaf) for leaf in jax.tree.leaves(p))

    several = estimates(tx, loss, params, 8)["a"]
    assert len({tuple(row.tolist()) for row in several}) > 2
    other = estimates(tx.replace(random_seed=2), loss, params, 8)["a"]
    assert not np.array_equal(several, other)
    beside = estimates(tx, loss, {"0": jnp.zeros(3), **params}, 8)
    np.testing.assert_array_equal(beside["a"], several)
    assert not np.array_equal(beside["0"], several)


def test_seeds_can_be_mapped_over():
    keys = jax.random.split(jax.random.key(0), 5)
    found = jax.vmap(lambda key: estimates(jl.hutchinson_estimator_diag_hessian(key), coupled, jnp.ones(3), 6))(keys)
    alone = estimates(jl.hutchinson_estimator_diag_hessian(keys[3]), coupled, jnp.ones(3), 6)
    np.testing.assert_allclose(found[3], alone, rtol=1e-6)


@bad_input(54)
def test_complex_parameters_have_two_curvatures():
    """``3 x^2 / 2 + 5 y^2 / 2`` of ``z = x + iy``."""
    tx = jl.hutchinson_estimator_diag_hessian()
    z = jnp.array([1.0 + 2.0j])
    estimate, _ = tx.update(z, tx.init(z), z, obj_fn=lambda z: jnp.sum(1.5 * z.real**2 + 2.5 * z.imag**2))
    np.testing.assert_allclose(estimate, [3.0 + 5.0j], rtol=1e-6)


@pytest.mark.parametrize("missing", ["obj_fn", "params"])
def test_what_is_missing_is_named(missing):
    tx = jl.sophia(0.1)
    params = jnp.ones(2)
    arguments = {"params": params, "obj_fn": lambda p: jnp.sum(p**2)}
    del arguments[missing]
    expected = {
        "obj_fn": r"sophia > scale_by_sophia > hutchinson_estimator_diag_hessian: needs obj_fn: call update\(",
        "params": r"sophia > scale_by_sophia: needs the parameters: call update\(",
    }
    with pytest.raises(jl.InputError, match=expected[missing]):
        tx.update(params, tx.init(params), **arguments)


def test_the_curvature_is_refreshed_in_intervals():
    tx = jl.scale_by_sophia(b2=0.5, update_interval=3)
    params = jnp.ones(1)
    state, seen = tx.init(params), []
    for _ in range(7):
        _, state = tx.update(params, state, params, obj_fn=lambda p: jnp.sum(p**2))
        seen.append(float(state.nu[0]))
    assert seen == [1.0, 1.0, 1.0, 1.5, 1.5, 1.5, 1.75]


def test_another_interval_compiles_nothing():
    traces = []

    @jax.jit
    def step(tx, state, params):
        traces.append(tx)
        return tx.update(params, state, params, obj_fn=coupled)

    params = jnp.ones(3)
    for interval in (1, 2, 10):
        tx = jl.sophia(0.1, update_interval=interval)
        step(tx, tx.init(params), params)
    assert len(traces) == 1


def test_negative_curvature_gives_the_sign():
    tx = jl.scale_by_sophia(b2=0.0, gamma=1.0, update_interval=1)
    params = jnp.array([1.0, 1.0])
    hill = lambda p: 2 * p[0] ** 2 - 2 * p[1] ** 2
    state = tx.init(params)
    for _ in range(2):
        updates, state = tx.update(jax.grad(hill)(params), state, params, obj_fn=hill)
        params = params * 0.5
    np.testing.assert_allclose(updates, [0.746, -1.0], atol=1e-3)


@pytest.mark.parametrize(("loss_fn", "goal"), [(bowl, 1e-3), (regression, minimum() + 0.02)])
def test_sophia_converges(loss_fn, goal):
    from test_convergence import FEATURES, LABELS

    batch = (FEATURES, LABELS)
    loss = lambda params: jnp.mean(loss_fn(params, batch))
    tx = jl.sophia(0.1, gamma=0.5, update_interval=2)

    @jax.jit
    def train(params):
        def body(carry, _):
            params, state = carry
            updates, state = tx.update(jax.grad(loss)(params), state, params, obj_fn=loss)
            return (jl.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(body, (params, tx.init(params)), None, length=300)
        return params

    start = jnp.full(3, 4.0) if loss_fn is bowl else jnp.zeros(4)
    assert float(loss(train(start))) < goal < float(loss(start))
