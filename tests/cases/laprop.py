"""LaProp."""

import numpy as np

from cases.case import Case, at
from cases.weight_decay import DECAY, decayed_step


def scale_by_laprop(grads, params, b1=0.9, b2=0.999, eps=1e-15, mu_dtype=None):
    m, v, updates = 0.0, 0.0, []
    for i, g in enumerate(grads):
        t, c1, c2 = i + 1, at(b1, i), at(b2, i)
        v = c2 * v + (1 - c2) * g**2
        m = c1 * m + (1 - c1) * g / (np.sqrt(v / (1 - c2**t)) + at(eps, i))
        updates.append(m / (1 - c1**t))
    return updates


def laprop(
    grads, params, learning_rate, b1=0.9, b2=0.999, eps=1e-15, mu_dtype=None, weight_decay=0.0, mask=None, *, decay="lr"
):
    directions = scale_by_laprop(grads, params, b1, b2, eps)
    return decayed_step(directions, params, learning_rate, weight_decay, mask, decay)


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
        {"learning_rate": 0.3, **LAPROP, **DECAY},
        dtypes=("mu_dtype",),
        needs_params=True,
        fields=frozenset({"count", "mu", "nu"}),
        minimizes={"learning_rate": 0.1},
        exempt=OPTAX,
    ),
]
