"""DP-SGD: gradient descent that keeps its examples private.

    g = (sum over examples of g_i * min(1, l2_norm_clip / |g_i|) + l2_norm_clip * noise_multiplier * normal) / examples
    p = p - learning_rate * g                     or with a momentum m = momentum * m + g

``update`` gets the gradients of single examples: see ``differentially_private_aggregate``, where the random numbers are
described too. What follows the aggregation, momentum and learning rate, sees private numbers only
and costs no privacy: in the place of these any optimizer may stand, as in
``chain(differentially_private_aggregate(1.0, 1.1, key), adam(1e-3))``.

State: the ``count`` of the noise and that of the learning rate, 0 bytes a parameter; ``trace``, 4, with momentum.
"""

from typing import Any

from jaxopt_lessons import _checks, tree
from jaxopt_lessons.core import chain, gradient_transformation, identity
from jaxopt_lessons.transforms.differential_privacy import differentially_private_aggregate
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.transforms.trace import trace
from jaxopt_lessons.types import DecayRateOrSchedule, NonNegativeOrSchedule


@gradient_transformation
def dpsgd(
    learning_rate: NonNegativeOrSchedule,
    l2_norm_clip: NonNegativeOrSchedule,
    noise_multiplier: NonNegativeOrSchedule,
    seed: tree.Key,
    momentum: DecayRateOrSchedule | None = None,
    nesterov: bool = False,
) -> Any:
    """DP-SGD: gradient descent with clipped examples and noise, for privacy.

    Equivalent to ``chain(differentially_private_aggregate(l2_norm_clip, noise_multiplier, seed), trace(momentum,
    nesterov), scale_by_learning_rate(learning_rate))``, without the trace if ``momentum`` is None.

    Args:
      learning_rate: a number in ``[0, inf)`` or a schedule.
      l2_norm_clip: the largest norm of one example's gradient over all leaves, in ``[0, inf)``.
      noise_multiplier: the standard deviation of the noise on the sum, in multiples of ``l2_norm_clip``; in ``[0,
        inf)``.
      seed: where the random numbers start: a seed, which is static, or a key of ``jax.random``, a leaf.
      momentum: decay of the sum of gradients, in ``[0, 1)``; None for no momentum, and no state for it.
      nesterov: look one step ahead; needs ``momentum``.

    Raises:
      ValueError: ``nesterov`` without ``momentum``, or a number out of range.

    Use it: where the model must not give its examples away; large batches and a ``noise_multiplier`` of about 1, with
      an accountant for the guarantee.
    Paper: Abadi et al. 2016, arXiv 1607.00133.
    Lesson: none.
    """
    _checks.require(
        momentum is not None or not nesterov, "dpsgd: nesterov=True needs a momentum, such as momentum=0.9."
    )
    return chain(
        differentially_private_aggregate(l2_norm_clip, noise_multiplier, seed),
        identity() if momentum is None else trace(momentum, nesterov),
        scale_by_learning_rate(learning_rate),
    )
