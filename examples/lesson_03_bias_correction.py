# %% [markdown]
# # Lesson 3: Bias correction
#
# **The idea.** An exponentially weighted average starts at zero, so its first values are too small: on day `t` its
# weights add up to `1 - beta^t`, not to 1. Divide by that sum, `v / (1 - beta^t)`, and the average is right from the
# first day on. Later the sum is 1 and the division changes nothing.
#
# **You will see** the averages of lesson 2 from their first day, with and without correction, and the day on which they
# meet; why momentum can do without; that Adam without it takes steps up to 6.57 times as long as it should, over
# thousands of steps, and what this does to the training of a network.
#
# **It opens** [ema.py](../jaxopt_lessons/transforms/ema.py), where the correction is one division, and
# [adam.py](../jaxopt_lessons/transforms/adam.py), where there are two of them.

# %%
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from vega_datasets import data

import jaxopt_lessons as jl

plt.style.use("jaxopt_lessons.style")

# %% tags=["parameters"]
DAYS = 366
BETAS = (0.5, 0.9, 0.98)
B1, B2 = 0.9, 0.999  # Adam's
FACTOR_STEPS = 5000
RATES = (0.001, 0.01, 0.03, 0.1)
STEPS, SEEDS = 300, 5

# %% [markdown]
# ## By hand
#
# The temperatures are those of lesson 2, the highest of each day in Seattle, now from the first of January 2012 on. We
# average them by the line of lesson 2, `v = beta * v + (1 - beta) * theta`, with `v = 0` at the start. On the first day
# nothing of the past is there, and `v` is `(1 - beta) * theta`: with `beta = 0.9` a tenth of the temperature. The
# correction divides the value of day `t` by `1 - beta^t`, counting the days from 1.

# %%
temperature = np.array(data.seattle_weather()["temp_max"][:DAYS])
day = np.arange(1, DAYS + 1)


def average(values, beta):
    v, averages = 0, []
    for theta in values:
        v = beta * v + (1 - beta) * theta
        averages.append(v)
    return np.array(averages)


without = {beta: average(temperature, beta) for beta in BETAS}
corrected = {beta: without[beta] / (1 - beta**day) for beta in BETAS}

print("beta = 0.9\n  day   temperature (°C)   average   1 - beta^t   corrected average")
for t in (1, 2, 3, 5, 10, 44):
    values = temperature[t - 1], without[0.9][t - 1], 1 - 0.9**t, corrected[0.9][t - 1]
    print("{:5}   {:16.1f}   {:7.2f}   {:10.2f}   {:17.2f}".format(t, *values))
for beta in BETAS:
    assert math.isclose(without[beta][0], (1 - beta) * temperature[0]), "the first average is (1 - beta) * theta"
    assert math.isclose(corrected[beta][0], temperature[0]), "corrected, it is the first temperature"

# %% [markdown]
# ## The same in the library
#
# `ema` has a switch for the correction, `debias`, which is on by default. All else is the same, and so is the state:
# the average it remembers is the one without correction, and it divides what it hands out.


# %%
def average_by_library(values, beta, debias):
    tx = jl.ema(beta, debias=debias)

    def one_day(state, theta):
        v, state = tx.update(theta, state)
        return state, v

    return jax.lax.scan(one_day, tx.init(jnp.float32(0.0)), jnp.asarray(values, jnp.float32))[1]


for beta in BETAS:
    for by_hand, debias in ((without[beta], False), (corrected[beta], True)):
        difference = np.abs(average_by_library(temperature, beta, debias) - by_hand).max()
        print(f"beta {beta:<4}  debias={debias!s:<5}  loop and library differ by {difference:.1e} °C at most")
        assert difference < 1e-4, "the library and the loop do the same, but for rounding to float32"

# %% [markdown]
# ## What the correction is
#
# Write the average out and it is a sum of temperatures, in which that of `k` days ago weighs `(1 - beta) * beta^k`. On
# day `t` there are `t` of them, `k = 0` to `t - 1`, and their weights add up to `1 - beta^t`. Dividing by the sum of
# the weights is what makes a weighted mean of a weighted sum. `np.average` does the same division, so the two must
# agree on every day.
#
# A mean of equal numbers must be that number. We check this in exact arithmetic, with Python's fractions, where there
# is no rounding to hide behind: for a constant temperature of 20 °C the corrected average is 20 °C on each day.

# %%
for beta in BETAS:
    for t in range(1, DAYS + 1):
        weights = (1 - beta) * beta ** np.arange(t)[::-1]
        assert math.isclose(weights.sum(), 1 - beta**t, rel_tol=1e-10)
        assert math.isclose(np.average(temperature[:t], weights=weights), corrected[beta][t - 1], rel_tol=1e-10)

exact_beta, constant = Fraction(9, 10), Fraction(20)
exact = average([constant] * 60, exact_beta)
assert all(v != constant for v in exact), "without correction it is 20 on no day"
assert all(v / (1 - exact_beta**t) == constant for t, v in enumerate(exact, start=1)), "corrected, on every day"
in_floats = average_by_library(np.full(60, 20.0), 0.9, debias=True)
print(f"\naverage of 20 °C after 1, 2 and 3 days: {[float(v) for v in exact[:3]]}, corrected exactly 20 on all 60")
print(f"the library, in float32: between {in_floats.min():.6f} and {in_floats.max():.6f}")
assert np.abs(in_floats - 20).max() < 1e-5

# %% [markdown]
# ## When the two lines meet
#
# In the course's figure the two lines are apart at first and later run together. The average without correction is
# `1 - beta^t` times the corrected one, so it lacks the share `beta^t` of it, whatever the temperatures are. It lacks
# less than a share `s` from the first day on which `beta^t < s`: the first whole number above `log(s) / log(beta)`. For
# one hundredth and a `beta` near 1 that is about `log(100) = 4.6` times the `1 / (1 - beta)` days that the average
# covers. In degrees the day depends on the weather; at 10 °C one hundredth is 0.1 °C.

# %%
print("\n beta   1/(1-beta)   lacks less than 1/100: from the formula   measured   less than 0.1 °C, measured")
meet, meet_in_degrees = {}, {}
for beta in BETAS:
    formula = math.floor(math.log(0.01) / math.log(beta)) + 1
    lacking = corrected[beta] - without[beta]
    meet[beta] = int(day[lacking >= 0.01 * corrected[beta]][-1]) + 1
    meet_in_degrees[beta] = int(day[lacking >= 0.1][-1]) + 1
    columns = f"{formula:38}   {meet[beta]:8}   {meet_in_degrees[beta]:26}"
    print(f"{beta:5}   {1 / (1 - beta):5.0f} days   {columns}")
    assert meet[beta] == formula
assert abs(meet[0.98] * (1 - 0.98) - math.log(100)) < 0.1, "4.6 times the days that it covers"

# %% [markdown]
# ## Momentum can wait
#
# In practice, says the course, people often leave the correction out and just wait until the first steps are over.
# For momentum that is fair. Momentum steps along the average of the gradients, so an average that is too small means
# steps that are too short: a tenth of the full length at first, `1 - 0.9^10 = 0.65` of it after ten steps. We let both
# walk down a slope that is the same everywhere, and measure how far they are. What is missing in the end is
# `0.9 + 0.9^2 + 0.9^3 + ... = 9` steps in all. A run of thousands of steps does not notice.


# %%
def distance_walked(tx, steps):
    """After each step, on a slope of 1, with a learning rate of 1."""

    def walk(carry, _):
        position, state = carry
        update, state = tx.update(jnp.float32(1.0), state)
        return (position - update, state), position - update

    return np.asarray(jax.lax.scan(walk, (jnp.float32(0.0), tx.init(jnp.float32(0.0))), None, length=steps)[1])


full = distance_walked(jl.ema_momentum(1.0, beta=B1, debias=True), 200)
short = distance_walked(jl.ema_momentum(1.0, beta=B1), 200)
lengths = np.diff(short, prepend=0.0)
print(
    f"\nsteps of momentum without correction: the first is {lengths[0]:.2f}, the tenth {lengths[9]:.2f} of the full one"
)
print(f"after 200 steps it has come {full[-1] - short[-1]:.2f} steps less far than with correction, of {full[-1]:.0f}")
np.testing.assert_allclose(lengths, 1 - B1 ** np.arange(1, 201), atol=2e-5)
assert abs(full[-1] - 200) < 1e-3
assert abs(full[-1] - short[-1] - B1 / (1 - B1)) < 1e-3, "nine steps are missing"

# %% [markdown]
# ## Adam cannot
#
# Adam divides one average by the root of another: `m`, the average of the gradients, by `sqrt(v)`, where `v` is the
# average of their squares. If `m` is too small the step is too short, but if `v` is too small the step is too *long*.
# In the first step `m = (1 - b1) * g` and `v = (1 - b2) * g^2`, so that without correction the step is
#
# `(1 - b1) / sqrt(1 - b2) = 0.1 / 0.0316 = 3.16`
#
# times the learning rate, for a gradient of any size. With correction it is exactly one learning rate.
#
# To see this we build Adam by hand from two averages. `debias` turns their correction on and off, and nothing else. A
# pair of functions `init` and `update` is all that makes an optimizer here; `chain` puts the learning rate behind it.


# %%
def adam_by_hand(learning_rate, debias, b1=B1, b2=B2):
    average_of_gradients, average_of_squares = jl.ema(b1, debias), jl.ema(b2, debias)

    def init(params):
        return average_of_gradients.init(params), average_of_squares.init(params)

    def update(gradients, state, params=None, **extra):
        m, state_of_m = average_of_gradients.update(gradients, state[0])
        v, state_of_v = average_of_squares.update(jax.tree.map(jnp.square, gradients), state[1])
        direction = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + 1e-8), m, v)
        return direction, (state_of_m, state_of_v)

    return jl.chain(jl.GradientTransformation(init, update), jl.scale_by_learning_rate(learning_rate))


def updates_of(tx, gradients):
    """The updates for one gradient after the other."""

    def step(state, gradient):
        update, state = tx.update(gradient, state)
        return state, update

    return np.asarray(jax.jit(lambda g: jax.lax.scan(step, tx.init(g[0]), g)[1])(gradients))


gradients = jnp.array([0.5, -20.0, 0.003]) * (1 + jax.random.normal(jax.random.key(0), (FACTOR_STEPS, 3)))
of_library = updates_of(jl.adam(0.01, B1, B2), gradients)
of_hand = updates_of(adam_by_hand(0.01, debias=True), gradients)
uncorrected = updates_of(adam_by_hand(0.01, debias=False), gradients)
np.testing.assert_allclose(of_hand, of_library, rtol=1e-3, atol=1e-7)

print("\nfirst step, learning rate 0.01\n   gradient   jl.adam   without correction   times the learning rate")
for gradient, update, longer in zip(gradients[0], of_library[0], uncorrected[0], strict=True):
    print(f"{gradient:11.4f}   {update:7.4f}   {longer:18.4f}   {abs(longer) / 0.01:23.2f}")
np.testing.assert_allclose(of_library[0], -0.01 * np.sign(gradients[0]), rtol=1e-4)
np.testing.assert_allclose(uncorrected[0] / of_library[0], (1 - B1) / math.sqrt(1 - B2), rtol=5e-4)

# %% [markdown]
# ## How it goes on
#
# Both have the same `m` and `v`, so at step `t` the one without correction is
#
# `(1 - b1^t) / sqrt(1 - b2^t)`
#
# times as long, whatever the gradients are. This factor does not begin to fall after the first step. The numerator
# forgets its start in tens of steps, the denominator in thousands, so the factor grows at first. Leaving the correction
# out is training with a learning rate that is multiplied by this factor. We measure the factor on the gradients above
# and calculate it for `b2 = 0.999` and for `b2 = 0.99`, the value in the course's notes, with which the first step is
# right, since both numerator and denominator are 0.1.

# %%
step_number = np.arange(1, FACTOR_STEPS + 1)
factors = {b2: (1 - B1**step_number) / np.sqrt(1 - b2**step_number) for b2 in (0.999, 0.99)}
worth_comparing = np.abs(of_library) > 1e-4
measured = np.where(worth_comparing, uncorrected / of_library, np.nan)
np.testing.assert_allclose(np.nanmax(measured, axis=1), factors[B2], rtol=1e-3)
np.testing.assert_allclose(np.nanmin(measured, axis=1), factors[B2], rtol=1e-3)

print("\n    b2   first step   largest    at step   within 10 % of 1 from step   within 1 %")
largest, back = {}, {}
for b2, factor in factors.items():
    largest[b2] = (factor.max(), int(step_number[factor.argmax()]))
    back[b2] = [int(step_number[factor > 1 + share][-1]) + 1 for share in (0.1, 0.01)]
    print("{:6}   {:10.2f}   {:7.2f}   {:8}   {:26}   {:10}".format(b2, factor[0], *largest[b2], *back[b2]))
assert (round(largest[0.999][0], 2), largest[0.999][1]) == (6.57, 12)
assert abs(factors[0.99][0] - 1) < 1e-9

# %% [markdown]
# ## What it does to a training
#
# A network with 64 hidden units learns to read scikit-learn's digits, in mini-batches of 64, by `jl.adam` and by ours
# without correction: four learning rates, five orders of the data each. `sweep` trains all of them as one compiled
# program. Both begin with the same weights, so the loss of the first batch is the same; the second loss is the first
# that shows a difference.

# %%
images, labels = (np.asarray(array) for array in load_digits(return_X_y=True))
batches = jl.minibatches((images.astype(np.float32) / 16, labels), 64, remainder="wrap")
key1, key2 = jax.random.split(jax.random.key(0))
params = {
    "w1": jax.random.normal(key1, (64, 64)) * math.sqrt(2 / 64),
    "b1": jnp.zeros(64),
    "w2": jax.random.normal(key2, (64, 10)) * math.sqrt(1 / 64),
    "b2": jnp.zeros(10),
}


def loss_fn(params, batch):
    images, labels = batch
    hidden = jax.nn.relu(images @ params["w1"] + params["b1"])
    return jl.losses.softmax_cross_entropy_with_integer_labels(hidden @ params["w2"] + params["b2"], labels)


def losses(make_optimizer):
    """The loss at each step, an array of rates, seeds and steps."""

    def run(hp, key):
        step = jl.make_step(loss_fn, make_optimizer(hp["learning_rate"]))
        _, metrics = jl.make_scan(step, STEPS)(jl.init_state(params, step, key=key), batches)
        return metrics["loss"]

    return np.asarray(jl.sweep(run, {"learning_rate": RATES}, seeds=SEEDS).values)


trained = losses(lambda rate: jl.adam(rate, B1, B2))
trained_without = losses(lambda rate: adam_by_hand(rate, debias=False))

shown = [0, 1, 2, 5, 10, 20, 50]
print("\nloss, mean of the seeds                    at step" + "".join(f"{t + 1:8}" for t in shown) + "   last 50")
for index, rate in enumerate(RATES):
    for name, curves in (("Adam", trained), ("without correction", trained_without)):
        curve = curves[index].mean(0)
        row = "".join(f"{value:8.3f}" for value in curve[shown])
        print(f"learning rate {rate:<6}   {name:<18}         {row}   {curve[-50:].mean():7.3f}")

# %% [markdown]
# With the small rates, 0.001 and 0.01, the run without correction is *ahead*: its steps are longer, and longer steps
# are what these runs lack. With 0.03, a rate that suits Adam, its loss leaps in the first steps to more than it was at
# the start, and it is behind to the end. With 0.1 Adam leaps as well, and recovers; without correction the network is
# thrown so far off that after all these steps it does hardly better than guessing, which has a loss of
# `log(10) = 2.30`. So Adam without correction is not slow. It works with another learning rate than the one that was
# chosen, and the difference is largest in the first steps. To wait until they are over does not help: the harm is done
# by then.

# %%
by_rate = {rate: (trained[i].mean(0), trained_without[i].mean(0)) for i, rate in enumerate(RATES)}
np.testing.assert_allclose(trained[:, :, 0], trained_without[:, :, 0], rtol=1e-5)
for rate in (0.001, 0.01):
    assert by_rate[rate][1][20] < 0.6 * by_rate[rate][0][20], "with a small rate, longer steps are faster"
good, leaping = by_rate[0.03]
assert good.max() < 1.05 * good[0]
assert leaping[:5].max() > 1.4 * leaping[0], "with a larger one, it leaps"
assert leaping[-50:].mean() > 1.2 * good[-50:].mean(), "and is behind to the end"
recovered, lost = by_rate[0.1]
assert recovered[-50:].mean() < 0.5
assert lost[-50:].mean() > 1.8, "and with a still larger one it learns next to nothing"

# %% [markdown]
# ## The figure

# %%
figure, (course, factor_axes, loss_axes) = plt.subplots(1, 3, figsize=(15, 4.6))
first = slice(0, 120)
course.plot(day[first], temperature[first], ".", color="0.6", markersize=5, label="one day")
course.plot(day[first], corrected[0.98][first], "-", label="corrected")
course.plot(day[first], without[0.98][first], "--", label="without correction")
course.set(title="Averages with beta = 0.98 from day 1", xlabel="day", ylabel="temperature (°C)", ylim=(-2, 28))
course.legend(loc="upper left", ncols=3, columnspacing=1, handlelength=1.5)
for (b2, factor), style in zip(factors.items(), ("-", "--"), strict=True):
    factor_axes.plot(step_number, factor, style, label=f"b2 = {b2}")
factor_axes.axhline(1.0, color="0.5", linewidth=1)
factor_axes.set(
    title="Adam's step without correction", xlabel="step", ylabel="times the corrected step", xscale="log", ylim=(0, 7)
)
factor_axes.legend()
loss_axes.plot(np.arange(1, 61), good[:60], "-", label="Adam")
loss_axes.plot(np.arange(1, 61), leaping[:60], "--", label="without correction")
loss_axes.set(title="Digits, learning rate 0.03", xlabel="step", ylabel="loss of the batch", ylim=(0, None))
loss_axes.legend()
figure.savefig("lesson_03_bias_correction.png")
print("\nfigure: lesson_03_bias_correction.png")

# %% [markdown]
# ## What to try next
#
# - Hand `b2=0.99` to `adam_by_hand` where the networks are trained, the value in the course's notes. Its factor is 2.13
#   at most, and at the rate 0.03 nothing leaps (the assertion that it does will stop the lesson).
# - Give both of them `jl.warmup(30, rate, from_zero=False)` in the place of `rate`, a learning rate that grows from a
#   30th to the whole in 30 steps. What the missing correction does in the first steps is hidden by it: at 0.03 the run
#   without correction does not leap either, and ends ahead.
# - Train with `jl.ema_momentum(30 * rate, debias=...)`. With the largest rate it is the run *with* correction whose
#   loss leaps in the first steps. For momentum the start at zero is a warm-up.
# - [Lesson 4](lesson_04_momentum.py) is about what momentum does after its first steps.
