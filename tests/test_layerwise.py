"""Rules with the norm of a whole leaf, beyond what the table tests: zeros, huge entries, units of every rank."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bad_inputs import bad_input

import jaxopt_lessons as jl


def first(tx, grads, params=None):
    return tx.update(grads, tx.init(grads if params is None else params), params)[0]


# -- trust ratios -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zero", ["params", "grads"])
def test_the_trust_ratio_is_one_where_a_norm_is_zero(zero):
    params, grads = jnp.array([3.0, 4.0]), jnp.array([0.5, 0.25])
    if zero == "params":
        params = jnp.zeros(2)
    else:
        grads = jnp.zeros(2)
    np.testing.assert_array_equal(first(jl.scale_by_trust_ratio(trust_coefficient=0.1), grads, params), grads)


@pytest.mark.parametrize("size", [1e-35, 1e-25, 1e25, 2e38])
def test_the_trust_ratio_does_not_see_the_unit_of_the_gradient(size):
    """Also where the norm, or its square, has no place in float32."""
    direction, params = jnp.array([1.0, -1.0, 1.0, 1.0]), jnp.full(4, 3.0)
    np.testing.assert_allclose(first(jl.scale_by_trust_ratio(), size * direction, params), 3 * direction, rtol=1e-6)
    np.testing.assert_allclose(first(jl.normalize(), size * direction), direction / 2, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize(
    "tx",
    [jl.scale_by_trust_ratio(), jl.normalize(), jl.fromage(0.1)],
    ids=lambda tx: tx.name,
)
def test_a_bad_entry_counts_as_nothing_in_norms(tx, bad):
    params = jnp.array([1.0, 2.0, 0.0])
    actual = first(tx, jnp.array([3.0, 4.0, bad]), params)
    expected = first(tx, jnp.array([3.0, 4.0, 0.0]), params)
    np.testing.assert_allclose(actual[:2], expected[:2], rtol=1e-6)
    assert not np.isfinite(actual[2])


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_leaf_without_a_root_mean_square_is_clipped_entry_by_entry(bad):
    tx = jl.clip_by_block_rms(0.5)
    actual = first(tx, jnp.array([3.0, -0.25, bad]))
    np.testing.assert_array_equal(actual, [0.5, -0.25, np.nan])
    np.testing.assert_array_equal(first(tx, jnp.array([-3e38, 0.25, 1e20])), [-0.5, 0.25, 0.5])


@pytest.mark.parametrize("tx", [jl.scale_by_param_block_rms(0.25), jl.scale_by_param_block_norm(0.25)])
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_leaf_of_bad_weights_counts_as_one_of_zeros(tx, bad):
    np.testing.assert_array_equal(first(tx, jnp.array([1.0, -2.0]), jnp.array([bad, 3.0])), [0.25, -0.5])


def test_novograd_keeps_its_state_clean_of_bad_entries():
    tx = jl.scale_by_novograd()
    params = jnp.zeros(3)
    _, state = tx.update(jnp.array([3.0, 4.0, jnp.nan]), tx.init(params), params)
    assert float(state.nu) == pytest.approx(25.0)
    _, state = tx.update(jnp.array([3e38, 3e38, 3e38]), state, params)
    assert np.isfinite(state.nu)


def test_lars_leaves_out_what_the_masks_leave_out():
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    grads = jax.tree.map(lambda x: 0.5 * x, params)
    matrices = lambda path, leaf: leaf.ndim > 1
    tx = jl.lars(1.0, weight_decay=0.1, weight_decay_mask=matrices, trust_ratio_mask=matrices)
    updates = first(tx, grads, params)
    np.testing.assert_allclose(updates["bias"], -0.5 * np.ones(2), rtol=1e-6)
    np.testing.assert_allclose(updates["kernel"], -0.001 * np.ones((2, 2)), rtol=1e-6)


def test_fromage_keeps_the_length_of_weights_at_right_angles_to_their_gradients():
    params = jnp.array([1.0, 0.0])
    tx = jl.fromage(0.01)
    state = tx.init(params)
    for _ in range(300):
        updates, state = tx.update(jnp.array([-params[1], params[0]]), state, params)
        params = params + updates
    assert float(jnp.linalg.norm(params)) == pytest.approx(1.0, abs=1e-4)
    assert float(params[0]) == pytest.approx(np.cos(300 * np.arctan(0.01)), abs=1e-3)


# -- units ------------------------------------------------------------------------------------------------------------

SHAPES = [(), (1,), (5,), (1, 5), (5, 1), (4, 3), (4, 1, 3), (2, 4, 3), (2, 2, 4, 3), (2, 2, 2, 4, 3), (1, 1, 1, 7)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_units_are_those_of_optax(shape):
    rng = np.random.default_rng(0)
    grads, params = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for _ in range(2))
    with jax.numpy_dtype_promotion("standard"):
        expected = first(optax.adaptive_grad_clip(0.3), grads, params)
    np.testing.assert_allclose(first(jl.adaptive_grad_clip(0.3), grads, params), expected, rtol=1e-6)


def test_units_of_other_shapes_need_an_axis():
    params = jnp.ones((2,) * 6)
    with pytest.raises(jl.InputError, match=r"adaptive_grad_clip: a leaf has the shape \[2, 2, 2, 2, 2, 2\]: say with"):
        first(jl.adaptive_grad_clip(0.1), params, params)
    updates = first(jl.adaptive_grad_clip(0.1, axis=(0, -2)), params, params)
    np.testing.assert_allclose(updates, 0.1 * params, rtol=1e-6)


@bad_input(41, 43)
@pytest.mark.parametrize("size", [0.0, 1e20, 3e38])
def test_units_with_huge_gradients_and_no_limit(size):
    params = jnp.ones((3, 2))
    grads = params.at[0, 0].set(size)
    updates = first(jl.adaptive_grad_clip(0.1), grads, params)
    assert np.all(np.isfinite(updates))
    np.testing.assert_allclose(np.linalg.norm(updates, axis=0), 0.1 * np.sqrt(3), rtol=1e-5)
    np.testing.assert_array_equal(first(jl.adaptive_grad_clip(0.0), grads, params), np.zeros((3, 2)))


@pytest.mark.parametrize("output_axis", [0, -1])
def test_centralized_steps_sum_to_zero_for_each_output(output_axis):
    grads = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 4)), jnp.float32)
    updates = first(jl.centralize(output_axis=output_axis), grads)
    axes = (1, 2) if output_axis == 0 else (0, 1)
    np.testing.assert_allclose(np.sum(updates, axis=axes), 0, atol=1e-5)
    assert np.max(np.abs(np.sum(updates, axis=(0, 2)))) > 0.1
    with pytest.raises(ValueError, match="output_axis must be the first, 0, or the last, -1; got 1"):
        jl.centralize(output_axis=1)


def test_an_output_of_one_entry_is_its_own_mean():
    grads = jnp.array([[3.0], [-2.0]])
    np.testing.assert_array_equal(first(jl.centralize(), grads), [[0.0], [0.0]])
    np.testing.assert_array_equal(first(jl.centralize(output_axis=-1), grads), [[2.5], [-2.5]])


REFUSING = [
    jl.adaptive_grad_clip(0.1),
    jl.centralize(),
    jl.adafactor(0.1),
    jl.sm3(0.1),
    jl.adam_mini(0.1),
    jl.came(0.1),
]


@bad_input(54)
@pytest.mark.parametrize("tx", REFUSING, ids=lambda tx: tx.name)
def test_complex_leaves_are_refused_where_axes_have_a_meaning(tx):
    params = {"a": [jnp.ones((2, 2), jnp.complex64)]}
    with pytest.raises(
        jl.InputError, match=r"at 'a/0' the leaf is complex64\[2,2\]: the axes of a leaf have a meaning"
    ):
        tx.update(params, tx.init(params), params)


# -- examples ---------------------------------------------------------------------------------------------------------


def example_gradients():
    rng = np.random.default_rng(0)
    return {"w": jnp.asarray(rng.standard_normal((6, 3, 2)), jnp.float32), "b": jnp.arange(6.0)}


@pytest.mark.parametrize("limit", [0.0, 0.3, 2.5, np.inf])
def test_clipped_examples_are_those_of_optax(limit):
    grads = example_gradients()
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for ours, theirs in (
            (jl.per_example_global_norm_clip(grads, limit), optax.per_example_global_norm_clip(grads, limit)),
            (jl.per_example_layer_norm_clip(grads, limit), optax.per_example_layer_norm_clip(grads, limit)),
            (
                jl.per_example_layer_norm_clip(grads, limit, False),
                optax.per_example_layer_norm_clip(grads, limit, False),
            ),
        ):
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, theirs)


@pytest.mark.parametrize("uniform", [True, False])
@pytest.mark.parametrize("name", ["w", "b"])
def test_the_only_leaf_has_the_whole_limit(name, uniform):
    grads = example_gradients()[name]
    layerwise, together = (
        jl.per_example_layer_norm_clip(grads, 0.3, uniform),
        jl.per_example_global_norm_clip(grads, 0.3),
    )
    jax.tree.map(np.testing.assert_array_equal, layerwise, together)


def test_no_example_adds_more_than_the_limit():
    """Also a huge one, in half precision too; a bad one is not hidden."""
    grads = example_gradients()
    all_of_them, count = jax.jit(jl.per_example_global_norm_clip)(grads, 1.0)
    for i in range(6):
        others, _ = jl.per_example_global_norm_clip(jax.tree.map(lambda x, i=i: jnp.delete(x, i, axis=0), grads), 1.0)
        difference = jax.tree.map(lambda a, b: a - b, all_of_them, others)
        assert float(jl.global_norm(difference)) <= 1 + 1e-5
    assert 0 < int(count) <= 6
    huge = {"w": grads["w"].at[0, 0, 0].set(3e38), "b": grads["b"]}
    assert np.all(np.isfinite(jl.per_example_global_norm_clip(huge, 1.0)[0]["w"]))
    half, _ = jl.per_example_global_norm_clip(jnp.full((2, 400), 300, jnp.float16), 1.0)
    np.testing.assert_allclose(half, np.full(400, 0.1), rtol=1e-3)
    assert half.dtype == jnp.float16
    bad = {"w": grads["w"].at[0, 0, 0].set(jnp.nan), "b": grads["b"]}
    assert np.all(np.isnan(jl.per_example_global_norm_clip(bad, 1.0)[0]["b"]))


def test_examples_need_an_axis_in_common():
    for grads in ({"a": jnp.ones((2, 3)), "b": jnp.ones(3)}, {"a": jnp.ones((2, 3)), "b": jnp.ones(())}):
        for clip in (jl.per_example_global_norm_clip, jl.per_example_layer_norm_clip):
            with pytest.raises(jl.InputError, match=rf"{clip.__name__}: at 'b' .* need a first axis of the same"):
                clip(grads, 1.0)
    assert jl.per_example_global_norm_clip({}, 1.0) == ({}, 0)


@pytest.mark.parametrize("arguments", [{}, {"momentum": 0.8}, {"momentum": 0.8, "nesterov": True}], ids=str)
def test_private_gradient_descent_without_noise_is_that_of_optax(arguments):
    grads = example_gradients()
    params = jax.tree.map(lambda x: x[0], grads)
    updates = {}
    for package in (jl, optax.contrib):
        with jax.numpy_dtype_promotion("standard"), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # optax's dpsgd calls optax's own deprecated argument
            tx = package.dpsgd(0.1, 1.5, 0.0, 0, **arguments)
            state = tx.init(params)
            for _ in range(3):
                updates[package], state = tx.update(grads, state, params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), *updates.values())


def test_noise_on_the_sum_of_examples():
    """Of the deviation promised, divided by the number of examples; other numbers at each step and leaf."""
    tx = jl.differentially_private_aggregate(2.0, 1.5, key=3)
    grads = {"a": jnp.zeros((10, 20_000)), "b": jnp.zeros((10, 20_000))}
    state = tx.init(jax.tree.map(lambda x: x[0], grads))
    one, state = tx.update(grads, state)
    two, _ = tx.update(grads, state)
    for noise in (one["a"], one["b"], two["a"]):
        assert float(jnp.std(noise)) == pytest.approx(0.3, rel=0.02)
    for other in (one["b"], two["a"]):
        assert abs(float(jnp.mean(one["a"] * other))) < 0.003


def test_private_sums_have_the_dtype_of_the_parameters_or_else_of_the_examples():
    tx, grads = jl.differentially_private_aggregate(2.0, 0.0, key=3), jnp.ones((4, 3), jnp.bfloat16)
    for params, dtype in ((None, jnp.bfloat16), (jnp.ones(3, jnp.bfloat16), jnp.bfloat16), (jnp.ones(3), jnp.float32)):
        updates, _ = tx.update(grads, tx.init(jnp.ones(3)), params)
        assert (updates.shape, updates.dtype) == ((3,), dtype)


def test_private_examples_need_an_axis():
    tx = jl.dpsgd(0.1, 1.0, 1.0, 0)
    params = {"a": jnp.ones((2, 3)), "b": jnp.ones(())}
    with pytest.raises(
        jl.InputError, match="differentially_private_aggregate: at 'b' .* need a first axis of the same"
    ):
        tx.update(params, tx.init(params), params)
