"""``fit``: a whole training run, as a loop on the host around compiled chunks of steps.

While the device works on one chunk the host reads the metrics of the one before; it never waits for a number in the
middle of a chunk, and nothing calls back from compiled code. Observers look at the run between chunks.

    source    where the batches come from, and how the run is cut into chunks    sources, chunks
    train     starts the chunks, the programs of the step, and reads them        loop, programs
    watch     the observers, and what they remember                              watch, observers/
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lessons import _checks, _errors, _training_checks
from jaxopt_lessons.train import compilation, interrupts
from jaxopt_lessons.train.batches import minibatches
from jaxopt_lessons.train.device_plan import DevicePlan
from jaxopt_lessons.train.evaluate import measure_all
from jaxopt_lessons.train.facts import facts_of
from jaxopt_lessons.train.history import History
from jaxopt_lessons.train.loop import Loop
from jaxopt_lessons.train.observers.observer import Observer
from jaxopt_lessons.train.progress import make_progress
from jaxopt_lessons.train.resuming import checkpoint_of, go_on, refuse_to_replace, snapshot
from jaxopt_lessons.train.run import Run
from jaxopt_lessons.train.run_length import checked_end, length_of
from jaxopt_lessons.train.scan import StepFn
from jaxopt_lessons.train.sources import source_of
from jaxopt_lessons.train.state import TrainState, copied
from jaxopt_lessons.train.step import Step, as_step
from jaxopt_lessons.train.stream import is_stream
from jaxopt_lessons.train.watch import Watch
from jaxopt_lessons.train.with_plan import PlannedLoss, with_plan
from jaxopt_lessons.types import PyTree

FINISHED = "finished"
DOUBLES = ("float64", "complex128", "int64", "uint64")


class FitResult(NamedTuple):
    """What ``fit`` returns.

    Attributes:
      state: the state after the last step.
      history: what was measured; ``history["loss"]`` and ``history["learning_rate"]`` have one number for each step.
        An optimizer with several learning rates has a column for each, ``history["head.sgd.learning_rate"]``, named as
        in ``hyperparams``; so have the factors of a rate that are found out, ``history["reduce_on_plateau.scale"]``.
      reason: why the run ended: "finished", "SIGINT" or "SIGTERM", or what an observer said; the name of an error.
      compiles: how many programs were compiled for this run. A second run of equal shapes has 0.
      recompiled: for each program that was compiled before, which argument has another shape, dtype or sharding now.
      seconds: wall-clock time of the run, compilation included.
      observed: what the observers remember, by name.
    """

    state: TrainState
    history: History
    reason: str
    compiles: int
    recompiled: tuple[str, ...]
    seconds: float
    observed: dict[str, Any]

    @property
    def steps(self) -> int:
        """The updates applied so far, those of earlier runs included: ``state.step``."""
        return int(self.state.step)

    def __repr__(self) -> str:
        return (
            f"FitResult(steps={self.steps}, reason={self.reason!r}, history={self.history}, compiles={self.compiles}, "
            f"seconds={self.seconds:.3g})"
        )


def fit(
    step: StepFn,
    state: TrainState,
    data: PyTree,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    shuffle: bool = True,
    remainder: str = "keep",
    val: PyTree | None = None,
    val_batch_size: int | None = None,
    val_loss_fn: Callable[..., Any] | None = None,
    observers: Sequence[Observer | Callable[[Run], Any]] = (),
    resume: bool = False,
    plan: DevicePlan | None = None,
    progress: bool | None = None,
    chunk_steps: int | None = None,
    loop: str = "auto",
) -> FitResult:
    """Trains for some epochs or steps from where ``state`` is.

    Args:
      step: a step, made by ``make_step``.
      state: where to begin, made by ``init_state`` or returned by an earlier ``fit``. It is copied, not consumed.
      data: a tree of arrays with the examples along their first axes, for instance ``(x, y)``; or the result of
        ``minibatches``, which keeps the data on the device from one ``fit`` to the next. A ``numpy.memmap`` stays in
        its file, and may be larger than the memory. Or batches as they come, of anything that is not a tree of arrays:
        an iterable (an epoch is a pass over it), a function ``data(epoch)`` that returns one, an iterator, a
        ``Stream``.
      epochs: how many times to go through the data; a run that begins inside an epoch ends inside one.
      steps: how many steps to take, in the place of ``epochs``.
      batch_size: examples in a batch; None for all of them (batch gradient descent), 1 for stochastic gradient descent.
      shuffle: give each epoch a random order of its own, a function of the key in ``state`` and the epoch.
      remainder: "keep", "drop", "pad" or "wrap": what happens to examples that do not fill a batch (``minibatches``).
      val: arrays to measure the loss on after each epoch and at the end, as ``val_loss`` and ``val_<metric>``; with the
        weights to evaluate, those of ``step.eval_params(state)``.
      val_batch_size: examples at a time in validation; by default ``batch_size``, with a stream 1,024. It does not
        change the result.
      val_loss_fn: the loss for validation; by default that of the step, with None for its key.
      observers: what looks at the run between its chunks, in this order: ``EarlyStopping``, ``Checkpoint`` ..., an
        ``Observer`` of your own, or a function of the ``Run``, which is called after each epoch.
      resume: go on from the newest checkpoint that an observer ``Checkpoint`` finds, if there is one, to where the run
        from ``state`` would have ended. The end is bit for bit that of the run that did not stop, and so are history
        and observers. A checkpoint of another optimizer, of other data or of other observers is refused. One that is
        as far already, or further, comes back as it is, without a step.
      plan: several devices, made by ``make_plan``: batches are split, states sharded, and the numbers are those of one
        device. On several hosts every process calls ``fit``, and gives its own part of the batches of a stream.
      progress: draw a bar (needs tqdm), by default on a terminal or in a notebook; elsewhere True prints lines.
      chunk_steps: steps in a compiled chunk, at most, which Ctrl-C and the bar have to wait for; None for about a
        quarter of a second.
      loop: "scan": the steps of a chunk are a loop in one compiled program. "steps": each step is a program by itself.
        "auto" takes "steps" for convolutions on CPUs, which XLA slows down inside loops, else "scan".

    Returns:
      ``FitResult(state, history, reason, compiles, recompiled, seconds, observed)``. After Ctrl-C or SIGTERM too, at
      the end of the chunk; a second signal ends the run at once. In a loop of runs look at ``reason``.

    Raises:
      TypeError, ValueError, InputError: an argument does not fit; the message names it. A run that would end beyond
        batch number 2^31 - 1 is refused, for the cursor ends there; ``state.step`` stays there.
      Exception: what the loss, the data or an observer raises comes out as it is. Its attribute ``fit_result`` is the
        ``FitResult`` up to there, with the last state.
    """
    began = time.perf_counter()
    _check(step, state, val, plan)
    source = source_of(data, state.key, plan, batch_size, shuffle, remainder)
    length = length_of(epochs, steps, chunk_steps, loop)
    validate = _validation(step, plan, val, val_batch_size, val_loss_fn, source.batch_size)
    watch = Watch(observers)
    if _checks.flag("fit", "resume", resume):
        checkpoint_of(watch)
    else:
        refuse_to_replace(watch)
    facts, end = facts_of(step, state, source.about()), checked_end(source.end(int(state.cursor), length))
    run = Run(step, copied(state) if plan is None else plan.place_state(state), end)
    train, start = Loop(run, source, watch, validate, plan), run.cursor

    def result() -> FitResult:
        seconds = time.perf_counter() - began
        reason = run.reason or FINISHED
        again = tuple(compiled.again)
        return FitResult(run.state, run.history, reason, len(compiled), again, seconds, watch.memories)

    with compilation.count() as compiled, interrupts.caught() as interrupt:
        try:
            watch.begin(run)
            if resume:
                train.position = go_on(run, watch, facts)
            run.saves(lambda: snapshot(run, watch, train.position, facts))
            train.bar = make_progress(progress, None if run.end is None else run.end - start, run.cursor - start)
            train.go(length, interrupt)
            watch.end(run)
        except BaseException as error:
            run.error = error
            run.reason = type(error).__name__
            _end_with(error, train, watch, run)
            if train.has_begun:
                error.add_note(f"This happened in fit, after {run.cursor} batches; what there was is in fit_result.")
                error.fit_result = result()  # pyright: ignore[reportAttributeAccessIssue]
            raise
        finally:
            if train.bar is not None:
                train.bar.close()
    return result()


def _check(step: Any, state: Any, val: Any, plan: Any) -> None:
    """Raises if what was given is something else that one may well try."""
    as_step("fit", "step", step)
    _training_checks.made_by("fit", "state", state, TrainState, "init_state(params, step)")
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if getattr(leaf, "dtype", None) in DOUBLES and jnp.result_type(float) != jnp.float64:
            raise _errors.InputError(
                f"fit: the state has {leaf.dtype} at {_errors.path_name(path)!r}, but JAX calculates with 32 bits "
                "here. Say jax.config.update('jax_enable_x64', True) throughout, or nowhere."
            )
    if plan is not None:
        _training_checks.made_by("fit", "plan", plan, DevicePlan, "make_plan(mesh)")
    if val is not None and is_stream(val):
        raise TypeError(
            f"fit: val must be arrays with the examples along their first axes, such as (x, y); got "
            f"{type(val).__name__}. Only the data to train on may come as batches."
        )


def _end_with(error: BaseException, train: Loop, watch: Watch, run: Run) -> None:
    """Reads what can still be read, and lets the observers end. What goes wrong now is only noted."""
    try:
        train.read_all()
        if not watch.ended:
            watch.end(run)
    except Exception as second:
        error.add_note(f"After this error, fit met another one: {type(second).__name__}: {second}")


def _validation(
    step: StepFn,
    plan: DevicePlan | None,
    val: PyTree,
    batch_size: int | None,
    loss_fn: Callable[..., Any] | None,
    default: int | None,
) -> Callable[[TrainState], dict[str, jax.Array]] | None:
    """What measures ``val_loss`` and the other ``val_*`` of a state, or None if there is nothing to measure."""
    if val is None:
        _checks.require(loss_fn is None and batch_size is None, "fit: val_loss_fn or val_batch_size without val.")
        return None
    batch_size = None if batch_size is None else _checks.whole("fit", "val_batch_size", batch_size, least=1)
    if loss_fn is not None:
        _checks.function("fit", "val_loss_fn", loss_fn)
    measured = loss_fn if loss_fn is not None else getattr(step, "loss_fn", None)
    if measured is None:
        raise ValueError("fit: a step that make_step did not make has no loss to validate with; say val_loss_fn=...")
    planned = minibatches(val, default if batch_size is None else batch_size, shuffle=False)
    if plan is not None:
        step, measured, planned = with_plan(step, plan), PlannedLoss(measured, plan), plan.place_validation(planned)
    stateful, policy = getattr(step, "stateful", False), getattr(step, "policy", None)

    def validate(state: TrainState) -> dict[str, jax.Array]:
        try:
            params = step.eval_params(state) if isinstance(step, Step) else state.params
            means = measure_all(measured, params, planned, state.model_state if stateful else None, policy)
        except Exception as error:
            error.add_note("This happened when fit measured the loss on val, where its key is None.")
            raise
        return {f"val_{name}": mean for name, mean in means.items()}

    return validate
