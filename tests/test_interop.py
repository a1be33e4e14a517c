"""Our optimizers in the loops of other libraries, and theirs in ours."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.core import FrozenDict
from flax.training.train_state import TrainState as FlaxTrainState

import jaxopt_lessons as jl

X = jnp.asarray(np.random.default_rng(0).standard_normal((32, 3)), jnp.float32)
Y = X @ jnp.array([1.0, -2.0, 0.5]) + 0.3
OURS = jl.chain(jl.clip_by_global_norm(1.0), jl.adamw(jl.cosine_decay_schedule(0.1, 50)))
THEIRS = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(0.1, 50)))
STEPS = 30


@pytest.fixture(autouse=True)
def usual_promotion():
    """Other libraries do not run under strict promotion."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def loss_fn(params, batch):
    x, y = batch
    return (x @ params["w"] + params["b"] - y) ** 2


def mean_loss(params):
    return loss_fn(params, (X, Y)).mean()


def start():
    return {"w": jnp.zeros(3), "b": jnp.zeros(())}


def train(tx, params):
    state = tx.init(params)

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.grad(mean_loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(STEPS):
        params, state = step(params, state)
    return params


def test_the_same_loop_runs_with_either():
    ours, theirs = train(OURS, start()), train(THEIRS, start())
    np.testing.assert_allclose(ours["w"], theirs["w"], rtol=1e-4)
    assert mean_loss(ours) < 0.5 * mean_loss(start())


def test_ours_inside_optax_chain():
    mixed = optax.chain(optax.clip_by_global_norm(1.0), jl.adamw(jl.cosine_decay_schedule(0.1, 50)))
    np.testing.assert_allclose(train(mixed, start())["w"], train(THEIRS, start())["w"], rtol=1e-4)


def test_optax_inside_our_chain():
    mixed = jl.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(), jl.add_decayed_weights(1e-4))
    mixed = jl.chain(mixed, jl.scale_by_learning_rate(optax.cosine_decay_schedule(0.1, 50)))
    np.testing.assert_allclose(train(mixed, start())["w"], train(THEIRS, start())["w"], rtol=1e-4)


def test_optax_inside_fit():
    for tx in (THEIRS, jl.chain(jl.identity(), THEIRS)):
        step = jl.make_step(loss_fn, tx)
        out = jl.fit(step, jl.init_state(start(), step.tx), (X, Y), steps=STEPS)
        np.testing.assert_allclose(out.state.params["w"], train(THEIRS, start())["w"], rtol=1e-4)


def test_flax_train_state():
    model = nn.Dense(1)
    params = model.init(jax.random.key(0), X)
    states = [FlaxTrainState.create(apply_fn=model.apply, params=params, tx=tx) for tx in (OURS, THEIRS)]

    @jax.jit
    def step(state):
        grads = jax.grad(lambda p: ((state.apply_fn(p, X)[:, 0] - Y) ** 2).mean())(state.params)
        return state.apply_gradients(grads=grads)

    for _ in range(STEPS):
        states = [step(state) for state in states]
    ours, theirs = (state.params["params"]["kernel"] for state in states)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_two_flax_train_states_are_one_program():
    traces = []

    @jax.jit
    def step(state):
        traces.append(state)
        return state.apply_gradients(grads=state.params)

    for _ in range(2):  # with optax the second state, equal in all numbers, is another program
        step(FlaxTrainState.create(apply_fn=loss_fn, params=start(), tx=jl.adam(1e-3)))
    assert len(traces) == 1


def test_flax_nnx_optimizer():
    results = []
    for tx in (OURS, THEIRS):
        model = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

        @nnx.jit
        def step(model, optimizer):
            grads = nnx.grad(lambda m: ((m(X)[:, 0] - Y) ** 2).mean())(model)
            optimizer.update(model, grads)

        for _ in range(STEPS):
            step(model, optimizer)
        results.append(model.kernel[...])
    np.testing.assert_allclose(*results, rtol=1e-4)


def test_flax_linen_in_fit():
    model = nn.Dense(1)

    def loss_fn(params, batch):
        x, y = batch
        return (model.apply(params, x)[:, 0] - y) ** 2

    step = jl.make_step(loss_fn, jl.adam(0.1))
    state = jl.init_state(model.init(jax.random.key(0), X), step.tx)
    out = jl.fit(step, state, (X, Y), epochs=50, batch_size=8)
    assert out.history["loss"][-1] < 0.01 * out.history["loss"][0]


def test_flax_nnx_in_fit():
    graph, params = nnx.split(nnx.Linear(3, 1, rngs=nnx.Rngs(0)), nnx.Param)

    def loss_fn(params, batch):
        x, y = batch
        return (nnx.merge(graph, params)(x)[:, 0] - y) ** 2

    step = jl.make_step(loss_fn, jl.adam(0.1))
    out = jl.fit(step, jl.init_state(params, step.tx), (X, Y), epochs=50, batch_size=8)
    assert out.history["loss"][-1] < 0.01 * out.history["loss"][0]
    assert nnx.merge(graph, out.state.params)(X).shape == (32, 1)


def mlp():
    return eqx.nn.MLP(3, "scalar", width_size=8, depth=1, activation=jax.nn.tanh, key=jax.random.key(0))


@pytest.mark.parametrize("whole", [True, False], ids=["the whole model", "its arrays"])
def test_equinox_step(whole):
    """``init`` takes the model as it is, activation functions and all."""
    results = []
    for tx in (OURS, THEIRS):
        model = mlp()
        state = tx.init(model if whole and tx is OURS else eqx.filter(model, eqx.is_array))

        @eqx.filter_jit
        def step(model, state, tx=tx):
            grads = eqx.filter_grad(lambda m: ((jax.vmap(m)(X) - Y) ** 2).mean())(model)
            params = model if whole and tx is OURS else eqx.filter(model, eqx.is_array)
            updates, state = tx.update(grads, state, params)
            return eqx.apply_updates(model, updates), state

        for _ in range(STEPS):
            model, state = step(model, state)
        results.append(model.layers[0].weight)
    np.testing.assert_allclose(*results, rtol=1e-3, atol=1e-5)


def test_equinox_in_fit():
    params, static = eqx.partition(mlp(), eqx.is_inexact_array)

    def loss_fn(params, batch):
        x, y = batch
        return (jax.vmap(eqx.combine(params, static))(x) - y) ** 2

    step = jl.make_step(loss_fn, jl.adam(0.03))
    out = jl.fit(step, jl.init_state(params, step.tx), (X, Y), epochs=60, batch_size=8)
    assert out.history["loss"][-1] < 0.1 * out.history["loss"][0]
    with pytest.raises(TypeError, match=r"init_state: the leaf at 'activation' is .*equinox.partition"):
        jl.init_state(mlp(), step.tx)


def test_equinox_module_as_mask_is_not_taken_for_a_function():
    model = mlp()
    params = eqx.filter(model, eqx.is_inexact_array)
    mask = jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    tx = jl.adamw(0.1, weight_decay=0.5, mask=mask)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(zeros, tx.init(params), params)
    np.testing.assert_allclose(updates.layers[0].weight, -0.05 * params.layers[0].weight, rtol=1e-6)
    assert not jnp.any(updates.layers[0].bias)
    assert hash(tx) == hash(jl.adamw(0.1, weight_decay=0.5, mask=jax.tree.map(lambda leaf: leaf.ndim > 1, params)))


def test_frozen_dicts():
    params = FrozenDict(start())
    tx = jl.adam(0.1)
    updates, _ = tx.update(params, tx.init(params), params)
    assert isinstance(updates, FrozenDict)
    with pytest.raises(jl.InputError, match=r"At the top updates has a dict and params has a flax.FrozenDict"):
        tx.update(start(), tx.init(params), params)
