"""D-Adaptation of AdamW: an estimate of the distance to the solution in the place of a learning rate.

    a = learning_rate * estim_lr * sqrt(1 - b2^t) / (1 - b1^t)            t = 1, 2, ...;  b3 = sqrt(b2)
    r = b3 * r + (1 - b3) * a * <g, s / (sqrt(v) + eps)>                  s and v of the update before
    m = b1 * m + (1 - b1) * a * g
    v = b2 * v + (1 - b2) * g^2
    s = b3 * s + (1 - b3) * a * g
    estim_lr = max(estim_lr, r / ((1 - b3) * |s|_1))
    u = -(m / (sqrt(v) + eps) + a * weight_decay * p)

    p = p + u

``estim_lr`` is a lower bound of the distance to the solution, in the largest entry: it starts tiny, at ``estim_lr0``,
grows as long as gradients agree with those before them, and never falls. The products and the 1-norm go over all leaves
together. ``learning_rate`` is a factor, 1 at its peak.

While all gradients are zero the estimate stays. Infinite and NaN entries do not count in the sums. The corrections for
the start are those of the authors' ``use_bias_correction=True``.

State: ``exp_avg`` (m), ``exp_avg_sq`` (v), ``grad_sum`` (s), 12 bytes a parameter; ``estim_lr``, ``numerator_weighted``
(r), ``count``.

Not to be confused with Prodigy (``prodigy``), whose estimate grows faster.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import Functions, gradient_transformation
from jaxopt_lessons.types import DecayRate, NonNegativeOrSchedule, Params, Positive, Updates


class DAdaptAdamWState(NamedTuple):
    exp_avg: Params
    exp_avg_sq: Params
    grad_sum: Params
    estim_lr: jax.Array
    numerator_weighted: jax.Array
    count: jax.Array


def product_rule(g: jax.Array, s: jax.Array, v: jax.Array, eps: jax.Array) -> jax.Array:
    return numerics.dot(numerics.squarable(g), s / (numerics.root(v) + eps))


def averages_rule(
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    s: jax.Array,
    b1: jax.Array,
    b2: jax.Array,
    b3: jax.Array,
    a: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    g = numerics.squarable(g)
    return g, b1 * m + (1 - b1) * a * g, b2 * v + (1 - b2) * g**2, b3 * s + (1 - b3) * a * g


def step_rule(m: jax.Array, v: jax.Array, p: jax.Array, eps: jax.Array, decay: jax.Array) -> jax.Array:
    return -(m / (numerics.root(v) + eps) + decay * p)


@gradient_transformation
def dadapt_adamw(
    learning_rate: NonNegativeOrSchedule = 1.0,
    betas: tuple[DecayRate, DecayRate] = (0.9, 0.999),
    eps: NonNegativeOrSchedule = 1e-8,
    estim_lr0: Positive = 1e-6,
    weight_decay: NonNegativeOrSchedule = 0.0,
) -> Any:
    """D-Adaptation: AdamW that estimates its learning rate, from successive gradients.

    Args:
      learning_rate: the factor of the estimated learning rate; a number in ``[0, inf)`` or a schedule, 1 at its peak.
      betas: the betas of Adam's averages of gradients and of squares, each in ``[0, 1)``.
      eps: added to the root.
      estim_lr0: the first estimate, in ``(0, inf)``; too small costs a few dozen steps, too large cannot be undone.
      weight_decay: in ``[0, inf)``, multiplied by the estimated learning rate.

    Raises:
      InputError: ``update`` was called without ``params``.

    Use it: to reproduce work that used it; ``prodigy`` is its successor and finds the rate sooner.
    Paper: Defazio & Mishchenko 2023, arXiv 2301.07733.
    Lesson: none.

    >>> tx = dadapt_adamw(estim_lr0=0.5, betas=(0.0, 0.75), eps=0.0)
    >>> params = jnp.array([1.0])
    >>> tx.update(jnp.array([3.0]), tx.init(params), params)[0].round(4)  # the first step is that of adam(estim_lr0)
    Array([-0.5], dtype=float32)
    """
    _checks.require(len(betas) == 2, lambda: f"dadapt_adamw: betas must be two numbers; got {betas!r}.")
    b1, b2 = betas

    def init(params: Params) -> DAdaptAdamWState:
        return DAdaptAdamWState(
            exp_avg=tree.zeros_like(params),
            exp_avg_sq=tree.zeros_like(params),
            grad_sum=tree.zeros_like(params),
            estim_lr=tree.scalar_like(params, estim_lr0),
            numerator_weighted=tree.scalar_like(params, 0),
            count=numerics.zero_count(),
        )

    def update(updates: Updates, state: DAdaptAdamWState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        tree.check_updates(updates, params, state.grad_sum, state.exp_avg_sq)
        t, estim_lr = numerics.increment(state.count), state.estim_lr
        rate, second, decay, correction1, correction2 = numerics.scalars(
            estim_lr.dtype,
            learning_rate,
            b2,
            weight_decay,
            numerics.bias_correction(b1, t),
            numerics.bias_correction(b2, t),
        )
        b3 = numerics.root(second)
        a = rate * estim_lr * jnp.sqrt(correction2) / correction1
        product = tree.sum_leaves(product_rule, updates, state.grad_sum, state.exp_avg_sq, eps=eps)
        _, m, v, s = tree.map_leaves(
            averages_rule,
            updates,
            state.exp_avg,
            state.exp_avg_sq,
            state.grad_sum,
            params=params,
            b1=b1,
            b2=b2,
            b3=b3,
            a=a,
        )
        r = b3 * state.numerator_weighted + (1 - b3) * a * product.astype(estim_lr.dtype)
        norm1 = (1 - b3) * tree.global_norm1(s).astype(estim_lr.dtype)
        estimate = jnp.where(norm1 > 0, r / jnp.where(norm1 > 0, norm1, 1), 0)
        updates = tree.map_leaves(step_rule, m, params=params, read=(v, params), eps=eps, decay=a * decay)
        return updates, DAdaptAdamWState(m, v, s, jnp.maximum(estim_lr, estimate), r, t)

    return Functions(init, update, readings=lambda state: {"estim_lr": state.estim_lr})
