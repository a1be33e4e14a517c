"""Partitions are separate optimizers that share a tree."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import runs
from flax.core import FrozenDict

import jaxopt_lessons as jl

RNG = np.random.default_rng(0)
PARAMS = {
    "dense": {"w": jnp.asarray(RNG.standard_normal((3, 2)), jnp.float32), "b": jnp.ones(2)},
    "scale": jnp.ones(()),
}
GRADS = [jax.tree.map(lambda p: jnp.asarray(RNG.standard_normal(p.shape), jnp.float32), PARAMS) for _ in range(4)]
TRANSFORMS = {"slow": jl.adamw(0.1, weight_decay=0.2), "fast": jl.sgd(0.5, momentum=0.9)}
LABELS = {"dense": {"w": "slow", "b": "fast"}, "scale": "slow"}


def run(tx, params=PARAMS, grads=GRADS):
    return runs.updates_of(tx, params, grads)


assert_close = functools.partial(runs.assert_close, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        FrozenDict(LABELS),
        lambda params: LABELS,
        lambda path, leaf: "fast" if path == "dense/b" else "slow",
        lambda path, leaf: "fast" if leaf.ndim == 1 else "slow",
    ],
)
def test_a_partition_is_separate_optimizers(labels):
    updates, state = run(jl.partition(TRANSFORMS, labels))
    slow = lambda tree: {"w": tree["dense"]["w"], "scale": tree["scale"]}
    fast = lambda tree: {"b": tree["dense"]["b"]}
    for part, tx in ((slow, TRANSFORMS["slow"]), (fast, TRANSFORMS["fast"])):
        expected, _ = run(tx, part(PARAMS), list(map(part, GRADS)))
        assert_close(list(map(part, updates)), expected)
    assert set(state.inner_states) == {"slow", "fast"}
    of_adam, of_sgd = 2 + 2 * 2, 1 + 1
    assert len(jax.tree.leaves(state)) == of_adam + of_sgd


@pytest.fixture
def as_optax_needs_it():
    """Other libraries do not run under strict promotion."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.usefixtures("as_optax_needs_it")
def test_as_optax():
    theirs = optax.partition({"slow": optax.adamw(0.1, weight_decay=0.2), "fast": optax.sgd(0.5, momentum=0.9)}, LABELS)
    assert_close(
        run(jl.multi_transform(TRANSFORMS, LABELS))[0], run(theirs)[0], rtol=1e-4
    )  # theirs corrects in float32
    assert jl.multi_transform is jl.partition


def test_prefix_labels():
    """Two networks in one tuple."""
    params = (PARAMS["dense"], [PARAMS["scale"]])
    tx = jl.partition({"generator": jl.scale(2.0), "discriminator": jl.scale(3.0)}, ("generator", "discriminator"))
    updates, _ = tx.update(params, tx.init(params), params)
    assert_close(updates, (jax.tree.map(lambda p: 2 * p, params[0]), [3 * params[1][0]]))


@pytest.mark.usefixtures("as_optax_needs_it")
def test_optax_inside():
    tx = jl.partition({"slow": optax.adam(0.1), "fast": jl.sgd(0.5)}, LABELS)
    expected = jl.partition({"slow": jl.adam(0.1), "fast": jl.sgd(0.5)}, LABELS)
    assert_close(run(tx)[0], run(expected)[0], rtol=1e-5)


def test_norms_are_those_of_the_group():
    tx = jl.partition({"slow": jl.clip_by_global_norm(1.0), "fast": jl.identity()}, LABELS)
    grads = jax.tree.map(lambda p: jnp.full_like(p, 100.0), PARAMS)
    updates, _ = tx.update(grads, tx.init(PARAMS), PARAMS)
    slow = [updates["dense"]["w"], updates["scale"]]
    assert float(jl.global_norm(slow)) == pytest.approx(1.0, rel=1e-6)
    np.testing.assert_array_equal(updates["dense"]["b"], [100.0, 100.0])


@pytest.mark.parametrize(
    ("transforms", "labels", "message"),
    [
        (
            TRANSFORMS,
            {"dense": "slow", "scale": "typo"},
            "no transformation has the label 'typo' and no leaf has the label",
        ),
        (TRANSFORMS, "slow", "no leaf has the label 'fast'. The transformations are for 'slow', 'fast'; the labels"),
        (TRANSFORMS, lambda path, leaf: None, "labels returned None for 'dense/b'"),
        (TRANSFORMS, {"dense": "slow"}, "labels has nothing at 'scale'"),
        (TRANSFORMS, {"dense": {"w": "slow", "b": "fast"}, "scale": "slow", "x": "slow"}, "'slow' of type str at 'x'"),
    ],
)
def test_wrong_labels_are_named(transforms, labels, message):
    tx = jl.partition(transforms, labels)
    with pytest.raises(jl.InputError, match=f"partition: .*{message}"):
        tx.init(PARAMS)


@pytest.mark.parametrize(
    ("transforms", "error", "message"),
    [
        ([jl.sgd(0.1)], TypeError, "partition: transforms must map labels to transformations"),
        ({}, ValueError, "transforms must have at least one label"),
        ({"a": 3}, TypeError, r"partition: transforms\['a'\] must be a gradient transformation"),
        ({"a": jl.sgd(0.1), 1: jl.sgd(0.1)}, TypeError, "must be of one kind"),
    ],
)
def test_wrong_transforms_are_named(transforms, error, message):
    with pytest.raises(error, match=message):
        jl.partition(transforms, "a")


def test_errors_inside_name_the_label():
    tx = jl.partition({"slow": jl.adam(0.1), "fast": jl.add_decayed_weights(0.1)}, LABELS)
    with pytest.raises(jl.InputError, match="partition > 'fast' > add_decayed_weights: needs the parameters"):
        tx.update(GRADS[0], tx.init(PARAMS))


def test_states_of_other_labels_are_refused():
    tx = jl.partition(TRANSFORMS, LABELS)
    state = jl.PartitionState({"slow": (), "quick": ()})
    with pytest.raises(
        jl.InputError, match="a dict of states with the labels 'slow', 'fast'; got one with 'slow', 'quick'"
    ):
        tx.update(GRADS[0], state, PARAMS)


def test_extra_arguments_with_the_structure_of_the_updates():
    def update(updates, state, params=None, *, curvature):
        return jax.tree.map(lambda g, h: g / h, updates, curvature), state

    newton = jl.GradientTransformation(lambda params: (), update)
    tx = jl.partition({"slow": newton, "fast": jl.identity()}, LABELS, mask_compatible_extra_args=True)
    updates, _ = tx.update(GRADS[0], tx.init(PARAMS), PARAMS, curvature=jax.tree.map(lambda p: 2 + 0 * p, PARAMS))
    np.testing.assert_allclose(updates["dense"]["w"], GRADS[0]["dense"]["w"] / 2)
    np.testing.assert_allclose(updates["dense"]["b"], GRADS[0]["dense"]["b"])


def test_the_weights_to_evaluate_are_put_together():
    @jl.gradient_transformation
    def evaluated_at(factor: float):
        def update(updates, state: jl.EmptyState, params=None, **extra):
            return updates, state

        return jl.Functions(
            jl.init_empty_state, update, eval_params=lambda state, params: jax.tree.map(lambda p: factor * p, params)
        )

    inside = jl.partition({"slow": evaluated_at(2.0), "fast": jl.sgd(0.1)}, LABELS)
    tx = jl.chain(jl.clip(1.0), inside)
    expected = {"dense": {"w": 2 * PARAMS["dense"]["w"], "b": PARAMS["dense"]["b"]}, "scale": 2 * PARAMS["scale"]}
    assert_close(jl.eval_params(tx, tx.init(PARAMS), PARAMS), expected)
    names = [part.name for part in inside.parts(inside.init(PARAMS))]
    assert names == ["slow", "fast"]


def test_states_by_name():
    tx = jl.partition(TRANSFORMS, LABELS)
    _, state = run(tx)
    named = jl.state_dict(tx, state)
    assert_close(jl.load_state_dict(tx, PARAMS, named), state)


def test_another_number_compiles_nothing():
    traces = []

    @jax.jit
    def step(tx, grads, state):
        traces.append(tx)
        return tx.update(grads, state, PARAMS)

    for rate in (0.1, 0.2):
        tx = jl.partition({**TRANSFORMS, "fast": jl.sgd(rate, momentum=0.9)}, FrozenDict(LABELS))
        step(tx, GRADS[0], tx.init(PARAMS))
    assert len(traces) == 1
