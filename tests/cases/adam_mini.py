"""Adam-mini."""

import numpy as np

from cases.case import Case, at
from cases.layerwise import AXES
from cases.weight_decay import DECAY, decayed_step


def scale_by_adam_mini(grads, params, b1=0.9, b2=0.999, eps=1e-8, mu_dtype=None, *, blocks=None):
    m, v, updates = 0.0, 0.0, []
    for i, g in enumerate(grads):  # matrices [3, 2]
        t, c1, c2 = i + 1, at(b1, i), at(b2, i)
        square = np.mean(g**2, axis=0, keepdims=True) if blocks is None else np.mean(g**2)
        m = c1 * m + (1 - c1) * g
        v = c2 * v + (1 - c2) * square
        updates.append(m / (1 - c1**t) / (np.sqrt(v / (1 - c2**t)) + at(eps, i)))
    return updates


def adam_mini(
    grads,
    params,
    learning_rate,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    mu_dtype=None,
    weight_decay=0.0,
    mask=None,
    *,
    blocks=None,
    decay="lr",
):
    directions = scale_by_adam_mini(grads, params, b1, b2, eps, blocks=blocks)
    return decayed_step(directions, params, learning_rate, weight_decay, mask, decay)


def one_block(path, leaf):
    return ()


ADAM_MINI = {"b1": 0.8, "b2": 0.9, "eps": 1e-2, "blocks": one_block}
NOT_IN_OPTAX = {"optax": "optax has no Adam-mini; the authors' package is compared in test_packages.py"}

CASES = [
    Case(
        "scale_by_adam_mini",
        scale_by_adam_mini,
        {},
        ADAM_MINI,
        dtypes=("mu_dtype",),
        fields=frozenset({"count", "mu", "nu"}),
        part_of="adam_mini",
        exempt=NOT_IN_OPTAX,
    ),
    Case(
        "adam_mini",
        adam_mini,
        {"learning_rate": 0.1},
        {
            "learning_rate": 0.3,
            **ADAM_MINI,
            **DECAY,
        },
        dtypes=("mu_dtype",),
        needs_params=True,
        fields=frozenset({"count", "mu", "nu"}),
        minimizes={"learning_rate": 0.1},
        exempt={**AXES, **NOT_IN_OPTAX},
    ),
]
