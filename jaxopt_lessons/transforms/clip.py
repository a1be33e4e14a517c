"""Clipping of gradients that are too large.

    clip                  u = max(-max_delta, min(g, max_delta))          entry by entry; changes the direction
    clip_by_block_rms     u = g * min(1, threshold / rms(g))              leaf by leaf; keeps each leaf's direction
    clip_by_global_norm   u = g * min(1, max_norm / |g|)                  all leaves together; keeps the direction

where ``|g|`` is the Euclidean norm of all leaves together and ``rms(g)`` the root mean square of one. State: none.

Norms are calculated in float32 without overflow. If the global norm is not finite there is no direction to keep: the
updates pass unchanged, so that the infinite or NaN entry is still where it was for whoever looks for it (the usual
formula turns one infinite entry into a NaN and zeros, and one NaN into all NaN). A leaf whose squares are not finite
(entries of 1e20 in float32) is limited to the threshold entry by entry; infinite and NaN entries become NaN.
``max_norm=0`` and ``threshold=0`` give zeros.

Papers: Mikolov 2012 (entries), Pascanu, Mikolov & Bengio 2013, arXiv 1211.5063 (norm), Shazeer & Stern 2018, arXiv
1804.04235, section 6 (root mean square).
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import EmptyState, gradient_transformation
from jaxopt_lessons.types import LimitOrSchedule, Params, Updates


def clip_rule(g: jax.Array, max_delta: jax.Array) -> jax.Array:
    return jnp.clip(g, -max_delta, max_delta)


def rescale_rule(g: jax.Array, norm: jax.Array, max_norm: jax.Array) -> jax.Array:
    small = jnp.where(norm > 1e18, 2.0**-64, 1)  # max_norm / norm may be too small for a float, g / norm is not
    clipped = (g * small) * (max_norm / (jnp.where(norm > 0, norm, 1) * small))
    return jnp.where((norm > max_norm) & jnp.isfinite(norm), clipped, g)


def block_rms_rule(g: jax.Array, threshold: jax.Array) -> jax.Array:
    rms = numerics.unscaled_rms(g)
    known = jnp.isfinite(rms)
    factor = jnp.where(known & (rms > threshold), threshold / rms, 1)
    limit = jnp.where(known, jnp.inf, threshold)
    return jnp.clip(factor * g, -limit, limit) + 0 * g  # infinite entries become NaN, to be seen


@gradient_transformation
def clip(max_delta: LimitOrSchedule) -> Any:
    """Limits every entry to ``[-max_delta, max_delta]``. NaN stays NaN.

    Args:
      max_delta: the largest absolute value an entry may have, in ``[0, inf]``.

    >>> tx = clip(1.0)
    >>> tx.update(jnp.array([0.5, -3.0]), tx.init(jnp.zeros(2)))[0]
    Array([ 0.5, -1. ], dtype=float32)
    """

    def init(params: Params) -> EmptyState:
        return EmptyState()

    def update(updates: Updates, state: EmptyState, params: Params | None = None, **extra: Any) -> Any:
        return tree.map_leaves(clip_rule, updates, params=params, max_delta=max_delta), state

    return init, update


@gradient_transformation
def clip_by_block_rms(threshold: LimitOrSchedule) -> Any:
    """Scales each leaf down so that the root mean square of its entries is at most ``threshold``.

    Args:
      threshold: the largest root mean square of a leaf, in ``[0, inf]``; ``inf`` for no clipping. Adafactor's is 1.

    >>> tx = clip_by_block_rms(1.0)
    >>> tx.update(jnp.array([3.0, 4.0, 0.0, 0.0]), tx.init(jnp.zeros(4)))[0]  # its root mean square is 2.5
    Array([1.2, 1.6, 0. , 0. ], dtype=float32)
    """

    def init(params: Params) -> EmptyState:
        return EmptyState()

    def update(updates: Updates, state: EmptyState, params: Params | None = None, **extra: Any) -> Any:
        return tree.map_leaves(block_rms_rule, updates, params=params, threshold=threshold), state

    return init, update


@gradient_transformation
def clip_by_global_norm(max_norm: LimitOrSchedule) -> Any:
    """Scales all updates down together so that their global norm is at most ``max_norm``.

    Args:
      max_norm: the largest Euclidean norm of all leaves together, in ``[0, inf]``; ``inf`` for no clipping.

    >>> tx = clip_by_global_norm(1.0)
    >>> tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.zeros(2)))[0]
    Array([0.6, 0.8], dtype=float32)
    """

    def init(params: Params) -> EmptyState:
        return EmptyState()

    def update(updates: Updates, state: EmptyState, params: Params | None = None, **extra: Any) -> Any:
        norm = tree.global_norm(updates)
        return tree.map_leaves(rescale_rule, updates, params=params, norm=norm, max_norm=max_norm), state

    return init, update
