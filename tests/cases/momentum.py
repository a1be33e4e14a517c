"""Gradient descent, with both kinds of momentum."""

import optax

from cases.case import Case, With, at
from cases.scale import scale_by_learning_rate


def trace(grads, params, decay, nesterov=False, accumulator_dtype=None):
    m, updates = 0.0, []
    for i, g in enumerate(grads):
        m = at(decay, i) * m + g
        updates.append(at(decay, i) * m + g if nesterov else m)
    return updates


def ema(grads, params, decay, debias=True, accumulator_dtype=None):
    v, updates = 0.0, []
    for i, g in enumerate(grads):
        b = at(decay, i)
        v = b * v + (1 - b) * g
        updates.append(v / (1 - b ** (i + 1)) if debias else v)
    return updates


def sgd(grads, params, learning_rate, momentum=None, nesterov=False, accumulator_dtype=None):
    directions = grads if momentum is None else trace(grads, params, momentum, nesterov)
    return scale_by_learning_rate(directions, params, learning_rate)


def ema_momentum(grads, params, learning_rate, beta=0.9, debias=False):
    return scale_by_learning_rate(ema(grads, params, beta, debias), params, learning_rate)


CASES = [
    Case(
        "trace",
        trace,
        {"decay": 0.9},
        {"decay": 0.5, "nesterov": True},
        dtypes=("accumulator_dtype",),
        fields=frozenset({"trace"}),
        optax=optax.trace,
    ),
    Case(
        "ema",
        ema,
        {"decay": 0.9},
        {"decay": 0.5, "debias": False},
        dtypes=("accumulator_dtype",),
        fields=frozenset({"count", "ema"}),
        optax=optax.ema,
        part_of="ema_momentum",
    ),
    Case(
        "sgd",
        sgd,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, "momentum": 0.5, "nesterov": With(True, {"momentum": 0.5})},
        dtypes=("accumulator_dtype",),
        fields=frozenset({"count", "trace"}),
        optax=optax.sgd,
        minimizes={"learning_rate": 0.03, "momentum": 0.9},
    ),
    Case(
        "ema_momentum",
        ema_momentum,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, "beta": 0.5, "debias": True},
        fields=frozenset({"count", "ema"}),
        optax=lambda learning_rate, beta=0.9, debias=False: optax.chain(
            optax.ema(beta, debias), optax.scale_by_learning_rate(learning_rate)
        ),
        minimizes={"learning_rate": 0.3},
    ),
]
