"""Transformations for some of the leaves: what is inside a mask, what is outside, and which masks fit."""

import re
import warnings
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.core import FrozenDict
from runs import assert_close

import jaxopt_lessons as jl

PARAMS = {"a": jnp.array([1.0, -2.0]), "b": {"c": jnp.array([[3.0]]), "d": jnp.array(4.0)}}
GRADS = jax.tree.map(lambda p: 0.5 * p + 1, PARAMS)
MASK = {"a": True, "b": {"c": False, "d": True}}
MASKS = {
    "tree": MASK,
    "function": lambda params: MASK,
    "predicate": lambda path, leaf: path != "b/c",
    "frozen": FrozenDict(MASK),
    "match": lambda path, leaf: re.search("a|d", path),
    "numpy": jax.tree.map(np.bool_, MASK),
    "jax": jax.tree.map(jnp.array, MASK),
}


@jl.gradient_transformation
def doubled_for_evaluation():
    """Its weights to evaluate are twice those that are trained."""

    def init(params):
        return jl.EmptyState()

    def update(updates, state: jl.EmptyState, params=None, **extra):
        return updates, state

    return jl.Functions(init, update, eval_params=lambda state, params: jax.tree.map(lambda p: 2 * p, params))


@pytest.fixture
def as_optax_needs_it():
    """Other libraries do not run under strict promotion."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def run(tx, steps=3):
    state = tx.init(PARAMS)
    for _ in range(steps):
        updates, state = tx.update(GRADS, state, PARAMS)
    return updates, state


@pytest.mark.parametrize("mask", MASKS)
def test_inside_and_outside(mask):
    updates, state = run(jl.masked(jl.trace(0.5), MASKS[mask]))
    expected = jax.tree.map(lambda g: 1.75 * g, GRADS)
    expected["b"]["c"] = GRADS["b"]["c"]
    assert_close(updates, expected)
    assert state.inner_state.trace["b"]["c"] is None
    assert len(jax.tree.leaves(state)) == 2
    updates, _ = run(jl.masked(jl.trace(0.5), MASKS[mask], unmasked="zero"))
    expected["b"]["c"] = jnp.zeros((1, 1))
    assert_close(updates, expected)


@pytest.mark.parametrize("mask", ["tree", "function"])
@pytest.mark.usefixtures("as_optax_needs_it")
def test_as_optax(mask):
    ours, _ = run(jl.masked(jl.adamw(0.1, weight_decay=0.3), MASKS[mask], unmasked="keep"))
    theirs, _ = run(optax.masked(optax.adamw(0.1, weight_decay=0.3), MASKS[mask]))
    assert_close(ours, theirs, rtol=1e-5)


def test_prefixes():
    for mask in ({"a": False, "b": True}, {"a": False, "b": {"c": True, "d": True}}):
        updates, _ = run(jl.masked(jl.scale(2.0), mask), 1)
        assert_close(updates, {"a": GRADS["a"], "b": jax.tree.map(lambda g: 2 * g, GRADS["b"])})
    assert_close(run(jl.masked(jl.scale(2.0), True), 1)[0], jax.tree.map(lambda g: 2 * g, GRADS))


def test_masks_in_masks():
    """optax #271: the mask inside sees a tree in which leaves are missing."""
    for inner in (MASK, lambda params: MASK, lambda path, leaf: path != "b/c"):
        tx = jl.masked(jl.masked(jl.trace(0.5), inner), {"a": False, "b": True})
        updates, state = run(tx)
        expected = jax.tree.map(lambda g: g, GRADS)
        expected["b"]["d"] = 1.75 * GRADS["b"]["d"]
        assert_close(updates, expected)
        assert len(jax.tree.leaves(state)) == 1


class Pair(NamedTuple):
    weight: jax.Array
    value: jax.Array


def test_containers():
    """A mask fits by its keys, whatever the containers are."""
    is_weight = {"weight": True, "value": False}
    mask = {"p": is_weight, "q": [True, False]}
    for params in (
        {"p": Pair(jnp.ones(2), jnp.ones(2)), "q": [jnp.ones(2), jnp.ones(2)]},
        FrozenDict({"p": {"weight": jnp.ones(2), "value": jnp.ones(2)}, "q": (jnp.ones(2), jnp.ones(2))}),
    ):
        tx = jl.masked(jl.scale(2.0), mask)
        updates, _ = tx.update(params, tx.init(params), params)
        assert jax.tree.structure(updates) == jax.tree.structure(params)
        by_name = {keys: float(leaf[0]) for _, keys, leaf in jl.tree.named_leaves(updates)}
        assert by_name == {("p", "weight"): 2, ("p", "value"): 1, ("q", "0"): 2, ("q", "1"): 1}


def test_flax_nnx():
    """The box around a variable of flax adds no name."""
    model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Linear(3, 1, rngs=nnx.Rngs(0)))
    _, params = nnx.split(model, nnx.Param)
    for mask in (
        lambda path, leaf: path == "layers/0/kernel",
        {"layers": {0: {"kernel": True, "bias": False}, 1: False}},
        jax.tree.map(lambda leaf: leaf.shape == (2, 3), params),
    ):
        tx = jl.masked(jl.scale(2.0), mask)
        with jax.numpy_dtype_promotion("standard"):
            updates, _ = jax.jit(tx.update)(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
        sums = {"/".join(keys): float(jnp.sum(leaf)) for _, keys, leaf in jl.tree.named_leaves(updates)}
        assert sums == {"layers/0/bias": 3, "layers/0/kernel": 12, "layers/1/bias": 1, "layers/1/kernel": 3}


def test_equinox():
    model = eqx.nn.MLP(2, 1, width_size=3, depth=1, key=jax.random.key(0))  # activation functions and all
    grads = eqx.filter(model, eqx.is_inexact_array)
    tx = jl.masked(jl.trace(0.5), lambda path, leaf: path.endswith("weight"), unmasked="zero")
    state = tx.init(model)
    assert len(jax.tree.leaves(state)) == 2
    updates, _ = tx.update(grads, state, model)
    assert not jnp.any(updates.layers[0].bias)
    np.testing.assert_array_equal(updates.layers[0].weight, model.layers[0].weight)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"a": True}, r"mask has nothing at 'b/c', 'b/d', where params has float32\[1,1\]"),
        ({"a": True, "b": {"c": True}}, r"mask has nothing at 'b/d'"),
        ({"a": True, "b": True, "typo": True}, "mask has True of type bool at 'typo', where params has nothing"),
        ({"a": True, "b": {"c": True, "d": True, "e": True}}, "True of type bool at 'b/e'"),
        (lambda params: {"a": 1.0, "b": True}, "a mask has bools as leaves; got 1.0 of type float"),
        (lambda params: {"a": jnp.array([True, False]), "b": True}, "a mask has bools as leaves; got bool"),
    ],
)
def test_wrong_masks_are_named(mask, message):
    tx = jl.masked(jl.scale(2.0), mask)
    with pytest.raises(jl.InputError, match=f"masked: .*{message}"):
        tx.init(PARAMS)


def test_a_mask_must_be_known_before_compilation():
    def update(chosen):
        return jl.masked(jl.scale(2.0), lambda path, leaf: chosen).init(PARAMS)

    with pytest.raises((jl.InputError, jax.errors.TracerBoolConversionError)):
        jax.jit(update)(True)
    with pytest.raises(jl.InputError, match="It must be known before compilation"):
        jax.jit(lambda chosen: jl.masked(jl.scale(2.0), lambda params: chosen).init(PARAMS))(True)


# -- the raw gradients outside (optax #159) ---------------------------------------------------------------------------


DESCENDS = [
    jl.sgd(0.1),
    jl.adamw(0.1),
    jl.chain(jl.clip(1.0), jl.chain(jl.adam(0.1), jl.identity())),
    jl.masked(jl.sgd(0.1), True, unmasked="zero"),
    jl.partition({"all": jl.sgd(0.1)}, "all"),
    jl.scale_by_learning_rate(0.1),
]
STAGES = [
    jl.add_decayed_weights(0.1),
    jl.scale_by_adam(),
    jl.chain(),
    jl.set_to_zero(),
    jl.scale_by_learning_rate(0.1, flip_sign=False),
]


@pytest.mark.parametrize("inner", DESCENDS, ids=lambda tx: tx.name)
def test_an_optimizer_under_a_mask_warns(inner):
    with pytest.warns(UserWarning, match=f"masked: {inner.name} makes the step.*unmasked='zero'") as caught:
        jl.masked(inner, MASK)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for said in ("keep", "zero"):
            jl.masked(inner, MASK, unmasked=said)


@pytest.mark.parametrize("inner", STAGES, ids=lambda tx: tx.name)
def test_a_stage_under_a_mask_does_not(inner):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jl.masked(inner, MASK)


def test_the_warning_is_not_repeated_by_transformations_of_jax():
    with pytest.warns(UserWarning, match="sgd makes the step"):
        tx = jl.masked(jl.sgd(0.1), MASK)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.jit(lambda tx: tx.update(GRADS, tx.init(PARAMS), PARAMS))(tx)


def test_unmasked_is_checked():
    with pytest.raises(ValueError, match="masked: unmasked must be one of 'keep', 'zero'; got 'raw'"):
        jl.masked(jl.sgd(0.1), MASK, unmasked="raw")


def test_weights_outside_do_not_move():
    tx = jl.masked(jl.adam(0.1), MASK, unmasked="zero")
    spoiled = {**GRADS, "b": {"c": jnp.array([[jnp.nan]]), "d": GRADS["b"]["d"]}}
    updates, _ = tx.update(spoiled, tx.init(PARAMS), PARAMS)
    np.testing.assert_array_equal(jl.apply_updates(PARAMS, updates)["b"]["c"], PARAMS["b"]["c"])


# -- the rest ---------------------------------------------------------------------------------------------------------


def test_extra_arguments_with_the_structure_of_the_updates():
    def init(params):
        return ()

    def update(updates, state, params=None, *, curvature, value):
        return jax.tree.map(lambda g, h: g / h + value, updates, curvature), state

    tx = jl.masked((init, update), MASK, mask_compatible_extra_args=True)
    curvature = jax.tree.map(lambda p: jnp.full_like(p, 2.0), PARAMS)
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS, curvature=curvature, value=1.0)
    np.testing.assert_allclose(updates["a"], GRADS["a"] / 2 + 1)
    np.testing.assert_allclose(updates["b"]["c"], GRADS["b"]["c"])
    with pytest.raises(ValueError, match="None"):
        jl.masked((init, update), MASK).update(GRADS, tx.init(PARAMS), PARAMS, curvature=curvature, value=1.0)


def test_the_weights_to_evaluate_are_found_inside():
    tx = jl.chain(jl.clip(1.0), jl.masked(doubled_for_evaluation(), MASK))
    expected = {"a": 2 * PARAMS["a"], "b": {"c": PARAMS["b"]["c"], "d": 2 * PARAMS["b"]["d"]}}
    assert_close(jl.eval_params(tx, tx.init(PARAMS), PARAMS), expected)


def test_leaves_of_several_dtypes():
    params = {"half": jnp.ones(2, jnp.bfloat16), "single": jnp.ones(2), "n": jnp.arange(2), "key": jax.random.key(0)}
    grads = {"half": jnp.ones(2), "single": jnp.ones(2, jnp.float16), "n": None, "key": None}
    for mask in ({"half": True, "single": False, "n": False, "key": True}, lambda path, leaf: path == "half"):
        for said in ("keep", "zero"):
            tx = jl.masked(jl.adam(0.1), mask, unmasked=said)
            updates, _ = tx.update(grads, tx.init(params), params)
            assert (updates["half"].dtype, updates["single"].dtype) == (jnp.bfloat16, jnp.float32)
            assert jl.apply_updates(params, updates)["n"].dtype == jnp.int32


def test_what_an_inner_transformation_loses_is_named():
    tx = jl.masked((lambda params: (), lambda updates, state, params=None: ({"a": updates["a"]}, state)), MASK)
    with pytest.raises(jl.InputError, match="masked: what came out .* nothing at 'b/d'"):
        tx.update(GRADS, tx.init(PARAMS), PARAMS)


@pytest.mark.usefixtures("as_optax_needs_it")
def test_freeze_and_selective_transform():
    frozen = {"a": False, "b": {"c": True, "d": False}}
    for mask in (frozen, lambda params: frozen, lambda path, leaf: path == "b/c"):
        zero, _ = run(jl.masked(jl.trace(0.5), MASK, unmasked="zero"))
        assert_close(run(jl.chain(jl.freeze(mask)))[0], {**GRADS, "b": {**GRADS["b"], "c": jnp.zeros((1, 1))}})
        assert_close(run(jl.selective_transform(jl.trace(0.5), freeze_mask=mask))[0], zero)
    theirs, _ = run(optax.selective_transform(optax.adam(0.1), freeze_mask=frozen))
    ours, state = run(jl.selective_transform(jl.adam(0.1), freeze_mask=frozen))
    assert_close(ours, theirs, rtol=1e-5)
    assert len(jax.tree.leaves(state)) == 2 + 2 * 2, "what is frozen has no state"


def test_states_by_name():
    tx = jl.chain(jl.masked(jl.adam(0.1), MASK, unmasked="zero"))
    _, state = run(tx)
    named = jl.state_dict(tx, state)
    assert_close(jl.load_state_dict(tx, PARAMS, named), state)


def test_a_pattern_is_not_a_mask():
    for make in (lambda: jl.freeze("encoder/**"), lambda: jl.adamw(0.1, mask="**/kernel")):
        with pytest.raises(TypeError, match="got '.*' of type str. Patterns are for groups; here write lambda path"):
            make()


@pytest.mark.parametrize("inner", [jl.adamw(0.1), jl.ema_params(jl.adamw(0.1)), jl.groups({}, jl.lamb(0.1))])
def test_an_array_alone_may_be_outside(inner):
    """Nothing is left for the transformation inside, which is not to be told that there are no parameters."""
    params = jnp.ones(2)
    tx = jl.masked(inner, False, unmasked="zero")
    state = tx.init(params)
    updates, new_state = tx.update(params, state, params)
    np.testing.assert_array_equal(updates, [0, 0])
    assert jax.tree.structure(new_state) == jax.tree.structure(state)
    assert jl.eval_params(tx, new_state, params) is params
