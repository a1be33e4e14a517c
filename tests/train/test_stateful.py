"""Losses with a model state: what is handed on from step to step, from micro-batch to micro-batch, and what is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import bad_input
from training_problems import assert_near, assert_same, distance, example_loss, network, regression

import jaxopt_lessons as jl
from jaxopt_lessons.train import compilation
from jaxopt_lessons.train.step import LOSS_STREAM

BATCH = regression(12)
SGD = jl.sgd(0.1)
DECAY = np.float32(0.75)
START = {"mean": np.array([0.5, -1.0, 2.0], np.float32), "count": np.int32(7)}


def normalized_loss(params, model_state, batch, key):
    """Squared errors ``[examples]`` of inputs less their running mean, which moves with each batch in training."""
    x, y = batch
    mean = model_state["mean"]
    if key is not None:
        mean = DECAY * mean + (1 - DECAY) * jnp.mean(x, axis=0)
    errors = example_loss(params, (x - mean[None], y))
    # In evaluation it returns nonsense: nobody may look at it.
    return errors, {"mean": mean, "count": model_state["count"] + 1} if key is not None else "nothing"


def next_mean(mean, x):
    return DECAY * mean + (1 - DECAY) * np.mean(x, axis=0)


def init(step, model_state=START, **options):
    return jl.init_state(network(), step, model_state=model_state, **options)


def make_step(loss_fn=normalized_loss, tx=SGD, **options):
    return jl.make_step(loss_fn, tx, stateful=True, **options)


def take_step(step, state, *arguments):
    return jax.jit(lambda *arguments: step(*arguments))(state, *arguments)


def shifted_loss(params, mean, batch):
    return jnp.mean(example_loss(params, (batch[0] - mean[None], batch[1])))


def by_hand(params, mean, batches):
    """Gradient descent, written out for ``normalized_loss``."""
    losses = []
    for batch in batches:
        mean = next_mean(mean, batch[0])
        loss, grads = jax.value_and_grad(shifted_loss)(params, mean, batch)
        params = jax.tree.map(lambda p, g: p - np.float32(0.1) * g, params, grads)
        losses.append(float(loss))
    return params, mean, losses


# ---------------------------------------------------------------------------------------------------------------------
# A step
# ---------------------------------------------------------------------------------------------------------------------


def test_the_new_model_state_goes_into_the_state():
    step = make_step()
    state, rows = init(step), []
    batches = [regression(12, seed) for seed in range(3)]
    for batch in batches:
        state, metrics = take_step(step, state, batch)
        rows.append(float(metrics["loss"]))
    params, mean, losses = by_hand(network(), START["mean"], batches)
    assert_near(state.params, jax.tree.map(jnp.asarray, params), 1e-6)
    np.testing.assert_allclose(state.model_state["mean"], mean, 1e-6)
    np.testing.assert_allclose(rows, losses, 1e-6)
    assert int(state.model_state["count"]) == 10
    stale, _, _ = by_hand(network(), START["mean"], batches[:1])
    assert distance(stale, state.params) > 1e-3


def with_metrics(params, model_state, batch, key):
    loss, model_state = normalized_loss(params, model_state, batch, key)
    return loss, {"largest": loss, "one": jnp.float32(1)}, model_state


def without_key(params, model_state, batch):
    return normalized_loss(params, model_state, batch, 0)


def keyword_key(params, model_state, batch, *, key):
    assert key is not None
    return normalized_loss(params, model_state, batch, key)


def weighted(params, model_state, batch, key):
    errors, model_state = normalized_loss(params, model_state, batch, key)
    return jl.Weighted(jnp.sum(errors), jnp.float32(errors.size)), model_state


def scalar(params, model_state, batch, key):
    errors, model_state = normalized_loss(params, model_state, batch, key)
    return jnp.mean(errors), model_state


@pytest.mark.parametrize("loss_fn", [with_metrics, without_key, keyword_key, weighted, scalar])
def test_every_form_of_a_loss_is_the_same_loss(loss_fn):
    step, reference = make_step(loss_fn), make_step()
    state, metrics = take_step(step, init(step), BATCH)
    expected, expected_metrics = take_step(reference, init(reference), BATCH)
    assert_near(state, expected)
    np.testing.assert_allclose(metrics["loss"], expected_metrics["loss"], 1e-6)
    if loss_fn is with_metrics:
        assert (float(metrics["one"]), float(metrics["largest"])) == (1, pytest.approx(float(metrics["loss"])))


def test_the_key_of_a_stateful_loss_is_that_of_any_loss():
    def drawing(params, model_state, batch, key):
        return example_loss(params, batch), {"drawn": jax.random.uniform(key)}, model_state

    step = make_step(drawing)
    _, metrics = step(init(step, key=1)._replace(cursor=jnp.int32(5)), BATCH)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), LOSS_STREAM), 5)
    assert float(metrics["drawn"]) == float(jax.random.uniform(key))


def test_a_stateless_loss_leaves_the_model_state_alone():
    step = jl.make_step(example_loss, SGD)
    state = init(step)
    new, _ = step(state, BATCH)
    assert new.model_state is state.model_state


def test_python_numbers_come_back_as_arrays_and_nothing_is_compiled_twice():
    """A weakly typed model state would make the second step another program, and no carry of a scan."""

    def loss_fn(params, model_state, batch):
        return example_loss(params, batch), {"rate": 0.5, "mean": jnp.ones(3) * 2.0}

    step = make_step(loss_fn)
    state = init(step, {"rate": 0.25, "mean": np.zeros(3, np.float32)})
    compiled = jax.jit(lambda *arguments: step(*arguments))
    for _ in range(3):
        state, _ = compiled(state, BATCH)
    assert compiled._cache_size() == 1
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(state.model_state))
    assert_same(state.model_state, {"rate": jnp.float32(0.5), "mean": jnp.full(3, 2.0, jnp.float32)})


def test_random_keys_may_be_part_of_a_model_state():
    def loss_fn(params, model_state, batch):
        return example_loss(params, batch), jax.random.fold_in(model_state, 1)

    step = make_step(loss_fn)
    for take in (take_step, lambda step, *arguments: step(*arguments)):
        state, _ = take(step, init(step, jax.random.key(3)), BATCH)
        assert_same(state.model_state, jax.random.fold_in(jax.random.key(3), 1))


def test_a_model_state_with_nothing_in_it_is_one():
    step = make_step(lambda params, model_state, batch: (example_loss(params, batch), model_state))
    reference = jl.make_step(example_loss, SGD)
    state, _ = take_step(step, init(step, {}), BATCH)
    assert_same(state, take_step(reference, init(reference, {}), BATCH)[0])


def test_under_vmap_each_run_has_a_model_state_of_its_own():
    step = make_step()
    states = [init(step, {**START, "mean": np.full(3, i, np.float32)}) for i in (0, 5)]
    together = jax.vmap(step, in_axes=(0, None))(jax.tree.map(lambda *x: jnp.stack(x), *states), BATCH)
    for i, state in enumerate(states):
        assert_near(jax.tree.map(lambda x, i=i: x[i], together), step(state, BATCH))


@bad_input(39)
def test_a_guarded_step_leaves_the_model_state_out_too():
    step = jl.with_guard(make_step())
    state = init(step)
    new, metrics = take_step(step, state, (BATCH[0] * np.float32(np.nan), BATCH[1]))
    assert float(metrics["skipped"]) == 1
    assert_same(new.model_state, state.model_state)


# ---------------------------------------------------------------------------------------------------------------------
# Micro-batches
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [2, 5])
def test_the_model_state_passes_from_one_micro_batch_to_the_next(parts):
    """Each part sees the mean that those before it left; the gradient is the mean of theirs. 12 in 5: 3, 3, 2, 2, 2."""
    step = make_step(accumulate=parts)
    state, metrics = take_step(step, init(step), BATCH)
    sizes = [len(rows) for rows in np.array_split(np.arange(12), parts)]
    params, mean, sums, total, first = network(), START["mean"], None, 0.0, 0
    for size in sizes:
        part = tuple(rows[first : first + size] for rows in BATCH)
        mean, first = next_mean(mean, part[0]), first + size
        loss, grads = jax.value_and_grad(lambda *arguments, n=size: n * shifted_loss(*arguments))(params, mean, part)
        sums, total = grads if sums is None else jax.tree.map(jnp.add, sums, grads), total + float(loss)
    np.testing.assert_allclose(state.model_state["mean"], mean, 1e-6)
    assert int(state.model_state["count"]) == 7 + parts
    np.testing.assert_allclose(metrics["loss"], total / 12, 1e-6)
    assert_near(state.params, jax.tree.map(lambda p, g: p - np.float32(0.1 / 12) * g, params, sums), 2e-6)
    whole = make_step()
    assert distance(state.params, take_step(whole, init(whole), BATCH)[0].params) > 1e-4


@pytest.mark.parametrize("parts", [None, 4])
def test_an_optimizer_sees_the_loss_with_the_model_state_at_the_beginning_of_the_step(parts):
    seen = []

    def update(updates, state, params, *, value, grad, value_fn, grad_fn):
        seen.append((value, grad, value_fn(params), grad_fn(params, 0), jax.grad(value_fn)(params)))
        return updates, state

    step = make_step(tx=jl.GradientTransformation(lambda params: (), update), accumulate=parts)
    step(init(step), BATCH)
    ((value, grad, again, *gradients),) = seen
    np.testing.assert_allclose(value, again, 1e-6)
    for other in gradients:
        assert_near(other, grad, 2e-6)
    assert distance(grad, jax.tree.map(jnp.zeros_like, grad)) > 0.1


def test_the_model_state_between_micro_batches_is_a_constant_for_whoever_differentiates():
    """Else the gradient that an optimizer asks for would have terms that the step's gradient has not."""

    def loss_fn(params, model_state, batch):
        return params * model_state * jnp.ones_like(batch), model_state * params

    seen = []

    def update(updates, state, params, *, grad, value_fn, **extra):
        seen.append((float(grad), float(jax.grad(value_fn)(params))))
        return updates, state

    step = make_step(loss_fn, jl.GradientTransformation(lambda params: (), update), accumulate=2)
    state, _ = step(jl.init_state(3.0, step, model_state=2.0), np.ones(4, np.float32))
    assert seen == [(4.0, 4.0)]  # of (3 * 2 + 3 * 6) / 2, by the first factors
    assert float(state.model_state) == 18


@pytest.mark.parametrize(
    "tx",
    [jl.polyak_sgd(), jl.sam(jl.sgd(0.05), jl.sgd(0.01), opaque_mode=True), jl.sophia(0.1)],
    ids=lambda tx: tx.name,
)
@pytest.mark.parametrize("parts", [None, 3])
def test_optimizers_that_ask_about_the_batch_take_stateful_losses(tx, parts):
    """The model state is that of one call a step, however often the optimizer asks."""

    def stateless(params, batch):  # the same loss where the mean does not move
        return example_loss(params, (batch[0] - START["mean"][None], batch[1]))

    def loss_fn(params, model_state, batch):
        x, y = batch
        return example_loss(params, (x - model_state["mean"][None], y)), model_state | {
            "count": model_state["count"] + 1
        }

    step, reference = make_step(loss_fn, tx, accumulate=parts), jl.make_step(stateless, tx, accumulate=parts)
    state, expected = init(step), init(reference)
    for _ in range(2):
        state, _ = take_step(step, state, BATCH)
        expected, _ = take_step(reference, expected, BATCH)
    assert_near((state.params, state.opt_state), (expected.params, expected.opt_state), 1e-5)
    assert int(state.model_state["count"]) == 7 + 2 * (parts or 1)


# ---------------------------------------------------------------------------------------------------------------------
# Whole runs and evaluation
# ---------------------------------------------------------------------------------------------------------------------


def evaluated(params, mean, data):
    return float(shifted_loss(params, np.asarray(mean), data))


@pytest.mark.parametrize("batch_size", [None, 5, 12])
def test_evaluation_is_with_the_model_state_as_it_is(batch_size):
    """No key, no batch that moves the mean for the next, and what is returned is not looked at."""
    measured = jl.evaluate(normalized_loss, network(), BATCH, batch_size=batch_size, model_state=START)
    assert measured == {"loss": pytest.approx(evaluated(network(), START["mean"], BATCH), rel=1e-6)}


def test_fit_trains_and_validates_with_the_model_state():
    data, val = regression(40), regression(11, 9)
    step = make_step()
    out = jl.fit(step, init(step), data, epochs=2, batch_size=10, shuffle=False, val=val, progress=False)
    batches = [(data[0][i : i + 10], data[1][i : i + 10]) for i in range(0, 40, 10)]
    first, first_mean, losses = by_hand(network(), START["mean"], batches)
    second, second_mean, more = by_hand(first, first_mean, batches)
    np.testing.assert_allclose(out.history["loss"], losses + more, 1e-5)
    np.testing.assert_allclose(out.state.model_state["mean"], second_mean, 1e-6)
    expected = [evaluated(first, first_mean, val), evaluated(second, second_mean, val)]
    np.testing.assert_allclose(out.history["val_loss"], expected, 1e-5)
    assert abs(evaluated(second, START["mean"], val) / expected[1] - 1) > 1e-3
    assert jl.fit(step, init(step), data, epochs=2, batch_size=10, shuffle=False, val=val, progress=False).compiles == 0


def test_a_loss_for_validation_is_called_as_the_loss_of_the_step_is():
    step = make_step()

    def val_loss(params, model_state, batch):
        return jnp.sum(model_state["mean"]), {"count": model_state["count"]}, None

    out = jl.fit(step, init(step), BATCH, epochs=1, val=BATCH, val_loss_fn=val_loss, progress=False)
    np.testing.assert_allclose(out.history["val_loss"], [np.sum(next_mean(START["mean"], BATCH[0]))], 1e-6)
    assert out.history["val_count"].tolist() == [8]
    with pytest.raises(ValueError, match=r"loss_fn must be a function \(params, model_state, batch\)"):
        jl.fit(step, init(step), BATCH, epochs=1, val=BATCH, val_loss_fn=example_loss, progress=False)


def test_a_wrapped_step_tells_that_it_is_stateful():
    step = jl.with_ema(jl.with_guard(make_step(policy="bfloat16")), 0.9)
    assert step.stateful is True
    assert step.policy == jl.Policy(jnp.bfloat16)
    assert jl.make_step(example_loss, SGD).stateful is False
    assert jl.make_step(example_loss, SGD).policy is None
    assert jl.make_step(normalized_loss, SGD, stateful=1) == make_step() != make_step(accumulate=2)


def test_a_run_that_goes_on_is_the_run_that_did_not_stop():
    step, data = make_step(tx=jl.adam(0.01)), regression(40)
    options = {"batch_size": 10, "progress": False}
    whole = jl.fit(step, init(step), data, steps=8, **options)
    first = jl.fit(step, init(step), data, steps=3, **options)
    assert_same(jl.fit(step, first.state, data, steps=5, **options).state, whole.state)


def test_another_model_state_compiles_nothing():
    jl.evaluate(normalized_loss, network(), BATCH, model_state=START)
    with compilation.count() as compiled:
        other = jl.evaluate(normalized_loss, network(), BATCH, model_state={**START, "mean": 2 * START["mean"]})
    assert compiled == []
    assert other == {"loss": pytest.approx(evaluated(network(), 2 * START["mean"], BATCH), rel=1e-6)}


# ---------------------------------------------------------------------------------------------------------------------
# What is refused
# ---------------------------------------------------------------------------------------------------------------------

FORMS = (
    r"^with stateful=True a loss function returns \(loss, model_state\) or \(loss, dict of metrics, model_state\); got "
)


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        (lambda e, s: e, FORMS + "one "),
        (lambda e, s: jl.Weighted(jnp.sum(e), jnp.float32(1)), FORMS + "one Weighted"),
        (lambda e, s: (e,), FORMS + r"a tuple of \(\w+\)\."),
        (lambda e, s: (e, s, {}, s), FORMS + r"a tuple of \(\w+, dict, dict, dict\)"),
        (lambda e, s: (e, e, s), FORMS + r"a tuple of \(\w+, \w+, dict\)"),
        (lambda e, s: [e, s], FORMS + "one list"),
        (
            lambda e, s: (e, {"m": e}),
            "the model state that the loss function returned and the one it got differ in stru",
        ),
        (lambda e, s: (e, {"mean": s["mean"]}), "has nothing at 'count', where the one it got has int32"),
        (lambda e, s: (e, None), "nothing at 'count', 'mean'"),
        (lambda e, s: (e, s | {"mean": s["mean"][:2]}), r"at 'mean' .* as float32\[2\], and got it as float32\[3\]"),
        (
            lambda e, s: (e, s | {"mean": s["mean"].astype(jnp.bfloat16)}),
            r"at 'mean' .* as bfloat16\[3\], and got it as",
        ),
        (lambda e, s: (e, s | {"count": 1.0}), r"at 'count' .* as 1.0 of type float, and got it as int32\[\]"),
        (lambda e, s: (e, s | {"count": "one"}), r"at 'count' .* as 'one' of type str, and got it as int32\[\]"),
        (lambda e, s: (e, {"loss": e}, s), "the metrics of a loss function cannot be called 'loss'"),
    ],
)
@pytest.mark.parametrize("parts", [None, 2])
def test_a_loss_function_that_returns_something_else_is_refused(returns, message, parts):
    step = make_step(
        lambda params, model_state, batch: returns(example_loss(params, batch), model_state), accumulate=parts
    )
    with pytest.raises(jl.InputError, match=message):
        step(init(step), BATCH)


def test_a_state_without_a_model_state_is_refused():
    step = make_step()
    with pytest.raises(jl.InputError, match="^stateful=True: the state has no model_state .* init_state"):
        step(jl.init_state(network(), step), BATCH)


def test_examples_that_fill_up_a_batch_would_count_in_the_model_state():
    step = make_step()
    with pytest.raises(jl.InputError, match="^stateful=True: the examples that fill up the last batch would count"):
        jl.fit(step, init(step), BATCH, epochs=1, batch_size=5, remainder="pad", progress=False)
    assert (
        int(jl.fit(step, init(step), BATCH, epochs=1, batch_size=5, remainder="wrap", progress=False).state.step) == 3
    )


@pytest.mark.parametrize(
    ("loss_fn", "stateful", "message"),
    [
        (normalized_loss, False, r"^make_step: loss_fn takes a model_state; say stateful=True\.$"),
        (example_loss, True, r"^make_step: with stateful=True loss_fn must be a function .* are \(params, batch\)\.$"),
        (lambda params, batch, *, key: 0, True, r"^make_step: with stateful=True .* are \(params, batch, key\)\.$"),
    ],
)
def test_a_loss_function_of_the_other_kind_is_refused_when_the_step_is_made(loss_fn, stateful, message):
    with pytest.raises(ValueError, match=message):
        jl.make_step(loss_fn, SGD, stateful=stateful)


@pytest.mark.parametrize(
    ("loss_fn", "model_state", "message"),
    [
        (normalized_loss, None, r"^evaluate: loss_fn takes a model_state; say model_state=state.model_state\.$"),
        (example_loss, START, r"^evaluate: with model_state=state.model_state loss_fn must be a function"),
    ],
)
def test_evaluation_wants_a_model_state_for_a_loss_that_takes_one(loss_fn, model_state, message):
    with pytest.raises(ValueError, match=message):
        jl.evaluate(loss_fn, network(), BATCH, model_state=model_state)


def test_any_names_and_number_of_arguments_will_do():
    """Only a second argument called model_state says something; and ``*args`` may be anything."""
    step = make_step(lambda *arguments: normalized_loss(*arguments, 0))
    assert int(take_step(step, init(step), BATCH)[0].model_state["count"]) == 8
    step = jl.make_step(lambda p, b, model_state=None: example_loss(p, b), SGD)
    assert int(take_step(step, init(step), BATCH)[0].step) == 1
