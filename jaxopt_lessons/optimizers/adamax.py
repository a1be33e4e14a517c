"""Adamax: Adam with the largest recent gradient in the place of the root mean square.

    m = b1 * m + (1 - b1) * g
    v = max(b2 * v, |g| + eps)                    a maximum that fades: the mean of order infinity
    m_hat = m / (1 - b1^t)                        t = 1, 2, ...
    u = m_hat / v                                 0 where v = 0

    p = p - learning_rate * u                     Adamax
    p = p - learning_rate * (u + weight_decay * p)    AdamaxW

No step is longer than the learning rate times a constant near 1, and ``v`` needs no correction: the maximum is right
from the first step on. ``eps`` is added to each gradient, as in PyTorch and optax (the paper has none).

State: ``count``, ``mu``, ``nu``, 8 bytes a parameter; ``nu`` is of first order here, not of squares.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.decayed_step import Decay, decayed_step
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.types import DecayRateOrSchedule, Mask, NonNegativeOrSchedule, Params, Updates


class ScaleByAdamaxState(NamedTuple):
    count: jax.Array
    mu: Params
    nu: Params


def adamax_rule(
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    b1: jax.Array,
    b2: jax.Array,
    eps: jax.Array,
    correction1: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    g = numerics.squarable(g)
    m = b1 * m + (1 - b1) * g
    v = jnp.maximum(b2 * v, jnp.abs(g) + eps)
    u = m / correction1 / numerics.divisor(v)
    return u, m, v


@gradient_transformation
def scale_by_adamax(
    b1: DecayRateOrSchedule = 0.9, b2: DecayRateOrSchedule = 0.999, eps: NonNegativeOrSchedule = 1e-8
) -> Any:
    """Replaces the updates by Adamax's direction: average over fading maximum.

    Args:
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: how much of the maximum stays at each update, in ``[0, 1)``.
      eps: added to the absolute value of each gradient, in ``[0, inf)``.

    >>> tx = scale_by_adamax()
    >>> tx.update(jnp.array([0.5, -20.0]), tx.init(jnp.zeros(2)))[0].round(4)
    Array([ 1., -1.], dtype=float32)
    """

    def init(params: Params) -> ScaleByAdamaxState:
        return ScaleByAdamaxState(count=numerics.zero_count(), mu=tree.zeros_like(params), nu=tree.zeros_like(params))

    def update(updates: Updates, state: ScaleByAdamaxState, params: Params | None = None, **extra: Any) -> Any:
        t = numerics.increment(state.count)
        updates, m, v = tree.map_leaves(
            adamax_rule,
            updates,
            state.mu,
            state.nu,
            params=params,
            b1=b1,
            b2=b2,
            eps=eps,
            correction1=numerics.bias_correction(b1, t),
        )
        return updates, ScaleByAdamaxState(count=t, mu=m, nu=v)

    return init, update


@gradient_transformation
def adamax(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
) -> Any:
    """Adamax: momentum divided by the largest gradient of late.

    Equivalent to ``chain(scale_by_adamax(b1, b2, eps), scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: about the length of each weight's step; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: how much of the maximum stays at each update, in ``[0, 1)``.
      eps: added to the absolute value of each gradient, in ``[0, inf)``.

    Use it: for sparse gradients with rare large entries, embeddings for instance; seldom better than Adam.
    Paper: Kingma & Ba 2014, arXiv 1412.6980, section 7.1.
    Lesson: none.
    """
    return chain(scale_by_adamax(b1, b2, eps), scale_by_learning_rate(learning_rate))


@gradient_transformation
def adamaxw(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    weight_decay: NonNegativeOrSchedule = 1e-4,
    mask: Mask | None = None,
    *,
    decay: Decay = "lr",
) -> Any:
    """AdamaxW: Adamax with decoupled weight decay.

    ``p = p - learning_rate * (u + weight_decay * p)`` with Adamax's direction ``u``.

    Equivalent to ``chain(scale_by_adamax(b1, b2, eps), add_decayed_weights(weight_decay, mask),
    scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: about the length of each weight's step; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: how much of the maximum stays at each update, in ``[0, 1)``.
      eps: added to the absolute value of each gradient, in ``[0, inf)``.
      weight_decay: in ``[0, inf)``, multiplied by what ``decay`` says.
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.
      decay: what the weight decay is multiplied by: the learning rate (``"lr"``), its course without its height
        (``"schedule"``), or nothing (``"independent"``): see ``adamw``.

    Use it: as ``adamax``, where weights are to decay.
    Papers: see ``adamax``; the decay: Loshchilov & Hutter 2017, arXiv 1711.05101.
    Lesson: none.
    """
    return decayed_step("adamaxw", scale_by_adamax(b1, b2, eps), learning_rate, weight_decay, mask, decay)
