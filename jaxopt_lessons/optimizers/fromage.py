"""Fromage: relative steps, and a shrinking that keeps them from growing the weights.

    r = max(|p|, min_norm) / max(|g|, min_norm)   Euclidean norms of the leaf
    p = (p - learning_rate * r * g) / sqrt(1 + learning_rate^2)

A step at right angles to the weights, as gradients of layers before a normalization are, would lengthen them by the
factor ``sqrt(1 + learning_rate^2)``; the division takes it back. The learning rate is the relative change of every
layer: 0.01 for most networks, and nothing else to tune. It needs a schedule to come to rest. A gradient of zeros still
shrinks the weights.

State: ``count``, 0 bytes a parameter. Infinite and NaN entries are left out of the norms and stay as they are.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.transforms.learning_rate import ScaleByScheduleState
from jaxopt_lessons.transforms.trust_ratio import trust_ratio_rule
from jaxopt_lessons.types import NonNegativeOrSchedule, Params, Updates


def fromage_rule(g: jax.Array, p: jax.Array, learning_rate: jax.Array, min_norm: jax.Array) -> jax.Array:
    d = trust_ratio_rule(g, p, min_norm, jnp.ones_like(min_norm), jnp.zeros_like(min_norm))
    length = jnp.sqrt(1 + learning_rate**2)
    # 1 / length - 1, without the cancellation at small learning rates
    shrinking = -(learning_rate**2) / (length * (1 + length))
    return shrinking * p - learning_rate / length * d


@gradient_transformation
def fromage(learning_rate: NonNegativeOrSchedule, min_norm: NonNegativeOrSchedule = 1e-6) -> Any:
    """Fromage: changes every layer by the same share of itself.

    Args:
      learning_rate: the relative length of each leaf's step, in ``[0, inf)``, or a schedule.
      min_norm: smaller norms, of the parameter or of the gradient, count as this one; in ``[0, inf)``.

    Raises:
      InputError: ``update`` was called without ``params``.

    Use it: where there is no time to tune: 0.01 to begin with, and a decay; not where layers should differ in speed.
    Paper: Bernstein et al. 2020, arXiv 2002.03432.
    Lesson: none.

    >>> tx = fromage(0.75)
    >>> params = jnp.array([4.0, 0.0])
    >>> u, state = tx.update(jnp.array([0.0, 20.0]), tx.init(params), params)
    >>> params + u  # (4, -3) / 1.25
    Array([ 3.2, -2.4], dtype=float32)
    """

    def init(params: Params) -> ScaleByScheduleState:
        return ScaleByScheduleState(count=numerics.zero_count())

    def update(updates: Updates, state: ScaleByScheduleState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        updates = tree.map_leaves(
            fromage_rule, updates, params=params, read=(params,), learning_rate=learning_rate, min_norm=min_norm
        )
        return updates, ScaleByScheduleState(numerics.increment(state.count))

    return init, update
