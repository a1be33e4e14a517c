"""Noise on the gradients."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from cases.case import Case, at
from cases.scale import scale_by_learning_rate


def normal(seed, count, path, shape):
    """The random numbers of a step and a leaf: of the seed, the count and a hash of the path, one folded into another.

    They are what the documentation of ``tree.keys_like`` promises; their statistics are tested in ``test_noise``.
    """
    key = jax.random.fold_in(jax.random.key(seed), count)
    for word in np.frombuffer(hashlib.blake2b(path.encode(), digest_size=8).digest(), "<u4"):
        key = jax.random.fold_in(key, word)
    return np.asarray(jax.random.normal(key, shape, jnp.float32), np.float64)


def add_noise(grads, params, eta, gamma, key=0):
    return [
        g + np.sqrt(at(eta, i) / (i + 1) ** at(gamma, i)) * normal(key, i, "", g.shape) for i, g in enumerate(grads)
    ]


def noisy_sgd(grads, params, learning_rate, eta=0.01, gamma=0.55, key=0):
    return scale_by_learning_rate(add_noise(grads, params, eta, gamma, key), params, learning_rate)


EXEMPT = {
    "optax": "its random numbers are others, split from a key in its state",
    "zero_gradients_give_zero_updates": "noise is what it adds",
    "zero_gradients_move_nothing": "noise is what it adds",
    "order_of_leaves_does_not_matter": "the noise of a leaf depends on its path",
    "long_runs_go_on": "each step has noise of its own",
}

CASES = [
    Case(
        "add_noise",
        add_noise,
        {"eta": 0.1, "gamma": 0.5},
        {"eta": 0.3, "gamma": 1.0, "key": 1},
        fields=frozenset({"count"}),
        part_of="noisy_sgd",
        exempt=EXEMPT,
    ),
    Case(
        "noisy_sgd",
        noisy_sgd,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, "eta": 0.3, "gamma": 2.0, "key": 1},
        fields=frozenset({"count"}),
        minimizes={"learning_rate": 0.3},
        exempt=EXEMPT,
    ),
]
