"""``inspect.noise_scale`` where the gradient and its covariance are known, and against sums written out in NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_problems import example_loss, network, regression, scalar_loss, weighted_loss

import jaxopt_lessons as jl
from jaxopt_lessons.inspect import NoiseScale, noise_scale
from jaxopt_lessons.train import compilation

N = 23
DATA = regression(N)
PARAMS = jax.tree.map(jnp.asarray, network())


def vectors(mean, deviations, examples, seed=0):
    """Draws from a normal distribution: the gradients of ``linear`` are these vectors."""
    rng = np.random.default_rng(seed)
    return (np.asarray(mean) + np.asarray(deviations) * rng.standard_normal((examples, len(mean)))).astype(np.float32)


def linear(params, batch):
    return batch @ params


def by_hand(gradients):
    """The estimates of ``S`` and of ``|G|^2`` from one gradient per example."""
    trace = np.sum(np.var(gradients, axis=0, ddof=1))
    return trace, np.sum(np.mean(gradients, axis=0) ** 2) - trace / len(gradients)


def gradients_of(params, data):
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(np.asarray(x, np.float64)), (params, data))
        one = lambda p, x, y: scalar_loss(p, (x[None], y[None]))
        found = jax.vmap(jax.grad(one), in_axes=(None, 0, 0))(wide[0], *wide[1])
        return np.concatenate([np.asarray(leaf).reshape(len(data[1]), -1) for leaf in jax.tree.leaves(found)], axis=1)


@pytest.mark.parametrize("loss_fn", [example_loss, scalar_loss, weighted_loss])
@pytest.mark.parametrize("batch_size", [None, 4])
def test_a_network(loss_fn, batch_size):
    trace, squared = by_hand(gradients_of(PARAMS, DATA))
    found = noise_scale(loss_fn, PARAMS, DATA, batch_size=batch_size)
    assert found.covariance_trace == pytest.approx(trace, rel=1e-5)
    assert found.gradient_squared == pytest.approx(squared, rel=1e-5)
    assert found.noise_scale == pytest.approx(trace / squared, rel=1e-5)
    assert found.examples == N


@pytest.mark.parametrize("group", [1, 3, 7, 50])
def test_a_linear_loss_whose_distribution_is_known(group):
    """Groups of any size, the last one smaller, give the same within the errors that are reported."""
    mean, deviations = [1.0, -2.0, 0.5], [3.0, 1.0, 2.0]
    found = noise_scale(linear, jnp.zeros(3), vectors(mean, deviations, 1000, seed=1), group=group)
    for value, error, true in (
        (found.covariance_trace, found.covariance_trace_error, 14),
        (found.gradient_squared, found.gradient_squared_error, 5.25),
        (found.noise_scale, found.noise_scale_error, 14 / 5.25),
    ):
        assert abs(value - true) < 3 * error
        assert error < 0.4 * true


@pytest.mark.parametrize("group", [1, 4])
def test_means_and_standard_errors_over_many_sets(group):
    """Both estimates are right on the average, groups being of two sizes, and scatter as their errors say."""
    mean, deviations = [2.0, 0.0], [1.0, 2.0]
    found = [noise_scale(linear, jnp.zeros(2), vectors(mean, deviations, 30, seed), group=group) for seed in range(300)]
    for name, true in (("covariance_trace", 5), ("gradient_squared", 4)):
        values = np.array([getattr(one, name) for one in found])
        errors = np.array([getattr(one, f"{name}_error") for one in found])
        assert abs(np.mean(values) - true) < 3 * np.std(values) / math.sqrt(300), name
        assert np.sqrt(np.mean(errors**2)) == pytest.approx(np.std(values), rel=0.2), name


def test_the_error_of_the_quotient():
    found = [noise_scale(linear, jnp.zeros(2), vectors([1.0, 1.0], [1.0, 2.0], 400, seed)) for seed in range(200)]
    values = np.array([one.noise_scale for one in found])
    assert np.mean(values) == pytest.approx(2.5, rel=0.03)
    assert np.mean([one.noise_scale_error for one in found]) == pytest.approx(np.std(values), rel=0.15)


def test_examples_in_their_own_order_are_shuffled_into_groups():
    """Sorted by class: groups of neighbours would differ far more than groups drawn at random."""
    data = np.sort(vectors([1.0], [1.0], 400), axis=0)
    found = noise_scale(linear, jnp.zeros(1), data, group=20)
    assert abs(found.covariance_trace - 1) < 3 * found.covariance_trace_error
    assert found.covariance_trace_error < 0.5
    other = noise_scale(linear, jnp.zeros(1), data, group=20, key=1)
    assert found.covariance_trace != other.covariance_trace
    assert found == noise_scale(linear, jnp.zeros(1), data, group=20, key=jax.random.key(0))


def test_little_noise_around_a_large_gradient():
    """A difference of squares would lose it: float32 has 7 digits, and the variance is 1e-8 of the square."""
    data = vectors([1000.0, 1000.0], [0.1, 0.1], 500)
    trace, squared = by_hand(data.astype(np.float64))
    found = noise_scale(linear, jnp.zeros(2), data)
    assert found.covariance_trace == pytest.approx(trace, rel=2e-3)
    assert found.gradient_squared == pytest.approx(squared, rel=1e-5)


def test_at_a_minimum_it_is_infinite():
    data = vectors([0.0, 0.0], [1.0, 1.0], 50)
    data -= data.mean(axis=0)
    found = noise_scale(linear, jnp.zeros(2), data)
    assert found.noise_scale == found.noise_scale_error == math.inf
    assert -0.1 < found.gradient_squared < 0
    assert found.speedup(1000) == 0
    assert found.cost(1000) == 1


def test_equal_examples_have_none_and_no_gradient_no_number():
    same = np.ones((5, 2), np.float32)
    assert noise_scale(linear, jnp.zeros(2), same).noise_scale == 0
    assert math.isnan(noise_scale(linear, jnp.zeros(2), 0 * same).noise_scale)


def test_a_ratio_of_sums_with_weights():
    """Of a mean over tokens the noise is that of the ratio, in examples: what batches of 200 examples show."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 9, 20_000).astype(np.float32)
    sums = (tokens[:, None] * [1.0, 0.5] + np.sqrt(tokens)[:, None] * rng.standard_normal((20_000, 2))).astype(
        np.float32
    )

    def loss(params, batch):
        return jl.Weighted(jnp.sum(batch[1] @ params), jnp.sum(batch[0]))

    batches = sums.reshape(100, 200, 2).sum(axis=1) / tokens.reshape(100, 200).sum(axis=1)[:, None]
    measured = 200 * np.sum(np.var(batches, axis=0, ddof=1))
    for group in (1, 5):
        found = noise_scale(loss, jnp.zeros(2), (tokens, sums), group=group)
        assert found.covariance_trace == pytest.approx(2 / 4.5, rel=0.05)  # E tokens * 2 / (E tokens)^2
        assert measured == pytest.approx(found.covariance_trace, rel=0.3)
        assert found.gradient_squared == pytest.approx(1.25, rel=0.02)


def test_a_loss_that_needs_its_batch():
    """With the statistics of its batch a group of one has no gradient; groups of several do."""

    def loss(params, batch):
        centered = batch - jnp.mean(batch, axis=0, keepdims=True)
        return jnp.mean((centered @ params - 1) ** 2)

    data = vectors([1.0, 2.0], [1.0, 2.0], 120)
    assert noise_scale(loss, jnp.ones(2), data).covariance_trace == 0
    assert noise_scale(loss, jnp.ones(2), data, group=10).covariance_trace > 1


def test_what_it_predicts():
    found = NoiseScale(50.0, 1.0, 2.0, 0.1, 100.0, 2.0, 1000)
    assert found.speedup(50) == 0.5
    np.testing.assert_allclose(found.speedup(np.array([1, 50, 450])), [1 / 51, 0.5, 0.9])
    np.testing.assert_allclose(found.cost([25, 50]), [1.5, 2])
    without = found._replace(noise_scale=0.0)
    assert (without.speedup(3), without.cost(3)) == (1, np.inf)
    np.testing.assert_array_equal(without.cost([1, 2]), np.inf)
    for method in (found.speedup, found.cost):
        with pytest.raises(ValueError, match="batch_size must be"):
            method(0)
    assert repr(found) == "NoiseScale(50 +- 1 examples, |G|^2=2 +- 0.1, S=100 +- 2, of 1000 examples)"


def test_the_prediction_is_what_descent_does():
    """One step on a quadratic with unit curvature, at the best rate for its batch: the mean fall of the loss."""
    start, examples = np.array([1.0, -0.5]), 4000
    data = vectors([0.0, 0.0], [2.0, 2.0], examples)
    data -= data.mean(axis=0)
    loss = lambda p, batch: 0.5 * jnp.sum((p[None] - batch) ** 2, axis=1)
    found = noise_scale(loss, jnp.asarray(start, jnp.float32), data)
    rng = np.random.default_rng(1)
    for size in (2, 8, 32):
        share = found.speedup(size)  # the rate and the fall, as shares of those of the full gradient
        batches = data[rng.integers(0, examples, (20_000, size))].mean(axis=1)
        after = start - share * (start - batches)
        fall = 1 - np.mean(np.sum(after**2, axis=1)) / np.sum(start**2)
        assert fall == pytest.approx(share, rel=0.1)


def test_one_program_for_all_parameters():
    def loss(params, batch):
        return example_loss(params, batch)

    with compilation.count() as compiled:
        first = noise_scale(loss, PARAMS, DATA, group=2)
    assert compiled == ["gradients_of_groups"]
    with compilation.count() as compiled:
        other = noise_scale(loss, jax.tree.map(lambda x: 2 * x, PARAMS), DATA, group=2, key=5)
    assert compiled == []
    assert first != other


def test_a_model_state_and_a_key_that_is_none():
    def loss(params, model_state, batch, key):
        assert key is None
        return example_loss(params, batch) * model_state, model_state + 1

    found = noise_scale(loss, PARAMS, DATA, model_state=jnp.float32(2))
    assert found.covariance_trace == pytest.approx(4 * noise_scale(example_loss, PARAMS, DATA).covariance_trace)


def test_half_precision():
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
    loss = lambda p, batch: example_loss(jax.tree.map(lambda x: x.astype(jnp.float32), p), batch)
    narrow = noise_scale(loss, params, DATA)
    wide = noise_scale(loss, jax.tree.map(lambda x: x.astype(jnp.float32), params), DATA)
    assert narrow.noise_scale == pytest.approx(wide.noise_scale, rel=0.02)
    assert noise_scale(example_loss, PARAMS, DATA, policy="bfloat16").noise_scale == pytest.approx(
        noise_scale(example_loss, PARAMS, DATA).noise_scale, rel=0.1
    )


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="noise_scale: of 23 examples there is one group of 23; two are needed"):
        noise_scale(example_loss, PARAMS, DATA, group=23)
    with pytest.raises(ValueError, match="noise_scale: of 23 examples there is one group of 40"):
        noise_scale(example_loss, PARAMS, DATA, group=40)
    for name in ("group", "batch_size"):
        with pytest.raises(ValueError, match=f"noise_scale: {name} must be at least 1; got 0"):
            noise_scale(example_loss, PARAMS, DATA, **{name: 0})
    with pytest.raises(TypeError, match="noise_scale: data must be a tree of arrays"):
        noise_scale(example_loss, PARAMS, None)
    with pytest.raises(TypeError, match="noise_scale: data must be arrays, all of which are measured"):
        noise_scale(example_loss, PARAMS, jl.minibatches(DATA, 4))
    with pytest.raises(TypeError, match="noise_scale: loss_fn must be a function"):
        noise_scale(jl.make_step(example_loss, jl.sgd(0.1)), PARAMS, DATA)
    with pytest.raises(jl.InputError, match="^noise_scale: the loss must be a scalar, one number per example"):
        noise_scale(lambda p, batch: jnp.ones(7), PARAMS, DATA)
    with pytest.raises(TypeError, match="noise_scale: the results are numbers on the host"):
        jax.jit(lambda data: noise_scale(example_loss, PARAMS, data).noise_scale)(DATA)
    with pytest.raises(jl.InputError, match="noise_scale: at 'n' the parameter is int32"):
        noise_scale(example_loss, {"n": jnp.arange(2)}, DATA)
    with pytest.raises(
        ValueError, match="noise_scale: the gradient is not finite; the squared length of that of all examples is inf"
    ):
        noise_scale(lambda p, x: p / x, 1.0, np.array([1, 2, 0, 3, 4], np.float32))
    with pytest.raises(ValueError, match="noise_scale: the examples have no weight"):
        noise_scale(lambda p, x: jl.Weighted(p, jnp.float32(0)), 1.0, np.ones(4, np.float32))
