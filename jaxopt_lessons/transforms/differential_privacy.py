"""The mean of the examples' gradients, made so that no example can be found in it.

    s = sum over examples of g_i * min(1, l2_norm_clip / |g_i|)
    u = (s + l2_norm_clip * noise_multiplier * normal) / examples

``update`` gets the gradients of single examples, arrays with a first axis of examples in front of the parameters'
shapes, and returns updates in the shapes of the parameters: it stands first in a chain. With ``jax.vmap`` they are::

    grads = jax.vmap(jax.grad(loss), in_axes=(None, 0))(params, batch)
    updates, state = tx.update(grads, state, params)

How private that is depends on the noise, the share of examples in a batch and the number of steps; an accountant (the
package ``dp-accounting``) says it. Examples must then be drawn independently, not in epochs. Averages over several
updates would divide the noise too late: give it whole batches.

State: ``count``. The random numbers are a function of the key, of ``count`` and of the path of the leaf, as those of
``add_noise``; optax keeps a key in the state and has other numbers of the same distribution. An example with an
infinite or NaN entry makes the updates NaN.

Paper: Abadi et al. 2016, arXiv 1607.00133.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _tree_checks, numerics, tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.transforms.per_example import clipped_sum
from jaxopt_lessons.types import NonNegativeOrSchedule, Params, Updates


class DifferentiallyPrivateAggregateState(NamedTuple):
    count: jax.Array


def noisy_mean_rule(s: jax.Array, key: jax.Array, deviation: jax.Array, examples: jax.Array) -> jax.Array:
    return (s + deviation * jax.random.normal(key, s.shape, jnp.float32).astype(s.dtype)) / examples


@gradient_transformation
def differentially_private_aggregate(
    l2_norm_clip: NonNegativeOrSchedule, noise_multiplier: NonNegativeOrSchedule, key: tree.Key
) -> Any:
    """Replaces gradients of single examples by their mean, each clipped and the sum hidden in noise.

    Args:
      l2_norm_clip: the largest norm of one example's gradient over all leaves, in ``[0, inf)``.
      noise_multiplier: the standard deviation of the noise on the sum, in multiples of ``l2_norm_clip``; in ``[0,
        inf)``, about 1 for privacy.
      key: where the random numbers start: a seed, which is static, or a key of ``jax.random``, a leaf. Who knows it can
        take the noise off.

    Raises:
      InputError: the gradients have no first axis of examples in common.

    >>> tx = differentially_private_aggregate(1.0, noise_multiplier=0.0, key=0)
    >>> params = jnp.zeros(2)
    >>> tx.update(jnp.array([[0.0, 8.0], [0.5, 0.0]]), tx.init(params), params)[0]  # of two examples
    Array([0.25, 0.5 ], dtype=float32)
    """

    def init(params: Params) -> DifferentiallyPrivateAggregateState:
        return DifferentiallyPrivateAggregateState(count=numerics.zero_count())

    def update(
        updates: Updates,
        state: DifferentiallyPrivateAggregateState,
        params: Params | None = None,
        **extra: Any,
    ) -> Any:
        _tree_checks.examples(updates)
        sums, _ = clipped_sum(tree.widen(updates), l2_norm_clip)
        reference = jax.tree.map(lambda leaf: leaf[0], updates) if params is None else params
        keys = tree.keys_like(jax.random.fold_in(tree.typed_key(key), state.count), sums)
        updates = tree.map_leaves(
            noisy_mean_rule,
            sums,
            params=reference,
            read=(keys,),
            deviation=numerics.as_float(l2_norm_clip) * numerics.as_float(noise_multiplier),
            examples=max([np.shape(leaf)[0] for leaf in jax.tree.leaves(updates)], default=1),
        )
        return updates, DifferentiallyPrivateAggregateState(count=numerics.increment(state.count))

    return init, update
