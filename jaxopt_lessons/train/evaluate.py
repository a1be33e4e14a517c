"""The loss and the metrics of fixed parameters on a set of data.

Sums and weights are added up over batches and divided once, so the result does not depend on the batch size.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons.train import compilation
from jaxopt_lessons.train.batches import Batches, minibatches
from jaxopt_lessons.train.objective import Weighted, measure
from jaxopt_lessons.types import Params, PyTree


def evaluate(
    loss_fn: Callable[..., Any], params: Params, data: PyTree, *, batch_size: int | None = None
) -> dict[str, float]:
    """Measures a loss function on data.

    Args:
      loss_fn: as for ``make_step``; one that takes a key gets None.
      params: the parameters.
      data: a tree of arrays with the examples along their first axes.
      batch_size: how many examples at a time; None for all at once. It changes memory and time, not the result.

    Returns:
      ``{"loss": ..., **metrics}``: means over all examples.
    """
    batches = minibatches(data, batch_size, shuffle=False)
    return {name: float(value) for name, value in measure_all(loss_fn, params, batches).items()}


def measure_all(loss_fn: Callable[..., Any], params: Params, batches: Batches) -> dict[str, jax.Array]:
    """``evaluate`` for planned batches, left on the device; compiled once for each loss function and shape."""
    return _program(loss_fn)(params, batches)


def _sums(loss_fn: Callable[..., Any], params: Params, batch: PyTree, mask: Any) -> dict[str, Weighted]:
    loss, metrics = measure(loss_fn, params, batch, None, mask)
    return {"loss": loss, **metrics}


@functools.lru_cache(maxsize=64)
def _program(loss_fn: Callable[..., Any]) -> Callable[[Params, Batches], dict[str, jax.Array]]:
    @compilation.counted()
    def measure_batches(params: Params, batches: Batches) -> dict[str, jax.Array]:
        def body(number: jax.Array, _: None) -> tuple[jax.Array, dict[str, Weighted]]:
            batch, mask = batches.load(batches.locate(None, number))
            return number + 1, _sums(loss_fn, params, batch, mask)

        parts = []
        if batches.full:
            _, sums = jax.lax.scan(body, jnp.int32(0), None, length=batches.full)
            parts.append(jax.tree.map(lambda x: jnp.sum(x, axis=0), sums))
        if batches.tail:
            batch, mask = batches.load(batches.locate(None, jnp.int32(batches.full), tail=True), tail=True)
            parts.append(_sums(loss_fn, params, batch, mask))
        totals = jax.tree.map(lambda *x: sum(x[1:], x[0]), *parts)
        return {name: total.mean() for name, total in totals.items()}

    return measure_batches
