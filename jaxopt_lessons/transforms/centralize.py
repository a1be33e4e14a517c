"""Gradient centralization: the mean of each slice is taken off.

    u = g - mean(g over all axes but output_axis)         arrays of two axes or more; others pass as they are

The gradient of every unit's incoming weights then sums to 0, and so does every step: the sum of a unit's weights stays
what it was at the start. State: none.

The paper's mean is over the incoming weights of each output. In PyTorch's layout ``[out, in, ...]`` these are all axes
but the first, which is the default here as in optax; kernels of Flax and Keras, ``[..., in, out]``, need
``output_axis=-1``, which optax does not offer. An infinite or NaN entry is left out of its mean and stays as it is.
Complex leaves are refused.

Paper: Yong et al. 2020, arXiv 2004.01461.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import EmptyState, gradient_transformation
from jaxopt_lessons.types import Params, Updates


def centralize_rule(g: jax.Array, output_is_last: bool) -> jax.Array:
    if g.ndim < 2:
        return g
    axes = tuple(range(g.ndim - 1) if output_is_last else range(1, g.ndim))
    entries = math.prod(g.shape[axis] for axis in axes)
    return g - jnp.sum(numerics.finite(g) / max(entries, 1), axis=axes, keepdims=True)


@gradient_transformation
def centralize(*, output_axis: int = 0) -> Any:
    """Subtracts from the updates their mean along all axes but one.

    Args:
      output_axis: the axis along which there is one mean for each entry, that of the outputs: 0 as in PyTorch's
        layout, -1 for kernels ``[..., in, out]`` of Flax and Keras.

    >>> tx = centralize()
    >>> tx.update(jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 9.0]]), tx.init(jnp.zeros((2, 3))))[0]
    Array([[-1.,  0.,  1.],
           [-2., -1.,  3.]], dtype=float32)
    """
    _checks.require(
        output_axis in (0, -1), f"centralize: output_axis must be the first, 0, or the last, -1; got {output_axis}."
    )

    def init(params: Params) -> EmptyState:
        return EmptyState()

    def update(updates: Updates, state: EmptyState, params: Params | None = None, **extra: Any) -> Any:
        updates = tree.map_leaves(
            centralize_rule, updates, params=params, real_only=True, output_is_last=output_axis == -1
        )
        return updates, state

    return init, update
