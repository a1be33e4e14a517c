"""``inspect`` on parameters that are divided among devices: the numbers of one device, and trees divided alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxopt_lessons as jl

X = np.random.default_rng(1).standard_normal((16, 8)).astype(np.float32)
PARAMS = {"w": np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8), "b": np.ones(8, np.float32)}
LANCZOS = {"steps": 5, "probes": 3}


def loss(params, batch):
    return jnp.mean(jnp.tanh(batch @ params["w"] + params["b"][None]) ** 2, axis=-1)


@pytest.fixture(params=["Auto", "Explicit"])
def divided(request):
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType[request.param],), devices=jax.devices()[:4])
    specs = {"w": PartitionSpec("x", None), "b": PartitionSpec()}
    return jax.tree.map(lambda leaf, spec: jax.device_put(leaf, NamedSharding(mesh, spec)), PARAMS, specs)


@pytest.mark.parametrize("options", [{}, LANCZOS, {**LANCZOS, "batch_size": 5}])
def test_curvature(divided, options):
    found, expected = (jl.inspect.curvature(loss, params, X, **options) for params in (divided, PARAMS))
    np.testing.assert_allclose(found.eigenvalues, expected.eigenvalues, atol=1e-5 * expected.sharpness)
    assert found.trace == pytest.approx(expected.trace, abs=1e-5)
    for tree in (found.top, found.bottom):
        assert jl.tree.global_norm(tree) == pytest.approx(1, rel=1e-5)
    if jax.typeof(divided["w"]).sharding.spec[0] == "x":
        assert found.top["w"].sharding == divided["w"].sharding


@pytest.mark.parametrize("options", [{}, {"group": 3, "batch_size": 6}])
def test_noise_scale(divided, options):
    found, expected = (jl.inspect.noise_scale(loss, params, X, **options) for params in (divided, PARAMS))
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_a_landscape_along_a_trajectory(divided):
    planes = []
    for params in (divided, PARAMS):
        step = jl.make_step(loss, jl.adam(0.1))
        run = jl.inspect.trajectory(step, jl.init_state(params, step), X, steps=5, batch_size=5)
        plane = jl.inspect.landscape(loss, params, X, directions=run, resolution=2)
        planes.append((run.losses, plane.losses, np.abs(plane.project(run).coordinates)))
    for found, expected in zip(*planes, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
