"""NAdam and NAdamW: Adam with Nesterov's momentum, which looks one step ahead.

    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g^2
    m_hat = b1 * m / (1 - b1^(t+1)) + (1 - b1) * g / (1 - b1^t)       t = 1, 2, ...
    v_hat = v / (1 - b2^t)
    u = m_hat / (sqrt(v_hat + eps_root) + eps)

    p = p - learning_rate * u                     NAdam
    p = p - learning_rate * (u + weight_decay * p)    NAdamW

Adam's ``m_hat``, with one more step of the average in which the present gradient stands for the next. As in optax;
Dozat's paper and PyTorch also let the momentum warm up: ``nadam_dozat``.

State: ``count``, ``mu``, ``nu``, 8 bytes a parameter.
"""

from typing import Any

from jaxopt_lessons import tree
from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.adam import scale_by_adam
from jaxopt_lessons.transforms.decayed_step import Decay, decayed_step
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.types import DecayRateOrSchedule, Mask, NonNegativeOrSchedule


@gradient_transformation
def nadam(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
    mu_dtype: tree.StateDtype = None,
) -> Any:
    """NAdam: Adam that looks one step ahead, at constant momentum.

    Equivalent to ``adam(..., nesterov=True)``. Not PyTorch's NAdam, whose momentum warms up: that is ``nadam_dozat``.

    Args:
      learning_rate: about the length of each weight's step; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      mu_dtype: dtype of the average of gradients; the parameter's by default, float32 for half precision.

    Use it: as ``adam``, of which it is the better by a little when both are tuned (Choi et al. 2019, arXiv 1910.05446).
    Paper: Dozat 2016, Incorporating Nesterov Momentum into Adam.
    Lesson: none.
    """
    return chain(scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=True), scale_by_learning_rate(learning_rate))


@gradient_transformation
def nadamw(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
    mu_dtype: tree.StateDtype = None,
    weight_decay: NonNegativeOrSchedule = 1e-4,
    mask: Mask | None = None,
    *,
    decay: Decay = "lr",
) -> Any:
    """NAdamW: NAdam with decoupled weight decay.

    Equivalent to ``adamw(..., nesterov=True)``.

    Args:
      learning_rate: about the length of each weight's step; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      mu_dtype: dtype of the average of gradients; the parameter's by default, float32 for half precision.
      weight_decay: in ``[0, inf)``, multiplied by what ``decay`` says.
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.
      decay: what the weight decay is multiplied by: the learning rate (``"lr"``), its course without its height
        (``"schedule"``), or nothing (``"independent"``): see ``adamw``.

    Use it: as ``adamw``, where the run is long and tuned: the baseline of the AlgoPerf benchmark.
    Papers: see ``nadam``; the benchmark: Dahl et al. 2023, arXiv 2306.07179.
    Lesson: none.
    """
    return decayed_step(
        "nadamw",
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=True),
        learning_rate,
        weight_decay,
        mask,
        decay,
    )
