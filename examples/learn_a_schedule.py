# %% [markdown]
# # Learning a learning-rate schedule by gradient descent
#
#     python examples/learn_a_schedule.py
#
# An optimizer is a tree whose leaves are its numbers, those of its schedule among them. So the loss at the end of a
# training is a function of the schedule, and `jax.grad` differentiates it, through all updates:
#
#     loss_at_the_end(tx)                  a training of 60 updates, one `lax.scan`
#     jax.grad(loss_at_the_end)(tx)        the derivatives by every number of tx
#
# The problem: find the weights of a linear model from noisy mini-batches, with features of very different sizes. A
# constant rate has to choose between being slow along the small ones and noisy along the large ones. What is learnt
# is the mean over several runs, with other data in each of them; what is reported, the mean over runs that were not
# seen. Needs matplotlib.

# %%
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import jaxopt_lessons as jl

STEPS, BATCH, FEATURES = 60, 8, 12
KNOTS = (6, 12, 20, 30, 40, 50, 59)
"""Counts between which the learning rate runs on straight lines."""
SIZES = np.logspace(0.0, -0.8, FEATURES)
"""Of the features: curvatures from 1 to 0.025."""
NOISE = 0.5
"""Standard deviation of the noise in the answers."""
FIGURE = Path(__file__).parent / "figures" / "learn_a_schedule.png"
started = time.perf_counter()

# %% [markdown]
# ## A training, and the loss at its end
#
# A run is its data: the true weights, and a mini-batch for each update. The loss at the end is that of infinitely many
# examples, `1/2 sum(sizes^2 (w - truth)^2)`, above the noise that no weights explain.


# %%
def make_runs(seed, number):
    """True weights ``[run, feature]``, inputs ``[run, step, example, feature]``, answers ``[run, step, example]``."""
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((number, FEATURES))
    x = rng.standard_normal((number, STEPS, BATCH, FEATURES)) * SIZES
    y = np.einsum("rsef,rf->rse", x, truth) + NOISE * rng.standard_normal((number, STEPS, BATCH))
    return tuple(jnp.asarray(array, jnp.float32) for array in (truth, x, y))


def excess_loss(weights, truth):
    return 0.5 * jnp.sum((SIZES * (weights - truth)) ** 2)


def batch_loss(weights, x, y):
    return 0.5 * jnp.mean((x @ weights - y) ** 2)


def loss_at_the_end(tx, run):
    """The excess loss after one run, and after each of its updates."""
    truth, x, y = run

    def step(carry, batch):
        weights, state = carry
        updates, state = tx.update(jax.grad(batch_loss)(weights, *batch), state, weights)
        weights = jl.apply_updates(weights, updates)
        return (weights, state), excess_loss(weights, truth)

    start = jnp.zeros(FEATURES)
    _, losses = jax.lax.scan(step, (start, tx.init(start)), (x, y))
    return losses[-1], losses


def mean_loss(tx, runs):
    ends, courses = jax.vmap(loss_at_the_end, in_axes=(None, 0))(tx, runs)
    return ends.mean(), courses.mean(axis=0)


train_runs, test_runs = make_runs(seed=0, number=128), make_runs(seed=1, number=512)

# %% [markdown]
# ## The best constant rate
#
# A grid of optimizers is one stack of them, and `vmap` runs it in one program.

# %%
rates = np.geomspace(0.02, 1.0, 32)
lanes = jl.grid(jl.sgd, learning_rate=rates.tolist())
swept, _ = jax.jit(jax.vmap(mean_loss, in_axes=(0, None)))(lanes.tx, train_runs)
best = int(jnp.nanargmin(jnp.where(jnp.isfinite(swept), swept, jnp.nan)))
best_rate = lanes.points[best]["learning_rate"]
constant_loss, constant_course = jax.jit(mean_loss)(lanes[best], test_runs)
print(f"{len(lanes)} constant rates from {rates[0]:g} to {rates[-1]:g}: the best is {best_rate:.3f}")

# %% [markdown]
# ## The schedule
#
# `softplus` keeps the learnt rates above 0. The schedule goes through them on straight lines; they are learnt by Adam
# from the hypergradient, beginning with the best constant rate.


# %%
def optimizer(knots):
    """SGD whose rate goes through ``softplus(knots)``, the first of them at count 0."""
    values = jax.nn.softplus(knots)
    factors = values[1:] / values[:-1]
    schedule = jl.piecewise_interpolate_schedule("linear", values[0], dict(zip(KNOTS, factors, strict=True)))
    return jl.sgd(schedule)


@jax.jit
def learn(knots, runs):
    """100 updates of the knots: the last ones, and the loss before each."""
    outer = jl.adam(jl.cosine_decay_schedule(0.15, 100))

    def step(carry, _):
        knots, state = carry
        loss, grads = jax.value_and_grad(lambda knots: mean_loss(optimizer(knots), runs)[0])(knots)
        updates, state = outer.update(grads, state, knots)
        return (jl.apply_updates(knots, updates), state), loss

    (knots, _), losses = jax.lax.scan(step, (knots, outer.init(knots)), None, length=100)
    return knots, losses


begin = jnp.full(len(KNOTS) + 1, float(np.log(np.expm1(best_rate))))
knots, losses = learn(begin, train_runs)
learnt = optimizer(knots)
learnt_loss, learnt_course = jax.jit(mean_loss)(learnt, test_runs)
at_knots = np.asarray(jax.nn.softplus(knots))
print("learnt rates: " + ", ".join(f"{rate:.3f} at {t}" for t, rate in zip((0, *KNOTS), at_knots, strict=True)))
print(f"loss at the end, on the runs it learns from: {losses[0]:.4f} before, {losses[-1]:.4f} after")
print(f"on other runs: {constant_loss:.4f} with the best constant rate, {learnt_loss:.4f} with the learnt schedule")

# %% [markdown]
# ## Is the derivative right, and what was gained?

# %%
gradient = jax.jit(jax.grad(lambda knots: mean_loss(optimizer(knots), train_runs)[0]))(begin)
direction = gradient / jnp.linalg.norm(gradient)
ahead, behind = (mean_loss(optimizer(begin + sign * 0.02 * direction), train_runs)[0] for sign in (1, -1))
difference, slope = float(ahead - behind) / 0.04, float(jnp.linalg.norm(gradient))
print(f"slope along the gradient: {slope:.5f}, as a difference of two losses {difference:.5f}")
assert abs(slope - difference) < 0.03 * slope
assert abs(float(losses[0]) - float(swept[best])) < 1e-4, "it begins where the sweep ended"
assert learnt_loss < 0.8 * constant_loss, "the learnt schedule beats every constant rate by far"
assert at_knots.max() > best_rate > 3 * at_knots[-1], "fast first, then slow"

# %% [markdown]
# ## The figure

# %%
BLUE, ORANGE, GREY = "#0072b2", "#e69f00", "#808080"  # Told apart by colour-blind readers, too.
figure = Figure(figsize=(11, 3.6), dpi=100, layout="constrained")
rate_axes, course_axes, learning_axes = figure.subplots(1, 3)
counts = np.arange(STEPS)
schedule = learnt.arguments["learning_rate"]
rate_axes.plot(counts, np.asarray(schedule(jnp.asarray(counts))), color=BLUE, label="learnt schedule")
rate_axes.plot((0, *KNOTS), at_knots, "o", color=BLUE, markersize=4)
rate_axes.axhline(best_rate, color=ORANGE, linestyle="--", label="best constant rate")
rate_axes.set(title="Learning rate", xlabel="update", ylabel="learning rate", ylim=(0, None))
rate_axes.legend(frameon=False)
course_axes.plot(counts + 1, learnt_course, color=BLUE, label=f"learnt schedule, {learnt_loss:.3f} at the end")
label = f"best constant rate, {constant_loss:.3f} at the end"
course_axes.plot(counts + 1, constant_course, color=ORANGE, linestyle="--", label=label)
course_axes.set(title=f"Training, mean of {len(test_runs[0])} other runs", xlabel="update", yscale="log")
course_axes.set(ylim=(3e-3, None))
course_axes.set_ylabel("excess loss (squared units)")
course_axes.legend(frameon=False, loc="lower left")
learning_axes.plot(np.arange(1, len(losses) + 1), losses, color=BLUE, label="learnt schedule")
learning_axes.axhline(float(losses[0]), color=ORANGE, linestyle="--", label="best constant rate")
learning_axes.set(title="Learning the schedule", xlabel="update of the schedule", ylim=(0, None))
learning_axes.set_ylabel("loss at the end (squared units)")
learning_axes.legend(frameon=False, loc="lower left")
for axes in (rate_axes, course_axes, learning_axes):
    axes.spines[["top", "right"]].set_visible(False)
FIGURE.parent.mkdir(exist_ok=True)
figure.savefig(FIGURE)
print(f"\n{time.perf_counter() - started:.1f} s; figure: examples/figures/{FIGURE.name}")
