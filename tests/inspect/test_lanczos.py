"""Lanczos on matrices whose eigenvalues are known: repeated ones, the end of the Krylov space, rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import bad_input

from jaxopt_lessons.inspect import lanczos

RNG = np.random.default_rng(0)


def with_eigenvalues(values, dtype=np.float64):
    """A symmetric matrix with these eigenvalues and random eigenvectors."""
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((len(values), len(values))))[0]
    matrix = rotation @ np.diag(np.asarray(values, np.float64)) @ rotation.T
    return ((matrix + matrix.T) / 2).astype(dtype)


def run(matrix, steps, seed=0, start=None):
    key, matrix = jax.random.key(seed), jnp.asarray(matrix)

    @jax.jit
    def all_steps(start):
        state = lanczos.begin(key, len(matrix), steps, matrix.dtype)
        if start is not None:
            state = state._replace(basis=state.basis.at[0].set(start))

        def body(_, state):
            product = jnp.matmul(matrix, lanczos.vector(state), precision="highest")
            return lanczos.extend(state, product, key)

        return jax.lax.fori_loop(0, steps, body, state)

    return all_steps(None if start is None else jnp.asarray(start, matrix.dtype))


def tridiagonal(state):
    off = np.asarray(state.off_diagonal)[:-1]
    return np.diag(np.asarray(state.diagonal)) + np.diag(off, 1) + np.diag(off, -1)


def orthogonality(state):
    basis = np.asarray(state.basis, np.float64)
    return np.max(np.abs(basis @ basis.T - np.eye(len(basis))))


@pytest.mark.parametrize("size", [1, 2, 3, 30])
def test_to_the_end_it_finds_every_eigenvalue(size):
    with jax.enable_x64(True):
        matrix = with_eigenvalues(RNG.standard_normal(size))
        state = run(matrix, size)
        assert orthogonality(state) < 1e-14
        np.testing.assert_allclose(tridiagonal(state), state.basis @ matrix @ state.basis.T, atol=1e-14)
        found = lanczos.ritz(state)
    np.testing.assert_allclose(found.values, np.linalg.eigvalsh(matrix), atol=1e-13)
    np.testing.assert_allclose(np.sum(found.weights), 1)
    np.testing.assert_allclose(found.residuals, 0, atol=1e-12)
    assert state.count == size


def test_residuals_are_those_of_the_vectors():
    with jax.enable_x64(True):
        matrix = with_eigenvalues(RNG.standard_normal(40))
        state = run(matrix, 12)
        found = lanczos.ritz(state)
        vectors = np.stack([lanczos.combined(state, y) for y in found.vectors.T])
    actual = np.linalg.norm(vectors @ matrix - found.values[:, None] * vectors, axis=1)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1)
    np.testing.assert_allclose(found.residuals, actual, rtol=1e-8, atol=1e-13)
    assert np.max(actual) > 0.01
    nearest = np.min(np.abs(np.linalg.eigvalsh(matrix)[:, None] - found.values), axis=0)
    assert np.all(nearest <= found.residuals + 1e-13)


def test_weights_are_a_gauss_quadrature():
    """``sum_i w_i theta_i^d = q_1 . A^d q_1`` up to degree ``2k - 1``, and not beyond."""
    with jax.enable_x64(True):
        matrix = with_eigenvalues(RNG.standard_normal(40))
        state = run(matrix, 5)
        found, start = lanczos.ritz(state), np.asarray(state.basis[0])
    moments = [start @ np.linalg.matrix_power(matrix, degree) @ start for degree in range(11)]
    quadrature = [np.sum(found.weights * found.values**degree) for degree in range(11)]
    np.testing.assert_allclose(quadrature[:10], moments[:10], rtol=1e-10)
    assert abs(quadrature[10] / moments[10] - 1) > 1e-3


@bad_input(47)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_repeated_eigenvalues(dtype):
    """The start vector has one part in each eigenspace; restarts find the rest, and weigh nothing."""
    values = [-2.0] + [1.0] * 10 + [5.0] * 5
    eps = np.finfo(dtype).eps
    with jax.enable_x64(dtype == np.float64):
        matrix = with_eigenvalues(values, dtype)
        state = run(matrix, 16)
        found, start = lanczos.ritz(state), np.asarray(state.basis[0], np.float64)
        assert orthogonality(state) < 20 * eps
    np.testing.assert_allclose(found.values, values, atol=100 * eps)
    assert np.asarray(state.off_diagonal)[2] < 100 * eps
    assert np.sum(np.asarray(state.off_diagonal)[:2] > 0.1) == 2
    exact, vectors = np.linalg.eigh(with_eigenvalues(values))
    parts = (vectors.T @ start) ** 2
    for value in (-2, 1, 5):
        weight = np.sum(found.weights[np.abs(found.values - value) < 0.1])
        np.testing.assert_allclose(weight, np.sum(parts[np.abs(exact - value) < 0.1]), rtol=1e-4)


@bad_input(47)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e-25, 1e25])
def test_multiples_of_the_unit_matrix(scale):
    """Each step is a breakdown: all values are found at once, in every direction."""
    state = run(np.float32(scale) * np.eye(7, dtype=np.float32), 7)
    found = lanczos.ritz(state)
    np.testing.assert_allclose(found.values, np.float32(scale), rtol=1e-6)
    np.testing.assert_array_equal(state.off_diagonal, 0)
    assert orthogonality(state) < 1e-6
    np.testing.assert_allclose(np.sum(found.weights), 1, rtol=1e-6)


@bad_input(47)
def test_a_start_in_an_invariant_subspace():
    """The largest eigenvalue has no part in the start vector; it is found after the restart, with weight 0."""
    with jax.enable_x64(True):
        matrix = np.diag(np.array([1.0, 2.0, 3.0, 9.0, 4.0]))
        found = lanczos.ritz(run(matrix, 5, start=np.array([0.6, 0.8, 0, 0, 0])))
    np.testing.assert_allclose(found.values, [1, 2, 3, 4, 9])
    np.testing.assert_allclose(found.weights, [0.36, 0.64, 0, 0, 0], atol=1e-14)


def test_other_keys_start_elsewhere():
    matrix = with_eigenvalues(np.arange(20.0), np.float32)
    first, again, other = (run(matrix, 3, seed).basis[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert abs(jnp.dot(first, other)) < 0.9


def test_rounding_brings_no_eigenvalue_back():
    """Of 1,000 and 500 far outside float32 finds one each; the plain recurrence finds them again and again."""
    values = np.concatenate([np.linspace(-1, 1, 198), [500.0, 1000.0]])
    matrix = with_eigenvalues(values, np.float32)
    state = run(matrix, 60)
    found = lanczos.ritz(state)
    assert orthogonality(state) < 1e-5
    np.testing.assert_allclose(found.values[-2:], [500, 1000], rtol=1e-5)
    assert found.values[-3] < 1.01
    assert found.values[0] > -1.01
    assert np.sum(plain_recurrence(matrix, np.asarray(state.basis[0]), 60) > 100) > 4


def plain_recurrence(matrix, start, steps):
    """The Ritz values of Lanczos without reorthogonalization."""
    before, vector, length = np.zeros_like(start), start, np.float32(0)
    diagonal, off = [], []
    for _ in range(steps):
        rest = matrix @ vector - length * before
        diagonal.append(vector @ rest)
        rest = rest - diagonal[-1] * vector
        length = np.linalg.norm(rest)
        off.append(length)
        before, vector = vector, rest / length
    return np.linalg.eigvalsh(np.diag(diagonal) + np.diag(off[:-1], 1) + np.diag(off[:-1], -1))


@bad_input(47)
def test_what_is_not_finite_stays_so():
    matrix = np.full((3, 3), np.nan, np.float32)
    assert np.isnan(run(matrix, 2).scale)
