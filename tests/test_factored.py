"""Factored and blockwise second moments: Adafactor, CAME, SM3 and Adam-mini beyond what the table tests."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import runs
from bad_inputs import bad_input
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxopt_lessons as jl

FACTORED = {
    "adafactor": jl.adafactor(0.1, min_dim_size_to_factor=1, momentum=0.9),
    "came": jl.came(0.01),
    "sm3": jl.sm3(0.1),
    "adam_mini": jl.adam_mini(0.1),
    "adam_mini of heads": jl.adam_mini(0.1, blocks=lambda path, leaf: ((0, 2),) if leaf.ndim and leaf.shape[0] else ()),
}
every_factored = pytest.mark.parametrize("tx", FACTORED.values(), ids=FACTORED)


def params_of(dtype=jnp.float32, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"matrix": (4, 6), "stack": (2, 4, 3), "vector": (4,), "scalar": (), "row": (2, 1), "empty": (0, 3)}
    return {name: jnp.asarray(rng.standard_normal(shape)).astype(dtype) for name, shape in shapes.items()}


def run(tx, grads, params):
    state, update = tx.init(params), jax.jit(tx.update)
    for g in grads:
        updates, state = update(g, state, params)
    return updates, state


assert_close = functools.partial(runs.assert_close, rtol=1e-5, atol=1e-7)


# -- what all of them must do with leaves of every rank ----------------------------------------------------------------


@every_factored
def test_state_is_a_loop_carry(tx):
    params = params_of()

    def body(state, _):
        updates, state = tx.update(params, state, params)
        return state, updates

    state, updates = jax.lax.scan(body, tx.init(params), None, length=3)
    last, expected = run(tx, [params] * 3, params)
    assert_close(state, expected)
    assert_close(jax.tree.map(lambda u: u[-1], updates), last)
    assert jax.tree.structure(jax.eval_shape(tx.init, params)) == jax.tree.structure(state)


@every_factored
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=str)
@pytest.mark.parametrize("spec", [P("data"), P(None, "data")], ids=str)
def test_sharded_parameters(tx, axis_type, spec):
    """Statistics along a sharded axis are sharded with it, and the numbers are those of one device."""
    mesh = jax.make_mesh((2,), ("data",), axis_types=(axis_type,))
    here = params_of()["matrix"]
    params = jax.device_put(here, NamedSharding(mesh, spec))
    with jax.set_mesh(mesh):
        state = tx.init(params)
        step = jax.jit(lambda s: tx.update(params, s, params))
        expected_types = jax.tree.map(jax.typeof, state)
        updates, state = step(state)
        assert jax.tree.map(jax.typeof, state) == expected_types
        updates, state = step(state)
    assert_close((updates, state), run(tx, [here] * 2, here))


@bad_input(52)
@every_factored
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16], ids=lambda d: d.__name__)
def test_half_precision_is_calculated_in_float32(tx, dtype):
    params = params_of(dtype)
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), params)
    updates, state = run(tx, [params] * 3, params)
    expected, wide_state = run(tx, [wide] * 3, wide)
    assert_close(state, wide_state)
    jax.tree.map(lambda u, e: np.testing.assert_array_equal(u, e.astype(dtype)), updates, expected)


@bad_input(43, 47)
@every_factored
@pytest.mark.parametrize("eps", ["default", "zero"])
def test_zero_gradients_give_zero_updates_and_finite_derivatives(tx, eps):
    if eps == "zero":
        tx = tx.replace(**{name: 0.0 for name in ("eps", "eps_confidence") if name in tx.arguments})
    params = params_of()
    zeros = jax.tree.map(jnp.zeros_like, params)
    with jax.debug_nans(True):
        updates, state = run(tx, [zeros] * 3, params)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(updates))
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
    assert all(np.all(leaf != 0) and np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(updates))

    def final(tx, grads):
        updates, _ = run(tx, [grads] * 2, params)
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(updates))

    derivatives = jax.grad(final, argnums=(0, 1), allow_int=True)(tx, zeros)
    inexact = [leaf for leaf in jax.tree.leaves(derivatives) if leaf.dtype != jax.dtypes.float0]
    assert all(np.all(np.isfinite(leaf)) for leaf in inexact)


@bad_input(41)
@every_factored
@pytest.mark.parametrize("huge", [1e20, 3e38])
def test_one_huge_gradient_leaves_a_finite_state(tx, huge):
    params = params_of()
    grads = params | {"matrix": params["matrix"].at[1, 2].set(huge), "stack": params["stack"].at[0, 1, 2].set(-huge)}
    updates, state = run(tx, [grads, params, params], params)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((updates, state)))


@every_factored
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_one_bad_gradient_spoils_its_own_entry_only(tx, bad):
    """Not its row and column, nor their statistics."""
    params = params_of()
    grads = params | {"matrix": params["matrix"].at[1, 2].set(bad)}
    updates, state = tx.update(grads, tx.init(params), params)
    matrix = np.array(updates["matrix"])
    assert not np.isfinite(matrix[1, 2])
    matrix[1, 2] = 0
    assert np.all(np.isfinite(matrix))
    assert np.sum(matrix != 0) == matrix.size - 1
    bad_entries = sum(np.sum(~np.isfinite(leaf)) for leaf in jax.tree.leaves(state))
    assert bad_entries == 1, "only in the momentum"


@pytest.mark.parametrize("bad", [np.inf, np.nan, 1e20])
def test_a_leaf_without_squares_keeps_its_means_and_limits_its_step(bad):
    params = params_of()
    tx = jl.scale_by_factored_rms(min_dim_size_to_factor=1)
    _, before = run(tx, [params], params)
    grads = jax.tree.map(lambda p: 2 * p, params)
    grads["matrix"] = params["matrix"].at[1, 2].set(bad).at[0, 0].set(1e6)
    updates, after = tx.update(grads, before, params)
    for field in ("v_row", "v_col"):
        np.testing.assert_array_equal(getattr(after, field)["matrix"], getattr(before, field)["matrix"])
        assert np.any(getattr(after, field)["stack"] != getattr(before, field)["stack"]), "other leaves go on"
    assert updates["matrix"][0, 0] == 1
    np.testing.assert_array_equal(updates["matrix"][1, 2], 1 if np.isfinite(bad) else np.nan)


@every_factored
def test_vmap_is_the_loop(tx):
    stack = jnp.asarray(np.random.default_rng(0).standard_normal((3, 4, 6)), jnp.float32)
    two = lambda p: run(tx, [p, 2 * p], p)
    assert_close(jax.vmap(two)(stack), jax.tree.map(lambda *x: jnp.stack(x), *map(two, stack)))


@every_factored
def test_states_of_other_shapes_are_refused(tx):
    params = {"a": jnp.ones((2, 6))}
    for other in ({"a": jnp.ones((2, 4))}, {"a": jnp.ones(2)}, {"a": jnp.ones((2, 6, 2))}, {"b": jnp.ones((2, 6))}):
        with pytest.raises(jl.InputError, match="state"):
            tx.update(params, tx.init(other), params)


@every_factored
def test_states_have_names(tx):
    params = params_of()
    _, state = run(tx, [params], params)
    assert_close(jl.load_state_dict(tx, params, jl.state_dict(tx, state)), state, rtol=0)


# -- Adafactor --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smallest", [1, 3, 4, 5])
@pytest.mark.parametrize(("rate", "momentum"), [(0.1, None), (0.1, 0.8), (None, None)])
def test_adafactor_is_that_of_optax(smallest, rate, momentum):
    """Which axes are factored, of every rank; the state too, which goes from one to the other."""
    arguments = {"min_dim_size_to_factor": smallest, "momentum": momentum, "weight_decay_rate": 1e-3}
    ours, theirs = jl.adafactor(rate, **arguments), optax.adafactor(rate, **arguments)
    params = params_of()
    del params["empty"]  # its mean is NaN in optax
    grads = [params_of(seed=seed) for seed in range(1, 6)]
    grads = [{name: g[name] for name in params} for g in grads]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        expected, their_state = run(theirs, grads, params)
    updates, state = run(ours, grads, params)
    assert_close(updates, expected, rtol=1e-4)
    taken_over = jl.convert_state(ours, params, their_state)
    assert_close(taken_over, state, rtol=1e-4)


def test_adafactor_keeps_one_number_a_row_and_one_a_column():
    state = jl.scale_by_factored_rms().init({"a": jnp.ones((128, 256)), "b": jnp.ones((128, 100))})
    assert state.v_row["a"].shape == (128,)
    assert state.v_col["a"].shape == (256,)
    assert state.v["a"].shape == state.v_row["b"].shape == state.v_col["b"].shape == (1,)
    assert state.v["b"].shape == (128, 100)


def test_a_decay_offset_is_where_the_rates_begin():
    """A count that went on from a checkpoint gets the rates of a fresh one; before it, the newest square is all."""
    params = params_of()["vector"]
    fresh, offset = jl.scale_by_factored_rms(), jl.scale_by_factored_rms(step_offset=1000)
    late = offset.init(params)._replace(count=jnp.int32(1000))
    for tx, state in ((fresh, fresh.init(params)), (offset, late)):
        for i in range(3):
            updates, state = tx.update(params * (i + 1), state)
        if tx is fresh:
            expected = updates
    np.testing.assert_allclose(updates, expected, rtol=1e-6)
    early, _ = run(offset, [params, 5 * params], params)
    np.testing.assert_allclose(early, np.sign(params), rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [({"min_dim_size_to_factor": 0}, ValueError), ({"min_dim_size_to_factor": 1.5}, TypeError)],
    ids=str,
)
def test_bad_arguments(arguments, error):
    with pytest.raises(error, match="min_dim_size_to_factor must be"):
        jl.adafactor(0.1, **arguments)


# -- SM3 --------------------------------------------------------------------------------------------------------------


def test_sm3_is_that_of_optax():
    params = {name: leaf for name, leaf in params_of().items() if leaf.ndim and leaf.size}
    grads = [{name: params_of(seed=seed)[name] for name in params} for seed in range(1, 6)]
    arguments = {"b1": 0.8, "b2": 0.9, "eps": 1e-3}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        expected, their_state = run(optax.scale_by_sm3(**arguments), grads, params)
    updates, state = run(jl.scale_by_sm3(**arguments), grads, params)
    assert_close(updates, expected)
    assert_close(jl.convert_state(jl.scale_by_sm3(**arguments), params, their_state), state)


def test_sm3_of_scalars_and_vectors_is_adagrad():
    params = {name: params_of()[name] for name in ("vector", "scalar")}
    grads = [{name: params_of(seed=seed)[name] for name in params} for seed in range(1, 6)]
    actual, _ = run(jl.scale_by_sm3(b1=0.0, eps=1e-7), grads, params)
    expected, _ = run(jl.scale_by_rss(0.0, eps=1e-7), grads, params)
    assert_close(actual, expected)


def test_sm3_is_never_less_than_adagrad():
    params = params_of()
    tx = jl.scale_by_sm3(b1=0.0, eps=0.0)
    state, sums = tx.init(params), jax.tree.map(jnp.zeros_like, params)
    for seed in range(1, 8):
        grads = params_of(seed=seed)
        updates, state = tx.update(grads, state)
        sums = jax.tree.map(lambda s, g: s + g**2, sums, grads)
        bound = jax.tree.map(lambda g, s: np.abs(g) / np.sqrt(s) * (1 + 1e-5), grads, sums)
        jax.tree.map(lambda u, b: np.testing.assert_array_less(np.abs(u) - 1e-7, b), updates, bound)


# -- Adam-mini --------------------------------------------------------------------------------------------------------


def test_blocks_of_every_kind():
    leaf = jnp.ones((4, 6, 3))
    for blocks, shape in {
        (): (1, 1, 1),
        -1: (1, 1, 3),
        0: (4, 1, 1),
        (0, 2): (4, 1, 3),
        (0, 1, 2): (4, 6, 3),
        ((1, 2),): (1, 2, 1),
        (0, (-2, 3)): (4, 3, 1),
    }.items():
        tx = jl.scale_by_adam_mini(blocks=lambda path, leaf, blocks=blocks: blocks)
        assert tx.init(leaf).nu.shape == shape
        updates, _ = tx.update(leaf, tx.init(leaf))
        np.testing.assert_allclose(updates, leaf, rtol=1e-5)


def test_heads_share_one_second_moment():
    rng = np.random.default_rng(0)
    g = rng.standard_normal((5, 6)).astype(np.float32)  # three heads of two columns
    tx = jl.scale_by_adam_mini(b1=0.0, eps=0.0, blocks={"query": ((-1, 3),)})
    updates, state = tx.update({"query": jnp.asarray(g)}, tx.init({"query": jnp.asarray(g)}))
    heads = g.reshape(5, 3, 2)
    expected = heads / np.sqrt(np.mean(heads**2, axis=(0, 2), keepdims=True))
    np.testing.assert_allclose(updates["query"], expected.reshape(5, 6), rtol=1e-5)
    assert state.nu["query"].shape == (1, 3)


def test_blocks_by_path_and_default_blocks():
    params = {"embed": jnp.ones((7, 4)), "mlp": {"kernel": jnp.ones((4, 5)), "bias": jnp.ones(5)}}

    def blocks(path, leaf):
        return 0 if path == "embed" else () if "bias" in path else -1

    nu = jl.scale_by_adam_mini(blocks=blocks).init(params).nu
    assert jax.tree.map(jnp.shape, nu) == {"embed": (7, 1), "mlp": {"kernel": (1, 5), "bias": (1,)}}
    tree = {"embed": 0, "mlp": {"kernel": -1, "bias": ()}}
    assert jax.tree.map(jnp.shape, jl.scale_by_adam_mini(blocks=tree).init(params).nu) == jax.tree.map(jnp.shape, nu)
    default = jl.scale_by_adam_mini().init(params).nu
    assert jax.tree.map(jnp.shape, default) == {"embed": (1, 4), "mlp": {"kernel": (1, 5), "bias": (1,)}}


@pytest.mark.parametrize(
    ("blocks", "problem"),
    [
        (2, "there is no axis 2"),
        ((-3,), "there is no axis -3"),
        ("rows", "there is no axis 'rows'"),
        (((1, 4),), "axis 1 cannot be cut into 4 equal pieces"),
        (((1, 0),), "axis 1 cannot be cut into 0 equal pieces"),
    ],
    ids=str,
)
def test_wrong_blocks_are_named(blocks, problem):
    params = {"a": jnp.ones((4, 6))}
    with pytest.raises(jl.InputError, match=rf"at 'a' a leaf of shape \[4, 6\] has no blocks .*: {problem}"):
        jl.scale_by_adam_mini(blocks={"a": blocks}).init(params)
    with pytest.raises(jl.InputError, match="blocks and params differ in structure"):
        jl.scale_by_adam_mini(blocks={"b": 0}).init(params)


def test_a_state_of_other_blocks_is_refused():
    params = {"a": jnp.ones((4, 6))}
    state = jl.scale_by_adam_mini(blocks={"a": ()}).init(params)
    with pytest.raises(jl.InputError, match=r"at 'a' .* the state beside it float32\[1,1\], .* the shape \[1, 6\]"):
        jl.scale_by_adam_mini().update(params, state)
