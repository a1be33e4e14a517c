"""Stochastic rounding of half-precision parameters: up or down at random, right on average.

    w = p + u                  u: the update of ``inner``, float32
    p = one of the two neighbours of w, the nearer one the more likely, so that the mean of p is w

A weight of 1.0 and a step of 0.001 in bfloat16: every fourth step, by chance, is one of 0.004. No memory, and the price
is noise: about half a unit of the weight in each step, which averages out as the noise of mini-batches does. Where few
steps are taken or a single weight matters, the alternatives (a table of them is in ``master_weights``) are better.

Where the difference of the new and the old parameter is no number of their dtype (see ``step_between``), it is rounded
stochastically too. The random numbers are a function of the key, of ``count`` and of the path of the leaf.

State: that of ``inner`` and ``count``; other parameters than bfloat16 and float16 ones pass through. Papers: Gupta et
al. 2015, arXiv 1502.02551; for bfloat16 weights Zamirai et al. 2020, arXiv 2010.06192.
"""

from typing import Any, NamedTuple

import jax

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import Functions, Part, Transformation, gradient_transformation
from jaxopt_lessons.types import Params, State, Updates
from jaxopt_lessons.wrappers._half_precision import half_leaves, map_half_leaves, random_step


class StochasticRoundingState(NamedTuple):
    count: jax.Array
    inner: State


def stochastic_rule(u: jax.Array, p: jax.Array, key: jax.Array, dtype: str) -> jax.Array:
    return random_step(p, p + u, jax.random.uniform(key, p.shape, p.dtype), dtype)


@gradient_transformation
def stochastic_rounding(inner: Transformation, key: tree.Key = 0) -> Any:
    """Rounds half-precision parameters up or down at random, so that small updates are not lost on average.

    It must be the outermost transformation or the last of a chain: what comes after it would spoil the rounding.

    Args:
      inner: the optimizer; it sees float32 gradients and parameters.
      key: where the random numbers start: a seed, or a key of ``jax.random``.

    Raises:
      InputError: ``update`` was called without ``params``.

    >>> tx = stochastic_rounding(jl.sgd(1e-3))
    >>> params = g = jnp.ones(10_000, jnp.bfloat16)
    >>> updates, state = tx.update(g, tx.init(params), params)
    >>> jnp.unique(updates)  # 0.001 in one number out of four; the nearest would be 0
    Array([-0.00390625, 0], dtype=bfloat16)
    >>> jnp.mean(updates.astype(jnp.float32)).round(4)
    Array(-0.001, dtype=float32)
    """

    def init(params: Params) -> StochasticRoundingState:
        return StochasticRoundingState(numerics.zero_count(), inner.init(tree.widen(params)))

    def update(updates: Updates, state: StochasticRoundingState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        updates, inner_state = inner.update(tree.widen(updates), state.inner, tree.widen(params), **extra)
        keys = tree.keys_like(jax.random.fold_in(tree.typed_key(key), state.count), half_leaves(params))
        (updates,) = map_half_leaves(stochastic_rule, updates, params=params, read=(keys,))
        return updates, StochasticRoundingState(numerics.increment(state.count), inner_state)

    def parts(state: StochasticRoundingState) -> list[Part]:
        return [Part("inner", inner, state.inner)]

    def eval_params(state: StochasticRoundingState, params: Params) -> Params:
        weights = inner.eval_params(state.inner, tree.widen(params))
        return jax.tree.map(lambda p, w: w.astype(p.dtype) if tree.is_half_precision(p) else w, params, weights)

    return Functions(init, update, parts, eval_params, takes_half_precision=True)
