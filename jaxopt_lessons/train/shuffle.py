"""A random permutation whose i-th entry can be had without the others.

Shuffling an array costs time and memory for all of it, and an order that was made yesterday must be stored to go on
with it. Here the order is a function: ``permuted(i, n, seed)`` is a bijection of ``0 ... n - 1`` that is calculated for
the indices of one batch, inside the compiled loop, from a seed made of the run's key and the epoch.

Write ``i = l * b + r`` with ``0 <= l < a`` and ``0 <= r < b``, where ``a = floor(sqrt(n))`` and ``b = floor(n / a)``.
Each round of a Feistel network (Luby & Rackoff 1988, here with addition modulo ``a`` and ``b``)

    l = (l + hash(r)) mod a
    r = (r + hash(l)) mod b

is a bijection of ``0 ... a b - 1``, whatever the hash is. The few numbers left over are mixed in by shifting: the
network acts on the first ``a b`` numbers, then on the last ``a b``, then on the first again. For very small ``n``,
where a network has too few permutations, random numbers are sorted instead. The order is random for statistics, not
for cryptography.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

ROUNDS = 2
SORTED_UP_TO = 16
FEW = 4096
"""Up to here the numbers left over are so many of all that the network takes five turns, not three."""


def seed_words(key: jax.Array) -> jax.Array:
    """Two words of randomness from a key, to be mixed with the number of the epoch."""
    return jax.random.bits(key, (2,), jnp.uint32)


def permuted(position: jax.Array, n: int, words: jax.Array, epoch: jax.Array) -> jax.Array:
    """The entries ``position`` of the random permutation of ``0 ... n - 1`` that belongs to ``(words, epoch)``.

    Positions of n and more go on into the permutations of the following epochs.

    Args:
      position: uint32 vector; its first entry is below n, and all are below n plus the length of the vector.
      n: length of the permutation, a Python int.
      words: ``seed_words`` of a key.
      epoch: which permutation, an integer scalar.
    """
    epoch = epoch.astype(jnp.uint32)
    if n <= SORTED_UP_TO:
        epochs = epoch + jnp.arange((n + position.size - 1) // n + 1, dtype=jnp.uint32)
        orders = jax.vmap(lambda epoch: _sorted_order(n, _seed(words, epoch)))(epochs)
        return orders[position // n, position % n]
    index, seed = position % n, _seed(words, epoch + position // n)
    a = math.isqrt(n)
    b = n // a
    rest = np.uint32(n - a * b)
    for turn in range(3 if n > FEW else 5):
        offset = rest if turn % 2 else np.uint32(0)
        moved = _network(index - offset, a, b, seed, turn) + offset
        index = jnp.where((index >= offset) & (index < offset + np.uint32(a * b)), moved, index)
    return index.astype(jnp.int32)


def _seed(words: jax.Array, epoch: jax.Array) -> jax.Array:
    return _hash(words[0] ^ _hash(epoch ^ words[1]))


def _network(index: jax.Array, a: int, b: int, seed: jax.Array, number: int) -> jax.Array:
    """A Feistel network on ``0 ... a b - 1``; for other indices the result means nothing."""
    left, right = index // np.uint32(b), index % np.uint32(b)
    for i in range(ROUNDS):
        base = np.uint32(2 * (number * ROUNDS + i) + 1)
        left = (left + _hash(right ^ _hash(seed + base)) % np.uint32(a)) % np.uint32(a)
        right = (right + _hash(left ^ _hash(seed + base + np.uint32(1))) % np.uint32(b)) % np.uint32(b)
    return left * np.uint32(b) + right


def _sorted_order(n: int, seed: jax.Array) -> jax.Array:
    """The permutation that sorts n random numbers of 64 bits."""
    high = _hash(jnp.arange(n, dtype=jnp.uint32) ^ seed)
    return jnp.lexsort((_hash(high + seed), high))


def _hash(x: Any) -> jax.Array:
    """Mixes the bits of 32-bit words: multiplications by odd numbers and shifted exclusive ors, a bijection."""
    x = jnp.asarray(x, jnp.uint32)
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))
