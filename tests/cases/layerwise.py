"""Rules with the norm of a whole leaf: trust ratios, NovoGrad, normalized and clipped updates."""

import numpy as np
import optax

import jaxopt_lessons as jl
from cases.adam import scale_by_adam
from cases.case import TOGETHER, Case, With, at
from cases.momentum import trace
from cases.scale import scale_by_learning_rate
from cases.weight_decay import add_decayed_weights


def norm(x):
    return np.sqrt(np.sum(x**2))


def rms(x):
    return np.sqrt(np.mean(x**2))


def clip_by_block_rms(grads, params, threshold):
    return [g / max(1.0, rms(g) / at(threshold, i)) for i, g in enumerate(grads)]


def normalize(grads, params):
    return [g / norm(g) for g in grads]


def normalize_by_update_norm(grads, params, scale_factor=1.0, eps=1e-6):
    return [at(scale_factor, i) * g / (norm(g) + at(eps, i)) for i, g in enumerate(grads)]


def scale_by_param_block_norm(grads, params, min_scale=1e-3):
    return [g * max(norm(p), at(min_scale, i)) for i, (g, p) in enumerate(zip(grads, params, strict=True))]


def scale_by_param_block_rms(grads, params, min_scale=1e-3):
    return [g * max(rms(p), at(min_scale, i)) for i, (g, p) in enumerate(zip(grads, params, strict=True))]


def scale_by_trust_ratio(grads, params, min_norm=0.0, trust_coefficient=1.0, eps=0.0, *, mask=None):
    updates = []
    for i, (g, p) in enumerate(zip(grads, params, strict=True)):
        size, length = max(norm(p), at(min_norm, i)), max(norm(g), at(min_norm, i))
        ratio = at(trust_coefficient, i) * size / (length + at(eps, i)) if size and length else 1.0
        updates.append(g * ratio if mask is None or mask else g)
    return updates


def lars(
    grads,
    params,
    learning_rate,
    weight_decay=0.0,
    weight_decay_mask=True,
    trust_coefficient=0.001,
    eps=0.0,
    trust_ratio_mask=True,
    momentum=0.9,
    nesterov=False,
):
    updates = add_decayed_weights(grads, params, weight_decay, weight_decay_mask)
    updates = scale_by_trust_ratio(updates, params, 0.0, trust_coefficient, eps, mask=trust_ratio_mask)
    return trace(scale_by_learning_rate(updates, params, learning_rate), params, momentum, nesterov)


def lamb(grads, params, learning_rate, b1=0.9, b2=0.999, eps=1e-6, eps_root=0.0, weight_decay=0.0, mask=None):
    updates = add_decayed_weights(scale_by_adam(grads, params, b1, b2, eps, eps_root), params, weight_decay, mask)
    return scale_by_learning_rate(scale_by_trust_ratio(updates, params), params, learning_rate)


def fromage(grads, params, learning_rate, min_norm=1e-6):
    updates = []
    for i, (g, p) in enumerate(zip(grads, params, strict=True)):
        lr, least = at(learning_rate, i), at(min_norm, i)
        step = lr * max(norm(p), least) / max(norm(g), least) * g
        updates.append((p - step) / np.sqrt(1 + lr**2) - p)
    return updates


def scale_by_novograd(grads, params, b1=0.9, b2=0.25, eps=1e-8, eps_root=0.0, weight_decay=0.0, mu_dtype=None):
    m, v, updates = None, None, []
    for i, (g, p) in enumerate(zip(grads, params, strict=True)):
        v = norm(g) ** 2 if v is None else at(b2, i) * v + (1 - at(b2, i)) * norm(g) ** 2
        d = g / (np.sqrt(v + at(eps_root, i)) + at(eps, i)) + at(weight_decay, i) * p
        m = d if m is None else at(b1, i) * m + d
        updates.append(m)
    return updates


def novograd(grads, params, learning_rate, b1=0.9, b2=0.25, eps=1e-6, eps_root=0.0, weight_decay=0.0):
    directions = scale_by_novograd(grads, params, b1, b2, eps, eps_root, weight_decay)
    return scale_by_learning_rate(directions, params, learning_rate)


def adaptive_grad_clip(grads, params, clipping, eps=1e-3, axis=None):
    updates = []
    for i, (g, p) in enumerate(zip(grads, params, strict=True)):
        along = 0 if axis is None else axis  # the arrays of these tests are matrices
        norms, sizes = (np.sqrt(np.sum(x**2, axis=along, keepdims=True)) for x in (g, p))
        limits = at(clipping, i) * np.maximum(sizes, at(eps, i))
        updates.append(g * np.minimum(1.0, limits / norms))
    return updates


def centralize(grads, params, *, output_axis=0):
    return [g - np.mean(g, axis=1 + output_axis if output_axis == 0 else 0, keepdims=True) for g in grads]


AXES = {"complex_parameters_are_pairs_of_real_ones": "axes have a meaning, complex leaves are refused"}
NOVOGRAD = {"b1": 0.7, "b2": 0.6, "eps": 0.1, "eps_root": 0.1, "weight_decay": 0.3}

CASES = [
    Case(
        "clip_by_block_rms",
        clip_by_block_rms,
        {"threshold": 0.5},
        {"threshold": 0.25},
        optax=optax.clip_by_block_rms,
    ),
    Case("normalize", normalize, {}, {}, optax=optax.contrib.normalize, exempt=TOGETHER),
    Case(
        "normalize_by_update_norm",
        normalize_by_update_norm,
        {},
        {"scale_factor": -0.3, "eps": 0.5},
        optax=optax.normalize_by_update_norm,
        minimizes={"scale_factor": jl.exponential_decay(-0.3, 1, 0.99)},
        exempt=TOGETHER,
    ),
    Case(
        "scale_by_param_block_norm",
        scale_by_param_block_norm,
        {},
        {"min_scale": 10.0},
        needs_params=True,
        scheduled={"min_scale": 10.0},
        optax=optax.scale_by_param_block_norm,
    ),
    Case(
        "scale_by_param_block_rms",
        scale_by_param_block_rms,
        {},
        {"min_scale": 10.0},
        needs_params=True,
        scheduled={"min_scale": 10.0},
        optax=optax.scale_by_param_block_rms,
    ),
    Case(
        "scale_by_trust_ratio",
        scale_by_trust_ratio,
        {},
        {"min_norm": 3.0, "trust_coefficient": 0.3, "eps": 0.5, "mask": False},
        needs_params=True,
        scheduled={"min_norm": 3.0},
        optax=lambda mask=None, **arguments: optax.masked(
            optax.scale_by_trust_ratio(**arguments), mask is None or mask
        ),
    ),
    Case(
        "lars",
        lars,
        {"learning_rate": 0.3},
        {
            "learning_rate": 0.5,
            "weight_decay": With(0.3, {"trust_coefficient": 1.0}),
            "weight_decay_mask": With(False, {"weight_decay": 0.3, "trust_coefficient": 1.0}),
            "trust_coefficient": 0.01,
            "eps": With(0.5, {"trust_coefficient": 0.1}),
            "trust_ratio_mask": False,
            "momentum": 0.5,
            "nesterov": True,
        },
        needs_params=True,
        fields=frozenset({"count", "trace"}),
        optax=optax.lars,
        minimizes={"learning_rate": jl.exponential_decay(0.02, 100, 0.5), "trust_coefficient": 1.0},
    ),
    Case(
        "lamb",
        lamb,
        {"learning_rate": 0.1},
        {
            "learning_rate": 0.3,
            "b1": 0.8,
            "b2": 0.9,
            "eps": 1e-2,
            "eps_root": 1e-2,
            "weight_decay": 0.3,
            "mask": With(False, {"weight_decay": 0.3}),
        },
        needs_params=True,
        fields=frozenset({"count", "mu", "nu"}),
        optax=optax.lamb,
        minimizes={"learning_rate": jl.exponential_decay(0.1, 100, 0.5)},
    ),
    Case(
        "fromage",
        fromage,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, "min_norm": 3.0},
        needs_params=True,
        fields=frozenset({"count"}),
        scheduled={"min_norm": 3.0},
        optax=optax.fromage,
        minimizes={"learning_rate": jl.exponential_decay(0.1, 100, 0.5), "min_norm": 0.1},
        exempt={"zero_gradients_give_zero_updates": "the weights shrink whatever their gradients"},
    ),
    Case(
        "scale_by_novograd",
        scale_by_novograd,
        {},
        NOVOGRAD,
        dtypes=("mu_dtype",),
        needs_params=True,
        fields=frozenset({"count", "mu", "nu"}),
        optax=optax.scale_by_novograd,
        part_of="novograd",
    ),
    Case(
        "novograd",
        novograd,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, **NOVOGRAD},
        needs_params=True,
        fields=frozenset({"count", "mu", "nu"}),
        optax=optax.novograd,
        minimizes={"learning_rate": jl.exponential_decay(0.1, 100, 0.5)},
    ),
    Case(
        "adaptive_grad_clip",
        adaptive_grad_clip,
        {"clipping": 0.3},
        {"clipping": 0.1, "eps": 3.0, "axis": With(1, {})},
        needs_params=True,
        scheduled={"eps": 10.0},
        optax=optax.adaptive_grad_clip,
        exempt=AXES,
    ),
    Case(
        "centralize",
        centralize,
        {},
        {"output_axis": -1},
        optax=lambda output_axis=0: (
            optax.centralize()
            if output_axis == 0
            else optax.stateless(lambda updates, _: updates - updates.mean(0, keepdims=True))
        ),
        exempt={
            **AXES,
            "zero_gradients_give_zero_updates": "the equal gradients that follow the zeros are all mean",
        },
    ),
]
