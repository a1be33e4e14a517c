"""Gaussian noise on the gradients, less of it at each step.

    u = g + sqrt(eta / t^gamma) * normal          t = 1, 2, ...

State: ``count``. The random numbers are a function of the seed, of ``count`` and of the path of the leaf (see
``tree.keys_like``): a run resumed at step 1000 sees the noise it would have seen, and a leaf sees the same noise
whatever other leaves there are. (optax keeps a key in the state, splits it at each step and once more among the leaves:
a new leaf changes the noise of all. Its numbers are others, of the same distribution.) They are drawn in float32 for
every dtype, so that half precision and float64 see the same ones. A complex entry gets noise of variance ``eta /
t^gamma`` in each of its two parts.

Paper: Neelakantan et al. 2015, arXiv 1511.06807, which proposes ``eta`` of 0.01, 0.3 or 1 and ``gamma=0.55``.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.types import NonNegativeOrSchedule, Params, Updates


class AddNoiseState(NamedTuple):
    count: jax.Array


def noise_rule(g: jax.Array, key: jax.Array, variance: jax.Array) -> jax.Array:
    deviation = jnp.where(variance > 0, numerics.root(variance), 0)
    return g + deviation * jax.random.normal(key, g.shape, jnp.float32).astype(g.dtype)


@gradient_transformation
def add_noise(eta: NonNegativeOrSchedule, gamma: NonNegativeOrSchedule, key: tree.Key = 0) -> Any:
    """Adds Gaussian noise of variance ``eta / t^gamma`` to the updates, independent for each entry and step.

    Args:
      eta: variance of the noise at the first step, in ``[0, inf)``.
      gamma: how fast it falls, in ``[0, inf)``; 0 for noise that stays.
      key: where the random numbers start: a seed, or a key of ``jax.random``. A key is a leaf of the transformation:
        another one compiles nothing, and ``vmap`` runs several. A seed is static.

    >>> tx = add_noise(1.0, 0.0, key=7)
    >>> u, state = tx.update(jnp.zeros(10_000), tx.init(jnp.zeros(10_000)))
    >>> float(jnp.std(u).round(1))
    1.0
    """

    def init(params: Params) -> AddNoiseState:
        return AddNoiseState(count=numerics.zero_count())

    def update(updates: Updates, state: AddNoiseState, params: Params | None = None, **extra: Any) -> Any:
        t = numerics.increment(state.count)
        keys = tree.keys_like(jax.random.fold_in(tree.typed_key(key), state.count), updates)
        variance = numerics.as_float(eta) * numerics.as_float(t) ** -numerics.as_float(gamma)
        updates = tree.map_leaves(noise_rule, updates, params=params, read=(keys,), variance=variance)
        return updates, AddNoiseState(count=t)

    return init, update
