"""Scripts written for optax: the same text once with optax, and once with ``import jaxopt_lessons as optax``."""

import inspect
import re

import cases
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lessons as jl
from jaxopt_lessons import _tree_names
from jaxopt_lessons.interop import optax_names

RNG = np.random.default_rng(0)
X = RNG.standard_normal((16, 3))
Y = X @ np.array([[1.0, -1.0], [-2.0, 0.5], [0.5, 3.0]]) + 0.3
START = {"w": RNG.standard_normal((3, 2)), "b": np.ones(2)}

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:optax", "ignore:Specifying a key:UserWarning")


@pytest.fixture(autouse=True)
def float64_and_usual_promotion():
    """optax does not run under strict promotion, and in float32 its corrections have lost some digits."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def loss_fn(params):
    return jnp.mean((X @ params["w"] + params["b"] - Y) ** 2)


def run(script, library, **names):
    """What a script leaves under the name ``result``."""
    namespace = {"optax": library, "jax": jax, "jnp": jnp, "loss_fn": loss_fn, "x": jnp.array(X), "y": jnp.array(Y)}
    namespace |= {"params": jax.tree.map(jnp.array, START), **names}
    exec(compile(script, library.__name__, "exec"), namespace)
    return namespace["result"]


def assert_equal(script, **names):
    ours, theirs = run(script, jl, **names), run(script, optax, **names)
    ours, theirs = jax.tree.leaves(ours), jax.tree.leaves(theirs)
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=1e-6, atol=1e-9)


# -- every name that both have, alone in a training loop ---------------------------------------------------------------

LOOP = """
@jax.jit
def step(params, state):
    value, grads = jax.value_and_grad(loss_fn)(params)
    updates, state = tx.update({grads}, state, params{extras})
    return optax.apply_updates(params, updates), state

state = tx.init(params)
for _ in range(6):
    params, state = step(params, state)
result = params
"""

EXTRAS = {"value": "value=value", "obj_fn": "obj_fn=loss_fn"}

DIFFERENT = {
    "adan": "optax multiplies the differences of gradients by 1 - b2 in the place of b2",
    "scale_by_adan": "the same",
    "amsgrad": "optax takes the maximum of the corrected average, which counts an early outlier a thousand times",
    "scale_by_amsgrad": "the same",
    "rprop": "optax returns the step of the update before",
    "scale_by_rprop": "the same",
    "yogi": "optax's momentum starts at 1e-6, which moves weights without a gradient",
    "scale_by_yogi": "the same",
    "add_noise": "other random numbers: of a key and the leaf's path, so that other leaves do not change them",
    "noisy_sgd": "the same",
    "hutchinson_estimator_diag_hessian": "the same",
    "sophia": "the same",
}
"""Names under which both libraries have an algorithm and its numbers differ, and why."""


def home(name):
    """Where a script written for optax finds a name."""
    for module in (optax.contrib, optax):
        if name in dir(module):
            return f"{module.__name__}.{name}"
    return None


def loop_of(case):
    """The script for a row of the table; a transformation that is no optimizer is scaled to a short step."""
    made = f"{home(case.name)}(**arguments)"
    if case.minimizes is None:
        made = f"optax.chain({made}, optax.scale(-0.01))"
    extras = "".join(", " + EXTRAS[name] for name in case.extras)
    grads = "jax.tree.map(lambda g: g[None], grads)" if case.per_example else "grads"
    return f"tx = {made}\n" + LOOP.format(grads=grads, extras=extras)


def takes_transformations(case):
    nodes = jax.tree.leaves(case.arguments, is_leaf=lambda node: isinstance(node, jl.GradientTransformation))
    return any(isinstance(node, jl.GradientTransformation) for node in nodes) or bool(case.positional)


SHARED = [case for case in cases.CASES if home(case.name)]
LOOPS = [case for case in SHARED if not takes_transformations(case) and case.name not in ("chain", "monitor")]


@pytest.mark.parametrize("case", LOOPS, ids=lambda case: case.name)
def test_one_name_in_a_loop(case):
    script = loop_of(case)
    if case.name not in DIFFERENT:
        assert_equal(script, arguments=case.arguments)
        return
    ours, theirs = (run(script, library, arguments=case.arguments) for library in (jl, optax))
    assert jax.tree.map(jnp.shape, ours) == jax.tree.map(jnp.shape, theirs)
    far = np.abs(np.asarray(ours["w"]) - np.asarray(theirs["w"])).max()
    assert far > 1e-7, f"{case.name} does not differ from optax any more: {DIFFERENT[case.name]}"


# -- scripts -----------------------------------------------------------------------------------------------------------

TRAIN = """
@jax.jit
def step(params, state, x, y):
    def loss_fn(params):
        return optax.squared_error(x @ params["w"] + params["b"], y).mean()

    loss, grads = jax.value_and_grad(loss_fn)(params)
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state, loss

state = tx.init(params)
losses = []
for i in range(12):
    params, state, loss = step(params, state, x[4 * (i % 4) : 4 * (i % 4) + 4], y[4 * (i % 4) : 4 * (i % 4) + 4])
    losses.append(loss)
result = params, losses
"""

SCRIPTS = {
    "a chain with a schedule and a masked decay": """
schedule = optax.warmup_cosine_decay_schedule(init_value=0.0, peak_value=0.1, warmup_steps=3, decay_steps=12)
tx = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.adamw(schedule, weight_decay=0.1, mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params)),
)
"""
    + TRAIN,
    "parts of a chain": """
tx = optax.chain(
    optax.identity(),
    optax.clip(0.5),
    optax.trace(decay=0.9, nesterov=True),
    optax.masked(optax.add_decayed_weights(0.01), {"w": True, "b": False}),
    optax.scale_by_schedule(optax.exponential_decay(1.0, 4, 0.5)),
    optax.scale(-0.05),
)
"""
    + TRAIN,
    "no optimizer for some leaves": """
tx = optax.chain(
    optax.masked(optax.scale_by_adam(), lambda params: {"w": True, "b": False}),
    optax.masked(optax.set_to_zero(), {"w": False, "b": True}),
    optax.scale_by_learning_rate(0.1),
)
"""
    + TRAIN,
    "groups by label": """
labels = {"w": "matrix", "b": "vector"}
tx = optax.partition({"matrix": optax.adam(0.1), "vector": optax.sgd(0.01, momentum=0.9)}, labels)
"""
    + TRAIN,
    "groups by a function": """
tx = optax.multi_transform(
    {"matrix": optax.rmsprop(0.05), "vector": optax.set_to_zero()},
    lambda params: jax.tree.map(lambda p: "matrix" if p.ndim > 1 else "vector", params),
)
"""
    + TRAIN,
    "frozen leaves": """
tx = optax.chain(
    optax.selective_transform(optax.adam(0.1), freeze_mask={"w": False, "b": True}),
    optax.freeze({"w": False, "b": True}),
)
"""
    + TRAIN,
    "accumulation": """
opt = optax.MultiSteps(optax.adamw(0.1), every_k_schedule=3)
state = opt.init(params)
update = jax.jit(opt.update)
result = []
for i in range(7):
    updates, state = update(jax.tree.map(lambda p: p * (i - 2.0), params), state, params)
    params = optax.apply_updates(params, updates)
    result.append((params, opt.has_updated(state), state.mini_step, state.gradient_step))
""",
    "accumulation as a transformation, of a growing number of batches": """
every = optax.piecewise_constant_schedule(1, {2: 2})
tx = optax.MultiSteps(
    optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, momentum=0.9)),
    every_k_schedule=lambda step: jnp.asarray(every(step), jnp.int32),
    use_grad_mean=False,
).gradient_transformation()
"""
    + TRAIN,
    "accumulation without bad batches": """
tx = optax.MultiSteps(optax.sgd(0.1), 2, should_skip_update_fn=optax.skip_not_finite)
state = tx.init(params)
for scale in (1.0, float("nan"), 2.0, 3.0, float("inf"), 1.0):
    grads = jax.tree.map(lambda p: scale * p, params)
    updates, state = tx.update(grads, state, params)
    params = optax.apply_updates(params, updates)
skip, _ = optax.skip_large_updates(params, state.gradient_step, params, max_squared_norm=1e-3)
result = params, state.gradient_step, skip
""",
    "steps that are not finite": """
tx = optax.apply_if_finite(optax.adam(0.1), max_consecutive_errors=3)
state = tx.init(params)
for scale in (1.0, float("nan"), 2.0, float("inf"), 1.0):
    updates, state = tx.update(jax.tree.map(lambda p: scale * p, params), state, params)
    params = optax.apply_updates(params, updates)
result = params, state.notfinite_count, state.total_notfinite, state.last_finite
""",
    "steps now and then": """
tx = optax.chain(
    optax.conditionally_transform(optax.clip_by_global_norm(0.1), lambda step: step < 3),
    optax.conditionally_mask(optax.sgd(0.1, momentum=0.9), lambda step: step % 2 == 0),
)
"""
    + TRAIN,
    "all leaves as one vector": """
tx = optax.flatten(optax.chain(optax.normalize_by_update_norm(), optax.adam(0.1)))
"""
    + TRAIN,
    "complex numbers as pairs": """
tx = optax.contrib.split_real_and_imaginary(optax.adam(0.1))
params = jax.tree.map(lambda p: p + 1j * p**2, params)
state = tx.init(params)
for i in range(3):
    updates, state = tx.update(jax.tree.map(lambda p: p * (i - 1.5j), params), state, params)
    params = optax.apply_updates(params, updates)
result = jax.tree.map(jnp.real, params), jax.tree.map(jnp.imag, params)
""",
    "measurements": """
tx = optax.chain(
    optax.snapshot("norm", optax.global_norm),
    optax.monitor({"mean": optax.measure_with_ema(optax.global_norm, 0.5), "now": optax.global_norm}),
    optax.sgd(0.1),
)
"""
    + TRAIN
    + "result = result, state[0].measurement, state[1].measurements",
    "names in a chain": """
tx = optax.named_chain(("clip", optax.clip_by_block_rms(0.5)), ("adam", optax.adabelief(0.1)))
"""
    + TRAIN
    + "result = result, state['adam'][0].mu",
    "a slow copy of the parameters": """
target = jax.tree.map(jnp.zeros_like, params)
for i in range(4):
    params = jax.tree.map(lambda p: p + 1, params)
    target = optax.incremental_update(params, target, step_size=0.1)
    target = optax.periodic_update(params, target, jnp.asarray(i), update_period=3)
result = target
""",
    "sharpness in two steps": """
adversary = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
tx = optax.contrib.sam(optax.sgd(0.1, momentum=0.9), adversary, sync_period=2)
"""
    + TRAIN,
    "sharpness in one step": """
adversary = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
tx = optax.contrib.sam(optax.adam(0.1), adversary, sync_period=2, opaque_mode=True)
state = tx.init(params)
for _ in range(5):
    grads = jax.grad(loss_fn)(params)
    updates, state = tx.update(grads, state, params, grad_fn=lambda p, i: jax.grad(loss_fn)(p))
    params = optax.apply_updates(params, updates)
result = params
""",
    "a learned learning rate": "tx = optax.contrib.mechanize(optax.adamw(1.0), weight_decay=0.01)\n" + TRAIN,
    "schedule-free": """
tx = optax.contrib.schedule_free(optax.chain(optax.scale_by_rms(0.99), optax.sgd(0.05)), learning_rate=0.05, b1=0.95)
"""
    + TRAIN,
    "a transformation of one's own": """
from typing import NamedTuple

class ScaleByMineState(NamedTuple):
    count: jnp.ndarray
    mu: optax.Updates
    nu: optax.Updates

def scale_by_mine(b1: float, b2: float) -> optax.GradientTransformation:
    def init_fn(params: optax.Params) -> ScaleByMineState:
        return ScaleByMineState(jnp.zeros([], jnp.int32), optax.tree.zeros_like(params), optax.tree.zeros_like(params))

    def update_fn(updates, state, params=None):
        count = optax.safe_increment(state.count)
        mu = optax.update_moment(updates, state.mu, b1, 1)
        nu = optax.update_moment_per_elem_norm(updates, state.nu, b2, 2)
        mu_hat, nu_hat = optax.bias_correction(mu, b1, count), optax.bias_correction(nu, b2, count)
        updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + 1e-8), mu_hat, nu_hat)
        return updates, ScaleByMineState(count, mu, nu)

    return optax.GradientTransformation(init_fn, update_fn)

tx = optax.chain(scale_by_mine(0.9, 0.99), optax.scale_by_learning_rate(optax.linear_schedule(0.1, 0.0, 12)))
"""
    + TRAIN,
    "a transformation with an argument of its own": """
def update_fn(updates, state, params=None, *, temperature, **extra_args):
    return jax.tree.map(lambda g: g * temperature, updates), optax.EmptyState()

mine = optax.GradientTransformationExtraArgs(optax.init_empty_state, update_fn)
tx = optax.chain(optax.with_extra_args_support(optax.scale(2.0)), mine, optax.sgd(0.1))
updates, state = tx.update(params, tx.init(params), params, temperature=0.5)
result = updates
""",
    "a look into the state": """
tx = optax.chain(optax.add_decayed_weights(0.1), optax.scale_by_adam(), optax.scale_by_learning_rate(0.1))
state: optax.OptState = tx.init(params)
updates, state = tx.update(params, state, params)
assert isinstance(state[0], optax.AddDecayedWeightsState) and isinstance(state[1], optax.ScaleByAdamState)
assert isinstance(tx, optax.GradientTransformation)
result = state[1].mu, state[1].nu, state[1].count, optax.tree.get(state, "mu"), optax.tree_utils.tree_get(state, "nu")
""",
    "gradients of single examples": """
def loss(params, x, y):
    return optax.l2_loss(x @ optax.scale_gradient(params["w"], 0.5) + params["b"], y).sum()

grads = jax.vmap(jax.grad(loss), in_axes=(None, 0, 0))(params, x, y)
flat, tree = jax.tree.flatten(grads)
result = optax.per_example_global_norm_clip(flat, 1.0), optax.per_example_layer_norm_clip(flat, 1.0, uniform=False)
""",
    "scalars": """
largest = jnp.asarray(2**31 - 1, jnp.int32)
vectors = jnp.array([[3.0, 4.0], [0.0, 0.0]])
result = [
    optax.safe_increment(jnp.int32(3)), optax.safe_increment(largest), optax.safe_increment(jnp.float32(3.0)),
    optax.safe_int32_increment(largest),
    optax.safe_norm(vectors, 1e-3), optax.safe_norm(vectors, 0.0, axis=1), optax.safe_norm(vectors, 9.0, keepdims=True),
    optax.safe_norm(vectors, 1e-3, ord=1, axis=1),
    jax.grad(optax.safe_norm)(vectors, 0.0), jax.grad(optax.safe_norm)(0 * vectors, 0.0),
    optax.safe_root_mean_squares(vectors, 1e-3), optax.safe_root_mean_squares(vectors, 9.0),
    jax.grad(optax.safe_root_mean_squares)(vectors, 0.0), jax.grad(optax.safe_root_mean_squares)(0 * vectors, 0.0),
    optax.global_norm(params),
]
""",
    "arithmetic on trees": """
a, b = params, jax.tree.map(lambda p: p**2 + 0.5, params)
key = jax.random.key(3)
tree = optax.tree
result = [
    tree.add(a, b), tree.add(a, b, a), tree.sub(a, b), tree.mul(a, b), tree.div(a, b), tree.scale(0.3, a),
    tree.add_scale(a, 0.3, b), tree.vdot(a, b), tree.sum(a), tree.max(a), tree.min(a), tree.size(a),
    tree.norm(a), tree.norm(a, squared=True), tree.norm(a, ord=1), tree.norm(a, ord="inf"), tree.norm(a, jnp.inf),
    tree.cast(a, jnp.bfloat16), tree.cast(a, None), tree.cast_like(a, b), tree.clip(a, -0.5, 0.5), tree.clip(a, 0.0),
    tree.where(jnp.asarray(False), a, b), tree.zeros_like(a), tree.ones_like(a), tree.full_like(a, 3.0),
    tree.ones_like(a, jnp.int32), tree.real(a), tree.conj(a), tree.allclose(a, a), tree.allclose(a, b),
    tree.random_like(key, a), tree.random_like(key, a, jax.random.uniform, jnp.float16),
    jax.tree.map(jax.random.key_data, tree.split_key_like(key, a)),
    tree.update_moment(a, b, 0.9, 1), tree.update_moment_per_elem_norm(a, b, 0.9, 2),
    tree.update_infinity_moment(a, b, 0.9, 0.1), tree.bias_correction(a, 0.9, jnp.asarray(3)),
    optax.update_infinity_moment(a, b, 0.9, 0.1),
    tree.get({"x": (1.0, {"y": 2.0})}, "y"), tree.get({"x": 1.0}, "y", 7.0), tree.set({"x": [1.0, {"y": 2.0}]}, y=3.0),
    optax.tree_utils.tree_add(a, b), optax.tree_utils.tree_norm(a), optax.tree_utils.tree_zeros_like(a),
    optax.tree_utils.tree_cast_like(a, b), optax.tree_utils.tree_full_like(a, 2.0), optax.tree_utils.tree_set(a, w=1.0),
]
""",
    "classification": """
labels = jnp.argmax(y, axis=-1)

def loss_fn(params):
    logits = x @ params["w"] + params["b"]
    hard = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    soft = optax.softmax_cross_entropy(logits, optax.smooth_labels(jax.nn.one_hot(labels, 2), 0.1)).mean()
    return hard + soft + optax.sigmoid_binary_cross_entropy(logits[:, 0], labels == 0).mean()

tx = optax.lion(0.01)
"""
    + LOOP.format(grads="grads", extras=""),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name):
    assert_equal(SCRIPTS[name])


SCHEDULES = """
schedules = [
    optax.constant_schedule(0.1),
    optax.linear_schedule(0.1, 0.01, 5, transition_begin=2),
    optax.exponential_decay(0.1, 3, 0.5, transition_begin=1, staircase=True, end_value=0.02),
    optax.cosine_decay_schedule(0.1, 8, alpha=0.1),
    optax.warmup_cosine_decay_schedule(0.0, 0.1, 3, 9, end_value=0.01),
    optax.piecewise_constant_schedule(0.1, {2: 0.5, 6: 0.1}),
    optax.piecewise_interpolate_schedule("cosine", 0.1, {2: 0.5, 6: 0.1}),
    optax.polynomial_schedule(0.1, 0.01, 2.0, 7, transition_begin=2),
    optax.warmup_constant_schedule(0.0, 0.1, 4),
    optax.warmup_exponential_decay_schedule(0.0, 0.1, 3, 2, 0.5),
    optax.cosine_onecycle_schedule(10, 0.1),
    optax.linear_onecycle_schedule(10, 0.1),
    optax.sgdr_schedule([{"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 2, "decay_steps": 5}] * 2),
    optax.join_schedules([optax.linear_schedule(0.0, 0.1, 4), optax.exponential_decay(0.1, 2, 0.9)], [4]),
    optax.polynomial_schedule(0.1, 0.02, power=2, transition_steps=6, transition_begin=1),
    optax.warmup_constant_schedule(0.0, 0.1, 4),
    optax.warmup_exponential_decay_schedule(0.0, 0.1, 3, 2, 0.5, staircase=True, end_value=0.02),
    optax.piecewise_interpolate_schedule("cosine", 0.1, {3: 0.5, 7: 0.2}),
    optax.cosine_onecycle_schedule(10, 0.1, pct_start=0.3),
    optax.linear_onecycle_schedule(10, 0.1, pct_start=0.3, pct_final=0.8),
    optax.sgdr_schedule([
        {"init_value": 0.0, "peak_value": 0.1, "decay_steps": 5, "warmup_steps": 2},
        {"init_value": 0.0, "peak_value": 0.05, "decay_steps": 6, "warmup_steps": 1, "end_value": 0.01},
    ]),
]
result = [[schedule(count) for count in range(12)] for schedule in schedules]
"""


def test_schedules():
    assert_equal(SCHEDULES)


LOOKAHEAD = """
tx = optax.lookahead(optax.adam(0.1), sync_period=3, slow_step_size=0.5)
{pair}
state = tx.init(pair)
for _ in range(8):
    grads = jax.grad(loss_fn)(fast(pair))
    updates, state = tx.update(grads, state, pair)
    pair = optax.apply_updates(pair, updates)
result = fast(pair), {slow}
"""


def test_lookahead_takes_plain_parameters():
    """What must be changed in a script with lookahead: no ``LookaheadParams``."""
    plain = LOOKAHEAD.format(
        pair="pair, fast = params, lambda params: params", slow="optax.eval_params(tx, state, params)"
    )
    theirs = LOOKAHEAD.format(
        pair="pair, fast = optax.LookaheadParams.init_synced(params), lambda pair: pair.fast", slow="pair.slow"
    )
    for a, b in zip(jax.tree.leaves(run(plain, jl)), jax.tree.leaves(run(theirs, optax)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    with pytest.raises(AttributeError, match=r"no attribute 'LookaheadParams'. lookahead takes plain parameters"):
        run(theirs, jl)


def test_the_average_of_schedule_free_needs_the_optimizer():
    script = "tx = optax.contrib.schedule_free_adamw(0.1)\n" + TRAIN + "result = {average}"
    ours = run(script.format(average="optax.eval_params(tx, state, params)"), jl)
    asks_optax = script.format(average="optax.contrib.schedule_free_eval_params(state, params)")
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(run(asks_optax, optax)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    with pytest.raises(AttributeError, match=r"Write eval_params\(tx, state, params\)"):
        run(asks_optax, jl)


# -- hyperparameters in the state --------------------------------------------------------------------------------------

INJECTED = {
    "a rate set in the middle of a run": """
tx = optax.inject_hyperparams(optax.adamw)(learning_rate=0.1, weight_decay=0.01)
state, seen = tx.init(params), []
for i in range(6):
    if i == 3:
        state.hyperparams["learning_rate"] = jnp.asarray(0.02)
    updates, state = tx.update(jax.grad(loss_fn)(params), state, params)
    params = optax.apply_updates(params, updates)
    seen.append(float(state.hyperparams["learning_rate"]))
result = params, seen, state.hyperparams, state.count
""",
    "a rate replaced, and compiled": """
tx = optax.inject_hyperparams(optax.sgd)(0.1, momentum=0.9)
state, step = tx.init(params), jax.jit(lambda p, s: tx.update(jax.grad(loss_fn)(p), s, p))
for i in range(6):
    hyperparams = {**state.hyperparams, "learning_rate": state.hyperparams["learning_rate"] * 0.7}
    updates, state = step(params, state._replace(hyperparams=hyperparams))
    params = optax.apply_updates(params, updates)
result = params, state.hyperparams
""",
    "a schedule read at each step": """
tx = optax.inject_hyperparams(optax.adam)(
    learning_rate=optax.cosine_decay_schedule(0.1, 5), b1=lambda count: 0.9 - 0.1 * count, b2=0.99
)
state, seen = tx.init(params), []
seen.append(state.hyperparams)
for _ in range(5):
    state.hyperparams["learning_rate"] = jnp.asarray(7.0)  # scheduled: it has no effect
    updates, state = jax.jit(tx.update)(jax.grad(loss_fn)(params), state, params)
    params = optax.apply_updates(params, updates)
    seen.append(state.hyperparams)
result = params, seen, state.hyperparams_states["learning_rate"].count
""",
    "a decorator": """
@optax.inject_hyperparams
def optimizer(learning_rate, max_norm=0.5):
    return optax.chain(optax.clip_by_global_norm(max_norm), optax.sgd(learning_rate))
tx = optimizer(learning_rate=optax.linear_schedule(0.1, 0.0, 10))
state = tx.init(params)
for i in range(5):
    state.hyperparams["max_norm"] = jnp.asarray(0.5 / (i + 1))
    updates, state = tx.update(jax.grad(loss_fn)(params), state, params)
    params = optax.apply_updates(params, updates)
result = params, state.hyperparams
""",
    "inside a chain, with static arguments": """
clip = lambda count: count ** 0.25
make = optax.inject_hyperparams(optax.contrib.adopt, static_args=("clip_value_fn", "b1", "use_clipping"))
tx = optax.chain(optax.clip(1.0), make(learning_rate=0.1, clip_value_fn=clip, b1=0.8, mu_dtype=None))
state = tx.init(params)
for _ in range(5):
    state[1].hyperparams["b2"] = jnp.asarray(0.99)
    updates, state = tx.update(jax.grad(loss_fn)(params), state, params)
    params = optax.apply_updates(params, updates)
result = params, state[1].hyperparams, state[1].count
""",
    "a schedule with a state": """
class Plateau:
    def init(self):
        return jnp.asarray(0.1)
    def update(self, state, *, value, **extra):
        return jnp.where(value > 1.0, state, state / 2)
    def __call__(self, state, **extra):
        return state
tx = optax.inject_hyperparams(optax.sgd)(learning_rate=Plateau())
state, seen = tx.init(params), []
for _ in range(12):
    value, grads = jax.value_and_grad(loss_fn)(params)
    updates, state = tx.update(grads, state, params, value=value)
    params = optax.apply_updates(params, updates)
    seen.append(float(state.hyperparams["learning_rate"]))
result = params, seen
""",
}


@pytest.mark.parametrize("script", INJECTED)
def test_injected_hyperparameters(script):
    assert_equal(INJECTED[script])


# -- names -------------------------------------------------------------------------------------------------------------


def test_every_shared_name_is_in_a_script():
    """Factories, schedules and functions that both have: in a loop of the table or in a script."""
    text = "".join([*SCRIPTS.values(), *INJECTED.values(), SCHEDULES, LOOKAHEAD])
    in_loops = {case.name for case in LOOPS}
    for name, value in vars(jl).items():
        if inspect.isfunction(value) and not name.startswith("_") and name not in in_loops and home(name):
            assert re.search(rf"\b{home(name)}\b", text), f"no script uses {home(name)}: add one to SCRIPTS"


def test_contrib_has_what_both_have():
    both = {name for name in dir(optax.contrib) if not name.startswith("_") and hasattr(jl, name)}
    assert set(jl.contrib.__all__) == both | {"NormalizeState"}
    for name in both:
        assert getattr(jl.contrib, name) is getattr(jl, name)


def test_hidden_names_are_names_of_optax():
    for name in (*optax_names.NAMES, *optax_names.INSTEAD):
        assert home(name) or hasattr(optax.losses, name), name
        assert name not in vars(jl), f"{name} is public: it needs no other way"
    for name in _tree_names.NAMES:
        assert hasattr(optax.tree, name)
        assert name not in jl.tree.__all__
        assert getattr(jl.tree, name) is _tree_names.NAMES[name]


def test_names_that_do_not_exist():
    with pytest.raises(AttributeError, match=r"^module 'jaxopt_lessons' has no attribute 'adamm'\.$") as error:
        _ = jl.adamm
    assert (error.value.name, error.value.obj) == ("adamm", jl)
    with pytest.raises(AttributeError, match="lookahead takes plain parameters"):
        _ = jl.LookaheadParams
    with pytest.raises(AttributeError, match=r"^module 'jaxopt_lessons.tree' has no attribute 'ad'"):
        _ = jl.tree.ad
    with pytest.raises(KeyError, match="2 values named 'count'"):
        jl.tree.get(jl.chain(jl.scale_by_adam(), jl.scale_by_learning_rate(0.1)).init(jnp.ones(1)), "count")
    with pytest.raises(KeyError, match="no values named 'hyperparams'"):
        jl.tree.set({"x": 1}, hyperparams=2)
    with pytest.raises(ValueError, match="ord must be one of None, 1, 2 and inf"):
        jl.tree.norm({"x": jnp.ones(1)}, ord=3)
