"""What each primitive transformation does to the updates that pass it: the table behind the warnings of ``explain``.

A preset such as ``adamw`` has no entry: what it does is what it is assembled of. Neither has a transformation of one's
own: it may do anything, and nothing is said about it.
"""

import enum
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jax.core import Tracer

from jaxopt_lessons import core
from jaxopt_lessons.core import GradientTransformation
from jaxopt_lessons.optimizers import (
    acprop,
    adabelief,
    adadelta,
    adafactor,
    adagrad,
    adam_atan2,
    adam_mini,
    adamax,
    adan,
    ademamix,
    adopt,
    amsgrad,
    came,
    cocob,
    dadapt_adamw,
    distance_over_gradients,
    dog,
    dowg,
    fromage,
    laprop,
    lion,
    madgrad,
    mars,
    momo,
    momo_adam,
    nadam_dozat,
    novograd,
    prodigy,
    qhadam,
    qhm,
    radam,
    rprop,
    simplified_ademamix,
    sm3,
    sophia,
    stable_adamw,
    yogi,
)
from jaxopt_lessons.schedules.schedule import as_schedule
from jaxopt_lessons.transforms import (
    adam,
    adaptive_grad_clip,
    adaptive_normalize,
    apply_every,
    centralize,
    clip,
    differential_privacy,
    ema,
    hutchinson,
    keep_params,
    learning_rate,
    noise,
    normalize,
    optimistic,
    param_block,
    polyak,
    reduce_on_plateau,
    rms,
    scale,
    sign,
    snapshot,
    stateless,
    stddev,
    trace,
    trust_ratio,
    weight_decay,
    zero,
    zero_nans,
)
from jaxopt_lessons.wrappers import (
    apply_if_finite,
    average_params,
    cautious,
    conditionally,
    extra_args,
    flatten,
    groups,
    kahan,
    lookahead,
    masked,
    master_weights,
    mechanize,
    moment_dtypes,
    monitor,
    multi_steps,
    named_chain,
    partition,
    sam,
    schedule_free,
    split_master_weights,
    split_real_and_imaginary,
    stochastic_rounding,
)


class Does(enum.Flag):
    """What a transformation does to the updates, as far as their order matters."""

    PASSES = 0
    """Nothing that matters to the others: it lets them pass, or decides when and on which leaves they act."""
    CLIPS = enum.auto()
    """Limits all entries, units or leaves together, as gradients are limited."""
    CLIPS_LEAVES = enum.auto()
    """Limits each leaf by itself, as Adafactor limits its steps."""
    AVERAGES = enum.auto()
    """Averages or sums them over time: momentum."""
    ADAPTS = enum.auto()
    """Divides each entry by its history, or takes its sign: the size of what comes in is lost."""
    NORMALIZES = enum.auto()
    """Gives them a length that does not depend on the length they had."""
    MULTIPLIES = enum.auto()
    """Multiplies them by a number that changes in the course of training."""
    SETS_RATE = enum.auto()
    """Multiplies them by a learning rate: what comes out is a step."""
    DESCENDS = enum.auto()
    """Turns their sign."""
    DECAYS = enum.auto()
    """Adds the weights."""
    ADDS_NOISE = enum.auto()
    CENTRES = enum.auto()
    """Takes the mean off."""
    STOPS = enum.auto()
    """Sets them to zero."""
    HEALS = enum.auto()
    """Replaces what is not finite."""
    GUARDS = enum.auto()
    """Leaves steps out that are not finite."""
    ACCUMULATES = enum.auto()
    """Lets through one mean for several calls, and zeros at the others."""
    TAKES_NANS = enum.auto()
    """Accumulates what is not finite too."""
    PROJECTS = enum.auto()
    """Cuts steps so that the weights end in a set."""
    FOLLOWS_WEIGHTS = enum.auto()
    """Keeps weights of its own, made of those that its updates lead to."""
    SMOOTHS = enum.auto()
    """Averages weights in the place of momentum."""
    LEARNS_RATE = enum.auto()
    """Finds the length of the steps of what is inside."""
    BY_WEIGHTS = enum.auto()
    """Makes the length of a step proportional to that of the weights."""
    PER_EXAMPLE = enum.auto()
    """Takes the gradients of single examples, with an axis more than the parameters."""
    UNKNOWN = enum.auto()
    """Is not of this library."""


ANYTHING = ~Does.PASSES
DIRECTION = Does.AVERAGES | Does.ADAPTS | Does.NORMALIZES
STEP = Does.SETS_RATE | Does.DESCENDS | Does.MULTIPLIES


class Fact(NamedTuple):
    """What a factory's transformations do.

    Attributes:
      does: what they do.
      off: what the number 0, or None, for an argument switches off.
      turns: the argument whose sign decides whether they descend.
      aside: arguments that are transformations through which the updates do not pass.
      rebuilds: whether what is inside sees the leaves in another tree.
    """

    does: Does
    off: Mapping[str, Does] = {}
    turns: str | None = None
    aside: tuple[str, ...] = ()
    rebuilds: bool = False


ADAM_LIKE = Fact(Does.AVERAGES | Does.ADAPTS, {"b1": Does.AVERAGES})
DECAYING = Fact(ADAM_LIKE.does | Does.DECAYS, {"b1": Does.AVERAGES, "weight_decay": Does.DECAYS})
ADAPTIVE = Fact(Does.ADAPTS)
MOMENTUM = Does.AVERAGES
OPTIMIZER = STEP | Does.ADAPTS | Does.AVERAGES | Does.DECAYS
CLIPPING = Fact(Does.CLIPS)
AVERAGE = Fact(Does.FOLLOWS_WEIGHTS)
PASSES = Fact(Does.PASSES)

FACTS: dict[Callable[..., Any], Fact] = {
    # Directions of the kind of Adam: an average over a history of sizes
    acprop.scale_by_acprop: ADAM_LIKE,
    adabelief.scale_by_belief: ADAM_LIKE,
    adam.scale_by_adam: ADAM_LIKE,
    adam_atan2.scale_by_adam_atan2: ADAM_LIKE,
    adam_mini.scale_by_adam_mini: ADAM_LIKE,
    adamax.scale_by_adamax: ADAM_LIKE,
    adan.scale_by_adan: ADAM_LIKE,
    ademamix.scale_by_ademamix: Fact(Does.AVERAGES | Does.ADAPTS),
    adopt.scale_by_adopt: ADAM_LIKE,
    amsgrad.scale_by_amsgrad: ADAM_LIKE,
    came.scale_by_came: Fact(Does.AVERAGES | Does.ADAPTS),
    laprop.scale_by_laprop: ADAM_LIKE,
    lion.scale_by_lion: Fact(Does.AVERAGES | Does.ADAPTS),
    mars.scale_by_mars: ADAM_LIKE,
    nadam_dozat.scale_by_nadam: ADAM_LIKE,
    novograd.scale_by_novograd: DECAYING,
    qhadam.scale_by_qhadam: ADAM_LIKE,
    radam.scale_by_radam: ADAM_LIKE,
    simplified_ademamix.scale_by_simplified_ademamix: ADAM_LIKE,
    sm3.scale_by_sm3: ADAM_LIKE,
    sophia.scale_by_sophia: Fact(Does.AVERAGES | Does.ADAPTS, {"b1": Does.AVERAGES}, aside=("hessian_diagonal_fn",)),
    stable_adamw.scale_by_stable_adamw: DECAYING,
    yogi.scale_by_yogi: ADAM_LIKE,
    # Without an average
    adadelta.scale_by_adadelta: ADAPTIVE,
    adafactor.scale_by_factored_rms: ADAPTIVE,
    adagrad.scale_by_rss: ADAPTIVE,
    rms.scale_by_rms: ADAPTIVE,
    rprop.scale_by_rprop: ADAPTIVE,
    sign.scale_by_sign: ADAPTIVE,
    stddev.scale_by_stddev: ADAPTIVE,
    hutchinson.hutchinson_estimator_diag_hessian: PASSES,
    # Momentum
    ema.ema: Fact(MOMENTUM, {"decay": MOMENTUM}),
    optimistic.scale_by_optimistic_gradient: PASSES,
    qhm.scale_by_qhm: Fact(MOMENTUM, {"b1": MOMENTUM, "nu": MOMENTUM}),
    trace.trace: Fact(MOMENTUM, {"decay": MOMENTUM}),
    # Optimizers in one piece
    cocob.scale_by_cocob: Fact(STEP | Does.ADAPTS),
    dadapt_adamw.dadapt_adamw: Fact(OPTIMIZER, {"weight_decay": Does.DECAYS}),
    fromage.fromage: Fact(STEP | Does.NORMALIZES | Does.BY_WEIGHTS),
    madgrad.scale_by_madgrad: Fact(STEP | Does.ADAPTS | MOMENTUM, {"momentum": MOMENTUM}),
    momo.momo: Fact(STEP | MOMENTUM | Does.DECAYS, {"beta": MOMENTUM, "weight_decay": Does.DECAYS}),
    momo_adam.momo_adam: Fact(OPTIMIZER, {"weight_decay": Does.DECAYS}),
    prodigy.prodigy: Fact(OPTIMIZER, {"weight_decay": Does.DECAYS}),
    # Lengths
    adaptive_normalize.adaptive_normalize: Fact(Does.NORMALIZES),
    distance_over_gradients.scale_by_distance_over_gradients: Fact(Does.NORMALIZES, turns="global_scale"),
    dog.scale_by_dog: Fact(Does.NORMALIZES),
    dowg.scale_by_dowg: Fact(Does.NORMALIZES),
    learning_rate.scale_by_learning_rate: Fact(STEP, {"flip_sign": Does.DESCENDS}),
    learning_rate.scale_by_schedule: Fact(Does.MULTIPLIES, turns="step_size_fn"),
    normalize.normalize_by_update_norm: Fact(Does.NORMALIZES, turns="scale_factor"),
    param_block.scale_by_param_block_norm: Fact(Does.MULTIPLIES | Does.BY_WEIGHTS),
    param_block.scale_by_param_block_rms: Fact(Does.MULTIPLIES | Does.BY_WEIGHTS),
    polyak.scale_by_polyak: Fact(Does.MULTIPLIES),
    reduce_on_plateau.reduce_on_plateau: Fact(Does.MULTIPLIES),
    scale.scale: Fact(Does.PASSES, turns="step_size"),
    trust_ratio.scale_by_trust_ratio: Fact(Does.NORMALIZES | Does.BY_WEIGHTS),
    # Limits, decay, noise
    adaptive_grad_clip.adaptive_grad_clip: CLIPPING,
    clip.clip: CLIPPING,
    clip.clip_by_block_rms: Fact(Does.CLIPS_LEAVES),
    clip.clip_by_global_norm: CLIPPING,
    centralize.centralize: Fact(Does.CENTRES),
    differential_privacy.differentially_private_aggregate: Fact(Does.PER_EXAMPLE),
    keep_params.keep_params_in: Fact(Does.PROJECTS),
    keep_params.keep_params_nonnegative: Fact(Does.PROJECTS),
    noise.add_noise: Fact(Does.ADDS_NOISE, {"eta": Does.ADDS_NOISE}),
    weight_decay.add_cautious_weight_decay: Fact(Does.DECAYS, {"weight_decay": Does.DECAYS}),
    weight_decay.add_decayed_weights: Fact(Does.DECAYS, {"weight_decay": Does.DECAYS}),
    zero.set_to_zero: Fact(Does.STOPS),
    zero_nans.zero_nans: Fact(Does.HEALS),
    # Averages of weights, and steps that are taken back
    average_params.ema_params: AVERAGE,
    average_params.polynomial_average_params: AVERAGE,
    average_params.swa_params: AVERAGE,
    lookahead.lookahead: AVERAGE,
    mechanize.mechanize: Fact(Does.FOLLOWS_WEIGHTS | Does.LEARNS_RATE),
    sam.sam: Fact(Does.FOLLOWS_WEIGHTS, aside=("adv_optimizer",)),
    schedule_free.schedule_free: Fact(Does.FOLLOWS_WEIGHTS | Does.SMOOTHS),
    # When they act, and on what
    apply_every.apply_every: PASSES,
    apply_if_finite.apply_if_finite: Fact(Does.GUARDS),
    cautious.cautious: PASSES,
    conditionally.conditionally_mask: PASSES,
    conditionally.conditionally_transform: PASSES,
    core.chain: PASSES,
    core.identity: PASSES,
    extra_args.with_extra_args_support: PASSES,
    flatten.flatten: Fact(Does.PASSES, rebuilds=True),
    groups.groups: PASSES,
    kahan.kahan: PASSES,
    masked.masked: PASSES,
    master_weights.master_weights: PASSES,
    moment_dtypes.moment_dtypes: PASSES,
    monitor.monitor: PASSES,
    multi_steps.MultiSteps: Fact(Does.ACCUMULATES | Does.TAKES_NANS),
    named_chain.named_chain: PASSES,
    partition.partition: PASSES,
    snapshot.snapshot: PASSES,
    split_master_weights.split_master_weights: PASSES,
    split_real_and_imaginary.split_real_and_imaginary: Fact(Does.PASSES, rebuilds=True),
    stateless.stateless: Fact(Does.UNKNOWN),
    stateless.stateless_with_tree_map: Fact(Does.UNKNOWN),
    stochastic_rounding.stochastic_rounding: PASSES,
}


def fact_of(tx: GradientTransformation) -> Fact:
    return FACTS.get(tx.factory, Fact(Does.UNKNOWN))


def does(tx: GradientTransformation) -> Does:
    """What a primitive transformation does with the arguments it has."""
    fact, result = fact_of(tx), fact_of(tx).does
    for argument, switched in fact.off.items():
        if argument in tx.arguments and _is_off(tx.arguments[argument]):
            result &= ~switched
    if fact.turns is not None and _is_negative(tx.arguments[fact.turns]):
        result |= Does.DESCENDS
    if result & Does.TAKES_NANS and tx.arguments["should_skip_update_fn"] is not None:
        result &= ~Does.TAKES_NANS
    return result


def _is_off(value: Any) -> bool:
    return value is None or (_is_known(value) and not np.any(value))


def _is_negative(value: Any) -> bool:
    """Whether a number is below 0, or a schedule somewhere in its first hundred updates."""
    if callable(value):
        schedule = as_schedule("explain", "a hyperparameter", value)
        return any(float(schedule(count)) < 0 for count in (0, 1, 10, 100))
    return _is_known(value) and bool(np.any(np.less(value, 0)))


def _is_known(value: Any) -> bool:
    return not callable(value) and not isinstance(value, Tracer)
