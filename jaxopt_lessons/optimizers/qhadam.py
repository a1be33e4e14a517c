"""QHAdam: Adam with both averages mixed with the present gradient.

    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g^2
    m_hat = m / (1 - b1^t)
    v_hat = v / (1 - b2^t)
    u = ((1 - nu1) * g + nu1 * m_hat) / (sqrt((1 - nu2) * g^2 + nu2 * v_hat) + eps)

    p = p - learning_rate * (u + weight_decay * p)

``nu1 = nu2 = 1`` is Adam, ``nu1 = b1`` about NAdam, ``nu1 = 0`` RMSprop. The defaults are the paper's recommendation:
``nu1 = 0.7, b1 = 0.995``, a long momentum beside the gradient. ``nu2 < 1`` lets a large gradient enlarge its own
divisor and bounds its step. The arguments ``nu1`` and ``nu2`` are the paper's letters; the state's ``nu`` is the second
moment.

State: ``count``, ``mu``, ``nu``, 8 bytes a parameter.
"""

from typing import Any, NamedTuple

import jax

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.transforms.decayed_step import Decay, decayed_step
from jaxopt_lessons.types import (
    DecayRateOrSchedule,
    Mask,
    NonNegativeOrSchedule,
    Params,
    Updates,
    WeightOrSchedule,
)


class ScaleByQhadamState(NamedTuple):
    count: jax.Array
    mu: Params
    nu: Params


def qhadam_rule(
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    b1: jax.Array,
    b2: jax.Array,
    nu1: jax.Array,
    nu2: jax.Array,
    eps: jax.Array,
    correction1: jax.Array,
    correction2: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    g = numerics.squarable(g)
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    square = (1 - nu2) * g**2 + nu2 * v / correction2
    u = ((1 - nu1) * g + nu1 * m / correction1) / (numerics.root(square) + eps)
    return u, m, v


@gradient_transformation
def scale_by_qhadam(
    b1: DecayRateOrSchedule = 0.995,
    b2: DecayRateOrSchedule = 0.999,
    nu1: WeightOrSchedule = 0.7,
    nu2: WeightOrSchedule = 1.0,
    eps: NonNegativeOrSchedule = 1e-8,
    mu_dtype: tree.StateDtype = None,
) -> Any:
    """Replaces the updates by QHAdam's direction.

    Args:
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      nu1: the weight of the average of gradients, in ``[0, 1]``; the present one has the weight ``1 - nu1``.
      nu2: the weight of the average of squares, in ``[0, 1]``; the present one has the weight ``1 - nu2``.
      eps: added to the root.
      mu_dtype: dtype of ``mu``; the parameter's by default, float32 for half precision.

    >>> tx = scale_by_qhadam(b1=0.0, b2=0.5, nu2=0.0)  # the sign
    >>> tx.update(jnp.array([0.5, -20.0]), tx.init(jnp.zeros(2)))[0].round(4)
    Array([ 1., -1.], dtype=float32)
    """

    def init(params: Params) -> ScaleByQhadamState:
        return ScaleByQhadamState(
            count=numerics.zero_count(), mu=tree.zeros_like(params, mu_dtype), nu=tree.zeros_like(params)
        )

    def update(updates: Updates, state: ScaleByQhadamState, params: Params | None = None, **extra: Any) -> Any:
        t = numerics.increment(state.count)
        updates, m, v = tree.map_leaves(
            qhadam_rule,
            updates,
            state.mu,
            state.nu,
            params=params,
            b1=b1,
            b2=b2,
            nu1=nu1,
            nu2=nu2,
            eps=eps,
            correction1=numerics.bias_correction(b1, t),
            correction2=numerics.bias_correction(b2, t),
        )
        return updates, ScaleByQhadamState(count=t, mu=m, nu=v)

    return init, update


@gradient_transformation
def qhadam(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.995,
    b2: DecayRateOrSchedule = 0.999,
    nu1: WeightOrSchedule = 0.7,
    nu2: WeightOrSchedule = 1.0,
    eps: NonNegativeOrSchedule = 1e-8,
    mu_dtype: tree.StateDtype = None,
    weight_decay: NonNegativeOrSchedule = 0.0,
    mask: Mask | None = None,
    *,
    decay: Decay = "lr",
) -> Any:
    """QHAdam: Adam whose averages are mixed with the present gradient.

    Equivalent to ``chain(scale_by_qhadam(...), add_decayed_weights(weight_decay, mask),
    scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: about the length of each weight's step; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      nu1: the weight of the average of gradients, in ``[0, 1]``; the present one has the weight ``1 - nu1``.
      nu2: the weight of the average of squares, in ``[0, 1]``; the present one has the weight ``1 - nu2``.
      eps: added to the root.
      mu_dtype: dtype of the average of gradients; the parameter's by default, float32 for half precision.
      weight_decay: in ``[0, inf)``, multiplied by what ``decay`` says.
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.
      decay: what the weight decay is multiplied by: the learning rate (``"lr"``), its course without its height
        (``"schedule"``), or nothing (``"independent"``): see ``adamw``.

    Use it: as ``adamw``, where rare large gradients disturb training: ``nu2`` below 1 bounds the step; else gains are
      small.
    Paper: Ma & Yarats 2018, arXiv 1810.06801.
    Lesson: none.
    """
    return decayed_step(
        "qhadam", scale_by_qhadam(b1, b2, nu1, nu2, eps, mu_dtype), learning_rate, weight_decay, mask, decay
    )
