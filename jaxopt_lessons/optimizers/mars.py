"""MARS: AdamW on gradients with less variance.

    c = g + gamma * b1 / (1 - b1) * (g - g_previous)    g at the first update
    c = c / max(1, |c|)                           |c|: the norm of the leaf
    m = b1 * m + (1 - b1) * c
    v = b2 * v + (1 - b2) * c^2
    u = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)

    p = p - learning_rate * (u + weight_decay * p)

The difference of gradients corrects the momentum for where the weights have gone since, as variance reduction (STORM)
does. There both gradients are of one batch; here, as in the authors' experiments (their MARS-approx), ``g_previous`` is
what the last update was given: no second evaluation.

Two departures from the authors' code. It takes ``g_previous = 0`` at the first update, which enlarges that gradient by
``1 + gamma * b1 / (1 - b1)``; here the difference is 0 then. And it applies AdamW to leaves that are not matrices; here
all leaves are equal. (Their formulas average the squares of ``g`` for ``v``, their code those of ``c``, as here.)

State: ``count``, ``mu``, ``nu``, ``previous_gradient``, 12 bytes a parameter.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.transforms.decayed_step import Decay, decayed_step
from jaxopt_lessons.types import DecayRateOrSchedule, Mask, NonNegativeOrSchedule, Params, Updates


class ScaleByMarsState(NamedTuple):
    count: jax.Array
    mu: Params
    nu: Params
    previous_gradient: Params


def mars_rule(
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    previous: jax.Array,
    b1: jax.Array,
    b2: jax.Array,
    gamma: jax.Array,
    eps: jax.Array,
    correction1: jax.Array,
    correction2: jax.Array,
    first: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    g = numerics.squarable(g)
    d = jnp.where(first > 0, 0, g - previous)
    c = numerics.squarable(g + gamma * b1 / (1 - b1) * d)
    norm = tree.global_norm(c)
    c = c / jnp.where(jnp.isfinite(norm), jnp.maximum(norm, 1), 1)
    m = b1 * m + (1 - b1) * c
    v = b2 * v + (1 - b2) * c**2
    u = m / correction1 / (numerics.root(v / correction2) + eps)
    return u, m, v, g


@gradient_transformation
def scale_by_mars(
    b1: DecayRateOrSchedule = 0.95,
    b2: DecayRateOrSchedule = 0.99,
    gamma: NonNegativeOrSchedule = 0.025,
    eps: NonNegativeOrSchedule = 1e-8,
    mu_dtype: tree.StateDtype = None,
) -> Any:
    """Replaces the updates by Adam's direction for gradients corrected by their change since the last update.

    Args:
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      gamma: how much of the correction, in ``[0, inf)``; 0 for none.
      eps: added to the root.
      mu_dtype: dtype of ``mu``; the parameter's by default, float32 for half precision.

    >>> tx = scale_by_mars(b1=0.5, b2=0.0, gamma=0.5)
    >>> u, state = tx.update(jnp.array([0.25]), tx.init(jnp.zeros(1)))
    >>> u, state = tx.update(jnp.array([0.5]), state)
    >>> state.mu  # 0.25 * 0.25 + 0.5 * (0.5 + 0.5 * 0.25)
    Array([0.375], dtype=float32)
    """

    def init(params: Params) -> ScaleByMarsState:
        return ScaleByMarsState(
            count=numerics.zero_count(),
            mu=tree.zeros_like(params, mu_dtype),
            nu=tree.zeros_like(params),
            previous_gradient=tree.zeros_like(params),
        )

    def update(updates: Updates, state: ScaleByMarsState, params: Params | None = None, **extra: Any) -> Any:
        t = numerics.increment(state.count)
        updates, m, v, previous = tree.map_leaves(
            mars_rule,
            updates,
            state.mu,
            state.nu,
            state.previous_gradient,
            params=params,
            b1=b1,
            b2=b2,
            gamma=gamma,
            eps=eps,
            correction1=numerics.bias_correction(b1, t),
            correction2=numerics.bias_correction(b2, t),
            first=t == 1,
        )
        return updates, ScaleByMarsState(count=t, mu=m, nu=v, previous_gradient=previous)

    return init, update


@gradient_transformation
def mars(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.95,
    b2: DecayRateOrSchedule = 0.99,
    gamma: NonNegativeOrSchedule = 0.025,
    eps: NonNegativeOrSchedule = 1e-8,
    mu_dtype: tree.StateDtype = None,
    weight_decay: NonNegativeOrSchedule = 0.0,
    mask: Mask | None = None,
    *,
    decay: Decay = "lr",
) -> Any:
    """MARS-AdamW: AdamW on gradients corrected by their change.

    Equivalent to ``chain(scale_by_mars(...), add_decayed_weights(weight_decay, mask),
    scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: about the length of each weight's step; a number in ``[0, inf)`` or a schedule. (The authors' is
        3e-3.)
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      gamma: how much of the correction, in ``[0, inf)``; 0 for none.
      eps: added to the root.
      mu_dtype: dtype of the average of gradients; the parameter's by default, float32 for half precision.
      weight_decay: in ``[0, inf)``, multiplied by what ``decay`` says.
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.
      decay: what the weight decay is multiplied by: the learning rate (``"lr"``), its course without its height
        (``"schedule"``), or nothing (``"independent"``): see ``adamw``.

    Use it: for pre-training of language models: among the best in an independent comparison (Semenov et al. 2025, arXiv
      2509.01440); half more memory than Adam.
    Paper: Yuan et al. 2024, arXiv 2411.10438.
    Lesson: none.
    """
    return decayed_step("mars", scale_by_mars(b1, b2, gamma, eps, mu_dtype), learning_rate, weight_decay, mask, decay)
