"""Training on eight devices: the numbers of one, every leaf where the plan says, and errors that say what to do."""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from training_problems import assert_near, assert_same, backend_compiles, distance

import jaxopt_lessons as jl
from jaxopt_lessons.train import compilation
from jaxopt_lessons.train.device_plan import _joined
from jaxopt_lessons.train.scan import run_steps
from jaxopt_lessons.train.with_plan import PlannedLoss, _gathering_params

DEVICES, BATCH, STEPS = 8, 32, 4
KINDS = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}
every_kind = pytest.mark.parametrize("kind", KINDS)
every_stage = pytest.mark.parametrize("zero", [0, 1, 3])


def mesh_of(kind: str, devices: int = DEVICES) -> Any:
    return jax.make_mesh((devices,), ("data",), axis_types=(KINDS[kind],), devices=jax.devices()[:devices])


def plan_of(kind: str = "explicit", zero: int = 1, min_size: int = 1, devices: int = DEVICES) -> jl.DevicePlan:
    return jl.make_plan(mesh_of(kind, devices), zero=zero, min_size=min_size)


def network() -> dict[str, np.ndarray]:
    """Leaves that are sharded along their first and their second axis, and one that cannot be."""
    rng = np.random.default_rng(0)
    return {
        "w1": rng.standard_normal((16, 24)).astype(np.float32) / 4,
        "b1": rng.standard_normal(24).astype(np.float32),
        "w2": rng.standard_normal((24, 3)).astype(np.float32) / 5,
        "b2": rng.standard_normal(3).astype(np.float32),
    }


def batches(spoiled: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """``STEPS`` batches of inputs and targets; in one of them an input is NaN."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((STEPS, BATCH, 16)).astype(np.float32)
    y = np.tanh(x[..., :3] * x[..., 3:6]) + 0.1 * rng.standard_normal((STEPS, BATCH, 3)).astype(np.float32)
    if spoiled:
        x[1, 3, 0] = np.nan
    return x, y


def example_loss(params: Any, batch: Any, key: jax.Array | None = None) -> jax.Array:
    """Squared errors ``[examples]`` of a network, with dropout if there is a key."""
    x, y = batch
    hidden = jnp.tanh(x @ params["w1"] + params["b1"][None])
    if key is not None:
        hidden = jnp.where(jax.random.bernoulli(key, 0.8, hidden.shape), hidden / 0.8, 0)
    return jnp.mean((hidden @ params["w2"] + params["b2"][None] - y) ** 2, axis=1)


def dropout_loss(params: Any, batch: Any, key: jax.Array | None) -> tuple[jax.Array, dict[str, jax.Array]]:
    losses = example_loss(params, batch, key)
    return losses, {"large": losses > 1}


def mean_loss(params: Any, batch: Any) -> jax.Array:
    return jnp.mean(example_loss(params, batch))


@jax.jit
def scan(step: Any, state: jl.TrainState, batches: Any) -> Any:
    return jax.lax.scan(lambda state, batch: step(state, batch), state, batches)


OPTIMIZERS = {
    "adam": jl.adam(1e-2, eps=1e-3),
    "clip, adamw": jl.chain(jl.clip_by_global_norm(0.5), jl.adamw(1e-2, eps=1e-3)),
    "adafactor": jl.adafactor(1e-2, min_dim_size_to_factor=8),
    "lamb": jl.lamb(1e-2, eps=1e-3),
    "schedule_free": jl.schedule_free(jl.sgd(0.1, momentum=0.5), 0.1),
    "sam": jl.sam(jl.sgd(0.1, momentum=0.9), jl.chain(jl.normalize(), jl.sgd(0.05)), opaque_mode=True),
}


def everything(tx: Any) -> Any:
    """A step with all that can be around and inside of one."""
    step = jl.make_step(dropout_loss, tx, accumulate=2, metrics=["gradient_norm", "update_norm", "parameter_norm"])
    return jl.with_ema(jl.with_guard(step), 0.9)


@functools.cache
def on_one_device(step: Any, spoiled: bool) -> Any:
    start = jl.init_state(network(), step)
    return start, *scan(step, start, batches(spoiled))


def check(step: Any, plan: jl.DevicePlan, spoiled: bool = False) -> Any:
    """The step under the plan does what it does on one device, and leaves everything where it was."""
    start, expected, measured = on_one_device(step, spoiled)
    planned, state, data = jl.with_plan(step, plan), plan.place_state(start), plan.put_batch(batches(spoiled), BATCH)
    plan.assert_sharding(state)
    got, metrics = scan(planned, state, data)
    plan.assert_sharding(got)
    assert_near(got, expected, 1e-5)
    assert_near(metrics, measured, 1e-5)
    assert distance(start.params, expected.params) > 1e-2
    known = scan._cache_size()
    with backend_compiles() as compiled:
        scan(planned, got, data)
    assert not compiled
    assert scan._cache_size() == known  # nor is anything looked up under another type
    return got


@every_kind
@every_stage
@pytest.mark.parametrize("optimizer", ["adam", "clip, adamw", "adafactor"])
def test_equals_one_device_with_dropout_accumulation_guard_and_average(kind, zero, optimizer):
    got = check(everything(OPTIMIZERS[optimizer]), plan_of(kind, zero), spoiled=True)
    assert int(got.extras["skipped"]) == 1
    assert int(got.step) == STEPS - 1


@pytest.mark.parametrize("zero", [1, 3])
@pytest.mark.parametrize("optimizer", ["lamb", "schedule_free", "sam"])
def test_equals_one_device(zero, optimizer):
    check(jl.make_step(mean_loss, OPTIMIZERS[optimizer]), plan_of("explicit", zero))


@every_kind
def test_a_weighted_loss_is_that_of_the_whole_batch(kind):
    def weighted_loss(params, batch):
        losses = example_loss(params, batch)
        return jl.Weighted(jnp.sum(losses * jnp.arange(1.0, 1 + len(losses))), jnp.float32(70))

    check(jl.make_step(weighted_loss, OPTIMIZERS["clip, adamw"]), plan_of(kind, 1))


def test_a_step_that_make_step_did_not_make():
    inner = jl.make_step(mean_loss, OPTIMIZERS["adam"])
    start = jl.init_state(network(), inner)
    plan = plan_of("explicit", 3)
    step = jl.with_plan(lambda state, batch: inner(state, batch), plan)
    got, metrics = scan(step, plan.place_state(start), plan.put_batch(batches(), BATCH))
    expected, measured = scan(inner, start, batches())
    plan.assert_sharding(got)
    assert_near((got, metrics), (expected, measured), 1e-5)


# -- what lies where ---------------------------------------------------------------------------------------------------


def bytes_on(tree: Any, device: Any) -> int:
    """Bytes of a tree on a device, counted from what lies there; without random keys."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)]
    return sum(s.data.nbytes for leaf in leaves for s in leaf.addressable_shards if s.device == device)


@every_kind
def test_bytes_on_each_device(kind):
    step = jl.with_ema(jl.make_step(mean_loss, jl.adam(1e-2)), 0.9)
    start = jl.init_state(network(), step)
    counts, split, whole = 4 * 5, 4 * (16 * 24 + 24 + 24 * 3), 4 * 3
    expected = {0: 4 * (split + whole), 1: split + whole + 3 * (split // 8 + whole), 3: 4 * (split // 8 + whole)}
    for zero, size in expected.items():
        plan = plan_of(kind, zero)
        state = plan.place_state(start)
        for device in plan.mesh.devices:
            assert bytes_on(state, device) == counts + size
        assert plan.bytes_per_device(state) == counts + size + 8  # 8 of the key
        shapes = jax.eval_shape(lambda: start)
        assert plan.bytes_per_device(shapes) == counts + size + 8
        assert f"{counts + size + 8:,}" in plan.describe(shapes).splitlines()[-1]


def test_describe_names_the_axis_of_each_leaf():
    table = plan_of(zero=3).describe(jl.init_state(network(), jl.sgd(0.1)))
    rows = {row.split()[0]: re.split("  +", row)[1:] for row in table.splitlines()[2:-1]}
    assert rows["params/w1"] == ["float32[16,24]", "axis 1", "192"]
    assert rows["params/w2"] == ["float32[24,3]", "axis 0", "36"]
    assert rows["params/b2"] == ["float32[3]", "replicated", "12"]
    assert rows["key"] == ["key<fry>[]", "replicated", "8"]


def test_small_leaves_are_replicated():
    state = jl.init_state(network(), jl.sgd(0.1, momentum=0.9))
    for min_size, split in ((16 * 24, ["w1"]), (16 * 24 + 1, []), (24, ["w1", "b1", "w2"])):
        plan = jl.make_plan(mesh_of("auto"), zero=3, min_size=min_size)
        if split:
            shardings = plan.shardings(state)
            assert [name for name in network() if not shardings.params[name].is_fully_replicated] == split
    with pytest.raises(jl.InputError, match="zero=3 shards the parameters and the optimizer's state, but no leaf has"):
        jl.make_plan(mesh_of("auto"), zero=3, min_size=16 * 24 + 1).place_state(state)


def test_nothing_to_shard_is_refused_and_not_passed_over():
    state = jl.init_state(network(), jl.sgd(0.1))
    with pytest.raises(jl.InputError, match="zero=1 shards the optimizer's state, but no leaf has 1 entries or more"):
        plan_of(zero=1).place_state(state)
    plan_of(zero=3).place_state(state)


@every_kind
def test_a_state_that_is_never_whole(kind):
    plan, step = plan_of(kind, 3), jl.make_step(mean_loss, jl.adam(1e-2))

    def init():
        return jl.init_state({"w": jnp.full((16, 8), 0.5)}, step, key=3)

    state = jax.jit(init, out_shardings=plan.shardings(jax.eval_shape(init)))()
    plan.assert_sharding(state)
    assert_near(state, init(), 1e-7)


def test_a_misplaced_leaf_is_named():
    plan = plan_of("auto", 1)
    state = plan.place_state(jl.init_state(network(), jl.adam(0.1)))
    whole = jax.device_put(state.opt_state, NamedSharding(plan.mesh, PartitionSpec()))
    with pytest.raises(jl.InputError, match="the leaf at 'opt_state/0/mu/b1', float32\\[24], should have"):
        plan.assert_sharding(state._replace(opt_state=whole))


@every_kind
@every_stage
def test_a_placed_state_is_a_copy(kind, zero):
    """Donating it takes nothing away from who made it."""
    plan = plan_of(kind, zero)
    start = jl.init_state(network(), jl.adam(0.1))
    first = plan.place_state(start)
    second = plan.place_state(first)
    give = jax.jit(lambda state: jax.tree.map(jnp.copy, state), donate_argnums=0)
    for state in (second, first):
        give(state)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(start))
    assert_same(start, jl.init_state(network(), jl.adam(0.1)))
    for state in (first, second):
        assert state.params["w1"].is_deleted()


def pulled_back(plan: jl.DevicePlan) -> Any:
    """The function that calculates the gradient of a loss under a plan, and the gradient."""
    step = _gathering_params(jl.make_step(mean_loss, jl.adam(0.1)), plan)
    params = plan.place_state(jl.init_state(network(), step)).params
    batch = jax.tree.map(lambda x: jax.device_put(x[0], NamedSharding(plan.mesh, PartitionSpec("data"))), batches())
    vjp = jax.vjp(lambda params: step.loss_fn(params, batch), params)[1]
    return vjp, vjp(jnp.float32(1))[0]


def test_whole_parameters_are_not_kept_for_the_gradient():
    """Under zero=3 what the backward pass keeps of a parameter is the share of each device."""
    for zero in (1, 3):
        kept = [leaf for leaf in jax.tree.leaves(pulled_back(plan_of("auto", zero))[0]) if leaf.shape == (24, 3)]
        assert [leaf.sharding.is_fully_replicated for leaf in kept] == [zero == 1]


@every_stage
def test_gradients_go_where_the_states_are(zero):
    grads = pulled_back(plan_of("auto", zero))[1]
    split = [name for name, leaf in grads.items() if not leaf.sharding.is_fully_replicated]
    assert sorted(split) == (["b1", "w1", "w2"] if zero else [])
    if zero:
        assert grads["w2"].sharding.spec == PartitionSpec("data")


@every_kind
def test_the_program_of_a_device(kind):
    """It calculates with its share of the batch and of the optimizer's state."""
    base = jl.make_step(mean_loss, jl.adam(1e-2))
    batch = jax.tree.map(lambda x: x[0], batches())
    share, whole = BATCH // DEVICES, BATCH
    for zero in (0, 1, 3):
        plan = plan_of(kind, zero)
        step, state = jl.with_plan(base, plan), plan.place_state(jl.init_state(network(), base))
        text = jax.jit(step).lower(state, plan.place_data(batch)).compile().as_text()
        assert f"f32[{share},24]" in text  # hidden units
        assert f"f32[{whole},24]" not in text
        gathered = re.findall(r"= f32\[([\d,]+)\]\S* all-gather", text)
        assert ("16,24" in gathered) == (zero > 0), gathered
        roots = set(re.findall(r"= f32\[([\d,]+)\]\S* sqrt\(", text))
        assert ("16,3" in roots, "16,24" in roots) == (zero > 0, zero == 0), roots


# -- batches -----------------------------------------------------------------------------------------------------------


def table(examples: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = batches()
    return x.reshape(-1, 16)[:examples], y.reshape(-1, 3)[:examples]


@pytest.mark.parametrize(("kind", "remainder"), [("auto", "pad"), ("explicit", "keep")])
def test_data_in_memory(kind, remainder):
    """An epoch with a smaller, or a masked, last batch; each device gathers the rows of its share only."""
    plan, step = plan_of(kind, 1), jl.make_step(example_loss, jl.adam(1e-2))
    planned = jl.with_plan(step, plan, ragged=True)
    data = jl.minibatches(table(45), 16, remainder=remainder)

    def epoch(step: Any, state: jl.TrainState, data: jl.Batches) -> Any:
        leaves, structure = jax.tree.flatten(step)

        def run(leaves: Any, state: Any, data: Any) -> Any:
            return run_steps(jax.tree.unflatten(structure, leaves), state, data, state.cursor, data.full, data.tail > 0)

        return plan.run(run, leaves, state, data)

    start = jl.init_state(network(), step)
    expected = jl.make_epoch(step, data)(start)
    args = planned, plan.place_state(start), plan.place_data(data)
    compiled = jax.jit(epoch).lower(*args).compile()
    got = compiled(*args)
    plan.assert_sharding(got[0])
    assert_near(got, expected, 1e-5)
    rows = {int(n) for n in re.findall(r"= f32\[(\d+),1,16\]\S* gather", compiled.as_text())}
    assert rows == ({2, 13} if remainder == "keep" else {2})


@every_kind
def test_the_whole_set_as_a_batch_is_split(kind):
    plan = plan_of(kind, 0)
    data = plan.place_data(jl.minibatches(table(40)))
    assert {shard.data.shape for shard in data.data[0].addressable_shards} == {(5, 16)}
    step = jl.make_step(example_loss, jl.adam(1e-2))
    start = jl.init_state(network(), step)
    got = jax.jit(jl.make_scan(jl.with_plan(step, plan), 3))(plan.place_state(start), data)
    assert_near(got, jax.jit(jl.make_scan(step, 3))(start, jl.minibatches(table(40))), 1e-5)


def test_a_batch_that_cannot_be_split():
    plan = plan_of("explicit", 1)
    says = (
        "a batch of 12 examples cannot be split evenly along the axis 'data' of 8 devices. Use a batch size of 8 or 16"
    )
    for refused in (plan.check_batch_size, lambda size: plan.place_data(jl.minibatches(table(40), size))):
        with pytest.raises(ValueError, match=says):
            refused(12)
    with pytest.raises(ValueError, match="Use a batch size of 8, or a mesh"):
        plan.check_batch_size(3)
    with pytest.raises(ValueError, match="a batch of 45 examples"):
        plan.place_data(jl.minibatches(table(45)))
    plan.place_data(jl.minibatches(table(45), 16))

    step = jl.make_step(example_loss, jl.adam(1e-2))
    state = plan.place_state(jl.init_state(network(), step))
    with pytest.raises(jl.InputError, match="with_plan: a batch of 12 examples"):
        jl.with_plan(step, plan)(state, table(12))
    got, metrics = jl.with_plan(step, plan, ragged=True)(state, table(12))
    expected, measured = step(jl.init_state(network(), step), table(12))
    assert_near((got, metrics), (expected, measured), 1e-5)


def test_a_leaf_of_the_batch_that_is_not_of_its_examples_stays_whole():
    def loss(params, batch):
        (x, y), table, scale = batch
        return example_loss(params, (x, y)) * scale * jnp.sum(table)

    plan, step = plan_of("explicit", 1), jl.make_step(loss, jl.adam(1e-2))
    batch = (table(16), jnp.arange(25.0), jnp.float32(0.1))
    state = jl.init_state(network(), step)
    got = jax.jit(jl.with_plan(step, plan))(plan.place_state(state), batch)
    assert_near(got, step(state, batch), 1e-5)


def test_rows_and_batches_from_the_host():
    plan = plan_of("explicit", 0)
    assert plan.rows(32) == slice(0, 32)
    assert plan.rows(12) == slice(0, 12)
    x, y = batches()
    placed = plan.put_batch({"x": x, "y": y, "weight": np.arange(4.0, dtype=np.float32)}, BATCH)
    assert {shard.data.shape for shard in placed["x"].addressable_shards} == {(STEPS, 4, 16)}
    assert placed["weight"].sharding.is_fully_replicated
    assert_same(placed, {"x": x, "y": y, "weight": np.arange(4.0, dtype=np.float32)})
    whole = plan.put_batch(x[:, :12], 12)
    assert whole.sharding.is_fully_replicated
    with pytest.raises(
        jl.InputError, match="the leaf at 'x' is float32\\[4,32,16]; its second axis should have 64 rows"
    ):
        plan.put_batch({"x": x}, 64)


def test_rows_that_are_not_consecutive():
    assert _joined("data", {(8, 16), (0, 8), (16, 24)}) == slice(0, 24)
    with pytest.raises(ValueError, match="hold the rows 0 to 8, 16 to 24 of a batch, which are not consecutive"):
        _joined("data", {(16, 24), (0, 8)})


# -- meshes ------------------------------------------------------------------------------------------------------------


def test_one_device():
    check(jl.make_step(mean_loss, OPTIMIZERS["clip, adamw"]), plan_of("explicit", 3, devices=1))


@pytest.mark.parametrize("kinds", [("auto", "auto"), ("explicit", "explicit"), ("auto", "explicit")])
def test_one_axis_of_two(kinds):
    types = tuple(KINDS[kind] for kind in kinds)
    mesh = jax.make_mesh((2, 4), ("other", "data"), axis_types=types)
    plan = jl.make_plan(mesh, zero=1, axis="data", min_size=1)
    got = check(jl.make_step(mean_loss, OPTIMIZERS["adam"]), plan)
    assert {shard.data.shape for shard in got.opt_state[0].mu["w1"].addressable_shards} == {(16, 6)}


@every_kind
def test_in_a_mesh_context_uncompiled_and_under_vmap(kind):
    plan, step = plan_of(kind, 1), jl.make_step(mean_loss, OPTIMIZERS["adam"])
    planned, start = jl.with_plan(step, plan), jl.init_state(network(), step)
    state, batch = plan.place_state(start), table(16)
    expected = step(start, batch)
    with jax.set_mesh(plan.mesh):
        assert_near(jax.jit(planned)(state, batch), expected, 1e-5)
    assert_near(planned(state, batch), expected, 1e-5)

    def first(step, rate, state):
        return step.replace(learning_rate=rate)(state, batch)[0].params

    rates = jnp.asarray([0.01, 0.02, 0.03])
    got = jax.jit(jax.vmap(first, (None, 0, None)))(planned, rates, state)
    assert_near(got, jax.vmap(first, (None, 0, None))(step, rates, start), 1e-5)


@every_kind
@pytest.mark.parametrize("zero", [1, 3])
def test_weights_to_evaluate_are_whole(kind, zero):
    plan, step = plan_of(kind, zero), jl.with_ema(jl.make_step(mean_loss, OPTIMIZERS["adam"]), 0.9)
    planned = jl.with_plan(step, plan)
    state, _ = scan(planned, plan.place_state(jl.init_state(network(), step)), plan.put_batch(batches(), BATCH))
    weights = jax.jit(lambda step, state: step.eval_params(state))(planned, state)
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(weights))
    assert_near(weights, step.eval_params(jax.device_get(state)), 1e-6)
    assert_near(planned.eval_params(state), weights, 1e-6)


@every_kind
def test_validation_is_shared_out(kind):
    plan = plan_of(kind, 3)
    params, data = network(), table(45)
    placed, rows = plan.place_state(jl.init_state(params, jl.sgd(0.1))).params, plan.place_data(data)
    for loss in (dropout_loss, mean_loss):
        got = jl.evaluate(PlannedLoss(loss, plan), placed, rows, batch_size=16)
        assert_near(got, jl.evaluate(loss, params, data, batch_size=16), 1e-5)
    with compilation.count() as compiled:
        jl.evaluate(PlannedLoss(mean_loss, plan), placed, rows, batch_size=16)
    assert not compiled
    batch = jax.tree.map(lambda leaf: leaf[:16], data)
    text = jax.jit(PlannedLoss(example_loss, plan)).lower(placed, batch).compile().as_text()
    assert "f32[2,24]" in text  # hidden units of the share of a device
    assert "f32[16,24]{1,0} dot" not in text


def test_fit_takes_what_is_placed():
    """The loop needs to know nothing: a second run of the same compiles nothing, and the state stays where it is."""
    step = jl.with_ema(jl.make_step(example_loss, OPTIMIZERS["clip, adamw"]), 0.9)
    start, plan = jl.init_state(network(), step), plan_of(zero=3)
    expected = jl.fit(step, start, table(45), batch_size=16, epochs=2, val=table(45))
    args = (
        jl.with_plan(step, plan, ragged=True),
        plan.place_state(start),
        plan.place_data(jl.minibatches(table(45), 16)),
    )
    got = jl.fit(*args, epochs=2, val=plan.place_data(table(45)))
    plan.assert_sharding(got.state)
    assert_near(got.state, expected.state, 1e-5)
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(got.history[name], expected.history[name], 1e-5)
    assert jl.fit(*args, epochs=2, val=plan.place_data(table(45))).compiles == 0


@pytest.mark.parametrize("how", ["reshard", "out_sharding"])
def test_what_belongs_to_explicit_axes_is_refused_with_the_reason(how):
    def loss(params, batch):
        x, y = batch
        if how == "reshard":
            x = jax.sharding.reshard(x, PartitionSpec("data"))
        hidden = jnp.einsum("bi,ij->bj", x, params["w1"], out_sharding=PartitionSpec("data"))
        return jnp.mean(hidden**2, axis=1) + y[:, 0]

    plan, step = plan_of("explicit", 1), jl.make_step(loss, jl.adam(1e-2))
    state = plan.place_state(jl.init_state(network(), step))
    with pytest.raises(ValueError, match="cannot contain axis names that are of type Auto") as raised:
        jax.jit(jl.with_plan(step, plan))(state, table(16))
    assert "There the axis 'data' of the mesh is Auto" in "".join(raised.value.__notes__)


def test_losses_may_constrain_what_they_like():
    def loss(params, batch):
        x, y = batch
        hidden = jax.lax.with_sharding_constraint(jnp.tanh(x @ params["w1"]), PartitionSpec("data"))
        return jnp.mean((hidden @ params["w2"] - y) ** 2, axis=1)

    plan = plan_of("explicit", 3)
    step = jl.make_step(loss, jl.sgd(0.1))
    jax.jit(jl.with_plan(step, plan))(plan.place_state(jl.init_state(network(), step)), table(16))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"zero": 2}, ValueError, "zero must be 0, 1 or 3. Stage 2 shards the gradients as well"),
        ({"zero": 4}, ValueError, "zero must be 0, 1 or 3; got 4"),
        ({"zero": True}, TypeError, "zero must be 0, 1 or 3; got True"),
        ({"axis": "batch"}, ValueError, "axis must be an axis of the mesh, which has 'data'; got 'batch'"),
        ({"min_size": 0}, ValueError, "min_size must be at least 1; got 0"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=f"make_plan: {message}"):
        jl.make_plan(mesh_of("auto"), **arguments)


def test_wrong_meshes():
    with pytest.raises(TypeError, match="mesh must be a jax.sharding.Mesh of devices"):
        jl.make_plan(jax.devices())
    two = jax.make_mesh((2, 4), ("other", "data"))
    with pytest.raises(ValueError, match="the mesh has the axes 'other', 'data'; say axis=..., which of them"):
        jl.make_plan(two)
    with pytest.raises(ValueError, match="the axis 'data' of the mesh is Manual"):
        jl.make_plan(jax.make_mesh((8,), ("data",), axis_types=(AxisType.Manual,)))
    step = jl.make_step(mean_loss, jl.adam(0.1))
    with pytest.raises(TypeError, match="with_plan: plan must be made by make_plan"):
        jl.with_plan(step, two)
    with pytest.raises(ValueError, match="with_plan: the step has one inside already"):
        jl.with_plan(jl.with_plan(step, plan_of()), plan_of())
    with pytest.raises(TypeError, match="a plan lays out a TrainState, as init_state makes it; got dict"):
        plan_of().place_state(network())


def test_a_plan_is_a_value():
    assert plan_of("auto", 1) == plan_of("auto", 1)
    assert hash(plan_of("auto", 1)) == hash(plan_of("auto", 1))
    assert len({plan_of("auto", 1), plan_of("auto", 3), plan_of("explicit", 1), plan_of("auto", 1, min_size=2)}) == 4
    step = jl.make_step(mean_loss, jl.adam(0.1))
    assert jax.tree.structure(jl.with_plan(step, plan_of())) == jax.tree.structure(jl.with_plan(step, plan_of()))
    assert jl.with_plan(step, plan_of()).tx == step.tx
    assert jl.with_plan(step, plan_of()).loss_fn is mean_loss
