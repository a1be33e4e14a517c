"""Clipped examples and noise. The tests hand over batches of one example."""

import numpy as np

from cases.case import TOGETHER, Case, With, at
from cases.momentum import trace
from cases.noise import normal
from cases.scale import scale_by_learning_rate


def differentially_private_aggregate(grads, params, l2_norm_clip, noise_multiplier, key):
    updates = []
    for i, g in enumerate(grads):
        limit = at(l2_norm_clip, i)
        clipped = g * min(1.0, limit / np.sqrt(np.sum(g**2)))
        updates.append(clipped + limit * at(noise_multiplier, i) * normal(key, i, "", g.shape))
    return updates


def dpsgd(grads, params, learning_rate, l2_norm_clip, noise_multiplier, seed, momentum=None, nesterov=False):
    updates = differentially_private_aggregate(grads, params, l2_norm_clip, noise_multiplier, seed)
    if momentum is not None:
        updates = trace(updates, params, momentum, nesterov)
    return scale_by_learning_rate(updates, params, learning_rate)


OPTAX = {"optax": "its random numbers are others; without noise it is compared in test_layerwise.py"}
EXEMPT = {
    **OPTAX,
    **TOGETHER,
    **dict.fromkeys(
        (
            "non_finite_gradients_are_seen_and_stay_where_they_are",
            "nan_gradients_stay_where_they_are",
            "infinite_gradients_stay_where_they_are",
        ),
        "an example that cannot be bounded spoils the whole sum",
    ),
}

CASES = [
    Case(
        "differentially_private_aggregate",
        differentially_private_aggregate,
        {"l2_norm_clip": 0.5, "noise_multiplier": 0.0, "key": 0},
        {"l2_norm_clip": 0.3, "noise_multiplier": 0.3, "key": With(1, {"noise_multiplier": 0.3})},
        per_example=True,
        fields=frozenset({"count"}),
        part_of="dpsgd",
        exempt=OPTAX,
    ),
    Case(
        "dpsgd",
        dpsgd,
        {"learning_rate": 0.1, "l2_norm_clip": 0.5, "noise_multiplier": 0.0, "seed": 0},
        {
            "learning_rate": 0.3,
            "l2_norm_clip": 0.3,
            "noise_multiplier": 0.3,
            "seed": With(1, {"noise_multiplier": 0.3}),
            "momentum": 0.5,
            "nesterov": With(True, {"momentum": 0.5}),
        },
        per_example=True,
        fields=frozenset({"count", "trace"}),
        exempt=EXEMPT,
    ),
]
