"""Adaptive gradient clipping (AGC): each unit's gradient is short in proportion to the unit's weights.

    limit = clipping * max(|p|, eps)              |.|: Euclidean norm along the axes that reduce a unit
    u = g * min(1, limit / |g|)

A unit is what feeds one output: of a vector or scalar the whole; of two or three axes ``[in, ...]`` all that share the
later indices (``axis=0``); of four and five axes, the kernels ``[height, width, in, out]`` of convolutions, all of one
output. An array whose axes longer than 1 are fewer than two counts as a vector. For other layouts give ``axis``.

It replaces batch normalization's control of the gradient: in NF-nets with ``clipping=0.01``, and not on the last layer.
``eps`` lets weights that start at 0 move. Norms are calculated without overflow and leave infinite and NaN entries
out, which stay as they are. Complex leaves are refused. State: none.

Paper: Brock et al. 2021, arXiv 2102.06171.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, _tree_checks, numerics, tree
from jaxopt_lessons.core import EmptyState, gradient_transformation
from jaxopt_lessons.transforms.clip import rescale_rule
from jaxopt_lessons.types import LimitOrSchedule, NonNegativeOrSchedule, Params, Updates


def unit_clip_rule(
    g: jax.Array, p: jax.Array, clipping: jax.Array, eps: jax.Array, axes: tuple[int, ...] | None
) -> jax.Array:
    axes = _unit_axes(g.shape) if axes is None else axes
    norm = numerics.norm(numerics.finite(g), axes, keepdims=True)
    size = numerics.norm(numerics.finite(p), axes, keepdims=True)
    return rescale_rule(g, norm, clipping * jnp.maximum(size, eps))


def _unit_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes along which a unit's weights lie."""
    if sum(length != 1 for length in shape) <= 1:
        return tuple(range(len(shape)))
    if len(shape) > 5:
        _tree_checks.units_unknown(shape)
    return (0,) if len(shape) <= 3 else tuple(range(len(shape) - 1))


@gradient_transformation
def adaptive_grad_clip(
    clipping: LimitOrSchedule, eps: NonNegativeOrSchedule = 1e-3, axis: int | tuple[int, ...] | None = None
) -> Any:
    """Scales the gradient of each unit down so that its norm is at most ``clipping`` times that of the unit's weights.

    Args:
      clipping: the largest ratio of the two norms, in ``[0, inf]``; 0.01 to 0.16 is usual.
      eps: weights with a smaller norm count as this one, in ``[0, inf)``.
      axis: the axis or axes along which the norms are taken, the same in every leaf. None: by the number of axes of
        the leaf, as for dense layers ``[in, out]`` and convolutions ``[..., in, out]``.

    Raises:
      InputError: ``update`` was called without ``params``, or a leaf has more than five axes and no ``axis`` is given.

    >>> tx = adaptive_grad_clip(0.1, eps=1.0)
    >>> params = jnp.array([[3.0, 0.0], [4.0, 0.0]])  # units of norm 5 and 0
    >>> tx.update(jnp.array([[1.0, 1.0], [0.0, 0.0]]), tx.init(params), params)[0]
    Array([[0.5, 0.1],
           [0. , 0. ]], dtype=float32)
    """
    axes = (axis,) if isinstance(axis, int) else axis

    def init(params: Params) -> EmptyState:
        return EmptyState()

    def update(updates: Updates, state: EmptyState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        updates = tree.map_leaves(
            unit_clip_rule,
            updates,
            params=params,
            read=(params,),
            real_only=True,
            clipping=clipping,
            eps=eps,
            axes=axes,
        )
        return updates, state

    return init, update
