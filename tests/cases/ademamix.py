"""AdEMAMix and its simplification."""

import numpy as np
import optax

from cases.case import Case, at
from cases.weight_decay import DECAY, decayed_step


def scale_by_ademamix(grads, params, b1=0.9, b2=0.999, b3=0.9999, alpha=6.0, eps=1e-8, eps_root=0.0, mu_dtype=None):
    m1, m2, v, updates = 0.0, 0.0, 0.0, []
    for i, g in enumerate(grads):
        t, c1, c2, c3 = i + 1, at(b1, i), at(b2, i), at(b3, i)
        m1 = c1 * m1 + (1 - c1) * g
        m2 = c3 * m2 + (1 - c3) * g
        v = c2 * v + (1 - c2) * g**2
        root = np.sqrt(v / (1 - c2**t) + at(eps_root, i))
        updates.append((m1 / (1 - c1**t) + at(alpha, i) * m2) / (root + at(eps, i)))
    return updates


def ademamix(
    grads,
    params,
    learning_rate,
    b1=0.9,
    b2=0.999,
    b3=0.9999,
    alpha=5.0,
    eps=1e-8,
    eps_root=0.0,
    mu_dtype=None,
    weight_decay=0.0,
    mask=None,
    *,
    decay="lr",
):
    directions = scale_by_ademamix(grads, params, b1, b2, b3, alpha, eps, eps_root)
    return decayed_step(directions, params, learning_rate, weight_decay, mask, decay)


def scale_by_simplified_ademamix(grads, params, b1=0.99, b2=0.95, alpha=0.0, eps=1e-8, eps_root=0.0):
    m, n, updates = 0.0, 0.0, []
    for i, g in enumerate(grads):
        m = at(b1, i) * m + g
        n = at(b2, i) * n + (1 - at(b2, i)) * g**2
        root = np.sqrt(n / (1 - at(b2, i) ** (i + 1)) + at(eps_root, i))
        updates.append((m + at(alpha, i) * g) / (root + at(eps, i)))
    return updates


def simplified_ademamix(
    grads,
    params,
    learning_rate,
    b1=0.99,
    b2=0.95,
    alpha=0.0,
    eps=1e-8,
    eps_root=0.0,
    weight_decay=0.0,
    mask=None,
    *,
    decay="lr",
):
    directions = scale_by_simplified_ademamix(grads, params, b1, b2, alpha, eps, eps_root)
    return decayed_step(directions, params, learning_rate, weight_decay, mask, decay)


ARGUMENTS = {"b3": 0.99}  # With the default the slow average does not count yet.
ADEMAMIX = {"b1": 0.8, "b2": 0.9, "b3": 0.95, "alpha": 20.0, "eps": 1e-2, "eps_root": 1e-2}
SIMPLIFIED = {"b1": 0.8, "b2": 0.7, "alpha": 2.0, "eps": 1e-2, "eps_root": 1e-2}

CASES = [
    Case(
        "scale_by_ademamix",
        scale_by_ademamix,
        ARGUMENTS,
        ADEMAMIX,
        dtypes=("mu_dtype",),
        fields=frozenset({"count", "count_m2", "m1", "m2", "nu"}),
        optax=optax.contrib.scale_by_ademamix,
        part_of="ademamix",
    ),
    Case(
        "ademamix",
        ademamix,
        {"learning_rate": 0.1, **ARGUMENTS},
        {"learning_rate": 0.3, **ADEMAMIX, **DECAY},
        dtypes=("mu_dtype",),
        needs_params=True,
        fields=frozenset({"count", "count_m2", "m1", "m2", "nu"}),
        beyond=frozenset({"decay"}),
        optax=optax.contrib.ademamix,
        minimizes={"learning_rate": 0.1, "b3": 0.99, "alpha": 2.0},
    ),
    Case(
        "scale_by_simplified_ademamix",
        scale_by_simplified_ademamix,
        {},
        SIMPLIFIED,
        fields=frozenset({"m", "n", "t"}),
        optax=optax.contrib.scale_by_simplified_ademamix,
        part_of="simplified_ademamix",
    ),
    Case(
        "simplified_ademamix",
        simplified_ademamix,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, **SIMPLIFIED, **DECAY},
        needs_params=True,
        fields=frozenset({"m", "n", "t", "count"}),
        beyond=frozenset({"decay"}),
        optax=optax.contrib.simplified_ademamix,
        minimizes={"learning_rate": 0.01, "b1": 0.9, "b2": 0.99},
    ),
]
