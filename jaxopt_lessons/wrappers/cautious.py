"""The cautious mask: no weight moves against its present gradient.

    k = 1 where u and g agree in sign, else 0     u: what ``inner`` made of the gradient g
    u = u * k / max(mean(k), eps)                 mean over the leaf

Momentum may point against the newest gradient; those entries stay where they are for this update, and the others step
further, so that the leaf's step keeps its length. "Agree" means descent: for an optimizer, whose updates are steps to
add, ``u * g < 0``; for a direction, to which the learning rate with its minus comes later, ``u * g > 0``.

The authors' C-AdamW masks Adam's direction and not the weight decay::

    chain(cautious(scale_by_adam(), along_gradient=True), add_decayed_weights(0.1), scale_by_learning_rate(1e-3))

``cautious(adamw(...))`` masks their sum. An entry that is infinite or NaN stays so, masked or not. State: that of
``inner``. Paper: Liang et al. 2024, arXiv 2411.16085. Not to be confused with cautious weight decay
(``add_cautious_weight_decay``), which compares with the weight instead of the gradient.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, tree
from jaxopt_lessons.core import Functions, Part, Transformation, gradient_transformation
from jaxopt_lessons.types import NonNegativeOrSchedule, Params, State, Updates


def cautious_rule(u: jax.Array, g: jax.Array, eps: jax.Array, along_gradient: bool) -> jax.Array:
    agreement = jnp.sign(u) * jnp.sign(g)
    kept = (agreement > 0 if along_gradient else agreement < 0).astype(u.dtype)
    mean = jnp.sum(kept) / max(u.size, 1)
    return u * (kept / jnp.maximum(jnp.maximum(mean, eps), jnp.finfo(u.dtype).tiny))


@gradient_transformation
def cautious(inner: Transformation, eps: NonNegativeOrSchedule = 1e-3, *, along_gradient: bool = False) -> Any:
    """Stops the entries of an optimizer's updates that go uphill by their gradient, and lengthens the others.

    Args:
      inner: the optimizer, or the direction, to be masked.
      eps: the least share of entries to divide by, in ``[0, inf)``.
      along_gradient: True for a direction such as ``scale_by_adam()``, whose updates still point along the gradient
        because the learning rate with its minus comes later; False for an optimizer such as ``adam(1e-3)``.

    >>> tx = cautious(jl.sgd(1.0, momentum=0.5))
    >>> u, state = tx.update(jnp.array([2.0, 2.0]), tx.init(jnp.zeros(2)))
    >>> tx.update(jnp.array([2.0, -0.5]), state)[0]  # momentum 3 and 0.5, the second against its gradient
    Array([-6., -0.], dtype=float32)
    """
    _checks.rounds_last("cautious", inner.name, inner.takes_half_precision)

    def init(params: Params) -> State:
        return inner.init(tree.widen(params))

    def update(grads: Updates, state: State, params: Params | None = None, **extra: Any) -> Any:
        # As in a chain, half precision is rounded once, after the last stage.
        updates, state = inner.update(tree.widen(grads), state, tree.widen(params), **extra)
        updates = tree.map_leaves(
            cautious_rule,
            updates,
            params=grads if params is None else params,
            read=(grads,),
            eps=eps,
            along_gradient=along_gradient,
        )
        return updates, state

    return Functions(init, update, lambda state: [Part("inner", inner, state)])
