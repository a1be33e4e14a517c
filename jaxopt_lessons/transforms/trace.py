"""Momentum as a decaying sum of gradients: the heavy ball.

    m = decay * m + g
    u = m                   plain (Polyak 1964)
    u = decay * m + g       Nesterov 1983: the gradient is seen through one more step of the momentum

State: ``trace``, 4 bytes a parameter. For a constant gradient ``m`` grows to ``g / (1 - decay)``: at decay 0.9 the step
is ten times that of plain gradient descent. Not to be confused with ``ema``, whose terms are weighted by
``1 - decay`` and whose step stays that of plain gradient descent.
"""

from typing import Any, NamedTuple

import jax

from jaxopt_lessons import tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.types import DecayRateOrSchedule, Params, Updates


class TraceState(NamedTuple):
    trace: Params


def trace_rule(g: jax.Array, m: jax.Array, decay: jax.Array, nesterov: bool) -> tuple[jax.Array, jax.Array]:
    m = decay * m + g
    u = decay * m + g if nesterov else m
    return u, m


@gradient_transformation
def trace(decay: DecayRateOrSchedule, nesterov: bool = False, accumulator_dtype: tree.StateDtype = None) -> Any:
    """Replaces the updates by a decaying sum of them: ``m = decay * m + g``.

    Args:
      decay: how much of the sum stays at each update, in ``[0, 1)``; 0.9 is usual.
      nesterov: return ``decay * m + g`` instead of ``m``.
      accumulator_dtype: dtype of ``m``; the parameter's by default, float32 for half precision.

    >>> tx = trace(0.9)
    >>> state = tx.init(jnp.zeros(1))
    >>> u, state = tx.update(jnp.ones(1), state)
    >>> tx.update(jnp.ones(1), state)[0]
    Array([1.9], dtype=float32)
    """

    def init(params: Params) -> TraceState:
        return TraceState(trace=tree.zeros_like(params, accumulator_dtype))

    def update(updates: Updates, state: TraceState, params: Params | None = None, **extra: Any) -> Any:
        updates, m = tree.map_leaves(trace_rule, updates, state.trace, params=params, decay=decay, nesterov=nesterov)
        return updates, TraceState(trace=m)

    return init, update
