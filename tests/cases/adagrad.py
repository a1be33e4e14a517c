"""Adagrad."""

import numpy as np
import optax

from cases.case import Case, at
from cases.scale import scale_by_learning_rate


def scale_by_rss(grads, params, initial_accumulator_value=0.1, eps=1e-7):
    s, updates = initial_accumulator_value, []
    for i, g in enumerate(grads):
        s = s + g**2
        updates.append(g / np.sqrt(s + at(eps, i)))
    return updates


def adagrad(grads, params, learning_rate, initial_accumulator_value=0.1, eps=1e-7):
    return scale_by_learning_rate(scale_by_rss(grads, params, initial_accumulator_value, eps), params, learning_rate)


CASES = [
    Case(
        "scale_by_rss",
        scale_by_rss,
        {},
        {"initial_accumulator_value": 0.3, "eps": 1e-2},
        fields=frozenset({"sum_of_squares"}),
        optax=optax.scale_by_rss,
        part_of="adagrad",
    ),
    Case(
        "adagrad",
        adagrad,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, "initial_accumulator_value": 0.3, "eps": 1e-2},
        fields=frozenset({"count", "sum_of_squares"}),
        optax=optax.adagrad,
        minimizes={"learning_rate": 1.0},
    ),
]
