"""Sophia: momentum divided by an estimate of the Hessian's diagonal, and clipped.

    m = b1 * m + (1 - b1) * g
    u = m / (1 - b1^t) / max(gamma * h, eps)
    u = max(-clip_threshold, min(u, clip_threshold))
    h = b2 * h + (1 - b2) * estimate              every update_interval updates, after use

    p = p - learning_rate * (u + weight_decay * p)

A Newton step coordinate by coordinate where the curvature ``h`` is known and positive, a step along the sign of the
momentum where it is small, negative or not known yet: the first update is ``sign(g)``. The estimate comes from a
transformation that gets the parameters and what else ``update`` was called with; Hutchinson's needs ``obj_fn=``, the
loss of the present batch as a function of the parameters. As in the authors' code and in optax ``h`` is refreshed
after the step; in the paper's pseudocode before it. ``h`` starts at 0 without a correction.

optax's ``verbose`` and ``print_win_rate_every_n_steps`` print from inside the compiled program and do not exist here.

State: ``count``, ``mu``, ``nu`` (which is ``h``), ``hessian_fn_state``, 8 bytes a parameter.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import Functions, Part, Transformation, gradient_transformation
from jaxopt_lessons.transforms.decayed_step import Decay, decayed_step
from jaxopt_lessons.transforms.hutchinson import hutchinson_estimator_diag_hessian
from jaxopt_lessons.types import (
    DecayRateOrSchedule,
    LimitOrSchedule,
    Mask,
    NonNegativeOrSchedule,
    Params,
    State,
    Steps,
    Updates,
)

_HUTCHINSON = hutchinson_estimator_diag_hessian()


class SophiaState(NamedTuple):
    count: jax.Array
    mu: Params
    nu: Params
    hessian_fn_state: State


def sophia_rule(
    g: jax.Array,
    m: jax.Array,
    h: jax.Array,
    b1: jax.Array,
    eps: jax.Array,
    gamma: jax.Array,
    clip_threshold: jax.Array | None,
    correction1: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    m = b1 * m + (1 - b1) * g
    m_hat = m / correction1
    u = m_hat / numerics.divisor(jnp.maximum(gamma * h, eps))
    if clip_threshold is not None:
        u = jnp.where(jnp.isinf(m_hat), m_hat, jnp.clip(u, -clip_threshold, clip_threshold))
    return u, m


def curvature_rule(estimate: jax.Array, h: jax.Array, b2: jax.Array) -> tuple[jax.Array, jax.Array]:
    h = b2 * h + (1 - b2) * estimate
    return h, h


def seen_rule(u: jax.Array, h: jax.Array) -> jax.Array:
    """An estimate that is not finite is seen at once, while a guard can still leave out the step."""
    return jnp.where(jnp.isfinite(h), u, h)


@gradient_transformation
def scale_by_sophia(
    b1: DecayRateOrSchedule = 0.965,
    b2: DecayRateOrSchedule = 0.99,
    eps: NonNegativeOrSchedule = 1e-8,
    gamma: NonNegativeOrSchedule = 0.01,
    clip_threshold: LimitOrSchedule | None = 1.0,
    update_interval: Steps = 10,
    hessian_diagonal_fn: Transformation = _HUTCHINSON,
    mu_dtype: tree.StateDtype = None,
) -> Any:
    """Replaces the updates by Sophia's direction: momentum over curvature, clipped.

    Args:
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of estimates, in ``[0, 1)``.
      eps: the least divisor.
      gamma: the factor of the curvature, in ``[0, inf)``. The larger, the fewer entries are clipped; 10 to 50% should
        not be.
      clip_threshold: the largest absolute value of an entry, in ``[0, inf]``; None for no limit.
      update_interval: a new estimate after so many updates, at least 1.
      hessian_diagonal_fn: the transformation whose updates are the estimate.
      mu_dtype: dtype of ``mu``; the parameter's by default, float32 for half precision.

    Raises:
      InputError: ``update`` was called without ``params`` or what the estimate needs.

    >>> tx = scale_by_sophia(b2=0.0, gamma=1.0, update_interval=1)
    >>> params = jnp.array([1.0])
    >>> bowl = lambda p: 2 * jnp.sum(p**2)
    >>> u, state = tx.update(jax.grad(bowl)(params), tx.init(params), params, obj_fn=bowl)
    >>> params = jnp.array([0.5])
    >>> tx.update(jnp.array([2.0]), state, params, obj_fn=bowl)[0].round(2)  # momentum 2.98 over curvature 4
    Array([0.75], dtype=float32)
    """

    def init(params: Params) -> SophiaState:
        return SophiaState(
            count=numerics.zero_count(),
            mu=tree.zeros_like(params, mu_dtype),
            nu=tree.zeros_like(params),
            hessian_fn_state=hessian_diagonal_fn.init(params),
        )

    def update(grads: Updates, state: SophiaState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(grads)
        t = numerics.increment(state.count)
        updates, m = tree.map_leaves(
            sophia_rule,
            grads,
            state.mu,
            params=params,
            read=(state.nu,),
            b1=b1,
            eps=eps,
            gamma=gamma,
            clip_threshold=clip_threshold,
            correction1=numerics.bias_correction(b1, t),
        )

        def refresh() -> tuple[Updates, State, Params]:
            estimate, hessian_fn_state = hessian_diagonal_fn.update(grads, state.hessian_fn_state, params, **extra)
            _, h = tree.map_leaves(curvature_rule, estimate, state.nu, b2=b2)
            return tree.map_leaves(seen_rule, updates, params=params, read=(h,)), hessian_fn_state, h

        due = state.count % jnp.asarray(update_interval).astype(state.count.dtype) == 0
        updates, hessian_fn_state, h = jax.lax.cond(due, refresh, lambda: (updates, state.hessian_fn_state, state.nu))
        return updates, SophiaState(count=t, mu=m, nu=h, hessian_fn_state=hessian_fn_state)

    def parts(state: SophiaState) -> list[Part]:
        return [Part(hessian_diagonal_fn.name, hessian_diagonal_fn, state.hessian_fn_state)]

    return Functions(init, update, parts)


@gradient_transformation
def sophia(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.965,
    b2: DecayRateOrSchedule = 0.99,
    eps: NonNegativeOrSchedule = 1e-8,
    weight_decay: NonNegativeOrSchedule = 1e-4,
    weight_decay_mask: Mask | None = None,
    gamma: NonNegativeOrSchedule = 0.01,
    clip_threshold: LimitOrSchedule | None = 1.0,
    update_interval: Steps = 10,
    hessian_diagonal_fn: Transformation = _HUTCHINSON,
    mu_dtype: tree.StateDtype = None,
    *,
    decay: Decay = "lr",
) -> Any:
    """Sophia: momentum over estimated curvature, clipped.

    Equivalent to ``chain(scale_by_sophia(...), add_decayed_weights(weight_decay, weight_decay_mask),
    scale_by_learning_rate(learning_rate))``. Call it with the loss of the batch:
    ``tx.update(grads, state, params, obj_fn=lambda params: loss_fn(params, batch))``.

    Args:
      learning_rate: the longest step of a weight; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of estimates, in ``[0, 1)``.
      eps: the least divisor.
      weight_decay: in ``[0, inf)``, multiplied by what ``decay`` says.
      weight_decay_mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``.
        None: all.
      gamma: the factor of the curvature, in ``[0, inf)``.
      clip_threshold: the largest absolute value of an entry, in ``[0, inf]``; None for no limit.
      update_interval: a new estimate after so many updates, at least 1.
      hessian_diagonal_fn: the transformation whose updates are the estimate.
      mu_dtype: dtype of the average of gradients; the parameter's by default, float32 for half precision.
      decay: what the weight decay is multiplied by: the learning rate (``"lr"``), its course without its height
        (``"schedule"``), or nothing (``"independent"``): see ``adamw``.

    Use it: for experiments with curvature; its gains over AdamW were not found again in longer runs (Semenov et al.
      2025, arXiv 2509.01440).
    Paper: Liu et al. 2023, arXiv 2305.14342.
    Lesson: none.
    """
    return decayed_step(
        "sophia",
        scale_by_sophia(b1, b2, eps, gamma, clip_threshold, update_interval, hessian_diagonal_fn, mu_dtype),
        learning_rate,
        weight_decay,
        weight_decay_mask,
        decay,
    )
