"""MARS."""

import numpy as np

from cases.adam import scale_by_adam
from cases.case import Case, at
from cases.weight_decay import DECAY, decayed_step


def scale_by_mars(grads, params, b1=0.95, b2=0.99, gamma=0.025, eps=1e-8, mu_dtype=None):
    corrected = []
    for i, (g, previous) in enumerate(zip(grads, [grads[0], *grads], strict=False)):
        c = g + at(gamma, i) * at(b1, i) / (1 - at(b1, i)) * (g - previous)
        corrected.append(c / max(1.0, np.sqrt(np.sum(c**2))))
    return scale_by_adam(corrected, params, b1, b2, eps)


def mars(
    grads,
    params,
    learning_rate,
    b1=0.95,
    b2=0.99,
    gamma=0.025,
    eps=1e-8,
    mu_dtype=None,
    weight_decay=0.0,
    mask=None,
    *,
    decay="lr",
):
    directions = scale_by_mars(grads, params, b1, b2, gamma, eps)
    return decayed_step(directions, params, learning_rate, weight_decay, mask, decay)


MARS = {"b1": 0.8, "b2": 0.9, "gamma": 0.1, "eps": 1e-2}
OPTAX = {"optax": "optax has no MARS"}

CASES = [
    Case(
        "scale_by_mars",
        scale_by_mars,
        {},
        MARS,
        dtypes=("mu_dtype",),
        fields=frozenset({"count", "mu", "nu", "previous_gradient"}),
        part_of="mars",
        exempt=OPTAX,
    ),
    Case(
        "mars",
        mars,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, **MARS, **DECAY},
        dtypes=("mu_dtype",),
        needs_params=True,
        fields=frozenset({"count", "mu", "nu", "previous_gradient"}),
        minimizes={"learning_rate": 0.1},
        exempt=OPTAX,
    ),
]
