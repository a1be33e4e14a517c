"""Division by the root of the running mean of squares, the scaling of RMSprop.

    v = decay * v + (1 - decay) * g^2             v starts at initial_scale
    u = g / sqrt(v + eps)                         eps_in_sqrt=True
    u = g / (sqrt(v) + eps)                       eps_in_sqrt=False

with ``v / (1 - decay^t)`` in the place of ``v`` if ``bias_correction``: then it is Adam's direction without momentum.
State: ``count`` and ``nu``, 4 bytes a parameter. See ``rmsprop``.
"""

from typing import Any, NamedTuple

import jax

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.types import DecayRateOrSchedule, NonNegative, NonNegativeOrSchedule, Params, Updates


class ScaleByRmsState(NamedTuple):
    count: jax.Array
    nu: Params


def rms_rule(
    g: jax.Array,
    v: jax.Array,
    decay: jax.Array,
    eps: jax.Array,
    correction: jax.Array,
    eps_in_sqrt: bool,
) -> tuple[jax.Array, jax.Array]:
    g = numerics.squarable(g)
    v = decay * v + (1 - decay) * g**2
    v_hat = v / correction
    u = g / (numerics.root(v_hat + eps) if eps_in_sqrt else numerics.root(v_hat) + eps)
    return u, v


@gradient_transformation
def scale_by_rms(
    decay: DecayRateOrSchedule = 0.9,
    eps: NonNegativeOrSchedule = 1e-8,
    initial_scale: NonNegative = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> Any:
    """Divides the updates by the root of the running mean of their squares.

    Args:
      decay: the beta of the average of squares, in ``[0, 1)``.
      eps: keeps the denominator away from 0.
      initial_scale: first value of the average of squares.
      eps_in_sqrt: add ``eps`` inside the root (True) or outside.
      bias_correction: divide the average by ``1 - decay^t`` before use.

    >>> tx = scale_by_rms(0.75, eps=0.0)
    >>> tx.update(jnp.array([3.0, -0.01]), tx.init(jnp.zeros(2)))[0]  # the first step is 1/sqrt(1 - decay)
    Array([ 2., -2.], dtype=float32)
    """

    def init(params: Params) -> ScaleByRmsState:
        return ScaleByRmsState(count=numerics.zero_count(), nu=tree.full_like(params, initial_scale))

    def update(updates: Updates, state: ScaleByRmsState, params: Params | None = None, **extra: Any) -> Any:
        t = numerics.increment(state.count)
        updates, v = tree.map_leaves(
            rms_rule,
            updates,
            state.nu,
            params=params,
            decay=decay,
            eps=eps,
            correction=numerics.bias_correction(decay, t) if bias_correction else 1,
            eps_in_sqrt=eps_in_sqrt,
        )
        return updates, ScaleByRmsState(count=t, nu=v)

    return init, update
