"""What routes, masks, groups and looks at updates. The trees of the tests have one leaf here; see tests/wrappers."""

import jax
import jax.numpy as jnp
import optax

import jaxopt_lessons as jl
from cases.case import Case, With
from cases.momentum import sgd, trace
from cases.scale import scale

NUMPY = {"sgd": sgd, "trace": trace, "scale": scale}


def run(tx, grads, params):
    """The NumPy rule of a transformation that is an argument of another."""
    return NUMPY[tx.name](grads, params, **tx.arguments)


def theirs(tx):
    return getattr(optax, tx.name)(**tx.arguments)


def zeros(grads):
    return [0 * g for g in grads]


def set_to_zero(grads, params):
    return zeros(grads)


def masked(grads, params, inner, mask, *, mask_compatible_extra_args=False, unmasked=None):
    return run(inner, grads, params) if mask else zeros(grads) if unmasked == "zero" else list(grads)


def freeze(grads, params, mask):
    return zeros(grads) if mask else list(grads)


def selective_transform(grads, params, optimizer, *, freeze_mask):
    return zeros(grads) if freeze_mask else run(optimizer, grads, params)


def partition(grads, params, transforms, param_labels, *, mask_compatible_extra_args=False):
    return run(transforms[param_labels], grads, params)


def groups(grads, params, rules, default=None, *, labels=None):
    override = rules.get(labels or "**", {})
    if override == "freeze":
        return zeros(grads)
    return NUMPY[default.name](grads, params, **{**default.arguments, **override})


def flatten(grads, params, inner):
    return run(inner, grads, params)


def named_chain(grads, params):
    return scale(trace(grads, params, 0.9), params, -0.1)


NAMED = ("momentum", jl.trace(0.9)), ("rate", jl.scale(-0.1))


def tripled(updates, params):
    return jax.tree.map(lambda g: 3 * g, updates)


def halfway(updates, params):
    return jax.tree.map(lambda g: 0.5 * g, updates)


def stateless(grads, params, f):
    return [f(g, p) for g, p in zip(grads, params, strict=True)]


def apply_every(grads, params, k=1):
    updates, total = [], 0.0
    for i, g in enumerate(grads):
        total = total + g
        updates.append(total if (i + 1) % k == 0 else 0 * g)
        total = 0.0 if (i + 1) % k == 0 else total
    return updates


def largest(updates):
    return jl.tree.sum_leaves(largest_rule, updates, combine=jnp.maximum)


def largest_rule(x):
    return jnp.max(jnp.abs(x), initial=0)


def watched(grads, params, **arguments):
    return list(grads)


def not_second_of_three(step, value=0.0):
    return (step % 3 != 1) | (value > 0.5)


def every_second(step, value=0.0):
    return step % 2 == 0


def conditionally_transform(
    grads, params, inner, should_transform_fn, forward_extra_args=False, value=0.0, otherwise=lambda g: g
):
    chosen = [should_transform_fn(i, **({"value": value} if forward_extra_args else {})) for i in range(len(grads))]
    pairs = zip(grads, params, strict=True)
    inside = [(g, p) for (g, p), is_chosen in zip(pairs, chosen, strict=True) if is_chosen]
    steps = iter(run(inner, *zip(*inside, strict=True)))
    return [next(steps) if is_chosen else otherwise(g) for g, is_chosen in zip(grads, chosen, strict=True)]


def conditionally_mask(grads, params, *args, **kwargs):
    return conditionally_transform(grads, params, *args, **kwargs, otherwise=lambda g: 0 * g)


SGD, OTHER = jl.sgd(0.1, 0.9), jl.sgd(0.3, 0.5)
SGD_FIELDS = frozenset({"trace", "count"})
CONDITION = {"inner": OTHER, "should_transform_fn": every_second, "forward_extra_args": True}
STAGES = jl.trace(0.9), jl.trace(0.5)

CASES = [
    Case(
        "set_to_zero",
        set_to_zero,
        optax=optax.set_to_zero,
        part_of="freeze",
    ),
    Case(
        "masked",
        masked,
        {"inner": SGD, "mask": True, "unmasked": "zero"},
        {"inner": OTHER, "mask": False, "unmasked": With("keep", {"mask": False})},
        silent=("mask_compatible_extra_args",),
        fields=SGD_FIELDS | {"inner_state"},
        optax=lambda inner, mask, unmasked: optax.chain(
            optax.masked(theirs(inner), mask), optax.identity() if mask or unmasked == "keep" else optax.set_to_zero()
        ),
        minimizes={"inner": jl.sgd(0.03, 0.9), "mask": True, "unmasked": "zero"},
    ),
    Case("freeze", freeze, {"mask": False}, {"mask": True}, fields=frozenset({"inner_state"}), optax=optax.freeze),
    Case(
        "selective_transform",
        selective_transform,
        {"optimizer": SGD, "freeze_mask": False},
        {"optimizer": OTHER, "freeze_mask": True},
        fields=SGD_FIELDS | {"inner_state"},
        optax=lambda optimizer, freeze_mask: optax.selective_transform(theirs(optimizer), freeze_mask=freeze_mask),
        minimizes={"optimizer": jl.sgd(0.03, 0.9), "freeze_mask": False},
    ),
    Case(
        "partition",
        partition,
        {"transforms": {"all": SGD}, "param_labels": "all"},
        {"transforms": {"all": OTHER}},
        silent=("param_labels", "mask_compatible_extra_args"),
        fields=SGD_FIELDS | {"inner_states"},
        optax=lambda transforms, param_labels: optax.partition(
            {label: theirs(tx) for label, tx in transforms.items()}, param_labels
        ),
        minimizes={"transforms": {"all": jl.sgd(0.03, 0.9)}, "param_labels": "all"},
    ),
    Case(
        "multi_transform",
        partition,
        {"transforms": {0: SGD}, "param_labels": 0},
        {"transforms": {0: OTHER}},
        silent=("param_labels", "mask_compatible_extra_args"),
        fields=SGD_FIELDS | {"inner_states"},
        optax=lambda transforms, param_labels: optax.multi_transform(
            {label: theirs(tx) for label, tx in transforms.items()}, param_labels
        ),
        part_of="partition",
    ),
    Case(
        "groups",
        groups,
        {"rules": {"**": {"learning_rate": 0.1}}, "default": jl.sgd(0.2, 0.9)},
        {
            "rules": {"**": {"learning_rate": 0.3}},
            "default": jl.sgd(0.2, 0.5),
            "labels": With("all", {"rules": {"all": {"learning_rate": 0.3}, "default": {}}}),
        },
        fields=SGD_FIELDS | {"inner_states"},
        exempt={"optax": "optax has no parameter groups by key path"},
        minimizes={"rules": {"**": {"learning_rate": 0.03}}, "default": jl.sgd(0.2, 0.9)},
    ),
    Case(
        "flatten",
        flatten,
        {"inner": SGD},
        {"inner": OTHER},
        fields=SGD_FIELDS,
        optax=lambda inner: optax.flatten(theirs(inner)),
        minimizes={"inner": jl.sgd(0.03, 0.9)},
        exempt={"state_of_other_params_is_refused": "its state is a vector, without names and shapes"},
    ),
    Case(
        "named_chain",
        named_chain,
        positional=NAMED,
        fields=frozenset({"trace"}),
        optax=lambda: optax.named_chain(*((name, theirs(tx)) for name, tx in NAMED)),
    ),
    Case("stateless", stateless, {"f": tripled}, {"f": halfway}, optax=optax.stateless),
    Case(
        "stateless_with_tree_map",
        stateless,
        {"f": tripled},
        {"f": halfway},
        optax=optax.stateless_with_tree_map,
    ),
    Case(
        "apply_every",
        apply_every,
        {"k": 1},
        {"k": 3},
        fields=frozenset({"mini_step", "grad_acc"}),
        optax=optax.apply_every,
        cyclic=frozenset({"mini_step"}),
    ),
    Case(
        "snapshot",
        watched,
        {"measure_name": "norm", "measure": largest},
        silent=("measure_name", "measure"),
        fields=frozenset({"measurement"}),
        optax=optax.snapshot,
    ),
    Case(
        "monitor",
        watched,
        {"measures": {"largest": largest, "mean": jl.measure_with_ema(largest, 0.9)}},
        silent=("measures",),
        fields=frozenset({"measurements", "measure_states", "count", "ema"}),
        optax=lambda measures: optax.monitor({"largest": largest}),
        exempt={"a_state_of_optax_goes_on_here": "optax keeps the memory of a measurement inside the function"},
    ),
    Case(
        "conditionally_transform",
        conditionally_transform,
        {"inner": STAGES[0], "should_transform_fn": not_second_of_three},
        {**CONDITION, "inner": STAGES[1]},
        extras={"value": 1.0},
        fields=frozenset({"trace", "inner_state", "step"}),
        optax=lambda inner, **rest: optax.conditionally_transform(theirs(inner), **rest),
        exempt={"long_runs_go_on": "whether it acts depends on the count"},
    ),
    Case(
        "conditionally_mask",
        conditionally_mask,
        {"inner": SGD, "should_transform_fn": not_second_of_three},
        CONDITION,
        extras={"value": 1.0},
        fields=SGD_FIELDS | {"inner_state", "step"},
        exempt={"long_runs_go_on": "whether it acts depends on the count"},
        optax=lambda inner, **rest: optax.conditionally_mask(theirs(inner), **rest),
        minimizes={"inner": jl.sgd(0.05, 0.9), "should_transform_fn": not_second_of_three},
    ),
]
