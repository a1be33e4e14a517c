"""AdEMAMix: Adam with a second, much slower average of the gradients beside the usual one.

    m1 = b1 * m1 + (1 - b1) * g                   fast: the last ten gradients
    m2 = b3 * m2 + (1 - b3) * g                   slow: the last ten thousand
    v = b2 * v + (1 - b2) * g^2
    u = (m1 / (1 - b1^t) + alpha * m2) / (sqrt(v / (1 - b2^t) + eps_root) + eps)

    p = p - learning_rate * (u + weight_decay * p)

The slow average has no bias correction: it is to fill slowly. One average cannot do both; with ``b1 = 0.9999`` alone
Adam reacts too late. Steps are up to ``1 + alpha`` times as long as Adam's. The paper starts both slowly as well, over
``T`` steps: ``alpha=linear_schedule(0.0, 5.0, T)``, and ``b3`` as a function of the count that lengthens the memory
from that of ``b1``.

State: ``count``, ``count_m2``, ``m1``, ``m2``, ``nu``, 12 bytes a parameter. ``mu_dtype`` is the dtype of ``m1`` only
(in optax of all three): at ``b3 = 0.9999`` an average in bfloat16 does not move.
"""

from typing import Any, NamedTuple

import jax

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.transforms.decayed_step import Decay, decayed_step
from jaxopt_lessons.types import DecayRateOrSchedule, Mask, NonNegativeOrSchedule, Params, Updates


class ScaleByAdemamixState(NamedTuple):
    count: jax.Array
    count_m2: jax.Array
    m1: Params
    m2: Params
    nu: Params


def ademamix_rule(
    g: jax.Array,
    m1: jax.Array,
    m2: jax.Array,
    v: jax.Array,
    b1: jax.Array,
    b2: jax.Array,
    b3: jax.Array,
    alpha: jax.Array,
    eps: jax.Array,
    eps_root: jax.Array,
    correction1: jax.Array,
    correction2: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    g = numerics.squarable(g)
    m1 = b1 * m1 + (1 - b1) * g
    m2 = b3 * m2 + (1 - b3) * g
    v = b2 * v + (1 - b2) * g**2
    u = (m1 / correction1 + alpha * m2) / (numerics.root(v / correction2 + eps_root) + eps)
    return u, m1, m2, v


@gradient_transformation
def scale_by_ademamix(
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    b3: DecayRateOrSchedule = 0.9999,
    alpha: NonNegativeOrSchedule = 6.0,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
    mu_dtype: tree.StateDtype = None,
) -> Any:
    """Replaces the updates by AdEMAMix's direction: a fast and a slow average over the root mean square.

    Args:
      b1: the beta of the fast average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      b3: the beta of the slow average of gradients, in ``[0, 1)``; 0.999 for short runs.
      alpha: weight of the slow average, in ``[0, inf)``.
      eps: added to the root.
      eps_root: added inside the root.
      mu_dtype: dtype of the fast average; the parameter's by default, float32 for half precision.

    >>> tx = scale_by_ademamix(b3=0.99, alpha=5.0)
    >>> tx.update(jnp.array([2.0]), tx.init(jnp.zeros(1)))[0].round(4)  # 1 + 5 * 0.01
    Array([1.05], dtype=float32)
    """

    def init(params: Params) -> ScaleByAdemamixState:
        return ScaleByAdemamixState(
            count=numerics.zero_count(),
            count_m2=numerics.zero_count(),
            m1=tree.zeros_like(params, mu_dtype),
            m2=tree.zeros_like(params),
            nu=tree.zeros_like(params),
        )

    def update(updates: Updates, state: ScaleByAdemamixState, params: Params | None = None, **extra: Any) -> Any:
        t = numerics.increment(state.count)
        updates, m1, m2, v = tree.map_leaves(
            ademamix_rule,
            updates,
            state.m1,
            state.m2,
            state.nu,
            params=params,
            b1=b1,
            b2=b2,
            b3=b3,
            alpha=alpha,
            eps=eps,
            eps_root=eps_root,
            correction1=numerics.bias_correction(b1, t),
            correction2=numerics.bias_correction(b2, t),
        )
        count_m2 = numerics.increment(state.count_m2)
        return updates, ScaleByAdemamixState(count=t, count_m2=count_m2, m1=m1, m2=m2, nu=v)

    return init, update


@gradient_transformation
def ademamix(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    b3: DecayRateOrSchedule = 0.9999,
    alpha: NonNegativeOrSchedule = 5.0,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
    mu_dtype: tree.StateDtype = None,
    weight_decay: NonNegativeOrSchedule = 0.0,
    mask: Mask | None = None,
    *,
    decay: Decay = "lr",
) -> Any:
    """AdEMAMix: AdamW with a fast and a slow momentum.

    Equivalent to ``chain(scale_by_ademamix(...), add_decayed_weights(weight_decay, mask),
    scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: a number in ``[0, inf)`` or a schedule.
      b1: the beta of the fast average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      b3: the beta of the slow average of gradients, in ``[0, 1)``; 0.999 for short runs.
      alpha: weight of the slow average, in ``[0, inf)``.
      eps: added to the root.
      eps_root: added inside the root.
      mu_dtype: dtype of the fast average; the parameter's by default, float32 for half precision.
      weight_decay: in ``[0, inf)``, multiplied by what ``decay`` says.
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.
      decay: what the weight decay is multiplied by: the learning rate (``"lr"``), its course without its height
        (``"schedule"``), or nothing (``"independent"``): see ``adamw``.

    Use it: for long runs of language models, with ``alpha`` and ``b3`` growing over the run: among the best there
      (Semenov et al. 2025, arXiv 2509.01440).
    Paper: Pagliardini, Ablin & Grangier 2024, arXiv 2409.03137.
    Lesson: none.
    """
    return decayed_step(
        "ademamix",
        scale_by_ademamix(b1, b2, b3, alpha, eps, eps_root, mu_dtype),
        learning_rate,
        weight_decay,
        mask,
        decay,
    )
