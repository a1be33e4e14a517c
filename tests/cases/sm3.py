"""SM3."""

import numpy as np
import optax

from cases.case import Case, at
from cases.layerwise import AXES
from cases.scale import scale_by_learning_rate


def scale_by_sm3(grads, params, b1=0.9, b2=1.0, eps=1e-8):
    rows, cols, m, updates = 0.0, 0.0, 0.0, []
    for i, g in enumerate(grads):  # matrices
        forget = at(b2, i)
        least = np.minimum(*np.broadcast_arrays(np.reshape(rows, (-1, 1)), np.reshape(cols, (1, -1))))
        s = forget * least + (1.0 if forget == 1 else 1 - forget) * g**2
        rows, cols = s.max(1), s.max(0)
        m = at(b1, i) * m + (1 - at(b1, i)) * g / np.sqrt(s + at(eps, i))
        updates.append(m)
    return updates


def sm3(grads, params, learning_rate, momentum=0.9):
    return scale_by_learning_rate(scale_by_sm3(grads, params, momentum), params, learning_rate)


CASES = [
    Case(
        "scale_by_sm3",
        scale_by_sm3,
        {},
        {"b1": 0.5, "b2": 0.7, "eps": 0.1},
        fields=frozenset({"mu", "nu"}),
        optax=optax.scale_by_sm3,
        part_of="sm3",
    ),
    Case(
        "sm3",
        sm3,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, "momentum": 0.5},
        fields=frozenset({"count", "mu", "nu"}),
        optax=optax.sm3,
        minimizes={"learning_rate": 1.0},
        exempt=AXES,
    ),
]
