"""NovoGrad: gradients of length 1, layer by layer, and momentum over them.

    v = b2 * v + (1 - b2) * |g|^2                 one number a leaf; v = |g|^2 at the first update
    d = g / (sqrt(v + eps_root) + eps) + weight_decay * p
    m = b1 * m + d                                m = d at the first update
    u = m

    p = p - learning_rate * u

The average of squares forgets almost at once: ``b2=0.25`` (0.98 for ResNet and 0.95 for speech in later versions of the
paper). ``m`` is a sum, not an average: with ``b1=0.9`` steps grow to ten times the first. The decay enters the
momentum, unlike AdamW's. ``novograd`` has ``eps=1e-6`` and ``scale_by_novograd`` 1e-8, as in optax.

State: ``count``, ``mu``, ``nu`` (one number a leaf), 4 bytes a parameter. Infinite and NaN entries are left out of the
norm; they stay in ``m``. A norm whose square would be infinite counts as the largest whose is not.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.types import DecayRateOrSchedule, NonNegativeOrSchedule, Params, Updates


class ScaleByNovogradState(NamedTuple):
    count: jax.Array
    mu: Params
    nu: Params


def novograd_rule(
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    p: jax.Array,
    b1: jax.Array,
    b2: jax.Array,
    eps: jax.Array,
    eps_root: jax.Array,
    weight_decay: jax.Array,
    is_first: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    square = numerics.squarable(numerics.norm(numerics.finite(g))) ** 2
    v = jnp.where(is_first > 0, square, b2 * v + (1 - b2) * square)
    d = g / (numerics.root(v + eps_root) + eps) + weight_decay * p
    m = b1 * m + d
    return m, m, v


@gradient_transformation
def scale_by_novograd(
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.25,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
    weight_decay: NonNegativeOrSchedule = 0.0,
    mu_dtype: tree.StateDtype = None,
) -> Any:
    """Replaces the updates by a decaying sum of gradients that are divided by their leaf's average norm.

    Args:
      b1: how much of the sum stays at each update, in ``[0, 1)``.
      b2: the beta of the average of squared norms, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      weight_decay: of the parameters, into the momentum; in ``[0, inf)``.
      mu_dtype: dtype of ``mu``; the parameter's by default, float32 for half precision.

    Raises:
      InputError: ``update`` was called without ``params``.

    >>> tx = scale_by_novograd()
    >>> params = jnp.zeros(2)
    >>> tx.update(jnp.array([30.0, 40.0]), tx.init(params), params)[0].round(3)
    Array([0.6, 0.8], dtype=float32)
    """

    def init(params: Params) -> ScaleByNovogradState:
        return ScaleByNovogradState(
            count=numerics.zero_count(),
            mu=tree.zeros_like(params, mu_dtype),
            nu=tree.reduced_like(params, axes=lambda leaf: tuple(range(np.ndim(leaf)))),
        )

    def update(updates: Updates, state: ScaleByNovogradState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        updates, m, v = tree.map_leaves(
            novograd_rule,
            updates,
            state.mu,
            state.nu,
            params=params,
            read=(params,),
            states_have_shape=(True, False),
            b1=b1,
            b2=b2,
            eps=eps,
            eps_root=eps_root,
            weight_decay=weight_decay,
            is_first=state.count == 0,
        )
        return updates, ScaleByNovogradState(count=numerics.increment(state.count), mu=m, nu=v)

    return init, update


@gradient_transformation
def novograd(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.25,
    eps: NonNegativeOrSchedule = 1e-6,
    eps_root: NonNegativeOrSchedule = 0.0,
    weight_decay: NonNegativeOrSchedule = 0.0,
) -> Any:
    """NovoGrad: momentum over gradients that are normalized layer by layer.

    Equivalent to ``chain(scale_by_novograd(...), scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: about a tenth of the length of each leaf's step; a number in ``[0, inf)`` or a schedule.
      b1: how much of the sum of directions stays at each update, in ``[0, 1)``.
      b2: the beta of the average of squared norms, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      weight_decay: of the parameters, into the momentum; in ``[0, inf)``.

    Use it: for speech recognition and large batches, where recipes name it, in half of Adam's memory.
    Paper: Ginsburg et al. 2019, arXiv 1905.11286.
    Lesson: none.
    """
    return chain(scale_by_novograd(b1, b2, eps, eps_root, weight_decay), scale_by_learning_rate(learning_rate))
