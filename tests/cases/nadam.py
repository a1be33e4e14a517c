"""NAdam, with and without Dozat's schedule of the momentum."""

import numpy as np
import optax

from cases import adam
from cases.case import Case, at
from cases.scale import scale_by_learning_rate
from cases.weight_decay import DECAY


def nadam(grads, params, learning_rate, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, mu_dtype=None):
    return adam.adam(grads, params, learning_rate, b1, b2, eps, eps_root, nesterov=True)


def nadamw(
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
    decay="lr",
):
    rest = {"nesterov": True, "decay": decay}
    return adam.adamw(grads, params, learning_rate, b1, b2, eps, eps_root, None, weight_decay, mask, **rest)


def scale_by_nadam(grads, params, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, mu_dtype=None, momentum_decay=4e-3):
    m, v, product, updates = 0.0, 0.0, 1.0, []
    for i, g in enumerate(grads):
        t, c1, c2, speed = i + 1, at(b1, i), at(b2, i), at(momentum_decay, i)
        now, soon = (c1 * (1 - 0.5 * 0.96 ** (s * speed)) for s in (t, t + 1))
        product *= now
        m = c1 * m + (1 - c1) * g
        v = c2 * v + (1 - c2) * g**2
        m_hat = soon * m / (1 - product * soon) + (1 - now) * g / (1 - product)
        updates.append(m_hat / (np.sqrt(v / (1 - c2**t) + at(eps_root, i)) + at(eps, i)))
    return updates


def nadam_dozat(
    grads, params, learning_rate, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, mu_dtype=None, momentum_decay=4e-3
):
    directions = scale_by_nadam(grads, params, b1, b2, eps, eps_root, None, momentum_decay)
    return scale_by_learning_rate(directions, params, learning_rate)


MOMENTS = {"b1": 0.8, "b2": 0.9, "eps": 1e-2, "eps_root": 1e-2}
EXEMPT = {"optax": "optax has no momentum schedule; PyTorch has, see test_torch"}

CASES = [
    Case(
        "nadam",
        nadam,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, **MOMENTS},
        dtypes=("mu_dtype",),
        fields=frozenset({"count", "mu", "nu"}),
        optax=optax.nadam,
        minimizes={"learning_rate": 0.1},
    ),
    Case(
        "nadamw",
        nadamw,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, **MOMENTS, **DECAY},
        dtypes=("mu_dtype",),
        needs_params=True,
        fields=frozenset({"count", "mu", "nu"}),
        beyond=frozenset({"decay"}),
        optax=optax.nadamw,
        minimizes={"learning_rate": 0.1, "weight_decay": 0.0},
    ),
    Case(
        "scale_by_nadam",
        scale_by_nadam,
        {},
        {**MOMENTS, "momentum_decay": 1.0},
        dtypes=("mu_dtype",),
        fields=frozenset({"count", "mu_product", "mu", "nu"}),
        part_of="nadam_dozat",
        exempt=EXEMPT,
    ),
    Case(
        "nadam_dozat",
        nadam_dozat,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, **MOMENTS, "momentum_decay": 1.0},
        dtypes=("mu_dtype",),
        fields=frozenset({"count", "mu_product", "mu", "nu"}),
        minimizes={"learning_rate": 0.1},
        exempt=EXEMPT,
    ),
]
