"""Rounding of float32 numbers to half precision: to the nearest, half away from zero, or at random.

The results are float32 arrays whose entries the narrower dtype can hold, so that a cast changes nothing any more. They
are made with integers, on the bits: a compiler may leave out the rounding in ``x.astype(bfloat16).astype(float32)``
(XLA calls that excess precision) or flush the subnormal numbers of float16, and arithmetic that relies on what was lost
then goes wrong. Infinite and NaN entries pass through; derivatives pass straight through, as those of a cast.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

HALF = 1 << 15
"""The noise of ``round_by`` that rounds to the nearest."""


def round_nearest(x: jax.Array, dtype: Any) -> jax.Array:
    """Every entry rounded to the nearest number of ``dtype``, in the middle to the even one, as a cast does."""
    return _round(x, None, dtype)


def round_by(x: jax.Array, noise: Any, dtype: Any) -> jax.Array:
    """Every entry rounded to one of its two neighbours in ``dtype``: away from zero if ``noise`` is large enough.

    For ``noise`` uniform over the integers of 16 bits the mean of the result is ``x``, to 16 bits; ``HALF`` rounds to
    the nearest, in the middle away from zero. Entries that ``dtype`` can hold stay as they are, and a finite entry in
    the range of ``dtype`` never becomes infinite.

    Args:
      x: float32.
      noise: whole numbers in ``[0, 2^16)``, uint32.
      dtype: bfloat16 or float16.
    """
    inside = jnp.abs(x) < float(jnp.finfo(dtype).max)
    return jnp.where(inside, _round(x, noise, dtype), _round(x, None, dtype))


def round_down(x: jax.Array, dtype: Any) -> jax.Array:
    """Every entry rounded to the next number of ``dtype`` that is not larger."""
    return round_by(x, jnp.where(x < 0, 0xFFFF, 0).astype(jnp.uint32), dtype)


def round_up(x: jax.Array, dtype: Any) -> jax.Array:
    """Every entry rounded to the next number of ``dtype`` that is not smaller."""
    return -round_down(-x, dtype)


def stochastic_round(x: jax.Array, dtype: Any, key: jax.Array) -> jax.Array:
    """Every entry rounded up or down at random, such that the mean of the result is ``x``.

    Where rounding to the nearest loses every one of many small steps, this loses none of them on average.

    Args:
      x: float32.
      dtype: bfloat16 or float16.
      key: a key of ``jax.random``; the same key gives the same result.

    >>> x = jnp.full(10_000, 1.001)  # bfloat16 holds 1 and 1.0078125, and nothing between them
    >>> stochastic_round(x, jnp.bfloat16, jax.random.key(0)).mean().round(3)
    Array(1.001, dtype=float32)
    """
    return round_by(x, jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32), dtype)


def spacing(x: jax.Array, dtype: Any) -> jax.Array:
    """The distance from ``|x|``, a number of ``dtype``, to the next larger one."""
    info = jnp.finfo(dtype)
    power = jax.lax.bitcast_convert_type(_bits(x) & jnp.uint32(0x7F800000), jnp.float32)  # |x| with mantissa 1.0
    smallest = max(float(info.smallest_subnormal), float(jnp.finfo(jnp.float32).tiny))
    return jnp.maximum(power * float(info.eps), smallest)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _round(x: jax.Array, noise: Any, dtype: Any) -> jax.Array:
    """Adds to the bits of the mantissa that ``dtype`` does not have, then drops them."""
    info = jnp.finfo(dtype)
    dropped = jnp.finfo(jnp.float32).nmant - info.nmant  # 16 for bfloat16, 13 for float16
    odd = (_bits(x) >> dropped) & 1
    added = (1 << (dropped - 1)) - 1 + odd if noise is None else noise >> (16 - dropped)
    rounded = jax.lax.bitcast_convert_type((_bits(x) + added) >> dropped << dropped, jnp.float32)
    rounded = jnp.where(jnp.abs(rounded) > float(info.max), jnp.copysign(jnp.inf, x), rounded)
    if info.smallest_normal > jnp.finfo(jnp.float32).smallest_normal:  # Smaller numbers are multiples of one unit.
        multiple = jnp.abs(x) / float(info.smallest_subnormal)
        whole = jnp.floor(multiple)
        if noise is None:
            whole = jnp.round(multiple)
        else:
            part, noise = multiple - whole, jnp.asarray(noise, jnp.uint32)
            most = part + noise.astype(x.dtype) / 2**16 >= 1
            whole = jnp.where(jnp.where(noise == 0xFFFF, part > 0, most), whole + 1, whole)
        small = jnp.copysign(whole * float(info.smallest_subnormal), x)
        rounded = jnp.where(jnp.abs(x) < float(info.smallest_normal), small, rounded)
    return jnp.where(jnp.isfinite(x), rounded, x)


@_round.defjvp
def _round_jvp(dtype: Any, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    return _round(*primals, dtype), tangents[0]


def _bits(x: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(x, jnp.uint32)
