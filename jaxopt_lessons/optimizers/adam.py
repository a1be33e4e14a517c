"""Adam: momentum, divided by the root mean square, both corrected for their start at zero.

    m = b1 * m + (1 - b1) * g                     momentum: average of the gradients
    v = b2 * v + (1 - b2) * g^2                   RMSprop: average of their squares
    m_hat = m / (1 - b1^t)
    v_hat = v / (1 - b2^t)                        t = 1, 2, ...
    u = m_hat / (sqrt(v_hat + eps_root) + eps)

    p = p - learning_rate * u                     Adam
    p = p - learning_rate * (u + weight_decay * p)    AdamW; LAMB with the factor |p| / |u + weight_decay * p|

Nesterov: ``m_hat = b1 * m / (1 - b1^(t+1)) + (1 - b1) * g / (1 - b1^t)``: NAdam and NAdamW, as in optax. (Dozat's
paper and PyTorch also let the momentum warm up: ``nadam_dozat``.)

Each step is about the learning rate long whatever the scale of the gradients; the first is exactly that
(``u = sign(g)``), and would be 3.16 times as long without the corrections. Defaults: ``b1=0.9`` averages ten gradients,
``b2=0.999`` a thousand squares, and ``eps`` matters only where gradients are below 1e-8 or so.

State: ``count``, ``mu``, ``nu``, 8 bytes a parameter; 12 with the gradient before, for optimistic steps. AdamW is not
to be confused with Adam on a loss with an L2 term, where the decay is divided by ``sqrt(v_hat)`` too.
"""

from typing import Any, NamedTuple

import jax

from jaxopt_lessons import numerics, tree
from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.transforms.optimistic import scale_by_optimistic_gradient
from jaxopt_lessons.transforms.scale import scale
from jaxopt_lessons.transforms.trust_ratio import scale_by_trust_ratio
from jaxopt_lessons.transforms.weight_decay import add_decayed_weights
from jaxopt_lessons.types import DecayRateOrSchedule, Mask, NonNegativeOrSchedule, Params, Updates


class ScaleByAdamState(NamedTuple):
    count: jax.Array
    mu: Params
    nu: Params


def adam_rule(
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    b1: jax.Array,
    b2: jax.Array,
    eps: jax.Array,
    eps_root: jax.Array,
    correction1: jax.Array,
    correction2: jax.Array,
    next_correction1: jax.Array | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    g = numerics.squarable(g)
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    m_hat = m / correction1
    v_hat = v / correction2
    if next_correction1 is not None:  # Nesterov
        m_hat = b1 * m / next_correction1 + (1 - b1) * g / correction1
    u = m_hat / (numerics.root(v_hat + eps_root) + eps)
    return u, m, v


@gradient_transformation
def scale_by_adam(
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
    mu_dtype: tree.StateDtype = None,
    *,
    nesterov: bool = False,
) -> Any:
    """Replaces the updates by Adam's direction: average over root mean square.

    Args:
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      mu_dtype: dtype of ``mu``; the parameter's by default, float32 for half precision.
      nesterov: look one step ahead with the momentum.

    >>> tx = scale_by_adam()
    >>> tx.update(jnp.array([0.5, -20.0]), tx.init(jnp.zeros(2)))[0].round(4)
    Array([ 1., -1.], dtype=float32)
    """

    def init(params: Params) -> ScaleByAdamState:
        return ScaleByAdamState(
            count=numerics.zero_count(), mu=tree.zeros_like(params, mu_dtype), nu=tree.zeros_like(params)
        )

    def update(updates: Updates, state: ScaleByAdamState, params: Params | None = None, **extra: Any) -> Any:
        t = numerics.increment(state.count)
        updates, m, v = tree.map_leaves(
            adam_rule,
            updates,
            state.mu,
            state.nu,
            params=params,
            b1=b1,
            b2=b2,
            eps=eps,
            eps_root=eps_root,
            correction1=numerics.bias_correction(b1, t),
            correction2=numerics.bias_correction(b2, t),
            next_correction1=numerics.bias_correction(b1, numerics.increment(t)) if nesterov else None,
        )
        return updates, ScaleByAdamState(count=t, mu=m, nu=v)

    return init, update


@gradient_transformation
def adam(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
    mu_dtype: tree.StateDtype = None,
    *,
    nesterov: bool = False,
) -> Any:
    """Adam: momentum and RMSprop in one, corrected for starting at zero.

    Equivalent to ``chain(scale_by_adam(...), scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: about the length of each weight's step; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      mu_dtype: dtype of the average of gradients; the parameter's by default, float32 for half precision.
      nesterov: look one step ahead with the momentum.

    Use it: for networks of every kind without weight decay, from 1e-3 down; with decay take ``adamw``.
    Paper: Kingma & Ba 2014, arXiv 1412.6980.
    Lesson: 6, Adam.
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov), scale_by_learning_rate(learning_rate)
    )


@gradient_transformation
def adamw(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
    mu_dtype: tree.StateDtype = None,
    weight_decay: NonNegativeOrSchedule = 1e-4,
    mask: Mask | None = None,
    *,
    nesterov: bool = False,
) -> Any:
    """AdamW: Adam with decoupled weight decay.

    ``p = p - learning_rate * (u + weight_decay * p)`` with Adam's direction ``u``.

    Equivalent to ``chain(scale_by_adam(...), add_decayed_weights(weight_decay, mask),
    scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: about the length of each weight's step; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      mu_dtype: dtype of the average of gradients; the parameter's by default, float32 for half precision.
      weight_decay: in ``[0, inf)``, multiplied by the learning rate. (PyTorch's default is 1e-2.)
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.
      nesterov: look one step ahead with the momentum.

    Use it: first, for networks of every kind and transformers above all, from 1e-3 down (large ones 3e-4), with a
      warm-up and a decaying rate.
    Paper: Loshchilov & Hutter 2017, arXiv 1711.05101.
    Lesson: 6, Adam.
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


@gradient_transformation
def optimistic_adam(
    learning_rate: NonNegativeOrSchedule,
    optimism: NonNegativeOrSchedule | None = None,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
    mu_dtype: tree.StateDtype = None,
    *,
    nesterov: bool = True,
) -> Any:
    """Optimistic Adam: Adam that expects the next gradient, for games.

    ``p = p - learning_rate * u - optimism * (u - u_previous)`` with Adam's direction ``u``.

    Equivalent to ``chain(scale_by_adam(...), scale_by_optimistic_gradient(learning_rate, optimism), scale(-1.0))``.

    Args:
      learning_rate: the factor of Adam's direction; a number in ``[0, inf)`` or a schedule.
      optimism: the factor of its change since the last update, in ``[0, inf)``; the learning rate by default.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      mu_dtype: dtype of the average of gradients; the parameter's by default, float32 for half precision.
      nesterov: look one step ahead with the momentum.

    Use it: to reproduce optax's; ``optimistic_adam_v2`` is the better interface.
    Paper: see ``optimistic_adam_v2``.
    Lesson: none.
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_optimistic_gradient(learning_rate, learning_rate if optimism is None else optimism),
        scale(-1.0),
    )


@gradient_transformation
def optimistic_adam_v2(
    learning_rate: NonNegativeOrSchedule,
    *,
    alpha: NonNegativeOrSchedule = 1.0,
    beta: NonNegativeOrSchedule = 1.0,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
    mu_dtype: tree.StateDtype = None,
    nesterov: bool = True,
) -> Any:
    """Optimistic Adam with one learning rate for both terms.

    ``p = p - learning_rate * (alpha * u + beta * (u - u_previous))`` with Adam's direction ``u``.

    The same method as ``optimistic_adam``, and the better interface: a schedule of the learning rate acts on both
    terms.

    Equivalent to ``chain(scale_by_adam(...), scale_by_optimistic_gradient(alpha, beta),
    scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: a number in ``[0, inf)`` or a schedule.
      alpha: the factor of Adam's direction, in ``[0, inf)``.
      beta: the factor of its change since the last update, in ``[0, inf)``.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      mu_dtype: dtype of the average of gradients; the parameter's by default, float32 for half precision.
      nesterov: look one step ahead with the momentum.

    Use it: for games between networks (GANs), where Adam circles; in plain minimization it has no advantage.
    Paper: Daskalakis et al. 2017, arXiv 1711.00141.
    Lesson: none.
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_optimistic_gradient(alpha, beta),
        scale_by_learning_rate(learning_rate),
    )


@gradient_transformation
def nadam(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
    mu_dtype: tree.StateDtype = None,
) -> Any:
    """NAdam: Adam that looks one step ahead, at constant momentum.

    Equivalent to ``adam(..., nesterov=True)``. Not PyTorch's NAdam, whose momentum warms up: that is ``nadam_dozat``.

    Args:
      learning_rate: about the length of each weight's step; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      mu_dtype: dtype of the average of gradients; the parameter's by default, float32 for half precision.

    Use it: as ``adam``, of which it is the better by a little when both are tuned (Choi et al. 2019, arXiv 1910.05446).
    Paper: Dozat 2016, Incorporating Nesterov Momentum into Adam.
    Lesson: none.
    """
    return chain(scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=True), scale_by_learning_rate(learning_rate))


@gradient_transformation
def nadamw(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-8,
    eps_root: NonNegativeOrSchedule = 0.0,
    mu_dtype: tree.StateDtype = None,
    weight_decay: NonNegativeOrSchedule = 1e-4,
    mask: Mask | None = None,
) -> Any:
    """NAdamW: NAdam with decoupled weight decay.

    Equivalent to ``adamw(..., nesterov=True)``.

    Args:
      learning_rate: about the length of each weight's step; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      mu_dtype: dtype of the average of gradients; the parameter's by default, float32 for half precision.
      weight_decay: in ``[0, inf)``, multiplied by the learning rate.
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.

    Use it: as ``adamw``, where the run is long and tuned: the baseline of the AlgoPerf benchmark.
    Papers: see ``nadam``; the benchmark: Dahl et al. 2023, arXiv 2306.07179.
    Lesson: none.
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=True),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


@gradient_transformation
def lamb(
    learning_rate: NonNegativeOrSchedule,
    b1: DecayRateOrSchedule = 0.9,
    b2: DecayRateOrSchedule = 0.999,
    eps: NonNegativeOrSchedule = 1e-6,
    eps_root: NonNegativeOrSchedule = 0.0,
    weight_decay: NonNegativeOrSchedule = 0.0,
    mask: Mask | None = None,
) -> Any:
    """LAMB: AdamW with each layer's step proportional to the layer.

    Equivalent to ``chain(scale_by_adam(...), add_decayed_weights(weight_decay, mask), scale_by_trust_ratio(),
    scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: the relative length of each leaf's step; a number in ``[0, inf)`` or a schedule.
      b1: the beta of the average of gradients, in ``[0, 1)``.
      b2: the beta of the average of squares, in ``[0, 1)``.
      eps: added to the root.
      eps_root: added inside the root.
      weight_decay: in ``[0, inf)``, added to Adam's direction before its norm is taken.
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.

    Use it: to reproduce recipes with batches of many thousands; a tuned ``adamw`` does as well there (Nado et al. 2021,
      arXiv 2102.06356).
    Paper: You et al. 2019, arXiv 1904.00962.
    Lesson: none.
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_trust_ratio(),
        scale_by_learning_rate(learning_rate),
    )
