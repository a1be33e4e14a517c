"""Mechanic: the learning rate of any optimizer, learned by betting on how far along its path it is best to be.

    D = (x0 - p) / (S + eps)                      what the optimizer has proposed so far, from p;  x0: the first p
    h = <g + weight_decay * S * |g| / (|p| + eps) * p, D>      positive: further along would have been better
    for each beta_i = 1 - 0.1^i, i = 1 ... num_betas:
        r_i = beta_i * r_i + clip(h, -m_i, m_i) * s_i          what was won;  m and s of the update before
        m_i = max(beta_i * m_i, |h| + eps)
        v_i = beta_i^2 * v_i + h^2
        s_i = (s_init / num_betas * m_i + max(r_i, 0)) / (sqrt(v_i) + eps)
    S = sum of the s_i
    u = x0 - S * (D - u_inner) - p                u_inner: the update of ``inner``

    p = p + u

The iterates lie on the line from ``x0`` along the sum of all proposed updates, ``S`` times as far out. ``S`` starts at
``s_init``, grows exponentially while that helps, and shrinks where it does not. The products and norms go over all
leaves together. A schedule of ``inner`` stays useful: let its peak be 1. ``inner`` should not normalize its updates by
the parameters (LARS, LAMB).

``D`` is not stored but found again from ``p``, so half-precision parameters, which a tiny ``S`` does not move, do not
even start: put ``master_weights`` around it. Infinite and NaN entries do not count in the sums. The numbers are those
of optax, written by the paper's authors; their PyTorch package does not limit ``h`` and starts from ``s = 0``.

State: ``x0``, 4 bytes a parameter more than ``inner``; ``r``, ``m``, ``v``, ``s``, one number for each beta; ``count``
and ``base_optimizer_state``.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import Functions, Part, Transformation, gradient_transformation
from jaxopt_lessons.types import NonNegativeOrSchedule, Params, Positive, PositiveOrSchedule, State, Updates


class MechanicState(NamedTuple):
    base_optimizer_state: State
    count: jax.Array
    r: jax.Array
    m: jax.Array
    v: jax.Array
    s: jax.Array
    x0: Params


def products_rule(g: jax.Array, x0: jax.Array, p: jax.Array, factor: jax.Array) -> tuple[jax.Array, jax.Array]:
    way = x0 - p
    return numerics.dot(factor * g, way), numerics.dot(p, way)


def mechanic_rule(
    u: jax.Array, x0: jax.Array, p: jax.Array, before: jax.Array, after: jax.Array, eps: jax.Array
) -> jax.Array:
    way = x0 - p
    return way - after * (way / (before + eps) - u)


@gradient_transformation
def mechanize(
    base_optimizer: Transformation,
    weight_decay: NonNegativeOrSchedule = 1e-2,
    eps: PositiveOrSchedule = 1e-8,
    s_init: Positive = 1e-6,
    num_betas: int = 6,
) -> Any:
    """Mechanic: learns the learning rate of the optimizer inside.

    All its updates are multiplied by a factor that is found on the way.

    Args:
      base_optimizer: the optimizer, with a learning rate of 1 at its peak.
      weight_decay: how much a large factor is held back, in ``[0, inf)``; the default is good for most. It is not the
        weight decay of an optimizer.
      eps: keeps the denominators away from 0, in ``(0, inf)``.
      s_init: the first factor, in ``(0, inf)``, rather too small than too large.
      num_betas: how many decay rates bet side by side: 0.9, 0.99, 0.999, ...

    Raises:
      InputError: ``update`` was called without ``params``.

    Use it: around an optimizer whose schedule has the right shape and an unknown height: let its peak be 1; not around
      ``lars`` or ``lamb``.
    Paper: Cutkosky, Defazio & Mehta 2023, arXiv 2306.00144.
    Lesson: none.

    >>> tx = mechanize(jl.sgd(1.0), s_init=0.5)
    >>> params = jnp.array([1.0])
    >>> tx.update(jnp.array([4.0]), tx.init(params), params)[0]
    Array([-2.], dtype=float32)
    """
    _checks.whole("mechanize", "num_betas", num_betas, 1)
    _checks.rounds_last("mechanize", base_optimizer.name, base_optimizer.takes_half_precision)

    def init(params: Params) -> MechanicState:
        nothing = jnp.broadcast_to(tree.scalar_like(params, 0), (num_betas,))
        return MechanicState(
            base_optimizer_state=base_optimizer.init(tree.widen(params)),
            count=numerics.zero_count(),
            r=nothing,
            m=jnp.copy(nothing),
            v=jnp.copy(nothing),
            s=jnp.broadcast_to(tree.scalar_like(params, s_init), (num_betas,)),
            x0=tree.copy_like(params),
        )

    def update(updates: Updates, state: MechanicState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        tree.check_updates(updates, params, state.x0)
        wide = tree.widen(params)
        proposed, inner_state = base_optimizer.update(tree.widen(updates), state.base_optimizer_state, wide, **extra)
        # Weights are often replaced by trained ones after init: what counts is where the run starts.
        x0 = tree.select(state.count == 0, tree.copy_like(params), state.x0)

        dtype = state.s.dtype
        betas = jnp.asarray(1 - 0.1 ** np.arange(1.0, num_betas + 1), dtype)
        decay, above_0, first = numerics.scalars(dtype, weight_decay, eps, s_init)
        before = jnp.sum(state.s)
        norm, factor = tree.limited_norm(updates)
        size, _ = tree.limited_norm(params)
        along, back = (
            total.astype(dtype) for total in tree.sum_leaves(products_rule, updates, x0, params, factor=factor)
        )
        pull = decay * before * norm.astype(dtype) / (size.astype(dtype) + above_0)
        h = numerics.squarable((along + pull * back) / (before + above_0))
        m = jnp.maximum(betas * state.m, jnp.abs(h) + above_0)
        v = jnp.minimum(betas**2 * state.v + h**2, jnp.finfo(dtype).max)
        r = betas * state.r + jnp.clip(h, -state.m, state.m) * state.s
        s = (first / num_betas * m + jnp.maximum(r, 0)) / (numerics.root(v) + above_0)

        updates = tree.map_leaves(
            mechanic_rule,
            proposed,
            params=params,
            read=(x0, params),
            before=before,
            after=jnp.sum(s),
            eps=above_0,
        )
        return updates, MechanicState(inner_state, numerics.increment(state.count), r, m, v, s, x0)

    def parts(state: MechanicState) -> list[Part]:
        return [Part("base_optimizer", base_optimizer, state.base_optimizer_state)]

    return Functions(init, update, parts, readings=lambda state: {"scale": jnp.sum(state.s)})
