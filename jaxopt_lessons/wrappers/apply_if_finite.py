"""Updates only from finite gradients: a step with an infinite or NaN entry is left out, whole.

    finite = all entries of g and of the updates u made of it are finite
    finite:                        u, and the new state of ``inner``
    not finite:                    0, and the old state: parameters, moments, counts and schedules stay as one
    more than max_consecutive_errors of these in a row: u as it is, infinite or NaN, and still the old state

A batch in which something overflows does no harm, and whoever looks can see it: ``notfinite_count`` is how many steps
were left out in a row, ``total_notfinite`` how many in all, ``last_finite`` whether the last one was good. If it goes
on, the trouble is not in the batch, and a run that stands still with a fine loss would hide it. So after the limit
``apply_if_finite`` gives up: the bad update goes to the parameters, where every loss and every log shows it. The state
of ``inner`` is never touched by it: with the parameters of a checkpoint the run can go on. ``skip_nonfinite`` never
gives up; watch ``notfinite_count``.

Departures from optax: there the first step beyond the limit fills the moments with NaN for ever, and an update that
overflows on its way out of ``inner`` is applied. Nothing is multiplied by 0 and no branch is taken: each leaf of the
state is selected. Put it outside of wrappers that remember something (accumulation, averages): it guards them too.

State: ``notfinite_count``, ``last_finite``, ``total_notfinite`` and ``inner_state``; no bytes a parameter.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import Functions, Part, Transformation, gradient_transformation
from jaxopt_lessons.types import Offset, Params, State, Updates


class ApplyIfFiniteState(NamedTuple):
    notfinite_count: jax.Array
    last_finite: jax.Array
    total_notfinite: jax.Array
    inner_state: State


def keep_rule(g: jax.Array, keeps: jax.Array) -> jax.Array:
    return jnp.where(keeps > 0, g, 0)


@gradient_transformation
def apply_if_finite(inner: Transformation, max_consecutive_errors: Offset) -> Any:
    """Leaves out the steps whose gradients or updates are not finite; gives up after too many in a row.

    Args:
      inner: the optimizer.
      max_consecutive_errors: how many steps in a row may be left out, from 0 on. The updates of the steps after that
        are returned as they are, infinite or NaN; the state stays finite.

    >>> tx = apply_if_finite(jl.sgd(0.5), max_consecutive_errors=3)
    >>> state = tx.init(jnp.zeros(2))
    >>> updates, state = tx.update(jnp.array([jnp.nan, 1.0]), state)
    >>> int(state.notfinite_count), int(jnp.count_nonzero(updates))
    (1, 0)
    >>> tx.update(jnp.array([2.0, 1.0]), state)[0]
    Array([-1. , -0.5], dtype=float32)
    """

    def init(params: Params) -> ApplyIfFiniteState:
        return ApplyIfFiniteState(
            notfinite_count=numerics.zero_count(),
            last_finite=jnp.ones([], bool),
            total_notfinite=numerics.zero_count(),
            inner_state=inner.init(params),
        )

    def update(updates: Updates, state: ApplyIfFiniteState, params: Params | None = None, **extra: Any) -> Any:
        gives_up = numerics.increment(state.notfinite_count) > jnp.asarray(max_consecutive_errors).astype(jnp.int32)
        # Where the result is not wanted, zeros go in: a derivative would meet the NaN on the way not taken.
        finite = tree.all_finite(updates)
        seen = tree.map_leaves(keep_rule, updates, keeps=finite | gives_up)
        updates, inner_state = inner.update(seen, state.inner_state, params, **extra)
        finite &= tree.all_finite(updates)
        updates = tree.map_leaves(keep_rule, updates, params=params, keeps=finite | gives_up)
        return updates, ApplyIfFiniteState(
            notfinite_count=jnp.where(finite, 0, numerics.increment(state.notfinite_count)),
            last_finite=finite,
            total_notfinite=jnp.where(finite, state.total_notfinite, numerics.increment(state.total_notfinite)),
            inner_state=tree.select(finite, inner_state, state.inner_state),
        )

    return Functions(init, update, lambda state: [Part(inner.name, inner, state.inner_state)])


@gradient_transformation
def skip_nonfinite(inner: Transformation) -> Any:
    """Leaves out the steps whose gradients or updates are not finite, however many; the state counts them.

    Equivalent to ``apply_if_finite(inner, 2**31 - 1)``.

    Args:
      inner: the optimizer.
    """
    return apply_if_finite(inner, 2**31 - 1)
