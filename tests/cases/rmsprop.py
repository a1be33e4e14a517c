"""RMSprop."""

import numpy as np
import optax

import jaxopt_lessons as jl
from cases.case import Case, With, at
from cases.momentum import trace
from cases.scale import scale_by_learning_rate


def scale_by_rms(grads, params, decay=0.9, eps=1e-8, initial_scale=0.0, eps_in_sqrt=True, bias_correction=False):
    v, updates = initial_scale, []
    for i, g in enumerate(grads):
        b, e = at(decay, i), at(eps, i)
        v = b * v + (1 - b) * g**2
        w = v / (1 - b ** (i + 1)) if bias_correction else v
        updates.append(g / np.sqrt(w + e) if eps_in_sqrt else g / (np.sqrt(w) + e))
    return updates


def scale_by_stddev(grads, params, decay=0.9, eps=1e-8, initial_scale=0.0, eps_in_sqrt=True, bias_correction=False):
    m, v, updates = 0.0, initial_scale, []
    for i, g in enumerate(grads):
        b, e = at(decay, i), at(eps, i)
        m = b * m + (1 - b) * g
        v = b * v + (1 - b) * g**2
        c = 1 - b ** (i + 1) if bias_correction else 1.0
        variance = np.maximum(v / c - (m / c) ** 2, 0)
        updates.append(g / np.sqrt(variance + e) if eps_in_sqrt else g / (np.sqrt(variance) + e))
    return updates


def rmsprop(
    grads,
    params,
    learning_rate,
    decay=0.9,
    eps=1e-8,
    initial_scale=0.0,
    eps_in_sqrt=True,
    centered=False,
    momentum=None,
    nesterov=False,
    bias_correction=False,
):
    rule = scale_by_stddev if centered else scale_by_rms
    scaled = rule(grads, params, decay, eps, initial_scale, eps_in_sqrt, bias_correction)
    steps = scale_by_learning_rate(scaled, params, learning_rate)
    return steps if momentum is None else trace(steps, params, momentum, nesterov)


RMS = {"decay": 0.7, "eps": 1e-2, "initial_scale": 0.5, "eps_in_sqrt": False, "bias_correction": True}
# eps_in_sqrt makes a difference only where eps does.
RMS_OTHERS = {**RMS, "eps_in_sqrt": With(False, {"eps": 1e-2})}

CASES = [
    Case(
        "scale_by_rms",
        scale_by_rms,
        {},
        RMS_OTHERS,
        fields=frozenset({"count", "nu"}),
        optax=optax.scale_by_rms,
        part_of="rmsprop",
    ),
    Case(
        "scale_by_stddev",
        scale_by_stddev,
        {"eps": 0.1},  # At the first step the variance is almost 0: with a small eps rounding would be all there is.
        {**RMS_OTHERS, "eps": 0.3, "eps_in_sqrt": False},
        fields=frozenset({"count", "mu", "nu"}),
        optax=optax.scale_by_stddev,
    ),
    Case(
        "rmsprop",
        rmsprop,
        {"learning_rate": 0.1},
        {
            "learning_rate": 0.3,
            **RMS_OTHERS,
            "centered": With(True, {"eps": 0.1}),
            "momentum": 0.5,
            "nesterov": With(True, {"momentum": 0.5}),
        },
        fields=frozenset({"count", "mu", "nu", "trace"}),
        optax=optax.rmsprop,
        minimizes={"learning_rate": jl.exponential_decay(0.1, 100, 0.5)},
    ),
]
