"""Lesson 11: an optimizer in plain JAX, the same in the library, and what the check finds in each."""

import importlib

import jax.numpy as jnp
import lesson_runs
import numpy as np
import pytest

from jaxopt_lessons import tree
from jaxopt_lessons.transforms import learning_rate

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
    assert lesson.sweeps["adam"].best() == {"learning_rate": 0.01}
    np.testing.assert_allclose(list(lesson.lowest.values()), [0.356, 0.334, 0.360], atol=0.01)


def test_small(tmp_path):
    assert lesson_runs.run(NAME, tmp_path, **SMALL).again.compiles == 0


def test_a_check_that_finds_nothing_stops_it(tmp_path, monkeypatch):
    module = importlib.import_module("jaxopt_lessons.testing.check_optimizer")
    lenient = {name: check for name, check in module.PROPERTIES.items() if name != "gradient_shapes_are_checked"}
    monkeypatch.setattr(module, "PROPERTIES", lenient)
    with lesson_runs.stops():
        lesson_runs.run(NAME, tmp_path, **SMALL)


@pytest.mark.parametrize("name", ["averages in half precision", "steps that are too long"])
def test_a_library_that_is_wrong_stops_it(name, tmp_path, monkeypatch):
    if name == "averages in half precision":
        original = tree.zeros_like
        monkeypatch.setattr(tree, "zeros_like", lambda params, dtype=None: original(params, jnp.bfloat16))
    else:
        longer = lesson_runs.wrong(learning_rate.scale_rule, lambda u: 1.01 * u)
        monkeypatch.setattr(learning_rate, "scale_rule", longer)
    with lesson_runs.stops():
        lesson_runs.run(NAME, tmp_path, **SMALL)
