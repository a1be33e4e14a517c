"""A learning rate that falls when the loss no longer does: reduce on plateau.

    avg_value = mean of the last accumulation_size values
    better = avg_value < (1 - rtol) * best_value - atol               then best_value = avg_value
    plateau_count = 0 if better, else plateau_count + 1
    where plateau_count = patience: scale = max(factor * scale, min_scale), plateau_count = 0,
                                    and plateau_count stays 0 for the next ``cooldown`` means
    u = scale * g

``value`` is the loss of the batch, or anything that ought to become small: a validation loss, an error rate. Judged
are means of ``accumulation_size`` values, one for each update: with the updates of an epoch, the mean loss of each
epoch. Behind an optimizer it scales the learning rate: ``chain(adam(1e-3), reduce_on_plateau(accumulation_size=100))``.

A value that is infinite or NaN counts as the mean of those before it (as the first finite one, if there are none), so
it spoils no mean; a mean of such values alone is no improvement. Departures from optax: there they spoil the mean; the
state is float32 here for half precision too.

Not to be confused with PyTorch's ``ReduceLROnPlateau``, whose ``patience`` is one less: the number of bad epochs that
pass without a reduction.

State: ``scale``, ``best_value``, ``plateau_count``, ``cooldown_count``, ``count`` (values in the mean so far),
``avg_value``; 24 bytes in all.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import Functions, gradient_transformation
from jaxopt_lessons.transforms.scale import scale_rule
from jaxopt_lessons.types import Fraction, NonNegative, Offset, Params, Steps, Updates, Weight


class ReduceLROnPlateauState(NamedTuple):
    scale: jax.Array
    best_value: jax.Array
    plateau_count: jax.Array
    cooldown_count: jax.Array
    count: jax.Array
    avg_value: jax.Array


@gradient_transformation
def reduce_on_plateau(
    factor: Fraction = 0.1,
    patience: Steps = 10,
    rtol: Weight = 1e-4,
    atol: NonNegative = 0.0,
    cooldown: Offset = 0,
    accumulation_size: Steps = 1,
    min_scale: Weight = 0.0,
) -> Any:
    """Multiplies the updates by a factor that falls when the values have stopped improving.

    ``update`` needs ``value=``, the loss: ``tx.update(grads, state, params, value=loss)``.

    Args:
      factor: what the scale is multiplied by, in ``(0, 1)``.
      patience: means in a row without an improvement that lead to a reduction, at least 1.
      rtol: by which share of the best mean a mean must be smaller to be an improvement, in ``[0, 1]``.
      atol: and by how much, in ``[0, inf)``; one of the two must be above 0.
      cooldown: means after a reduction that are not judged.
      accumulation_size: values, and so updates, in a mean.
      min_scale: the scale falls no further, in ``[0, 1]``.

    Raises:
      ValueError: ``rtol`` and ``atol`` are both 0.
      InputError: ``update`` was called without ``value``, or with one that is not a number.

    >>> tx = reduce_on_plateau(factor=0.5, patience=2)
    >>> state = tx.init(jnp.zeros(1))
    >>> for loss in (3.0, 2.0, 2.0, 2.0):  # twice no better than before
    ...     updates, state = tx.update(jnp.array([8.0]), state, value=loss)
    >>> updates
    Array([4.], dtype=float32)
    """
    _checks.require(
        any(isinstance(tolerance, Tracer) or tolerance > 0 for tolerance in (rtol, atol)),
        "reduce_on_plateau: rtol, atol or both must be above 0.",
    )

    def init(params: Params) -> ReduceLROnPlateauState:
        return ReduceLROnPlateauState(
            scale=tree.scalar_like(params, 1),
            best_value=tree.scalar_like(params, jnp.inf),
            plateau_count=numerics.zero_count(),
            cooldown_count=numerics.zero_count(),
            count=numerics.zero_count(),
            avg_value=tree.scalar_like(params, 0),
        )

    def update(
        updates: Updates, state: ReduceLROnPlateauState, params: Params | None = None, *, value: jax.Array, **extra: Any
    ) -> Any:
        dtype = state.avg_value.dtype
        loss, f, relative, absolute, least = numerics.scalars(
            dtype, _checks.loss_value(value), factor, rtol, atol, min_scale
        )
        count = numerics.increment(state.count)
        mean = _mean(state.avg_value, loss, state.count, count)
        judged = _judged(state, mean, f, relative, absolute, least, patience, cooldown)
        state = tree.select(count >= accumulation_size, judged, state._replace(count=count, avg_value=mean))
        return tree.map_leaves(scale_rule, updates, params=params, step_size=state.scale), state

    return Functions(init, update, readings=lambda state: {"scale": state.scale})


def _mean(mean: jax.Array, value: jax.Array, before: jax.Array, count: jax.Array) -> jax.Array:
    """The mean with one more value; infinite while there is no finite one."""
    begins = (before == 0) | ~jnp.isfinite(mean)
    with_it = jnp.where(begins, value, numerics.toward(mean, value, 1 / count.astype(mean.dtype)))
    without = jnp.where(before == 0, jnp.inf, mean)
    return jnp.where(jnp.isfinite(value), with_it, without)


def _judged(
    state: ReduceLROnPlateauState,
    mean: jax.Array,
    factor: jax.Array,
    rtol: jax.Array,
    atol: jax.Array,
    min_scale: jax.Array,
    patience: Any,
    cooldown: Any,
) -> ReduceLROnPlateauState:
    """The state after a whole mean."""
    first = jnp.isinf(state.best_value)
    better = jnp.isfinite(mean) & (first | (mean < (1 - rtol) * state.best_value - atol))
    cools = state.cooldown_count > 0
    plateau = jnp.where(better | cools, 0, numerics.increment(state.plateau_count))
    reduce = plateau >= patience
    rest = jnp.where(cools, state.cooldown_count - 1, jnp.where(reduce, cooldown, 0))
    return ReduceLROnPlateauState(
        scale=jnp.where(reduce, jnp.maximum(factor * state.scale, min_scale), state.scale),
        best_value=jnp.where(better, mean, state.best_value),
        plateau_count=jnp.where(reduce, 0, plateau),
        cooldown_count=rest.astype(state.cooldown_count.dtype),
        count=jnp.zeros_like(state.count),
        avg_value=jnp.zeros_like(state.avg_value),
    )
