"""Chebyshev steps: the best step sizes of gradient descent on a quadratic, in an order that keeps it stable.

    h_k = (largest + smallest) / 2 - (largest - smallest) / 2 * cos((k + 1/2) pi / steps)       k = 0 ... steps - 1
    value = 1 / h_k,   k = order(count),   order(2 i) and order(2 i + 1) for 2 n steps: k and 2 n - 1 - k,
                                           where k = order(i) for n steps; order(0) = 0 for 1 step

For a quadratic with curvatures between ``smallest`` and ``largest`` these are the inverses of the roots of the
Chebyshev polynomial of that range: after ``steps`` updates gradient descent is as near as momentum would be. Many steps
are longer than ``2 / largest``; the fractal order follows each of them by short ones, so that rounding errors and
gradients do not grow in between. The count past the end reads the last step size; ``.repeat()`` begins again.

Paper: Agarwal, Goel & Zhang 2021, arXiv 2103.01338.
"""

from typing import Annotated, Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, _schedule_checks, numerics
from jaxopt_lessons.schedules.schedule import Timed, schedule
from jaxopt_lessons.types import Number, Positive, Range

_MOST = 2**30


@schedule
def chebyshev_schedule(
    smallest_curvature: Positive, largest_curvature: Positive, steps: Annotated[Number, Range(1, _MOST, whole=True)]
) -> Any:
    """Step sizes for gradient descent on a quadratic with curvatures in a known range.

    Args:
      smallest_curvature: lower end of the eigenvalues of the Hessian, in ``(0, largest_curvature]``.
      largest_curvature: upper end of them, in ``(0, inf)``.
      steps: how many updates there are, a power of 2.

    Raises:
      ValueError: the range is empty, or ``steps`` is not a power of 2.

    >>> (1 / chebyshev_schedule(1.0, 9.0, steps=4)(jnp.arange(4))).round()
    Array([1., 9., 3., 7.], dtype=float32)
    """
    _checks.not_above(
        "chebyshev_schedule", "smallest_curvature", smallest_curvature, "largest_curvature", largest_curvature
    )
    known = _schedule_checks.known(steps)
    _checks.require(
        known is None or known & (known - 1) == 0, f"chebyshev_schedule: steps must be a power of 2; got {steps}."
    )

    def value(count: jax.Array) -> jax.Array:
        count = jnp.minimum(count, steps - 1)
        k = jnp.zeros_like(count)
        for bit in reversed(range(30)):  # From the first step of the pattern, doubled again and again.
            mirrored = (jnp.full_like(count, steps) >> bit) - 1 - k
            k = jnp.where((count >> bit) & 1 == 1, mirrored, k)
        angle = jnp.pi * ((numerics.as_float(k) + 0.5) / numerics.as_float(steps))
        middle, half = (largest_curvature + smallest_curvature) / 2, (largest_curvature - smallest_curvature) / 2
        return 1 / (middle - half * jnp.cos(angle))

    # The largest step is the first one, the smallest the second.
    return Timed(value, steps, turns=(1,), endless=True)
