"""Adafactor."""

import jax.numpy as jnp
import numpy as np
import optax

import jaxopt_lessons as jl
from cases.case import Case, With, at
from cases.layerwise import AXES, clip_by_block_rms, scale_by_param_block_rms
from cases.scale import scale_by_learning_rate
from cases.weight_decay import add_decayed_weights


def scale_by_factored_rms(
    grads,
    params,
    factored=True,
    decay_rate=0.8,
    step_offset=0,
    min_dim_size_to_factor=128,
    epsilon=1e-30,
    decay_rate_fn=None,
):
    row, col, v, updates = 0.0, 0.0, 0.0, []  # of matrices [3, 2]
    for i, g in enumerate(grads):
        step = max(i - step_offset, 0)
        rate = 1 - (step + 1.0) ** -at(decay_rate, i)
        if decay_rate_fn is not None:
            rate = float(decay_rate_fn(step, at(decay_rate, i)))
        s = g**2 + at(epsilon, i)
        if factored and min_dim_size_to_factor <= 2:
            row = rate * row + (1 - rate) * s.mean(0)
            col = rate * col + (1 - rate) * s.mean(1)
            updates.append(g / np.sqrt(np.outer(col, row) / row.mean()))
        else:
            v = rate * v + (1 - rate) * s
            updates.append(g / np.sqrt(v))
    return updates


def adafactor(
    grads,
    params,
    learning_rate=None,
    min_dim_size_to_factor=128,
    decay_rate=0.8,
    decay_offset=0,
    multiply_by_parameter_scale=True,
    clipping_threshold=1.0,
    momentum=None,
    dtype_momentum=None,
    weight_decay_rate=None,
    eps=1e-30,
    factored=True,
    weight_decay_mask=None,
):
    u = scale_by_factored_rms(grads, params, factored, decay_rate, decay_offset, min_dim_size_to_factor, eps)
    if clipping_threshold is not None:
        u = clip_by_block_rms(u, params, clipping_threshold)
    if learning_rate is not None:
        u = scale_by_learning_rate(u, params, learning_rate, flip_sign=False)
    if multiply_by_parameter_scale:
        u = scale_by_param_block_rms(u, params)
    if momentum is not None:
        m, averages = 0.0, []
        for i, x in enumerate(u):
            m = at(momentum, i) * m + (1 - at(momentum, i)) * x
            averages.append(m)
        u = averages
    if weight_decay_rate is not None:
        u = add_decayed_weights(u, params, weight_decay_rate, weight_decay_mask)
    return [-x for x in u]


def optax_factored_rms(decay_rate_fn=None, **arguments):
    """optax's, with rates that are not rounded to float32, and a count that does not go below the offset."""
    rate = decay_rate_fn or (lambda step, exponent: 1 - (step + 1.0) ** -exponent)
    return optax.scale_by_factored_rms(
        **arguments, decay_rate_fn=lambda step, exponent: rate(jnp.maximum(step, 0), exponent)
    )


def optax_adafactor(
    learning_rate=None,
    min_dim_size_to_factor=128,
    decay_rate=0.8,
    decay_offset=0,
    multiply_by_parameter_scale=True,
    clipping_threshold=1.0,
    momentum=None,
    dtype_momentum=None,
    weight_decay_rate=None,
    eps=1e-30,
    factored=True,
    weight_decay_mask=None,
):
    """What ``optax.adafactor`` chains, with rates in float64; itself it is compared in test_factored.py."""
    stages = [
        optax_factored_rms(
            factored=factored,
            decay_rate=decay_rate,
            step_offset=decay_offset,
            min_dim_size_to_factor=min_dim_size_to_factor,
            epsilon=eps,
        )
    ]
    if clipping_threshold is not None:
        stages.append(optax.clip_by_block_rms(clipping_threshold))
    if learning_rate is not None:
        stages.append(optax.scale_by_learning_rate(learning_rate, flip_sign=False))
    if multiply_by_parameter_scale:
        stages.append(optax.scale_by_param_block_rms())
    if momentum is not None:
        stages.append(optax.ema(momentum, debias=False))
    if weight_decay_rate is not None:
        stages.append(optax.add_decayed_weights(weight_decay_rate, mask=weight_decay_mask))
    return optax.chain(*stages, optax.scale(-1))


def half_of_power(step, exponent):
    return 0.5 - 0.5 * (step + 1.0) ** -exponent


OFFSET = With(2, {"min_dim_size_to_factor": 1})
FACTORED = With(False, {"min_dim_size_to_factor": 1})

CASES = [
    Case(
        "scale_by_factored_rms",
        scale_by_factored_rms,
        {},
        {
            "factored": FACTORED,
            "decay_rate": 0.5,
            "step_offset": OFFSET,
            "min_dim_size_to_factor": 1,
            "epsilon": With(0.1, {"min_dim_size_to_factor": 1}),
            "decay_rate_fn": half_of_power,
        },
        fields=frozenset({"count", "v_row", "v_col", "v"}),
        optax=optax_factored_rms,
        part_of="adafactor",
    ),
    Case(
        "adafactor",
        adafactor,
        {"learning_rate": 0.1},
        {
            "learning_rate": 0.3,
            "min_dim_size_to_factor": 1,
            "decay_rate": 0.5,
            "decay_offset": OFFSET,
            "multiply_by_parameter_scale": False,
            "clipping_threshold": 0.3,
            "momentum": 0.5,
            "weight_decay_rate": 0.3,
            "eps": 0.1,
            "factored": FACTORED,
            "weight_decay_mask": With(False, {"weight_decay_rate": 0.3}),
        },
        dtypes=("dtype_momentum",),
        needs_params=True,
        fields=frozenset({"count", "v_row", "v_col", "v", "ema"}),
        optax=optax_adafactor,
        minimizes={"learning_rate": jl.exponential_decay(0.1, 100, 0.5), "multiply_by_parameter_scale": False},
        exempt=AXES,
    ),
]
