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
from jaxopt_lessons.train.scan import run_steps
from jaxopt_lessons.train.with_plan import _gathering_params

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
    with backend_compiles() as compiled:
        scan(planned, got, data)
    assert not compiled
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
