"""AdaBelief: Adam divided by how far the gradients are from their average, not by how large they are.

    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * (g - m)^2 + eps_root  eps_root stays in v: it tends to eps_root / (1 - b2)
    m_hat = m / (1 - b1^t)
    v_hat = v / (1 - b2^t)                        t = 1, 2, ...
    u = m_hat / (sqrt(v_hat) + eps)

Nesterov: ``m_hat = b1 * m / (1 - b1^(t+1)) + (1 - b1) * g / (1 - b1^t)``.

Long steps where the gradients agree with the average (it "believes" it), short ones where they scatter. In a constant
gradient Adam's step stays 1 and this one grows: the deviation falls like ``b1^t`` until ``eps_root`` stops it, and
``eps`` and ``eps_root`` decide how long the steps get; they matter far more than Adam's. The defaults are optax's and
the authors' code's; the paper's are 1e-8 for both.

State: ``count``, ``mu``, ``nu``, 8 bytes a parameter. Not to be confused with centered RMSprop, whose average is
subtracted after squaring (``v - m^2``).
"""

from typing import Any, NamedTuple

import jax

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.types import DecayRateOrSchedule, NonNegativeOrSchedule, Params, Updates


class ScaleByBeliefState(NamedTuple):
    count: jax.Array
    mu: Params
    nu: Params


def belief_rule(
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
    v = b2 * v + (1 - b2) * numerics.squarable(g - m) ** 2 + eps_root
    m_hat = m / correction1
    if next_correction1 is not None:  # Nesterov
        m_hat = b1 * m / next_correction1 + (1 - b1) * g / correction1
    u = m_hat / (numerics.root(v / correction2) + eps)
    return u, m, v


@gradient_transformation
def scale_by_belief(
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-16,
    eps_root: NonNegativeOrSchedule = 1e-16,
    *,
    nesterov: bool = False,
) -> Any:
    """Replaces the updates by AdaBelief's direction: average over root mean square deviation from it.

    Args:
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squared deviations, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added to the average of squared deviations at each step.
      nesterov: look one step ahead with the momentum.

    >>> tx = scale_by_belief(b1=0.5)
    >>> tx.update(jnp.array([0.5, -20.0]), tx.init(jnp.zeros(2)))[0].round(4)  # g over its deviation g / 2
    Array([ 2., -2.], dtype=float32)
    """

    def init(params: Params) -> ScaleByBeliefState:
        return ScaleByBeliefState(count=numerics.zero_count(), mu=tree.zeros_like(params), nu=tree.zeros_like(params))

    def update(updates: Updates, state: ScaleByBeliefState, params: Params | None = None, **extra: Any) -> Any:
        t = numerics.increment(state.count)
        updates, m, v = tree.map_leaves(
            belief_rule,
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
        return updates, ScaleByBeliefState(count=t, mu=m, nu=v)

    return init, update


@gradient_transformation
def adabelief(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-16,
    eps_root: NonNegativeOrSchedule = 1e-16,
    *,
    nesterov: bool = False,
) -> Any:
    """AdaBelief: momentum over the gradients' deviation from it.

    Equivalent to ``chain(scale_by_belief(...), scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: about the length of a step among scattered gradients; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squared deviations, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added to the average of squared deviations at each step.
      nesterov: look one step ahead with the momentum.

    Use it: for image classifiers and GANs, where its authors saw gains over Adam; tune ``eps`` with the learning rate,
      it bounds the steps.
    Paper: Zhuang et al. 2020, arXiv 2010.07468.
    Lesson: none.
    """
    return chain(scale_by_belief(b1, b2, eps, eps_root, nesterov=nesterov), scale_by_learning_rate(learning_rate))
