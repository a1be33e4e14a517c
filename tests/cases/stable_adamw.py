"""StableAdamW."""

import numpy as np

from cases.case import Case, With, at
from cases.scale import scale_by_learning_rate
from cases.weight_decay import add_decayed_weights


def scale_by_stable_adamw(grads, params, b1=0.9, b2=0.99, eps=1e-6, weight_decay=0.0, mask=None, mu_dtype=None):
    m, v, directions, rms = 0.0, 0.0, [], []
    for i, g in enumerate(grads):
        t, c1, c2, e = i + 1, at(b1, i), at(b2, i), at(eps, i)
        m = c1 * m + (1 - c1) * g
        v = c2 * v + (1 - c2) * g**2
        v_hat = v / (1 - c2**t)
        directions.append(m / (1 - c1**t) / (np.sqrt(v_hat) + e))
        rms.append(np.sqrt(np.mean(g**2 / np.maximum(v_hat, e**2))))
    decayed = add_decayed_weights(directions, params, weight_decay, mask)
    return [u / max(1.0, r) for u, r in zip(decayed, rms, strict=True)]


def stable_adamw(grads, params, learning_rate, b1=0.9, b2=0.99, eps=1e-6, weight_decay=1e-2, mask=None, mu_dtype=None):
    directions = scale_by_stable_adamw(grads, params, b1, b2, eps, weight_decay, mask)
    return scale_by_learning_rate(directions, params, learning_rate)


STABLE = {
    "b1": 0.8,
    "b2": 0.7,
    "eps": 1e-1,
    "weight_decay": 0.3,
    "mask": With(False, {"weight_decay": 0.3}),
}
OPTAX = {"optax": "optax has no StableAdamW"}

CASES = [
    Case(
        "scale_by_stable_adamw",
        scale_by_stable_adamw,
        {},
        STABLE,
        dtypes=("mu_dtype",),
        needs_params=True,
        fields=frozenset({"count", "mu", "nu"}),
        part_of="stable_adamw",
        exempt=OPTAX,
    ),
    Case(
        "stable_adamw",
        stable_adamw,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, **STABLE},
        dtypes=("mu_dtype",),
        needs_params=True,
        fields=frozenset({"count", "mu", "nu"}),
        minimizes={"learning_rate": 0.1, "weight_decay": 0.0},
        exempt=OPTAX,
    ),
]
