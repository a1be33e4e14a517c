"""The exponentially weighted average, with and without bias correction.

    v = decay * v + (1 - decay) * g               v starts at 0
    u = v / (1 - decay^t)                         debias=True,  t = 1, 2, ...
    u = v                                         debias=False: small at first, by the factor 1 - decay^t

It averages over the last ``1 / (1 - decay)`` values or so (the weight falls to 1/e in that time: ``0.9^10 = 0.35``) and
remembers only one number a parameter. State: ``count`` and ``ema``, 4 bytes a parameter.
"""

from typing import Any, NamedTuple

import jax

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.types import DecayRateOrSchedule, Params, Updates


class EmaState(NamedTuple):
    count: jax.Array
    ema: Params


def ema_rule(g: jax.Array, v: jax.Array, decay: jax.Array, correction: jax.Array) -> tuple[jax.Array, jax.Array]:
    v = decay * v + (1 - decay) * g
    return v / correction, v


@gradient_transformation
def ema(decay: DecayRateOrSchedule, debias: bool = True, accumulator_dtype: tree.StateDtype = None) -> Any:
    """Replaces the updates by their exponentially weighted average.

    Args:
      decay: the beta of the average, in ``[0, 1)``.
      debias: divide by ``1 - decay^t``, so that the first averages are not pulled towards 0.
      accumulator_dtype: dtype of the average; the parameter's by default, float32 for half precision.

    >>> tx = ema(0.75, debias=False)
    >>> tx.update(jnp.array([40.0]), tx.init(jnp.zeros(1)))[0]  # the first day at 40 degrees looks like 10
    Array([10.], dtype=float32)
    >>> tx = ema(0.75)
    >>> tx.update(jnp.array([40.0]), tx.init(jnp.zeros(1)))[0].round(3)
    Array([40.], dtype=float32)
    """

    def init(params: Params) -> EmaState:
        return EmaState(count=numerics.zero_count(), ema=tree.zeros_like(params, accumulator_dtype))

    def update(updates: Updates, state: EmaState, params: Params | None = None, **extra: Any) -> Any:
        t = numerics.increment(state.count)
        correction = numerics.bias_correction(decay, t) if debias else 1
        updates, v = tree.map_leaves(ema_rule, updates, state.ema, params=params, decay=decay, correction=correction)
        return updates, EmaState(count=t, ema=v)

    return init, update
