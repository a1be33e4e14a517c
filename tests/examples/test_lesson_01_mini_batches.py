"""Lesson 1: which steps go up, where the three paths end, and how many steps each batch size needs."""

import lesson_runs
import numpy as np
import pytest

import jaxopt_lessons as jl
from jaxopt_lessons.core import apply_updates
from jaxopt_lessons.inspect.noise_scale import NoiseScale
from jaxopt_lessons.train import shuffle
from jaxopt_lessons.train import step as steps

NAME = "lesson_01_mini_batches"
SMALL = {"SIZES": (4, 64, None), "RATES": (0.2, 0.8), "SEEDS": 1}


def test_numbers(tmp_path):
    lesson = lesson_runs.run(NAME, tmp_path)
    assert lesson.figure.exists()
    assert "   5,000,000         1000                 5,000\n" in lesson.printed
    assert lesson.rises[None] == (0, 0)
    np.testing.assert_allclose(lesson.rises[64], (0.475, 0.08), atol=0.02)
    np.testing.assert_allclose(lesson.rises[1], (0.478, 0.46), atol=0.02)
    assert (lesson.reached[None], lesson.reached[64]) == (280, 284)
    np.testing.assert_allclose(lesson.minimum, [0.28456, 0.67317], atol=1e-5)
    np.testing.assert_allclose(list(lesson.distances.values()), [0.00075, 0.0232, 0.149], rtol=0.02)
    assert lesson.measured.noise_scale == pytest.approx(49.81, abs=0.05)
    assert lesson.rates == RATES
    np.testing.assert_allclose(list(lesson.needed.values()), NEEDED, rtol=0.05)


RATES = {4: 0.2, 16: 0.4, 64: 0.8, 128: 1.2, 256: 1.2, 512: 0.8, None: 1.2}
NEEDED = [224, 90, 45.5, 37.5, 39.5, 39, 35]


def test_small(tmp_path):
    assert list(lesson_runs.run(NAME, tmp_path, **SMALL).needed) == [4, 64, None]


def twice_the_first(position, n, words, epoch):
    """An order in which the second example never comes, and the first one twice."""
    rows = ORIGINAL(position, n, words, epoch)
    return rows - (rows == 1)


ORIGINAL = shuffle.permuted


WRONG = {
    "an example that never comes": (shuffle, "permuted", twice_the_first, "each example exactly once"),
    "another update": (
        steps,
        "apply_updates",
        lambda params, updates: (
            apply_updates(params, {k: 1.01 * u for k, u in updates.items()})
            if isinstance(updates, dict)
            else apply_updates(params, updates)
        ),
        "atol=1e-06",
    ),
    "batches that are not full are not counted": (
        jl.train.batches.Batches,
        "per_epoch",
        property(lambda self: self.full),
        "the smaller batch counts",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_stops_it(name, tmp_path, monkeypatch):
    module, rule, changed, said = WRONG[name]
    monkeypatch.setattr(module, rule, changed)
    with lesson_runs.stops() as stopped:
        lesson_runs.run(NAME, tmp_path, **SMALL)
    assert said in str(stopped.value)


def test_another_noise_scale_stops_it(tmp_path, monkeypatch):
    original = jl.inspect.noise_scale

    def without_the_small_correction(*args) -> NoiseScale:
        found = original(*args)
        squared = found.gradient_squared + found.covariance_trace / found.examples
        return found._replace(noise_scale=found.covariance_trace / squared)

    monkeypatch.setattr(jl.inspect, "noise_scale", without_the_small_correction)
    with lesson_runs.stops() as stopped:
        lesson_runs.run(NAME, tmp_path, **SMALL)
    assert "noise scale by hand" in str(stopped.value)
