"""Prodigy: AdamW that estimates its learning rate on the way, from the distance it has come.

    a = learning_rate * estim_lr * sqrt(1 - b2^t) / (1 - b1^t)            t = 1, 2, ...
    k = a * estim_lr / estim_lr0                  or estim_lr^2 / estim_lr0 if safeguard_warmup
    r = beta3 * r + a * (estim_lr / estim_lr0) * <g, p0 - p>              p0: the parameters at init
    m = b1 * m + (1 - b1) * estim_lr * g
    v = b2 * v + (1 - b2) * (estim_lr * g)^2
    s = beta3 * s + k * g
    estim_lr = max(estim_lr, estim_lr_coef * r / |s|_1)
    u = -a * (m / (sqrt(v) + estim_lr * eps) + weight_decay * p)

    p = p + u

``estim_lr`` is a lower bound of the distance from ``p0`` to the solution, in the largest entry: it starts tiny, at
``estim_lr0``, grows as long as the gradients agree with the way that was taken, and never falls. The products and the
1-norm go over all leaves together. ``learning_rate`` is a factor, 1 at its peak; a cosine decay to 0 and, with warm-up,
``safeguard_warmup`` is what the authors advise. ``beta3 = None`` is ``sqrt(b2)``.

While all gradients are zero the estimate stays (optax: NaN for ever; the authors' code: no step at all, so no decay
either). Infinite and NaN entries do not count in the sums. The corrections for the start are those of the authors'
``use_bias_correction=True``. The distance is measured from the parameters of ``init``: weights loaded after it give a
wrong estimate.

State: ``exp_avg`` (m), ``exp_avg_sq`` (v), ``grad_sum`` (s), ``params0`` (p0), 16 bytes a parameter; ``estim_lr``,
``numerator_weighted`` (r), ``count``.

Not to be confused with D-Adaptation (``dadapt_adamw``), from which it comes, and whose estimate grows more slowly.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import Functions, gradient_transformation
from jaxopt_lessons.types import (
    DecayRate,
    DecayRateOrSchedule,
    NonNegativeOrSchedule,
    Params,
    Positive,
    PositiveOrSchedule,
    Updates,
)


class ProdigyState(NamedTuple):
    exp_avg: Params
    exp_avg_sq: Params
    grad_sum: Params
    params0: Params
    estim_lr: jax.Array
    numerator_weighted: jax.Array
    count: jax.Array


def averages_rule(
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    s: jax.Array,
    b1: jax.Array,
    b2: jax.Array,
    beta3: jax.Array,
    estim_lr: jax.Array,
    k: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    g = numerics.squarable(g)
    scaled = numerics.squarable(estim_lr * g)
    return g, b1 * m + (1 - b1) * scaled, b2 * v + (1 - b2) * scaled**2, beta3 * s + k * g


def product_rule(g: jax.Array, p0: jax.Array, p: jax.Array) -> jax.Array:
    return numerics.dot(numerics.squarable(g), p0 - p)


def step_rule(
    m: jax.Array, v: jax.Array, p: jax.Array, a: jax.Array, floor: jax.Array, weight_decay: jax.Array
) -> jax.Array:
    return -a * (m / (numerics.root(v) + floor) + weight_decay * p)


@gradient_transformation
def prodigy(
    learning_rate: NonNegativeOrSchedule = 1.0,
    betas: tuple[DecayRate, DecayRate] = (0.9, 0.999),
    beta3: DecayRateOrSchedule | None = None,
    eps: NonNegativeOrSchedule = 1e-8,
    estim_lr0: Positive = 1e-6,
    estim_lr_coef: PositiveOrSchedule = 1.0,
    weight_decay: NonNegativeOrSchedule = 0.0,
    safeguard_warmup: bool = False,
) -> Any:
    """Prodigy: AdamW that estimates its learning rate, from the distance come.

    Args:
      learning_rate: the factor of the estimated learning rate; a number in ``[0, inf)`` or a schedule, 1 at its peak.
      betas: the betas of Adam's averages of gradients and of squares, each in ``[0, 1)``.
      beta3: the beta of the sums behind the estimate, in ``[0, 1)``; None for the root of the second of ``betas``.
      eps: added to the root, times the estimate.
      estim_lr0: the first estimate, in ``(0, inf)``; too small costs a few dozen steps, too large cannot be undone.
      estim_lr_coef: the factor of later estimates, in ``(0, inf)``; the one number to tune, between 0.5 and 2.
      weight_decay: in ``[0, inf)``, multiplied by the estimated learning rate.
      safeguard_warmup: keep the learning rate out of the 1-norm, so that a warm-up does not raise the estimate.

    Raises:
      InputError: ``update`` was called without ``params``.

    Use it: for fine-tuning without a search for the learning rate: leave it at 1 and let a cosine schedule take it to
      0; twice Adam's memory.
    Paper: Mishchenko & Defazio 2023, arXiv 2306.06101.
    Lesson: none.

    >>> tx = prodigy(estim_lr0=0.5, betas=(0.0, 0.75), eps=0.0)
    >>> params = jnp.array([1.0])
    >>> tx.update(jnp.array([3.0]), tx.init(params), params)[0].round(4)  # the first step is that of adam(estim_lr0)
    Array([-0.5], dtype=float32)
    """
    _checks.require(len(betas) == 2, lambda: f"prodigy: betas must be two numbers; got {betas!r}.")
    b1, b2 = betas

    def init(params: Params) -> ProdigyState:
        return ProdigyState(
            exp_avg=tree.zeros_like(params),
            exp_avg_sq=tree.zeros_like(params),
            grad_sum=tree.zeros_like(params),
            params0=tree.copy_like(params),
            estim_lr=tree.scalar_like(params, estim_lr0),
            numerator_weighted=tree.scalar_like(params, 0),
            count=numerics.zero_count(),
        )

    def update(updates: Updates, state: ProdigyState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        tree.check_updates(updates, params, state.params0)
        t, estim_lr = numerics.increment(state.count), state.estim_lr
        rate, second, first0, coefficient, correction1, correction2, above_0 = numerics.scalars(
            estim_lr.dtype,
            learning_rate,
            b2,
            estim_lr0,
            estim_lr_coef,
            numerics.bias_correction(b1, t),
            numerics.bias_correction(b2, t),
            eps,
        )
        (b3,) = numerics.scalars(estim_lr.dtype, beta3) if beta3 is not None else [numerics.root(second)]
        a = rate * estim_lr * jnp.sqrt(correction2) / correction1
        growth = estim_lr / first0
        _, m, v, s = tree.map_leaves(
            averages_rule,
            updates,
            state.exp_avg,
            state.exp_avg_sq,
            state.grad_sum,
            params=params,
            b1=b1,
            b2=b2,
            beta3=b3,
            estim_lr=estim_lr,
            k=growth * (estim_lr if safeguard_warmup else a),
        )
        product = tree.sum_leaves(product_rule, updates, state.params0, params).astype(estim_lr.dtype)
        r = b3 * state.numerator_weighted + a * growth * product
        norm1 = tree.global_norm1(s).astype(estim_lr.dtype)
        # No more than a factor of the largest distance in exact arithmetic, and so no overflow that matters.
        estimate = coefficient * r / jnp.where(norm1 > 0, norm1, 1)
        estim_lr = jnp.maximum(estim_lr, jnp.where(norm1 > 0, estimate, 0))
        updates = tree.map_leaves(
            step_rule,
            m,
            params=params,
            read=(v, params),
            a=a,
            floor=estim_lr * above_0,
            weight_decay=weight_decay,
        )
        return updates, ProdigyState(m, v, s, state.params0, estim_lr, r, t)

    return Functions(init, update, readings=lambda state: {"estim_lr": state.estim_lr})
