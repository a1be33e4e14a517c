"""QHM, quasi-hyperbolic momentum: a weighted average of the gradient and its momentum.

    m = b1 * m + (1 - b1) * g                     m starts at 0, without bias correction
    u = (1 - nu) * g + nu * m

``nu = 0`` is gradient descent, ``nu = 1`` momentum as an average (``ema_momentum``), ``nu = b1`` Nesterov's; the paper
recommends ``nu = 0.7, b1 = 0.999``, a long memory beside a gradient that still counts. The argument ``nu`` is the
paper's letter and not a second moment. State: ``mu``, 4 bytes a parameter.
"""

from typing import Any, NamedTuple

import jax

from jaxopt_lessons import tree
from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.types import DecayRateOrSchedule, NonNegativeOrSchedule, Params, Updates, WeightOrSchedule


class ScaleByQhmState(NamedTuple):
    mu: Params


def qhm_rule(g: jax.Array, m: jax.Array, b1: jax.Array, nu: jax.Array) -> tuple[jax.Array, jax.Array]:
    m = b1 * m + (1 - b1) * g
    return (1 - nu) * g + nu * m, m


@gradient_transformation
def scale_by_qhm(b1: DecayRateOrSchedule = 0.999, nu: WeightOrSchedule = 0.7, mu_dtype: tree.StateDtype = None) -> Any:
    """Replaces the updates by an average of themselves and their momentum.

    Args:
      b1: the beta of the average of gradients, in ``[0, 1)``.
      nu: the weight of that average, in ``[0, 1]``; the gradient has the weight ``1 - nu``.
      mu_dtype: dtype of ``mu``; the parameter's by default, float32 for half precision.

    >>> tx = scale_by_qhm(b1=0.9, nu=0.5)
    >>> tx.update(jnp.array([10.0]), tx.init(jnp.zeros(1)))[0].round(4)  # half of 10 and half of 1
    Array([5.5], dtype=float32)
    """

    def init(params: Params) -> ScaleByQhmState:
        return ScaleByQhmState(mu=tree.zeros_like(params, mu_dtype))

    def update(updates: Updates, state: ScaleByQhmState, params: Params | None = None, **extra: Any) -> Any:
        updates, m = tree.map_leaves(qhm_rule, updates, state.mu, params=params, b1=b1, nu=nu)
        return updates, ScaleByQhmState(mu=m)

    return init, update


@gradient_transformation
def qhm(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.999,
    nu: WeightOrSchedule = 0.7,
    mu_dtype: tree.StateDtype = None,
) -> Any:
    """QHM: steps along a weighted average of gradient and momentum.

    Equivalent to ``chain(scale_by_qhm(...), scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      nu: the weight of that average, in ``[0, 1]``; the gradient has the weight ``1 - nu``.
      mu_dtype: dtype of the average; the parameter's by default, float32 for half precision.

    Use it: in the place of momentum, with the paper's 0.7 and 0.999; gains over a tuned momentum are small.
    Paper: Ma & Yarats 2018, arXiv 1810.06801.
    Lesson: none.
    """
    return chain(scale_by_qhm(b1, nu, mu_dtype), scale_by_learning_rate(learning_rate))
