"""What ``check_optimizer`` finds in optax 0.2.8: the known faults of single transformations, property by property."""

import re

import jax
import numpy as np
import optax
import optax.contrib
import pytest

from jaxopt_lessons.testing import check_optimizer

FLOAT16 = "zero_gradients_move_nothing"
HUGE = "huge_gradients_are_forgotten"
SHARED = "state_owns_its_arrays"
CONTRIB = optax.contrib


def kernels(params):
    return jax.tree_util.tree_map_with_path(lambda path, leaf: "kernel" in jax.tree_util.keystr(path), params)


FAULTS = [
    # NaN from zero gradients in float16, where eps is 0; prodigy in float32 too.
    ("adam", lambda: optax.adam(0.1), FLOAT16, r"\(float16\) at the zero gradient 1 .* nan"),
    ("adamw", lambda: optax.adamw(0.1), FLOAT16, r"\(float16\) .* nan"),
    ("amsgrad", lambda: optax.amsgrad(0.1), FLOAT16, r"\(float16\) .* nan"),
    ("nadam", lambda: optax.nadam(0.1), FLOAT16, r"\(float16\) .* nan"),
    ("rmsprop", lambda: optax.rmsprop(0.1), FLOAT16, r"\(float16\) .* nan"),
    ("adan", lambda: optax.adan(0.1), FLOAT16, r"\(float16\) .* nan"),
    ("novograd", lambda: optax.novograd(0.1), FLOAT16, r"\(float16\) .* nan"),
    ("cocob", lambda: CONTRIB.cocob(), FLOAT16, r"\(float16\) .* nan"),
    ("prodigy", lambda: CONTRIB.prodigy(), FLOAT16, " nan"),
    # A gradient of 1e20 stops its weight for ever.
    ("adam", lambda: optax.adam(0.1), HUGE, "at '0/nu/dense/bias'.* is inf"),
    # The state has the arrays of the parameters.
    ("prodigy", lambda: CONTRIB.prodigy(), SHARED, "is the same array as the parameter"),
    ("dog", lambda: CONTRIB.dog(), SHARED, "is the same array as the parameter"),
    ("cocob", lambda: CONTRIB.cocob(), SHARED, "is the same array as the parameter"),
    ("madgrad", lambda: CONTRIB.madgrad(0.1), SHARED, "is the same array as the parameter"),
    ("mechanize", lambda: CONTRIB.mechanize(optax.sgd(0.1)), SHARED, "is the same array as the parameter"),
    # Norms: of zeros, with something infinite, NaN or large.
    ("clip to 0", lambda: optax.clip_by_global_norm(0.0), FLOAT16, " nan"),
    (
        "clip_by_global_norm",
        lambda: optax.clip_by_global_norm(1.0),
        "infinite_gradients_stay_where_they_are",
        "is -?0.0",
    ),
    ("clip", lambda: optax.clip_by_global_norm(1.0), "nan_gradients_stay_where_they_are", "is nan"),
    (
        "clip_by_global_norm",
        lambda: optax.clip_by_global_norm(1.0),
        "huge_gradients_do_not_overflow",
        "1e.20 in float32",
    ),
    ("normalize", lambda: CONTRIB.normalize(), FLOAT16, " nan"),
    # Hyperparameters in the dtype of the parameters.
    (
        "inject_hyperparams",
        lambda: optax.inject_hyperparams(optax.adamw)(1e-3),
        "half_precision_is_calculated_in_float32",
        r"\(float16\)",
    ),
    # What is broadcast, cut off or passed on.
    ("sgd", lambda: optax.sgd(0.1, 0.9), "gradient_shapes_are_checked", "is a scalar: expected an error"),
    ("sgd", lambda: optax.sgd(0.1), "integer_params_with_gradients_are_refused", "expected an error"),
    ("masked", lambda: optax.masked(optax.sgd(0.1), kernels), "leaves_move_the_same_way", "along it"),
    ("adam", lambda: optax.adam(0.1), "errors_name_the_leaf", "expected an error that names 'dense/bias'"),
    # Leaves of unusual shapes, and none at all.
    ("lbfgs", lambda: optax.lbfgs(), "empty_trees", "IndexError"),
    ("sm3", lambda: optax.sm3(0.1), "leaves_of_any_shape", r"float32\[\]: raised IndexError"),
    ("muon", lambda: CONTRIB.muon(0.1), "leaves_of_any_shape", r"float32\[0,3\]: raised ZeroDivisionError"),
    # Dtypes and weak types.
    ("adam", lambda: optax.adam(0.1), "python_numbers_do_not_retrace", "a weak type"),
    ("adam", lambda: optax.adam(np.float64(0.1)), "updates_have_the_dtypes_of_params", r"float32\[3\], .*float16\[3\]"),
    ("adam", lambda: optax.adam(0.1), "complex_parameters_are_pairs_of_real_ones", "that of a pair of real parameters"),
    # NaN that was to be left out.
    (
        "apply_if_finite",
        lambda: optax.apply_if_finite(optax.adam(0.1), 3),
        "nan_steps_that_are_left_out_stay_out",
        "is nan",
    ),
]


@pytest.fixture(autouse=True)
def _as_users_have_it():
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.parametrize(("name", "make", "prop", "message"), FAULTS, ids=[f"{name}-{p}" for name, _, p, _ in FAULTS])
def test_fault_is_found(name, make, prop, message):
    (row,) = check_optimizer(make(), only=[prop]).rows
    assert row.outcome == "failed", row
    assert re.search(message, row.message), row.message


def test_most_properties_of_optax_hold():
    """The control: what is found is not found everywhere."""
    failed = {row.name for row in check_optimizer(optax.sgd(0.1)).failures}
    assert failed <= {
        "updates_have_the_dtypes_of_params",
        "missing_params_are_named",
        "half_precision_is_calculated_in_float32",
        "integer_params_with_gradients_are_refused",
        "gradient_shapes_are_checked",
        "gradient_structures_are_checked",
        "gradient_dtypes_are_checked",
        "errors_name_the_leaf",
    }
