"""Adadelta: RMSprop that finds the length of its steps in its own past.

    e_g = rho * e_g + (1 - rho) * g^2             average of squared gradients
    u = sqrt(e_x + eps) / sqrt(e_g + eps) * g
    e_x = rho * e_x + (1 - rho) * u^2             average of squared steps
    p = p - learning_rate * u                     learning_rate=1 in the paper

The root of ``e_x`` has the unit of the weights, so the step has it too, whatever the unit of the loss. ``eps`` is not
only a safeguard: both averages start at 0 and the first step is ``sqrt(eps / (1 - rho))`` long, 3e-3 at the defaults.
It grows from there, slowly; with ``eps = 0`` it would be 0 for ever, so that is refused. Weight decay is L2 here, added
to the gradient before the scaling, as in optax and PyTorch.

State: ``e_g`` and ``e_x``, 8 bytes a parameter (and the learning rate's ``count``).
"""

from typing import Any, NamedTuple

import jax

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.transforms.weight_decay import add_decayed_weights
from jaxopt_lessons.types import DecayRateOrSchedule, Mask, NonNegativeOrSchedule, Params, PositiveOrSchedule, Updates


class ScaleByAdaDeltaState(NamedTuple):
    e_g: Params
    e_x: Params


def adadelta_rule(
    g: jax.Array, e_g: jax.Array, e_x: jax.Array, rho: jax.Array, eps: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    g = numerics.squarable(g)
    e_g = rho * e_g + (1 - rho) * g**2
    u = numerics.root(e_x + eps) * (g / numerics.root(e_g + eps))
    e_x = rho * e_x + (1 - rho) * u**2
    return u, e_g, e_x


@gradient_transformation
def scale_by_adadelta(rho: DecayRateOrSchedule = 0.9, eps: PositiveOrSchedule = 1e-6) -> Any:
    """Scales the updates by the ratio of the root mean squares of past steps and past gradients.

    Args:
      rho: the beta of both averages, in ``[0, 1)``.
      eps: added inside both roots, in ``(0, inf)``; the first steps are as long as it lets them be.

    >>> tx = scale_by_adadelta(0.0, eps=1e-4)
    >>> tx.update(jnp.array([3.0, -30.0]), tx.init(jnp.zeros(2)))[0].round(4)
    Array([ 0.01, -0.01], dtype=float32)
    """

    def init(params: Params) -> ScaleByAdaDeltaState:
        return ScaleByAdaDeltaState(e_g=tree.zeros_like(params), e_x=tree.zeros_like(params))

    def update(updates: Updates, state: ScaleByAdaDeltaState, params: Params | None = None, **extra: Any) -> Any:
        updates, e_g, e_x = tree.map_leaves(
            adadelta_rule, updates, state.e_g, state.e_x, params=params, rho=rho, eps=eps
        )
        return updates, ScaleByAdaDeltaState(e_g=e_g, e_x=e_x)

    return init, update


@gradient_transformation
def adadelta(
    learning_rate: NonNegativeOrSchedule = 1.0,
    rho: DecayRateOrSchedule = 0.9,
    eps: PositiveOrSchedule = 1e-6,
    weight_decay: NonNegativeOrSchedule = 0.0,
    weight_decay_mask: Mask | None = None,
) -> Any:
    """Adadelta: RMSprop that takes its step length from past steps.

    Equivalent to ``chain(add_decayed_weights(weight_decay, weight_decay_mask), scale_by_adadelta(rho, eps),
    scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: a number in ``[0, inf)`` or a schedule; the paper has none, which is 1.
      rho: the beta of both averages, in ``[0, 1)``.
      eps: added inside both roots, in ``(0, inf)``; the first steps are as long as it lets them be.
      weight_decay: L2 regularization, in ``[0, inf)``: added to the gradient, before the scaling.
      weight_decay_mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``.
        None: all.

    Use it: to reproduce older work; it starts slowly, and Adam has taken its place.
    Paper: Zeiler 2012, arXiv 1212.5701.
    Lesson: none.
    """
    return chain(
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_adadelta(rho, eps),
        scale_by_learning_rate(learning_rate),
    )
