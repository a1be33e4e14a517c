"""The number that observers watch: what counts as new, and what is better."""

import numpy as np
import pytest
from observer_runs import DATA, STATE, fit, script

import jaxopt_lessons as jl
from jaxopt_lessons.train.observers import monitor


class Readings(jl.Observer):
    """Collects what ``monitor.read`` gives at each look."""

    def __init__(self, column, every):
        self.column, self.every, self.found = column, every, []

    def begin(self, run):
        return 0

    def observe(self, run, memory):
        value, rows = monitor.read("Readings", run, self.column, memory)
        self.found.append((run.cursor, value))
        return rows


def readings(column, every, **options):
    observer = Readings(column, every)
    result = fit(observers=[observer], **options)
    return observer.found, result


def test_a_training_column_counts_by_its_weighted_mean_since_the_last_look():
    found, result = readings("loss", jl.Every(steps=4), steps=10)
    loss, weight = result.history["loss"].astype(float), result.history["weight"].astype(float)
    assert [cursor for cursor, _ in found] == [4, 8]
    for cursor, value in found:
        rows = slice(cursor - 4, cursor)
        assert value == pytest.approx(np.sum(loss[rows] * weight[rows]) / np.sum(weight[rows]), rel=1e-6)
        assert value != pytest.approx(np.mean(loss[rows]), rel=1e-3)


def test_a_validation_column_counts_where_there_is_a_new_row():
    found, result = readings("val_loss", jl.Every(steps=1), steps=7)
    rows = dict(zip(result.history.steps("val_loss").tolist(), result.history["val_loss"].tolist(), strict=True))
    assert found == [(cursor, rows.get(cursor)) for cursor in range(1, 8)]
    assert sorted(rows) == [3, 6, 7]


def test_of_several_new_rows_the_newest_counts():
    found, result = readings("val_loss", jl.Every(epochs=2))
    assert found == [(6, float(result.history["val_loss"][1])), (12, float(result.history["val_loss"][3]))]


def test_rows_without_weight_are_left_out():
    found, _ = readings(
        "loss", jl.Every(steps=2), **script([1, np.nan, 3, 5, np.nan, np.nan, 7, 8], weights=[1, 0, 1, 3, 0, 0, 1, 1])
    )
    assert found == [(2, 1.0), (4, 4.5), (6, None), (8, 7.5)]


@pytest.mark.parametrize("every", [jl.Every(epochs=1), jl.Every(steps=4)])
@pytest.mark.parametrize("column", ["val_loss", "accuracy", "val_accuracy"])
def test_a_column_that_does_not_exist_is_refused_at_the_first_look_that_can_tell(column, every):
    """Validation comes after the first epoch; before its end nobody can tell."""
    with pytest.raises(
        ValueError, match=f"^Readings: monitor='{column}' is no column of the history. There are: "
    ) as e:
        readings(column, every, val=None)
    assert "learning_rate, loss, weight." in str(e.value)
    assert ("fit(val=...)" in str(e.value)) == column.startswith("val_")
    first = 3 if every.epochs else 4
    assert e.value.fit_result.state.cursor == first
    assert len(e.value.fit_result.history["loss"]) == first


def test_before_the_first_validation_its_column_may_be_missing():
    found, _ = readings("val_loss", jl.Every(steps=2), steps=3)
    assert found == [(2, None)]
    found, _ = readings("val_loss", jl.Every(steps=2), steps=2, val=None)
    assert found == [(2, None)]


def test_a_run_that_begins_in_a_later_epoch_has_no_validation_before_its_first():
    begun = fit(steps=4)
    found, _ = readings("val_loss", jl.Every(steps=1), state=begun.state, steps=1, val=None)
    assert found == [(5, None)]


@pytest.mark.parametrize(
    ("value", "best", "mode", "min_delta", "expected"),
    [
        (0.9, 1.0, "min", 0.0, True),
        (1.0, 1.0, "min", 0.0, False),
        (0.75, 1.0, "min", 0.25, False),
        (0.74, 1.0, "min", 0.25, True),
        (1.1, 1.0, "max", 0.0, True),
        (1.0, 1.0, "max", 0.0, False),
        (1.25, 1.0, "max", 0.25, False),
        (1.26, 1.0, "max", 0.25, True),
        (np.nan, 1.0, "min", 0.0, False),
        (np.nan, np.inf, "min", 0.0, False),
        (np.inf, np.inf, "min", 0.0, False),
        (-np.inf, 1.0, "min", 0.0, False),
        (np.inf, 1.0, "max", 0.0, False),
        (5.0, np.inf, "min", 0.5, True),
        (-5.0, -np.inf, "max", 0.5, True),
    ],
)
def test_better(value, best, mode, min_delta, expected):
    assert monitor.is_better(value, best, mode, min_delta) is expected


@pytest.mark.parametrize("kind", [jl.EarlyStopping, jl.BestWeights, jl.ReduceOnPlateau, jl.Rollback])
def test_what_is_monitored_is_checked(kind):
    with pytest.raises(
        TypeError, match=f"^{kind.__name__}: monitor must be the name of a column of the history; got 5"
    ):
        kind(5)
    if kind is not jl.Rollback:
        with pytest.raises(ValueError, match=f"^{kind.__name__}: mode must be one of 'min', 'max'; got 'least'"):
            kind(mode="least")


@pytest.mark.parametrize("kind", [jl.EarlyStopping, jl.BestWeights, jl.ReduceOnPlateau, jl.Rollback])
def test_a_run_in_which_nothing_was_monitored_says_so(kind):
    """It ends inside its first epoch, so no look could tell that there is no validation."""
    with pytest.warns(UserWarning, match=f"^{kind.__name__}: monitor='val_loss' was never measured in this run"):
        fit(steps=2, val=None, observers=[kind("val_loss")])
    fit(steps=0, val=None, observers=[kind("val_loss")])
    fit(steps=0, val=None, observers=[kind("loss")])
    fit(steps=2, observers=[kind("val_loss")])
    fit(
        steps=2,
        val=None,
        observers=[kind("val_loss"), jl.Lambda(lambda run: run.stop("enough"), every=jl.Every(steps=1))],
    )


@pytest.mark.parametrize("observer", [jl.EarlyStopping, jl.BestWeights])
def test_a_step_that_measures_nothing_is_watched_in_vain(observer):
    def step(state, batch):
        return state._replace(cursor=state.cursor + 1), {}

    result = jl.fit(step, STATE, DATA, batch_size=4, epochs=2, observers=[observer("loss")])
    assert (result.reason, int(result.state.cursor)) == ("finished", 6)
