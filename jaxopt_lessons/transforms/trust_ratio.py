"""The trust ratio: each leaf's step in proportion to the leaf.

    r = trust_coefficient * |p| / (|g| + eps)     |.|: Euclidean norm of the leaf, at least min_norm
    u = r * g                                     r = 1 where |p| or |g| is 0

With it the relative change of every layer, ``|u| / |p|``, is the same at the start of training, whatever the sizes of
their gradients: what LARS and LAMB add to momentum and Adam for large batches. A leaf of zeros, such as a fresh bias,
has no size to be in proportion to and gets the step as it is; so does a leaf whose gradient is 0. State: none.

Norms are calculated without overflow and leave infinite and NaN entries out: one bad gradient stays bad and spoils no
other. Not to be confused with clipping, which never lengthens a step.

Papers: You, Gitman & Ginsburg 2017, arXiv 1708.03888; You et al. 2019, arXiv 1904.00962.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import EmptyState, gradient_transformation
from jaxopt_lessons.types import Mask, NonNegativeOrSchedule, Params, Updates


def trust_ratio_rule(
    g: jax.Array, p: jax.Array, min_norm: jax.Array, trust_coefficient: jax.Array, eps: jax.Array
) -> jax.Array:
    size = jnp.maximum(numerics.norm(numerics.finite(p)), min_norm)
    length, scale = numerics.scaled_norm(numerics.finite(g))
    length = jnp.maximum(length, min_norm / scale)
    of_length_one = g / scale / numerics.divisor(length + eps / scale)
    return jnp.where((size > 0) & (length > 0), of_length_one * (trust_coefficient * size), g)


@gradient_transformation
def scale_by_trust_ratio(
    min_norm: NonNegativeOrSchedule = 0.0,
    trust_coefficient: NonNegativeOrSchedule = 1.0,
    eps: NonNegativeOrSchedule = 0.0,
    *,
    mask: Mask | None = None,
) -> Any:
    """Multiplies the updates of each leaf by the trust ratio: the norm of the parameter over that of the update.

    Args:
      min_norm: smaller norms, of the parameter or of the update, count as this one; in ``[0, inf)``.
      trust_coefficient: a factor of the ratio, in ``[0, inf)``.
      eps: added to the norm of the update, in ``[0, inf)``.
      mask: which leaves: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. The others pass as
        they are. None: all.

    Raises:
      InputError: ``update`` was called without ``params``, or the mask does not fit them.

    >>> tx = scale_by_trust_ratio()
    >>> params = jnp.array([6.0, 8.0])
    >>> tx.update(jnp.array([3.0, 4.0]), tx.init(params), params)[0]
    Array([6., 8.], dtype=float32)
    """

    def init(params: Params) -> EmptyState:
        return EmptyState()

    def update(updates: Updates, state: EmptyState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        updates = tree.map_leaves(
            trust_ratio_rule,
            updates,
            params=params,
            read=(params,),
            where=None if mask is None else tree.mask_leaves(mask, params),
            min_norm=min_norm,
            trust_coefficient=trust_coefficient,
            eps=eps,
        )
        return updates, state

    return init, update
