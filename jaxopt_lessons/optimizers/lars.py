"""LARS: momentum, with each layer's step in proportion to the layer.

    d = g + weight_decay * p
    r = trust_coefficient * |p| / (|d| + eps)     1 where |p| or |d| is 0; norms of the whole leaf
    m = momentum * m + learning_rate * r * d
    p = p - m                                     or p - (momentum * m + learning_rate * r * d), Nesterov

Made for ResNets with batches of thousands of images, where the ratio of weight to gradient differs a hundredfold from
layer to layer and one learning rate suits none. Biases and normalization layers are usually left out with the masks:
``lambda path, leaf: leaf.ndim > 1``. The momentum comes after the learning rate, as in the paper and in optax: a new
learning rate acts on new gradients only.

State: ``trace``, 4 bytes a parameter, and the learning rate's ``count``. The paper has
``|g| + weight_decay * |p|`` in the place of the norm of the sum ``d``. Not to be confused with LAMB, the same for Adam.
"""

from typing import Any

from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.transforms.trace import trace
from jaxopt_lessons.transforms.trust_ratio import scale_by_trust_ratio
from jaxopt_lessons.transforms.weight_decay import add_decayed_weights
from jaxopt_lessons.types import DecayRateOrSchedule, Mask, NonNegativeOrSchedule


@gradient_transformation
def lars(
    learning_rate: NonNegativeOrSchedule,
    weight_decay: NonNegativeOrSchedule = 0.0,
    weight_decay_mask: Mask | None = True,
    trust_coefficient: NonNegativeOrSchedule = 0.001,
    eps: NonNegativeOrSchedule = 0.0,
    trust_ratio_mask: Mask | None = True,
    momentum: DecayRateOrSchedule = 0.9,
    nesterov: bool = False,
) -> Any:
    """LARS: momentum with each layer's step proportional to the layer.

    Equivalent to ``chain(add_decayed_weights(weight_decay, weight_decay_mask), scale_by_trust_ratio(...),
    scale_by_learning_rate(learning_rate), trace(momentum, nesterov))``.

    Args:
      learning_rate: a number in ``[0, inf)`` or a schedule.
      weight_decay: in ``[0, inf)``, added to the gradient before its norm is taken.
      weight_decay_mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``.
      trust_coefficient: the relative length of a step of learning rate 1, in ``[0, inf)``.
      eps: added to the norm of the gradient, in ``[0, inf)``.
      trust_ratio_mask: which leaves' steps are in proportion to the leaf, in the same ways.
      momentum: decay of the sum of steps, in ``[0, 1)``.
      nesterov: look one step ahead.

    Use it: to reproduce recipes for ResNets with batches of thousands; tuned Nesterov momentum does as well there (Nado
      et al. 2021, arXiv 2102.06356).
    Paper: You, Gitman & Ginsburg 2017, arXiv 1708.03888.
    Lesson: none.
    """
    return chain(
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_trust_ratio(trust_coefficient=trust_coefficient, eps=eps, mask=trust_ratio_mask),
        scale_by_learning_rate(learning_rate),
        trace(momentum, nesterov),
    )
