"""What a run measured, as columns."""

import json

import numpy as np
import pytest

import jaxopt_lessons as jl


def filled():
    """Two epochs of three steps in several pieces, with a validation after each."""
    history = jl.History()
    history.append({"loss": np.array([4.0, 2.0], np.float32), "weight": np.array([4.0, 4.0])}, np.array([1, 2]), 0)
    history.append({"loss": np.float32(9.0), "weight": 2.0}, 3, 0)
    history.append({"val_loss": 5.0}, [3], 0)
    history.append({"loss": [1.0, 3.0, 8.0], "weight": [4.0, 4.0, 2.0]}, [4, 5, 6], 1)
    history.append({"val_loss": 3.5}, [6], 1)
    return history


def test_columns_are_numpy_arrays_in_order():
    history = filled()
    assert isinstance(history["loss"], np.ndarray)
    assert history["loss"].tolist() == [4, 2, 9, 1, 3, 8]
    assert history["val_loss"].tolist() == [5, 3.5]
    assert history["loss"].tolist() == [4, 2, 9, 1, 3, 8]  # reading does not use it up


def test_a_column_goes_on_after_it_was_read():
    history = filled()
    assert len(history["loss"]) == 6
    history.append({"loss": 7.0, "weight": 4.0}, 7, 2)
    assert history["loss"].tolist() == [4, 2, 9, 1, 3, 8, 7]
    assert history.steps("loss").tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_every_row_has_its_step_and_its_epoch():
    history = filled()
    assert history.steps("loss").tolist() == [1, 2, 3, 4, 5, 6]
    assert history.steps("val_loss").tolist() == [3, 6]
    assert history.epochs("loss").tolist() == [0, 0, 0, 1, 1, 1]
    assert history.epochs("val_loss").tolist() == [0, 1]


def test_epoch_means_are_weighted():
    history = filled()
    assert history.epoch_mean("loss").tolist() == [(16 + 8 + 18) / 10, (4 + 12 + 16) / 10]
    assert history.epoch_mean("val_loss").tolist() == [5, 3.5]


def test_epoch_means_begin_with_the_first_epoch_there_is():
    history = jl.History()
    history.append({"loss": [1.0, 2.0], "weight": [1.0, 3.0]}, [8, 9], 7)
    assert history.epoch_mean("loss").tolist() == [1.75]


def test_an_epoch_in_which_nothing_was_weighed_has_a_mean():
    """A ``Weighted`` loss may weigh nothing; its value is 0 then, and so is the mean of such an epoch."""
    history = jl.History()
    history.append({"loss": [3.0, 5.0], "weight": [1.0, 1.0]}, [1, 2], 0)
    history.append({"loss": [0.0, 0.0], "weight": [0.0, 0.0]}, [3, 4], 1)
    assert history.epoch_mean("loss").tolist() == [4, 0]


def test_without_weights_epoch_means_are_plain():
    history = jl.History()
    history.append({"loss": [3.0, 5.0]}, [1, 2], 0)
    assert history.epoch_mean("loss").tolist() == [4]


def test_it_is_a_mapping():
    history = filled()
    assert list(history) == ["loss", "weight", "val_loss"]
    assert len(history) == 3
    assert "val_loss" in history
    assert "accuracy" not in history
    assert {name: len(column) for name, column in history.items()} == {"loss": 6, "weight": 6, "val_loss": 2}


def test_it_prints_its_columns():
    assert repr(filled()) == "History(loss: 6, weight: 6, val_loss: 2)"
    assert repr(jl.History()) == "History()"


def test_it_becomes_json():
    history = filled()
    assert json.loads(json.dumps(history.to_dict())) == {
        "loss": [4, 2, 9, 1, 3, 8],
        "weight": [4, 4, 2, 4, 4, 2],
        "val_loss": [5, 3.5],
    }


@pytest.mark.parametrize("read", ["__getitem__", "steps", "epochs", "epoch_mean"])
def test_an_unknown_column_is_refused_with_the_known_ones(read):
    with pytest.raises(KeyError, match="history has no 'accuracy'; it has loss, weight, val_loss"):
        getattr(filled(), read)("accuracy")
    with pytest.raises(KeyError, match="history has no 'accuracy'; it has nothing yet"):
        getattr(jl.History(), read)("accuracy")


@pytest.mark.parametrize("values", [[1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]]])
def test_rows_and_steps_must_be_as_many(values):
    with pytest.raises(ValueError, match=r"^history: 'loss' has shape \(.*\) for \(2,\) steps"):
        jl.History().append({"loss": values}, [1, 2], 0)


def test_columns_that_were_added_together_come_together():
    history = filled()
    with pytest.raises(ValueError, match="^history: weight come without 'loss', which has the same rows"):
        history.append({"weight": [4.0]}, [7], 3)


def test_pandas_is_asked_for(uninstalled):
    uninstalled("pandas")
    with pytest.raises(ImportError, match="^History.to_pandas needs pandas: pip install pandas$"):
        filled().to_pandas()


def test_weights_are_those_of_the_rows():
    history = filled()
    history.append({"m": [1.0, 2.0]}, [1, 2], 0)
    assert history.weights("loss").tolist() == [4, 4, 2, 4, 4, 2]
    assert history.weights("val_loss").tolist() == [1, 1]
    assert history.weights("m").tolist() == [1, 1]
    skips = jl.History()
    skips.append({"loss": [1.0, 2.0], "skipped": [0.0, 1.0], "weight": [3.0, 0.0]}, [1, 2], 0)
    assert skips.weights("loss").tolist() == [3, 0]
    assert skips.weights("skipped").tolist() == [1, 1]
