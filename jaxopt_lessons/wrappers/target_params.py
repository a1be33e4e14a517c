"""A copy of the parameters that follows them slowly: target networks, teachers, averages by hand.

    incremental_update    old + step_size * (new - old)      at every call
    periodic_update       new                                if steps % update_period == 0, else old

Both work on any trees of equal structure: averages are calculated in float32 for half precision and have the dtypes of
``old``; leaves that are not trainable (integers, functions, random keys) are taken from ``new``. For the average of an
optimizer's parameters see ``ema_params``, which needs no line in the training loop.

Papers: Polyak & Juditsky 1992; Mnih et al. 2015 (periodic); Lillicrap et al. 2015, arXiv 1509.02971 (incremental).
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _errors, numerics, tree
from jaxopt_lessons.types import Params


def toward_rule(new: jax.Array, old: jax.Array, step_size: jax.Array) -> jax.Array:
    return numerics.toward(old, new, step_size)


def incremental_update(new_tensors: Params, old_tensors: Params, step_size: Any) -> Params:
    """Moves ``old_tensors`` a part of the way to ``new_tensors``: ``step_size * new + (1 - step_size) * old``.

    Args:
      new_tensors: the latest parameters.
      old_tensors: the copy that follows them.
      step_size: which part of the way, usually a number near 0; 1 copies.

    Raises:
      InputError: the trees differ in structure or shape.

    >>> incremental_update({"w": jnp.array([10.0])}, {"w": jnp.array([0.0])}, 0.1)
    {'w': Array([1.], dtype=float32)}
    """
    with _errors.stage("incremental_update"):
        trained = tree.trainable(new_tensors)
        moved = tree.map_leaves(toward_rule, trained, params=old_tensors, read=(old_tensors,), step_size=step_size)
        return tree.merge(new_tensors, moved)


def periodic_update(new_tensors: Params, old_tensors: Params, steps: Any, update_period: Any) -> Params:
    """``new_tensors`` once in every ``update_period`` steps, else ``old_tensors``.

    Args:
      new_tensors: the latest parameters.
      old_tensors: the copy that follows them.
      steps: how many steps the parameters have made; at 0 they are copied.
      update_period: how many steps lie between two copies.

    Raises:
      InputError: the trees differ in structure or shape.

    >>> [float(periodic_update(new, 0.0, step, 3)) for step, new in enumerate([1.0, 2.0, 3.0, 4.0])]
    [1.0, 0.0, 0.0, 4.0]
    """
    with _errors.stage("periodic_update"):
        trained = tree.trainable(new_tensors)
        copies = jnp.asarray(steps) % jnp.asarray(update_period).astype(jnp.result_type(steps)) == 0
        kept = tree.map_leaves(choose_rule, trained, params=old_tensors, read=(old_tensors,), copies=copies)
        return tree.merge(new_tensors, kept)


def choose_rule(new: jax.Array, old: jax.Array, copies: jax.Array) -> jax.Array:
    return jnp.where(copies > 0, new, old)
