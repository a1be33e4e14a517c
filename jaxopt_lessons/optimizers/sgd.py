"""Gradient descent, with and without momentum.

    p = p - learning_rate * g                     gradient descent

    m = momentum * m + g                          heavy ball: a decaying sum
    p = p - learning_rate * m

    m = beta * m + (1 - beta) * g                 the course's momentum: an exponentially weighted average
    p = p - learning_rate * m

The last two are the same method with learning rates that differ by the factor ``1 - beta``: what ``ema_momentum(a,
beta)`` does, ``sgd((1 - beta) * a, momentum=beta)`` does too. On a quadratic bowl of curvature ``h`` gradient descent
is stable for learning rates below ``2/h``, at momentum 0.9 the heavy ball below ``3.8/h`` and the average below
``38/h``.

State: 0 bytes a parameter without momentum, 4 with it, and the learning rate's ``count``. Whether the descent is
"stochastic", "mini-batch" or "batch" is decided by the gradients it is given, not here: see ``fit(batch_size=...)``.
"""

from typing import Any

from jaxopt_lessons import _checks, tree
from jaxopt_lessons.core import chain, gradient_transformation, identity
from jaxopt_lessons.transforms.ema import ema
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.transforms.trace import trace
from jaxopt_lessons.types import DecayRateOrSchedule, NonNegativeOrSchedule


@gradient_transformation
def sgd(
    learning_rate: NonNegativeOrSchedule,
    momentum: DecayRateOrSchedule | None = None,
    nesterov: bool = False,
    accumulator_dtype: tree.StateDtype = None,
) -> Any:
    """SGD: steps down the gradient, with or without momentum.

    ``p = p - learning_rate * g``, or with ``m = momentum * m + g`` in the place of ``g``.

    Equivalent to ``chain(trace(momentum, nesterov), scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: a number in ``[0, inf)`` or a schedule.
      momentum: decay of the sum of gradients, in ``[0, 1)``; None for no momentum, and no state for it.
      nesterov: use ``momentum * m + g`` in the place of ``m``; needs ``momentum``.
      accumulator_dtype: dtype of ``m``; the parameter's by default, float32 for half precision.

    Raises:
      ValueError: ``nesterov`` without ``momentum``, or a number out of range.

    Use it: for convolutional networks and whatever else is well scaled, with momentum 0.9 and a rate that is tuned and
      decays; transformers train poorly with it.
    Papers: Polyak 1964; Nesterov 1983; Sutskever et al. 2013.
    Lessons: 1, mini-batch; 4, momentum.
    """
    _checks.require(momentum is not None or not nesterov, "sgd: nesterov=True needs a momentum, such as momentum=0.9.")
    memory = identity() if momentum is None else trace(momentum, nesterov, accumulator_dtype)
    return chain(memory, scale_by_learning_rate(learning_rate))


@gradient_transformation
def ema_momentum(learning_rate: NonNegativeOrSchedule, beta: DecayRateOrSchedule = 0.9, debias: bool = False) -> Any:
    """The momentum of the course: steps along an exponentially weighted average of gradients.

    ``v = beta * v + (1 - beta) * g``, ``p = p - learning_rate * v``. Across a narrow valley the gradients change sign
    and their average is small; along it they agree and the average stays.

    Equivalent to ``chain(ema(beta, debias), scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: a number in ``[0, inf)`` or a schedule.
      beta: the average covers about ``1 / (1 - beta)`` gradients; 0.9, the course's choice, covers ten.
      debias: divide by ``1 - beta^t``. The course leaves it out: after ten steps it hardly matters.

    Use it: to follow the course; published learning rates are those of ``sgd``, the same method with rates ``1 - beta``
      as large.
    Source: Ng 2017, Improving Deep Neural Networks (Coursera), week 2.
    Lessons: 2, exponentially weighted averages; 3, bias correction; 4, momentum.
    """
    return chain(ema(beta, debias), scale_by_learning_rate(learning_rate))
