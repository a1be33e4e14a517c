"""A transformation at some of the updates only.

    u, s = inner(g, s)      at the updates for which should_transform_fn(step) holds, step = 0, 1, 2, ...
    u = g                   at the others, ``conditionally_transform``
    u = 0                   at the others, ``conditionally_mask``
    s = s

Beware of an optimizer in ``conditionally_transform``: at the updates that it leaves out, the raw gradients pass and are
added to the weights. ``conditionally_mask`` is the one for optimizers, as a UserWarning says if there is a
``scale_by_learning_rate`` inside.

State: ``inner_state`` and ``step``, the updates so far, of either kind; the inner transformation counts its own.
(optax has a second class with the same fields, ``ConditionallyMaskState``.)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import Functions, GradientTransformation, Part, Transformation, gradient_transformation
from jaxopt_lessons.transforms.learning_rate import warn_of_raw_gradients
from jaxopt_lessons.transforms.zero import zero_rule
from jaxopt_lessons.types import Params, State, Updates


class ConditionallyTransformState(NamedTuple):
    inner_state: State
    step: jax.Array


@gradient_transformation
def conditionally_transform(
    inner: Transformation, should_transform_fn: Callable[..., Any], forward_extra_args: bool = False
) -> Any:
    """Applies a transformation where a function of the step says so; else the updates pass as they are.

    Args:
      inner: the transformation.
      should_transform_fn: ``should_transform_fn(step) -> bool``, of the number of updates before this one.
      forward_extra_args: call it with the extra arguments of ``update`` too: ``should_transform_fn(step, **extra)``.

    >>> tx = conditionally_transform(jl.scale(10.0), lambda step: step % 2 == 1)
    >>> state = tx.init(jnp.zeros(1))
    >>> u, state = tx.update(jnp.ones(1), state)
    >>> u, tx.update(jnp.ones(1), state)[0]
    (Array([1.], dtype=float32), Array([10.], dtype=float32))
    """
    warn_of_raw_gradients(
        "conditionally_transform",
        inner,
        "the updates that it leaves out are",
        "Write conditionally_mask to leave the weights alone there.",
    )
    return _conditionally(inner, should_transform_fn, forward_extra_args, otherwise=_pass_rule)


@gradient_transformation
def conditionally_mask(
    inner: Transformation, should_transform_fn: Callable[..., Any], forward_extra_args: bool = False
) -> Any:
    """Applies a transformation where a function of the step says so; else the updates are zero.

    Args:
      inner: the transformation.
      should_transform_fn: ``should_transform_fn(step) -> bool``, of the number of updates before this one.
      forward_extra_args: call it with the extra arguments of ``update`` too: ``should_transform_fn(step, **extra)``.

    >>> tx = conditionally_mask(jl.scale(10.0), lambda step: step % 2 == 1)
    >>> state = tx.init(jnp.zeros(1))
    >>> u, state = tx.update(jnp.ones(1), state)
    >>> u, tx.update(jnp.ones(1), state)[0]
    (Array([0.], dtype=float32), Array([10.], dtype=float32))
    """
    return _conditionally(inner, should_transform_fn, forward_extra_args, otherwise=zero_rule)


def _pass_rule(g: jax.Array) -> jax.Array:
    return g


def _conditionally(
    inner: GradientTransformation,
    condition: Callable[..., Any],
    forward_extra_args: bool,
    otherwise: Callable[..., Any],
) -> Functions:
    def init(params: Params) -> ConditionallyTransformState:
        return ConditionallyTransformState(inner.init(params), numerics.zero_count())

    def update(updates: Updates, state: ConditionallyTransformState, params: Params | None = None, **extra: Any) -> Any:
        tree.check_updates(updates, params)
        reference = updates if params is None else params

        def inside() -> tuple[Updates, State]:
            new, inner_state = inner.update(updates, state.inner_state, params, **extra)
            return tree.cast_like(new, reference), tree.states_like(inner_state, state.inner_state)

        def outside() -> tuple[Updates, State]:
            return tree.map_leaves(otherwise, updates, params=reference), state.inner_state

        holds = condition(state.step, **(extra if forward_extra_args else {}))
        updates, inner_state = jax.lax.cond(_checks.scalar_bool("should_transform_fn", holds), inside, outside)
        return updates, ConditionallyTransformState(inner_state, numerics.increment(state.step))

    def parts(state: ConditionallyTransformState) -> list[Part]:
        return [Part(inner.name, inner, state.inner_state)]

    return Functions(init, update, parts)
