"""NAdam as Dozat published it: Adam with Nesterov's momentum and a momentum that warms up.

    b_t = b1 * (1 - 0.96^(t * momentum_decay) / 2)            t = 1, 2, ...: from b1 / 2 to b1
    P = P * b_t                                   P starts at 1: the product of all momenta
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g^2
    m_hat = b_{t+1} * m / (1 - P * b_{t+1}) + (1 - b_t) * g / (1 - P)
    v_hat = v / (1 - b2^t)
    u = m_hat / (sqrt(v_hat + eps_root) + eps)

``momentum_decay`` says how fast the momentum warms up: at 4e-3 it has done half of the way after some 4000 steps. The
numbers are PyTorch's ``NAdam``. Not to be confused with ``nadam``, which is Adam with Nesterov's momentum at a constant
``b1``, as in optax: the limit of a large ``momentum_decay``.

State: ``count``, ``mu_product`` (P, one number), ``mu``, ``nu``, 8 bytes a parameter.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.types import DecayRateOrSchedule, NonNegativeOrSchedule, Params, Updates


class ScaleByNadamState(NamedTuple):
    count: jax.Array
    mu_product: jax.Array
    mu: Params
    nu: Params


def momentum_at(t: jax.Array, b1: jax.Array, momentum_decay: jax.Array) -> jax.Array:
    """The momentum of step ``t``, in the dtype of ``b1``."""
    return b1 * (1 - 0.5 * jnp.exp(t.astype(b1.dtype) * momentum_decay * math.log(0.96)))


def nadam_rule(
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    b1: jax.Array,
    b2: jax.Array,
    eps: jax.Array,
    eps_root: jax.Array,
    weight_of_m: jax.Array,
    weight_of_g: jax.Array,
    correction2: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    g = numerics.squarable(g)
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    u = (weight_of_m * m + weight_of_g * g) / (numerics.root(v / correction2 + eps_root) + eps)
    return u, m, v


@gradient_transformation
def scale_by_nadam(
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
    mu_dtype: tree.StateDtype = None,
    momentum_decay: NonNegativeOrSchedule = 4e-3,
) -> Any:
    """Replaces the updates by NAdam's direction, with Dozat's schedule of the momentum.

    Args:
      b1: the beta of the average of gradients and the last value of the momentum, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      mu_dtype: dtype of ``mu``; the parameter's by default, float32 for half precision.
      momentum_decay: how fast the momentum rises from ``b1 / 2`` to ``b1``, in ``[0, inf)``.

    >>> tx = scale_by_nadam(momentum_decay=0.0)
    >>> tx.update(jnp.array([0.5, -20.0]), tx.init(jnp.zeros(2)))[0].round(3)  # 1 + 0.1 * 0.45 / (1 - 0.45^2)
    Array([ 1.056, -1.056], dtype=float32)
    """

    def init(params: Params) -> ScaleByNadamState:
        return ScaleByNadamState(
            count=numerics.zero_count(),
            mu_product=tree.scalar_like(params, 1),
            mu=tree.zeros_like(params, mu_dtype),
            nu=tree.zeros_like(params),
        )

    def update(updates: Updates, state: ScaleByNadamState, params: Params | None = None, **extra: Any) -> Any:
        t = numerics.increment(state.count)
        limit, speed = (jnp.asarray(x).astype(state.mu_product.dtype) for x in (b1, momentum_decay))
        now, soon = momentum_at(t, limit, speed), momentum_at(numerics.increment(t), limit, speed)
        product = state.mu_product * now
        updates, m, v = tree.map_leaves(
            nadam_rule,
            updates,
            state.mu,
            state.nu,
            params=params,
            b1=b1,
            b2=b2,
            eps=eps,
            eps_root=eps_root,
            weight_of_m=soon / (1 - product * soon),
            weight_of_g=(1 - now) / (1 - product),
            correction2=numerics.bias_correction(b2, t),
        )
        return updates, ScaleByNadamState(count=t, mu_product=product, mu=m, nu=v)

    return init, update


@gradient_transformation
def nadam_dozat(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
    mu_dtype: tree.StateDtype = None,
    momentum_decay: NonNegativeOrSchedule = 4e-3,
) -> Any:
    """NAdam: Nesterov's Adam with a momentum that warms up.

    The momentum schedule is that of the paper and of PyTorch; ``nadam`` is optax's, without it.

    Equivalent to ``chain(scale_by_nadam(...), scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: about the length of each weight's step; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of gradients and the last value of the momentum, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      mu_dtype: dtype of the average of gradients; the parameter's by default, float32 for half precision.
      momentum_decay: how fast the momentum rises from ``b1 / 2`` to ``b1``, in ``[0, inf)``.

    Use it: to reproduce PyTorch's ``NAdam``; else ``nadam``, with one argument less.
    Paper: Dozat 2016, Incorporating Nesterov Momentum into Adam.
    Lesson: none.
    """
    return chain(scale_by_nadam(b1, b2, eps, eps_root, mu_dtype, momentum_decay), scale_by_learning_rate(learning_rate))
