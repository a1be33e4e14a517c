# %% [markdown]
# # Lesson 12: When training breaks
#
# **The idea.** A training that fails says little: the loss is NaN, or jumps, or stands still. But there are few ways to
# fail, and each leaves traces of its own in numbers that cost little to look at: the loss of each batch, the length of
# the gradient, the curvature of the loss, the updates that change nothing, the units that are never on. Look first,
# then repair.
#
# **You will see** four failures of one small network, each shown, diagnosed and repaired: a single image that turns all
# weights into NaN; a learning rate above 2 / sharpness; weights in bfloat16 that updates do not move; units that are 0
# for ever. Then two short ones in which the loss only seems to be wrong, and a table to keep.
#
# **It opens** [guard.py](../jaxopt_lessons/train/guard.py), [curvature.py](../jaxopt_lessons/inspect/curvature.py),
# [precision.py](../jaxopt_lessons/wrappers/precision.py), [trajectory.py](../jaxopt_lessons/inspect/trajectory.py) and
# [rollback.py](../jaxopt_lessons/train/observers/rollback.py).

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import jaxopt_lessons as jl

plt.style.use("jaxopt_lessons.style")

# %% tags=["parameters"]
EPOCHS = 5
"""Of the first failure, in mini-batches."""
STEPS = 300
"""Of the others, which take all images at each step."""
ADDITIONS = 1000
"""Of 0.001 to a weight of 1, in the third one."""

# %% [markdown]
# ## The network
#
# 1,408 images of handwritten digits, 8 x 8 pixels from 0 to 1, and 389 others to test with. One hidden layer of 32 ReLU
# units (what is negative becomes 0), ten outputs, and the cross-entropy as the loss; no biases, so that there is less
# to look at. The weights begin as He et al. propose for ReLU: normal, with a variance of 2 / inputs.

# %%
BATCH, UNITS, CLASSES = 64, 32, 10
images, labels = (np.asarray(array) for array in load_digits(return_X_y=True))
order = np.random.default_rng(0).permutation(len(images))
images, labels = (images[order] / 16).astype(np.float32), labels[order].astype(np.int32)
train, test = (images[:1408], labels[:1408]), (images[1408:], labels[1408:])

random = np.random.default_rng(7)
START = {
    "w1": np.float32(random.normal(0, (2 / 64) ** 0.5, (64, UNITS))),
    "w2": np.float32(random.normal(0, (2 / UNITS) ** 0.5, (UNITS, CLASSES))),
}


def logits_of(params, images):
    return jax.nn.relu(images @ params["w1"]) @ params["w2"]


def loss_fn(params, batch):
    images, labels = batch
    return jl.losses.softmax_cross_entropy_with_integer_labels(logits_of(params, images), labels)


def accuracy(params):
    w1, w2 = (np.asarray(params[name], np.float32) for name in ("w1", "w2"))
    return np.mean(np.argmax(np.maximum(0, test[0] @ w1) @ w2, axis=1) == test[1])


parameters = sum(leaf.size for leaf in START.values())
print(f"{len(train[1])} images, {parameters} parameters, accuracy at the start {accuracy(START):.1%}")

# %% [markdown]
# ## 1. NaN
#
# ### By hand
#
# The cross-entropy is `-log(p)`, where `p` is the chance that the network gives to the right answer, `softmax(z)` of
# its outputs `z`. Written like this it has a hole. Take two outputs, 0 and 200, and let the first be the right one. Its
# chance is `exp(-200)`, which is less than float32 can hold, so it is 0, and the loss is `-log(0)`, infinite. Going
# backward, the derivative of the logarithm is `-1/0`, infinite too, and that of the softmax `p * (1 - p) = 0`. Their
# product is NaN, "not a number".
#
# From there it spreads. A sum with a NaN is NaN, so the mean gradient over 64 images is; `w - rate * NaN` is; and of
# NaN weights all outputs are, for every image to come.
#
# The same loss without the hole: `-log(softmax(z)[y]) = log(sum(exp(z))) - z[y]`, with the largest output taken out of
# the exponential first. Its derivative is `p - 1` for the right output and `p` for the others.

# %%
z, right = np.array([0, 200], np.float32), 0
with np.errstate(all="ignore"):
    exponentials = np.exp(z - z.max())
    p = exponentials / exponentials.sum()
    loss_by_hand = -np.log(p[right])
    slope_by_hand = (-1 / p[right]) * (p[right] * (1 - p[right]))
loss_from_logits = z.max() + np.log(exponentials.sum()) - z[right]
slopes_from_logits = p - np.eye(2)[right]
print(f"chance {p[right]}, loss {loss_by_hand}, its derivative {slope_by_hand}; a weight of 1 becomes", end=" ")
print(1 - 0.1 * slope_by_hand)
print(f"from the outputs: loss {loss_from_logits}, derivatives {slopes_from_logits}")
assert np.isinf(loss_by_hand)
assert np.isnan(slope_by_hand)
cross_entropy = jl.losses.softmax_cross_entropy_with_integer_labels
value, slopes = jax.jit(jax.value_and_grad(cross_entropy))(z, right)
assert float(value) == loss_from_logits == 200
assert np.array_equal(slopes, slopes_from_logits), "the library's loss is the second one"

# %% [markdown]
# ### Shown
#
# Some instruments write 9999 where they measured nothing. We put it into one pixel of one image, number 1000, and
# divide by 16 as all pixels were. The loss is the one with the hole. The images were shuffled above, once, so we leave
# them in this order: batch number `k` holds the images from `64 k` on.

# %%
BAD, PIXEL = 1000, 28
spoiled = train[0].copy()
spoiled[BAD, PIXEL] = 9999 / 16


def loss_with_a_hole(params, batch):
    images, labels = batch
    chances = jax.nn.softmax(logits_of(params, images))
    return -jnp.log(chances[jnp.arange(len(labels)), labels])


def run(step, images=spoiled):
    state = jl.init_state(START, step)
    return jl.fit(step, state, (images, train[1]), epochs=EPOCHS, batch_size=BATCH, shuffle=False)


momentum = jl.sgd(0.05, momentum=0.9)
with_a_hole = jl.make_step(loss_with_a_hole, momentum, metrics=["gradient_norm"])
broken = run(with_a_hole)
print("mean loss of each epoch:", broken.history.epoch_mean("loss"), f"accuracy {accuracy(broken.state.params):.1%}")
assert accuracy(broken.state.params) < 0.15, "the first of ten outputs, always"

# %% [markdown]
# ### Diagnosed
#
# The mean of an epoch hides where it began. The history has a row for each batch, with the length of the gradient,
# because we asked for it by `metrics=["gradient_norm"]`. The first bad row tells the batch, and what is bad in it the
# kind of defect: the loss is infinite there and not NaN, so a logarithm or a division has gone wrong, and the weights
# and the pixels were still numbers. The losses of the 64 images of this batch, with the weights before it, tell the
# image.
#
# To have these weights we take the steps up to there again. A step is a pure function of a state and a batch, and gives
# the same numbers each time.

# %%
loss, norm = broken.history["loss"], broken.history["gradient_norm"]
first = int(np.argmin(np.isfinite(loss) & np.isfinite(norm)))
print("batch    loss   gradient norm")
for batch in range(first - 2, first + 3):
    print(f"{batch:5}{loss[batch]:8.3f}{norm[batch]:16.3f}")
assert first == BAD // BATCH
assert np.isposinf(loss[first])
assert np.isnan(norm[first])
assert np.all(np.isnan(loss[first + 1 :])), "and NaN from then on"


def batch_number(k):
    return spoiled[BATCH * k : BATCH * (k + 1)], train[1][BATCH * k : BATCH * (k + 1)]


one_step = jax.jit(with_a_hole)
states = [jl.init_state(START, with_a_hole)]
for k in range(first + 2):
    state, metrics = one_step(states[-1], batch_number(k))
    states.append(state)
    assert np.allclose(metrics["loss"], loss[k], rtol=1e-4, equal_nan=True), "the same run"
losses = jax.jit(loss_with_a_hole)(states[first].params, batch_number(first))
(culprit,) = np.flatnonzero(~np.isfinite(losses)) + BATCH * first
print(f"the image: number {culprit}, whose largest pixel is {spoiled[culprit].max()}")
assert culprit == BAD

# %% [markdown]
# Now the way of the NaN through the weights. The update of this batch makes all of the last layer NaN, and in the first
# layer the columns of those units that were on for the bad image: where a unit is off, ReLU lets no gradient pass, not
# even NaN. In the next batch all outputs are NaN, and it reaches every unit that is on for any image of that batch.

# %%
after = [jax.tree.map(np.asarray, state.params) for state in states[first:]]
is_on = spoiled[BAD] @ after[0]["w1"] > 0
print(f"\n{is_on.sum()} of {UNITS} units were on. NaN weights, after the update of batch")
print("leaf" + "".join(f"{batch:8}" for batch in range(first - 1, first + 2)))
for name in START:
    shares = [float(np.mean(np.isnan(params[name]))) for params in after]
    print(f"{name:4}" + "".join(f"{share:8.1%}" for share in shares))
    assert shares[0] == 0
assert np.all(np.isnan(after[1]["w2"]))
reached = is_on | np.any(batch_number(first + 1)[0] @ np.nan_to_num(after[1]["w1"]) > 0, axis=0)
for params, units in ((after[1], is_on), (after[2], reached)):
    is_nan = np.isnan(params["w1"])
    assert np.array_equal(is_nan, np.broadcast_to(units, is_nan.shape)), "these columns, and no others"

# %% [markdown]
# ### Repaired
#
# Two tools leave the batch out and let the run go on. `with_guard` is around the step: if any weight, or any number
# that the optimizer keeps, would be infinite or NaN after it, nothing is changed but the place in the data, and the
# history counts it as `skipped`. `apply_if_finite` is around the optimizer: it looks at gradients and updates, not at
# what they are added to, and it gives up after so many bad ones in a row that the data cannot be at fault. It knows
# nothing of the loss, so the infinite one is still in the mean of the epoch.
#
# A third, `zero_nans`, puts zeros in the place of the NaNs alone. The rest of the gradient goes on, and it is no better
# than the part that was NaN.

# %%
gradient = jnp.array([jnp.nan, 1.0])
for tx, expected in {
    jl.apply_if_finite(jl.sgd(0.1), 3): [0, 0],
    jl.chain(jl.zero_nans(), jl.sgd(0.1)): [0, -0.1],
}.items():
    update, _ = jax.jit(tx.update)(gradient, tx.init(gradient))
    print(f"gradient {gradient}, update {update} with {tx}")
    assert np.allclose(update, expected)

guarded = run(jl.with_guard(with_a_hole))
skipped = np.flatnonzero(guarded.history["skipped"])
print(f"\nwith_guard left out the batches {skipped}")
assert np.array_equal(skipped, first + 22 * np.arange(EPOCHS)), "once in each epoch"

# %% [markdown]
# A batch that is left out in each epoch is 63 good images that nobody learns from, and the defect stays. Better to mend
# the cause. There are two here: the loss, which should be calculated from the outputs, and the pixel. With the loss
# mended alone, the image does not stop the run. But its gradient is still far longer than all others.

# %%
from_logits = run(jl.make_step(loss_fn, momentum, metrics=["gradient_norm"]))
mended = run(with_a_hole, train[0])
print(f"{'':27}steps   last epoch's loss   test accuracy   longest gradient")
RUNS = {
    "nothing done": broken,
    "with_guard": guarded,
    "the loss from the outputs": from_logits,
    "the pixel mended": mended,
}
for name, out in RUNS.items():
    longest = out.history["gradient_norm"].max()
    mean, right_ones = out.history.epoch_mean("loss")[-1], accuracy(out.state.params)
    print(f"{name:27}{int(out.state.step):5}{mean:20.3f}{right_ones:16.1%}{longest:19.2f}")
    assert (right_ones > 0.8) == (name != "nothing done")
assert np.isfinite(guarded.history.epoch_mean("loss")).all(), "the guard gives the bad batch no weight"
ratio = from_logits.history["gradient_norm"].max() / mended.history["gradient_norm"].max()
print(f"the longest gradient with the bad pixel is {ratio:.0f} times the longest without it")
assert ratio > 5

# %% [markdown]
# ## 2. Divergence
#
# ### By hand
#
# The chapter's picture of momentum is a long valley: across it the path swings from one side to the other, and with a
# larger learning rate it would swing out of it. How large is too large? Take the simplest valley, `h / 2 * w^2`, with
# the slope `h * w`. A step of gradient descent is `w - rate * h * w = (1 - rate * h) * w`. So every step multiplies the
# distance by `1 - rate * h`, and if `rate > 2 / h` this is less than -1: each swing is longer than the last.
#
# A network has many directions. What counts is the steepest, and its curvature `h` is the largest eigenvalue of the
# matrix of second derivatives, the Hessian. It is called the sharpness.

# %%
print("h = 2, so the limit is 1")
for rate in (0.9, 1.1):
    w = [1.0]
    for _ in range(5):
        w.append(w[-1] - rate * 2 * w[-1])
    print(f"rate {rate}: w = " + ", ".join(f"{value:6.2f}" for value in w))
    assert np.isclose(w[5], (1 - rate * 2) ** 5)

# %% [markdown]
# ### Shown
#
# Gradient descent with all images at each step and a rate of 4. There is no noise in it: the same step gives the same
# numbers each time. In the optimizer are two things that we turn on later, for the repair: a warm-up of 1 step and a
# limit of infinity for the length of the gradient, which is none at all. An optimizer is a value, and other numbers in
# it compile nothing. `inspect.trajectory` takes the steps of `fit` and records all weights before and after each.

# %%
descent = jl.chain(jl.clip_by_global_norm(jnp.inf), jl.sgd(jl.warmup(1, 4.0, from_zero=False)))
whole = jl.make_step(loss_fn, descent)


def at(path, row):
    return {name: leaf[row] for name, leaf in path.params.items()}


def follow(step=whole, params=START, data=train, **changes):
    step = step.replace(**changes)
    path = jl.inspect.trajectory(step, jl.init_state(params, step), data, steps=STEPS)
    return path._replace(params=jax.tree.map(np.asarray, path.params))


diverged = follow()
print("loss at the first steps: " + ", ".join(f"{value:.2f}" for value in diverged.losses[:8]))
print(f"loss at the end: {diverged.losses[-1]:.3f}")
assert diverged.losses.max() > 5 * diverged.losses[0]
assert diverged.losses[-1] > 2.2

# %% [markdown]
# The loss rises at once, to more than eight times what it was, and comes to rest at 2.30, where it stays. (Why there,
# and why for ever, is the fourth failure.)
#
# ### Diagnosed
#
# `inspect.curvature` measures the sharpness of a loss at given parameters, before anything is trained.


# %%
def sharpness(params):
    return jl.inspect.curvature(loss_fn, params, train, steps=20, probes=2).sharpness


LIMIT = 2 / sharpness(START)
print(f"sharpness {2 / LIMIT:.2f} at the start, so rates up to {LIMIT:.2f} are stable there; 4 is not")
assert 2 * LIMIT < 4

# %% [markdown]
# Is that the limit of gradient descent? We measure it where the loss is close to a quadratic: at the end of a training
# with half of the limit, where the gradient is small. Two runs begin there, 0.03 apart in the steepest direction, which
# `curvature` gives as `top`. In a quadratic valley each step multiplies their distance by `1 - rate * sharpness`, which
# is -1 at the limit: below it they come together, above it they part.

# %%
calm = follow(peak_value=LIMIT / 2)
bottom = at(calm, -1)
there = jl.inspect.curvature(loss_fn, bottom, train, steps=20, probes=2)
steepest = jax.tree.map(np.asarray, there.top)
beside = {name: bottom[name] + 0.03 * steepest[name] for name in START}


def parting(rate, steps=6):
    """By what the distance of two runs in the steepest direction grows in each of some steps, in the mean."""
    one, other = (follow(params=params, peak_value=rate) for params in (bottom, beside))
    apart = [sum(np.vdot(at(other, t)[n] - at(one, t)[n], steepest[n]) for n in START) for t in (0, steps)]
    return abs(apart[1] / apart[0]) ** (1 / steps)


print(f"sharpness there {there.sharpness:.3f}, so the limit should be {2 / there.sharpness:.3f}")
SHARES = np.array([0.9, 1.0, 1.1])
factors = np.array([parting(share * 2 / there.sharpness) for share in SHARES])
for share, factor in zip(SHARES, factors, strict=True):
    print(f"{share:.2f} of this: the distance times {factor:.3f} in each step, in a quadratic {2 * share - 1:.3f}")
measured_limit = float(np.interp(1.0, factors, SHARES))
print(f"the limit as measured: {measured_limit:.3f} of this")
assert abs(measured_limit - 1) < 0.02
assert np.all(np.diff(factors) > 0)

# %% [markdown]
# The limit is where the Hessian says, to better than two per cent, though the loss has kinks where an image switches a
# unit on, of which the Hessian knows nothing.
#
# Where training begins, the number is a guide and not a border, because the sharpness changes on the way. With rates
# near the limit it adapts to the rate: the path is pushed out of valleys that are too steep for it, and comes to rest
# where they are wider. This is called the edge of stability (Cohen et al. 2021, arXiv 2103.00065). We see it here: with
# the rate at the limit the loss rises now and then, but at the end the sharpness is below `2 / rate`, while with half
# of the rate it is above this. Four times the limit is too much. (Twice the limit seems to go well, and does not: that
# is the fourth failure, too.)

# %%
print("rate / limit    rate   2 / rate   sharpness at the end   loss at the end   steps at which the loss rose")
at_limit = {share: calm if share == 0.5 else follow(peak_value=share * LIMIT) for share in (0.5, 1.0, 2.0, 4.0)}
sharp_end = {share: sharpness(at(path, -1)) for share, path in at_limit.items()}
for share, path in at_limit.items():
    rose = int(np.sum(np.diff(path.losses) > 0))
    border = 2 / (share * LIMIT)
    print(f"{share:12}{share * LIMIT:8.2f}{border:11.2f}{sharp_end[share]:23.2f}{path.losses[-1]:18.3f}{rose:15}")
assert sharp_end[1.0] < 2 / LIMIT < sharp_end[0.5]
assert np.all(np.diff(at_limit[0.5].losses) < 0)
assert at_limit[1.0].losses[-1] < 0.1
assert at_limit[4.0].losses[-1] > 2

# %% [markdown]
# ### Repaired
#
# - The rate: half of the limit, and the loss never rises.
# - Clipping, with the rate of 4 as it was: gradients longer than 0.2 are shortened to it, so no step is longer than
#   0.8.
# - `Rollback` looks at the run from outside, here every two steps. When the loss is more than three times what it
#   was, it puts back the last good state. In mini-batches this may be enough, since other batches follow. Here the same
#   step would fail again, so a small observer of our own divides the rate by 4 whenever it has gone back.
# - A warm-up, to the rate of 4 in 150 steps, does not help here. It crosses the limit later, and then fails. It is the
#   repair where the limit is low at the start and rises; we come back to it.


# %%
class Slower(jl.Observer):
    """Divides the rate by 4 when Rollback, which looks before it, has gone back."""

    every = jl.Every(steps=2)

    def begin(self, run):
        return 0, 4.0

    def observe(self, run, memory):
        seen, rate = memory
        lost = run.cursor - int(run.state.step)  # batches whose updates are no more
        if lost > seen:
            rate /= 4
            run.step = run.step.replace(peak_value=rate)
        return lost, rate


clipped = follow(max_norm=0.2)
warmed = follow(steps=150)
observers = [jl.Rollback(every=jl.Every(steps=2)), Slower()]
returned = jl.fit(whole, jl.init_state(START, whole), train, steps=STEPS, observers=observers)
times, (_, last_rate) = returned.observed["Rollback"].count, returned.observed["Slower"]
REPAIRS = {
    "rate 4": (diverged.losses, at(diverged, -1)),
    "half of the limit": (calm.losses, at(calm, -1)),
    "rate 4, clipped at 0.2": (clipped.losses, at(clipped, -1)),
    f"Rollback: {times} time, to {last_rate:.0f}": (returned.history["loss"], returned.state.params),
    "warm-up to 4": (warmed.losses, at(warmed, -1)),
}
print(f"{'':28}largest loss   loss at the end   test accuracy")
for name, (losses, end) in REPAIRS.items():
    print(f"{name:28}{np.max(losses):12.2f}{losses[-1]:18.3f}{accuracy(end):16.1%}")
    assert (accuracy(end) > 0.85) == ("4" not in name or "clipped" in name)
assert times == 1
assert int(returned.state.step) < STEPS == int(returned.state.cursor)
lengths = np.sqrt(sum(np.sum(np.square(np.asarray(u)), axis=tuple(range(1, u.ndim))) for u in clipped.updates.values()))
print(f"the longest step with clipping: {lengths.max():.3f}")
assert abs(lengths.max() - 0.8) < 1e-3

# %% [markdown]
# ## 3. Stalling in bfloat16
#
# ### By hand
#
# bfloat16 is the upper half of a float32: the same range, but 8 binary digits instead of 24. From 1 to 2 the numbers
# are 1/128 = 0.0078 apart. What is added and is less than half of this distance is rounded away: `1 + 0.001 = 1`. A
# thousand updates of 0.001 should make 2 of 1, and leave it where it is.
#
# We round by hand, in the bits, to the nearest, and to the even one in the middle.


# %%
def to_bfloat16(value):
    bits = int(np.float32(value).view(np.uint32))
    return np.uint32((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16).view(np.float32)


weight = np.float32(1)
for _ in range(ADDITIONS):
    weight = to_bfloat16(weight + np.float32(0.001))
print(f"1 + {ADDITIONS} times 0.001 in bfloat16: {weight}")
print(f"the next number after 1: {to_bfloat16(1.0079)}")
print(f"1 + 0.0039 = {to_bfloat16(1.0039)}, 1 + 0.0040 = {to_bfloat16(1.004)}")
numbers = np.random.default_rng(0).normal(size=2000).astype(np.float32)
by_hand = np.array([to_bfloat16(number) for number in numbers])
assert np.array_equal(by_hand, np.float32(jnp.asarray(numbers).astype(jnp.bfloat16))), "JAX rounds like this"
assert weight == 1

# %% [markdown]
# The library has several ways to keep what rounding takes. They go around the whole optimizer:
# `with_precision(tx, weights="split")`. All cost memory but one:
#
# - `"master"`: a copy of the weights in float32, 4 bytes more for each of 2. The updates go to the copy.
# - `"split"`: the missing lower half of the float32 beside the upper one, which the weight itself is: 2 bytes more.
# - `"kahan"`: what was rounded away is kept in bfloat16, and added to the next update: 2 bytes more.
# - `"stochastic"`: nothing is kept. Each weight is rounded up or down at random, the nearer number being the more
#   likely, so that it is right in the mean. The price is noise.

# %%
WAYS = ("master", "split", "kahan", "stochastic")
adding = jl.sgd(0.001)
ADDERS = {"float32": adding, "nothing": adding} | {way: jl.with_precision(adding, weights=way) for way in WAYS}


def begin(way):
    """A hundred weights of 1, which all do the same, but for the random rounding."""
    params = jnp.ones(100, jnp.float32 if way == "float32" else jnp.bfloat16)
    return params, ADDERS[way].init(params)


def add_up(way):
    def once(carry, _):
        params, state = carry
        updates, state = ADDERS[way].update(-jnp.ones_like(params), state, params)
        return (jl.apply_updates(params, updates), state), None

    return jax.lax.scan(once, begin(way), None, length=ADDITIONS)[0][0]


sums = jax.jit(lambda: {way: add_up(way) for way in ADDERS})()
print("              bytes a weight      mean    spread")
for way in ADDERS:
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(begin(way)) if leaf.ndim) / 100
    weights = np.asarray(sums[way], np.float32)
    print(f"{way:12}{size:16.0f}{weights.mean():10.3f}{weights.std():10.3f}")
    tolerance = {"nothing": 0, "float32": 1e-4, "stochastic": 0.05}.get(way, 0.008)
    assert abs(weights.mean() - (1 if way == "nothing" else 1 + ADDITIONS / 1000)) <= tolerance

# %% [markdown]
# ### Shown
#
# The network again, with a rate of 0.05, once with weights in float32 and once in bfloat16. The start is the same but
# for its rounding, and the loss is calculated in float32 in both: only the weights have fewer digits.

# %%
RATE = 0.05
in_half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), START)
wide = follow(peak_value=RATE)
stalled = follow(jl.make_step(loss_fn, jl.sgd(RATE)), in_half)
print(f"after {STEPS} steps: loss {wide.losses[-1]:.3f} in float32, {stalled.losses[-1]:.3f} in bfloat16")
assert stalled.losses[-1] > 1.3 * wide.losses[-1]

# %% [markdown]
# ### Diagnosed
#
# The curve looks like that of a rate which is too small, and so it is, for most of the weights. We count them: the
# share of the weights in which an update changes nothing. In float32 there are some, too. Pixels in the corners are
# black in all images, and units that are off for all of them get no gradient. What is beyond this share is rounding,
# and it grows, since gradients become shorter as the loss falls.


# %%
def unmoved(path):
    """The share of all weights that each step leaves as they are."""
    still = [np.asarray(update == 0).reshape(STEPS, -1) for update in path.updates.values()]
    return np.mean(np.concatenate(still, axis=1), axis=1)


lost, black = unmoved(stalled), unmoved(wide)
print("weights unmoved by step" + "".join(f"{step + 1:8}" for step in (0, STEPS // 3, STEPS - 1)))
for name, share in {"float32": black, "bfloat16": lost}.items():
    print(f"{name:23}" + "".join(f"{share[step]:8.1%}" for step in (0, STEPS // 3, STEPS - 1)))
assert lost.min() > 2 * black.max()
assert lost[-1] > lost[0]

# %% [markdown]
# ### Repaired
#
# With `"split"` around the same optimizer the weights that the network sees are those of bfloat16, and the loss is that
# of float32. The other way is to keep the weights in float32 and let only the calculations be in bfloat16, which is
# what accelerators are fast in: `policy="bfloat16"`. That takes the 4 bytes of float32 a weight; bfloat16 with
# `"split"`, 2 + 2, takes as many.

# %%
split = follow(jl.make_step(loss_fn, jl.with_precision(jl.sgd(RATE), weights="split")), in_half)
print(f"{'':36}loss at the end   test accuracy")
IN_HALF = {
    "weights in float32": wide,
    "weights in bfloat16": stalled,
    'weights in bfloat16, "split"': split,
}
for name, path in IN_HALF.items():
    print(f"{name:36}{path.losses[-1]:15.4f}{accuracy(at(path, -1)):16.1%}")
assert split.params["w1"].dtype == jnp.bfloat16
assert abs(split.losses[-1] - wide.losses[-1]) < 0.01 * wide.losses[-1]

# %% [markdown]
# ## 4. Dead units
#
# ### By hand
#
# Going backward through the network, `d` is the derivative by the outputs, `p - 1` or `p` as above, over the number of
# images. The derivative by what goes into a unit is `d @ w2.T` where the unit is on, and 0 where it is off. If a unit
# is off for every image, the gradient of its column in `w1` and of its entry in `b1` is 0. Its output is 0 as well, so
# that of its row in `w2` is 0, too. Nothing moves it again: it is dead.
#
# This is not the plateau of the chapter, where the gradient is small and momentum gets one across. Here it is exactly
# 0, and any multiple and any average of it is 0.


# %%
def gradient_by_hand(params, images, labels):
    w1, w2 = (np.asarray(params[name], np.float64) for name in ("w1", "w2"))
    hidden = np.maximum(0, images @ w1)
    outputs = hidden @ w2
    p = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    d = (p / p.sum(axis=1, keepdims=True) - np.eye(CLASSES)[labels]) / len(labels)
    d_hidden = (d @ w2.T) * (hidden > 0)
    return {"w1": images.T @ d_hidden, "w2": hidden.T @ d}


@jax.jit
def dead_units(w1):
    return jnp.max(train[0] @ w1, axis=-2) <= 0


def is_dead(w1):
    """Which units are 0 for every image; for ``w1`` after each step, if it has a further axis in front."""
    return np.asarray(dead_units(w1))


# %% [markdown]
# ### Shown
#
# A rate of twice the limit. The loss falls, and ends lower than with half of the limit. Who looks at the loss alone
# sees nothing.

# %%
TOO_FAR = 2 * LIMIT
burnt = at_limit[2.0]
print("loss every 20 steps: " + ", ".join(f"{value:.2f}" for value in burnt.losses[:141:20]), end=" ... ")
print(f"{burnt.losses[-1]:.3f}")
killed = is_dead(burnt.params["w1"][-1]).sum()
print(f"test accuracy {accuracy(at(burnt, -1)):.1%}; units dead: {killed} of {UNITS}")
assert burnt.losses[-1] < calm.losses[-1]
assert killed > UNITS // 4

# %% [markdown]
# ### Diagnosed
#
# The gradients tell: those of a dead unit are zeros, all of them, in its column of `w1` and its row of `w2`. The
# trajectory has them, since an update is minus the rate times the gradient. And it has the weights after each step, so
# we can say when each unit died. None came back.

# %%
last = at(burnt, -2)
gone, by_hand = is_dead(last["w1"]), gradient_by_hand(last, *train)
gradient = {name: np.asarray(update[-1]) / -TOO_FAR for name, update in burnt.updates.items()}
for name, leaf in gradient.items():
    assert np.allclose(leaf, by_hand[name], atol=1e-6)
zeros = {"w1": np.all(gradient["w1"] == 0, axis=0), "w2": np.all(gradient["w2"] == 0, axis=1)}
for name, is_zero in zeros.items():
    print(f"{name}: the gradients of {is_zero.sum()} of {UNITS} units are 0")
    assert np.array_equal(is_zero, gone)

dying = is_dead(burnt.params["w1"])
counts = dying.sum(axis=1)
print(f"{counts[0]} dead at the start, {counts[20]} after 20 steps, {counts[-1]} at the end; the last died", end=" ")
print(f"in step {np.argmax(counts == counts[-1])}")
assert np.all(dying[1:] >= dying[:-1]), "none comes back"
for unit in np.flatnonzero(gone):
    died = int(np.argmax(dying[:, unit]))
    assert np.all(burnt.params["w1"][died:, :, unit] == burnt.params["w1"][died, :, unit]), "and none moves again"

# %% [markdown]
# The run of the second failure is the same thing to the end. All units are dead after some steps, all outputs are 0,
# and all ten digits have the same chance. The loss of that is `-log(1 / 10) = log(10)`.

# %%
all_dead = int(np.argmax(is_dead(diverged.params["w1"]).all(axis=1)))
print(f"all {UNITS} dead after step {all_dead}; log(10) = {np.log(10):.4f}, loss {diverged.losses[-1]:.4f}")
assert is_dead(diverged.params["w1"][-1]).all()
assert abs(diverged.losses[-1] - np.log(10)) < 1e-5

# %% [markdown]
# ### Repaired
#
# A smaller rate; a warm-up, which ends at the same rate as the run that lost its units; leaky ReLU, which gives 0.01 of
# what is negative, so that no gradient is cut off. A bad start does the same harm as a bad step. With He's weights
# two units are dead from the start: all pixels are positive, and where most weights of a unit are
# negative no image switches it on. With 0.1 less for each weight it is nearly all of them.


# %%
def leaky_loss(params, batch):
    images, labels = batch
    outputs = jax.nn.leaky_relu(images @ params["w1"]) @ params["w2"]
    return jl.losses.softmax_cross_entropy_with_integer_labels(outputs, labels)


WARM_UP = 50
warm = follow(peak_value=TOO_FAR, steps=WARM_UP)
leaky = follow(jl.make_step(leaky_loss, jl.sgd(TOO_FAR)))
low = {**START, "w1": START["w1"] - np.float32(0.1)}
bad_start = follow(params=low, peak_value=LIMIT / 2)
DEAD = {
    "twice the limit": burnt,
    "half of the limit": calm,
    f"twice, a warm-up of {WARM_UP} steps": warm,
    "half, weights begin 0.1 lower": bad_start,
}
print(f"{'':30}dead at the start   at the end   loss at the end")
for name, path in DEAD.items():
    counted = [is_dead(path.params["w1"][row]).sum() for row in (0, -1)]
    print(f"{name:30}{counted[0]:17}{counted[1]:13}{path.losses[-1]:18.3f}")
without = int(np.sum(np.all(np.asarray(leaky.updates["w1"][-1]) == 0, axis=0)))
print(f"twice, leaky ReLU: units without a gradient at the end {without}, loss {leaky.losses[-1]:.3f}")
assert without == 0
for path in (calm, warm):
    assert is_dead(path.params["w1"][-1]).sum() < UNITS // 4
    assert path.losses[-1] < 0.2
assert is_dead(low["w1"]).sum() > 0.8 * UNITS
assert bad_start.losses[-1] > 10 * calm.losses[-1]

# %% [markdown]
# ## 5. When the optimizer is not to blame
#
# Two that are quick to see once one looks in the right place.
#
# The loss stops falling: the schedule has run out. It was made for 100 steps, the run takes more. The history has the
# learning rate of each step, and `explain` says which numbers the optimizer has.
#
# The loss does not fall at all, or hardly: the labels are not those of the images. Here they are shifted by one place.
# A network that knows nothing has a loss of `log(10)`, which we had above. If a loss stays there, look at what the
# network is given before you look at the optimizer.

# %%
ended = jl.make_step(loss_fn, jl.sgd(jl.cosine_decay_schedule(0.2, 100)))
short = jl.fit(ended, jl.init_state(START, ended), train, steps=STEPS)
rates = short.history["learning_rate"]
print("step  learning rate    loss")
for step in (0, 50, 100, STEPS - 1):
    print(f"{step:4}{rates[step]:15.3f}{short.history['loss'][step]:8.3f}")
(line,) = [line for line in str(jl.explain(ended.tx, START)).splitlines() if "sgd.learning_rate " in line]
print(line.strip())
assert np.all(rates[100:] == 0)
assert np.ptp(short.history["loss"][100:]) == 0
shifted = follow(data=(train[0], np.roll(train[1], 1)), peak_value=LIMIT / 2)
print(f"labels shifted: loss {shifted.losses[-1]:.3f}, log(10) = {np.log(10):.3f}; not shifted: {calm.losses[-1]:.3f}")
assert abs(shifted.losses[-1] - np.log(10)) < 0.2

# %% [markdown]
# ## What to look at
#
# | one sees | look at | do |
# |---|---|---|
# | infinite, then NaN | first bad row of `history["loss"]`, losses of that batch | loss from outputs; `with_guard` |
# | NaN at once | `np.isfinite` of the data | mend the data; `with_guard` |
# | the loss jumps or swings | 2 / `inspect.curvature(...).sharpness` | smaller rate, warm-up, clipping, `Rollback` |
# | falls slowly in bfloat16 | the share of weights that do not move | `with_precision(tx, weights="split")` |
# | nothing, or a loss of `log(classes)` | units that are 0, gradients that are 0 | smaller rate, He's weights |
# | stops at a certain step | `history["learning_rate"]`, `explain` | a schedule as long as the run |
# | does not fall | examples and labels as the network gets them | mend the data |
#
# ## The figure

# %%
figure, panels = plt.subplots(2, 2, figsize=(12, 8))
nan, jump, stall, dead = panels.ravel()
batches = np.arange(len(loss))
nan.plot(guarded.history["loss"], "C2-", label="with_guard: one batch in 22 left out")
nan.plot(batches[:first], loss[:first], "C1-", linewidth=7, alpha=0.6, label="as it was")
nan.plot(first - 1, loss[first - 1], "C1X", markersize=13)
nan.annotate("NaN from here on", (first - 1, loss[first - 1]), (first + 8, loss[first - 1]), va="center")
nan.set(title="1. One image of 1,408 is bad", xlabel="batch", ylabel="loss", ylim=(0, 2.6))
jump.plot(diverged.losses, "C1--", label="rate 4")
jump.plot(clipped.losses, "C0:", linewidth=3, label="rate 4, clipped at 0.2")
jump.plot(calm.losses, "C2-", label=f"rate {LIMIT / 2:.2f}, half of the limit")
jump.set(title=f"2. The rate is above 2 / sharpness = {LIMIT:.2f}", xlabel="step", ylabel="loss", yscale="log")
stall.plot(stalled.losses, "C1--", label="weights in bfloat16")
stall.plot(split.losses, "C2-", label='weights in bfloat16, "split"')
stall.plot(wide.losses, "k:", label="weights in float32")
stall.set(title="3. Updates are rounded away", xlabel="step", ylabel="loss", ylim=(0, 2.6))
dead.plot(counts, "C1--", label=f"rate {TOO_FAR:.2f}")
dead.plot(is_dead(warm.params["w1"]).sum(axis=1), "C2-", label=f"rate {TOO_FAR:.2f} after a warm-up of {WARM_UP} steps")
dead.set(title="4. Units that are 0 for all images", xlabel="step", ylabel=f"dead units, of {UNITS}", ylim=(0, UNITS))
for panel in panels.flat:
    panel.legend()
figure.savefig("lesson_12_when_training_breaks.png")
print("\nfigure: lesson_12_when_training_breaks.png")

# %% [markdown]
# ## What to try next
#
# - Write NaN into the pixel instead of 9999 (`spoiled[BAD, PIXEL] = np.nan`). The loss of the first bad row is NaN and
#   not infinite, the assertion says so, and the loss from the outputs does not help any more.
# - Set `RATE = 0.2` in the third failure. The updates are four times as large, and the first step leaves only 49 % of
#   the weights as they are. At the end it is 91 % all the same, because the gradients are smaller there.
