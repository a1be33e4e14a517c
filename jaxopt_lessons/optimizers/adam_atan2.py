"""Adam-atan2: Adam with the arc tangent in the place of the division, and no epsilon.

    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g^2
    u = a * atan2(m / (1 - b1^t), b * sqrt(v / (1 - b2^t)))

    p = p - learning_rate * (u + weight_decay * p)

``atan2(x, y)`` is ``x / y`` for small ratios and never above ``pi / 2``, and it is 0 at ``x = y = 0``: nothing is
divided by. So the steps do not depend on the unit of the loss at all, where Adam's fade once gradients fall to
``eps``. ``a = 4 / pi`` makes the first update ``sign(g)``, as Adam's; with the default, 1.27, it is 0.997 of that.

State: ``count``, ``mu``, ``nu``, 8 bytes a parameter.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.transforms.decayed_step import Decay, decayed_step
from jaxopt_lessons.types import DecayRateOrSchedule, Mask, NonNegativeOrSchedule, Params, PositiveOrSchedule, Updates


class ScaleByAdamAtan2State(NamedTuple):
    count: jax.Array
    mu: Params
    nu: Params


def adam_atan2_rule(
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    b1: jax.Array,
    b2: jax.Array,
    a: jax.Array,
    b: jax.Array,
    correction1: jax.Array,
    correction2: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    g = numerics.squarable(g)
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    angle = jnp.arctan2(m / correction1, b * numerics.root(v / correction2))
    return a * jnp.where(jnp.isinf(m), m, angle), m, v  # Infinities have angles too, but should be seen.


@gradient_transformation
def scale_by_adam_atan2(
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    a: NonNegativeOrSchedule = 1.27,
    b: PositiveOrSchedule = 1.0,
    mu_dtype: tree.StateDtype = None,
) -> Any:
    """Replaces the updates by the angle of Adam's two averages.

    Args:
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      a: the factor of the angle, in ``[0, inf)``.
      b: the factor of the root, in ``(0, inf)``; the larger, the later the angle saturates.
      mu_dtype: dtype of ``mu``; the parameter's by default, float32 for half precision.

    >>> tx = scale_by_adam_atan2(a=4 / jnp.pi)
    >>> tx.update(jnp.array([0.5, -2e-10]), tx.init(jnp.zeros(2)))[0].round(4)
    Array([ 1., -1.], dtype=float32)
    """

    def init(params: Params) -> ScaleByAdamAtan2State:
        return ScaleByAdamAtan2State(
            count=numerics.zero_count(), mu=tree.zeros_like(params, mu_dtype), nu=tree.zeros_like(params)
        )

    def update(updates: Updates, state: ScaleByAdamAtan2State, params: Params | None = None, **extra: Any) -> Any:
        t = numerics.increment(state.count)
        updates, m, v = tree.map_leaves(
            adam_atan2_rule,
            updates,
            state.mu,
            state.nu,
            params=params,
            b1=b1,
            b2=b2,
            a=a,
            b=b,
            correction1=numerics.bias_correction(b1, t),
            correction2=numerics.bias_correction(b2, t),
        )
        return updates, ScaleByAdamAtan2State(count=t, mu=m, nu=v)

    return init, update


@gradient_transformation
def adam_atan2(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    a: NonNegativeOrSchedule = 1.27,
    b: PositiveOrSchedule = 1.0,
    mu_dtype: tree.StateDtype = None,
    weight_decay: NonNegativeOrSchedule = 0.0,
    mask: Mask | None = None,
    *,
    decay: Decay = "lr",
) -> Any:
    """Adam-atan2: AdamW without an epsilon, blind to gradient scale.

    Equivalent to ``chain(scale_by_adam_atan2(...), add_decayed_weights(weight_decay, mask),
    scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: about the length of each weight's step; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      a: the factor of the angle, in ``[0, inf)``.
      b: the factor of the root, in ``(0, inf)``; the larger, the later the angle saturates.
      mu_dtype: dtype of the average of gradients; the parameter's by default, float32 for half precision.
      weight_decay: in ``[0, inf)``, multiplied by what ``decay`` says.
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.
      decay: what the weight decay is multiplied by: the learning rate (``"lr"``), its course without its height
        (``"schedule"``), or nothing (``"independent"``): see ``adamw``.

    Use it: for large models, whose gradients fall below any ``eps`` one would choose; else the same as ``adamw``.
    Paper: Everett et al. 2024, arXiv 2407.05872.
    Lesson: none.
    """
    return decayed_step(
        "adam_atan2", scale_by_adam_atan2(b1, b2, a, b, mu_dtype), learning_rate, weight_decay, mask, decay
    )
