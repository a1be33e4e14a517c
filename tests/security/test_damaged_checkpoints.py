"""Every file of a checkpoint cut, changed, lost or replaced: an error that names the folder, never other numbers.

The files are those of a folder of ``save`` and of one of ``Checkpoint``. Each damage is tried on each file.
"""

import os
import pickle
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_problems import example_loss, network, regression

import jaxopt_lessons as jl
from jaxopt_lessons.train import file_sums

TREE = {"half": jnp.arange(6.0).astype(jnp.bfloat16), "key": jax.random.key(3), "host": np.arange(3.0), "number": 0.1}
TREE |= {"weights": jnp.linspace(-1.0, 1.0, 60).reshape(20, 3), "counts": jnp.arange(4)}

FILES = [
    *("checkpoint.json", "host.npz", "checksums.txt", "arrays/_METADATA", "arrays/_CHECKPOINT_METADATA"),
    *("arrays/_sharding", "arrays/commit_success.txt", "arrays/manifest.ocdbt", "arrays/array_metadatas/process_0"),
    *("arrays/ocdbt.process_0/manifest.ocdbt", "arrays/d/*", "arrays/ocdbt.process_0/d/*"),
]
"""All there are; their names end in checksums where there is a star."""

OF_RUNS = [name for name in FILES if name not in ("arrays/_sharding", "arrays/array_metadatas/process_0")]
"""A run is saved from the host, where arrays have no sharding."""

STEP = jl.make_step(example_loss, jl.adam(0.05))
STATE = jl.init_state(network(), STEP, key=3)


class Touch:
    """What a pickle makes when it is read: a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x10
    file.write_bytes(data)


def directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def link_to_endless(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def link_to_nothing(file: Path) -> None:
    file.unlink()
    file.symlink_to("../../../../../nowhere")


DAMAGES = {
    "empty": lambda file: file.write_bytes(b""),
    "half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "one byte less": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "one byte more": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
    "a bit": flip,
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "gone": Path.unlink,
    "a folder": directory,
    "a pickle": lambda file: file.write_bytes(pickle.dumps(Touch(file.parent / "executed"))),
    "a pipe": pipe,
    "/dev/zero": link_to_endless,
    "a dangling link": link_to_nothing,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    jl.save(folder, TREE, step=7)
    return folder


def resumed(folder, steps=12):
    observers = [jl.EarlyStopping("loss", patience=99), jl.Checkpoint(folder, every=jl.Every(steps=4), keep=3)]
    return jl.fit(STEP, STATE, regression(11), steps=steps, batch_size=4, observers=observers, resume=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    resumed(folder, 8)
    return folder


def matching(checkpoint, pattern):
    return sorted(checkpoint.glob(pattern))


def newest(folder):
    return max(folder.iterdir())


def assert_refused(folder, load):
    """An error with the folder, and nothing has been executed."""
    with pytest.raises(jl.InputError) as caught:
        load()
    text = str(caught.value)
    assert str(newest(folder)) in text
    assert "is damaged" in text or "was copied in part" in text
    assert not list(folder.rglob("executed"))


def all_files(folder):
    return {path for path in newest(folder).rglob("*") if path.is_file()}


@pytest.mark.parametrize(("which", "patterns"), [("saved", FILES), ("run", OF_RUNS)])
def test_these_are_all_files(which, patterns, request):
    folder = request.getfixturevalue(which)
    listed = [set(matching(newest(folder), pattern)) for pattern in patterns]
    assert all(listed)
    assert set().union(*listed) == all_files(folder)


def damaged(folder, pattern, damage, tmp_path):
    """Copies of a folder with one file damaged, for each file of the pattern."""
    for number in range(len(matching(newest(folder), pattern))):
        copy = tmp_path / f"{number}"
        shutil.copytree(folder, copy)
        DAMAGES[damage](matching(newest(copy), pattern)[number])
        yield copy


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="makes pipes")
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("pattern", FILES)
def test_a_damaged_folder_is_refused(pattern, damage, saved, tmp_path):
    for copy in damaged(saved, pattern, damage, tmp_path):
        assert_refused(copy, lambda copy=copy: jl.restore(copy, TREE))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="makes pipes")
def test_without_checksums_no_pipe_is_waited_for_either(saved, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(saved, copy)
    (newest(copy) / "checksums.txt").unlink()
    pipe(newest(copy) / "checkpoint.json")
    assert_refused(copy, lambda: jl.restore(copy, TREE))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="makes pipes")
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("pattern", OF_RUNS)
def test_a_run_does_not_go_on_from_a_damaged_checkpoint(pattern, damage, run, tmp_path):
    for copy in damaged(run, pattern, damage, tmp_path):
        before = sorted(copy.iterdir())
        assert_refused(copy, lambda copy=copy: resumed(copy))
        assert sorted(copy.iterdir()) == before


def test_every_byte_counts(saved, tmp_path):
    """Each byte of the files with numbers, changed alone."""
    copy = tmp_path / "copy"
    shutil.copytree(saved, copy)
    like = {name: TREE[name] for name in TREE}
    for pattern in ("arrays/ocdbt.process_0/d/*", "checksums.txt", "host.npz"):
        for file in matching(newest(copy), pattern):
            whole = file.read_bytes()
            for at in range(len(whole)):
                file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
                assert_refused(copy, lambda: jl.restore(copy, like))
            file.write_bytes(whole)
    assert_same(jl.restore(copy, TREE))


def assert_same(tree):
    np.testing.assert_array_equal(tree["weights"], TREE["weights"])
    np.testing.assert_array_equal(tree["host"], TREE["host"])
    assert tree["number"] == TREE["number"]


def test_a_folder_that_is_whole_is_restored_wherever_it_is(saved, tmp_path):
    """The control: copied, linked to, and with files of others in it."""
    copy = shutil.copytree(saved, tmp_path / "copy")
    assert_same(jl.restore(copy, TREE))
    (newest(copy) / ".DS_Store").write_bytes(b"?")
    (newest(copy) / "arrays" / "note").write_text("?")
    assert_same(jl.restore(copy, TREE))
    (tmp_path / "link").symlink_to(copy)
    assert_same(jl.restore(tmp_path / "link", TREE))


def test_a_run_goes_on_from_the_checkpoint_before_the_damaged_one(run, tmp_path):
    """As the message says: what is damaged is deleted, and the run ends as it would have."""
    copy = shutil.copytree(run, tmp_path / "copy")
    whole = resumed(shutil.copytree(run, tmp_path / "whole"))
    flip(matching(newest(copy), "arrays/ocdbt.process_0/d/*")[0])
    name = newest(copy).name
    assert name == "000001.step_8"
    with pytest.raises(jl.InputError, match=rf"{name} is damaged: .*d/\w+ is not as it was written. Nothing") as caught:
        resumed(copy)
    assert "That of step 4 is still there: restore it with step=4;" in str(caught.value)
    assert str(caught.value).endswith(f"for fit(resume=True) to go on from it, delete {name}.")
    shutil.rmtree(copy / name)
    assert jl.latest_step(copy) == 4
    result = resumed(copy)
    np.testing.assert_array_equal(result.history["loss"], whole.history["loss"])
    np.testing.assert_array_equal(result.state.params["w1"], whole.state.params["w1"])


def test_the_checkpoint_before_is_named_for_restore_too(tmp_path):
    for step in (1, 2):
        jl.save(tmp_path, {"a": jnp.float32(step)}, step=step)
    (newest(tmp_path) / "host.npz").unlink()
    with pytest.raises(jl.InputError, match=r"host.npz is missing.*restore it with step=1;"):
        jl.restore(tmp_path, {"a": jnp.float32(0)})
    assert jl.restore(tmp_path, {"a": jnp.float32(0)}, step=1)["a"] == 1
    jl.save(tmp_path, {"a": jnp.float32(3)}, step=3, keep=1)
    assert jl.restore(tmp_path, {"a": jnp.float32(0)})["a"] == 3


def test_checksums_tell_which_file_and_how(tmp_path):
    for name in ("a", "b/c", "d"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name * 10)
    file_sums.write(tmp_path)
    assert file_sums.problems(tmp_path) == []
    (tmp_path / "a").write_text("a" * 9)
    (tmp_path / "b/c").write_text("B" * 30)
    (tmp_path / "d").unlink()
    assert file_sums.problems(tmp_path) == ["a has 9 bytes, not 10", "b/c is not as it was written", "d is missing"]
    with pytest.raises(FileNotFoundError):
        file_sums.problems(tmp_path / "b")


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../outside", ""])
def test_checksums_of_files_outside_are_refused(name, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "outside").write_text("x")
    lines = [f"{0x8CDC1683:08x} 1 {name}\n"]
    (tmp_path / "in" / file_sums.NAME).write_text(f"{lines[0]}{file_sums._crc_of_lines(lines):08x}\n")
    assert file_sums.problems(tmp_path / "in") == ["checksums.txt is not as it was written"]
