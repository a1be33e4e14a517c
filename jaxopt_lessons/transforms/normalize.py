"""Updates of a given length: the gradient's direction, and nothing of its size.

    normalize                   u = g / |g|                               0 where g is 0
    normalize_by_update_norm    u = scale_factor * g / (|g| + eps)

where ``|g|`` is the Euclidean norm of all leaves together. Normalized gradient descent crosses plateaus and survives
cliffs with steps of one length; it comes to rest only if the learning rate does. State: none.

The norm is calculated without overflow and leaves infinite and NaN entries out, which stay as they are. Where optax
gives NaN for a gradient of zeros (``normalize``, and ``normalize_by_update_norm(eps=0)``) the update is 0 here.

Not to be confused with ``clip_by_global_norm``, which leaves short gradients alone.
"""

from typing import Any

import jax

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import EmptyState, gradient_transformation
from jaxopt_lessons.types import NonNegativeOrSchedule, Params, ScalarOrSchedule, Updates


def normalize_rule(g: jax.Array, length: jax.Array, scale: jax.Array, scale_factor: jax.Array, eps: jax.Array) -> Any:
    return g / scale / numerics.divisor(length + eps / scale) * scale_factor


def finite_rule(g: jax.Array) -> jax.Array:
    return numerics.finite(g)


@gradient_transformation
def normalize() -> Any:
    """Divides the updates by the Euclidean norm of all leaves together.

    >>> tx = normalize()
    >>> tx.update(jnp.array([30.0, 40.0]), tx.init(jnp.zeros(2)))[0].round(3)
    Array([0.6, 0.8], dtype=float32)
    """
    return normalize_by_update_norm(1.0, 0.0)


@gradient_transformation
def normalize_by_update_norm(scale_factor: ScalarOrSchedule = 1.0, eps: NonNegativeOrSchedule = 1e-6) -> Any:
    """Divides the updates by the Euclidean norm of all leaves together, and multiplies them by a number.

    Args:
      scale_factor: the length of the new updates; ``-learning_rate`` makes normalized gradient descent.
      eps: added to the norm, in ``[0, inf)``.

    >>> tx = normalize_by_update_norm(scale_factor=-10.0, eps=0.0)
    >>> tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.zeros(2)))[0]
    Array([-6., -8.], dtype=float32)
    """

    def init(params: Params) -> EmptyState:
        return EmptyState()

    def update(updates: Updates, state: EmptyState, params: Params | None = None, **extra: Any) -> Any:
        length, scale = tree.scaled_global_norm(tree.map_leaves(finite_rule, updates))
        updates = tree.map_leaves(
            normalize_rule, updates, params=params, length=length, scale=scale, scale_factor=scale_factor, eps=eps
        )
        return updates, state

    return init, update
