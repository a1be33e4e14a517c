"""Polyak's step size: as far as the straight line through the loss says it is to the bottom.

    step = min((value - f_min) / (|g|^2 + eps), max_learning_rate)        variant="sps"
    step = min(max(value - f_min, 0) / (|g|^2 + eps), max_learning_rate)  variant="sps+"
    u = step * g

``value`` is the loss at the parameters where ``g`` was taken, ``f_min`` the least value it can have and ``|g|`` the
Euclidean norm of all leaves together. On ``f(x) = h (x - a)^2 / 2`` it is ``1 / (2 h)``, whatever ``h`` is. Of a
batch's loss and gradient it is the stochastic Polyak step, which converges if the model fits every example
(``f_min = 0``) and goes too far where it cannot. Where ``value`` is below ``f_min``, "sps" steps uphill and "sps+"
stays.

A loss that is infinite or NaN gives zero updates. Infinite and NaN entries of ``g`` do not count in the norm.
Departures from optax: there the step is 0 wherever ``|g|^2`` is below 1.2e-7, that is, well before the bottom; and
here it is no larger than ``max_learning_rate`` uphill either. State: none.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import EmptyState, gradient_transformation
from jaxopt_lessons.types import NonNegativeOrSchedule, Params, PositiveOrSchedule, Scalar, Updates


def polyak_step(gap: jax.Array, square: jax.Array, largest: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``gap / square``, in ``[-largest, largest]``; nothing overflows, and derivatives are finite.

    Returns:
      ``step`` and ``unit``: the step size is their product, which may be too small for a float, as 1 / 1e40 is.
      Multiply the direction by ``unit`` first. It is a power of 2, and 1 unless ``square`` is huge.
    """
    capped = jnp.abs(gap) >= largest * square
    unit = jnp.where(capped | (square < 2.0**100), 1, jnp.full_like(square, 2.0**-100))
    return jnp.where(capped, jnp.sign(gap) * largest, gap / jnp.where(capped, 1, square * unit)), unit


def model_step(
    height: jax.Array,
    slope: jax.Array,
    square: jax.Array,
    bound: jax.Array,
    least: jax.Array,
    learning_rate: jax.Array,
    decay: jax.Array,
    weight: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """MoMo's step size, as the two factors of ``polyak_step``, and its next lower bound of the loss.

    Args:
      height: the averaged model of the loss, at the parameters: ``f - c + <m, p>``.
      slope: the part of it that weight decay makes smaller: ``<m, p>``.
      square: the squared norm of the direction.
      bound: the lower bound of the loss.
      least: what the bound never falls below.
      learning_rate: the largest step size.
      decay: weight decay times learning rate.
      weight: what the weights in the averages sum up to: 1, or Adam's ``1 - b1^t``.
    """
    decayed = (1 + decay) * height - decay * slope
    unit = (1 + decay) * weight
    bound = jnp.where(decayed < unit * bound, jnp.maximum(decayed / (2 * unit), least), bound)
    step, small = polyak_step(jnp.maximum(decayed - unit * bound, 0), square, learning_rate / weight)
    return step, small, jnp.maximum((height - step * (small * square) / 2) / weight, least)


def polyak_rule(g: jax.Array, step: jax.Array, unit: jax.Array, factor: jax.Array, taken: jax.Array) -> jax.Array:
    return jnp.where(taken > 0, step * (unit * (factor * g)), 0)


@gradient_transformation
def scale_by_polyak(
    f_min: Scalar = 0.0,
    max_learning_rate: PositiveOrSchedule = 1.0,
    eps: NonNegativeOrSchedule = 0.0,
    variant: str = "sps",
) -> Any:
    """Multiplies the updates by Polyak's step size.

    ``update`` needs ``value=``, the loss: ``tx.update(grads, state, params, value=loss)``.

    Args:
      f_min: the least value of the loss, or a lower bound of it.
      max_learning_rate: the largest step size, in ``(0, inf)``.
      eps: added to the square of the norm, in ``[0, inf)``.
      variant: ``"sps"``, or ``"sps+"`` to stay where the loss is below ``f_min``.

    Raises:
      InputError: ``update`` was called without ``value``, or with one that is not a number.

    Papers: Polyak 1987; Loizou et al. 2020, arXiv 2002.10542 ("sps"); Garrigos et al. 2023, arXiv 2307.14528 ("sps+").

    >>> tx = scale_by_polyak(max_learning_rate=10.0)
    >>> tx.update(jnp.array([4.0]), tx.init(jnp.zeros(1)), value=8.0)[0]  # 8 / 16 of the gradient
    Array([2.], dtype=float32)
    """
    _checks.one_of("scale_by_polyak", "variant", variant, ("sps", "sps+"))

    def init(params: Params) -> EmptyState:
        return EmptyState()

    def update(
        updates: Updates, state: EmptyState, params: Params | None = None, *, value: jax.Array, **extra: Any
    ) -> Any:
        tree.check_updates(updates, params)
        norm, factor = tree.limited_norm(updates)
        loss, least, largest, above_0 = numerics.scalars(
            norm.dtype, _checks.loss_value(value), f_min, max_learning_rate, eps
        )
        taken = jnp.isfinite(loss)
        gap = jnp.where(taken, loss, least) - least
        gap = jnp.maximum(gap, 0) if variant == "sps+" else gap
        step, unit = polyak_step(gap, norm**2 + above_0, largest)
        updates = tree.map_leaves(polyak_rule, updates, params=params, step=step, unit=unit, factor=factor, taken=taken)
        return updates, state

    return init, update
