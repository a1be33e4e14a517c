"""RAdam's rectification: how far to trust an average of squares that holds few terms.

    rho_inf = 2 / (1 - b2) - 1                    how many terms the average of squares holds in the end
    rho = rho_inf - 2 t b2^t / (1 - b2^t)         how many it holds now: about t at first
    r = sqrt((rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho))     0 up to rho = 4

From 0 to 1 in about ``2 / (1 - b2)`` updates, like a warm-up. Paper: Liu et al. 2019, arXiv 1908.03265.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics
from jaxopt_lessons.schedules.schedule import Timed, schedule
from jaxopt_lessons.types import DecayRate

_LANGEVIN = [
    # coth(y) - 1/y = y * polynomial(y^2): the coefficients 2^(2k) B_2k / (2k)! of its Taylor series.
    1 / 3,
    -1 / 45,
    2 / 945,
    -1 / 4725,
    2 / 93555,
    -1382 / 638512875,
    4 / 18243225,
    -3617 / 162820783125,
    87734 / 38979295480125,
    -349222 / 1531329465290625,
]


def terms_held(b2: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``(rho, rho_inf)`` for ``b2`` in ``[0, 1)``, in its dtype.

    With ``x = -log b2`` the two are ``t (1 - coth(t x / 2)) + coth(x / 2)`` and ``coth(x / 2)``. For small ``t x`` the
    difference of two numbers near ``2 / x`` would have no digits left in float32; the same with ``coth(y) - 1/y`` in
    the place of ``coth(y)`` has them all.
    """
    positive = b2 > 0
    b2 = jnp.where(positive, b2, 0.5)
    x, t = -jnp.log(b2), t.astype(b2.dtype)
    rho_inf = 2 / (1 - b2) - 1
    late = rho_inf + 2 * t * jnp.exp(-t * x) / jnp.expm1(-t * x)
    y, y1 = jnp.minimum(t * x / 2, 0.5), jnp.minimum(x / 2, 0.5)
    early = t - t * _langevin(y) + _langevin(y1)
    rho = jnp.where(t * x < 1, early, late)
    return jnp.where(positive, rho, 1), jnp.where(positive, rho_inf, 1)


def _langevin(y: jax.Array) -> jax.Array:
    return y * jnp.polyval(jnp.asarray(_LANGEVIN[::-1], y.dtype), y**2)


def rectification(b2: Any, t: jax.Array, threshold: Any) -> Callable[[Any], jax.Array]:
    """``r``, or 0 where ``rho`` is below the threshold; as a function of a dtype, for ``map_leaves`` to call."""

    def in_dtype(dtype: Any) -> jax.Array:
        rho, rho_inf = terms_held(jnp.asarray(b2).astype(dtype), t)
        enough = (rho > 4) & (rho >= jnp.asarray(threshold).astype(dtype))
        rho, rho_inf = jnp.where(enough, rho, 5), jnp.where(enough, rho_inf, 5)
        square = (rho - 4) / (rho_inf - 4) * ((rho - 2) / (rho_inf - 2)) * (rho_inf / rho)
        return jnp.where(enough, jnp.sqrt(square), 0)

    return in_dtype


@schedule
def rectification_schedule(b2: DecayRate) -> Any:
    """The rectification of the update after ``count`` others: 0 while the average of squares holds few terms.

    Args:
      b2: the beta of the average of squares, in ``[0, 1)``.

    >>> rectification_schedule(0.999)(jnp.array([3, 4, 100, 10**6])).round(4)
    Array([0.    , 0.0173, 0.2165, 1.    ], dtype=float32)
    """

    def value(count: jax.Array) -> jax.Array:
        return rectification(b2, numerics.increment(count), 4.0)(numerics.float_dtype())

    return Timed(value, turns=())
