"""A look at the updates as they pass.

    measurement = measure(g)
    u = g

State: ``measurement``, what the function returned at the last update, under a name. It is zero before the first one,
where optax measures the parameters. See ``monitor`` for several measurements and for those with a memory.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import _tree_checks, tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.types import Params, PyTree, Updates


class SnapshotState(NamedTuple):
    measurement: dict[str, PyTree]


def unmeasured(measure: Callable[[Updates], PyTree], params: Params) -> PyTree:
    """Zeros in the place of a measurement of updates of these parameters."""
    shapes = jax.eval_shape(measure, tree.widen(tree.trainable(params)))
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def as_before(new: PyTree, like: PyTree) -> PyTree:
    """A measurement as arrays with the dtypes of an earlier one; raises if it has another structure or shape."""
    new = jax.tree.map(jnp.asarray, new)
    if jax.tree.structure(new) != jax.tree.structure(like):
        _tree_checks.different_trees("the measurement", new, "the state", like)
    for (path, leaf), old in zip(jax.tree_util.tree_leaves_with_path(new), jax.tree.leaves(like), strict=True):
        if leaf.shape != old.shape:
            _tree_checks.different_shapes(path, "the measurement", leaf, "the state", old)
    return jax.tree.map(lambda leaf, old: leaf.astype(old.dtype), new, like)


@gradient_transformation
def snapshot(measure_name: str, measure: Callable[[Updates], PyTree]) -> Any:
    """Keeps a measurement of the updates in the state and lets them pass.

    Args:
      measure_name: the key of the measurement in the state.
      measure: ``measure(updates)``, a number, an array or a tree of them; of float32 updates where they are half
        precision.

    >>> tx = snapshot("norm", tree.global_norm)
    >>> tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.zeros(2)))[1]
    SnapshotState(measurement={'norm': Array(5., dtype=float32)})
    """

    def init(params: Params) -> SnapshotState:
        return SnapshotState({measure_name: unmeasured(measure, params)})

    def update(updates: Updates, state: SnapshotState, params: Params | None = None, **extra: Any) -> Any:
        passed = tree.cast_like(updates, updates if params is None else params)
        measurement = as_before(measure(tree.widen(updates)), state.measurement.get(measure_name))
        return passed, SnapshotState({measure_name: measurement})

    return init, update
