"""Adam-mini: Adam with one second moment for a whole block of weights.

    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * mean(g^2 over the block)      one number a block
    u = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)

    p = p - learning_rate * (u + weight_decay * p)

Adam's learning rates differ within blocks for which one good rate would do: the weights whose Hessian is one dense
block. Half of Adam's memory goes, and little else if the blocks are right; if they are too large, training becomes
unstable. ``blocks(path, leaf)`` says which axes of a leaf tell blocks apart:

    ``()``            the whole leaf is one block
    ``-1``, ``(0, 2)``    each index of these axes is a block: ``-1`` is a neuron of a kernel ``[in, out]``
    ``((-1, 12),)``   the axis is cut into 12 equal pieces: heads in a kernel ``[in, heads * size]``

A tree of these, in the structure of the parameters, will do too. By default each index of the last axis is a block,
and a vector or scalar is one. The paper's recipe for transformers, with kernels ``[in, out]``::

    def blocks(path, leaf):
        if "embed" in path:
            return 0                              # a token; the output layer too, on its axis of tokens
        if "query" in path or "key" in path:
            return ((-1, heads),)                 # a head
        if "bias" in path:
            return tuple(range(leaf.ndim))        # Adam
        return -1 if leaf.ndim > 1 else ()        # a neuron of value, projection and MLP; a normalization layer

State: ``count``, ``mu``, ``nu``: the leaf's axes, each with one entry for each of its blocks; 4 bytes a parameter and
a little. With all axes kept it is Adam. An infinite or NaN entry is left out of the mean. Complex leaves are refused.

Not to be confused with factored second moments (Adafactor), which still give each entry a number of its own.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _errors, _tree_checks, numerics, tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.transforms.decayed_step import Decay, decayed_step
from jaxopt_lessons.types import DecayRateOrSchedule, Mask, NonNegativeOrSchedule, Params, PyTree, Updates


class ScaleByAdamMiniState(NamedTuple):
    count: jax.Array
    mu: Params
    nu: Params


def adam_mini_rule(
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    b1: jax.Array,
    b2: jax.Array,
    eps: jax.Array,
    correction1: jax.Array,
    correction2: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    g = numerics.squarable(g)
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * _block_means(numerics.finite(g) ** 2, v.shape)
    u = m / correction1 / _spread(numerics.root(v / correction2) + eps, g.shape)
    return u, m, v


def _block_means(x: jax.Array, counts: tuple[int, ...]) -> jax.Array:
    """The mean of each block, where ``counts`` are the numbers of blocks along each axis."""
    x = x / max(x.size // max(math.prod(counts), 1), 1)
    whole = tuple(axis for axis, count in enumerate(counts) if count == 1)
    x = jnp.sum(x, axis=whole, keepdims=True)
    for axis, count in enumerate(counts):
        if x.shape[axis] != count:
            pieces = (*x.shape[:axis], count, x.shape[axis] // count, *x.shape[axis + 1 :])
            x = jnp.sum(jnp.reshape(x, pieces), axis=axis + 1)
    return x


def _spread(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Blockwise numbers, repeated along each axis that is cut into pieces; whole axes are left to broadcasting."""
    for axis, (count, length) in enumerate(zip(x.shape, shape, strict=True)):
        if 1 < count < length:
            pieces = (*x.shape[: axis + 1], length // count, *x.shape[axis + 1 :])
            x = jnp.reshape(jnp.broadcast_to(jnp.expand_dims(x, axis + 1), pieces), _with(x.shape, axis, length))
    return x


def _with(shape: tuple[int, ...], axis: int, length: int) -> tuple[int, ...]:
    return *shape[:axis], length, *shape[axis + 1 :]


def _zeros(params: Params, counts: PyTree) -> PyTree:
    def zeros(leaf: Any, shape: Any) -> Any:
        if shape is None:
            return None
        means = jax.eval_shape(lambda x: _block_means(x, shape), leaf)  # which knows the sharding too
        return jnp.zeros_like(means, dtype=tree.scalar_like(leaf, 0).dtype)

    return jax.tree.map(zeros, params, counts)


def _block_counts(blocks: Any, params: Params) -> PyTree:
    """The numbers of blocks along each axis of each leaf: 1 for an axis that does not tell blocks apart."""
    trained = jax.tree.map(lambda leaf: leaf if tree.is_trainable(leaf) else None, params)
    leaves, treedef = jax.tree_util.tree_flatten_with_path(trained)
    if blocks is None:
        kept = [-1 if np.ndim(leaf) > 1 else () for _, leaf in leaves]
    elif callable(blocks):
        kept = [blocks(_errors.path_name(path), leaf) for path, leaf in leaves]
    else:
        try:
            kept = treedef.flatten_up_to(blocks)
        except (ValueError, TypeError, KeyError):
            _tree_checks.different_trees("blocks", blocks, "params", trained)
    counts = [_counts(path, np.shape(leaf), entry) for (path, leaf), entry in zip(leaves, kept, strict=True)]
    return jax.tree.unflatten(treedef, counts)


def _check_blocks(updates: Updates, v: PyTree, counts: PyTree) -> None:
    paths, treedef = jax.tree_util.tree_flatten_with_path(updates)
    for (path, leaf), entry, expected in zip(
        paths, treedef.flatten_up_to(v), treedef.flatten_up_to(counts), strict=True
    ):
        if entry.shape != expected:
            _tree_checks.wrong_state_shape(path, leaf, entry, expected)


def _counts(path: Any, shape: tuple[int, ...], kept: Any) -> tuple[int, ...]:
    counts = [1] * len(shape)
    for item in kept if isinstance(kept, tuple) else (kept,):
        axis, count = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
        if not isinstance(axis, int) or not -len(shape) <= axis < len(shape):
            _tree_checks.wrong_blocks(path, shape, kept, f"there is no axis {axis!r}")
        count = shape[axis] if count is None else count
        if not isinstance(count, int) or (count < 1 and shape[axis]) or (count and shape[axis] % count):
            _tree_checks.wrong_blocks(path, shape, kept, f"axis {axis} cannot be cut into {count!r} equal pieces")
        counts[axis] = count
    return tuple(counts)


@gradient_transformation
def scale_by_adam_mini(
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    mu_dtype: tree.StateDtype = None,
    *,
    blocks: Any = None,
) -> Any:
    """Replaces the updates by their average over the root mean square of their block.

    Args:
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      mu_dtype: dtype of ``mu``; the parameter's by default, float32 for half precision.
      blocks: ``blocks(path, leaf)`` or a tree like the parameters: an axis, or a tuple of axes and of pairs ``(axis,
        number of pieces)``, that tell blocks apart. None: the last axis of arrays with two axes or more.

    Raises:
      InputError: ``blocks`` names an axis that a leaf does not have, or cuts one into unequal pieces.

    >>> tx = scale_by_adam_mini(b1=0.0, eps=0.0)
    >>> grads = jnp.array([[4.0, 0.0], [0.0, 8.0], [0.0, 0.0], [0.0, 0.0]])  # a mean square of 4 and one of 16
    >>> tx.update(grads, tx.init(grads))[0]
    Array([[2., 0.],
           [0., 2.],
           [0., 0.],
           [0., 0.]], dtype=float32)
    """

    def init(params: Params) -> ScaleByAdamMiniState:
        return ScaleByAdamMiniState(
            count=numerics.zero_count(),
            mu=tree.zeros_like(params, mu_dtype),
            nu=_zeros(params, _block_counts(blocks, params)),
        )

    def update(updates: Updates, state: ScaleByAdamMiniState, params: Params | None = None, **extra: Any) -> Any:
        t = numerics.increment(state.count)
        updates, m, v = tree.map_leaves(
            adam_mini_rule,
            updates,
            state.mu,
            state.nu,
            params=params,
            states_have_shape=(True, False),
            real_only=True,
            b1=b1,
            b2=b2,
            eps=eps,
            correction1=numerics.bias_correction(b1, t),
            correction2=numerics.bias_correction(b2, t),
        )
        _check_blocks(updates, v, _block_counts(blocks, updates))
        return updates, ScaleByAdamMiniState(count=t, mu=m, nu=v)

    return init, update


@gradient_transformation
def adam_mini(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    mu_dtype: tree.StateDtype = None,
    weight_decay: NonNegativeOrSchedule = 0.0,
    mask: Mask | None = None,
    *,
    blocks: Any = None,
    decay: Decay = "lr",
) -> Any:
    """Adam-mini: AdamW with one second moment a block.

    Equivalent to ``chain(scale_by_adam_mini(...), add_decayed_weights(weight_decay, mask),
    scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: about the root mean square of the steps of a block; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      mu_dtype: dtype of the average of gradients; the parameter's by default, float32 for half precision.
      weight_decay: in ``[0, inf)``, multiplied by what ``decay`` says.
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.
      blocks: ``blocks(path, leaf)`` or a tree like the parameters: an axis, or a tuple of axes and of pairs ``(axis,
        number of pieces)``, that tell blocks apart. None: the last axis of arrays with two axes or more.
      decay: what the weight decay is multiplied by: the learning rate (``"lr"``), its course without its height
        (``"schedule"``), or nothing (``"independent"``): see ``adamw``.

    Use it: for transformers in half of Adam's memory; say with ``blocks`` what a head and a token is, or it may become
      unstable.
    Paper: Zhang et al. 2024, arXiv 2406.16793.
    Lesson: none.
    """
    return decayed_step(
        "adam_mini", scale_by_adam_mini(b1, b2, eps, mu_dtype, blocks=blocks), learning_rate, weight_decay, mask, decay
    )
