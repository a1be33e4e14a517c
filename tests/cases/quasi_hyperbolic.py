"""QHM and QHAdam."""

import numpy as np

from cases.case import Case, at
from cases.scale import scale_by_learning_rate
from cases.weight_decay import DECAY, decayed_step


def scale_by_qhm(grads, params, b1=0.999, nu=0.7, mu_dtype=None):
    m, updates = 0.0, []
    for i, g in enumerate(grads):
        m = at(b1, i) * m + (1 - at(b1, i)) * g
        updates.append((1 - at(nu, i)) * g + at(nu, i) * m)
    return updates


def qhm(grads, params, learning_rate, b1=0.999, nu=0.7, mu_dtype=None):
    return scale_by_learning_rate(scale_by_qhm(grads, params, b1, nu), params, learning_rate)


def scale_by_qhadam(grads, params, b1=0.995, b2=0.999, nu1=0.7, nu2=1.0, eps=1e-8, mu_dtype=None):
    m, v, updates = 0.0, 0.0, []
    for i, g in enumerate(grads):
        t, c1, c2, w1, w2 = i + 1, at(b1, i), at(b2, i), at(nu1, i), at(nu2, i)
        m = c1 * m + (1 - c1) * g
        v = c2 * v + (1 - c2) * g**2
        numerator = (1 - w1) * g + w1 * m / (1 - c1**t)
        updates.append(numerator / (np.sqrt((1 - w2) * g**2 + w2 * v / (1 - c2**t)) + at(eps, i)))
    return updates


def qhadam(
    grads,
    params,
    learning_rate,
    b1=0.995,
    b2=0.999,
    nu1=0.7,
    nu2=1.0,
    eps=1e-8,
    mu_dtype=None,
    weight_decay=0.0,
    mask=None,
    *,
    decay="lr",
):
    directions = scale_by_qhadam(grads, params, b1, b2, nu1, nu2, eps)
    return decayed_step(directions, params, learning_rate, weight_decay, mask, decay)


QHM = {"b1": 0.9, "nu": 0.4}
QHADAM = {"b1": 0.8, "b2": 0.9, "nu1": 0.4, "nu2": 0.6, "eps": 1e-2}
OPTAX = {"optax": "optax has no quasi-hyperbolic momentum"}

CASES = [
    Case(
        "scale_by_qhm",
        scale_by_qhm,
        {},
        QHM,
        dtypes=("mu_dtype",),
        fields=frozenset({"mu"}),
        part_of="qhm",
        exempt=OPTAX,
    ),
    Case(
        "qhm",
        qhm,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, **QHM},
        dtypes=("mu_dtype",),
        fields=frozenset({"mu", "count"}),
        minimizes={"learning_rate": 0.5, "b1": 0.9},
        exempt=OPTAX,
    ),
    Case(
        "scale_by_qhadam",
        scale_by_qhadam,
        {},
        QHADAM,
        dtypes=("mu_dtype",),
        fields=frozenset({"count", "mu", "nu"}),
        part_of="qhadam",
        exempt=OPTAX,
    ),
    Case(
        "qhadam",
        qhadam,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, **QHADAM, **DECAY},
        dtypes=("mu_dtype",),
        needs_params=True,
        fields=frozenset({"count", "mu", "nu"}),
        minimizes={"learning_rate": 0.1, "b1": 0.9},
        exempt=OPTAX,
    ),
]
