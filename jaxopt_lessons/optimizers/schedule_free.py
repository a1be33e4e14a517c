"""Schedule-free SGD, AdamW and RAdam: optimizers that average instead of letting the learning rate fall.

    schedule_free_sgd       u_inner = -rate * (g + weight_decay * p)
    schedule_free_adamw     u_inner = -rate * (g / (sqrt(v_hat) + eps) + weight_decay * p)
    schedule_free_radam     the same with rate * rectification(b2, t) in the place of rate

    rate = learning_rate * min(1, (count + 1) / warmup_steps)             count = 0, 1, 2, ...

inside ``schedule_free``, which see. The weights to evaluate are ``eval_params(tx, state, params)``, not ``params``.

The weight decay acts at ``y``, the parameters that are trained, and belongs to ``u_inner``; so it is always multiplied
by the rate (no ``decay`` as in ``adamw``). RAdam's rectification is a warm-up by itself; while it is 0, in the first
four updates with ``b2=0.999``, nothing moves but ``v`` (the authors' ``silent_sgd_phase=True``). Departure from optax:
the warm-up is that of the authors, the first of ``n`` steps being ``1/n`` of the whole; optax's first step is 0 and its
weights run ahead by one.

State: ``z`` and, but for SGD, ``nu``: 4 and 8 bytes a parameter; counts, ``weight_sum``, ``max_lr``.

Adam without momentum is ``scale_by_rms``: no bytes for an empty average.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import GradientTransformation, chain, gradient_transformation, identity
from jaxopt_lessons.schedules.combinators import multiply_schedules
from jaxopt_lessons.schedules.rectification import rectification_schedule
from jaxopt_lessons.schedules.schedule import ScheduleLike, schedule
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.transforms.rms import scale_by_rms
from jaxopt_lessons.transforms.weight_decay import add_decayed_weights
from jaxopt_lessons.types import DecayRate, DecayRateOrSchedule, Fraction, Mask, NonNegativeOrSchedule, Steps
from jaxopt_lessons.wrappers.schedule_free import schedule_free


@schedule
def linear_warmup(peak: ScheduleLike, steps: Steps) -> Any:
    """``peak`` times ``1/steps, 2/steps, ..., 1, 1, ...``.

    Args:
      peak: a schedule or a number.
      steps: from which update on the factor is 1, counting from 1.

    >>> linear_warmup(2.0, 4)(jnp.arange(5))
    Array([0.5, 1. , 1.5, 2. , 2. ], dtype=float32)
    """

    def value(count: jax.Array) -> jax.Array:
        return peak(count) * jnp.minimum(numerics.ratio(numerics.increment(count), steps), 1)

    return value


def _warmed_up(learning_rate: Any, warmup_steps: Any) -> Any:
    return learning_rate if warmup_steps is None else linear_warmup(learning_rate, warmup_steps)


def _adaptive(b2: Any, eps: Any, weight_decay: Any, mask: Any, rate: Any) -> GradientTransformation:
    return chain(
        scale_by_rms(b2, eps, eps_in_sqrt=False, bias_correction=True),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(rate),
    )


@gradient_transformation
def schedule_free_sgd(
    learning_rate: NonNegativeOrSchedule = 1.0,
    warmup_steps: Steps | None = None,
    b1: Fraction = 0.9,
    weight_decay: NonNegativeOrSchedule | None = None,
    weight_lr_power: NonNegativeOrSchedule = 2.0,
    state_dtype: tree.StateDtype = None,
    *,
    mask: Mask | None = None,
    r: NonNegativeOrSchedule = 0.0,
) -> Any:
    """Schedule-free SGD: SGD with averages in the place of a decaying rate.

    Equivalent to ``schedule_free(chain(add_decayed_weights(weight_decay, mask), scale_by_learning_rate(rate)), rate,
    ...)``, without the decay if it is None. Evaluate ``eval_params(tx, state, params)``.

    Args:
      learning_rate: a number in ``[0, inf)`` or a schedule, which should not fall.
      warmup_steps: over how many updates the learning rate rises to its value, from 1 on; None for no warm-up.
      b1: how near to the average the gradients are taken, in ``(0, 1)``: 0.9, or up to 0.98 in long runs.
      weight_decay: in ``[0, inf)``, multiplied by the learning rate; None for none.
      weight_lr_power: the power of the learning rate in the weights of the average, in ``[0, inf)``.
      state_dtype: dtype of ``z``; the parameter's by default, float32 for half precision.
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.
      r: the power of the count in the weights of the average, in ``[0, inf)``.

    Use it: in the place of momentum with a schedule, when the end of the run is not known, at ten times the rate or
      more.
    Paper: see ``schedule_free``.
    Lesson: none.
    """
    rate = _warmed_up(learning_rate, warmup_steps)
    decay = identity() if weight_decay is None else add_decayed_weights(weight_decay, mask)
    return schedule_free(chain(decay, scale_by_learning_rate(rate)), rate, b1, weight_lr_power, state_dtype, r=r)


@gradient_transformation
def schedule_free_adamw(
    learning_rate: NonNegativeOrSchedule = 0.0025,
    warmup_steps: Steps | None = None,
    b1: Fraction = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    weight_decay: NonNegativeOrSchedule = 0.0,
    weight_lr_power: NonNegativeOrSchedule = 2.0,
    state_dtype: tree.StateDtype = None,
    *,
    mask: Mask | None = None,
    r: NonNegativeOrSchedule = 0.0,
) -> Any:
    """Schedule-free AdamW: AdamW with averages in the place of a decaying rate.

    Equivalent to ``schedule_free(chain(scale_by_rms(b2, eps, eps_in_sqrt=False, bias_correction=True),
    add_decayed_weights(weight_decay, mask), scale_by_learning_rate(rate)), rate, ...)``. Evaluate ``eval_params(tx,
    state, params)``.

    Args:
      learning_rate: a number in ``[0, inf)`` or a schedule, which should not fall; up to ten times that of AdamW.
      warmup_steps: over how many updates the learning rate rises to its value, from 1 on; None for no warm-up.
      b1: how near to the average the gradients are taken, in ``(0, 1)``: 0.9, or up to 0.98 in long runs.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      weight_decay: in ``[0, inf)``, multiplied by the learning rate.
      weight_lr_power: the power of the learning rate in the weights of the average, in ``[0, inf)``.
      state_dtype: dtype of ``z``; the parameter's by default, float32 for half precision.
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.
      r: the power of the count in the weights of the average, in ``[0, inf)``.

    Use it: when the end of the run is not known, in the place of AdamW with a schedule: it won AlgoPerf's self-tuning
      track (Kasimbeg et al. 2025, arXiv 2502.15015).
    Paper: see ``schedule_free``.
    Lesson: none.
    """
    rate = _warmed_up(learning_rate, warmup_steps)
    inner = _adaptive(b2, eps, weight_decay, mask, rate)
    return schedule_free(inner, rate, b1, weight_lr_power, state_dtype, r=r)


@gradient_transformation
def schedule_free_radam(
    learning_rate: NonNegativeOrSchedule = 0.0025,
    b1: Fraction = 0.9,
    b2: DecayRate = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    weight_decay: NonNegativeOrSchedule = 0.0,
    weight_lr_power: NonNegativeOrSchedule = 2.0,
    state_dtype: tree.StateDtype = None,
    *,
    mask: Mask | None = None,
    r: NonNegativeOrSchedule = 0.0,
) -> Any:
    """Schedule-free RAdam: schedule-free AdamW with a built-in warm-up.

    Equivalent to ``schedule_free_adamw`` with RAdam's rectification as a factor of the learning rate. Evaluate
    ``eval_params(tx, state, params)``.

    Args:
      learning_rate: a number in ``[0, inf)`` or a schedule, which should not fall; up to ten times that of AdamW.
      b1: how near to the average the gradients are taken, in ``(0, 1)``: 0.9, or up to 0.98 in long runs.
      b2: the beta of the average of squares, in ``[0, 1)``; above 2/3, or nothing ever moves.
      eps: added to the root.
      weight_decay: in ``[0, inf)``, multiplied by the learning rate.
      weight_lr_power: the power of the learning rate in the weights of the average, in ``[0, inf)``.
      state_dtype: dtype of ``z``; the parameter's by default, float32 for half precision.
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.
      r: the power of the count in the weights of the average, in ``[0, inf)``.

    Use it: as ``schedule_free_adamw``, where no warm-up is to be chosen.
    Papers: see ``schedule_free``; the warm-up: Liu et al. 2019, arXiv 1908.03265.
    Lesson: none.
    """
    rate = multiply_schedules(learning_rate, rectification_schedule(b2))
    inner = _adaptive(b2, eps, weight_decay, mask, rate)
    return schedule_free(inner, rate, b1, weight_lr_power, state_dtype, r=r)
