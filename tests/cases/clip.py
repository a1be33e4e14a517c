"""Clipping."""

import numpy as np
import optax

from cases.case import TOGETHER, Case, at


def clip(grads, params, max_delta):
    return [np.minimum(np.maximum(g, -at(max_delta, i)), at(max_delta, i)) for i, g in enumerate(grads)]


def clip_by_global_norm(grads, params, max_norm):
    norms = [np.sqrt(np.sum(g**2)) for g in grads]
    return [g * min(1.0, at(max_norm, i) / n) if n else g for i, (g, n) in enumerate(zip(grads, norms, strict=True))]


CASES = [
    Case("clip", clip, {"max_delta": 0.5}, {"max_delta": 0.25}, optax=optax.clip, hides=(np.inf, -np.inf)),
    Case(
        "clip_by_global_norm",
        clip_by_global_norm,
        {"max_norm": 0.5},
        {"max_norm": 0.25},
        optax=optax.clip_by_global_norm,
        exempt=TOGETHER,
    ),
]
