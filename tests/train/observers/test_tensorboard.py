"""``TensorBoard``: what the real TensorBoard reads from the files."""

import sys

import numpy as np
import pytest
from observer_runs import DATA, fit, killed, script

import jaxopt_lessons as jl

accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def read(directory):
    """The points ``(batches, number)`` of each tag."""
    accumulator = accumulators.EventAccumulator(str(directory), size_guidance={"scalars": 0})
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in tags}


def expected(history, every):
    """A mean for each look and what is left at the end; validation row by row."""
    points = {}
    for name in history:
        steps = history.steps(name)
        if name.startswith("val_"):
            points[name] = list(zip(steps.tolist(), history[name].tolist(), strict=True))
        else:
            groups = (steps - 1) // every
            points[name] = [
                (int(steps[groups == g][-1]), pytest.approx(history.mean(name, groups == g), rel=1e-6))
                for g in np.unique(groups)
            ]
    return points


@pytest.mark.parametrize("every", [1, 4, 5, 100])
def test_tensorboard_reads_what_the_history_has(tmp_path, every):
    result = fit(steps=11, observers=[jl.TensorBoard(tmp_path / "run", every=jl.Every(steps=every))])
    points = read(tmp_path / "run")
    assert points == expected(result.history, every)
    assert set(points) == {"loss", "weight", "learning_rate", "val_loss"}
    assert len(list((tmp_path / "run").iterdir())) == 1


def test_rows_without_weight_have_no_point(tmp_path):
    losses = script([1, 3, np.nan, np.nan, 5, np.nan], weights=[1, 3, 0, 0, 1, 0])
    fit(**losses, observers=[jl.TensorBoard(tmp_path, every=jl.Every(steps=2))])
    assert read(tmp_path)["loss"] == [(2, 2.5), (6, 5.0)]


def test_names_stay_as_they_are(tmp_path):
    def loss(w, x):
        return (w - x) ** 2, {"a b*[c]/é": x}

    step = jl.make_step(loss, jl.sgd(0.1))
    fit(
        step, jl.init_state(0.0, step), np.ones(4, np.float32), val=None, epochs=1, observers=[jl.TensorBoard(tmp_path)]
    )
    assert read(tmp_path)["a b*[c]/é"] == [(1, 1.0)]


def test_it_is_written_while_the_run_goes_on(tmp_path):
    seen = []
    observers = [
        jl.TensorBoard(tmp_path, every=jl.Every(epochs=1)),
        lambda run: seen.append(len(read(tmp_path)["loss"])),
    ]
    fit(observers=observers)
    assert seen == [1, 2, 3, 4]


@pytest.mark.parametrize("at", [4, 5, 8, 11])
def test_after_a_kill_there_are_the_points_of_the_run_that_was_not(tmp_path, at):
    """What the dead process had written after its last checkpoint is forgotten."""
    board = lambda name: jl.TensorBoard(tmp_path / name, every=jl.Every(steps=1))
    whole = fit(observers=[board("whole")])
    saving = jl.Checkpoint(tmp_path / "checkpoints", every=jl.Every(steps=3))
    killed(at=at, observers=[board("killed"), saving])
    for file in (tmp_path / "killed").iterdir():
        with open(file, "ab") as events:
            events.write(b"half a record")
    silent = jl.Lambda(lambda run: None, every=jl.Every(steps=1))
    fit(observers=[board("killed"), silent, saving], resume=True)
    assert read(tmp_path / "killed") == read(tmp_path / "whole") == expected(whole.history, 1)
    assert len(list((tmp_path / "killed").iterdir())) == 2


def test_points_of_the_dead_process_are_not_shown(tmp_path):
    """The control of the test above, where its points were equal: here the run ends before them."""
    losses = [5, 4, 3, 2, 1]
    board, saving = (
        jl.TensorBoard(tmp_path / "run", every=jl.Every(steps=1)),
        jl.Checkpoint(tmp_path / "saved", every=jl.Every(steps=2)),
    )
    killed(at=4, observers=[board, saving], **script(losses))
    dead = read(tmp_path / "run")["loss"]
    silent = jl.Lambda(lambda run: None, every=jl.Every(steps=1))
    fit(observers=[board, silent, saving], resume=True, **script(losses) | {"steps": 3})
    assert len(dead) >= 3
    assert read(tmp_path / "run")["loss"] == [(1, 5.0), (2, 4.0), (3, 3.0)]


def test_an_error_leaves_the_points_up_to_there(tmp_path):
    def broken(run):
        if run.cursor == 6:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="^broken") as raised:
        fit(observers=[jl.TensorBoard(tmp_path), broken])
    assert read(tmp_path) == expected(raised.value.fit_result.history, 100)
    assert [batches for batches, _ in read(tmp_path)["val_loss"]] == [3, 6]


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer", None)
    with pytest.raises(ImportError, match="^TensorBoard needs tensorboard: pip install tensorboard"):
        fit(observers=[jl.TensorBoard(tmp_path)])


def test_writing_loads_no_tensorflow(tmp_path):
    fit(steps=1, observers=[jl.TensorBoard(tmp_path)])
    assert "tensorflow" not in sys.modules


def test_a_validation_where_a_stream_ends_has_a_point(tmp_path):
    batches = iter([tuple(x[:4] for x in DATA)] * 6)
    board = jl.TensorBoard(tmp_path, every=jl.Every(steps=2))
    result = fit(data=batches, batch_size=None, epochs=1, observers=[board])
    assert read(tmp_path) == expected(result.history, 2)
    assert [at for at, _ in read(tmp_path)["val_loss"]] == [6]
