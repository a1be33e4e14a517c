"""The state of a run: nothing but arrays, made from whatever people have as parameters and seeds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_problems import assert_same, example_loss, network, plain, regression

import jaxopt_lessons as jl

ADAM = jl.adam(1e-2)


def test_a_fresh_state_is_at_the_beginning():
    params = network()
    state = jl.init_state(params, ADAM, key=3)
    for count in (state.step, state.cursor):
        assert count.dtype == jnp.int32
        assert count.shape == ()
        assert int(count) == 0
    assert_same(state.params, jax.tree.map(jnp.asarray, params))
    assert_same(state.opt_state, ADAM.init(params))
    assert_same(state.key, jax.random.key(3))
    assert state.model_state is None
    assert state.extras == ()
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize(
    "leaf", [np.float64(0.5), 0.5, np.full((2,), 0.5), np.full((2,), 0.5, np.float16), jnp.full((2,), 0.5), 0.5j]
)
def test_numbers_and_numpy_arrays_become_jax_arrays_of_their_own_dtype(leaf):
    (got,) = jl.init_state([leaf], ADAM).params
    assert isinstance(got, jax.Array)
    assert not got.weak_type
    assert got.dtype == jnp.asarray(leaf).dtype
    np.testing.assert_array_equal(got, leaf)


def test_none_is_structure():
    state = jl.init_state({"a": np.ones(2, np.float32), "b": None}, ADAM)
    assert state.params["b"] is None
    assert len(jax.tree.leaves(state.params)) == 1


@pytest.mark.parametrize("seed", [0, 7, np.int32(7), np.uint8(7), -1])
def test_a_seed_is_made_into_a_key(seed):
    assert_same(jl.init_state([0.0], ADAM, key=seed).key, jax.random.key(int(seed)))


def test_the_default_key_is_seed_0():
    assert_same(jl.init_state([0.0], ADAM).key, jax.random.key(0))


def test_a_key_stays_as_it_is_and_a_legacy_key_is_wrapped():
    key = jax.random.split(jax.random.key(5))[1]
    assert jl.init_state([0.0], ADAM, key=key).key is key
    assert_same(jl.init_state([0.0], ADAM, key=jax.random.key_data(key)).key, key)


@pytest.mark.parametrize(
    "key", [True, 1.0, "0", None, np.zeros(2, np.float32), np.bool_(True), jnp.zeros((2, 2), jnp.uint32)]
)
def test_what_is_neither_seed_nor_key_is_refused(key):
    with pytest.raises(
        TypeError, match=r"^init_state: key must be a whole number or a key made by jax.random.key; got "
    ):
        jl.init_state([0.0], ADAM, key=key)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"a": 0.0, "n": [1]},
            r"the parameter at 'n/0' is int32\[\], which has no gradient. .* in model_state",
        ),
        ({"n": np.arange(3)}, r"the parameter at 'n' is int32\[3\], which has no gradient"),
        ({"on": True}, r"the parameter at 'on' is bool\[\], which has no gradient"),
        ({"f": abs}, r"the leaf at 'f' is .* not an array. .* equinox.partition"),
        ({"s": "relu"}, r"the leaf at 's' is 'relu' of type str, not an array"),
        (jax.random.key(0), r"the parameter at '\(the only leaf\)' is key<fry>\[\], which has no gradient"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_path(params, message):
    with pytest.raises(TypeError, match="^init_state: " + message):
        jl.init_state(params, ADAM)


def test_model_state_may_hold_any_arrays_but_nothing_else():
    model_state = {"mean": np.zeros(2, np.float64), "count": 3, "on": True, "key": jax.random.key(1), "none": None}
    got = jl.init_state([0.0], ADAM, model_state=model_state).model_state
    assert {name: str(leaf.dtype) for name, leaf in got.items() if leaf is not None} == {
        "mean": "float32",
        "count": "int32",
        "on": "bool",
        "key": "key<fry>",
    }
    assert not got["count"].weak_type
    with pytest.raises(TypeError, match=r"^init_state: the leaf at 'act' is .* not an array"):
        jl.init_state([0.0], ADAM, model_state={"act": jnp.tanh})


def test_states_of_different_learning_rates_and_seeds_have_one_structure():
    structures = {
        jax.tree.structure(jl.init_state(network(), jl.adam(rate), key=seed)) for rate, seed in [(0.1, 0), (0.2, 1)]
    }
    assert len(structures) == 1
    assert structures != {jax.tree.structure(jl.init_state(network(), jl.sgd(0.1)))}


def test_a_python_float_and_an_array_are_one_compiled_program():
    @jax.jit
    def identity(state):
        traces.append(state)
        return state

    traces = []
    for leaf in (0.5, np.float32(0.5), jnp.float32(0.5), np.float64(0.5)):
        identity(jl.init_state({"a": leaf}, ADAM))
    assert len(traces) == 1


def test_vmap_over_keys_makes_a_stack_of_states():
    keys = jax.random.split(jax.random.key(0), 3)
    stack = jax.vmap(lambda key: jl.init_state(network(), ADAM, key=key))(keys)
    assert_same(stack.key, keys)
    assert stack.params["w1"].shape == (3, *network()["w1"].shape)
    assert stack.step.shape == (3,)


def test_a_fresh_state_can_be_donated():
    """No buffer is in it twice, or XLA would refuse to take it over."""
    params = jax.tree.map(jnp.array, network())
    state = jl.init_state(params, jl.adam(1e-2))
    step = jl.make_step(example_loss, jl.adam(1e-2))
    new, _ = jax.jit(lambda *arguments: step(*arguments), donate_argnums=0)(state, regression(4))
    assert int(new.step) == 1
    assert np.all(np.isfinite(plain(new.params["w1"])))


def test_arguments_the_wrong_way_round():
    step = jl.make_step(lambda p, batch: p["w"] ** 2, jl.sgd(0.1))
    with pytest.raises(TypeError, match=r"init_state: .*transformation"):
        jl.init_state(step, {"w": 1.0})


def test_a_pair_of_functions_is_an_optimizer():
    tx = jl.sgd(0.1, momentum=0.9)
    assert jax.tree.structure(jl.init_state({"w": 1.0}, (tx.init, tx.update))) == jax.tree.structure(
        jl.init_state({"w": 1.0}, tx)
    )
