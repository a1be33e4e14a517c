"""Sophia, with Hutchinson's estimate of a Hessian that is diagonal, where it is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxopt_lessons as jl
from cases.case import Case, With, at
from cases.weight_decay import DECAY, decayed_step

CURVATURE = 2.0


def bowl(params):
    """A loss with the Hessian ``CURVATURE * I``, of trees that may hold leaves that are not numbers."""
    leaves = [leaf for leaf in jax.tree.leaves(params) if jl.tree.is_trainable(leaf)]
    return sum(jnp.sum(jnp.real(x * jnp.conj(x))) for x in leaves) * (CURVATURE / 2)


def hutchinson_estimator_diag_hessian(grads, params, random_seed=0, *, obj_fn):
    return [np.full_like(g, CURVATURE) for g in grads]


def scale_by_sophia(
    grads,
    params,
    b1=0.965,
    b2=0.99,
    eps=1e-8,
    gamma=0.01,
    clip_threshold=1.0,
    update_interval=10,
    hessian_diagonal_fn=None,
    mu_dtype=None,
    *,
    obj_fn,
):
    curvature = CURVATURE if hessian_diagonal_fn is None else 1.0
    m, h, updates = 0.0, 0.0, []
    for i, g in enumerate(grads):
        m = at(b1, i) * m + (1 - at(b1, i)) * g
        u = m / (1 - at(b1, i) ** (i + 1)) / max(at(gamma, i) * h, at(eps, i))
        limit = np.inf if clip_threshold is None else at(clip_threshold, i)
        updates.append(np.minimum(np.maximum(u, -limit), limit))
        if i % update_interval == 0:
            h = at(b2, i) * h + (1 - at(b2, i)) * curvature
    return updates


def sophia(
    grads,
    params,
    learning_rate,
    b1=0.965,
    b2=0.99,
    eps=1e-8,
    weight_decay=1e-4,
    weight_decay_mask=None,
    gamma=0.01,
    clip_threshold=1.0,
    update_interval=10,
    hessian_diagonal_fn=None,
    mu_dtype=None,
    *,
    obj_fn,
    decay="lr",
):
    directions = scale_by_sophia(
        grads, params, b1, b2, eps, gamma, clip_threshold, update_interval, hessian_diagonal_fn, obj_fn=obj_fn
    )
    return decayed_step(directions, params, learning_rate, weight_decay, weight_decay_mask, decay)


def _ones(updates, state, params=None, **extra):
    return jax.tree.map(jnp.ones_like, updates), state


# Another estimate: the curvature is 1 everywhere.
UNIT = jl.GradientTransformation(jl.identity().init, _ones)
ARGUMENTS = {"gamma": 0.3, "b2": 0.5}  # With the defaults all entries are clipped at each of these few steps.
SOPHIA = {
    "b1": 0.8,
    "b2": 0.7,
    "eps": 3.0,
    "gamma": 0.5,
    "clip_threshold": 0.1,
    "update_interval": 3,
    "hessian_diagonal_fn": UNIT,
}

CASES = [
    Case(
        "hutchinson_estimator_diag_hessian",
        hutchinson_estimator_diag_hessian,
        {},
        {},
        silent=("random_seed",),
        extras={"obj_fn": bowl},
        needs_params=True,
        fields=frozenset({"count"}),
        optax=optax.contrib.hutchinson_estimator_diag_hessian,
        part_of="sophia",
    ),
    Case(
        "scale_by_sophia",
        scale_by_sophia,
        ARGUMENTS,
        SOPHIA,
        dtypes=("mu_dtype",),
        extras={"obj_fn": bowl},
        needs_params=True,
        fields=frozenset({"count", "mu", "nu", "hessian_fn_state"}),
        optax=None,
        part_of="sophia",
        exempt={"optax": "it is not public there"},
    ),
    Case(
        "sophia",
        sophia,
        {"learning_rate": 0.1, **ARGUMENTS},
        {
            "learning_rate": 0.3,
            **SOPHIA,
            "weight_decay": 0.3,
            "weight_decay_mask": With(False, {"weight_decay": 0.3}),
            "decay": DECAY["decay"],
        },
        dtypes=("mu_dtype",),
        extras={"obj_fn": bowl},
        needs_params=True,
        fields=frozenset({"count", "mu", "nu", "hessian_fn_state"}),
        beyond=frozenset({"decay"}),
        optax=optax.contrib.sophia,
    ),
]
