"""Division by the standard deviation of the gradient: centered RMSprop.

    m = decay * m + (1 - decay) * g
    v = decay * v + (1 - decay) * g^2
    u = g / sqrt(v - m^2 + eps)                   eps_in_sqrt=True
    u = g / (sqrt(v - m^2) + eps)                 eps_in_sqrt=False

with ``m`` and ``v`` divided by ``1 - decay^t`` before use if ``bias_correction``. ``v`` starts at ``initial_scale``.
The difference ``v - m^2`` is taken to be at least the rounding error of ``v``, which is all there is of it while the
gradient is constant. State: ``count``, ``mu``, ``nu``, 8 bytes a parameter.

Paper: Graves 2013, arXiv 1308.0850, section 4.2.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.types import DecayRateOrSchedule, NonNegative, NonNegativeOrSchedule, Params, Updates


class ScaleByRStdDevState(NamedTuple):
    count: jax.Array
    mu: Params
    nu: Params


def stddev_rule(
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    decay: jax.Array,
    eps: jax.Array,
    correction: jax.Array,
    eps_in_sqrt: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    g = numerics.squarable(g)
    m = decay * m + (1 - decay) * g
    v = decay * v + (1 - decay) * g**2
    v_hat = v / correction
    variance = jnp.maximum(v_hat - (m / correction) ** 2, jnp.finfo(v.dtype).eps * v_hat)
    u = g / (numerics.root(variance + eps) if eps_in_sqrt else numerics.root(variance) + eps)
    return u, m, v


@gradient_transformation
def scale_by_stddev(
    decay: DecayRateOrSchedule = 0.9,
    eps: NonNegativeOrSchedule = 1e-8,
    initial_scale: NonNegative = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> Any:
    """Divides the updates by the square root of their running variance.

    Args:
      decay: the beta of both averages, in ``[0, 1)``.
      eps: keeps the denominator away from 0.
      initial_scale: first value of the average of squares.
      eps_in_sqrt: add ``eps`` inside the root (True) or outside.
      bias_correction: divide both averages by ``1 - decay^t`` before use.
    """

    def init(params: Params) -> ScaleByRStdDevState:
        return ScaleByRStdDevState(
            count=numerics.zero_count(), mu=tree.zeros_like(params), nu=tree.full_like(params, initial_scale)
        )

    def update(updates: Updates, state: ScaleByRStdDevState, params: Params | None = None, **extra: Any) -> Any:
        t = numerics.increment(state.count)
        updates, m, v = tree.map_leaves(
            stddev_rule,
            updates,
            state.mu,
            state.nu,
            params=params,
            decay=decay,
            eps=eps,
            correction=numerics.bias_correction(decay, t) if bias_correction else 1,
            eps_in_sqrt=eps_in_sqrt,
        )
        return updates, ScaleByRStdDevState(count=t, mu=m, nu=v)

    return init, update
