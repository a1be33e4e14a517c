"""Optimistic Adam: each step continues the last change of direction, as if it would happen again.

    u = Adam's direction, see ``scale_by_adam``; u_previous: the one before, at first u itself
    p = p - learning_rate * u - optimism * (u - u_previous)                       optimistic_adam
    p = p - learning_rate * (alpha * u + beta * (u - u_previous))                 optimistic_adam_v2

In a game the gradient of each player turns with the moves of the other, and Adam runs around the equilibrium; a step
for the gradient to come leads inwards. See ``optimistic_gradient_descent``.

State: ``count``, ``mu``, ``nu`` and the direction before, 12 bytes a parameter.
"""

from typing import Any

from jaxopt_lessons import tree
from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.adam import scale_by_adam
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.transforms.optimistic import scale_by_optimistic_gradient
from jaxopt_lessons.transforms.scale import scale
from jaxopt_lessons.types import DecayRateOrSchedule, NonNegativeOrSchedule


@gradient_transformation
def optimistic_adam(
    learning_rate: NonNegativeOrSchedule,
    optimism: NonNegativeOrSchedule | None = None,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
    mu_dtype: tree.StateDtype = None,
    *,
    nesterov: bool = True,
) -> Any:
    """Optimistic Adam: Adam that expects the next gradient, for games.

    ``p = p - learning_rate * u - optimism * (u - u_previous)`` with Adam's direction ``u``.

    Equivalent to ``chain(scale_by_adam(...), scale_by_optimistic_gradient(learning_rate, optimism), scale(-1.0))``.

    Args:
      learning_rate: the factor of Adam's direction; a number in ``[0, inf)`` or a schedule.
      optimism: the factor of its change since the last update, in ``[0, inf)``; the learning rate by default.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      mu_dtype: dtype of the average of gradients; the parameter's by default, float32 for half precision.
      nesterov: look one step ahead with the momentum.

    Use it: to reproduce optax's; ``optimistic_adam_v2`` is the better interface.
    Paper: see ``optimistic_adam_v2``.
    Lesson: none.
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_optimistic_gradient(learning_rate, learning_rate if optimism is None else optimism),
        scale(-1.0),
    )


@gradient_transformation
def optimistic_adam_v2(
    learning_rate: NonNegativeOrSchedule,
    *,
    alpha: NonNegativeOrSchedule = 1.0,
    beta: NonNegativeOrSchedule = 1.0,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
    mu_dtype: tree.StateDtype = None,
    nesterov: bool = True,
) -> Any:
    """Optimistic Adam with one learning rate for both terms.

    ``p = p - learning_rate * (alpha * u + beta * (u - u_previous))`` with Adam's direction ``u``.

    The same method as ``optimistic_adam``, and the better interface: a schedule of the learning rate acts on both
    terms.

    Equivalent to ``chain(scale_by_adam(...), scale_by_optimistic_gradient(alpha, beta),
    scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: a number in ``[0, inf)`` or a schedule.
      alpha: the factor of Adam's direction, in ``[0, inf)``.
      beta: the factor of its change since the last update, in ``[0, inf)``.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      mu_dtype: dtype of the average of gradients; the parameter's by default, float32 for half precision.
      nesterov: look one step ahead with the momentum.

    Use it: for games between networks (GANs), where Adam circles; in plain minimization it has no advantage.
    Paper: Daskalakis et al. 2017, arXiv 1711.00141.
    Lesson: none.
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_optimistic_gradient(alpha, beta),
        scale_by_learning_rate(learning_rate),
    )
