"""Adan: Nesterov momentum from differences of gradients, divided by a root mean square.

    d = g - g_previous                            0 at the first update
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * d
    n = b3 * n + (1 - b3) * (g + b2 * d)^2
    u = (m / (1 - b1^t) + b2 * v / (1 - b2^t)) / (sqrt(n / (1 - b3^t) + eps_root) + eps)

    p = p - learning_rate * (u + weight_decay * p)

``g + b2 * d`` is the gradient extrapolated to where the momentum leads, without a second evaluation there. ``b1``,
``b2`` and ``b3`` are decay rates, as in the authors' code; the paper writes ``1 - b`` for them. Two things differ from
optax 0.2.8, which multiplies ``d`` and ``v`` by ``1 - b2`` in the place of ``b2``, and agree with the authors.

The decay is AdamW's, the authors' ``no_prox=True``. The paper's divides instead: ``p = (p - learning_rate * u) /
(1 + learning_rate * weight_decay)``; the two differ by the square of ``learning_rate * weight_decay``.

State: ``m``, ``v``, ``n``, the last gradient ``g`` and the count ``t``, 16 bytes a parameter, twice Adam's.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.transforms.decayed_step import Decay, decayed_step
from jaxopt_lessons.types import DecayRateOrSchedule, Mask, NonNegativeOrSchedule, Params, Updates


class ScaleByAdanState(NamedTuple):
    m: Params
    v: Params
    n: Params
    g: Params
    t: jax.Array


def adan_rule(
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    n: jax.Array,
    previous: jax.Array,
    b1: jax.Array,
    b2: jax.Array,
    b3: jax.Array,
    eps: jax.Array,
    eps_root: jax.Array,
    correction1: jax.Array,
    correction2: jax.Array,
    correction3: jax.Array,
    first: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
    g = numerics.squarable(g)
    d = jnp.where(first > 0, 0, g - previous)
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * d
    n = b3 * n + (1 - b3) * numerics.squarable(g + b2 * d) ** 2
    u = (m / correction1 + b2 * v / correction2) / (numerics.root(n / correction3 + eps_root) + eps)
    return u, m, v, n, g


@gradient_transformation
def scale_by_adan(
    b1: DecayRateOrSchedule = 0.98,
    b2: DecayRateOrSchedule = 0.92,
    b3: DecayRateOrSchedule = 0.99,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
) -> Any:
    """Replaces the updates by Adan's direction.

    Args:
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of differences of gradients, and their weight, in ``[0, 1)``.
      b3: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.

    >>> tx = scale_by_adan(b1=0.0, b2=0.5, b3=0.0, eps=0.0)
    >>> u, state = tx.update(jnp.array([2.0]), tx.init(jnp.zeros(1)))
    >>> tx.update(jnp.array([1.0]), state)[0].round(4)  # (1 - 0.5 * 0.5 / 0.75) / |1 - 0.5|
    Array([1.3333], dtype=float32)
    """

    def init(params: Params) -> ScaleByAdanState:
        m, v, n, g = (tree.zeros_like(params) for _ in range(4))
        return ScaleByAdanState(m=m, v=v, n=n, g=g, t=numerics.zero_count())

    def update(updates: Updates, state: ScaleByAdanState, params: Params | None = None, **extra: Any) -> Any:
        t = numerics.increment(state.t)
        updates, m, v, n, g = tree.map_leaves(
            adan_rule,
            updates,
            state.m,
            state.v,
            state.n,
            state.g,
            params=params,
            b1=b1,
            b2=b2,
            b3=b3,
            eps=eps,
            eps_root=eps_root,
            correction1=numerics.bias_correction(b1, t),
            correction2=numerics.bias_correction(b2, t),
            correction3=numerics.bias_correction(b3, t),
            first=t == 1,
        )
        return updates, ScaleByAdanState(m=m, v=v, n=n, g=g, t=t)

    return init, update


@gradient_transformation
def adan(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.98,
    b2: DecayRateOrSchedule = 0.92,
    b3: DecayRateOrSchedule = 0.99,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 1e-8,
    weight_decay: NonNegativeOrSchedule = 0.0,
    mask: Mask | None = None,
    *,
    decay: Decay = "lr",
) -> Any:
    """Adan: Adam with Nesterov momentum from differences of gradients.

    Equivalent to ``chain(scale_by_adan(...), add_decayed_weights(weight_decay, mask),
    scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: a number in ``[0, inf)`` or a schedule; the authors take 5 to 10 times AdamW's.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of differences of gradients, and their weight, in ``[0, 1)``.
      b3: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root; 1e-8, optax's default, keeps the root above 1e-4. The authors have 0.
      weight_decay: in ``[0, inf)``, multiplied by what ``decay`` says. (The authors train with 0.02.)
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.
      decay: what the weight decay is multiplied by: the learning rate (``"lr"``), its course without its height
        (``"schedule"``), or nothing (``"independent"``): see ``adamw``.

    Use it: for vision transformers and large batches, where its authors saw gains over AdamW at several times its
      learning rate; twice Adam's memory.
    Paper: Xie et al. 2022, arXiv 2208.06677.
    Lesson: none.
    """
    return decayed_step("adan", scale_by_adan(b1, b2, b3, eps, eps_root), learning_rate, weight_decay, mask, decay)
