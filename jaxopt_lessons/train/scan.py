"""Many steps in one compiled program.

Both functions here are pure and not compiled: put them into ``jit``, ``vmap`` (over states with different keys, for
seeds) or another ``scan``. ``fit`` does, and keeps the compiled program.

    epoch = make_epoch(step, minibatches(data, 128))
    state, metrics = jax.jit(epoch)(state, batches)      # metrics["loss"]: one number a step

Hand the batches over as an argument, as here, where the data is large: an array that a compiled function merely closes
over becomes a constant of the program.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, _training_checks
from jaxopt_lessons.train.batches import Batches, Location
from jaxopt_lessons.train.state import TrainState
from jaxopt_lessons.train.step import as_step
from jaxopt_lessons.types import PyTree

LOCATED_AT_ONCE = 2**22
"""Up to this many row numbers (16 MB) are calculated in one go before the loop; more of them inside it."""

Metrics = dict[str, jax.Array]
StepFn = Callable[..., tuple[TrainState, Metrics]]
LoopFn = Callable[..., Any]
"""``loop(body, state, inputs, length) -> (state, metrics)``, as ``lax.scan``."""


def run_steps(
    step: StepFn,
    state: TrainState,
    batches: Batches,
    first: jax.Array,
    length: int,
    tail: bool,
    loop: LoopFn = jax.lax.scan,
) -> tuple[TrainState, Metrics]:
    """``length`` steps on the full batches from number ``first`` on, then one on the smaller batch if ``tail``."""
    order = batches.order(state.key)
    numbers = first + jnp.arange(length, dtype=jnp.int32)
    located = length * (batches.batch_size or 0) <= LOCATED_AT_ONCE

    def locate(number: jax.Array) -> Location:
        return batches.locate(order, number)

    def body(state: TrainState, where: Any) -> tuple[TrainState, Metrics]:
        batch, mask = batches.load(where if located else locate(where))
        return step(state, batch, mask)

    parts = []
    if length:
        where = jax.vmap(locate)(numbers) if located else numbers
        state, metrics = loop(body, state, where, length)
        parts.append(metrics)
    if tail:
        batch, mask = batches.load(batches.locate(order, first + length, tail=True), tail=True)
        state, metrics = step(state, batch, mask)
        parts.append(jax.tree.map(lambda x: x[None], metrics))
    return state, parts[0] if len(parts) == 1 else jax.tree.map(lambda *x: jnp.concatenate(x), *parts)


def run_given(
    step: StepFn, state: TrainState, batches: PyTree, masks: jax.Array | None, loop: LoopFn = jax.lax.scan
) -> tuple[TrainState, Metrics]:
    """Steps on batches that are there, along the first axis of the arrays."""

    def body(state: TrainState, given: Any) -> tuple[TrainState, Metrics]:
        batch, mask = given
        return step(state, batch, mask)

    return loop(body, state, (batches, masks), len(jax.tree.leaves(batches)[0]))


def one_step(body: Callable[..., Any], state: TrainState, inputs: Any, length: int) -> Any:
    """What ``lax.scan`` returns for a length of 1, without the loop that it is however it is unrolled."""
    state, metrics = body(state, jax.tree.map(lambda x: x[0], inputs))
    return state, jax.tree.map(lambda x: x[None], metrics)


def certain_loop(body: Callable[..., Any], state: TrainState, inputs: Any, length: int) -> Any:
    """``lax.scan``, and a loop for a length of 1 as well.

    The compiler would take a loop of one turn away, fuse the step with all around it, and round otherwise than in the
    other chunks of a run; here it does not know that there is one. It cannot be differentiated in reverse.
    """
    if length > 1:
        return jax.lax.scan(body, state, inputs, length)

    def at(index: jax.Array) -> Any:
        return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, index, keepdims=False), inputs)

    def turn(index: jax.Array, carry: Any) -> Any:
        state, metrics = body(carry[0], at(index))
        return state, jax.tree.map(lambda x, one: x.at[index].set(one), carry[1], metrics)

    _, metrics = jax.eval_shape(lambda state: body(state, at(jnp.int32(0))), state)
    metrics = jax.tree.map(lambda x: jnp.zeros((1, *x.shape), x.dtype), metrics)
    return jax.lax.fori_loop(0, jax.lax.optimization_barrier(jnp.int32(1)), turn, (state, metrics))


def make_scan(step: StepFn, length: int, *, unroll: int = 1) -> Callable[[TrainState, Batches], Any]:
    """Makes a pure function that takes ``length`` steps from the state's cursor on, across epochs.

    Args:
      step: a step, made by ``make_step``.
      length: how many steps, at least 1.
      unroll: how many steps to write out in the body of the loop.

    Returns:
      ``scan(state, batches) -> (state, metrics)``, with metrics of shape ``[length]``.

    Raises:
      TypeError: from ``scan``, if the state was not made by ``init_state``, or the batches not by ``minibatches``.
      ValueError: from ``scan``, if the batches are of two sizes (remainder "keep"): one loop has one size.
    """
    step = as_step("make_scan", "step", step)
    length = _checks.whole("make_scan", "length", length, least=1)
    unroll = _checks.whole("make_scan", "unroll", unroll, least=1)

    def scan(state: TrainState, batches: Batches) -> tuple[TrainState, Metrics]:
        _made("make_scan", state, batches)
        _checks.require(
            batches.tail == 0,
            lambda: (
                f"make_scan: the last batch of an epoch has {batches.tail} examples instead of "
                f"{batches.batch_size}. Use remainder='drop', 'pad' or 'wrap', or make_epoch."
            ),
        )
        return run_steps(
            step, state, batches, state.cursor, length, False, functools.partial(jax.lax.scan, unroll=unroll)
        )

    return scan


def _made(owner: str, state: Any, batches: Any) -> None:
    _training_checks.made_by(owner, "state", state, TrainState, "init_state(params, step)")
    _training_checks.made_by(owner, "batches", batches, Batches, "minibatches")


def make_epoch(step: StepFn, batches: Batches, *, unroll: int = 1) -> Callable[..., Any]:
    """Makes a pure function that trains for one epoch: every batch of the state's epoch once.

    Args:
      step: a step, made by ``make_step``.
      batches: the data and its plan, made by ``minibatches``; not with remainder "wrap", where a batch may belong to
        two epochs.
      unroll: how many steps to write out in the body of the loop.

    Returns:
      ``epoch(state, batches=batches) -> (state, metrics)``, with one number a step in each metric.
    """
    step = as_step("make_epoch", "step", step)
    unroll = _checks.whole("make_epoch", "unroll", unroll, least=1)
    _training_checks.made_by("make_epoch", "batches", batches, Batches, "minibatches")
    _checks.require(
        batches.remainder != "wrap" or batches.examples % (batches.batch_size or 1) == 0,
        "make_epoch: with remainder='wrap' a batch may belong to two epochs; use make_scan.",
    )

    def epoch(state: TrainState, batches: Batches = batches) -> tuple[TrainState, Metrics]:
        _made("make_epoch", state, batches)
        first = state.cursor - state.cursor % batches.per_epoch
        loop = functools.partial(jax.lax.scan, unroll=unroll)
        return run_steps(step, state, batches, first, batches.full, batches.tail > 0, loop)

    return epoch
