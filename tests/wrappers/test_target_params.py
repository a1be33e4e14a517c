"""Copies of parameters that follow them slowly."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bad_inputs import bad_input

import jaxopt_lessons as jl

NEW = {"w": jnp.array([10.0, -4.0]), "b": [jnp.array(2.0), None]}
OLD = {"w": jnp.array([0.0, 1.0]), "b": [jnp.array(3.0), None]}


@pytest.mark.parametrize("step_size", [0.0, 0.005, 0.5, 1.0])
def test_incremental_update_is_that_of_optax(step_size):
    ours, theirs = jl.incremental_update(NEW, OLD, step_size), optax.incremental_update(NEW, OLD, step_size)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, theirs)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 6])
def test_periodic_update_is_that_of_optax(steps):
    for count in (steps, jnp.int32(steps)):
        ours = jax.jit(jl.periodic_update)(NEW, OLD, count, 3)
        jax.tree.map(np.testing.assert_array_equal, ours, optax.periodic_update(NEW, OLD, count, 3))


@pytest.mark.parametrize(
    "update",
    [lambda new, old: jl.incremental_update(new, old, 0.5), lambda new, old: jl.periodic_update(new, old, 1, 2)],
)
def test_dtypes_are_those_of_the_copy_and_untrained_leaves_those_of_the_model(update):
    new = {"w": jnp.ones(2, jnp.bfloat16), "n": jnp.int32(7), "f": jax.nn.relu}
    old = {"w": jnp.zeros(2, jnp.float32), "n": jnp.int32(3), "f": jax.nn.relu}
    copy = update(new, old)
    assert copy["w"].dtype == jnp.float32
    assert int(copy["n"]) == 7
    assert copy["f"] is jax.nn.relu


def test_a_copy_of_half_precision_moves_by_what_it_can():
    copy = jnp.zeros(1, jnp.bfloat16)
    for _ in range(5):
        copy = jl.incremental_update(jnp.ones(1, jnp.bfloat16), copy, 0.1)
    assert copy.dtype == jnp.bfloat16
    assert float(copy[0]) == pytest.approx(1 - 0.9**5, rel=2e-2)


@bad_input(41)
def test_what_is_equal_stays_and_what_overflowed_is_forgotten():
    x = jnp.array([0.1, 3e38, jnp.inf])
    np.testing.assert_array_equal(jl.incremental_update(x[:2], x[:2], 0.3), x[:2])
    np.testing.assert_array_equal(jl.incremental_update(-x[1:2], x[1:2], 0.5), [0.0])
    np.testing.assert_array_equal(jl.incremental_update(x[:1], x[2:], 1.0), x[:1])


def test_trees_must_be_alike():
    for update in (lambda a, b: jl.incremental_update(a, b, 0.5), lambda a, b: jl.periodic_update(a, b, 0, 2)):
        with pytest.raises(jl.InputError, match="_update: .*'w'"):
            update(NEW, {"w": jnp.zeros(3), "b": [jnp.array(3.0), None]})
        with pytest.raises(jl.InputError, match="_update: .*differ in structure"):
            update(NEW, {"w": jnp.zeros(2)})
