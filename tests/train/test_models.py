"""Models of other libraries, and plain trees: the numbers of training are those of each one's own loop."""

import dataclasses
import subprocess
import sys

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from training_problems import assert_near, assert_same, distance, plain, regression

import jaxopt_lessons as jl
from jaxopt_lessons.train.step import LOSS_STREAM

DATA = regression(32)
BATCHES = [tuple(x[i : i + 8] for x in DATA) for i in range(0, 32, 8)]
VAL = regression(11, 5)
RATE, STEPS, HIDDEN = 0.03, 8, 6
MOMENTUM = jl.sgd(RATE, momentum=0.9)  # Adam would blow up the rounding of a bias before a batch normalization.


@pytest.fixture(autouse=True)
def other_libraries_promote():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def loss_key(number, seed=0):
    """The key that the loss gets at a step."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), LOSS_STREAM), number)


def errors(outputs, y):
    return (outputs[:, 0] - y) ** 2


def fit(step, params, model_state=None, **options):
    state = jl.init_state(params, step, model_state=model_state)
    return jl.fit(step, state, DATA, epochs=2, batch_size=8, shuffle=False, val=VAL, progress=False, **options)


def batch_of(number):
    return BATCHES[number % len(BATCHES)]


# ---------------------------------------------------------------------------------------------------------------------
# Flax Linen
# ---------------------------------------------------------------------------------------------------------------------


class LinenNetwork(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.8)(nn.Dense(HIDDEN)(x))
        return nn.Dense(1)(nn.Dropout(0.3, deterministic=not train)(nn.relu(x)))


def test_flax_linen_with_batch_statistics_and_dropout():
    model = LinenNetwork()
    variables = model.init(jax.random.key(0), DATA[0], train=False)

    def loss_fn(params, model_state, batch, key):
        x, y = batch
        variables = {"params": params, "batch_stats": model_state}
        if key is None:
            return errors(model.apply(variables, x, train=False), y), model_state
        outputs, new = model.apply(variables, x, train=True, rngs={"dropout": key}, mutable=["batch_stats"])
        return errors(outputs, y), new["batch_stats"]

    step = jl.make_step(loss_fn, MOMENTUM, stateful=True)
    out = fit(step, variables["params"], variables["batch_stats"])

    tx = optax.sgd(RATE, 0.9)
    params, stats = variables["params"], variables["batch_stats"]
    opt_state, losses, val_losses = tx.init(params), [], []

    @jax.jit
    def by_hand(params, stats, opt_state, batch, key):
        def mean(params):
            outputs, new = model.apply(
                {"params": params, "batch_stats": stats}, batch[0], True, rngs={"dropout": key}, mutable=["batch_stats"]
            )
            return jnp.mean(errors(outputs, batch[1])), new["batch_stats"]

        (loss, stats), grads = jax.value_and_grad(mean, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), stats, opt_state, loss

    for number in range(STEPS):
        params, stats, opt_state, loss = by_hand(params, stats, opt_state, batch_of(number), loss_key(number))
        losses.append(loss)
        if number % 4 == 3:
            outputs = model.apply({"params": params, "batch_stats": stats}, VAL[0], train=False)
            val_losses.append(jnp.mean(errors(outputs, VAL[1])))
    assert_near((out.state.params, out.state.model_state), (params, stats), 1e-5)
    np.testing.assert_allclose(out.history["loss"], losses, 1e-5)
    np.testing.assert_allclose(out.history["val_loss"], val_losses, 1e-5)
    assert distance(stats, variables["batch_stats"]) > 0.1


# ---------------------------------------------------------------------------------------------------------------------
# Flax NNX
# ---------------------------------------------------------------------------------------------------------------------


class NnxNetwork(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(3, HIDDEN, rngs=rngs)
        self.norm = nnx.BatchNorm(HIDDEN, momentum=0.8, rngs=rngs)
        self.dropout = nnx.Dropout(0.3, rngs=rngs)
        self.out = nnx.Linear(HIDDEN, 1, rngs=rngs)

    def __call__(self, x):
        return self.out(self.dropout(nnx.relu(self.norm(self.hidden(x)))))


def module_loss(model, batch):
    return errors(model(batch[0]), batch[1])


def arrays_of(model):
    return nnx.to_pure_dict(nnx.split(model)[1])


def test_flax_nnx_with_batch_statistics_and_dropout():
    params, model_state, loss_fn = jl.nnx_loss(NnxNetwork(nnx.Rngs(0)), module_loss)
    step = jl.make_step(loss_fn, MOMENTUM, stateful=True)
    out = fit(step, params, model_state)

    model = NnxNetwork(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.sgd(RATE, 0.9), wrt=nnx.Param)
    losses, val_losses = [], []

    @nnx.jit
    def by_hand(model, optimizer, batch):
        loss, grads = nnx.value_and_grad(lambda model: jnp.mean(module_loss(model, batch)))(model)
        optimizer.update(model, grads)
        return loss

    for number in range(STEPS):
        losses.append(by_hand(model, optimizer, batch_of(number)))
        if number % 4 == 3:
            model.eval()
            val_losses.append(jnp.mean(module_loss(model, VAL)))
            model.train()
    trained = loss_fn.merge(out.state.params, out.state.model_state)
    assert_near(arrays_of(trained), arrays_of(model), 1e-5)
    np.testing.assert_allclose(out.history["loss"], losses, 1e-5)
    np.testing.assert_allclose(out.history["val_loss"], val_losses, 1e-5)
    assert int(out.state.model_state["dropout"]["rngs"]["count"]) == STEPS


def test_the_module_that_was_given_is_left_alone():
    model = NnxNetwork(nnx.Rngs(0))
    before = jax.tree.map(lambda leaf: plain(leaf).copy(), arrays_of(model))
    params, model_state, loss_fn = jl.nnx_loss(model, module_loss)
    step = jl.make_step(loss_fn, jl.sgd(RATE), stateful=True)
    fit(step, params, model_state)
    step(jl.init_state(params, step, model_state=model_state), BATCHES[0])
    assert_same(jax.tree.map(plain, arrays_of(model)), before)
    assert model.norm.use_running_average is False


def test_the_mode_of_the_module_is_the_one_it_is_trained_in():
    """A frozen batch normalization stays frozen."""
    model = NnxNetwork(nnx.Rngs(0))
    model.norm.use_running_average = True
    params, model_state, loss_fn = jl.nnx_loss(model, module_loss)
    out = fit(jl.make_step(loss_fn, jl.sgd(RATE), stateful=True), params, model_state)
    assert_same(out.state.model_state["norm"], model_state["norm"])


def test_losses_of_modules_get_keys_and_return_metrics():
    seen = []

    def loss(model, batch, key):
        seen.append(key)
        return jl.Weighted(jnp.sum(module_loss(model, batch)), jnp.float32(8)), {"one": jnp.float32(1)}

    params, model_state, loss_fn = jl.nnx_loss(NnxNetwork(nnx.Rngs(0)), loss)
    step = jl.make_step(loss_fn, jl.sgd(RATE), stateful=True)
    _, metrics = step(jl.init_state(params, step, model_state=model_state), BATCHES[0])
    assert_same(seen, [loss_key(0)])
    assert float(metrics["one"]) == 1
    measured = jl.evaluate(loss_fn, params, VAL, model_state=model_state)
    assert seen[1:] == [None]
    assert set(measured) == {"loss", "one"}


@pytest.mark.parametrize("make", [jl.nnx_loss, jl.equinox_loss], ids=lambda make: make.__name__)
def test_modules_of_one_architecture_share_a_program(make):
    networks = {
        jl.nnx_loss: lambda seed: NnxNetwork(nnx.Rngs(seed)),
        jl.equinox_loss: lambda seed: eqx.nn.MLP(3, 1, HIDDEN, 1, key=jax.random.key(seed)),
    }

    def loss(model, batch):
        return (module_loss if make is jl.nnx_loss else vmapped_loss)(model, batch)

    compiles = []
    for seed in (0, 1):
        params, model_state, loss_fn = make(networks[make](seed), loss)
        compiles.append(fit(jl.make_step(loss_fn, jl.sgd(RATE), stateful=True), params, model_state).compiles)
    assert compiles[1] == 0 < compiles[0]
    assert jl.nnx_loss(nnx.Linear(3, 1, rngs=nnx.Rngs(0)), loss)[2] != loss_fn


def test_nnx_wants_a_module():
    with pytest.raises(TypeError, match=r"^nnx_loss: model must be a flax.nnx.Module; got \{\} of type dict"):
        jl.nnx_loss({}, module_loss)


def test_a_module_loss_that_returns_something_else_is_refused():
    params, model_state, loss_fn = jl.nnx_loss(NnxNetwork(nnx.Rngs(0)), lambda model, batch: (1.0, 2.0))
    step = jl.make_step(loss_fn, jl.sgd(RATE), stateful=True)
    with pytest.raises(jl.InputError, match=r"returns a loss, or \(loss, dict of metrics\); got a tuple of \(float, "):
        step(jl.init_state(params, step, model_state=model_state), BATCHES[0])


@pytest.mark.parametrize(("name", "package"), [("nnx_loss", "flax"), ("equinox_loss", "equinox")])
def test_packages_that_are_not_there_are_named(name, package):
    code = f"import sys; sys.modules[{package!r}] = None; import jaxopt_lessons as jl; jl.{name}(None, None)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"ImportError: {name} needs {package}: pip install {package}" in ran.stderr


# ---------------------------------------------------------------------------------------------------------------------
# Equinox
# ---------------------------------------------------------------------------------------------------------------------


class EquinoxNetwork(eqx.Module):
    hidden: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout
    out: eqx.nn.Linear
    order: jax.Array

    def __init__(self, key):
        self.hidden, self.out = (
            eqx.nn.Linear(n, m, key=k) for n, m, k in zip((3, HIDDEN), (HIDDEN, 1), jax.random.split(key), strict=True)
        )
        self.norm = eqx.nn.BatchNorm(HIDDEN, "batch", momentum=0.8, mode="batch")
        self.dropout = eqx.nn.Dropout(0.3)
        self.order = jnp.array([2, 0, 1])

    def __call__(self, x, state, key):
        x, state = self.norm(self.hidden(x[self.order]), state)
        return self.out(self.dropout(jax.nn.relu(x), key=key)), state


def batched(model, state, x, key):
    keys = None if key is None else jax.random.split(key, len(x))
    return jax.vmap(model, axis_name="batch", in_axes=(0, None, 0), out_axes=(0, None))(x, state, keys)


def equinox_network_loss(model, state, batch, key):
    outputs, state = batched(model, state, batch[0], key)
    return errors(outputs, batch[1]), state


def vmapped_loss(model, batch):
    return errors(jax.vmap(model)(batch[0]), batch[1])


def test_equinox_with_batch_statistics_and_dropout():
    model, start = eqx.nn.make_with_state(EquinoxNetwork)(jax.random.key(0))
    params, model_state, loss_fn = jl.equinox_loss(model, equinox_network_loss, start)
    step = jl.make_step(loss_fn, MOMENTUM, stateful=True)
    out = fit(step, params, model_state)

    model, state = eqx.nn.make_with_state(EquinoxNetwork)(jax.random.key(0))
    tx, losses, val_losses = optax.sgd(RATE, 0.9), [], []
    opt_state = tx.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def by_hand(model, state, opt_state, batch, key):
        @eqx.filter_value_and_grad(has_aux=True)
        def mean(model):
            values, new = equinox_network_loss(model, state, batch, key)
            return jnp.mean(values), new

        (loss, state), grads = mean(model)
        updates, opt_state = tx.update(grads, opt_state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state, opt_state, loss

    for number in range(STEPS):
        model, state, opt_state, loss = by_hand(model, state, opt_state, batch_of(number), loss_key(number))
        losses.append(loss)
        if number % 4 == 3:
            outputs, _ = batched(eqx.nn.inference_mode(model), jax.tree.map(jnp.copy, state), VAL[0], None)
            val_losses.append(jnp.mean(errors(outputs, VAL[1])))
    trained, last = loss_fn.merge(out.state.params, out.state.model_state)
    assert_near(*(eqx.filter(m, eqx.is_array) for m in (trained, model)), 1e-5)
    assert_near(jax.tree.leaves(last), jax.tree.leaves(state), 1e-5)
    np.testing.assert_allclose(out.history["loss"], losses, 1e-5)
    np.testing.assert_allclose(out.history["val_loss"], val_losses, 1e-5)
    assert trained.order.tolist() == [2, 0, 1]


class EquinoxCounter(eqx.Module):
    w: jax.Array
    calls: eqx.nn.StateIndex

    def __init__(self):
        self.w, self.calls = jnp.ones(1), eqx.nn.StateIndex(jnp.int32(0))


def test_an_equinox_state_that_is_changed_in_the_loss_itself():
    """Its containers cannot be read again then; and an optimizer may ask for the loss several times."""

    def loss(model, state, batch):
        return model.w * batch, state.set(model.calls, state.get(model.calls) + 1)

    model, start = eqx.nn.make_with_state(EquinoxCounter)()
    params, model_state, loss_fn = jl.equinox_loss(model, loss, start)
    tx = jl.sam(jl.sgd(0.5), jl.sgd(0.1), opaque_mode=True)
    step = jl.make_step(loss_fn, tx, stateful=True)
    state, _ = step(jl.init_state(params, step, model_state=model_state), np.ones(1, np.float32))
    model, last = loss_fn.merge(state.params, state.model_state)
    assert (float(model.w[0]), int(last.get(model.calls))) == (0.5, 1)


def test_equinox_without_a_state():
    model = eqx.nn.MLP(3, 1, HIDDEN, 1, activation=jnp.tanh, key=jax.random.key(0))
    params, model_state, loss_fn = jl.equinox_loss(model, vmapped_loss)
    out = fit(jl.make_step(loss_fn, jl.sgd(RATE), stateful=True), params, model_state)
    for number in range(STEPS):
        grads = eqx.filter_grad(lambda model, batch: jnp.mean(vmapped_loss(model, batch)))(model, batch_of(number))
        model = eqx.apply_updates(model, jax.tree.map(lambda g: -RATE * g, grads))
    trained = loss_fn.merge(out.state.params, out.state.model_state)
    assert jax.tree.structure(trained) == jax.tree.structure(model)
    assert_near(eqx.filter(trained, eqx.is_array), eqx.filter(model, eqx.is_array), 1e-5)


def test_equinox_trains_what_a_filter_chooses():
    model = eqx.nn.MLP(3, 1, HIDDEN, 1, key=jax.random.key(0))
    chosen = eqx.tree_at(lambda m: m.layers[1].bias, jax.tree.map(lambda _: False, model), True)
    params, model_state, loss_fn = jl.equinox_loss(model, vmapped_loss, filter_spec=chosen)
    assert [leaf.shape for leaf in jax.tree.leaves(params)] == [(1,)]
    out = fit(jl.make_step(loss_fn, jl.sgd(RATE), stateful=True), params, model_state)
    assert_same(out.state.model_state, jax.tree.map(jnp.asarray, model_state))
    assert distance(out.state.params, params) > 1e-3


# ---------------------------------------------------------------------------------------------------------------------
# Plain trees
# ---------------------------------------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    w: jax.Array
    b: jax.Array


def plain_network():
    rng = np.random.default_rng(0)
    shapes = ((3, HIDDEN), (HIDDEN, 1))
    return [Layer(rng.standard_normal(s).astype(np.float32) / 2, np.zeros(s[1], np.float32)) for s in shapes]


def plain_forward(layers, x, key=None):
    hidden, out = layers
    x = jnp.tanh(x @ hidden.w + hidden.b)
    if key is not None:
        x = jnp.where(jax.random.bernoulli(key, 0.7, x.shape), x / 0.7, 0)
    return x @ out.w + out.b


def plain_loss(layers, batch, key):
    return errors(plain_forward(layers, batch[0], key), batch[1])


def plain_loop(tx, params, loss=plain_loss):
    opt_state = tx.init(params)
    for number in range(STEPS):
        grads = jax.grad(lambda p, n=number: jnp.mean(loss(p, batch_of(n), loss_key(n))))(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_a_plain_tree_with_dropout():
    out = fit(jl.make_step(plain_loss, jl.adam(RATE)), plain_network())
    params = plain_loop(optax.adam(RATE), jax.tree.map(jnp.asarray, plain_network()))
    assert_near(out.state.params, params, 1e-5)
    np.testing.assert_allclose(out.history["val_loss"][-1], jnp.mean(plain_loss(params, VAL, None)), 1e-5)


def test_frozen_parameters():
    """The others move as they would beside constants."""
    tx = jl.chain(jl.adam(RATE), jl.freeze(lambda path, leaf: path.startswith("0/")))
    out = fit(jl.make_step(plain_loss, tx), plain_network())
    first, second = jax.tree.map(jnp.asarray, plain_network())
    expected = plain_loop(optax.adam(RATE), second, lambda p, batch, key: plain_loss([first, p], batch, key))
    assert_same(out.state.params[0], first)
    assert_near(out.state.params[1], expected, 1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# Low-rank adaptation: W + A B alpha / r, where A and B are trained, and W is model state
# ---------------------------------------------------------------------------------------------------------------------

RANK, ALPHA = 2, 4.0


def adapted(base, adapters):
    return [Layer(layer.w + a @ b * (ALPHA / RANK), layer.b) for layer, (a, b) in zip(base, adapters, strict=True)]


def test_low_rank_adaptation_of_a_plain_tree():
    base = jax.tree.map(jnp.asarray, plain_network())
    rng = np.random.default_rng(1)
    draw = lambda n: rng.standard_normal((n, RANK)).astype(np.float32)
    adapters = [(draw(len(layer.w)), np.zeros((RANK, layer.w.shape[1]), np.float32)) for layer in base]

    def loss_fn(adapters, base, batch, key):
        return plain_loss(adapted(base, adapters), batch, key), base

    step = jl.make_step(loss_fn, jl.adam(RATE), stateful=True)
    out = fit(step, adapters, base)
    by_hand = lambda adapters, batch, key: plain_loss(adapted(base, adapters), batch, key)
    expected = plain_loop(optax.adam(RATE), jax.tree.map(jnp.asarray, adapters), by_hand)
    assert_near(out.state.params, expected, 1e-5)
    assert_same(out.state.model_state, base)
    moments = [leaf.shape for leaf in jax.tree.leaves(out.state.opt_state) if leaf.ndim]
    assert sorted(set(moments)) == sorted({leaf.shape for leaf in jax.tree.leaves(adapters)})


def test_low_rank_adaptation_of_an_nnx_module():
    def make():
        model = NnxNetwork(nnx.Rngs(0))
        model.hidden = nnx.LoRA(3, RANK, HIDDEN, base_module=model.hidden, rngs=nnx.Rngs(1))
        model.eval()
        return model

    params, model_state, loss_fn = jl.nnx_loss(make(), module_loss, wrt=nnx.LoRAParam)
    assert set(params) == {"hidden"}
    assert set(params["hidden"]) == {"lora_a", "lora_b"}
    out = fit(jl.make_step(loss_fn, jl.adam(RATE), stateful=True), params, model_state)

    model = make()
    optimizer = nnx.Optimizer(model, optax.adam(RATE), wrt=nnx.LoRAParam)
    trained = nnx.DiffState(0, nnx.LoRAParam)
    for number in range(STEPS):
        batch = batch_of(number)
        grads = nnx.grad(lambda model, batch=batch: jnp.mean(module_loss(model, batch)), argnums=trained)(model)
        optimizer.update(model, grads)
    merged = loss_fn.merge(out.state.params, out.state.model_state)
    assert_near(arrays_of(merged), arrays_of(model), 1e-5)
    assert distance(out.state.params, params) > 0.01


@pytest.mark.parametrize(
    ("package", "as_loss"), [("flax", jl.nnx_loss), ("equinox", jl.equinox_loss)], ids=["flax", "equinox"]
)
def test_packages_are_asked_for(uninstalled, package, as_loss):
    uninstalled(package)
    with pytest.raises(ImportError, match=f"^{as_loss.__name__} needs {package}: pip install {package}$"):
        as_loss(None, module_loss)
