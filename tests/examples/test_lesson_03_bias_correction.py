"""Lesson 3: where the averages begin, when the two lines meet, and what Adam does without correction."""

import lesson_runs
import numpy as np
import pytest

from jaxopt_lessons import numerics
from jaxopt_lessons.transforms import adam, ema

NAME = "lesson_03_bias_correction"
SMALL = {"DAYS": 280, "STEPS": 120, "SEEDS": 3}


def test_numbers(tmp_path):
    lesson = lesson_runs.run(NAME, tmp_path)
    assert lesson.figure.exists()
    assert lesson.meet == {0.5: 7, 0.9: 44, 0.98: 228}
    assert lesson.meet_in_degrees == {0.5: 7, 0.9: 44, 0.98: 269}
    np.testing.assert_allclose([lesson.without[b][0] for b in (0.5, 0.9, 0.98)], [6.4, 1.28, 0.256], rtol=1e-12)
    assert lesson.largest[0.999] == (pytest.approx(6.5685, abs=1e-4), 12)
    assert lesson.largest[0.99] == (pytest.approx(2.1311, abs=1e-4), 13)
    assert lesson.back == {0.999: [1751, 3925], 0.99: [175, 391]}
    second = np.array([lesson.trained[:, :, 1].mean(1), lesson.trained_without[:, :, 1].mean(1)])
    np.testing.assert_allclose(second[:, :3], [[2.314, 2.188, 2.079], [2.279, 2.080, 3.138]], atol=5e-3)
    assert lesson.trained.shape == (4, 5, 300)
    assert "0.999         3.16      6.57         12" in lesson.printed


def test_small(tmp_path):
    lesson = lesson_runs.run(NAME, tmp_path, **SMALL)
    assert lesson.meet[0.98] == 228
    assert lesson.trained.shape == (4, 3, 120)


def without_corrections(rule, *names):
    """Adam's rule as it is with these corrections left out."""
    return lambda *args, **kwargs: rule(*args, **kwargs | {name: kwargs[name] / kwargs[name] for name in names})


WRONG = {
    "ema without correction": (ema, "ema_rule", lesson_runs.wrong(ema.ema_rule, lambda u, v: (v, v)), "the loop do"),
    "the remembered average is the corrected one": (
        ema,
        "ema_rule",
        lesson_runs.wrong(ema.ema_rule, lambda u, v: (u, u)),
        "the loop do",
    ),
    "days counted from 0": (
        numerics,
        "bias_correction",
        lambda decay, count, original=numerics.bias_correction: original(decay, count + 1),
        "the loop do",
    ),
    "adam without correction": (
        adam,
        "adam_rule",
        without_corrections(adam.adam_rule, "correction1", "correction2"),
        "rtol=0.001, atol=1e-07",
    ),
    "adam's square is not corrected": (
        adam,
        "adam_rule",
        without_corrections(adam.adam_rule, "correction2"),
        "rtol=0.001, atol=1e-07",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_stops_it(name, tmp_path, monkeypatch):
    module, rule, changed, said = WRONG[name]
    monkeypatch.setattr(module, rule, changed)
    with lesson_runs.stops() as stopped:
        lesson_runs.run(NAME, tmp_path, **SMALL)
    assert said in str(stopped.value)
