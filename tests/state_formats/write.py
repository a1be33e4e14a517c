"""Writes the fixtures of this version: ``PYTHONPATH=.:tests python tests/state_formats/write.py [--again]``.

Run it once for each release, after the number in ``pyproject.toml`` has changed, and commit the folder. What is in one
is never written again: it stands for what users have on their disks.

    0.1.0/rows.json      for each row of tests/cases: repr and pickle of the optimizer, layout and names of its state
          rows.bin       the numbers: parameters, state after three updates, next updates, state after them
          composed.zip   ``jl.save`` of the training state of a composed optimizer
          run.zip        the checkpoint of a ``fit`` in the middle of an epoch, with observers and a loader's state
          runs.json      what the two become when they go on; the header of a CSV file
"""

import base64
import dataclasses
import json
import pickle
import shutil
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from cases import CONTRACT, Case
from training_problems import example_loss, network, regression

import jaxopt_lessons as jl
from jaxopt_lessons.train import stored_tree

TESTS = Path(__file__).parents[1]
UPDATES = 3
SHAPES = {"matrix": (3, 2), "scalar": (), "vector": (4,)}


def version() -> str:
    return tomllib.loads((TESTS.parent / "pyproject.toml").read_text())["project"]["version"]


def numbers(seed: int) -> dict[str, jax.Array]:
    """A tree of numbers between 0.1 and 1 of both signs, which all rules like."""
    rng = np.random.default_rng(seed)
    sizes = {name: rng.uniform(0.1, 1, shape) * rng.choice([-1, 1], shape) for name, shape in SHAPES.items()}
    return {name: jnp.asarray(array, jnp.float32) for name, array in sizes.items()}


def gradient(count: int) -> dict[str, jax.Array]:
    return numbers(10 + count)


# ---------------------------------------------------------------------------------------------------------------------
# Rows
# ---------------------------------------------------------------------------------------------------------------------


def run(case: Case) -> tuple[Any, Any]:
    """Parameters and state after some updates."""
    tx = case.make()
    params = numbers(0)
    state = tx.init(params)
    for count in range(UPDATES):
        updates, state = case.update(tx)(gradient(count), state, params)
        params = jl.apply_updates(params, updates)
    return params, state


def plain(leaf: Any) -> np.ndarray:
    """A leaf as an array of NumPy, keys as their words."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def named(tx: Any, state: Any) -> list[tuple[list[str], Any]]:
    """The leaves of a state by name."""

    def flat(inside: Any, names: list[str]) -> Iterator[tuple[list[str], Any]]:
        for name, value in inside.items():
            yield from flat(value, [*names, name]) if isinstance(value, dict) else [([*names, name], value)]

    return list(flat(jl.state_dict(tx, state), []))


def layout(state: Any) -> list[dict[str, Any]]:
    return stored_tree.describe("save", state)


def row(case: Case, put: Any) -> dict[str, Any]:
    tx = case.make()
    params, state = run(case)
    updates, after = case.update(tx)(gradient(UPDATES), state, params)
    try:
        pickled = base64.b64encode(pickle.dumps(tx)).decode()
    except (AttributeError, pickle.PicklingError):
        pickled = None  # its argument is a function inside another
    return {
        "repr": repr(tx),
        "pickle": pickled,
        "layout": layout(state),
        "params": put(params),
        "state": [[names, *put(leaf)] for names, leaf in named(tx, state)],
        "updates": put(updates),
        "after": [put(leaf)[0] for _, leaf in named(tx, after)],
    }


class Numbers:
    """The numbers of all arrays, one after the other."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def put(self, tree: Any) -> list[list[Any]]:
        """Dtype and shape of each leaf; their numbers are kept."""
        leaves = [plain(leaf) for leaf in jax.tree.leaves(tree)]
        self.parts += [np.ascontiguousarray(leaf).tobytes() for leaf in leaves]
        return [[str(leaf.dtype), list(leaf.shape)] for leaf in leaves]


class Taken:
    """The same arrays again, in the same order."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, dtype: str, shape: list[int]) -> np.ndarray:
        dtype_ = jnp.dtype(dtype)
        count = int(np.prod(shape, dtype=int))
        array = np.frombuffer(self.data, dtype_, count, self.at).reshape(shape)
        self.at += array.nbytes
        return array


def read_rows(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows with arrays in the places of their dtypes and shapes."""
    taken = Taken((folder / "rows.bin").read_bytes())
    rows = json.loads((folder / "rows.json").read_text())["rows"]
    for one in rows.values():
        one["params"] = [taken.take(*what) for what in one["params"]]
        one["state"] = [(tuple(names), taken.take(*what)) for names, what in one["state"]]
        one["updates"] = [taken.take(*what) for what in one["updates"]]
        one["after"] = [taken.take(*what) for what in one["after"]]
    return rows


# ---------------------------------------------------------------------------------------------------------------------
# Runs
# ---------------------------------------------------------------------------------------------------------------------

DATA = regression(11)
STOPPED, END = 5, 9


def composed() -> Any:
    """A step with a chain, groups, schedules, an average, a guard and accumulation."""
    decayed = jl.adamw(jl.warmup_cosine_decay_schedule(0.0, 0.05, 2, 20))
    rules = {"b*": {"weight_decay": 0.0}, "w2": jl.sgd(0.05, momentum=0.9)}
    tx = jl.chain(jl.clip_by_global_norm(1.0), jl.groups(rules, default=decayed))
    return jl.with_ema(jl.with_guard(jl.make_step(example_loss, tx, accumulate=2)), 0.9)


class Loader:
    """Batches in an order of its own, whose place and generator are its state."""

    def __init__(self) -> None:
        self.rng, self.order, self.read = np.random.default_rng(0), np.zeros(0, int), 0

    def __iter__(self) -> Iterator[Any]:
        if self.read == 0:
            self.order = self.rng.permutation(12) % 11
        while self.read < 3:
            self.read += 1
            yield tuple(x[self.order[4 * self.read - 4 : 4 * self.read]] for x in DATA)
        self.read = 0

    def state_dict(self) -> dict[str, Any]:
        return {"rng": self.rng.bit_generator.state, "order": self.order, "read": self.read}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rng.bit_generator.state = state["rng"]
        self.order, self.read = state["order"], state["read"]


@dataclasses.dataclass(frozen=True)
class Norms(jl.Observer):
    """An observer of a user's, which remembers arrays and numbers."""

    every: jl.Every = jl.Every(steps=1)  # noqa: RUF009

    def begin(self, run: Any) -> Any:
        return {"last": jnp.zeros(2), "looks": 0}

    def observe(self, run: Any, memory: Any) -> Any:
        return {"last": jnp.full(2, jl.global_norm(run.state.params)), "looks": memory["looks"] + 1}


def train(folder: Path, steps: int, resume: bool = False) -> jl.FitResult:
    folder.parent.mkdir(exist_ok=True)
    step = composed()
    observers = [
        Norms(),
        jl.EarlyStopping("val_loss", patience=50),
        jl.BestWeights("val_loss"),
        jl.CSV(folder.parent / "run.csv"),
        jl.TensorBoard(folder.parent / "events"),
        jl.Checkpoint(folder, every=jl.Every(steps=100)),
    ]
    state = jl.init_state(network(), step, key=3)
    return jl.fit(step, state, Loader(), steps=steps, val=regression(5, seed=1), observers=observers, resume=resume)


def told(result: jl.FitResult) -> dict[str, Any]:
    """What has to be the same again."""
    return {
        "losses": result.history["loss"].tolist(),
        "val_losses": dict(
            zip(result.history.steps("val_loss").tolist(), result.history["val_loss"].tolist(), strict=True)
        ),
        "params": {name: np.asarray(leaf).ravel().tolist() for name, leaf in result.state.params.items()},
        "looks": result.observed["Norms"]["looks"],
    }


def pack(folder: Path, file: Path) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())  # without a date: the same bytes again
                packed.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)


def write_runs(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        stopped = train(work / "run" / "saved", STOPPED)
        pack(work / "run" / "saved", folder / "run.zip")
        jl.save(work / "composed", stopped.state)
        pack(work / "composed", folder / "composed.zip")
        header = (work / "run" / "run.csv").read_text().splitlines()[0]
        whole = train(work / "whole" / "saved", END)
    leaves = [plain(leaf).astype(float).ravel().tolist() for leaf in jax.tree.leaves(stopped.state)]
    runs = {"csv": header, "composed": leaves, "whole": told(whole)}
    (folder / "runs.json").write_text(json.dumps(runs, separators=(",", ":")))


def main(again: bool) -> None:
    folder = Path(__file__).parent / version()
    if folder.exists() and not again:
        sys.exit(f"{folder} is there already. What was released stays as it is; --again if it was not released.")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    kept = Numbers()
    rows = {case.name: row(case, kept.put) for case in CONTRACT}
    about = {"version": version(), "jax": jax.__version__, "rows": rows}
    (folder / "rows.json").write_text(json.dumps(about, separators=(",", ":")).replace('},"', '},\n"'))
    (folder / "rows.bin").write_bytes(b"".join(kept.parts))
    write_runs(folder)
    for file in sorted(folder.iterdir()):
        print(file.stat().st_size, file)


if __name__ == "__main__":
    main(again="--again" in sys.argv[1:])
