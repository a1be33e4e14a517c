"""Rprop: a step size for each weight, from the signs of its gradients alone.

    turn = sign(g) * sign(prev_updates)           1: onwards, -1: turned back, 0: no news
    s = s * (eta_plus, eta_minus or 1)            s starts at learning_rate
    s = min(max(s, min_step_size), max_step_size)
    u = s * sign(g)                               0 where it turned back
    p = p - u

A weight whose gradient keeps its sign goes faster and faster; one whose gradient changes sign has jumped over a
minimum: it goes slower, and rests for a step. Made for batch gradient descent: the signs of small batches change by
chance, and the step sizes collapse.

State: ``step_sizes`` and ``prev_updates``, 8 bytes a parameter. This is PyTorch's Rprop (the paper's without its step
back, "iRprop-" of Igel & Huesken 2003). optax 0.2.8 returns ``prev_updates`` of the step before: its first step is
zero, all others come one step late. Not to be confused with RMSprop, its descendant for mini-batches.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.scale import scale
from jaxopt_lessons.types import AboveOne, Fraction, NonNegative, Params, Positive, Updates


class ScaleByRpropState(NamedTuple):
    step_sizes: Params
    prev_updates: Params


def rprop_rule(
    g: jax.Array,
    s: jax.Array,
    previous: jax.Array,
    eta_minus: jax.Array,
    eta_plus: jax.Array,
    min_step_size: jax.Array,
    max_step_size: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    turn = jnp.sign(g) * jnp.sign(previous)
    s = s * jnp.where(turn > 0, eta_plus, jnp.where(turn < 0, eta_minus, 1))
    s = jnp.minimum(jnp.maximum(s, min_step_size), max_step_size)
    u = jnp.where((turn < 0) & jnp.isfinite(g), 0, s * numerics.sign(g))
    return u, s, u


@gradient_transformation
def scale_by_rprop(
    learning_rate: Positive,
    eta_minus: Fraction = 0.5,
    eta_plus: AboveOne = 1.2,
    min_step_size: NonNegative = 1e-6,
    max_step_size: Positive = 50.0,
) -> Any:
    """Replaces each entry of the updates by its sign times a step size of its own.

    Args:
      learning_rate: the first step size, in ``(0, inf)``.
      eta_minus: the factor of a step size where the sign changed, in ``(0, 1)``.
      eta_plus: the factor of a step size where the sign stayed, in ``(1, inf)``.
      min_step_size: no step size is smaller, not even the first; in ``[0, inf)``.
      max_step_size: no step size is larger, not even the first; in ``(0, inf)``.

    Raises:
      ValueError: ``min_step_size`` is not below ``max_step_size``, or a number is out of range.

    >>> tx = scale_by_rprop(0.5, eta_plus=2.0)
    >>> u, state = tx.update(jnp.array([3.0, -0.1]), tx.init(jnp.zeros(2)))
    >>> tx.update(jnp.array([2.0, 0.1]), state)[0]
    Array([1., 0.], dtype=float32)
    """
    limits = min_step_size, max_step_size
    _checks.increasing("scale_by_rprop", "(min_step_size, max_step_size)", limits)

    def init(params: Params) -> ScaleByRpropState:
        return ScaleByRpropState(step_sizes=tree.full_like(params, learning_rate), prev_updates=tree.zeros_like(params))

    def update(updates: Updates, state: ScaleByRpropState, params: Params | None = None, **extra: Any) -> Any:
        updates, s, previous = tree.map_leaves(
            rprop_rule,
            updates,
            state.step_sizes,
            state.prev_updates,
            params=params,
            eta_minus=eta_minus,
            eta_plus=eta_plus,
            min_step_size=min_step_size,
            max_step_size=max_step_size,
        )
        return updates, ScaleByRpropState(step_sizes=s, prev_updates=previous)

    return init, update


@gradient_transformation
def rprop(
    learning_rate: Positive,
    eta_minus: Fraction = 0.5,
    eta_plus: AboveOne = 1.2,
    min_step_size: NonNegative = 1e-6,
    max_step_size: Positive = 50.0,
) -> Any:
    """Rprop: a step size for each weight, from gradient signs.

    It grows while the gradient keeps its sign and shrinks when it changes.

    Equivalent to ``chain(scale_by_rprop(...), scale(-1.0))``.

    Args:
      learning_rate: the first step size, in ``(0, inf)``; no schedule, the step sizes find their own way.
      eta_minus: the factor of a step size where the sign changed, in ``(0, 1)``.
      eta_plus: the factor of a step size where the sign stayed, in ``(1, inf)``.
      min_step_size: no step size is smaller, not even the first; in ``[0, inf)``.
      max_step_size: no step size is larger, not even the first; in ``(0, inf)``.

    Raises:
      ValueError: ``min_step_size`` is not below ``max_step_size``, or a number is out of range.

    Use it: for batch gradient descent on small data, without tuning; never in mini-batches.
    Paper: Riedmiller & Braun 1993.
    Lesson: none.
    """
    return chain(scale_by_rprop(learning_rate, eta_minus, eta_plus, min_step_size, max_step_size), scale(-1.0))
