"""Master weights: a float32 copy of half-precision parameters, to which the updates are added.

    w = w + u                  w: the master, float32; u: the update of ``inner``, which sees w as its parameters
    p = round(w)               p: the parameter, bfloat16 or float16, which the model sees

Without it a weight of 1.0 in bfloat16 does not move by steps below 0.002: each of them is rounded away. What leaves
``update`` is ``round(w) - p``, and ``apply_updates`` lands on ``round(w)``; a step that it misses (see
``step_between``) is made good by the next. The master decides: a parameter that something else changes goes back.

=========================  ==================  ===============================  ========================
for bfloat16               bytes a parameter   relative steps are lost up to    noise
=========================  ==================  ===============================  ========================
nothing                    0                   4e-3                             none
``master_weights``         4                   6e-8, as in float32              none
``split_master_weights``   2                   6e-8, as in float32              none
``bits=8`` of the same     1                   6e-8 on average                  a 500th of a unit a step
``kahan``                  2                   8e-6                             none
``stochastic_rounding``    0                   6e-8 on average                  half a unit a step
=========================  ==================  ===============================  ========================

State: that of ``inner``, and ``master``, 4 bytes for each half-precision parameter. float32, float64 and complex
parameters pass through. ``eval_params`` gives the masters, in float32. Paper: Micikevicius et al. 2017, arXiv
1710.03740.
"""

from typing import Any, NamedTuple

import jax

from jaxopt_lessons import _checks, rounding, tree
from jaxopt_lessons.core import Functions, Part, Transformation, gradient_transformation
from jaxopt_lessons.types import Params, State, Updates
from jaxopt_lessons.wrappers._half_precision import half_leaves, map_half_leaves, replace_half_leaves, step_between


class MasterWeightsState(NamedTuple):
    master: Params
    inner: State


def master_rule(u: jax.Array, w: jax.Array, p: jax.Array, dtype: str) -> tuple[jax.Array, jax.Array]:
    w = w + u
    step, _ = step_between(p, rounding.round_nearest(w, dtype), dtype)
    return step, w


def beside_rule(p: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
    return p, w


@gradient_transformation
def master_weights(inner: Transformation) -> Any:
    """Lets an optimizer work on a float32 copy of half-precision parameters.

    It must be the outermost transformation or the last of a chain: what comes after it would spoil the rounding.

    Args:
      inner: the optimizer; it sees float32 gradients and parameters.

    Raises:
      InputError: ``update`` was called without ``params``.

    >>> tx = master_weights(jl.sgd(1e-3))
    >>> params, g = jnp.ones(1, jnp.bfloat16), jnp.ones(1, jnp.bfloat16)
    >>> state = tx.init(params)
    >>> for _ in range(10):
    ...     updates, state = tx.update(g, state, params)
    ...     params = jl.apply_updates(params, updates)
    >>> params  # 0.99 as bfloat16 has it; without the master still 1
    Array([0.988281], dtype=bfloat16)
    """

    def init(params: Params) -> MasterWeightsState:
        return MasterWeightsState(master=tree.copy_like(half_leaves(params)), inner=inner.init(tree.widen(params)))

    def update(updates: Updates, state: MasterWeightsState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        _, master = tree.map_leaves(beside_rule, tree.widen(half_leaves(params)), state.master)
        wide = replace_half_leaves(params, master)
        updates, inner_state = inner.update(tree.widen(updates), state.inner, wide, **extra)
        updates, master = map_half_leaves(master_rule, updates, state.master, params=params)
        return updates, MasterWeightsState(master, inner_state)

    def parts(state: MasterWeightsState) -> list[Part]:
        return [Part("inner", inner, state.inner)]

    def eval_params(state: MasterWeightsState, params: Params) -> Params:
        return inner.eval_params(state.inner, replace_half_leaves(params, state.master))

    return Functions(init, update, parts, eval_params, takes_half_precision=True)
