"""RAdam."""

import numpy as np
import optax

from cases.case import Case, at
from cases.scale import scale_by_learning_rate


def scale_by_radam(grads, params, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, threshold=5.0, *, nesterov=False):
    m, v, updates = 0.0, 0.0, []
    for i, g in enumerate(grads):
        t, c1, c2 = i + 1, at(b1, i), at(b2, i)
        m = c1 * m + (1 - c1) * g
        v = c2 * v + (1 - c2) * g**2
        u = m / (1 - c1**t)
        if nesterov:
            u = c1 * m / (1 - c1 ** (t + 1)) + (1 - c1) * g / (1 - c1**t)
        rho_inf = 2 / (1 - c2) - 1
        rho = rho_inf - 2 * t * c2**t / (1 - c2**t)
        if rho >= threshold:
            r = np.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
            u = r * u / (np.sqrt(v / (1 - c2**t) + at(eps_root, i)) + at(eps, i))
        updates.append(u)
    return updates


def radam(grads, params, learning_rate, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, threshold=5.0, *, nesterov=False):
    directions = scale_by_radam(grads, params, b1, b2, eps, eps_root, threshold, nesterov=nesterov)
    return scale_by_learning_rate(directions, params, learning_rate)


RADAM = {"b1": 0.8, "b2": 0.95, "eps": 0.1, "eps_root": 0.1, "threshold": 8.0, "nesterov": True}
FACTS = {
    "fields": frozenset({"count", "mu", "nu"}),
    # up to b2 = 2/3 the average of squares is never used
    "scheduled": {"b2": 0.9},
}

CASES = [
    Case("scale_by_radam", scale_by_radam, {"b2": 0.9}, RADAM, optax=optax.scale_by_radam, part_of="radam", **FACTS),
    Case(
        "radam",
        radam,
        {"learning_rate": 0.1, "b2": 0.9},  # at the default twelve steps hold too few squares for eps to be seen
        {"learning_rate": 0.3, **RADAM},
        optax=optax.radam,
        minimizes={"learning_rate": 0.1},
        **FACTS,
    ),
]
