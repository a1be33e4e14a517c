"""Lesson 9: the course's experiment; every published number, and what happens to them where a rule is wrong."""

import lesson_runs
import numpy as np
import pytest

import jaxopt_lessons as jl
from jaxopt_lessons import numerics
from jaxopt_lessons.schedules.schedule import Schedule
from jaxopt_lessons.transforms import adam, ema

NAME = "lesson_09_two_moons"
SMALL = {"EPOCHS": 2, "BY_HAND": 2}
"""The costs of epoch 0 are compared, of three methods and of their decaying rates."""
TO_THE_SECOND_NUMBER = {"EPOCHS": 1001, "BY_HAND": 1}
"""For what shows only after 1,000 epochs: how a rate decays."""

LAST_BATCH = {  # of the epochs 0, 1000, ..., in NumPy: github.com/myhaa/myhaa.github.io, the post on L2W6
    "gradient descent": "0.6907355122911127 0.6852725328458241 0.6470722240719001 0.6195245549970403 "
    "0.5765844355950943 0.6072426395968578 0.5294033317684573 0.4607682398593011 0.465586082399045 0.46451797221676827",
    "momentum": "0.6907412988351506 0.6853405261267576 0.6471448370095255 0.6195943032076023 0.576665034407302 "
    "0.607323821900647 0.5294761758786997 0.46093619004872377 0.4657800937012721 0.4647395967922749",
    "Adam": "0.6905522282919487 0.1855671862856554 0.15085206145242497 0.0744535775981412 0.1259357502178564 "
    "0.10423511812705896 0.10055245705694958 0.031601421955873635 0.11170898323416338 0.19764808192436198",
}


def test_numbers(tmp_path):
    lesson = lesson_runs.run(NAME, tmp_path)
    assert lesson.figure.exists()
    assert "133 published numbers, met in all digits printed" in lesson.printed
    assert "Adam                         0.702166 0.167845 0.141316 0.138788 0.136066" in lesson.printed
    for name, published in LAST_BATCH.items():
        ours, published = lesson.runs[name]["last"][::1000], [float(cost) for cost in published.split()]
        np.testing.assert_allclose(ours, published, rtol=0, atol=1e-9 if name == "Adam" else 1e-13)


def test_small(tmp_path):
    """Of the four optimizers 3 costs of two kinds, of the four decays 2 costs and 2 rates, and 3 others."""
    assert "\n43 published numbers" in lesson_runs.run(NAME, tmp_path, **TO_THE_SECOND_NUMBER).printed


WRONG = {
    "momentum without 1 - beta": (ema, "ema_rule", lambda u, v: (10 * u, v)),
    "the old average weighs more": (ema, "ema_rule", lambda u, v: (u, 1.001 * v)),
    "Adam's average of squares is a little larger": (adam, "adam_rule", lambda u, m, v: (u, m, 1.001 * v)),
    "Adam without its corrections": (numerics, "bias_correction", lambda correction: 1),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_stops_it(name, tmp_path, monkeypatch):
    module, rule, change = WRONG[name]
    monkeypatch.setattr(module, rule, lesson_runs.wrong(getattr(module, rule), change))
    with lesson_runs.stops():
        lesson_runs.run(NAME, tmp_path, **SMALL)


def test_a_rate_that_decays_an_epoch_too_early_stops_it(tmp_path, monkeypatch):
    monkeypatch.setattr(Schedule, "shift", lambda schedule, steps: schedule)
    with lesson_runs.stops():
        lesson_runs.run(NAME, tmp_path, **SMALL)


def test_a_rate_without_stairs_stops_it(tmp_path, monkeypatch):
    original = jl.inverse_time_decay
    monkeypatch.setattr(jl, "inverse_time_decay", lambda *args, staircase, **kwargs: original(*args, **kwargs))
    with lesson_runs.stops():
        lesson_runs.run(NAME, tmp_path, **TO_THE_SECOND_NUMBER)
