"""Every optimizer finds the bottom of a narrow bowl and of a logistic regression; one that does nothing does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES

import jaxopt_lessons as jl

CURVATURES = jnp.array([1.0, 0.3, 0.1])
RNG = np.random.default_rng(0)
FEATURES = jnp.asarray(RNG.standard_normal((200, 4)), jnp.float32)
LABELS = (FEATURES @ jnp.array([1.0, -2.0, 0.5, 0.0]) + 0.5 * jnp.asarray(RNG.standard_normal(200), jnp.float32)) > 0


def bowl(params, batch):
    return jnp.sum(CURVATURES * (params - 1) ** 2) / 2


def regression(params, batch):
    x, y = batch
    return jl.losses.sigmoid_binary_cross_entropy(x @ params, y.astype(jnp.float32))


def descend(loss_fn, tx, steps, params, data=(FEATURES, LABELS), batch_size=None):
    step = jl.make_step(loss_fn, tx)
    out = jl.fit(step, jl.init_state(params, tx), data, steps=steps, batch_size=batch_size, progress=False)
    return float(jnp.mean(loss_fn(out.state.params, data)))


# The start has loss 6.3 and 0.69; the bottom is at 0 and, by Newton's method, at 0.2316.
def minimum():
    params = jnp.zeros(4)
    mean = lambda p: jnp.mean(regression(p, (FEATURES, LABELS)))
    for _ in range(20):
        params = params - jnp.linalg.solve(jax.hessian(mean)(params), jax.grad(mean)(params))
    return float(mean(params))


OPTIMIZERS = [case for case in CASES if case.minimizes is not None]
CONTROLS = [jl.scale(0.0), jl.sgd(0.0), jl.adam(0.0)]


def converges_in_the_bowl(tx):
    return descend(bowl, tx, 500, jnp.full(3, 4.0)) < 1e-3


def converges_in_regression(tx):
    return descend(regression, tx, 600, jnp.zeros(4), batch_size=50) < minimum() + 0.02


@pytest.mark.parametrize("case", OPTIMIZERS, ids=lambda case: case.name)
def test_optimizer(case):
    tx = case.factory(**case.minimizes)
    assert converges_in_the_bowl(tx)
    assert converges_in_regression(tx)


@pytest.mark.parametrize("tx", CONTROLS, ids=repr)
def test_control(tx):
    assert not converges_in_the_bowl(tx)
    assert not converges_in_regression(tx)


def test_ascent_is_not_descent():
    assert not converges_in_the_bowl(jl.scale_by_learning_rate(0.01, flip_sign=False))


@pytest.mark.parametrize(("tx", "limit"), [(jl.sgd, 2.0), (lambda a: jl.sgd(a, 0.9), 3.8), (jl.ema_momentum, 38.0)])
def test_stability_limits_on_a_bowl_of_curvature_one(tx, limit):
    """Gradient descent 2/h, heavy ball 3.8/h, averaged momentum 38/h: stable just below, not just above."""
    loss = lambda params, batch: jnp.sum(params**2) / 2
    data = jnp.zeros(1)
    assert descend(loss, tx(0.98 * limit), 2000, jnp.ones(1), data) < 1e-3
    assert not descend(loss, tx(1.02 * limit), 2000, jnp.ones(1), data) < 1e3
