"""Steps that are saved up and taken all at once.

    s = s + g
    u = s, and s = 0        at every k-th update
    u = 0                   at the others

The sum, not the mean. The stages of a chain before and after it run at every update, so Adam before it counts
mini-batches and Adam after it sees zeros. To make one big batch of ``k`` small ones, accumulate the gradients around
the whole optimizer instead.

State: ``mini_step``, which runs from 0 to ``k - 1``, and ``grad_acc``, 4 bytes a parameter. (In optax the class is
``ApplyEvery``, the counter ``count``, and the sum stays in the state until the next update.)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.types import Params, Steps, Updates


class ApplyEveryState(NamedTuple):
    mini_step: jax.Array
    grad_acc: Params


def apply_every_rule(g: jax.Array, s: jax.Array, last: jax.Array) -> tuple[jax.Array, jax.Array]:
    s = s + g
    return jnp.where(last > 0, s, 0), jnp.where(last > 0, 0, s)


@gradient_transformation
def apply_every(k: Steps = 1) -> Any:
    """Adds up the updates and lets the sum pass at every ``k``-th update, zeros at the others.

    Args:
      k: how many updates make one, a whole number from 1 on.

    >>> tx = apply_every(2)
    >>> state = tx.init(jnp.zeros(1))
    >>> u, state = tx.update(jnp.array([1.0]), state)
    >>> tx.update(jnp.array([2.0]), state)[0]
    Array([3.], dtype=float32)
    """

    def init(params: Params) -> ApplyEveryState:
        return ApplyEveryState(mini_step=jnp.zeros([], jnp.int32), grad_acc=tree.zeros_like(params))

    def update(updates: Updates, state: ApplyEveryState, params: Params | None = None, **extra: Any) -> Any:
        last = state.mini_step >= jnp.asarray(k, jnp.int32) - 1
        updates, s = tree.map_leaves(apply_every_rule, updates, state.grad_acc, params=params, last=last)
        return updates, ApplyEveryState(jnp.where(last, 0, state.mini_step + 1), s)

    return init, update
