"""The mean loss of all the data as a function of the parameters, to be differentiated: what ``inspect`` looks at.

Sums and weights are added up over batches and divided once, so the result does not depend on the batch size.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _checks, _errors, _leaf, _tree_checks, tree
from jaxopt_lessons.train.batches import NO_DATA, Batches, minibatches
from jaxopt_lessons.train.evaluate import loss_to_measure
from jaxopt_lessons.train.objective import LossFunction, Weighted
from jaxopt_lessons.types import Params, PyTree


def planned_loss(
    owner: str,
    loss_fn: Callable[..., Any],
    data: PyTree,
    batch_size: int | None,
    model_state: PyTree,
    policy: Any,
    shuffle: bool = False,
) -> tuple[LossFunction, Batches]:
    """The loss function and the batches, on the device, that the arguments of a function of ``inspect`` say."""
    loss = loss_to_measure(owner, loss_fn, model_state, policy)
    if data is None:
        _checks.require(batch_size is None, lambda: f"{owner}: batch_size={batch_size} without data to cut.")
        return loss, NO_DATA
    if isinstance(data, Batches):
        raise TypeError(f"{owner}: data must be arrays, all of which are measured; give batches.data, and batch_size.")
    if batch_size is not None:
        batch_size = _checks.whole(owner, "batch_size", batch_size, least=1)
    return loss, minibatches(data, batch_size, shuffle=shuffle, on_host=False)


def mean_loss(
    loss: LossFunction,
    params: Params,
    batches: Batches,
    model_state: PyTree,
    like: Params,
    order: jax.Array | None = None,
    at_once: int | None = None,
) -> jax.Array:
    """The mean over all examples, a scalar in float32 or wider.

    Its derivatives take the memory of one batch, if there are several: each is calculated anew on the way back.

    Args:
      loss: the loss function.
      params: the parameters in the dtype in which derivatives are to be added up.
      batches: the data; ``NO_DATA`` for a loss of the parameters alone.
      model_state: the model state, None for a loss that takes none.
      like: the parameters in the dtypes in which the loss function gets them.
      order: the order of the examples, as for ``Batches.map``.
      at_once: how many batches are taken together, as for ``Batches.map``.
    """

    def measured(batch: PyTree, mask: jax.Array | None) -> Weighted:
        return loss.measure(tree.states_like(params, like), model_state, batch, None, mask)[0]

    if batches.per_epoch == 1:  # A scan of one turn would be a loop all the same, in which CPUs convolve slowly.
        return measured(batches.data, None).mean()
    each = batches.map(jax.checkpoint(measured), order, at_once)
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), each).mean()


def real_params(owner: str, params: Params) -> Params:
    """The parameters as arrays; raises unless they are real, floating point, and at least one."""
    with _errors.stage(owner):
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            if not _leaf.is_trainable(leaf) or _leaf.is_complex(leaf):
                _tree_checks.real_parameter(path, leaf)
        if not any(np.size(leaf) for leaf in jax.tree.leaves(params)):
            raise _errors.InputError("there are no parameters in params.")
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, _leaf.dtype_of(leaf)), params)  # Not of a weak type.
