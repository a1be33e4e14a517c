"""Lesson 10: a whole model, on Fashion-MNIST where it is installed, and on the digits."""

from pathlib import Path

import lesson_runs
import numpy as np
import pytest

import jaxopt_lessons as jl

NAME = "lesson_10_whole_model"
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
DIGITS = {"FASHION_MNIST": Path("/nowhere")}
SMALL = DIGITS | {"SEEDS": 1, "RATES": [0.003, 0.03, 0.1, 0.3]}


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="Fashion-MNIST is not installed")
def test_numbers_of_the_garments(tmp_path):
    lesson = lesson_runs.run(NAME, tmp_path)
    assert lesson.figure.exists()
    assert lesson.best == {"gradient descent": 0.1, "momentum": 0.1, "Adam": 0.01, "the practice": 0.03}
    np.testing.assert_allclose(list(lesson.lowest.values()), [0.761, 0.533, 0.500, 0.461], atol=0.01)
    assert lesson.peak == 0.01
    np.testing.assert_allclose(lesson.result["accuracy"], 0.8711, atol=0.005)


def test_numbers_of_the_digits(tmp_path):
    lesson = lesson_runs.run(NAME, tmp_path, **DIGITS)
    assert lesson.figure.exists()
    assert lesson.best == {"gradient descent": 0.3, "momentum": 0.3, "Adam": 0.03, "the practice": 0.1}
    np.testing.assert_allclose(list(lesson.lowest.values()), [0.214, 0.095, 0.093, 0.090], atol=0.01)
    np.testing.assert_allclose(lesson.result["accuracy"], 0.9233, atol=0.011)


def test_small(tmp_path):
    assert lesson_runs.run(NAME, tmp_path, **SMALL).resumed.reason == "finished"


def test_a_wrong_loss_stops_it(tmp_path, monkeypatch):
    name = "softmax_cross_entropy_with_integer_labels"
    monkeypatch.setattr(jl.losses, name, lesson_runs.wrong(getattr(jl.losses, name), lambda loss: 1.001 * loss))
    with lesson_runs.stops():
        lesson_runs.run(NAME, tmp_path, **SMALL)


def test_a_rate_that_does_not_come_down_stops_it(tmp_path, monkeypatch):
    monkeypatch.setattr(jl, "cosine_decay_schedule", lambda peak, steps: jl.linear_schedule(peak, peak / 2, steps))
    with lesson_runs.stops():
        lesson_runs.run(NAME, tmp_path, **SMALL)


def test_a_run_that_begins_again_stops_it(tmp_path, monkeypatch):
    monkeypatch.setattr(jl.Checkpoint, "newest", lambda *_: None)
    with lesson_runs.stops():
        lesson_runs.run(NAME, tmp_path, **SMALL)
