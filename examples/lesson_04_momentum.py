# %% [markdown]
# # Lesson 4: Momentum
#
# **The idea.** Do not step along the gradient `g`, but along an exponentially weighted average of the gradients:
# `v = beta * v + (1 - beta) * g`, and `w = w - rate * v`. Across a narrow valley the gradients point left and right in
# turn, and their average is near zero. Along the valley they agree, and the average keeps all of them.
#
# **You will see** the two paths of the course on the contours of a long bowl; how much of the gradient is left in the
# average, across and along; the largest rate each method can take; the number of steps to the bottom of longer and
# longer bowls.
#
# **It opens** [sgd and ema_momentum](../jaxopt_lessons/optimizers/sgd.py), made of
# [trace.py](../jaxopt_lessons/transforms/trace.py) and [ema.py](../jaxopt_lessons/transforms/ema.py), and
# [chebyshev.py](../jaxopt_lessons/schedules/chebyshev.py).

# %%
import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxopt_lessons as jl

plt.style.use("jaxopt_lessons.style")

# %% tags=["parameters"]
RATE, FAST_RATE, BETA = 0.0195, 0.1, 0.9
TARGET = 1e-6  # of the cost at the start
RATES = 200
CONDITIONS = (16, 64, 256, 1024, 4096)

# %% [markdown]
# ## The bowl
#
# `cost = (w^2 + 100 b^2) / 2`. The gradient is `(w, 100 b)`: the curvature is 1 along the horizontal axis `w`, and 100
# across, along the vertical axis `b`. The contours are ellipses ten times as long as they are wide. We want to be fast
# along, and not to swing across.
#
# ## By hand
#
# Three lines are the method. With `beta = 0` the average is the gradient itself, and this is gradient descent.

# %%
CURVATURES, START = np.array([1.0, 100.0]), np.array([-10.0, 1.0])
ALONG, ACROSS = 0, 1


def path_by_hand(rate, beta, steps):
    position, v, positions = START, np.zeros(2), []
    for _ in range(steps):
        positions.append(position)
        g = CURVATURES * position
        v = beta * v + (1 - beta) * g
        position = position - rate * v
    return np.array(positions)


# %% [markdown]
# ## The same in the library
#
# `jl.ema_momentum(rate, beta)` is the course's momentum. Most papers and programs write the heavy ball,
# `m = beta * m + g`, which is `jl.sgd(rate, momentum=beta)`: it leaves the factor `1 - beta` away, so `m` is
# `1 / (1 - beta)` times as large as `v`. The two are the same method, with rates that differ by the factor `1 - beta`.
# Of a learning rate one must know which of the two it is meant for. (`jl.ema_momentum(...)` is a value and can be an
# argument of a compiled function: another rate compiles nothing.)


# %%
@functools.partial(jax.jit, static_argnames="steps")
def path(tx, curvatures, start, steps):
    """The positions from the start on, one row a step."""

    def step(carry, _):
        position, state = carry
        updates, state = tx.update(curvatures * position, state, position)
        return (jl.apply_updates(position, updates), state), position

    start = jnp.asarray(start, jnp.float32)
    _, positions = jax.lax.scan(step, (start, tx.init(start)), None, steps)
    return positions


STEPS = 500
paths = {
    "gradient descent": path(jl.sgd(RATE), CURVATURES, START, STEPS),
    "momentum, same rate": path(jl.ema_momentum(RATE, BETA), CURVATURES, START, STEPS),
    f"momentum, rate {FAST_RATE}": path(jl.ema_momentum(FAST_RATE, BETA), CURVATURES, START, STEPS),
}
by_hand = [path_by_hand(RATE, 0.0, STEPS), path_by_hand(RATE, BETA, STEPS), path_by_hand(FAST_RATE, BETA, STEPS)]
for positions, expected in zip(paths.values(), by_hand, strict=True):
    np.testing.assert_allclose(positions, expected, atol=1e-4)

heavy_ball = path(jl.sgd((1 - BETA) * FAST_RATE, momentum=BETA), CURVATURES, START, STEPS)
difference = np.abs(heavy_ball - paths[f"momentum, rate {FAST_RATE}"]).max()
print(f"heavy ball with {1 - BETA:.1f} times the rate: the paths differ by {difference:.0e} at most")
assert difference < 1e-4, "the same method"

# %% [markdown]
# ## Two paths
#
# How many steps until the cost is a millionth of what it was, and how far did `b` travel on its way from 1 to 0?
# Gradient descent jumps to the other side at every step, and has come 39 units when it is there. Momentum with the same
# rate comes 5.6. Since it swings so little it can take a rate that is five times as large, with which gradient descent
# would fly out of the bowl.


# %%
def cost(positions, curvatures):
    return jnp.sum(curvatures * positions**2, axis=-1) / 2


def steps_to_target(positions, curvatures):
    """The steps after which the cost stays below the target; all of them if it does not."""
    costs = cost(positions, curvatures)
    is_far = ~(costs <= TARGET * costs[0])  # True for NaN, too.
    return jnp.max(jnp.where(is_far, jnp.arange(1, len(costs) + 1), 0))


steps = {name: int(steps_to_target(positions, CURVATURES)) for name, positions in paths.items()}
travelled = {name: float(jnp.abs(jnp.diff(positions[:, ACROSS])).sum()) for name, positions in paths.items()}
print("\n                       steps to the target   travelled across")
for name in paths:
    print(f"{name:22} {steps[name]:20}   {travelled[name]:16.1f}")
slow, damped, fast = steps.values()
assert fast < 0.5 * slow < damped < slow
assert np.allclose(list(travelled.values())[:2], [39.0, 5.6], atol=0.05), "it swings less"

# %% [markdown]
# ## Why the average helps
#
# Take the gradients along the path of gradient descent, and average them by `jl.ema`. Across they change sign at every
# step, and plus and minus cancel. If `g, -g, g, -g ...` went on for ever, the average would swing between plus and
# minus `(1 - beta) / (1 + beta)` of `g`: 1/19 for `beta = 0.9`. Along, all gradients point the same way and the average
# is as large as they are. It is even a little larger, because it remembers the larger gradients of the steps before.

# %%
gradients = CURVATURES * paths["gradient descent"]
tx = jl.ema(BETA, debias=False)


def average(state, gradient):
    v, state = tx.update(gradient, state)
    return state, v


_, averages = jax.lax.scan(average, tx.init(gradients[0]), gradients)
left = {}
print("\nroot mean square of steps 30 to 60   of the gradients   of the average   left")
for name, axis in {"along": ALONG, "across": ACROSS}.items():
    sizes = [float(jnp.sqrt(jnp.mean(values[30:60, axis] ** 2))) for values in (gradients, averages)]
    left[name] = sizes[1] / sizes[0]
    print(f"{name:34} {sizes[0]:17.2f} {sizes[1]:16.2f} {left[name]:7.3f}")
print(f"(1 - beta) / (1 + beta) = {(1 - BETA) / (1 + BETA):.3f}")
assert abs(left["across"] * (1 + BETA) / (1 - BETA) - 1) < 0.03
assert 1 < left["along"] < 1.25

# %% [markdown]
# ## Usually without bias correction
#
# The average begins at zero, so it is too small at first, by the factor `1 - beta^t` ([lesson
# 3](lesson_03_bias_correction.py)). Momentum leaves it so: after ten steps two thirds of it are there, after forty all
# of it, and training takes thousands. Here it is even good. The first step is a tenth of the rate, and the rate of
# momentum may be larger than gradient descent could take. With the correction, `debias=True`, the first step is one of
# gradient descent at this rate, and it throws us out of the valley.

# %%
print("\nhow much of the average is there after 1, 10, 20, 40 steps:", [round(1 - BETA**t, 2) for t in (1, 10, 20, 40)])
corrected = path(jl.ema_momentum(FAST_RATE, BETA, debias=True), CURVATURES, START, STEPS)
thrown, kept = (float(jnp.abs(p[:, ACROSS]).max()) for p in (corrected, paths[f"momentum, rate {FAST_RATE}"]))
steps_corrected = int(steps_to_target(corrected, CURVATURES))
print(f"largest distance across: {kept:.1f} without the correction, {thrown:.1f} with it, which begins at {START[1]}")
print(f"steps to the target: {fast} without, {steps_corrected} with it")
assert np.isclose(corrected[1, ACROSS], START[1] * (1 - FAST_RATE * 100)), "the first step is gradient descent's"
assert thrown > 50 * kept
assert fast < steps_corrected

# %% [markdown]
# ## The largest rate
#
# With curvature `h`, gradient descent multiplies the position by `1 - rate * h`. It stays in the bowl while that is
# above -1, so below the rate `2 / h`. We measure where the limits of all methods are: run 64 rates at once (`jl.grid`
# makes a stack of 64 optimizers, and `jax.vmap` runs them in one program), take the interval in which the paths begin
# to grow, cut it into 64 again, and so on, four times.
#
# With the average it is 19 times that of gradient descent, `38 / h`: at the limit the gradients swing for ever, and
# 1/19 of them is left in the average. The heavy ball's limit is a tenth of that, which is `2 (1 + beta) / h = 3.8 / h`.
# Nesterov's momentum looks one step ahead (`nesterov=True`). Its limit is smaller than that of gradient descent.


# %%
@jax.jit
def grows(lanes, h):
    def grows_one(tx):
        distance = jnp.abs(path(tx, h, 1.0, 401))
        return ~((distance[400] <= distance[200]) & jnp.isfinite(distance[400]))

    return jax.vmap(grows_one)(lanes)


def largest_rate(method, h):
    low, high = 0.0, 100 / h
    for _ in range(4):
        rates = np.linspace(low, high, 65)
        first = int(np.argmax(grows(jl.grid(method, learning_rate=rates[1:]).tx, h)))
        low, high = rates[first], rates[first + 1]
    return low


METHODS = {
    "gradient descent": (jl.sgd, 2.0),
    "heavy ball": (lambda learning_rate: jl.sgd(learning_rate, BETA), 2 * (1 + BETA)),
    "Nesterov": (lambda learning_rate: jl.sgd(learning_rate, BETA, nesterov=True), 2 * (1 + BETA) / (1 + 2 * BETA)),
    "average of gradients": (
        lambda learning_rate: jl.ema_momentum(learning_rate, BETA),
        2 * (1 + BETA) / (1 - BETA),
    ),
}
print("\n                       largest rate times h: measured   by formula")
limits = {}
for name, (method, formula) in METHODS.items():
    limits[name] = largest_rate(method, 100.0) * 100
    print(f"{name:22} {limits[name]:31.3f} {formula:12.3f}")
    assert abs(limits[name] / formula - 1) < 1e-4
assert round(limits["average of gradients"] / limits["gradient descent"], 3) == 19

# %% [markdown]
# ## The fastest rate
#
# Many rates, seven momenta, one program. For gradient descent the best rate is almost the largest, and a little more
# would be the end. The best momentum needs a seventh of the steps. Theory says which it is: with
# `r = (sqrt(100) - 1) / (sqrt(100) + 1)` the best momentum is `r^2 = 0.669` and the error shrinks by about `r` in each
# step. Momentum 0.9 is slower on this bowl, since nothing shrinks faster than `sqrt(beta)` each step, but it is easy to
# tune: it is nearly as fast with all rates of a wide range. The momenta are those of the heavy ball, `jl.sgd`.

# %%
rates = np.geomspace(5e-4, 0.06, RATES)
r = (np.sqrt(100) - 1) / (np.sqrt(100) + 1)
momenta = [0.0, 0.3, 0.5, r**2, 0.8, 0.9, 0.95]
lanes = jl.grid(jl.sgd, learning_rate=rates, momentum=momenta)
needed = jax.jit(jax.vmap(lambda tx: steps_to_target(path(tx, CURVATURES, START, 2000), CURVATURES)))(lanes.tx)
needed = np.asarray(needed).reshape(len(rates), len(momenta))
fewest, best_rates = needed.min(axis=0), rates[needed.argmin(axis=0)]
good = [rates[column <= 1.5 * column.min()] for column in needed.T]
print("\nmomentum   fewest steps   at the rate   rates that need at most 1.5 times as many")
for momentum, least, rate, near in zip(momenta, fewest, best_rates, good, strict=True):
    wide = f"{near[0]:.4f} to {near[-1]:.4f}, {near[-1] / near[0]:.1f} times as large"
    print(f"{momentum:8.3f} {least:14} {rate:13.4f}   {wide}")
width = [near[-1] / near[0] for near in good]
spacing = rates[1] / rates[0]
assert np.argmin(fewest) == 3, "the best momentum is that of the theory"
assert abs(np.log(best_rates[0] / (2 / 101))) < np.log(spacing), "gradient descent: 2 / (1 + 100)"
assert abs(np.log(best_rates[3] / (4 / 11**2))) < 1.5 * np.log(spacing), "heavy ball: (2 / (1 + sqrt(100)))^2"
assert fewest[0] > 6 * fewest[3]
assert width[5] > 8 * width[0], "momentum 0.9 is easy to tune"

# %% [markdown]
# ## Longer and longer bowls
#
# The ratio of the largest curvature to the smallest is the condition number, `kappa`. Here are bowls of 32 directions,
# with curvatures from 1 to `kappa` and the same cost in each direction at the start, and each method with the rate and
# the momentum that theory gives for it. Four times the `kappa` means four times the steps for gradient descent, and
# about twice the steps for momentum: `kappa` against `sqrt(kappa)`. On long bowls that is all the difference.
#
# There is another way to `sqrt(kappa)`, without momentum: gradient descent whose rate changes from step to step. If the
# number of steps is known in advance the best rates are known, too, and `jl.chebyshev_schedule` has them. We give it
# `4 sqrt(kappa)` steps.


# %%
def bowl(kappa):
    curvatures = kappa ** jnp.linspace(0.0, 1.0, 32)
    return curvatures, 1 / jnp.sqrt(curvatures)


def steps_on_bowls(stack, limit):
    """A lane for each bowl, and an optimizer of its own for each."""

    def one(tx, kappa):
        curvatures, start = bowl(kappa)
        return steps_to_target(path(tx, curvatures, start, limit), curvatures)

    return np.asarray(jax.jit(jax.vmap(one))(stack, kappas))


kappas = jnp.asarray(CONDITIONS, jnp.float32)
roots = jnp.sqrt(kappas)
r = (roots - 1) / (roots + 1)
many, few = 4 * max(CONDITIONS), 40 * int(roots.max())
chebyshev = jax.vmap(lambda kappa, n: jl.sgd(jl.chebyshev_schedule(1.0, kappa, steps=n)))
on_bowls = {
    "gradient descent": steps_on_bowls(jax.vmap(jl.sgd)(2 / (1 + kappas)), many),
    "heavy ball": steps_on_bowls(jax.vmap(jl.sgd)(4 / (1 + roots) ** 2, r**2), few),
    "Nesterov": steps_on_bowls(jax.vmap(lambda rate, beta: jl.sgd(rate, beta, nesterov=True))(1 / kappas, r), few),
    "Chebyshev rates": steps_on_bowls(chebyshev(kappas, 4 * roots.astype(int)), 4 * int(roots.max()) + 1),
}
slopes = {name: np.polyfit(np.log(CONDITIONS), np.log(needed), 1)[0] for name, needed in on_bowls.items()}
print("\nsteps to the target, kappa =", *(f"{kappa:7}" for kappa in CONDITIONS), "   grows like")
for name, needed in on_bowls.items():
    print(f"{name:28}", *(f"{n:7}" for n in needed), f"   kappa^{slopes[name]:.2f}")
assert abs(slopes["gradient descent"] - 1) < 0.03
assert all(0.45 < slopes[name] < 0.6 for name in ("heavy ball", "Nesterov", "Chebyshev rates"))
assert (on_bowls["Chebyshev rates"] <= 4 * np.sqrt(CONDITIONS)).all(), "it is there when it promised"

# %% [markdown]
# ## The order of the rates
#
# Most of these rates are larger than `2 / kappa`, and one of them is nearly 1. Each makes the error in some direction
# almost zero, and the error in the others larger. In exact arithmetic their order does not matter. In a computer it
# does: in the order of their size the error grows so far on the way that rounding errors decide the end. The schedule
# follows each long step by short ones that make up for it. Here is the bowl of `kappa = 64`, rotated, so that no
# direction has a coordinate of its own, and its 32 rates in three orders.

# %%
curvatures, start = bowl(jnp.float32(64.0))
axes = jnp.asarray(np.linalg.qr(np.random.default_rng(0).standard_normal((32, 32)))[0], jnp.float32)
matrix = (axes * curvatures) @ axes.T
schedule = jl.chebyshev_schedule(1.0, 64.0, steps=32)(jnp.arange(32))


@jax.jit
def costs_with(rates):
    def step(position, rate):
        position = position - rate * (matrix @ position)
        return position, position @ matrix @ position / 2

    return jax.lax.scan(step, axes @ start, rates)[1] / jnp.sum(curvatures * start**2 / 2)


orders = {"that of the schedule": schedule, "short steps first": jnp.sort(schedule)}
orders["long steps first"] = orders["short steps first"][::-1]
ends, peaks = {}, {}
print("\norder                    cost at the end   largest on the way   (1: at the start)")
for name, order in orders.items():
    costs = costs_with(order)
    ends[name], peaks[name] = float(costs[-1]), float(costs.max())
    print(f"{name:22} {ends[name]:17.1e} {peaks[name]:20.1e}")
print(f"rates from {schedule.min():.3f} to {schedule.max():.3f}; 2 / kappa = {2 / 64:.3f}")
assert np.isclose(float(schedule.sum()), float(orders["long steps first"].sum())), "the same rates"
assert ends["that of the schedule"] < TARGET
assert min(ends["short steps first"], ends["long steps first"]) > 1

# %% [markdown]
# ## The figure

# %%
figure, (valley, cancel, growth) = plt.subplots(1, 3, width_ratios=[1.5, 1, 1])
w, b = np.meshgrid(np.linspace(-10.5, 3, 200), np.linspace(-1.25, 1.25, 200))
valley.contour(w, b, (w**2 + 100 * b**2) / 2, levels=[0.5, 5, 20, 50], colors="0.75", linewidths=1)
for (name, positions), style in zip(paths.items(), (":", "-", "--"), strict=True):
    valley.plot(*positions[:40].T, style, marker="o", markersize=3, linewidth=1.5, label=name)
valley.plot(0, 0, "k*", markersize=12)
valley.set(title="The first 40 steps to the bottom (star)", xlabel="w (along)", ylabel="b (across)", ylim=(-1.25, 2.1))
valley.legend(loc="upper left")
cancel.plot(gradients[:40, ACROSS], ":", color="C0", label="gradient")
cancel.plot(averages[:40, ACROSS], "-", color="C1", label="average, beta = 0.9")
cancel.set(title="Across, they cancel", xlabel="step", ylabel="gradient along b", ylim=(-110, 150))
cancel.legend(loc="upper right")
for (name, needed), style in zip(on_bowls.items(), ("o:", "s-", "^--", "d-."), strict=True):
    growth.loglog(CONDITIONS, needed, style, label=name)
growth.set(title="Steps to the target", xlabel="condition number", ylabel="steps", ylim=(10, 2e6))
growth.set_xticks([10, 100, 1000])
growth.legend(loc="upper left")
figure.savefig("lesson_04_momentum.png")
print("\nfigure: lesson_04_momentum.png")

# %% [markdown]
# ## What to try next
#
# - Set `FAST_RATE = 0.37`, just below the limit of `38 / 100`: 154 steps, a fifth more than with 0.1. With 0.39 it
#   flies out of the bowl, and the lesson stops at an assertion.
# - Nobody knows `kappa` of a network, and most people take `beta = 0.9`. Replace the heavy ball of the longer bowls by
#   `jax.vmap(lambda kappa: jl.sgd(3.6 / kappa, 0.9))(kappas)`. It needs 133 or 134 steps up to `kappa = 1024`, then
#   547: 0.9 is the best momentum at `kappa = 1444`, and far above it the steps grow like `kappa` again.
# - Rotate the bowl with its start. For momentum nothing changes. For the method of
#   [lesson 5](lesson_05_rmsprop.py) it does, and there it is measured.
