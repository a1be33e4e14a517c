"""``save``, ``restore`` and ``latest_step``: a tree on disk, without the facts and records of a run.

    jl.save("run/final", state)
    state = jl.restore("run/final", like=state)

What comes back has the same bits, in the same containers, on the same devices. ``checkpoint`` tells how it lies on
disk and what happens if a process is killed meanwhile.
"""

import os
from pathlib import Path

from jaxopt_lessons import _checks
from jaxopt_lessons.train import checkpoint
from jaxopt_lessons.train.state import TrainState
from jaxopt_lessons.types import PyTree


def save(directory: str | os.PathLike[str], tree: PyTree, *, step: int | None = None, keep: int | None = None) -> Path:
    """Saves a tree of arrays, completely or not at all (needs orbax).

    It returns when everything is on the disk; the arrays may be donated then. A process that is killed meanwhile, or a
    machine that loses power, leaves what was saved before.

    Args:
      directory: where the checkpoints of a run are; it is made if need be. One run at a time saves into it. In a run of
        several processes all call ``save``, with a directory that all of them see; what each has for itself is taken
        from process 0.
      tree: a ``TrainState``, or any tree of arrays of JAX (typed keys included), arrays and scalars of NumPy, Python
        numbers and strings.
      step: the step it belongs to; by default that of a ``TrainState``, and 0 for another tree. A checkpoint of the
        same step is replaced.
      keep: how many of the newest checkpoints to keep, this one included; None for all.

    Returns:
      The directory of this checkpoint, inside ``directory``.

    Raises:
      TypeError, ValueError, InputError: the tree has a leaf that cannot be saved; the message names it.
      ImportError: orbax is not installed.

    >>> import tempfile, jax, jaxopt_lessons as jl
    >>> state = jl.init_state({"w": jax.numpy.arange(3.0)}, jl.sgd(0.1, momentum=0.9), key=7)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     for step in 10, 20, 30:
    ...         path = jl.save(directory, state._replace(step=jax.numpy.int32(step)), keep=2)
    ...     restored = jl.restore(directory, like=state)
    ...     print(path.name, jl.latest_step(directory), restored.step, restored.params, type(restored.opt_state[0]))
    000002.step_30 30 30 {'w': Array([0., 1., 2.], dtype=float32)} <class 'jaxopt_lessons.transforms.trace.TraceState'>
    """
    _checks.path("save", "directory", directory)
    if step is None:
        step = int(tree.step) if isinstance(tree, TrainState) else 0
    return checkpoint.save(directory, tree, step=_checks.whole("save", "step", step, least=0), keep=keep)


def restore(directory: str | os.PathLike[str], like: PyTree, *, step: int | None = None) -> PyTree:
    """The tree that was saved last, or that of one step: the same bits, in the containers of ``like`` (needs orbax).

    Nothing is cast, broadcast, dropped or filled in: a tree of another optimizer or model is refused.

    Args:
      directory: what was given to ``save``.
      like: a tree of the same containers, shapes and dtypes, ``init_state(params, step)`` for instance; its numbers are
        not looked at. Its leaves may be ``jax.ShapeDtypeStruct``s, so that no memory is taken twice:
        ``jax.eval_shape(lambda: init_state(params, step))``. Each array goes where the leaf of ``like`` is, by its
        sharding; where ``like`` has an array of NumPy it is one.
      step: the step of the checkpoint to restore; None for the one saved last.

    Returns:
      The tree, in the containers of ``like``. Arrays of JAX are strongly typed, also those that were not when saved.

    Raises:
      FileNotFoundError: there is no such checkpoint.
      InputError: the tree that was saved differs; the message lists what is missing, what is in excess, and which
        shapes, dtypes and containers differ, by path.
      ImportError: orbax is not installed.

    >>> import tempfile, jax, jaxopt_lessons as jl
    >>> params = {"w": jax.numpy.zeros(3)}
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = jl.save(directory, jl.sgd(0.1).init(params))
    ...     try:
    ...         jl.restore(directory, like=jl.sgd(0.1, momentum=0.9).init(params))
    ...     except jl.InputError as error:
    ...         print(str(error).splitlines()[1])
      0: expected TraceState, the checkpoint has EmptyState()
    """
    _checks.path("restore", "directory", directory)
    return checkpoint.restore(directory, like, step=step).tree


def latest_step(directory: str | os.PathLike[str]) -> int | None:
    """The step of the checkpoint that was saved last, None if the directory has none.

    Args:
      directory: what was given to ``save``.

    >>> jl.latest_step("nowhere") is None
    True
    """
    _checks.path("latest_step", "directory", directory)
    return checkpoint.latest(directory)
