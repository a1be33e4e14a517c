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


def squarable(x: jax.Array) -> jax.Array:
    """``x`` with finite entries limited to those whose square is finite, 1.8e19 in float32.

    Without it one gradient of 1e20 makes a second moment infinite, and its weight never moves again. Infinite and NaN
    entries pass through, to be seen by whoever looks for them.
    """
    limit = float(jnp.finfo(x.dtype).max) ** 0.5 * (1 - 2**-20)
    return jnp.where(jnp.isinf(x), x, jnp.clip(x, -limit, limit))


def ratio(count: Any, steps: Any) -> jax.Array:
    """``count / steps`` of two whole numbers, in the precision of ``float_dtype()``."""
    return as_float(count) / as_float(steps)


def as_float(x: Any) -> jax.Array:
    """``x`` as a strongly typed scalar of ``float_dtype()``."""
    return jnp.asarray(x, float_dtype())
