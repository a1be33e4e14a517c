"""Gradient accumulation: one step of an optimizer from the mean gradient of several calls.

    a = a + (g - a) / (n + 1)                     use_grad_mean; n = mini_step, the micro-batches in the mean so far
    a = a + g                                     otherwise
    u = inner(a), a = 0, n = 0                    at the k-th micro-batch, k = every_k_schedule(gradient_step)
    u = 0, n = n + 1                              at all others, without a call of ``inner``

With means over equal micro-batches the step is that of one batch k times as large. ``inner`` counts real steps, and so
do its schedules. It gets the extra arguments (``value=``) of the last micro-batch.

A micro-batch for which ``should_skip_update_fn`` says True changes nothing but ``skip_state``: the mean is over those
that were taken, and the step comes when there are k of them. Without such a function a NaN goes through to ``inner``
with the mean it spoiled, and the next mean starts anew: ``MultiSteps(apply_if_finite(tx, 5), k)`` loses one step,
``apply_if_finite(MultiSteps(tx, k), 5)`` one micro-batch.

Departures from optax: there ``inner`` runs at every micro-batch and its result is multiplied by 0 or 1, so that one NaN
stays for ever; and a half-precision gradient makes a half-precision mean. Inside one compiled step a scan over
micro-batches needs no memory for this between steps; ``MultiSteps`` is for loops that only see one micro-batch at a
time.

State: ``mini_step``, ``gradient_step``, ``inner_opt_state``, ``acc_grads``, ``skip_state``; 4 bytes a parameter more
than ``inner``.
"""

import functools
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons._value import value_factory
from jaxopt_lessons.core import Functions, GradientTransformation, Part, Transformation
from jaxopt_lessons.types import Convert, Params, PyTree, Range, State, Updates


class MultiStepsState(NamedTuple):
    mini_step: jax.Array
    gradient_step: jax.Array
    inner_opt_state: State
    acc_grads: Updates
    skip_state: PyTree = ()


class Accumulation(GradientTransformation):
    """What ``MultiSteps`` returns: a gradient transformation that can say when it took a step."""

    __slots__ = ()

    @property
    def inner_opt(self) -> GradientTransformation:
        """The optimizer that gets the mean gradients."""
        return self._arguments["opt"]

    def has_updated(self, state: MultiStepsState) -> jax.Array:
        """Whether the last micro-batch that was taken completed a step; micro-batches skipped since do not count."""
        return (state.mini_step == 0) & (state.gradient_step > 0)

    def gradient_transformation(self) -> GradientTransformation:
        """Itself, for code written for optax: it is a gradient transformation already."""
        return self


def accumulate_rule(
    g: jax.Array, a: jax.Array, n: jax.Array, taken: jax.Array, mean: bool
) -> tuple[jax.Array, jax.Array]:
    kept = jnp.where(taken > 0, g, 0)
    new = a + (kept / (n + 1) - a / (n + 1)) if mean else a + kept  # g - a could overflow
    return jnp.zeros_like(g), jnp.where(taken > 0, new, a)


def _every_k(owner: str, name: str, value: Any) -> Any:
    _checks.number(owner, name, value, Range(1, 2**31 - 1, whole=True, schedules=True))
    return value


def _multi_steps(
    opt: Transformation,
    every_k_schedule: Annotated[int | Callable[[Any], Any], Convert(_every_k)],
    use_grad_mean: bool = True,
    should_skip_update_fn: Callable[..., Any] | None = None,
    accumulator_dtype: tree.StateDtype = None,
) -> Any:
    """Takes one step of an optimizer for every k calls, from the mean of their gradients; the others return zeros.

    The result has two methods beside those of every transformation, as in optax: ``has_updated(state)``, whether the
    last call took a step, and ``gradient_transformation()``, which returns the object itself.

    Args:
      opt: the optimizer.
      every_k_schedule: how many micro-batches make a step, at least 1; or a schedule ``gradient_step -> k``.
      use_grad_mean: the mean of the gradients (True) or their sum.
      should_skip_update_fn: ``f(updates, gradient_step, params) -> (skip, info)`` tells of each micro-batch whether to
        leave it out; ``info`` is kept as ``skip_state``. ``skip_not_finite`` and ``skip_large_updates`` are two.
      accumulator_dtype: dtype of the mean; the parameter's by default, float32 for half precision.

    >>> tx = MultiSteps(jl.sgd(1.0), every_k_schedule=2)
    >>> u, state = tx.update(jnp.array([1.0]), tx.init(jnp.zeros(1)))
    >>> tx.update(jnp.array([5.0]), state)[0]  # minus the mean of 1 and 5
    Array([-3.], dtype=float32)
    """

    def init(params: Params) -> MultiStepsState:
        step = numerics.zero_count()
        skip_state: PyTree = ()
        if should_skip_update_fn is not None:
            _, skip_state = should_skip_update_fn(tree.cast_like(tree.zeros_like(params), params), step, params)
        return MultiStepsState(
            mini_step=numerics.zero_count(),
            gradient_step=step,
            inner_opt_state=opt.init(params),
            acc_grads=tree.zeros_like(params, accumulator_dtype),
            skip_state=jax.tree.map(_strong, skip_state),
        )

    def every_k(state: MultiStepsState) -> Any:
        return every_k_schedule(state.gradient_step) if callable(every_k_schedule) else every_k_schedule

    def update(updates: Updates, state: MultiStepsState, params: Params | None = None, **extra: Any) -> Any:
        k = every_k(state)
        n, skip, skip_state = state.mini_step, jnp.zeros([], bool), state.skip_state
        if should_skip_update_fn is not None:
            skip, skip_state = should_skip_update_fn(updates, state.gradient_step, params)
            skip = _checks.scalar_bool("should_skip_update_fn", skip)
            skip_state = tree.states_like(jax.tree.map(_strong, skip_state), state.skip_state)
        zeros, acc_grads = tree.map_leaves(
            accumulate_rule, updates, state.acc_grads, params=params, n=n, taken=~skip, mean=use_grad_mean
        )
        # Not ==: k may have become smaller since the mean was begun.
        steps = ~skip & (n >= jnp.asarray(k).astype(jnp.int32) - 1)

        def step(acc_grads: Updates, inner_state: State) -> Any:
            updates, new_state = opt.update(acc_grads, inner_state, params, **extra)
            cleared = jax.tree.map(jnp.zeros_like, acc_grads)
            return tree.cast_like(updates, zeros), tree.states_like(new_state, inner_state), cleared

        def wait(acc_grads: Updates, inner_state: State) -> Any:
            return zeros, inner_state, acc_grads

        updates, inner_state, acc_grads = jax.lax.cond(steps, step, wait, acc_grads, state.inner_opt_state)
        return updates, MultiStepsState(
            mini_step=jnp.where(steps, 0, jnp.where(skip, n, numerics.increment(n))),
            gradient_step=jnp.where(steps, numerics.increment(state.gradient_step), state.gradient_step),
            inner_opt_state=inner_state,
            acc_grads=acc_grads,
            skip_state=skip_state,
        )

    def parts(state: MultiStepsState) -> list[Part]:
        return [Part(opt.name, opt, state.inner_opt_state)]

    return Functions(init, update, parts, readings=lambda state: {"every_k_schedule": every_k(state)})


_multi_steps.__name__ = _multi_steps.__qualname__ = "MultiSteps"
MultiSteps: Callable[..., Accumulation] = value_factory(Accumulation, _multi_steps)


def _strong(leaf: Any) -> jax.Array:
    """An array that holds on to its dtype."""
    array = jnp.asarray(leaf)
    return array.astype(array.dtype)


def skip_not_finite(updates: Updates, gradient_step: Any, params: Params | None) -> tuple[jax.Array, dict[str, Any]]:
    """Says to leave out gradients with infinite or NaN entries: a ``should_skip_update_fn`` of ``MultiSteps``.

    Args:
      updates: the gradients of one micro-batch.
      gradient_step: not used.
      params: not used.

    Returns:
      Whether to skip, and ``{"should_skip": bool, "num_not_finite": how many entries}``.
    """
    leaves = [leaf for leaf in jax.tree.leaves(updates) if tree.is_trainable(leaf)]
    found = [jnp.sum(~jnp.isfinite(leaf), dtype=jnp.int32) for leaf in leaves]
    number = functools.reduce(jnp.add, found, numerics.zero_count())
    return number > 0, {"should_skip": number > 0, "num_not_finite": number}


def skip_large_updates(
    updates: Updates, gradient_step: Any, params: Params | None, max_squared_norm: Any
) -> tuple[jax.Array, dict[str, Any]]:
    """Says to leave out gradients whose squared norm is not below a limit; those that are not finite are above any.

    ``functools.partial(skip_large_updates, max_squared_norm=100.0)`` is a ``should_skip_update_fn`` of ``MultiSteps``.

    Args:
      updates: the gradients of one micro-batch.
      gradient_step: not used.
      params: not used.
      max_squared_norm: the limit of the squared Euclidean norm of all leaves together.

    Returns:
      Whether to skip, and ``{"should_skip": bool, "norm_squared": the squared norm}``.
    """
    norm_squared = jnp.square(tree.global_norm(updates))
    skip = ~(norm_squared < jnp.asarray(max_squared_norm).astype(norm_squared.dtype))
    return skip, {"should_skip": skip, "norm_squared": norm_squared}
