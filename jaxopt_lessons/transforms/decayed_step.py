"""The last stages of an optimizer with decoupled weight decay: what the decay is multiplied by.

    p = p - lr * (u + wd * p)                     decay="lr": AdamW in PyTorch, optax and most papers
    p = p - lr * u - lr / peak * wd * p           decay="schedule": Loshchilov & Hutter, with eta_t for lr / peak
    p = p - lr * u - wd * p                       decay="independent"

``u`` is the direction, ``lr`` the learning rate and ``wd`` the weight decay at this update, each of them a number or a
schedule; ``peak`` is the largest value of the learning rate, so that ``lr / peak`` is its course alone, and 1 for a
number.

In the first a rate twice as high is a decay twice as strong: with a new rate the best decay is another. In the second
the two are tuned one after the other, and the decay still falls with the rate. In the third it falls only if ``wd``
does. Weights forget in about ``1 / (lr * wd)`` updates with ``"lr"``, and in ``1 / wd`` with the others: where 0.1 is
usual for ``"lr"`` with a rate of 1e-3, it is 1e-4 for them.

State: the tuple of those of the stages. Paper: Loshchilov & Hutter 2017, arXiv 1711.05101; that the decay's own time
scale is what counts: Wang & Aitchison 2024, arXiv 2405.13698.
"""

from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks
from jaxopt_lessons.core import GradientTransformation, chain
from jaxopt_lessons.schedules.combinators import multiply_schedules
from jaxopt_lessons.schedules.schedule import ScheduleLike, as_schedule, schedule
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.transforms.weight_decay import add_decayed_weights

Decay: TypeAlias = Literal["lr", "schedule", "independent"]
"""What the weight decay is multiplied by: the learning rate, its course alone, or nothing."""


@schedule
def share_of_peak(rate: ScheduleLike) -> Any:
    """A schedule divided by its largest value; 1 if that is 0.

    Args:
      rate: a schedule with a known ``peak``.

    >>> share_of_peak(jl.linear_schedule(0.5, 0.25, 2))(jnp.arange(3))
    Array([1.  , 0.75, 0.5 ], dtype=float32)
    """
    peak = rate.peak

    def value(count: jax.Array) -> jax.Array:
        return jnp.where(peak > 0, rate(count) / jnp.where(peak > 0, peak, 1), 1)

    return rate.timed._replace(value=value)


def decayed_step(
    owner: str, direction: GradientTransformation, learning_rate: Any, weight_decay: Any, mask: Any, decay: str
) -> GradientTransformation:
    """A direction, then the step of the length that the learning rate says, with decoupled weight decay.

    Args:
      owner: the optimizer, to be named in errors.
      direction: a transformation that returns ``u``.
      learning_rate: a number or a schedule.
      weight_decay: a number or a schedule.
      mask: which leaves decay.
      decay: what the decay is multiplied by: ``"lr"``, ``"schedule"`` or ``"independent"``.

    Returns:
      ``chain(direction, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))`` for ``"lr"``,
      else ``chain(direction, scale_by_learning_rate(learning_rate), add_decayed_weights(..., flip_sign=True))``.

    Raises:
      ValueError: another word for ``decay``, or ``"schedule"`` with a learning rate whose largest value is not known.
    """
    _checks.one_of(owner, "decay", decay, get_args(Decay))
    if decay == "lr":
        return chain(direction, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))
    if decay == "schedule" and callable(learning_rate):
        rate = as_schedule(owner, "learning_rate", learning_rate)
        _checks.require(
            rate.peak is not None,
            lambda: (
                f"{owner}: decay='schedule' needs a learning rate with a known largest value, and that of "
                f"{learning_rate!r} is not known. Write decay='independent', and give weight_decay a schedule."
            ),
        )
        weight_decay = multiply_schedules(weight_decay, share_of_peak(rate))
    return chain(
        direction, scale_by_learning_rate(learning_rate), add_decayed_weights(weight_decay, mask, flip_sign=True)
    )
