# %% [markdown]
# # Lesson 11: Write your own optimizer
#
# **The idea.** An optimizer is two functions: `init(params)` makes its memory, and `update(gradients, memory, params)`
# gives the step and the next memory. Twenty lines are enough. Whether they can be trusted with a month of computing is
# another question, and there is a check for it.
#
# **You will see** an optimizer that trains well and still breaks a dozen promises, each named by `check_optimizer`; the
# same rule in twenty lines of the library, which keeps them all; and what one gets for nothing: schedules, sweeps, a
# printed form, a learning rate that can be changed without compiling.
#
# **It opens** [core.py](../jaxopt_lessons/core.py), where a factory becomes an optimizer;
# [tree.py](../jaxopt_lessons/tree.py), which takes a rule to every leaf; and
# [check_optimizer.py](../jaxopt_lessons/testing/check_optimizer.py).

# %%
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import jaxopt_lessons as jl
from jaxopt_lessons.types import DecayRateOrSchedule, NonNegativeOrSchedule, Params, PositiveOrSchedule

plt.style.use("jaxopt_lessons.style")

# %% tags=["parameters"]
STEPS, SEEDS = 150, 2
RATES = [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3]

# %% [markdown]
# ## A rule
#
# Signum steps along the sign of an average of gradients: `sign(m)`, plus or minus one in each weight. It does not care
# how large gradients are, and near the minimum it does not get slower, so it jumps to and fro over it. We make the sign
# soft: `m / (|m| + softness)`. Where the average is much larger than `softness`, this is the sign; where it is smaller,
# it is proportional to the average, and the steps get shorter. By hand, for one step of three weights:

# %%
g = np.array([4.0, -0.002, 0.0])
m = 0.9 * np.zeros(3) + (1 - 0.9) * g
u = m / (np.abs(m) + 0.001)
print("gradient", g, "average", m.round(5), "soft sign", u.round(3))
assert np.allclose(u, [0.4 / 0.401, -0.0002 / 0.0012, 0.0])

# %% [markdown]
# ## The first try
#
# Two functions on trees of arrays, in plain JAX. Any such pair is an optimizer for this library: it goes into `chain`,
# `make_step` and `fit`. It trains a small network to read digits.

# %%
digits: Any = load_digits()
x, y = np.asarray(digits.data / 16, np.float32), np.asarray(digits.target, np.int32)
train, val = (x[:1408], y[:1408]), (x[1408:], y[1408:])  # 22 batches of 64 to learn from


def init_network(key):
    normal = jax.random.normal(key, (74, 64)) * np.sqrt(2 / 64)  # one draw for both layers: it compiles faster
    return {"w1": normal[:64], "b1": jnp.zeros(64), "w2": normal[64:].T, "b2": jnp.zeros(10)}


def loss_fn(params, batch):
    images, labels = batch
    logits = jax.nn.relu(images @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]
    return jl.losses.softmax_cross_entropy_with_integer_labels(logits, labels)


def first_try(learning_rate, beta=0.9, softness=1e-3):
    def init(params):
        return jax.tree.map(jnp.zeros_like, params)

    def update(gradients, m, params=None):
        m = jax.tree.map(lambda m, g: beta * m + (1 - beta) * g, m, gradients)
        return jax.tree.map(lambda m: -learning_rate * m / (jnp.abs(m) + softness), m), m

    return init, update


def train_with(tx, steps=STEPS):
    step = jl.make_step(loss_fn, tx)
    state = jl.init_state(init_network(jax.random.key(0)), step, key=0)
    return jl.fit(step, state, train, batch_size=64, steps=steps, progress=False)


first_run = train_with(first_try(0.01))
losses = first_run.history["loss"]
print(f"loss {losses[0]:.3f} before, {losses[-20:].mean():.3f} in the last 20 of {STEPS} steps")
assert losses[-20:].mean() < 0.3 * losses[0]

# %% [markdown]
# ## What it promises, and what it breaks
#
# Training code relies on more than the rule: that the memory keeps its shape and dtype, that a gradient of the wrong
# shape is refused and not stretched to fit, that half precision does not lose the average, and so on.
# `check_optimizer` asks any optimizer for all of it and names what it breaks. We print how each failure begins;
# `print(report)` is the whole table.

# %%
report = jl.testing.check_optimizer(first_try(0.01))
print(f"\nthe first try: {len(report.of('passed'))} promises kept, {len(report.failures)} broken")
for row in report.failures:
    print(f"  {row.name}\n      {row.message[:105]} ...")
broken = {row.name for row in report.failures}
assert {"gradient_shapes_are_checked", "half_precision_is_calculated_in_float32", "errors_name_the_leaf"} <= broken
assert not broken & {"runs", "zero_gradients_move_nothing"}

# %% [markdown]
# One of them, seen: a bias of shape `(3,)` gets a gradient of shape `()`, as after a forgotten axis in a sum. NumPy's
# rules stretch it, and the training goes on with a wrong gradient. Nobody is told.

# %%
init, update = first_try(0.01)
wrong_shape, _ = update({"bias": jnp.float32(2.0)}, init({"bias": jnp.zeros(3)}))
print("\na gradient of shape () for a bias of shape (3,) gives the step", wrong_shape["bias"])
assert wrong_shape["bias"].shape == (3,)

# %% [markdown]
# ## The same rule in twenty lines of the library
#
# Three things change. The memory is a named tuple, so that it can be saved and read by name. The rule is a function of
# one leaf, which `tree.map_leaves` takes to all of them: it compares shapes, calculates half precision in float32, and
# knows what None and integers mean. And `@gradient_transformation` makes an optimizer of the two functions: the
# annotations say which arguments are numbers, in which range, and whether a schedule may stand in their place
# (`help(jaxopt_lessons.types)` lists them).


# %%
class ScaleBySoftSignState(NamedTuple):
    mu: Params


def soft_sign_rule(g, m, beta, softness):
    m = beta * m + (1 - beta) * g
    return m / (jnp.abs(m) + softness), m


@jl.gradient_transformation
def scale_by_soft_sign(beta: DecayRateOrSchedule = 0.9, softness: PositiveOrSchedule = 1e-3):
    def init(params):
        return ScaleBySoftSignState(mu=jl.tree.zeros_like(params))

    def update(updates, state: ScaleBySoftSignState, params=None, **extra):
        updates, mu = jl.tree.map_leaves(soft_sign_rule, updates, state.mu, params=params, beta=beta, softness=softness)
        return updates, ScaleBySoftSignState(mu)

    return init, update


@jl.gradient_transformation
def soft_sign(
    learning_rate: NonNegativeOrSchedule, beta: DecayRateOrSchedule = 0.9, softness: PositiveOrSchedule = 1e-3
):
    return jl.chain(scale_by_soft_sign(beta, softness), jl.scale_by_learning_rate(learning_rate))


# %% [markdown]
# It is the same rule: the training gives the same losses, but for rounding. And it keeps every promise, those too that
# only `@gradient_transformation` makes (to print, to pickle, to take other numbers without compiling). In a test of
# your own this is one line: `check_optimizer(soft_sign(0.01)).raise_if_failed()`.

# %%
run = train_with(soft_sign(0.01))
difference = np.abs(run.history["loss"] - first_run.history["loss"]).max()
print(f"\nlosses of the two differ by {difference:.0e} at most in {STEPS} steps")
assert difference < 1e-3

report = jl.testing.check_optimizer(soft_sign(0.01))
print(f"soft_sign: {len(report.of('passed'))} promises kept, {len(report.failures)} broken")
report.raise_if_failed()

try:
    tx = soft_sign(0.01)
    tx.update({"bias": jnp.float32(2.0)}, tx.init({"bias": jnp.zeros(3)}), {"bias": jnp.zeros(3)})
except jl.InputError as error:
    print(f"the gradient of a wrong shape: {error}")
else:
    raise AssertionError("a gradient of a wrong shape must be refused")

# %% [markdown]
# ## What comes for nothing
#
# It prints as the call that made it, and refuses numbers out of range when it is built. A schedule may stand in the
# place of any number. `hyperparams` reads what the next step uses; `replace` changes it, and since the numbers are
# arguments of the compiled program, nothing is compiled again.

# %%
halving = soft_sign(jl.halving_schedule(0.01, 50), softness=jl.linear_schedule(0.1, 0.01, 100))
print(f"\n{halving}")
now = {name: round(float(value), 5) for name, value in jl.hyperparams(halving, halving.init(jnp.zeros(3))).items()}
print("in the first step:", now)
assert now["soft_sign.learning_rate"] == 0.01
assert now["soft_sign.softness"] == 0.1
again = train_with(soft_sign(0.003, beta=0.8))
print(f"another learning rate and another beta: {again.compiles} programs compiled")
assert again.compiles == 0
try:
    soft_sign(0.01, beta=1.5)
except ValueError as error:
    print(error)
else:
    raise AssertionError("a beta of 1.5 must be refused")

# %% [markdown]
# ## Is it any good?
#
# A new rule deserves a fair comparison: each optimizer with the learning rate that is best for it, found by a sweep, on
# the same data with the same seeds. The soft sign against the hard one and Adam. And on a bowl, `w^2 / 2`,
# one sees what was meant: with a softness of 0.1 the hard sign goes on jumping, the soft one comes to rest. Near the
# minimum it is the momentum of lesson 4 with the rate `learning_rate / softness`, and so it rests only where that is
# below 38.

# %%
OPTIMIZERS = {"soft_sign": soft_sign, "signum": jl.signum, "adam": jl.adam}
batches = jl.minibatches(train, 64)


def short_training(make):
    def run(hp, key):
        step = jl.make_step(loss_fn, make(hp["learning_rate"]))
        state, _ = jl.make_scan(step, STEPS)(jl.init_state(init_network(key), step, key=key), batches)
        return {"loss": loss_fn(state.params, val).mean()}

    return run


sweeps = {name: jl.sweep(short_training(make), {"learning_rate": RATES}, SEEDS) for name, make in OPTIMIZERS.items()}
print(f"\nvalidation loss after {STEPS} steps, mean of {SEEDS} seeds")
print(f"{'learning rate':<14}", *(f"{rate:>7g}" for rate in RATES))
for name, result in sweeps.items():
    print(f"{name:<14}", *(f"{loss:7.3f}" for loss in result.mean("loss")))
lowest = {name: float(result.mean("loss").min()) for name, result in sweeps.items()}


def descend(tx):
    """The way from 1 to the minimum of ``w^2 / 2``, which is at 0."""

    def step(carry, _):
        w, state = carry
        updates, state = tx.update(w, state, w)
        w = jl.apply_updates(w, updates)
        return (w, state), w

    start = jnp.float32(1.0)
    return jax.lax.scan(step, (start, tx.init(start)), length=300)[1]


paths = {"signum": descend(jl.signum(0.02)), "soft_sign": descend(soft_sign(0.02, softness=0.1))}
ends = {name: float(jnp.abs(path[-50:]).mean()) for name, path in paths.items()}
print("\ndistance from the minimum of a bowl in the last 50 of 300 steps:", {k: f"{v:.1e}" for k, v in ends.items()})
assert abs(ends["signum"] - 0.02) < 0.005, "jumps of the length of the learning rate"
assert ends["soft_sign"] < 1e-3 * ends["signum"]
assert lowest["soft_sign"] < 1.2 * lowest["signum"]

# %% [markdown]
# On these data the three are about equally good at their best rates, the first two with half of Adam's memory, and Adam
# has the widest range of good ones. That is one small network, one batch size and two seeds: enough to go on with, not
# enough to publish.
#
# ## The figure

# %%
figure, (rule, rest, compared) = plt.subplots(1, 3, figsize=(15, 4.6))
averages = np.linspace(-0.3, 0.3, 601)
rule.plot(averages, np.sign(averages), color="0.5", label="sign")
for softness, style in ((0.001, "-"), (0.01, "--"), (0.1, ":")):
    rule.plot(averages, averages / (np.abs(averages) + softness), style, label=f"softness {softness}")
rule.set(title="The rule", xlabel="average of the gradients, m", ylabel="step / learning rate")
rule.legend()
for (name, path), width in zip(paths.items(), (1, 2.5), strict=True):
    rest.plot(np.arange(1, 301), path, linewidth=width, label=name)
rest.axhline(0, color="0.5", linewidth=1)
rest.set(title="On a bowl, learning rate 0.02", xlabel="step", ylabel="w (the minimum is at 0)")
rest.legend()
for (name, result), marker in zip(sweeps.items(), "os^", strict=True):
    compared.plot(RATES, result.mean("loss"), marker=marker, label=name)
compared.set(title=f"Digits, {STEPS} steps, {SEEDS} seeds", xlabel="learning rate", ylabel="validation loss (nats)")
compared.set(xscale="log", yscale="log")
compared.legend()
figure.savefig("lesson_11_your_own_optimizer.png")
print("\nfigure: lesson_11_your_own_optimizer.png")

# %% [markdown]
# ## What to try next
#
# - `softness=0.1` on the digits. Why does the best learning rate move?
# - Divide by the largest entry of the leaf, `jnp.max(jnp.abs(m))`, in the place of `jnp.abs(m) + softness`. What does
#   `check_optimizer` say of it?
# - Leave the `count` that a bias correction needs out of the memory, or keep it as a Python number, and look for the
#   promise that is broken.
# - To add an optimizer to the library: one file, one line of export, one row in
#   [tests/cases](../tests/cases/sign.py) with the rule written again in NumPy. The row brings all the tests.
