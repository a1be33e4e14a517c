"""Sums over the parts of a batch, one after the other, so that only one of them is in memory.

Of 10 examples in 4 parts the sizes are 3, 3, 2 and 2: one loop over those with one example more, one over the others.

On CPUs the loop is written out where there is a convolution (see ``cost``).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons.train.cost import cost_of
from jaxopt_lessons.types import PyTree


def sum_over_parts(
    function: Callable[[PyTree, jax.Array, PyTree], Any], batch: PyTree, examples: int, parts: int, carry: PyTree
) -> tuple[Any, PyTree]:
    """The sum of what ``function(part, number, carry)`` returns for the parts of a batch, and the last carry.

    Args:
      function: takes a part, its number, an int32 scalar, and what the part before it left; returns a tree of
        floating-point arrays, and what it leaves for the next, a tree of the structure, shapes and dtypes of ``carry``.
      batch: a tree of arrays with the examples along their first axes; a single number belongs to every part.
      examples: how many there are.
      parts: how many parts to make; there are never more than examples.
      carry: what the first part gets.
    """
    size, larger = divmod(examples, parts)
    sums, first, number = None, 0, 0
    for count, length in ((larger, size + 1), (parts - larger, size)):
        if count and length:
            piece = _rows(batch, first, count, length)
            numbers = jnp.arange(number, number + count, dtype=jnp.int32)
            sums, carry = _sum(function, sums, carry, piece, numbers)
            first, number = first + count * length, number + count
    return sums, carry


def _rows(batch: PyTree, first: int, count: int, length: int) -> PyTree:
    """``count`` parts of equal length, along a new first axis; a single number is repeated."""

    def cut(leaf: Any) -> Any:
        if not leaf.ndim:
            return jnp.broadcast_to(leaf, (count,))
        return jnp.reshape(leaf[first : first + count * length], (count, length, *leaf.shape[1:]))

    return jax.tree.map(cut, batch)


def _sum(function: Callable[..., Any], sums: Any, carry: Any, parts: PyTree, numbers: jax.Array) -> tuple[Any, Any]:
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), (parts, numbers))
    jaxpr, (result, _) = jax.make_jaxpr(function, return_shape=True)(*one, carry)
    if sums is None:
        sums = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), result)

    def body(sums_and_carry: Any, part: Any) -> tuple[Any, None]:
        sums, carry = sums_and_carry
        terms, carry = function(*part, carry)
        return (jax.tree.map(jnp.add, sums, terms), carry), None

    if len(numbers) == 1:  # A scan of one turn is a loop, however it is unrolled.
        return body((sums, carry), jax.tree.map(lambda x: x[0], (parts, numbers)))[0]
    written_out = jax.default_backend() == "cpu" and cost_of(jaxpr.jaxpr).has_convolution
    return jax.lax.scan(body, (sums, carry), (parts, numbers), unroll=written_out)[0]
