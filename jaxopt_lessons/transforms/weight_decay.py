"""Decoupled weight decay.

    u = g + weight_decay * p

Put after the adaptive scaling and before the learning rate it is AdamW's decay, which shrinks each weight by the factor
``1 - learning_rate * weight_decay`` whatever its gradients are. Not to be confused with L2 regularization, a term in
the loss, which adaptive methods scale away. State: none.

Paper: Loshchilov & Hutter 2017, arXiv 1711.05101.
"""

from typing import Any

import jax

from jaxopt_lessons import _checks, tree
from jaxopt_lessons.core import EmptyState, gradient_transformation
from jaxopt_lessons.types import Mask, NonNegativeOrSchedule, Params, Updates


def decay_rule(g: jax.Array, p: jax.Array, weight_decay: jax.Array) -> jax.Array:
    return g + weight_decay * p


@gradient_transformation
def add_decayed_weights(weight_decay: NonNegativeOrSchedule = 0.0, mask: Mask | None = None) -> Any:
    """Adds the decayed parameters to the updates: ``u = g + weight_decay * p``.

    Args:
      weight_decay: the decay in ``[0, inf)``, or a schedule. In ``adamw`` it is multiplied by the learning rate.
      mask: which leaves decay: a tree of bools like the parameters (or a prefix), ``mask(params) -> tree``, or
        ``mask(path, leaf) -> bool``, as in ``lambda path, leaf: leaf.ndim > 1`` for matrices only. None: all.

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
            _checks.params_needed()
        where = None if mask is None else tree.mask_leaves(mask, params)
        updates = tree.map_leaves(
            decay_rule, updates, params=params, read=(params,), where=where, weight_decay=weight_decay
        )
        return updates, state

    return init, update
