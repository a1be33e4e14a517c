"""Averages of the parameters over training: what to evaluate, while the parameters themselves go on as before.

    p      the parameters after the update
    n      how many have been averaged, this one included
    a = a + c * (p - a)

    ema_params                   c = (1 - decay) / (1 - decay^n)     debias=True: weights decay^(n-1), ..., decay, 1,
                                                                     divided by their sum
                                 c = 1 - decay, at n = 1: c = 1      debias=False: begins at the first p, as in PyTorch
    swa_params                   c = 1 / n                           the plain mean
    polynomial_average_params    c = (eta + 1) / (n + eta)           about n^eta: the weight of the n-th

``start`` leaves out the first updates, and ``every`` takes only each so many-th after them: ``swa_params`` with the
length of a cycle of the learning rate is stochastic weight averaging, with ``every=1`` tail averaging (Polyak-Ruppert
from ``start=0``). The polynomial average needs to know neither the length of the run nor a decay: most weight lies on
the last ``n / (eta + 1)`` parameters.

Read the average with ``eval_params(tx, state, params)``, through any nesting; before there is one it is ``params``.
Running statistics of a model, batch normalization's for instance, do not belong to averaged weights: measure them anew.

The wrapper must see each step as it is taken. So it belongs inside of what leaves steps out (``apply_if_finite``,
``MultiSteps``), and around all that changes updates: ``ema_params(chain(clip(1.0), adamw(1e-3)))``,
``ema_params(lookahead(...))``. Where two wrappers have weights to evaluate, those of the outer one count.

State: ``count``, ``num_averaged``, ``average`` and ``inner_state``; 4 bytes a parameter more than ``inner``, and the
average is ready to use. Not to be confused with ``ema``, which averages the updates.

Papers: Polyak & Juditsky 1992; Shamir & Zhang 2012, arXiv 1212.1824 (polynomial); Izmailov et al. 2018, arXiv
1803.05407 (SWA).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import (
    Functions,
    GradientTransformation,
    Part,
    Transformation,
    apply_updates,
    gradient_transformation,
)
from jaxopt_lessons.types import DecayRateOrSchedule, NonNegativeOrSchedule, Offset, Params, State, Steps, Updates


class AverageParamsState(NamedTuple):
    count: jax.Array
    num_averaged: jax.Array
    average: Params
    inner_state: State


def average_rule(
    u: jax.Array, a: jax.Array, p: jax.Array, c: jax.Array, averages: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return u, jnp.where(averages > 0, numerics.toward(a, p, c), a)


@gradient_transformation
def ema_params(
    inner: Transformation,
    decay: DecayRateOrSchedule = 0.999,
    debias: bool = True,
    *,
    start: Offset = 0,
    every: Steps = 1,
) -> Any:
    """Keeps an exponentially weighted average of the parameters.

    Args:
      inner: the optimizer.
      decay: the beta of the average, in ``[0, 1)``; it covers about ``1 / (1 - decay)`` parameters.
      debias: give the first parameters no more weight than the others of their age; False begins with the first as if
        it had been there for ever.
      start: how many updates to leave out at the beginning.
      every: average after every so many-th update only.

    Raises:
      InputError: ``update`` was called without ``params``.

    >>> tx = ema_params(jl.sgd(1.0), decay=0.5)
    >>> params = jnp.array([10.0])
    >>> state = tx.init(params)
    >>> for _ in range(2):
    ...     updates, state = tx.update(jnp.array([3.0]), state, params)
    ...     params = jl.apply_updates(params, updates)
    >>> params, jl.eval_params(tx, state, params)  # 7 and 4 with the weights 1/3 and 2/3
    (Array([4.], dtype=float32), Array([5.], dtype=float32))
    """
    return _averaging(inner, ema_share(decay, debias), start, every)


def ema_share(decay: Any, debias: bool) -> Callable[[jax.Array, Any], jax.Array]:
    """The weight of the newest of ``n`` parameters, ``share(n, dtype)``, in an exponentially weighted average."""

    def share(n: jax.Array, dtype: Any) -> jax.Array:
        newest = 1 - jnp.asarray(decay).astype(dtype)
        if debias:
            return newest / numerics.bias_correction(decay, n)(dtype)
        return jnp.where(n == 1, 1, newest)

    return share


@gradient_transformation
def swa_params(inner: Transformation, start: Offset = 0, every: Steps = 1) -> Any:
    """Keeps the mean of the parameters after ``start`` updates: stochastic weight averaging, tail averaging.

    Args:
      inner: the optimizer, for SWA with a constant or cyclic learning rate.
      start: how many updates to leave out at the beginning; 0 for the mean of all.
      every: average after every so many-th update only, for instance at the end of each cycle or epoch.

    Raises:
      InputError: ``update`` was called without ``params``.

    >>> tx = swa_params(jl.sgd(1.0), start=1)
    >>> params = jnp.array([10.0])
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...     updates, state = tx.update(jnp.array([2.0]), state, params)
    ...     params = jl.apply_updates(params, updates)
    >>> jl.eval_params(tx, state, params)  # of 8, 6 and 4 the last two
    Array([5.], dtype=float32)
    """
    return _averaging(inner, lambda n, dtype: 1 / n.astype(dtype), start, every)


@gradient_transformation
def polynomial_average_params(
    inner: Transformation, eta: NonNegativeOrSchedule = 8.0, *, start: Offset = 0, every: Steps = 1
) -> Any:
    """Keeps an average of the parameters in which the n-th has a weight of about ``n^eta``.

    Args:
      inner: the optimizer.
      eta: in ``[0, inf)``; 0 is the mean of all, and a larger one forgets the beginning faster.
      start: how many updates to leave out at the beginning.
      every: average after every so many-th update only.

    Raises:
      InputError: ``update`` was called without ``params``.
    """

    def share(n: jax.Array, dtype: Any) -> jax.Array:
        eta_ = jnp.asarray(eta).astype(dtype)
        return (eta_ + 1) / (n.astype(dtype) + eta_)

    return _averaging(inner, share, start, every)


def _averaging(
    inner: GradientTransformation, share: Callable[[jax.Array, Any], jax.Array], start: Any, every: Any
) -> Functions:
    """``inner`` with an average in which the newest of ``n`` parameters has the weight ``share(n, dtype)``."""

    def init(params: Params) -> AverageParamsState:
        return AverageParamsState(
            count=numerics.zero_count(),
            num_averaged=numerics.zero_count(),
            average=tree.zeros_like(params),
            inner_state=inner.init(params),
        )

    def update(updates: Updates, state: AverageParamsState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        updates, inner_state = inner.update(updates, state.inner_state, params, **extra)
        t, n = numerics.increment(state.count), numerics.increment(state.num_averaged)
        after_start = t - jnp.asarray(start).astype(jnp.int32)
        averages = (after_start > 0) & (after_start % jnp.asarray(every).astype(jnp.int32) == 0)
        updates, average = tree.map_leaves(
            average_rule,
            updates,
            state.average,
            params=params,
            read=(apply_updates(params, updates),),
            c=lambda dtype: share(n, dtype),
            averages=averages,
        )
        return updates, AverageParamsState(t, jnp.where(averages, n, state.num_averaged), average, inner_state)

    def eval_params(state: AverageParamsState, params: Params) -> Params:
        average = tree.merge(params, tree.cast_like(state.average, params))
        return jax.tree.map(
            lambda a, p: jnp.where(state.num_averaged > 0, a, p) if tree.is_trainable(p) else p, average, params
        )

    return Functions(init, update, lambda state: [Part(inner.name, inner, state.inner_state)], eval_params)
