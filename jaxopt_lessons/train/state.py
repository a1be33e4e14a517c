"""``TrainState``: everything a run has at one moment, and nothing but arrays.

No function is in it, so two states of equal shapes are one compiled program, and it can be saved, stacked by ``vmap``,
donated and spread over devices like any tree of arrays. Whatever is random is a function of ``key`` and ``cursor``,
never of what happened before: a run that stops and goes on gives the numbers of one that did not stop.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _errors, _leaf, numerics, tree
from jaxopt_lessons.core import GradientTransformation, as_transformation
from jaxopt_lessons.types import Params, PyTree, State

if TYPE_CHECKING:
    from jaxopt_lessons.train.step import Step


class TrainState(NamedTuple):
    """A run at one moment.

    Attributes:
      step: updates applied, int32.
      cursor: batches consumed, int32; differs from ``step`` after a batch whose update was dropped.
      params: the parameters.
      opt_state: the state of the optimizer.
      key: the root of all random numbers of the run, a typed key.
      model_state: what the model keeps that is not trained (batch statistics), or None.
      extras: what wrappers of the step keep, by name: ``extras["skipped"]`` of ``with_guard``, for instance.
    """

    step: jax.Array
    cursor: jax.Array
    params: Params
    opt_state: State
    key: jax.Array
    model_state: PyTree = None
    extras: PyTree = ()


def init_state(
    params: Params, tx: "GradientTransformation | Step", *, key: int | jax.Array = 0, model_state: PyTree = None
) -> TrainState:
    """The state before the first step.

    Args:
      params: a tree of floating-point or complex arrays (NumPy arrays and Python floats become JAX arrays).
      tx: the optimizer; or the step that will be taken: its optimizer, and in ``extras`` what its wrappers keep.
      key: a seed, or a key of ``jax.random.key``: the root of shuffling and of the ``key`` that losses get.
      model_state: what the model keeps that is not trained, a tree of arrays.

    Raises:
      TypeError: ``tx`` is no optimizer, a leaf is not an array, a parameter is not floating point or complex, or
        ``key`` is not a seed or key.
      AttributeError: the step was not made by ``make_step``, so it does not tell its optimizer.
    """
    step: Any = tx if hasattr(tx, "init_extras") else None
    optimizer = as_transformation("init_state", "tx", tx if step is None else step.tx)
    params = jax.tree_util.tree_map_with_path(_as_parameter, params)
    model_state = jax.tree_util.tree_map_with_path(_as_array, model_state)
    return TrainState(
        step=numerics.zero_count(),
        cursor=numerics.zero_count(),
        params=params,
        opt_state=optimizer.init(params),
        key=_as_key(key),
        model_state=model_state,
        extras=() if step is None else step.init_extras(params),
    )


@jax.jit
def copied(tree: PyTree) -> PyTree:
    """A copy of a state, or of a part: the chunks of ``fit`` take over the buffers of the state they get."""
    return jax.tree.map(jnp.copy, tree)


def _as_array(path: Any, leaf: Any) -> jax.Array:
    numbers = isinstance(leaf, (np.ndarray, np.generic)) and _is_numeric(leaf.dtype)
    if not numbers and not isinstance(leaf, (bool, int, float, complex, jax.Array)):
        raise TypeError(
            f"init_state: the leaf at {_errors.path_name(path)!r} is {_errors.describe(leaf)}, not an array. Keep "
            "functions and settings out of the state, with equinox.partition(model, equinox.is_array) for instance."
        )
    array = jnp.asarray(leaf)
    return array if _leaf.is_key(array) else array.astype(array.dtype)


def _is_numeric(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, np.number) or dtype == np.bool_


def _as_parameter(path: Any, leaf: Any) -> jax.Array:
    array = _as_array(path, leaf)
    if not tree.is_trainable(array):
        raise TypeError(
            f"init_state: the parameter at {_errors.path_name(path)!r} is {_errors.describe(array)}, which has no "
            "gradient. Make it floating point if it should be trained, else keep it in model_state."
        )
    return array


def _as_key(key: Any) -> jax.Array:
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        return jax.random.key(int(key))
    if isinstance(key, jax.Array):
        if _leaf.is_key(key) and not key.shape:
            return key
        if key.dtype == jnp.uint32 and key.ndim == 1:
            return jax.random.wrap_key_data(key)
    raise TypeError(
        f"init_state: key must be a whole number or a key made by jax.random.key; got {_errors.describe(key)}."
    )
