"""Schedule-free learning: averaging in the place of a learning rate that falls.

    y = (1 - b1) * z + b1 * x                     y: the parameters that are trained, where gradients are taken
    z = z + u_inner(gradient at y)                z: the sequence of the inner optimizer
    w = t^r * max(learning rates so far)^weight_lr_power          t = 1, 2, ...
    x = x + w / sum(w) * (z - x)                  x: the average of z, the weights to evaluate

``x`` and ``z`` start at the parameters. Only ``z`` is stored: ``x`` is ``(y - (1 - b1) z) / b1``. For that call
``eval_params(tx, state, params)``, which finds it through chains, masks and wrappers; the parameters that are trained
are worse. (optax's ``schedule_free_eval_params(state, params)`` has no counterpart: ``b1``, which it needs, is an
argument of the transformation, and not part of the state.)

The interpolation takes the place of momentum, so the inner optimizer should have none (``b1=0`` for Adam). Give both
the same learning rate, with warm-up and without decay; what it is for here is the weights: the updates of a warm-up
count for less. A run can be stopped at any time. The learning rate is best larger than with a schedule. ``r > 0`` moves
the weight to the end.

Half-precision parameters round ``x`` with ``y`` at every update: put ``master_weights`` around it. Departures from
optax: there the learning rate of the weights is that of the next update, and so the warm-up is off by one;
``state.step_count`` starts from 1 and here ``count`` from 0.

State: ``z``, 4 bytes a parameter more than the inner optimizer; ``count``, ``weight_sum``, ``max_lr`` and
``base_optimizer_state``. Not to be confused with ``polynomial_average_params``, which averages the trained parameters
and takes no gradients near the average.
"""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import Functions, Part, Transformation, gradient_transformation
from jaxopt_lessons.types import Fraction, NonNegativeOrSchedule, Params, Repeated, State, Updates


class ScheduleFreeState(NamedTuple):
    weight_sum: jax.Array
    count: jax.Array
    max_lr: jax.Array
    base_optimizer_state: State
    z: Params


def schedule_free_rule(
    u: jax.Array, z: jax.Array, y: jax.Array, b1: jax.Array, share: jax.Array
) -> tuple[jax.Array, jax.Array]:
    new = z + u
    # b1 x + (1 - b1) z after the update less the same before it, with x written as (y - (1 - b1) z) / b1.
    return (1 - b1) * u + share * ((new - y) - (1 - b1) * u), new


def average_rule(y: jax.Array, z: jax.Array, b1: jax.Array) -> jax.Array:
    return (y - (1 - b1) * z) / b1


def power(base: jax.Array, exponent: jax.Array) -> jax.Array:
    """``base ** exponent`` for numbers from 0 on; ``0 ** 0`` is 1, and derivatives are finite."""
    positive = base > 0
    return jnp.where(positive, jnp.where(positive, base, 1) ** exponent, jnp.where(exponent == 0, 1, 0))


@gradient_transformation
def schedule_free(
    base_optimizer: Transformation,
    learning_rate: Annotated[NonNegativeOrSchedule, Repeated()],
    b1: Fraction = 0.9,
    weight_lr_power: NonNegativeOrSchedule = 2.0,
    state_dtype: tree.StateDtype = None,
    *,
    r: NonNegativeOrSchedule = 0.0,
) -> Any:
    """Schedule-free: averages weights in the place of a decaying rate.

    Evaluate ``eval_params(tx, state, params)``.

    Args:
      base_optimizer: the optimizer, without momentum.
      learning_rate: that of the optimizer once more: a number in ``[0, inf)``, or a schedule with warm-up and no decay.
        ``replace(learning_rate=...)`` changes both.
      b1: how near to the average the gradients are taken, in ``(0, 1)``: 0.9, or up to 0.98 in long runs.
      weight_lr_power: the power of the learning rate in the weights of the average, in ``[0, inf)``.
      state_dtype: dtype of ``z``; the parameter's by default, float32 for half precision.
      r: the power of the count in the weights of the average, in ``[0, inf)``.

    Raises:
      InputError: ``update`` was called without ``params``.

    Use it: around an optimizer without momentum, when the end of the run is not known; ``schedule_free_adamw`` and
      others are ready made.
    Paper: Defazio et al. 2024, arXiv 2405.15682.
    Lesson: none.

    >>> tx = schedule_free(jl.sgd(1.0), learning_rate=1.0, b1=0.5)
    >>> params = jnp.array([10.0])
    >>> state = tx.init(params)
    >>> for _ in range(2):
    ...     updates, state = tx.update(jnp.array([2.0]), state, params)
    ...     params = jl.apply_updates(params, updates)
    >>> state.z, jl.eval_params(tx, state, params)  # 8, then 6; their mean
    (Array([6.], dtype=float32), Array([7.], dtype=float32))
    """
    _checks.rounds_last("schedule_free", base_optimizer.name, base_optimizer.takes_half_precision)

    def init(params: Params) -> ScheduleFreeState:
        return ScheduleFreeState(
            weight_sum=tree.scalar_like(params, 0),
            count=numerics.zero_count(),
            max_lr=tree.scalar_like(params, 0),
            base_optimizer_state=base_optimizer.init(tree.widen(params)),
            z=tree.copy_like(params, state_dtype),
        )

    def update(updates: Updates, state: ScheduleFreeState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        proposed, inner_state = base_optimizer.update(
            tree.widen(updates), state.base_optimizer_state, tree.widen(params), **extra
        )
        t = numerics.increment(state.count)
        rate, lr_power, t_power, steps = numerics.scalars(state.max_lr.dtype, learning_rate, weight_lr_power, r, t)
        max_lr = jnp.maximum(state.max_lr, rate)
        weight = power(steps, t_power) * power(max_lr, lr_power)
        weight_sum = state.weight_sum + weight
        share = jnp.where(weight_sum > 0, weight / jnp.where(weight_sum > 0, weight_sum, 1), 0)
        updates, z = tree.map_leaves(
            schedule_free_rule, proposed, state.z, params=params, read=(params,), b1=b1, share=share
        )
        return updates, ScheduleFreeState(weight_sum, t, max_lr, inner_state, z)

    def parts(state: ScheduleFreeState) -> list[Part]:
        return [Part("base_optimizer", base_optimizer, state.base_optimizer_state)]

    def eval_params(state: ScheduleFreeState, params: Params) -> Params:
        average = tree.map_leaves(average_rule, tree.trainable(params), read=(state.z,), b1=b1)
        return tree.merge(params, average)

    return Functions(init, update, parts, eval_params)
