"""Lesson 12: four failures, what tells them apart, and that the lesson stops where a remedy of the library is none."""

import jax.numpy as jnp
import lesson_runs
import numpy as np
import pytest

from jaxopt_lessons.inspect import lanczos
from jaxopt_lessons.train import guard
from jaxopt_lessons.transforms import clip
from jaxopt_lessons.wrappers import apply_if_finite, split_master_weights

NAME = "lesson_12_when_training_breaks"


def test_numbers(tmp_path):
    lesson = lesson_runs.run(NAME, tmp_path)
    assert lesson.figure.exists()
    assert (lesson.first, lesson.culprit) == (15, 1000)
    assert list(lesson.skipped) == [15, 37, 59, 81, 103]
    assert lesson.is_on.sum() == 20
    np.testing.assert_allclose(lesson.ratio, 19.4, rtol=0.05)
    np.testing.assert_allclose(2 / lesson.LIMIT, 2.374, rtol=2e-3)
    np.testing.assert_allclose(lesson.there.sharpness, 2.623, rtol=5e-3)
    np.testing.assert_allclose(lesson.measured_limit, 0.998, atol=0.01)
    ends = [lesson.sharp_end[share] for share in (0.5, 1.0, 2.0)]
    np.testing.assert_allclose(ends, [2.62, 1.68, 1.03], rtol=0.1)
    np.testing.assert_allclose(lesson.calm.losses[-1], 0.077, rtol=0.02)
    np.testing.assert_allclose([lesson.wide.losses[-1], lesson.stalled.losses[-1]], [0.433, 0.679], rtol=0.02)
    np.testing.assert_allclose(lesson.lost[[0, 100, -1]], [0.66, 0.76, 0.90], atol=0.02)
    assert [lesson.counts[0], lesson.is_dead(lesson.warm.params["w1"][-1]).sum()] == [2, 2]
    assert abs(lesson.counts[-1] - 13) <= 3


def test_small(tmp_path):
    lesson = lesson_runs.run(NAME, tmp_path, EPOCHS=3, STEPS=250, ADDITIONS=500)
    assert len(lesson.skipped) == 3
    assert len(lesson.lost) == 250


WRONG = {
    "the guard sees nothing": (guard, "is_spoiled", lambda *_: jnp.zeros([], bool), "np.array_equal(skipped"),
    "bad steps pass": (apply_if_finite, "keep_rule", lambda g, keeps: g, "np.allclose(update, expected)"),
    "nothing is clipped": (clip, "rescale_rule", lambda g, norm, max_norm: g, "accuracy(end) > 0.85"),
    "the halves are lost": (
        split_master_weights,
        "split_rule",
        lesson_runs.wrong(split_master_weights.split_rule, lambda step, q: (step, 0 * q)),
        "abs(weights.mean()",
    ),
    "eigenvalues nine tenths of what they are": (
        lanczos,
        "ritz",
        lesson_runs.wrong(lanczos.ritz, lambda values, *others: lanczos.Ritz(0.9 * values, *others)),
        "abs(measured_limit - 1)",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_stops_it(name, tmp_path, monkeypatch):
    module, rule, wrong, words = WRONG[name]
    monkeypatch.setattr(module, rule, wrong)
    with lesson_runs.stops() as stopped:
        lesson_runs.run(NAME, tmp_path, EPOCHS=3, STEPS=200)
    assert words in lesson_runs.stopped_at(stopped)
