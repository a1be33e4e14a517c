"""Adamax and AdamaxW."""

import numpy as np
import optax

from cases.case import Case, at
from cases.scale import scale_by_learning_rate
from cases.weight_decay import DECAY, decayed_step


def scale_by_adamax(grads, params, b1=0.9, b2=0.999, eps=1e-8):
    m, v, updates = 0.0, 0.0, []
    for i, g in enumerate(grads):
        c1 = at(b1, i)
        m = c1 * m + (1 - c1) * g
        v = np.maximum(at(b2, i) * v, np.abs(g) + at(eps, i))
        updates.append(m / (1 - c1 ** (i + 1)) / v)
    return updates


def adamax(grads, params, learning_rate, b1=0.9, b2=0.999, eps=1e-8):
    return scale_by_learning_rate(scale_by_adamax(grads, params, b1, b2, eps), params, learning_rate)


def adamaxw(grads, params, learning_rate, b1=0.9, b2=0.999, eps=1e-8, weight_decay=1e-4, mask=None, *, decay="lr"):
    directions = scale_by_adamax(grads, params, b1, b2, eps)
    return decayed_step(directions, params, learning_rate, weight_decay, mask, decay)


ADAMAX = {"b1": 0.8, "b2": 0.9, "eps": 0.1}
FIELDS = frozenset({"count", "mu", "nu"})

CASES = [
    Case("scale_by_adamax", scale_by_adamax, {}, ADAMAX, fields=FIELDS, optax=optax.scale_by_adamax, part_of="adamaxw"),
    Case(
        "adamax",
        adamax,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, **ADAMAX},
        fields=FIELDS,
        optax=optax.adamax,
        minimizes={"learning_rate": 0.1},
    ),
    Case(
        "adamaxw",
        adamaxw,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, **ADAMAX, **DECAY},
        needs_params=True,
        fields=FIELDS,
        beyond=frozenset({"decay"}),
        optax=optax.adamaxw,
        minimizes={"learning_rate": 0.1, "weight_decay": 0.0},
    ),
]
