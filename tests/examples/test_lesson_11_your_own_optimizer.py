"""Lesson 11: an optimizer in plain JAX, the same in the library, and what the check finds in each."""

import lesson_runs
import numpy as np
import pytest

from jaxopt_lessons import tree
from jaxopt_lessons.testing import check_optimizer

NAME = "lesson_11_your_own_optimizer"
SMALL = {"STEPS": 101, "SEEDS": 1, "RATES": [0.003, 0.01]}


def test_numbers(tmp_path):
    lesson = lesson_runs.run(NAME, tmp_path)
    assert lesson.figure.exists()
    assert len(lesson.broken) == 12
    assert lesson.report.passed
    assert len(lesson.report.of("passed")) >= 45
    np.testing.assert_allclose(lesson.ends["signum"], 0.02, rtol=0.1)
    assert lesson.ends["soft_sign"] < 1e-5
    assert lesson.sweeps["soft_sign"].best() == {"learning_rate": 0.003}
    assert lesson.sweeps["momentum"].best() == {"learning_rate": 0.1}
    np.testing.assert_allclose(list(lesson.lowest.values()), [0.337, 0.365, 0.362, 0.340], atol=0.01)


def test_small(tmp_path):
    assert lesson_runs.run(NAME, tmp_path, **SMALL).again.compiles == 0


def test_a_check_that_finds_nothing_stops_it(tmp_path, monkeypatch):
    everything = [name for name in check_optimizer.__globals__["PROPERTIES"] if name != "gradient_shapes_are_checked"]
    monkeypatch.setitem(
        check_optimizer.__globals__,
        "PROPERTIES",
        {name: check for name, check in check_optimizer.__globals__["PROPERTIES"].items() if name in everything},
    )
    with lesson_runs.stops():
        lesson_runs.run(NAME, tmp_path, **SMALL)


@pytest.mark.parametrize("name", ["averages in half precision", "a step in the wrong direction"])
def test_a_library_that_breaks_a_promise_stops_it(name, tmp_path, monkeypatch):
    original = tree.zeros_like
    if name == "averages in half precision":
        monkeypatch.setattr(tree, "zeros_like", lambda params, dtype=None: original(params, "bfloat16"))
    else:
        monkeypatch.setattr(tree, "map_leaves", lesson_runs.wrong(tree.map_leaves, lambda u, m: (tree.scale(-1, u), m)))
    with lesson_runs.stops():
        lesson_runs.run(NAME, tmp_path, **SMALL)
