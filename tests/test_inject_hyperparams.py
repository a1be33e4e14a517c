"""Hyperparameters in the state: the optimizer is the same, bit for bit, and what is written there is used."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lessons as jl

RNG = np.random.default_rng(0)
START = {"w": RNG.standard_normal((3, 2)), "b": RNG.standard_normal(3)}
DTYPES = [jnp.float32, jnp.bfloat16, jnp.float16]
LOOPS = [case for case in cases.CONTRACT if not case.per_example]
RATE = jl.warmup_cosine_decay_schedule(0.01, 0.1, 2, 5)


def updates_of(update, tx, dtype, steps=3):
    """With the transformation as an argument: its numbers are numbers for the compiler too."""
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), START)
    state, step, updates = tx.init(params), jax.jit(lambda tx, g, s, p: update(tx)(g, s, p)), []
    for i in range(steps):
        u, state = step(tx, jax.tree.map(lambda p, i=i: p * (i + 1), params), state, params)
        updates.append(u)
    return updates, state


def assert_same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(np.asarray(x, np.float64), np.asarray(y, np.float64))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", LOOPS, ids=lambda case: case.name)
def test_the_updates_of_every_optimizer_are_the_same(case, dtype):
    """Those with numbers in the state: what is not a number stays out of it, unasked."""
    alone, inner_state = updates_of(case.update, case.make(), dtype)
    injected = jl.inject_hyperparams(case.factory)(*case.positional, **case.arguments)
    updates, state = updates_of(case.update, injected, dtype)
    assert_same_bits(updates, alone)
    assert_same_bits(state.inner_state, inner_state)
    numbers = {n for n, v in case.make().arguments.items() if isinstance(v, float)}
    assert numbers <= set(state.hyperparams)
    assert int(state.count) == 3


@pytest.mark.parametrize("name", ["adamw", "adafactor", "lion", "schedule_free_adamw", "momo"])
def test_schedules_and_float64(name):
    (case,) = (case for case in cases.CASES if case.name == name)
    arguments = {**case.arguments, "learning_rate": RATE}
    for dtype in (*DTYPES, jnp.float64):
        with jax.enable_x64(dtype == jnp.float64):
            alone, _ = updates_of(case.update, case.factory(**arguments), dtype)
            updates, state = updates_of(case.update, jl.inject_hyperparams(case.factory)(**arguments), dtype)
            assert_same_bits(updates, alone)
            assert state.hyperparams["learning_rate"] == RATE(2)
            assert int(state.hyperparams_states["learning_rate"].count) == 3


@pytest.mark.parametrize("mode", ["lr", "schedule", "independent"])
def test_every_kind_of_decay(mode):
    arguments = {"learning_rate": RATE, "weight_decay": 0.3, "decay": mode}
    update = lambda tx: tx.update
    alone, _ = updates_of(update, jl.adamw(**arguments), jnp.float32)
    assert_same_bits(updates_of(update, jl.inject_hyperparams(jl.adamw)(**arguments), jnp.float32)[0], alone)


def test_bfloat16_has_a_beta_below_one():
    params = jnp.ones(3, jnp.bfloat16)
    state = jl.inject_hyperparams(jl.adam)(0.1).init(params)
    assert state.hyperparams["b2"] == np.float32(0.999)
    with jax.numpy_dtype_promotion("standard"):
        assert optax.inject_hyperparams(optax.adam)(0.1).init(params).hyperparams["b2"] == 1.0


def test_one_trace_whatever_is_written():
    traces, params = [], jnp.ones(3)
    tx = jl.inject_hyperparams(jl.adamw)(0.1)

    @jax.jit
    def step(state):
        traces.append(state)
        return tx.update(params, state, params)

    state = tx.init(params)
    for rate in (0.1, 0.2, 0.5):
        state.hyperparams["learning_rate"] = jnp.float32(rate)
        updates, state = step(state)
        np.testing.assert_allclose(updates, -rate * (1 + 1e-4), rtol=1e-5)
    assert len(traces) == 1


def test_the_state_is_a_loop_carry_and_has_the_fields_of_optax():
    tx, params = jl.inject_hyperparams(jl.adamw)(RATE, weight_decay=RATE), jnp.ones(3)
    state = tx.init(params)
    assert state._fields == optax.InjectStatefulHyperparamsState._fields
    assert jax.eval_shape(lambda s: tx.update(params, s, params)[1], state) == jax.eval_shape(lambda s: s, state)
    last, seen = jax.lax.scan(
        lambda s, _: (lambda new: (new, new.hyperparams["learning_rate"]))(tx.update(params, s, params)[1]),
        state,
        None,
        length=5,
    )
    np.testing.assert_allclose(seen, RATE(jnp.arange(5)), rtol=1e-6)
    assert set(last.hyperparams_states) == {"learning_rate", "weight_decay"}


def test_masks_and_functions_are_no_schedules():
    mask = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
    state = jl.inject_hyperparams(jl.adamw)(0.1, mask=mask, nesterov=True).init({"w": jnp.ones((2, 2))})
    assert set(state.hyperparams) == {"learning_rate", "b1", "b2", "eps", "eps_root", "weight_decay"}
    assert not state.hyperparams_states
    static = jl.inject_hyperparams(jl.adamw, static_args="b1")(0.1, b1=0.8).init(jnp.ones(2))
    assert "b1" not in static.hyperparams


def test_it_is_a_value_with_parts():
    tx = jl.inject_hyperparams(jl.ema_params)(jl.sgd(0.1), 0.5)
    assert tx == jl.inject_hyperparams(jl.ema_params)(jl.sgd(0.1), 0.5)
    params = jnp.ones(2)
    _, state = tx.update(params, tx.init(params), params)
    assert jl.eval_params(tx, state, params).shape == (2,)
    assert [part.name for part in tx.parts(state)] == ["ema_params"]


def test_what_is_injected_is_read_by_name():
    """Of a schedule the value of the next update, in fit too; what was written into the state has the last word."""
    tx, params = jl.chain(jl.clip(1.0), jl.inject_hyperparams(jl.adamw)(RATE)), {"w": jnp.ones(2)}
    state = tx.init(params)
    _, state = tx.update(params, state, params)
    state[1].hyperparams["b1"] = 0.75
    found = jl.hyperparams(tx, state)
    names = ("clip.max_delta", "inject_hyperparams.learning_rate", "inject_hyperparams.b1")
    assert [float(found[name]) for name in names] == pytest.approx([1.0, float(RATE(1)), 0.75])
    step = jl.make_step(lambda params, batch: jnp.mean(params["w"]) * jnp.mean(batch), tx)
    out = jl.fit(step, jl.init_state(params, tx, key=0), jnp.ones((4, 1)), epochs=1, batch_size=1)
    np.testing.assert_allclose(out.history["learning_rate"], RATE(jnp.arange(4)), rtol=1e-6)


def test_it_is_explained_from_shapes():
    class Stateful:
        def init(self):
            return jnp.zeros(())

        def update(self, state, **extra):
            return state

        def __call__(self, state, **extra):
            return state

    for rate in (0.1, RATE, Stateful()):
        for tx in (jl.inject_hyperparams(jl.adamw)(rate), jl.MultiSteps(jl.inject_hyperparams(jl.adamw)(rate), 2)):
            found = jl.explain(tx, {"w": jax.ShapeDtypeStruct((3,), "float32")})
            assert found.state_bytes == sum(leaf.nbytes for leaf in jax.tree.leaves(tx.init({"w": jnp.ones(3)})))


def test_errors():
    with pytest.raises(ValueError, match=r"static_args must name arguments of .*; got \['b3'\]"):
        jl.inject_hyperparams(jl.adam, static_args=("b1", "b3"))
    with pytest.raises(ValueError, match="adam: b1 must be"):
        jl.inject_hyperparams(jl.adam)(0.1, b1=2.0)
    with pytest.raises(TypeError):
        jl.inject_hyperparams(jl.adam)(0.1, b3=2.0)
    tx = jl.inject_hyperparams(jl.adam)(0.1)
    state = tx.init(jnp.ones(2))
    with pytest.raises(
        jl.InputError, match="inject_hyperparams: state.hyperparams has 'lr', which is none. The hyperp"
    ):
        tx.update(jnp.ones(2), state._replace(hyperparams={**state.hyperparams, "lr": 0.5}))
    with pytest.raises(jl.InputError, match="inject_hyperparams: state.hyperparams lacks 'b1'"):
        tx.update(jnp.ones(2), state._replace(hyperparams={"learning_rate": 0.5}))
    state.hyperparams["b1"] = 2.0
    with pytest.raises(ValueError, match="adam: b1 must be"):
        tx.update(jnp.ones(2), state)
