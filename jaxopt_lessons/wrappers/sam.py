"""Sharpness-aware minimization: step along the gradient of a nearby point where the loss is worse.

    e = the step that ``adv_optimizer`` would take from g, turned round: uphill
    g' = gradient at p + e
    u = optimizer(g')                             taken from p

Foret et al. climb by ``e = rho * g / |g|``: ``adv_optimizer = chain(normalize(), sgd(rho))``. Adaptive SAM (``asam``)
measures the climb in units of the weights, so that a layer may be rescaled: with ``T = |p| + eta``,

    e = rho * T^2 * g / |T * g|                   chain(adaptive_normalize(eta), scale_by_learning_rate(rho))

A step needs ``sync_period`` gradients: one to climb with for each of the first ``sync_period - 1``, and the last to
descend with. There are two ways to get them:

* transparent, two calls of ``update`` for one step: the first moves the parameters to ``p + e``, the second, with the
  gradient there, back to ``p`` and down. Any training loop does that; the batch changes in between, so a climb on one
  batch is followed by a descent on the next. Count updates twice. ``eval_params`` gives ``p`` at any time.
* ``opaque_mode=True``, one call: ``update(g, state, params, grad_fn=grad_fn)`` calls ``grad_fn(params, i)`` for the
  gradient at the i-th point of the climb, on the same batch, as in the paper. A step made by ``make_step`` hands over
  that function; two gradients are calculated in it then.

Departures from optax: the two modes of the transparent kind are chosen, not blended by multiplying with 0 and 1, so a
NaN on the way not taken does no harm; the fresh adversary of ``reset_state`` begins where the parameters now are. The
adversary's schedules begin anew with it; ``asam`` keeps its state instead.

State: ``steps_since_sync``, ``opt_state``, ``adv_state``; transparent also ``cache``, ``p`` during a climb. 4 bytes a
parameter more than the two optimizers, 0 in opaque mode.
"""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import (
    Functions,
    Part,
    Transformation,
    apply_updates,
    chain,
    gradient_transformation,
)
from jaxopt_lessons.transforms.adaptive_normalize import adaptive_normalize
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.types import Convert, NonNegative, NonNegativeOrSchedule, Params, State, Updates


class SAMState(NamedTuple):
    steps_since_sync: jax.Array
    opt_state: State
    adv_state: State
    cache: Params | None


def uphill_rule(u: jax.Array) -> jax.Array:
    return -u


def back_rule(u: jax.Array, c: jax.Array, p: jax.Array) -> jax.Array:
    return (c - p) + u


def remember_rule(g: jax.Array, c: jax.Array, p: jax.Array, begins: jax.Array) -> tuple[jax.Array, jax.Array]:
    return g, jnp.where(begins > 0, p, c)


def _period(owner: str, name: str, value: Any) -> int:
    return _checks.whole(owner, name, value, least=1)


@gradient_transformation
def sam(
    optimizer: Transformation,
    adv_optimizer: Transformation,
    sync_period: Annotated[int, Convert(_period)] = 2,
    reset_state: bool = True,
    opaque_mode: bool = False,
    batch_axis_name: str | None = None,
) -> Any:
    """SAM: descends with the gradient found uphill, toward flat minima.

    It climbs with one optimizer and descends with another.

    Args:
      optimizer: takes the steps.
      adv_optimizer: its steps, turned round, are the climb: ``chain(normalize(), sgd(rho))`` for the paper's.
      sync_period: gradients to a step: one less to climb with, and one to descend with.
      reset_state: give the adversary a fresh state after each step.
      opaque_mode: climb inside of ``update``, which then needs ``grad_fn(params, i)``; else one part of a step a call.
      batch_axis_name: in opaque mode, the mapped axis over which gradients are averaged (``jax.lax.pmean``).

    Raises:
      InputError: ``update`` was called without ``params``, or in opaque mode without ``grad_fn``.

    Use it: for image classifiers and other data that are seen many times, where the test error counts and twice the
      time does not.
    Paper: Foret et al. 2020, arXiv 2010.01412.
    Lesson: none.

    >>> tx = sam(jl.sgd(0.5), adv_optimizer=chain(jl.normalize(), jl.sgd(0.1)), opaque_mode=True)
    >>> params, grad_fn = jnp.array([1.0]), lambda params, i: 2 * params
    >>> updates, _ = tx.update(grad_fn(params, 0), tx.init(params), params, grad_fn=grad_fn)
    >>> updates.round(3)  # -0.5 times the gradient at 1.1
    Array([-1.1], dtype=float32)
    """

    _checks.rounds_last("sam", adv_optimizer.name, adv_optimizer.takes_half_precision)
    if not opaque_mode:
        _checks.rounds_last("sam", optimizer.name, optimizer.takes_half_precision)

    def init(params: Params) -> SAMState:
        opt_state, adv_state = (tx.init(tx.seen(params)) for tx in (optimizer, adv_optimizer))
        cache = None if opaque_mode else tree.copy_like(params)
        return SAMState(numerics.zero_count(), opt_state, adv_state, cache)

    def fresh_adversary(params: Params, updates: Updates, adv_state: State) -> State:
        if not reset_state:
            return adv_state
        fresh = adv_optimizer.init(tree.widen(apply_updates(params, updates)))
        return tree.states_like(fresh, adv_state)

    def transparent_update(updates: Updates, state: SAMState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        tree.check_updates(updates, params)
        steps, grads = state.steps_since_sync, tree.widen(updates)
        _, cache = tree.map_leaves(remember_rule, grads, state.cache, params=params, read=(params,), begins=steps == 0)

        def descend(opt_state: State, adv_state: State) -> Any:
            before = tree.merge(params, tree.cast_like(cache, params))
            u, new_state = optimizer.update(grads, opt_state, optimizer.seen(before), **extra)
            u = tree.map_leaves(back_rule, u, params=params, read=(cache, params))
            return u, tree.states_like(new_state, opt_state), fresh_adversary(params, u, adv_state)

        def climb(opt_state: State, adv_state: State) -> Any:
            u, new_state = adv_optimizer.update(grads, adv_state, tree.widen(params), **extra)
            return tree.map_leaves(uphill_rule, u, params=params), opt_state, tree.states_like(new_state, adv_state)

        descends = steps >= sync_period - 1
        updates, opt_state, adv_state = jax.lax.cond(descends, descend, climb, state.opt_state, state.adv_state)
        return updates, SAMState(jnp.where(descends, 0, numerics.increment(steps)), opt_state, adv_state, cache)

    def opaque_update(
        updates: Updates, state: SAMState, params: Params | None = None, *, grad_fn: Any, **extra: Any
    ) -> Any:
        if params is None:
            _checks.params_needed(updates)
        point, adv_state = params, state.adv_state
        for i in range(sync_period - 1):
            u, adv_state = adv_optimizer.update(tree.widen(updates), adv_state, tree.widen(point), **extra)
            point = apply_updates(point, tree.map_leaves(uphill_rule, u, params=params))
            updates = grad_fn(point, i)
            if batch_axis_name is not None:
                updates = jax.lax.pmean(updates, axis_name=batch_axis_name)
        updates, opt_state = optimizer.update(tree.widen(updates), state.opt_state, optimizer.seen(params), **extra)
        updates = tree.cast_like(updates, params)
        adv_state = fresh_adversary(params, updates, adv_state)
        return updates, SAMState(numerics.zero_count(), opt_state, adv_state, None)

    def parts(state: SAMState) -> list[Part]:
        return [
            Part("optimizer", optimizer, state.opt_state),
            Part("adv_optimizer", adv_optimizer, state.adv_state),
        ]

    def eval_params(state: SAMState, params: Params) -> Params:
        if not opaque_mode:
            before = tree.merge(params, tree.cast_like(state.cache, params))
            at_rest = state.steps_since_sync == 0
            params = jax.tree.map(lambda p, c: jnp.where(at_rest, p, c) if tree.is_trainable(p) else p, params, before)
        return optimizer.eval_params(state.opt_state, params)

    return Functions(init, opaque_update if opaque_mode else transparent_update, parts, eval_params)


@gradient_transformation
def asam(
    optimizer: Transformation,
    rho: NonNegativeOrSchedule = 0.5,
    eta: NonNegative = 0.01,
    opaque_mode: bool = False,
) -> Any:
    """ASAM: SAM whose climb is measured by each weight's size.

    Equivalent to ``sam(optimizer, chain(adaptive_normalize(eta), scale_by_learning_rate(rho)), reset_state=False,
    opaque_mode=opaque_mode)``.

    Args:
      optimizer: takes the steps.
      rho: how far to climb, in ``[0, inf)``, or a schedule of the number of climbs; ten times that of ``sam``.
      eta: added to the size of the weights, so that those at 0 take part.
      opaque_mode: climb inside of ``update``, which then needs ``grad_fn(params, i)``; else one part of a step a call.

    Use it: as ``sam``, where layers are scaled differently; with a ``rho`` about ten times as large.
    Paper: Kwon et al. 2021, arXiv 2102.11600.
    Lesson: none.
    """
    adversary = chain(adaptive_normalize(eta), scale_by_learning_rate(rho))
    return sam(optimizer, adversary, reset_state=False, opaque_mode=opaque_mode)
