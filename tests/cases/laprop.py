"""LaProp."""

import numpy as np

from cases.case import Case, With, at
from cases.scale import scale_by_learning_rate
from cases.weight_decay import add_decayed_weights


def scale_by_laprop(grads, params, b1=0.9, b2=0.999, eps=1e-15, mu_dtype=None):
    m, v, updates = 0.0, 0.0, []
    for i, g in enumerate(grads):
        t, c1, c2 = i + 1, at(b1, i), at(b2, i)
        v = c2 * v + (1 - c2) * g**2
        m = c1 * m + (1 - c1) * g / (np.sqrt(v / (1 - c2**t)) + at(eps, i))
        updates.append(m / (1 - c1**t))
    return updates


def laprop(grads, params, learning_rate, b1=0.9, b2=0.999, eps=1e-15, mu_dtype=None, weight_decay=0.0, mask=None):
    directions = scale_by_laprop(grads, params, b1, b2, eps)
    return scale_by_learning_rate(add_decayed_weights(directions, params, weight_decay, mask), params, learning_rate)


LAPROP = {"b1": 0.7, "b2": 0.8, "eps": 1e-2}
OPTAX = {"optax": "optax has no LaProp"}

CASES = [
    Case(
        "scale_by_laprop",
        scale_by_laprop,
        {},
        LAPROP,
        dtypes=("mu_dtype",),
        fields=frozenset({"count", "mu", "nu"}),
        part_of="laprop",
        exempt=OPTAX,
    ),
    Case(
        "laprop",
        laprop,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, **LAPROP, "weight_decay": 0.3, "mask": With(False, {"weight_decay": 0.3})},
        dtypes=("mu_dtype",),
        needs_params=True,
        fields=frozenset({"count", "mu", "nu"}),
        minimizes={"learning_rate": 0.1},
        exempt=OPTAX,
    ),
]
