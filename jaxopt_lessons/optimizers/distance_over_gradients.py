"""Layer-wise DoG: DoG for every leaf by itself.

    r = max(r, |p - p0|)                          p0: the parameters at init;  r starts at reps_rel * (1 + |p0|)
    G = G + |g|^2
    u = global_scale * r / sqrt(G + eps) * g      with norms of one leaf

    p = p + u                                     for global_scale = -1

Equivalent to ``scale_by_dog(("heuristic", reps_rel), eps)`` of one leaf; see there for the method. ``global_scale=-1``
makes it a whole optimizer; with 1 it wants a ``scale_by_learning_rate`` after it. Evaluate an average of the
parameters, ``polynomial_average_params`` for instance.

Departure from optax: ``p0`` is kept in the dtype of the parameter (float32 for half precision) unless ``param_dtype``
says otherwise; optax keeps float32, and loses half of the digits of float64 parameters.

State: ``init_params`` (p0), 4 bytes a parameter; ``max_dist`` (r), ``grad_sum_of_squares`` (G), 8 bytes a leaf.

Paper: Ivgi, Hinder & Carmon 2023, arXiv 2302.12022 (L-DoG).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.types import NonNegativeOrSchedule, Params, Positive, ScalarOrSchedule, Updates


class ScaleByDistanceOverGradientsState(NamedTuple):
    max_dist: Params
    grad_sum_of_squares: Params
    init_params: Params


def first_distance_rule(p: jax.Array, r: jax.Array, reps_rel: jax.Array) -> tuple[jax.Array, jax.Array]:
    return p, reps_rel * (1 + numerics.limited_norm(p)[0])


def layer_rule(
    g: jax.Array,
    r: jax.Array,
    total: jax.Array,
    p0: jax.Array,
    p: jax.Array,
    eps: jax.Array,
    global_scale: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    norm, factor = numerics.limited_norm(g)
    r = jnp.maximum(r, numerics.limited_norm(p - p0)[0])
    total = jnp.minimum(total + norm**2, jnp.finfo(g.dtype).max)
    return global_scale * r / numerics.root(total[0] + eps) * (factor * g), r, total


@gradient_transformation
def scale_by_distance_over_gradients(
    reps_rel: Positive = 1e-6,
    eps: NonNegativeOrSchedule = 1e-8,
    param_dtype: tree.StateDtype = None,
    global_scale: ScalarOrSchedule = 1.0,
) -> Any:
    """Multiplies each leaf by its distance from the start over the root of the sum of its squares.

    Args:
      reps_rel: the first distance relative to the size of the leaf, in ``(0, inf)``: 1e-6, or 1e-4 with batch
        normalization.
      eps: added to the sum of squares, in ``[0, inf)``.
      param_dtype: dtype of ``init_params``; the parameter's by default, float32 for half precision.
      global_scale: the factor of all updates; -1 for descent.

    Raises:
      InputError: ``update`` was called without ``params``.

    >>> tx = scale_by_distance_over_gradients(reps_rel=5.0, eps=0.0, global_scale=-1.0)
    >>> params = jnp.zeros(2)
    >>> tx.update(jnp.array([30.0, 40.0]), tx.init(params), params)[0].round(4)  # of length 5 * (1 + 0)
    Array([-3., -4.], dtype=float32)
    """

    def init(params: Params) -> ScaleByDistanceOverGradientsState:
        init_params = tree.copy_like(params, param_dtype)
        zeros = tree.reduced_like(params, lambda leaf: tuple(range(jnp.ndim(leaf))))
        _, r = tree.map_leaves(
            first_distance_rule, tree.trainable(params), zeros, states_have_shape=False, reps_rel=reps_rel
        )
        return ScaleByDistanceOverGradientsState(
            max_dist=r,
            grad_sum_of_squares=tree.reduced_like(params, lambda leaf: None),
            init_params=init_params,
        )

    def update(
        updates: Updates, state: ScaleByDistanceOverGradientsState, params: Params | None = None, **extra: Any
    ) -> Any:
        if params is None:
            _checks.params_needed(updates)
        tree.check_updates(updates, params, state.init_params)
        updates, r, total = tree.map_leaves(
            layer_rule,
            updates,
            state.max_dist,
            state.grad_sum_of_squares,
            params=params,
            read=(state.init_params, params),
            states_have_shape=False,
            eps=eps,
            global_scale=global_scale,
        )
        return updates, ScaleByDistanceOverGradientsState(r, total, state.init_params)

    return init, update
