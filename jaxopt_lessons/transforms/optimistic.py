"""Optimistic gradients: the next gradient is expected to change as this one did.

    u = (alpha + beta) * g - beta * g_previous    g_previous = g at the first update

With ``alpha = beta = 1`` it is ``2 g - g_previous``, the gradient extrapolated by one step. In games, where one
player's gradient descent turns round the equilibrium for ever, it converges; it costs no second evaluation, as the
extragradient method does. State: ``is_initial_step``, ``previous_gradient``, 4 bytes a parameter.

Papers: Popov 1980; Daskalakis et al. 2017, arXiv 1711.00141; with two coefficients, Mokhtari, Ozdaglar & Pattathil
2019, arXiv 1901.08511.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.types import NonNegativeOrSchedule, Params, Updates


class ScaleByOptimisticGradientState(NamedTuple):
    is_initial_step: jax.Array
    previous_gradient: Params


def optimistic_rule(
    g: jax.Array, previous: jax.Array, alpha: jax.Array, beta: jax.Array, first: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return alpha * g + beta * jnp.where(first > 0, 0, g - previous), g


@gradient_transformation
def scale_by_optimistic_gradient(alpha: NonNegativeOrSchedule = 1.0, beta: NonNegativeOrSchedule = 1.0) -> Any:
    """Adds to the updates what they have changed since the last time: ``alpha * g + beta * (g - g_previous)``.

    Args:
      alpha: the factor of the updates, in ``[0, inf)``.
      beta: the factor of their change, in ``[0, inf)``; 0 for none.

    >>> tx = scale_by_optimistic_gradient()
    >>> u, state = tx.update(jnp.array([1.0]), tx.init(jnp.zeros(1)))
    >>> u, tx.update(jnp.array([3.0]), state)[0]
    (Array([1.], dtype=float32), Array([5.], dtype=float32))
    """

    def init(params: Params) -> ScaleByOptimisticGradientState:
        return ScaleByOptimisticGradientState(
            is_initial_step=jnp.array(True), previous_gradient=tree.zeros_like(params)
        )

    def update(
        updates: Updates, state: ScaleByOptimisticGradientState, params: Params | None = None, **extra: Any
    ) -> Any:
        updates, previous = tree.map_leaves(
            optimistic_rule,
            updates,
            state.previous_gradient,
            params=params,
            alpha=alpha,
            beta=beta,
            first=state.is_initial_step,
        )
        return updates, ScaleByOptimisticGradientState(is_initial_step=jnp.array(False), previous_gradient=previous)

    return init, update
