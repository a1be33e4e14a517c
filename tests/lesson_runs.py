"""How the tests run a lesson: cell by cell in one namespace, as a notebook does, with smaller sizes where asked.

A lesson is a script in percent cells. The one tagged ``parameters`` holds its sizes.
"""

import contextlib
import io
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import example_runs
import jax
import pytest

LESSONS = sorted(example_runs.EXAMPLES.glob("lesson_*.py"))
PARAMETERS = 'tags=["parameters"]'


class Cell(NamedTuple):
    """A cell, its first line in the file, and whether it is text."""

    header: str
    source: str
    line: int

    @property
    def is_text(self) -> bool:
        return "[markdown]" in self.header


class LessonRun(NamedTuple):
    """What a lesson left behind: its names, what it printed, and its figure."""

    names: dict[str, Any]
    printed: str
    figure: Path

    def __getattr__(self, name: str) -> Any:
        try:
            return self.names[name]
        except KeyError:
            raise AttributeError(f"the lesson has no {name!r}") from None


def cells(path: Path) -> list[Cell]:
    found, lines = [], path.read_text().splitlines(keepends=True)
    starts = [number for number, line in enumerate(lines) if line.startswith("# %%")]
    assert starts[0] == 0, f"{path.name} does not begin with a cell"
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        found.append(Cell(lines[start].strip(), "".join(lines[start + 1 : end]), start + 1))
    return found


def text(cell: Cell) -> str:
    """What a cell of text says, without the marks of comments."""
    return re.sub(r"^# ?", "", cell.source, flags=re.MULTILINE).strip()


def run(name: str, directory: Path, **parameters: Any) -> LessonRun:
    """Runs a lesson in a directory, where it leaves its figure; ``parameters`` take the place of its own."""
    path = example_runs.EXAMPLES / f"{name}.py"
    names: dict[str, Any] = {"__name__": name}
    with _as_a_user(directory), contextlib.redirect_stdout(io.StringIO()) as printed:
        for cell in cells(path):
            if cell.is_text:
                continue
            exec(compile("\n" * cell.line + cell.source, str(path), "exec"), names)
            if PARAMETERS in cell.header:
                unknown = set(parameters) - set(names)
                assert not unknown, f"{name} has no parameters {unknown}"
                names.update(parameters)
    return LessonRun(names, printed.getvalue(), directory / f"{name}.png")


@contextlib.contextmanager
def _as_a_user(directory: Path) -> Iterator[None]:
    """In this directory, with JAX as it comes, and nothing left behind."""
    import matplotlib.pyplot as plt

    x64 = jax.config.jax_enable_x64
    try:
        with contextlib.chdir(directory), example_runs.jax_as_it_comes(), plt.rc_context():
            yield
    finally:
        jax.config.update("jax_enable_x64", x64)
        plt.close("all")


def wrong(rule: Callable[..., Any], change: Callable[..., Any]) -> Callable[..., Any]:
    """A rule of the library with its results changed: ``wrong(ema_rule, lambda u, v: (1.01 * u, v))``."""

    def changed(*args: Any, **kwargs: Any) -> Any:
        results = rule(*args, **kwargs)
        return change(*results) if isinstance(results, tuple) else change(results)

    return changed


@contextlib.contextmanager
def stops() -> Iterator[pytest.ExceptionInfo[AssertionError]]:
    """The lesson inside stops at one of its assertions; programs that were compiled before cannot hide a change.

    What comes out tells afterwards which one: ``stopped.value``.
    """
    jax.clear_caches()
    try:
        with pytest.raises(AssertionError) as caught:
            yield caught
    finally:
        jax.clear_caches()
    files = [Path(frame.filename).parent for frame in traceback.extract_tb(caught.tb)]
    assert example_runs.EXAMPLES in files, caught.value


def stopped_at(stopped: pytest.ExceptionInfo[AssertionError]) -> str:
    """The first line of the lesson that ``stops`` saw fail, without its indentation."""
    frames = traceback.extract_tb(stopped.tb)
    return next(frame.line or "" for frame in frames if Path(frame.filename).parent == example_runs.EXAMPLES)
