"""Values: what can be done with an optimizer, a schedule or a step because it is one (design, section 1)."""

import copy
import functools
import inspect
import pickle
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, half

import jaxopt_lessons as jl
from jaxopt_lessons.types import NonNegative, Steps

SCHEDULES = [
    jl.constant_schedule(0.1),
    jl.linear_schedule(0.1, 0.0, 10),
    jl.exponential_decay(0.1, 10, 0.5, staircase=True, end_value=0.01),
    jl.cosine_decay_schedule(0.1, 10, alpha=0.1),
    jl.warmup_cosine_decay_schedule(0.0, 0.1, 2, 10),
    jl.piecewise_constant_schedule(0.1, {5: 0.5}),
    jl.join_schedules([jl.constant_schedule(0.1), jl.linear_schedule(0.1, 0.0, 10)], [5]),
    jl.inverse_time_decay(0.2, 1.0, steps_per_epoch=10, staircase=True),
    jl.manual_schedule({0: 0.1, 5: 0.01}),
    2.0 * jl.linear_schedule(0.1, 0.0, 10) + 0.5,
    jl.linear_schedule(0.1, 0.0, 10).then(jl.constant_schedule(0.0), at=10),
]


def loss_fn(params, batch):
    return jnp.sum(params * batch)


def plain_init(params):
    return ()


def plain_update(updates, state, params=None):
    return jax.tree.map(lambda u: 2 * u, updates), state


class Layer(NamedTuple):
    w: Any
    b: Any


NAMES = {**vars(jl), "Layer": Layer, "loss_fn": loss_fn, "plain_init": plain_init, "plain_update": plain_update}
NAMES |= {f.__name__: f for case in CASES for f in case.make().arguments.values() if inspect.isfunction(f)}

VALUES = [
    *(case.make() for case in CASES if case.name != "scale_by_schedule"),
    *SCHEDULES,
    jl.chain(jl.clip(1.0), jl.adamw(SCHEDULES[4], b1=SCHEDULES[1], mask={"a": True, "b": [False]})),
    jl.freeze(Layer(True, (False, [True]))),
    jl.adam(2.0 * jl.Schedule(half)),
    jl.GradientTransformation(plain_init, plain_update),
    jl.make_step(loss_fn, jl.chain(jl.clip(1.0), jl.adam(SCHEDULES[3]))),
]
every_value = pytest.mark.parametrize("value", VALUES, ids=lambda value: value.name)


@every_value
def test_prints_as_the_call_that_makes_it(value):
    assert eval(repr(value), NAMES) == value


def test_what_is_printed():
    assert repr(jl.adam(1e-3)) == "adam(learning_rate=0.001, b1=0.9, b2=0.999, eps=1e-08)"
    assert repr(jl.sgd(0.1)) == "sgd(learning_rate=0.1)"
    assert repr(jl.chain(jl.clip(1.0), jl.sgd(0.1, 0.9))) == (
        "chain(clip(max_delta=1.0), sgd(learning_rate=0.1, momentum=0.9))"
    )
    assert repr(jl.sgd(jnp.float32(0.5))) == "sgd(learning_rate=0.5)"
    assert repr(jax.vmap(jl.sgd)(jnp.ones(3))) == "sgd(learning_rate=float32[3])"
    assert repr(jl.sgd(half)) == "sgd(learning_rate=half)"
    assert repr(jl.manual_schedule({5: 0.1, 0: 1.0})) == "manual_schedule(values={0: 1.0, 5: 0.1})"


@every_value
def test_copies_are_equal_and_independent_of_identity(value):
    for other in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert other == value
        assert hash(other) == hash(value)
        assert repr(other) == repr(value)
        assert jax.tree.structure(other) == jax.tree.structure(value)
    assert {value: 1}[copy.deepcopy(value)] == 1


def test_all_values_are_different():
    for i, a in enumerate(VALUES):
        for j, b in enumerate(VALUES):
            assert (a == b) == (i == j)
    assert jl.adam(1e-3) != "adam"
    assert jl.adam(1e-3) != jl.adam(1e-3, nesterov=True)
    assert jl.adam(1e-3) != jl.adam(1e-4)
    assert jl.adam(jnp.float32(0.5)) == jl.adam(np.float32(0.5))
    assert jl.sgd(0.1, momentum=None) != jl.sgd(0.1, momentum=0.0)
    assert jl.adamw(0.1, mask={"a": True}) != jl.adamw(0.1, mask={"a": False})
    assert jl.adamw(0.1, mask={"a": True}) == jl.adamw(0.1, mask={"a": True})


@every_value
def test_is_a_tree_of_its_numbers(value):
    leaves, structure = jax.tree.flatten(value)
    assert all(isinstance(leaf, (int, float)) and not isinstance(leaf, bool) for leaf in leaves)
    assert jax.tree.unflatten(structure, leaves) == value
    doubled = jax.tree.map(lambda x: x * 2, value)
    assert jax.tree.leaves(doubled) == [2 * leaf for leaf in leaves]
    assert jax.tree.structure(doubled) == structure
    # JAX unflattens with placeholders; nothing may be checked or called then.
    jax.tree.unflatten(structure, [object() for _ in leaves])
    jax.tree.unflatten(structure, [None for _ in leaves])
    for path, leaf in jax.tree_util.tree_leaves_with_path(value):
        assert path
        assert leaf in leaves


@every_value
def test_is_immutable(value):
    with pytest.raises(AttributeError, match="immutable"):
        value.learning_rate = 1.0
    with pytest.raises(AttributeError, match="immutable"):
        del value._arguments
    with pytest.raises(TypeError):
        value.arguments["x"] = 1


@every_value
def test_passes_through_jit(value):
    returned = jax.jit(lambda value: value)(value)
    assert jax.tree.structure(returned) == jax.tree.structure(value)
    np.testing.assert_allclose(jax.tree.leaves(returned), jax.tree.leaves(value))
    assert jax.jit(lambda static: len(repr(static)), static_argnums=0)(value) == len(repr(value))


def test_is_a_cache_key():
    made = []

    @functools.lru_cache
    def expensive(tx):
        made.append(tx)

    for _ in range(3):
        expensive(jl.chain(jl.clip(1.0), jl.adam(1e-3)))
    assert len(made) == 1


def test_unpacks_to_the_plain_pair():
    init, update = jl.sgd(0.5)
    updates, state = update(jnp.ones(2), init(jnp.ones(2)))
    np.testing.assert_array_equal(updates, [-0.5, -0.5])
    assert isinstance(state, tuple)


def test_plain_functions_make_a_transformation():
    tx = jl.GradientTransformation(plain_init, plain_update)
    assert isinstance(tx, jl.GradientTransformation)
    for combined in (tx, jl.chain(tx, jl.scale(0.5), tx), jl.chain((plain_init, plain_update))):
        updates, _ = combined.update(jnp.ones(2), combined.init(jnp.ones(2)), jnp.ones(2), value=1.0, more=2.0)
        np.testing.assert_array_equal(updates, [2.0, 2.0])
    assert tx == jl.GradientTransformation(plain_init, plain_update)
    step = jl.make_step(lambda params, batch: jnp.sum((params - batch) ** 2), jl.chain(tx, jl.sgd(0.1)))
    state, _ = step(jl.init_state(jnp.zeros(2), step.tx), jnp.ones(2))
    np.testing.assert_allclose(state.params, [0.4, 0.4], rtol=1e-6)


def test_extras_reach_those_who_ask():
    def init(params):
        return ()

    def update(updates, state, params=None, *, value):
        return value * updates, state

    tx = jl.chain(jl.clip(10.0), jl.GradientTransformation(init, update))
    updates, _ = tx.update(jnp.ones(2), tx.init(jnp.ones(2)), value=3.0, other=None)
    np.testing.assert_array_equal(updates, [3.0, 3.0])


def test_vmap_over_the_optimizer():
    rates = jnp.array([0.1, 0.2, 0.4])
    stacked = jax.vmap(jl.sgd)(rates)
    run = lambda tx: tx.update(jnp.ones(2), tx.init(jnp.ones(2)))[0]
    np.testing.assert_allclose(jax.vmap(run)(stacked), -rates[:, None] * np.ones((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(jax.tree.map(lambda x: x[1], stacked).arguments["learning_rate"], 0.2)


def test_gradient_with_respect_to_the_optimizer_through_training():
    def final_loss(tx):
        def body(carry, _):
            params, state = carry
            updates, state = tx.update(2 * params, state, params)
            return (jl.apply_updates(params, updates), state), None

        start = jnp.array([1.0])
        (params, _), _ = jax.lax.scan(body, (start, tx.init(start)), None, length=3)
        return jnp.sum(params**2)

    # p <- (1 - 2 a) p three times: loss (1 - 2a)^6, derivative -12 (1 - 2a)^5.
    derivative = jax.grad(final_loss)(jl.sgd(0.1))
    assert isinstance(derivative, jl.GradientTransformation)
    assert derivative.arguments["learning_rate"] == pytest.approx(-12 * 0.8**5, rel=1e-5)
    # Whole numbers of steps in a schedule are leaves without a derivative.
    derivative = jax.grad(final_loss, allow_int=True)(jl.sgd(jl.linear_schedule(0.1, 0.1, 5)))
    rates = derivative.arguments["learning_rate"].arguments
    assert float(rates["init_value"] + rates["end_value"]) == pytest.approx(-12 * 0.8**5, rel=1e-5)


def test_replace():
    tx = jl.chain(jl.clip(1.0), jl.chain(jl.identity(), jl.adamw(1e-3)))
    changed = tx.replace(learning_rate=3e-4, max_delta=2.0)
    assert changed == jl.chain(jl.clip(2.0), jl.chain(jl.identity(), jl.adamw(3e-4)))
    assert tx == jl.chain(jl.clip(1.0), jl.chain(jl.identity(), jl.adamw(1e-3)))
    assert jl.adam(1e-3).replace(learning_rate=3e-4) == jl.adam(3e-4)
    assert jax.tree.structure(changed) == jax.tree.structure(tx)
    schedule = jl.adam(jl.cosine_decay_schedule(0.1, 100)).replace(init_value=0.2)
    assert schedule == jl.adam(jl.cosine_decay_schedule(0.2, 100))
    assert jl.adam(1e-3).replace(learning_rate=schedule.arguments["learning_rate"]) == schedule


def test_what_is_repeated_inside_is_replaced_there_too():
    """A schedule-free optimizer has one learning rate, given twice."""

    def tx(rate):
        return jl.chain(jl.clip(1.0), jl.schedule_free(jl.chain(jl.centralize(), jl.sgd(rate)), rate))

    assert tx(0.1).replace(learning_rate=0.5) == tx(0.5)
    assert tx(0.1).replace(learning_rate=jl.cosine_decay_schedule(0.1, 10)) == tx(jl.cosine_decay_schedule(0.1, 10))
    assert jl.groups({"b": {"learning_rate": 0.5}}, tx(0.1)).init({"b": jnp.ones(1), "w": jnp.ones(1)})
    assert tx(0.1).replace(b1=0.5) != tx(0.1)
    nothing_inside = jl.schedule_free(jl.scale(-0.1), 0.1)
    assert nothing_inside.replace(learning_rate=0.5) == jl.schedule_free(jl.scale(-0.1), 0.5)
    changed = jax.jit(lambda tx, rate: tx.replace(learning_rate=rate))(tx(0.1), 0.5)
    np.testing.assert_allclose(jax.tree.leaves(changed), jax.tree.leaves(tx(0.5)), rtol=1e-6)
    several = jl.schedule_free(jl.chain(jl.sgd(0.1), jl.scale_by_learning_rate(0.1, flip_sign=False)), 0.1)
    with pytest.raises(ValueError, match="'learning_rate' is ambiguous.* chain > sgd, chain > scale_by_learning_rate"):
        several.replace(learning_rate=0.5)


def test_replace_errors():
    tx = jl.chain(jl.adam(1e-3), jl.adam(1e-3))
    with pytest.raises(ValueError, match="'b1' is ambiguous, it belongs to chain > adam, chain > adam"):
        tx.replace(b1=0.5)
    with pytest.raises(TypeError, match="no argument 'learning_rat' to replace. Did you mean 'learning_rate'?"):
        tx.replace(learning_rat=0.5)
    with pytest.raises(ValueError, match=r"adam: b1 must be a finite number in \[0, 1\); got 1.5"):
        jl.adam(1e-3).replace(b1=1.5)
    with pytest.raises(ValueError, match="nesterov=True needs a momentum"):
        jl.sgd(1e-3).replace(nesterov=True)
    with pytest.raises(TypeError, match="max_norm"):
        jl.chain(jl.clip_by_global_norm(1.0)).replace(max_norm="1")


BAD_NUMBERS = [
    (
        lambda: jl.adam(-1.0),
        ValueError,
        r"adam: learning_rate must be a finite number in \[0, inf\), or a schedule|got -1",
    ),
    (lambda: jl.adam(float("nan")), ValueError, "learning_rate.*nan"),
    (lambda: jl.adam(float("inf")), ValueError, "learning_rate.*inf"),
    (lambda: jl.adam("1e-3"), TypeError, "learning_rate.*'1e-3' of type str"),
    (lambda: jl.adam([1e-3]), TypeError, "learning_rate"),
    (lambda: jl.adam(True), TypeError, "learning_rate.*True of type bool"),
    (lambda: jl.adam(np.True_), TypeError, "learning_rate"),
    (lambda: jl.adam(None), TypeError, "learning_rate.*NoneType"),
    (lambda: jl.adam(1j), TypeError, "learning_rate"),
    (lambda: jl.adam(jnp.complex64(1)), TypeError, "learning_rate.*complex64"),
    (lambda: jl.adam(jnp.ones(3)), TypeError, r"single number.*jax.vmap\(adam\)"),
    (lambda: jl.adam(np.ones(3)), TypeError, "single number"),
    (lambda: jl.adam(jnp.float32(-1)), ValueError, "learning_rate.*-1"),
    (lambda: jl.adam(1e-3, b1=1.0), ValueError, r"b1 must be a finite number in \[0, 1\); got 1.0"),
    (lambda: jl.adam(1e-3, b2=-0.1), ValueError, "b2"),
    (lambda: jl.adam(1e-3, eps=-1e-8), ValueError, "eps"),
    (lambda: jl.adam(1e-3, beta1=0.9), TypeError, r"adam: got an unknown argument 'beta1'\. Did you mean 'b1'\?"),
    (lambda: jl.sgd(lr=0.9), TypeError, r"sgd: got an unknown argument 'lr'\. Did you mean 'learning_rate'\?"),
    (lambda: jl.clip(beta1=0.9), TypeError, r"unknown argument 'beta1'\. The arguments are: max_delta"),
    (lambda: jl.dadapt_adamw(betas=(0.9,)), ValueError, r"betas must be two numbers; got \(0\.9,\)"),
    (lambda: jl.adam(learning_rat=0.9), TypeError, "Did you mean 'learning_rate'?"),
    (lambda: jl.adam(), TypeError, "adam: missing a required argument: 'learning_rate'"),
    (lambda: jl.adamw(1e-3, weight_decay=-1), ValueError, "weight_decay"),
    (lambda: jl.sgd(1e-3, nesterov=True), ValueError, "nesterov=True needs a momentum"),
    (lambda: jl.rmsprop(1e-3, nesterov=True), ValueError, "nesterov=True needs a momentum"),
    (lambda: jl.sgd(1e-3, momentum=1.0), ValueError, "momentum"),
    (lambda: jl.clip(-1), ValueError, "max_delta"),
    (lambda: jl.clip_by_global_norm(float("nan")), ValueError, "max_norm"),
    (lambda: jl.scale_by_rss(initial_accumulator_value=half), TypeError, "not a schedule"),
    (lambda: jl.chain(3), TypeError, r"chain: transforms\[0\] must be a gradient transformation.*got 3 of type int"),
    (lambda: jl.chain(jl.adam), TypeError, r"chain: transforms\[0\] must be a gradient transformation"),
]


@pytest.mark.parametrize("number", range(len(BAD_NUMBERS)))
def test_bad_arguments_raise_when_the_value_is_built(number):
    call, error, message = BAD_NUMBERS[number]
    with pytest.raises(error, match=message):
        call()


def test_good_numbers():
    for rate in (0, 1, 0.0, np.float32(0.1), np.float64(0.1), jnp.float32(0.1), np.array(0.1), jnp.bfloat16(0.1)):
        tx = jl.sgd(rate)
        updates, _ = tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
        np.testing.assert_allclose(updates, -np.float32(rate) * np.ones(2), rtol=1e-6)
        assert updates.dtype == jnp.float32
    traced = jax.jit(lambda rate: jl.adam(rate, b1=rate).update(jnp.ones(2), jl.adam(rate).init(jnp.ones(2)))[0])(0.1)
    np.testing.assert_allclose(traced, [-0.1, -0.1], rtol=1e-6)


@pytest.mark.parametrize("number", [float, np.float32, np.float64, np.array, jnp.float32, jnp.bfloat16])
def test_a_whole_number_of_another_type_is_an_int(number):
    """As from ``0.1 * total``: differences of counts stay whole."""
    line = jl.linear_schedule(1.0, 0.0, number(4.0))
    assert line == jl.linear_schedule(1.0, 0.0, 4)
    assert type(line.arguments["transition_steps"]) is not float
    halved = line.hold(number(2.0)).then(0.5 * line).shift(number(1.0))
    expected = [1, 1, 0.75, 0.5, 0.25, 0, 0, 0.5, 0.375]
    np.testing.assert_allclose(halved(jnp.arange(9)), expected)
    assert jl.multistep_decay(1.0, [number(2.0), 4]) == jl.multistep_decay(1.0, [2, 4])


def test_none_is_a_number_only_where_the_annotation_says_so():
    tx = jl.adafactor(0.1, clipping_threshold=None)  # 1.0 by default
    assert tx.arguments["clipping_threshold"] is None
    assert "clipping_threshold=None" in repr(tx)
    assert tx != jl.adafactor(0.1)
    with pytest.raises(TypeError, match="eps must be a finite number in"):
        jl.adafactor(0.1, eps=None)


def test_learning_rate_zero_leaves_the_weights_bit_equal():
    params = jnp.array([1.0, -2.0, 1e-30])
    tx = jl.adamw(0.0, weight_decay=0.1)
    updates, _ = tx.update(jnp.ones(3), tx.init(params), params)
    np.testing.assert_array_equal(np.asarray(jl.apply_updates(params, updates)), np.asarray(params))


def test_postponed_annotations_are_read():
    namespace = {"jl": jl, "__name__": "user"}
    exec(
        """
from __future__ import annotations
from jaxopt_lessons.types import DecayRateOrSchedule
@jl.gradient_transformation
def mine(decay: DecayRateOrSchedule = 0.9, *, flag: bool = False):
    return jl.trace(decay)
""",
        namespace,
    )
    tx = namespace["mine"](0.5)
    assert jax.tree.leaves(tx) == [0.5]
    with pytest.raises(ValueError, match="mine: decay"):
        namespace["mine"](1.5)


def test_unannotated_numbers_are_leaves_only_where_they_are_floats():
    @jl.gradient_transformation
    def mine(a: float, b, n: int = 3):
        return jl.scale(a)

    assert jax.tree.leaves(mine(0.5, jl.scale(2.0), n=4)) == [0.5, 2.0]
    assert repr(mine(0.5, "x")) == "mine(a=0.5, b='x', n=3)"


def test_unhashable_static_arguments_are_named():
    with pytest.raises(TypeError, match="adam_mini: blocks is part of the structure of the value and must be hashable"):
        jl.adam_mini(0.1, blocks={"a": {1, 2}})


def test_no_tracer_leaks():
    with jax.checking_leaks():
        tx = jl.chain(jl.clip_by_global_norm(1.0), jl.adamw(jl.cosine_decay_schedule(0.1, 10), b1=half))
        params = jnp.ones(3)

        @jax.jit
        def step(tx, params, state):
            updates, state = tx.update(params, state, params)
            return jl.apply_updates(params, updates), state

        state = tx.init(params)
        for _ in range(2):
            params, state = step(tx, params, state)
    assert jnp.all(jnp.isfinite(params))


def test_a_value_made_under_a_trace_keeps_no_tracer():
    @jl.gradient_transformation
    def computing(decay: float):
        rest = 1 - jnp.asarray(decay)  # calculated in the body, not in update
        return jl.chain(jl.scale(rest))

    tx = copy.copy(computing(0.75))
    state = tx.init(jnp.ones(2))
    inside, _ = jax.jit(lambda g: tx.update(g, state))(jnp.ones(2))
    outside, _ = tx.update(jnp.ones(2), state)
    np.testing.assert_array_equal(inside, outside)
    returned = jax.jit(lambda tx: tx)(jl.adam(jl.warmup_cosine_decay_schedule(0.0, 0.1, 10, 100)))
    jax.jit(lambda g: returned.update(g, returned.init(g)))(jnp.ones(2))


def test_containers_of_values_are_children():
    @jl.gradient_transformation
    def either(parts, which: bool = True):
        return parts["a"] if which else parts["b"]

    tx = either({"a": jl.sgd(0.1), "b": jl.adam(0.2)})
    assert sorted(jax.tree.leaves(tx))[-3:] == [0.2, 0.9, 0.999]
    assert tx.replace(momentum=0.5) == either({"a": jl.sgd(0.1, 0.5), "b": jl.adam(0.2)})
    with pytest.raises(ValueError, match="ambiguous"):
        tx.replace(learning_rate=0.5)


def test_mixed_arguments():
    """Dicts and tuples of names, settings and numbers: what is a number is a leaf, what is not is structure."""
    rules = {"z": {"learning_rate": 0.5, "nesterov": True, "mask": {"w": False}}, "a": "freeze", "m": jl.sgd(0.1)}
    default = jl.adamw(0.2)
    tx = jl.groups(rules, default)
    leaves, structure = jax.tree.flatten(tx)
    assert leaves == [0.5, 0.1, *jax.tree.leaves(default)]
    for placeholder in (object(), jax.ShapeDtypeStruct((), jnp.float32), "text", True):
        strange = jax.tree.unflatten(structure, [placeholder] * len(leaves))
        assert strange.arguments["rules"]["z"] == {**rules["z"], "learning_rate": placeholder}
        assert strange.arguments["rules"]["m"].arguments["learning_rate"] is placeholder
        assert jax.tree.structure(strange) == structure
    assert list(jax.tree.map(lambda x: 2 * x, tx).arguments["rules"]) == ["z", "a", "m"]
    assert jax.tree.structure(jl.groups(rules, jl.adamw(0.7))) == structure
    assert jax.tree.structure(jl.groups({**rules, "a": jl.sgd(0.1)}, default)) != structure


def test_mixed_arguments_of_any_number():
    named = jl.named_chain(("a", jl.clip(1.0)), ("b", jl.named_chain(("c", jl.sgd(0.1)))))
    assert jax.tree.leaves(named) == [1.0, 0.1]
    changed = jl.named_chain(("a", jl.clip(1.0)), ("b", jl.named_chain(("c", jl.sgd(0.3)))))
    assert named.replace(learning_rate=0.3) == changed
    assert repr(named) == "named_chain(('a', clip(max_delta=1.0)), ('b', named_chain(('c', sgd(learning_rate=0.1)))))"
    assert eval(repr(named), NAMES) == named


def test_random_keys_and_mutable_arguments():
    @jl.gradient_transformation
    def noisy(key):
        return jl.identity()

    assert noisy(jax.random.key(0)) == noisy(jax.random.key(0))
    assert noisy(jax.random.key(0)) != noisy(jax.random.key(1))
    mask = {"w": True}
    tx = jl.add_decayed_weights(0.1, mask)
    mask["w"] = False
    assert tx == jl.add_decayed_weights(0.1, {"w": True})
    assert tx.arguments["mask"] == {"w": True}


def test_flags_are_bools():
    assert jl.trace(0.9, nesterov=np.True_) == jl.trace(0.9, nesterov=True)
    assert jl.scale_by_rms(eps_in_sqrt=1) == jl.scale_by_rms()
    with pytest.raises(TypeError, match="sgd: nesterov must be True or False; got 'no'"):
        jl.sgd(0.1, 0.9, nesterov="no")


def test_replace_checks_when_all_is_replaced():
    assert jl.sgd(0.1).replace(nesterov=True, momentum=0.9) == jl.sgd(0.1, 0.9, nesterov=True)
    longer = jl.chain(jl.adam(jl.warmup_cosine_decay_schedule(0.0, 1.0, 10, 100)))
    assert longer.replace(warmup_steps=200, decay_steps=400) is not None
    with pytest.raises(ValueError, match="must increase"):
        longer.replace(warmup_steps=200)


def test_a_decay_that_rounds_to_one_is_refused():
    with pytest.raises(ValueError, match="b2 must be"):
        jl.adam(1e-3, b2=0.99999999)


def test_missing_extra_arguments_are_named():
    def update(updates, state, params=None, *, value):
        return updates, state

    tx = jl.chain(jl.GradientTransformation(plain_init, update))
    with pytest.raises(jl.InputError, match=r"needs value: call update\(updates, state, params, value=...\)"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))


def test_factories_name_their_arguments():
    with pytest.raises(TypeError, match="cannot take \\*\\*keywords"):

        @jl.gradient_transformation
        def loose(**options):
            return jl.identity()


def test_factories_have_arguments_of_every_kind():
    @jl.gradient_transformation
    def every(
        first: NonNegative,
        /,
        second: NonNegative,
        *rest: NonNegative,
        order: Literal[1, 2] = 1,
        at: Mapping[int, Steps] | None = None,
    ):
        assert (first, second, rest, order, at) == (1, 2, (3, 4), 2, {0: 10, 5: 20})
        return plain_init, plain_update

    tx = every(1, 2, 3, 4, order=2, at={0: 10.0, 5: 20})
    assert jax.tree.leaves(tx) == [1, 2, 3, 4, 10, 20]
    assert [type(step) for step in tx.arguments["at"].values()] == [int, int]
    assert tx.init(jnp.ones(2)) == ()
    with pytest.raises(ValueError, match=r"^every: rest must be a finite number in \[0, inf\); got -4"):
        every(1, 2, 3, -4)


def test_factories_return_a_pair_of_functions():
    @jl.gradient_transformation
    def nothing():
        return 3

    with pytest.raises(TypeError, match="^nothing: what it returns must be .*; got 3 of type int"):
        nothing().init(jnp.ones(2))


def test_values_with_traced_numbers_are_compared_by_the_tracers():
    @jax.jit
    def traced(rate, other):
        first, again = jl.sgd(rate), jl.sgd(rate)
        assert first == again
        assert hash(first) == hash(again)
        assert first != jl.sgd(other)
        return rate

    traced(0.1, 0.1)


@pytest.mark.parametrize("bad", ["int8", jnp.int32, "flot", 3, bool], ids=str)
def test_a_state_is_of_a_floating_point_dtype(bad):
    with pytest.raises(TypeError, match="adam: mu_dtype must be a floating-point dtype"):
        jl.adam(0.1, mu_dtype=bad)


@pytest.mark.parametrize("dtype", ["bfloat16", jnp.float16, np.dtype(np.float32), None], ids=str)
def test_a_dtype_may_be_given_by_name(dtype):
    state = jl.adam(0.1, mu_dtype=dtype).init(jnp.zeros(2))
    assert state[0].mu.dtype == jnp.dtype(dtype or jnp.float32)


def test_all_inside_is_walked_through():
    tx = jl.chain(
        jl.clip(1.0), jl.groups({"b": "freeze", "w": jl.sgd(0.1)}, default=jl.lookahead(jl.adam(0.1), 5, 0.5))
    )
    names = [part.name for part in tx.walk()]
    assert names[:3] == ["chain", "clip", "groups"]
    assert names.index("lookahead") < names.index("adam") < names.index("scale_by_adam")
    assert names.count("scale_by_learning_rate") == 2
    assert [part.made_by(jl.lookahead) for part in tx.walk()] == [name == "lookahead" for name in names]
    assert not jl.adam(0.1).made_by(jl.adamw)
