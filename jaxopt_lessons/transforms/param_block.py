"""Steps in proportion to the parameters: multiplication by the size of each leaf.

    scale_by_param_block_norm   u = g * max(|p|, min_scale)               Euclidean norm of the leaf
    scale_by_param_block_rms    u = g * max(rms(p), min_scale)            root mean square of its entries

After a normalizing scaling, such as Adafactor's or Adam's, the learning rate is then a relative one: 0.01 changes a
weight by a hundredth of a typical weight of its leaf. ``min_scale`` lets a leaf of zeros start. The norm grows with the
number of entries, the root mean square does not. State: none. A leaf with infinite or NaN weights counts as one of
zeros.

Paper: Shazeer & Stern 2018, arXiv 1804.04235, section 8. Not to be confused with ``scale_by_trust_ratio``, which
divides by the size of the update too.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import EmptyState, gradient_transformation
from jaxopt_lessons.types import NonNegativeOrSchedule, Params, Updates


def _at_least(min_scale: jax.Array, size: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(size), jnp.maximum(size, min_scale), min_scale)


def param_norm_rule(g: jax.Array, p: jax.Array, min_scale: jax.Array) -> jax.Array:
    return g * _at_least(min_scale, numerics.norm(p))


def param_rms_rule(g: jax.Array, p: jax.Array, min_scale: jax.Array) -> jax.Array:
    return g * _at_least(min_scale, numerics.rms(p))


@gradient_transformation
def scale_by_param_block_norm(min_scale: NonNegativeOrSchedule = 1e-3) -> Any:
    """Multiplies the updates of each leaf by the Euclidean norm of the parameter.

    Args:
      min_scale: the smallest factor, in ``[0, inf)``.

    Raises:
      InputError: ``update`` was called without ``params``.

    >>> tx = scale_by_param_block_norm()
    >>> params = jnp.array([3.0, 4.0])
    >>> tx.update(jnp.array([0.1, -0.1]), tx.init(params), params)[0]
    Array([ 0.5, -0.5], dtype=float32)
    """

    def init(params: Params) -> EmptyState:
        return EmptyState()

    def update(updates: Updates, state: EmptyState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        updates = tree.map_leaves(param_norm_rule, updates, params=params, read=(params,), min_scale=min_scale)
        return updates, state

    return init, update


@gradient_transformation
def scale_by_param_block_rms(min_scale: NonNegativeOrSchedule = 1e-3) -> Any:
    """Multiplies the updates of each leaf by the root mean square of the parameter.

    Args:
      min_scale: the smallest factor, in ``[0, inf)``.

    Raises:
      InputError: ``update`` was called without ``params``.

    >>> tx = scale_by_param_block_rms()
    >>> params = jnp.array([3.0, 4.0, 0.0, 0.0])
    >>> tx.update(jnp.array([2.0, -2.0, 0.0, 0.0]), tx.init(params), params)[0]
    Array([ 5., -5.,  0.,  0.], dtype=float32)
    """

    def init(params: Params) -> EmptyState:
        return EmptyState()

    def update(updates: Updates, state: EmptyState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        updates = tree.map_leaves(param_rms_rule, updates, params=params, read=(params,), min_scale=min_scale)
        return updates, state

    return init, update
