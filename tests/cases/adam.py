"""Adam and AdamW."""

import numpy as np
import optax

from cases.case import Case, at
from cases.scale import scale_by_learning_rate
from cases.weight_decay import DECAY, decayed_step


def scale_by_adam(grads, params, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, mu_dtype=None, *, nesterov=False):
    m, v, updates = 0.0, 0.0, []
    for i, g in enumerate(grads):
        t, c1, c2 = i + 1, at(b1, i), at(b2, i)
        m = c1 * m + (1 - c1) * g
        v = c2 * v + (1 - c2) * g**2
        m_hat = m / (1 - c1**t)
        if nesterov:
            m_hat = c1 * m / (1 - c1 ** (t + 1)) + (1 - c1) * g / (1 - c1**t)
        updates.append(m_hat / (np.sqrt(v / (1 - c2**t) + at(eps_root, i)) + at(eps, i)))
    return updates


def adam(grads, params, learning_rate, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, mu_dtype=None, *, nesterov=False):
    directions = scale_by_adam(grads, params, b1, b2, eps, eps_root, nesterov=nesterov)
    return scale_by_learning_rate(directions, params, learning_rate)


def adamw(
    grads,
    params,
    learning_rate,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    eps_root=0.0,
    mu_dtype=None,
    weight_decay=1e-4,
    mask=None,
    *,
    nesterov=False,
    decay="lr",
):
    directions = scale_by_adam(grads, params, b1, b2, eps, eps_root, nesterov=nesterov)
    return decayed_step(directions, params, learning_rate, weight_decay, mask, decay)


ADAM = {"b1": 0.8, "b2": 0.9, "eps": 1e-2, "eps_root": 1e-2, "nesterov": True}

CASES = [
    Case(
        "scale_by_adam",
        scale_by_adam,
        {},
        ADAM,
        dtypes=("mu_dtype",),
        fields=frozenset({"count", "mu", "nu"}),
        optax=optax.scale_by_adam,
        part_of="adamw",
    ),
    Case(
        "adam",
        adam,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, **ADAM},
        dtypes=("mu_dtype",),
        fields=frozenset({"count", "mu", "nu"}),
        optax=optax.adam,
        minimizes={"learning_rate": 0.1},
    ),
    Case(
        "adamw",
        adamw,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, **ADAM, **DECAY},
        dtypes=("mu_dtype",),
        needs_params=True,
        fields=frozenset({"count", "mu", "nu"}),
        beyond=frozenset({"decay"}),
        optax=optax.adamw,
        minimizes={"learning_rate": 0.1, "weight_decay": 0.0},
    ),
]
