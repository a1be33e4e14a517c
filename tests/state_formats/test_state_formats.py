"""States of released versions load in this one, by name and as they lie on disk, and go on as they would have.

What is promised: arrays under the names of ``state_dict``, folders of ``save`` and of ``Checkpoint``, texts of
``repr``, and pickles of optimizers, which hold the public names of factories and arguments. What is not: pickles of
states, and
the same bits from another version of JAX. The numbers of the fixtures come from one version of JAX and one kind of
processor; XLA orders sums as it likes, and so a float32 may differ in its last bits: by some 1e-7 after one update, by
more where training carries it on.
"""

import base64
import copy
import json
import pickle
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CONTRACT
from state_formats import write

import jaxopt_lessons as jl
from jaxopt_lessons.train import stored_tree

HERE = Path(__file__).parent
CASES = {case.name: case for case in CONTRACT}
FOLDERS = sorted(
    (folder for folder in HERE.iterdir() if (folder / "rows.json").exists()),
    key=lambda folder: [int(number) for number in folder.name.split(".")],
)
NOT_YET_RELEASED: set[str] = set()
"""Rows that have come since the newest folder was written. Empty it, and write a folder, with each release."""

PUBLIC = {**vars(jl), "jnp": jnp}
PUBLIC |= {f.__name__: f for case in CONTRACT for f in case.make().arguments.values() if callable(f)}

ROWS = {folder.name: write.read_rows(folder) for folder in FOLDERS}
EACH = [pytest.param(folder, name, id=f"{folder}-{name}") for folder, rows in ROWS.items() for name in rows]
each_row = pytest.mark.parametrize(("folder", "name"), EACH)
each_version = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)

UPDATE = {"rtol": 1e-6, "atol": 1e-7}
"""Of one update, whose numbers are of the order of 1e-3 to 1: the last bits of float32."""


def as_tree(leaves):
    return jax.tree.unflatten(jax.tree.structure(write.numbers(0)), [jnp.asarray(leaf) for leaf in leaves])


def nested(named):
    result = {}
    for names, array in named:
        inside = result
        for name in names[:-1]:
            inside = inside.setdefault(name, {})
        inside[names[-1]] = array
    return result


def with_keys(named, like):
    """The stored words of random keys as keys again."""
    kinds = {tuple(names): leaf.dtype for names, leaf in like}
    is_key = lambda names: names in kinds and jnp.issubdtype(kinds[names], jax.dtypes.prng_key)
    return [(names, jax.random.wrap_key_data(jnp.array(a)) if is_key(names) else a) for names, a in named]


def loaded(case, row):
    """Optimizer, parameters and state of a stored row."""
    tx = case.make()
    params = as_tree(row["params"])
    fresh = tx.init(params)
    differences = stored_tree.differences(stored_tree.describe("restore", fresh), row["layout"])
    if differences:
        raise jl.InputError(f"{case.name}: the layout of its state has changed: {'; '.join(differences)}")
    return tx, params, jl.load_state_dict(tx, params, nested(with_keys(row["state"], write.named(tx, fresh))))


@each_row
def test_a_stored_state_goes_on(folder, name):
    case, row = CASES[name], ROWS[folder][name]
    tx, params, state = loaded(case, row)
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, tx.init(params))
    for (_, leaf), (_, stored) in zip(write.named(tx, state), row["state"], strict=True):
        np.testing.assert_array_equal(write.plain(leaf), stored, strict=True)
    updates, after = case.update(tx)(write.gradient(write.UPDATES), state, params)
    for got, stored in zip(jax.tree.leaves(updates), row["updates"], strict=True):
        assert got.dtype == stored.dtype
        np.testing.assert_allclose(np.asarray(got, float), np.asarray(stored, float), **UPDATE)
    for (names, got), stored in zip(write.named(tx, after), row["after"], strict=True):
        assert write.plain(got).dtype == stored.dtype
        np.testing.assert_allclose(
            write.plain(got).astype(float), stored.astype(float), **UPDATE, err_msg="/".join(names)
        )


@each_row
def test_the_stored_update_is_one(folder, name):
    """The numbers tell a state that goes on from a new one, where there is a state that counts."""
    row = ROWS[folder][name]
    assert all(np.all(np.isfinite(leaf.astype(float))) for leaf in row["updates"])
    assert len(row["after"]) == len(row["state"])


@each_row
def test_values_come_back(folder, name):
    row, tx = ROWS[folder][name], CASES[name].make()
    if row["pickle"] is not None:
        assert pickle.loads(base64.b64decode(row["pickle"])) == tx
    assert eval(row["repr"], dict(PUBLIC)) == tx


@pytest.mark.parametrize("name", CASES)
def test_every_row_is_kept(name):
    newest = ROWS[FOLDERS[-1].name]
    if name in NOT_YET_RELEASED:
        assert name not in newest
        assert write.version() != FOLDERS[-1].name, f"{name} is released: write.py --again, or a new version"
    else:
        assert name in newest, f"{name} is new since {FOLDERS[-1].name}: put it on the list NOT_YET_RELEASED"


@each_version
def test_no_row_was_taken_away(folder):
    """Whoever has a state of it could not load it any more."""
    assert set(ROWS[folder.name]) <= set(CASES)


def test_pickles_hold_public_names():
    """So the files of the library may be moved and renamed."""
    tx = jl.chain(jl.clip_by_global_norm(1.0), jl.adamw(jl.cosine_decay_schedule(0.1, 10)), jl.trace(0.9))
    written = pickle.dumps(tx)
    assert pickle.loads(written) == tx
    assert b"jaxopt_lessons._value" in written
    for module in (b"optimizers", b"transforms.", b"schedules", b"core"):
        assert module not in written


def test_an_older_pickle_gets_the_default_of_a_new_argument():
    make, (factory, arguments) = jl.adamw(0.1, weight_decay=0.3).__reduce__()
    older = {name: value for name, value in arguments.items() if name not in ("nesterov", "eps_root")}
    assert make(factory, older) == jl.adamw(0.1, weight_decay=0.3)
    with pytest.raises(TypeError, match="^adamw: the pickle has an argument 'gone', which there is no more"):
        make(factory, {**arguments, "gone": 1})


# ---------------------------------------------------------------------------------------------------------------------
# Folders
# ---------------------------------------------------------------------------------------------------------------------


def unpack(file, folder):
    with zipfile.ZipFile(file) as packed:
        packed.extractall(folder)
    return folder


@each_version
def test_a_stored_folder_is_restored(folder, tmp_path):
    like = jl.init_state(write.network(), write.composed(), key=0)
    restored = jl.restore(unpack(folder / "composed.zip", tmp_path), like)
    stored = json.loads((folder / "runs.json").read_text())["composed"]
    assert jax.tree.structure(restored) == jax.tree.structure(like)
    for leaf, expected in zip(jax.tree.leaves(restored), stored, strict=True):
        np.testing.assert_array_equal(write.plain(leaf).astype(float).ravel(), expected)
    assert int(restored.step) == int(restored.cursor) == write.STOPPED


@each_version
def test_a_stored_run_goes_on(folder, tmp_path):
    """Nine steps of a network with rates of 0.05 carry a last bit of float32 on to 1e-6; another batch is 0.1."""
    unpack(folder / "run.zip", tmp_path / "saved")
    stored = json.loads((folder / "runs.json").read_text())
    resumed = write.train(tmp_path / "saved", write.END, resume=True)
    told = write.told(resumed)
    assert told["looks"] == stored["whole"]["looks"]
    np.testing.assert_allclose(told["losses"], stored["whole"]["losses"], rtol=1e-5)
    for batches, loss in stored["whole"]["val_losses"].items():  # The run that stopped has validated there too.
        np.testing.assert_allclose(told["val_losses"][int(batches)], loss, rtol=1e-5)
    for name, leaf in stored["whole"]["params"].items():
        np.testing.assert_allclose(told["params"][name], leaf, rtol=1e-5, atol=1e-6)
    assert (tmp_path / "run.csv").read_text().splitlines()[0] == stored["csv"]
    assert len(told["losses"]) == write.END


# ---------------------------------------------------------------------------------------------------------------------
# A change of the layout is noticed
# ---------------------------------------------------------------------------------------------------------------------

ADAM = ROWS[FOLDERS[-1].name]["adam"]


def changed(change):
    row = copy.deepcopy({"layout": ADAM["layout"], "params": ADAM["params"], "state": ADAM["state"]})
    change(row)
    return row


def rename(row):
    row["state"] = [(tuple("m" if n == "mu" else n for n in names), array) for names, array in row["state"]]


def another_dtype(row):
    row["state"] = [(names, array.astype(np.float16) if "nu" in names else array) for names, array in row["state"]]


def lose(row):
    row["state"] = [(names, array) for names, array in row["state"] if names[-2:] != ("nu", "vector")]


def transpose(row):
    row["state"] = [(names, array.T if names[-2:] == ("mu", "matrix") else array) for names, array in row["state"]]


def of_layout(old, new):
    def change(row):
        text = json.dumps(row["layout"])
        assert old in text
        row["layout"] = json.loads(text.replace(old, new))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename, "missing 'scale_by_adam/mu/matrix'.*surplus 'scale_by_adam/m/matrix'"),
        (another_dtype, r"'scale_by_adam/nu/matrix' is float16\[3,2\], not float32\[3,2\]"),
        (lose, "missing 'scale_by_adam/nu/vector'"),
        (transpose, r"'scale_by_adam/mu/matrix' is float32\[2,3\], not float32\[3,2\]"),
        (of_layout(".mu[", ".m["), "0/mu/matrix: expected float32.*, the checkpoint has nothing"),
        (of_layout("ScaleByAdamState", "AdamState"), "0: expected ScaleByAdamState, the checkpoint has AdamState"),
        (of_layout('"int32"', '"int64"'), r"0/count: expected int32\[\], the checkpoint has int64\[\]"),
        (of_layout("[0]", "[2]"), "expected nothing, the checkpoint has"),
    ],
)
def test_a_changed_layout_is_noticed(change, message):
    loaded(CASES["adam"], changed(lambda row: None))
    with pytest.raises(jl.InputError, match=f"(?s){message}"):
        loaded(CASES["adam"], changed(change))
