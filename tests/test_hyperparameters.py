"""hyperparams and set_hyperparams: every number of every optimizer under its name, read and changed."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases.case import With

import jaxopt_lessons as jl

PARAMS = {"w": jnp.arange(1.0, 7.0).reshape(3, 2) / 6, "bias": jnp.full(2, 0.5)}
RATE = jl.linear_schedule(0.5, 0.0, 10)


def after(tx, steps, params=PARAMS):
    """The state after some updates."""
    state = tx.init(params)
    for _ in range(steps):
        _, state = tx.update(params, state, params, value=jnp.ones(()))
    return state


def read(tx, steps=0):
    return {name: float(value) for name, value in jl.hyperparams(tx, after(tx, steps)).items()}


# ---------------------------------------------------------------------------------------------------------------------
# The catalogue
# ---------------------------------------------------------------------------------------------------------------------


OWN_CLOCK = {
    ("schedule_free_radam", "learning_rate"): "the rectification is a factor of it",
    ("schedule_free_sgd", "learning_rate"): "so is the warm-up of the row",
    ("schedule_free_adamw", "learning_rate"): "so is the warm-up of the row",
    ("asam", "rho"): "the adversary counts its own steps, every second one",
}


def scheduled(case):
    """The row with schedules for all its numbers that may be schedules, and their values at counts 0 to 4."""
    schedules, needed, expected = {}, {}, {}
    for name, allowed in case.factory._specification.ranges.items():
        if allowed is not None and allowed.schedules:
            first = case.scheduled.get(name, 0.5)
            first, then = first if isinstance(first, tuple) else (first, first / 2)
            other = case.others.get(name)
            needed |= dict(other.beside) if isinstance(other, With) else {}
            schedules[name] = lambda count, first=first, then=then: jnp.where(count >= 2, then, first)
            expected[name] = [first, first, then, then, then]
    return case.make(**{**needed, **schedules}), expected


def readings(case, tx, steps):
    """The hyperparameters before each of some updates, from one compiled loop."""

    def step(state, _):
        found = jl.hyperparams(tx, state)
        return case.update(tx)(PARAMS, state, PARAMS)[1], found

    return jax.lax.scan(step, tx.init(PARAMS), length=steps)[1]


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_schedules_are_read_at_every_step(case):
    """Plain, and under accumulation, where every second call is an update."""
    tx, expected = scheduled(case)
    found = readings(case, tx, 5)
    for name, values in expected.items():
        agree = np.allclose(found[f"{tx.name}.{name}"], values, rtol=1e-5, atol=0)
        assert agree != ((case.name, name) in OWN_CLOCK), name
    if expected and not case.per_example and not tx.takes_half_precision:
        found = readings(case, jl.MultiSteps(jl.chain(jl.centralize(), tx), 2), 6)
        for name, values in expected.items():
            if (case.name, name) not in OWN_CLOCK:
                np.testing.assert_allclose(
                    found[f"{tx.name}.{name}"], np.repeat(values[:3], 2), rtol=1e-5, err_msg=name
                )


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_all_numbers_are_there_and_can_be_changed(case):
    tx = case.make()
    found = jl.hyperparams(tx, tx.init(PARAMS))
    own = {name: value for name, value in tx.hyperparameters.items() if isinstance(value, float)}
    for name, value in own.items():
        if (case.name, name) not in OWN_CLOCK:
            assert float(found[f"{tx.name}.{name}"]) == pytest.approx(value)
    for change in case.other_numbers():
        ((name, value),) = change.items()
        assert jl.set_hyperparams(tx, {f"{tx.name}.{name}": value}) == tx.replace(**change)
    assert jl.set_hyperparams(tx, {}) is tx


# ---------------------------------------------------------------------------------------------------------------------
# Names
# ---------------------------------------------------------------------------------------------------------------------


def test_names_do_not_depend_on_what_is_around():
    names = list(read(jl.adamw(RATE)))
    assert names == [f"adamw.{n}" for n in ("learning_rate", "b1", "b2", "eps", "eps_root", "weight_decay")]
    adamw = jl.adamw(RATE)
    for tx in (
        jl.chain(adamw),
        jl.chain(jl.chain(jl.clip(1.0), adamw)),
        jl.MultiSteps(adamw, 2),
        jl.apply_if_finite(jl.lookahead(adamw, 5, 0.5), 3),
        jl.with_precision(adamw, weights="master", moments=jnp.bfloat16),
        jl.flatten(adamw),
    ):
        assert set(names) <= set(read(tx)), tx


def test_the_second_of_a_name_has_a_number():
    tx = jl.chain(jl.clip(1.0), jl.sgd(0.1), jl.clip(2.0), jl.clip(3.0))
    assert read(tx) == pytest.approx(
        {"clip.max_delta": 1.0, "sgd.learning_rate": 0.1, "clip_2.max_delta": 2.0, "clip_3.max_delta": 3.0}
    )
    assert jl.set_hyperparams(tx, {"clip_2.max_delta": 5.0}) == jl.chain(
        jl.clip(1.0), jl.sgd(0.1), jl.clip(5.0), jl.clip(3.0)
    )


def test_one_transformation_in_two_places_has_two_states():
    part = jl.scale_by_learning_rate(RATE)
    tx = jl.partition({"a": part, "b": jl.apply_if_finite(part, 9)}, lambda path, leaf: "a" if path == "w" else "b")
    state = tx.init(PARAMS)
    _, state = tx.update(PARAMS | {"bias": jnp.full(2, jnp.nan)}, state, PARAMS)
    found = jl.hyperparams(tx, state)
    assert float(found["a.scale_by_learning_rate.learning_rate"]) == pytest.approx(0.45)
    assert float(found["b.scale_by_learning_rate.learning_rate"]) == 0.5


def test_one_transformation_under_two_labels_has_two_states():
    part = jl.scale_by_learning_rate(RATE)
    tx = jl.partition({"a": part, "b": part}, lambda path, leaf: "a" if path == "w" else "b")
    states = tx.init(PARAMS).inner_states
    state = jl.PartitionState({"a": states["a"], "b": states["b"]._replace(count=jnp.int32(4))})
    found = {name: float(value) for name, value in jl.hyperparams(tx, state).items()}
    assert found == pytest.approx(
        {"a.scale_by_learning_rate.learning_rate": 0.5, "b.scale_by_learning_rate.learning_rate": 0.3}
    )


def test_labels():
    groups = jl.groups({"b*": {"weight_decay": 0.0}, "w": jl.sgd(0.3)}, default=jl.adamw(RATE))
    found = read(groups, 3)
    assert found["b*.adamw.learning_rate"] == pytest.approx(0.35)
    assert (found["b*.adamw.weight_decay"], found["default.adamw.weight_decay"]) == pytest.approx((0.0, 1e-4))
    assert found["w.sgd.learning_rate"] == pytest.approx(0.3)
    named = jl.named_chain(("first", jl.clip(1.0)), ("then", jl.sgd(RATE)))
    assert read(named, 1) == pytest.approx({"first.clip.max_delta": 1.0, "then.sgd.learning_rate": 0.45})
    both = read(jl.sam(jl.sgd(RATE), jl.sgd(0.05)), 2)
    assert both == pytest.approx({"optimizer.sgd.learning_rate": 0.45, "adv_optimizer.sgd.learning_rate": 0.05})


def test_several_numbers_in_one_argument():
    found = read(jl.prodigy(betas=(0.8, 0.9)))
    assert (found["prodigy.betas.0"], found["prodigy.betas.1"]) == pytest.approx((0.8, 0.9))
    tx = jl.set_hyperparams(jl.prodigy(), {"prodigy.betas.1": 0.99})
    assert tx == jl.prodigy(betas=(0.9, 0.99))


# ---------------------------------------------------------------------------------------------------------------------
# What else is read
# ---------------------------------------------------------------------------------------------------------------------


def test_a_warm_up_of_the_preset_is_in_its_learning_rate():
    tx = jl.schedule_free_adamw(0.1, warmup_steps=4)
    assert [read(tx, n)["schedule_free_adamw.learning_rate"] for n in (0, 1, 3, 9)] == pytest.approx(
        [0.025, 0.05, 0.1, 0.1]
    )
    state = tx.init(PARAMS)
    assert jax.jit(jl.hyperparams)(tx, state).keys() == jl.hyperparams(tx, state).keys()
    step = jl.make_step(lambda params, batch: jnp.mean(params["w"]) * jnp.mean(batch), tx)
    out = jl.fit(step, jl.init_state({"w": jnp.ones(2)}, tx, key=0), jnp.ones((6, 1)), epochs=1, batch_size=1)
    assert out.history["learning_rate"] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])


def test_what_an_optimizer_finds_out():
    plateau = jl.chain(jl.sgd(0.1), jl.reduce_on_plateau(factor=0.5, patience=1))
    assert [read(plateau, n)["reduce_on_plateau.scale"] for n in (0, 1, 2, 3)] == pytest.approx([1, 1, 0.5, 0.25])
    assert read(jl.prodigy(estim_lr0=0.25))["prodigy.estim_lr"] == 0.25
    assert read(jl.dadapt_adamw(estim_lr0=0.25))["dadapt_adamw.estim_lr"] == 0.25
    assert read(jl.mechanize(jl.sgd(1.0), s_init=0.125))["mechanize.scale"] == pytest.approx(6 * 0.125)
    every = jl.MultiSteps(jl.sgd(0.1), lambda step: jnp.where(step < 1, 2, 3))
    assert [read(every, n)["MultiSteps.every_k_schedule"] for n in (0, 1, 2, 4)] == [2, 2, 3, 3]


@pytest.mark.parametrize("make", [jl.dog, jl.dowg, lambda: jl.dog(init_step=("learning_rate", 0.25))])
def test_the_learning_rate_that_dog_found_is_that_of_its_last_step(make):
    tx, grads = make(), {"w": jnp.full((3, 2), 2.0)}
    params = {"w": jnp.ones((3, 2))}
    state = tx.init(params)
    for _ in range(3):
        updates, state = tx.update(grads, state, params)
        params = jl.apply_updates(params, updates)
        found = float(jl.hyperparams(tx, state)[f"{tx.name}.estim_lr"])
        assert found == pytest.approx(float(-updates["w"][0, 0] / 2), rel=1e-5)


def test_what_optax_injected_is_read():
    injected = optax.inject_hyperparams(optax.adamw)(learning_rate=0.5, b1=0.75)
    tx = jl.chain(jl.clip(1.0), optax.chain(optax.clip(1.0), injected))
    state = tx.init(PARAMS)
    state[1][1].hyperparams["learning_rate"] = jnp.array(0.125)
    found = jl.hyperparams(tx, state)
    names = ("clip.max_delta", "GradientTransformation.learning_rate", "GradientTransformation.b1")
    assert [float(found[name]) for name in names] == [1.0, 0.125, 0.75]


def test_reading_is_pure_and_compiles():
    tx = jl.chain(jl.clip(1.0), jl.adamw(RATE))

    @jax.jit
    def run(tx, state):
        def step(state, _):
            found = jl.hyperparams(tx, state)
            _, state = tx.update(PARAMS, state, PARAMS)
            return state, found

        return jax.lax.scan(step, state, None, length=4)[1]

    found = run(tx, tx.init(PARAMS))
    np.testing.assert_allclose(found["adamw.learning_rate"], [0.5, 0.45, 0.4, 0.35], rtol=1e-6)
    np.testing.assert_allclose(found["clip.max_delta"], np.ones(4))


def test_a_wrapper_that_does_not_tell_where_its_states_are():
    @jl.gradient_transformation
    def opaque(inner: jl.types.Any):
        return inner.init, lambda updates, state, params=None: inner.update(updates, state, params)

    tx = opaque(jl.sgd(0.5))
    assert read(tx) == {"sgd.learning_rate": 0.5}
    with pytest.raises(ValueError, match=r"sgd.learning_rate is a schedule, and no part of the state tells"):
        read(opaque(jl.sgd(RATE)))


# ---------------------------------------------------------------------------------------------------------------------
# Changing
# ---------------------------------------------------------------------------------------------------------------------


def test_patterns():
    tx = jl.chain(jl.clip(1.0), jl.adam(0.1), jl.adam(0.2))
    assert jl.set_hyperparams(tx, {"*.b1": 0.5}) == jl.chain(jl.clip(1.0), jl.adam(0.1, b1=0.5), jl.adam(0.2, b1=0.5))
    assert jl.set_hyperparams(tx, {"adam_2.b?": 0.5}) == jl.chain(
        jl.clip(1.0), jl.adam(0.1), jl.adam(0.2, b1=0.5, b2=0.5)
    )
    with pytest.raises(ValueError, match="two of the changes are for 'adam.b1'"):
        jl.set_hyperparams(tx, {"*.b1": 0.5, "adam.b1": 0.6})


def test_the_numbers_of_schedules_have_names():
    tx = jl.adamw(jl.linear_schedule(0.0, 0.1, 5).then(0.5 * jl.exponential_decay(0.2, 10, 0.5)))
    changed = jl.set_hyperparams(tx, {"adamw.learning_rate.first.end_value": 0.3, "*.decay_rate": 0.25})
    assert changed == jl.adamw(jl.linear_schedule(0.0, 0.3, 5).then(0.5 * jl.exponential_decay(0.2, 10, 0.25)))
    manual = jl.sgd(jl.manual_schedule({0: 0.1, 500: 0.01}))
    assert jl.set_hyperparams(manual, {"sgd.learning_rate.values.500": 0.02}) == jl.sgd(
        jl.manual_schedule({0: 0.1, 500: 0.02})
    )
    assert jl.set_hyperparams(manual, {"sgd.learning_rate": RATE}) == jl.sgd(RATE)


def test_groups_keep_their_rules():
    tx = jl.chain(
        jl.clip(1.0), jl.groups({"bias": {"weight_decay": 0.0}, "w": jl.sgd(0.3), "x": "freeze"}, jl.adamw(RATE))
    )
    changed = jl.set_hyperparams(
        tx, {"bias.adamw.weight_decay": 0.5, "w.sgd.learning_rate": 0.4, "default.adamw.b1": 0.7}
    )
    assert changed == jl.chain(
        jl.clip(1.0),
        jl.groups({"bias": {"weight_decay": 0.5}, "w": jl.sgd(0.4), "x": "freeze"}, jl.adamw(RATE, b1=0.7)),
    )
    other = jl.set_hyperparams(tx, {"bias.adamw.eps": 1e-6})
    assert other.arguments["transforms"][1].arguments["rules"]["bias"] == {"weight_decay": 0.0, "eps": 1e-6}


def test_what_changes_for_all_groups_is_no_exception_to_the_default():
    """It used to go into the rules too, which was another program, and the next change of the default passed it by."""
    rules = {"bias": {"weight_decay": 0.0}, "w": {"b1": 0.5}}
    for rate, changes in [
        (0.3, {"*.learning_rate": 0.3}),
        (0.3, {"*.learning_rate": 0.1, "*.b1": 0.9}),
        (RATE, {"*.init_value": 0.25}),
    ]:
        changed = jl.set_hyperparams(jl.groups(rules, jl.adamw(rate)), changes)
        assert changed.arguments["rules"]["bias"] == rules["bias"]
    every = jl.set_hyperparams(jl.groups(rules, jl.adamw(0.1)), {"*.weight_decay": 0.3, "*.b1": 0.5})
    assert every == jl.groups(
        {"bias": {"weight_decay": 0.3}, "w": {"b1": 0.5}}, jl.adamw(0.1, b1=0.5, weight_decay=0.3)
    )


def test_a_repeated_argument_changes_everywhere():
    tx = jl.schedule_free(jl.sgd(0.1), learning_rate=0.1)
    assert jl.set_hyperparams(tx, {"schedule_free.learning_rate": 0.2}) == jl.schedule_free(jl.sgd(0.2), 0.2)


def test_another_number_is_the_same_program():
    traces = []

    @jax.jit
    def run(tx, state):
        traces.append(None)
        return tx.update(PARAMS, state, PARAMS)[0]

    tx = jl.chain(jl.clip_by_global_norm(1.0), jl.groups({"bias": {"weight_decay": 0.0}}, jl.adamw(RATE)))
    state = tx.init(PARAMS)
    results = [
        run(
            jl.set_hyperparams(tx, {"default.adamw.learning_rate.init_value": rate, "bias.*.weight_decay": decay}),
            state,
        )
        for rate in (0.1, 0.2)
        for decay in (0.0, 0.5)
    ]
    assert len(traces) == 1
    assert len({float(result["bias"][0]) for result in results}) == 4


@pytest.mark.parametrize(
    "optimizers",
    [
        [jl.adamw(rate / 100) for rate in range(1, 11)],
        [jl.adamw(jl.cosine_decay_schedule(0.1, decay_steps)) for decay_steps in range(1, 11)],
        [jl.adamw(0.1, weight_decay=decay / 10) for decay in range(1, 11)],
    ],
    ids=["learning rates", "schedules of one family", "weight decays"],
)
def test_ten_values_through_one_training_run_are_one_trace(optimizers):
    traces = []

    @jax.jit
    def train(tx):
        traces.append(None)

        def step(carry, _):
            params, state = carry
            updates, state = tx.update(params, state, params)
            return (jl.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (PARAMS, tx.init(PARAMS)), length=5)[0][0]

    results = [train(tx) for tx in optimizers]
    assert len(traces) == 1
    assert len({float(result["w"][0, 0]) for result in results}) == 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adamw.lr": 1.0}, r"no hyperparameter is called 'adamw.lr'. Did you mean 'adamw.learning_rate'\?"),
        ({"wd": 1.0}, r"Did you mean 'adamw.weight_decay'\?"),
        ({"adamw.learning_rte": 1.0}, r"Did you mean 'adamw.learning_rate'"),
        ({"*.unknown": 1.0}, "There are: clip.max_delta, adamw.learning_rate, adamw.b1"),
        ({"*.learning_rate": 0.1, "*.init_value": 0.2}, "rate.init_value' is inside 'adamw.learning_rate'; change one"),
        ({"adamw.b1": 1.5}, r"adamw: b1 must be a finite number in \[0, 1\)"),
        ({"adamw.learning_rate.init_value": jnp.nan}, "linear_schedule: init_value must be a finite number"),
    ],
)
def test_what_cannot_be_changed(changes, message):
    with pytest.raises(ValueError, match=message):
        jl.set_hyperparams(jl.chain(jl.clip(1.0), jl.adamw(RATE)), changes)


def test_a_schedule_in_the_place_of_a_number_needs_a_count():
    """A learning rate always has one; of what has none the message says why."""
    tx = jl.adamw(0.1)
    state = tx.init(PARAMS)
    jl.set_hyperparams(tx, {"adamw.learning_rate": RATE}).update(PARAMS, state, PARAMS)
    changed = jl.set_hyperparams(tx, {"adamw.weight_decay": RATE})
    with pytest.raises(jl.InputError, match="weight_decay is a schedule, and the state, EmptyState, has no count"):
        changed.update(PARAMS, state, PARAMS)


def test_changes_are_a_mapping():
    with pytest.raises(TypeError, match="changes must map names to values"):
        jl.set_hyperparams(jl.sgd(0.1), [("sgd.learning_rate", 0.2)])
    with pytest.raises(TypeError, match="set_hyperparams: a name must be a string; got 3"):
        jl.set_hyperparams(jl.sgd(0.1), {3: 0.2})
    with pytest.raises(TypeError, match="hyperparams: tx must be a gradient transformation"):
        jl.hyperparams("sgd", ())
