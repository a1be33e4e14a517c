"""RMSprop: divide each gradient by the root of the mean of its recent squares.

    v = decay * v + (1 - decay) * g^2             v starts at initial_scale
    u = g / sqrt(v + eps)                         eps_in_sqrt=True, as in optax and in TensorFlow's first version
    u = g / (sqrt(v) + eps)                       eps_in_sqrt=False, as in the course, in PyTorch and in Adam

with ``v / (1 - decay^t)`` in the place of ``v`` if ``bias_correction``. Directions with large gradients get small
factors, so a narrow valley is crossed without oscillation; it acts on each coordinate by itself and cannot see a valley
that runs diagonally. ``eps`` inside the root is a far larger floor: at 1e-8 the root is never below 1e-4.

State: ``count`` and ``nu``, 4 bytes a parameter; 8 centered; 4 more with momentum. Centered: see ``scale_by_stddev``.
"""

from typing import Any

from jaxopt_lessons import _checks
from jaxopt_lessons.core import chain, gradient_transformation, identity
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.transforms.rms import scale_by_rms
from jaxopt_lessons.transforms.stddev import scale_by_stddev
from jaxopt_lessons.transforms.trace import trace
from jaxopt_lessons.types import DecayRateOrSchedule, NonNegative, NonNegativeOrSchedule


@gradient_transformation
def rmsprop(
    learning_rate: NonNegativeOrSchedule,
    decay: DecayRateOrSchedule = 0.9,
    eps: NonNegativeOrSchedule = 1e-8,
    initial_scale: NonNegative = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: DecayRateOrSchedule | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> Any:
    """RMSprop: divides gradients by their recent root mean square.

    Equivalent to ``chain(scale_by_rms(...), scale_by_learning_rate(learning_rate), trace(momentum, nesterov))``, with
    ``scale_by_stddev`` in the first place if ``centered`` and without the trace if ``momentum`` is None. The momentum
    comes after the learning rate, as in TensorFlow and optax: a new learning rate acts on new gradients only.

    Args:
      learning_rate: a number in ``[0, inf)`` or a schedule.
      decay: the beta of the average of squares, in ``[0, 1)``.
      eps: keeps the denominator away from 0.
      initial_scale: first value of the average of squares.
      eps_in_sqrt: add ``eps`` inside the root (True) or outside (the course, PyTorch).
      centered: divide by the standard deviation, not by the root mean square.
      momentum: decay of a sum of the steps, in ``[0, 1)``; None for none.
      nesterov: look one step ahead; needs ``momentum``.
      bias_correction: divide the averages by ``1 - decay^t`` before use.

    Raises:
      ValueError: ``nesterov`` without ``momentum``, or a number out of range.

    Use it: where a recipe names it, as for reinforcement learning and recurrent networks; for anything new take
      ``adam``, which adds momentum.
    Source: Hinton 2012, Coursera, lecture 6e.
    Lesson: 5, RMSprop.
    """
    _checks.require(
        momentum is not None or not nesterov, "rmsprop: nesterov=True needs a momentum, such as momentum=0.9."
    )
    scaling = scale_by_stddev if centered else scale_by_rms
    return chain(
        scaling(decay, eps, initial_scale, eps_in_sqrt, bias_correction),
        scale_by_learning_rate(learning_rate),
        identity() if momentum is None else trace(momentum, nesterov),
    )
