# %% [markdown]
# # Lesson 8: Saddle points and plateaus
#
# **The idea.** Where the gradient is zero, each direction curves up or down. A local minimum needs all of them to curve
# up, and the more directions there are, the less likely that is: nearly all such points are saddles. A saddle holds
# only an optimizer that begins exactly on it, but it makes the others slow: around it lies a plateau, where the
# gradient is small for a long time.
#
# **You will see** how rare minima are among random points with gradient zero; that the lower a point lies, the fewer
# directions lead down from it; how many steps each optimizer needs to leave a plateau, calculated and counted; and the
# saddle beside which a network with small weights begins.
#
# **It opens** [curvature.py](../jaxopt_lessons/inspect/curvature.py), the eigenvalues of the Hessian, and
# [noisy_sgd.py](../jaxopt_lessons/optimizers/noisy_sgd.py), gradient descent with noise.

# %%
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import jaxopt_lessons as jl

plt.style.use("jaxopt_lessons.style")

# %% tags=["parameters"]
MATRICES = 50_000
VARIABLES = 6
SEARCHES = 1500
H = 0.01
SEEDS = 256
DIGITS = 600
TRAINED = (0, 10, 30, 100, 1000)

# %% [markdown]
# ## Three points with gradient zero
#
# The second derivatives of a function of `n` variables form a symmetric matrix, the Hessian. Its eigenvectors are `n`
# directions at right angles, and its eigenvalues say how the function curves along each: up where they are positive,
# down where they are negative. A bowl curves up in all directions, a hilltop down. `x^2 - y^2` curves up along `x` and
# down along `y`, like the saddle on the back of a horse. All three have gradient zero at the origin.
#
# By hand: JAX differentiates twice, NumPy finds the eigenvalues. `jl.inspect.curvature` does the same for a loss
# function and a tree of parameters, and does not need the whole matrix for it.

# %%
shapes = {
    "bowl": lambda p, _: p[0] ** 2 + p[1] ** 2,
    "saddle": lambda p, _: p[0] ** 2 - p[1] ** 2,
    "hilltop": lambda p, _: -(p[0] ** 2) - p[1] ** 2,
}
origin = jnp.zeros(2)
by_hand = {}
for name, shape in shapes.items():
    assert np.all(jax.jit(jax.grad(shape))(origin, None) == 0)
    by_hand[name] = np.linalg.eigvalsh(jax.jit(jax.hessian(shape))(origin, None))
    print(f"{name:8} eigenvalues {by_hand[name]}")
found = jl.inspect.curvature(shapes["saddle"], origin)
print(f"by the library: {found}")
np.testing.assert_allclose(found.eigenvalues, by_hand["saddle"], atol=1e-6)
assert found.negative_share == 0.5

# %% [markdown]
# ## How likely is a minimum
#
# The course argues: where the gradient is zero, each direction may curve up or down. If that were `n` coins, all would
# show up with probability `2^-n`. With the thousands of parameters of a network that never happens.
#
# The directions are not coins, so we throw whole matrices: symmetric, with normal random numbers in them. How often are
# all eigenvalues positive? For ten directions far too rarely to wait for it, so we let the matrices grow. One that
# curves up in `n` directions does so in the first `n - 1`, too. From many matrices keep those that have no negative
# eigenvalue, copy them at random until there are as many as before, and add a row and a column to each. The probability
# is the product of the shares that were kept.

# %%
rng = np.random.default_rng(0)


def with_one_more(matrices):
    """Random symmetric matrices with one row and column more: variance 1 beside the diagonal, 2 on it."""
    number, n, _ = matrices.shape
    grown = np.empty((number, n + 1, n + 1))
    grown[:, :n, :n] = matrices
    grown[:, n, :] = grown[:, :, n] = rng.normal(size=(number, n + 1))
    grown[:, n, n] *= np.sqrt(2)
    return grown


kept, minimum = [], {}
matrices = np.empty((MATRICES, 0, 0))
print("\ndirections   2^-n       all curve up   share kept by the last direction")
for n in range(1, 11):
    matrices = with_one_more(matrices)
    (curve_up,) = np.nonzero(np.linalg.eigvalsh(matrices)[:, 0] > 0)
    matrices = matrices[rng.choice(curve_up, MATRICES)]
    kept.append(len(curve_up) / MATRICES)
    minimum[n] = np.prod(kept)
    print(f"{n:10}   {2.0**-n:.1e}   {minimum[n]:12.1e}   {kept[-1]:12.4f}")

exact = {1: 1 / 2, 2: (2 - np.sqrt(2)) / 4, 3: (np.pi - 2 * np.sqrt(2)) / (4 * np.pi)}
for n, probability in exact.items():
    assert abs(minimum[n] / probability - 1) < 0.03, "these three are known exactly"
ratio = (kept[9] / kept[0]) ** (1 / 9)
print(f"from one direction to the next the share falls by the factor {ratio:.3f}; 3^(-1/2) = {3**-0.5:.3f}")
assert abs(ratio - 3**-0.5) < 0.02

# %% [markdown]
# Minima are far rarer than with coins: eigenvalues of a random matrix repel each other, and it is hard to press all of
# them to one side of zero. For coins the share kept is a half each time. Here it falls each time, by a factor near
# `3^(-1/2)`, so the probability falls like `3^(-n^2 / 4)`, which is what Dean and Majumdar calculated in 2006.

# %% [markdown]
# ## Minima are only among the low ones
#
# Are there no minima at all, then? A Hessian is more than a random matrix: it depends on how high the point lies. Take
# a sum of cosines with random frequencies and phases. The second derivative of a cosine is minus the cosine, times the
# square of its frequency. Where the sum is high, it curves down, where it is low, it curves up: with frequencies of
# variance 1 and sums of variance 1, on average by minus its height. What comes on top of the average is a random matrix
# like those above. So the eigenvalues at a height should be those of a random matrix, all of them shifted by it.
#
# We check this at the points where the gradient is zero. Newton's method finds them, whatever their kind: it goes where
# the gradient would be zero if the Hessian stayed the same. Its steps are no longer than a half, and we keep the points
# where the gradient is below 1e-4.

# %%
COSINES = 300
frequencies = rng.normal(size=(COSINES, VARIABLES)).astype(np.float32)
phases = rng.uniform(0, 2 * np.pi, COSINES).astype(np.float32)


def landscape(p, _=None):
    return jnp.sqrt(2 / COSINES) * jnp.sum(jnp.cos(frequencies @ p + phases))


def newton(start):
    def step(p, _):
        way = jnp.linalg.solve(jax.hessian(landscape)(p), jax.grad(landscape)(p))
        return p - way * jnp.minimum(1, 0.5 / jnp.linalg.norm(way)), None

    return jax.lax.scan(step, start, length=50)[0]


@jax.jit
@jax.vmap
def search(start):
    p = newton(start)
    return p, landscape(p), jnp.linalg.norm(jax.grad(landscape)(p)), jax.hessian(landscape)(p)


starts = rng.normal(scale=3, size=(SEARCHES, VARIABLES)).astype(np.float32)
points, heights, slopes, hessians = (np.asarray(x) for x in search(starts))
flat = slopes < 1e-4
points, heights, eigenvalues = points[flat], heights[flat], np.linalg.eigvalsh(hessians[flat])
downward = np.sum(eigenvalues < 0, axis=1)
print(f"\n{np.sum(flat)} of {SEARCHES} searches found a point with gradient zero\n")
print("directions down   points   mean height")
mean_heights = []
for index in range(VARIABLES + 1):
    mean_heights.append(np.mean(heights[downward == index]))
    print(f"{index:15}   {np.sum(downward == index):6}   {mean_heights[-1]:11.2f}")
correlation = np.corrcoef(heights, downward)[0, 1]
print(f"correlation of the height and the number of directions down: {correlation:.2f}")
assert correlation > 0.85
assert np.all(np.diff(mean_heights) > 0.5), "with each direction down, higher"
highest_minimum = np.max(heights[downward == 0])
print(f"the highest minimum lies at {highest_minimum:.2f}")
assert highest_minimum < -1
lowest = np.argmin(heights)
found = jl.inspect.curvature(landscape, points[lowest])
np.testing.assert_allclose(found.eigenvalues, eigenvalues[lowest], atol=1e-4)

# %% [markdown]
# So there are minima, but none among the high points: a descent that gets stuck in one is low already. What was
# predicted, that a share of the eigenvalues of random matrices lies below the height, fits with nothing adjusted.

# %%
random_eigenvalues = functools.reduce(lambda grown, _: with_one_more(grown), range(VARIABLES), np.empty((20_000, 0, 0)))
random_eigenvalues = np.linalg.eigvalsh(random_eigenvalues)
levels, width = np.arange(-2.5, 2.6, 0.5), 0.5
binned = [np.abs(heights - level) < width / 2 for level in levels]
measured = np.array([np.mean(eigenvalues[inside] < 0) for inside in binned])
predicted = np.array([np.mean(random_eigenvalues < level) for level in levels])
print("\nheight   points   negative eigenvalues   predicted")
for level, inside, share, prediction in zip(levels, binned, measured, predicted, strict=True):
    print(f"{level:6}   {np.sum(inside):6}   {share:20.2f}   {prediction:9.2f}")
assert np.max(np.abs(measured - predicted)) < 0.06

# %% [markdown]
# ## A plateau
#
# Beside a saddle the gradient is small, and where its curvature is small, too, there is a plateau. We take the valley
# `f = x^2 / 2 + h (y^4 / 4 - y^2 / 2)` with `h = 0.01`: steep across, flat along. At the origin is a saddle that curves
# down along `y` by only `h`; the minima are at `y = 1` and `y = -1`. We start at `y = 0.0001`, where the slope along
# `y` is a millionth.
#
# As long as `y` is small, its gradient is `-h y`, and what each method does can be calculated:
#
# - gradient descent multiplies `y` by `1 + a h` at each step, with the rate `a`: from 0.0001 to 0.1 it takes
#   `ln(1000) / ln(1 + a h)` steps;
# - momentum, `v = beta v + (1 - beta) g`, gives `y_next = (1 + beta + (1 - beta) a h) y - beta y_before`. It multiplies
#   `y` by the larger root of `r^2 - (1 + beta + (1 - beta) a h) r + beta = 0`;
# - RMSprop and Adam divide the gradient by its own size, so their steps have about the size of the rate, however small
#   the gradient is, and it takes them about `0.1 / a` steps to 0.1. (RMSprop is faster: its average begins at zero and
#   is not corrected, as in lesson 3, so that its first step is `a / sqrt(1 - 0.9)`.)
#
# Each method gets its own best rate: the one of 19 that reaches a minimum soonest, in the mean over 16 starts that are
# not on the plateau, with `y` from 0.5 to 2. To reach it means that `f` is above it by less than a hundredth of the
# height of the saddle, and stays there.

# %%
BETA, STEPS = 0.9, 2000


def valley(p):
    return p[0] ** 2 / 2 + H * (p[1] ** 4 / 4 - p[1] ** 2 / 2)


def descend(tx, start):
    """All the points on the way, the start first."""

    def step(carry, _):
        p, state = carry
        updates, state = tx.update(jax.grad(valley)(p), state, p)
        p = jl.apply_updates(p, updates)
        return (p, state), p

    _, path = jax.lax.scan(step, (start, tx.init(start)), length=STEPS)
    return jnp.concatenate([start[None], path])


def arrival(runs):
    """The first step after which a run stays near the minimum, which lies at -H / 4."""
    near = valley(jnp.moveaxis(runs, -1, 0)) + H / 4 < 0.01 * H / 4  # False for NaN, too
    return jnp.max(jnp.where(near, 0, jnp.arange(1, STEPS + 2)), axis=-1)


methods = {
    "gradient descent": jl.sgd,
    "momentum": functools.partial(jl.ema_momentum, beta=BETA),
    "RMSprop": functools.partial(jl.rmsprop, eps_in_sqrt=False),
    "Adam": jl.adam,
}
rates = np.logspace(-3, 1.5, 19)
starts = np.array([(0.2, y) for y in (*np.linspace(0.5, 2, 16), 1e-4)], np.float32)  # the last one on the plateau
tuned, paths = {}, {}
for name, method in methods.items():
    candidates = jl.grid(method, learning_rate=rates)
    runs = jax.jit(jax.vmap(jax.vmap(descend, (None, 0)), (0, None)))(candidates.tx, starts)
    best = int(jnp.argmin(jnp.mean(arrival(runs[:, :-1]), axis=1)))
    tuned[name] = float(rates[best])
    paths[name] = np.asarray(runs[best, -1])

# %% [markdown]
# Now from the plateau, by the library, beside what was calculated.

# %%
growth = 1 + tuned["gradient descent"] * H
inertia = 1 + BETA + (1 - BETA) * tuned["momentum"] * H
larger, smaller = np.roots([1, -inertia, BETA])
first = 1 + (1 - BETA) * tuned["momentum"] * H  # y after the first step, in units of the start
part = (first - smaller) / (larger - smaller)  # of the start that grows; the rest dies out
calculated = {
    "gradient descent": np.log(1000) / np.log(growth),
    "momentum": np.log(1000 / part) / np.log(larger),
    "RMSprop": 0.1 / tuned["RMSprop"],
    "Adam": 0.1 / tuned["Adam"],
}


def steps_to(y, path):
    return int(np.argmax(np.abs(path[:, 1]) >= y))


left = {name: steps_to(0.1, path) for name, path in paths.items()}
print("\n                    best rate   steps to y = 0.1   calculated   to y = 0.5")
for name, path in paths.items():
    print(f"{name:19} {tuned[name]:9.3f}   {left[name]:16}   {calculated[name]:10.1f}   {steps_to(0.5, path):10}")
for name in ("gradient descent", "momentum"):
    assert 0 <= left[name] - calculated[name] < 1.5
for name in ("RMSprop", "Adam"):
    assert 0.3 < left[name] / calculated[name] < 1.5
y = paths["gradient descent"][:, 1]
assert abs(y[200] / y[199] / growth - 1) < 1e-4
y = paths["momentum"][:, 1]
assert abs(y[200] / y[199] / larger - 1) < 1e-4
y = paths["Adam"][: left["Adam"] + 1, 1]
print(f"Adam's steps along y, in units of its rate: {np.round(np.diff(y) / tuned['Adam'], 2)}")
assert np.all(np.abs(np.diff(y) / tuned["Adam"] - 0.9) < 0.2), "while the gradient grew a thousandfold"
y = paths["RMSprop"][:, 1]
assert abs((y[1] - y[0]) / tuned["RMSprop"] - 0.1**-0.5) < 0.15

# %% [markdown]
# ## Exactly on the saddle
#
# With `y = 0` the gradient along `y` is exactly zero: gradient descent slides to the saddle and stays there for ever.
# Noise of size `sigma` on the gradients pushes it off, and from then on `y` grows as above. After many steps it is the
# sum of all the pushes, each of them grown since, a normal random number of deviation `sigma * a / sqrt(growth^2 - 1)`,
# times `growth^t`. So noise ten times smaller costs only `ln(10) / ln(growth)` steps more. The mean of the logarithm of
# a normal random number of variance 1 is -0.635, and with it we know the mean number of steps to `y = 0.1`.
#
# `jl.noisy_sgd` adds normal noise of variance `eta / t^gamma`; with `gamma = 0` it does not fade. One program runs all
# noise levels and all seeds.

# %%
rate = tuned["gradient descent"]
still = descend(jl.sgd(rate), jnp.array([0.2, 0.0]))
assert np.all(np.asarray(still)[:, 1] == 0)
print(f"\nwithout noise: after {STEPS} steps x = {still[-1, 0]:.1e}, y = {still[-1, 1]}")


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, None))
@functools.partial(jax.vmap, in_axes=(None, 0))
def steps_with_noise(sigma, key):
    path = descend(jl.noisy_sgd(rate, eta=sigma**2, gamma=0.0, key=key), jnp.array([0.2, 0.0]))
    return jnp.argmax(jnp.abs(path[:, 1]) >= 0.1)


sigmas = np.array([1e-7, 1e-6, 1e-5, 1e-4, 1e-3], np.float32)
noisy_steps = np.mean(steps_with_noise(sigmas, jax.random.split(jax.random.key(1), SEEDS)), axis=1)
expected = (np.log(0.1 * np.sqrt(growth**2 - 1) / (rate * sigmas)) + 0.635) / np.log(growth)
print("noise     mean steps to y = 0.1   calculated")
for sigma, counted, steps in zip(sigmas, noisy_steps, expected, strict=True):
    print(f"{sigma:.0e}   {counted:21.0f}   {steps:10.0f}")
more = np.polyfit(np.log(1 / sigmas), noisy_steps, 1)[0]
print(f"steps more for noise smaller by the factor e: {more:.1f}; 1 / ln(growth) = {1 / np.log(growth):.1f}")
assert abs(more * np.log(growth) - 1) < 0.03
assert np.max(np.abs(noisy_steps - expected)) < 5 * 1.11 / np.log(growth) / np.sqrt(SEEDS)

# %% [markdown]
# ## The saddle of a real network
#
# A network of tanh units has a saddle where all weights are zero. We look at one that recognizes digits, those of
# scikit-learn at 4 x 4 pixels, with one hidden layer of eight units: 208 weights, and no biases, to keep it simple.
# With weights zero the hidden layer is zero, whatever the image: no gradient reaches the first weights, and none is
# made for the second ones.
#
# Here the Hessian can be calculated by hand. Let `C` be the mean over the images of pixels times error (0.1, the
# probability, minus 1 for the right digit), a matrix 16 x 10. Near zero the loss changes by `sum(C * (W1 @ W2))`.
# Turned into its singular vectors it is a sum of saddles, one for each singular value `s` of `C` and each hidden unit,
# with the eigenvalues `+s` and `-s`. Nine singular values are above zero (the errors of an image sum to zero), and
# there are eight units: 72 of the 208 directions lead down.

# %%
digits: Any = load_digits()
pixels = digits.images[:DIGITS].reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16).astype(np.float32) / 16
labels = digits.target[:DIGITS].astype(np.int32)


def weights(sizes):
    """Weights of the usual size: normal, of variance one over the number of inputs."""
    draws = np.random.default_rng(1)
    return [
        draws.normal(size=shape).astype(np.float32) / np.float32(np.sqrt(shape[0]))
        for shape in itertools.pairwise(sizes)
    ]


def loss_fn(layers, batch):
    x, label = batch
    for layer in layers[:-1]:
        x = jnp.tanh(x @ layer)
    return jl.losses.softmax_cross_entropy_with_integer_labels(x @ layers[-1], label)


shallow, deep = weights((16, 8, 10)), weights((16, 8, 8, 10))
zero = jax.tree.map(np.zeros_like, shallow)
singular = np.linalg.svd(pixels.T @ (0.1 - np.eye(10)[labels]) / len(labels))[1][:9]
at_zero = jl.inspect.curvature(loss_fn, zero, (pixels, labels))
print(f"\nweights zero: {at_zero}")
print(f"the largest singular value of C: {singular[0]:.4f}; 72 of 208 directions are {72 / 208:.1%}")
assert at_zero.gradient_norm == 0
np.testing.assert_allclose(at_zero.eigenvalues[:72], -np.repeat(singular, 8), atol=1e-6)
np.testing.assert_allclose(at_zero.eigenvalues[-72:], np.repeat(singular[::-1], 8), atol=1e-6)
assert at_zero.negative_share == 72 / 208

# %% [markdown]
# The library, which knows nothing of `C`, finds the same. It took 208 products of the Hessian with a vector, one for
# each weight. In larger networks it takes some dozens of them, by the method of Lanczos: the smallest and the largest
# eigenvalue come out as well, of the others shares with an error.

# %%
by_lanczos = jl.inspect.curvature(loss_fn, zero, (pixels, labels), steps=32, probes=4)
print(f"by Lanczos:   {by_lanczos}")
assert not by_lanczos.exact
assert abs(by_lanczos.smallest + singular[0]) < 1e-5
assert abs(by_lanczos.negative_share - at_zero.negative_share) < 5 * by_lanczos.negative_share_error

# %% [markdown]
# The most negative eigenvalue tells how fast a training leaves: at each step of gradient descent small weights grow by
# the factor `1 + a s`, with the largest `s`. So weights ten times smaller cost `ln(10) / ln(1 + a s)` steps more.

# %%
everything = jl.minibatches((pixels, labels), None)


@functools.partial(jax.jit, static_argnames="steps")
def losses(txs, scales, start, steps=600):
    """The losses of batch gradient descent: of each optimizer, from the start times each scale."""

    def train(tx, scale):
        step = jl.make_step(loss_fn, tx)
        state = jl.init_state([scale * layer for layer in start], step)
        return jl.make_scan(step, steps)(state, everything)[1]["loss"]

    return jax.vmap(jax.vmap(train, (None, 0)), (0, None))(txs, scales)


scales = np.array([1e-3, 1e-4, 1e-5, 1e-6], np.float32)
curves = losses(jl.grid(jl.sgd, learning_rate=[1.0]).tx, scales, shallow)
leaving = np.sum(curves[0] > 2, axis=1)
slope = np.polyfit(np.log(1 / scales), leaving, 1)[0]
print("\nsteps until the loss is below 2, from weights of the usual size")
for scale, steps in zip(scales, leaving, strict=True):
    print(f"  times {scale:.0e}   {steps:4}")
print(f"steps more for weights smaller by the factor e: {slope:.1f}; 1 / ln(1 + a s) = {1 / np.log1p(singular[0]):.1f}")
assert abs(slope * np.log1p(singular[0]) - 1) < 0.03

# %% [markdown]
# And exactly at zero it stays. Mini-batches are noisy, but their noise does not help here: the gradient of every single
# image is exactly zero, so that of any batch is. Noise has to point the way down, as that of `jl.noisy_sgd` does, which
# falls on all weights.

# %%
gradients = jax.jit(jax.vmap(jax.grad(loss_fn), (None, 0)))(zero, (pixels, labels))
largest = max(float(jnp.max(jnp.abs(gradient))) for gradient in gradients)
print(f"\nweights zero: the largest entry in the gradients of {len(gradients[0])} images is {largest}")
assert largest == 0

# %% [markdown]
# ## The plateau of a deeper network
#
# With two hidden layers the point of weights zero is flatter still: the loss changes with the product of three layers,
# so that even its second derivatives are zero, and the gradient falls with the square of the weights' size. Here a deep
# network begins if its first weights are too small. Gradient descent takes a time that grows like one over their size.
#
# Again each method gets one rate: of three the one with the lowest loss in the mean over 600 steps, from weights of the
# usual size. With this rate it starts from smaller ones.

# %%
some = {
    "gradient descent": [0.3, 1, 3],
    "momentum": [3, 10, 30],
    "RMSprop": [0.01, 0.03, 0.1],
    "Adam": [0.03, 0.1, 0.3],
}
scales = np.array([1, 0.3, 0.1, 0.03], np.float32)
courses, below = {}, {}
print("\n                    best rate   steps until the loss is below 2, from the usual weights times")
print(" " * 32 + "".join(f"{scale:8.2f}" for scale in scales))
for name, method in methods.items():
    curves = np.asarray(losses(jl.grid(method, learning_rate=some[name]).tx, scales, deep))
    best = np.argmin(np.mean(curves[:, 0], axis=1))
    courses[name] = curves[best]
    below[name] = np.sum(courses[name] > 2, axis=1)
    print(f"{name:19} {some[name][best]:9}   " + "".join(f"{count:8}" for count in below[name]))
plain, course_momentum, rmsprop, adam = below.values()
assert np.all(np.abs(plain[2:] / plain[1:-1] * scales[2:] / scales[1:-1] - 1) < 0.1), "like one over the size"
assert plain[-1] > 1.5 * course_momentum[-1] > 10 * max(rmsprop[-1], adam[-1])

# %% [markdown]
# This is the course's point: what costs time is not the bad local minimum but the plateau, and there Adam, RMSprop and,
# to a lesser degree, momentum are faster. The first two hardly notice that there is one.
#
# ## Curvature during a training
#
# Last, the network with one hidden layer from weights of the usual size, by gradient descent with rate 1. How many of
# its 208 directions curve down, and how steeply, as it is trained?

# %%
step = jl.make_step(loss_fn, jl.sgd(1.0))


@jax.jit
def training(state):
    def one(state, _):
        after, metrics = step(state, (pixels, labels))
        return after, (state.params, metrics["loss"])

    return jax.lax.scan(one, state, length=TRAINED[-1] + 1)[1]


ways, course = training(jl.init_state(shallow, step))
print("\nstep    loss   gradient   negative   largest   smallest eigenvalue")
spectra = {}
for at in TRAINED:
    seen = jl.inspect.curvature(loss_fn, [way[at] for way in ways], (pixels, labels))
    spectra[at] = seen
    print(
        f"{at:4}   {seen.loss:5.2f}   {seen.gradient_norm:8.3f}   {seen.negative_share:8.1%}   {seen.sharpness:7.3f}   "
        f"{seen.smallest:8.4f}"
    )
assert np.all(np.diff([seen.negative_share for seen in spectra.values()]) < 0)
assert -spectra[TRAINED[-1]].smallest < 0.01 * spectra[TRAINED[-1]].sharpness < -spectra[0].smallest

# %% [markdown]
# As in the random function, the lower the loss, the fewer directions lead down, and what is left of them is nearly
# flat. Strictly, even the end is no minimum. It does not matter: the loss is low, and nothing holds the training up.
#
# ## The figure
#
# The paths in the middle start at the right, on the plateau.

# %%
figure, (by_height, valley_axes, by_step) = plt.subplots(1, 3, figsize=(13.5, 4.6))
looks = {"gradient descent": "-", "momentum": "--", "RMSprop": "-.", "Adam": ":"}

by_height.plot(heights, np.mean(eigenvalues < 0, axis=1), "o", color="0.75", markersize=3, label="one point")
by_height.plot(levels, measured, "o", label="mean")
by_height.plot(levels, predicted, "-", label="predicted by random matrices")
by_height.set(title="Points with gradient zero", xlabel="height", ylabel="share of directions that lead down")
by_height.set(ylim=(-0.35, 1.05), yticks=np.linspace(0, 1, 6))
by_height.legend(loc="lower right")

x, y = np.meshgrid(np.linspace(-0.22, 0.26, 97), np.linspace(-1.4, 1.4, 97))
valley_axes.contour(x, y, np.asarray(valley((x, y))), 24, colors="0.8", linewidths=1)
places = {"gradient descent": (-0.2, -0.2), "momentum": (-0.2, -0.4), "RMSprop": (0.06, 0.35), "Adam": (0.04, 0.85)}
box = {"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8}
for name, path in paths.items():
    (line,) = valley_axes.plot(*path.T, looks[name])
    valley_axes.text(*places[name], f"{name}: {steps_to(0.5, path)}", color=line.get_color(), fontsize=12, bbox=box)
valley_axes.set(title="Steps from the plateau to y = 0.5", xlabel="x, steep", ylabel="y, flat")

for name, curves in courses.items():
    by_step.plot(curves[-1], looks[name], linewidth=1.6, label=name)
by_step.set(title="Deep network, small first weights", xlabel="step", ylabel="loss (nats)")
by_step.legend()
figure.savefig("lesson_08_saddle_points.png")
print("\nfigure: lesson_08_saddle_points.png")

# %% [markdown]
# ## What to try next
#
# - Give the deep network a third hidden layer, `weights((16, 8, 8, 8, 10))`. The time of gradient descent now grows
#   like one over the square of the size, so the assertion that says otherwise stops the lesson. Adam hardly notices.
# - Start the network with one hidden layer at weights zero with `jl.noisy_sgd(1.0, eta=1e-8, gamma=0.0)`, and again
#   with `eta=1e-12`. The steps that the weaker noise costs are those that the calculation for the valley says.
