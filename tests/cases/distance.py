"""Learning rates made of the distance from the start: DoG, DoWG, layer-wise DoG, COCOB, Prodigy, D-Adaptation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

from cases.case import TOGETHER, Case, With, at
from cases.scale import scale_by_learning_rate
from cases.weight_decay import add_decayed_weights


def scale_by_dog(grads, params, init_step=("heuristic", 1e-6), eps=1e-8):
    (kind, first), total, updates = init_step, 0.0, []
    r = {"heuristic": first * (1 + np.linalg.norm(params[0])), "distance": first, "learning_rate": 0.0}[kind]
    for i, (g, p) in enumerate(zip(grads, params, strict=True)):
        r = max(r, np.linalg.norm(p - params[0]))
        total += np.sum(g**2)
        rate = first if kind == "learning_rate" and i == 0 else r / np.sqrt(total + at(eps, i))
        updates.append(rate * g)
    return updates


def dog(grads, params, learning_rate=1.0, init_step=("heuristic", 1e-6), eps=1e-8, weight_decay=None, mask=None):
    if weight_decay is not None:
        grads = add_decayed_weights(grads, params, weight_decay, mask)
    return scale_by_learning_rate(scale_by_dog(grads, params, init_step, eps), params, learning_rate)


def scale_by_dowg(grads, params, init_estim_sq_dist=None, eps=1e-4):
    d, total, updates = eps if init_estim_sq_dist is None else init_estim_sq_dist, 0.0, []
    for g, p in zip(grads, params, strict=True):
        d = max(d, np.sum((p - params[0]) ** 2))
        total += d * np.sum(g**2)
        updates.append(d / (np.sqrt(total) + eps) * g)
    return updates


def dowg(grads, params, learning_rate=1.0, init_estim_sq_dist=None, eps=1e-4, weight_decay=None, mask=None):
    if weight_decay is not None:
        grads = add_decayed_weights(grads, params, weight_decay, mask)
    return scale_by_learning_rate(scale_by_dowg(grads, params, init_estim_sq_dist, eps), params, learning_rate)


def scale_by_distance_over_gradients(grads, params, reps_rel=1e-6, eps=1e-8, param_dtype=None, global_scale=1.0):
    directions = scale_by_dog(grads, params, ("heuristic", reps_rel), eps)
    return [at(global_scale, i) * u for i, u in enumerate(directions)]


def scale_by_cocob(grads, params, alpha=100.0, eps=1e-8):
    largest, total, reward, s, updates = eps, 0.0, 0.0, 0.0, []
    for i, (g, p) in enumerate(zip(grads, params, strict=True)):
        largest = np.maximum(largest, np.abs(g))
        total = total + np.abs(g)
        reward = np.maximum(reward - g * (p - params[0]), 0)
        s = s - g
        bet = s / (largest * np.maximum(total + largest, at(alpha, i) * largest))
        updates.append(params[0] + bet * (largest + reward) - p)
    return updates


def cocob(grads, params, learning_rate=1.0, alpha=100.0, eps=1e-8, weight_decay=0.0, mask=None):
    decayed = add_decayed_weights(grads, params, weight_decay, mask)
    return scale_by_cocob([at(learning_rate, i) * g for i, g in enumerate(decayed)], params, alpha, eps)


def prodigy(
    grads,
    params,
    learning_rate=1.0,
    betas=(0.9, 0.999),
    beta3=None,
    eps=1e-8,
    estim_lr0=1e-6,
    estim_lr_coef=1.0,
    weight_decay=0.0,
    safeguard_warmup=False,
):
    (b1, b2), d0, d, updates = betas, estim_lr0, estim_lr0, []
    m, v, s, r = 0.0, 0.0, 0.0, 0.0
    for i, (g, p) in enumerate(zip(grads, params, strict=True)):
        t, b3 = i + 1, np.sqrt(b2) if beta3 is None else at(beta3, i)
        a = d * at(learning_rate, i) * np.sqrt(1 - b2**t) / (1 - b1**t)
        r = b3 * r + d / d0 * a * np.sum(g * (params[0] - p))
        m = b1 * m + (1 - b1) * d * g
        v = b2 * v + (1 - b2) * (d * g) ** 2
        s = b3 * s + d / d0 * (d if safeguard_warmup else a) * g
        d = max(d, at(estim_lr_coef, i) * r / np.sum(np.abs(s)))
        updates.append(-a * m / (np.sqrt(v) + d * at(eps, i)) - a * at(weight_decay, i) * p)
    return updates


def dadapt_adamw(grads, params, learning_rate=1.0, betas=(0.9, 0.999), eps=1e-8, estim_lr0=1e-6, weight_decay=0.0):
    (b1, b2), d, updates = betas, estim_lr0, []
    m, v, s, r, b3 = 0.0, 0.0, 0.0, 0.0, np.sqrt(b2)
    for i, (g, p) in enumerate(zip(grads, params, strict=True)):
        t, e = i + 1, at(eps, i)
        a = d * at(learning_rate, i) * np.sqrt(1 - b2**t) / (1 - b1**t)
        r = b3 * r + (1 - b3) * a * np.sum(g * (s / (np.sqrt(v) + e)))
        m = b1 * m + (1 - b1) * a * g
        v = b2 * v + (1 - b2) * g**2
        s = b3 * s + (1 - b3) * a * g
        d = max(d, r / ((1 - b3) * np.sum(np.abs(s))))
        updates.append(-m / (np.sqrt(v) + e) - a * at(weight_decay, i) * p)
    return updates


def optax_ldog(**arguments):
    """optax's, with the initial parameters in their own dtype; it relies on the promotion of ranks."""
    tx = optax.scale_by_distance_over_gradients(**{"param_dtype": jnp.result_type(float), **arguments})

    def update(updates, state, params):
        with jax.numpy_rank_promotion("allow"):
            return tx.update(updates, state, params)

    return optax.GradientTransformation(tx.init, update)


FAR = {"init_step": ("distance", 0.1)}
DECAY = {"weight_decay": 0.3, "mask": With(False, {"weight_decay": 0.3})}
DOG = {"init_step": ("learning_rate", 0.3), "eps": 1.0}

CASES = [
    Case(
        "scale_by_dog",
        scale_by_dog,
        FAR,
        DOG,
        needs_params=True,
        fields=frozenset({"is_init_step", "init_params", "max_dist", "sum_sq_norm_grads"}),
        exempt={"optax": "not public in optax; see dog"},
        part_of="dog",
    ),
    Case(
        "dog",
        dog,
        FAR,
        {"learning_rate": 0.3, **DOG, **DECAY},
        needs_params=True,
        fields=frozenset({"is_init_step", "init_params", "max_dist", "sum_sq_norm_grads", "count"}),
        optax=optax.contrib.dog,
        minimizes={"init_step": ("heuristic", 1e-2)},
        exempt=TOGETHER,
    ),
    Case(
        "scale_by_dowg",
        scale_by_dowg,
        {},
        {"init_estim_sq_dist": 1.0, "eps": 0.1},
        needs_params=True,
        fields=frozenset({"init_params", "weighted_sq_norm_grads", "estim_sq_dist"}),
        exempt={"optax": "not public in optax; see dowg"},
        part_of="dowg",
    ),
    Case(
        "dowg",
        dowg,
        {},
        {"learning_rate": 0.3, "init_estim_sq_dist": 1.0, "eps": 0.1, **DECAY},
        needs_params=True,
        fields=frozenset({"init_params", "weighted_sq_norm_grads", "estim_sq_dist", "count"}),
        optax=optax.contrib.dowg,
        minimizes={},
        exempt=TOGETHER,
    ),
    Case(
        "scale_by_distance_over_gradients",
        scale_by_distance_over_gradients,
        {"reps_rel": 1e-2},
        {"reps_rel": 0.3, "eps": 1.0, "global_scale": -1.0},
        dtypes=("param_dtype",),
        needs_params=True,
        fields=frozenset({"max_dist", "grad_sum_of_squares", "init_params"}),
        optax=optax_ldog,
        minimizes={"reps_rel": 1e-2, "global_scale": -1.0},
    ),
    Case(
        "scale_by_cocob",
        scale_by_cocob,
        {},
        {"alpha": 1.5, "eps": 1.0},
        scheduled={"alpha": 8.0},
        needs_params=True,
        fields=frozenset({"init_particles", "cumulative_gradients", "scale", "subgradients", "reward"}),
        optax=optax.contrib.scale_by_cocob,
        part_of="cocob",
    ),
    Case(
        "cocob",
        cocob,
        {},
        {"learning_rate": With(0.3, {"eps": 1.0}), "alpha": 1.5, "eps": 1.0, **DECAY},
        scheduled={"alpha": 8.0},
        needs_params=True,
        fields=frozenset({"init_particles", "cumulative_gradients", "scale", "subgradients", "reward", "count"}),
        optax=optax.contrib.cocob,
        minimizes={"alpha": 20.0},
    ),
    Case(
        "prodigy",
        prodigy,
        {"estim_lr0": 0.1, "beta3": 0.5},  # With a long memory of these random gradients the estimate never rises.
        {
            "learning_rate": 0.3,
            "betas": (0.8, 0.95),
            "beta3": None,
            "eps": 0.3,
            "estim_lr0": 1.0,
            "estim_lr_coef": 0.3,
            "weight_decay": 0.3,
            "safeguard_warmup": With(True, {"estim_lr_coef": 0.3, "learning_rate": 0.3}),
        },
        needs_params=True,
        fields=frozenset({"exp_avg", "exp_avg_sq", "grad_sum", "params0", "estim_lr", "numerator_weighted", "count"}),
        optax=optax.contrib.prodigy,
        minimizes={"estim_lr0": 1e-6},
    ),
    Case(
        "dadapt_adamw",
        dadapt_adamw,
        {"estim_lr0": 0.1},
        {"learning_rate": 0.3, "betas": (0.8, 0.95), "eps": 0.3, "estim_lr0": 1.0, "weight_decay": 0.3},
        needs_params=True,
        fields=frozenset({"exp_avg", "exp_avg_sq", "grad_sum", "estim_lr", "numerator_weighted", "count"}),
        optax=optax.contrib.dadapt_adamw,
        minimizes={"estim_lr0": 1e-6},
    ),
]
