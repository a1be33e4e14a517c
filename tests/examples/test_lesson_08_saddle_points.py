"""Lesson 8: minima are rare, plateaus take time, and the curvature says how much."""

import importlib

import lesson_runs
import numpy as np
import pytest

from jaxopt_lessons.transforms import adam, ema, noise, rms

NAME = "lesson_08_saddle_points"
SMALL = {"MATRICES": 20_000, "SEARCHES": 1000, "SEEDS": 128, "TRAINED": (0, 100)}

# The name jaxopt_lessons.inspect.curvature is that of the function.
curvature = importlib.import_module("jaxopt_lessons.inspect.curvature")


def test_numbers(tmp_path):
    lesson = lesson_runs.run(NAME, tmp_path)
    assert lesson.figure.exists()
    assert lesson.minimum[10] == pytest.approx(3.1e-14, rel=0.05)
    assert lesson.correlation == pytest.approx(0.885, abs=0.02)
    np.testing.assert_allclose(lesson.mean_heights, [-3.05, -2.35, -1.02, -0.04, 1.03, 2.10, 3.27], atol=0.3)
    np.testing.assert_allclose(lesson.measured, lesson.predicted, atol=0.035)
    assert lesson.left == {"gradient descent": 393, "momentum": 278, "RMSprop": 7, "Adam": 4}
    np.testing.assert_allclose(lesson.noisy_steps, [698, 568, 437, 306, 176], atol=1)
    assert lesson.singular[0] == pytest.approx(0.0993, abs=5e-5)
    np.testing.assert_array_equal(lesson.leaving, [88, 113, 138, 162])
    np.testing.assert_allclose(
        np.stack(list(lesson.below.values())), [[15, 51, 149, 487], [7, 18, 41, 91], [3, 5, 4, 5], [3, 4, 5, 5]], atol=3
    )
    shares = [seen.negative_share for seen in lesson.spectra.values()]
    np.testing.assert_allclose(shares, [0.394, 0.341, 0.279, 0.197, 0.120], atol=0.015)
    assert "momentum                3.162                278        277.8          345" in lesson.printed


def test_small(tmp_path):
    assert set(lesson_runs.run(NAME, tmp_path, **SMALL).spectra) == {0, 100}


def noisier(g, key, variance):
    return original_noise(g, key, 4 * variance)


original_noise = noise.noise_rule


def upright(values, weights, traces, top, bottom):
    return curvature._Spectrum(np.abs(values), weights, traces, top, bottom)


WRONG = {
    "the Hessian is positive": (curvature, "_all", lambda rule: lesson_runs.wrong(rule, upright)),
    "momentum weighs the past more": (
        ema,
        "ema_rule",
        lambda rule: lesson_runs.wrong(rule, lambda u, v: (u, 1.01 * v)),
    ),
    "Adam's steps grow": (adam, "adam_rule", lambda rule: lesson_runs.wrong(rule, lambda u, m, v: (1.5 * u, m, v))),
    "RMSprop is corrected": (rms, "rms_rule", lambda rule: lesson_runs.wrong(rule, lambda u, v: (u * 0.1**0.5, v))),
    "twice the noise": (noise, "noise_rule", lambda rule: noisier),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_stops_it(name, tmp_path, monkeypatch):
    module, rule, change = WRONG[name]
    monkeypatch.setattr(module, rule, change(getattr(module, rule)))
    with lesson_runs.stops():
        lesson_runs.run(NAME, tmp_path, **SMALL)
