"""Simplified AdEMAMix: one slow momentum, and the gradient itself in the place of the fast one.

    m = b1 * m + g                                a sum, not an average
    n = b2 * n + (1 - b2) * g^2
    u = (m + alpha * g) / (sqrt(n / (1 - b2^t) + eps_root) + eps)

    p = p - learning_rate * (u + weight_decay * p)

A third less memory than AdEMAMix, and no schedule for ``alpha``. ``m`` grows to ``g / (1 - b1)``, so the learning rate
is about ``1 - b1`` times Adam's. With ``alpha = 0`` it is Adam with that learning rate and without the correction of
the momentum. State: the count ``t``, ``m``, ``n``, 8 bytes a parameter.
"""

from typing import Any, NamedTuple

import jax

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.transforms.decayed_step import Decay, decayed_step
from jaxopt_lessons.types import DecayRateOrSchedule, Mask, NonNegativeOrSchedule, Params, Updates


class ScaleBySimplifiedAdEMAMixState(NamedTuple):
    t: jax.Array
    m: Params
    n: Params


def simplified_ademamix_rule(
    g: jax.Array,
    m: jax.Array,
    n: jax.Array,
    b1: jax.Array,
    b2: jax.Array,
    alpha: jax.Array,
    eps: jax.Array,
    eps_root: jax.Array,
    correction2: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    g = numerics.squarable(g)
    m = b1 * m + g
    n = b2 * n + (1 - b2) * g**2
    u = (m + alpha * g) / (numerics.root(n / correction2 + eps_root) + eps)
    return u, m, n


@gradient_transformation
def scale_by_simplified_ademamix(
    b1: DecayRateOrSchedule = 0.99,
    b2: DecayRateOrSchedule = 0.95,
    alpha: NonNegativeOrSchedule = 0.0,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
) -> Any:
    """Replaces the updates by simplified AdEMAMix's direction: momentum plus gradient over the root mean square.

    Args:
      b1: how much of the sum of gradients stays, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      alpha: weight of the gradient beside the sum, in ``[0, inf)``.
      eps: added to the root.
      eps_root: added inside the root.

    >>> tx = scale_by_simplified_ademamix(alpha=3.0)
    >>> tx.update(jnp.array([2.0]), tx.init(jnp.zeros(1)))[0]
    Array([4.], dtype=float32)
    """

    def init(params: Params) -> ScaleBySimplifiedAdEMAMixState:
        return ScaleBySimplifiedAdEMAMixState(
            t=numerics.zero_count(), m=tree.zeros_like(params), n=tree.zeros_like(params)
        )

    def update(
        updates: Updates, state: ScaleBySimplifiedAdEMAMixState, params: Params | None = None, **extra: Any
    ) -> Any:
        t = numerics.increment(state.t)
        updates, m, n = tree.map_leaves(
            simplified_ademamix_rule,
            updates,
            state.m,
            state.n,
            params=params,
            b1=b1,
            b2=b2,
            alpha=alpha,
            eps=eps,
            eps_root=eps_root,
            correction2=numerics.bias_correction(b2, t),
        )
        return updates, ScaleBySimplifiedAdEMAMixState(t=t, m=m, n=n)

    return init, update


@gradient_transformation
def simplified_ademamix(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.99,
    b2: DecayRateOrSchedule = 0.95,
    alpha: NonNegativeOrSchedule = 0.0,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
    weight_decay: NonNegativeOrSchedule = 0.0,
    mask: Mask | None = None,
    *,
    decay: Decay = "lr",
) -> Any:
    """Simplified AdEMAMix: Adam with a slow momentum plus the gradient.

    Equivalent to ``chain(scale_by_simplified_ademamix(...), add_decayed_weights(weight_decay, mask),
    scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: about ``1 - b1`` times Adam's; a number in ``[0, inf)`` or a schedule.
      b1: how much of the sum of gradients stays, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      alpha: weight of the gradient beside the sum, in ``[0, inf)``.
      eps: added to the root.
      eps_root: added inside the root.
      weight_decay: in ``[0, inf)``, multiplied by what ``decay`` says.
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.
      decay: what the weight decay is multiplied by: the learning rate (``"lr"``), its course without its height
        (``"schedule"``), or nothing (``"independent"``): see ``adamw``.

    Use it: in the place of ``ademamix`` with the memory of Adam, in small batches above all; its learning rate is ``1 -
      b1`` times Adam's.
    Paper: Morwani et al. 2025, arXiv 2502.02431.
    Lesson: none.
    """
    return decayed_step(
        "simplified_ademamix",
        scale_by_simplified_ademamix(b1, b2, alpha, eps, eps_root),
        learning_rate,
        weight_decay,
        mask,
        decay,
    )
