"""CAME: Adafactor with momentum that is trusted where the gradients agree with it.

    s = g^2 + eps
    v_row, v_col = averages (b2) of the means of s over the last axis and over the last but one
    d = g / sqrt(v_row * v_col / mean(v_row))
    d = d / max(1, rms(d) / clipping_threshold)
    m = b1 * m + (1 - b1) * d
    r = (d - m)^2 + eps_confidence                how far the newest step is from the average
    res_row, res_col = averages (b3) of the means of r
    u = m / sqrt(res_row * res_col / mean(res_row))

    p = p - learning_rate * (u + weight_decay * p)

Leaves with fewer than two axes are not factored: ``d = g / sqrt(v)`` with an average ``v`` for each entry, and ``u =
m``. The averages start at 0 without corrections, as in the authors' code, so with the defaults the first steps of
matrices are long, about ten times the learning rate; that is where the paper's warm-up belongs.

State: ``mu``, ``v_row``, ``v_col``, ``v``, ``res_row``, ``res_col``; about 4 bytes a parameter of a matrix, 8 of a
vector. An array ``[0.]`` stands where a leaf has no use for a field. Infinite and NaN entries are left out of all means
and stay as they are. Complex leaves are refused.

The package pytorch-optimizer 4.1 scales the momentum of vectors by the
learning rate, which neither the paper nor the authors' came-pytorch do.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.transforms.clip import block_rms_rule
from jaxopt_lessons.transforms.decayed_step import Decay, decayed_step
from jaxopt_lessons.types import (
    DecayRateOrSchedule,
    LimitOrSchedule,
    Mask,
    NonNegativeOrSchedule,
    Params,
    Updates,
)


class ScaleByCameState(NamedTuple):
    mu: Params
    v_row: Params
    v_col: Params
    v: Params
    res_row: Params
    res_col: Params


def came_rule(
    g: jax.Array,
    m: jax.Array,
    v_row: jax.Array,
    v_col: jax.Array,
    v: jax.Array,
    res_row: jax.Array,
    res_col: jax.Array,
    b1: jax.Array,
    b2: jax.Array,
    b3: jax.Array,
    eps: jax.Array,
    eps_confidence: jax.Array,
    clipping_threshold: jax.Array,
) -> tuple[jax.Array, ...]:
    g = numerics.squarable(g)
    s = numerics.finite(g) ** 2 + eps
    if g.ndim < 2:
        v = b2 * v + (1 - b2) * s
        d = block_rms_rule(g / numerics.root(v), clipping_threshold)
        m = b1 * m + (1 - b1) * d
        return m, m, v_row, v_col, v, res_row, res_col
    row, col = g.ndim - 1, g.ndim - 2
    v_row = b2 * v_row + (1 - b2) * _mean(s, row)
    v_col = b2 * v_col + (1 - b2) * _mean(s, col)
    d = block_rms_rule(numerics.divided_by_factored_root(g, v_row, v_col, row, col), clipping_threshold)
    m = b1 * m + (1 - b1) * d
    r = numerics.finite(numerics.squarable(d - m)) ** 2 + eps_confidence
    res_row = b3 * res_row + (1 - b3) * _mean(r, row)
    res_col = b3 * res_col + (1 - b3) * _mean(r, col)
    u = numerics.divided_by_factored_root(m, res_row, res_col, row, col)
    return u, m, v_row, v_col, v, res_row, res_col


def _mean(x: jax.Array, axis: int) -> jax.Array:
    return jnp.sum(x / max(x.shape[axis], 1), axis=axis)


@gradient_transformation
def scale_by_came(
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    b3: DecayRateOrSchedule = 0.9999,
    eps: NonNegativeOrSchedule = 1e-30,
    eps_confidence: NonNegativeOrSchedule = 1e-16,
    clipping_threshold: LimitOrSchedule = 1.0,
    mu_dtype: tree.StateDtype = None,
) -> Any:
    """Replaces the updates by CAME's direction: an average of Adafactor's steps over their spread.

    Args:
      b1: the beta of the average of steps, in ``[0, 1)``.
      b2: the beta of the averages of squares, in ``[0, 1)``.
      b3: the beta of the averages of squared deviations, in ``[0, 1)``.
      eps: added to the squares, in ``[0, inf)``.
      eps_confidence: added to the squared deviations, in ``[0, inf)``.
      clipping_threshold: the largest root mean square of a leaf's step before the average, in ``[0, inf]``.
      mu_dtype: dtype of ``mu``; the parameter's by default, float32 for half precision.

    >>> tx = scale_by_came()
    >>> grads = jnp.array([[1.0, 2.0], [3.0, -6.0]])
    >>> tx.update(grads, tx.init(grads))[0].round(2)  # 0.1 / (0.9 * sqrt(1 - b3))
    Array([[ 11.11,  11.11],
           [ 11.11, -11.11]], dtype=float32)
    """

    def init(params: Params) -> ScaleByCameState:
        row = tree.reduced_like(params, lambda leaf: np.ndim(leaf) - 1 if np.ndim(leaf) > 1 else None)
        col = tree.reduced_like(params, lambda leaf: np.ndim(leaf) - 2 if np.ndim(leaf) > 1 else None)
        full = tree.reduced_like(params, lambda leaf: None if np.ndim(leaf) > 1 else ())
        another = jax.tree.map(jnp.copy, (row, col))  # No two fields may share memory, or they could not be donated.
        return ScaleByCameState(tree.zeros_like(params, mu_dtype), row, col, full, *another)

    def update(updates: Updates, state: ScaleByCameState, params: Params | None = None, **extra: Any) -> Any:
        updates, *new = tree.map_leaves(
            came_rule,
            updates,
            *state,
            params=params,
            states_have_shape=(True, False, False, False, False, False),
            real_only=True,
            b1=b1,
            b2=b2,
            b3=b3,
            eps=eps,
            eps_confidence=eps_confidence,
            clipping_threshold=clipping_threshold,
        )
        return updates, ScaleByCameState(*new)

    return init, update


@gradient_transformation
def came(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    b3: DecayRateOrSchedule = 0.9999,
    eps: NonNegativeOrSchedule = 1e-30,
    eps_confidence: NonNegativeOrSchedule = 1e-16,
    clipping_threshold: LimitOrSchedule = 1.0,
    mu_dtype: tree.StateDtype = None,
    weight_decay: NonNegativeOrSchedule = 0.0,
    mask: Mask | None = None,
    *,
    decay: Decay = "lr",
) -> Any:
    """CAME: Adafactor with momentum, slower where gradients disagree with it.

    Equivalent to ``chain(scale_by_came(...), add_decayed_weights(weight_decay, mask),
    scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: a number in ``[0, inf)`` or a schedule; the authors use 2e-4 for language models.
      b1: the beta of the average of steps, in ``[0, 1)``.
      b2: the beta of the averages of squares, in ``[0, 1)``.
      b3: the beta of the averages of squared deviations, in ``[0, 1)``.
      eps: added to the squares, in ``[0, inf)``.
      eps_confidence: added to the squared deviations, in ``[0, inf)``.
      clipping_threshold: the largest root mean square of a leaf's step before the average, in ``[0, inf]``.
      mu_dtype: dtype of the average of steps; the parameter's by default, float32 for half precision.
      weight_decay: in ``[0, inf)``, multiplied by what ``decay`` says.
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.
      decay: what the weight decay is multiplied by: the learning rate (``"lr"``), its course without its height
        (``"schedule"``), or nothing (``"independent"``): see ``adamw``.

    Use it: for large models when memory is tight, in the place of ``adafactor`` with momentum; with a warm-up, since
      its first steps are long.
    Paper: Luo et al. 2023, arXiv 2307.02047.
    Lesson: none.
    """
    return decayed_step(
        "came",
        scale_by_came(b1, b2, b3, eps, eps_confidence, clipping_threshold, mu_dtype),
        learning_rate,
        weight_decay,
        mask,
        decay,
    )
