"""Step sizes made of the loss: Polyak's, MoMo and MoMo-Adam."""

import jax
import numpy as np
import optax
import optax.contrib

from cases.case import TOGETHER, Case, With, at


def scale_by_polyak(grads, params, f_min=0.0, max_learning_rate=1.0, eps=0.0, variant="sps", *, value):
    updates = []
    for i, g in enumerate(grads):
        gap = max(value - f_min, 0.0) if variant == "sps+" else value - f_min
        updates.append(min(gap / (np.sum(g**2) + at(eps, i)), at(max_learning_rate, i)) * g)
    return updates


def polyak_sgd(grads, params, max_learning_rate=1.0, scaling=1.0, f_min=0.0, eps=0.0, variant="sps", *, value):
    steps = scale_by_polyak(grads, params, f_min, max_learning_rate, eps, variant, value=value)
    return [-at(scaling, i) * u for i, u in enumerate(steps)]


def momo(
    grads, params, learning_rate=1.0, beta=0.9, lower_bound=0.0, weight_decay=0.0, adapt_lower_bound=False, *, value
):
    lb, updates = lower_bound, []
    for i, (g, p) in enumerate(zip(grads, params, strict=True)):
        b, rate = at(beta, i), at(learning_rate, i)
        a = rate * at(weight_decay, i)
        if i == 0:
            f, m, c = value, g, np.sum(g * p)
        else:
            f, m, c = b * f + (1 - b) * value, b * m + (1 - b) * g, b * c + (1 - b) * np.sum(g * p)
        height = (1 + a) * (f - c) + np.sum(m * p)
        if adapt_lower_bound and height < (1 + a) * lb:
            lb = max(height / (2 * (1 + a)), lower_bound)
        step = min(rate, max(height - (1 + a) * lb, 0) / np.sum(m**2))
        if adapt_lower_bound:
            lb = max(f - c + np.sum(m * p) - step * np.sum(m**2) / 2, lower_bound)
        updates.append((p - step * m) / (1 + a) - p)
    return updates


def momo_adam(
    grads,
    params,
    learning_rate=1e-2,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    lower_bound=0.0,
    weight_decay=0.0,
    adapt_lower_bound=False,
    *,
    value,
):
    f, m, c, v, lb, updates = 0.0, 0.0, 0.0, 0.0, lower_bound, []
    for i, (g, p) in enumerate(zip(grads, params, strict=True)):
        t, c1, c2, rate = i + 1, at(b1, i), at(b2, i), at(learning_rate, i)
        a, w = rate * at(weight_decay, i), 1 - c1**t
        f, m, c = c1 * f + (1 - c1) * value, c1 * m + (1 - c1) * g, c1 * c + (1 - c1) * np.sum(g * p)
        v = c2 * v + (1 - c2) * g**2
        d = m / (np.sqrt(v / (1 - c2**t)) + at(eps, i))
        height = (1 + a) * (f - c) + np.sum(m * p)
        if adapt_lower_bound and height < (1 + a) * w * lb:
            lb = max(height / (2 * w * (1 + a)), lower_bound)
        step = min(rate / w, max(height - (1 + a) * w * lb, 0) / np.sum(m * d))
        if adapt_lower_bound:
            lb = max((f - c + np.sum(m * p) - step * np.sum(m * d) / 2) / w, lower_bound)
        updates.append((p - step * d) / (1 + a) - p)
    return updates


def optax_polyak_sgd(max_learning_rate=1.0, scaling=1.0, f_min=0.0, eps=0.0, variant="sps"):
    """optax's parts in the order of its documentation; its own order lets the scaling change the norm."""
    return optax.chain(optax.scale_by_polyak(f_min, max_learning_rate, eps, variant), optax.sgd(scaling))


def in_the_proximal_form(make):
    """optax's factory with the step divided by ``1 + learning_rate * weight_decay`` too, as in the paper."""

    def made(learning_rate, weight_decay=0.0, **arguments):
        tx, a = make(learning_rate, weight_decay=weight_decay, **arguments), learning_rate * weight_decay

        def update(updates, state, params, *, value):
            updates, state = tx.update(updates, state, params, value=value)
            return jax.tree.map(lambda u, p: u / (1 + a) - (a / (1 + a)) ** 2 * p, updates, params), state

        return optax.GradientTransformationExtraArgs(tx.init, update)

    return made


POLYAK = {"f_min": 1.0, "max_learning_rate": 0.05, "eps": 1.0, "variant": With("sps+", {"f_min": 2.0})}

CASES = [
    Case(
        "scale_by_polyak",
        scale_by_polyak,
        {},
        POLYAK,
        extras={"value": 1.5},
        scheduled={"max_learning_rate": 0.125},
        optax=optax.scale_by_polyak,
        part_of="polyak_sgd",
    ),
    Case(
        "polyak_sgd",
        polyak_sgd,
        {},
        {**POLYAK, "scaling": 0.3},
        extras={"value": 1.5},
        scheduled={"max_learning_rate": 0.125},
        fields=frozenset({"count"}),
        optax=optax_polyak_sgd,
        minimizes={},
        exempt=TOGETHER,
    ),
    Case(
        "momo",
        momo,
        {"learning_rate": 0.1},
        {
            "learning_rate": 0.3,
            "beta": 0.5,
            "lower_bound": -3.0,
            "weight_decay": 0.3,
            "adapt_lower_bound": With(True, {"lower_bound": -3.0, "learning_rate": 1.0}),
        },
        extras={"value": 1.5},
        forgets=500,
        needs_params=True,
        fields=frozenset({"exp_avg", "barf", "gamma", "lb", "count"}),
        optax=in_the_proximal_form(optax.contrib.momo),
        minimizes={},
        exempt=TOGETHER,
    ),
    Case(
        "momo_adam",
        momo_adam,
        {"learning_rate": 0.1},
        {
            "learning_rate": 0.3,
            "b1": 0.5,
            "b2": 0.9,
            "eps": 0.3,
            "lower_bound": -3.0,
            "weight_decay": 0.3,
            "adapt_lower_bound": With(True, {"lower_bound": -3.0, "learning_rate": 1.0}),
        },
        extras={"value": 1.5},
        forgets=500,
        needs_params=True,
        fields=frozenset({"exp_avg", "exp_avg_sq", "barf", "gamma", "lb", "count"}),
        optax=in_the_proximal_form(optax.contrib.momo_adam),
        minimizes={"learning_rate": 0.1},
        exempt=TOGETHER,
    ),
]
