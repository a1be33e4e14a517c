"""LAMB: AdamW in which the step of each leaf is as long as the learning rate says, relative to the leaf.

    u = Adam's direction, see ``scale_by_adam``
    d = u + weight_decay * p
    p = p - learning_rate * |p| / |d| * d         |.|: the norm of a leaf; the factor is 1 where a norm is 0

State: ``count``, ``mu``, ``nu``, 8 bytes a parameter. Not to be confused with ``lars``, which does so to gradients,
before their momentum.
"""

from typing import Any

from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.adam import scale_by_adam
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.transforms.trust_ratio import scale_by_trust_ratio
from jaxopt_lessons.transforms.weight_decay import add_decayed_weights
from jaxopt_lessons.types import DecayRateOrSchedule, Mask, NonNegativeOrSchedule


@gradient_transformation
def lamb(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-6,
    eps_root: NonNegativeOrSchedule = 0.0,
    weight_decay: NonNegativeOrSchedule = 0.0,
    mask: Mask | None = None,
) -> Any:
    """LAMB: AdamW with each layer's step proportional to the layer.

    Equivalent to ``chain(scale_by_adam(...), add_decayed_weights(weight_decay, mask), scale_by_trust_ratio(),
    scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: the relative length of each leaf's step; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      weight_decay: in ``[0, inf)``, added to Adam's direction before its norm is taken.
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.

    Use it: to reproduce recipes with batches of many thousands; a tuned ``adamw`` does as well there (Nado et al. 2021,
      arXiv 2102.06356).
    Paper: You et al. 2019, arXiv 1904.00962.
    Lesson: none.
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_trust_ratio(),
        scale_by_learning_rate(learning_rate),
    )
