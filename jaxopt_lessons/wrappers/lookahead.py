"""Lookahead: k steps forward, one step back.

    u = fast(g)                                   every update; p are the fast weights, those that are trained
    d = (p + u) - slow                            every k-th: where the fast weights would be, seen from the slow ones
    slow = slow + alpha * d                       slow starts at the first p
    u = u - (1 - alpha) * d                       so that p + u = slow: both begin anew from there

with ``k = sync_period`` and ``alpha = slow_step_size``. The slow weights are those to evaluate, as in the paper:
``eval_params(tx, state, params)``. ``slow_step_size=1`` is the fast optimizer alone, ``0`` stays where it began.

They are so whatever is inside: an average in ``fast_optimizer`` knows nothing of the steps back and is not asked. To
average what is trained write ``ema_params(lookahead(...))``; then the average is what to evaluate.

Departures from optax: parameters are plain trees, and the slow ones are in the state (optax wants a pair
``LookaheadParams`` in every function that takes parameters); the fast weights have the same numbers. ``reset_state``
starts the fast optimizer where the weights now are, not where they were before the last step.

State: ``fast_state``, ``steps_since_sync`` and ``slow``; 4 bytes a parameter more than the fast optimizer.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import Functions, Part, Transformation, apply_updates, gradient_transformation
from jaxopt_lessons.types import Params, State, Steps, Updates, WeightOrSchedule


class LookaheadState(NamedTuple):
    fast_state: State
    steps_since_sync: jax.Array
    slow: Params


def lookahead_rule(
    u: jax.Array, slow: jax.Array, p: jax.Array, alpha: jax.Array, syncs: jax.Array
) -> tuple[jax.Array, jax.Array]:
    d = (p - slow) + u
    return jnp.where(syncs > 0, u - (1 - alpha) * d, u), jnp.where(syncs > 0, slow + alpha * d, slow)


@gradient_transformation
def lookahead(
    fast_optimizer: Transformation,
    sync_period: Steps,
    slow_step_size: WeightOrSchedule,
    reset_state: bool = False,
) -> Any:
    """Lookahead: pulls the weights back to a slow copy.

    The copy follows them part of the way, every few steps.

    Args:
      fast_optimizer: the optimizer that takes the steps.
      sync_period: how many steps forward before one back, at least 1; 5 in the paper.
      slow_step_size: how much of the way the slow weights go, in ``[0, 1]``, or a schedule; 0.5 in the paper.
      reset_state: give the fast optimizer a fresh state whenever it begins anew.

    Raises:
      InputError: ``update`` was called without ``params``.

    Use it: to make a run less sensitive to its learning rate, at the price of a copy of the weights; with a decaying
      rate little is left to gain.
    Paper: Zhang et al. 2019, arXiv 1907.08610.
    Lesson: none.

    >>> tx = lookahead(jl.sgd(1.0), sync_period=2, slow_step_size=0.5)
    >>> params = jnp.array([10.0])
    >>> state = tx.init(params)
    >>> for _ in range(2):
    ...     updates, state = tx.update(jnp.array([2.0]), state, params)
    ...     params = jl.apply_updates(params, updates)
    >>> params  # two steps to 6, and half the way back to 10
    Array([8.], dtype=float32)
    """

    _checks.rounds_last("lookahead", fast_optimizer.name, fast_optimizer.takes_half_precision)

    def init(params: Params) -> LookaheadState:
        return LookaheadState(
            fast_state=fast_optimizer.init(tree.widen(params)),
            steps_since_sync=numerics.zero_count(),
            slow=tree.copy_like(params),
        )

    def update(updates: Updates, state: LookaheadState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        wide = tree.widen(params)
        updates, fast_state = fast_optimizer.update(tree.widen(updates), state.fast_state, wide, **extra)
        syncs = state.steps_since_sync >= jnp.asarray(sync_period).astype(jnp.int32) - 1
        updates, slow = tree.map_leaves(
            lookahead_rule, updates, state.slow, params=params, read=(params,), alpha=slow_step_size, syncs=syncs
        )
        if reset_state:
            fresh = fast_optimizer.init(tree.widen(apply_updates(params, updates)))
            fast_state = tree.select(syncs, fresh, fast_state)
        steps_since_sync = jnp.where(syncs, 0, numerics.increment(state.steps_since_sync))
        return updates, LookaheadState(fast_state, steps_since_sync, slow)

    def eval_params(state: LookaheadState, params: Params) -> Params:
        return tree.merge(params, tree.cast_like(state.slow, params))

    return Functions(
        init, update, lambda state: [Part(fast_optimizer.name, fast_optimizer, state.fast_state)], eval_params
    )
