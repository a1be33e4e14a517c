"""What must hold for long runs: nothing calls back, memory stays flat, and one bad batch costs one batch."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import bad_input
from training_problems import assert_same, distance, example_loss, network, noisy_loss, regression

import jaxopt_lessons as jl
from jaxopt_lessons.train.cost import cost_of
from jaxopt_lessons.train.programs import Compiled

DATA = regression(64)
ADAM = jl.adam(jl.cosine_decay_schedule(0.05, 2000))


def primitives(jaxpr):
    """The names of all primitives in a jaxpr and in those inside."""
    found = set()
    for equation in jaxpr.eqns:
        found.add(equation.primitive.name)
        for value in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")):
            inner = getattr(value, "jaxpr", value)
            found |= primitives(inner) if hasattr(inner, "eqns") else set()
    return found


def test_a_chunk_calls_nothing_back():
    step = jl.with_ema(jl.with_guard(jl.make_step(noisy_loss, ADAM, accumulate=2, metrics=["gradient_norm"])), 0.9)
    state, batches = jl.init_state(network(), step), jl.minibatches(DATA, 8)
    compiled = Compiled(step)
    jaxpr = jax.make_jaxpr(lambda state, batches: compiled.run_in_memory(state, batches, 8, False))(state, batches)
    found = primitives(jaxpr.jaxpr)
    assert {"scan", "dot_general"} <= found
    assert not [name for name in found if "callback" in name or "infeed" in name or "outfeed" in name]

    def calls_back(params, batch):
        jax.debug.callback(lambda x: None, params["b1"])
        return example_loss(params, batch)

    compiled = Compiled(jl.make_step(calls_back, ADAM))
    jaxpr = jax.make_jaxpr(lambda state, batches: compiled.run_in_memory(state, batches, 8, False))(
        jl.init_state(network(), ADAM), batches
    )
    assert [name for name in primitives(jaxpr.jaxpr) if "callback" in name]  # the control


@pytest.mark.parametrize(("length", "in_loop", "loops"), [(3, True, {"scan"}), (1, True, {"while"}), (1, False, set())])
@pytest.mark.parametrize("source", ["memory", "stream"])
def test_every_chunk_is_a_loop_unless_it_must_not_be(source, length, in_loop, loops):
    """Of one turn too, where the compiler must not see that it is one; a convolution is in no loop at all."""
    step = jl.make_step(example_loss, jl.sgd(0.1))
    state, compiled = jl.init_state(network(), step), Compiled(step)
    if source == "memory":
        batches = jl.minibatches(DATA, 8, shuffle=False)
        run = lambda state: compiled.run_in_memory(state, batches, length, False, in_loop)
    else:
        given = jax.tree.map(lambda x: jnp.asarray(x[: 8 * length]).reshape(length, 8, *x.shape[1:]), DATA)
        run = lambda state: compiled.run_given(state, given, None, in_loop)
    assert primitives(jax.make_jaxpr(run)(state).jaxpr) & {"scan", "while"} == loops


@pytest.mark.parametrize("source", ["memory", "stream"])
def test_no_array_stays_on_the_device_with_more_steps_or_more_runs(source):
    step = jl.make_step(noisy_loss, ADAM)
    state = jl.init_state(network(), step)
    batches = jl.minibatches(DATA, 8)

    def stream(epoch):
        for first in range(0, 64, 8):
            yield tuple(x[first : first + 8] for x in DATA)

    def live_after(epochs):
        data = batches if source == "memory" else stream
        result = jl.fit(step, state, data, epochs=epochs, chunk_steps=4, val=DATA, observers=[lambda run: None])
        assert int(result.state.cursor) == 8 * epochs
        del result
        gc.collect()
        return sum(x.nbytes for x in jax.live_arrays())

    live_after(1)
    few = live_after(1)
    assert live_after(40) == few
    assert [live_after(1) for _ in range(5)] == [few] * 5


@bad_input(39)
def test_a_nan_in_one_entry_of_one_gradient_at_step_1000_costs_that_batch():
    """The run with the bad batch is the run without it, whose cursor has gone on."""
    bad, step_count, batch = 1000, 1003, 4

    def loss(params, batch, key):
        x, y, poison = batch
        errors = noisy_loss(params, (x, y), key)
        # The loss stays as it is, but the gradient of the root of 0 is infinite.
        bias, poisoned = params["b1"][0], jnp.any(poison)
        root = jnp.sqrt(jnp.where(poisoned, bias - jax.lax.stop_gradient(bias), 1))
        return errors + root - jnp.where(poisoned, 0, 1)

    inputs, targets = regression(batch * step_count)
    poison = np.zeros(batch * step_count, bool)
    poison[batch * bad + 1] = True
    step = jl.with_guard(jl.make_step(loss, ADAM))
    state = jl.init_state(network(), step, key=3)
    options = {"batch_size": batch, "shuffle": False}
    result = jl.fit(step, state, (inputs, targets, poison), steps=step_count, **options)
    assert int(result.state.extras["skipped"]) == 1
    assert (int(result.state.cursor), int(result.state.step)) == (step_count, step_count - 1)
    assert np.flatnonzero(result.history["skipped"]).tolist() == [bad]
    assert np.isfinite(result.history["loss"]).all()

    before = jl.fit(step, state, (inputs, targets, poison), steps=bad, **options)
    beyond = before.state._replace(cursor=before.state.cursor + 1)
    after = jl.fit(step, beyond, (inputs, targets, poison), steps=step_count - bad - 1, **options)
    assert_same(result.state._replace(extras={}), after.state._replace(extras={}))
    assert distance(after.state.params, before.state.params) > 0

    unguarded = jl.make_step(loss, ADAM)
    spoilt = jl.fit(
        unguarded, jl.init_state(network(), unguarded, key=3), (inputs, targets, poison), steps=1001, **options
    )
    assert np.isnan(np.asarray(spoilt.state.params["b1"])).any()


# ---------------------------------------------------------------------------------------------------------------------
# What a step costs
# ---------------------------------------------------------------------------------------------------------------------


def test_operations_are_counted_exactly():
    a, b = jnp.ones((8, 16)), jnp.ones((16, 32))
    product = jax.make_jaxpr(lambda a, b: a @ b)(a, b).jaxpr
    assert cost_of(product).operations == 2 * 8 * 16 * 32
    assert cost_of(product).bytes == 4 * 8 * 32
    loop = jax.make_jaxpr(lambda a, b: jax.lax.scan(lambda c, _: (c, a @ b), 0, None, length=10))(a, b).jaxpr
    assert cost_of(loop).operations == 10 * 2 * 8 * 16 * 32
    nested = jax.make_jaxpr(jax.jit(lambda a, b: jnp.sum(jnp.sin(a) @ b)))(a, b).jaxpr
    assert cost_of(nested).operations == 2 * 8 * 16 * 32
    batched = jax.make_jaxpr(jax.vmap(lambda a, b: a @ b))(jnp.ones((5, 8, 16)), jnp.ones((5, 16, 32))).jaxpr
    assert cost_of(batched).operations == 5 * 2 * 8 * 16 * 32


def test_a_branch_costs_as_much_as_its_dearest():
    def branch(flag, a):
        return jax.lax.cond(flag, lambda a: a @ a @ a, lambda a: a @ a, a)

    assert cost_of(jax.make_jaxpr(branch)(True, jnp.ones((8, 8))).jaxpr).operations == 2 * 2 * 8**3


def test_a_convolution_is_its_products():
    x, kernel = jnp.ones((2, 4, 6, 6)), jnp.ones((8, 4, 3, 3))
    jaxpr = jax.make_jaxpr(lambda x, k: jax.lax.conv(x, k, (1, 1), "VALID"))(x, kernel).jaxpr
    cost = cost_of(jaxpr)
    assert cost.operations == 2 * (2 * 8 * 4 * 4) * (4 * 3 * 3)
    assert cost.has_convolution


def test_chunks_of_dear_steps_are_short(monkeypatch):
    """The same for each run, as it is calculated and not measured."""
    lengths = []
    run = Compiled.run_in_memory

    def spy(compiled, state, batches, length, tail, in_loop):
        lengths.append(length)
        return run(compiled, state, batches, length, tail, in_loop)

    monkeypatch.setattr(Compiled, "run_in_memory", spy)
    longest = {}
    for hidden, batch_size in ((5, 8), (4096, 512)):
        step = jl.make_step(example_loss, jl.sgd(0.0))
        data = regression(512 * 8)
        jl.fit(step, jl.init_state(network(hidden=hidden), step), data, steps=64, batch_size=batch_size)
        longest[hidden] = max(lengths)
        lengths.clear()
    assert longest[5] == 64
    assert 1 <= longest[4096] < 64
