"""Signs of gradients and of momenta."""

import numpy as np
import optax

import jaxopt_lessons as jl
from cases.case import Case
from cases.momentum import ema
from cases.scale import scale_by_learning_rate


def scale_by_sign(grads, params):
    return [np.sign(g) for g in grads]


def sign_sgd(grads, params, learning_rate):
    return scale_by_learning_rate(scale_by_sign(grads, params), params, learning_rate)


def signum(grads, params, learning_rate, beta=0.9, accumulator_dtype=None):
    return sign_sgd(ema(grads, params, beta, debias=False), params, learning_rate)


# Steps of constant length end near a minimum only if the length goes to zero.
SHRINKING = {"learning_rate": jl.linear_schedule(0.03, 0.0, 500)}

CASES = [
    Case("scale_by_sign", scale_by_sign, {}, {}, optax=optax.scale_by_sign, part_of="sign_sgd"),
    Case(
        "sign_sgd",
        sign_sgd,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3},
        fields=frozenset({"count"}),
        optax=optax.sign_sgd,
        minimizes=SHRINKING,
    ),
    Case(
        "signum",
        signum,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, "beta": 0.5},
        dtypes=("accumulator_dtype",),
        fields=frozenset({"count", "ema"}),
        optax=optax.signum,
        minimizes=SHRINKING,
    ),
]
