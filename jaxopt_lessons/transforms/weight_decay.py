"""Decoupled weight decay, of all weights or of those the step already shrinks.

    u = g + weight_decay * p                      add_decayed_weights, with - in the place of + if flip_sign
    u = g + weight_decay * p  where g * p >= 0    add_cautious_weight_decay

Put after the adaptive scaling and before the learning rate it is AdamW's decay, which shrinks each weight by the factor
``1 - learning_rate * weight_decay`` whatever its gradients are. After the learning rate its sign is to be flipped, and
the factor is ``1 - weight_decay``. (The presets have it both ways: see ``decayed_step``.) Not to be confused with L2
regularization, a term in the loss, which adaptive methods scale away.

Cautious decay leaves a weight alone while the optimizer moves it away from 0 (``g`` is the direction against which
the step goes). The minima of the loss stay minima, which with plain decay they do not. State: none.

Papers: Loshchilov & Hutter 2017, arXiv 1711.05101. Cautious: Chen et al. 2025, arXiv 2510.12402.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, tree
from jaxopt_lessons.core import EmptyState, gradient_transformation
from jaxopt_lessons.types import Mask, NonNegativeOrSchedule, Params, Updates


def decay_rule(g: jax.Array, p: jax.Array, weight_decay: jax.Array, flip_sign: bool) -> jax.Array:
    return g - weight_decay * p if flip_sign else g + weight_decay * p


def cautious_decay_rule(g: jax.Array, p: jax.Array, weight_decay: jax.Array) -> jax.Array:
    return g + weight_decay * jnp.where(jnp.sign(g) * jnp.sign(p) >= 0, p, 0)


@gradient_transformation
def add_decayed_weights(
    weight_decay: NonNegativeOrSchedule = 0.0, mask: Mask | None = None, *, flip_sign: bool = False
) -> Any:
    """Adds the decayed parameters to the updates: ``u = g + weight_decay * p``.

    Args:
      weight_decay: the decay in ``[0, inf)``, or a schedule. In ``adamw`` it is multiplied by the learning rate.
      mask: which leaves decay: a tree of bools like the parameters (or a prefix), ``mask(params) -> tree``, or
        ``mask(path, leaf) -> bool``, as in ``lambda path, leaf: leaf.ndim > 1`` for matrices only. None: all.
      flip_sign: subtract them: for updates that are steps already, multiplied by minus the learning rate.

    Raises:
      InputError: ``update`` was called without ``params``, or the mask does not fit them.

    >>> tx = add_decayed_weights(0.1, mask=lambda path, leaf: path != "bias")
    >>> params = {"bias": jnp.array([10.0]), "kernel": jnp.array([10.0])}
    >>> zeros = jax.tree.map(jnp.zeros_like, params)
    >>> tx.update(zeros, tx.init(params), params)[0]
    {'bias': Array([0.], dtype=float32), 'kernel': Array([1.], dtype=float32)}
    """

    def init(params: Params) -> EmptyState:
        return EmptyState()

    def update(updates: Updates, state: EmptyState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        where = None if mask is None else tree.mask_leaves(mask, params)
        updates = tree.map_leaves(
            decay_rule,
            updates,
            params=params,
            read=(params,),
            where=where,
            weight_decay=weight_decay,
            flip_sign=flip_sign,
        )
        return updates, state

    return init, update


@gradient_transformation
def add_cautious_weight_decay(weight_decay: NonNegativeOrSchedule = 0.0, mask: Mask | None = None) -> Any:
    """Adds the decayed parameters to the updates where the two agree in sign, or one of them is 0.

    Put it where ``add_decayed_weights`` stands: after the adaptive scaling, before the learning rate with its minus.

    Args:
      weight_decay: the decay in ``[0, inf)``, or a schedule. In an optimizer it is multiplied by the learning rate.
      mask: which leaves decay: a tree of bools like the parameters (or a prefix), ``mask(params) -> tree``, or
        ``mask(path, leaf) -> bool``. None: all.

    Raises:
      InputError: ``update`` was called without ``params``, or the mask does not fit them.

    >>> tx = add_cautious_weight_decay(0.5)
    >>> params = jnp.array([2.0, -2.0])
    >>> tx.update(jnp.array([3.0, 3.0]), tx.init(params), params)[0]
    Array([4., 3.], dtype=float32)
    """

    def init(params: Params) -> EmptyState:
        return EmptyState()

    def update(updates: Updates, state: EmptyState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        where = None if mask is None else tree.mask_leaves(mask, params)
        updates = tree.map_leaves(
            cautious_decay_rule, updates, params=params, read=(params,), where=where, weight_decay=weight_decay
        )
        return updates, state

    return init, update
