# %% [markdown]
# # Lesson 7: Learning-rate decay
#
# **The idea.** Far from the minimum long steps are good: they get there. Near it they are bad: each mini-batch points
# somewhere else, and long steps jump about the minimum without ever reaching it. So begin with a large learning rate
# and make it smaller, epoch by epoch: `rate = a0 / (1 + decay_rate * epoch)`.
#
# **You will see** how far from the minimum a constant rate stays, and that theory knows the number; eight ways to let
# the rate decay, each tuned, each nearer to the minimum than the best constant rate; four ways to change the rate by
# hand in the middle of a run, none of which compiles anything; and where to read the rate of a run.
#
# **It opens** [inverse_time.py](../jaxopt_lessons/schedules/inverse_time.py), the course's decay, and
# [combinators.py](../jaxopt_lessons/schedules/combinators.py), which puts schedules together.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes

import jaxopt_lessons as jl

plt.style.use("jaxopt_lessons.style")

# %% tags=["parameters"]
EPOCHS = 20
SEEDS = 8

# %% [markdown]
# ## The table of the course
#
# The course's example has `decay_rate = 1` and `a0 = 0.2`. By hand it is one line. (The chapter prints 0.67 for the
# second epoch; it is 0.067.)


# %%
def course_rate(epoch, a0=0.2, decay_rate=1.0):
    return a0 / (1 + decay_rate * epoch)


print("epoch   learning rate")
for epoch in range(1, 5):
    print(f"{epoch:5}   {course_rate(epoch):.3f}")
assert [round(course_rate(epoch), 3) for epoch in range(1, 5)] == [0.1, 0.067, 0.05, 0.04]

# %% [markdown]
# ## The same in the library
#
# A schedule is a function of the count of updates made so far: 0 at the first update. It has to know how many updates
# an epoch has. Here there are 440 examples in batches of 4, so 110. With `staircase=True` the rate changes from epoch
# to epoch, as in the course; without, it falls a little with each update.
#
# **Off by one.** The course counts epochs from 1, so its first epoch has `0.2 / (1 + 1 * 1) = 0.1`, and 0.2 itself is
# never used. The library, as most do, counts the epochs that are over: the first has 0.2, the second 0.1. Neither is
# wrong, but a table of one read with the count of the other is a run with twice the rate in its first epoch. Since
# `a0 / (1 + k * (epoch + 1))` is `a0 / (1 + k) / (1 + k / (1 + k) * epoch)`, the course's own count is the same
# schedule with `a0 = 0.1` and `decay_rate = 0.5`.

# %%
BATCH_SIZE = 4
STEPS_PER_EPOCH = 440 // BATCH_SIZE
STEPS = EPOCHS * STEPS_PER_EPOCH

from_zero = jl.inverse_time_decay(0.2, 1.0, steps_per_epoch=STEPS_PER_EPOCH, staircase=True)
from_one = jl.inverse_time_decay(0.1, 0.5, steps_per_epoch=STEPS_PER_EPOCH, staircase=True)
print("\nupdates     counted from 0   counted from 1, as in the course")
for epoch in range(5):
    first, last = epoch * STEPS_PER_EPOCH, (epoch + 1) * STEPS_PER_EPOCH - 1
    print(f"{first:3} to {last:3}   {from_zero(first):14.3f}   {from_one(first):14.3f}")
    np.testing.assert_allclose(from_zero(jnp.array([first, last])), course_rate(epoch), rtol=1e-6)
    np.testing.assert_allclose(from_one(jnp.array([first, last])), course_rate(epoch + 1), rtol=1e-6)

# %% [markdown]
# ## Other ways to decay
#
# The course names four more: exponential decay, `0.95^epoch`; `k / sqrt(epoch)`; halving from time to time, here every
# four epochs; and by hand. Two more are what large models are trained with: half a cosine down to zero, and a straight
# line down to zero.

# %%
halving_steps = 4 * STEPS_PER_EPOCH
decays = {
    "inverse time": jl.inverse_time_decay(1.0, 1.0, steps_per_epoch=STEPS_PER_EPOCH, staircase=True),
    "0.95^epoch": jl.exponential_decay(1.0, STEPS_PER_EPOCH, 0.95, staircase=True),
    "0.8^epoch": jl.exponential_decay(1.0, STEPS_PER_EPOCH, 0.8, staircase=True),
    "1/sqrt(epoch)": jl.inverse_square_root_decay(1.0, steps_per_epoch=STEPS_PER_EPOCH, staircase=True),
    "halving": jl.halving_schedule(1.0, halving_steps),
    "cosine": jl.cosine_decay_schedule(1.0, STEPS),
    "line": jl.linear_to_zero(1.0, STEPS),
}
by_hand = {
    "inverse time": lambda e: 1 / (1 + e),
    "0.95^epoch": lambda e: 0.95**e,
    "0.8^epoch": lambda e: 0.8**e,
    "1/sqrt(epoch)": lambda e: 1 / np.sqrt(1 + e),
    "halving": lambda e: 0.5 ** (e // 4),
    "cosine": lambda e: (1 + np.cos(np.pi * e / EPOCHS)) / 2,
    "line": lambda e: 1 - e / EPOCHS,
}
epochs = np.arange(EPOCHS)
shown = [epoch for epoch in (0, 1, 2, 4, 8, 19) if epoch < EPOCHS]
print("\nlearning rate in epoch  " + "".join(f"{epoch:8}" for epoch in shown))
for name, schedule in decays.items():
    rates = np.asarray(0.2 * schedule(jnp.asarray(epochs * STEPS_PER_EPOCH)))
    print(f"{name:24}" + "".join(f"{rates[epoch]:8.4f}" for epoch in shown))
    np.testing.assert_allclose(rates, 0.2 * by_hand[name](epochs), rtol=1e-5, atol=1e-7)

# %% [markdown]
# ## A problem with a known minimum
#
# To see how near a run comes we need to know where the minimum is. Linear regression has a formula for it. The data are
# 440 patients with diabetes: from body mass index and blood pressure we predict how far the disease is a year later.
# All three are brought to mean 0 and variance 1, so there are two weights and no bias. A metric of the loss function is
# recorded at each step, and we let it be the distance of the weights to the minimum.

# %%
features, target = map(np.asarray, load_diabetes(return_X_y=True))
features, target = features[:440, 2:4], target[:440]
features = (features - features.mean(0)) / features.std(0)
target = (target - target.mean()) / target.std()
minimum = np.linalg.solve(features.T @ features, features.T @ target)
train = (jnp.asarray(features, jnp.float32), jnp.asarray(target, jnp.float32))
start = jnp.array([-1.0, 1.5])


def loss_fn(weights, batch):
    x, y = batch
    error = weights - jnp.asarray(minimum, jnp.float32)
    metrics = {"distance": jnp.sqrt(jnp.sum(error**2)), "w0": weights[0], "w1": weights[1]}
    return 0.5 * (x @ weights - y) ** 2, metrics


print(f"\nthe minimum: {minimum.round(4)}, from the start {np.linalg.norm(start - minimum):.2f} away")

# %% [markdown]
# ## Constant and decayed
#
# The course draws a blue path, with a constant rate, that never settles, and a green one, with a decaying rate, that
# ends in a small region around the minimum. Here they are, both from `a0 = 0.2`. The optimizer of the second run is
# that of the first with a schedule in the place of the number.

# %%
constant_step = jl.make_step(loss_fn, jl.sgd(0.2))
state = jl.init_state(start, constant_step, key=0)
batches = jl.minibatches(train, BATCH_SIZE)
constant = jl.fit(constant_step, state, batches, epochs=EPOCHS)
decayed = jl.fit(constant_step.replace(learning_rate=from_zero), state, batches, epochs=EPOCHS)

paths = {"constant": constant.history, "decayed": decayed.history}
print("\ndistance to the minimum, mean of the epoch")
print("epoch    " + "".join(f"{epoch:8}" for epoch in shown))
for name, history in paths.items():
    print(f"{name:9}" + "".join(f"{history.epoch_mean('distance')[epoch]:8.3f}" for epoch in shown))
settled = {name: history.epoch_mean("distance")[-5:].mean() for name, history in paths.items()}
assert settled["decayed"] < 0.5 * settled["constant"]

# %% [markdown]
# ## How far away a constant rate stays
#
# Near the minimum two things balance: each step pulls the weights back, by an amount proportional to the rate, and
# throws them about, by the noise of its mini-batch times the rate. For independent batches of size B the balance is
# known: the mean *squared* distance is `rate * trace(H^-1 S) / (2 B)` for small rates, with H the curvature of the loss
# and S the covariance of the gradients of single examples, both at the minimum. So the floor is proportional to the
# rate. We start at the minimum and measure it, with a loss that draws its four examples by itself.
#
# Real runs shuffle: each example comes once in an epoch, so the noise of an epoch adds up to nearly nothing. With small
# rates, when the weights hardly move within an epoch, this helps a lot. With large ones it helps little. The second
# column has it: there the floor falls faster than the rate.

# %%
curvature = features.T @ features / 440
gradients = (features @ minimum - target)[:, None] * features
covariance = gradients.T @ gradients / 440
predicted = np.trace(np.linalg.solve(curvature, covariance)) / (2 * BATCH_SIZE)


def independent_loss(weights, batch, key):
    rows = jax.random.randint(key, (BATCH_SIZE,), 0, 440)
    losses, metrics = loss_fn(weights, jax.tree.map(lambda array: array[rows], batch))
    return jnp.mean(losses), metrics


def floor_of(loss, data):
    """A function for `sweep`: the mean squared distance of a run that begins at the minimum."""

    def run(hp, key):
        step = jl.make_step(loss, jl.sgd(hp["learning_rate"]))
        begin = jl.init_state(jnp.asarray(minimum, jnp.float32), step, key=key)
        _, metrics = jl.make_scan(step, 2 * STEPS)(begin, data)
        return {"squared": jnp.mean(metrics["distance"][STEPS // 2 :] ** 2)}

    return run


CONSTANTS = [0.01, 0.02, 0.04, 0.08]
floors = {
    "independent": jl.sweep(floor_of(independent_loss, jl.minibatches(train)), {"learning_rate": CONSTANTS}, SEEDS),
    "shuffled": jl.sweep(floor_of(loss_fn, batches), {"learning_rate": CONSTANTS}, SEEDS),
}
measured = {name: floor.mean() for name, floor in floors.items()}
slopes = {name: np.polyfit(np.log(CONSTANTS), np.log(floor), 1)[0] for name, floor in measured.items()}
print("\n                 mean squared distance to the minimum")
print("learning rate    predicted   independent   shuffled")
for i, rate in enumerate(CONSTANTS):
    row = [measured[name][i] for name in measured]
    print(f"{rate:13}    {rate * predicted:9.5f}   {row[0]:11.5f}   {row[1]:8.5f}")
print(f"proportional to the rate to the power      {slopes['independent']:.2f}       {slopes['shuffled']:.2f}")
assert abs(measured["independent"][0] / (0.01 * predicted) - 1) < 0.1, "the theory of small rates"
assert abs(slopes["independent"] - 1) < 0.1, "proportional to the rate"
assert slopes["shuffled"] > 1.3
assert np.all(measured["shuffled"] < measured["independent"])

# %% [markdown]
# ## Each decay against every constant rate
#
# Now a fair comparison: 20 epochs, the same seven starting rates for each of the schedules, eight seeds, and the
# distance to the minimum in the last epoch. A small constant rate has a low floor but takes long to get there; the best
# one is a compromise. All runs are one compiled program: any function of the count is a schedule, so the number of a
# row in a table can be a hyperparameter, too. (`wsd`, for warm-up, stable, decay, holds its rate until six epochs
# before the end; the warm-up of the first epoch is for large models, not for this one.)

# %%
cooldown = 6 * STEPS_PER_EPOCH
hold = STEPS - STEPS_PER_EPOCH - cooldown
decays["wsd"] = jl.wsd_schedule(0.0, 1.0, STEPS_PER_EPOCH, hold, cooldown, cooldown="linear")
shapes = {"constant": jl.constant_schedule(1.0), **decays}
rows = jnp.stack([schedule(jnp.arange(STEPS)) for schedule in shapes.values()])


def last_epoch(hp, key):
    def rate(count):
        return hp["start"] * rows[hp["shape"], count]

    step = jl.make_step(loss_fn, jl.sgd(rate))
    _, metrics = jl.make_scan(step, STEPS)(jl.init_state(start, step, key=key), batches)
    return {"distance": metrics["distance"].reshape(EPOCHS, STEPS_PER_EPOCH).mean(1)}


STARTS = [0.0025, 0.005, 0.01, 0.02, 0.04, 0.1, 0.2]
search = jl.sweep(last_epoch, {"shape": range(len(shapes)), "start": STARTS}, SEEDS, how="vmap")
distances = dict(zip(shapes, search.mean("distance").reshape(len(shapes), len(STARTS)), strict=True))
best = {name: row.min() for name, row in distances.items()}
print("\ndistance in the last epoch")
print("starting rate" + "".join(f"{rate:9}" for rate in STARTS) + "     best")
for name, row in distances.items():
    print(f"{name:13}" + "".join(f"{number:9.4f}" for number in row) + f"{best[name]:9.4f}")
for name in decays:
    assert best[name] < 0.9 * best["constant"], "tuned, each decay comes nearer than every constant rate"
    assert distances[name][-1] < 0.8 * distances["constant"][-1], "and from the same large rate, too"

# %% [markdown]
# ## By hand, in the middle of a run
#
# The last way of the course is manual decay: somebody watches the loss and turns the rate down when it stands still.
# The rate is an argument of the compiled program, not a constant in it, so there are four ways to do it here, and none
# of them compiles anything. All take the rate from 0.2 to 0.02 in the middle of the run.
#
# 1. End the run, go on from its state with `step.replace(learning_rate=...)`.
# 2. The same by name, `set_hyperparams`, for optimizers with several numbers or parts.
# 3. While it runs: an observer, a function that `fit` calls after each epoch, sets `run.step`.
# 4. When the table is known before: `manual_schedule`, whose values can be changed later.

# %%
half = EPOCHS // 2
middle = half * STEPS_PER_EPOCH
until_half = jl.fit(constant_step, state, batches, epochs=half, chunk_steps=STEPS_PER_EPOCH)


def go_on(step):
    return jl.fit(step, until_half.state, batches, epochs=EPOCHS - half, chunk_steps=STEPS_PER_EPOCH)


def turn_down(run):
    if run.epoch == half - 1:  # Epochs are counted from 0, and this one is over.
        run.step = run.step.replace(learning_rate=0.02)


replaced = go_on(constant_step.replace(learning_rate=0.02))
by_name = go_on(constant_step.replace(tx=jl.set_hyperparams(constant_step.tx, {"sgd.learning_rate": 0.02})))
observed = jl.fit(constant_step, state, batches, epochs=EPOCHS, observers=[turn_down], chunk_steps=STEPS_PER_EPOCH)

table_step = constant_step.replace(learning_rate=jl.manual_schedule({0: 0.2, middle: 0.05}))
jl.fit(table_step, state, batches, epochs=EPOCHS, chunk_steps=STEPS_PER_EPOCH)
changed_step = table_step.replace(values={0: 0.2, middle: 0.02})
changed = jl.fit(changed_step, state, batches, epochs=EPOCHS, chunk_steps=STEPS_PER_EPOCH)

ways = {"replace": replaced, "set_hyperparams": by_name, "observer": observed, "manual_schedule": changed}
print("\nway               programs compiled   weights at the end")
for name, out in ways.items():
    print(f"{name:18}{out.compiles:17}   {np.asarray(out.state.params)}")
    assert out.compiles == 0, "a new learning rate compiles nothing"
    np.testing.assert_allclose(out.state.params, replaced.state.params, rtol=1e-5)
assert observed.history["distance"][-STEPS_PER_EPOCH:].mean() < 0.5 * settled["constant"]

# %% [markdown]
# ## Reading the learning rate of a run
#
# `fit` records the rate of each update beside its loss: `out.history["learning_rate"]`. In between, or where `fit` is
# not used, `jl.hyperparams(tx, state)` says all numbers that the *next* update will use, by name. So after a run of n
# updates the last of the history is `schedule(n - 1)`, and `hyperparams` has `schedule(n)`.
#
# To be sure that this is the rate the weights see, we repeat ten updates by hand, in NumPy: gradient descent on all
# data at once, whose rate decays with each update.

# %%
tx = jl.sgd(jl.inverse_time_decay(0.2, 1.0))
step = jl.make_step(loss_fn, tx)
whole = jl.fit(step, jl.init_state(start, step), train, steps=10)

weights, used = np.array(start, np.float64), []
for count in range(10):
    used.append(course_rate(count))
    weights = weights - used[-1] * features.T @ (features @ weights - target) / 440

recorded = whole.history["learning_rate"]
upcoming = jl.hyperparams(tx, whole.state.opt_state)
print("\nby hand:  ", np.round(used[:5], 4), "...", round(used[-1], 4), " weights", weights.round(4))
print("recorded: ", recorded[:5].round(4), "...", recorded[-1].round(4), " weights", whole.state.params.round(4))
print("next:     ", {name: round(float(value), 4) for name, value in upcoming.items()})
np.testing.assert_allclose(recorded, used, rtol=1e-6)
np.testing.assert_allclose(whole.state.params, weights, rtol=1e-5)
np.testing.assert_allclose(upcoming["sgd.learning_rate"], course_rate(10), rtol=1e-6)
np.testing.assert_allclose(observed.history["learning_rate"][middle - 1 : middle + 1], [0.2, 0.02], rtol=1e-6)
np.testing.assert_allclose(decayed.history["learning_rate"], from_zero(jnp.arange(STEPS)), rtol=1e-6)

# %% [markdown]
# ## Schedules of your own
#
# Schedules are values that can be put together: `a.then(b)` is a and, where it ends, b; `a.per_epoch(n)` reads a
# schedule, or any function, by epochs in the place of updates; schedules are added and multiplied with `+` and `*`; and
# `jl.plot` draws them before anything is trained. The recipe of most large models, a short warm-up and a cosine, is one
# line. There is a name for it as well, `warmup_cosine_decay_schedule`, and both are the same. The gallery of all is in
# [plot_schedules.py](plot_schedules.py).

# %%
tenth = STEPS // 10
own = {
    "warm-up, cosine": jl.warmup(tenth, 0.2, from_zero=True).then(jl.cosine_decay_schedule(0.2, STEPS - tenth)),
    "wsd": 0.2 * decays["wsd"],
    "inverse time": from_zero,
    "halving": jl.manual_schedule({0: 0.2, 4: 0.1, 8: 0.05, 12: 0.025, 16: 0.0125}).per_epoch(STEPS_PER_EPOCH),
}
print()
for name, schedule in own.items():
    print(f"{name}: {schedule}")
counts = jnp.arange(STEPS)
named = jl.warmup_cosine_decay_schedule(0.0, 0.2, warmup_steps=tenth, decay_steps=STEPS)
np.testing.assert_allclose(own["warm-up, cosine"](counts), named(counts), atol=1e-7)
four_each = counts[: 20 * STEPS_PER_EPOCH]
np.testing.assert_allclose(own["halving"](four_each), 0.2 * decays["halving"](four_each), rtol=1e-6)

# %% [markdown]
# ## The figure

# %%
figure, (rate_axis, path_axis, distance_axis) = plt.subplots(1, 3, figsize=(15, 5))
jl.plot(own, STEPS, ax=rate_axis, quantity="learning rate", steps_per_epoch=STEPS_PER_EPOCH)
rate_axis.set(title="Four schedules, a warm-up in two of them", ylim=(0, 0.29))
rate_axis.legend(ncols=2, loc="upper center")

grid = np.meshgrid(np.linspace(0.1, 0.9, 60), np.linspace(-0.1, 0.7, 60))
offsets = np.stack(grid, -1) - minimum
height = 0.5 * np.einsum("...i,ij,...j", offsets, curvature, offsets)
path_axis.contour(*grid, np.sqrt(height), levels=7, colors="0.75", linewidths=1)
every = slice(STEPS_PER_EPOCH // 10, None, STEPS_PER_EPOCH // 5)
for (name, history), style in zip(paths.items(), ("C0.", "C2^"), strict=True):
    path_axis.plot(history["w0"][every], history["w1"][every], style, markersize=5, label=name)
path_axis.plot(*minimum, "k*", markersize=14, label="minimum")
path_axis.set(title="Where two runs were, five points an epoch", xlim=(0.1, 0.9), ylim=(-0.1, 0.7))
path_axis.set(xlabel="weight of body mass index", ylabel="weight of blood pressure")
path_axis.legend(loc="upper right")

means = dict(zip(shapes, search.values["distance"].mean(1).reshape(len(shapes), len(STARTS), EPOCHS), strict=True))
distance_axis.plot(epochs + 1, means["constant"][-1], "C0-", label="constant, 0.2")
for name, style in {"constant": "C0:", "inverse time": "C2--", "cosine": "C1-."}.items():
    tuned = int(distances[name].argmin())
    distance_axis.plot(epochs + 1, means[name][tuned], style, label=f"{name}, {STARTS[tuned]}, its best")
distance_axis.set(title="Distance to the minimum", xlabel="epoch", yscale="log")
distance_axis.set(ylabel=f"mean of the epoch and {SEEDS} seeds", ylim=(None, 20))
distance_axis.legend()
figure.savefig("lesson_07_learning_rate_decay.png")
print("\nfigure: lesson_07_learning_rate_decay.png")

# %% [markdown]
# ## What to try next
#
# - Set `EPOCHS = 10`, half of the time. The best constant rate becomes twice as large, and its floor higher.
# - Take a network, and other optimizers: the [guide](choosing_an_optimizer.md) tunes AdamW on digits with and without a
#   schedule. What to remember of it: a short warm-up, then down to zero, and tune the rate at the top.
# - Draw the schedules of an optimizer, `jl.plot(jl.adamw(own["warm-up, cosine"]))`, before you train with it.
# - Let the rate be turned down by what the run itself shows: the observer `jl.ReduceOnPlateau`.
