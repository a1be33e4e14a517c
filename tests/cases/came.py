"""CAME."""

import numpy as np

import jaxopt_lessons as jl
from cases.case import Case, With, at
from cases.layerwise import AXES, rms
from cases.weight_decay import DECAY, decayed_step


def scale_by_came(
    grads,
    params,
    b1=0.9,
    b2=0.999,
    b3=0.9999,
    eps=1e-30,
    eps_confidence=1e-16,
    clipping_threshold=1.0,
    mu_dtype=None,
):
    def matrix(rows, cols):
        return np.outer(rows, cols) / rows.mean()

    row, col, res_row, res_col, m, updates = 0.0, 0.0, 0.0, 0.0, 0.0, []
    for i, g in enumerate(grads):
        c1, c2, c3 = at(b1, i), at(b2, i), at(b3, i)
        s = g**2 + at(eps, i)
        row = c2 * row + (1 - c2) * s.mean(1)
        col = c2 * col + (1 - c2) * s.mean(0)
        d = g / np.sqrt(matrix(row, col))
        d = d / max(1.0, rms(d) / at(clipping_threshold, i))
        m = c1 * m + (1 - c1) * d
        r = (d - m) ** 2 + at(eps_confidence, i)
        res_row = c3 * res_row + (1 - c3) * r.mean(1)
        res_col = c3 * res_col + (1 - c3) * r.mean(0)
        updates.append(m / np.sqrt(matrix(res_row, res_col)))
    return updates


def came(
    grads,
    params,
    learning_rate,
    b1=0.9,
    b2=0.999,
    b3=0.9999,
    eps=1e-30,
    eps_confidence=1e-16,
    clipping_threshold=1.0,
    mu_dtype=None,
    weight_decay=0.0,
    mask=None,
    *,
    decay="lr",
):
    directions = scale_by_came(grads, params, b1, b2, b3, eps, eps_confidence, clipping_threshold)
    return decayed_step(directions, params, learning_rate, weight_decay, mask, decay)


CLIPPING = With(0.3, {"eps_confidence": 0.1})  # without an eps the direction has no scale to clip
CAME = {"b1": 0.7, "b2": 0.75, "b3": 0.75, "eps": 0.1, "eps_confidence": 0.1, "clipping_threshold": CLIPPING}
# Without a bias correction the rounding of 1 - 0.9999 in float32 would be all that the tests measure.
AVERAGES = {"b2": 0.875, "b3": 0.9375}
NOT_IN_OPTAX = {"optax": "optax has no CAME; the authors' package is compared in test_packages.py"}

CASES = [
    Case(
        "scale_by_came",
        scale_by_came,
        AVERAGES,
        CAME,
        dtypes=("mu_dtype",),
        fields=frozenset({"mu", "v_row", "v_col", "v", "res_row", "res_col"}),
        part_of="came",
        exempt=NOT_IN_OPTAX,
    ),
    Case(
        "came",
        came,
        {"learning_rate": 0.1, **AVERAGES},
        {
            "learning_rate": 0.3,
            **CAME,
            **DECAY,
        },
        dtypes=("mu_dtype",),
        needs_params=True,
        fields=frozenset({"count", "mu", "v_row", "v_col", "v", "res_row", "res_col"}),
        minimizes={"learning_rate": jl.exponential_decay(0.1, 100, 0.5)},
        exempt={**AXES, **NOT_IN_OPTAX},
    ),
]
