"""ACProp: the gradient over the root of its variance, as known before it came.

    u = g / (sqrt(s / (1 - b2^(t - 1))) + eps)    s without this gradient; g at the first update
    s = b2 * s + (1 - b2) * (g - m)^2 + eps_root  after its use
    m = b1 * m + (1 - b1) * g

    p = p - learning_rate * (u + weight_decay * p)

Asynchronous, like ADOPT: the divisor does not contain the gradient it divides, so the mean of the step is the mean
gradient over it, whatever ``b2``; in Adam a large gradient enlarges its own divisor. Centered, like AdaBelief: ``s`` is
the variance about the average ``m``, which enters nowhere else; there is no momentum. The error is measured from ``m``
as it was before, as in optax's code; optax's formulas, and AdaBelief, measure it from the new ``m``. From there it is
``b1`` times as large: ``sqrt(s)`` would be smaller and the steps larger, by the factor ``1 / b1`` while ``eps`` and
``eps_root`` do not matter.

While gradients are constant their variance fades to ``eps_root / (1 - b2)`` and the steps grow to three million times
the gradient: it needs noise. State: ``count``, ``mu``, ``nu`` (which is ``s``), 8 bytes a parameter.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.transforms.decayed_step import Decay, decayed_step
from jaxopt_lessons.types import DecayRateOrSchedule, Mask, NonNegativeOrSchedule, Params, Updates


class ScaleByAcpropState(NamedTuple):
    count: jax.Array
    mu: Params
    nu: Params


def acprop_rule(
    g: jax.Array,
    m: jax.Array,
    s: jax.Array,
    b1: jax.Array,
    b2: jax.Array,
    eps: jax.Array,
    eps_root: jax.Array,
    correction2: jax.Array,
    first: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    g = numerics.squarable(g)
    s_hat = jnp.where(first > 0, 1, s / correction2)
    u = g / (numerics.root(s_hat) + eps)
    s = b2 * s + (1 - b2) * numerics.squarable(g - m) ** 2 + eps_root
    m = b1 * m + (1 - b1) * g
    return u, m, s


@gradient_transformation
def scale_by_acprop(
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-16,
    eps_root: NonNegativeOrSchedule = 1e-16,
) -> Any:
    """Divides the updates by the root of their variance before them.

    Args:
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squared errors, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added to the average at each update.

    >>> tx = scale_by_acprop(b1=0.5, b2=0.0)
    >>> u, state = tx.update(jnp.array([4.0]), tx.init(jnp.zeros(1)))
    >>> u, tx.update(jnp.array([2.0]), state)[0]  # 2 / |4 - 0|
    (Array([4.], dtype=float32), Array([0.5], dtype=float32))
    """

    def init(params: Params) -> ScaleByAcpropState:
        return ScaleByAcpropState(count=numerics.zero_count(), mu=tree.zeros_like(params), nu=tree.zeros_like(params))

    def update(updates: Updates, state: ScaleByAcpropState, params: Params | None = None, **extra: Any) -> Any:
        updates, m, s = tree.map_leaves(
            acprop_rule,
            updates,
            state.mu,
            state.nu,
            params=params,
            b1=b1,
            b2=b2,
            eps=eps,
            eps_root=eps_root,
            correction2=numerics.bias_correction(b2, jnp.maximum(state.count, 1)),
            first=state.count == 0,
        )
        return updates, ScaleByAcpropState(count=numerics.increment(state.count), mu=m, nu=s)

    return init, update


@gradient_transformation
def acprop(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-16,
    eps_root: NonNegativeOrSchedule = 1e-16,
    weight_decay: NonNegativeOrSchedule = 0.0,
    mask: Mask | None = None,
    *,
    decay: Decay = "lr",
) -> Any:
    """ACProp: gradients over the standard deviation of those before.

    The first update is the gradient itself.

    Equivalent to ``chain(scale_by_acprop(...), add_decayed_weights(weight_decay, mask),
    scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squared errors, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added to the average at each update.
      weight_decay: in ``[0, inf)``, multiplied by what ``decay`` says.
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.
      decay: what the weight decay is multiplied by: the learning rate (``"lr"``), its course without its height
        (``"schedule"``), or nothing (``"independent"``): see ``adamw``.

    Use it: for noisy gradients (GANs, small batches), where its authors saw gains; never where gradients hardly vary:
      the steps then grow a millionfold.
    Paper: Zhuang et al. 2021, arXiv 2110.05454.
    Lesson: none.
    """
    return decayed_step("acprop", scale_by_acprop(b1, b2, eps, eps_root), learning_rate, weight_decay, mask, decay)
