"""Lion."""

import numpy as np
import optax

import jaxopt_lessons as jl
from cases.case import Case, With, at
from cases.weight_decay import DECAY, decayed_step

LIMITS = {"hard": np.sign, "smooth": np.tanh, "refined": lambda x: np.sign(x) * np.minimum(np.abs(x), 1)}


def scale_by_lion(grads, params, b1=0.9, b2=0.99, mu_dtype=None, *, mode="hard", smooth_beta=1.0):
    m, updates = 0.0, []
    for i, g in enumerate(grads):
        x = at(b1, i) * m + (1 - at(b1, i)) * g
        updates.append(LIMITS[mode](smooth_beta * x if mode == "smooth" else x))
        m = at(b2, i) * m + (1 - at(b2, i)) * g
    return updates


def lion(grads, params, learning_rate, b1=0.9, b2=0.99, mu_dtype=None, weight_decay=1e-3, mask=None, *, decay="lr"):
    directions = scale_by_lion(grads, params, b1, b2)
    return decayed_step(directions, params, learning_rate, weight_decay, mask, decay)


LION = {"b1": 0.5, "b2": 0.8}
FACTS = {"dtypes": ("mu_dtype",), "fields": frozenset({"count", "mu"})}

CASES = [
    Case(
        "scale_by_lion",
        scale_by_lion,
        {},
        {**LION, "mode": "refined", "smooth_beta": With(3.0, {"mode": "smooth"})},
        optax=optax.scale_by_lion,
        **FACTS,
    ),
    Case(
        "lion",
        lion,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, **LION, **DECAY},
        needs_params=True,
        beyond=frozenset({"decay"}),
        optax=optax.lion,
        minimizes={"learning_rate": jl.linear_schedule(0.03, 0.0, 500), "weight_decay": 0.0},
        **FACTS,
    ),
]
