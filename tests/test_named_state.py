"""States by name: out and in again, from one chain to another, from optax to here."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import CASES, Case, rows
from runs import assert_close

import jaxopt_lessons as jl

PARAMS = {"a": {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]])}, "b": [jnp.array([1.0, 2.0, -1.0]), None]}
SCHEDULE = jl.linear_schedule(0.1, 0.2, 3)


def grads(i):
    return jax.tree.map(lambda p: jnp.sin(p + i), PARAMS)


def steps(update, state, first, n, params=PARAMS):
    updates = None
    for i in range(first, first + n):
        updates, state = update(grads(i), state, params)
    return updates, state


def through_numpy(tree):
    return {k: through_numpy(v) if isinstance(v, dict) else np.asarray(v) for k, v in tree.items()}


@rows
def test_a_state_goes_out_and_in_again(case: Case):
    """Three steps, out as NumPy arrays, in again, three steps: bit for bit the six steps without the journey."""
    tx = case.make()
    update = jax.jit(case.update(tx))
    _, state = steps(update, tx.init(PARAMS), 0, 3)
    loaded = jl.load_state_dict(tx, PARAMS, through_numpy(jl.state_dict(tx, state)))
    assert_close(loaded, state, rtol=0)
    assert_close(steps(update, loaded, 3, 3), steps(update, state, 3, 3), rtol=0)


def test_names():
    tx = jl.chain(jl.clip(1.0), jl.trace(0.9), jl.adamw(SCHEDULE), jl.trace(SCHEDULE))
    named = jl.state_dict(tx, tx.init(PARAMS))
    assert list(named) == ["trace", "scale_by_adam", "scale_by_learning_rate", "trace_2"]
    assert list(named["trace"]["trace"]) == ["a", "b"]
    assert list(named["trace_2"]) == ["schedule_count", "trace"]
    assert named["scale_by_adam"]["mu"]["b"]["0"].shape == (3,)
    assert list(named["scale_by_learning_rate"]) == ["count"]


def test_parts_without_state_may_come_and_go():
    tx = jl.adamw(0.1)
    _, state = steps(tx.update, tx.init(PARAMS), 0, 3)
    named = jl.state_dict(tx, state)
    longer = jl.chain(jl.identity(), jl.chain(jl.clip_by_global_norm(1.0)), jl.adamw(0.1), jl.scale(0.5))
    loaded = jl.load_state_dict(longer, PARAMS, named)
    assert jl.state_dict(longer, loaded).keys() == named.keys()
    assert_close(jl.state_dict(longer, loaded), named, rtol=0)


def test_all_differences_are_told_at_once():
    tx = jl.sgd(0.1, momentum=0.9)
    named = jl.state_dict(tx, tx.init(PARAMS))
    named["trace"]["trace"]["a"]["w"] = jnp.zeros(3)
    del named["trace"]["trace"]["b"]
    named["ema"] = {"count": jnp.int32(0)}
    named["scale_by_learning_rate"]["count"] = jnp.float32(0)
    with pytest.raises(jl.InputError) as error:
        jl.load_state_dict(tx, PARAMS, named)
    for part in (
        "missing 'trace/trace/b/0'",
        "surplus 'ema/count'",
        "'trace/trace/a/w' is float32[3], not float32[2,2]",
        "'scale_by_learning_rate/count' is float32[], not int32[]",
    ):
        assert part in str(error.value)


def test_other_dtypes_only_on_request():
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    tx = jl.sgd(0.1, momentum=0.9, accumulator_dtype=jnp.bfloat16)
    named = jl.state_dict(tx, tx.init(params))
    wide = jl.sgd(0.1, momentum=0.9)
    with pytest.raises(jl.InputError, match=r"is bfloat16\[2,2\], not float32\[2,2\]"):
        jl.load_state_dict(wide, params, named)
    loaded = jl.load_state_dict(wide, params, named, cast=True)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {jnp.dtype(jnp.float32), jnp.dtype(jnp.int32)}


def test_loading_keeps_shardings_and_shares_no_memory():
    mesh = jax.make_mesh((8,), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    params = jax.device_put(jnp.zeros(16), sharding)
    tx = jl.trace(0.9)
    named = jl.state_dict(tx, tx.init(params))
    loaded = jl.load_state_dict(tx, params, through_numpy(named))
    assert loaded.trace.sharding.is_equivalent_to(sharding, 1)
    again = jl.load_state_dict(tx, params, named)
    assert again.trace is not named["trace"]["trace"]
    jax.jit(lambda s: s, donate_argnums=0)(again)
    np.testing.assert_array_equal(named["trace"]["trace"], np.zeros(16))


class Twins:
    """A node whose two children have one name."""

    def __init__(self, *children):
        self.children = children


jax.tree_util.register_pytree_with_keys(
    Twins,
    lambda twins: ([(jax.tree_util.GetAttrKey("x"), child) for child in twins.children], None),
    lambda _, children: Twins(*children),
)


def test_names_that_cannot_be_told_apart_are_refused():
    tx = jl.trace(0.9)
    with pytest.raises(jl.InputError, match="two leaves of the state are both called 'trace/trace/x'"):
        jl.state_dict(tx, tx.init(Twins(jnp.zeros(2), jnp.zeros(3))))
    slash = jl.state_dict(tx, tx.init({"a/b": jnp.zeros(2), "a": {"b": jnp.zeros(2)}}))
    assert set(slash["trace"]["trace"]) == {"a/b", "a"}


def test_a_pair_of_functions_has_a_name_too():
    tx = jl.chain(optax.scale_by_adam(), jl.scale_by_learning_rate(0.1))
    named = jl.state_dict(tx, tx.init({"w": jnp.zeros(2)}))
    assert named["GradientTransformation"]["mu"]["w"].shape == (2,)


# -- from optax -------------------------------------------------------------------------------------------------------


@functools.partial(rows, cases=[case for case in CASES if case.optax is not None])
def test_a_state_of_optax_goes_on_here(case: Case):
    """Three steps there and three here are six steps there."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        ours, theirs = case.make(), case.optax(**case.arguments)
        _, state = steps(case.update(theirs), theirs.init(PARAMS), 0, 3)
        converted = jl.convert_state(ours, PARAMS, state, count=3)
        expected, _ = steps(case.update(theirs), state, 3, 3)
        actual, _ = steps(case.update(ours), converted, 3, 3)
    assert_close(actual, expected, rtol=2e-5, atol=2e-6)


def test_injected_hyperparameters_stay_behind():
    theirs = optax.inject_hyperparams(optax.adamw)(1e-3)
    with jax.numpy_dtype_promotion("standard"):
        _, state = steps(theirs.update, theirs.init(PARAMS), 0, 2)
    converted = jl.convert_state(jl.adamw(1e-3), PARAMS, state)
    assert int(converted[0].count) == int(converted[2].count) == 2


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (jl.adam(0.1, b1=SCHEDULE), optax.inject_hyperparams(optax.adam)(0.1, b1=SCHEDULE)),
        (jl.sgd(0.1, momentum=SCHEDULE), optax.inject_hyperparams(optax.sgd)(0.1, momentum=SCHEDULE)),
    ],
    ids=["adam", "sgd"],
)
def test_a_schedule_of_another_hyperparameter_is_told_the_count(ours, theirs):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        _, state = steps(theirs.update, theirs.init(PARAMS), 0, 3)
        expected, _ = steps(theirs.update, state, 3, 3)
        converted = jl.convert_state(ours, PARAMS, state, count=3)
        actual, _ = steps(ours.update, converted, 3, 3)
    assert_close(actual, expected, rtol=2e-5, atol=2e-6)


def test_what_a_record_has_more_would_be_lost():
    class ScaleByAdamState(NamedTuple):
        count: jax.Array
        mu: dict
        nu: dict
        nu_max: dict

    ScaleByAdamState.__module__ = "optax.of_another_version"
    adam = jl.scale_by_adam()
    state = ScaleByAdamState(jnp.int32(3), PARAMS, PARAMS, PARAMS)
    with pytest.raises(jl.InputError, match=r"ScaleByAdamState.nu_max would be lost"):
        jl.convert_state(adam, PARAMS, state)
    assert int(jl.convert_state(adam, PARAMS, state._replace(nu_max={})).count) == 3


SCHEDULED = jl.sgd(SCHEDULE, 0.9)


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        (SCHEDULED, optax.sgd(0.1, 0.9), "pass count="),
        (jl.chain(jl.clip(1.0), SCHEDULED), optax.sgd(0.1, 0.9), "pass count="),
        (jl.partition({"a": SCHEDULED}, "a"), optax.sgd(0.1, 0.9), "pass count="),
        (jl.sgd(0.1, 0.9), optax.adam(0.1), "no TraceState at its place: there is ScaleByAdamState"),
        (jl.sgd(0.1), optax.adam(0.1), "ScaleByAdamState would be lost"),
        (jl.chain(jl.adam(0.1), jl.trace(0.9)), optax.adam(0.1), "no TraceState at its place: there is nothing left"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_states_of_other_optimizers_are_refused(ours, theirs, message):
    with pytest.raises(jl.InputError, match=message):
        jl.convert_state(ours, PARAMS, theirs.init(PARAMS))


def test_states_of_other_parameters_are_refused():
    with pytest.raises(jl.InputError, match=r"in ScaleByAdamState.mu missing 'a/w', 'b/0'; surplus 'c'"):
        jl.convert_state(jl.adam(0.1), PARAMS, optax.adam(0.1).init({"c": jnp.zeros(2)}))
    with pytest.raises(jl.InputError, match=r"ScaleByAdamState.mu at 'w' is float32\[3\], not float32\[2\]"):
        jl.convert_state(jl.adam(0.1), {"w": jnp.zeros(2)}, optax.adam(0.1).init({"w": jnp.zeros(3)}))


@pytest.mark.parametrize("wrapper", [jl.kahan, lambda tx: jl.named_chain(("a", tx))])
def test_two_stages_of_one_name_inside_a_wrapper_are_numbered(wrapper):
    tx = wrapper(jl.chain(jl.trace(0.9), jl.trace(0.5)))
    state = tx.init(jnp.zeros(2))
    named = jl.state_dict(tx, state)
    assert "trace_2" in str(named)
    assert jax.tree.structure(jl.load_state_dict(tx, jnp.zeros(2), named)) == jax.tree.structure(state)
