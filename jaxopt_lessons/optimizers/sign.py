"""Sign descent: steps of equal length along every axis.

    p = p - learning_rate * sign(g)               sign_sgd

    m = beta * m + (1 - beta) * g
    p = p - learning_rate * sign(m)               signum: signs of a momentum

What Adam does when its averages forget everything (``b1 = b2 = 0``), and what it does at its first step. The steps do
not get shorter near a minimum: let the learning rate fall. Sign descent does not see the scale of the loss, and with
noisy gradients the sign of a small batch votes for the median, not for the mean: it needs large batches.

State: the learning rate's ``count``, 0 bytes a parameter; signum also ``count`` and ``ema``, 4 bytes a parameter. Not
to be confused with Lion, which takes the sign of a newer average than the one it keeps, or with Rprop, whose step sizes
adapt.
"""

from typing import Any

from jaxopt_lessons import tree
from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.ema import ema
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.transforms.sign import scale_by_sign
from jaxopt_lessons.types import DecayRateOrSchedule, NonNegativeOrSchedule


@gradient_transformation
def sign_sgd(learning_rate: NonNegativeOrSchedule) -> Any:
    """Sign descent: steps of equal length along every axis.

    ``p = p - learning_rate * sign(g)``.

    Equivalent to ``chain(scale_by_sign(), scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: the length of each weight's step; a number in ``[0, inf)`` or a schedule.

    Use it: as a baseline, and where gradients are sent as bits; it needs large batches and a rate that decays to 0.
    Paper: see ``signum``.
    Lesson: none.
    """
    return chain(scale_by_sign(), scale_by_learning_rate(learning_rate))


@gradient_transformation
def signum(
    learning_rate: NonNegativeOrSchedule, beta: DecayRateOrSchedule = 0.9, accumulator_dtype: tree.StateDtype = None
) -> Any:
    """Signum: sign descent with momentum.

    ``m = beta * m + (1 - beta) * g``, ``p = p - learning_rate * sign(m)``.

    Equivalent to ``chain(ema(beta, debias=False), scale_by_sign(), scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: the length of each weight's step; a number in ``[0, inf)`` or a schedule.
      beta: the beta of the average, in ``[0, 1)``.
      accumulator_dtype: dtype of the average; the parameter's by default, float32 for half precision.

    Use it: for large batches in half of Adam's memory; ``lion`` has a weight decay too.
    Paper: Bernstein et al. 2018, arXiv 1802.04434.
    Lesson: none.
    """
    return chain(ema(beta, False, accumulator_dtype), scale_by_sign(), scale_by_learning_rate(learning_rate))
