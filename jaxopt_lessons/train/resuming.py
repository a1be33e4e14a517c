"""Going on with a run that stopped: what is saved of it, and how it is put back.

The state of a run, the memories of its observers, its history and the position of its data are one snapshot. Whatever
is random is a function of the key and the cursor, so a run that goes on from its snapshot is the run that did not stop.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import jax

from jaxopt_lessons.train import checkpoint
from jaxopt_lessons.train.facts import hyperparameters
from jaxopt_lessons.train.history import History
from jaxopt_lessons.train.observers.checkpoint import Checkpoint
from jaxopt_lessons.train.run import Moment, Run, Snapshot
from jaxopt_lessons.train.watch import Watch


def snapshot(run: Run, watch: Watch, position: Any, facts: dict[str, Any]) -> Snapshot:
    """What has to be saved at this moment."""
    progress = {"moment": run.moment, "position": position, "hyperparameters": hyperparameters(run.step)}
    return Snapshot(run.cursor, _tree(run, watch, json.dumps(progress)), _about(watch, facts), run.history.to_records())


def refuse_to_replace(watch: Watch) -> None:
    """Raises if a run that begins anew would replace the checkpoints of another."""
    for observer in watch.observers.values():
        if isinstance(observer, Checkpoint) and (saved := observer.saved()) is not None:
            raise ValueError(
                f"fit: {observer.directory} has a run of {saved} batches already, which this one would replace. Say "
                "resume=True to go on with it, or give this run a directory of its own."
            )


def checkpoint_of(watch: Watch) -> Checkpoint:
    """The observer that finds what a run goes on from.

    Raises:
      ValueError: no observer is a ``Checkpoint``, or several are.
    """
    checkpoints = [observer for observer in watch.observers.values() if isinstance(observer, Checkpoint)]
    if len(checkpoints) != 1:
        raise ValueError(f"fit: resume=True needs one observer Checkpoint(directory); there are {len(checkpoints)}.")
    return checkpoints[0]


def go_on(run: Run, watch: Watch, facts: dict[str, Any]) -> Any:
    """Puts the newest checkpoint back, if there is one; returns the position of the data.

    Raises:
      InputError: the checkpoint is of another run, or damaged.
    """
    saved = checkpoint_of(watch)
    restored = saved.newest(_tree(run, watch, ""), _about(watch, facts))
    if restored is None:
        return None
    with checkpoint.readable(Path(saved.directory)):
        progress = json.loads(restored.tree["progress"])
        position, before = progress["position"], progress["hyperparameters"]
        run.moment = Moment(*progress["moment"])
        run.history = History.from_records(restored.records)
    run.state = restored.tree["state"]
    run.resumed = True
    watch.resume(run, restored.tree["observers"])
    now = hyperparameters(run.step)  # after the observers, which may change them
    if now != before:
        changed = f"fit: the run goes on with other hyperparameters. Up to here: {before}; from here on: {now}."
        warnings.warn(changed, stacklevel=3)
    if run.end is not None and run.cursor > run.end:
        beyond = run.cursor - run.end
        text = f"fit: the run that is saved is {beyond} batches beyond the end of this one; none is taken."
        warnings.warn(text, stacklevel=3)
    return position


def _about(watch: Watch, facts: dict[str, Any]) -> dict[str, Any]:
    """The facts, with the observers that remember something: others may come and go."""
    return {**facts, "observers": list(_memories(watch))}


def _tree(run: Run, watch: Watch, progress: str) -> dict[str, Any]:
    return {"state": run.state, "observers": _memories(watch), "progress": progress}


def _memories(watch: Watch) -> dict[str, Any]:
    """What the observers remember that has to be saved; those that are last look after that."""
    names = [name for name, observer in watch.observers.items() if not observer.is_last]
    return {name: watch.memories[name] for name in names if jax.tree.leaves(watch.memories[name])}
