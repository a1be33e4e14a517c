"""Losses against their formulas in float64, against optax, and at the ends of the number line."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bad_inputs import bad_input

import jaxopt_lessons as jl
from jaxopt_lessons import losses

SCALES = (0.1, 1.0, 30.0, 1e4)
EXTREMES = np.array([-1e4, -100.0, -20.0, -1.0, -0.25, 0.0, 0.25, 1.0, 20.0, 100.0, 1e4], np.float32)


def numbers(shape, scale=1.0, seed=0):
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def probabilities(shape, seed=1):
    weights = np.random.default_rng(seed).random(shape) + 0.05
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)


def log_softmax(logits, axis=-1):
    shifted = logits - logits.max(axis=axis, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def huber(e, delta=1.0):
    return np.where(np.abs(e) <= delta, e**2 / 2, delta * (np.abs(e) - delta / 2))


def log_cosh(e):
    return np.abs(e) + np.log1p(np.exp(-2 * np.abs(e))) - np.log(2)


def binary_cross_entropy(z, y):
    return y * np.logaddexp(0, -z) + (1 - y) * np.logaddexp(0, z)


def hinge(z, t):
    return np.maximum(0, 1 - z * t)


def sigmoid(z):
    return np.exp(-np.logaddexp(0, -z))


SIGNS = np.where(np.arange(12).reshape(4, 3) % 2, 1.0, -1.0).astype(np.float32)
UNIT = np.random.default_rng(3).random((4, 3)).astype(np.float32)
TARGETS = numbers((4, 3), seed=2)

# name, targets, formula, derivative by the first argument: all entry by entry
ELEMENTWISE = [
    ("squared_error", TARGETS, lambda p, t: (p - t) ** 2, lambda p, t: 2 * (p - t)),
    ("l2_loss", TARGETS, lambda p, t: (p - t) ** 2 / 2, lambda p, t: p - t),
    ("huber_loss", TARGETS, lambda p, t: huber(p - t), lambda p, t: np.clip(p - t, -1, 1)),
    ("log_cosh", TARGETS, lambda p, t: log_cosh(p - t), lambda p, t: np.tanh(p - t)),
    ("hinge_loss", SIGNS, hinge, lambda p, t: np.where(p * t < 1, -t, 0)),
    ("sigmoid_binary_cross_entropy", UNIT, binary_cross_entropy, lambda p, t: sigmoid(p) - t),
]
elementwise = pytest.mark.parametrize(
    ("name", "targets", "formula", "slope"), ELEMENTWISE, ids=[r[0] for r in ELEMENTWISE]
)
WITHOUT_TARGETS = ("squared_error", "l2_loss", "huber_loss", "log_cosh")


def test_every_loss_is_tested_here():
    softmax = {"softmax_cross_entropy", "softmax_cross_entropy_with_integer_labels", "smooth_labels"}
    assert {row[0] for row in ELEMENTWISE} | softmax == set(losses.__all__)


@pytest.mark.parametrize("name", losses.__all__)
def test_arguments_are_called_as_in_optax(name):
    ours, theirs = (inspect.signature(getattr(module, name)).parameters for module in (losses, optax))
    assert list(ours) == list(theirs)[: len(ours)]
    for argument in ours:
        assert ours[argument].default == theirs[argument].default
        assert ours[argument].kind == theirs[argument].kind


# ---------------------------------------------------------------------------------------------------------------------
# Entry by entry
# ---------------------------------------------------------------------------------------------------------------------


@elementwise
@pytest.mark.parametrize("scale", SCALES)
def test_values_and_derivatives_are_the_formula(name, targets, formula, slope, scale):
    loss, predictions = getattr(losses, name), numbers((4, 3), scale)
    wide = predictions.astype(np.float64), targets.astype(np.float64)
    got = loss(predictions, targets)
    assert got.shape == (4, 3)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, formula(*wide), 3e-6, 3e-7)
    np.testing.assert_allclose(jax.grad(lambda p: jnp.sum(loss(p, targets)))(predictions), slope(*wide), 3e-6, 3e-7)


@bad_input(41)
@elementwise
def test_extreme_values_are_exact_and_their_derivatives_finite(name, targets, formula, slope):
    loss = getattr(losses, name)
    for target in (-1.0, 1.0) if name == "hinge_loss" else (0.0, 0.3, 1.0):
        wide = EXTREMES.astype(np.float64), np.full(EXTREMES.shape, target)
        narrow = wide[1].astype(np.float32)
        np.testing.assert_allclose(loss(EXTREMES, narrow), formula(*wide), 3e-6, 3e-7)
        got = jax.grad(lambda p, t=narrow: jnp.sum(loss(p, t)))(EXTREMES)
        assert np.all(np.isfinite(got))
        at_a_kink = (wide[0] * wide[1] == 1) & (name == "hinge_loss")
        np.testing.assert_allclose(np.where(at_a_kink, 0, got), np.where(at_a_kink, 0, slope(*wide)), 3e-6, 3e-7)


@elementwise
@pytest.mark.parametrize("scale", SCALES)
def test_values_are_those_of_optax(name, targets, formula, slope, scale):
    predictions = jnp.asarray(numbers((4, 3), scale, seed=5))
    expected = getattr(optax, name)(predictions, jnp.asarray(targets))
    np.testing.assert_allclose(getattr(losses, name)(predictions, targets), expected, 2e-6, 2e-7)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_confident_and_right_prediction_has_a_small_loss_with_all_its_digits(sign):
    z = np.array([15.0, 20.0, 40.0], np.float32)
    got = losses.sigmoid_binary_cross_entropy(sign * z, np.full(3, (1 + sign) / 2))
    np.testing.assert_allclose(got, np.log1p(np.exp(-z.astype(float))), 1e-5)


@pytest.mark.parametrize("name", ["squared_error", "l2_loss", "huber_loss", "log_cosh"])
def test_small_errors_have_losses_and_derivatives_with_all_their_digits(name):
    """A model that is nearly right goes on learning."""
    formula, slope = next((row[2], row[3]) for row in ELEMENTWISE if row[0] == name)
    errors = np.array([0.1, -1e-2, 1e-3, -1e-5, 1e-8], np.float32)
    wide = errors.astype(np.float64)
    expected = formula(wide, 0.0) if name != "log_cosh" else wide**2 / 2 - wide**4 / 12 + wide**6 / 45
    np.testing.assert_allclose(getattr(losses, name)(errors), expected, 2e-6)
    got = jax.vmap(jax.grad(getattr(losses, name)))(errors)
    np.testing.assert_allclose(got, slope(wide, 0.0), 2e-6)


@bad_input(52)
@elementwise
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_calculated_and_returned_in_float32(name, targets, formula, slope, dtype):
    loss = getattr(losses, name)
    predictions = jnp.asarray(numbers((4, 3), 3.0), dtype)
    got = loss(predictions, jnp.asarray(targets, dtype))
    assert got.dtype == jnp.float32
    wide = predictions.astype(jnp.float32), jnp.asarray(targets, dtype).astype(jnp.float32)
    np.testing.assert_array_equal(got, loss(*wide))
    assert jax.grad(lambda p: jnp.sum(loss(p, targets)))(predictions).dtype == dtype


@elementwise
@pytest.mark.parametrize(
    "shapes", [((4, 1), (4,)), ((4,), (4, 1)), ((4,), (1,)), ((4,), ()), ((), (4,)), ((2, 3), (3, 2))]
)
def test_shapes_are_not_broadcast(name, targets, formula, slope, shapes):
    predicted, given = shapes
    with pytest.raises(ValueError, match=f"^{name}: the targets have shape .*; they must be equal") as raised:
        getattr(losses, name)(jnp.ones(predicted), jnp.ones(given))
    assert f"shape {given}, the predictions {predicted}" in str(raised.value)


@elementwise
def test_integers_lists_and_scalars_are_taken(name, targets, formula, slope):
    loss = getattr(losses, name)
    np.testing.assert_allclose(loss([2, -3], [1, 1]), formula(np.array([2.0, -3.0]), np.ones(2)), 1e-6)
    assert loss(2, 1).shape == ()
    assert loss(2, 1).dtype == jnp.float32
    np.testing.assert_allclose(loss(np.float64(2), True), formula(2.0, 1.0), 1e-6)


@elementwise
def test_compiled_and_mapped_losses_are_the_same(name, targets, formula, slope):
    loss, predictions = getattr(losses, name), numbers((4, 3))
    expected = loss(predictions, targets)
    np.testing.assert_allclose(jax.jit(loss)(predictions, targets), expected, 1e-6)
    np.testing.assert_allclose(jax.vmap(loss)(predictions, targets), expected, 1e-6)


@pytest.mark.parametrize("name", WITHOUT_TARGETS)
def test_no_targets_are_zeros(name):
    loss, errors = getattr(losses, name), numbers((5,), 2.0)
    np.testing.assert_array_equal(loss(errors), loss(errors, np.zeros(5)))
    assert loss(jnp.asarray(errors, jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize("delta", [0.1, 2.5, np.float32(2.5), 1000])
def test_huber_is_a_parabola_with_tangents(delta):
    errors = np.concatenate([numbers((20,), 3.0), [delta, -delta, 0.0]]).astype(np.float32)
    expected = huber(errors.astype(np.float64), float(delta))
    np.testing.assert_allclose(losses.huber_loss(errors, delta=delta), expected, 1e-6, 1e-7)
    slopes = jax.vmap(jax.grad(lambda e: losses.huber_loss(e, delta=delta)))(errors)
    np.testing.assert_allclose(slopes, np.clip(errors, -delta, delta), 1e-6, 1e-7 * float(delta))
    theirs = optax.huber_loss(jnp.asarray(errors), delta=float(delta))
    np.testing.assert_allclose(losses.huber_loss(errors, delta=delta), theirs, 1e-6)


def test_delta_may_be_traced():
    got = jax.jit(lambda delta: losses.huber_loss(jnp.array([0.5, 3.0]), delta=delta))(2.0)
    np.testing.assert_allclose(got, [0.125, 4.0])


@pytest.mark.parametrize("delta", [0, -1.0, float("nan"), float("inf")])
def test_delta_must_be_positive(delta):
    with pytest.raises(ValueError, match="^huber_loss: delta must be .*; got "):
        losses.huber_loss([1.0], delta=delta)


# ---------------------------------------------------------------------------------------------------------------------
# Softmax
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
def test_softmax_cross_entropy_is_the_formula(scale):
    logits, labels = numbers((6, 5), scale), probabilities((6, 5))
    wide = log_softmax(logits.astype(np.float64))
    got = losses.softmax_cross_entropy(logits, labels)
    assert (got.shape, got.dtype) == ((6,), jnp.float32)
    np.testing.assert_allclose(got, -np.sum(labels * wide, axis=-1), 3e-6)
    np.testing.assert_allclose(got, optax.softmax_cross_entropy(jnp.asarray(logits), labels), 2e-6)
    slope = jax.grad(lambda z: jnp.sum(losses.softmax_cross_entropy(z, labels)))(logits)
    np.testing.assert_allclose(slope, np.exp(wide) - labels, 3e-6, 1e-6)


@pytest.mark.parametrize("scale", SCALES)
def test_integer_labels_choose_one_class(scale):
    logits, labels = numbers((6, 5), scale), np.array([0, 4, 2, 2, 1, 3])
    wide = log_softmax(logits.astype(np.float64))
    got = losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    assert (got.shape, got.dtype) == ((6,), jnp.float32)
    np.testing.assert_allclose(got, -wide[np.arange(6), labels], 3e-6, 1e-6)
    theirs = optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(logits), jnp.asarray(labels))
    np.testing.assert_allclose(got, theirs, 2e-6, 1e-6)
    np.testing.assert_allclose(got, losses.softmax_cross_entropy(logits, np.eye(5)[labels]), 1e-6, 1e-6)
    slope = jax.grad(lambda z: jnp.sum(losses.softmax_cross_entropy_with_integer_labels(z, labels)))(logits)
    np.testing.assert_allclose(slope, np.exp(wide) - np.eye(5)[labels], 3e-6, 1e-6)


def test_adding_a_number_to_all_logits_changes_nothing():
    logits, labels = np.round(numbers((3, 4)) * 64) / 64, np.array([0, 1, 3])
    plain = losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    np.testing.assert_allclose(losses.softmax_cross_entropy_with_integer_labels(logits + 1e4, labels), plain, 1e-6)


@bad_input(41)
def test_extreme_logits_have_finite_losses_and_derivatives():
    logits = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [-1e4, -1e4, -1e4]], np.float32)
    onehot = np.eye(3, dtype=np.float32)
    expected = [[0, 2e4, 1e4], [2e4 + np.log(2), np.log(2), np.log(2)], [np.log(3)] * 3]
    for label in range(3):
        losses_and_slopes = [
            jax.value_and_grad(lambda z, t=targets, loss=loss: jnp.sum(loss(z, t) * jnp.arange(1.0, 4.0)))(logits)
            for loss, targets in (
                (losses.softmax_cross_entropy_with_integer_labels, np.full(3, label)),
                (losses.softmax_cross_entropy, np.tile(onehot[label], (3, 1))),
            )
        ]
        for value, slope in losses_and_slopes:
            assert float(value) == pytest.approx(sum((i + 1) * expected[i][label] for i in range(3)), rel=1e-6)
            assert np.all(np.isfinite(slope))


@bad_input(40)
def test_a_class_that_is_ruled_out_costs_nothing_where_it_has_no_probability():
    """0 times -inf is 0."""
    logits = np.array([[0.0, -np.inf, 0.0]], np.float32)
    assert float(losses.softmax_cross_entropy(logits, np.array([[0.5, 0.0, 0.5]]))[0]) == pytest.approx(np.log(2))
    slope = jax.grad(lambda z: losses.softmax_cross_entropy(z, np.array([[1.0, 0.0, 0.0]]))[0])(logits)
    np.testing.assert_allclose(slope, [[-0.5, 0.0, 0.5]], 1e-6)
    assert float(losses.softmax_cross_entropy(logits, np.array([[0.0, 1.0, 0.0]]))[0]) == np.inf


@pytest.mark.parametrize("label", [-1, 5, 1000, -(2**31), 2**31 - 1])
def test_a_label_out_of_range_gives_nan_and_only_there(label):
    logits, labels = numbers((3, 5)), np.array([1, label, 2])
    got = losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    assert np.isnan(got).tolist() == [False, True, False]
    assert np.isnan(jax.jit(losses.softmax_cross_entropy_with_integer_labels)(logits, labels)).tolist() == [0, 1, 0]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64])
def test_labels_may_be_of_any_integer_dtype(dtype):
    logits, labels = numbers((3, 200)), np.array([0, 100, 127])
    expected = losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    np.testing.assert_array_equal(
        losses.softmax_cross_entropy_with_integer_labels(logits, labels.astype(dtype)), expected
    )
    if dtype == np.uint8:
        got = losses.softmax_cross_entropy_with_integer_labels(logits, np.array([199, 200, 255], dtype))
        assert np.isnan(got).tolist() == [False, True, True]


@pytest.mark.parametrize("axis", [0, 1, -1, -3])
def test_classes_may_be_along_any_axis(axis):
    logits, weights = numbers((3, 4, 5)), np.random.default_rng(1).random((3, 4, 5)).astype(np.float32)
    last = np.moveaxis(logits, axis, -1)
    got = losses.softmax_cross_entropy(logits, weights, axis=axis)
    np.testing.assert_allclose(got, losses.softmax_cross_entropy(last, np.moveaxis(weights, axis, -1)), 1e-6)
    labels = np.random.default_rng(2).integers(0, last.shape[-1], last.shape[:-1])
    got = losses.softmax_cross_entropy_with_integer_labels(logits, labels, axis=axis)
    np.testing.assert_allclose(got, losses.softmax_cross_entropy_with_integer_labels(last, labels), 1e-6)
    theirs = optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(logits), jnp.asarray(labels), axis=axis)
    np.testing.assert_allclose(got, theirs, 2e-6)


def test_classes_may_be_along_several_axes():
    logits, labels = numbers((3, 4, 5)), probabilities((3, 20)).reshape(3, 4, 5)
    got = losses.softmax_cross_entropy(logits, labels, axis=(1, 2))
    assert got.shape == (3,)
    np.testing.assert_allclose(got, losses.softmax_cross_entropy(logits.reshape(3, 20), labels.reshape(3, 20)), 1e-6)


def test_where_leaves_classes_out():
    logits, labels = numbers((4, 5)), np.array([0, 2, 4, 2])
    keep = np.array([True, False, True, False, True])
    where = np.tile(keep, (4, 1))
    weights = np.where(where, probabilities((4, 5)), 7.0).astype(np.float32)
    got = losses.softmax_cross_entropy(logits, weights, where=where)
    np.testing.assert_allclose(got, losses.softmax_cross_entropy(logits[:, keep], weights[:, keep]), 1e-6)
    got = losses.softmax_cross_entropy_with_integer_labels(logits, labels, where=where)
    renamed = np.array([0, 1, 2, 1])
    np.testing.assert_allclose(got, losses.softmax_cross_entropy_with_integer_labels(logits[:, keep], renamed), 1e-6)
    slope = jax.grad(lambda z: jnp.sum(losses.softmax_cross_entropy(z, weights, where=where)))(logits)
    assert np.all(np.isfinite(slope))
    assert np.all(np.asarray(slope)[:, ~keep] == 0)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_softmax_of_half_precision_is_calculated_in_float32(dtype):
    logits, labels = jnp.asarray(numbers((4, 300), 3.0), dtype), np.arange(4)
    wide = logits.astype(jnp.float32)
    for loss, targets in (
        (losses.softmax_cross_entropy_with_integer_labels, labels),
        (losses.softmax_cross_entropy, jnp.asarray(np.eye(300)[:4], dtype)),
    ):
        got = loss(logits, targets)
        assert got.dtype == jnp.float32
        np.testing.assert_array_equal(got, loss(wide, targets))


def test_compiled_and_mapped_softmax_losses_are_the_same():
    logits, labels = numbers((4, 5)), np.arange(4)
    loss = losses.softmax_cross_entropy_with_integer_labels
    np.testing.assert_allclose(jax.jit(loss)(logits, labels), loss(logits, labels), 1e-6)
    np.testing.assert_allclose(jax.vmap(loss)(logits, labels), loss(logits, labels), 1e-6)


INTEGER = "softmax_cross_entropy_with_integer_labels"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: losses.softmax_cross_entropy(np.ones((4, 5)), np.ones((4, 1))),
            ValueError,
            r"^softmax_cross_entropy: the targets have shape \(4, 1\), the predictions \(4, 5\); they must be equal",
        ),
        (
            lambda: losses.softmax_cross_entropy_with_integer_labels(np.ones((4, 5)), np.zeros((4, 1), int)),
            ValueError,
            rf"^{INTEGER}: labels have shape \(4, 1\), logits without the class axis \(4,\); they must be equal",
        ),
        (
            lambda: losses.softmax_cross_entropy_with_integer_labels(np.ones((4, 5)), np.zeros(5, int)),
            ValueError,
            rf"^{INTEGER}: labels have shape \(5,\), logits without the class axis \(4,\)",
        ),
        (
            lambda: losses.softmax_cross_entropy_with_integer_labels(np.ones((4, 5)), np.zeros(4, int), axis=0),
            ValueError,
            rf"^{INTEGER}: labels have shape \(4,\), logits without the class axis \(5,\)",
        ),
        (
            lambda: losses.softmax_cross_entropy_with_integer_labels(np.ones((4, 5)), np.zeros(4)),
            TypeError,
            rf"^{INTEGER}: labels must be integers; got float32\[4\]",
        ),
        (
            lambda: losses.softmax_cross_entropy_with_integer_labels(np.ones((4, 5)), np.zeros(4, bool)),
            TypeError,
            rf"^{INTEGER}: labels must be integers; got bool\[4\]",
        ),
        (
            lambda: losses.softmax_cross_entropy(np.ones((4, 5)), np.ones((4, 5)), where=np.ones(5, bool)),
            ValueError,
            r"^softmax_cross_entropy: the bools in where have shape \(5,\), the logits \(4, 5\); they must be equal",
        ),
        (
            lambda: losses.softmax_cross_entropy_with_integer_labels(
                np.ones((4, 5)), np.zeros(4, int), where=np.ones((4, 1), bool)
            ),
            ValueError,
            rf"^{INTEGER}: the bools in where have shape \(4, 1\), the logits \(4, 5\)",
        ),
        (
            lambda: losses.softmax_cross_entropy_with_integer_labels(np.float32(1), np.int32(0)),
            ValueError,
            f"^{INTEGER}: .*axis",
        ),
        (
            lambda: losses.smooth_labels([object()], 0.1),
            TypeError,
            "^smooth_labels: labels must be .* real numbers",
        ),
        (lambda: losses.smooth_labels([0.0, 1.0], -0.1), ValueError, "^smooth_labels: alpha must be .*; got -0.1"),
        (lambda: losses.smooth_labels([0.0, 1.0], 1.1), ValueError, "^smooth_labels: alpha must be .*; got 1.1"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---------------------------------------------------------------------------------------------------------------------
# Smoothing
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0, 1])
def test_smooth_labels_move_towards_the_uniform_distribution(alpha):
    labels = probabilities((3, 4))
    got = losses.smooth_labels(labels, alpha)
    np.testing.assert_allclose(got, (1 - alpha) * labels.astype(np.float64) + alpha / 4, 1e-6)
    np.testing.assert_allclose(got, optax.smooth_labels(jnp.asarray(labels), alpha), 1e-6)
    np.testing.assert_allclose(np.sum(got, axis=-1), 1, 1e-6)


def test_smooth_labels_take_integers_and_half_precision():
    onehot = np.eye(4)[[1, 3]]
    for labels in (onehot.astype(int), jnp.asarray(onehot, jnp.bfloat16), onehot):
        got = losses.smooth_labels(labels, 0.2)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, 0.8 * onehot + 0.05, 1e-6)


def test_a_vector_of_losses_is_what_a_step_takes():
    """The example in the module's docstring: a linear classifier learns one class per input."""
    x, y = np.eye(4, dtype=np.float32), np.array([2, 0, 3, 1])

    def loss(params, batch):
        return losses.softmax_cross_entropy_with_integer_labels(batch[0] @ params, batch[1])

    step = jl.make_step(loss, jl.sgd(4.0))
    state = jl.init_state(np.zeros((4, 4), np.float32), step.tx)
    for _ in range(20):
        state, metrics = step(state, (x, y))
    assert np.argmax(x @ state.params, axis=1).tolist() == y.tolist()
    assert float(metrics["loss"]) < 0.1 < np.log(4)
