# %% [markdown]
# # Lesson 5: RMSprop
#
# **The idea.** Divide each gradient by the root of the mean of its recent squares: `s = beta * s + (1 - beta) * g^2`,
# and `w = w - rate * g / sqrt(s)`. A direction with large gradients is divided by a large number and a direction with
# small ones by a small number, so that all of them move by about the rate.
#
# **You will see** the long bowl of the course become round; that it does so only while it lies along the axes; that
# the first step is 3.16 times the rate; how RMSprop rattles around the bottom; digits with pixels in two units.
#
# **It opens** [rmsprop.py](../jaxopt_lessons/optimizers/rmsprop.py) and
# [rms.py](../jaxopt_lessons/transforms/rms.py), where the rule is.

# %%
import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import jaxopt_lessons as jl

plt.style.use("jaxopt_lessons.style")

# %% tags=["parameters"]
RATE, BETA = 0.3, 0.9
TARGET = 0.1  # of the distance at the start
ANGLES, STARTS, RATES = 13, 12, 40
KAPPAS = (10, 100, 1000)
EPOCHS, SEEDS = 20, 3

# %% [markdown]
# ## By hand
#
# The bowl of [lesson 4](lesson_04_momentum.py), `(w^2 + 100 b^2) / 2`: long in the direction of `w`, where the gradient
# is small, and steep across, in the direction of `b`. We begin at `w = -8`, `b = 6`. The method is two lines. The tiny
# `eps` keeps it from dividing by zero; there will be more about it below.

# %%
CURVATURES, START = np.array([1.0, 100.0]), np.array([-8.0, 6.0])
ALONG, ACROSS = 0, 1


def path_by_hand(rate, beta, steps, eps=1e-8):
    position, s, positions = START, np.zeros(2), []
    for _ in range(steps):
        positions.append(position)
        g = CURVATURES * position
        s = beta * s + (1 - beta) * g**2
        position = position - rate * g / (np.sqrt(s) + eps)
    return np.array(positions)


# %% [markdown]
# ## The same in the library
#
# `jl.rmsprop(rate, decay=beta)`. The course writes `eps` outside the root, as PyTorch does: `eps_in_sqrt=False`. A bowl
# is a matrix here, since we will rotate it.


# %%
@functools.partial(jax.jit, static_argnames="steps")
def path(tx, matrix, start, steps):
    """The positions from the start on, one row a step."""

    def step(carry, _):
        position, state = carry
        updates, state = tx.update(matrix @ position, state, position)
        return (jl.apply_updates(position, updates), state), position

    start = jnp.asarray(start, jnp.float32)
    _, positions = jax.lax.scan(step, (start, tx.init(start)), None, steps)
    return positions


def bowl(kappa, degrees=0.0):
    """A bowl with the curvatures 1 and kappa, rotated; and the rotation."""
    cos, sin = jnp.cos(jnp.deg2rad(degrees)), jnp.sin(jnp.deg2rad(degrees))
    rotation = jnp.array([[cos, -sin], [sin, cos]])
    return (rotation * jnp.array([1.0, kappa])) @ rotation.T, rotation


STEPS = 300
matrix, _ = bowl(100.0)
descent = path(jl.sgd(0.0195), matrix, START, STEPS)
scaled = path(jl.rmsprop(RATE, BETA, eps_in_sqrt=False), matrix, START, STEPS)
difference = np.abs(scaled - path_by_hand(RATE, BETA, STEPS)).max()
print(f"loop and library differ by {difference:.0e} at most")
assert difference < 1e-4

# %% [markdown]
# ## The bowl becomes round
#
# Gradient descent steps in proportion to the gradient, which is 75 times as large across as along at the start: it
# jumps across, and crawls along. After the division the first step is equally long in both directions. Of the gradient
# only its sign is left, so RMSprop still goes downhill, at first at 45 degrees, and nearly straight to the bottom.


# %%
def steps_to_target(positions):
    """The steps after which the distance to the bottom stays below the target; all of them if it does not."""
    distance = jnp.linalg.norm(positions, axis=-1)
    is_far = ~(distance <= TARGET * distance[0])  # True for NaN, too.
    return jnp.max(jnp.where(is_far, jnp.arange(1, len(distance) + 1), 0))


print("\n                    first step: along   across   ratio   steps to the target")
ratios, steps = {}, {}
for name, positions in {"gradient descent": descent, "RMSprop": scaled}.items():
    along, across = np.abs(positions[1] - positions[0])
    ratios[name], steps[name] = across / along, int(steps_to_target(positions))
    print(f"{name:20} {along:17.3f} {across:8.3f} {ratios[name]:7.2f} {steps[name]:21}")
assert np.isclose(ratios["gradient descent"], 75, rtol=1e-3)
assert np.isclose(ratios["RMSprop"], 1, rtol=1e-5)
assert steps["RMSprop"] < 0.4 * steps["gradient descent"]

# %% [markdown]
# ## Only along the axes
#
# RMSprop divides each coordinate by itself. While the bowl lies along the axes one coordinate is the long direction and
# the other the steep one. Rotate the bowl by 45 degrees, and both coordinates see a mixture of the two, of the same
# size: dividing changes nothing that matters. Gradient descent and momentum do not know where the axes are.
#
# We measure it with the start rotated like the bowl: the mean steps from 12 starts around it, with the best of 40 rates
# for each method and each angle, in one program for a method: `vmap` over rates, over angles, over starts.

# %%
around = 2 * np.pi * (np.arange(STARTS) + 0.5) / STARTS
starts = 10 * jnp.stack([jnp.cos(around), jnp.sin(around)], axis=-1)


@functools.partial(jax.jit, static_argnames="limit")
def fewest_steps(lanes, kappa, angles, limit):
    def mean_steps(tx, degrees):
        matrix, rotation = bowl(kappa, degrees)
        return jnp.mean(jax.vmap(lambda start: steps_to_target(path(tx, matrix, rotation @ start, limit)))(starts))

    at_angles = jax.vmap(mean_steps, in_axes=(None, 0))
    return jnp.min(jax.vmap(at_angles, in_axes=(0, None))(lanes, angles), axis=0)


def lanes_for(kappa):
    rates = np.geomspace(0.05, 4.0, RATES) / kappa
    return {
        "gradient descent": jl.grid(jl.sgd, learning_rate=rates).tx,
        "momentum": jl.grid(jl.sgd, learning_rate=rates, momentum=0.9).tx,
        "RMSprop": jl.grid(jl.rmsprop, learning_rate=np.geomspace(0.01, 3.0, RATES), decay=BETA).tx,
    }


angles = np.linspace(0.0, 90.0, ANGLES)
turned = {name: np.asarray(fewest_steps(lanes, 100.0, angles, 250)) for name, lanes in lanes_for(100.0).items()}
middle = ANGLES // 2
print("\nsteps to the target, rotated by      0     15     45     75     90 degrees")
for name, needed in turned.items():
    print(f"{name:33}", *(f"{np.interp(a, angles, needed):6.0f}" for a in (0, 15, 45, 75, 90)))
assert angles[middle] == 45
for name in ("gradient descent", "momentum"):
    assert np.ptp(turned[name]) <= 1, "the same at all angles"
assert turned["RMSprop"][[0, -1]].max() < 0.3 * turned["gradient descent"][0]
assert turned["RMSprop"][middle] > 0.95 * turned["gradient descent"][middle], "no better than gradient descent"

# %% [markdown]
# A longer bowl along the axes is no harder for RMSprop: the size of a coordinate's gradient does not matter. Rotated,
# long ones are as hard as for gradient descent: from a `kappa` of 100 to 1000 it takes ten times the steps. For
# momentum it is the same either way.
#
# A network is somewhere in between. That the gradients of its layers and features differ in size lies along the axes,
# and RMSprop takes it away. Other valleys of its cost run across the axes.

# %%
longer = np.array(
    [
        [fewest_steps(lanes, float(kappa), jnp.array([0.0, 45.0]), 2000) for lanes in lanes_for(float(kappa)).values()]
        for kappa in KAPPAS
    ]
)
print("\nsteps to the target, kappa =", *(f"{kappa:7}" for kappa in KAPPAS))
for column, degrees in enumerate((0, 45)):
    for name, needed in zip(turned, longer[:, :, column].T, strict=True):
        print(f"{name:17} {degrees:2} degrees", *(f"{n:7.0f}" for n in needed))
aligned, diagonal = longer[:, 2, :].T
assert np.ptp(aligned) < 0.5, "along the axes the same for every kappa"
assert (diagonal[1:] > 0.95 * longer[1:, 0, 1]).all(), "and along the diagonal no better than gradient descent"

# %% [markdown]
# ## The first step
#
# The average of squares begins at zero, so at the first step it is `(1 - beta) g^2`, and the step is the rate divided
# by `sqrt(1 - beta)`: 3.16 times the rate for `beta = 0.9`, 10 times for 0.99, whatever the gradient is. People stumble
# over it; it is so here and, with their usual settings, in optax and in PyTorch. There are two ways out.
# `bias_correction=True` divides by `1 - beta^t`, as in [lesson 3](lesson_03_bias_correction.py) and as Adam does.
# `initial_scale=1.0` lets the average begin at one, as TensorFlow's did: the first steps are small where gradients are
# smaller than one.


# %%
def first_step(tx, gradient):
    """In units of the rate: the rate is 1."""
    gradient = jnp.float32(gradient)
    updates, _ = tx.update(gradient, tx.init(gradient))
    return -float(updates)


print("\nfirst step, in units of the rate             gradient 0.1   gradient 10")
variants = {
    "rmsprop(1.0, 0.9)": jl.rmsprop(1.0, 0.9),
    "rmsprop(1.0, 0.99)": jl.rmsprop(1.0, 0.99),
    "rmsprop(1.0, 0.99, bias_correction=True)": jl.rmsprop(1.0, 0.99, bias_correction=True),
    "rmsprop(1.0, 0.99, initial_scale=1.0)": jl.rmsprop(1.0, 0.99, initial_scale=1.0),
}
first = {name: [first_step(tx, g) for g in (0.1, 10.0)] for name, tx in variants.items()}
for name, (small, large) in first.items():
    print(f"{name:44} {small:12.2f} {large:13.2f}")
expected = [[10**0.5] * 2, [10, 10], [1, 1], [0.1 / np.sqrt(0.99 + 0.01 * 0.01), 10 / np.sqrt(0.99 + 0.01 * 100)]]
np.testing.assert_allclose(list(first.values()), expected, rtol=1e-4)

# %% [markdown]
# ## Any unit, and what eps is for
#
# Gradients a thousand times as large give the same path: a rate of RMSprop is the length of a step, whatever the units
# of the cost. It ends where the squares are as small as `eps`. Inside the root, as in optax and by default here,
# `eps = 1e-8` is `sqrt(eps) = 1e-4` for the root: gradients below that move less, and 1e-6 hardly moves. Outside the
# root 1e-8 is 1e-8.

# %%
exact = path(jl.rmsprop(RATE, BETA, eps=0.0), matrix, START, STEPS)
thousand = path(jl.chain(jl.scale(1000.0), jl.rmsprop(RATE, BETA, eps=0.0)), matrix, START, STEPS)
difference = float(jnp.abs(thousand - exact).max())
print(f"\ngradients times 1000: the paths differ by {difference:.0e} at most")
assert difference < 1e-4

print("first step, in units of the rate, for gradients of   1e-02   1e-04   1e-06")
floors = {}
for inside in (True, False):
    floors[inside] = [first_step(jl.rmsprop(1.0, BETA, eps_in_sqrt=inside), g) for g in (1e-2, 1e-4, 1e-6)]
    print(f"eps_in_sqrt={inside!s:38}", *(f"{step:7.2f}" for step in floors[inside]))
np.testing.assert_allclose(floors[True], [3.162, 0.953, 0.01], rtol=2e-3)
np.testing.assert_allclose(floors[False], [3.162, 3.161, 3.065], rtol=1e-3)

# %% [markdown]
# ## It rattles
#
# Near the bottom the gradient becomes small, its root mean square, too, and the quotient stays about one: RMSprop goes
# on with steps of the rate. At the end it jumps, with `beta = 0.9`, from one side to the other by exactly the rate,
# half of it on either side, in both directions of the bowl alike. A smaller rate rattles less and takes longer to come.
# A rate that decays does both ([lesson 7](lesson_07_learning_rate_decay.py)).

# %%
print("\n                               distance of w and b from the bottom at the end, in units of the rate")
for rate in (0.03, 0.1, 0.3):
    rattle = jnp.abs(path(jl.rmsprop(rate, BETA), matrix, START, 2000)[-100:]) / rate
    print(f"rate {rate:<24}", f"{rattle[:, ALONG].mean():.3f} and {rattle[:, ACROSS].mean():.3f}")
    np.testing.assert_allclose(rattle, 0.5, rtol=1e-3)
decaying = path(jl.rmsprop(jl.linear_to_zero(RATE, STEPS), BETA), matrix, START, STEPS + 1)[-1] / RATE
print(f"rate from {RATE} to 0 in {STEPS} steps  {abs(decaying[ALONG]):.0e} and {abs(decaying[ACROSS]):.0e}")
assert float(jnp.abs(decaying).max()) < 1e-4

# %% [markdown]
# ## Digits in two units
#
# The images of digits of scikit-learn, 8 by 8 pixels, and a network with one layer of 32 hidden units. The fourth row
# of pixels comes in a unit that is a hundred times smaller, so its numbers are a hundred times as large. The first
# weights of these pixels are divided by a hundred: the network is the same function at the start, and only the
# optimizer sees a difference. The gradients of these weights are a hundred times as large, and a step in them does a
# hundred times as much. For gradient descent that is a factor of 10,000, and its best rate becomes so small that the
# weights of the other rows hardly move. RMSprop divides one of the two hundreds away. The other one remains: it is far
# better, and not blind to units.
#
# `jl.sweep` runs a whole training for each rate, each unit and each of three seeds, in one program. We take the rate
# with the smallest training loss.

# %%
images, labels = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(images))
x, y = jnp.asarray(images[order] / 16, jnp.float32), jnp.asarray(labels[order])
in_other_unit = jnp.arange(64) // 8 == 3
batches = jl.minibatches((x[:1400], y[:1400]), batch_size=50)


def trainer(method):
    def run(hp, key):
        units = jnp.where(in_other_unit, hp["unit"], 1.0)

        def logits(params, x):
            return jax.nn.relu((x * units) @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]

        def loss_fn(params, batch):
            x, y = batch
            return jl.losses.softmax_cross_entropy_with_integer_labels(logits(params, x), y)

        k1, k2 = jax.random.split(key)
        w1 = jax.random.normal(k1, (64, 32)) / 8 / units[:, None]
        w2 = jax.random.normal(k2, (32, 10)) / np.sqrt(32)
        params = {"w1": w1, "b1": jnp.zeros(32), "w2": w2, "b2": jnp.zeros(10)}
        step = jl.make_step(loss_fn, method(hp["learning_rate"]))
        state, metrics = jl.make_scan(step, EPOCHS * batches.per_epoch)(jl.init_state(params, step, key=key), batches)
        right = jnp.argmax(logits(state.params, x[1400:]), axis=-1) == y[1400:]
        return {"loss": jnp.mean(metrics["loss"][-batches.per_epoch :]), "accuracy": jnp.mean(right)}

    return run


digit_rates = np.logspace(-4, 0.5, 10)
print(f"\nmean of {SEEDS} seeds     pixels           best rate   training loss, last epoch   test accuracy")
losses, accuracies = {}, {}
for name, method in {"gradient descent": jl.sgd, "RMSprop": jl.rmsprop}.items():
    result = jl.sweep(trainer(method), {"unit": [1.0, 100.0], "learning_rate": digit_rates}, seeds=SEEDS)
    loss, accuracy = (np.reshape(result.values[of].mean(axis=1), (2, -1)) for of in ("loss", "accuracy"))
    best = np.argmin(np.nan_to_num(loss, nan=np.inf), axis=1)
    losses[name], accuracies[name] = loss[[0, 1], best], accuracy[[0, 1], best]
    for row, pixels in enumerate(("in one unit", "a row times 100")):
        rate, percent = digit_rates[best[row]], 100 * accuracies[name][row]
        print(f"{name:19} {pixels:15} {rate:10.4f} {losses[name][row]:27.4f} {percent:13.1f} %")
assert losses["gradient descent"][1] > 3 * losses["RMSprop"][1]
assert accuracies["gradient descent"][1] < 0.7 < 0.85 < accuracies["RMSprop"][1]
assert losses["RMSprop"][1] > 2 * losses["RMSprop"][0], "far better, and not blind to units"

# %% [markdown]
# ## The figure

# %%
figure, (straight, diagonally, rotation_axes) = plt.subplots(1, 3, width_ratios=[1, 1, 1.2])
grid = np.stack(np.meshgrid(np.linspace(-11, 11, 200), np.linspace(-11, 11, 200)), axis=-1)
for axes, degrees in ((straight, 0.0), (diagonally, 45.0)):
    turned_matrix, rotation = bowl(100.0, degrees)
    heights = np.einsum("xyi,ij,xyj->xy", grid, turned_matrix, grid) / 2
    axes.contour(grid[..., 0], grid[..., 1], heights, levels=[2, 20, 80, 250, 600], colors="0.75", linewidths=1)
    for name, tx, style in (("gradient descent", jl.sgd(0.0195), ":"), ("RMSprop", jl.rmsprop(RATE, BETA), "-")):
        positions = path(tx, turned_matrix, rotation @ START, STEPS)[:25]
        axes.plot(*positions.T, style, marker="o", markersize=4, linewidth=1.5, label=name)
    axes.plot(0, 0, "k*", markersize=12)
    axes.set(aspect="equal", xlim=(-11, 11), ylim=(-11, 11), xlabel="w", ylabel="b")
straight.set(title="24 steps, bowl along the axes")
straight.legend(loc="upper right")
diagonally.set(title="rotated by 45 degrees")
for (name, needed), style in zip(turned.items(), ("o:", "s--", "^-"), strict=True):
    rotation_axes.plot(angles, needed, style, label=name)
rotation_axes.set(title="Steps to a tenth of the distance", xlabel="rotation (degrees)", ylabel="steps", ylim=(0, 150))
rotation_axes.set_xticks([0, 15, 30, 45, 60, 75, 90])
rotation_axes.legend(loc="upper right")
figure.savefig("lesson_05_rmsprop.png")
print("\nfigure: lesson_05_rmsprop.png")

# %% [markdown]
# ## What to try next
#
# - Set `RATE = 0.2`: 38 steps along the axes in the place of 24. With 0.5 it swings around the bottom before it
#   rattles, needs 94, and the lesson stops at an assertion.
# - Put `jl.grid(jl.adam, learning_rate=np.geomspace(0.01, 3.0, RATES)).tx` in the place of RMSprop among the rotations.
#   Adam is RMSprop with momentum, and the subject of [lesson 6](lesson_06_adam.py): 32 steps along the axes, 62 at 45
#   degrees.
# - Multiply the first row of pixels in the place of the fourth, `jnp.arange(64) // 8 == 0`. It says less about a digit:
#   43.8 % for gradient descent, 91.5 % for RMSprop.
