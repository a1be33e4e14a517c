"""DoG: gradient descent whose learning rate is the distance come so far over the gradients seen so far.

    r = max(r, |p - p0|)                          p0: the parameters at init
    G = G + |g|^2
    u = r / sqrt(G + eps) * g

    p = p - learning_rate * u

The norms are Euclidean and go over all leaves together. ``r`` starts at a guess, ``init_step``, that should be too
small rather than too large: it grows exponentially while the steps go one way, and never falls::

    ("heuristic", x)        r = x * (1 + |p0|)    x = 1e-6, or 1e-4 with batch normalization
    ("distance", x)         r = x
    ("learning_rate", x)    u = x * g while no step has been taken yet, then r as it comes

The last iterate jumps about, and the authors call averaging crucial: evaluate ``polynomial_average_params(dog(),
eta=8)``. The layer-wise variant is ``scale_by_distance_over_gradients``.

Infinite and NaN entries do not count in the norms, and a gradient whose norm exceeds 1.8e19 (in float32) is scaled down
to it. The distance is measured from the parameters of ``init``: weights loaded after it are a distance. Departure from
optax: with ``("learning_rate", x)`` a first gradient of zeros does not end the run there and then.

State: ``init_params`` (p0), 4 bytes a parameter; ``max_dist`` (r), ``sum_sq_norm_grads`` (G), ``is_init_step``.
"""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, tree
from jaxopt_lessons.core import Functions, chain, gradient_transformation, identity
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.transforms.weight_decay import add_decayed_weights
from jaxopt_lessons.types import Convert, Mask, NonNegativeOrSchedule, Params, Range, Updates


class DoGState(NamedTuple):
    is_init_step: jax.Array
    init_params: Params
    max_dist: jax.Array
    sum_sq_norm_grads: jax.Array


def dog_rule(g: jax.Array, factor: jax.Array, rate: jax.Array) -> jax.Array:
    return rate * (factor * g)


def _first_guess(owner: str, name: str, value: Any) -> Any:
    _checks.require(
        isinstance(value, (tuple, list)) and len(value) == 2,
        lambda: f"{owner}: {name} must be a pair such as ('heuristic', 1e-6); got {value!r}.",
    )
    kind, size = value
    _checks.one_of(owner, f"{name}[0]", kind, ("distance", "learning_rate", "heuristic"))
    _checks.number(owner, f"{name}[1]", size, Range(0, includes_low=False))
    return kind, float(size) if isinstance(size, int) else size


FirstGuess = Annotated[Any, Convert(_first_guess, mixed=True)]


@gradient_transformation
def scale_by_dog(init_step: FirstGuess = ("heuristic", 1e-6), eps: NonNegativeOrSchedule = 1e-8) -> Any:
    """Multiplies the updates by the distance from the start over the root of the sum of their squares.

    Args:
      init_step: a pair of ``"heuristic"``, ``"distance"`` or ``"learning_rate"`` and a number in ``(0, inf)``: the
        first distance relative to the size of the parameters, the first distance, or the first learning rate.
      eps: added to the sum of squares, in ``[0, inf)``.

    Raises:
      InputError: ``update`` was called without ``params``.

    >>> tx = scale_by_dog(("distance", 5.0), eps=0.0)
    >>> params = jnp.array([1.0, 2.0])
    >>> tx.update(jnp.array([30.0, 40.0]), tx.init(params), params)[0]  # of length 5
    Array([3., 4.], dtype=float32)
    """
    kind, size = init_step

    def init(params: Params) -> DoGState:
        init_params = tree.copy_like(params)
        r = 0 if kind == "learning_rate" else size
        if kind == "heuristic":
            norm, _ = tree.limited_norm(params)
            r = numerics.scalars(norm.dtype, size)[0] * (1 + norm)
        return DoGState(
            is_init_step=jnp.ones([], bool),
            init_params=init_params,
            max_dist=tree.scalar_like(params, r),
            sum_sq_norm_grads=tree.scalar_like(params, 0),
        )

    def update(updates: Updates, state: DoGState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        tree.check_updates(updates, params, state.init_params)
        dtype = state.max_dist.dtype
        norm, factor = tree.limited_norm(updates)
        r = jnp.maximum(state.max_dist, tree.distance(params, state.init_params).astype(dtype))
        total = jnp.minimum(state.sum_sq_norm_grads + norm.astype(dtype) ** 2, jnp.finfo(dtype).max)
        first, above_0 = numerics.scalars(dtype, size, eps)
        rate = r / numerics.root(total + above_0)
        if kind == "learning_rate":
            rate = jnp.where(state.is_init_step | (r == 0), first, rate)
        updates = tree.map_leaves(dog_rule, updates, params=params, factor=factor, rate=rate)
        return updates, DoGState(jnp.zeros([], bool), state.init_params, r, total)

    def readings(state: DoGState) -> dict[str, jax.Array]:
        """The learning rate of the last update."""
        first, above_0 = numerics.scalars(state.max_dist.dtype, size, eps)
        rate = state.max_dist / numerics.root(state.sum_sq_norm_grads + above_0)
        unknown = state.is_init_step if kind != "learning_rate" else state.is_init_step | (state.max_dist == 0)
        return {"estim_lr": jnp.where(unknown, first if kind == "learning_rate" else 0, rate)}

    return Functions(init, update, readings=readings)


@gradient_transformation
def dog(
    learning_rate: NonNegativeOrSchedule = 1.0,
    init_step: FirstGuess = ("heuristic", 1e-6),
    eps: NonNegativeOrSchedule = 1e-8,
    weight_decay: NonNegativeOrSchedule | None = None,
    mask: Mask | None = None,
) -> Any:
    """DoG: learning rate from the distance come and gradients seen.

    Equivalent to ``chain(add_decayed_weights(weight_decay, mask), scale_by_dog(init_step, eps),
    scale_by_learning_rate(learning_rate))``, without the decay if it is None.

    Args:
      learning_rate: the factor of all steps; a number in ``[0, inf)`` or a schedule. 1 is what the method is for.
      init_step: a pair of ``"heuristic"``, ``"distance"`` or ``"learning_rate"`` and a number in ``(0, inf)``: the
        first distance relative to the size of the parameters, the first distance, or the first learning rate.
      eps: added to the sum of squares, in ``[0, inf)``.
      weight_decay: L2 regularization in ``[0, inf)``, added to the gradient; None for none.
      mask: which leaves decay: a tree of bools, ``mask(params) -> tree`` or ``mask(path, leaf) -> bool``. None: all.

    Use it: for fine-tuning and convex problems without a learning rate, inside ``polynomial_average_params``; slow from
      scratch.
    Paper: Ivgi, Hinder & Carmon 2023, arXiv 2302.12022.
    Lesson: none.
    """
    decay = identity() if weight_decay is None else add_decayed_weights(weight_decay, mask)
    return chain(decay, scale_by_dog(init_step, eps), scale_by_learning_rate(learning_rate))
