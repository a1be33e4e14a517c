"""The search for a learning rate: what it suggests where the answer is known, and that it leaves no trace."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import bad_input
from training_problems import assert_same, backend_compiles, example_loss, network, regression

import jaxopt_lessons as jl
from jaxopt_lessons.train import compilation
from jaxopt_lessons.train.lr_find import _smoothed

CURVATURE = 4.0
FLAT = jl.minibatches(np.ones(4, np.float32))


def parabola(params, batch):
    return jnp.mean(batch) * 0.5 * CURVATURE * params**2


STEP = jl.make_step(parabola, jl.sgd(0.1))
STATE = jl.init_state(3.0, STEP.tx)


def found_by_formula(low, high, steps):
    """Gradient descent with rates ``a_i`` has ``p_(i+1) = (1 - a_i h) p_i``."""
    p, losses = 3.0, []
    for rate in np.geomspace(low, high, steps):
        losses.append(0.5 * CURVATURE * p**2)
        p *= 1 - rate * CURVATURE
    return np.array(losses)


def test_the_losses_are_those_of_the_growing_rates():
    found = jl.lr_find(STEP, STATE, FLAT, low=1e-4, high=0.1, steps=50)
    np.testing.assert_allclose(found.rates, np.geomspace(1e-4, 0.1, 50))
    np.testing.assert_allclose(found.losses, found_by_formula(1e-4, 0.1, 50), rtol=1e-4)
    assert found.losses[-1] < 0.1 * found.losses[0]
    assert len(found.rates) == len(found.losses) == len(found.smoothed) == 50


def test_it_stops_where_the_loss_grows():
    found = jl.lr_find(STEP, STATE, FLAT, low=1e-3, high=1e6, steps=200)
    diverges = 2 / CURVATURE
    assert diverges < found.rates[-1] < 1e4
    assert np.all(np.isfinite(found.losses))
    assert np.all(np.diff(found.rates) > 0)


@bad_input(46, 48)
def test_it_stops_at_a_loss_that_is_not_finite():
    def broken(params, batch):
        return jnp.where(params < 0.5, jnp.nan, jnp.mean(batch) * params**2)

    step = jl.make_step(broken, jl.sgd(0.1))
    found = jl.lr_find(step, jl.init_state(1.0, step.tx), FLAT, low=1e-3, high=10.0, steps=100)
    expected = 1.0
    for counted, rate in enumerate(np.geomspace(1e-3, 10.0, 100), 1):  # noqa: B007
        expected *= 1 - 2 * rate
        if expected < 0.5:
            break
    assert len(found.losses) == counted
    assert found.losses[-1] >= 0.25
    assert 1 < counted < 100


def test_losses_below_zero_do_not_end_it():
    step = jl.make_step(lambda params, batch: jnp.mean(batch) * params, jl.sgd(0.1))
    found = jl.lr_find(step, jl.init_state(-1.0, step.tx), FLAT, low=1e-3, high=1.0, steps=40)
    assert len(found.rates) == 40
    assert found.losses[-1] < found.losses[0] < 0


def test_the_suggestion_trains_and_a_hundred_times_it_does_not():
    step = jl.make_step(example_loss, jl.sgd(0.1))
    state, batches = jl.init_state(network(), step.tx), jl.minibatches(regression(256), 64)
    found = jl.lr_find(step, state, batches, low=1e-5, high=100.0)
    assert found.rates[0] < found.suggestion <= found.minimum < found.rates[-1]
    for rate, trains in ((found.suggestion, True), (found.minimum / 10, True), (100 * found.suggestion, False)):
        losses = jl.fit(step.replace(learning_rate=rate), state, batches, epochs=20).history.epoch_mean("loss")
        assert (losses[-1] < 0.9 * losses[0]) == trains, (rate, losses)


def test_the_suggestion_is_the_steepest_descent_before_the_minimum():
    at = np.geomspace(1e-5, 10.0, 61)
    fall = 1 / (1 + np.exp(4 * (np.log10(at) + 3)))  # steepest at 1e-3
    curve = jl.LearningRates(at, fall, fall + np.where(at > 1, np.log10(at), 0))
    np.testing.assert_allclose(curve.suggestion, 1e-3, rtol=0.01)
    np.testing.assert_allclose(curve.minimum, 1.0, rtol=1e-6)
    beyond = jl.LearningRates(at, fall, np.where(at > 5, 3 - at / 5, np.where(at > 1, 5.0, fall)))
    np.testing.assert_allclose(beyond.suggestion, 1e-3, rtol=0.01)


def test_smoothing_keeps_constants_and_does_not_lag():
    np.testing.assert_allclose(_smoothed(np.full(30, 2.5), 4.0), 2.5)
    step = np.where(np.arange(81) < 40.5, 1.0, 0.0)
    smooth = _smoothed(step, 4.0)
    np.testing.assert_allclose(smooth[40] + smooth[41], 1.0, atol=1e-6)
    noise = np.random.default_rng(0).standard_normal(200)
    assert np.std(_smoothed(noise, 5.0)) < 0.4


@bad_input(48)
def test_where_the_loss_only_rises_nothing_is_suggested():
    curve = jl.LearningRates(np.array([0.1, 1.0, 10.0]), np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match=r"^lr_find: the smoothed loss falls nowhere in 3 steps from 0.1 to 10"):
        _ = curve.suggestion
    assert [line.get_label() for line in curve.plot().axes[0].lines] == ["loss", "smoothed", "minimum / 10: 0.01"]


@pytest.mark.parametrize("remainder", ["keep", "drop", "pad", "wrap"])
@pytest.mark.parametrize("batch_size", [4, 20])
def test_every_plan_of_batches(remainder, batch_size):
    if remainder == "drop" and batch_size == 20:
        batch_size = 11
    step = jl.make_step(example_loss, jl.adam(0.1))
    batches = jl.minibatches(regression(11), batch_size, remainder=remainder)
    found = jl.lr_find(step, jl.init_state(network(), step.tx), batches, low=1e-5, high=1e-1, steps=30)
    assert len(found.rates) == 30
    assert found.losses[-1] < found.losses[0]


def test_the_state_is_untouched_and_may_be_in_the_middle_of_a_run():
    step = jl.make_step(example_loss, jl.adam(0.1))
    batches = jl.minibatches(regression(32), 8)
    state = jl.fit(step, jl.init_state(network(), step.tx), batches, steps=5).state
    before = jax.tree.map(lambda x: x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else np.array(x), state)
    first = jl.lr_find(step, state, batches)
    again = jl.lr_find(step, state, batches)
    assert_same(jax.tree.map(lambda x: x, state), jax.tree.map(jnp.asarray, before))
    np.testing.assert_array_equal(first.losses, again.losses)


def test_another_range_or_rate_compiles_nothing():
    jl.lr_find(STEP, STATE, FLAT, steps=60)
    with compilation.count() as compiled, backend_compiles() as events:
        jl.lr_find(STEP, STATE, FLAT, low=1e-4, high=1.0, steps=60)
        jl.lr_find(STEP.replace(learning_rate=0.5), STATE, FLAT, steps=60)
    assert compiled == events == []
    with compilation.count() as compiled:
        jl.lr_find(STEP, STATE, FLAT, steps=61)
    assert compiled == ["find"]


def test_a_schedule_makes_way_for_the_rates():
    step = jl.make_step(parabola, jl.chain(jl.clip_by_global_norm(1e9), jl.sgd(jl.linear_schedule(0.0, 1.0, 9))))
    found = jl.lr_find(step, jl.init_state(3.0, step.tx), FLAT, low=1e-4, high=0.1, steps=50)
    np.testing.assert_allclose(found.losses, found_by_formula(1e-4, 0.1, 50), rtol=1e-4)


def test_a_figure():
    found = jl.lr_find(STEP, STATE, FLAT, low=1e-4, high=10.0)
    (axis,) = found.plot().axes
    assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_xscale()) == ("learning rate", "loss", "log")
    losses, smoothed, suggestion, tenth = axis.lines
    np.testing.assert_array_equal(losses.get_ydata(), found.losses)
    np.testing.assert_array_equal(smoothed.get_ydata(), found.smoothed)
    assert suggestion.get_xdata()[0] == found.suggestion
    assert tenth.get_xdata()[0] == found.minimum / 10


TWO = jl.groups({"a": jl.sgd(0.1)}, default=jl.adam(0.1))
NAN = jl.make_step(lambda params, batch: params * jnp.nan * jnp.mean(batch), jl.sgd(0.1))
NO_RATE = jl.make_step(parabola, jl.scale(-0.1))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: jl.lr_find(STEP, STATE, np.ones(3)),
            TypeError,
            "lr_find: batches must be made by minibatches; got float64[3].",
        ),
        (
            lambda: jl.lr_find(parabola, STATE, FLAT),
            TypeError,
            "lr_find: step must be made by make_step; got <function",
        ),
        (
            lambda: jl.lr_find(STEP, STATE, FLAT, low=0.0),
            ValueError,
            "lr_find: low must be a finite number in (0, inf)",
        ),
        (lambda: jl.lr_find(STEP, STATE, FLAT, high=np.inf), ValueError, "lr_find: high must be a finite number"),
        (lambda: jl.lr_find(STEP, STATE, FLAT, low="a"), TypeError, "lr_find: low must be a finite number"),
        (
            lambda: jl.lr_find(STEP, STATE, FLAT, low=1.0, high=0.1),
            ValueError,
            "low must be below high; got 1.0 and 0.1.",
        ),
        (lambda: jl.lr_find(STEP, STATE, FLAT, steps=9), ValueError, "lr_find: steps must be at least 10; got 9."),
        (
            lambda: jl.lr_find(NO_RATE, jl.init_state(1.0, NO_RATE.tx), FLAT),
            TypeError,
            "lr_find: make_step: no argument 'learning_rate' to replace.",
        ),
        (
            lambda: jl.lr_find(jl.make_step(parabola, TWO), STATE, FLAT),
            ValueError,
            "lr_find: make_step: 'learning_rate' is ambiguous",
        ),
        (
            lambda: jl.lr_find(NAN, jl.init_state(1.0, NAN.tx), FLAT),
            ValueError,
            "lr_find: the loss is nan before the first update already.",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert message in str(raised.value)
