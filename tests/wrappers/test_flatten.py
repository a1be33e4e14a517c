"""One vector for all leaves; names for the stages of a chain; functions as transformations."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lessons as jl

PARAMS = {
    "half": jnp.arange(6.0, dtype=jnp.bfloat16).reshape(2, 3),
    "single": [jnp.ones(()), None, jnp.zeros((0, 3))],
    "complex": jnp.array([1 + 2j, 3 - 4j], jnp.complex64),
    "n": jnp.arange(2),
}
GRADS = {**PARAMS, "n": None}


def test_flatten_equals_the_leaves_one_by_one():
    for tx in (jl.adam(0.1), jl.adamw(0.1, weight_decay=0.5), jl.clip_by_global_norm(1.0)):
        flat = jl.flatten(tx)
        state, alone = flat.init(PARAMS), tx.init(PARAMS)
        for _ in range(3):
            updates, state = jax.jit(flat.update)(GRADS, state, PARAMS)
            expected, alone = tx.update(GRADS, alone, PARAMS)
            assert jax.tree.structure(updates) == jax.tree.structure(expected)
            for u, e in zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True):
                assert u.dtype == e.dtype
                np.testing.assert_allclose(np.asarray(u, complex), np.asarray(e, complex), rtol=1e-5, atol=1e-6)


def test_the_state_is_one_vector():
    state = jl.flatten(jl.trace(0.9)).init(PARAMS)
    assert (state.trace.shape, state.trace.dtype) == ((6 + 1 + 0 + 4,), jnp.float32)


def test_weights_to_evaluate_come_back_as_a_tree():
    tx = jl.flatten(jl.swa_params(jl.sgd(0.5)))
    state, params = tx.init(PARAMS), PARAMS
    for _ in range(2):
        updates, state = tx.update(GRADS, state, params)
        params = jl.apply_updates(params, updates)
    evaluated = jl.eval_params(tx, state, params)
    assert jax.tree.map(jax.typeof, evaluated) == jax.tree.map(jax.typeof, params)
    assert not np.allclose(evaluated["complex"], params["complex"])


def test_named_chain():
    tx = jl.named_chain(("clip", jl.clip(1.0)), ("sgd", jl.sgd(0.1, momentum=0.9)))
    plain = jl.chain(jl.clip(1.0), jl.sgd(0.1, momentum=0.9))
    state, expected_state = tx.init(PARAMS), plain.init(PARAMS)
    assert list(state) == ["clip", "sgd"]
    updates, state = jax.jit(tx.update)(GRADS, state, PARAMS)
    expected, expected_state = plain.update(GRADS, expected_state, PARAMS)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(np.asarray(a, complex), np.asarray(b, complex)), updates, expected
    )
    assert [part.name for part in tx.parts(state)] == ["clip", "sgd"]
    assert jl.named_chain().update(jnp.ones(2), {})[0].shape == (2,)
    with pytest.raises(ValueError, match="named_chain: the names must differ; got \\['a', 'a'\\]"):
        jl.named_chain(("a", jl.clip(1.0)), ("a", jl.clip(1.0)))
    with pytest.raises(TypeError, match="named_chain: the arguments are pairs of a name and a transformation"):
        jl.named_chain(jl.clip(1.0))
    with pytest.raises(
        jl.InputError, match="named_chain: expected a dict of states with the names 'clip', 'sgd'; got one"
    ):
        tx.update(GRADS, {"clip": ()}, PARAMS)


def test_stateless():
    tx = jl.stateless(lambda updates, params: jax.tree.map(lambda g, p: g + 2 * p, updates, params))
    updates, _ = tx.update(jnp.ones(2), tx.init(jnp.ones(2)), jnp.ones(2))
    np.testing.assert_array_equal(updates, [3.0, 3.0])
    seen = []
    tx = jl.stateless_with_tree_map(lambda g, p: (seen.append(p is None), g)[1])
    tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
    assert seen == [True]
    losing = jl.stateless(lambda updates, params: {"a": updates["a"]})
    two = {"a": jnp.ones(2), "b": jnp.ones(2)}
    with pytest.raises(jl.InputError, match="stateless: updates and params differ in structure"):
        losing.update(two, losing.init(two), two)
    assert jl.init_empty_state(two) == jl.EmptyState()


def test_with_extra_args_support():
    tx = jl.with_extra_args_support(optax.scale(2.0))
    assert isinstance(tx, jl.GradientTransformation)
    np.testing.assert_array_equal(tx.update(jnp.ones(2), tx.init(jnp.ones(2)), value=1.0)[0], [2.0, 2.0])
    assert jl.with_extra_args_support(jl.sgd(0.1)) == jl.sgd(0.1)


def test_set_to_zero_hides_what_came_in():
    tx = jl.set_to_zero()
    for dtype in (jnp.float32, jnp.bfloat16):
        params = jnp.ones(3, dtype)
        updates, _ = tx.update(jnp.array([jnp.nan, jnp.inf, 1.0]), tx.init(params), params)
        assert updates.dtype == dtype
        np.testing.assert_array_equal(updates.astype(jnp.float32), np.zeros(3))
