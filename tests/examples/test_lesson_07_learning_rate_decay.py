"""Lesson 7: the course's table, the floor of a constant rate, decays against constants, and rates changed by hand."""

import lesson_runs
import numpy as np
import pytest

import jaxopt_lessons as jl
from jaxopt_lessons import hyperparameters
from jaxopt_lessons.train import kept
from jaxopt_lessons.transforms import learning_rate

NAME = "lesson_07_learning_rate_decay"
SMALL = {"EPOCHS": 14, "SEEDS": 2}


def test_numbers(tmp_path):
    lesson = lesson_runs.run(NAME, tmp_path)
    assert lesson.figure.exists()
    assert "    2   0.067\n" in lesson.printed
    assert "110 to 219            0.100            0.067\n" in lesson.printed
    np.testing.assert_allclose(lesson.predicted, 0.14434, rtol=1e-4)
    np.testing.assert_allclose(lesson.measured["independent"], [0.00141, 0.00289, 0.00588, 0.01218], rtol=0.03)
    np.testing.assert_allclose(lesson.measured["shuffled"], [0.00037, 0.00123, 0.00361, 0.00957], rtol=0.05)
    np.testing.assert_allclose([lesson.slopes["independent"], lesson.slopes["shuffled"]], [1.04, 1.56], atol=0.02)
    assert min(lesson.best, key=lesson.best.get) == "0.8^epoch"
    best = {"constant": 0.0102, "inverse time": 0.0040, "0.95^epoch": 0.0074, "0.8^epoch": 0.0018, "cosine": 0.0021}
    np.testing.assert_allclose([lesson.best[name] for name in best], list(best.values()), rtol=0.05)
    np.testing.assert_allclose(list(lesson.settled.values()), [0.1488, 0.01468], rtol=0.01)


def test_small(tmp_path):
    lesson = lesson_runs.run(NAME, tmp_path, **SMALL)
    assert lesson.search.values["distance"].shape == (9 * 7, 2, 14)


FACTORIES = {
    "one update late": ("inverse_time_decay", lambda schedule: schedule.shift(1)),
    "an epoch early": ("halving_schedule", lambda schedule: jl.schedule(lambda: lambda n: schedule(n + 110))()),
    "one per cent too high": ("exponential_decay", lambda schedule: 1.01 * schedule),
    "does not end at zero": ("cosine_decay_schedule", lambda schedule: schedule.clip(low=1e-3)),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_a_wrong_schedule_stops_it(name, tmp_path, monkeypatch):
    factory, change = FACTORIES[name]
    monkeypatch.setattr(jl, factory, lesson_runs.wrong(getattr(jl, factory), change))
    with lesson_runs.stops():
        lesson_runs.run(NAME, tmp_path, **SMALL)


def test_steps_of_another_length_than_is_said_stop_it(tmp_path, monkeypatch):
    monkeypatch.setattr(learning_rate, "scale_rule", lesson_runs.wrong(learning_rate.scale_rule, lambda u: 1.01 * u))
    with lesson_runs.stops():
        lesson_runs.run(NAME, tmp_path, **SMALL)


def test_a_record_of_another_rate_than_is_used_stops_it(tmp_path, monkeypatch):
    wrong = lesson_runs.wrong(hyperparameters.learning_rates, lambda rates: {n: 1.01 * r for n, r in rates.items()})
    monkeypatch.setattr(hyperparameters, "learning_rates", wrong)
    with lesson_runs.stops():
        lesson_runs.run(NAME, tmp_path, **SMALL)


def test_programs_that_are_forgotten_stop_it(tmp_path, monkeypatch):
    fit = jl.fit

    def forgetting(step, *args, **options):
        vars(step.loss_fn).pop(kept._ATTRIBUTE, None)
        return fit(step, *args, **options)

    monkeypatch.setattr(jl, "fit", forgetting)
    with lesson_runs.stops():
        lesson_runs.run(NAME, tmp_path, **SMALL)


def test_a_rate_that_is_not_replaced_stops_it(tmp_path, monkeypatch):
    monkeypatch.setattr(jl, "set_hyperparams", lambda tx, changes: tx)
    with lesson_runs.stops():
        lesson_runs.run(NAME, tmp_path, **SMALL)
