"""A factor on the gradient at a place inside a loss function.

    y = scale_gradient(x, scale)              y = x, but dL/dx = scale * dL/dy

Not a gradient transformation but a function to be used where the loss is written: 0 stops a gradient, a negative factor
reverses it (Ganin & Lempitsky 2014, arXiv 1409.7495), one between 0 and 1 lets a shared part of a model learn less from
one of its heads. In forward and in reverse mode. ``scale`` has no gradient of its own.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import tree
from jaxopt_lessons.types import PyTree, Scalar


def scale_gradient(inputs: PyTree, scale: Scalar) -> PyTree:
    """Returns ``inputs``, with derivatives that are multiplied by ``scale``.

    Args:
      inputs: a tree of arrays; leaves that are not trainable stay.
      scale: any number, or a scalar array.

    >>> jax.grad(lambda x: x**2 + scale_gradient(x, -1.0)**2)(3.0)  # 6 - 6
    Array(0., dtype=float32, weak_type=True)
    """
    if isinstance(scale, (int, float)) and scale == 0:  # also of an infinite gradient
        return jax.tree.map(lambda x: jax.lax.stop_gradient(x) if tree.is_trainable(x) else x, inputs)
    return jax.tree.map(lambda x: _scale(jnp.asarray(x), scale) if tree.is_trainable(x) else x, inputs)


@jax.custom_jvp
def _scale(x: jax.Array, scale: Any) -> jax.Array:
    return x


@_scale.defjvp
def _scale_jvp(primals: Any, tangents: Any) -> Any:
    x, scale = primals
    return x, tangents[0] * jnp.asarray(scale).astype(tangents[0].dtype)
