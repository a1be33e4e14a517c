"""Mechanic around another optimizer."""

import numpy as np
import optax
import optax.contrib

import jaxopt_lessons as jl
from cases.adam import adam
from cases.case import Case, at
from cases.momentum import sgd

SGD, ADAM = jl.sgd(1.0), jl.adam(1.0)
INNER = {SGD: lambda grads, params: sgd(grads, params, 1.0), ADAM: lambda grads, params: adam(grads, params, 1.0)}
OPTAX = {SGD: optax.sgd(1.0), ADAM: optax.adam(1.0)}


def mechanize(grads, params, base_optimizer, weight_decay=1e-2, eps=1e-8, s_init=1e-6, num_betas=6):
    betas = 1 - 0.1 ** np.arange(1, num_betas + 1)
    r, m, v, s = np.zeros(num_betas), np.zeros(num_betas), np.zeros(num_betas), np.full(num_betas, s_init)
    updates = []
    proposed = INNER[base_optimizer](grads, params)
    for i, (g, p, u) in enumerate(zip(grads, params, proposed, strict=True)):
        e, x0, before = at(eps, i), params[0], np.sum(s)
        way = (x0 - p) / (before + e)
        pull = at(weight_decay, i) * before * np.linalg.norm(g) / (np.linalg.norm(p) + e)
        h = np.sum((g + pull * p) * way)
        r = betas * r + np.clip(h, -m, m) * s
        m = np.maximum(betas * m, np.abs(h) + e)
        v = betas**2 * v + h**2
        s = (s_init / num_betas * m + np.maximum(r, 0)) / (np.sqrt(v) + e)
        updates.append(x0 - np.sum(s) * (way - u) - p)
    return updates


CASES = [
    Case(
        "mechanize",
        mechanize,
        {"base_optimizer": SGD, "s_init": 0.1},
        {"base_optimizer": ADAM, "weight_decay": 0.5, "eps": 0.1, "s_init": 0.3, "num_betas": 2},
        needs_params=True,
        fields=frozenset({"base_optimizer_state", "count", "r", "m", "v", "s", "x0", "mu", "nu"}),
        optax=lambda base_optimizer, **arguments: optax.contrib.mechanize(OPTAX[base_optimizer], **arguments),
        minimizes={"base_optimizer": SGD, "s_init": 1e-2},
    ),
]
