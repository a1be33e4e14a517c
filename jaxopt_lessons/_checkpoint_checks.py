"""Errors about checkpoints: what cannot be saved, what is not there, what belongs to another run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jaxopt_lessons._errors import InputError, describe, some

MOST = 10
"""Differences that are listed before the rest is only counted."""

LONGEST = 500
"""Characters of an error of another library that are shown: it may quote a whole file."""


def not_installed(owner: str) -> NoReturn:
    raise ImportError(f"{owner} needs orbax: pip install 'jaxopt_lessons[checkpoints]'") from None


def not_storable(owner: str, name: str, leaf: Any) -> NoReturn:
    raise TypeError(
        f"{owner}: the leaf at {name!r} is {describe(leaf)}. The leaves of a tree are arrays of JAX or NumPy (not of "
        "Python objects), bool, int, float, complex or str; keep functions and settings out of it."
    )


def deleted(name: str) -> NoReturn:
    raise InputError(
        f"the array at {name!r} has been deleted: it was donated to a compiled program. Save what that returned."
    )


def traced(name: str) -> NoReturn:
    raise TypeError(
        f"save: the leaf at {name!r} is a tracer, an array of a program that is being compiled. Save what the program "
        "returns."
    )


def record_expected(name: Any, value: Any) -> NoReturn:
    raise TypeError(f"save: records map names to NumPy arrays without Python objects; at {name!r} is {value!r}.")


def facts_expected(owner: str, name: Any, value: Any) -> NoReturn:
    raise TypeError(
        f"{owner}: about holds what JSON can: str, int, float, bool, None, and lists and dicts of them; got {value!r} "
        f"of type {type(value).__name__} at {name!r}."
    )


def nothing_there(directory: Path, step: int | None, steps: Sequence[int]) -> NoReturn:
    if step is None or not steps:
        raise FileNotFoundError(f"restore: there is no checkpoint in {directory}.")
    there = ", ".join(map(str, steps[-MOST:]))
    raise FileNotFoundError(f"restore: no checkpoint of step {step} is in {directory}; the newest are of {there}.")


def incomplete(path: Path) -> NoReturn:
    raise InputError(
        f"{path} has the name of a checkpoint, but not what is in one: it was copied in part, or is something else. "
        "Delete it, or give another directory."
    ) from None


def damaged(path: Path, problems: Sequence[str], others: Sequence[int]) -> NoReturn:
    """Raises with what is wrong with its files; ``others`` are the steps of the other checkpoints."""
    shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
    what_to_do = "There is no other in its directory: copy it anew, or delete it and begin again."
    if others:
        what_to_do = (
            f"That of step {others[-1]} is still there: restore it with step={others[-1]}; for fit(resume=True) to go "
            f"on from it, delete {path.name}."
        )
    raise InputError(f"the checkpoint {path} is damaged: {shown}. Nothing was restored. {what_to_do}")


def unreadable(path: Path, what: str, error: BaseException | None = None) -> NoReturn:
    raise InputError(
        f"the checkpoint {path} cannot be read, though its files are as their checksums say: {what[:LONGEST]}"
    ) from error


def another_format(path: Path, found: Any, known: int) -> NoReturn:
    raise InputError(
        f"{path} has the format {found!r} and this version of the library reads {known!r}: it was saved by another."
    )


def other_facts(path: Path, differences: Mapping[str, tuple[str, str]]) -> NoReturn:
    """Raises with both values of each fact that differs, written out by the caller."""
    lines = [
        f"  {name}\n    checkpoint: {there}\n    this run:   {here}" for name, (there, here) in differences.items()
    ]
    raise InputError(f"the checkpoint {path} was made by another run. They differ in\n" + "\n".join(lines))


def other_tree(path: Path, differences: Sequence[str]) -> NoReturn:
    more = f"\n  and {len(differences) - MOST} more" if len(differences) > MOST else ""
    shown = "\n".join(f"  {difference}" for difference in differences[:MOST])
    raise InputError(
        f"the checkpoint {path} does not fit the tree it should be restored into. Was it made by another optimizer or "
        f"another model?\n{shown}{more}"
    )


def same_names(names: Sequence[str]) -> NoReturn:
    raise InputError(f"the tree has two leaves at {some(list(names))}: dict keys that are written alike.")
