"""What replaces NaN, keeps parameters in a set, and splits complex numbers."""

import numpy as np
import optax
import optax.contrib

import jaxopt_lessons as jl
from cases.adam import adam
from cases.case import Case
from cases.momentum import sgd

NUMPY = {"sgd": sgd, "adam": adam}
SGD, ADAM = jl.sgd(0.1), jl.adam(0.1)
OUTSIDE = {"zero_gradients_give_zero_updates": "a parameter outside the set moves into it"}


def zero_nans(grads, params):
    return [np.where(np.isnan(g), 0, g) for g in grads]


def keep_params_nonnegative(grads, params):
    return [np.maximum(g + p, 0) - p for g, p in zip(grads, params, strict=True)]


def keep_params_in(grads, params, projection):
    points = [g + p for g, p in zip(grads, params, strict=True)]
    if projection is jl.projections.projection_non_negative:
        points = [np.maximum(x, 0) for x in points]
    else:
        points = [x / max(1.0, np.sqrt(np.sum(x**2))) for x in points]
    return [x - p for x, p in zip(points, params, strict=True)]


def split_real_and_imaginary(grads, params, inner):
    return NUMPY[inner.name](grads, params, **inner.arguments)


CASES = [
    Case("zero_nans", zero_nans, fields=frozenset({"found_nan"}), optax=optax.zero_nans, hides=(np.nan,)),
    Case(
        "keep_params_nonnegative",
        keep_params_nonnegative,
        needs_params=True,
        optax=optax.keep_params_nonnegative,
        hides=(-np.inf,),
        exempt=OUTSIDE,
    ),
    Case(
        "keep_params_in",
        keep_params_in,
        {"projection": jl.projections.projection_non_negative},
        {"projection": jl.projections.projection_l2_ball},
        needs_params=True,
        hides=(-np.inf,),
        exempt={
            **OUTSIDE,
            "optax": "optax has the projections, but no transformation of them",
            "complex_parameters_are_pairs_of_real_ones": "this projection refuses them",
        },
    ),
    Case(
        "split_real_and_imaginary",
        split_real_and_imaginary,
        {"inner": SGD},
        {"inner": ADAM},
        fields=frozenset({"count", "mu", "nu", "inner_state"}),
        optax=lambda inner: optax.contrib.split_real_and_imaginary(getattr(optax, inner.name)(**inner.arguments)),
        minimizes={"inner": ADAM},
    ),
]
