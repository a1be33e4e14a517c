# %% [markdown]
# # Lesson 2: Exponentially weighted averages
#
# **The idea.** An average over the past that remembers one number. Each day, mix the average so far with what is new:
# `v = beta * v + (1 - beta) * theta`. The larger `beta`, the more days it covers, about `1 / (1 - beta)`; the smoother
# it is, and the later it notices a change. Momentum, RMSprop and Adam are made of it.
#
# **You will see** a year of daily temperatures in Seattle with averages over 2, 10 and 50 days; how much each day of
# the past weighs; noise and delay measured, one traded for the other.
#
# **It opens** [ema.py](../jaxopt_lessons/transforms/ema.py), the average as a part of optimizers, and
# [ema_momentum](../jaxopt_lessons/optimizers/sgd.py), which is made of it.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from vega_datasets import data

import jaxopt_lessons as jl

plt.style.use("jaxopt_lessons.style")

# %% tags=["parameters"]
DAYS = 731
BETAS = {0.5: "2 days", 0.9: "10 days", 0.98: "50 days"}

# %% [markdown]
# ## The data
#
# The highest temperature of each day in Seattle, in degrees Celsius, measured by NOAA. It ships with the package
# `vega_datasets`. We average the years 2012 and 2013, and look at the second one: by then the averages have forgotten
# where they began. (How they begin is lesson 3.)

# %%
weather = data.seattle_weather()[:DAYS]
dates, temperature = list(weather["date"]), np.array(weather["temp_max"])
print(f"{len(temperature)} days, from {dates[0]:%d %B %Y} to {dates[-1]:%d %B %Y}")
print(f"temperatures from {temperature.min()} to {temperature.max()} °C, {temperature.mean():.1f} °C in the mean")

# %% [markdown]
# ## By hand
#
# One line is the whole method. It needs one number of memory for each thing that is averaged, however many days it
# covers. A mean over the last 50 days would need 50.


# %%
def average(values, beta):
    v, averages = 0.0, []
    for theta in values:
        v = beta * v + (1 - beta) * theta
        averages.append(v)
    return np.array(averages)


by_hand = {beta: average(temperature, beta) for beta in BETAS}

# %% [markdown]
# ## The same in the library
#
# `ema` is this line as a gradient transformation: it replaces what comes in, usually gradients, by its average. Its
# state is the count of days and the average, `v`. `lax.scan` is the loop over days, compiled.


# %%
def average_by_library(values, beta):
    tx = jl.ema(beta, debias=False)

    def day(state, theta):
        v, state = tx.update(theta, state)
        return state, v

    state, averages = jax.lax.scan(day, tx.init(jnp.float32(0.0)), jnp.asarray(values, jnp.float32))
    return averages, state


for beta in BETAS:
    averages, state = average_by_library(temperature, beta)
    difference = np.abs(averages - by_hand[beta]).max()
    print(
        f"beta {beta}: loop and library differ by {difference:.1e} °C at most; all it remembers is {state.ema:.2f} °C"
    )
    assert difference < 1e-4, "the library and the loop do the same, but for rounding to float32"
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 2, "one number, and the count of days"

# %% [markdown]
# ## What a day weighs
#
# Write the line out, day by day, and the average is a sum over the past: what happened `k` days ago weighs
# `(1 - beta) * beta^k`. So an average of a single warm day, a one among zeros, shows the weights. With `beta = 0.9` the
# weight of a day has fallen to `0.9^10 = 0.35` of its first value after ten days, about `1/e`. Since
# `beta^(1 / (1 - beta))` is near `1/e` for every `beta` near 1, we say that it covers `1 / (1 - beta)` days.

# %%
one_warm_day = np.zeros(400)
one_warm_day[0] = 1.0
weights = {beta: np.asarray(average_by_library(one_warm_day, beta)[0]) for beta in BETAS}
print("\n  beta   1/(1-beta)   weight left after so many days   sum of the weights   mean age of what is in it")
for beta, weight in weights.items():
    window = round(1 / (1 - beta))
    left, age = weight[window] / weight[0], np.sum(np.arange(400) * weight)
    print(f"{beta:6}   {window:5} days   {left:30.3f}   {weight.sum():18.3f}   {age:20.1f} days")
    assert abs(left - beta**window) < 1e-5
    assert abs(age - beta / (1 - beta)) < 0.2, "the average is late by beta / (1 - beta) days"
assert round(float(weights[0.9][10] / weights[0.9][0]), 2) == 0.35
print(f"1/e = {np.exp(-1):.3f}")

# %% [markdown]
# ## Noise and delay
#
# A large `beta` gives a smooth curve: the noise of single days is averaged away. It pays with delay: the curve is
# shifted to the right, because most of what is in it is old. We measure both in the second year.
#
# - noise: how far the curve moves from one day to the next, as a root mean square.
# - delay: the shift in days at which the curve fits best, with the least squared distance, to a mean that is not
#   late: that of the 25 days before, the day itself and the 25 days after. It looks into the future, so it is no use
#   while you train, but it can be calculated afterwards. For `beta = 0.98` the best shift is less than the mean age of
#   49 days: the average also flattens the year, and a shift cannot undo that.

# %%
year = slice(366, DAYS - 25)
centred = np.convolve(temperature, np.ones(51) / 51, mode="same")


def noise(curve):
    return np.sqrt(np.mean(np.diff(curve[year]) ** 2))


def delay(curve, most=100):
    """The shift that brings the centred mean nearest to the curve."""
    distances = [np.mean((curve[year] - centred[year.start - days : year.stop - days]) ** 2) for days in range(most)]
    return int(np.argmin(distances))


print("\n               noise (°C a day)   delay (days)")
print(f"the days       {noise(temperature):16.2f}")
for beta, curve in by_hand.items():
    print(f"beta {beta:<10}{noise(curve):16.2f}   {delay(curve):12}")
roughness, lateness = [[measure(by_hand[beta]) for beta in sorted(BETAS)] for measure in (noise, delay)]
assert noise(temperature) > roughness[0] > 2 * roughness[1] > 4 * roughness[2], "smoother with a larger beta"
assert lateness[0] < lateness[1] < lateness[2], "and later"
assert lateness[2] > 20

# %% [markdown]
# ## The figure

# %%
figure, (course, memory) = plt.subplots(1, 2, width_ratios=[2, 1])
shown = np.arange(366, DAYS)
course.plot(shown - 366, temperature[shown], ".", color="0.6", markersize=5, label="one day")
for (beta, window), style in zip(BETAS.items(), (":", "-", "--"), strict=True):
    course.plot(shown - 366, by_hand[beta][shown], style, label=f"beta = {beta}, about {window}")
    memory.plot(weights[beta][:80], style, label=f"beta = {beta}")
course.set(
    title="Highest temperature of each day in Seattle, 2013", xlabel="day of the year", ylabel="temperature (°C)"
)
course.legend()
memory.axhline(weights[0.9][0] / np.e, color="0.5", linewidth=1)
after_ten = (10, weights[0.9][10])
memory.annotate("1/e of the first weight,\nafter 10 days", after_ten, (25, 0.1), arrowprops={"arrowstyle": "-"})
memory.set(title="What a day of the past weighs", xlabel="days ago", ylabel="weight", ylim=(0, 0.2))
memory.legend()
figure.savefig("lesson_02_averages.png")
print("\nfigure: lesson_02_averages.png")

# %% [markdown]
# ## What to try next
#
# - Set `DAYS = 1461`, all four years, and look for the `beta` with which the hottest week of each summer is just
#   visible.
# - Put a false reading, 100 °C, on one day. How large is the bump in each curve, and for how long can you see it?
# - The averages of the first days are far too low: they begin at zero. [Lesson 3](lesson_03_bias_correction.py) repairs
#   that with one division.
