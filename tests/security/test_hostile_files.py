"""Files made to do harm, with right checksums: they are refused, and nothing that is in them is executed."""

import csv
import io
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from observer_runs import fit, killed

import jaxopt_lessons as jl
from jaxopt_lessons.train import checkpoint, file_sums, json_state

LIKE = {"a": jnp.zeros(3), "host": np.zeros(2), "n": 1.5}
TREE = {"a": jnp.arange(3.0), "host": np.ones(2), "n": 0.5}


class Touch:
    """What a pickle makes when it is read: a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def executed(tmp_path):
    """The file that must not come to be."""
    path = tmp_path / "executed"
    pickle.loads(pickle.dumps(Touch(path))).close()
    assert path.exists()  # The trap works.
    path.unlink()
    return path


def folder(tmp_path):
    return checkpoint.save(tmp_path / "run", TREE, step=7, records={"loss": np.ones(3)})


def refused(path, executed, match="cannot be read"):
    file_sums.write(path)
    with pytest.raises(jl.InputError, match=match) as caught:
        checkpoint.restore(path.parent, LIKE)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 2000
    assert not executed.exists()


def objects(executed):
    data = io.BytesIO()
    np.save(data, np.array([Touch(executed)], object), allow_pickle=True)
    return data.getvalue()


def test_the_trap_of_object_arrays_works(executed):
    np.load(io.BytesIO(objects(executed)), allow_pickle=True)[0].close()
    assert executed.exists()


@pytest.mark.parametrize("member", ["0.npy", "1.npy", "record 0.npy", "another.npy"])
def test_object_arrays_among_arrays_of_numpy(member, tmp_path, executed):
    path = folder(tmp_path)
    with zipfile.ZipFile(path / "host.npz") as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path / "host.npz", "w") as file:
        for name, data in (members | {member: objects(executed)}).items():
            file.writestr(name, data)
    refused(path, executed, "cannot be read.*Object arrays cannot be loaded")


def test_a_pickle_in_the_place_of_each_file(tmp_path, executed):
    original, needed = folder(tmp_path), set()
    for name in sorted(file.relative_to(original) for file in original.rglob("*") if file.is_file()):
        path = tmp_path / "-".join(name.parts) / original.name
        shutil.copytree(original, path)
        (path / name).write_bytes(pickle.dumps(Touch(executed)))
        file_sums.write(path)
        try:
            restored = checkpoint.restore(path.parent, LIKE)
        except jl.InputError as error:
            needed.add(name.name if str(path) in str(error) else "an error without the folder")
        else:  # a file that nobody reads
            np.testing.assert_array_equal(restored.tree["a"], TREE["a"])
            np.testing.assert_array_equal(restored.tree["host"], TREE["host"])
        assert not executed.exists()
    assert {"checkpoint.json", "host.npz", "manifest.ocdbt"} <= needed
    assert "an error without the folder" not in needed


def with_json(path, change):
    file = path / "checkpoint.json"
    contents = json.loads(file.read_text())
    contents = change(contents) or contents
    file.write_text(contents if isinstance(contents, str) else json.dumps(contents))


def entry(contents, path):
    return next(one for one in contents["tree"] if one["path"] == path)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: "[" * 100_000, "cannot be read"),
        (lambda c: '{"format": ' * 50_000, "cannot be read"),
        (lambda c: " ", "cannot be read"),
        (lambda c: "null", "cannot be read"),
        (lambda c: "[1]", "cannot be read"),
        (lambda c: json.dumps(c) + "x", "cannot be read"),
        (lambda c: json.dumps(c)[:-1], "cannot be read"),
        (lambda c: c.update(format="../../x"), "has the format '../../x'"),
        (lambda c: c.update(format=float("nan")), "has the format nan"),
        (lambda c: c.update(tree=None), "lacks some of"),
        (lambda c: c.pop("records") and None, "lacks some of"),
        (lambda c: c.update(tree=[1]), "cannot be read"),
        (lambda c: c.update(tree=c["tree"][:-1]), "does not fit"),
        (lambda c: c.update(tree=[{"path": "", "node": "os.system"}]), "cannot be read"),
        (lambda c: entry(c, "").update(node="os.system"), "expected dict, the checkpoint has os.system"),
        (lambda c: entry(c, "['a']").update(dtype="object"), "does not fit"),
        (lambda c: entry(c, "['a']").update(shape=[10**15]), "does not fit"),
        (lambda c: entry(c, "['n']").update(value="__import__('os')"), "cannot be read"),
        (lambda c: entry(c, "['n']").update(value=[1, 2]), "cannot be read"),
        (lambda c: entry(c, "['n']").pop("value") and None, "cannot be read"),
        (lambda c: c.update(device=["../../x"]), "cannot be read"),
        (lambda c: c.update(device=[["x"]]), "cannot be read"),
        (lambda c: c.update(device=[]), "cannot be read"),
        (lambda c: c.update(records=[{"name": "loss", "dtype": "object"}]), "cannot be read"),
        (lambda c: c.update(records=[{"name": "loss", "dtype": "os.system"}]), "cannot be read"),
        (lambda c: c.update(records=[{"name": "loss", "dtype": "float64"}] * 2), "cannot be read"),
    ],
)
def test_a_description_that_was_made_up(change, match, tmp_path, executed):
    path = folder(tmp_path)
    with_json(path, change)
    refused(path, executed, match)


def test_arrays_of_another_shape_than_described(tmp_path, executed):
    """Nothing is broadcast, cut or cast to fit."""
    for other in (jnp.arange(4.0), jnp.arange(2.0), jnp.arange(3), jnp.float32(1)):
        path = folder(tmp_path)
        text = (path / "checkpoint.json").read_text()
        path = checkpoint.save(path.parent, TREE | {"a": other}, step=7, records={"loss": np.ones(3)})
        (path / "checkpoint.json").write_text(text)
        refused(path, executed)


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "..", "000000.step_7/../../x", "\0", "a" * 10_000])
def test_directories_with_hostile_names(name, tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    with pytest.raises((FileNotFoundError, OSError, ValueError)):
        jl.restore(path / name, LIKE)
    assert list(path.iterdir()) == []


def test_links_are_never_followed_to_delete(tmp_path):
    """A link with the name of a left-over, or of an old checkpoint, does not delete what it points to."""
    other = tmp_path / "other"
    (other / "precious").mkdir(parents=True)
    run = tmp_path / "run"
    run.mkdir()
    (run / ".000000.step_1.saving").symlink_to(other)
    with pytest.raises(OSError):  # noqa: PT011 (the words are those of this Python)
        jl.save(run, TREE)
    assert (other / "precious").exists()


# ---------------------------------------------------------------------------------------------------------------------
# The states of loaders, in JSON
# ---------------------------------------------------------------------------------------------------------------------


def nested(depth, item=1):
    for _ in range(depth):
        item = [item]
    return item


@pytest.mark.parametrize(
    "value",
    [
        {"bytes": "not base64"},
        {"bytes": 1},
        {"tuple": None},
        {"dict": [[{"dict": []}, 1]]},
        {"dict": [1]},
        {"array": "AAAA", "dtype": "O", "shape": [1]},
        {"array": "AAAA", "dtype": "os.system", "shape": [1]},
        {"array": "AAAA", "dtype": "<f4", "shape": [1]},
        {"array": "AAAAAA==", "dtype": "<f4", "shape": [10**12]},
        {"array": "AAAAAA==", "dtype": "<f4", "shape": "x"},
        {"array": pickle.dumps(1).decode("latin1"), "dtype": "<f4", "shape": [1]},
        nested(100_000),
    ],
    ids=lambda value: repr(value)[:50] if not isinstance(value, list) else "deep",
)
def test_a_state_that_was_made_up(value):
    with pytest.raises(jl.InputError, match="^data: its state, as it was saved, cannot be read"):
        json_state.decode(value)


def test_nan_and_infinity_come_back_and_names_of_classes_are_text():
    value = {"x": [float("inf"), -float("inf")], "class": "os.system", "py/object": "os.system", "__reduce__": ["open"]}
    assert json_state.decode(json.loads(json.dumps(json_state.encode(value)))) == value
    assert np.isnan(json_state.decode(json.loads("NaN")))


# ---------------------------------------------------------------------------------------------------------------------
# Logs that are there when a run goes on
# ---------------------------------------------------------------------------------------------------------------------

FOREIGN = {
    "empty": b"",
    "cut off": b"batches,epoch,lo",
    "binary": bytes(range(256)) * 10,
    "a huge line": b"9" * 5_000_000,
    "formulas": b"=cmd|' /C calc'!A0\n",
    "a pickle": pickle.dumps({"a": 1}),
}


@pytest.mark.parametrize("contents", FOREIGN.values(), ids=FOREIGN)
def test_a_csv_file_is_written_anew_and_never_read(contents, tmp_path):
    path = tmp_path / "a.csv"
    observers = [jl.CSV(path), jl.Checkpoint(tmp_path / "run", every=jl.Every(steps=2))]
    killed(at=4, steps=6, observers=observers)
    path.write_bytes(contents)
    silent = jl.Lambda(lambda run: None, every=jl.Every(steps=1))
    result = fit(steps=6, observers=[observers[0], silent, observers[1]], resume=True)
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == [float(str(loss)) for loss in result.history["loss"]]


def test_files_of_events_that_are_there_are_left_alone(tmp_path):
    pytest.importorskip("tensorboard")
    logs = tmp_path / "logs"
    observers = [jl.TensorBoard(logs), jl.Checkpoint(tmp_path / "run", every=jl.Every(steps=2))]
    killed(at=4, steps=6, observers=observers)
    for number, contents in enumerate(FOREIGN.values()):
        (logs / f"events.out.tfevents.{number}.foreign").write_bytes(contents)
    silent = jl.Lambda(lambda run: None, every=jl.Every(steps=1))
    fit(steps=6, observers=[observers[0], silent, observers[1]], resume=True)
    for number, contents in enumerate(FOREIGN.values()):
        assert (logs / f"events.out.tfevents.{number}.foreign").read_bytes() == contents
