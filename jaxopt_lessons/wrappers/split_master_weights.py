"""Master weights in two parts: the half-precision parameter itself, and a whole number for what it lacks.

    w = p + q * unit           p: the parameter; q: int16; unit: 2^-16 of the distance from p to its neighbour
    w = w + u                  u: the update of ``inner``, which sees w as its parameters
    p = round(w)               to the nearest, in the middle away from zero
    q = (w - p) / unit         -32768 ... 32767

bfloat16 is the upper half of float32, and q the lower one: 2 + 2 bytes hold w exactly, the same numbers as with
``master_weights`` for half of its memory. float16 and q hold it exactly from 6e-5 up, and to 5e-13 below. With
``bits=8`` q is int8 and the unit 2^-8 of the distance: w has 16 bits of mantissa, and is rounded to them at random.

One thing it cannot do: the step to a weight of the other sign, or to less than half of the old one, may be no number of
their dtype (see ``step_between``), and what ``apply_updates`` then misses is more than q can hold. Such a step is
rounded at random: it errs by 2^-8 of its length at most, and by nothing on average.

"At random" means by 16 bits made of those of w and of ``count``, which cost next to nothing; entries with the same
history are rounded in the same way.

State: that of ``inner``, ``count``, and ``residual``, 2 bytes (1 with ``bits=8``) for each half-precision parameter;
other parameters pass through. ``eval_params`` gives w, in float32. ``master_weights`` has a table of the alternatives.

Papers: Zamirai et al. 2020, arXiv 2010.06192 (16 bits); FlashOptim 2026, arXiv 2602.23349 (8 bits).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, numerics, rounding, tree
from jaxopt_lessons.core import Functions, Part, Transformation, gradient_transformation
from jaxopt_lessons.types import Params, State, Updates
from jaxopt_lessons.wrappers._half_precision import (
    half_leaves,
    map_by_dtype,
    map_half_leaves,
    random_step,
    replace_half_leaves,
    step_between,
)

_DTYPES = {8: jnp.int8, 16: jnp.int16}


class SplitMasterWeightsState(NamedTuple):
    count: jax.Array
    residual: Params
    inner: State


def split_rule(
    u: jax.Array, q: jax.Array, p: jax.Array, steps: jax.Array, salt: jax.Array, dtype: str
) -> tuple[jax.Array, jax.Array]:
    w = joined(p, q, steps, dtype) + u
    new = rounding.round_by(w, rounding.HALF, dtype)
    step, landed = step_between(p, new, dtype)
    uniform = uniform_of(w, salt)
    outwards = jnp.where(new < 0, new - w, w - new)
    q = outwards / unit(new, outwards, steps, dtype)
    q = jnp.where(uniform < q - jnp.floor(q), jnp.floor(q) + 1, jnp.floor(q))
    q = jnp.clip(q, -steps / 2, steps / 2 - 1)
    missed = landed != new
    return jnp.where(missed, random_step(p, w, uniform, dtype), step), jnp.where(missed, 0, q)


def uniform_of(w: jax.Array, salt: jax.Array) -> jax.Array:
    """A number in ``[0, 1)`` that depends on the bits of ``w`` and on the salt as if it were random."""
    bits = jax.lax.bitcast_convert_type(w, jnp.uint32) ^ (salt.astype(jnp.uint32) * jnp.uint32(0x10001))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):  # the finalizer of MurmurHash3
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    return ((bits ^ (bits >> 16)) >> 8).astype(w.dtype) / 2**24


def join_rule(p: jax.Array, q: jax.Array, steps: jax.Array, dtype: str) -> tuple[jax.Array, jax.Array]:
    return joined(p, q, steps, dtype), q


def joined(p: jax.Array, q: jax.Array, steps: jax.Array, dtype: str) -> jax.Array:
    q = q.astype(p.dtype)
    difference = jnp.where(q == 0, 0, q * unit(p, q, steps, dtype))
    return jnp.where(p < 0, p - difference, p + difference)


def unit(p: jax.Array, outwards: jax.Array, steps: jax.Array, dtype: str) -> jax.Array:
    """One of ``steps`` parts of the distance from ``p`` to the next number away from zero, or towards it."""
    distance = rounding.spacing(p, dtype)
    smallest = float(jnp.finfo(dtype).smallest_normal)
    is_power_of_two = jnp.abs(p) * float(jnp.finfo(dtype).eps) == distance
    denser = (outwards < 0) & is_power_of_two & (jnp.abs(p) > smallest)
    return jnp.maximum(jnp.where(denser, distance / 2, distance) / steps, jnp.finfo(p.dtype).tiny)


@gradient_transformation
def split_master_weights(inner: Transformation, bits: int = 16) -> Any:
    """Lets an optimizer work on float32 weights made of the half-precision parameters and of the bits they lack.

    It must be the outermost transformation or the last of a chain: what comes after it would spoil the rounding.

    Args:
      inner: the optimizer; it sees float32 gradients and parameters.
      bits: of what is kept beside each parameter: 16, the whole of float32, or 8.

    Raises:
      InputError: ``update`` was called without ``params``.

    >>> tx = split_master_weights(jl.sgd(2**-10))
    >>> params, g = jnp.ones(1, jnp.bfloat16), jnp.ones(1, jnp.bfloat16)
    >>> state = tx.init(params)
    >>> for _ in range(9):
    ...     updates, state = tx.update(g, state, params)
    ...     params = jl.apply_updates(params, updates)
    >>> params, jl.eval_params(tx, state, params)
    (Array([0.992188], dtype=bfloat16), Array([0.99121094], dtype=float32))
    """
    bits = _checks.whole("split_master_weights", "bits", bits)
    _checks.require(bits in _DTYPES, f"split_master_weights: bits must be 8 or 16; got {bits!r}.")

    def init(params: Params) -> SplitMasterWeightsState:
        residual = tree.zeros_like(half_leaves(params), _DTYPES[bits])
        return SplitMasterWeightsState(numerics.zero_count(), residual, inner.init(tree.widen(params)))

    def update(updates: Updates, state: SplitMasterWeightsState, params: Params | None = None, **extra: Any) -> Any:
        if params is None:
            _checks.params_needed(updates)
        updates, inner_state = inner.update(tree.widen(updates), state.inner, weights(state, params), **extra)
        salt = (state.count.astype(jnp.uint32) * jnp.uint32(0x9E3779B1)) >> 16  # a float32 holds it
        updates, residual = map_half_leaves(
            split_rule, updates, state.residual, params=params, steps=2.0**bits, salt=salt
        )
        return updates, SplitMasterWeightsState(numerics.increment(state.count), residual, inner_state)

    def parts(state: SplitMasterWeightsState) -> list[Part]:
        return [Part("inner", inner, state.inner)]

    def eval_params(state: SplitMasterWeightsState, params: Params) -> Params:
        return inner.eval_params(state.inner, weights(state, params))

    def weights(state: SplitMasterWeightsState, params: Params) -> Params:
        halves = half_leaves(params)
        wide, _ = map_by_dtype(join_rule, tree.widen(halves), state.residual, halves=halves, steps=2.0**bits)
        return replace_half_leaves(params, wide)

    return Functions(init, update, parts, eval_params, takes_half_precision=True)
