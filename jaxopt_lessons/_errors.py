"""What all error texts share: the error for what is given to a transformation, its stages, and the names of leaves.

The texts themselves are in ``_checks``, ``_tree_checks``, ``_state_checks`` and ``_training_checks``, in three tiers by
what can be known when: a wrong hyperparameter raises when the transformation is built; a wrong tree raises when it is
traced and names the stage, the leaf, what was expected and what came; a numerical failure never raises inside compiled
code.
"""

import contextlib
import inspect
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import jax


class InputError(ValueError):
    """A tree, a state or an extra argument does not fit the transformation it was given to.

    The message begins with the stage that refused it, outermost first: ``adamw > scale_by_adam: ...``.
    """

    def __init__(self, message: str, stages: tuple[str, ...] = ()):
        super().__init__(message)
        self.message = message
        self.stages = stages

    def __str__(self) -> str:
        return f"{' > '.join(self.stages)}: {self.message}" if self.stages else self.message


@contextlib.contextmanager
def stage(name: str, hidden: str | None = None) -> Iterator[None]:
    """Prefixes the errors raised inside with the name of the stage, in the place of a stage ``hidden`` next to it."""
    try:
        yield
    except InputError as error:
        error.stages = (name, *error.stages[error.stages[:1] == (hidden,) :])
        raise


def warning(message: str) -> None:
    """Warns, and points at the line outside the library that is the cause."""
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level + 1)


_PACKAGE = os.path.dirname(__file__) + os.sep


def path_name(path: Sequence[Any]) -> str:
    """``params/dense/kernel``-like name of a leaf; the empty path is the tree itself."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/") or "(the only leaf)"


def key_name(key: Any) -> str:
    """The name of one step of a path."""
    return jax.tree_util.keystr((key,), simple=True)


def keys_name(keys: Sequence[str]) -> str:
    """The ``path_name`` of a path given by the names along it."""
    return "/".join(keys) or path_name(())


def describe(leaf: Any) -> str:
    """``float32[3,4]`` for an array, the type's name for anything else."""
    if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
        dtype = "float0" if leaf.dtype == jax.dtypes.float0 else leaf.dtype  # a structured one of NumPy
        return f"{dtype}[{','.join(map(str, leaf.shape))}]"
    return f"{leaf!r} of type {type(leaf).__name__}"


def some(paths: list[str], most: int = 3) -> str:
    shown = ", ".join(repr(path) for path in paths[:most])
    return shown if len(paths) <= most else f"{shown} and {len(paths) - most} more"
