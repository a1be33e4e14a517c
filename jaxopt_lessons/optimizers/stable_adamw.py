"""StableAdamW: AdamW whose learning rate falls, leaf by leaf, when gradients outgrow their root mean square.

    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g^2
    m_hat = m / (1 - b1^t)
    v_hat = v / (1 - b2^t)
    r = root of the mean over the leaf of g^2 / max(v_hat, eps^2)
    u = (m_hat / (sqrt(v_hat) + eps) + weight_decay * p) / max(1, r)

    p = p - learning_rate * u

``r`` is about 1 while ``v_hat`` knows how large gradients are; where it lags behind, as with ``b2 = 0.999`` after the
signal has changed, loss spikes follow a few updates later. Dividing by ``r`` (Adafactor's update clipping) replaces
clipping the gradient. It divides the learning rate and so the decay too, which is why that is part of the rule.
If ``r`` is not finite, nothing is divided: the infinite or NaN entries stay where they are.

State: ``count``, ``mu``, ``nu``, 8 bytes a parameter.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.transforms.weight_decay import add_decayed_weights
from jaxopt_lessons.types import DecayRateOrSchedule, Mask, NonNegativeOrSchedule, Params, Updates


class ScaleByStableAdamwState(NamedTuple):
    count: jax.Array
    mu: Params
    nu: Params


def stable_adamw_rule(
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    decayed: jax.Array,
    b1: jax.Array,
    b2: jax.Array,
    eps: jax.Array,
    correction1: jax.Array,
    correction2: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    g = numerics.squarable(g)
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    scale = numerics.root(v / correction2)
    u = m / correction1 / (scale + eps) + decayed
    r = numerics.root(jnp.sum((g / jnp.maximum(scale, eps)) ** 2) / max(g.size, 1))
    return u / jnp.where(jnp.isfinite(r), jnp.maximum(r, 1), 1), m, v


@gradient_transformation
def scale_by_stable_adamw(
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.99,
    eps: NonNegativeOrSchedule = 1e-6,
    weight_decay: NonNegativeOrSchedule = 0.0,
    mask: Mask | None = None,
    mu_dtype: tree.StateDtype = None,
) -> Any:
    """Replaces the updates by AdamW's direction, divided for each leaf by how much its gradients are above average.

    Args:
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      weight_decay: in ``[0, inf)``, in the place of ``add_decayed_weights``.
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.
      mu_dtype: dtype of ``mu``; the parameter's by default, float32 for half precision.

    Raises:
      InputError: ``update`` was called without ``params``, or the mask does not fit them.

    >>> tx = scale_by_stable_adamw(b1=0.0, b2=0.5)
    >>> params = jnp.zeros(1)
    >>> u, state = tx.update(jnp.array([1.0]), tx.init(params), params)
    >>> tx.update(jnp.array([100.0]), state, params)[0].round(3)  # 1.225 / 1.225
    Array([1.], dtype=float32)
    """
    decay = add_decayed_weights(weight_decay, mask)

    def init(params: Params) -> ScaleByStableAdamwState:
        return ScaleByStableAdamwState(
            count=numerics.zero_count(), mu=tree.zeros_like(params, mu_dtype), nu=tree.zeros_like(params)
        )

    def update(updates: Updates, state: ScaleByStableAdamwState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        wide = tree.widen(params)
        decayed, _ = decay.update(tree.zeros_like(wide), decay.init(wide), wide)
        t = numerics.increment(state.count)
        updates, m, v = tree.map_leaves(
            stable_adamw_rule,
            updates,
            state.mu,
            state.nu,
            params=params,
            read=(decayed,),
            b1=b1,
            b2=b2,
            eps=eps,
            correction1=numerics.bias_correction(b1, t),
            correction2=numerics.bias_correction(b2, t),
        )
        return updates, ScaleByStableAdamwState(count=t, mu=m, nu=v)

    return init, update


@gradient_transformation
def stable_adamw(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.99,
    eps: NonNegativeOrSchedule = 1e-6,
    weight_decay: NonNegativeOrSchedule = 1e-2,
    mask: Mask | None = None,
    mu_dtype: tree.StateDtype = None,
) -> Any:
    """StableAdamW: AdamW that slows down where gradients outgrow their average.

    Equivalent to ``chain(scale_by_stable_adamw(...), scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: about the length of each weight's step; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      weight_decay: in ``[0, inf)``, multiplied by the learning rate, and slowed down as the step is: so there is no
        ``decay`` as in ``adamw``.
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.
      mu_dtype: dtype of the average of gradients; the parameter's by default, float32 for half precision.

    Use it: against loss spikes of large models, in low precision too, in the place of gradient clipping.
    Paper: Wortsman et al. 2023, arXiv 2304.13013.
    Lesson: none.
    """
    return chain(
        scale_by_stable_adamw(b1, b2, eps, weight_decay, mask, mu_dtype), scale_by_learning_rate(learning_rate)
    )
