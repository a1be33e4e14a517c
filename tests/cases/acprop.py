"""ACProp."""

import numpy as np
import optax

import jaxopt_lessons as jl
from cases.case import Case, at
from cases.weight_decay import DECAY, decayed_step


def scale_by_acprop(grads, params, b1=0.9, b2=0.999, eps=1e-16, eps_root=1e-16):
    m, s, updates = 0.0, 0.0, []
    for i, g in enumerate(grads):
        c1, c2 = at(b1, i), at(b2, i)
        updates.append(g / ((np.sqrt(s / (1 - c2**i)) if i else 1.0) + at(eps, i)))
        s = c2 * s + (1 - c2) * (g - m) ** 2 + at(eps_root, i)
        m = c1 * m + (1 - c1) * g
    return updates


def acprop(
    grads,
    params,
    learning_rate,
    b1=0.9,
    b2=0.999,
    eps=1e-16,
    eps_root=1e-16,
    weight_decay=0.0,
    mask=None,
    *,
    decay="lr",
):
    directions = scale_by_acprop(grads, params, b1, b2, eps, eps_root)
    return decayed_step(directions, params, learning_rate, weight_decay, mask, decay)


ACPROP = {"b1": 0.7, "b2": 0.9, "eps": 1e-2, "eps_root": 1e-2}

CASES = [
    Case(
        "scale_by_acprop",
        scale_by_acprop,
        {"b2": 0.99},
        ACPROP,
        fields=frozenset({"count", "mu", "nu"}),
        optax=optax.contrib.scale_by_acprop,
        part_of="acprop",
    ),
    Case(
        "acprop",
        acprop,
        {"learning_rate": 0.1, "b2": 0.99},
        {"learning_rate": 0.3, **ACPROP, **DECAY},
        needs_params=True,
        fields=frozenset({"count", "mu", "nu"}),
        beyond=frozenset({"decay"}),
        optax=optax.contrib.acprop,
        minimizes={"learning_rate": jl.exponential_decay(0.1, 100, 0.5)},
        exempt={"zero_gradients_are_forgotten": "it divides by what it expected, eps: more than float16 can hold"},
    ),
]
