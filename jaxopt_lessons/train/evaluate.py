"""The loss and the metrics of fixed parameters on a set of data.

Sums and weights are added up over batches and divided once, so the result does not depend on the batch size.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _training_checks
from jaxopt_lessons._labels import signature_of
from jaxopt_lessons.train import compilation
from jaxopt_lessons.train.batches import Batches, minibatches
from jaxopt_lessons.train.chunks import pieces
from jaxopt_lessons.train.host_batches import HostBatches
from jaxopt_lessons.train.kept import kept
from jaxopt_lessons.train.objective import LossFunction, Weighted
from jaxopt_lessons.train.policy import Policy, as_policy
from jaxopt_lessons.train.step import Step
from jaxopt_lessons.types import Params, PyTree

READ_AT_ONCE = 64
"""Batches that are brought to the device at once, at most, from the host's memory."""


def evaluate(
    loss_fn: Callable[..., Any],
    params: Params,
    data: PyTree,
    *,
    batch_size: int | None = None,
    model_state: PyTree = None,
    policy: Any = None,
) -> dict[str, float]:
    """Measures a loss function on data, outside of compiled code: the result is Python numbers.

    Args:
      loss_fn: as for ``make_step``; one that takes a key gets None.
      params: the parameters.
      data: a tree of arrays with the examples along their first axes. Of a ``numpy.memmap`` a few batches are read at
        a time.
      batch_size: how many examples at a time; None for all at once. It changes memory and time, not the result.
      model_state: the model state of a loss that takes one, as with ``make_step(stateful=True)``: it gets this one with
        each batch, and the one it returns is thrown away. None for a loss that takes none.
      policy: the precision of the loss, as for ``make_step``.

    Returns:
      ``{"loss": ..., **metrics}``: means over all examples.

    Raises:
      TypeError: an argument is of another type, or is traced.
      ValueError: the batch size is below 1, or the model state does not go with the loss.
      InputError: the data or the loss do not fit.
    """
    _training_checks.not_traced("evaluate", params, data, model_state)
    batches = minibatches(data, batch_size, shuffle=False)
    policy = as_policy("evaluate", "policy", policy)
    return {name: float(value) for name, value in measure_all(loss_fn, params, batches, model_state, policy).items()}


def measure_all(
    loss_fn: Callable[..., Any],
    params: Params,
    batches: Batches,
    model_state: PyTree = None,
    policy: Policy | None = None,
) -> dict[str, jax.Array]:
    """``evaluate`` for planned batches, left on the device; compiled once for each loss function and shape."""
    loss = loss_to_measure("evaluate", loss_fn, model_state, policy)
    if batches.on_host:
        return _measure_from_host(loss, params, batches, model_state)
    return _program(loss.function, loss)(params, batches, model_state)


def loss_to_measure(owner: str, loss_fn: Any, model_state: PyTree, policy: Any) -> LossFunction:
    """The loss function that the arguments of a function that measures say; raises unless they go together."""
    if isinstance(loss_fn, Step) or not callable(loss_fn):
        _training_checks.loss_function_expected(owner, loss_fn)
    stateful, switch = model_state is not None, "model_state=state.model_state"
    _training_checks.stateful_loss(owner, signature_of(loss_fn), stateful, switch)
    return LossFunction(loss_fn, stateful, as_policy(owner, "policy", policy))


def _measure_from_host(
    loss: LossFunction, params: Params, batches: Batches, model_state: PyTree
) -> dict[str, jax.Array]:
    """The same of data in the host's memory: some batches after the other are brought to the device."""

    def room(cursor: int, left: int | None) -> int:
        return next(pieces(left or 0, READ_AT_ONCE)) if cursor < batches.per_epoch else 0

    add, sums = _added_sums(loss.function, loss), None
    with HostBatches(batches, None).chunks(0, room, jax.device_put) as chunks:
        for chunk in chunks:
            before, sums = sums, add(params, sums, chunk.batches, model_state)
            jax.block_until_ready(before)  # Or chunks pile up on the device, which may be slower than the reading.
    return {name: total.mean() for name, total in (sums or {}).items()}


@kept
def _added_sums(owner: Any, loss: LossFunction) -> Callable[..., dict[str, Weighted]]:
    @compilation.counted()
    def add_sums(
        params: Params, sums: dict[str, Weighted] | None, batches: PyTree, model_state: PyTree
    ) -> dict[str, Weighted]:
        each = jax.lax.map(lambda batch: _sums(loss, params, model_state, batch, None), batches)
        found = jax.tree.map(lambda x: jnp.sum(x, axis=0), each)
        return found if sums is None else jax.tree.map(jnp.add, sums, found)

    return add_sums


def _sums(loss: LossFunction, params: Params, model_state: PyTree, batch: PyTree, mask: Any) -> dict[str, Weighted]:
    value, metrics, _ = loss.measure(params, model_state, batch, None, mask)
    return {"loss": value, **metrics}


@kept
def _program(owner: Any, loss: LossFunction) -> Callable[[Params, Batches, PyTree], dict[str, jax.Array]]:
    @compilation.counted()
    def measure_batches(params: Params, batches: Batches, model_state: PyTree) -> dict[str, jax.Array]:
        return means(loss, params, batches, model_state)

    return measure_batches


def means(loss: LossFunction, params: Params, batches: Batches, model_state: PyTree) -> dict[str, jax.Array]:
    """The loss and the metrics over batches on the device: a pure function, for compiled programs."""
    each = batches.map(lambda batch, mask: _sums(loss, params, model_state, batch, mask))
    totals = jax.tree.map(lambda x: jnp.sum(x, axis=0), each)
    return {name: total.mean() for name, total in totals.items()}
