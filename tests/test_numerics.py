"""Norms and factored roots at the ends of the floating-point numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import bad_input

from jaxopt_lessons import numerics, tree


@pytest.mark.parametrize("size", [1e-35, 1e-20, 1.0, 1e20, 1e38])
@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1), ()], ids=str)
@pytest.mark.parametrize("keepdims", [False, True])
def test_norm(size, axis, keepdims):
    x = np.random.default_rng(0).standard_normal((4, 3))
    expected = np.sqrt(np.sum((size * x) ** 2, axis=axis, keepdims=keepdims))
    actual = numerics.norm(jnp.asarray(size * x, jnp.float32), axis, keepdims)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(np.asarray(actual, np.float64), expected, rtol=1e-6)


def test_norm_at_the_ends():
    largest = float(jnp.finfo(jnp.float32).max)
    assert numerics.norm(jnp.full(100, 3e38)) == largest  # the true one has no place in float32
    assert numerics.norm(jnp.array([jnp.inf, 1.0])) == jnp.inf
    assert jnp.isnan(numerics.norm(jnp.array([jnp.nan, 1.0])))
    assert numerics.norm(jnp.zeros(3)) == 0
    assert numerics.norm(jnp.zeros([0])) == 0
    assert numerics.rms(jnp.zeros([0])) == 0
    assert numerics.norm(jnp.float32(-3.0)) == 3
    np.testing.assert_allclose(numerics.rms(jnp.array([3.0, 4.0, 0.0, 0.0])), 2.5, rtol=1e-6)


@pytest.mark.parametrize("function", [numerics.norm, numerics.rms, tree.global_norm], ids=lambda f: f.__name__)
def test_derivatives_of_norms(function):
    np.testing.assert_array_equal(jax.grad(function)(jnp.zeros(3)), np.zeros(3))
    x = np.array([0.0, 3.0, -4.0])
    expected = x / 5 / (3**0.5 if function is numerics.rms else 1)
    for size in (1e-20, 1.0, 1e20):
        np.testing.assert_allclose(jax.grad(function)(jnp.asarray(size * x, jnp.float32)), expected, rtol=1e-6)


@bad_input(41, 42)
def test_scaled_norm_makes_unit_vectors_of_anything():
    for size in (1e-35, 1.0, 1e38):
        x = jnp.asarray(size * np.array([3.0, -1.0, 2.0]), jnp.float32)
        length, scale = numerics.scaled_norm(x)
        np.testing.assert_allclose(x / scale / length, np.array([3.0, -1.0, 2.0]) / 14**0.5, rtol=1e-6)


@bad_input(39, 40)
def test_finite():
    np.testing.assert_array_equal(numerics.finite(jnp.array([1.0, jnp.inf, jnp.nan, -jnp.inf])), [1, 0, 0, 0])


@pytest.mark.parametrize(("row_axis", "col_axis"), [(0, 1), (1, 0), (2, 1), (0, 2), (2, 0)])
def test_a_matrix_of_rank_one_is_known_by_its_means(row_axis, col_axis):
    rng = np.random.default_rng(0)
    shape = [1, 1, 1]
    factors = []
    for axis, length in ((row_axis, 4), (col_axis, 3)):
        factors.append(rng.uniform(1, 2, [length if i == axis else 1 for i in range(3)]))
        shape[axis] = length
    v = np.multiply(*factors).astype(np.float32)
    x = rng.standard_normal(v.shape).astype(np.float32)
    actual = numerics.divided_by_factored_root(
        jnp.asarray(x), jnp.asarray(v.mean(row_axis)), jnp.asarray(v.mean(col_axis)), row_axis, col_axis
    )
    np.testing.assert_allclose(actual, x / np.sqrt(v), rtol=1e-5)


def test_factored_roots_at_the_ends():
    """A row of the largest squares beside rows of zeros; 0 over 0 is 0."""
    x = jnp.array([[1e19, 1e19], [0.0, 0.0]])
    v = x**2
    actual = numerics.divided_by_factored_root(x, jnp.mean(v, 1), jnp.mean(v, 0), 1, 0)
    np.testing.assert_allclose(actual, [[1, 1], [0, 0]], rtol=1e-5)
    zeros = jnp.zeros((2, 2))
    actual, pull = jax.vjp(lambda x, r, c: numerics.divided_by_factored_root(x, r, c, 1, 0), zeros, *jnp.zeros((2, 2)))
    np.testing.assert_array_equal(actual, zeros)
    assert all(np.all(np.isfinite(leaf)) for leaf in pull(jnp.ones((2, 2))))
