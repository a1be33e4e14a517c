"""What decides when an optimizer acts, and on what: guards, accumulation, lookahead, averages, sharpness."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

import jaxopt_lessons as jl
from cases.adam import adam
from cases.case import TOGETHER, Case, at
from cases.momentum import sgd

NUMPY = {"sgd": sgd, "adam": adam}
SGD, ADAM = jl.sgd(0.1), jl.adam(0.1)


def run(tx, grads, params):
    """The NumPy rule of an optimizer that is an argument of a wrapper."""
    return NUMPY[tx.name](grads, params, **tx.arguments)


def theirs(tx):
    return getattr(optax, tx.name)(**tx.arguments)


# -- guards -----------------------------------------------------------------------------------------------------------


def apply_if_finite(grads, params, inner, max_consecutive_errors):
    return run(inner, grads, params)


def skip_nonfinite(grads, params, inner):
    return run(inner, grads, params)


# -- accumulation -----------------------------------------------------------------------------------------------------


def multi_steps(
    grads, params, opt, every_k_schedule, use_grad_mean=True, should_skip_update_fn=None, accumulator_dtype=None
):
    k = every_k_schedule
    ends = range(k - 1, len(grads), k)
    sums = [sum(grads[end - k + 1 : end + 1]) / (k if use_grad_mean else 1) for end in ends]
    steps = dict(zip(ends, run(opt, sums, [params[end] for end in ends]), strict=True))
    return [steps.get(i, np.zeros_like(g)) for i, g in enumerate(grads)]


def optax_multi_steps(opt, every_k_schedule, use_grad_mean=True):
    dtype = jnp.result_type(float)
    return optax.MultiSteps(
        theirs(opt), every_k_schedule, use_grad_mean, accumulator_dtype=dtype
    ).gradient_transformation()


# -- lookahead --------------------------------------------------------------------------------------------------------


def lookahead(grads, params, fast_optimizer, sync_period, slow_step_size, reset_state=False):
    k, updates, slow = sync_period, [], params[0]
    fast = run(fast_optimizer, grads, params)
    if reset_state:
        cycles = [slice(i, i + k) for i in range(0, len(grads), k)]
        fast = [u for cycle in cycles for u in run(fast_optimizer, grads[cycle], params[cycle])]
    for i, (u, p) in enumerate(zip(fast, params, strict=True)):
        if i % k == k - 1:
            slow = slow + at(slow_step_size, i) * (p + u - slow)
            u = slow - p
        updates.append(u)
    return updates


def optax_lookahead(fast_optimizer, sync_period, slow_step_size, reset_state=False):
    """optax's lookahead for plain parameters, with the slow ones beside its state."""
    inner = optax.lookahead(theirs(fast_optimizer), sync_period, slow_step_size, reset_state)

    def init(params):
        return inner.init(optax.LookaheadParams(params, params)), params

    def update(updates, state, params):
        state, slow = state
        updates, state = inner.update(updates, state, optax.LookaheadParams(params, slow))
        return updates.fast, (state, slow + updates.slow)

    return optax.GradientTransformation(init, update)


# -- averages of parameters -------------------------------------------------------------------------------------------


def averages(grads, params, inner, share, start, every):
    """The average after each step; before there is one, the parameters themselves."""
    new = [p + u for p, u in zip(params, run(inner, grads, params), strict=True)]
    average, n, seen = None, 0, []
    for i, p in enumerate(new):
        if i >= start and (i + 1 - start) % every == 0:
            n += 1
            average = p if n == 1 else (1 - share(n, i)) * average + share(n, i) * p
        seen.append(p if average is None else average)
    return seen


def ema_params(grads, params, inner, decay=0.999, debias=True, *, start=0, every=1):
    def share(n, i):
        b = at(decay, i)
        return (1 - b) / (1 - b**n) if debias else 1 - b

    return averages(grads, params, inner, share, start, every)


def swa_params(grads, params, inner, start=0, every=1):
    return averages(grads, params, inner, lambda n, i: 1 / n, start, every)


def polynomial_average_params(grads, params, inner, eta=8.0, *, start=0, every=1):
    return averages(grads, params, inner, lambda n, i: (at(eta, i) + 1) / (n + at(eta, i)), start, every)


# -- sharpness --------------------------------------------------------------------------------------------------------


def sharp_gradient(params, i=0):
    """A gradient that changes along the climb, for NumPy as for JAX."""
    return jax.tree.map(lambda p: p * p * 0.5 - p * (i + 1), params)


def adaptive_normalize(grads, params, eta=0.01):
    units = [np.abs(p) + at(eta, i) for i, p in enumerate(params)]
    return [t**2 * g / np.linalg.norm(t * g) for g, t in zip(grads, units, strict=True)]


def transparent(grads, params, descend, climb, sync_period, reset_state):
    """SAM of which every part of a step is seen; ``climb(grads, params)`` are the steps of the adversary, downhill."""
    climbs, descents, updates = [], [], []
    for i, (g, p) in enumerate(zip(grads, params, strict=True)):
        begin = params[i - i % sync_period]
        if i % sync_period == 0 and reset_state:
            climbs = []
        if i % sync_period < sync_period - 1:
            climbs.append((g, p))
            updates.append(-climb(*zip(*climbs, strict=True))[-1])
        else:
            descents.append((g, begin))
            updates.append(begin - p + descend(*zip(*descents, strict=True))[-1])
    return updates


def opaque(grads, params, descend, climb, sync_period, reset_state, grad_fn):
    """SAM that climbs inside of an update."""
    climbs, found = [], []
    for g, p in zip(grads, params, strict=True):
        climbs = [] if reset_state else climbs
        for i in range(sync_period - 1):
            climbs.append((g, p))
            p = p - climb(*zip(*climbs, strict=True))[-1]
            g = grad_fn(p, i)
        found.append(g)
    return descend(found, params)


def sam(
    grads,
    params,
    optimizer,
    adv_optimizer,
    sync_period=2,
    reset_state=True,
    opaque_mode=False,
    batch_axis_name=None,
    *,
    grad_fn,
):
    def descend(g, p):
        return run(optimizer, g, p)

    def climb(g, p):
        return run(adv_optimizer, g, p)

    if opaque_mode:
        return opaque(grads, params, descend, climb, sync_period, reset_state, grad_fn)
    return transparent(grads, params, descend, climb, sync_period, reset_state)


def asam(grads, params, optimizer, rho=0.5, eta=0.01, opaque_mode=False, *, grad_fn):
    def descend(g, p):
        return run(optimizer, g, p)

    def climb(g, p):
        return [-at(rho, i) * u for i, u in enumerate(adaptive_normalize(g, p, eta))]

    if opaque_mode:
        return opaque(grads, params, descend, climb, 2, False, grad_fn)
    return transparent(grads, params, descend, climb, 2, False)


def optax_sam(optimizer, adv_optimizer, sync_period=2, reset_state=True, opaque_mode=False):
    return optax.contrib.sam(theirs(optimizer), theirs(adv_optimizer), sync_period, reset_state, opaque_mode)


GUARD = frozenset({"notfinite_count", "last_finite", "total_notfinite", "inner_state", "count"})
AVERAGE = frozenset({"count", "num_averaged", "average", "inner_state"})
SHARP = frozenset({"steps_since_sync", "opt_state", "adv_state", "cache", "count", "mu", "nu"})

CASES = [
    Case(
        "apply_if_finite",
        apply_if_finite,
        {"inner": SGD, "max_consecutive_errors": 3},
        {"inner": ADAM},
        silent=("max_consecutive_errors",),
        fields=GUARD | {"mu", "nu"},
        cyclic=frozenset({"notfinite_count"}),
        optax=lambda inner, max_consecutive_errors: optax.apply_if_finite(theirs(inner), max_consecutive_errors),
        minimizes={"inner": ADAM, "max_consecutive_errors": 3},
        exempt={
            "non_finite_gradients_are_seen_and_stay_where_they_are": "it is there to leave them out; its state tells"
        },
    ),
    Case(
        "skip_nonfinite",
        skip_nonfinite,
        {"inner": SGD},
        {"inner": ADAM},
        fields=GUARD | {"mu", "nu"},
        part_of="apply_if_finite",
        exempt={"optax": "optax has no guard without a limit"},
    ),
    Case(
        "MultiSteps",
        multi_steps,
        {"opt": SGD, "every_k_schedule": 2},
        {"opt": ADAM, "every_k_schedule": 3, "use_grad_mean": False},
        dtypes=("accumulator_dtype",),
        silent=("should_skip_update_fn",),
        fields=frozenset(
            {"mini_step", "gradient_step", "inner_opt_state", "acc_grads", "skip_state", "count", "mu", "nu"}
        ),
        cyclic=frozenset({"mini_step"}),
        optax=optax_multi_steps,
        minimizes={"opt": ADAM, "every_k_schedule": 2},
        exempt={"non_finite_gradients_are_seen_and_stay_where_they_are": "the first of two updates is zero"},
    ),
    Case(
        "lookahead",
        lookahead,
        {"fast_optimizer": ADAM, "sync_period": 2, "slow_step_size": 0.5},
        {"fast_optimizer": SGD, "sync_period": 3, "slow_step_size": 0.9, "reset_state": True},
        needs_params=True,
        fields=frozenset({"fast_state", "steps_since_sync", "slow", "count", "mu", "nu"}),
        cyclic=frozenset({"steps_since_sync"}),
        optax=optax_lookahead,
        minimizes={"fast_optimizer": ADAM, "sync_period": 5, "slow_step_size": 0.5},
        exempt={"a_state_of_optax_goes_on_here": "optax keeps the slow weights with the parameters"},
    ),
    Case(
        "ema_params",
        ema_params,
        {"inner": SGD, "decay": 0.8},
        {"inner": ADAM, "decay": 0.5, "debias": False, "start": 3, "every": 2},
        evaluates=True,
        needs_params=True,
        fields=AVERAGE | {"mu", "nu"},
        minimizes={"inner": ADAM},
        exempt={"optax": "optax averages updates only"},
    ),
    Case(
        "swa_params",
        swa_params,
        {"inner": SGD},
        {"inner": ADAM, "start": 3, "every": 2},
        evaluates=True,
        needs_params=True,
        fields=AVERAGE | {"mu", "nu"},
        part_of="ema_params",
        exempt={"optax": "optax averages updates only"},
    ),
    Case(
        "polynomial_average_params",
        polynomial_average_params,
        {"inner": SGD},
        {"inner": ADAM, "eta": 3.0, "start": 3, "every": 2},
        evaluates=True,
        needs_params=True,
        fields=AVERAGE | {"mu", "nu"},
        part_of="ema_params",
        exempt={"optax": "optax averages updates only"},
    ),
    Case(
        "sam",
        sam,
        {"optimizer": SGD, "adv_optimizer": jl.sgd(0.05, momentum=0.9)},
        {
            "optimizer": ADAM,
            "adv_optimizer": jl.sgd(0.2),
            "sync_period": 3,
            "reset_state": False,
            "opaque_mode": True,
        },
        silent=("batch_axis_name",),
        extras={"grad_fn": sharp_gradient},
        needs_params=True,
        fields=SHARP | {"trace"},
        cyclic=frozenset({"steps_since_sync"}),
        optax=optax_sam,
        minimizes={"optimizer": ADAM, "adv_optimizer": jl.sgd(0.01)},
    ),
    Case(
        "asam",
        asam,
        {"optimizer": SGD},
        {"optimizer": ADAM, "rho": 0.1, "eta": 0.5, "opaque_mode": True},
        extras={"grad_fn": sharp_gradient},
        needs_params=True,
        fields=SHARP,
        cyclic=frozenset({"steps_since_sync"}),
        minimizes={"optimizer": ADAM, "rho": 0.01},
        exempt={"optax": "optax has no adaptive SAM", **TOGETHER},
    ),
    Case(
        "adaptive_normalize",
        adaptive_normalize,
        {},
        {"eta": 0.5},
        needs_params=True,
        part_of="asam",
        exempt={"optax": "optax has no adaptive SAM"},
    ),
]
