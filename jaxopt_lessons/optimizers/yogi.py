"""Yogi: Adam whose average of squares comes down slowly.

    m = b1 * m + (1 - b1) * g
    v = v - (1 - b2) * sign(v - g^2) * g^2        v starts at initial_accumulator_value
    m_hat = m / (1 - b1^t)
    v_hat = v / (1 - b2^t)                        t = 1, 2, ...
    u = m_hat / (sqrt(v_hat + eps_root) + eps)

Adam's ``v`` moves towards ``g^2`` by a share of their difference, Yogi's by a share of ``g^2`` itself: up as fast, down
by small steps while the gradients are small. So the learning rate of a weight does not shoot up when its gradients fade
away. The other side of it: a huge gradient is remembered for ``v / ((1 - b2) g^2)`` steps, in effect for ever. Clip.

``m`` starts at 0, as in the paper. (optax and others start it at ``initial_accumulator_value`` too, which moves all
weights towards minus infinity by some 1e-3 learning rates at the start, and moves them without any gradient.) The large
default ``eps`` is the authors' advice.

State: ``count``, ``mu``, ``nu``, 8 bytes a parameter.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.types import DecayRateOrSchedule, NonNegative, NonNegativeOrSchedule, Params, Updates


class ScaleByYogiState(NamedTuple):
    count: jax.Array
    mu: Params
    nu: Params


def yogi_rule(
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    b1: jax.Array,
    b2: jax.Array,
    eps: jax.Array,
    eps_root: jax.Array,
    correction1: jax.Array,
    correction2: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    g = numerics.squarable(g)
    m = b1 * m + (1 - b1) * g
    v = v - (1 - b2) * jnp.sign(v - g**2) * g**2
    u = m / correction1 / (numerics.root(v / correction2 + eps_root) + eps)
    return u, m, v


@gradient_transformation
def scale_by_yogi(
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-3,
    eps_root: NonNegativeOrSchedule = 0.0,
    initial_accumulator_value: NonNegative = 1e-6,
) -> Any:
    """Replaces the updates by Yogi's direction.

    Args:
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: 1 minus the share of ``g^2`` by which ``v`` moves, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      initial_accumulator_value: first value of ``v``, in ``[0, inf)``.

    >>> tx = scale_by_yogi(b1=0.0, b2=0.5, initial_accumulator_value=0.0)
    >>> u, state = tx.update(jnp.array([2.0]), tx.init(jnp.zeros(1)))
    >>> tx.update(jnp.array([1.0]), state)[1].nu  # 2 - 0.5; Adam's would be 2 / 2 + 0.5
    Array([1.5], dtype=float32)
    """

    def init(params: Params) -> ScaleByYogiState:
        return ScaleByYogiState(
            count=numerics.zero_count(),
            mu=tree.zeros_like(params),
            nu=tree.full_like(params, initial_accumulator_value),
        )

    def update(updates: Updates, state: ScaleByYogiState, params: Params | None = None, **extra: Any) -> Any:
        t = numerics.increment(state.count)
        updates, m, v = tree.map_leaves(
            yogi_rule,
            updates,
            state.mu,
            state.nu,
            params=params,
            b1=b1,
            b2=b2,
            eps=eps,
            eps_root=eps_root,
            correction1=numerics.bias_correction(b1, t),
            correction2=numerics.bias_correction(b2, t),
        )
        return updates, ScaleByYogiState(count=t, mu=m, nu=v)

    return init, update


@gradient_transformation
def yogi(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-3,
) -> Any:
    """Yogi: Adam whose step sizes rise slowly when gradients fade.

    Equivalent to ``chain(scale_by_yogi(b1, b2, eps), scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: about the length of each weight's step; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: 1 minus the share of ``g^2`` by which ``v`` moves, in ``[0, 1)``.
      eps: added to the root.

    Use it: for sparse or rare gradients (federated training, embeddings), where Adam's steps shoot up in between; clip
      the gradients.
    Paper: Zaheer et al. 2018, Adaptive Methods for Nonconvex Optimization.
    Lesson: none.
    """
    return chain(scale_by_yogi(b1, b2, eps), scale_by_learning_rate(learning_rate))
