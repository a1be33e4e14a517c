"""The sign of each entry.

    u = sign(g)                                   -1, 0 or 1

Every weight moves by the same length; what remains of the gradient is one bit an entry (and the rare 0). State: none.

A complex entry is a pair of real ones with a sign each (optax divides it by its absolute value). An infinite or NaN
entry has no sign to trust: it passes as it is, to be seen, where ``jnp.sign`` would make a step of 1 of an overflow.

Paper: Bernstein et al. 2018, arXiv 1802.04434.
"""

from typing import Any

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import EmptyState, gradient_transformation
from jaxopt_lessons.types import Params, Updates


@gradient_transformation
def scale_by_sign() -> Any:
    """Replaces each entry of the updates by its sign.

    >>> tx = scale_by_sign()
    >>> tx.update(jnp.array([0.5, -20.0, 0.0]), tx.init(jnp.zeros(3)))[0]
    Array([ 1., -1.,  0.], dtype=float32)
    """

    def init(params: Params) -> EmptyState:
        return EmptyState()

    def update(updates: Updates, state: EmptyState, params: Params | None = None, **extra: Any) -> Any:
        return tree.map_leaves(numerics.sign, updates, params=params), state

    return init, update
