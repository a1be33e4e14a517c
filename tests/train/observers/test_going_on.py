"""A run with observers that is killed and goes on ends as the one that was not: state, history and memories."""

import numpy as np
import pytest
from observer_runs import DATA, assert_same_run, fit, gone_on
from training_problems import distance, example_loss, network

import jaxopt_lessons as jl
from jaxopt_lessons.train.history import History

STEPS = jl.Every(steps=1)
SPOILED = (DATA[0], np.where(np.arange(len(DATA[1])) == 4, 1e20, DATA[1]).astype(np.float32))
"""The squared error of one example is infinite: once in each epoch the loss is."""

SCHEDULED = jl.make_step(example_loss, jl.sgd(jl.linear_schedule(0.3, 0.1, 12)))
KINDS = {
    "EarlyStopping": (lambda path: [jl.EarlyStopping("loss", 4, every=STEPS)], {}),
    "BestWeights": (lambda path: [jl.BestWeights("loss", every=STEPS)], {}),
    "Rollback": (lambda path: [jl.Rollback(every=STEPS, window=3)], {"data": SPOILED}),
    "ReduceOnPlateau": (lambda path: [jl.ReduceOnPlateau("loss", 0.7, 2, every=STEPS, cooldown=1)], {}),
    "schedule": (
        lambda path: [jl.ReduceOnPlateau("loss", 0.7, 2, every=STEPS, cooldown=1)],
        {"step": SCHEDULED, "state": jl.init_state(network(), SCHEDULED)},
    ),
    "CSV": (lambda path: [jl.CSV(path / "a.csv", every=jl.Every(steps=2))], {}),
    "TensorBoard": (lambda path: [jl.TensorBoard(path / "board", every=jl.Every(steps=5))], {}),
    "Profile": (lambda path: [jl.Profile(path / "trace", steps=(1, 2))], {}),
    "all": (
        lambda path: [
            jl.ReduceOnPlateau("val_loss", 0.7, 1, min_delta=0.2),
            jl.Rollback(every=STEPS, window=3),
            jl.BestWeights(),
            jl.BestWeights("loss", every=jl.Every(steps=2)),
            jl.EarlyStopping(patience=2, min_delta=0.5),
            jl.CSV(path / "a.csv", every=jl.Every(steps=2)),
            jl.TensorBoard(path / "board", every=jl.Every(steps=5)),
            jl.Profile(path / "trace", steps=(1, 2)),
        ],
        {"data": SPOILED},
    ),
}
NOT_COMPARED = ("TensorBoard", "Profile")
"""Their memories have times in them."""


@pytest.mark.parametrize("at", [1, 4, 7, 9])
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_goes_on_is_the_run_that_did_not_stop(kind, at, tmp_path):
    (tmp_path / "whole").mkdir()
    observers, options = KINDS[kind]
    whole = fit(observers=observers(tmp_path / "whole"), **options)
    resumed = gone_on(tmp_path / "run", at=at, observers=observers(tmp_path), **options)
    assert_same_run(resumed, whole, *NOT_COMPARED)
    whole.history.to_csv(tmp_path / "b.csv")
    if kind in ("CSV", "all"):
        assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_the_observers_of_these_runs_do_something(tmp_path):
    """The control: else the runs above would be equal whatever became of the memories."""
    found = {}
    for kind, (observers, options) in KINDS.items():
        result, plain = fit(observers=observers(tmp_path), **options), fit(**options)
        found[kind] = result
        if kind in ("EarlyStopping", "BestWeights", "Rollback", "ReduceOnPlateau", "schedule", "all"):
            assert distance(np.nan_to_num(result.state.params["w1"]), np.nan_to_num(plain.state.params["w1"])) > 1e-4
    assert found["EarlyStopping"].reason.startswith("EarlyStopping: loss has not improved")
    assert found["EarlyStopping"].state.cursor == 9
    assert found["Rollback"].observed["Rollback"].count == 4
    assert len(set(found["ReduceOnPlateau"].history["learning_rate"].tolist())) >= 3
    assert found["schedule"].observed["ReduceOnPlateau"].scale < 0.5
    together = found["all"]
    assert together.reason.startswith("EarlyStopping: val_loss")
    assert together.observed["Rollback"].count == 3
    assert together.observed["ReduceOnPlateau"].scale < 1
    assert together.observed["BestWeights"].cursor != together.observed["BestWeights_2"].cursor
    assert together.state.cursor == 9


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "all"])
def test_an_error_of_an_observer_comes_out_as_it_is(kind, tmp_path, monkeypatch):
    observers, options = KINDS[kind]
    (observer,) = observers(tmp_path)

    def broken(self, run, memory):
        raise FloatingPointError("in the observer")

    monkeypatch.setattr(type(observer), "observe", broken)
    with pytest.raises(FloatingPointError, match="^in the observer") as raised:
        fit(observers=[observer], **options)
    assert str(raised.value) == "in the observer"
    result = raised.value.fit_result
    assert isinstance(result.history, History)
    assert 1 <= result.state.cursor <= 12
    assert type(observer).__name__ in result.observed
