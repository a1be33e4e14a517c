"""Hutchinson's estimate of the diagonal of the Hessian, from one Hessian-vector product.

    h = z * (H z)                                 z: a random sign for every weight

On the average over ``z`` it is the diagonal of ``H``; the variance of an entry is the sum of the squares of the others
in its row, so for a diagonal ``H`` one estimate is exact. It costs about two gradients. The gradients that come in are
not used.

The signs are a function of the seed, of ``count`` and of the path of the leaf (see ``tree.keys_like``). State:
``count``. (optax keeps a key in the state and splits it.)

Papers: Hutchinson 1990; of a diagonal, Bekas, Kokiopoulou & Saad 2007.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.types import Params, Updates


class HutchinsonState(NamedTuple):
    count: jax.Array


@gradient_transformation
def hutchinson_estimator_diag_hessian(random_seed: tree.Key = 0) -> Any:
    """Replaces the updates by an estimate of the diagonal of the Hessian of ``obj_fn`` at the parameters.

    ``update`` needs ``obj_fn=``, a function of the parameters alone that returns the loss of the present batch:
    ``tx.update(grads, state, params, obj_fn=lambda params: loss_fn(params, batch))``.

    Args:
      random_seed: where the random signs start: a seed, which is static, or a key of ``jax.random``, which is a leaf
        of the transformation.

    Raises:
      InputError: ``update`` was called without ``params`` or without ``obj_fn``.

    >>> tx = hutchinson_estimator_diag_hessian()
    >>> params = jnp.array([1.0, 2.0])
    >>> tx.update(params, tx.init(params), params, obj_fn=lambda p: 3 * p[0] ** 2 + p[1])[0]
    Array([6., 0.], dtype=float32)
    """

    def init(params: Params) -> HutchinsonState:
        return HutchinsonState(count=numerics.zero_count())

    def update(
        updates: Updates,
        state: HutchinsonState,
        params: Params | None = None,
        *,
        obj_fn: Callable[[Params], jax.Array],
        **extra: Any,
    ) -> Any:
        if params is None:
            _checks.params_needed(updates)
        key = jax.random.fold_in(tree.typed_key(random_seed), state.count)
        return _diagonal(key, obj_fn, params), HutchinsonState(count=numerics.increment(state.count))

    return init, update


def _diagonal(key: jax.Array, obj_fn: Callable[[Params], jax.Array], params: Params) -> Params:
    """``z * (H z)``; None where a leaf is not trainable."""
    trained = jax.tree.map(lambda leaf: jnp.asarray(leaf) if tree.is_trainable(leaf) else None, params)
    signs = jax.tree.map(_signs, tree.keys_like(key, trained), trained)
    gradient = jax.grad(lambda trained: obj_fn(tree.merge(params, trained)))
    _, products = jax.jvp(gradient, (trained,), (signs,))
    return jax.tree.map(_entry, signs, products)


def _signs(key: jax.Array, leaf: jax.Array) -> jax.Array:
    """Random signs in shape, dtype and sharding of the leaf; for a complex one, of both its parts."""
    signs = jax.random.rademacher(key, tree.real_shape(leaf), jnp.finfo(leaf.dtype).dtype)
    if jnp.iscomplexobj(leaf):
        signs = jax.lax.complex(signs[..., 0], signs[..., 1])
    return jnp.zeros_like(leaf) + signs


def _entry(sign: jax.Array, product: jax.Array) -> jax.Array:
    if not jnp.iscomplexobj(sign):
        return sign * product
    # JAX's gradient of a complex number is the conjugate of the direction of ascent.
    return jax.lax.complex(jnp.real(sign) * jnp.real(product), -jnp.imag(sign) * jnp.imag(product))
