"""Adadelta."""

import numpy as np
import optax

from cases.case import Case, With, at
from cases.scale import scale_by_learning_rate
from cases.weight_decay import add_decayed_weights


def scale_by_adadelta(grads, params, rho=0.9, eps=1e-6):
    e_g, e_x, updates = 0.0, 0.0, []
    for i, g in enumerate(grads):
        r, e = at(rho, i), at(eps, i)
        e_g = r * e_g + (1 - r) * g**2
        u = np.sqrt(e_x + e) / np.sqrt(e_g + e) * g
        e_x = r * e_x + (1 - r) * u**2
        updates.append(u)
    return updates


def adadelta(grads, params, learning_rate=1.0, rho=0.9, eps=1e-6, weight_decay=0.0, weight_decay_mask=None):
    decayed = add_decayed_weights(grads, params, weight_decay, weight_decay_mask)
    return scale_by_learning_rate(scale_by_adadelta(decayed, params, rho, eps), params, learning_rate)


ADADELTA = {"rho": 0.5, "eps": 1e-2}

CASES = [
    Case(
        "scale_by_adadelta",
        scale_by_adadelta,
        {"eps": 1e-3},  # with the default the first steps are as short as the effects of other arguments
        ADADELTA,
        fields=frozenset({"e_g", "e_x"}),
        optax=optax.scale_by_adadelta,
        part_of="adadelta",
    ),
    Case(
        "adadelta",
        adadelta,
        {"learning_rate": 1.0, "eps": 1e-3},
        {
            "learning_rate": 2.0,
            **ADADELTA,
            "weight_decay": 0.3,
            "weight_decay_mask": With(False, {"weight_decay": 0.3}),
        },
        needs_params=True,
        fields=frozenset({"count", "e_g", "e_x"}),
        optax=optax.adadelta,
        minimizes={"learning_rate": 1.0, "eps": 1e-3},
    ),
]
