"""Lesson 2: the averages of the temperatures, and what a day weighs."""

import lesson_runs
import numpy as np
import pytest

from jaxopt_lessons.transforms import ema

NAME = "lesson_02_averages"


def test_numbers(tmp_path):
    lesson = lesson_runs.run(NAME, tmp_path)
    assert lesson.figure.exists()
    np.testing.assert_allclose(lesson.lateness, [2, 10, 38], atol=1)
    np.testing.assert_allclose(lesson.roughness, [1.45, 0.35, 0.11], atol=0.01)
    np.testing.assert_allclose(
        [w[round(1 / (1 - b))] / w[0] for b, w in lesson.weights.items()], [0.25, 0.349, 0.364], atol=5e-4
    )
    assert "0.9      10 days                            0.349" in lesson.printed


def test_small(tmp_path):
    assert lesson_runs.run(NAME, tmp_path, DAYS=600).temperature.size == 600


WRONG = {
    "the new value weighs more": ("ema_rule", lambda u, v: (1.01 * u, v)),
    "the old average weighs more": ("ema_rule", lambda u, v: (u, 1.01 * v)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_stops_it(name, tmp_path, monkeypatch):
    rule, change = WRONG[name]
    monkeypatch.setattr(ema, rule, lesson_runs.wrong(getattr(ema, rule), change))
    with lesson_runs.stops():
        lesson_runs.run(NAME, tmp_path, DAYS=600)


def test_bias_correction_where_none_is_asked_for_stops_it(tmp_path, monkeypatch):
    original = ema.ema_rule

    def corrected(g, v, decay, correction):
        u, v = original(g, v, decay, correction)
        return u / (1 - decay), v

    monkeypatch.setattr(ema, "ema_rule", corrected)
    with lesson_runs.stops():
        lesson_runs.run(NAME, tmp_path, DAYS=600)
