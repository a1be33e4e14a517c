# %% [markdown]
# # Lesson 10: A whole model
#
# **The idea.** Everything so far, in the order in which one uses it: look at the data and set a part aside, write the
# network and its loss, find the learning rate, compare a few optimizers fairly, train with the best, save on the way,
# and test once, at the end.
#
# **You will see** a curve that suggests a learning rate, a sweep over learning rates and seeds for four optimizers,
# each with one more idea of the lessons, a classifier of garments that gets 87 of 100 right in a few seconds, and a run
# that is cut off and goes on to the same bits.
#
# **It opens** [fit.py](../jaxopt_lessons/train/fit.py), the loop; [lr_find.py](../jaxopt_lessons/train/lr_find.py) and
# [sweep.py](../jaxopt_lessons/train/sweep.py), the search for a learning rate; and
# [checkpoint.py](../jaxopt_lessons/train/observers/checkpoint.py), which saves the run.

# %%
import gzip
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import jaxopt_lessons as jl

plt.style.use("jaxopt_lessons.style")

# %% tags=["parameters"]
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
BATCH, HIDDEN, SEEDS = 128, 64, 2
SWEEP_STEPS, EPOCHS = 120, 3
RATES = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3]

# %% [markdown]
# ## The data
#
# Fashion-MNIST: 70,000 photographs of garments, 28 x 28 pixels of ten kinds. On Debian, Ubuntu and in Colab,
# `apt-get install dataset-fashion-mnist` puts it where this lesson looks. Without it, the lesson goes on with the 1,797
# digits of scikit-learn, which are easier, and says so.
#
# We cut the data into three. The network learns from the first part. The second one, for validation, is there to choose
# by: the learning rate, the optimizer, the number of epochs. What is chosen by a set looks better on it than it is, so
# the third, for testing, is not looked at before the end.


# %%
def read_idx(name, offset):
    """The bytes of a file of Fashion-MNIST behind its header."""
    return np.frombuffer(gzip.decompress((FASHION_MNIST / f"{name}-ubyte.gz").read_bytes()), np.uint8, offset=offset)


if FASHION_MNIST.is_dir():
    data_name = "Fashion-MNIST"
    classes = ["T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]
    x = np.concatenate([read_idx(f"{part}-images-idx3", 16).reshape(-1, 784) for part in ("train", "t10k")])
    x = x / np.float32(255)
    y = np.concatenate([read_idx(f"{part}-labels-idx1", 8) for part in ("train", "t10k")])
    held_back = 10_000
else:
    data_name, classes = "digits (Fashion-MNIST is not here)", list("0123456789")
    digits: Any = load_digits()
    order = np.random.default_rng(0).permutation(1797)
    x, y = digits.data[order] / 16, digits.target[order]
    held_back = 300

x, y = np.asarray(x, np.float32), np.asarray(y, np.int32)
train, val, test = [
    (x[rows], y[rows]) for rows in (slice(-2 * held_back), slice(-2 * held_back, -held_back), slice(-held_back, None))
]
print(f"{data_name}: {len(train[1]):,} to learn from, {len(val[1]):,} to choose by, {len(test[1]):,} to test with")
print("of each class in the training part:", np.bincount(train[1]))

# %% [markdown]
# ## The network and its loss
#
# One hidden layer. The weights begin with a variance of `2 / inputs`, so that what a layer gets and what it hands on
# are of the same size (He et al. 2015). The loss is the cross-entropy: minus the logarithm of the probability that the
# network gives to the right class. By hand it is two lines, and the library's is the same. A network that knows nothing
# gives 1/10 to each class, and its loss is `ln 10 = 2.303`: a number to compare the first loss with.


# %%
def init_network(key):
    normal = jax.random.normal(key, (x.shape[1] + 10, HIDDEN))  # one draw for both layers: it compiles faster
    return {
        "w1": normal[:-10] * np.sqrt(2 / x.shape[1]),
        "b1": jnp.zeros(HIDDEN),
        "w2": normal[-10:].T * np.sqrt(2 / HIDDEN),
        "b2": jnp.zeros(10),
    }


def network(params, images):
    return jax.nn.relu(images @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def loss_fn(params, batch):
    images, labels = batch
    logits = network(params, images)
    loss = jl.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    return loss, {"accuracy": logits.argmax(axis=-1) == labels}


params = init_network(jax.random.key(0))
logits = network(params, val[0])
probabilities = jnp.exp(logits) / jnp.exp(logits).sum(axis=1, keepdims=True)
by_hand = -jnp.log(probabilities[jnp.arange(len(val[1])), val[1]]).mean()
before = jl.evaluate(loss_fn, params, val)
print(f"\nbefore training: loss {before['loss']:.3f}, by hand {by_hand:.3f}, accuracy {before['accuracy']:.1%}")
assert abs(before["loss"] - by_hand) < 1e-5
assert 2 < before["loss"] < 3.5, "near ln 10 = 2.303, or the weights begin too large"

# %% [markdown]
# ## Four optimizers, each with one more idea
#
# All of them take batches of 128, a power of two (lesson 1). The last one is the practice that most people settle on:
# Adam with decoupled weight decay, gradients clipped against a bad batch, and a learning rate that warms up over a
# tenth of the run and comes down to zero on a cosine (lesson 7).


# %%
def warmup_and_cosine(peak, steps):
    run = jl.fraction_of(steps)
    return jl.warmup(run(0.1), peak, from_zero=True).then(jl.cosine_decay_schedule(peak, run.between(0.1, 1.0)))


def practice(peak, steps):
    return jl.chain(jl.clip_by_global_norm(1.0), jl.adamw(warmup_and_cosine(peak, steps), weight_decay=0.01))


OPTIMIZERS = {
    "gradient descent": lambda rate: jl.sgd(rate),
    "momentum": lambda rate: jl.sgd(rate, momentum=0.9),
    "Adam": lambda rate: jl.adam(rate),
    "the practice": lambda rate: practice(rate, SWEEP_STEPS),
}

# %% [markdown]
# ## A first look for the learning rate
#
# `lr_find` trains a copy of the network with a rate that grows from step to step. It suggests the one at which the loss
# falls fastest. Where the loss is least, the rate is too large already. The suggestion is on the safe side: begin there
# and go up two decades.

# %%
batches = jl.minibatches(train, BATCH, remainder="drop")
adam_step = jl.make_step(loss_fn, jl.adam(1e-3))
found = jl.lr_find(adam_step, jl.init_state(params, adam_step, key=0), batches, low=1e-5, high=1.0, steps=150)
print(f"\nlr_find for Adam: {found.suggestion:.1e}; the loss is least at {found.minimum:.1e}")
assert 1e-4 < found.suggestion < found.minimum < 0.2

# %% [markdown]
# ## A sweep
#
# A guess is a guess. So we try several rates for each optimizer, each with two seeds for the weights and the order of
# the data, on short runs, and compare them by the loss on the validation set. A comparison is fair only if every
# optimizer has the rate that is best for it. `sweep` compiles one program for an optimizer and runs all its trainings
# in it: the learning rate is an argument of the program, not a part of it. (`make_scan` needs batches of one size:
# `remainder="drop"` above leaves out what does not fill a batch, other examples in each epoch.)


# %%
def short_training(name):
    def run(hp, key):
        tx = OPTIMIZERS[name](hp["learning_rate"])
        step = jl.make_step(loss_fn, tx)
        state, _ = jl.make_scan(step, SWEEP_STEPS)(jl.init_state(init_network(key), tx, key=key), batches)
        return {"loss": loss_fn(state.params, val)[0].mean()}

    return run


sweeps = {name: jl.sweep(short_training(name), {"learning_rate": RATES}, seeds=SEEDS, how="map") for name in OPTIMIZERS}
best = {name: result.best()["learning_rate"] for name, result in sweeps.items()}
lowest = {name: result.mean("loss").min() for name, result in sweeps.items()}
print(f"\nloss on the validation set after {SWEEP_STEPS} steps, mean of {SEEDS} seeds")
print(f"{'learning rate':<18}" + "".join(f"{rate:>8}" for rate in RATES) + "   best rate")
for name, result in sweeps.items():
    print(f"{name:<18}" + "".join(f"{mean:8.3f}" for mean in result.mean("loss")) + f"   {best[name]:9}")
print(f"the best rate of Adam is {best['Adam'] / found.suggestion:.0f} times the one that lr_find suggested")
assert lowest["gradient descent"] > 1.1 * lowest["Adam"]
assert lowest["gradient descent"] > 1.2 * lowest["the practice"]
assert 3 < best["Adam"] / found.suggestion < 40, "the suggestion is on the safe side"

# %% [markdown]
# ## The rate for the whole run
#
# A short run forgives a rate that is too large: there is no time to suffer from its noise. So the rates around the best
# one are tried again, over the whole run, whose schedule comes down later.

# %%
epoch = batches.per_epoch


def whole_training(hp, key):
    tx = practice(hp["learning_rate"], EPOCHS * epoch)
    step = jl.make_step(loss_fn, tx)
    state, _ = jl.make_scan(step, EPOCHS * epoch)(jl.init_state(params, tx, key=key), batches)
    return {"loss": loss_fn(state.params, val)[0].mean()}


around = [rate for rate in RATES if best["the practice"] / 11 < rate <= best["the practice"]]
whole = jl.sweep(whole_training, {"learning_rate": around})
print(f"\n{EPOCHS} epochs with the practice:\n{whole.table()}")
peak = whole.best()["learning_rate"]

# %% [markdown]
# ## The run
#
# `fit` is the loop: it shuffles, takes the steps in compiled chunks, measures the validation set after each epoch, and
# records the loss and the learning rate of every step. `Checkpoint` saves the run after each epoch, and when it fails.
# To see what that is good for, we let it fail: an observer, a function that is called after each epoch with the run,
# raises an error after the second.

# %%
tx = practice(peak, EPOCHS * epoch)
step = jl.make_step(loss_fn, tx)
state = jl.init_state(params, tx, key=1)
checkpoint = jl.Checkpoint(Path(tempfile.mkdtemp()) / "run")


def trip(run):
    if run.epoch == 1:  # counted from 0
        raise RuntimeError("someone tripped over the cable")


def train_on(*observers, resume=False):
    return jl.fit(step, state, batches, epochs=EPOCHS, val=val, observers=observers, resume=resume, progress=False)


print(f"\n{tx}")
try:
    train_on(trip, checkpoint)
except RuntimeError as error:
    checkpoint_step = checkpoint.saved()
    print(f"saved at step {checkpoint_step} of {EPOCHS * epoch}; then {error}")

# %% [markdown]
# The same call with `resume=True` goes on from the last checkpoint; `epochs` still counts from the beginning. The order
# of the data and every random number are functions of a key and of the number of batches seen, so nothing has to be
# replayed, and the result is that of a run that was never cut off: not nearly, but bit for bit. It is easy to check, so
# we do.

# %%
seen = []
resumed = train_on(lambda run: seen.append(run.cursor), checkpoint, resume=True)
uninterrupted = train_on()
same = jax.tree.map(lambda a, b: bool((a == b).all()), resumed.state.params, uninterrupted.state.params)
print(f"resumed, to step {int(resumed.state.step)}; the same bits as without the cut: {same}")
assert seen[0] == 2 * epoch, "it did not begin again"
assert all(jax.tree.leaves(same))
assert np.array_equal(resumed.history["loss"], uninterrupted.history["loss"])

history = resumed.history
print("\nepoch   training loss   validation loss   validation accuracy   learning rate at its end")
rates = history["learning_rate"][epoch - 1 :: epoch]
assert rates[-1] < 0.01 * peak, "the cosine comes down to zero"
columns = zip(history.epoch_mean("loss"), history["val_loss"], history["val_accuracy"], rates, strict=True)
for number, (loss, val_loss, accuracy, rate) in enumerate(columns, 1):
    print(f"{number:5}{loss:16.3f}{val_loss:18.3f}{accuracy:22.2%}{rate:27.2g}")

# %% [markdown]
# ## The test
#
# Once, at the end, with data that nothing was chosen by.

# %%
result = jl.evaluate(loss_fn, resumed.state.params, test)
answers = np.asarray(network(resumed.state.params, test[0]).argmax(axis=-1))
confusion = np.zeros((10, 10), int)
np.add.at(confusion, (test[1], answers), 1)
print(f"\ntest accuracy {result['accuracy']:.2%}, loss {result['loss']:.3f}")
mistakes = confusion - np.diag(np.diag(confusion))
for place in np.argsort(mistakes, axis=None)[::-1][:3]:
    truth, answer = divmod(int(place), 10)
    number, all_of_it = mistakes[truth, answer], confusion[truth].sum()
    print(f"{classes[truth]:>10} taken for {classes[answer]:<10}{number:5} of {all_of_it}")
assert np.trace(confusion) == round(result["accuracy"] * len(test[1]))
assert result["accuracy"] > 0.86

# %% [markdown]
# ## The figure

# %%
figure, (search, swept, course) = plt.subplots(1, 3, figsize=(15, 4.6))
found.plot(search)
search.set(title="lr_find for Adam: the rate grows", ylim=(0, 4.8), ylabel="loss (nats)")
search.legend(loc="upper left", frameon=True, framealpha=1, edgecolor="white")
for (name, sweep), marker in zip(sweeps.items(), "os^D", strict=True):
    losses = np.asarray(sweep.values["loss"])
    swept.plot(RATES, losses.mean(axis=1), marker=marker, label=name)
    swept.fill_between(RATES, losses.min(axis=1), losses.max(axis=1), alpha=0.2)
swept.set(title=f"Sweep: {SWEEP_STEPS} steps, {SEEDS} seeds", xlabel="learning rate", ylabel="validation loss (nats)")
swept.set(xscale="log", yscale="log")
swept.legend()
epochs = np.arange(len(history["loss"])) / epoch
course.plot(epochs, history["loss"], linewidth=0.5, alpha=0.4, label="training, each batch")
course.plot(np.arange(EPOCHS) + 0.5, history.epoch_mean("loss"), "o-", color="C0", label="training, mean of an epoch")
course.plot(np.arange(1, EPOCHS + 1), history["val_loss"], "s--", color="C1", label="validation")
course.set(title=f"The run: {result['accuracy']:.1%} right in the test", xlabel="epoch", ylabel="loss (nats)")
course.set(yscale="log")
course.legend(loc="lower left")
figure.savefig("lesson_10_whole_model.png")
print("\nfigure: lesson_10_whole_model.png")

# %% [markdown]
# ## What to try next
#
# - `result.best("accuracy", "max")` is how to ask a sweep for the largest of something.
# - `EPOCHS = 20`, and look at training and validation: from where on does the network only learn its training set by
#   heart? `jl.EarlyStopping(patience=3)` and `jl.BestWeights()` are observers for that.
# - `HIDDEN = 512`, or a second layer. Does the best learning rate move?
# - `jl.with_ema(step, decay=0.99)` keeps an average of the weights. Validate with it.
# - [train_fashion_convnet.py](train_fashion_convnet.py) looks at images as images, with convolutions, and gets 91 %.
