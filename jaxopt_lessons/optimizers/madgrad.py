"""MADGRAD: Adagrad with cube roots, by dual averaging, with momentum.

    k = (learning_rate + eps) * sqrt(t)           t = 1, 2, ...
    s = s + k * g
    G = G + k * g^2
    z = x0 - s / (cbrt(G) + eps)                  x0: the parameters at init
    u = (1 - momentum) * (z - p)

    p = p + u

Every step starts again from ``x0`` and takes the sum of all gradients, later ones with growing weight ``k``: dual
averaging. The cube root forgets faster than Adagrad's square root, whose steps shrink too soon. ``momentum`` averages
the points ``z``. The learning rate is part of the rule, and the updates are steps to add, not directions.

Setting the parameters to other values in the middle of a run does not last: the next steps lead back towards ``z``.
``eps`` is added to the learning rate too (as the authors do), so a learning rate of 0 does not quite stop it.
``weight_decay`` in ``madgrad`` is L2 regularization, a part of the gradient, and not AdamW's decay; the authors advise
much less of it than for SGD.

State: ``count``, ``grad_sum_sq``, ``s``, ``x0``, 12 bytes a parameter.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.weight_decay import add_decayed_weights
from jaxopt_lessons.types import DecayRateOrSchedule, NonNegativeOrSchedule, Params, Updates


class MadgradState(NamedTuple):
    count: jax.Array
    grad_sum_sq: Params
    s: Params
    x0: Params


def madgrad_rule(
    g: jax.Array,
    sum_sq: jax.Array,
    s: jax.Array,
    x0: jax.Array,
    p: jax.Array,
    learning_rate: jax.Array,
    momentum: jax.Array,
    eps: jax.Array,
    root_t: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    g = numerics.squarable(g)
    k = (learning_rate + eps) * root_t
    s = s + k * g
    sum_sq = jnp.minimum(sum_sq + k * g**2, jnp.finfo(g.dtype).max)
    cube_root = jnp.cbrt(jnp.maximum(sum_sq, jnp.finfo(g.dtype).tiny))  # Above 0, its derivative is finite.
    u = (1 - momentum) * (x0 - p - s / (cube_root + eps))
    return u, sum_sq, s


@gradient_transformation
def scale_by_madgrad(
    learning_rate: NonNegativeOrSchedule,
    momentum: DecayRateOrSchedule = 0.9,
    eps: NonNegativeOrSchedule = 1e-6,
) -> Any:
    """Replaces the updates by MADGRAD's step, learning rate and sign included.

    Args:
      learning_rate: a number in ``[0, inf)`` or a schedule.
      momentum: how much of the parameters stays at each step, in ``[0, 1)``.
      eps: added to the cube root, and to the learning rate.

    Raises:
      InputError: ``update`` was called without ``params``.

    >>> tx = scale_by_madgrad(0.125, momentum=0.0, eps=0.0)
    >>> params = jnp.array([1.0])
    >>> tx.update(jnp.array([8.0]), tx.init(params), params)[0].round(4)  # -0.125 * 8 / cbrt(0.125 * 64)
    Array([-0.5], dtype=float32)
    """

    def init(params: Params) -> MadgradState:
        return MadgradState(
            count=numerics.zero_count(),
            grad_sum_sq=tree.zeros_like(params),
            s=tree.zeros_like(params),
            x0=tree.copy_like(params),
        )

    def update(updates: Updates, state: MadgradState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        t = numerics.increment(state.count)
        updates, sum_sq, s = tree.map_leaves(
            madgrad_rule,
            updates,
            state.grad_sum_sq,
            state.s,
            params=params,
            read=(state.x0, params),
            learning_rate=learning_rate,
            momentum=momentum,
            eps=eps,
            root_t=lambda dtype: jnp.sqrt(t.astype(dtype)),
        )
        return updates, MadgradState(count=t, grad_sum_sq=sum_sq, s=s, x0=state.x0)

    return init, update


@gradient_transformation
def madgrad(
    learning_rate: NonNegativeOrSchedule,
    momentum: DecayRateOrSchedule = 0.9,
    weight_decay: NonNegativeOrSchedule = 0.0,
    eps: NonNegativeOrSchedule = 1e-6,
) -> Any:
    """MADGRAD: Adagrad with cube roots, dual averaging and momentum.

    Equivalent to ``chain(add_decayed_weights(weight_decay), scale_by_madgrad(learning_rate, momentum, eps))``.

    Args:
      learning_rate: a number in ``[0, inf)`` or a schedule; the authors search powers of ten about 1e-3.
      momentum: how much of the parameters stays at each step, in ``[0, 1)``.
      weight_decay: L2 regularization in ``[0, inf)``, added to the gradient.
      eps: added to the cube root, and to the learning rate.

    Use it: for sparse embeddings and image reconstruction, where its authors saw it match the better of SGD and Adam;
      with little or no weight decay.
    Paper: Defazio & Jelassi 2021, arXiv 2101.11075.
    Lesson: none.
    """
    return chain(add_decayed_weights(weight_decay), scale_by_madgrad(learning_rate, momentum, eps))
