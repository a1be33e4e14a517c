"""SM3: Adagrad whose sums of squares are kept as one number for each row and one for each column.

    s_ij = min(r_i, c_j) + g_ij^2                 no less than Adagrad's sum for this entry
    r_i = max_j s_ij,  c_j = max_i s_ij
    d = g / sqrt(s + eps)                         0 where s is 0
    m = b1 * m + (1 - b1) * d

    p = p - learning_rate * m

(The paper's SM3-II; for more axes one number for each index of each axis, and the smallest of them.) A vector has one
number an entry and a scalar its own: there it is Adagrad. The steps shrink like Adagrad's, which made it the choice for
sparse features and very large embeddings. ``b2 < 1`` forgets: ``s = b2 * min + (1 - b2) * g^2``.

State: ``mu``, for each leaf a list with an array of numbers for each axis, and ``nu``, the momentum: optax's names,
which exchange the usual ones. 4 bytes a parameter for the momentum and about none for the sums.

Departures from optax: scalars have a number of their own, where optax fails; sums stay finite; the learning rate may be
a schedule. An infinite or NaN entry is left out of the sums. Complex leaves are refused.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.types import DecayRateOrSchedule, NonNegativeOrSchedule, Params, Updates, WeightOrSchedule


class ScaleBySM3State(NamedTuple):
    mu: Params
    nu: Params


def sm3_rule(
    g: jax.Array, sums: list[jax.Array], m: jax.Array, b1: jax.Array, b2: jax.Array, eps: jax.Array
) -> tuple[jax.Array, list[jax.Array], jax.Array]:
    g = numerics.squarable(g)
    others = _other_axes(g)
    least = functools.reduce(jnp.minimum, [jnp.expand_dims(s, axes) for s, axes in zip(sums, others, strict=True)])
    weight = jnp.where(b2 == 1, 1, 1 - b2)
    s = jnp.minimum(b2 * least + weight * numerics.finite(g) ** 2, jnp.finfo(g.dtype).max)
    m = b1 * m + (1 - b1) * (g / numerics.root(s + eps))
    return m, [jnp.max(s, axis=axes, initial=0) for axes in others], m


def _other_axes(leaf: Any) -> list[tuple[int, ...]]:
    """For each axis of a leaf all others; for a scalar the one empty choice."""
    axes = range(np.ndim(leaf))
    return [tuple(j for j in axes if j != i) for i in axes] or [()]


@gradient_transformation
def scale_by_sm3(b1: DecayRateOrSchedule = 0.9, b2: WeightOrSchedule = 1.0, eps: NonNegativeOrSchedule = 1e-8) -> Any:
    """Replaces the updates by an average of gradients divided by the root of SM3's sum of their squares.

    Args:
      b1: the beta of the average, in ``[0, 1)``.
      b2: how much of the sums of squares stays at each update, in ``[0, 1]``; below 1 they are averages.
      eps: added to the sum inside the root.

    >>> tx = scale_by_sm3(b1=0.0, eps=0.0)
    >>> tx.update(jnp.array([[4.0, -3.0], [0.0, 0.5]]), tx.init(jnp.zeros((2, 2))))[0]
    Array([[ 1., -1.],
           [ 0.,  1.]], dtype=float32)
    """

    def init(params: Params) -> ScaleBySM3State:
        return ScaleBySM3State(mu=tree.reduced_like(params, _other_axes), nu=tree.zeros_like(params))

    def update(updates: Updates, state: ScaleBySM3State, params: Params | None = None, **extra: Any) -> Any:
        updates, sums, m = tree.map_leaves(
            sm3_rule,
            updates,
            state.mu,
            state.nu,
            params=params,
            states_have_shape=(False, True),
            real_only=True,
            b1=b1,
            b2=b2,
            eps=eps,
        )
        return updates, ScaleBySM3State(mu=sums, nu=m)

    return init, update


@gradient_transformation
def sm3(learning_rate: NonNegativeOrSchedule, momentum: DecayRateOrSchedule = 0.9) -> Any:
    """SM3: Adagrad with almost no memory for its sums.

    Equivalent to ``chain(scale_by_sm3(momentum), scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: a number in ``[0, inf)`` or a schedule.
      momentum: the beta of the average of directions, in ``[0, 1)``.

    Use it: where Adagrad would do and memory is tight: sparse features, very large embeddings.
    Paper: Anil et al. 2019, arXiv 1901.11150.
    Lesson: none.
    """
    return chain(scale_by_sm3(momentum), scale_by_learning_rate(learning_rate))
