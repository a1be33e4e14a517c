"""Lion: signs of a momentum that looks ahead.

    u = sign(b1 * m + (1 - b1) * g)               the direction leans more on the new gradient ...
    m = b2 * m + (1 - b2) * g                     ... than the average that is kept: b1 < b2
    p = p - learning_rate * (u + weight_decay * p)

Found by a search over programs. Every step has the same length, several times Adam's: use a learning rate three to ten
times smaller than AdamW's and a weight decay as many times larger. Like all sign methods it needs large batches.

``mode="hard"`` is Lion. The two others are optax's, for steps that fade near a minimum: ``"smooth"`` has
``tanh(smooth_beta * x)`` in the place of ``sign(x)``, ``"refined"`` has ``x`` itself, limited to ``[-1, 1]``.

State: ``count``, ``mu``, 4 bytes a parameter (2 with ``mu_dtype=bfloat16``). A complex entry is a pair of real ones. An
infinite or NaN entry passes as it is, to be seen. With both betas 0 Lion is sign descent, with equal ones signum.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.transforms.decayed_step import Decay, decayed_step
from jaxopt_lessons.types import DecayRateOrSchedule, Mask, NonNegativeOrSchedule, Params, Positive, Updates


class ScaleByLionState(NamedTuple):
    count: jax.Array
    mu: Params


def lion_rule(
    g: jax.Array, m: jax.Array, b1: jax.Array, b2: jax.Array, smooth_beta: jax.Array, mode: str
) -> tuple[jax.Array, jax.Array]:
    x = b1 * m + (1 - b1) * g
    if mode == "hard":
        u = numerics.sign(x)
    else:
        limited = jnp.tanh(smooth_beta * x) if mode == "smooth" else jnp.clip(x, -1, 1)
        u = jnp.where(jnp.isfinite(x), limited, x)
    m = b2 * m + (1 - b2) * g
    return u, m


@gradient_transformation
def scale_by_lion(
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.99,
    mu_dtype: tree.StateDtype = None,
    *,
    mode: Literal["hard", "smooth", "refined"] = "hard",
    smooth_beta: Positive = 1.0,
) -> Any:
    """Replaces the updates by Lion's direction.

    Args:
      b1: weight of the average in the direction, in ``[0, 1)``.
      b2: the beta of the average, in ``[0, 1)``.
      mu_dtype: dtype of ``mu``; the parameter's by default, float32 for half precision.
      mode: ``"hard"`` for signs, ``"smooth"`` for the hyperbolic tangent, ``"refined"`` for values limited to
        ``[-1, 1]``.
      smooth_beta: what the hyperbolic tangent's argument is multiplied by, in ``(0, inf)``.

    Raises:
      ValueError: an unknown mode, or a number out of range.

    >>> tx = scale_by_lion(b1=0.5, b2=0.9)
    >>> u, state = tx.update(jnp.array([1.0]), tx.init(jnp.zeros(1)))
    >>> tx.update(jnp.array([-0.2]), state)[0]  # the new gradient outweighs the average of 0.1
    Array([-1.], dtype=float32)
    """

    def init(params: Params) -> ScaleByLionState:
        return ScaleByLionState(count=numerics.zero_count(), mu=tree.zeros_like(params, mu_dtype))

    def update(updates: Updates, state: ScaleByLionState, params: Params | None = None, **extra: Any) -> Any:
        updates, m = tree.map_leaves(
            lion_rule, updates, state.mu, params=params, b1=b1, b2=b2, smooth_beta=smooth_beta, mode=mode
        )
        return updates, ScaleByLionState(count=numerics.increment(state.count), mu=m)

    return init, update


@gradient_transformation
def lion(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.99,
    mu_dtype: tree.StateDtype = None,
    weight_decay: NonNegativeOrSchedule = 1e-3,
    mask: Mask | None = None,
    *,
    decay: Decay = "lr",
) -> Any:
    """Lion: signs of a look-ahead momentum, with decoupled weight decay.

    Equivalent to ``chain(scale_by_lion(b1, b2, mu_dtype), add_decayed_weights(weight_decay, mask),
    scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: the length of each weight's step; a number in ``[0, inf)`` or a schedule. A third to a tenth of
        Adam's.
      b1: weight of the average in the direction, in ``[0, 1)``.
      b2: the beta of the average, in ``[0, 1)``.
      mu_dtype: dtype of the average; the parameter's by default, float32 for half precision.
      weight_decay: in ``[0, inf)``, multiplied by what ``decay`` says. Three to ten times AdamW's.
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.
      decay: what the weight decay is multiplied by: the learning rate (``"lr"``), its course without its height
        (``"schedule"``), or nothing (``"independent"``): see ``adamw``.

    Use it: for large batches in half of Adam's memory, with a third to a tenth of AdamW's learning rate and as many
      times its decay; poor in small batches.
    Paper: Chen et al. 2023, arXiv 2302.06675.
    Lesson: none.
    """
    return decayed_step("lion", scale_by_lion(b1, b2, mu_dtype), learning_rate, weight_decay, mask, decay)
