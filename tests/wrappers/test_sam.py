"""Sharpness-aware minimization: by the formula, in both modes, and where there is no direction to climb in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lessons as jl

PARAMS = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([0.3, -0.1])}
CURVATURE = {"w": jnp.array([[1.0, 3.0], [0.2, 2.0]]), "b": jnp.array([5.0, 0.5])}


def loss(params):
    return sum(
        jnp.sum(c * jnp.cos(p)) for c, p in zip(jax.tree.leaves(CURVATURE), jax.tree.leaves(params), strict=True)
    )


GRADIENT = jax.grad(loss)


def grad_fn(params, i):
    return GRADIENT(params)


def paper(params, learning_rate, rho, adaptive=None):
    """One step in float64, from the equations."""
    p = {k: np.asarray(v, np.float64) for k, v in params.items()}
    g = {k: -np.asarray(CURVATURE[k], np.float64) * np.sin(v) for k, v in p.items()}
    t = {k: np.ones_like(v) if adaptive is None else np.abs(v) + adaptive for k, v in p.items()}
    norm = np.sqrt(sum(np.sum((t[k] * g[k]) ** 2) for k in p))
    point = {k: p[k] + rho * t[k] ** 2 * g[k] / norm for k in p}
    return {k: p[k] + learning_rate * np.asarray(CURVATURE[k], np.float64) * np.sin(point[k]) for k in p}


def adversary(rho=0.3):
    return jl.chain(jl.normalize(), jl.sgd(rho))


MODES = {
    "sam": (lambda opaque: jl.sam(jl.sgd(0.1), adversary(), opaque_mode=opaque), {"rho": 0.3}),
    "asam": (
        lambda opaque: jl.asam(jl.sgd(0.1), rho=0.3, eta=0.1, opaque_mode=opaque),
        {"rho": 0.3, "adaptive": 0.1},
    ),
}


def assert_close(a, b, **tolerances):
    assert a.keys() == b.keys()
    for k in a:
        np.testing.assert_allclose(a[k], b[k], **tolerances)


@pytest.mark.parametrize("name", MODES)
def test_the_step_of_the_paper(name):
    make, arguments = MODES[name]
    expected = paper(PARAMS, 0.1, **arguments)
    tx = make(True)
    updates, _ = tx.update(GRADIENT(PARAMS), tx.init(PARAMS), PARAMS, grad_fn=grad_fn)
    assert_close(jl.apply_updates(PARAMS, updates), expected, rtol=1e-6)

    tx, params = make(False), PARAMS
    state = tx.init(params)
    for i in range(2):
        updates, state = tx.update(GRADIENT(params), state, params)
        params = jl.apply_updates(params, updates)
        # The weights to evaluate are never those at the top of a climb.
        assert_close(jl.eval_params(tx, state, params), PARAMS if i == 0 else params, rtol=0)
    assert_close(params, expected, rtol=1e-6)


def test_the_two_modes_are_one_method():
    opaque = jl.sam(jl.adam(0.1), adversary(), sync_period=3, opaque_mode=True)
    transparent = jl.sam(jl.adam(0.1), adversary(), sync_period=3)
    a = b = PARAMS
    state, other = opaque.init(a), transparent.init(b)
    for _ in range(5):
        updates, state = opaque.update(GRADIENT(a), state, a, grad_fn=grad_fn)
        a = jl.apply_updates(a, updates)
        for _ in range(3):
            updates, other = transparent.update(GRADIENT(b), other, b)
            b = jl.apply_updates(b, updates)
        assert_close(a, b, rtol=1e-5)


@pytest.mark.parametrize("opaque", [False, True])
@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_where_there_is_no_direction_nothing_moves(name, opaque, dtype):
    zeros = jax.tree.map(lambda p: jnp.zeros_like(p, dtype), PARAMS)
    tx = MODES[name][0](opaque)
    for params in (zeros, jax.tree.map(lambda p: p.astype(dtype), PARAMS)):
        state = tx.init(params)
        for _ in range(4):
            updates, state = tx.update(zeros, state, params, grad_fn=lambda params, i: zeros)
            assert not any(np.any(u) for u in jax.tree.leaves(updates))
        assert all(np.all(np.isfinite(np.asarray(x, np.float64))) for x in jax.tree.leaves(state))


def test_asam_does_not_see_how_two_layers_share_a_factor():
    """The climb of (a w, v / a) is the climb of (w, v), layer by layer as much larger and smaller as the weights."""
    tx = jl.adaptive_normalize(eta=0.0)
    params, grads = (
        {"w": jnp.array([1.0, -2.0]), "v": jnp.array([3.0])},
        {"w": jnp.array([0.3, 0.1]), "v": jnp.array([2.0])},
    )
    factors = {"w": 4.0, "v": 0.25}
    scaled = {k: p * factors[k] for k, p in params.items()}
    climb, _ = tx.update(grads, tx.init(params), params)
    other, _ = tx.update({k: g / factors[k] for k, g in grads.items()}, tx.init(scaled), scaled)
    assert_close(other, {k: c * factors[k] for k, c in climb.items()}, rtol=1e-6)


def test_asam_of_equal_weights_is_sam():
    params = jnp.full(3, 2.0)
    tx, plain = jl.adaptive_normalize(eta=0.0), jl.normalize()
    g = jnp.array([1.0, -3.0, 0.5])
    np.testing.assert_allclose(
        tx.update(g, tx.init(params), params)[0], 2 * plain.update(g, plain.init(params), params)[0], rtol=1e-6
    )


def test_gradients_are_averaged_over_a_mapped_axis():
    tx = jl.sam(jl.sgd(0.1), adversary(), opaque_mode=True, batch_axis_name="devices")
    plain = tx.replace(batch_axis_name=None)
    params, targets = jnp.array([1.0, 2.0]), jnp.array([[0.0, 1.0], [4.0, -1.0]])

    def one(target):
        grad = lambda p, i: p - target
        mean = jax.lax.pmean(grad(params, 0), "devices")
        return tx.update(mean, tx.init(params), params, grad_fn=grad)[0]

    actual = jax.vmap(one, axis_name="devices")(targets)
    mean = lambda p, i: p - jnp.mean(targets, 0)
    expected, _ = plain.update(mean(params, 0), plain.init(params), params, grad_fn=mean)
    np.testing.assert_allclose(actual, jnp.stack([expected, expected]), rtol=1e-6)


def test_opaque_mode_needs_a_gradient_function():
    tx = jl.sam(jl.sgd(0.1), jl.sgd(0.1), opaque_mode=True)
    with pytest.raises(jl.InputError, match=r"sam: needs grad_fn: call update\(updates, state, params, grad_fn=...\)"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS)


def test_opaque_mode_in_a_step_of_ones_own():
    """A plain step that hands over the gradient of the batch, trained by ``fit``."""
    tx = jl.sam(jl.sgd(0.1), adversary(0.01), opaque_mode=True)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((16, 3)), jnp.float32)

    def step(state, batch):
        value_and_grad = jax.value_and_grad(lambda p: jnp.mean((batch @ p - 1) ** 2))
        value, grads = value_and_grad(state.params)
        updates, opt_state = tx.update(
            grads, state.opt_state, state.params, grad_fn=lambda p, i: value_and_grad(p)[1], value=value
        )
        params = jl.apply_updates(state.params, updates)
        return state._replace(params=params, opt_state=opt_state, step=state.step + 1, cursor=state.cursor + 1), {
            "loss": value,
            "weight": jnp.float32(16),
        }

    out = jl.fit(step, jl.init_state(jnp.zeros(3), tx), x, steps=30, progress=False)
    assert out.history["loss"][-1] < out.history["loss"][0]


def test_a_schedule_of_the_climb_counts_climbs():
    tx = jl.asam(jl.sgd(0.0), rho=jl.manual_schedule({0: 1.0, 1: 0.5}), eta=0.0)
    params, state, lengths = jnp.array([1.0, 1.0]), None, []
    state = tx.init(params)
    for _ in range(4):
        updates, state = tx.update(jnp.array([3.0, 4.0]), state, params)
        lengths.append(float(jnp.linalg.norm(updates)))
    np.testing.assert_allclose(lengths, [1.0, 0.0, 0.5, 0.0], atol=1e-6)


def test_ranges():
    for period in (0, 1.5, "2"):
        with pytest.raises((ValueError, TypeError), match="sam: sync_period must be"):
            jl.sam(jl.sgd(0.1), jl.sgd(0.1), period)


@pytest.mark.parametrize("make", [lambda tx: jl.sam(tx, jl.sgd(0.0)), lambda tx: jl.sam(jl.sgd(0.1), tx)])
def test_optimizers_that_round_are_refused(make):
    """Between steps the parameters jump between two places, which what is kept of rounding does not follow."""
    with pytest.raises(ValueError, match="sam: kahan has its steps rounded for half-precision parameters"):
        make(jl.kahan(jl.sgd(1e-3)))
