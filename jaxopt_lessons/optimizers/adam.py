"""Adam: momentum, divided by the root mean square, both corrected for their start at zero.

    m = b1 * m + (1 - b1) * g                     momentum: average of the gradients
    v = b2 * v + (1 - b2) * g^2                   RMSprop: average of their squares
    m_hat = m / (1 - b1^t)
    v_hat = v / (1 - b2^t)                        t = 1, 2, ...
    u = m_hat / (sqrt(v_hat + eps_root) + eps)    so far ``scale_by_adam``: the rule is in transforms/adam.py

    p = p - learning_rate * u                     Adam
    p = p - learning_rate * (u + weight_decay * p)    AdamW

Each step is about the learning rate long whatever the scale of the gradients; the first is exactly that
(``u = sign(g)``), and would be 3.16 times as long without the corrections. Defaults: ``b1=0.9`` averages ten gradients,
``b2=0.999`` a thousand squares, and ``eps`` matters only where gradients are below 1e-8 or so. Nesterov: see ``nadam``.

State: ``count``, ``mu``, ``nu``, 8 bytes a parameter. AdamW is not to be confused with Adam on a loss with an L2 term,
where the decay is divided by ``sqrt(v_hat)`` too.
"""

from typing import Any

from jaxopt_lessons import tree
from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.adam import scale_by_adam
from jaxopt_lessons.transforms.decayed_step import Decay, decayed_step
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.types import DecayRateOrSchedule, Mask, NonNegativeOrSchedule


@gradient_transformation
def adam(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
    mu_dtype: tree.StateDtype = None,
    *,
    nesterov: bool = False,
) -> Any:
    """Adam: momentum and RMSprop in one, corrected for starting at zero.

    Equivalent to ``chain(scale_by_adam(...), scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: about the length of each weight's step; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      mu_dtype: dtype of the average of gradients; the parameter's by default, float32 for half precision.
      nesterov: look one step ahead with the momentum.

    Use it: for networks of every kind without weight decay, from 1e-3 down; with decay take ``adamw``.
    Paper: Kingma & Ba 2014, arXiv 1412.6980.
    Lesson: 6, Adam.
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov), scale_by_learning_rate(learning_rate)
    )


@gradient_transformation
def adamw(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
    mu_dtype: tree.StateDtype = None,
    weight_decay: NonNegativeOrSchedule = 1e-4,
    mask: Mask | None = None,
    *,
    nesterov: bool = False,
    decay: Decay = "lr",
) -> Any:
    """AdamW: Adam with decoupled weight decay.

    With Adam's direction ``u``::

        p = p - learning_rate * (u + weight_decay * p)                                  decay="lr"
        p = p - learning_rate * u - learning_rate / peak * weight_decay * p             decay="schedule"
        p = p - learning_rate * u - weight_decay * p                                    decay="independent"

    With ``"schedule"`` another ``peak``, the largest learning rate, is no other decay, and the decay still falls with
    the rate. Where 0.1 is usual for ``"lr"`` with a rate of 1e-3, it is 1e-4 for the other two.

    Equivalent to ``chain(scale_by_adam(...), add_decayed_weights(weight_decay, mask),
    scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: about the length of each weight's step; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      mu_dtype: dtype of the average of gradients; the parameter's by default, float32 for half precision.
      weight_decay: in ``[0, inf)``, multiplied by what ``decay`` says. (PyTorch's default is 1e-2.)
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.
      nesterov: look one step ahead with the momentum.
      decay: what the weight decay is multiplied by: the learning rate (``"lr"``), its course without its height
        (``"schedule"``), or nothing (``"independent"``).

    Raises:
      ValueError: ``decay`` is another word, or ``"schedule"`` where the largest learning rate is not known: of a
        function, or of a product of two schedules.

    Use it: first, for networks of every kind and transformers above all, from 1e-3 down (large ones 3e-4), with a
      warm-up and a decaying rate.
    Paper: Loshchilov & Hutter 2017, arXiv 1711.05101.
    Lesson: 6, Adam.
    """
    return decayed_step(
        "adamw",
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        learning_rate,
        weight_decay,
        mask,
        decay,
    )
