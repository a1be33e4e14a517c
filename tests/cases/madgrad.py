"""MADGRAD."""

import jax.numpy as jnp
import numpy as np
import optax

from cases.case import Case, at
from cases.weight_decay import add_decayed_weights


def scale_by_madgrad(grads, params, learning_rate, momentum=0.9, eps=1e-6):
    s, sum_sq, updates = 0.0, 0.0, []
    for i, (g, p) in enumerate(zip(grads, params, strict=True)):
        k = (at(learning_rate, i) + at(eps, i)) * np.sqrt(i + 1)
        s = s + k * g
        sum_sq = sum_sq + k * g**2
        z = params[0] - s / (np.cbrt(sum_sq) + at(eps, i))
        updates.append((1 - at(momentum, i)) * (z - p))
    return updates


def madgrad(grads, params, learning_rate, momentum=0.9, weight_decay=0.0, eps=1e-6):
    decayed = add_decayed_weights(grads, params, weight_decay)
    return scale_by_madgrad(decayed, params, learning_rate, momentum, eps)


def in_float64(factory):
    """optax's MADGRAD, which takes ``sqrt(t)`` in float32 also of float64 trees, its learning rate undoing that."""

    def make(learning_rate, eps=1e-6, **arguments):
        def corrected(count):
            wide = jnp.result_type(float)
            undone = jnp.sqrt((count + 1).astype(wide)) / jnp.sqrt(count + 1).astype(wide)
            return (at(learning_rate, count) + eps) * undone - eps

        return factory(learning_rate=corrected, eps=eps, **arguments)

    return make


MADGRAD = {"learning_rate": 0.3, "momentum": 0.7, "eps": 1e-2}

CASES = [
    Case(
        "scale_by_madgrad",
        scale_by_madgrad,
        {"learning_rate": 0.1},
        MADGRAD,
        needs_params=True,
        fields=frozenset({"count", "grad_sum_sq", "s", "x0"}),
        optax=in_float64(optax.contrib.scale_by_madgrad),
        part_of="madgrad",
    ),
    Case(
        "madgrad",
        madgrad,
        {"learning_rate": 0.1},
        {**MADGRAD, "weight_decay": 0.3},
        needs_params=True,
        fields=frozenset({"count", "grad_sum_sq", "s", "x0"}),
        optax=in_float64(optax.contrib.madgrad),
        minimizes={"learning_rate": 0.1},
    ),
]
