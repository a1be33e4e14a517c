"""AdaBelief."""

import numpy as np
import optax

from cases.case import Case, at
from cases.scale import scale_by_learning_rate


def scale_by_belief(grads, params, b1=0.9, b2=0.999, eps=1e-16, eps_root=1e-16, *, nesterov=False):
    m, v, updates = 0.0, 0.0, []
    for i, g in enumerate(grads):
        t, c1, c2 = i + 1, at(b1, i), at(b2, i)
        m = c1 * m + (1 - c1) * g
        v = c2 * v + (1 - c2) * (g - m) ** 2 + at(eps_root, i)
        m_hat = m / (1 - c1**t)
        if nesterov:
            m_hat = c1 * m / (1 - c1 ** (t + 1)) + (1 - c1) * g / (1 - c1**t)
        updates.append(m_hat / (np.sqrt(v / (1 - c2**t)) + at(eps, i)))
    return updates


def adabelief(grads, params, learning_rate, b1=0.9, b2=0.999, eps=1e-16, eps_root=1e-16, *, nesterov=False):
    directions = scale_by_belief(grads, params, b1, b2, eps, eps_root, nesterov=nesterov)
    return scale_by_learning_rate(directions, params, learning_rate)


BELIEF = {"b1": 0.8, "b2": 0.9, "eps": 1e-2, "eps_root": 1e-2, "nesterov": True}
FIELDS = frozenset({"count", "mu", "nu"})

CASES = [
    Case(
        "scale_by_belief", scale_by_belief, {}, BELIEF, fields=FIELDS, optax=optax.scale_by_belief, part_of="adabelief"
    ),
    Case(
        "adabelief",
        adabelief,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, **BELIEF},
        fields=FIELDS,
        optax=optax.adabelief,
        minimizes={"learning_rate": 0.1},
    ),
]
