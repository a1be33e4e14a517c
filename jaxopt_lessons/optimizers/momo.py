"""MoMo: momentum with Polyak's step size, of a model of the loss that is averaged with the gradients.

    f = beta * f + (1 - beta) * value             averages of the losses,
    m = beta * m + (1 - beta) * g                 of the gradients
    c = beta * c + (1 - beta) * <g, p>            and of their products with the parameters;
                                                  the first value of each is its first term
    a = learning_rate * weight_decay
    gap  = (1 + a) * (f - lb - c) + <m, p>        how far the model at p lies above the lower bound
    step = min(learning_rate, max(gap, 0) / |m|^2)
    u = -(a * p + step * m) / (1 + a)

    p = p + u

``f - c + <m, x>`` is the average of the straight lines through all losses so far: a model of the loss at ``x``, and
``step`` goes to where it meets the lower bound ``lb``. So the learning rate is only a limit, and one that is too large
does little harm. ``lb`` is ``lower_bound``, or with ``adapt_lower_bound``::

    lb = max(gap' / (2 + 2 a), lower_bound)       first, if gap' = (1 + a) * (f - c) + <m, p> < (1 + a) * lb
    lb = max(f - c + <m, p> - step * |m|^2 / 2, lower_bound)      after the step

A loss that is infinite or NaN gives zero updates and leaves the state as it is. Departures from optax: there the
weight decay does not divide ``step * m`` (the paper and the authors' code do), and no step is taken where ``|m|^2`` is
below 1.2e-7. In float32 ``gap`` is a difference of large numbers where ``<m, p>`` is large: after a gradient of 1e10 it
is noise until the average has forgotten it, and the step between 0 and the learning rate.

State: ``exp_avg`` (m), 4 bytes a parameter; ``barf`` (f), ``gamma`` (c), ``lb``, ``count``.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.transforms.polyak import model_step
from jaxopt_lessons.types import DecayRateOrSchedule, NonNegativeOrSchedule, Params, Scalar, Updates


class MomoState(NamedTuple):
    exp_avg: Params
    barf: jax.Array
    gamma: jax.Array
    lb: jax.Array
    count: jax.Array


def average_rule(g: jax.Array, m: jax.Array, beta: jax.Array, factor: jax.Array) -> tuple[jax.Array, jax.Array]:
    g = factor * g
    m = beta * m + (1 - beta) * g
    return g, m


def products_rule(
    g: jax.Array, m: jax.Array, p: jax.Array, factor: jax.Array, taken: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return numerics.dot(jnp.where(taken > 0, factor * g, 0), p), numerics.dot(m, p)


def proximal_rule(
    m: jax.Array, p: jax.Array, step: jax.Array, unit: jax.Array, decay: jax.Array, taken: jax.Array
) -> jax.Array:
    return jnp.where(taken > 0, -(decay * p + step * (unit * m)) / (1 + decay), 0)


@gradient_transformation
def momo(
    learning_rate: NonNegativeOrSchedule = 1.0,
    beta: DecayRateOrSchedule = 0.9,
    lower_bound: Scalar = 0.0,
    weight_decay: NonNegativeOrSchedule = 0.0,
    adapt_lower_bound: bool = False,
) -> Any:
    """MoMo: momentum whose learning rate is only a limit.

    ``update`` needs ``value=``, the loss: ``tx.update(grads, state, params, value=loss)``.

    Args:
      learning_rate: the largest step size, rather too large than too small; a number in ``[0, inf)`` or a schedule.
      beta: the beta of the averages, in ``[0, 1)``.
      lower_bound: a lower bound of the loss; 0 is one for most.
      weight_decay: in ``[0, inf)``, multiplied by the learning rate.
      adapt_lower_bound: estimate a better bound on the way, for losses far above ``lower_bound``.

    Raises:
      InputError: ``update`` was called without ``params`` or ``value``, or with a ``value`` that is not a number.

    Use it: in the place of momentum, to tune less: a rate that is too large does little harm; ``update`` needs
      ``value=``, the loss.
    Paper: Schaipp et al. 2023, arXiv 2305.07583.
    Lesson: none.

    >>> tx = momo(learning_rate=10.0)
    >>> params = jnp.array([4.0])
    >>> tx.update(jnp.array([4.0]), tx.init(params), params, value=8.0)[0]  # as Polyak's: 8 / 16 of the gradient
    Array([-2.], dtype=float32)
    """

    def init(params: Params) -> MomoState:
        return MomoState(
            exp_avg=tree.zeros_like(params),
            barf=tree.scalar_like(params, 0),
            gamma=tree.scalar_like(params, 0),
            lb=tree.scalar_like(params, lower_bound),
            count=numerics.zero_count(),
        )

    def update(
        updates: Updates, state: MomoState, params: Params | None = None, *, value: jax.Array, **extra: Any
    ) -> Any:
        if params is None:
            _checks.params_needed(updates)
        tree.check_updates(updates, params, state.exp_avg)
        dtype = state.barf.dtype
        loss, a, b, decay, least = numerics.scalars(
            dtype, _checks.loss_value(value), learning_rate, beta, weight_decay, lower_bound
        )
        taken = jnp.isfinite(loss)
        b = jnp.where(state.count == 0, 0, b)
        _, factor = tree.limited_norm(updates)
        _, m = tree.map_leaves(average_rule, updates, state.exp_avg, params=params, beta=b, factor=factor)
        f = b * state.barf + (1 - b) * jnp.where(taken, loss, 0)
        products = tree.sum_leaves(products_rule, updates, state.exp_avg, params, factor=factor, taken=taken)
        newest, past = (total.astype(dtype) for total in products)
        step, unit, lb = model_step(
            # f - c + <m, p>, without the product of the newest gradient, which is in both: fewer digits are lost.
            height=f - b * (state.gamma - past),
            slope=b * past + (1 - b) * newest,
            square=tree.limited_norm(m)[0].astype(dtype) ** 2,
            bound=state.lb if adapt_lower_bound else least,
            least=least,
            learning_rate=a,
            decay=a * decay,
            weight=jnp.ones([], dtype),
        )
        updates = tree.map_leaves(
            proximal_rule, m, params=params, read=(params,), step=step, unit=unit, decay=a * decay, taken=taken
        )
        c = b * state.gamma + (1 - b) * newest
        new_state = MomoState(m, f, c, lb if adapt_lower_bound else state.lb, numerics.increment(state.count))
        return updates, tree.select(taken, new_state, state)

    return init, update
