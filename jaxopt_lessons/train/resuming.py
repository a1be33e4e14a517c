"""Going on with a run that stopped: what is saved of it, and how it is put back.

The state of a run, the memories of its observers, its history and the position of its data are one snapshot. Whatever
is random is a function of the key and the cursor, so a run that goes on from its snapshot is the run that did not stop.
"""

import json
import warnings
from typing import Any

from jaxopt_lessons.train.facts import hyperparameters
from jaxopt_lessons.train.history import History
from jaxopt_lessons.train.observers.checkpoint import Checkpoint
from jaxopt_lessons.train.run import Moment, Run, Snapshot
from jaxopt_lessons.train.watch import Watch


def snapshot(run: Run, watch: Watch, position: Any, facts: dict[str, Any]) -> Snapshot:
    """What has to be saved at this moment."""
    progress = {"moment": run.moment, "position": position, "hyperparameters": hyperparameters(run.step)}
    return Snapshot(run.cursor, _tree(run, watch, json.dumps(progress)), facts, run.history.to_records())


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
      InputError: the checkpoint is of another run.
    """
    restored = checkpoint_of(watch).newest(_tree(run, watch, ""), facts)
    if restored is None:
        return None
    progress = json.loads(restored.tree["progress"])
    run.state = restored.tree["state"]
    run.history = History.from_records(restored.records)
    run.moment = Moment(*progress["moment"])
    run.resumed = True
    watch.resume(run, restored.tree["observers"])
    now, before = hyperparameters(run.step), progress["hyperparameters"]  # after the observers, which may change them
    if now != before:
        text = f"fit: the run goes on with other hyperparameters. Up to here: {before}; from here on: {now}."
        warnings.warn(text, stacklevel=3)
    return progress["position"]


def _tree(run: Run, watch: Watch, progress: str) -> dict[str, Any]:
    memories = {name: watch.memories[name] for name, observer in watch.observers.items() if not observer.is_last}
    return {"state": run.state, "observers": memories, "progress": progress}
