"""Scalar and elementwise mathematics that the update rules share.

Each function is what the formula in a paper says, made safe where floating point is not: at zero, at the largest and
the smallest numbers, and after 2^31 steps. All of them work elementwise on arrays of float32 or wider.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def float_dtype() -> jnp.dtype:
    """The dtype of a plain float in JAX: float32, or float64 where x64 is enabled."""
    return jnp.result_type(float)


def zero_count() -> jax.Array:
    """The counter of a fresh state: int32 zero."""
    return jnp.zeros([], jnp.int32)


def increment(count: jax.Array) -> jax.Array:
    """``count + 1``, staying at the largest integer instead of wrapping around."""
    largest = jnp.iinfo(count.dtype).max
    return jnp.where(count < largest, count, largest - 1) + jnp.ones([], count.dtype)


def bias_correction(decay: Any, t: jax.Array) -> Callable[[Any], jax.Array]:
    """``1 - decay**t``: the weight that an exponentially weighted average has given out after ``t`` terms.

    Dividing the average by it removes the pull of the start at zero. Calculated as ``-expm1(t log decay)``: in float32
    the plain formula has lost three digits at ``decay=0.999, t=2``. Exactly 1 at ``t = 1e9``.

    Returns:
      A function of a dtype, for ``map_leaves`` to call: the correction must be that of the decay as it is rounded in
      the arithmetic of the leaf, or the first averages are off by 1e-5.
    """

    def in_dtype(dtype: Any) -> jax.Array:
        b = jnp.asarray(decay).astype(dtype)
        positive = b > 0
        at_zero = jnp.where(t == 1, 1 - b, 1)  # not just 1: the derivative at decay 0 counts too
        return jnp.where(positive, -jnp.expm1(t.astype(dtype) * jnp.log(jnp.where(positive, b, 0.5))), at_zero)

    return in_dtype


def root(x: jax.Array) -> jax.Array:
    """``sqrt(x)`` for ``x >= 0``, but never below the root of the smallest normal number (1.1e-19 in float32).

    So a quotient ``m / (root(v) + eps)`` is 0 for ``m = v = 0`` even with ``eps = 0``, and its derivative is finite
    there. NaN stays NaN.
    """
    return jnp.sqrt(jnp.maximum(x, jnp.finfo(x.dtype).tiny))


def divisor(x: jax.Array) -> jax.Array:
    """``x`` for ``x >= 0``, but never below the root of the smallest normal number: ``root`` without the root.

    So ``m / divisor(v)`` is 0 for ``m = v = 0``, and its derivative, which squares the divisor, is finite there.
    """
    return jnp.maximum(x, float(jnp.finfo(x.dtype).tiny) ** 0.5)


def sign(x: jax.Array) -> jax.Array:
    """-1, 0 or 1; infinite and NaN entries pass through, to be seen by whoever looks for them."""
    return jnp.where(jnp.isfinite(x), jnp.sign(x), x)


def squarable(x: jax.Array) -> jax.Array:
    """``x`` with finite entries limited to those whose square is finite, 1.8e19 in float32.

    Without it one gradient of 1e20 makes a second moment infinite, and its weight never moves again. Infinite and NaN
    entries become NaN, to be seen by whoever looks for them. (``0 * x`` is what makes them so: asking ``isinf`` costs a
    tenth of the time of an Adam step.)
    """
    limit = float(jnp.finfo(x.dtype).max) ** 0.5 * (1 - 2**-20)
    return jnp.clip(x, -limit, limit) + 0 * x


def means_of_squares(x: jax.Array, row_axis: int, col_axis: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The means of ``x^2`` along two axes, and whether they are finite: with entries of 1e20 (in float32) they are not.

    XLA has fast loops for sums on CPUs, of products but not of selections or clips, with which a sum takes ten times as
    long. And each sum has its own products: what the two share would be written to memory, and read again for both.
    """
    size = jnp.abs(x)
    of_rows = jnp.sum(x * x, axis=row_axis) / max(x.shape[row_axis], 1)
    of_cols = jnp.sum(size * size, axis=col_axis) / max(x.shape[col_axis], 1)
    return of_rows, of_cols, jnp.all(jnp.isfinite(of_rows)) & jnp.all(jnp.isfinite(of_cols))


def finite(x: jax.Array) -> jax.Array:
    """``x`` with 0 in the place of infinite and NaN entries: what a statistic of many entries is made of.

    So one bad entry is still bad in the update, to be seen, but spoils no other and nothing in the state.
    """
    return jnp.where(jnp.isfinite(x), x, 0)


def norm(x: jax.Array, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> jax.Array:
    """The Euclidean norm of an array, or along some of its axes: ``sqrt(sum x^2)``.

    1e30 and 1e-30 have one; that of finite entries is at most the largest finite number. Infinite and NaN entries give
    an infinite or NaN norm. The derivative at 0 is 0.
    """
    length, scale = scaled_norm(x, axis)
    length = jnp.where(jnp.isfinite(length), jnp.minimum(scale * length, jnp.finfo(x.dtype).max), length)
    return length if keepdims else jnp.squeeze(length, axis)


def scaled_norm(x: jax.Array, axis: int | tuple[int, ...] | None = None) -> tuple[jax.Array, jax.Array]:
    """The norm of ``x / scale``, and ``scale``, both with the reduced axes at length 1.

    The scale is that of the largest entry. So ``x / scale / length`` is a vector of length 1 even where the norm is too
    large for a float, or its square too small. It is 1 for zeros.
    """
    scale = scale_of(jnp.max(jnp.abs(x), axis=axis, keepdims=True, initial=0))
    total = jnp.sum(jnp.square(x / scale), axis=axis, keepdims=True)
    return jnp.where(total == 0, 0, root(total)), scale


def dot(x: jax.Array, y: jax.Array) -> jax.Array:
    """The sum of the products of the entries of two arrays, without those that are infinite or NaN.

    A product counts for ``2^96 / size`` at most (in float32), so the sum is finite, and that of many leaves too.
    """
    limit = float(jnp.finfo(x.dtype).max) ** 0.75 / max(x.size, 1)
    return jnp.sum(jnp.clip(finite(x * y), -limit, limit))


def scale_of(largest: jax.Array) -> jax.Array:
    """What to divide entries up to ``largest`` by so that they can be squared; a constant for derivatives."""
    tiny = float(jnp.finfo(largest.dtype).tiny)
    # The reciprocal of a scale above 1 / tiny would be subnormal, and flushed to 0.
    usable = jnp.isfinite(largest) & (largest > 0)
    return jax.lax.stop_gradient(jnp.where(usable, jnp.clip(largest, tiny, 1 / tiny), 1))


def limited_norm(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The ``norm`` of the finite entries, limited to what can be squared, and the factor that brings it there.

    The factor is 1 unless the norm is huge, 1.8e19 in float32. A step size made of this norm, for an array multiplied
    by this factor, is right for all but such arrays, and those leave no infinity behind in a sum of squares.
    """
    return limited(norm(finite(x)))


def limited(length: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A norm limited to what can be squared, and the factor that brings it there."""
    largest = float(jnp.finfo(length.dtype).max)
    limit = largest**0.5 * (1 - 2**-20)
    return jnp.minimum(length, limit), limit / jnp.clip(length, limit, largest)


def rms(x: jax.Array) -> jax.Array:
    """The root mean square of an array, as safe as its ``norm``; 0 if there is nothing in it."""
    return norm(x) / max(x.size, 1) ** 0.5


def unscaled_rms(x: jax.Array) -> jax.Array:
    """The root mean square in one pass, which entries of 1e20 (in float32) make infinite, and which is 1e-19 at least.

    For comparisons that need not be right so far out; it takes half the time of ``rms``. NaN for NaN entries.
    """
    return root(jnp.sum(x * x) / max(x.size, 1))


def divided_by_factored_root(
    x: jax.Array, v_row: jax.Array, v_col: jax.Array, row_axis: int, col_axis: int
) -> jax.Array:
    """``x / sqrt(v)`` with ``v = v_row * v_col / mean(v_row)``: a matrix known by its means along two axes.

    Args:
      x: what to divide.
      v_row: the means of the matrix along ``row_axis``, an axis that ``v_row`` does not have.
      v_col: its means along ``col_axis``, an axis that ``v_col`` does not have.
      row_axis: the axis that ``v_row`` has lost.
      col_axis: the axis that ``v_col`` has lost.
    """
    lost = col_axis - 1 if col_axis > row_axis else col_axis
    mean = jnp.sum(v_row / max(v_row.shape[lost], 1), axis=lost, keepdims=True)
    # In this order no factor is too large for a float, nor is a factor of the derivatives at 0, which squares a root.
    of_rows, of_cols = root(mean) / root(v_row), 1 / root(v_col)
    return x * jnp.expand_dims(of_cols, col_axis) * jnp.expand_dims(of_rows, row_axis)


def toward(start: Any, end: Any, share: Any) -> jax.Array:
    """``start + share * (end - start)`` for a share in ``[0, 1]``: exactly ``end`` at 1, and without overflow.

    Where the two are equal it is that number, bit for bit, so an average of constants does not drift.
    """
    return jnp.where(share < 1, start + (share * end - share * start), end)


def ratio(count: Any, steps: Any) -> jax.Array:
    """``count / steps`` of two whole numbers, in the precision of ``float_dtype()``."""
    return as_float(count) / as_float(steps)


def scalars(dtype: Any, *values: Any) -> list[jax.Array]:
    """Numbers, and functions ``dtype -> number`` such as a ``bias_correction``, as scalars of one dtype."""
    return [jnp.asarray(value(dtype) if callable(value) else value).astype(dtype) for value in values]


def as_float(x: Any) -> jax.Array:
    """``x`` as a strongly typed scalar of ``float_dtype()``."""
    return jnp.asarray(x, float_dtype())
