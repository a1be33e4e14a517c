# %% [markdown]
# # Lesson 6: Adam
#
# **The idea.** Momentum (lesson 4) averages the gradients; RMSprop (lesson 5) divides each of them by how large they
# have lately been. Adam, "adaptive moment estimation", does both, and corrects both averages for their start at zero
# (lesson 3). It is the optimizer that most networks are trained with.
#
# **You will see** Adam in six lines, and made of the library's parts; what each of its four numbers does, in one
# program of 243 trainings; Adam against gradient descent, momentum and RMSprop, all tuned with the same effort; two
# tiny games in which it goes to the worst point there is, and what repairs it; and what the W in AdamW is for.
#
# **It opens** [transforms/adam.py](../jaxopt_lessons/transforms/adam.py), the rule in nine lines, and
# [optimizers/adam.py](../jaxopt_lessons/optimizers/adam.py), what is made of it.

# %%
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jax.flatten_util import ravel_pytree
from sklearn.datasets import load_digits

import jaxopt_lessons as jl

plt.style.use("jaxopt_lessons.style")

# %% tags=["parameters"]
STEPS = 220
SEEDS = 3
TURNS = 30_000
K = 10

# %% [markdown]
# ## The problem
#
# Handwritten digits, 8 by 8 pixels, and a network with 32 hidden units. 1,408 images are 22 batches of 64, and 220
# steps are ten epochs.

# %%
images, labels = map(np.asarray, load_digits(return_X_y=True))
pixels, digits = jnp.asarray(images / 16, jnp.float32), jnp.asarray(labels)
train, test = (pixels[:1408], digits[:1408]), (pixels[1408:], digits[1408:])
batches = jl.minibatches(train, 64)


def network(key):
    """For each hidden unit its weights from 64 pixels and to 10 digits."""
    normal = jax.random.normal(key, (32, 74))
    w1, w2 = normal[:, :64].T * (2 / 64) ** 0.5, normal[:, 64:] * (1 / 32) ** 0.5
    return {"w1": w1, "b1": jnp.zeros(32), "w2": w2, "b2": jnp.zeros(10)}


def logits(params, x):
    return jax.nn.relu(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def loss_fn(params, batch):
    x, y = batch
    return jl.losses.softmax_cross_entropy_with_integer_labels(logits(params, x), y)


# %% [markdown]
# ## By hand
#
# Six lines in the loop. `m` is the momentum, `v` the average of squares of RMSprop; `m_hat` and `v_hat` are the same
# with their bias corrected; and each weight moves by the learning rate times `m_hat / sqrt(v_hat)`. All weights of the
# network are one long vector here. We take 110 steps, five epochs, and keep the gradients for later.

# %%
start = network(jax.random.key(0))
vector, unflatten = ravel_pytree(start)


@jax.jit
def gradient(weights, batch):
    return jax.grad(lambda weights: jnp.mean(loss_fn(unflatten(weights), batch)))(weights)


def adam_by_hand(weights, steps, rate=0.01, b1=0.9, b2=0.999, eps=1e-8):
    m, v, gradients = np.zeros_like(weights), np.zeros_like(weights), []
    for t in range(1, steps + 1):
        rows = slice((t - 1) % 22 * 64, (t - 1) % 22 * 64 + 64)
        g = np.asarray(gradient(weights, (train[0][rows], train[1][rows])))
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        m_hat = m / (1 - b1**t)
        v_hat = v / (1 - b2**t)
        weights = weights - rate * m_hat / (np.sqrt(v_hat) + eps)
        gradients.append(g)
    return weights, jnp.stack(gradients)


by_hand, gradients = adam_by_hand(np.asarray(vector), 110)

# %% [markdown]
# ## The same in the library
#
# The library's Adam, on the same batches in the same order.

# %%
step = jl.make_step(loss_fn, jl.adam(0.01))
out = jl.fit(step, jl.init_state(start, step), train, steps=110, batch_size=64, shuffle=False, chunk_steps=22)
by_library = ravel_pytree(out.state.params)[0]
moved = np.abs(by_hand - vector)
difference = np.abs(by_hand - by_library)
print(f"{vector.size} weights moved by {moved.mean():.3f} in the mean, {moved.max():.3f} at most")
print(f"loop and library differ by {difference.max():.1e} at most")
assert difference.max() < 1e-3 * moved.mean()

# %% [markdown]
# ## Made of its parts
#
# `adam` is a chain of two parts, direction and learning rate. There seem to be smaller parts for the direction:
# momentum is `ema`, and division by the root of the average of squares is `scale_by_rms`, both with bias correction.
# But in a chain each part sees what the one before has made of the gradient. `ema` first: then the squares are those of
# averages. `ema` last: then gradients are divided first and averaged afterwards. Both are optimizers, and the second
# has a name, LaProp, but neither is Adam. In Adam both averages see the gradient itself.
#
# So the missing part is one that gives the gradient to two others and divides. We write it: a function with the
# decorator `gradient_transformation` that returns `init` and `update`. Its two parts are both `ema`, one of the
# gradients, one of their squares.


# %%
class BothStates(NamedTuple):
    average: Any
    squares: Any


@jl.gradient_transformation
def average_over_root(average: jl.GradientTransformation, squares: jl.GradientTransformation, eps: float = 1e-8):
    def init(params):
        return BothStates(average.init(params), squares.init(params))

    def update(updates, state, params=None, **extra):
        m_hat, first = average.update(updates, state.average, params)
        v_hat, second = squares.update(jax.tree.map(jnp.square, updates), state.squares, params)
        ratio = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), m_hat, v_hat)
        return ratio, BothStates(first, second)

    return init, update


def follow(tx, gradients, weights=vector):
    """The weights after each step, for gradients that are given."""

    def turn(carry, g):
        weights, state = carry
        updates, state = tx.update(g, state, weights)
        weights = jl.apply_updates(weights, updates)
        return (weights, state), weights

    return jax.lax.scan(turn, (weights, tx.init(weights)), gradients)[1]


rate = jl.scale_by_learning_rate(0.01)
rms = jl.scale_by_rms(0.999, eps_in_sqrt=False, bias_correction=True)
adam_path = follow(jl.adam(0.01), gradients)
makes = {
    "two parts: direction, rate": jl.chain(jl.scale_by_adam(), rate),
    "our own, of two ema": jl.chain(average_over_root(jl.ema(0.9), jl.ema(0.999)), rate),
    "ema, then scale_by_rms": jl.chain(jl.ema(0.9), rms, rate),
    "scale_by_rms, then ema": jl.chain(rms, jl.ema(0.9), rate),
}
apart = {}
print(f"\n{'':30}largest difference to adam in 110 steps")
for name, tx in makes.items():
    apart[name] = float(jnp.abs(follow(tx, gradients) - adam_path).max())
    print(f"{name:30}{apart[name]:.1e}")
assert apart["two parts: direction, rate"] == 0
assert apart["our own, of two ema"] < 1e-5
assert apart["ema, then scale_by_rms"] > 0.1
assert apart["scale_by_rms, then ema"] > 0.1
laprop = follow(jl.laprop(0.01, eps=1e-8), gradients)
assert jnp.abs(follow(makes["scale_by_rms, then ema"], gradients) - laprop).max() < 1e-3

# %% [markdown]
# ## What it contains
#
# With `b1 = 0` there is no momentum, and Adam is RMSprop with bias correction. With an `eps` far above all gradients
# the root does not count, and Adam is momentum, with the learning rate divided by `eps`. So neither of the two can be
# much better than Adam once all four of its numbers are tuned.

# %%
no_momentum = follow(jl.adam(0.01, b1=0.0), gradients)
rmsprop = follow(jl.rmsprop(0.01, decay=0.999, eps_in_sqrt=False, bias_correction=True), gradients)
large_eps = follow(jl.adam(0.01 * 1e4, eps=1e4), gradients)
momentum = follow(jl.ema_momentum(0.01, beta=0.9, debias=True), gradients)
contained = {"b1 = 0, and RMSprop": (no_momentum, rmsprop), "eps = 10000, and momentum": (large_eps, momentum)}
print()
for name, (one, other) in contained.items():
    apart[name] = float(jnp.abs(one - other).max())
    print(f"{name:30}{apart[name]:.1e} apart, while the weights move by {jnp.abs(one - vector).max():.2f}")
    assert apart[name] < 1e-3 * jnp.abs(one - vector).max()

# %% [markdown]
# ## The learning rate is the length of a step
#
# After the first step `m_hat = g` and `v_hat = g^2`, so the first update is `rate * g / |g|`: the learning rate, up or
# down, for each weight, however large its gradient is. (Only a gradient that is not large against `eps`, 1e-8, makes a
# shorter step, and zero none at all.) Multiply the loss by a million and nothing changes. That is why one learning
# rate serves layers whose gradients differ a thousandfold, and why 0.001 is a sensible first guess for many networks.

# %%
print("\nfirst step of weights with a gradient     shortest     longest")
seen = jnp.abs(gradients[0]) > 1e-4
for scale in (1.0, 1e6):
    for name, tx in {"gradient descent": jl.sgd(0.01), "Adam": jl.adam(0.01)}.items():
        moved = jnp.abs(follow(tx, scale * gradients[:1])[0] - vector)[seen]
        print(f"{name + ',':17} loss times {scale:7.0e}     {moved.min():12.2e} {moved.max():11.2e}")
        if name == "Adam":
            np.testing.assert_allclose(moved, 0.01, rtol=1e-3)

# %% [markdown]
# ## The four numbers
#
# The course says: the learning rate has to be tuned; `b1 = 0.9`; `b2 = 0.999` (the notes in Chinese say 0.99);
# `eps = 1e-8`, which hardly matters. We try other values of the last three, and RMSprop with the `b2 = 0.9` that is
# usual there. Each has a row of nine learning rates, since a number may only look bad because it wants another rate,
# and three seeds. An optimizer's numbers are leaves, so all 243 trainings are one compiled program. Measured is the
# loss on all training images after ten epochs.

# %%
RATES = [3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0]
DEFAULT = {"b1": 0.9, "b2": 0.999, "eps": 1e-8}
SETTINGS = {
    "the defaults": DEFAULT,
    "RMSprop": DEFAULT | {"b1": 0.0, "b2": 0.9},
    "b1 = 0": DEFAULT | {"b1": 0.0},
    "b1 = 0.99": DEFAULT | {"b1": 0.99},
    "b2 = 0.9": DEFAULT | {"b2": 0.9},
    "b2 = 0.99": DEFAULT | {"b2": 0.99},
    "eps = 1e-5": DEFAULT | {"eps": 1e-5},
    "eps = 0.01": DEFAULT | {"eps": 1e-2},
    "eps = 1": DEFAULT | {"eps": 1.0},
}


def losses_after(tx, key):
    """The training loss after all steps, and the share of test images it gets right."""
    step = jl.make_step(loss_fn, tx)
    params = jl.make_scan(step, STEPS)(jl.init_state(network(key), step, key=key), batches)[0].params
    right = jnp.argmax(logits(params, test[0]), axis=-1) == test[1]
    return {"loss": jnp.mean(loss_fn(params, train)), "accuracy": jnp.mean(right)}


def train_adam(hp, key):
    return losses_after(jl.adam(**hp), key)


search = jl.sweep(train_adam, [{**setting, "learning_rate": r} for setting in SETTINGS.values() for r in RATES], SEEDS)
shape = (len(SETTINGS), len(RATES), SEEDS)
found = {name: values.reshape(shape) for name, values in search.values.items()}
losses = dict(zip(SETTINGS, found["loss"].mean(2), strict=True))
best = {name: int(np.nanargmin(row)) for name, row in losses.items()}
least = {name: losses[name][i] for name, i in best.items()}
deviation = np.std(found["loss"][0, best["the defaults"]], ddof=min(1, SEEDS - 1))
print("\nloss, learning rate" + "".join(f"{rate:8}" for rate in RATES) + "      best at")
for name, row in losses.items():
    print(f"{name:19}" + "".join(f"{loss:8.3f}" for loss in row) + f"{least[name]:8.3f} {RATES[best[name]]:7}")
print(f"between seeds the best loss of the defaults deviates by {deviation:.3f}")

# %% [markdown]
# The learning rate decides: from 0.001, the usual first guess, to 0.03 the loss falls to less than a tenth. Of the
# other changes, each at its best rate, only `b1 = 0` alone makes the loss more than twice as large, and none half as
# large. The difference between `b2 = 0.99` and `b2 = 0.999` is about that between seeds: in 220 steps the
# average over a thousand never fills. `eps` hardly matters as long as it is far below the gradients. At 1 it is far
# above them, and the row has moved to rates a hundred times as large: it is momentum now, and wants momentum's rates.

# %%
if (STEPS, SEEDS) == (220, 3):
    assert losses["the defaults"][4] < 0.1 * losses["the defaults"][1]
    assert all((loss > 2 * least["the defaults"]) == (name == "b1 = 0") for name, loss in least.items())
    assert all(loss > 0.5 * least["the defaults"] for loss in least.values())
    assert abs(least["b2 = 0.99"] - least["the defaults"]) < 1.5 * deviation
    assert best["eps = 1e-5"] == best["the defaults"]
    assert best["eps = 1"] == best["the defaults"] + 4

# %% [markdown]
# ## Against the others
#
# Gradient descent and momentum 0.9, on the same network, with the same seeds and the same row of learning rates. With a
# momentum of 0 `sgd` is gradient descent, so both are one program. RMSprop and Adam we have already.


# %%
def train_sgd(hp, key):
    return losses_after(jl.sgd(hp["learning_rate"], momentum=hp["momentum"]), key)


sgd = jl.sweep(train_sgd, {"momentum": [0.0, 0.9], "learning_rate": RATES}, SEEDS).values
methods = {
    "gradient descent": {name: values[: len(RATES)] for name, values in sgd.items()},
    "momentum": {name: values[len(RATES) :] for name, values in sgd.items()},
    "RMSprop": {name: values[list(SETTINGS).index("RMSprop")] for name, values in found.items()},
    "Adam": {name: values[0] for name, values in found.items()},
}
curves = {name: values["loss"].mean(1) for name, values in methods.items()}
tuned = {name: int(np.nanargmin(curve)) for name, curve in curves.items()}
good = {name: int(np.sum(curve < 0.2)) for name, curve in curves.items()}
print("\nloss, learning rate" + "".join(f"{rate:8}" for rate in RATES))
for name, curve in curves.items():
    print(f"{name:19}" + "".join(f"{loss:8.3f}" for loss in curve))
print("\ntuned              rate    loss (deviation)   test images right   rates with a loss below 0.2")
for name, i in tuned.items():
    loss, right = methods[name]["loss"][i], methods[name]["accuracy"][i]
    print(f"{name:17}{RATES[i]:6}   {loss.mean():.3f} ({np.std(loss, ddof=min(1, SEEDS - 1)):.3f})", end="")
    print(f"{right.mean():20.3f}   {good[name]:27}")

# %% [markdown]
# Tuned, Adam, momentum and RMSprop differ by no more than their seeds do. Gradient descent is behind, with about twice
# the loss. On test images there is little between the four. What Adam and RMSprop have ahead is a little width: with
# four of the nine rates the loss is below 0.2, with three for momentum and two for gradient descent. (Below 0.4 it is
# four for momentum, too.) So Adam is a good optimizer for somebody who tunes little. This is a small network whose
# layers are well scaled; for transformers gradient descent is far behind, whatever its rate, as the
# [guide](choosing_an_optimizer.md) says.

# %%
lowest = {name: curves[name][i] for name, i in tuned.items()}
accuracies = [methods[name]["accuracy"][i].mean() for name, i in tuned.items()]
if (STEPS, SEEDS) == (220, 3):
    spread = max(np.std(methods[name]["loss"][i], ddof=1) for name, i in tuned.items())
    assert max(abs(lowest[name] - lowest["Adam"]) for name in ("momentum", "RMSprop")) < spread
    assert lowest["gradient descent"] > 1.8 * lowest["Adam"]
    assert good == {"gradient descent": 2, "momentum": 3, "RMSprop": 4, "Adam": 4}
    assert max(accuracies) - min(accuracies) < 0.025

# %% [markdown]
# ## Where Adam fails
#
# A game of Reddi, Kale and Kumar (2018). The weight x must stay in [-1, 1]. Every third turn the loss is 3 x, in the
# others it is -x. Three turns together cost 3 x - x - x = x, so the best place is -1 and the worst is +1. The game is
# played with `b1 = 0`, `b2 = 1 / (1 + 3^2) = 0.1` and a rate of `0.1 / sqrt(t)`.
#
# `keep_params_in` cuts each step so that it ends in the interval.


# %%
def box(x):
    return jl.projections.projection_box(x, -1.0, 1.0)


def play(tx, gradients):
    return follow(jl.chain(tx, jl.keep_params_in(box)), gradients, jnp.float32(0.0))


def slowly(a0, steps=1):
    return jl.inverse_square_root_decay(a0, steps_per_epoch=steps)


turns = jnp.where(jnp.arange(3000) % 3 == 0, 3.0, -1.0)
games = {
    "Adam, b2 = 0.1": play(jl.adam(slowly(0.1), b1=0.0, b2=0.1), turns),
    "Adam, b2 = 0.99": play(jl.adam(slowly(0.1), b1=0.0, b2=0.99), turns),
    "AMSGrad, b2 = 0.1": play(jl.amsgrad(slowly(0.1), b1=0.0, b2=0.1), turns),
    "ADOPT, b2 = 0.1": play(jl.adopt(slowly(0.1), b1=0.0, b2=0.1), turns),
    "gradient descent": play(jl.sgd(slowly(0.1)), turns),
}
print("\nturn             " + "".join(f"{turn:8}" for turn in (30, 100, 300, 1000, 3000)) + "   (the best is -1)")
for name, x in games.items():
    print(f"{name:17}" + "".join(f"{x[turn - 1]:8.2f}" for turn in (30, 100, 300, 1000, 3000)))
assert games["Adam, b2 = 0.1"][-1] > 0.99, "the worst point there is"
assert all(jnp.abs(x).max() <= 1 for x in games.values())
assert all(x[-1] < -0.99 for name, x in games.items() if name != "Adam, b2 = 0.1")

# %% [markdown]
# Why: watch three turns with the rate at 1. The large gradient is in its own divisor, so its step is no longer than
# about 1. One turn later it is mostly forgotten, and the two small gradients make steps of nearly that length, both
# up. AMSGrad divides by the largest average so far, which forgets nothing. ADOPT divides by the average without the
# present gradient, so that a large gradient has a large step. A larger `b2` remembers for longer than three turns.

# %%
adam = jl.adam(1.0, b1=0.0, b2=0.1)
three = jnp.diff(follow(adam, turns[:33], jnp.float32(0.0)))[-3:]
print(f"\ngradient +3: step {three[0]:+.2f}    -1: {three[1]:+.2f}    -1: {three[2]:+.2f}    sum {jnp.sum(three):+.2f}")
after_large = (0.9 * 3**2 + 0.1 * 0.9 + 0.01 * 0.9) / (1 - 0.1**3)  # v = 0.1 v + 0.9 g^2 with g = 3, -1, -1, 3, ...
after_first = 0.1 * after_large + 0.9
after_second = 0.1 * after_first + 0.9
by_formula = [-3 / np.sqrt(after_large), 1 / np.sqrt(after_first), 1 / np.sqrt(after_second)]
np.testing.assert_allclose(three, by_formula, rtol=1e-4)
assert jnp.sum(three) > 0.5

# %% [markdown]
# The same with chance in it (Taniguchi and others 2024): the gradient is `k^2` with probability `1/k`, else `-k`. Its
# mean is `k - (k - 1) = 1`, so again the best place is -1. We play with `k = 10`, `b1 = 0.9` and a rate of
# `0.01 / sqrt(1 + t / 100)`. Adam needs a `b2` near 1. ADOPT, as in the first version of the paper, finds the place
# with any. The library's default, that of the later versions, clips large ratios of gradient and divisor, at first more
# and later less: a protection in real runs, a bias in this game, which is over before the clipping is.

# %%
B2 = [0.1, 0.5, 0.9, 0.99, 0.999]
large = jax.random.uniform(jax.random.key(0), (4, TURNS)) < 1 / K
chances = jnp.where(large, float(K) ** 2, -float(K))
kinds = {
    "Adam": lambda b2: jl.adam(slowly(0.01, 100), b2=b2),
    "ADOPT, clipping": lambda b2: jl.adopt(slowly(0.01, 100), b2=b2),
    "ADOPT": lambda b2: jl.adopt(slowly(0.01, 100), b2=b2, use_clipping=False),
}
print(f"\nplace after {TURNS} turns, mean of 4 games\n                " + "".join(f"b2 = {b2:<7}" for b2 in B2))
ends = {}
for name, kind in kinds.items():
    lanes = jl.grid(kind, b2=B2)
    paths = jax.jit(jax.vmap(lambda tx: jax.vmap(lambda game: play(tx, game))(chances)))(lanes.tx)
    ends[name] = paths[:, :, -TURNS // 10 :].mean((1, 2))
    print(f"{name:16}" + "".join(f"{end:<12.2f}" for end in ends[name]))
if (K, TURNS) == (10, 30_000):
    assert jnp.all(ends["Adam"][:3] > 0.9)
    assert ends["Adam"][4] < -0.8
    assert jnp.all(ends["ADOPT"] < -0.8)

# %% [markdown]
# ## What the W is for
#
# Weight decay pulls each weight towards zero. In gradient descent it does not matter whether it is added to the
# gradient, as the derivative of `decay / 2 * w^2`, or done to the weight itself. In Adam it does: what is added to the
# gradient is divided by the root like the gradient, so weights with large gradients hardly decay. AdamW lets each
# weight shrink by the factor `1 - rate * decay`, whatever its gradients are. We see both on two weights whose
# gradients alternate, so that only the decay moves them in the long run: up and down by 10 for one, by 0.1 for the
# other.

# %%
alternating = jnp.where(jnp.arange(1000) % 2 == 0, 1.0, -1.0)[:, None] * jnp.array([10.0, 0.1])
added = jl.chain(jl.add_decayed_weights(0.1), jl.adam(0.01))
decays = {"Adam, decay in the gradient": added, "AdamW": jl.adamw(0.01, weight_decay=0.1)}
left = {name: follow(tx, alternating, jnp.ones(2))[-1] for name, tx in decays.items()}
print("\nwhat is left of a weight of 1 after 1000 steps    gradients of 10    of 0.1")
for name, weights in left.items():
    print(f"{name:49} {weights[0]:15.3f} {weights[1]:9.3f}")
print(f"(1 - 0.01 * 0.1)^1000 = {0.999**1000:.3f}")
np.testing.assert_allclose(left["AdamW"], 0.999**1000, atol=0.02)
assert left["Adam, decay in the gradient"][0] > 0.85
assert abs(left["Adam, decay in the gradient"][1]) < 0.05

# %% [markdown]
# ## The figure

# %%
figure, (rate_axis, eps_axis, game_axis) = plt.subplots(1, 3, figsize=(15, 4.8))
for (name, curve), style in zip(curves.items(), ("C2:o", "C0--s", "C4-.^", "C1-D"), strict=True):
    rate_axis.loglog(RATES, curve, style, markersize=5, label=name)
rate_axis.set(title="Digits, loss after ten epochs", xlabel="learning rate", ylabel="training loss", ylim=(0.01, 20))
rate_axis.legend(ncols=2, loc="upper left")

for name, style in {"the defaults": "C1-D", "eps = 0.01": "C3-.v", "eps = 1": "C5-x"}.items():
    label = "eps = 1e-8" if name == "the defaults" else name
    eps_axis.loglog(RATES, losses[name], style, markersize=5, label=label)
tenfold = 10 * np.array(RATES[:-1])
eps_axis.loglog(tenfold, curves["momentum"][:-1], "C0--s", markersize=5, label="momentum, rate / 10")
eps_axis.set(title="Adam with a large eps is momentum", xlabel="learning rate", ylim=(0.01, 20))
eps_axis.legend(loc="upper left", ncols=2)

for (name, x), style in zip(games.items(), ("C1-", "C1:", "C3--", "C6-.", "C2:"), strict=True):
    game_axis.plot(np.arange(1, 3001), x, style, label=name)
game_axis.set(
    title="The game of Reddi and others", xlabel="turn", ylabel="x, best at -1", xscale="log", xlim=(10, 3000)
)
game_axis.set(ylim=(-1.05, 2.1), yticks=[-1, 0, 1])
game_axis.legend(loc="upper left", ncols=2)
figure.savefig("lesson_06_adam.png")
print("\nfigure: lesson_06_adam.png")

# %% [markdown]
# ## Which one to take
#
# AdamW, with a tuned learning rate, a short warm-up and a decay to zero ([lesson 7](lesson_07_learning_rate_decay.py)):
# nearly always good, seldom the best by much. Momentum for convolutional networks, where it is as good and needs half
# of the memory. [Choosing an optimizer](choosing_an_optimizer.md) has the situations in which another one is worth it.

# %% [markdown]
# ## What to try next
#
# - Set `K = 50`, with rarer and larger gradients: now `b2 = 0.99` leads Adam to the wrong end, too, and 30,000 turns
#   are too few for ADOPT.
# - Set `STEPS = 2200`, a hundred epochs, and compare the order of the four.
# - Play the first game with momentum, `jl.adam(slowly(0.1), b1=0.9, b2=0.1)`: this time Adam finds the best place.
