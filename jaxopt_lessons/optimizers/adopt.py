"""ADOPT: Adam that divides each gradient by what was known before it came.

    r = g / max(sqrt(v), eps)                     v without this gradient
    r = max(-c, min(r, c))                        c = clip_value_fn(t - 1), t^(1/4) by default
    m = b1 * m + (1 - b1) * r
    u = m
    v = b2 * v + (1 - b2) * g^2                   after its use

The first update only starts ``v = g^2``: ``u`` and ``m`` stay 0. Nesterov: ``u = b1 * m + (1 - b1) * r``.

In Adam a large gradient enlarges its own divisor, and that correlation is why Adam needs a ``b2`` near 1 to converge;
ADOPT converges with any. The ratio is averaged, not the gradient, as in LaProp. There are no bias corrections. A first
gradient that is 0 makes the divisor ``eps``: hence the clipping, which lets such a weight move no faster than ``c``.

State: ``count``, ``mu``, ``nu``, 8 bytes a parameter.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.types import DecayRateOrSchedule, NonNegativeOrSchedule, Params, Updates


class ScaleByAdoptState(NamedTuple):
    count: jax.Array
    mu: Params
    nu: Params


def fourth_root(count: Any) -> Any:
    """ADOPT's limit of the ratio: ``count^(1/4)``."""
    return count**0.25


def adopt_rule(
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    b1: jax.Array,
    b2: jax.Array,
    eps: jax.Array,
    limit: jax.Array | None,
    first: jax.Array,
    nesterov: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    g = numerics.squarable(g)
    r = g / jnp.maximum(numerics.root(v), eps)
    if limit is not None:
        r = jnp.where(jnp.isinf(g), r, jnp.clip(r, -limit, limit))
    m = jnp.where(first > 0, m, b1 * m + (1 - b1) * r)
    v = jnp.where(first > 0, g**2, b2 * v + (1 - b2) * g**2)
    u = jnp.where(first > 0, m, b1 * m + (1 - b1) * r) if nesterov else m
    return u, m, v


@gradient_transformation
def scale_by_adopt(
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.9999,
    eps: NonNegativeOrSchedule = 1e-6,
    mu_dtype: tree.StateDtype = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Callable[[Any], Any] = fourth_root,
) -> Any:
    """Replaces the updates by ADOPT's direction: the average of gradients, each over the root mean square before it.

    Args:
      b1: the beta of the average of ratios, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: the least divisor.
      mu_dtype: dtype of ``mu``; the parameter's by default, float32 for half precision.
      nesterov: look one step ahead with the momentum.
      use_clipping: limit the ratios; without it one gradient that is new to its weight makes a huge step.
      clip_value_fn: what they are limited to, a function of the number of updates so far.

    >>> tx = scale_by_adopt(b1=0.0)
    >>> u, state = tx.update(jnp.array([2.0]), tx.init(jnp.zeros(1)))
    >>> u, tx.update(jnp.array([1.0]), state)[0]
    (Array([0.], dtype=float32), Array([0.5], dtype=float32))
    """

    def init(params: Params) -> ScaleByAdoptState:
        return ScaleByAdoptState(
            count=numerics.zero_count(), mu=tree.zeros_like(params, mu_dtype), nu=tree.zeros_like(params)
        )

    def update(updates: Updates, state: ScaleByAdoptState, params: Params | None = None, **extra: Any) -> Any:
        updates, m, v = tree.map_leaves(
            adopt_rule,
            updates,
            state.mu,
            state.nu,
            params=params,
            b1=b1,
            b2=b2,
            eps=eps,
            limit=clip_value_fn(numerics.as_float(state.count)) if use_clipping else None,
            first=state.count == 0,
            nesterov=nesterov,
        )
        return updates, ScaleByAdoptState(count=numerics.increment(state.count), mu=m, nu=v)

    return init, update


@gradient_transformation
def adopt(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.9999,
    eps: NonNegativeOrSchedule = 1e-6,
    mu_dtype: tree.StateDtype = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Callable[[Any], Any] = fourth_root,
) -> Any:
    """ADOPT: Adam whose divisor does not know the present gradient.

    Its first update is 0.

    Equivalent to ``chain(scale_by_adopt(...), scale_by_learning_rate(learning_rate))``. Put ``add_decayed_weights``
    between the two for weight decay.

    Args:
      learning_rate: about the length of each weight's step; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of ratios, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: the least divisor.
      mu_dtype: dtype of the average of ratios; the parameter's by default, float32 for half precision.
      nesterov: look one step ahead with the momentum.
      use_clipping: limit the ratios; without it one gradient that is new to its weight makes a huge step.
      clip_value_fn: what they are limited to, a function of the number of updates so far.

    Use it: as ``adamw``, where training is unstable and a larger ``b2`` does not help: it converges with any ``b2``.
    Paper: Taniguchi et al. 2024, arXiv 2411.02853 (the clipping is in its later versions).
    Lesson: none.
    """
    return chain(
        scale_by_adopt(
            b1, b2, eps, mu_dtype, nesterov=nesterov, use_clipping=use_clipping, clip_value_fn=clip_value_fn
        ),
        scale_by_learning_rate(learning_rate),
    )
