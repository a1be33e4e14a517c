"""Equalities between optimizers: what one must be when an argument of another is at its limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lessons as jl

RNG = np.random.default_rng(0)
GRADS = [
    {"w": jnp.asarray(RNG.standard_normal((3, 2)), jnp.float32), "b": jnp.float32(g)} for g in (1.0, -2.0, 0.5, 3.0)
]
PARAMS = {"w": jnp.asarray(RNG.standard_normal((3, 2)), jnp.float32), "b": jnp.float32(1.0)}


def trajectory(tx, grads=GRADS, params=PARAMS):
    """The updates of each step."""
    state, updates = tx.init(params), []
    for g in grads:
        u, state = tx.update(g, state, params)
        updates.append(u)
    return updates


def assert_equal(a, b, rtol=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-8), trajectory(a), trajectory(b))


schedule = jl.linear_schedule(0.2, 0.1, 3)
adam, adamw, chain = jl.scale_by_adam(), jl.adamw(0.1, weight_decay=0.3), jl.chain
sign = jl.scale_by_adam(b1=0.0, b2=0.0, eps=0.0)
growth = jl.scale_by_schedule(lambda count: 1000.0**count)

LAWS = {
    "chain() is the identity": (chain(), jl.identity()),
    "chain is associative": (
        chain(jl.clip(0.5), chain(adam, jl.scale(2.0))),
        chain(chain(jl.clip(0.5), adam), jl.scale(2.0)),
    ),
    "the identity is neutral": (chain(jl.identity(), adam, jl.identity()), adam),
    "scale(1) is the identity": (jl.scale(1.0), jl.identity()),
    "scales multiply": (chain(jl.scale(2.0), jl.scale(-3.0)), jl.scale(-6.0)),
    "sgd is scale": (jl.sgd(0.1), jl.scale(-0.1)),
    "sgd without memory": (jl.sgd(0.1, momentum=0.0), jl.sgd(0.1)),
    "nesterov without memory": (jl.sgd(0.1, momentum=0.0, nesterov=True), jl.sgd(0.1)),
    "trace is a sum": (jl.trace(0.9), chain(jl.ema(0.9, debias=False), jl.scale(10.0))),
    "the two momentums of the course's chapter": (jl.ema_momentum(0.5, beta=0.8), jl.sgd(0.1, momentum=0.8)),
    "ema without memory": (jl.ema(0.0), jl.identity()),
    "adamw without decay": (jl.adamw(0.1, weight_decay=0.0), jl.adam(0.1)),
    "adamw is a chain": (
        adamw,
        chain(adam, jl.add_decayed_weights(0.3), jl.scale_by_learning_rate(0.1)),
    ),
    "an independent decay of a constant rate is one multiplied by the rate": (
        jl.adamw(0.1, weight_decay=0.03, decay="independent"),
        adamw,
    ),
    "the course of a constant rate is 1": (
        jl.adamw(0.1, weight_decay=0.3, decay="schedule"),
        jl.adamw(0.1, weight_decay=0.3, decay="independent"),
    ),
    "so is that of a constant schedule": (
        jl.adamw(jl.constant_schedule(0.1), weight_decay=0.3, decay="schedule"),
        jl.adamw(0.1, weight_decay=0.3, decay="independent"),
    ),
    "a decay that follows the schedule has it as its own": (
        jl.adamw(schedule, weight_decay=0.3, decay="schedule"),
        jl.adamw(schedule, weight_decay=1.5 * schedule, decay="independent"),
    ),
    "an independent decay is a chain": (
        jl.adamw(0.1, weight_decay=0.3, decay="independent"),
        chain(adam, jl.scale_by_learning_rate(0.1), jl.add_decayed_weights(0.3, flip_sign=True)),
    ),
    "a mask of all": (jl.adamw(0.1, weight_decay=0.3, mask=True), adamw),
    "a mask of none": (jl.adamw(0.1, weight_decay=0.3, mask=lambda path, leaf: False), jl.adam(0.1)),
    "masks as tree, function and predicate": (
        jl.add_decayed_weights(0.3, mask={"w": True, "b": False}),
        jl.add_decayed_weights(0.3, mask=lambda path, leaf: leaf.ndim > 1),
    ),
    "masks as functions of the params": (
        jl.add_decayed_weights(0.3, mask=lambda params: {"w": True, "b": False}),
        jl.add_decayed_weights(0.3, mask=lambda path, leaf: path == "w"),
    ),
    "adam without momentum is corrected rms": (
        jl.scale_by_adam(b1=0.0),
        jl.scale_by_rms(0.999, eps_in_sqrt=False, bias_correction=True),
    ),
    "adam is momentum and rmsprop": (
        jl.scale_by_adam(b2=0.0, eps=1.0, eps_root=1e30),
        chain(jl.ema(0.9), jl.scale(1e-15)),
    ),
    "adagrad with a large start is sgd": (jl.adagrad(1e5, initial_accumulator_value=1e10, eps=0.0), jl.sgd(1.0)),
    "adam without memory is sign descent": (jl.adam(0.1, b1=0.0, b2=0.0, eps=0.0), jl.sign_sgd(0.1)),
    "signum without memory": (jl.signum(0.1, beta=0.0), jl.sign_sgd(0.1)),
    "lion without memory": (jl.lion(0.1, b1=0.0, b2=0.0, weight_decay=0.0), jl.sign_sgd(0.1)),
    "lion with equal betas": (jl.lion(0.1, b1=0.8, b2=0.8, weight_decay=0.0), jl.signum(0.1, beta=0.8)),
    "lion of tiny gradients": (
        chain(jl.scale(1e-3), jl.scale_by_lion(mode="refined"), jl.scale(1e3)),
        chain(jl.scale(1e-6), jl.scale_by_lion(mode="smooth"), jl.scale(1e6)),
    ),
    "sharp lion": (jl.scale_by_lion(mode="smooth", smooth_beta=1e6), jl.scale_by_lion()),
    "noise of no variance": (jl.noisy_sgd(0.1, eta=0.0), jl.sgd(0.1)),
    "adadelta with a large eps is sgd": (jl.adadelta(0.1, eps=1e12), jl.sgd(0.1)),
    "adamax without memory": (jl.adamax(0.1, b1=0.0, b2=0.0, eps=0.0), jl.sign_sgd(0.1)),
    "adamaxw without decay": (jl.adamaxw(0.1, weight_decay=0.0), jl.adamax(0.1)),
    "nadam is adam looking ahead": (jl.nadam(0.1), jl.adam(0.1, nesterov=True)),
    "nadamw is adamw looking ahead": (jl.nadamw(0.1, weight_decay=0.3), jl.adamw(0.1, weight_decay=0.3, nesterov=True)),
    "dozat's nadam with a sudden warm-up": (jl.nadam_dozat(0.1, momentum_decay=1e6), jl.nadam(0.1)),
    "radam in its first steps": (jl.scale_by_radam(), jl.ema(0.9)),
    "radam of a short memory": (jl.scale_by_radam(b2=0.5), jl.ema(0.9)),
    "amsgrad of growing gradients is adam": (
        chain(growth, jl.scale_by_amsgrad(b2=0.5)),
        chain(growth, jl.scale_by_adam(b2=0.5)),
    ),
    "adabelief without momentum sees no deviation": (
        jl.scale_by_belief(b1=0.0, b2=0.0, eps_root=1.0),
        jl.identity(),
    ),
    "yogi of growing gradients is adagrad": (
        chain(growth, jl.scale_by_yogi(b1=0.0, b2=0.0, eps=0.0, initial_accumulator_value=0.0)),
        chain(growth, jl.scale_by_rss(initial_accumulator_value=0.0, eps=0.0)),
    ),
    "adan without differences is adam": (jl.scale_by_adan(b1=0.9, b2=0.0, b3=0.999), adam),
    "ademamix without the slow average is adam": (jl.scale_by_ademamix(alpha=0.0), adam),
    "simplified ademamix without memory is adam without momentum": (
        jl.scale_by_simplified_ademamix(b1=0.0, b2=0.999, alpha=1.0),
        chain(jl.scale_by_adam(b1=0.0), jl.scale(2.0)),
    ),
    "laprop without momentum is adam without momentum": (
        jl.scale_by_laprop(b1=0.0, eps=1e-8),
        jl.scale_by_adam(b1=0.0),
    ),
    "laprop without squares is momentum of signs": (jl.scale_by_laprop(b2=0.0, eps=0.0), chain(sign, jl.ema(0.9))),
    "qhm without momentum is sgd": (jl.qhm(0.1, nu=0.0), jl.sgd(0.1)),
    "qhm of momentum alone": (jl.qhm(0.1, b1=0.8, nu=1.0), jl.ema_momentum(0.1, beta=0.8)),
    "qhm with nu = b1 is nesterov's": (jl.qhm(0.1, b1=0.8, nu=0.8), jl.sgd(0.02, momentum=0.8, nesterov=True)),
    "qhadam of averages alone is adam": (jl.qhadam(0.1, b1=0.9, nu1=1.0), jl.adam(0.1)),
    "qhadam of gradients alone is sign descent": (
        jl.qhadam(0.1, nu1=0.0, nu2=0.0, eps=0.0),
        chain(sign, jl.scale(-0.1)),
    ),
    "mars without correction and clipping is adam": (
        chain(jl.scale(1e-2), jl.scale_by_mars(gamma=0.0)),
        chain(jl.scale(1e-2), jl.scale_by_adam(0.95, 0.99)),
    ),
    "adam-atan2 of small angles is adam": (jl.adam_atan2(0.1, a=1e4, b=1e4), jl.adam(0.1, eps=0.0)),
    "stable adamw of small gradients is adamw": (
        jl.stable_adamw(0.1, b2=0.999, eps=10.0, weight_decay=0.3),
        jl.adamw(0.1, eps=10.0, weight_decay=0.3),
    ),
    "optimism of nothing is gradient descent": (jl.optimistic_gradient_descent(0.1, beta=0.0), jl.sgd(0.1)),
    "optimistic adam without optimism is adam": (jl.optimistic_adam(0.1, 0.0, nesterov=False), jl.adam(0.1)),
    "optimistic adam and its version 2": (
        jl.optimistic_adam(0.1, 0.2),
        jl.optimistic_adam_v2(1.0, alpha=0.1, beta=0.2),
    ),
    "sophia without curvature is the sign of momentum": (
        jl.scale_by_sophia(gamma=0.0, hessian_diagonal_fn=jl.identity()),
        chain(jl.ema(0.965), sign),
    ),
    "cautious gradient descent is gradient descent": (jl.cautious(jl.sgd(0.1)), jl.sgd(0.1)),
    "cautious optimizer and cautious direction": (
        jl.cautious(jl.adam(0.1)),
        chain(jl.cautious(adam, along_gradient=True), jl.scale_by_learning_rate(0.1)),
    ),
    "cautious decay of nothing": (jl.add_cautious_weight_decay(0.0), jl.identity()),
    "a constant schedule is a number": (jl.adam(jl.constant_schedule(0.1)), jl.adam(0.1)),
    "a schedule is the step size of its steps": (
        jl.sgd(schedule),
        chain(jl.scale_by_schedule(lambda count: -schedule(count))),
    ),
    "clipping above everything": (chain(jl.clip(1e9), jl.clip_by_global_norm(1e9), adam), adam),
    "a guard with nothing to guard against": (jl.apply_if_finite(adamw, 0), adamw),
    "one micro-batch to a step": (jl.MultiSteps(adamw, 1), adamw),
    "the sum is k means": (jl.MultiSteps(jl.sgd(0.1), 2, use_grad_mean=False), jl.MultiSteps(jl.sgd(0.2), 2)),
    "lookahead all the way": (jl.lookahead(jl.adam(0.1), 2, 1.0), jl.adam(0.1)),
    "an average only looks on": (jl.ema_params(adamw), adamw),
    "sam without a climb": (jl.sam(adamw, jl.sgd(0.1), sync_period=1), adamw),
    "asam is sam": (
        jl.asam(jl.adam(0.1), rho=0.3, eta=0.1),
        jl.sam(jl.adam(0.1), chain(jl.adaptive_normalize(0.1), jl.sgd(0.3)), reset_state=False),
    ),
    "a mask of all leaves is no mask": (jl.masked(adamw, True, unmasked="zero"), adamw),
    "one label is no partition": (jl.partition({"all": adamw}, "all"), adamw),
    "no rule is the default": (jl.groups({}, adamw), adamw),
    "one rule for all": (jl.groups({"**": {"weight_decay": 0.0}}, adamw), jl.adam(0.1)),
    "groups by path, by predicate and by label": (
        jl.groups({"w": {"weight_decay": 0.0}}, adamw),
        jl.groups({"matrices": {"weight_decay": 0.0}}, adamw, labels={"w": "matrices", "b": "default"}),
    ),
    "a group without decay is a mask": (
        jl.groups([(lambda path, leaf: leaf.ndim < 2, {"weight_decay": 0.0})], adamw),
        jl.adamw(0.1, weight_decay=0.3, mask=lambda path, leaf: leaf.ndim > 1),
    ),
    "freezing all": (jl.freeze(True), jl.set_to_zero()),
    "freezing after and before": (
        chain(jl.adam(0.1), jl.freeze({"w": True, "b": False})),
        jl.selective_transform(jl.adam(0.1), freeze_mask={"w": True, "b": False}),
    ),
    "elementwise rules do not see that all leaves are one vector": (jl.flatten(adamw), adamw),
    "a named chain is a chain": (jl.named_chain(("a", jl.clip(0.5)), ("b", adam)), chain(jl.clip(0.5), adam)),
    "always is no condition": (jl.conditionally_transform(adam, lambda step: step >= 0), adam),
    "never is no transformation": (jl.conditionally_transform(adam, lambda step: step < 0), jl.identity()),
    "never is zero": (jl.conditionally_mask(adam, lambda step: step < 0), jl.set_to_zero()),
    "saving up one step": (jl.apply_every(1), jl.identity()),
    "a function is a transformation": (
        jl.stateless(lambda updates, params: jax.tree.map(lambda g: 2 * g, updates)),
        jl.stateless_with_tree_map(lambda g, p: 2 * g),
    ),
    "looking does not change anything": (
        chain(jl.snapshot("norm", jl.global_norm), adam, jl.monitor({"norm": jl.global_norm})),
        adam,
    ),
    "clipping leaves above everything": (chain(jl.clip_by_block_rms(1e9), adam), adam),
    "a trust ratio for no leaf": (jl.scale_by_trust_ratio(mask=False), jl.identity()),
    "the trust ratio is the norm of the leaf over that of the step": (
        chain(jl.scale_by_trust_ratio(), jl.scale_by_trust_ratio()),
        jl.scale_by_trust_ratio(),
    ),
    "lamb is a chain": (
        jl.lamb(0.1, weight_decay=0.3),
        chain(
            jl.scale_by_adam(eps=1e-6),
            jl.add_decayed_weights(0.3),
            jl.scale_by_trust_ratio(),
            jl.scale_by_learning_rate(0.1),
        ),
    ),
    "lars without trust ratios": (
        jl.lars(0.1, 0.3, trust_ratio_mask=False),
        chain(jl.add_decayed_weights(0.3), jl.scale(-0.1), jl.trace(0.9)),
    ),
    "normalizing is scaling by the norm": (jl.normalize(), jl.normalize_by_update_norm(eps=0.0)),
    "novograd with a large eps is a heavy ball": (
        chain(jl.scale_by_novograd(eps_root=1e20), jl.scale(1e10)),
        jl.trace(0.9),
    ),
    "adafactor of whole leaves is rmsprop with a rising beta": (
        jl.scale_by_factored_rms(epsilon=0.0),
        jl.scale_by_rms(lambda count: 1 - jnp.float32(count + 1) ** -0.8, eps=0.0),
    ),
    "adafactor without its parts": (
        jl.adafactor(0.1, clipping_threshold=None, multiply_by_parameter_scale=False),
        chain(jl.scale_by_factored_rms(), jl.scale(-0.1)),
    ),
    "adafactor without momentum": (jl.adafactor(0.1, momentum=0.0), jl.adafactor(0.1)),
    "adam_mini whose blocks are entries is adam": (
        jl.scale_by_adam_mini(blocks=lambda path, leaf: tuple(range(leaf.ndim))),
        adam,
    ),
    "came at equal confidence is adafactor with momentum": (
        jl.scale_by_came(b2=0.75, b3=0.0, eps_confidence=1.0, clipping_threshold=1e-4),
        chain(
            jl.scale_by_factored_rms(min_dim_size_to_factor=1, decay_rate_fn=lambda step, decay_rate: 0.75),
            jl.clip_by_block_rms(1e-4),
            jl.ema(0.9, debias=False),
        ),
    ),
    "prodigy with a fixed estimate is adam": (
        jl.prodigy(estim_lr0=0.1, estim_lr_coef=1e-30, eps=0.0),
        jl.adam(0.1, eps=0.0),
    ),
    "dog before it moves": (jl.dog(init_step=("learning_rate", 0.1)), jl.sgd(0.1)),
    "a warm-up of one step": (jl.schedule_free_sgd(0.1, warmup_steps=1), jl.schedule_free_sgd(0.1)),
    "schedule-free adamw is made of parts": (
        jl.schedule_free_adamw(0.1, eps=0.0),
        jl.schedule_free(jl.adam(0.1, b1=0.0, eps=0.0), 0.1),
    ),
    "precision is nothing in float32": (
        jl.kahan(jl.stochastic_rounding(jl.split_master_weights(jl.master_weights(jl.adam(0.1))))),
        jl.adam(0.1),
    ),
    "float32 moments": (jl.moment_dtypes(jl.adam(0.1), jnp.float32), jl.with_precision(jl.adam(0.1))),
    "no constraint": (jl.keep_params_in(lambda params: params), jl.identity()),
    "nonnegative parameters by projection": (
        jl.keep_params_in(jl.projections.projection_non_negative),
        jl.keep_params_nonnegative(),
    ),
    "no complex leaves": (jl.split_real_and_imaginary(jl.adam(0.1)), jl.adam(0.1)),
    "ascent": (jl.scale_by_learning_rate(0.1, flip_sign=False), jl.scale(0.1)),
}


@pytest.mark.parametrize("law", LAWS)
def test_law(law):
    assert_equal(*LAWS[law])


@pytest.mark.parametrize(
    "tx",
    [
        jl.adam(0.1, eps=0.0),
        jl.rmsprop(0.1, eps=0.0),
        jl.clip_by_global_norm(1e-3),
        jl.adam_atan2(0.1),
        jl.laprop(0.1, eps=0.0),
        jl.adan(0.1, eps=0.0, eps_root=0.0),
    ],
    ids=lambda tx: tx.name,
)
def test_scale_invariance(tx):
    """Adam, its relatives and the clipped norm do not see the unit of the loss."""
    larger = [jax.tree.map(lambda x: 1000 * x, g) for g in GRADS]
    for a, b in zip(trajectory(tx), trajectory(tx, larger), strict=True):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), a, b)


@pytest.mark.parametrize(
    "tx",
    [
        jl.adamw(0.1, weight_decay=0.1),
        jl.rmsprop(0.1, centered=True, momentum=0.9),
        jl.sgd(0.1),
        jl.mars(0.1),
        jl.stable_adamw(0.1),
        jl.madgrad(0.1),
        jl.cautious(jl.adam(0.1)),
    ],
    ids=lambda tx: tx.name,
)
def test_leaves_do_not_see_each_other(tx):
    """One leaf alone gets the updates it gets among others, and names and order of leaves do not matter."""
    alone = trajectory(tx, [g["w"] for g in GRADS], PARAMS["w"])
    among = trajectory(tx)
    renamed = trajectory(tx, [[g["b"], g["w"]] for g in GRADS], [PARAMS["b"], PARAMS["w"]])
    for a, b, c in zip(alone, among, renamed, strict=True):
        np.testing.assert_array_equal(a, b["w"])
        np.testing.assert_array_equal(a, c[1])


def test_a_schedule_can_take_the_place_of_a_number_in_the_middle_of_a_run():
    tx = jl.adam(0.1)
    state = tx.init(PARAMS)
    _, state = tx.update(GRADS[0], state, PARAMS)
    scheduled = tx.replace(learning_rate=jl.manual_schedule({0: 0.1, 2: 0.05}))
    u1, state = scheduled.update(GRADS[1], state, PARAMS)
    u2, state = scheduled.update(GRADS[2], state, PARAMS)
    expected = trajectory(tx)
    np.testing.assert_allclose(u1["w"], expected[1]["w"], rtol=1e-6)
    np.testing.assert_allclose(u2["w"], 0.5 * expected[2]["w"], rtol=1e-6)
