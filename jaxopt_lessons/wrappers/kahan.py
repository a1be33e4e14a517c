"""Kahan summation of the updates: what rounding took from a half-precision parameter is kept and added next time.

    w = (p + c) + u            u: the update of ``inner``, which sees p + c as its parameters
    p = round(w)               p: the parameter, bfloat16 or float16
    c = w - p                  c: bfloat16

Two numbers of 8 bits of mantissa are one of 17 bits or so: relative steps are lost from 8e-6 down instead of 4e-3. The
compensation is bfloat16 for float16 parameters too, whose own range ends where a compensation begins.

A step that ``apply_updates`` cannot take exactly (see ``step_between``) misses by an amount that goes into ``c`` like
any other. State: that of ``inner``, and ``compensation``, 2 bytes for each half-precision parameter; other parameters
pass through. ``eval_params`` gives ``p + c``, in float32. ``master_weights`` has a table of the alternatives.

Papers: Kahan 1965; for bfloat16 weights Zamirai et al. 2020, arXiv 2010.06192.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, rounding, tree
from jaxopt_lessons.core import Functions, Part, Transformation, gradient_transformation
from jaxopt_lessons.types import Params, State, Updates
from jaxopt_lessons.wrappers._half_precision import half_leaves, map_half_leaves, replace_half_leaves, step_between


class KahanState(NamedTuple):
    compensation: Params
    inner: State


def kahan_rule(u: jax.Array, c: jax.Array, p: jax.Array, dtype: str) -> tuple[jax.Array, jax.Array]:
    w = (p + c) + u
    step, landed = step_between(p, rounding.round_nearest(w, dtype), dtype)
    return step, w - landed


def compensate_rule(p: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array]:
    return p + c, c


@gradient_transformation
def kahan(inner: Transformation) -> Any:
    """Keeps what rounding takes from half-precision parameters and adds it to the next update.

    It must be the outermost transformation or the last of a chain: what comes after it would spoil the rounding.

    Args:
      inner: the optimizer; it sees float32 gradients and parameters.

    Raises:
      InputError: ``update`` was called without ``params``.

    >>> tx = kahan(jl.sgd(1e-3))
    >>> params, g = jnp.ones(1, jnp.bfloat16), jnp.ones(1, jnp.bfloat16)
    >>> state = tx.init(params)
    >>> for _ in range(10):
    ...     updates, state = tx.update(g, state, params)
    ...     params = jl.apply_updates(params, updates)
    >>> params  # 0.99 as bfloat16 has it; without the compensation still 1
    Array([0.988281], dtype=bfloat16)
    """

    def init(params: Params) -> KahanState:
        compensation = tree.zeros_like(half_leaves(params), jnp.bfloat16)
        return KahanState(compensation, inner.init(tree.widen(params)))

    def update(updates: Updates, state: KahanState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        updates, inner_state = inner.update(tree.widen(updates), state.inner, compensated(state, params), **extra)
        updates, compensation = map_half_leaves(kahan_rule, updates, state.compensation, params=params)
        return updates, KahanState(compensation, inner_state)

    def parts(state: KahanState) -> list[Part]:
        return [Part("inner", inner, state.inner)]

    def eval_params(state: KahanState, params: Params) -> Params:
        return inner.eval_params(state.inner, compensated(state, params))

    def compensated(state: KahanState, params: Params) -> Params:
        wide = tree.widen(half_leaves(params))
        return replace_half_leaves(params, tree.map_leaves(compensate_rule, wide, state.compensation)[0])

    return Functions(init, update, parts, eval_params, takes_half_precision=True)
