"""MoMo-Adam: Adam with Polyak's step size, of a model of the loss that is averaged with the gradients.

    f = b1 * f + (1 - b1) * value                 averages from 0, of the losses,
    m = b1 * m + (1 - b1) * g                     of the gradients,
    c = b1 * c + (1 - b1) * <g, p>                of their products with the parameters
    v = b2 * v + (1 - b2) * g^2                   and of their squares
    d = m / (sqrt(v / (1 - b2^t)) + eps)          Adam's direction;  w = 1 - b1^t,  t = 1, 2, ...
    a = learning_rate * weight_decay
    gap  = (1 + a) * (f - w * lb - c) + <m, p>    how far the model at p lies above the lower bound
    step = min(learning_rate / w, max(gap, 0) / <m, d>)
    u = -(a * p + step * d) / (1 + a)

    p = p + u

``f - c + <m, x>`` is ``w`` times the average of the straight lines through all losses so far: a model of the loss at
``x``, and ``step`` goes to where it meets the lower bound ``lb``, or as far as Adam would. So the learning rate is only
a limit. ``lb`` is ``lower_bound``, or with ``adapt_lower_bound``::

    lb = max(gap' / (2 w (1 + a)), lower_bound)   first, if gap' = (1 + a) * (f - c) + <m, p> < (1 + a) * w * lb
    lb = max((f - c + <m, p> - step * <m, d> / 2) / w, lower_bound)      after the step

A loss that is infinite or NaN gives zero updates and leaves the state as it is. Departures from optax: there the
weight decay does not divide ``step * d`` (the paper and the authors' code do), and no step is taken where ``<m, d>`` is
below 1.2e-7. In float32 ``gap`` is a difference of large numbers where ``<m, p>`` is large: after a gradient of 1e10 it
is noise until the average has forgotten it, and the step between 0 and the learning rate.

State: ``exp_avg`` (m), ``exp_avg_sq`` (v), 8 bytes a parameter; ``barf`` (f), ``gamma`` (c), ``lb``, ``count``.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.transforms.polyak import model_step
from jaxopt_lessons.types import DecayRateOrSchedule, NonNegativeOrSchedule, Params, Scalar, Updates


class MomoAdamState(NamedTuple):
    exp_avg: Params
    exp_avg_sq: Params
    barf: jax.Array
    gamma: jax.Array
    lb: jax.Array
    count: jax.Array


def admitted(g: jax.Array, taken: jax.Array) -> jax.Array:
    return numerics.squarable(jnp.where(taken > 0, g, 0))


def moments_rule(
    g: jax.Array, m: jax.Array, v: jax.Array, b1: jax.Array, b2: jax.Array, taken: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    g = admitted(g, taken)
    return g, b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2


def direction(m: jax.Array, v: jax.Array, eps: jax.Array, correction2: jax.Array) -> jax.Array:
    return m / (numerics.root(v / correction2) + eps)


def products_rule(g: jax.Array, m: jax.Array, p: jax.Array, taken: jax.Array) -> tuple[jax.Array, jax.Array]:
    return numerics.dot(admitted(g, taken), p), numerics.dot(m, p)


def square_rule(m: jax.Array, v: jax.Array, eps: jax.Array, correction2: jax.Array) -> jax.Array:
    return numerics.dot(m, direction(m, v, eps, correction2))


def proximal_rule(
    m: jax.Array,
    v: jax.Array,
    p: jax.Array,
    step: jax.Array,
    unit: jax.Array,
    decay: jax.Array,
    eps: jax.Array,
    correction2: jax.Array,
    taken: jax.Array,
) -> jax.Array:
    return jnp.where(taken > 0, -(decay * p + step * (unit * direction(m, v, eps, correction2))) / (1 + decay), 0)


@gradient_transformation
def momo_adam(
    learning_rate: NonNegativeOrSchedule = 1e-2,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    lower_bound: Scalar = 0.0,
    weight_decay: NonNegativeOrSchedule = 0.0,
    adapt_lower_bound: bool = False,
) -> Any:
    """MoMo-Adam: Adam whose learning rate is only a limit.

    ``update`` needs ``value=``, the loss: ``tx.update(grads, state, params, value=loss)``.

    Args:
      learning_rate: the largest step size, rather too large than too small; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the averages of gradients and losses, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      lower_bound: a lower bound of the loss; 0 is one for most.
      weight_decay: in ``[0, inf)``, multiplied by the learning rate.
      adapt_lower_bound: estimate a better bound on the way, for losses far above ``lower_bound``.

    Raises:
      InputError: ``update`` was called without ``params`` or ``value``, or with a ``value`` that is not a number.

    Use it: in the place of Adam, to tune less: a rate that is too large does little harm; ``update`` needs ``value=``,
      the loss.
    Paper: Schaipp et al. 2023, arXiv 2305.07583.
    Lesson: none.

    >>> tx = momo_adam(learning_rate=10.0)
    >>> params = jnp.array([4.0])
    >>> tx.update(jnp.array([4.0]), tx.init(params), params, value=8.0)[0]  # as far as a line of slope 4 says
    Array([-2.], dtype=float32)
    """

    def init(params: Params) -> MomoAdamState:
        return MomoAdamState(
            exp_avg=tree.zeros_like(params),
            exp_avg_sq=tree.zeros_like(params),
            barf=tree.scalar_like(params, 0),
            gamma=tree.scalar_like(params, 0),
            lb=tree.scalar_like(params, lower_bound),
            count=numerics.zero_count(),
        )

    def update(
        updates: Updates, state: MomoAdamState, params: Params | None = None, *, value: jax.Array, **extra: Any
    ) -> Any:
        if params is None:
            _checks.params_needed(updates)
        tree.check_updates(updates, params, state.exp_avg, state.exp_avg_sq)
        dtype, t = state.barf.dtype, numerics.increment(state.count)
        correction2 = numerics.bias_correction(b2, t)
        loss, rate, b, decay, least, weight = numerics.scalars(
            dtype,
            _checks.loss_value(value),
            learning_rate,
            b1,
            weight_decay,
            lower_bound,
            numerics.bias_correction(b1, t),
        )
        taken = jnp.isfinite(loss)
        _, m, v = tree.map_leaves(
            moments_rule, updates, state.exp_avg, state.exp_avg_sq, params=params, b1=b1, b2=b2, taken=taken
        )
        products = tree.sum_leaves(products_rule, updates, state.exp_avg, params, taken=taken)
        newest, past = (total.astype(dtype) for total in products)
        f = b * state.barf + (1 - b) * jnp.where(taken, loss, 0)
        step, unit, lb = model_step(
            # f - c + <m, p>, without the product of the newest gradient, which is in both: fewer digits are lost.
            height=f - b * (state.gamma - past),
            slope=b * past + (1 - b) * newest,
            square=tree.sum_leaves(square_rule, m, v, eps=eps, correction2=correction2).astype(dtype),
            bound=state.lb if adapt_lower_bound else least,
            least=least,
            learning_rate=rate,
            decay=rate * decay,
            weight=weight,
        )
        updates = tree.map_leaves(
            proximal_rule,
            m,
            params=params,
            read=(v, params),
            step=step,
            unit=unit,
            decay=rate * decay,
            eps=eps,
            correction2=correction2,
            taken=taken,
        )
        c = b * state.gamma + (1 - b) * newest
        new_state = MomoAdamState(m, v, f, c, lb if adapt_lower_bound else state.lb, t)
        return updates, tree.select(taken, new_state, state)

    return init, update
