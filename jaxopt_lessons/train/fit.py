"""``fit``: a whole training run, as a loop on the host around compiled chunks of steps.

The chunk is one compiled program: a scan over steps that calculates its own batches. It gets the step as an argument,
so its hyperparameters are inputs, and it gives the state back in the order in which it came and in the same buffers. A
new learning rate, or a second ``fit``, compiles nothing. While the device works on one chunk the host reads the metrics
of the one before; it never waits for a number in the middle of a chunk, and nothing calls back from compiled code.
"""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons import _checks, _training_checks, numerics
from jaxopt_lessons._value import Value
from jaxopt_lessons.train import compilation
from jaxopt_lessons.train.batches import Batches, minibatches
from jaxopt_lessons.train.evaluate import measure_all
from jaxopt_lessons.train.history import History
from jaxopt_lessons.train.progress import make_progress
from jaxopt_lessons.train.scan import Metrics, StepFn, run_steps
from jaxopt_lessons.train.state import TrainState
from jaxopt_lessons.train.step import Step, step_of
from jaxopt_lessons.types import PyTree

CHUNK_STEPS = 1024
"""Steps in one compiled chunk, at most: enough to make the host's part small, few enough for a bar to move."""


class FitResult(NamedTuple):
    """What ``fit`` returns.

    Attributes:
      state: the state after the last step.
      history: what was measured; ``history["loss"]`` and ``history["learning_rate"]`` have one number for each step.
        An optimizer with several learning rates has a column for each, ``history["head.sgd.learning_rate"]``, named as
        in ``hyperparams``; so have the factors of a rate that are found out, ``history["reduce_on_plateau.scale"]``.
      compiles: how many programs were compiled for this run. A second run of equal shapes has 0.
      seconds: wall-clock time of the run, compilation included.
    """

    state: TrainState
    history: History
    compiles: int
    seconds: float

    def __repr__(self) -> str:
        steps = int(self.state.step)
        return f"FitResult({steps=}, history={self.history}, compiles={self.compiles}, seconds={self.seconds:.3g})"


class _Chunk(NamedTuple):
    """Steps that one compiled program does: ``length`` full batches, or the smaller one if ``tail``.

    The smaller batch has a program of its own, so that every step is the same program wherever a run begins and ends:
    XLA rounds a step differently inside another program, and a run that goes on would not be the run that did not stop.
    """

    first: int
    length: int
    tail: bool
    epoch: int
    ends_epoch: bool

    @property
    def steps(self) -> int:
        return self.length + self.tail


def fit(
    step: StepFn,
    state: TrainState,
    data: PyTree | Batches,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    shuffle: bool = True,
    remainder: str = "keep",
    val: PyTree | None = None,
    val_batch_size: int | None = None,
    val_loss_fn: Callable[..., Any] | None = None,
    progress: bool | None = None,
) -> FitResult:
    """Trains for some epochs or steps from where ``state`` is.

    Args:
      step: a step, made by ``make_step``.
      state: where to begin, made by ``init_state`` or returned by an earlier ``fit``. It is copied, not consumed.
      data: a tree of arrays with the examples along their first axes, for instance ``(x, y)``; or the result of
        ``minibatches``, which keeps the data on the device from one ``fit`` to the next.
      epochs: how many times to go through the data; a run that begins inside an epoch ends inside one.
      steps: how many steps to take, in the place of ``epochs``.
      batch_size: examples in a batch; None for all of them (batch gradient descent), 1 for stochastic gradient descent.
      shuffle: give each epoch a random order of its own, a function of the key in ``state`` and the epoch.
      remainder: "keep", "drop", "pad" or "wrap": what happens to examples that do not fill a batch (``minibatches``).
      val: data to measure the loss on after each epoch and at the end, as ``val_loss`` and ``val_<metric>``; with the
        weights to evaluate, those of ``step.eval_params(state)``.
      val_batch_size: examples at a time in validation, ``batch_size`` by default; it does not change the result.
      val_loss_fn: the loss for validation; by default that of the step, with None for its key.
      progress: draw a bar (needs tqdm); by default where there is a terminal.

    Returns:
      ``FitResult(state, history, compiles, seconds)``.

    Raises:
      TypeError, ValueError, InputError: an argument does not fit; the message names it.
    """
    began = time.perf_counter()
    batches = _planned(data, batch_size, shuffle, remainder)
    total = _total_steps(epochs, steps, batches, int(state.cursor))
    validate = _validation(step, val, val_batch_size, val_loss_fn, batches)

    history = History()
    steps_before = int(state.step)
    cursor_before = int(state.cursor)
    bar = make_progress(progress, total)
    pending: list[tuple[_Chunk, Metrics, dict[str, jax.Array]]] = []

    def record() -> None:
        """Moves the metrics of the oldest pending chunk to the host, waiting for it if need be."""
        chunk, metrics, val_metrics = pending.pop(0)
        metrics, val_metrics = jax.device_get((metrics, val_metrics))
        done = steps_before + (chunk.first - cursor_before) + np.arange(1, chunk.steps + 1)
        history.append(metrics, done, chunk.epoch)
        if val_metrics:
            history.append(val_metrics, done[-1:], chunk.epoch)
        if bar is not None:
            latest = {name: float(values[-1]) for name, values in metrics.items()}
            bar.advance(chunk.steps, chunk.epoch, latest | {k: float(v) for k, v in val_metrics.items()})

    argument = as_argument(step)
    with compilation.count() as compiled:
        state = _copy(state)  # The chunks take over the buffers of the state they get.
        try:
            for chunk in _chunks(batches, int(state.cursor), total):
                state, metrics = _run_chunk(argument, state, batches, chunk.length, chunk.tail)
                val_metrics = {}
                is_last = chunk.first + chunk.steps == cursor_before + total
                if validate is not None and (chunk.ends_epoch or is_last):
                    val_metrics = validate(state)
                pending.append((chunk, metrics, val_metrics))
                if len(pending) > 1:
                    record()
            while pending:
                record()
        finally:
            if bar is not None:
                bar.close()
    return FitResult(state, history, len(compiled), time.perf_counter() - began)


def _run_chunk(step: Any, state: TrainState, batches: Batches, length: int, tail: bool) -> tuple[TrainState, Metrics]:
    leaves, structure = jax.tree.flatten(step)
    return _program(structure, length, tail)(leaves, state, batches)


@functools.lru_cache(maxsize=64)
def _program(structure: Any, length: int, tail: bool) -> Callable[..., tuple[TrainState, Metrics]]:
    """The compiled chunk of a step with this structure. The latest are kept: a program holds the loss function, and
    with it whatever that closes over, for as long as it lives."""

    @compilation.counted(donate_argnums=(1,))
    def run_chunk(leaves: list[Any], state: TrainState, batches: Batches) -> tuple[TrainState, Metrics]:
        step = _with_learning_rates(jax.tree.unflatten(structure, leaves))
        return run_steps(step, state, batches, state.cursor, length, tail)

    return run_chunk


def _with_learning_rates(step: Step) -> StepFn:
    """The step with the learning rates it took among its metrics."""

    def measured(state: TrainState, batch: PyTree, mask: jax.Array | None) -> tuple[TrainState, Metrics]:
        rates = {name: numerics.as_float(rate) for name, rate in step.learning_rates(state).items()}
        state, metrics = step(state, batch, mask)
        _training_checks.reserved_metrics(metrics, rates, "fit records its own")
        return state, {**metrics, **rates}

    return measured


def as_argument(step: StepFn) -> Any:
    """The step as an argument of a compiled program, with its Python numbers as arrays of JAX's dtypes for them.

    A Python float and a float32 array are different types to ``jit``; as hyperparameters they are the same.
    """
    if not isinstance(step, Value):
        step = step_of(step)

    def strong(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array):
            return leaf.astype(leaf.dtype) if leaf.weak_type else leaf
        if isinstance(leaf, float):  # np.float64 is one
            return np.asarray(leaf, numerics.float_dtype())
        return np.asarray(leaf, np.int32) if isinstance(leaf, int) else leaf

    return jax.tree.map(strong, step)


@jax.jit
def _copy(state: TrainState) -> TrainState:
    return jax.tree.map(jnp.copy, state)


def _planned(data: PyTree | Batches, batch_size: int | None, shuffle: bool, remainder: str) -> Batches:
    if not isinstance(data, Batches):
        return minibatches(data, batch_size, shuffle=shuffle, remainder=remainder)
    _checks.require(
        batch_size is None and shuffle is True and remainder == "keep",
        "fit: the data is planned by minibatches already; say batch_size, shuffle and remainder there.",
    )
    return data


def _total_steps(epochs: int | None, steps: int | None, batches: Batches, cursor: int) -> int:
    _checks.require((epochs is None) != (steps is None), "fit: say either epochs=... or steps=..., and not both.")
    if steps is not None:
        return _checks.whole("fit", "steps", steps, least=0)
    epochs = _checks.whole("fit", "epochs", epochs, least=0)
    epoch = batches.epoch_of(cursor)
    return batches.epoch_start(epoch + epochs) - batches.epoch_start(epoch)


def _validation(
    step: StepFn, val: PyTree, batch_size: int | None, loss_fn: Callable[..., Any] | None, batches: Batches
) -> Callable[[TrainState], dict[str, jax.Array]] | None:
    """What measures ``val_loss`` and the other ``val_*`` of a state, or None if there is nothing to measure."""
    if val is None:
        _checks.require(loss_fn is None and batch_size is None, "fit: val_loss_fn or val_batch_size without val.")
        return None
    measured = loss_fn if loss_fn is not None else getattr(step, "loss_fn", None)
    if measured is None:
        raise ValueError("fit: a step that make_step did not make has no loss to validate with; say val_loss_fn=...")
    planned = minibatches(val, batch_size if batch_size is not None else batches.batch_size, shuffle=False)
    stateful, policy = getattr(step, "stateful", False), getattr(step, "policy", None)

    def validate(state: TrainState) -> dict[str, jax.Array]:
        try:
            params = step.eval_params(state) if isinstance(step, Step) else state.params
            means = measure_all(measured, params, planned, state.model_state if stateful else None, policy)
        except Exception as error:
            error.add_note("This happened when fit measured the loss on val.")
            raise
        return {f"val_{name}": mean for name, mean in means.items()}

    return validate


def _chunks(batches: Batches, cursor: int, total: int) -> Iterator[_Chunk]:
    """Cuts a run into chunks that end where epochs end, of as few different lengths as can be."""
    end = cursor + total
    while cursor < end:
        epoch = batches.epoch_of(cursor)
        stop = min(batches.epoch_start(epoch + 1), end)
        tail = batches.is_tail(stop - 1)
        for length, with_tail in _lengths(stop - cursor - tail, tail):
            following = cursor + length + with_tail
            yield _Chunk(cursor, length, with_tail, epoch, following == batches.epoch_start(epoch + 1))
            cursor = following


def _lengths(full: int, tail: bool) -> Iterator[tuple[int, bool]]:
    """Chunk lengths for ``full`` batches and perhaps a smaller one: equal lengths if they can be, for one program."""
    parts = -(-full // CHUNK_STEPS)
    if parts:
        parts = next((n for n in range(parts, 2 * parts) if full % n == 0), parts)
        length = -(-full // parts)
        for begin in range(0, full, length):
            yield min(length, full - begin), False
    if tail:
        yield 0, True
