"""Gradient descent with Polyak's step size, which needs the loss and a lower bound of it in the place of a rate.

    u = -scaling * min((value - f_min) / (|g|^2 + eps), max_learning_rate) * g

    p = p + u

All of it is in ``scale_by_polyak``. If ``f_min`` is too low the steps are too long near the bottom, and
``max_learning_rate`` is what holds them; too high, and they end early ("sps+") or turn round ("sps").

Departure from optax: there ``scaling`` multiplies the gradient before its norm is taken, so half the ``scaling`` is
twice the step. State: the ``count`` of ``scaling``, 0 bytes a parameter.
"""

from typing import Any, Literal

from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.transforms.polyak import scale_by_polyak
from jaxopt_lessons.types import NonNegativeOrSchedule, PositiveOrSchedule, Scalar


@gradient_transformation
def polyak_sgd(
    max_learning_rate: PositiveOrSchedule = 1.0,
    scaling: NonNegativeOrSchedule = 1.0,
    f_min: Scalar = 0.0,
    eps: NonNegativeOrSchedule = 0.0,
    variant: Literal["sps", "sps+"] = "sps",
) -> Any:
    """Polyak SGD: gradient descent with step lengths from the loss.

    Equivalent to ``chain(scale_by_polyak(...), scale_by_learning_rate(scaling))``. ``update`` needs ``value=``, the
    loss.

    Args:
      max_learning_rate: the largest step size, in ``(0, inf)``.
      scaling: the factor of all steps; a number in ``[0, inf)`` or a schedule.
      f_min: the least value of the loss, or a lower bound of it.
      eps: added to the square of the norm, in ``[0, inf)``.
      variant: ``"sps"``, or ``"sps+"`` to stay where the loss is below ``f_min``.

    Use it: where the smallest loss is known, such as 0 for a model that can fit all its data; ``update`` needs
      ``value=``, the loss.
    Papers: see ``scale_by_polyak``.
    Lesson: none.
    """
    return chain(scale_by_polyak(f_min, max_learning_rate, eps, variant), scale_by_learning_rate(scaling))
