"""Checkpoints: a tree, facts about the run and columns of its history on disk, complete or not there at all.

directory/000012.step_1500/     one checkpoint; the first that was saved into the directory has number 0
    checkpoint.json             format, step, facts, description of the tree, names of the records
    host.npz                    records, and leaves that are arrays of NumPy
    arrays/                     arrays of JAX, written by orbax, each process its own shards
    checksums.txt               of all these files

Everything is written into a hidden directory, flushed to the disk file by file (orbax flushes arrays and not its
metadata), and gets its name by one rename, which is flushed too. A process that is killed, or a machine that loses
power, leaves the checkpoints that had names, and a hidden directory that the next save removes. A checkpoint is deleted
the other way round: it loses its name first, and only after a newer one has got its own.

The newest checkpoint is the one saved last, not the one of the highest step: a run that went back to step 1000 and
saved at 1100 goes on from there. A step that is saved again replaces the older checkpoint of that step.

A checkpoint is read only if every file in it has the length and the checksum with which it was written: what was copied
in part, or has changed on the disk, is refused as a whole, with the files named. Nothing in a checkpoint is executed:
it has numbers, JSON and names of dtypes, and NumPy is told to refuse pickled objects.

The file system must rename atomically, as local ones and NFS do and object stores do not. One run at a time saves into
a directory.

In a run of several processes all must see the same directory, and all call ``save`` and ``restore``. Each writes and
flushes its shards of arrays that are spread over all, process 0 the rest. What every process has for itself (counters
that were not placed, arrays of NumPy, Python numbers, facts, records) is taken from process 0 and given to all.
"""

import contextlib
import functools
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from jaxopt_lessons import _checkpoint_checks, _checks, _errors
from jaxopt_lessons.train import file_sums, hosts, stored_tree
from jaxopt_lessons.types import PyTree

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

FORMAT = 1

COMPLETE = re.compile(r"(\d{6,})\.step_(\d+)")
LEFT_OVER = re.compile(r"\.\d{6,}\.step_\d+\.(saving|deleting)")


class Restored(NamedTuple):
    """What ``restore`` returns: a tree, the facts and records saved with it, and its step."""

    tree: PyTree
    about: dict[str, Any]
    records: dict[str, np.ndarray]
    step: int


class _Entry(NamedTuple):
    """A complete checkpoint; ordered as they were saved."""

    serial: int
    step: int
    path: Path


def save(
    directory: str | os.PathLike[str],
    tree: PyTree,
    *,
    step: int,
    about: Mapping[str, Any] | None = None,
    records: Mapping[str, np.ndarray] | None = None,
    keep: int | None = None,
) -> Path:
    """Saves a checkpoint and returns when it is on the disk; the arrays of ``tree`` may be donated then.

    Args:
      directory: where the checkpoints of a run are; it is made if need be.
      tree: arrays of JAX, typed keys included, arrays and scalars of NumPy, and Python numbers and strings.
      step: the step it belongs to, from 0 on.
      about: what the run is, in values of JSON; ``restore`` can be told to insist on it.
      records: arrays of NumPy by name, of any shape and dtype.
      keep: how many of the newest checkpoints to keep, this one included; None for all.

    Returns:
      The directory of the checkpoint.

    Raises:
      TypeError, ValueError, InputError: an argument cannot be saved; nothing has been written then.
    """
    checkpoint = _prepare(directory, tree, step, about, records, keep)
    _finish_in_background()
    return _write(checkpoint)


def save_in_background(
    directory: str | os.PathLike[str],
    tree: PyTree,
    *,
    step: int,
    about: Mapping[str, Any] | None = None,
    records: Mapping[str, np.ndarray] | None = None,
    keep: int | None = None,
) -> "Future[Path]":
    """Copies everything to the host, returns, and saves the copy in a thread; arguments and errors as of ``save``.

    The arrays may be donated as soon as it returns. The host needs memory for one copy of the tree: a save that comes
    while another one is under way waits for it first, and raises its error.

    Returns:
      ``result()`` of it waits, and returns the directory of the checkpoint or raises what went wrong. Call that of the
      last one before the program ends: at its end Python stops the threads that orbax writes with, and what is not
      complete by then is not there.

    Raises:
      ValueError: the run has several processes, which have to save together.
    """
    _checks.require(jax.process_count() == 1, "save_in_background: a run of several processes saves by save.")
    checkpoint = _prepare(directory, tree, step, about, records, keep)
    stored = checkpoint.stored
    copy = functools.partial(jax.tree.map, np.array)
    stored = stored._replace(device=copy(stored.device), host=copy(stored.host))
    _finish_in_background()
    future = _thread().submit(_write, checkpoint._replace(stored=stored, records=copy(checkpoint.records)))
    _in_background.append(future)
    return future


_in_background: "list[Future[Path]]" = []


@functools.cache
def _thread() -> "ThreadPoolExecutor":
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(1, "save_in_background")


def _finish_in_background() -> None:
    """Waits for the save that is under way: the next one would take what it writes for a left-over."""
    while _in_background:
        _in_background.pop().result()


def finish(future: "Future[Path]") -> Path:
    """Waits for a save in the background, and raises what went wrong, which the next save then does not raise again."""
    if future in _in_background:
        _in_background.remove(future)
    return future.result()


class _Checkpoint(NamedTuple):
    """What is to be written."""

    directory: Path
    step: int
    about: dict[str, Any]
    records: dict[str, np.ndarray]
    stored: stored_tree.Stored
    keep: int | None


def _prepare(directory: Any, tree: PyTree, step: Any, about: Any, records: Any, keep: Any) -> _Checkpoint:
    """Checks the arguments of ``save`` and takes the tree apart."""
    step = _checks.whole("save", "step", step, least=0)
    keep = None if keep is None else _checks.whole("save", "keep", keep, least=1)
    with _errors.stage("save"):
        about = _facts("save", about or {})
        records = dict(records or {})
        for name, column in records.items():
            if not isinstance(name, str) or type(column) is not np.ndarray or column.dtype.hasobject:
                _checkpoint_checks.record_expected(name, column)
        stored = stored_tree.take_apart(tree)
    return _Checkpoint(Path(directory).absolute(), step, about, records, stored, keep)


def _write(checkpoint: _Checkpoint) -> Path:
    """Writes a checkpoint, gives it its name, and deletes those that are not to be kept."""
    directory, step, keep = checkpoint.directory, checkpoint.step, checkpoint.keep
    before = _complete(directory)
    name = f"{before[-1].serial + 1 if before else 0:06d}.step_{step}"
    unfinished = directory / f".{name}.saving"
    hosts.wait_for_all("save begins")  # None may see the new checkpoint while it looks for the number of the last.
    if hosts.is_main():
        directory.mkdir(parents=True, exist_ok=True)
        _remove_left_overs(directory)
        unfinished.mkdir()
        _write_host_part(unfinished, checkpoint)
    hosts.wait_for_all("save has a directory")
    if checkpoint.stored.device:
        _write_arrays(unfinished / "arrays", checkpoint.stored.device)
    hosts.wait_for_all("save has written")
    file_sums.write(unfinished)
    if hosts.is_main():
        _flush_all(unfinished)
        unfinished.rename(directory / name)
        _flush(directory)
        _flush(directory.parent)
        others = [entry for entry in before if entry.step != step]
        kept = others if keep is None else others[max(0, len(others) + 1 - keep) :]
        for entry in before:
            if entry not in kept:
                _delete(entry.path)
    hosts.wait_for_all("save ends")
    return directory / name


def latest(directory: str | os.PathLike[str]) -> int | None:
    """The step of the newest complete checkpoint, None if there is none."""
    entries = _complete(Path(directory))
    return entries[-1].step if entries else None


def restore(
    directory: str | os.PathLike[str],
    like: PyTree,
    *,
    step: int | None = None,
    about: Mapping[str, Any] | None = None,
) -> Restored:
    """The newest checkpoint, or that of one step, with the same bits in the containers of ``like``.

    Args:
      directory: what was given to ``save``.
      like: a tree of the same containers, shapes and dtypes as the one that was saved, with arrays or
        ``jax.ShapeDtypeStruct``s; their shardings say where the arrays go. What is an array of NumPy in it comes back
        as one. Python numbers come back as saved, whatever their values are here.
      step: which checkpoint; None for the newest.
      about: what the run is now; None not to compare it.

    Raises:
      FileNotFoundError: there is no such checkpoint.
      InputError: ``about`` or the tree that was saved differs, or the checkpoint is damaged; the message lists what.
    """
    step = None if step is None else _checks.whole("restore", "step", step, least=0)
    directory = Path(directory).absolute()
    entries = _complete(directory)
    matching = [entry for entry in entries if step is None or entry.step == step]
    if not matching:
        _checkpoint_checks.nothing_there(directory, step, [entry.step for entry in entries])
    chosen = matching[-1]
    others = [entry.step for entry in entries if entry is not chosen]
    with _errors.stage("restore"):
        expected = stored_tree.describe("restore", like)
        contents = _contents(chosen.path, others)
        if about is not None:
            _same_facts(chosen.path, _facts("restore", about), contents["about"])
        with readable(chosen.path):
            problems = stored_tree.differences(expected, contents["tree"])
        if problems:
            _checkpoint_checks.other_tree(chosen.path, problems)
        with readable(chosen.path):
            tree, records = _read(chosen.path, contents, like)
            problems = stored_tree.differences(expected, stored_tree.describe("restore", tree))
        if problems:
            _checkpoint_checks.unreadable(chosen.path, "its arrays are not as they are described")
    return Restored(tree, contents["about"], records, chosen.step)


def _contents(path: Path, others: list[int]) -> dict[str, Any]:
    """What ``checkpoint.json`` says, of a checkpoint whose files are all as they were written."""
    try:
        problems = file_sums.problems(path)
    except OSError:
        problems = None
    if problems:
        _checkpoint_checks.damaged(path, problems, others)
    try:
        text = file_sums.bytes_of(path / "checkpoint.json")
    except OSError:
        _checkpoint_checks.incomplete(path)
    with readable(path):
        contents = json.loads(text)
        found = contents["format"]
    if found != FORMAT:
        _checkpoint_checks.another_format(path, found, FORMAT)
    if problems is None:
        _checkpoint_checks.incomplete(path)
    if [type(contents.get(name)) for name in PARTS] != list(PARTS.values()):
        _checkpoint_checks.unreadable(path, f"checkpoint.json lacks some of {', '.join(PARTS)}")
    return contents


PARTS = {"about": dict, "tree": list, "device": list, "records": list}
"""The entries of ``checkpoint.json`` that are read, and what they are."""

UNREADABLE = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RecursionError, TypeError),
    *(ValueError, NotImplementedError, zipfile.BadZipFile),
)


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Says which checkpoint it was where something made up, with right checksums, cannot be read."""
    try:
        yield
    except _errors.InputError:
        raise
    except UNREADABLE as error:
        _checkpoint_checks.unreadable(path, f"{type(error).__name__}: {error}", error)


def _read(path: Path, contents: Mapping[str, Any], like: PyTree) -> tuple[PyTree, dict[str, np.ndarray]]:
    """The tree and the records; what is there has been described, and is what ``like`` is."""
    with np.load(path / "host.npz", allow_pickle=False) as file:
        host = dict(file)
    records = {
        record["name"]: stored_tree.from_numpy_file(host.pop(f"record {i}"), stored_tree.dtype_of(record["dtype"]))
        for i, record in enumerate(contents["records"])
    }
    source = stored_tree.Source(frozenset(contents["device"]), host, lambda plans: _read_arrays(path / "arrays", plans))
    return stored_tree.put_together(like, contents["tree"], source), records


def _complete(directory: Path) -> list[_Entry]:
    """The complete checkpoints, in the order in which they were saved."""
    names = os.listdir(directory) if directory.is_dir() else []
    found = [(match, directory / match.string) for match in map(COMPLETE.fullmatch, names) if match]
    return sorted(_Entry(int(match[1]), int(match[2]), path) for match, path in found)


def _remove_left_overs(directory: Path) -> None:
    for name in os.listdir(directory):
        if LEFT_OVER.fullmatch(name):
            shutil.rmtree(directory / name)


def _delete(path: Path) -> None:
    """Takes the name away first: what is half deleted must not look complete."""
    nameless = path.with_name(f".{path.name}.deleting")
    path.rename(nameless)
    shutil.rmtree(nameless)


def _write_host_part(path: Path, checkpoint: _Checkpoint) -> None:
    records, stored = checkpoint.records, checkpoint.stored
    contents = {
        "format": FORMAT,
        "step": checkpoint.step,
        "about": checkpoint.about,
        "tree": stored.description,
        "device": list(stored.device),
        "records": [{"name": name, "dtype": str(column.dtype)} for name, column in records.items()],
    }
    (path / "checkpoint.json").write_text(json.dumps(contents, indent=1), encoding="utf-8")
    columns = {f"record {i}": stored_tree.to_numpy_file(column) for i, column in enumerate(records.values())}
    np.savez(path / "host.npz", allow_pickle=False, **stored.host, **columns)


def _write_arrays(path: Path, arrays: Mapping[str, jax.Array | np.ndarray]) -> None:
    ocp = _orbax("save")
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        checkpointer.save(path, args=ocp.args.PyTreeSave(arrays))


def _read_arrays(path: Path, plans: Mapping[str, stored_tree.Plan]) -> dict[str, Any]:
    if not plans:
        return {}
    ocp = _orbax("restore")

    def how(plan: stored_tree.Plan) -> Any:
        if plan.sharding is None:
            return ocp.RestoreArgs(restore_type=np.ndarray)
        return ocp.ArrayRestoreArgs(
            restore_type=jax.Array, sharding=plan.sharding, global_shape=plan.shape, dtype=plan.dtype
        )

    restore_args = {number: how(plan) for number, plan in plans.items()}
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        return checkpointer.restore(
            path, args=ocp.args.PyTreeRestore(item=dict.fromkeys(plans, 0), restore_args=restore_args)
        )


def _orbax(owner: str) -> Any:
    try:
        import orbax.checkpoint as ocp
    except ImportError:
        _checkpoint_checks.not_installed(owner)
    return ocp


def _facts(owner: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """``about`` as JSON gives it back: tuples are lists, for instance."""
    for name, value in about.items():
        try:
            if not isinstance(name, str):
                raise TypeError
            json.dumps(value)
        except (TypeError, ValueError):
            _checkpoint_checks.facts_expected(owner, name, value)
    return json.loads(json.dumps(dict(about)))


def _same_facts(path: Path, here: Mapping[str, Any], there: Mapping[str, Any]) -> None:
    """Raises unless both are written alike: 1 is not 1.0 and not true, and NaN is NaN."""

    def written(facts: Mapping[str, Any], name: str) -> str:
        return json.dumps(facts[name], sort_keys=True, ensure_ascii=False) if name in facts else "(nothing)"

    names = [*there, *(name for name in here if name not in there)]
    pairs = {name: (written(there, name), written(here, name)) for name in names}
    different = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if different:
        _checkpoint_checks.other_facts(path, different)


def _flush_all(path: Path) -> None:
    for parent, _, files in os.walk(path):
        for name in files:
            _flush(Path(parent, name))
        _flush(Path(parent))


def _flush(path: Path) -> None:
    """Waits until a file, or the names in a directory, are on the disk."""
    if os.name != "posix":  # Windows flushes neither directories nor files that are only read.
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
