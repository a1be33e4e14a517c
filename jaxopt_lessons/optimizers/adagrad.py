"""Adagrad: divide each gradient by the root of the sum of all its squares so far.

    s = s + g^2                                   s starts at initial_accumulator_value
    u = g / sqrt(s + eps)                         0 where s = 0

The steps shrink like ``1/sqrt(t)`` by themselves, faster for weights that got many large gradients. Good for sparse
features; for deep networks the sum grows for ever, which RMSprop repairs by forgetting. ``eps`` stands inside the root
(as in optax; outside in PyTorch and in the paper). State: ``sum_of_squares``, 4 bytes a parameter.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.types import NonNegative, NonNegativeOrSchedule, Params, Updates


class ScaleByRssState(NamedTuple):
    sum_of_squares: Params


def rss_rule(g: jax.Array, s: jax.Array, eps: jax.Array) -> tuple[jax.Array, jax.Array]:
    g = numerics.squarable(g)
    s = jnp.minimum(s + g**2, jnp.finfo(s.dtype).max)
    return g / numerics.root(s + eps), s


@gradient_transformation
def scale_by_rss(initial_accumulator_value: NonNegative = 0.1, eps: NonNegativeOrSchedule = 1e-7) -> Any:
    """Divides the updates by the root of the sum of their squares to date.

    Args:
      initial_accumulator_value: first value of the sum.
      eps: added to the sum inside the root.

    >>> tx = scale_by_rss(0.0, eps=0.0)
    >>> u, state = tx.update(jnp.array([3.0]), tx.init(jnp.zeros(1)))
    >>> tx.update(jnp.array([4.0]), state)[0]  # 4 / sqrt(9 + 16)
    Array([0.8], dtype=float32)
    """

    def init(params: Params) -> ScaleByRssState:
        return ScaleByRssState(sum_of_squares=tree.full_like(params, initial_accumulator_value))

    def update(updates: Updates, state: ScaleByRssState, params: Params | None = None, **extra: Any) -> Any:
        updates, s = tree.map_leaves(rss_rule, updates, state.sum_of_squares, params=params, eps=eps)
        return updates, ScaleByRssState(sum_of_squares=s)

    return init, update


@gradient_transformation
def adagrad(
    learning_rate: NonNegativeOrSchedule,
    initial_accumulator_value: NonNegative = 0.1,
    eps: NonNegativeOrSchedule = 1e-7,
) -> Any:
    """Adagrad: divides gradients by the root of their summed squares.

    Equivalent to ``chain(scale_by_rss(...), scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: a number in ``[0, inf)`` or a schedule.
      initial_accumulator_value: first value of the sum of squares.
      eps: added to the sum inside the root.

    Use it: for sparse features: linear models, embeddings, click prediction; in long runs of deep networks its steps
      die out.
    Paper: Duchi, Hazan & Singer 2011.
    Lesson: none.
    """
    return chain(scale_by_rss(initial_accumulator_value, eps), scale_by_learning_rate(learning_rate))
