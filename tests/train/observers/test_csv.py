"""``CSV`` and ``History.to_csv``, ``to_pandas``: the rows of the history, and nothing else."""

import csv
import math

import numpy as np
import pytest
from observer_runs import DATA, fit, killed

import jaxopt_lessons as jl

pandas = pytest.importorskip("pandas")


def assert_is(path, history):
    """The file has exactly the rows of the history, with its numbers bit for bit."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["batches"]) for row in rows] == history.steps("loss").tolist()
    assert [int(row["epoch"]) for row in rows] == history.epochs("loss").tolist()
    assert list(rows[0]) == ["batches", "epoch", *history]
    for name in history:
        known = dict(zip(history.steps(name).tolist(), history[name], strict=True))
        for row in rows:
            batches = int(row["batches"])
            if batches in known:
                np.testing.assert_array_equal(known[batches].dtype.type(row[name]), known[batches], strict=True)
            else:
                assert row[name] == ""


@pytest.mark.parametrize("every", [jl.Every(epochs=1), jl.Every(steps=1), jl.Every(steps=5), jl.Every(seconds=1e-9)])
@pytest.mark.parametrize("steps", [1, 2, 7, 12])
def test_the_file_has_the_rows_of_the_history(tmp_path, every, steps):
    result = fit(steps=steps, observers=[jl.CSV(tmp_path / "a.csv", every=every)])
    assert_is(tmp_path / "a.csv", result.history)
    result.history.to_csv(tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.csv", "b.csv"]


def test_it_is_written_while_the_run_goes_on(tmp_path):
    path, seen = tmp_path / "a.csv", []

    def look(run):
        seen.append((run.cursor, path.read_text().count("\n") - 1, path.read_text().endswith("\n")))

    fit(observers=[jl.CSV(path), jl.Lambda(look)])
    assert seen == [(3, 3, True), (6, 6, True), (9, 9, True), (12, 12, True)]


def test_rows_are_appended_and_not_written_anew(tmp_path):
    """Only a new column makes a new file: here ``val_loss``, after the first epoch."""
    path, files = tmp_path / "a.csv", []
    fit(
        observers=[
            jl.CSV(path, every=jl.Every(steps=1)),
            jl.Lambda(lambda run: files.append(path.stat().st_ino), every=jl.Every(steps=1)),
        ]
    )
    assert files[0] == files[1]
    assert len(set(files[2:])) == 1
    assert len(files) == 12


def test_a_file_that_is_there_is_replaced(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("something else\n1\n2\n")
    result = fit(steps=4, observers=[jl.CSV(path)])
    assert_is(path, result.history)


@pytest.mark.parametrize("at", [3, 4, 7, 11])
def test_after_a_kill_the_rows_of_the_dead_process_are_gone(tmp_path, at):
    path = tmp_path / "a.csv"
    observers = [jl.CSV(path, every=jl.Every(steps=1)), jl.Checkpoint(tmp_path / "run", every=jl.Every(steps=2))]
    killed(at=at, observers=observers)
    with open(path, "a") as file:
        file.write("99,9,0.05,1")  # the beginning of a line, as a power failure may leave it
    silent = jl.Lambda(lambda run: None, every=jl.Every(steps=1))
    resumed = fit(observers=[observers[0], silent, observers[1]], resume=True)
    assert_is(path, resumed.history)
    assert resumed.history.steps("loss").tolist() == list(range(1, 13))
    resumed.history.to_csv(tmp_path / "b.csv")
    assert path.read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_an_error_leaves_the_rows_up_to_there(tmp_path):
    def broken(run):
        if run.cursor == 6:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="^broken") as raised:
        fit(observers=[jl.CSV(tmp_path / "a.csv", every=jl.Every(steps=100)), broken])
    assert_is(tmp_path / "a.csv", raised.value.fit_result.history)
    assert len(raised.value.fit_result.history["loss"]) == 6


def test_a_directory_that_is_not_there_is_refused_before_the_first_step(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"^CSV: there is no directory '{tmp_path}/no'"):
        fit(observers=[jl.CSV(tmp_path / "no" / "a.csv")])


def test_an_error_of_writing_comes_out_with_the_result(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(OSError, match="a.csv") as raised:
        fit(observers=[jl.CSV(tmp_path / "a.csv")])
    assert int(raised.value.fit_result.state.cursor) >= 3


def history():
    """Two tables with numbers of several dtypes, one with a comma in its name."""
    made = jl.History()
    made.append({"loss": np.array([0.1, np.nan, np.inf], np.float32), "a,b": np.array([1, 2, 3])}, [1, 2, 4], 0)
    made.append({"val_loss": np.array([0.1, 1 / 3])}, [2, 5], 1)
    return made


def test_a_table_has_a_row_for_each_number_of_batches(tmp_path):
    history().to_csv(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text().splitlines() == [
        'batches,epoch,loss,"a,b",val_loss',
        "1,0,0.1,1,",
        "2,1,nan,2,0.1",
        "4,0,inf,3,",
        "5,1,,,0.3333333333333333",
    ]


def test_two_rows_for_one_number_of_batches_are_no_table(tmp_path):
    twice = history()
    twice.append({"val_loss": 2.0}, 5, 1)
    with pytest.raises(ValueError, match="^history: 'val_loss' has two rows for the same number of batches"):
        twice.to_csv(tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_history_is_a_header(tmp_path):
    jl.History().to_csv(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "batches,epoch\n"
    assert jl.History().to_pandas().shape == (0, 1)


def test_a_history_is_a_data_frame():
    frame = history().to_pandas()
    assert frame.index.name == "batches"
    assert frame.index.tolist() == [1, 2, 4, 5]
    assert list(frame) == ["epoch", "loss", "a,b", "val_loss"]
    assert frame["epoch"].tolist() == [0, 1, 0, 1]
    assert frame["val_loss"].tolist()[1::2] == [0.1, 1 / 3]
    assert frame["a,b"].tolist()[:3] == [1, 2, 3]
    assert [math.isnan(x) for x in frame["loss"]] == [False, True, False, True]
    result = fit()
    frame = result.history.to_pandas()
    assert frame["loss"].dtype == np.float32
    np.testing.assert_array_equal(frame["loss"], result.history["loss"])
    np.testing.assert_array_equal(frame["val_loss"].dropna().index, result.history.steps("val_loss"))


def test_pandas_reads_the_file(tmp_path):
    """As the frame that the history gives, to the digits of its dtypes."""
    result = fit(observers=[jl.CSV(tmp_path / "a.csv")])
    read = pandas.read_csv(tmp_path / "a.csv", index_col="batches")
    frame = result.history.to_pandas()
    assert list(read) == list(frame)
    np.testing.assert_array_equal(read.to_numpy(np.float32), frame.to_numpy(np.float32))


@pytest.mark.parametrize("every", [jl.Every(steps=2), jl.Every(steps=100)])
def test_a_validation_after_the_last_row_was_written_is_in_the_file(tmp_path, every):
    """Where a stream ends, what is measured then belongs to a row that is in the file already."""
    batches = iter([tuple(x[:4] for x in DATA)] * 6)
    result = fit(data=batches, batch_size=None, epochs=1, observers=[jl.CSV(tmp_path / "a.csv", every=every)])
    assert result.history.steps("val_loss").tolist() == [6]
    assert_is(tmp_path / "a.csv", result.history)
