# %% [markdown]
# # Lesson 1: Mini-batches
#
# **The idea.** Gradient descent needs a gradient, and the mean gradient of a few examples will do. Batch gradient
# descent takes all `m` examples for each step, stochastic gradient descent takes one, mini-batch gradient descent `k`.
# A step on fewer examples costs less and goes in a noisier direction.
#
# **You will see** how the cost falls for each of the three, step by step and second by second; their paths on the
# contours of a cost with two weights; how many steps and how many passes over the data a training takes with batches
# from 4 examples to all of them; and what the noise of the gradients says, within a factor of three, about where a
# larger batch stops paying.
#
# **It opens** [batches.py](../jaxopt_lessons/train/batches.py), where `minibatches` cuts the data into batches,
# [step.py](../jaxopt_lessons/train/step.py), one update, and [fit.py](../jaxopt_lessons/train/fit.py), the loop.

# %%
import math
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from vega_datasets import data

import jaxopt_lessons as jl

plt.style.use("jaxopt_lessons.style")

# %% tags=["parameters"]
FIRST = 300  # steps to look at one by one
LENGTHS = {None: 300, 64: 300, 1: 3000}  # steps of whole runs, multiples of 300; a batch size of None is all examples
PATH_STEPS = 300
SIZES = (4, 16, 64, 128, 256, 512, None)
RATES = (0.2, 0.4, 0.8, 1.2, 1.6)
TARGET, SEEDS = 0.3, 2

# %% [markdown]
# ## A batch, an epoch, an iteration
#
# A *batch* is the set of examples that one step looks at. One step, one update of the weights, is an *iteration*. An
# *epoch* is one pass over all examples. The course has 5,000,000 examples in batches of 1,000: that makes 5,000 updates
# in an epoch. Batch gradient descent makes one, because it looks at all examples before it moves at all. Stochastic
# gradient descent makes as many as there are examples.
#
# Our examples are the handwritten digits of scikit-learn, 8 x 8 pixels each. `minibatches` takes the data and a
# `batch_size`, and knows how many batches an epoch has. A remainder that does not fill a batch is a smaller batch.

# %%
images, labels = (np.asarray(array) for array in load_digits(return_X_y=True))
digits = (jnp.asarray(images / 16, jnp.float32), jnp.asarray(labels))
m = len(labels)

print("    examples   batch_size   updates in an epoch")
for examples, size in ((5_000_000, 1000), (m, None), (m, 64), (m, 1)):
    batches = jl.minibatches(np.zeros(examples, np.int8), batch_size=size)
    print(f"{examples:12,}   {size!s:>10}   {batches.per_epoch:19,}")
    assert batches.per_epoch == math.ceil(examples / (size or examples)), "the smaller batch counts, too"
assert jl.minibatches(np.zeros(5_000_000, np.int8), batch_size=1000).per_epoch == 5000

# %% [markdown]
# ## By hand
#
# To make mini-batches, put the examples into a random order and cut it into pieces. In the next epoch the order is
# another one.


# %%
def cut(examples, size, random):
    order = random.permutation(examples)
    return [order[first : first + size] for first in range(0, examples, size)]


by_hand = cut(m, 64, np.random.default_rng(0))
print(f"\n{m:,} digits in batches of 64: {len(by_hand)} batches, the last has {len(by_hand[-1])}")
assert sorted(np.concatenate(by_hand)) == list(range(m)), "each example once"

# %% [markdown]
# ## The same in the library
#
# Does an epoch of `minibatches`, which is what `fit` repeats, see each example once? We let it count. The parameters
# are one counter for each example. The loss of a batch is such that gradient descent with a learning rate of 1 adds 1
# to the counters of the examples in it: the gradient of `-counters[rows].sum()` is -1 there, and 0 elsewhere. After two
# epochs every counter must be 2.
#
# Then the update. By hand it is `params - learning_rate * gradient`, with the mean gradient of the examples in the
# batch. In the library a *step* is made of a loss function and an optimizer, here `sgd`; it takes the state of a run
# and a batch, and returns the next state. The loss function returns one number for each example, and the step takes
# the mean; or one number, which the step takes as it is, as in the counting.

# %%
counting = jl.make_step(lambda counters, rows: -jnp.sum(counters[rows]), jl.sgd(1.0))
rows = jl.minibatches(jnp.arange(m), batch_size=64)
epoch = jax.jit(jl.make_epoch(counting, rows))
counted = jl.init_state(jnp.zeros(m), counting)
for _ in range(2):
    counted, _ = epoch(counted, rows)
assert np.all(counted.params == 2), "each example exactly once in each epoch"
assert counted.step == 2 * 29


def loss_fn(params, batch):
    images, labels = batch
    hidden = jax.nn.relu(images @ params["w1"] + params["b1"])
    return jl.losses.softmax_cross_entropy_with_integer_labels(hidden @ params["w2"] + params["b2"], labels)


def first_weights(key):
    key1, key2 = jax.random.split(key)
    w1 = jax.random.normal(key1, (64, 32)) * math.sqrt(2 / 64)
    w2 = jax.random.normal(key2, (32, 10)) * math.sqrt(1 / 32)
    return {"w1": w1, "b1": jnp.zeros(32), "w2": w2, "b2": jnp.zeros(10)}


params = first_weights(jax.random.key(0))
step = jl.make_step(loss_fn, jl.sgd(0.1))
state = jl.init_state(params, step)

batch = jax.tree.map(lambda array: array[by_hand[0]], digits)
gradient = jax.jit(jax.grad(lambda params: jnp.mean(loss_fn(params, batch))))(params)
updated_by_hand = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
updated, metrics = jax.jit(step)(state, batch)
for name in params:
    np.testing.assert_allclose(updated.params[name], updated_by_hand[name], atol=1e-6)
    assert np.abs(updated.params[name] - params[name]).max() > 1e-3, "it moved much further than that"
print(f"cost of the first batch {metrics['loss']:.3f}; one update by hand and by the step of the library are equal")

# %% [markdown]
# ## Step by step
#
# We train the network, 64 pixels to 32 hidden units to 10 classes, three times. From one run to the next `batch_size`
# is the only thing that changes. `jl.inspect.trajectory` trains as `fit` does, on the same batches, and keeps the
# weights of every step, so that we can calculate two things afterwards: the cost of the batch that a step was made for,
# which is what one sees while one trains, and the cost of *all* examples at that point, which is what we want to lower.
#
# For batch gradient descent the two are the same, and with a small enough learning rate they fall at every step. The
# cost of mini-batches goes up and down on its way. Part of this is that some batches are harder than others. The other
# part shows in the cost of all examples: some steps really go up, because what is good for one batch may be bad for the
# rest.

# %%
names = {None: f"batch, all {m:,}", 64: "mini-batch, 64", 1: "stochastic, 1"}
cost_of_all = jax.jit(lambda points: jax.lax.map(lambda p: jnp.mean(loss_fn(p, digits)), points))


def followed(step, state, size, length, every=1, data=digits, shuffle=True):
    """A run that keeps its weights, and the milliseconds of a step."""
    # "wrap": a batch that is not full at the end of an epoch is filled from the next one.
    batches = jl.minibatches(data, size, shuffle=shuffle, remainder="wrap")
    began = time.perf_counter()
    run = jl.inspect.trajectory(step, state, batches, length, every=every, opt_state=False)
    jax.block_until_ready(run.params)
    return run, 1000 * (time.perf_counter() - began) / length


runs = {size: followed(step, state, size, FIRST)[0] for size in names}
costs = {size: np.asarray(cost_of_all(run.params)) for size, run in runs.items()}


def rising(values):
    """The share of steps on which the cost rises."""
    return np.mean(np.diff(values) > 0)


print(f"\nthe first {FIRST} steps    cost of all at the end   steps on which the cost rises: of the batch   of all")
rises = {size: (rising(runs[size].losses), rising(costs[size])) for size in names}
for size, name in names.items():
    print(f"{name:20}   {costs[size][-1]:22.3f}   {rises[size][0]:43.1%}   {rises[size][1]:6.1%}")
np.testing.assert_allclose(runs[None].losses, costs[None][:-1], rtol=1e-4)
assert rises[None] == (0, 0), "batch gradient descent goes down on every step"
assert rises[64][0] > 0.3, "the cost of mini-batches goes up and down"
assert 0 < rises[64][1] < rises[1][1] - 0.1, "mini-batches are in between"

# %% [markdown]
# ## Second by second
#
# Here is what the noisy steps are good for. Batch and mini-batches need about as many steps, but a step with 64
# examples costs far less than one with all of them. We train for longer, take the time of a second run, for which
# nothing has to be compiled, and draw the cost of all examples over the milliseconds.
#
# The course says that for a small training set, `m < 2000`, batch gradient descent will do. Ours has 1,797 examples, so
# we can look: how long does each of the three take until the cost of all examples is below 0.3?

# %%
milliseconds, curves, reached = {}, {}, {}
print(f"\nto a cost of {TARGET:<10}   ms a step   steps   epochs   ms in all")
for size, length in LENGTHS.items():
    twice = [followed(step, state, size, length, every=length // 300) for _ in range(2)]
    run, milliseconds[size] = twice[1]
    at, cost = run.steps, np.asarray(cost_of_all(run.params))
    curves[size] = at, cost
    assert cost.min() < TARGET
    reached[size] = int(at[np.argmax(cost < TARGET)])
    steps, epochs = reached[size], reached[size] * (size or m) / m
    print(
        f"{names[size]:20}   {milliseconds[size]:9.4f}   {steps:5}   {epochs:6.2f}   {steps * milliseconds[size]:9.1f}"
    )

# %% [markdown]
# Batch gradient descent needs as many steps as with mini-batches of 64, and 28 times as many examples for each of them.
# So for this set the rule costs time: it is not that batch gradient descent is better below 2,000 examples. It is that
# it does not matter there, since all of it takes a fraction of a second. Stochastic gradient descent is the first to
# see a cost of 0.3, with twice the steps, each of which costs next to nothing; but it does not stay below. And an epoch
# of such steps is the most expensive of all, because a processor is good at doing the same with many examples at once.

# %%
assert abs(reached[None] - reached[64]) < 0.15 * reached[None], "as many steps"
assert reached[64] * 64 < 0.05 * reached[None] * m, "with a small part of the examples"

# %% [markdown]
# ## The paths
#
# Two weights can be drawn. We predict the highest temperature of a day in Seattle from the lowest of the same night and
# from the highest of the day before, by a linear model: `w1 * lowest + w2 * yesterday`, all three in units of their
# standard deviations. The cost is half the mean squared error, a bowl whose lowest point the normal equations give
# exactly. The two inputs are much alike, so it is a narrow bowl, 15 times as steep across as along.
#
# All three runs begin at the same point and have the same learning rate. We measure how far from the minimum they are
# in the end, as the mean distance over the second half of the run.

# %%
weather = data.seattle_weather()
highest, lowest = np.array(weather["temp_max"]), np.array(weather["temp_min"])
standard = [(x - x.mean()) / x.std() for x in (lowest[1:], highest[:-1], highest[1:])]
inputs, outputs = np.stack(standard[:2], axis=1), standard[2]
minimum = np.linalg.lstsq(inputs, outputs, rcond=None)[0]
steepness = np.linalg.eigvalsh(inputs.T @ inputs / len(inputs))
print(
    f"\n{len(inputs):,} days; minimum at w1 = {minimum[0]:.3f}, w2 = {minimum[1]:.3f}; steepness {steepness.round(2)}"
)
assert 14 < steepness[1] / steepness[0] < 17


def squared_error(w, batch):
    inputs, outputs = batch
    return 0.5 * (inputs @ w - outputs) ** 2


days = (jnp.asarray(inputs, jnp.float32), jnp.asarray(outputs, jnp.float32))
linear = jl.make_step(squared_error, jl.sgd(0.25))
corner = jl.init_state(jnp.array([-0.9, 0.0]), linear)
kinds = {None: "batch", 32: "mini-batch, 32", 1: "stochastic"}
paths, distances = {}, {}
print(f"                 distance to the minimum: at the start   at step {PATH_STEPS}   mean of the second half")
for size, kind in kinds.items():
    paths[size] = np.asarray(jl.inspect.trajectory(linear, corner, days, PATH_STEPS, batch_size=size).params)
    away = np.linalg.norm(paths[size] - minimum, axis=1)
    distances[size] = away[PATH_STEPS // 2 :].mean()
    print(f"{kind:15}   {away[0]:37.2f}   {away[-1]:11.5f}   {distances[size]:23.5f}")
assert distances[None] < 0.002, "batch gradient descent converges"
assert distances[32] > 0.01, "the others wander around the minimum"
assert distances[1] > 3 * distances[32] > 9 * distances[None], "mini-batches in between"

# %% [markdown]
# ## Powers of two
#
# For large sets the course takes mini-batches, of a power of two, mostly from 64 to 512 examples. We look at these and
# at smaller and larger ones. To be fair to each batch size we let it choose its learning rate: we train with five rates
# and two orders of the data for each, and count the steps to a cost of 0.3 with the rate that takes the fewest. (The
# data are shuffled once, beforehand, which compiles faster than a new order in each epoch.)
#
# What limits a small batch is noise, and noise can be measured. Let `g` be the gradient of the loss of one example, `G`
# its mean and `S` the sum of the variances of its entries. A batch of `B` examples has the gradient `G` with noise of
# squared length `S / B`. The two are equally long for `B = S / |G|^2`, the *noise scale*. McCandlish et al.
# ([arXiv 1812.06162](https://arxiv.org/abs/1812.06162)) derive from it how the number of steps depends on the batch:
#
# `steps(B) = S_min * (1 + noise_scale / B)`
#
# with `S_min` the steps with the whole gradient. Far below the noise scale, twice the batch takes half the steps. Far
# above it, twice the batch takes as many steps, each of which costs twice as much.
#
# We measure the noise scale at the start by hand, from the gradient of each single example, and with the library.

# %%
of_each = jax.jit(jax.vmap(jax.grad(lambda p, image, label: loss_fn(p, (image, label))), (None, 0, 0)))(params, *digits)
g = np.concatenate([np.reshape(leaf, (m, -1)) for leaf in jax.tree.leaves(of_each)], axis=1, dtype=float)
S = np.sum(np.var(g, axis=0, ddof=1))
G_squared = np.sum(g.mean(axis=0) ** 2) - S / m  # the mean of m gradients has a share of the noise, too
measured = jl.inspect.noise_scale(loss_fn, params, digits)
print(f"\nnoise scale at the start: by hand {S / G_squared:.2f}; {measured}")
assert abs(measured.noise_scale / (S / G_squared) - 1) < 1e-3, "the noise scale by hand and by the library"


def to_target(size):
    """The fewest steps to the target, as a mean of the seeds; with which rate; and the milliseconds of a step."""
    every = 1 + 60 // (size or m)  # how often to look
    steps, times = [], []
    for rate in RATES:
        for seed in range(SEEDS):
            order = np.random.default_rng(seed).permutation(m)
            shuffled = jax.tree.map(lambda array, order=order: array[order], digits)
            at_rate = step.replace(learning_rate=rate)
            run, duration = followed(at_rate, state, size, 60 * every, every, shuffled, shuffle=False)
            below = np.asarray(cost_of_all(run.params)) < TARGET
            steps.append(run.steps[below.argmax()] if below.any() else math.inf)
            times.append(duration)
    means = np.mean(np.reshape(steps, (len(RATES), SEEDS)), axis=1)
    return means.min(), RATES[means.argmin()], min(times)


needed, rates, per_step = {}, {}, {}
for size in SIZES:
    needed[size], rates[size], per_step[size] = to_target(size)
foretold = {size: needed[None] * (1 + measured.noise_scale / (size or m)) for size in SIZES}

print(f"\nto a cost of {TARGET}, with the best of five rates")
print("    batch   rate   steps   foretold   epochs   ms an epoch   ms in all")
for size in SIZES:
    epochs, ms = needed[size] * (size or m) / m, per_step[size]
    row = f"{needed[size]:5.1f}   {foretold[size]:8.1f}   {epochs:6.2f}   {ms * m / (size or m):11.2f}"
    print(f"{size or m:9}   {rates[size]:4}   {row}   {needed[size] * ms:9.2f}")

# %% [markdown]
# From 64 examples on, larger batches save a quarter of the steps at most, and nearly each doubling costs twice the
# epochs. Below, where noise rules, a quarter of the batch needs about twice the steps, and a smaller learning rate. The
# noise scale says as much from the first weights alone, in its order of magnitude: it puts the turn near 50 examples,
# and foretells up to twice the steps that a small batch takes. The law is derived for one step, on a cost that is as
# steep in all directions; many small steps average their noise. It also takes the noise scale to stay what it is. That
# is not so: it grows while the cost falls, as the next lines print, because what is left to learn differs from example
# to example. So later in a training larger batches pay.
#
# What the best size is in seconds depends on the machine: on how much faster it does many examples at once than one
# after the other. The column of milliseconds an epoch shows it for yours.

# %%
later = []
for steps in (0, FIRST // 2, FIRST):
    weights = jax.tree.map(lambda p, steps=steps: p[steps], runs[None].params)
    later.append(jl.inspect.noise_scale(loss_fn, weights, digits).noise_scale)
    print(f"after {steps:3} steps with all: cost {costs[None][steps]:.2f}, noise scale {later[-1]:.0f} examples")
assert later[2] > 2 * later[1] > 4 * later[0], "it grows while the cost falls"

small, large = min(size for size in SIZES if size), [size for size in SIZES if size and size >= 64]
assert all(1 <= needed[size] / needed[None] < 1.35 for size in large), "hardly fewer steps with more than 64"
assert needed[small] > 3 * needed[64], "but many more with a few examples"
assert needed[small] * small < 0.6 * needed[64] * 64, "which are fewer examples all the same"
assert all(foretold[size] / 3 < needed[size] < 1.3 * foretold[size] for size in SIZES), (
    "the noise scale's order is right"
)

# %% [markdown]
# ## The figure
#
# Blue is batch gradient descent, green mini-batch, purple stochastic, as in the course.

# %%
figure, axes = plt.subplots(2, 2, figsize=(12, 8.6))
(by_step, by_second), (bowl, by_size) = axes
looks = {
    None: {"color": "C0", "linewidth": 2.5},
    64: {"color": "C2", "linewidth": 1.8, "linestyle": "--"},
    1: {"color": "C3", "linewidth": 1},
}
for size in (1, 64, None):
    by_step.plot(np.arange(FIRST), runs[size].losses, label=names[size], **looks[size])
    at, cost = curves[size]
    by_second.plot(at * milliseconds[size], cost, label=names[size], **looks[size])
by_step.set(title="What one sees while training", xlabel="step", ylabel="cost of the batch", ylim=(0, 5.5))
by_step.legend(loc="upper right")
by_second.axhline(TARGET, color="0.5", linewidth=1)
by_second.set(title="Over time, all examples", xlabel="milliseconds", ylabel="cost of all examples", xscale="log")
by_second.set_ylim(0, 2.6)
by_second.legend(loc="center left")

extent = ((-1.1, 1.5), (-0.3, 1.5))
plane = jl.inspect.landscape(squared_error, jnp.zeros(2), days, directions="coordinates", extent=extent, resolution=61)
plane.plot(bowl, labels=False, levels=12)
for size, look in zip((1, 32, None), (looks[1], looks[64], looks[None]), strict=True):
    bowl.plot(*paths[size].T, label=kinds[size], **look)
bowl.plot(*minimum, "k+", markersize=14, markeredgewidth=2, label="minimum")
bowl.set(title="Paths on the cost of a linear model", xlabel="w1 (of the night)", ylabel="w2 (of yesterday)")
bowl.set_xticks(np.arange(-1, 1.1, 0.5))
bowl.legend(loc="upper right", frameon=True, framealpha=0.9)

drawn = [size or m for size in SIZES]
by_size.plot(drawn, [needed[size] for size in SIZES], "o-", label="steps")
by_size.plot(drawn, [foretold[size] for size in SIZES], "s--", label="steps, foretold by the noise scale")
by_size.plot(drawn, [needed[size] * (size or m) / m for size in SIZES], "^:", label="epochs")
by_size.set(
    title=f"To a cost of {TARGET}", xlabel="examples in a batch", ylabel="steps, epochs", xscale="log", yscale="log"
)
by_size.set_xticks(drawn, [str(size) for size in drawn])
by_size.minorticks_off()
by_size.legend()
figure.savefig("lesson_01_mini_batches.png")
print("\nfigure: lesson_01_mini_batches.png")

# %% [markdown]
# ## What to try next
#
# - Let the learning rate of the linear model be 0.4. Batch gradient descent arrives sooner, and stochastic gradient
#   descent wanders farther from the minimum (the mean distance was 0.22 in 200 steps).
# - Add eight copies of the digits, each shifted by one pixel, 16,173 images in all. With batches of 64 and a rate of
#   0.8 a cost of 0.6 took us about 230 steps, less than one epoch. Batch gradient descent has made no step by then.
# - [Lesson 2](lesson_02_averages.py) averages what is noisy.
