"""The example of a convolutional network: it learns, goes on where it was stopped, finds its data."""

import gzip
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from example_runs import EXAMPLES, jax_as_it_comes, load
from example_runs import train as train_example
from training_problems import assert_same

import jaxopt_lessons as jl

example = load("train_fashion_convnet")

EPOCHS = 3
LEARNT = 0.9
"""Test accuracy that three epochs pass by far, and that no network has that was not trained."""


@pytest.fixture(scope="module", autouse=True)
def _settings_of_users():
    with jax_as_it_comes():
        yield


def train(figure, *options):
    return train_example(example, figure, "--digits", "--epochs", str(EPOCHS), *options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("figures") / "digits.png")


def test_it_learns(run):
    history = run.out.history
    assert len(history["val_accuracy"]) == EPOCHS
    assert history["val_accuracy"][-1] > LEARNT
    assert history["val_loss"][-1] < history["val_loss"][0] < np.log(10)
    assert run.figure.read_bytes().startswith(b"\x89PNG")


def test_control_without_a_learning_rate_nothing_is_learnt(run):
    """The running means are learnt all the same; they alone recognise nothing."""
    out = train(run.figure, "--learning-rate", "1e-30").out
    assert out.history["val_accuracy"][-1] < 0.4 < LEARNT


def test_what_it_prints(run):
    out, printed, figure = run
    lines = printed.splitlines()
    assert lines[0] == "digits: 1,437 images to learn from, 360 to test with"
    assert "sgd(learning_rate=multiply_schedules(first=warmup(" in lines[1]
    table = re.findall(r"epoch +(\d+)   train loss (\S+) accuracy (\S+)%   test loss (\S+) accuracy (\S+)%", printed)
    table = np.array(table, float)
    h = out.history
    np.testing.assert_array_equal(table[:, 0], np.arange(1, EPOCHS + 1))
    np.testing.assert_allclose(table[:, 1], h.epoch_mean("loss"), atol=1e-4)
    np.testing.assert_allclose(table[:, 2], 100 * h.epoch_mean("accuracy"), atol=1e-2)
    np.testing.assert_allclose(table[:, 3], h["val_loss"], atol=1e-4)
    np.testing.assert_allclose(table[:, 4], 100 * h["val_accuracy"], atol=1e-2)
    assert f"test accuracy {h['val_accuracy'][-1]:.2%}, loss {h['val_loss'][-1]:.4f}, after " in printed
    assert lines[-1] == f"figure: {figure}"


def test_every_batch_is_full(run):
    """Batch normalization never sees the 29 images that are left of 1,437."""
    np.testing.assert_array_equal(run.out.history["weight"], np.full(EPOCHS * 22, 64))


def test_the_number_is_that_of_the_running_means_and_of_all_images(run):
    """The network written out, with the arrays of the state: no module, no mode, one mean over the 360 images."""
    data, params, stats = example.load_digits(), run.out.state.params, run.out.state.model_state
    x = example.images(data.x_test)
    for n in "12":
        kernel, norm, running = params[f"conv{n}"]["kernel"], params[f"norm{n}"], stats[f"norm{n}"]
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = (x - running["mean"]) / np.sqrt(running["var"] + 1e-5) * norm["scale"] + norm["bias"]
        images, height, width, channels = x.shape
        x = np.maximum(x, 0).reshape(images, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
    logits = x.reshape(len(x), -1) @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose((logits.argmax(-1) == data.y_test).mean(), run.out.history["val_accuracy"][-1], 1e-6)
    losses = jl.losses.softmax_cross_entropy_with_integer_labels(logits, data.y_test)
    np.testing.assert_allclose(losses.mean(), run.out.history["val_loss"][-1], 1e-4)


def test_a_stopped_run_goes_on_to_the_same_bits(run, tmp_path, monkeypatch):
    directory = str(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(example, "print_epoch", lambda run: run.stop("enough"))
        out, printed, _ = train(tmp_path / "one.png", "--run", directory)
    assert out.reason == "enough"
    assert int(out.state.step) == 22
    assert "stopped after 22 steps: enough" in printed
    assert not (tmp_path / "one.png").exists()

    out, printed, _ = train(tmp_path / "two.png", "--run", directory)
    assert "epoch   1" not in printed
    assert "epoch   2" in printed
    assert_same(out.state, run.out.state)
    for name in run.out.history:
        np.testing.assert_array_equal(out.history[name], run.out.history[name])


def test_fewer_examples(tmp_path):
    out, printed, _ = train(tmp_path / "few.png", "--examples", "70", "--batch-size", "64")
    assert printed.startswith("digits: 70 images to learn from, 360 to test with")
    assert int(out.state.step) == EPOCHS


# ---------------------------------------------------------------------------------------------------------------------
# Where the data is
# ---------------------------------------------------------------------------------------------------------------------


def write_fashion_mnist(directory: Path) -> np.ndarray:
    """Four small files as they are published; returns the training images."""
    random, arrays = np.random.default_rng(0), {}
    for part, n in (("train", 12), ("t10k", 5)):
        arrays[f"{part}-images-idx3-ubyte"] = random.integers(0, 256, (n, 28, 28), np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = random.integers(0, 10, (n,), np.uint8)
    for name, array in arrays.items():
        header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
        (directory / f"{name}.gz").write_bytes(gzip.compress(header + array.tobytes()))
    return arrays["train-images-idx3-ubyte"]


@pytest.mark.parametrize("named", [True, False])
def test_files_are_found(tmp_path, monkeypatch, capsys, named):
    written = write_fashion_mnist(tmp_path)
    monkeypatch.setattr(example, "PLACES", (tmp_path / "none", *(() if named else (tmp_path,))))
    data = example.load(example.parse(["--data-dir", str(tmp_path)] if named else []))
    assert capsys.readouterr().out == f"files of {tmp_path}\n"
    np.testing.assert_array_equal(np.round(255 * example.images(data.x)[..., 0]), written)


@pytest.mark.parametrize("named", [True, False])
def test_files_that_are_not_there(tmp_path, monkeypatch, named):
    """Nothing takes their place silently; the message has three ways on."""
    monkeypatch.setattr(example, "PLACES", (tmp_path / "one", tmp_path / "two"))
    with pytest.raises(SystemExit) as exit_info:
        example.main(["--data-dir", str(tmp_path / "three")] if named else [])
    message = str(exit_info.value)
    places = f"{tmp_path / 'three'}" if named else f"{tmp_path / 'one'} or {tmp_path / 'two'}"
    assert f"Fashion-MNIST is not in {places}." in message
    assert all(way in message for way in ("apt-get install dataset-fashion-mnist", "--data-dir DIR", "--digits"))


def test_a_missing_file(tmp_path):
    write_fashion_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(SystemExit, match="train_fashion_convnet: there is no t10k-labels-idx1-ubyte"):
        example.main(["--data-dir", str(tmp_path)])


def test_options(capsys):
    with pytest.raises(SystemExit):
        example.parse(["--digits", "--data-dir", "."])
    assert "argument --data-dir: not allowed with argument --digits" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        example.parse(["--figure", "no/such/directory/f.png"])
    assert "argument --figure: there is no directory 'no/such/directory'" in capsys.readouterr().err
    options = example.parse([])
    assert (options.epochs, options.batch_size, options.figure.name) == (4, 128, "fashion_convnet.png")
    assert options.figure.parent == EXAMPLES / "figures"
    assert example.parse(["--digits"]).figure.name == "digits_convnet.png"
