"""Transformations made of one function that remembers nothing.

    u = f(g, p)           of the whole trees, ``stateless``; or leaf by leaf, ``stateless_with_tree_map``

The function calculates in float32 where the gradients or the parameters are half precision, and the result gets the
dtypes of the parameters. State: none.
"""

from collections.abc import Callable
from typing import Any

import jax

from jaxopt_lessons import tree
from jaxopt_lessons.core import EmptyState, gradient_transformation
from jaxopt_lessons.types import Params, Updates


def init_empty_state(params: Params) -> EmptyState:
    """The ``init`` of a transformation that remembers nothing.

    Args:
      params: the parameters, which do not matter.
    """
    return EmptyState()


@gradient_transformation
def stateless(f: Callable[[Updates, Params | None], Updates]) -> Any:
    """A transformation made of a function of the whole trees: ``u = f(g, p)``.

    Args:
      f: ``f(updates, params) -> updates`` of the structure and shapes that came in; ``params`` may be None.

    >>> tx = stateless(lambda updates, params: jax.tree.map(lambda g: g / tree.global_norm(updates), updates))
    >>> tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.zeros(2)))[0]
    Array([0.6, 0.8], dtype=float32)
    """

    def update(updates: Updates, state: EmptyState, params: Params | None = None, **extra: Any) -> Any:
        tree.check_updates(updates, params)
        changed = f(tree.widen(updates), tree.widen(params))
        return tree.cast_like(changed, updates if params is None else params), state

    return init_empty_state, update


@gradient_transformation
def stateless_with_tree_map(f: Callable[[jax.Array, jax.Array | None], jax.Array]) -> Any:
    """A transformation made of a function of one leaf: ``u = f(g, p)``.

    Args:
      f: ``f(g, p) -> u``, a rule: it sees float32 or wider, and complex leaves as pairs of real numbers along a last
        axis. ``p`` is None where ``update`` was called without ``params``.

    >>> tx = stateless_with_tree_map(lambda g, p: jnp.sign(g))
    >>> tx.update(jnp.array([3.0, -4.0]), tx.init(jnp.zeros(2)))[0]
    Array([ 1., -1.], dtype=float32)
    """

    def update(updates: Updates, state: EmptyState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            return tree.map_leaves(lambda g: f(g, None), updates), state
        return tree.map_leaves(f, updates, params=params, read=(params,)), state

    return init_empty_state, update
