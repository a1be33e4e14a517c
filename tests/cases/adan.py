"""Adan."""

import numpy as np

from cases.case import Case, at
from cases.weight_decay import DECAY, decayed_step


def scale_by_adan(grads, params, b1=0.98, b2=0.92, b3=0.99, eps=1e-8, eps_root=0.0):
    m, v, n, previous, updates = 0.0, 0.0, 0.0, grads[0], []
    for i, g in enumerate(grads):
        t, c1, c2, c3 = i + 1, at(b1, i), at(b2, i), at(b3, i)
        m = c1 * m + (1 - c1) * g
        v = c2 * v + (1 - c2) * (g - previous)
        n = c3 * n + (1 - c3) * (g + c2 * (g - previous)) ** 2
        previous = g
        numerator = m / (1 - c1**t) + c2 * v / (1 - c2**t)
        updates.append(numerator / (np.sqrt(n / (1 - c3**t) + at(eps_root, i)) + at(eps, i)))
    return updates


def adan(
    grads,
    params,
    learning_rate,
    b1=0.98,
    b2=0.92,
    b3=0.99,
    eps=1e-8,
    eps_root=1e-8,
    weight_decay=0.0,
    mask=None,
    *,
    decay="lr",
):
    directions = scale_by_adan(grads, params, b1, b2, b3, eps, eps_root)
    return decayed_step(directions, params, learning_rate, weight_decay, mask, decay)


ADAN = {"b1": 0.8, "b2": 0.7, "b3": 0.9, "eps": 1e-2, "eps_root": 1e-2}
OPTAX = {"optax": "optax multiplies the differences by 1 - b2 in the place of b2"}

CASES = [
    Case(
        "scale_by_adan",
        scale_by_adan,
        {},
        ADAN,
        fields=frozenset({"m", "v", "n", "g", "t"}),
        part_of="adan",
        exempt=OPTAX,
    ),
    Case(
        "adan",
        adan,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, **ADAN, **DECAY},
        needs_params=True,
        fields=frozenset({"m", "v", "n", "g", "t", "count"}),
        minimizes={"learning_rate": 0.1},
        exempt=OPTAX,
    ),
]
