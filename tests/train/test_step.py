"""One step: what it does to the state, what a loss function may return, and the step as a value."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bad_inputs import bad_input
from training_problems import (
    assert_near,
    assert_same,
    distance,
    example_loss,
    network,
    noisy_loss,
    plain,
    quadratic,
    regression,
    scalar_loss,
    weighted_loss,
)

import jaxopt_lessons as jl
from jaxopt_lessons.train.objective import LossFunction
from jaxopt_lessons.train.step import LOSS_STREAM, SHUFFLE_STREAM

BATCH = regression(6)
TWO_POINTS = np.array([[1.0, 3.0], [3.0, 5.0]], np.float32)
SGD = jl.sgd(0.1)


def take_step(loss_fn, tx=SGD, batch=BATCH, params=None, mask=None, key=0):
    step = jl.make_step(loss_fn, tx)
    state = jl.init_state(network() if params is None else params, step.tx, key=key)
    return jax.jit(lambda state, batch, mask: step(state, batch, mask))(state, batch, mask)


# ---------------------------------------------------------------------------------------------------------------------
# The update
# ---------------------------------------------------------------------------------------------------------------------


def test_a_step_of_gradient_descent_is_the_formula():
    state, metrics = take_step(quadratic, jl.sgd(0.25), TWO_POINTS, np.zeros(2, np.float32))
    np.testing.assert_array_equal(state.params, [0.5, 1.0])
    assert {name: float(value) for name, value in metrics.items()} == {"loss": 11.0, "weight": 2.0}


def test_every_step_counts_an_update_and_a_batch():
    step = jl.make_step(example_loss, SGD)
    state = jl.init_state(network(), SGD)._replace(step=jnp.int32(4), cursor=jnp.int32(7))
    new, _ = step(state, BATCH)
    assert (int(new.step), int(new.cursor)) == (5, 8)
    assert (new.step.dtype, new.cursor.dtype) == (jnp.int32, jnp.int32)
    assert_same(new.key, state.key)
    assert new.model_state is state.model_state
    assert jax.tree.structure(new) == jax.tree.structure(state)


def test_counters_stay_at_the_largest_number():
    largest = jnp.int32(2**31 - 1)
    state = jl.init_state(network(), SGD)._replace(step=largest, cursor=largest)
    new, _ = jl.make_step(example_loss, SGD)(state, BATCH)
    assert (int(new.step), int(new.cursor)) == (2**31 - 1, 2**31 - 1)


def test_the_optimizer_gets_its_state_and_the_parameters():
    """Three steps of Adam with decoupled decay, against optax by hand (which is not strict about dtypes)."""
    tx, twin = jl.adamw(0.1, weight_decay=0.3), optax.adamw(0.1, weight_decay=0.3)
    state, params = jl.init_state(network(), tx), jax.tree.map(jnp.asarray, network())
    opt_state, step = twin.init(params), jl.make_step(scalar_loss, tx)
    for _ in range(3):
        state, _ = step(state, BATCH)
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = twin.update(jax.grad(scalar_loss)(params, BATCH), opt_state, params)
        params = optax.apply_updates(params, updates)
    assert_near(state.params, params, 2e-6)


def test_the_step_itself_can_be_compiled():
    step = jl.make_step(noisy_loss, jl.adam(0.1))
    state = jl.init_state(network(), jl.adam(0.1))
    assert_near(jax.jit(step)(state, BATCH), step(state, BATCH))


@jax.numpy_dtype_promotion("standard")
@pytest.mark.parametrize("make", [optax.sgd, functools.partial(optax.sgd, momentum=0.9), optax.adam])
def test_optax_transformations_are_optimizers(make):
    tx, params = make(0.05), jax.tree.map(jnp.asarray, network())
    step, state, opt_state = jl.make_step(example_loss, tx), jl.init_state(network(), tx), tx.init(params)
    for _ in range(3):
        state, _ = step(state, BATCH)
        updates, opt_state = tx.update(jax.grad(scalar_loss)(params, BATCH), opt_state, params)
        params = optax.apply_updates(params, updates)
    assert_near(state.params, params, 2e-6)
    assert_near(state.opt_state, opt_state, 2e-6)


def test_a_plain_pair_of_functions_is_an_optimizer():
    pair = (lambda params: (), lambda updates, state, params: (jax.tree.map(lambda g: -0.1 * g, updates), state))
    step = jl.make_step(scalar_loss, pair)
    state, _ = step(jl.init_state(network(), step.tx), BATCH)
    assert_near(state.params, take_step(scalar_loss)[0].params)


def test_the_loss_reaches_a_transformation_that_asks_for_it():
    def update(updates, state, params=None, *, value):
        return jax.tree.map(lambda g: -value * g, updates), state

    tx = jl.GradientTransformation(lambda params: (), update)
    state, metrics = take_step(quadratic, tx, TWO_POINTS, np.zeros(2, np.float32))
    assert float(metrics["loss"]) == 11.0
    np.testing.assert_allclose(state.params, [22.0, 44.0], 1e-6)


@jax.numpy_dtype_promotion("standard")
def test_the_loss_reaches_optax_transformations_that_ask_for_it():
    tx = optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau(factor=0.5, patience=1, cooldown=0))
    step = jl.make_step(lambda params, batch: jnp.float32(1.0), tx)
    state = jl.init_state(network(), step.tx)
    for _ in range(6):
        state, _ = step(state, BATCH)
    assert float(optax.tree_utils.tree_get(state.opt_state, "scale")) < 1


@bad_input(54)
@pytest.mark.parametrize("returns", ["scalar", "vector"])
def test_complex_parameters_descend(returns):
    """Gradient descent on |w - c|^2 halves the distance at each step; the conjugate gradient would not converge."""
    c = np.array([1 + 2j, -3 - 1j], np.complex64)

    def loss(params, batch):
        squares = jnp.abs(params - batch[0]) ** 2
        return jnp.sum(squares) if returns == "scalar" else jnp.sum(squares)[None]

    step, state = jl.make_step(loss, jl.sgd(0.25)), jl.init_state(np.zeros(2, np.complex64), jl.sgd(0.25))
    once, _ = step(state, c[None])
    np.testing.assert_allclose(once.params, c / 2, 1e-6)
    for _ in range(25):
        state, _ = step(state, c[None])
    np.testing.assert_allclose(state.params, c, 1e-6)


def test_parameters_keep_their_dtype_and_losses_are_added_in_float32():
    """In bfloat16 a sum of ones stops at 256."""
    params = jnp.zeros((1,), jnp.bfloat16)
    state, metrics = take_step(
        lambda p, b: jnp.sum(p) + jnp.ones(b.shape, jnp.bfloat16), batch=np.zeros(1000, np.float32), params=params
    )
    assert float(metrics["loss"]) == 1
    assert float(metrics["weight"]) == 1000
    assert metrics["loss"].dtype == jnp.float32
    assert state.params.dtype == jnp.bfloat16
    assert plain(state.params).astype(float) == pytest.approx(-0.1, rel=0.03)


# ---------------------------------------------------------------------------------------------------------------------
# What a loss function may return
# ---------------------------------------------------------------------------------------------------------------------


def test_a_scalar_a_vector_and_a_weighted_loss_are_one_loss():
    expected_loss = float(scalar_loss(jax.tree.map(jnp.asarray, network()), BATCH))
    steps = [take_step(loss_fn) for loss_fn in (scalar_loss, example_loss, weighted_loss)]
    for state, metrics in steps:
        np.testing.assert_allclose(metrics["loss"], expected_loss, 1e-6)
        assert float(metrics["weight"]) == 6
        assert_near(state.params, steps[0][0].params)
    assert distance(steps[0][0].params, jax.tree.map(jnp.asarray, network())) > 0.01


def test_the_weight_of_a_weighted_loss_is_what_it_says():
    def loss(params, batch):
        return jl.Weighted(jnp.sum(quadratic(params, batch)), jnp.float32(8))

    state, metrics = take_step(loss, jl.sgd(1.0), TWO_POINTS, np.zeros(2, np.float32))
    np.testing.assert_array_equal(state.params, [0.5, 1.0])
    assert {name: float(value) for name, value in metrics.items()} == {"loss": 22 / 8, "weight": 8.0}


def test_a_batch_of_weight_0_has_loss_0_and_changes_nothing():
    def loss(params, batch):
        return jl.Weighted(jnp.sum(params * 0.0), jnp.float32(0))

    state, metrics = take_step(loss, params=np.ones(2, np.float32))
    np.testing.assert_array_equal(state.params, np.ones(2))
    assert {name: float(value) for name, value in metrics.items()} == {"loss": 0.0, "weight": 0.0}


@pytest.mark.parametrize("loss_fn", [scalar_loss, example_loss, weighted_loss])
def test_metrics_are_scalars_vectors_or_weighted(loss_fn):
    def loss(params, batch):
        metrics = {
            "scalar": jnp.float32(3.0),
            "half": jnp.float16(0.5),
            "whole": jnp.int32(7),
            "python": 0.25,
            "vector": jnp.arange(6.0),
            "hits": jnp.arange(6) < 2,
            "weighted": jl.Weighted(jnp.float32(3.0), jnp.float32(12.0)),
        }
        return loss_fn(params, batch), metrics

    state, metrics = take_step(loss)
    plain_state, plain_metrics = take_step(loss_fn)
    assert_same(state, plain_state)
    assert {name: float(value) for name, value in metrics.items()} == {
        "loss": float(plain_metrics["loss"]),
        "weight": 6.0,
        "scalar": 3.0,
        "half": 0.5,
        "whole": 7.0,
        "python": 0.25,
        "vector": 2.5,
        "hits": pytest.approx(1 / 3, rel=1e-6),
        "weighted": 0.25,
    }
    assert {value.dtype.name for value in metrics.values()} == {"float32"}
    assert {value.shape for value in metrics.values()} == {()}


def test_a_batch_of_one_may_have_a_loss_of_either_shape():
    one = tuple(part[:1] for part in BATCH)
    assert_near(take_step(scalar_loss, batch=one), take_step(example_loss, batch=one))


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        (lambda e: e[:2], r"the loss must be a scalar, one number per example \(shape \(6,\)\), .* of shape \(2,\)"),
        (lambda e: e[:, None], r"the loss must be a scalar, .*; got an array of shape \(6, 1\)"),
        (lambda e: jl.Weighted(e, jnp.float32(6)), r"the loss must be .* Weighted with shapes \(6,\) and \(\)"),
        (lambda e: jl.Weighted(e.sum(), jnp.ones(6)), r"the loss must be .* Weighted with shapes \(\) and \(6,\)"),
        (lambda e: e.astype(jnp.complex64), r"the loss must be real; got complex64\[6\]"),
        (lambda e: (e, {"m": jnp.zeros(5)}), r"the metric 'm' must be a scalar, .*; got an array of shape \(5,\)"),
        (lambda e: (e, {"m": jnp.complex64(1j)}), r"the metric 'm' must be real; got complex64\[\]"),
        (lambda e: None, "the loss must be a number or an array; got one NoneType"),
        (lambda e: {"loss": e}, "the loss must be a number or an array; got one dict"),
        (lambda e: (e, {"m": "high"}), "the metric 'm' must be a number or an array; got one str"),
        (lambda e: (e, {"loss": e}), r"the metrics of a loss function cannot be called 'loss'"),
        (lambda e: (e, {"weight": e}), r"the metrics of a loss function cannot be called 'weight'"),
        (lambda e: (e, e), r"returns a loss, or \(loss, dict of metrics\); got a tuple of \(\w+, \w+\)"),
        (lambda e: (e, {}, {}), r"returns a loss, or \(loss, dict of metrics\); got a tuple of \(\w+, dict, dict\)"),
        (lambda e: (e,), r"returns a loss, or \(loss, dict of metrics\); got a tuple of \(\w+\)"),
    ],
)
def test_a_loss_function_that_returns_something_else_is_refused(returns, message):
    with pytest.raises(jl.InputError, match=message):
        take_step(lambda params, batch: returns(example_loss(params, batch)))


# ---------------------------------------------------------------------------------------------------------------------
# Masks
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filling", [0.0, 3.0, 1e6])
def test_masked_examples_change_nothing(filling):
    def loss(params, batch):
        errors = example_loss(params, batch)
        return errors, {"largest": errors, "count": jnp.ones(errors.shape, jnp.int32)}

    mask = np.array([True, False, True, True, False, True])
    x, y = BATCH[0].copy(), BATCH[1].copy()
    x[~mask], y[~mask] = filling, -filling
    masked = take_step(loss, batch=(x, y), mask=mask)
    subset = take_step(loss, batch=(x[mask], y[mask]))
    assert_near(masked, subset)
    assert float(masked[1]["weight"]) == 4
    assert float(masked[1]["count"]) == 1
    assert distance(masked[0].params, take_step(loss, batch=(x, y))[0].params) > 1e-3


def test_losses_that_are_masked_may_be_nan():
    """Their values are taken out; a gradient through a NaN is not promised to be finite."""
    mask = np.array([True, True, False])
    values = jnp.array([1.0, 3.0, jnp.nan])
    state, metrics = take_step(lambda p, b: p + values, batch=np.zeros((3, 2)), mask=mask, params=np.float32(0.0))
    assert float(metrics["loss"]) == 2
    np.testing.assert_allclose(state.params, -0.1, 1e-6)


@pytest.mark.parametrize(
    ("loss_fn", "name"),
    [
        (scalar_loss, "the loss"),
        (weighted_loss, "the loss"),
        (lambda params, batch: (example_loss(params, batch), {"m": jnp.float32(1)}), "the metric 'm'"),
        (
            lambda params, batch: (example_loss(params, batch), {"m": jl.Weighted(jnp.float32(1), jnp.float32(1))}),
            "the metric 'm'",
        ),
    ],
)
def test_a_number_that_already_contains_the_filling_is_refused(loss_fn, name):
    with pytest.raises(jl.InputError, match=f"^{name} is .* contains the examples that fill up the batch"):
        take_step(loss_fn, mask=np.array([True] * 5 + [False]))


# ---------------------------------------------------------------------------------------------------------------------
# Keys
# ---------------------------------------------------------------------------------------------------------------------


def drawing_loss(params, batch, key):
    """Tells a random number that it draws with its key."""
    return example_loss(params, batch), {"drawn": jax.random.uniform(key)}


def drawn(state, batch=BATCH, tx=SGD, loss_fn=drawing_loss):
    return float(jl.make_step(loss_fn, tx)(state, batch)[1]["drawn"])


def test_the_key_of_a_loss_depends_on_the_root_key_and_the_cursor_and_on_nothing_else():
    state = jl.init_state(network(), SGD, key=1)
    reference = drawn(state)
    assert drawn(state) == reference
    assert drawn(state._replace(step=jnp.int32(9), params=jax.tree.map(lambda x: x + 1, state.params))) == reference
    assert drawn(state, batch=regression(9, seed=4)) == reference
    assert drawn(jl.init_state(network(), jl.adam(0.1), key=1), tx=jl.adam(0.1)) == reference
    others = [drawn(state._replace(cursor=jnp.int32(cursor))) for cursor in range(1, 6)]
    others += [drawn(jl.init_state(network(), SGD, key=key)) for key in range(2, 6)]
    assert len({reference, *others}) == 10


def test_the_key_of_a_loss_is_the_same_in_every_release():
    """Else a run that is saved with one release and goes on with the next would change its course."""
    key = jax.random.key(1)
    expected = jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, 0x6C6F7373), 5))
    assert drawn(jl.init_state(network(), SGD, key=key)._replace(cursor=jnp.int32(5))) == float(expected)


def test_shuffling_and_losses_do_not_share_random_numbers():
    key = jax.random.key(1)
    assert SHUFFLE_STREAM != LOSS_STREAM
    order = jl.minibatches(np.zeros(9), 2).order(key)
    assert not np.array_equal(order, jax.random.bits(jax.random.fold_in(key, LOSS_STREAM), (2,)))
    assert not np.array_equal(order, jax.random.bits(key, (2,)))


def test_losses_do_not_draw_what_split_gave_for_something_else():
    """``split(key, n)[i]`` is ``fold_in(key, i)``, and people make their parameters with a part of the same key."""
    key = jax.random.key(1)
    state = jl.init_state(network(), SGD, key=key)
    drawn_by_losses = {drawn(state._replace(cursor=jnp.int32(cursor))) for cursor in range(5)}
    parts = jax.random.split(key, 20)
    folded = jax.vmap(lambda part: jax.vmap(lambda i: jax.random.fold_in(part, i))(jnp.arange(5)))(parts)
    others = jax.vmap(jax.random.uniform)(jnp.concatenate([parts, folded.reshape(-1), key[None]]))
    assert len(drawn_by_losses) == 5
    assert not drawn_by_losses & set(others.tolist())


def loss_with_keyword_key(params, batch, *, key):
    return drawing_loss(params, batch, key)


def loss_with_key_after_an_option(params, batch, train=True, key=None):
    assert train is True
    return drawing_loss(params, batch, key)


@pytest.mark.parametrize(
    "loss_fn",
    [
        lambda params, batch, rng: drawing_loss(params, batch, rng),
        lambda params, batch, key=None: drawing_loss(params, batch, key),
        loss_with_keyword_key,
        loss_with_key_after_an_option,
    ],
    ids=["third", "default", "keyword", "after an option"],
)
def test_a_loss_with_a_third_argument_or_one_named_key_gets_a_key(loss_fn):
    state = jl.init_state(network(), SGD, key=1)
    assert drawn(state, loss_fn=loss_fn) == drawn(state)


@pytest.mark.parametrize(
    "loss_fn",
    [
        example_loss,
        lambda params, batch, scale=1.0: scale * example_loss(params, batch),
        lambda params, batch, *rest: example_loss(params, batch) * (1 + len(rest)),
        lambda params, batch, **options: example_loss(params, batch) * (1 + len(options)),
        functools.partial(lambda scale, params, batch: scale * example_loss(params, batch), 1.0),
    ],
    ids=["two", "option", "rest", "options", "partial"],
)
def test_other_losses_get_none(loss_fn):
    assert_same(take_step(loss_fn), take_step(example_loss))


def test_measuring_outside_of_training_gives_no_key():
    params = jax.tree.map(jnp.asarray, network())
    loss, _, _ = LossFunction(noisy_loss).measure(params, None, BATCH, None)
    np.testing.assert_allclose(loss.mean(), scalar_loss(params, BATCH), 1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# The step as a value
# ---------------------------------------------------------------------------------------------------------------------


def test_a_step_prints_as_the_call_that_made_it():
    assert repr(jl.make_step(example_loss, jl.sgd(0.1))) == "make_step(loss_fn=example_loss, tx=sgd(learning_rate=0.1))"


def test_steps_compare_and_hash_by_their_arguments():
    step = jl.make_step(example_loss, jl.sgd(0.1))
    same, others = (
        jl.make_step(example_loss, jl.sgd(0.1)),
        [
            jl.make_step(example_loss, jl.sgd(0.2)),
            jl.make_step(scalar_loss, jl.sgd(0.1)),
            jl.make_step(example_loss, jl.sgd(0.1, momentum=0.9)),
        ],
    )
    assert step == same
    assert hash(step) == hash(same)
    assert pickle.loads(pickle.dumps(step)) == step
    assert all(step != other for other in others)
    assert len({step, same, *others}) == 4


def test_a_step_tells_its_loss_and_its_optimizer():
    step = jl.make_step(example_loss, jl.sgd(0.1))
    assert step.loss_fn is example_loss
    assert step.tx == jl.sgd(0.1)
    assert jax.tree.leaves(step) == [0.1]


def test_replace_gives_a_step_with_another_learning_rate():
    step = jl.make_step(example_loss, jl.sgd(0.1))
    assert step.replace(learning_rate=0.2) == jl.make_step(example_loss, jl.sgd(0.2))
    assert step == jl.make_step(example_loss, jl.sgd(0.1))
    with pytest.raises(TypeError, match=r"no argument 'learning_rat' to replace. Did you mean 'learning_rate'\?"):
        step.replace(learning_rat=0.2)
    with pytest.raises(ValueError, match=r"learning_rate must be .*; got -1"):
        step.replace(learning_rate=-1)


def test_a_step_is_an_argument_of_a_compiled_function_that_any_learning_rate_shares():
    traces = []

    @jax.jit
    def run(step, state):
        traces.append(step)
        return step(state, BATCH)[0].params

    state = jl.init_state(network(), SGD)
    moved = [run(jl.make_step(example_loss, jl.sgd(rate)), state) for rate in (0.1, 0.2, 0.4)]
    assert len(traces) == 1
    for rate, params in zip((0.1, 0.2, 0.4), moved, strict=True):
        assert_near(params, take_step(example_loss, jl.sgd(rate))[0].params)
    run(jl.make_step(example_loss, jl.sgd(0.1, momentum=0.9)), jl.init_state(network(), jl.sgd(0.1, momentum=0.9)))
    assert len(traces) == 2


def test_vmap_over_learning_rates_is_the_loop_over_learning_rates():
    step, state = jl.make_step(example_loss, SGD), jl.init_state(network(), SGD)
    rates = jnp.array([0.0, 0.1, 0.3])
    together = jax.vmap(lambda rate: step.replace(learning_rate=rate)(state, BATCH)[0].params)(rates)
    for i, rate in enumerate(rates):
        one = take_step(example_loss, jl.sgd(float(rate)))[0].params
        assert_near(jax.tree.map(lambda x, i=i: x[i], together), one)
    assert_same(jax.tree.map(lambda x: x[0], together), state.params)


class Untold:
    """Functions that do not tell their arguments, as built-in ones may not."""

    __signature__ = "unknown"

    def __init__(self, function):
        self.function = function

    def __call__(self, *arguments):
        return self.function(*arguments)


def test_a_function_need_not_tell_its_arguments():
    """No key is given to a loss, and no mask to a step, that does not ask for it."""
    assert_same(take_step(Untold(example_loss)), take_step(example_loss))
    step = jl.make_step(example_loss, SGD)
    plain = lambda state, batch: step(state, batch)
    state = jl.init_state(network(), SGD)
    runs = [jl.fit(one, state, BATCH, batch_size=2, epochs=1).state for one in (Untold(plain), plain)]
    assert_same(*runs)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, SGD), TypeError, "^make_step: loss_fn must be a function"),
        (
            (jl.make_step(example_loss, SGD), SGD),
            TypeError,
            "^make_step: loss_fn must be .*, a step already. Its loss function is step.loss_fn",
        ),
        (
            (example_loss, 0.1),
            TypeError,
            r"^make_step: tx must be a gradient transformation, .*; got 0.1 of type float",
        ),
        ((example_loss, jl.sgd), TypeError, "^make_step: tx must be a gradient transformation"),
        ((example_loss,), TypeError, "^make_step: missing a required argument: 'tx'"),
    ],
)
def test_a_step_of_something_else_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        jl.make_step(*arguments)


def test_the_state_of_another_optimizer_is_refused():
    with pytest.raises(jl.InputError, match="expected the state ScaleByAdamState that init returned"):
        jl.make_step(example_loss, jl.adam(0.1))(jl.init_state(network(), SGD), BATCH)


def test_the_optimizer_is_told_about_the_batch():
    """Value, gradient, and the functions that calculate both elsewhere on the same batch with the same key."""
    x, y = jnp.arange(6.0).reshape(3, 2), jnp.array([1.0, -1.0, 2.0])

    def loss_fn(params, batch, key):
        images, labels = batch
        return (images @ params - labels + jax.random.normal(key)) ** 2

    seen = {}

    def update(updates, state, params, *, value, grad, value_fn, obj_fn, grad_fn):
        seen.update(value=value, grad=grad, here=value_fn(params), obj=obj_fn(params), grad_here=grad_fn(params, 0))
        return updates, state

    tx = jl.GradientTransformation(lambda params: (), update)
    step = jl.make_step(loss_fn, tx)
    step(jl.init_state(jnp.ones(2), tx, key=3), (x, y))
    assert seen["value"] == seen["here"] == seen["obj"] != 0
    np.testing.assert_array_equal(seen["grad"], seen["grad_here"])


@pytest.mark.parametrize(
    "tx",
    [
        jl.polyak_sgd(),
        jl.sophia(jl.cosine_decay_schedule(0.1, 600), b1=0.9),
        jl.sam(jl.sgd(0.05), jl.sgd(0.01), opaque_mode=True),
        jl.momo_adam(0.1),
    ],
    ids=lambda tx: tx.name,
)
def test_optimizers_that_ask_about_the_batch_train_in_fit(tx):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((64, 3)), jnp.float32)
    y = x @ jnp.array([1.0, 2.0, 3.0])
    step = jl.make_step(lambda params, batch: (batch[0] @ params - batch[1]) ** 2, tx)
    out = jl.fit(step, jl.init_state(jnp.zeros(3), tx), (x, y), epochs=150, batch_size=16, progress=False)
    np.testing.assert_allclose(out.state.params, [1.0, 2.0, 3.0], atol=0.1)
