"""Random numbers on the leaves: their statistics, and what they depend on."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import bad_input

import jaxopt_lessons as jl
from jaxopt_lessons import tree

N = 200_000


def noise(tx, params, steps):
    """What each step adds to zero gradients."""
    state, updates = tx.init(params), []
    zeros = jax.tree.map(jnp.zeros_like, params)
    for _ in range(steps):
        u, state = tx.update(zeros, state, params)
        updates.append(u)
    return updates


def correlation(a, b):
    return float(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1])


@pytest.mark.parametrize("gamma", [0.0, 0.55, 2.0])
def test_mean_and_variance(gamma):
    """Mean 0 and variance eta / t^gamma at each step, to five standard errors."""
    for t, u in enumerate(noise(jl.add_noise(0.3, gamma), jnp.zeros(N), 4), start=1):
        variance = 0.3 / t**gamma
        assert abs(np.mean(u)) < 5 * np.sqrt(variance / N)
        assert abs(np.var(u) / variance - 1) < 5 * np.sqrt(2 / N)
        assert abs(np.mean(np.asarray(u, np.float64) ** 4) / variance**2 - 3) < 5 * np.sqrt(96 / N)  # a normal one


def test_steps_leaves_and_entries_are_independent():
    params = {"a": jnp.zeros(N), "b": jnp.zeros(N), "list": [jnp.zeros(N)]}
    first, second = noise(jl.add_noise(1.0, 0.0), params, 2)
    samples = [*jax.tree.leaves(first), *jax.tree.leaves(second), jnp.roll(first["a"], 1)]
    for i, x in enumerate(samples):
        for y in samples[:i]:
            assert abs(correlation(x, y)) < 5 / np.sqrt(N)


@bad_input(54)
def test_complex_noise_has_the_variance_in_each_part():
    (u,) = noise(jl.add_noise(0.3, 0.0), jnp.zeros(N, jnp.complex64), 1)
    assert u.dtype == jnp.complex64
    for part in (u.real, u.imag):
        assert abs(np.var(part) / 0.3 - 1) < 5 * np.sqrt(2 / N)
    assert abs(correlation(u.real, u.imag)) < 5 / np.sqrt(N)


def test_a_leaf_does_not_see_the_others():
    """Its noise depends on its path alone, not on the number or the order of leaves, nor on the insertion order."""
    tx = jl.add_noise(1.0, 0.5, key=3)
    x = jnp.zeros((3, 2))
    small = noise(tx, {"w": x, "b": x}, 3)
    large = noise(tx, {"a": jnp.zeros(7), "w": x, "none": None, "n": {"w": x}, "b": x}, 3)
    reordered = noise(tx, {"b": x, "w": x}, 3)
    for s, m, r in zip(small, large, reordered, strict=True):
        for name in ("w", "b"):
            np.testing.assert_array_equal(s[name], m[name])
            np.testing.assert_array_equal(s[name], r[name])
        assert not np.any(s["w"] == s["b"])
        assert not np.any(m["w"] == m["n"]["w"])


def test_the_noise_is_a_function_of_seed_and_count():
    """The same at a second run and in a resumed one; another one for another seed."""
    tx, params = jl.noisy_sgd(0.1, eta=1.0, key=5), jnp.zeros(8)
    whole = noise(tx, params, 4)
    np.testing.assert_array_equal(whole, noise(tx, params, 4))
    state = tx.init(params)
    _, state = tx.update(params, state)
    _, state = tx.update(params, state)
    resumed = pickle.loads(pickle.dumps(jax.tree.map(np.asarray, state)))
    np.testing.assert_array_equal(tx.update(params, resumed)[0], whole[2])
    assert not np.any(np.asarray(noise(tx.replace(key=6), params, 4)) == np.asarray(whole))


def test_every_dtype_sees_the_same_noise():
    (u,) = noise(jl.add_noise(1.0, 0.0), jnp.zeros(100), 1)
    (half,) = noise(jl.add_noise(1.0, 0.0), jnp.zeros(100, jnp.bfloat16), 1)
    np.testing.assert_array_equal(half, u.astype(jnp.bfloat16))
    with jax.enable_x64(True):
        (wide,) = noise(jl.add_noise(1.0, 0.0), jnp.zeros(100, jnp.float64), 1)
    np.testing.assert_allclose(wide, u, rtol=1e-7)


def test_a_key_is_a_leaf_and_a_seed_is_static():
    params = jnp.zeros(5)
    seeded, typed = jl.add_noise(1.0, 0.0, key=7), jl.add_noise(1.0, 0.0, key=jax.random.key(7))
    legacy = jl.add_noise(1.0, 0.0, key=jax.random.PRNGKey(7))
    for tx in (typed, legacy):
        np.testing.assert_array_equal(noise(seeded, params, 2), noise(tx, params, 2))
    assert len(jax.tree.leaves(typed)) == len(jax.tree.leaves(legacy)) == 3
    assert len(jax.tree.leaves(seeded)) == 2
    assert typed == jl.add_noise(1.0, 0.0, key=jax.random.key(7))
    assert typed != jl.add_noise(1.0, 0.0, key=jax.random.key(8))

    traces = []

    @jax.jit
    def update(tx, grads):
        traces.append(tx)
        return tx.update(grads, tx.init(grads))[0]

    results = [update(typed.replace(key=jax.random.key(i)), params) for i in range(3)]
    assert len(traces) == 1
    stacked = jax.vmap(lambda key: jl.add_noise(1.0, 0.0, key))(jax.random.split(jax.random.key(0), 4))
    many = jax.vmap(lambda tx: tx.update(params, tx.init(params))[0])(stacked)
    assert many.shape == (4, 5)
    assert len(np.unique(np.concatenate([np.ravel(many), np.ravel(results)]))) == 35


@pytest.mark.parametrize(
    "key", [1.0, True, "0", None, jnp.zeros(2), jax.random.split(jax.random.key(0), 3), jnp.arange(2)]
)
def test_what_is_no_key_is_refused(key):
    with pytest.raises(TypeError, match="add_noise: key must be a seed or one key of jax.random"):
        jl.add_noise(1.0, 0.0, key)


def test_keys_like():
    params = {"w": jnp.zeros(2), "n": jnp.arange(3), "f": jax.nn.relu, "none": None, "key": jax.random.key(0)}
    keys = tree.keys_like(0, params)
    assert {name for name, key in keys.items() if key is not None} == {"w"}
    assert keys["w"].dtype == jax.random.key(0).dtype
    assert tree.keys_like(0, {}) == {}
    # The paths are told apart even where their names look the same.
    twins = tree.keys_like(0, {"a/b": jnp.zeros(1), "a": {"b": jnp.zeros(1)}})
    assert len({jax.random.key_data(key).tobytes() for key in jax.tree.leaves(twins)}) == 2


def test_no_variance_is_no_noise_and_has_a_derivative():
    params = jnp.ones(3)
    final = lambda tx: jnp.sum(tx.update(params, tx.init(params))[0])
    tx = jl.add_noise(0.0, 0.5)
    for updates in (params, jnp.zeros(3)):
        np.testing.assert_array_equal(tx.update(updates, tx.init(params))[0], updates)
    assert np.all(np.isfinite(jax.tree.leaves(jax.grad(final)(tx))))
