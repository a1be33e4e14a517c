"""Schedule-free learning: the wrapper, and SGD, AdamW and RAdam in it."""

import jax.numpy as jnp
import optax
import optax.contrib

import jaxopt_lessons as jl
from cases.adam import adam, scale_by_adam
from cases.case import Case, With, at
from cases.momentum import sgd
from cases.weight_decay import add_decayed_weights

SGD, ADAM = jl.sgd(0.1), jl.adam(0.1, b1=0.0)
INNER = {
    SGD: lambda grads, params: sgd(grads, params, 0.1),
    ADAM: lambda grads, params: adam(grads, params, 0.1, b1=0.0),
}
OPTAX = {SGD: optax.sgd(0.1), ADAM: optax.adam(0.1, b1=0.0)}
RISING = jl.linear_schedule(0.125, 0.625, 4)


def averaged(proposed, params, rates, b1=0.9, weight_lr_power=2.0, r=0.0):
    z, highest, total, updates = params[0], 0.0, 0.0, []
    for i, (u, y) in enumerate(zip(proposed, params, strict=True)):
        highest = max(highest, rates[i])
        weight = (i + 1.0) ** at(r, i) * highest ** at(weight_lr_power, i)
        total += weight
        x = (y - (1 - b1) * z) / b1
        z = z + u
        x = x + (weight / total if total > 0 else 0.0) * (z - x)
        updates.append(b1 * x + (1 - b1) * z - y)
    return updates


def schedule_free(
    grads, params, base_optimizer, learning_rate, b1=0.9, weight_lr_power=2.0, state_dtype=None, *, r=0.0
):
    rates = [at(learning_rate, i) for i in range(len(grads))]
    return averaged(INNER[base_optimizer](grads, params), params, rates, b1, weight_lr_power, r)


def warm(learning_rate, warmup_steps, steps):
    return [at(learning_rate, i) * min(1.0, (i + 1) / (warmup_steps or 1)) for i in range(steps)]


def schedule_free_sgd(
    grads,
    params,
    learning_rate=1.0,
    warmup_steps=None,
    b1=0.9,
    weight_decay=None,
    weight_lr_power=2.0,
    state_dtype=None,
    *,
    mask=None,
    r=0.0,
):
    rates = warm(learning_rate, warmup_steps, len(grads))
    decayed = add_decayed_weights(grads, params, weight_decay or 0.0, mask)
    proposed = [-rate * g for rate, g in zip(rates, decayed, strict=True)]
    return averaged(proposed, params, rates, b1, weight_lr_power, r)


def schedule_free_adamw(
    grads,
    params,
    learning_rate=0.0025,
    warmup_steps=None,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    weight_decay=0.0,
    weight_lr_power=2.0,
    state_dtype=None,
    *,
    mask=None,
    r=0.0,
):
    directions = scale_by_adam(grads, params, 0.0, b2, eps)
    rates = warm(learning_rate, warmup_steps, len(grads))
    decayed = add_decayed_weights(directions, params, weight_decay, mask)
    proposed = [-rate * d for rate, d in zip(rates, decayed, strict=True)]
    return averaged(proposed, params, rates, b1, weight_lr_power, r)


def schedule_free_radam(
    grads,
    params,
    learning_rate=0.0025,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    weight_decay=0.0,
    weight_lr_power=2.0,
    state_dtype=None,
    *,
    mask=None,
    r=0.0,
):
    rates, most = [], 2 / (1 - b2) - 1
    for i in range(len(grads)):
        t = i + 1
        held = most - 2 * t * b2**t / (1 - b2**t)
        trust = ((held - 4) * (held - 2) * most / ((most - 4) * (most - 2) * held)) ** 0.5 if held > 4 else 0.0
        rates.append(at(learning_rate, i) * trust)
    directions = scale_by_adam(grads, params, 0.0, b2, eps)
    decayed = add_decayed_weights(directions, params, weight_decay, mask)
    proposed = [-rate * d for rate, d in zip(rates, decayed, strict=True)]
    return averaged(proposed, params, rates, b1, weight_lr_power, r)


def optax_schedule_free(base_optimizer, learning_rate, weight_lr_power=2.0, r=0.0, **arguments):
    """optax's, which reads the schedule one update too early; its weights get an ``r`` from a learning rate."""

    def weights(count):
        rate = learning_rate(count - 1) if callable(learning_rate) else learning_rate
        return rate * count ** (r / weight_lr_power)

    inner = OPTAX.get(base_optimizer, base_optimizer)
    return optax.contrib.schedule_free(inner, weights, weight_lr_power=weight_lr_power, **arguments)


def optax_preset(scaling, learning_rate, b1=0.9, weight_lr_power=2.0, r=0.0, weight_decay=None, mask=None):
    inner = optax.chain(
        scaling, optax.add_decayed_weights(weight_decay or 0.0, mask), optax.scale_by_learning_rate(learning_rate)
    )
    return optax_schedule_free(inner, learning_rate, weight_lr_power, r, b1=b1)


def optax_warm(learning_rate, warmup_steps):
    return lambda count: learning_rate * jnp.minimum((count + 1.0) / (warmup_steps or 1), 1)


def optax_sgd(learning_rate, warmup_steps=None, **arguments):
    return optax_preset(optax.identity(), optax_warm(learning_rate, warmup_steps), **arguments)


def optax_adamw(learning_rate, warmup_steps=None, b2=0.999, eps=1e-8, **arguments):
    scaling = optax.scale_by_rms(b2, eps, eps_in_sqrt=False, bias_correction=True)
    return optax_preset(scaling, optax_warm(learning_rate, warmup_steps), **arguments)


FIELDS = frozenset({"weight_sum", "count", "max_lr", "base_optimizer_state", "z"})
WEIGHTS = {"b1": 0.5, "weight_lr_power": With(0.5, {"warmup_steps": 5}), "r": 1.0}
DECAY = {"weight_decay": 0.3, "mask": With(False, {"weight_decay": 0.3})}
WAITS = "while RAdam does not trust its few squares, its updates are zero"

CASES = [
    Case(
        "schedule_free",
        schedule_free,
        {"base_optimizer": SGD, "learning_rate": 0.1},
        {
            "base_optimizer": ADAM,
            "learning_rate": RISING,
            "b1": 0.5,
            "weight_lr_power": With(0.5, {"learning_rate": RISING}),
            "r": 1.0,
        },
        dtypes=("state_dtype",),
        scheduled={"learning_rate": (0.25, 0.5)},  # The largest so far is what counts.
        needs_params=True,
        fields=FIELDS | {"mu", "nu"},
        optax=optax_schedule_free,
        minimizes={"base_optimizer": jl.sgd(1.0), "learning_rate": 1.0},
    ),
    Case(
        "schedule_free_sgd",
        schedule_free_sgd,
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, "warmup_steps": 5, **WEIGHTS, **DECAY},
        dtypes=("state_dtype",),
        needs_params=True,
        fields=FIELDS,
        optax=optax_sgd,
        minimizes={"learning_rate": 1.0, "warmup_steps": 5},
    ),
    Case(
        "schedule_free_adamw",
        schedule_free_adamw,
        {"learning_rate": 0.125},
        {"learning_rate": 0.3, "warmup_steps": 5, "b2": 0.9, "eps": 0.1, **WEIGHTS, **DECAY},
        dtypes=("state_dtype",),
        needs_params=True,
        fields=FIELDS | {"nu"},
        optax=optax_adamw,
        minimizes={"learning_rate": 0.1},
    ),
    Case(
        "schedule_free_radam",
        schedule_free_radam,
        {"learning_rate": 1.0, "b2": 0.9},
        {"learning_rate": 0.3, "b2": 0.95, "eps": 0.1, "b1": 0.5, "weight_lr_power": 0.5, "r": 1.0, **DECAY},
        dtypes=("state_dtype",),
        needs_params=True,
        fields=FIELDS | {"nu"},
        minimizes={"learning_rate": 0.1, "b2": 0.9},
        exempt={
            "optax": "optax has no schedule-free RAdam",
            "zero_gradients_give_zero_updates": WAITS,
            "non_finite_gradients_are_seen_and_stay_where_they_are": WAITS,
        },
    ),
]
