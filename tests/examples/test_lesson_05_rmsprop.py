"""Lesson 5: steps on rotated bowls, first steps, the rattle, and digits in two units."""

import functools

import lesson_runs
import numpy as np
import pytest

import jaxopt_lessons as jl
from jaxopt_lessons import numerics, tree
from jaxopt_lessons.transforms import rms

NAME = "lesson_05_rmsprop"
SMALL = {"ANGLES": 3, "KAPPAS": (10, 100), "SEEDS": 1}


def test_numbers(tmp_path):
    lesson = lesson_runs.run(NAME, tmp_path)
    assert lesson.figure.exists()
    np.testing.assert_allclose(list(lesson.steps.values()), [106, 24], atol=1)
    np.testing.assert_allclose(list(lesson.ratios.values()), [75, 1], rtol=1e-5)
    np.testing.assert_allclose(lesson.turned["RMSprop"][[0, 2, 6, 10, 12]], [25, 66, 101, 65, 25], atol=1)
    np.testing.assert_allclose(lesson.turned["gradient descent"], 94, atol=1)
    np.testing.assert_allclose(lesson.turned["momentum"], 37, atol=0.5)
    np.testing.assert_allclose(lesson.longer[:, :, 0], [[11, 33, 25], [94, 37, 25], [946, 60, 25]], rtol=0.04)
    np.testing.assert_allclose(lesson.longer[:, 2, 1], [42, 101, 943], rtol=0.01)
    np.testing.assert_allclose(lesson.losses["gradient descent"], [0.021, 1.147], rtol=0.05)
    np.testing.assert_allclose(lesson.losses["RMSprop"], [0.027, 0.2225], rtol=0.05)
    np.testing.assert_allclose([lesson.accuracies[name][1] for name in lesson.losses], [0.59, 0.935], atol=0.02)
    assert "rmsprop(1.0, 0.9)                                    3.16          3.16" in lesson.printed


def test_small(tmp_path):
    assert lesson_runs.run(NAME, tmp_path, **SMALL).longer.shape == (2, 3, 2)


def with_eps_inside(original, *args, eps_in_sqrt, **kwargs):
    return original(*args, eps_in_sqrt=True, **kwargs)


def without_memory(original, g, v, decay, *args, **kwargs):
    return original(g, v, decay * 0, *args, **kwargs)


def with_a_floor(original, g, v, *args, **kwargs):
    """Gradients below 1 are not divided by less than 1."""
    u, v = original(g, v, *args, **kwargs)
    return rms.jax.numpy.where(v < 1, g, u), v


RULES = {
    "no root": (lambda _, g, v, *args, **kwargs: (g / (v + 1e-8), v), "assert difference < 1e-4"),
    "no memory": (without_memory, "assert difference < 1e-4"),
    "a floor": (with_a_floor, "assert difference < 1e-4"),
    "eps inside the root, always": (with_eps_inside, "np.testing.assert_allclose(floors[False]"),
}


@pytest.mark.parametrize("name", RULES)
def test_a_wrong_rule_stops_it(name, tmp_path, monkeypatch):
    rule, line = RULES[name]
    monkeypatch.setattr(rms, "rms_rule", functools.partial(rule, rms.rms_rule))
    with lesson_runs.stops() as stopped:
        lesson_runs.run(NAME, tmp_path, **SMALL)
    assert lesson_runs.stopped_at(stopped).startswith(line)


OTHERS = {
    "no bias correction": (
        numerics,
        "bias_correction",
        lambda decay, count: 1.0,
        "np.testing.assert_allclose(list(first",
    ),
    "averages begin at zero, always": (
        tree,
        "full_like",
        lambda params, value, *rest, original=tree.full_like: original(params, 0 * value, *rest),
        "np.testing.assert_allclose(list(first",
    ),
    "the rate does not decay": (
        jl,
        "linear_to_zero",
        lambda init_value, decay_steps: jl.constant_schedule(init_value),
        "assert float(jnp.abs(decaying).max()) < 1e-4",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_part_that_is_wrong_stops_it(name, tmp_path, monkeypatch):
    module, function, changed, line = OTHERS[name]
    monkeypatch.setattr(module, function, changed)
    with lesson_runs.stops() as stopped:
        lesson_runs.run(NAME, tmp_path, **SMALL)
    assert lesson_runs.stopped_at(stopped).startswith(line)
