"""Multiplication by numbers, and what does nothing."""

import optax

from cases.case import Case, at, half


def identity(grads, params):
    return list(grads)


def chain(grads, params):
    return list(grads)


def scale(grads, params, step_size):
    return [at(step_size, i) * g for i, g in enumerate(grads)]


def scale_by_learning_rate(grads, params, learning_rate, flip_sign=True):
    return [(-1 if flip_sign else 1) * u for u in scale(grads, params, learning_rate)]


def scale_by_schedule(grads, params, step_size_fn):
    return scale(grads, params, step_size_fn)


CASES = [
    Case("identity", identity, {}, {}, optax=optax.identity),
    Case("chain", chain, {}, {}, exempt={"optax": "optax.chain() without a part cannot be called"}),
    Case("scale", scale, {"step_size": -0.5}, {"step_size": 2.0}, optax=optax.scale),
    Case(
        "scale_by_learning_rate",
        scale_by_learning_rate,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, "flip_sign": False},
        fields=frozenset({"count"}),
        optax=optax.scale_by_learning_rate,
        part_of="sgd",
    ),
    Case(
        "scale_by_schedule",
        scale_by_schedule,
        {"step_size_fn": half},
        {"step_size_fn": lambda count: 0.3},
        fields=frozenset({"count"}),
        optax=optax.scale_by_schedule,
    ),
]
