"""Lesson 6: Adam by hand and of parts, its numbers and its rivals on digits, and the games in which it fails."""

import itertools

import lesson_runs
import numpy as np
import pytest

import jaxopt_lessons as jl
from jaxopt_lessons.optimizers import adopt, amsgrad
from jaxopt_lessons.transforms import adam, ema, keep_params, rms

NAME = "lesson_06_adam"
SMALL = {"STEPS": 11, "SEEDS": 1, "TURNS": 300}


def test_numbers(tmp_path):
    lesson = lesson_runs.run(NAME, tmp_path)
    assert lesson.figure.exists()
    assert lesson.difference.max() < 1e-5
    assert lesson.apart["our own, of two ema"] < 1e-6
    np.testing.assert_allclose(lesson.three, [-1.0472, 0.7623, 0.9658], atol=1e-3)
    np.testing.assert_allclose(lesson.losses["the defaults"][:4], [1.767, 0.641, 0.168, 0.050], rtol=0.02)
    np.testing.assert_allclose(lesson.curves["momentum"][:5], [2.251, 2.021, 1.324, 0.333, 0.115], rtol=0.02)
    np.testing.assert_allclose(lesson.losses["eps = 1"][3:7], lesson.curves["momentum"][1:5], rtol=0.04)
    assert [lesson.RATES[i] for i in lesson.tuned.values()] == [1.0, 0.3, 0.03, 0.03]
    np.testing.assert_allclose(list(lesson.lowest.values()), [0.047, 0.026, 0.034, 0.023], rtol=0.1)
    np.testing.assert_allclose(lesson.ends["Adam"], [0.99, 1.00, 1.00, -0.65, -0.89], atol=0.02)
    np.testing.assert_allclose(lesson.ends["ADOPT"], [-0.96, -0.96, -0.98, -0.93, -0.87], atol=0.02)
    np.testing.assert_allclose(lesson.ends["ADOPT, clipping"], [-0.55, -0.50, -0.88, -0.86, -0.52], atol=0.02)
    np.testing.assert_allclose(lesson.left["Adam, decay in the gradient"], [0.889, 0.0], atol=0.005)


def test_small(tmp_path):
    lesson = lesson_runs.run(NAME, tmp_path, **SMALL)
    assert lesson.found["loss"].shape == (9, 9, 1)


@pytest.fixture
def without_digits(monkeypatch):
    """The trainings on digits, which the games and the decay after them do not need, are left out: ones for losses."""

    def ones(run, space, seeds):
        points = space if isinstance(space, list) else list(itertools.product(*space.values()))
        filled = np.ones((len(points), seeds))
        return jl.SweepResult([{} for _ in points], list(range(seeds)), {"loss": filled, "accuracy": filled})

    monkeypatch.setattr(jl, "sweep", ones)


WRONG = {
    "steps that are too long": (adam, "adam_rule", lambda u, m, v: (1.01 * u, m, v)),
    "squares that are forgotten": (adam, "adam_rule", lambda u, m, v: (u, m, 0.99 * v)),
    "an average that weighs more": (ema, "ema_rule", lambda u, v: (1.01 * u, v)),
    "RMSprop with a memory of its own": (rms, "rms_rule", lambda u, v: (u, 0.99 * v)),
    "AMSGrad that forgets": (amsgrad, "amsgrad_rule", lambda u, m, v, v_max: (u, m, v, 0.1 * v_max)),
    "parameters that leave the box": (keep_params, "cut_rule", lambda u: 1.1 * u),
}


@pytest.mark.usefixtures("without_digits")
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_stops_it(name, tmp_path, monkeypatch):
    module, rule, change = WRONG[name]
    monkeypatch.setattr(module, rule, lesson_runs.wrong(getattr(module, rule), change))
    with lesson_runs.stops():
        lesson_runs.run(NAME, tmp_path, **SMALL)


@pytest.mark.usefixtures("without_digits")
def test_adopt_whose_divisor_knows_the_gradient_stops_it(tmp_path, monkeypatch):
    original = adopt.adopt_rule

    def knowing(g, m, v, b1, b2, *rest):
        v = b2 * v + (1 - b2) * g**2
        u, m, _ = original(g, m, v, b1, b2, *rest)
        return u, m, v

    monkeypatch.setattr(adopt, "adopt_rule", lambda *args, **named: knowing(*args, *named.values()))
    with lesson_runs.stops():
        lesson_runs.run(NAME, tmp_path, **SMALL)


@pytest.mark.usefixtures("without_digits")
def test_decay_that_is_divided_stops_it(tmp_path, monkeypatch):
    def coupled(learning_rate, weight_decay):
        return jl.chain(jl.add_decayed_weights(weight_decay), jl.adam(learning_rate))

    monkeypatch.setattr(jl, "adamw", coupled)
    with lesson_runs.stops():
        lesson_runs.run(NAME, tmp_path, **SMALL)


@pytest.mark.usefixtures("without_digits")
def test_nothing_stops_it_but_what_is_wrong(tmp_path):
    assert lesson_runs.run(NAME, tmp_path, **SMALL).figure.exists()
