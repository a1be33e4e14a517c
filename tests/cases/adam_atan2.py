"""Adam-atan2."""

import numpy as np

from cases.case import Case, at
from cases.weight_decay import DECAY, decayed_step


def scale_by_adam_atan2(grads, params, b1=0.9, b2=0.999, a=1.27, b=1.0, mu_dtype=None):
    m, v, updates = 0.0, 0.0, []
    for i, g in enumerate(grads):
        t, c1, c2 = i + 1, at(b1, i), at(b2, i)
        m = c1 * m + (1 - c1) * g
        v = c2 * v + (1 - c2) * g**2
        updates.append(at(a, i) * np.arctan2(m / (1 - c1**t), at(b, i) * np.sqrt(v / (1 - c2**t))))
    return updates


def adam_atan2(
    grads,
    params,
    learning_rate,
    b1=0.9,
    b2=0.999,
    a=1.27,
    b=1.0,
    mu_dtype=None,
    weight_decay=0.0,
    mask=None,
    *,
    decay="lr",
):
    directions = scale_by_adam_atan2(grads, params, b1, b2, a, b)
    return decayed_step(directions, params, learning_rate, weight_decay, mask, decay)


ATAN2 = {"b1": 0.8, "b2": 0.9, "a": 1.0, "b": 2.0}
OPTAX = {"optax": "optax has no Adam-atan2"}

CASES = [
    Case(
        "scale_by_adam_atan2",
        scale_by_adam_atan2,
        {},
        ATAN2,
        dtypes=("mu_dtype",),
        fields=frozenset({"count", "mu", "nu"}),
        part_of="adam_atan2",
        exempt=OPTAX,
    ),
    Case(
        "adam_atan2",
        adam_atan2,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, **ATAN2, **DECAY},
        dtypes=("mu_dtype",),
        needs_params=True,
        fields=frozenset({"count", "mu", "nu"}),
        minimizes={"learning_rate": 0.1},
        exempt=OPTAX,
    ),
]
