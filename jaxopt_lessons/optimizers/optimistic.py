"""Optimistic gradient descent: step along the gradient that is to be expected next.

    p = p - learning_rate * ((alpha + beta) * g - beta * g_previous)

See ``scale_by_optimistic_gradient``. For minimization without an opponent it is momentum with a negative sign, and
stable up to learning rates of ``2/3`` of gradient descent's (``alpha = beta = 1``). State: ``is_initial_step``,
``previous_gradient``, ``count``, 4 bytes a parameter. Optimistic Adam stands with Adam.
"""

from typing import Any

from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.transforms.optimistic import scale_by_optimistic_gradient
from jaxopt_lessons.types import NonNegativeOrSchedule


@gradient_transformation
def optimistic_gradient_descent(
    learning_rate: NonNegativeOrSchedule, alpha: NonNegativeOrSchedule = 1.0, beta: NonNegativeOrSchedule = 1.0
) -> Any:
    """Optimistic gradient descent: steps along the gradient to be expected next.

    Equivalent to ``chain(scale_by_optimistic_gradient(alpha, beta), scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: a number in ``[0, inf)`` or a schedule.
      alpha: the factor of the gradient, in ``[0, inf)``.
      beta: the factor of its change since the last update, in ``[0, inf)``; 0 for plain gradient descent.

    Use it: for two players' games and min-max problems, where gradient descent circles or diverges; not for plain
      minimization.
    Papers: Popov 1980; Daskalakis et al. 2017, arXiv 1711.00141.
    Lesson: none.
    """
    return chain(scale_by_optimistic_gradient(alpha, beta), scale_by_learning_rate(learning_rate))
