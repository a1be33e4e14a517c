"""RAdam: Adam that trusts its root mean square no more than the number of terms in it allows.

    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g^2
    m_hat = m / (1 - b1^t),  v_hat = v / (1 - b2^t)           t = 1, 2, ...

    rho_inf = 2 / (1 - b2) - 1                    how many terms the average of squares holds in the end
    rho = rho_inf - 2 t b2^t / (1 - b2^t)         how many it holds now: about t at first
    r = sqrt((rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho))

    u = r * m_hat / (sqrt(v_hat + eps_root) + eps)            if rho >= threshold
    u = m_hat                                                 before: plain momentum

Nesterov: ``m_hat = b1 * m / (1 - b1^(t+1)) + (1 - b1) * g / (1 - b1^t)``.

While the average of squares holds few terms its inverse root has a large variance (infinite up to ``rho = 4``); ``r``
rises from 0 to 1 and works like a warm-up. With ``b2 = 0.999`` the first five steps are plain momentum, whose length
is that of the gradient: with large gradients these are large steps. For ``b2 <= 2/3`` all steps are. In PyTorch ``eps``
stands beside the root of the uncorrected ``v``; at ``eps = 0`` the numbers are the same.

State: ``count``, ``mu``, ``nu``, 8 bytes a parameter.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.schedules.rectification import rectification
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.types import DecayRateOrSchedule, NonNegative, NonNegativeOrSchedule, Params, Updates


class ScaleByRadamState(NamedTuple):
    count: jax.Array
    mu: Params
    nu: Params


def radam_rule(
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
    r: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    g = numerics.squarable(g)
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    m_hat = m / correction1
    if next_correction1 is not None:  # Nesterov
        m_hat = b1 * m / next_correction1 + (1 - b1) * g / correction1
    u = jnp.where(r > 0, r * m_hat / (numerics.root(v / correction2 + eps_root) + eps), m_hat)
    return u, m, v


@gradient_transformation
def scale_by_radam(
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
    threshold: NonNegative = 5.0,
    *,
    nesterov: bool = False,
) -> Any:
    """Replaces the updates by RAdam's direction: Adam's, rectified.

    Args:
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      threshold: from how many terms on the average of squares is used; less than 4 means 4.
      nesterov: look one step ahead with the momentum.

    >>> tx = scale_by_radam()
    >>> tx.update(jnp.array([0.5, -20.0]), tx.init(jnp.zeros(2)))[0].round(4)  # plain momentum at first
    Array([  0.5, -20. ], dtype=float32)
    """

    def init(params: Params) -> ScaleByRadamState:
        return ScaleByRadamState(count=numerics.zero_count(), mu=tree.zeros_like(params), nu=tree.zeros_like(params))

    def update(updates: Updates, state: ScaleByRadamState, params: Params | None = None, **extra: Any) -> Any:
        t = numerics.increment(state.count)
        updates, m, v = tree.map_leaves(
            radam_rule,
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
            r=rectification(b2, t, threshold),
        )
        return updates, ScaleByRadamState(count=t, mu=m, nu=v)

    return init, update


@gradient_transformation
def radam(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
    threshold: NonNegative = 5.0,
    *,
    nesterov: bool = False,
) -> Any:
    """RAdam: Adam with a warm-up that needs no tuning.

    Equivalent to ``chain(scale_by_radam(...), scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: about the length of each weight's step; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      threshold: from how many terms on the average of squares is used; less than 4 means 4.
      nesterov: look one step ahead with the momentum.

    Use it: as ``adam`` where no warm-up is to be chosen; a linear one over ``2 / (1 - b2)`` steps does the same (Ma &
      Yarats 2019, arXiv 1910.04209).
    Paper: Liu et al. 2019, arXiv 1908.03265.
    Lesson: none.
    """
    return chain(
        scale_by_radam(b1, b2, eps, eps_root, threshold, nesterov=nesterov), scale_by_learning_rate(learning_rate)
    )
