"""The cautious mask around another transformation."""

import numpy as np

import jaxopt_lessons as jl
from cases.adam import adam
from cases.case import Case, at
from cases.momentum import sgd

ADAM, SGD = jl.adam(0.1), jl.sgd(0.1, momentum=0.9)
ORACLES = {
    ADAM: lambda grads, params: adam(grads, params, 0.1),
    SGD: lambda grads, params: sgd(grads, params, 0.1, momentum=0.9),
}


def cautious(grads, params, inner, eps=1e-3, *, along_gradient=False):
    updates = []
    for i, (g, u) in enumerate(zip(grads, ORACLES[inner](grads, params), strict=True)):
        kept = (u * g > 0) if along_gradient else (u * g < 0)
        updates.append(np.where(kept, u / max(np.mean(kept), at(eps, i)), 0))
    return updates


CASES = [
    Case(
        "cautious",
        cautious,
        {"inner": ADAM},
        {"inner": SGD, "eps": 0.9, "along_gradient": True},
        fields=frozenset({"count", "mu", "nu", "trace"}),
        minimizes={"inner": ADAM},
        exempt={"optax": "optax has no cautious mask"},
    ),
]
