"""``fit(plan=...)``: on eight devices the run of one, the state where the plan says, and nothing compiled twice."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType
from training_problems import assert_near, assert_same, distance, example_loss, network, noisy_loss, regression

import jaxopt_lessons as jl

DATA, VAL = regression(68), regression(20, seed=1)
TX = jl.chain(jl.clip_by_global_norm(1.0), jl.adam(jl.cosine_decay_schedule(0.05, 40), eps=1e-3))
STEP = jl.with_ema(jl.with_guard(jl.make_step(noisy_loss, TX, accumulate=2)), 0.9)
STATE = jl.init_state(network(hidden=64), STEP, key=3)
BATCH = 16


def stream(epoch):
    """Full batches and a smaller one that eight devices do not divide."""
    order = np.random.default_rng(epoch).permutation(68)
    for first in range(0, 68, BATCH):
        yield tuple(x[order[first : first + BATCH]] for x in DATA)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    inputs = np.memmap(tmp_path_factory.mktemp("file") / "inputs", np.float32, "w+", shape=DATA[0].shape)
    inputs[:] = DATA[0]
    return inputs, DATA[1]


def fit(data, state=STATE, step=STEP, **options):
    if data is not stream:
        options = {"batch_size": BATCH} | options
    return jl.fit(step, state, data, **({"epochs": 2} | options))


def make_plan(axis_type=AxisType.Explicit, zero=1):
    return jl.make_plan(jax.make_mesh((8,), ("data",), axis_types=(axis_type,)), zero=zero, min_size=1)


@pytest.fixture(scope="module")
def expected(file):
    with jax.numpy_rank_promotion("allow"):
        return {name: fit(data, val=VAL) for name, data in {"memory": DATA, "file": file, "stream": stream}.items()}


@pytest.mark.parametrize("source", ["memory", "file", "stream"])
@pytest.mark.parametrize("zero", [0, 1, 3])
@pytest.mark.parametrize("axis_type", [AxisType.Explicit, AxisType.Auto], ids=lambda kind: kind.name)
def test_eight_devices_have_the_numbers_of_one(axis_type, zero, source, file, expected):
    plan, data = make_plan(axis_type, zero), {"memory": DATA, "file": file, "stream": stream}[source]
    result, one = fit(data, val=VAL, plan=plan), expected[source]
    assert_near(result.state.params, one.state.params, tolerance=1e-5)
    assert_near(result.state.extras, one.state.extras, tolerance=1e-5)
    for name in one.history:
        np.testing.assert_allclose(result.history[name], one.history[name], 1e-5, 1e-5)
    plan.assert_sharding(result.state)
    assert distance(result.state.params, STATE.params) > 0.05
    again = fit(data, state=result.state, val=VAL, plan=plan)
    assert (again.compiles, again.recompiled) == (0, ())
    sizes = [plan.bytes_per_device(state) for state in (result.state, one.state)]
    assert sizes[0] == sizes[1] == sum(local_bytes(leaf) for leaf in jax.tree.leaves(result.state))


def local_bytes(leaf):
    """Bytes of a leaf on the first device."""
    is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return (jax.random.key_data(leaf) if is_key else leaf).addressable_shards[0].data.nbytes


def test_another_learning_rate_compiles_nothing():
    plan = make_plan()
    fit(DATA, plan=plan)
    step = jl.with_ema(jl.with_guard(jl.make_step(noisy_loss, TX.replace(max_norm=0.5), accumulate=2)), 0.9)
    assert fit(DATA, step=step, plan=plan).compiles == 0


def test_a_run_on_eight_devices_goes_on_from_a_checkpoint(tmp_path):
    """On the same devices, bit by bit; on others with the numbers of rounding."""
    plan, saves = make_plan(zero=3), [jl.Checkpoint(tmp_path)]
    whole = fit(DATA, plan=plan)
    fit(DATA, plan=plan, epochs=1, observers=saves)
    assert_near(fit(DATA, observers=[jl.Checkpoint(tmp_path, keep=None)], resume=True).state.params, whole.state.params)
    other = tmp_path / "other"
    fit(DATA, plan=plan, epochs=1, observers=[jl.Checkpoint(other)])
    resumed = fit(DATA, plan=plan, observers=[jl.Checkpoint(other)], resume=True)
    assert_same(jax.device_get(resumed.state.params), jax.device_get(whole.state.params))
    plan.assert_sharding(resumed.state)


def test_observers_work_on_what_is_spread_out(tmp_path):
    plan = make_plan(zero=3)
    result = fit(
        DATA,
        plan=plan,
        val=VAL,
        epochs=3,
        observers=[jl.EarlyStopping("val_loss", patience=3), jl.BestWeights("val_loss"), jl.Rollback("loss")],
    )
    one = fit(DATA, val=VAL, epochs=3, observers=[jl.BestWeights("val_loss")])
    assert_near(jax.device_get(result.state.params), jax.device_get(one.state.params), tolerance=1e-5)


def test_a_step_of_ones_own_works_under_a_plan():
    def descend(state, batch):
        loss, grads = jax.value_and_grad(lambda p, b: example_loss(p, b).mean())(state.params, batch)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, grads)
        return state._replace(params=params, step=state.step + 1, cursor=state.cursor + 1), {"loss": loss}

    state = jl.init_state(network(hidden=64), jl.sgd(0.1))
    one = fit(DATA, state=state, step=descend)
    assert_near(fit(DATA, state=state, step=descend, plan=make_plan(zero=0)).state.params, one.state.params, 1e-5)


def test_a_plan_works_where_compilation_is_switched_off():
    step, state = jl.make_step(example_loss, jl.sgd(0.1)), jl.init_state(network(hidden=64), jl.sgd(0.1))
    with jax.disable_jit():
        found = fit(DATA, state=state, step=step, plan=make_plan(zero=0), epochs=1)
    assert_near(found.state.params, fit(DATA, state=state, step=step, epochs=1).state.params, 1e-5)


def test_a_batch_that_the_devices_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="12 examples|batch_size=12|12.*8"):
        fit(DATA, batch_size=12, plan=make_plan())
