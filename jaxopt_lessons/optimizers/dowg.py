"""DoWG: DoG with the gradients weighted by the distance at which they were seen.

    d = max(d, |p - p0|^2)                        p0: the parameters at init
    G = G + d * |g|^2
    u = d / (sqrt(G) + eps) * g

    p = p - learning_rate * u

The norms are Euclidean and go over all leaves together. ``d`` starts at ``init_estim_sq_dist``, a guess of the squared
distance to the solution that should be too small rather than too large; ``eps`` if None. Gradients seen on the way out,
when ``d`` was small, count for little, so the steps are longer than DoG's and grow faster.

Infinite and NaN entries do not count in the norms, and a gradient whose norm exceeds 1.8e19 (in float32) is scaled down
to it. The distance is measured from the parameters of ``init``: weights loaded after it are a distance.

State: ``init_params`` (p0), 4 bytes a parameter; ``weighted_sq_norm_grads`` (G), ``estim_sq_dist`` (d).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import Functions, chain, gradient_transformation, identity
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.transforms.weight_decay import add_decayed_weights
from jaxopt_lessons.types import Mask, NonNegativeOrSchedule, Params, Positive, Updates


class DoWGState(NamedTuple):
    init_params: Params
    weighted_sq_norm_grads: jax.Array
    estim_sq_dist: jax.Array


def dowg_rule(g: jax.Array, factor: jax.Array, rate: jax.Array) -> jax.Array:
    return rate * (factor * g)


@gradient_transformation
def scale_by_dowg(init_estim_sq_dist: Positive | None = None, eps: Positive = 1e-4) -> Any:
    """Multiplies the updates by the squared distance from the start over the root of their weighted squares.

    Args:
      init_estim_sq_dist: a guess of the squared distance to the solution, in ``(0, inf)``; None for ``eps``.
      eps: added to the root, in ``(0, inf)``.

    Raises:
      InputError: ``update`` was called without ``params``.

    >>> tx = scale_by_dowg(init_estim_sq_dist=25.0, eps=1e-8)
    >>> params = jnp.array([1.0, 2.0])
    >>> tx.update(jnp.array([30.0, 40.0]), tx.init(params), params)[0]  # of length 5
    Array([3., 4.], dtype=float32)
    """

    def init(params: Params) -> DoWGState:
        return DoWGState(
            init_params=tree.copy_like(params),
            weighted_sq_norm_grads=tree.scalar_like(params, 0),
            estim_sq_dist=tree.scalar_like(params, eps if init_estim_sq_dist is None else init_estim_sq_dist),
        )

    def update(updates: Updates, state: DoWGState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        tree.check_updates(updates, params, state.init_params)
        dtype = state.estim_sq_dist.dtype
        norm, factor = tree.limited_norm(updates)
        d = jnp.maximum(state.estim_sq_dist, tree.distance(params, state.init_params).astype(dtype) ** 2)
        total = jnp.minimum(state.weighted_sq_norm_grads + d * norm.astype(dtype) ** 2, jnp.finfo(dtype).max)
        (above_0,) = numerics.scalars(dtype, eps)
        rate = d / (numerics.root(total) + above_0)
        updates = tree.map_leaves(dowg_rule, updates, params=params, factor=factor, rate=rate)
        return updates, DoWGState(state.init_params, total, d)

    def readings(state: DoWGState) -> dict[str, jax.Array]:
        """The learning rate of the last update."""
        (above_0,) = numerics.scalars(state.estim_sq_dist.dtype, eps)
        return {"estim_lr": state.estim_sq_dist / (numerics.root(state.weighted_sq_norm_grads) + above_0)}

    return Functions(init, update, readings=readings)


@gradient_transformation
def dowg(
    learning_rate: NonNegativeOrSchedule = 1.0,
    init_estim_sq_dist: Positive | None = None,
    eps: Positive = 1e-4,
    weight_decay: NonNegativeOrSchedule | None = None,
    mask: Mask | None = None,
) -> Any:
    """DoWG: DoG with later gradients weighing more.

    Equivalent to ``chain(add_decayed_weights(weight_decay, mask), scale_by_dowg(init_estim_sq_dist, eps),
    scale_by_learning_rate(learning_rate))``, without the decay if it is None.

    Args:
      learning_rate: the factor of all steps; a number in ``[0, inf)`` or a schedule. 1 is what the method is for.
      init_estim_sq_dist: a guess of the squared distance to the solution, in ``(0, inf)``; None for ``eps``.
      eps: added to the root, in ``(0, inf)``.
      weight_decay: L2 regularization in ``[0, inf)``, added to the gradient; None for none.
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.

    Use it: as ``dog``; it finds longer steps sooner, which helps where the start is far from the solution.
    Paper: Khaled, Mishchenko & Jin 2023, arXiv 2305.16284.
    Lesson: none.
    """
    decay = identity() if weight_decay is None else add_decayed_weights(weight_decay, mask)
    return chain(decay, scale_by_dowg(init_estim_sq_dist, eps), scale_by_learning_rate(learning_rate))
