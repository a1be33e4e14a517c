"""Optimistic gradients, alone and after Adam."""

import warnings

import optax

from cases.adam import ADAM, scale_by_adam
from cases.case import Case, at
from cases.scale import scale_by_learning_rate


def scale_by_optimistic_gradient(grads, params, alpha=1.0, beta=1.0):
    changes = [g - previous for g, previous in zip(grads, [grads[0], *grads], strict=False)]
    return [at(alpha, i) * g + at(beta, i) * d for i, (g, d) in enumerate(zip(grads, changes, strict=True))]


def optimistic_gradient_descent(grads, params, learning_rate, alpha=1.0, beta=1.0):
    directions = scale_by_optimistic_gradient(grads, params, alpha, beta)
    return scale_by_learning_rate(directions, params, learning_rate)


def optimistic_adam_v2(
    grads,
    params,
    learning_rate,
    *,
    alpha=1.0,
    beta=1.0,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    eps_root=0.0,
    mu_dtype=None,
    nesterov=True,
):
    directions = scale_by_adam(grads, params, b1, b2, eps, eps_root, nesterov=nesterov)
    return optimistic_gradient_descent(directions, params, learning_rate, alpha, beta)


def optimistic_adam(
    grads,
    params,
    learning_rate,
    optimism=None,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    eps_root=0.0,
    mu_dtype=None,
    *,
    nesterov=True,
):
    optimism = learning_rate if optimism is None else optimism
    adam = {"b1": b1, "b2": b2, "eps": eps, "eps_root": eps_root, "nesterov": nesterov}
    return optimistic_adam_v2(grads, params, 1.0, alpha=learning_rate, beta=optimism, **adam)


def optax_optimistic_adam(*arguments, **options):
    with warnings.catch_warnings():  # It tells everybody to use the version 2.
        warnings.simplefilter("ignore", DeprecationWarning)
        return optax.optimistic_adam(*arguments, **options)


OPTIMISTIC = {"alpha": 0.5, "beta": 0.3}

CASES = [
    Case(
        "scale_by_optimistic_gradient",
        scale_by_optimistic_gradient,
        {},
        OPTIMISTIC,
        fields=frozenset({"is_initial_step", "previous_gradient"}),
        optax=optax.scale_by_optimistic_gradient,
        part_of="optimistic_gradient_descent",
    ),
    Case(
        "optimistic_gradient_descent",
        optimistic_gradient_descent,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, **OPTIMISTIC},
        fields=frozenset({"is_initial_step", "previous_gradient", "count"}),
        optax=optax.optimistic_gradient_descent,
        minimizes={"learning_rate": 0.3},
    ),
    Case(
        "optimistic_adam",
        optimistic_adam,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, "optimism": 0.5, **ADAM, "nesterov": False},
        dtypes=("mu_dtype",),
        fields=frozenset({"count", "mu", "nu", "is_initial_step", "previous_gradient"}),
        optax=optax_optimistic_adam,
        minimizes={"learning_rate": 0.1},
    ),
    Case(
        "optimistic_adam_v2",
        optimistic_adam_v2,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, **OPTIMISTIC, **ADAM, "nesterov": False},
        dtypes=("mu_dtype",),
        fields=frozenset({"count", "mu", "nu", "is_initial_step", "previous_gradient"}),
        optax=optax.optimistic_adam_v2,
        minimizes={"learning_rate": 0.1},
    ),
]
