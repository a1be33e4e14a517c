"""LaProp: Adam that divides first and averages then.

    v = b2 * v + (1 - b2) * g^2
    r = g / (sqrt(v / (1 - b2^t)) + eps)
    m = b1 * m + (1 - b1) * r
    u = m / (1 - b1^t)

    p = p - learning_rate * (u + weight_decay * p)

Adam divides an average of old gradients by a root mean square of newer ones, and diverges where ``b1^2 > b2`` or so.
Here every gradient is divided by what belonged to it, so ``b1`` and ``b2`` can be chosen independently, down to
``b2 = 0``: momentum of signs. The learning rate stays outside the average (the authors' code has it inside; the two are
equal while it is constant).

State: ``count``, ``mu``, ``nu``, 8 bytes a parameter. Not to be confused with ADOPT, which divides by the root mean
square of the gradients before.
"""

from typing import Any, NamedTuple

import jax

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.transforms.decayed_step import Decay, decayed_step
from jaxopt_lessons.types import DecayRateOrSchedule, Mask, NonNegativeOrSchedule, Params, Updates


class ScaleByLapropState(NamedTuple):
    count: jax.Array
    mu: Params
    nu: Params


def laprop_rule(
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    b1: jax.Array,
    b2: jax.Array,
    eps: jax.Array,
    correction1: jax.Array,
    correction2: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    g = numerics.squarable(g)
    v = b2 * v + (1 - b2) * g**2
    m = b1 * m + (1 - b1) * g / (numerics.root(v / correction2) + eps)
    return m / correction1, m, v


@gradient_transformation
def scale_by_laprop(
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-15,
    mu_dtype: tree.StateDtype = None,
) -> Any:
    """Replaces the updates by LaProp's direction: the average of gradients, each over its root mean square.

    Args:
      b1: the beta of the average of ratios, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      mu_dtype: dtype of ``mu``; the parameter's by default, float32 for half precision.

    >>> tx = scale_by_laprop(b1=0.5, b2=0.0)
    >>> u, state = tx.update(jnp.array([20.0]), tx.init(jnp.zeros(1)))
    >>> tx.update(jnp.array([-0.1]), state)[0].round(4)  # of the signs 1 and -1, the second counts double
    Array([-0.3333], dtype=float32)
    """

    def init(params: Params) -> ScaleByLapropState:
        return ScaleByLapropState(
            count=numerics.zero_count(), mu=tree.zeros_like(params, mu_dtype), nu=tree.zeros_like(params)
        )

    def update(updates: Updates, state: ScaleByLapropState, params: Params | None = None, **extra: Any) -> Any:
        t = numerics.increment(state.count)
        updates, m, v = tree.map_leaves(
            laprop_rule,
            updates,
            state.mu,
            state.nu,
            params=params,
            b1=b1,
            b2=b2,
            eps=eps,
            correction1=numerics.bias_correction(b1, t),
            correction2=numerics.bias_correction(b2, t),
        )
        return updates, ScaleByLapropState(count=t, mu=m, nu=v)

    return init, update


@gradient_transformation
def laprop(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-15,
    mu_dtype: tree.StateDtype = None,
    weight_decay: NonNegativeOrSchedule = 0.0,
    mask: Mask | None = None,
    *,
    decay: Decay = "lr",
) -> Any:
    """LaProp: Adam that divides first and averages then.

    Stable for any pair of betas.

    Equivalent to ``chain(scale_by_laprop(...), add_decayed_weights(weight_decay, mask),
    scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: about the length of each weight's step; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of ratios, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      mu_dtype: dtype of the average of ratios; the parameter's by default, float32 for half precision.
      weight_decay: in ``[0, inf)``, multiplied by what ``decay`` says.
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.
      decay: what the weight decay is multiplied by: the learning rate (``"lr"``), its course without its height
        (``"schedule"``), or nothing (``"independent"``): see ``adamw``.

    Use it: as ``adamw``, where ``b2`` must be small (signals that change fast, reinforcement learning), for which Adam
      diverges.
    Paper: Ziyin, Wang & Ueda 2020, arXiv 2002.04839.
    Lesson: none.
    """
    return decayed_step("laprop", scale_by_laprop(b1, b2, eps, mu_dtype), learning_rate, weight_decay, mask, decay)
