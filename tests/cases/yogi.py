"""Yogi."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cases.case import Case, at
from cases.scale import scale_by_learning_rate


def scale_by_yogi(grads, params, b1=0.9, b2=0.999, eps=1e-3, eps_root=0.0, initial_accumulator_value=1e-6):
    m, v, updates = 0.0, initial_accumulator_value, []
    for i, g in enumerate(grads):
        t, c1, c2 = i + 1, at(b1, i), at(b2, i)
        m = c1 * m + (1 - c1) * g
        v = v - (1 - c2) * np.sign(v - g**2) * g**2
        updates.append(m / (1 - c1**t) / (np.sqrt(v / (1 - c2**t) + at(eps_root, i)) + at(eps, i)))
    return updates


def yogi(grads, params, learning_rate, b1=0.9, b2=0.999, eps=1e-3):
    return scale_by_learning_rate(scale_by_yogi(grads, params, b1, b2, eps), params, learning_rate)


def optax_from_zero(**arguments):
    """optax's, with a momentum that starts at 0 as in the paper."""
    theirs = optax.scale_by_yogi(**arguments)

    def init(params):
        state = theirs.init(params)
        return state._replace(mu=jax.tree.map(jnp.zeros_like, state.mu))

    return optax.GradientTransformation(init, theirs.update)


YOGI = {"b1": 0.8, "b2": 0.9, "eps": 0.1}
FIELDS = frozenset({"count", "mu", "nu"})

CASES = [
    Case(
        "scale_by_yogi",
        scale_by_yogi,
        {},
        {**YOGI, "eps_root": 1e-2, "initial_accumulator_value": 0.1},
        fields=FIELDS,
        optax=optax_from_zero,
    ),
    Case(
        "yogi",
        yogi,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, **YOGI},
        fields=FIELDS,
        optax=lambda learning_rate, **arguments: optax.chain(
            optax_from_zero(**arguments), optax.scale_by_learning_rate(learning_rate)
        ),
        minimizes={"learning_rate": 0.1},
    ),
]
