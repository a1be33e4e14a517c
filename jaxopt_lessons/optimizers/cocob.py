"""COCOB: descent by coin betting, without a learning rate. Each weight is a gambler of its own.

    L = max(L, |g|)                               the largest gradient so far; starts at eps
    G = G + |g|                                   how much was bet on
    R = max(R - g * (p - p0), 0)                  what was won;  p0: the parameters at init
    s = s - g
    w = p0 + s / (L * max(G + L, alpha * L)) * (L + R)
    u = w - p

    p = p + u

A gambler bets a share of his wealth ``L + R`` on the sign of the next gradient, and the share is what the average
gradient so far recommends. The first step of every weight has the length ``1 / alpha``, whatever the gradient, and
steps grow exponentially while the gradients agree. Where ``s`` is 0 the weight is back at ``p0``: parameters that are
set to other values in the middle of a run do not stay there.

``learning_rate`` in ``cocob`` multiplies the gradients, and so matters only through ``eps`` and where it changes.
``weight_decay`` is L2 regularization, a part of the gradient, and not AdamW's decay.

State: ``init_particles`` (p0), ``cumulative_gradients`` (s), ``scale`` (L), ``subgradients`` (G), ``reward`` (R), 20
bytes a parameter.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.transforms.weight_decay import add_decayed_weights
from jaxopt_lessons.types import Mask, NonNegative, NonNegativeOrSchedule, Params, PositiveOrSchedule, Updates


class COCOBState(NamedTuple):
    init_particles: Params
    cumulative_gradients: Params
    scale: Params
    subgradients: Params
    reward: Params


def cocob_rule(
    g: jax.Array,
    s: jax.Array,
    largest: jax.Array,
    total: jax.Array,
    reward: jax.Array,
    p0: jax.Array,
    p: jax.Array,
    alpha: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
    g = numerics.squarable(g)
    largest = jnp.maximum(largest, jnp.abs(g))
    total = total + jnp.abs(g)
    reward = jnp.minimum(jnp.maximum(reward - g * (p - p0), 0), jnp.finfo(g.dtype).max)
    s = s - g
    # Each of the two quotients is a plain number where their product, as it stands above, would over- or underflow.
    share = s / numerics.divisor(jnp.maximum(total + largest, alpha * largest))
    wealth = 1 + reward / numerics.divisor(largest)
    return p0 - p + share * wealth, s, largest, total, reward


@gradient_transformation
def scale_by_cocob(alpha: PositiveOrSchedule = 100.0, eps: NonNegative = 1e-8) -> Any:
    """Replaces the updates by COCOB's step, sign included.

    Args:
      alpha: one over the length of the first step, in ``(0, inf)``.
      eps: the first value of the largest gradient, in ``[0, inf)``.

    Raises:
      InputError: ``update`` was called without ``params``.

    >>> tx = scale_by_cocob(alpha=8.0)
    >>> params = jnp.array([1.0, 1.0])
    >>> tx.update(jnp.array([0.01, -50.0]), tx.init(params), params)[0]
    Array([-0.125,  0.125], dtype=float32)
    """

    def init(params: Params) -> COCOBState:
        return COCOBState(
            init_particles=tree.copy_like(params),
            cumulative_gradients=tree.zeros_like(params),
            scale=tree.full_like(params, eps),
            subgradients=tree.zeros_like(params),
            reward=tree.zeros_like(params),
        )

    def update(updates: Updates, state: COCOBState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        p0, *memory = state
        updates, *memory = tree.map_leaves(cocob_rule, updates, *memory, params=params, read=(p0, params), alpha=alpha)
        return updates, COCOBState(p0, *memory)

    return init, update


@gradient_transformation
def cocob(
    learning_rate: NonNegativeOrSchedule = 1.0,
    alpha: PositiveOrSchedule = 100.0,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegativeOrSchedule = 0.0,
    mask: Mask | None = None,
) -> Any:
    """COCOB: every weight bets on the sign of its gradient.

    Equivalent to ``chain(add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate,
    flip_sign=False), scale_by_cocob(alpha, eps))``.

    Args:
      learning_rate: the factor of the gradients; a number in ``[0, inf)`` or a schedule.
      alpha: one over the length of the first step, in ``(0, inf)``.
      eps: the first value of the largest gradient, in ``[0, inf)``.
      weight_decay: L2 regularization in ``[0, inf)``, added to the gradient.
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.

    Use it: where no learning rate may be set, for small networks: its state is five times their size.
    Paper: Orabona & Tommasi 2017, arXiv 1705.07795, algorithm 2.
    Lesson: none.
    """
    return chain(
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate, flip_sign=False),
        scale_by_cocob(alpha, eps),
    )
