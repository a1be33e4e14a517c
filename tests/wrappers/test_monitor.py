"""Looks at the updates as they pass."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lessons as jl

PARAMS = {"a": jnp.ones(2), "n": jnp.arange(2)}


def grads(value):
    return {"a": jnp.full(2, value), "n": None}


def sums(updates):
    return {"sum": jnp.sum(updates["a"]), "large": jnp.any(updates["a"] > 1), "count": jnp.int32(2)}


def test_snapshot():
    tx = jl.chain(jl.scale(2.0), jl.snapshot("before", jl.global_norm), jl.scale(3.0), jl.snapshot("sums", sums))
    state = tx.init(PARAMS)
    assert jax.tree.map(jax.typeof, state) == jax.tree.map(jax.typeof, jax.eval_shape(tx.update, grads(1.0), state)[1])
    assert float(state[1].measurement["before"]) == 0.0
    updates, state = jax.jit(tx.update)(grads(1.0), state, PARAMS)
    np.testing.assert_array_equal(updates["a"], [6.0, 6.0])
    np.testing.assert_allclose(state[1].measurement["before"], 8**0.5, rtol=1e-6)
    assert jax.tree.map(float, state[3].measurement["sums"]) == {"sum": 12.0, "large": 1.0, "count": 2.0}


def test_monitor_as_optax():
    theirs = optax.monitor(
        {"norm": optax.tree.norm, "ema": optax.measure_with_ema(lambda u: optax.tree.norm(u) > 2, decay=0.9)}
    )
    ours = jl.monitor({"norm": jl.global_norm, "ema": jl.measure_with_ema(lambda u: jl.global_norm(u) > 2, decay=0.9)})
    state, their_state = ours.init(PARAMS["a"]), theirs.init(PARAMS["a"])
    assert ours.init(PARAMS["a"]).measurements == {"norm": 0.0, "ema": 0.0}
    for value in (1.0, 3.0, 0.5):
        u, state = ours.update(jnp.full(2, value), state)
        with jax.numpy_dtype_promotion("standard"):
            _, their_state = theirs.update(jnp.full(2, value), their_state)
        np.testing.assert_array_equal(u, [value, value])
        for name in ("norm", "ema"):
            np.testing.assert_allclose(state.measurements[name], their_state.measurements[name], rtol=1e-5)


@pytest.mark.parametrize("debias", [True, False])
def test_measure_with_ema(debias):
    tx = jl.monitor({"sums": jl.measure_with_ema(sums, 0.75, debias)})
    state, v = tx.init(PARAMS), 0.0
    for t, value in enumerate((1.0, 4.0, 2.0), 1):
        _, state = jax.jit(tx.update)(grads(value), state, PARAMS)
        v = 0.75 * v + 0.25 * 2 * value
        assert float(state.measurements["sums"]["sum"]) == pytest.approx(v / (1 - 0.75**t) if debias else v, rel=1e-6)
    assert state.measurements["sums"]["large"].dtype == jnp.float32


def test_a_measurement_is_a_value():
    measure = jl.measure_with_ema(jl.global_norm, 0.9)
    assert jax.tree.leaves(measure) == [0.9]
    assert repr(measure) == "measure_with_ema(measure=global_norm, decay=0.9, debias=True)"
    tx = jl.monitor({"norm": measure})
    assert tx.replace(decay=0.5) == jl.monitor({"norm": jl.measure_with_ema(jl.global_norm, 0.5)})
    traces = []

    @jax.jit
    def step(tx, state):
        traces.append(tx)
        return tx.update(grads(1.0), state, PARAMS)[1]

    for one in (tx, tx.replace(decay=0.5)):
        step(one, one.init(PARAMS))
    assert len(traces) == 1
    init, update = measure
    assert float(update(jnp.array([3.0, 4.0]), init(jnp.zeros(2)))[0]) == pytest.approx(5.0, rel=1e-6)


def test_measurements_of_half_precision_are_float32():
    tx = jl.snapshot("sum", lambda u: jnp.sum(u["a"]))
    params = {"a": jnp.full(1000, 0.1, jnp.bfloat16)}
    _, state = tx.update(params, tx.init(params), params)
    assert state.measurement["sum"].dtype == jnp.float32
    assert float(state.measurement["sum"]) == pytest.approx(1000 * float(jnp.bfloat16(0.1)), rel=1e-5)


def test_bad_measurements_are_named():
    tx = jl.monitor({"norm": jl.global_norm})
    with pytest.raises(jl.InputError, match="monitor: at 'norm' the measurement has"):
        tx.update(PARAMS["a"], jl.MonitorState({"norm": jnp.zeros(3)}, {}))
    with pytest.raises(jl.InputError, match="monitor: the measurement and the state differ in structure"):
        tx.update(PARAMS["a"], jl.MonitorState({"other": jnp.zeros(())}, {}))
    with pytest.raises(jl.InputError, match="snapshot: the measurement and the state differ"):
        jl.snapshot("norm", jl.global_norm).update(PARAMS["a"], jl.SnapshotState({"other": jnp.zeros(())}))
    with pytest.raises(TypeError, match="monitor: measures must map"):
        jl.monitor(jl.global_norm)
    for wrong in ("norm", 3, (jl.global_norm,), (jl.global_norm, None)):
        with pytest.raises(TypeError, match=r"monitor: measures\['a'\] must be a function, or a pair .* got"):
            jl.monitor({"a": wrong})
    remembering = jl.monitor({"norm": jl.measure_with_ema(jl.global_norm, 0.5)})
    with pytest.raises(jl.InputError, match=r"monitor: .*names .*'norm'.*"):
        remembering.update(PARAMS["a"], tx.init(PARAMS["a"]))
    with pytest.raises(ValueError, match=r"measure_with_ema: decay must be .* got 1.5"):
        jl.measure_with_ema(jl.global_norm, 1.5)
