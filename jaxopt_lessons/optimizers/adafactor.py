"""Adafactor: RMSprop whose averages of squares are kept as row and column means.

    rate = 1 - t^-decay_rate                      t = 1, 2, ...: 0 at the first update, then ever closer to 1
    s = g^2 + eps
    v_row = rate * v_row + (1 - rate) * mean(s along the largest axis)
    v_col = rate * v_col + (1 - rate) * mean(s along the second largest axis)
    u = g / sqrt(v_row * v_col / mean(v_row))     the matrix of rank one with these means

    v = rate * v + (1 - rate) * s                 for a leaf that is not factored
    u = g / sqrt(v)

    u = u / max(1, rms(u) / clipping_threshold)
    u = u * learning_rate * max(rms(p), 1e-3)     relative steps, with multiply_by_parameter_scale
    m = momentum * m + (1 - momentum) * u         optional
    p = p - m - weight_decay_rate * p             the decay is not multiplied by the learning rate

A leaf is factored along its two largest axes if both have at least ``min_dim_size_to_factor`` entries. ``m * n``
second moments become ``m + n``: almost no state, which is what trained the first large language models on small
devices. Without a ``learning_rate`` steps are those of learning rate 1; the paper's is ``min(0.01, 1/sqrt(t))``.

State: ``count``, ``v_row``, ``v_col``, ``v``; about 0 bytes a parameter for a factored leaf, 4 for another, 4 more with
momentum. Where a leaf has no use for a field there is an array ``[0.]`` in its place, as in optax, so that the states
are interchangeable.

Departures from optax: ``step_offset`` (``decay_offset``) is for a count that starts at a checkpoint's step; while the
count is below it ``t`` is 1 here, where optax raises a negative number to a power and gives NaN from the first update
on. ``dtype_momentum=None``, which is float64 for float64, is float32 otherwise. A factored leaf with an infinite or NaN
entry, or one whose square is not finite (1e20 in float32), keeps its means; its steps ``u`` are those by the old means,
limited to 1, and infinite and NaN entries stay, to be seen. Complex leaves are refused.
"""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import chain, gradient_transformation, identity
from jaxopt_lessons.transforms.clip import clip_by_block_rms
from jaxopt_lessons.transforms.ema import ema
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.transforms.param_block import scale_by_param_block_rms
from jaxopt_lessons.transforms.scale import scale
from jaxopt_lessons.transforms.weight_decay import add_decayed_weights
from jaxopt_lessons.types import (
    Convert,
    DecayRateOrSchedule,
    LimitOrSchedule,
    Mask,
    NonNegativeOrSchedule,
    Offset,
    Params,
    Updates,
)


class FactoredState(NamedTuple):
    count: jax.Array
    v_row: Params
    v_col: Params
    v: Params


def factored_rms_rule(
    g: jax.Array,
    v_row: jax.Array,
    v_col: jax.Array,
    v: jax.Array,
    rate: jax.Array,
    epsilon: jax.Array,
    factoring: tuple[bool, int],
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    axes = _factored_axes(g, *factoring)
    if axes is None:
        limited = numerics.squarable(g)
        v = rate * v + (1 - rate) * (numerics.finite(limited) ** 2 + epsilon)
        return limited / numerics.root(v), v_row, v_col, v
    of_rows, of_cols, known = numerics.means_of_squares(g, *axes)
    v_row = jnp.where(known, rate * v_row + (1 - rate) * (of_rows + epsilon), v_row)
    v_col = jnp.where(known, rate * v_col + (1 - rate) * (of_cols + epsilon), v_col)
    u = numerics.divided_by_factored_root(g, v_row, v_col, *axes)
    limit = jnp.where(known, jnp.finfo(g.dtype).max, 1)
    return jnp.clip(u, -limit, limit) + 0 * g, v_row, v_col, v


def power_decay(step: jax.Array, decay_rate: jax.Array) -> jax.Array:
    """``1 - (step + 1)^-decay_rate``."""
    return 1 - (step + 1) ** -decay_rate


def _factored_axes(leaf: Any, factored: bool, min_dim_size_to_factor: int) -> tuple[int, int] | None:
    """The axes that ``v_row`` and ``v_col`` of a leaf lose: its largest and its second largest."""
    shape = np.shape(leaf)
    if not factored or len(shape) < 2:
        return None
    *_, second, largest = map(int, np.argsort(shape))
    return (largest, second) if shape[second] >= min_dim_size_to_factor else None


def _shape(leaf: Any, which: int, factoring: tuple[bool, int]) -> tuple[int, ...]:
    """The shape of ``v_row`` (0) or ``v_col`` (1) of a leaf."""
    axes = _factored_axes(leaf, *factoring)
    return (1,) if axes is None else tuple(n for axis, n in enumerate(np.shape(leaf)) if axis != axes[which])


def _at_least_one(owner: str, name: str, value: Any) -> int:
    return _checks.whole(owner, name, value, least=1)


@gradient_transformation
def scale_by_factored_rms(
    factored: bool = True,
    decay_rate: NonNegativeOrSchedule = 0.8,
    step_offset: Offset = 0,
    min_dim_size_to_factor: Annotated[int, Convert(_at_least_one)] = 128,
    epsilon: NonNegativeOrSchedule = 1e-30,
    decay_rate_fn: Callable[[Any, Any], Any] = power_decay,
) -> Any:
    """Divides the updates by the root of the running mean of their squares, kept as row and column means.

    Args:
      factored: False keeps a mean for each entry.
      decay_rate: how fast the mean forgets less: ``rate = 1 - t^-decay_rate``, in ``[0, inf)``; 0.8 in the paper.
      step_offset: the count at which ``t`` is 1, a whole number from 0.
      min_dim_size_to_factor: a leaf is factored if two of its axes have this many entries, a whole number from 1.
      epsilon: added to the squares, in ``[0, inf)``.
      decay_rate_fn: ``decay_rate_fn(count - step_offset, decay_rate) -> rate`` in the place of the formula.

    >>> tx = scale_by_factored_rms(min_dim_size_to_factor=1)
    >>> grads = jnp.array([[1.0, 2.0], [3.0, -6.0]])  # its squares are of rank one: nothing is lost
    >>> tx.update(grads, tx.init(grads))[0].round(3)
    Array([[ 1.,  1.],
           [ 1., -1.]], dtype=float32)
    """
    smallest = min_dim_size_to_factor
    factoring = (factored, smallest)

    def row_shape(leaf: Any) -> tuple[int, ...]:
        return _shape(leaf, 0, factoring)

    def col_shape(leaf: Any) -> tuple[int, ...]:
        return _shape(leaf, 1, factoring)

    def full_shape(leaf: Any) -> tuple[int, ...]:
        return np.shape(leaf) if _factored_axes(leaf, *factoring) is None else (1,)

    def init(params: Params) -> FactoredState:
        return FactoredState(
            count=numerics.zero_count(),
            v_row=tree.reduced_like(params, lambda leaf: (_factored_axes(leaf, *factoring) or [None])[0]),
            v_col=tree.reduced_like(params, lambda leaf: (_factored_axes(leaf, *factoring) or [None])[-1]),
            v=tree.reduced_like(params, lambda leaf: () if _factored_axes(leaf, *factoring) is None else None),
        )

    def update(updates: Updates, state: FactoredState, params: Params | None = None, **extra: Any) -> Any:
        step = jnp.maximum(state.count - jnp.asarray(step_offset).astype(state.count.dtype), 0)
        updates, v_row, v_col, v = tree.map_leaves(
            factored_rms_rule,
            updates,
            state.v_row,
            state.v_col,
            state.v,
            params=params,
            states_have_shape=(row_shape, col_shape, full_shape),
            real_only=True,
            rate=decay_rate_fn(numerics.as_float(step), numerics.as_float(decay_rate)),
            epsilon=epsilon,
            factoring=factoring,
        )
        return updates, FactoredState(count=numerics.increment(state.count), v_row=v_row, v_col=v_col, v=v)

    return init, update


@gradient_transformation
def adafactor(
    learning_rate: NonNegativeOrSchedule | None = None,
    min_dim_size_to_factor: Annotated[int, Convert(_at_least_one)] = 128,
    decay_rate: NonNegativeOrSchedule = 0.8,
    decay_offset: Offset = 0,
    multiply_by_parameter_scale: bool = True,
    clipping_threshold: LimitOrSchedule | None = 1.0,
    momentum: DecayRateOrSchedule | None = None,
    dtype_momentum: tree.StateDtype = None,
    weight_decay_rate: NonNegativeOrSchedule | None = None,
    eps: NonNegativeOrSchedule = 1e-30,
    factored: bool = True,
    weight_decay_mask: Mask | None = None,
) -> Any:
    """Adafactor: adaptive steps proportional to the weights, almost without state.

    Equivalent to ``chain(scale_by_factored_rms(...), clip_by_block_rms(clipping_threshold),
    scale_by_learning_rate(learning_rate, flip_sign=False), scale_by_param_block_rms(), ema(momentum, debias=False),
    add_decayed_weights(weight_decay_rate, weight_decay_mask), scale(-1.0))`` without the parts that are None or False.

    Args:
      learning_rate: the relative length of each leaf's step, or the absolute one of each weight's without
        ``multiply_by_parameter_scale``; a number in ``[0, inf)`` or a schedule. None: 1.
      min_dim_size_to_factor: a leaf is factored if two of its axes have this many entries, a whole number from 1.
      decay_rate: the mean of squares forgets less and less: its beta is ``1 - t^-decay_rate``; in ``[0, inf)``.
      decay_offset: the count at which ``t`` is 1, a whole number from 0.
      multiply_by_parameter_scale: steps in proportion to the root mean square of the leaf's weights, at least 1e-3.
      clipping_threshold: the largest root mean square of a leaf's scaled gradient, in ``[0, inf]``; None for any.
      momentum: the beta of an average of the steps, in ``[0, 1)``; None for no momentum, and no state for it.
      dtype_momentum: dtype of that average; the parameter's by default, float32 for half precision.
      weight_decay_rate: in ``[0, inf)``, not multiplied by the learning rate; None for no decay.
      eps: added to the squares, in ``[0, inf)``.
      factored: False keeps a mean for each entry.
      weight_decay_mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``.
        None: all.

    Use it: when memory is tight, as T5 was trained; a little behind AdamW, less so with ``momentum`` (then 4 bytes a
      parameter).
    Papers: Shazeer & Stern 2018, arXiv 1804.04235; a limit for the rate, ``decay_rate_fn``: Zhai et al. 2021, arXiv
      2106.04560.
    Lesson: none.
    """
    nothing = identity()
    return chain(
        scale_by_factored_rms(factored, decay_rate, decay_offset, min_dim_size_to_factor, eps),
        nothing if clipping_threshold is None else clip_by_block_rms(clipping_threshold),
        scale_by_learning_rate(1.0 if learning_rate is None else learning_rate, flip_sign=False),
        scale_by_param_block_rms() if multiply_by_parameter_scale else nothing,
        nothing if momentum is None else ema(momentum, False, dtype_momentum),
        nothing if weight_decay_rate is None else add_decayed_weights(weight_decay_rate, weight_decay_mask),
        scale(-1.0),
    )
