"""Rprop."""

import numpy as np

from cases.case import Case


def scale_by_rprop(grads, params, learning_rate, eta_minus=0.5, eta_plus=1.2, min_step_size=1e-6, max_step_size=50.0):
    sizes, before, updates = np.full(grads[0].shape, learning_rate), np.zeros(grads[0].shape), []
    for g in grads:
        step = np.zeros(g.shape)
        for i in np.ndindex(g.shape):  # weight by weight, as the paper tells it
            if g[i] * before[i] > 0:
                sizes[i] *= eta_plus
            elif g[i] * before[i] < 0:
                sizes[i] *= eta_minus
            sizes[i] = min(max(sizes[i], min_step_size), max_step_size)
            turned = g[i] * before[i] < 0
            before[i] = 0.0 if turned else g[i]
            step[i] = 0.0 if turned else sizes[i] * np.sign(g[i])
        updates.append(step)
    return updates


def rprop(grads, params, learning_rate, eta_minus=0.5, eta_plus=1.2, min_step_size=1e-6, max_step_size=50.0):
    directions = scale_by_rprop(grads, params, learning_rate, eta_minus, eta_plus, min_step_size, max_step_size)
    return [-u for u in directions]


OTHERS = {"learning_rate": 0.3, "eta_minus": 0.8, "eta_plus": 3.0, "min_step_size": 0.09, "max_step_size": 0.12}
EXEMPT = {"optax": "optax 0.2.8 returns the step of the update before"}

CASES = [
    Case(
        "scale_by_rprop",
        scale_by_rprop,
        {"learning_rate": 0.1},
        OTHERS,
        fields=frozenset({"step_sizes", "prev_updates"}),
        part_of="rprop",
        exempt=EXEMPT,
    ),
    Case(
        "rprop",
        rprop,
        {"learning_rate": 0.1},
        OTHERS,
        fields=frozenset({"step_sizes", "prev_updates"}),
        minimizes={"learning_rate": 0.1, "eta_minus": 0.5, "eta_plus": 1.2},
        exempt=EXEMPT,
    ),
]
