"""Lanczos: the eigenvalues of a symmetric matrix of which only products with vectors are known.

    w = A q_j                            the one product of a step
    a_j = q_j . w
    w = w - sum_(i <= j) q_i (q_i . w)   of which in exact arithmetic only i = j and i = j - 1 are left
    b_j = |w|,  q_(j+1) = w / b_j

    T = tridiagonal(a; b) = Q A Q^T      Q: the vectors q_j as rows

The eigenvalues of ``T``, the Ritz values, come near those of ``A``: the outermost first, those between as averages. If
``y_i`` are the eigenvectors of ``T``, the vectors ``Q^T y_i`` have residuals ``b_k |y_ik|`` after ``k`` steps. The
first entries, squared, are the weights of a Gauss quadrature: ``q_1 . f(A) q_1 = sum_i y_i1^2 f(theta_i)``, exact for
polynomials up to degree ``2k - 1``. With a random ``q_1`` of length 1 its mean is ``trace f(A) / n``.

Without the sum over all ``i``, rounding brings vectors back that were there already, and with them copies of
eigenvalues ("ghosts"). With it, a step takes ``6 * steps * n`` multiplications more, and ``steps * n`` numbers of
memory for the basis.

If ``w`` is 0 up to rounding, the vectors so far span an invariant subspace: there is an eigenvalue for each part that
``q_1`` has. The next vector is then a random one, orthogonal to all, and ``b_j = 0``. The weights do not notice, and
eigenvalues are found that ``q_1`` had no part in; repeated ones, once more with each restart.

Papers: Lanczos 1950; quadrature: Golub & Welsch 1969, Ubaru, Chen & Saad 2017.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import numerics
from jaxopt_lessons.inspect.vectors import times

BREAKDOWN = 8.0
"""A remainder ``w`` below this many units in the last place of ``|A q|`` is rounding and nothing else."""


class Lanczos(NamedTuple):
    """The state: what ``count`` products have told.

    Attributes:
      basis: ``q_1 ... q_(count + 1)`` as rows, each of length 1 and orthogonal to the others; zeros in the rows below.
        ``[steps, n]``.
      diagonal: ``a``, ``[steps]``.
      off_diagonal: ``b``, ``[steps]``; its last entry belongs to the residuals.
      scale: the largest length of a product so far.
      count: the number of products so far, int32.
    """

    basis: jax.Array
    diagonal: jax.Array
    off_diagonal: jax.Array
    scale: jax.Array
    count: jax.Array


class Ritz(NamedTuple):
    """Ritz values in ascending order, their weights, which sum to 1, their residuals, and the eigenvectors of ``T``."""

    values: np.ndarray
    weights: np.ndarray
    residuals: np.ndarray
    vectors: np.ndarray


def begin(key: jax.Array, size: int, steps: int, dtype: jnp.dtype) -> Lanczos:
    """The state before the first product, with a start vector of random direction.

    Args:
      key: the key of the start vector.
      size: ``n``.
      steps: how many products there will be, at most ``n``.
      dtype: float32 or float64.
    """
    start = jax.random.normal(key, (size,), dtype)
    basis = jnp.zeros((steps, size), dtype).at[0].set(start / numerics.norm(start))
    zeros = jnp.zeros((steps,), dtype)
    return Lanczos(basis, zeros, zeros, jnp.zeros((), dtype), jnp.int32(0))


def vector(state: Lanczos) -> jax.Array:
    """The vector ``q`` whose product is wanted next."""
    return state.basis[state.count]


def extend(state: Lanczos, product: jax.Array, key: jax.Array) -> Lanczos:
    """The state after one product more.

    Args:
      state: the state; its memory may be donated.
      product: ``A q`` of ``q = vector(state)``.
      key: the key of the run: where the Krylov space is exhausted, a random vector is made of it and of the count.
    """
    basis, count = state.basis, state.count
    scale = jnp.maximum(state.scale, numerics.norm(product))
    rest = _without(basis, product)
    length = numerics.norm(rest)
    exhausted = length <= BREAKDOWN * jnp.finfo(basis.dtype).eps * scale
    random = jax.random.normal(jax.random.fold_in(key, count), rest.shape, rest.dtype)
    following = jnp.where(exhausted, random, rest)
    for _ in range(2):  # Of a short remainder the first pass leaves rounding, which has parts in the basis again.
        following = _of_length_one(_without(basis, _of_length_one(following)))
    return Lanczos(
        basis.at[count + 1].set(following, mode="drop"),
        state.diagonal.at[count].set(times(basis[count], product)),
        state.off_diagonal.at[count].set(jnp.where(exhausted, 0, length)),
        scale,
        count + 1,
    )


def combined(state: Lanczos, weights: jax.Array) -> jax.Array:
    """``Q^T y`` in length 1: the vector that an eigenvector ``y`` of ``T`` stands for."""
    return _of_length_one(times(weights, state.basis))


def ritz(state: Lanczos) -> Ritz:
    """What ``T`` says after all the steps; in float64 on the host, for ``T`` is small."""
    diagonal, off = (np.asarray(x, np.float64) for x in (state.diagonal, state.off_diagonal))
    values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(off[:-1], 1) + np.diag(off[:-1], -1))
    return Ritz(values, vectors[0] ** 2, off[-1] * np.abs(vectors[-1]), vectors)


def _without(basis: jax.Array, vector: jax.Array) -> jax.Array:
    """The part of a vector that is orthogonal to the rows of ``basis``."""
    return vector - times(times(basis, vector), basis)


def _of_length_one(vector: jax.Array) -> jax.Array:
    length = numerics.norm(vector)
    return jnp.where(length == 0, 0, vector / jnp.where(length == 0, 1, length))
