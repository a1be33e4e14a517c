"""Warnings about suspicious orders: each rule fires where it must, and is silent beside it and on all optimizers."""

import inspect

import cases
import jax
import jax.numpy as jnp
import optax
import pytest

import jaxopt_lessons as jl
from jaxopt_lessons.inspect.facts import FACTS, Does
from jaxopt_lessons.inspect.rules import RULES

PARAMS = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
ADAM, RATE = jl.scale_by_adam(), jl.scale_by_learning_rate(0.1)
CLIP, DECAY, MOMENTUM = jl.clip_by_global_norm(1.0), jl.add_decayed_weights(0.1), jl.trace(0.9)
FREEZE = jl.freeze({"kernel": True, "bias": False})


def project(params):
    return params


def is_kernel(path, leaf):
    return path == "kernel"


FIRES = {
    "after accumulation": (jl.chain(jl.MultiSteps(ADAM, 4), RATE), "scale_by_learning_rate comes after MultiSteps"),
    "two rates": (jl.chain(jl.sgd(0.1), jl.prodigy()), "sgd returns a step, learning rate included, and prodigy"),
    "two rates of one name": (
        jl.chain(jl.sgd(0.1), jl.sgd(0.1)),
        "sgd returns a step, learning rate included, and sgd_2",
    ),
    "decay after the rate": (
        jl.chain(jl.adam(0.1), DECAY),
        "add_decayed_weights comes after adam, which turned the sign",
    ),
    "noise after the rate": (jl.chain(jl.sgd(0.1), jl.add_noise(0.1, 0.5)), "add_noise comes after sgd: the noise"),
    "plateau before adam": (
        jl.chain(jl.reduce_on_plateau(), jl.adam(0.1)),
        "adam comes after reduce_on_plateau and makes steps whose size",
    ),
    "rate before normalization": (jl.chain(RATE, jl.normalize()), "normalize comes after scale_by_learning_rate and"),
    "momentum after the rate": (
        jl.chain(RATE, MOMENTUM),
        "trace comes after scale_by_learning_rate and averages steps",
    ),
    "clipping of steps": (
        jl.chain(jl.adamw(0.1), CLIP),
        "clip_by_global_norm comes after adamw: it limits steps, learn",
    ),
    "clipping of leaves of steps": (
        jl.chain(jl.sgd(0.1), jl.clip_by_block_rms(1.0)),
        "clip_by_block_rms comes after sgd:",
    ),
    "clipping of directions": (
        jl.chain(ADAM, CLIP, RATE),
        "clip_by_global_norm comes after scale_by_adam: it limits ste",
    ),
    "L2": (jl.chain(DECAY, jl.adam(0.1)), "add_decayed_weights comes before adam, which divides the decay away again"),
    "L2 before one piece": (jl.chain(DECAY, jl.prodigy()), "add_decayed_weights comes before prodigy, which divides"),
    "two momenta": (jl.chain(ADAM, MOMENTUM, RATE), "trace averages what scale_by_adam has averaged already"),
    "decay of frozen weights": (jl.chain(FREEZE, jl.adamw(0.1)), "the weight decay of adamw moves weights that freeze"),
    "healing too late": (jl.chain(ADAM, jl.zero_nans(), RATE), "zero_nans comes after scale_by_adam, whose averages"),
    "guarding too late": (
        jl.chain(ADAM, jl.skip_nonfinite(RATE)),
        "skip_nonfinite is put around what comes after scale_",
    ),
    "clipping of micro-batches": (
        jl.chain(CLIP, jl.MultiSteps(jl.adam(0.1), 4)),
        "clip_by_global_norm comes before MultiSt",
    ),
    "averages of micro-batches": (
        jl.chain(ADAM, jl.MultiSteps(RATE, 4)),
        "scale_by_adam comes before MultiSteps and takes",
    ),
    "steps changed after an average": (
        jl.chain(jl.ema_params(jl.sgd(0.1)), jl.keep_params_in(project)),
        "keep_params_in comes after ema_params, which keeps weights of its own",
    ),
    "steps changed after a projection": (
        jl.chain(ADAM, jl.keep_params_in(project), RATE),
        "scale_by_learning_rate comes after keep_params_in, which sees to it where the steps end",
    ),
    "single examples": (
        jl.chain(jl.clip(1.0), jl.dpsgd(0.1, 1.0, 0.0, 0)),
        "clip comes before dpsgd and sees the gradients of single examples",
    ),
    "a guard of means": (
        jl.MultiSteps(jl.skip_nonfinite(jl.adam(0.1)), 4),
        "skip_nonfinite stands inside MultiSteps: one",
    ),
    "momentum in schedule_free": (
        jl.schedule_free(jl.sgd(0.1, momentum=0.9), learning_rate=0.1),
        "sgd stands inside schedule_free, which has averages in the place of momentum",
    ),
    "lamb in mechanize": (jl.mechanize(jl.lamb(1.0)), "lamb stands inside mechanize and makes steps proportional"),
    "no sign": (jl.chain(CLIP, ADAM), "nothing turns the sign of what scale_by_adam returns"),
    "no sign in a group": (
        jl.partition({"a": ADAM, "b": jl.sgd(0.1)}, {"kernel": "a", "bias": "b"}),
        "nothing turns the sign of what a.scale_by_adam returns",
    ),
    "no sign but that of the adversary": (
        jl.sam(ADAM, jl.sgd(0.1)),
        "nothing turns the sign of what optimizer.scale_by_adam returns",
    ),
    "ascent": (
        jl.chain(ADAM, jl.scale_by_learning_rate(0.1, flip_sign=False)),
        "nothing turns the sign of what scale_by_a",
    ),
    "centralized vectors": (
        jl.chain(jl.masked(jl.centralize(), {"kernel": False, "bias": True}), jl.sgd(0.1)),
        "centralize has no effect",
    ),
}

NEIGHBOURS = {
    "accumulation": jl.MultiSteps(jl.chain(CLIP, jl.adamw(0.1)), 4),
    "finite accumulation": jl.skip_nonfinite(jl.MultiSteps(jl.adam(0.1), 4)),
    "accumulation that skips": jl.MultiSteps(
        jl.skip_nonfinite(jl.adam(0.1)), 4, should_skip_update_fn=jl.skip_not_finite
    ),
    "one rate, a factor and a sign": jl.chain(
        ADAM, jl.scale_by_schedule(jl.linear_schedule(1.0, 0.0, 9)), jl.scale(-1.0)
    ),
    "a negative schedule": jl.chain(ADAM, jl.scale_by_schedule(jl.linear_schedule(0.0, -1.0, 9))),
    "rates of other leaves": jl.chain(
        jl.masked(jl.sgd(0.1), is_kernel, unmasked="keep"),
        jl.masked(jl.adam(0.1), {"kernel": False, "bias": True}, unmasked="keep"),
    ),
    "decay in its place": jl.chain(CLIP, ADAM, DECAY, RATE),
    "decay of nothing": jl.chain(jl.adam(0.1), jl.add_decayed_weights(0.0)),
    "decay of other leaves": jl.chain(FREEZE, jl.adamw(0.1, mask={"kernel": False, "bias": True})),
    "decay of other leaves after the rate": jl.chain(
        jl.masked(jl.sgd(0.1), {"kernel": False, "bias": True}, unmasked="keep"),
        jl.masked(jl.chain(DECAY, RATE), is_kernel, unmasked="keep"),
    ),
    "L2 before momentum": jl.chain(DECAY, jl.sgd(0.1, momentum=0.9)),
    "gradient noise": jl.chain(jl.add_noise(0.1, 0.5), jl.adam(0.1)),
    "plateau at the end": jl.chain(jl.adam(0.1), jl.reduce_on_plateau()),
    "loss scale": jl.chain(jl.scale(1 / 1024), jl.adam(0.1)),
    "steps of Adafactor": jl.chain(ADAM, jl.clip_by_block_rms(1.0), RATE),
    "momentum, then sizes": jl.chain(jl.ema(0.9), jl.scale_by_rms(), RATE),
    "adam without momentum": jl.chain(jl.scale_by_adam(b1=0.0), MOMENTUM, RATE),
    "healing first": jl.chain(jl.zero_nans(), jl.adam(0.1)),
    "a guard around all": jl.apply_if_finite(jl.chain(CLIP, jl.adam(0.1)), 5),
    "freezing last": jl.chain(jl.adamw(0.1), FREEZE),
    "freezing first, no decay": jl.chain(FREEZE, jl.adam(0.1)),
    "an average around all": jl.ema_params(jl.chain(jl.sgd(0.1), jl.keep_params_in(project))),
    "an average last": jl.chain(CLIP, jl.ema_params(jl.adam(0.1))),
    "a projection, then freezing": jl.chain(jl.sgd(0.1), jl.keep_params_in(project), FREEZE),
    "private": jl.chain(jl.differentially_private_aggregate(1.0, 0.0, 0), jl.sgd(0.1)),
    "the authors' C-AdamW": jl.chain(jl.cautious(ADAM, along_gradient=True), DECAY, RATE),
    "schedule_free adam": jl.schedule_free(jl.adam(0.1, b1=0.0), learning_rate=0.1),
    "mechanize": jl.mechanize(jl.adamw(1.0)),
    "centralized matrices": jl.chain(jl.centralize(), jl.sgd(0.1)),
    "the climb of SAM": jl.chain(CLIP, jl.sam(jl.adam(0.1), jl.chain(jl.normalize(), jl.sgd(0.1)))),
    "precision": jl.chain(CLIP, jl.with_precision(jl.adamw(0.1), weights="split")),
    "groups": jl.chain(CLIP, jl.groups({"bias": {"weight_decay": 0.0}}, default=jl.adamw(0.1))),
    "only frozen or optimized": jl.partition({"a": jl.set_to_zero(), "b": jl.sgd(0.1)}, {"kernel": "a", "bias": "b"}),
    "named": jl.named_chain(("clip", CLIP), ("adam", jl.adam(0.1))),
    "monitored": jl.chain(jl.ema_params(jl.sgd(0.1)), jl.identity()),
    "of optax": jl.chain(CLIP, optax.adam(0.1)),
    "unknown": jl.chain(ADAM, jl.stateless(lambda g, p: g)),
}


@pytest.mark.parametrize("name", FIRES)
def test_a_mistake_is_told(name):
    tx, begins = FIRES[name]
    warnings = jl.explain(tx, PARAMS).warnings
    assert len(warnings) == 1, warnings
    assert warnings[0].startswith(begins)


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_what_is_no_mistake_is_not_told(name):
    assert jl.explain(NEIGHBOURS[name], PARAMS).warnings == ()


def test_every_rule_is_seen_to_fire():
    said = [warning for tx, _ in FIRES.values() for warning in jl.explain(tx, PARAMS).warnings]
    for rule in RULES:
        ending = rule.says.split("}")[-1]
        assert any(warning.endswith(ending) for warning in said), rule.says


def initialized(case, **changes):
    tx, trees = case.make(**changes), (PARAMS, jnp.ones((2, 3)))
    for params in trees:
        try:
            return tx, params, tx.init(params)
        except jl.InputError:
            continue
    raise AssertionError(f"{case.name} has no state for any of the trees")


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_no_false_alarm(case):
    """An optimizer has no warning; a part at most that it makes no step by itself."""
    if case.minimizes is not None:
        tx = case.factory(*case.positional, **{**case.arguments, **case.minimizes})
        assert jl.explain(tx, jnp.ones((2, 3))).warnings == ()
    tx, params, _ = initialized(case)
    warnings = jl.explain(tx, params).warnings
    assert not warnings or (len(warnings) == 1 and warnings[0].startswith("nothing turns the sign of what"))


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_every_primitive_has_its_facts(case):
    for tx in case.make().walk():
        assert tx.assembled is not None or tx._factory in FACTS, tx.name


def test_the_arguments_that_switch_something_off_exist():
    for factory, fact in FACTS.items():
        names = {*fact.off, *fact.aside, *filter(None, [fact.turns])}
        assert names <= set(inspect.signature(factory).parameters), factory.__name__
        for switched in fact.off.values():
            assert switched & fact.does == switched, factory.__name__


@pytest.mark.parametrize("case", [c for c in cases.CASES if c.minimizes is not None], ids=lambda case: case.name)
def test_every_optimizer_is_known_to_turn_the_sign(case):
    """The control of the table: a factory that minimizes has a part that descends."""
    from jaxopt_lessons.inspect.flow import node_of, way_of

    tx = case.factory(*case.positional, **{**case.arguments, **case.minimizes})
    assert any(stage.does & Does.DESCENDS for stage in way_of(node_of(tx), jnp.ones((2, 3))).stages)


def test_names_of_parts_in_groups_and_chains():
    tx = jl.groups({"bias": jl.chain(CLIP, jl.adam(0.1), CLIP)}, default=jl.sgd(0.1))
    (warning,) = jl.explain(tx, PARAMS).warnings
    assert warning.startswith("bias.clip_by_global_norm_2 comes after bias.adam: ")


def test_inside_a_preset_of_ones_own():
    @jl.gradient_transformation
    def mine(rate: float = 0.1):
        return jl.chain(jl.sgd(rate), CLIP)

    (warning,) = jl.explain(mine(), PARAMS).warnings
    assert warning.startswith("clip_by_global_norm of mine comes after sgd of mine: ")


def test_a_mask_that_fits_no_tree_but_the_flat_one():
    tx = jl.flatten(jl.chain(ADAM, jl.add_decayed_weights(0.1, mask=lambda path, leaf: True), RATE))
    assert jl.explain(tx, PARAMS).warnings == ()


def test_groups_of_another_tree_are_not_those_of_the_parameters():
    params = {"w": jnp.ones(2), "c": jnp.ones(3, jnp.complex64)}
    labels = {"w": "one", "c": ("two", "one")}
    tx = jl.split_real_and_imaginary(jl.partition({"one": jl.chain(jl.adam(0.1), CLIP), "two": jl.sgd(0.1)}, labels))
    found = jl.explain(tx, params)
    assert "5 parameters, 52 bytes of state" in str(found)
    assert sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tx.init(params))) == 52
    (warning,) = found.warnings
    assert warning.startswith("one.clip_by_global_norm comes after one.adam: ")


# -- schedules and the length of the run ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tx", "steps", "begins"),
    [
        (jl.sgd(jl.linear_schedule(1.0, 0.0, 100)), 50, "sgd.learning_rate takes 100 updates and is cut off after 50."),
        (
            jl.sgd(jl.linear_schedule(1.0, 0.0, 100)),
            150,
            "sgd.learning_rate is 0 from update 100 on: the last 50 of 150",
        ),
        (jl.sgd(jl.linear_schedule(1.0, 0.0, 100)), 100, None),
        (jl.sgd(jl.linear_schedule(1.0, 0.0, 100)), 101, None),
        (jl.sgd(jl.linear_schedule(1.0, 0.1, 100)), 150, None),
        (jl.adamw(0.1, weight_decay=jl.linear_schedule(1.0, 0.0, 100)), 150, None),
        (jl.MultiSteps(jl.sgd(jl.linear_schedule(1.0, 0.0, 100)), 4), 400, None),
        (
            jl.MultiSteps(jl.sgd(jl.linear_schedule(1.0, 0.0, 100)), 4),
            100,
            "sgd.learning_rate takes 100 updates and is cut",
        ),
        (jl.MultiSteps(jl.sgd(jl.linear_schedule(1.0, 0.0, 100)), lambda count: 4), 100, None),  # how many is not known
        (jl.sgd(jl.exponential_decay(1.0, 10, 0.5)), 5, None),
        (jl.sgd(lambda count: 0.1), 5, None),
    ],
)
def test_schedules_that_do_not_end_with_the_run(tx, steps, begins):
    warnings = jl.explain(tx, PARAMS, steps=steps).warnings
    assert len(warnings) == (begins is not None), warnings
    assert begins is None or warnings[0].startswith(begins)


# -- bytes, and what update needs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_bytes_are_those_of_the_state(case):
    tx, params, state = initialized(case)
    found = jl.explain(tx, params, every_leaf=True)
    assert found.state_bytes == sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    cells = [int(row[-1].replace(",", "")) for row in found.sections[2].table.rows]
    assert sum(cells) == found.state_bytes


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_update_needs_what_is_said(case):
    tx, params, state = initialized(case)
    needed = jl.explain(tx, params).extra_arguments
    assert set(needed) <= set(case.extras)
    grads = jax.tree.map(lambda p: p[None], params) if case.per_example else params
    for name in needed:
        with pytest.raises(jl.InputError, match=f"needs {name}"):
            tx.update(grads, state, params, **{n: v for n, v in case.extras.items() if n != name})
    extras = {name: value for name, value in case.extras.items() if name in needed}
    if case.name not in NEEDS_A_MEASURE:
        jax.eval_shape(lambda g, s, p: tx.update(g, s, p, **extras)[0], grads, state, params)


NEEDS_A_MEASURE = {"conditionally_transform", "conditionally_mask"}
"""Their own functions ask for an argument, which nobody can know."""


def test_opaque_sam_needs_the_gradient_function():
    tx = jl.sam(jl.sgd(0.1), jl.sgd(0.1), opaque_mode=True)
    assert jl.explain(tx, PARAMS).extra_arguments == ("grad_fn",)


@pytest.mark.parametrize(
    ("tx", "differs"),
    [
        (jl.adam(0.1), False),
        (jl.chain(CLIP, jl.ema_params(jl.sgd(0.1))), True),
        (jl.masked(jl.sgd(0.1), is_kernel, unmasked="zero"), False),
        (jl.masked(jl.ema_params(jl.sgd(0.1)), is_kernel, unmasked="zero"), True),
        (jl.groups({"bias": jl.lookahead(jl.sgd(0.1), 5, 0.5)}, default=jl.sgd(0.1)), True),
        (jl.schedule_free_adamw(0.1), True),
        (jl.with_precision(jl.sgd(0.1), weights="split"), False),  # there are no half-precision leaves
    ],
)
def test_whether_the_weights_to_evaluate_differ(tx, differs):
    found = jl.explain(tx, PARAMS)
    assert found.evaluates_other_weights is differs
    assert ("eval_params(tx, state, params)" in str(found)) is differs
