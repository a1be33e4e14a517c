"""``trajectory``: every parameter, update and moment of a run, recorded on the device.

    params[0]     = the start
    params[i + 1] = params[i] + updates[i]
    losses[i]     = the loss at params[i] of the batch of step i

All steps are one compiled program, whose argument is the step: another learning rate compiles nothing. The batches are
those that ``fit`` takes from the same state, in the same order, and so are the numbers. To watch a long run from
outside, without its parameters, ``fit`` has a history.

Memory: ``(steps / every + 1) * (bytes of the parameters + bytes of the optimizer's state)``, on the device. For Adam
that is 12 bytes for each parameter and row: 1,000 steps of a network of 10,000 parameters take 120 MB.
"""

import difflib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _checks, _data_checks, _training_checks, numerics, tree
from jaxopt_lessons.train import compilation
from jaxopt_lessons.train.batches import NO_DATA, Batches, is_plain, planned
from jaxopt_lessons.train.kept import kept
from jaxopt_lessons.train.programs import as_argument, function_of
from jaxopt_lessons.train.scan import Metrics
from jaxopt_lessons.train.state import TrainState
from jaxopt_lessons.train.step import Step, as_step
from jaxopt_lessons.types import Params, PyTree, State, Updates

LIMIT = 2**31
"""Bytes that are recorded without being asked for, at most: 2 GiB."""


class Trajectory(NamedTuple):
    """What ``trajectory`` returns, with ``n = steps / every``: ``n + 1`` points, and ``n`` steps from one to the next.

    Attributes:
      params: the parameters, each leaf ``[n + 1, ...]``; the first row is the start.
      opt_state: the state of the optimizer beside each row of ``params``, ``[n + 1, ...]``; None if it was not wanted.
        ``jl.state_dict(step.tx, opt_state)`` has it by names.
      losses: ``[n]``, the loss at ``params[i]`` of the batch that the next step took.
      metrics: what else the step measured then, ``[n]`` each, by name.
      learning_rates: the rates that this step took, ``[n]`` each, by name: ``"learning_rate"``, or those of several
        optimizers as in ``hyperparams``.
      steps: batches of the run before each row of ``params``, ``[n + 1]``: 0, every, 2 * every ... from a new state.
      state: the state after the last step, to go on from.
    """

    params: Params
    opt_state: State
    losses: jax.Array
    metrics: dict[str, jax.Array]
    learning_rates: dict[str, jax.Array]
    steps: np.ndarray
    state: TrainState

    @property
    def updates(self) -> Updates:
        """How far each row of ``params`` is from the one before, ``[n, ...]``; in float32 for half precision.

        With ``every=1`` it is the update of each step as the parameters took it: rounded, and after all wrappers.
        """
        return jax.tree.map(lambda x: x[1:] - x[:-1], tree.widen(self.params))

    def moments(self, name: str) -> PyTree:
        """A field of the optimizer's state at each row, such as ``"mu"`` and ``"nu"`` of Adam, or ``"trace"`` of SGD.

        Args:
          name: the name of the field; a first moment is ``mu``, a second ``nu``. The names of all are in ``types``.

        Returns:
          For a moment, a tree like ``params`` with leaves ``[n + 1, ...]``; for a count, ``[n + 1]``.

        Raises:
          ValueError: the state has no field of this name, the names that it has are said; or it has several, as with
            two optimizers: take ``jl.state_dict(step.tx, run.opt_state)`` then.

        >>> step = jl.make_step(lambda w, _: w**2, jl.sgd(0.25, momentum=0.5))
        >>> jl.inspect.trajectory(step, jl.init_state(1.0, step), steps=2).moments("trace").tolist()
        [0.0, 2.0, 2.0]
        """
        found = [node for node in _records(self.opt_state) if name in node._fields]
        if not found:
            names = sorted({field for node in _records(self.opt_state) for field in node._fields})
            near = difflib.get_close_matches(str(name), names, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"moments: the optimizer's state has no field {name!r}.{hint} It has: {', '.join(names) or 'none'}."
            )
        _checks.require(
            len(found) == 1,
            lambda: (
                f"moments: {len(found)} parts of the optimizer's state have a field {name!r}; "
                "jl.state_dict(step.tx, run.opt_state) tells them apart."
            ),
        )
        return getattr(found[0], name)


def trajectory(
    step: Step,
    state: TrainState,
    data: PyTree = None,
    steps: int = 100,
    *,
    batch_size: int | None = None,
    shuffle: bool = True,
    remainder: str = "keep",
    every: int = 1,
    opt_state: bool = True,
    limit: int = LIMIT,
) -> Trajectory:
    """Trains for some steps and records the parameters and the optimizer's state before and after each of them.

    ``state`` is not changed and stays usable. Convolutions are slow here on CPUs, as in any compiled loop.

    Args:
      step: a step, made by ``make_step``, wrapped or not.
      state: where to begin, made by ``init_state``.
      data: a tree of arrays with the examples along their first axes, or ``minibatches`` of them. None for a loss of
        the parameters alone: it is called as ``loss_fn(params, None)``.
      steps: how many steps, at least 1, over as many epochs as it takes.
      batch_size: examples in a batch; None for all at each step.
      shuffle: give each epoch a random order of its own, as ``fit`` does.
      remainder: "keep", "drop", "pad" or "wrap": what happens to examples that do not fill a batch.
      every: record one row in so many steps, at least 1; ``steps`` must be a multiple of it.
      opt_state: record the optimizer's state too.
      limit: bytes that may be recorded, 2 GiB if it is not said.

    Returns:
      A ``Trajectory``: ``.params``, ``.updates``, ``.moments("nu")``, ``.losses`` ..., and the last ``.state``.

    Raises:
      TypeError: an argument is of another type, or the state is traced by ``jit``.
      ValueError: a number is out of range, ``steps`` is no multiple of ``every``, the rows would take more than
        ``limit`` bytes, or it is said twice how the data is cut into batches.

    >>> step = jl.make_step(lambda w, _: w**2, jl.sgd(0.25))
    >>> run = trajectory(step, jl.init_state(1.0, step), steps=3)
    >>> run.params.tolist(), run.updates.tolist(), run.losses.tolist()
    ([1.0, 0.5, 0.25, 0.125], [-0.5, -0.25, -0.125], [1.0, 0.25, 0.0625])
    """
    step = as_step("trajectory", step)
    if not isinstance(state, TrainState):
        raise TypeError(f"trajectory: state must be made by init_state; got one {type(state).__name__}.")
    _training_checks.not_traced("trajectory", state.cursor)
    steps = _checks.whole("trajectory", "steps", steps, least=1)
    every = _checks.whole("trajectory", "every", every, least=1)
    _checks.require(
        steps % every == 0,
        lambda: f"trajectory: steps must be a multiple of every; got steps={steps} and every={every}.",
    )
    keeps_opt_state = _checks.flag("trajectory", "opt_state", opt_state)
    batches = _planned(data, batch_size, shuffle, remainder)
    recorded = (state.params, state.opt_state if keeps_opt_state else None)
    _check_memory(recorded, steps // every, every, _checks.whole("trajectory", "limit", limit, least=1))
    leaves, structure = jax.tree.flatten(as_argument(step))
    program = _program(function_of(step), structure, steps // every, every, keeps_opt_state)
    last, (params, states), metrics, rates = program(leaves, state, batches)
    _checks.require("loss" in metrics, "trajectory: the step measures no loss; make it by make_step.")
    at = int(state.cursor) + every * np.arange(steps // every + 1)
    return Trajectory(params, states, metrics.pop("loss"), metrics, rates, at, last)


# ---------------------------------------------------------------------------------------------------------------------
# The compiled run
# ---------------------------------------------------------------------------------------------------------------------


@kept
def _program(owner: Any, structure: Any, rows: int, every: int, keeps_opt_state: bool) -> Callable[..., Any]:
    """The compiled run with a step of this structure."""

    def to_record(state: TrainState) -> tuple[Params, State]:
        return state.params, state.opt_state if keeps_opt_state else None

    @compilation.counted()
    def follow(leaves: list[Any], state: TrainState, batches: Batches) -> Any:
        step: Step = jax.tree.unflatten(structure, leaves)
        order, first = batches.order(state.key), state.cursor

        def one(state: TrainState, number: jax.Array) -> tuple[TrainState, tuple[Metrics, Metrics]]:
            rates = {name: numerics.as_float(rate) for name, rate in step.learning_rates(state).items()}
            state, metrics = _on_batch(step, state, batches, order, number)
            return state, (metrics, rates)

        def row(carry: Any, index: jax.Array) -> Any:
            state, record = carry
            numbers = first + index * every + jnp.arange(every, dtype=jnp.int32)
            if every == 1:
                state, measured = one(state, numbers[0])
            else:
                state, all_measured = jax.lax.scan(one, state, numbers)
                measured = jax.tree.map(lambda x: x[0], all_measured)
            return (state, jax.tree.map(lambda x, now: x.at[index + 1].set(now), record, to_record(state))), measured

        # In the carry, and not what the loop stacks: the start would have to be copied in before it.
        record = jax.tree.map(lambda x: jnp.broadcast_to(x[None], (rows + 1, *x.shape)), to_record(state))
        (state, record), (metrics, rates) = jax.lax.scan(row, (state, record), jnp.arange(rows, dtype=jnp.int32))
        return state, record, metrics, rates

    return follow


def _on_batch(
    step: Step, state: TrainState, batches: Batches, order: jax.Array | None, number: jax.Array
) -> tuple[TrainState, Metrics]:
    """A step on batch number ``number`` of the run, which may be a smaller one."""

    def taken(state: TrainState, tail: bool) -> tuple[TrainState, Metrics]:
        batch, mask = batches.load(batches.locate(order, number, tail=tail), tail=tail)
        return step(state, batch, mask)

    if not batches.tail or not batches.full:
        return taken(state, batches.tail > 0)
    is_tail = number % batches.per_epoch == batches.full
    return jax.lax.cond(is_tail, lambda state: taken(state, True), lambda state: taken(state, False), state)


def _planned(data: PyTree, batch_size: int | None, shuffle: bool, remainder: str) -> Batches:
    if data is None:
        _checks.require(
            is_plain(batch_size, shuffle, remainder),
            "trajectory: without data there are no batches; leave out batch_size, shuffle and remainder.",
        )
        return NO_DATA
    batches = planned("trajectory", data, batch_size, shuffle, remainder)
    if batches.on_host:
        _data_checks.on_the_host()  # The compiled program would read all of it.
    return batches


def _check_memory(recorded: PyTree, rows: int, every: int, limit: int) -> None:
    of_row = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(recorded))
    needed = (rows + 1) * of_row
    if needed <= limit:
        return
    fitting = limit // of_row - 1  # rows beside the first
    advice = f"Say every={-(-rows * every // fitting)} or more, " if fitting >= 1 else "Say "
    raise ValueError(
        f"trajectory: {rows + 1} rows of {_bytes(of_row)} take {_bytes(needed)} on the device, more than "
        f"limit={limit} ({_bytes(limit)}). {advice}fewer steps, opt_state=False to record the parameters alone, or "
        "another limit."
    )


def _bytes(number: int) -> str:
    size, unit = float(number), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size >= 1024:
            size, unit = size / 1024, larger
    return f"{size:.3g} {unit}"


def _records(state: State) -> list[Any]:
    """The named tuples in a state, those inside others too."""
    found = []

    def look(node: Any) -> None:
        if hasattr(node, "_fields"):
            found.append(node)
        for child in jax.tree.leaves(node, is_leaf=lambda x: x is not node):
            if child is not node:
                look(child)

    look(state)
    return found
