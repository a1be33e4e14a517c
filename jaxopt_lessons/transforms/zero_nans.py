"""NaN gradients are replaced by zeros, and where it happened is told.

    u = 0 where g is NaN, else g

State: ``found_nan``, one bool for each leaf: whether its last gradient had a NaN. Infinite entries pass, to be seen by
whoever looks for them. Of a complex entry only the part that is NaN becomes zero (optax: both parts).

A NaN is most often the sign of a defect, and the other entries of its leaf are then no better: ``apply_if_finite``
leaves the whole step out instead, and counts.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.types import Params, Updates


class ZeroNansState(NamedTuple):
    found_nan: Params


def zero_nans_rule(g: jax.Array, found: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.where(jnp.isnan(g), 0, g), jnp.any(jnp.isnan(g))


@gradient_transformation
def zero_nans() -> Any:
    """Replaces NaN entries of the updates by zeros.

    >>> tx = zero_nans()
    >>> u, state = tx.update(jnp.array([0.5, jnp.nan]), tx.init(jnp.zeros(2)))
    >>> u, state.found_nan
    (Array([0.5, 0. ], dtype=float32), Array(True, dtype=bool))
    """

    def init(params: Params) -> ZeroNansState:
        return ZeroNansState(jax.tree.map(lambda leaf: jnp.zeros([], bool), tree.trainable(params)))

    def update(updates: Updates, state: ZeroNansState, params: Params | None = None, **extra: Any) -> Any:
        updates, found = tree.map_leaves(
            zero_nans_rule, updates, state.found_nan, params=params, states_have_shape=False
        )
        return updates, ZeroNansState(found)

    return init, update
