"""Lesson 4: what is left in an average of gradients, the largest rates, and the steps in long bowls."""

import jax.numpy as jnp
import lesson_runs
import numpy as np
import pytest

import jaxopt_lessons as jl
from jaxopt_lessons.transforms import ema, trace

NAME = "lesson_04_momentum"
SMALL = {"RATES": 60, "CONDITIONS": (16, 64, 256)}


def test_numbers(tmp_path):
    lesson = lesson_runs.run(NAME, tmp_path)
    assert lesson.figure.exists()
    np.testing.assert_allclose(list(lesson.steps.values()), [334, 269, 126], atol=1)
    np.testing.assert_allclose(list(lesson.travelled.values()), [39.0, 5.6, 14.4], atol=0.05)
    np.testing.assert_allclose(list(lesson.left.values()), [1.179, 0.052], atol=1e-3)
    np.testing.assert_allclose([lesson.thrown, lesson.steps_corrected], [63.6, 196], atol=1)
    np.testing.assert_allclose(list(lesson.limits.values()), [2, 3.8, 3.8 / 2.8, 38], rtol=3e-5)
    np.testing.assert_allclose(lesson.fewest, [336, 177, 103, 45, 59, 123, 251], atol=1)
    np.testing.assert_allclose(list(lesson.slopes.values()), [1, 0.56, 0.53, 0.5], atol=0.005)
    np.testing.assert_array_equal(lesson.on_bowls["Chebyshev rates"], [16, 32, 64, 128, 256])
    np.testing.assert_allclose(lesson.on_bowls["heavy ball"], [17, 38, 82, 177, 378], atol=1)
    assert "average of gradients                            38.000       38.000" in lesson.printed


def test_small(tmp_path):
    assert lesson_runs.run(NAME, tmp_path, **SMALL).needed.shape == (3,)


def average_too_large(g, v, decay, correction):
    v = decay * v + (1 - 0.99 * decay) * g
    return v / correction, v


def sum_forgets_faster(g, m, decay, nesterov):
    m = 0.99 * decay * m + g
    return (decay * m + g if nesterov else m), m


def nesterov_looks_nowhere(g, m, decay, nesterov):
    m = decay * m + g
    return m, m


def never_corrected(g, v, decay, correction):
    v = decay * v + (1 - decay) * g
    return v, v


WRONG = {
    "the average is too large": (ema, average_too_large, "np.testing.assert_allclose(positions"),
    "the sum forgets faster": (trace, sum_forgets_faster, 'assert difference < 1e-4, "the same method"'),
    "Nesterov does not look ahead": (trace, nesterov_looks_nowhere, "assert abs(limits[name] / formula - 1) < 1e-4"),
    "no bias correction": (ema, never_corrected, "assert np.isclose(corrected[1, ACROSS]"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_stops_it(name, tmp_path, monkeypatch):
    module, rule, line = WRONG[name]
    monkeypatch.setattr(module, f"{module.__name__.split('.')[-1]}_rule", rule)
    with lesson_runs.stops() as stopped:
        lesson_runs.run(NAME, tmp_path, **SMALL)
    assert lesson_runs.stopped_at(stopped).startswith(line)


@jl.schedule
def in_order_of_size(smallest, largest, steps):
    """The rates of ``chebyshev_schedule``, the longest first."""

    def value(count):
        angle = jnp.pi * (jnp.minimum(count, steps - 1) + 0.5) / steps
        return 2 / (largest + smallest - (largest - smallest) * jnp.cos(angle))

    return value


def constant(smallest, largest, steps):
    return jl.constant_schedule(2 / (smallest + largest))


@pytest.mark.parametrize(
    ("schedule", "line"),
    [
        (constant, "assert all(0.45 < slopes[name] < 0.6"),
        (in_order_of_size, 'assert ends["that of the schedule"] < TARGET'),
    ],
    ids=["constant", "in order of size"],
)
def test_other_rates_than_those_of_chebyshev_stop_it(schedule, line, tmp_path, monkeypatch):
    monkeypatch.setattr(jl, "chebyshev_schedule", schedule)
    with lesson_runs.stops() as stopped:
        lesson_runs.run(NAME, tmp_path, RATES=60, CONDITIONS=(16, 64))  # Without overflow: one axis, one direction.
    assert lesson_runs.stopped_at(stopped).startswith(line)
