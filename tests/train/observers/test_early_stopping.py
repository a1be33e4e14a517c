"""``EarlyStopping``: when a run ends, and what it says."""

import numpy as np
import pytest
from bad_inputs import bad_input
from observer_runs import fit, killed, script
from training_problems import assert_same

import jaxopt_lessons as jl

STEPS = jl.Every(steps=1)


def stopped(losses, *arguments, **settings):
    return fit(**script(losses), observers=[jl.EarlyStopping("loss", *arguments, **{"every": STEPS} | settings)])


@pytest.mark.parametrize(
    ("losses", "settings", "steps", "finishes"),
    [
        ([5, 4, 4, 4, 4, 4], {"patience": 1}, 3, False),
        ([5, 4, 4, 4, 4, 4], {"patience": 3}, 5, False),
        ([5, 4, 4, 3, 3, 3, 3], {"patience": 2}, 6, False),  # an improvement begins anew
        ([5, 4, 4, 3, 3, 2, 2], {"patience": 2}, 7, True),
        ([5, 4.5, 4.1, 3.9, 3.8], {"patience": 3, "min_delta": 1.0}, 5, True),  # 3.9 is an improvement on 5
        ([5, 4.5, 4.1, 4.0, 3.8, 1], {"patience": 3, "min_delta": 1.0}, 4, False),  # 4.0 is none
        ([1, 2, 3, 3, 3, 9], {"patience": 2, "mode": "max"}, 5, False),
        ([1, 2, 3, 4, 5, 6], {"patience": 2, "mode": "max"}, 6, True),
        ([6, 5, 5, 5, 5, 5], {"patience": 2, "every": jl.Every(steps=2)}, 6, True),  # 5.5, 5, 5: one look without
        ([6, 5, 5, 5, 5, 5, 5, 5, 5], {"patience": 2, "every": jl.Every(steps=2)}, 8, False),
    ],
)
def test_it_stops_after_so_many_looks_without_an_improvement(losses, settings, steps, finishes):
    result = stopped(losses, **settings)
    assert int(result.state.step) == steps
    assert (result.reason == "finished") == finishes


def test_the_reason_has_numbers():
    result = stopped([5, 4, 4, 4.5], 2)
    assert result.reason == "EarlyStopping: loss has not improved on 4 in 2 looks; the best was after 2 batches"
    result = stopped([5, 4.9, 4.8], 1, min_delta=0.5)
    assert (
        result.reason
        == "EarlyStopping: loss has not improved on 5 by more than 0.5 in 1 look; the best was after 1 batches"
    )


@bad_input(46)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_stops_at_once(bad):
    result = stopped([5, 6, bad, 4], 9)
    assert int(result.state.step) == 3
    assert result.reason == f"EarlyStopping: loss was {bad:.6g} after 3 batches"


def test_without_the_check_it_is_one_that_has_not_improved():
    result = stopped([5, np.nan, 4, np.nan, np.inf, 3], 2, check_finite=False)
    assert int(result.state.step) == 5
    assert result.reason == "EarlyStopping: loss has not improved on 4 in 2 looks; the best was after 3 batches"
    result = stopped([np.nan, np.nan, np.nan], 2, check_finite=False)
    assert result.reason == "EarlyStopping: loss has not been a finite number in 2 looks"


@pytest.mark.parametrize(("losses", "mode"), [([5, 6, 7, 8], "min"), ([5, 4, 3, 2], "max")])
def test_a_number_beyond_the_limit_stops_at_once(losses, mode):
    limit = losses[1] + (0.5 if mode == "min" else -0.5)
    result = stopped(losses, 9, divergence=limit, mode=mode)
    assert int(result.state.step) == 3
    assert result.reason == f"EarlyStopping: loss was {losses[2]} after 3 batches, beyond divergence={limit}"
    assert stopped(losses, 9, divergence=losses[-1], mode=mode).reason == "finished"


def test_validation_counts_only_where_it_is_new():
    """Looks without a new row take nothing from the patience."""
    step = jl.make_step(lambda w, x: 0 * w + x, jl.sgd(0.0))
    options = {"step": step, "state": jl.init_state(0.0, step), "data": np.ones(4, np.float32), "batch_size": 1}
    result = fit(**options, val=np.ones(1, np.float32), epochs=5, observers=[jl.EarlyStopping(patience=2, every=STEPS)])
    assert int(result.state.step) == 12
    assert result.reason.startswith("EarlyStopping: val_loss has not improved on 1 in 2 looks; the best was after 4")


def test_the_state_is_that_of_the_moment():
    """Bit for bit that of a run of so many steps: nothing has gone on behind the look."""
    stop = jl.EarlyStopping("loss", 1, every=jl.Every(steps=2), min_delta=100.0)
    result = fit(observers=[stop])
    assert int(result.state.cursor) == 4
    assert_same(result.state, fit(steps=4).state)
    assert len(result.history["loss"]) == 4


def test_a_run_that_was_stopped_stops_again_unless_there_is_more_patience(tmp_path):
    losses = script([5, 4, 4, 4, 4, 4, 4, 4])
    observers = lambda patience: [jl.EarlyStopping("loss", patience, every=STEPS), jl.Checkpoint(tmp_path)]
    first = fit(**losses, observers=observers(2))
    assert int(first.state.step) == 4
    again = fit(**losses, observers=observers(2), resume=True)
    assert again.reason == first.reason
    assert_same(again.state, first.state)
    assert_same(again.observed["EarlyStopping"], first.observed["EarlyStopping"])
    more = fit(**losses, observers=observers(4), resume=True)
    assert int(more.state.step) == 6
    assert more.reason == "EarlyStopping: loss has not improved on 4 in 4 looks; the best was after 2 batches"


def test_a_run_that_was_not_finite_stops_again(tmp_path):
    losses = script([5, np.nan, 4, 4, 4])
    observers = lambda **check: [jl.EarlyStopping("loss", 9, every=STEPS, **check), jl.Checkpoint(tmp_path)]
    first = fit(**losses, observers=observers())
    again = fit(**losses, observers=observers(), resume=True)
    assert (
        (int(again.state.step), again.reason) == (2, first.reason) == (2, "EarlyStopping: loss was nan after 2 batches")
    )
    assert fit(**losses, observers=observers(check_finite=False), resume=True).reason == "finished"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"patience": 0}, ValueError, "^EarlyStopping: patience must be at least 1; got 0"),
        ({"patience": 2.0}, TypeError, "^EarlyStopping: patience must be a whole number; got 2.0"),
        ({"min_delta": -0.1}, ValueError, "^EarlyStopping: min_delta must be a finite number in .*; got -0.1"),
        ({"divergence": np.inf}, ValueError, "^EarlyStopping: divergence must be a finite number; got inf"),
        ({"check_finite": 2}, TypeError, "^EarlyStopping: check_finite must be True or False; got 2"),
    ],
)
def test_arguments_are_checked(arguments, error, message):
    with pytest.raises(error, match=message):
        jl.EarlyStopping(**arguments)


def test_an_error_of_its_own_comes_out_with_the_result():
    with pytest.raises(ValueError, match="^EarlyStopping: monitor='los' is no column") as raised:
        fit(observers=[jl.EarlyStopping("los")])
    assert int(raised.value.fit_result.state.cursor) == 3


def test_killed_is_noticed():
    """The control of the runs that are killed and gone on with."""
    with pytest.raises(AssertionError, match="the run had ended before 99 batches"):
        killed(at=99, observers=[])
