"""Adam's direction: the average of the gradients over the root of the average of their squares.

    m = b1 * m + (1 - b1) * g                     momentum: average of the gradients
    v = b2 * v + (1 - b2) * g^2                   RMSprop: average of their squares
    m_hat = m / (1 - b1^t)                        both corrected for their start at zero
    v_hat = v / (1 - b2^t)                        t = 1, 2, ...
    u = m_hat / (sqrt(v_hat + eps_root) + eps)

Nesterov: ``m_hat = b1 * m / (1 - b1^(t+1)) + (1 - b1) * g / (1 - b1^t)``, what the momentum will be after the next
update as far as it is known.

State: ``count``, ``mu``, ``nu``, 8 bytes a parameter. What becomes of it: ``adam`` and ``adamw``, ``nadam``,
``optimistic_adam``, ``lamb``.
"""

from typing import Any, NamedTuple

import jax

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.types import DecayRateOrSchedule, NonNegativeOrSchedule, Params, Updates


class ScaleByAdamState(NamedTuple):
    count: jax.Array
    mu: Params
    nu: Params


def adam_rule(
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    b1: jax.Array,
    b2: jax.Array,
    eps: jax.Array,
    eps_root: jax.Array,
    correction1: jax.Array,
    correction2: jax.Array,
    next_correction1: jax.Array | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    g = numerics.squarable(g)
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    m_hat = m / correction1
    v_hat = v / correction2
    if next_correction1 is not None:  # Nesterov
        m_hat = b1 * m / next_correction1 + (1 - b1) * g / correction1
    u = m_hat / (numerics.root(v_hat + eps_root) + eps)
    return u, m, v


@gradient_transformation
def scale_by_adam(
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
    mu_dtype: tree.StateDtype = None,
    *,
    nesterov: bool = False,
) -> Any:
    """Replaces the updates by Adam's direction: average over root mean square.

    Args:
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      mu_dtype: dtype of ``mu``; the parameter's by default, float32 for half precision.
      nesterov: look one step ahead with the momentum.

    >>> tx = scale_by_adam()
    >>> tx.update(jnp.array([0.5, -20.0]), tx.init(jnp.zeros(2)))[0].round(4)
    Array([ 1., -1.], dtype=float32)
    """

    def init(params: Params) -> ScaleByAdamState:
        return ScaleByAdamState(
            count=numerics.zero_count(), mu=tree.zeros_like(params, mu_dtype), nu=tree.zeros_like(params)
        )

    def update(updates: Updates, state: ScaleByAdamState, params: Params | None = None, **extra: Any) -> Any:
        t = numerics.increment(state.count)
        updates, m, v = tree.map_leaves(
            adam_rule,
            updates,
            state.mu,
            state.nu,
            params=params,
            b1=b1,
            b2=b2,
            eps=eps,
            eps_root=eps_root,
            correction1=numerics.bias_correction(b1, t),
            correction2=numerics.bias_correction(b2, t),
            next_correction1=numerics.bias_correction(b1, numerics.increment(t)) if nesterov else None,
        )
        return updates, ScaleByAdamState(count=t, mu=m, nu=v)

    return init, update
