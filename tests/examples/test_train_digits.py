"""The main example: what it learns, prints and draws, the files it reads, and the options it refuses."""

import gzip
import itertools
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from example_runs import jax_as_it_comes, load, train

import jaxopt_lessons as jl

example = load("train_digits")

EPOCHS = 4
LEARNT = 0.9
"""Test accuracy that four epochs pass by far, and that no network has that was not trained."""


@pytest.fixture(scope="module", autouse=True)
def _settings_of_users():
    with jax_as_it_comes():
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run with the default options but fewer epochs."""
    figure = tmp_path_factory.mktemp("figures") / "digits.png"
    return train(example, figure, "--epochs", str(EPOCHS))


def test_it_learns(run):
    out = run.out
    assert len(out.history["val_accuracy"]) == EPOCHS
    assert out.history["val_accuracy"][-1] > LEARNT
    assert out.history["val_loss"][-1] < out.history["val_loss"][0] < np.log(10)


def test_control_without_a_learning_rate_nothing_is_learnt(run):
    out = example.main(["--epochs", str(EPOCHS), "--no-figure", "--learning-rate", "1e-30"])
    assert out.compiles == 0  # It is the program of the run before.
    assert out.history["val_accuracy"][-1] < 0.4 < LEARNT


def test_the_seed_decides_the_run_but_not_the_split(run):
    first, second, other = (
        example.main(["--epochs", "1", "--no-figure", "--seed", seed]).history["loss"] for seed in ("5", "5", "6")
    )
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 0.01
    for one, two in zip(example.load_digits(), example.load_digits(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_what_it_prints(run):
    out, printed, figure = run
    lines = printed.splitlines()
    assert lines[0] == "digits: 1,437 images to learn from, 360 to test with"
    assert lines[1].startswith("chain(clip_by_global_norm(max_norm=1.0), adamw(learning_rate=warmup_cosine_decay_sch")
    rows = [line.split() for line in lines if line.strip()[:1].isdigit() and line.endswith(tuple("0123456789"))]
    table = [row for row in rows if len(row) == 6]
    assert [int(row[0]) for row in table] == list(range(1, EPOCHS + 1))
    np.testing.assert_allclose([float(row[1]) for row in table], out.history.epoch_mean("loss"), atol=1e-4)
    np.testing.assert_allclose([float(row[3]) for row in table], out.history["val_loss"], atol=1e-4)
    percent = [float(row[4].removesuffix("%")) for row in table]
    np.testing.assert_allclose(percent, 100 * out.history["val_accuracy"], atol=1e-2)
    rates = example.schedules(3e-3, EPOCHS, 45)["warmup-cosine"](jnp.arange(1, EPOCHS + 1) * 45 - 1)
    np.testing.assert_allclose([float(row[5]) for row in table], rates, rtol=0.01)
    assert f"test accuracy {table[-1][4]} after" in printed
    assert out.compiles == 3
    assert "s, in which 3 programs were compiled" in printed
    assert re.search(r"one epoch with half the learning rate: [0-9.]+ s, 0 programs compiled", printed)
    mistakes = round(360 * (1 - out.history["val_accuracy"][-1]))
    assert f"{mistakes} of 360 test images are not recognised, most often:" in printed
    assert lines[-1] == f"figure: {figure}"


def test_the_digits():
    data = example.load_digits()
    assert data.x.shape == (1437, 64)
    assert data.x_test.shape == (360, 64)
    assert data.x.dtype == np.float32
    assert data.y.dtype == np.int32
    assert data.x.min() == data.x_test.min() == 0
    assert data.x.max() == data.x_test.max() == 1
    shares = np.bincount(data.y_test) / (np.bincount(data.y) + np.bincount(data.y_test))
    np.testing.assert_allclose(shares, 0.2, atol=0.01)
    assert not {x.tobytes() for x in data.x} & {x.tobytes() for x in data.x_test}


# ---------------------------------------------------------------------------------------------------------------------
# The figure
# ---------------------------------------------------------------------------------------------------------------------


def test_the_figure_file(run):
    content = run.figure.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) < 150_000


def test_what_the_figure_shows(run):
    data = example.load_digits()
    predicted = data.y_test.copy()
    predicted[[3, 8]] = (data.y_test[[3, 8]] + 1) % 10
    schedule = example.schedules(3e-3, EPOCHS, 45)["linear"]
    figure = example.draw(data, predicted, run.out.history, schedule, 45)
    curves, images = figure.subfigs

    loss, accuracy, rate = curves.axes
    assert all(ax.get_xlabel() and ax.get_ylabel() and ax.get_title() for ax in curves.axes)
    assert [len(ax.lines) for ax in curves.axes] == [3, 2, 1]
    assert all(ax.get_legend() is not None for ax in (loss, accuracy))
    epochs, values = rate.lines[0].get_data()
    assert epochs[-1] == EPOCHS
    np.testing.assert_allclose(values, np.linspace(3e-3, 0, EPOCHS * 45, endpoint=False), rtol=1e-4)

    answers = [ax.get_title() for ax in images.axes]
    truths = [ax.get_xlabel() for ax in images.axes]
    assert answers == [*"0123456789", *map(str, predicted[[3, 8]])]
    assert truths == [""] * 10 + [f"is {label}" for label in data.y_test[[3, 8]]]


# ---------------------------------------------------------------------------------------------------------------------
# Optimizers and schedules
# ---------------------------------------------------------------------------------------------------------------------

SCHEDULES = list(example.schedules(1.0, 1, 1))


@pytest.mark.parametrize(("name", "schedule"), list(itertools.product(example.LEARNING_RATES, SCHEDULES)))
def test_every_optimizer_with_every_schedule(name, schedule):
    """Each lowers a bowl; the course is bounded by the learning rate, which for none of them is above 1."""
    rate = example.schedules(example.LEARNING_RATES[name], epochs=5, steps_per_epoch=4)[schedule]
    tx = example.make_optimizer(name, rate, clip_norm=1.0, weight_decay=0.0)
    params = {"w": jnp.array([3.0, -2.0]), "b": jnp.array([1.0])}
    start, state = params, tx.init(params)
    for _ in range(4):
        updates, state = tx.update(params, state, params)  # The gradient of half the sum of squares.
        params = jl.apply_updates(params, updates)
    assert jl.global_norm(params) < jl.global_norm(start) - 1e-4


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("epochs", [1, 7, 20])
def test_schedules_start_or_peak_at_the_learning_rate(schedule, epochs):
    rates = np.asarray(example.schedules(0.25, epochs, 40)[schedule](jnp.arange(800)))[: 40 * epochs]
    np.testing.assert_allclose(rates.max(), 0.25, rtol=1e-6)
    assert rates.min() >= 0
    assert schedule == "constant" or epochs == 1 or rates[-1] < 0.2


def test_names_of_the_options_are_those_of_the_tables():
    assert list(example.optimizers(jl.constant_schedule(0.1), 0.0)) == list(example.LEARNING_RATES)


def test_clipping_and_decay_are_optional():
    rate = jl.constant_schedule(0.1)
    assert example.make_optimizer("sgd", rate, 0.0, 0.0) == jl.chain(jl.sgd(rate))
    assert example.make_optimizer("adamw", rate, 2.0, 0.5) == jl.chain(
        jl.clip_by_global_norm(2.0), jl.adamw(rate, weight_decay=0.5)
    )
    assert example.make_optimizer("sgd", rate, 2.0, 0.5) == jl.chain(
        jl.clip_by_global_norm(2.0), jl.add_decayed_weights(0.5), jl.sgd(rate)
    )


# ---------------------------------------------------------------------------------------------------------------------
# IDX files
# ---------------------------------------------------------------------------------------------------------------------

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_fashion_mnist(directory: Path, zipped: bool = True) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    arrays = []
    for name in NAMES:
        shape = (12, 28, 28) if "images" in name else (12,)
        arrays.append(random.integers(0, 256 if "images" in name else 10, shape, np.uint8))
        if zipped:
            (directory / f"{name}.gz").write_bytes(gzip.compress(idx(arrays[-1])))
        else:
            (directory / name).write_bytes(idx(arrays[-1]))
    return arrays


@pytest.mark.parametrize("zipped", [True, False])
def test_idx_files_come_back_as_they_were(tmp_path, zipped):
    images, labels, test_images, test_labels = write_fashion_mnist(tmp_path, zipped)
    np.testing.assert_array_equal(example.read_idx(tmp_path / NAMES[0], dimensions=3), images)
    data = example.load_fashion_mnist(tmp_path)
    np.testing.assert_array_equal(np.round(data.x * 255), images.reshape(12, 784))
    np.testing.assert_array_equal(np.round(data.x_test * 255), test_images.reshape(12, 784))
    np.testing.assert_array_equal(data.y, labels)
    np.testing.assert_array_equal(data.y_test, test_labels)
    assert data.x.dtype == np.float32
    assert data.y.dtype == np.int32
    assert 0 <= data.x.min() < data.x.max() <= 1


def refused(directory: Path) -> str:
    """The message with which the data in a directory are refused; every one says how to get the right ones."""
    with pytest.raises(SystemExit) as exit_info:
        example.main(["--dataset", "fashion-mnist", "--data-dir", str(directory), "--no-figure"])
    message = str(exit_info.value)
    assert "apt-get install dataset-fashion-mnist, then --data-dir /usr/share/datasets/fashion-mnist" in message
    return message


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file(tmp_path, name):
    write_fashion_mnist(tmp_path)
    (tmp_path / f"{name}.gz").unlink()
    assert f"there is no {name} (or {name}.gz) in {tmp_path}" in refused(tmp_path)


def test_a_missing_directory(tmp_path):
    assert f"there is no {NAMES[0]} (or {NAMES[0]}.gz) in {tmp_path / 'none'}" in refused(tmp_path / "none")


ARRAY = np.arange(24).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(ARRAY)[:-1], r"has 23 bytes of data, but its header says \(2, 3, 4\), which is 24 bytes"),
        (idx(ARRAY) + b"x", r"has 25 bytes of data, but its header says \(2, 3, 4\), which is 24 bytes"),
        (idx(ARRAY)[:10], r"is no IDX file of bytes with 3 dimensions"),
        (b"", r"is no IDX file of bytes with 3 dimensions"),
        (idx(ARRAY[0]), r"it begins with 00 00 08 02, not with 00 00 08 03"),
        (b"\0\0\x0d\3" + idx(ARRAY)[4:], r"it begins with 00 00 0d 03, not with 00 00 08 03"),
        (b"<html>not found</html>", r"is no IDX file of bytes"),
    ],
    ids=["one byte short", "one byte long", "half a header", "empty", "two dimensions", "floats", "a web page"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_another_kind(tmp_path, content, message, zipped):
    path = tmp_path / ("images.gz" if zipped else "images")
    path.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(example.DataError, match=message) as error:
        example.read_idx(tmp_path / "images", dimensions=3)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("broken", ["cut off", "damaged", "not zipped"])
def test_a_broken_archive(tmp_path, broken):
    write_fashion_mnist(tmp_path)
    path = tmp_path / f"{NAMES[0]}.gz"
    content = path.read_bytes()
    middle = len(content) // 2
    damaged = content[:middle] + bytes(byte ^ 255 for byte in content[middle : middle + 9]) + content[middle + 9 :]
    path.write_bytes({"cut off": content[:middle], "damaged": damaged, "not zipped": gzip.decompress(content)}[broken])
    assert f"cannot read {path}: " in refused(tmp_path)


def test_labels_that_do_not_fit(tmp_path):
    write_fashion_mnist(tmp_path, zipped=False)
    (tmp_path / NAMES[1]).write_bytes(idx(np.zeros(11)))
    assert "has 12 train images and 11 labels" in refused(tmp_path)
    (tmp_path / NAMES[1]).write_bytes(idx(np.full(12, 10)))
    assert "has a train label 10" in refused(tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# Options
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--epochs 0", "--epochs: must be a whole number in [1, 2^31); got '0'"),
        ("--epochs -3", "--epochs: must be a whole number in [1, 2^31); got '-3'"),
        ("--epochs 1.5", "--epochs: must be a whole number in [1, 2^31); got '1.5'"),
        ("--batch-size 0", "--batch-size: must be a whole number in [1, 2^31); got '0'"),
        ("--seed -1", "--seed: must be a whole number in [0, 2^31); got '-1'"),
        ("--seed 2147483648", "--seed: must be a whole number in [0, 2^31); got '2147483648'"),
        ("--learning-rate 0", "--learning-rate: must be a finite number above 0; got '0'"),
        ("--learning-rate nan", "--learning-rate: must be a finite number above 0; got 'nan'"),
        ("--learning-rate inf", "--learning-rate: must be a finite number above 0; got 'inf'"),
        ("--learning-rate fast", "--learning-rate: must be a finite number above 0; got 'fast'"),
        ("--weight-decay=-1", "--weight-decay: must be a finite number of at least 0; got '-1'"),
        ("--clip-norm=-1", "--clip-norm: must be a finite number of at least 0; got '-1'"),
        ("--optimizer sdg", "--optimizer: invalid choice: 'sdg'"),
        ("--schedule cosin", "--schedule: invalid choice: 'cosin'"),
        ("--dataset letters", "--dataset: invalid choice: 'letters'"),
        ("--data-dir .", "--data-dir: the digits come with scikit-learn"),
        ("--figure digits.xyz", "--figure: must end in .pdf, .png, .svg; got 'digits.xyz'"),
        ("--figure no/such/directory/digits.png", "--figure: there is no directory 'no/such/directory'"),
    ],
)
def test_wrong_options_are_refused(capsys, arguments, message):
    with pytest.raises(SystemExit) as exit_info:
        example.main(arguments.split())
    assert exit_info.value.code == 2
    assert f"argument {message}" in capsys.readouterr().err


def test_a_learning_rate_that_is_too_large_is_named(run):
    with pytest.raises(SystemExit, match="the loss is not finite; try a --learning-rate below 1e\\+30"):
        example.main(["--epochs", "1", "--no-figure", "--learning-rate", "1e30"])


def test_defaults():
    options = example.parse([])
    assert (options.figure, options.epochs, options.learning_rate) == (Path("train_digits.png"), 20, 3e-3)
    options = example.parse(["--dataset", "fashion-mnist", "--optimizer", "sgd", "--weight-decay", "0.001"])
    assert (options.figure, options.epochs, options.learning_rate) == (Path("train_fashion-mnist.png"), 5, 0.5)
    assert (options.data_dir, options.weight_decay) == (Path("/usr/share/datasets/fashion-mnist"), 0.001)
    assert example.parse(["--no-figure"]).figure is None
