"""AMSGrad: Adam whose denominator never shrinks.

    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g^2
    v_max = max(v_max, v)                         before the correction
    m_hat = m / (1 - b1^t)                        if bias_correction_mu, else m;  t = 1, 2, ...
    v_hat = v_max / (1 - b2^t)                    if bias_correction_nu, else v_max
    u = m_hat / (sqrt(v_hat + eps_root) + eps)

Adam forgets a rare large gradient while its direction still matters, and can then walk away from the minimum of a
convex loss; with the maximum the steps of each weight only get shorter and the proof of convergence holds. The price:
the largest gradient of the whole run, often one of the first, decides the step for ever.

The paper has no corrections (both flags False). With them the numbers are PyTorch's. optax takes the maximum of the
*corrected* average: the first one, a single squared gradient, is then in the maximum for good, and an outlier in the
first steps counts a thousand times as much as a later one.

State: ``count``, ``mu``, ``nu``, ``nu_max``, 12 bytes a parameter.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.types import DecayRateOrSchedule, NonNegativeOrSchedule, Params, Updates


class ScaleByAmsgradState(NamedTuple):
    count: jax.Array
    mu: Params
    nu: Params
    nu_max: Params


def amsgrad_rule(
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    v_max: jax.Array,
    b1: jax.Array,
    b2: jax.Array,
    eps: jax.Array,
    eps_root: jax.Array,
    correction1: jax.Array,
    correction2: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    g = numerics.squarable(g)
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    v_max = jnp.maximum(v_max, v)
    u = m / correction1 / (numerics.root(v_max / correction2 + eps_root) + eps)
    return u, m, v, v_max


@gradient_transformation
def scale_by_amsgrad(
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
    mu_dtype: tree.StateDtype = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> Any:
    """Replaces the updates by AMSGrad's direction: average over the largest root mean square so far.

    Args:
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      mu_dtype: dtype of ``mu``; the parameter's by default, float32 for half precision.
      bias_correction_mu: divide the average of gradients by ``1 - b1^t`` before use.
      bias_correction_nu: divide the largest average of squares by ``1 - b2^t`` before use.

    >>> tx = scale_by_amsgrad(b1=0.0, b2=0.75, bias_correction_nu=False)
    >>> u, state = tx.update(jnp.array([4.0]), tx.init(jnp.zeros(1)))
    >>> tx.update(jnp.array([1.0]), state)[0].round(3)  # v has fallen to 3.25, its maximum is still 4
    Array([0.5], dtype=float32)
    """

    def init(params: Params) -> ScaleByAmsgradState:
        return ScaleByAmsgradState(
            count=numerics.zero_count(),
            mu=tree.zeros_like(params, mu_dtype),
            nu=tree.zeros_like(params),
            nu_max=tree.zeros_like(params),
        )

    def update(updates: Updates, state: ScaleByAmsgradState, params: Params | None = None, **extra: Any) -> Any:
        t = numerics.increment(state.count)
        updates, m, v, v_max = tree.map_leaves(
            amsgrad_rule,
            updates,
            state.mu,
            state.nu,
            state.nu_max,
            params=params,
            b1=b1,
            b2=b2,
            eps=eps,
            eps_root=eps_root,
            correction1=numerics.bias_correction(b1, t) if bias_correction_mu else 1,
            correction2=numerics.bias_correction(b2, t) if bias_correction_nu else 1,
        )
        return updates, ScaleByAmsgradState(count=t, mu=m, nu=v, nu_max=v_max)

    return init, update


@gradient_transformation
def amsgrad(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
    mu_dtype: tree.StateDtype = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> Any:
    """AMSGrad: Adam divided by the largest root mean square so far.

    Equivalent to ``chain(scale_by_amsgrad(...), scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: about the length of each weight's step; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      mu_dtype: dtype of the average of gradients; the parameter's by default, float32 for half precision.
      bias_correction_mu: divide the average of gradients by ``1 - b1^t`` before use; False in the paper.
      bias_correction_nu: divide the largest average of squares by ``1 - b2^t`` before use; False in the paper.

    Use it: where a proof of convergence counts; in practice seldom better than Adam, and one outlier slows a weight for
      good.
    Paper: Reddi, Kale & Kumar 2018, arXiv 1904.09237.
    Lesson: none.
    """
    return chain(
        scale_by_amsgrad(b1, b2, eps, eps_root, mu_dtype, bias_correction_mu, bias_correction_nu),
        scale_by_learning_rate(learning_rate),
    )
