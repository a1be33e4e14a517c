"""A convolutional network with batch normalization, in Flax NNX, on Fashion-MNIST.

    python examples/train_fashion_convnet.py
    python examples/train_fashion_convnet.py --digits            # no files needed: the digits of scikit-learn
    python examples/train_fashion_convnet.py --run runs/fashion  # stop it at any time; the same command goes on
    python examples/train_fashion_convnet.py --help

A module of NNX holds everything in one object; training wants the parameters, which have gradients, apart from running
means and random streams, which have none. ``nnx_loss`` takes it apart, and its ``merge`` puts it together again:

    params, model_state, loss_fn = jl.nnx_loss(ConvNet(...), loss)
    step  = jl.make_step(loss_fn, tx, stateful=True)
    state = jl.init_state(params, step, key=key, model_state=model_state)
    out   = jl.fit(step, state, train, epochs=4, batch_size=128, remainder="drop", val=test)
    model = loss_fn.merge(out.state.params, out.state.model_state)

The loss is one number for each example, so what is printed are means over examples, whatever the batches are.

On two busy CPU cores four epochs took 218 s (another time 433 s; 200 s of processor time), and 90.96 % of the 10,000
test images were recognised; the network of ``train_digits.py``, without convolutions, knows 88.5 % after five. On CPUs
``fit`` takes one step after the other here: XLA is slow with convolutions inside loops.

It needs flax, scikit-learn and matplotlib, with ``--run`` also orbax-checkpoint.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from train_digits import FASHION_MNIST, DataError, Dataset, draw, load_digits, load_fashion_mnist, number, whole

import jaxopt_lessons as jl

FIGURES = Path(__file__).parent / "figures"
PLACES = (FASHION_MNIST, Path.home() / ".keras/datasets/fashion-mnist", Path("data/FashionMNIST/raw"))
"""Where Debian, Keras and torchvision put the four files."""


# ---------------------------------------------------------------------------------------------------------------------
# The network and its loss
# ---------------------------------------------------------------------------------------------------------------------


class ConvNet(nnx.Module):
    """Two stages of convolution, batch normalization, ReLU and pooling, each of which halves the image's sides."""

    def __init__(self, side: int, classes: int, rngs: nnx.Rngs, channels: tuple[int, int] = (16, 32)):
        first, second = channels
        # A batch normalization subtracts the mean, so a bias before it would do nothing.
        self.conv1 = nnx.Conv(1, first, (3, 3), use_bias=False, rngs=rngs)
        self.norm1 = nnx.BatchNorm(first, momentum=0.9, rngs=rngs)
        self.conv2 = nnx.Conv(first, second, (3, 3), use_bias=False, rngs=rngs)
        self.norm2 = nnx.BatchNorm(second, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.head = nnx.Linear((side // 4) ** 2 * second, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """From images ``[batch, side, side, 1]`` to logits ``[batch, classes]``."""
        x = halved(nnx.relu(self.norm1(self.conv1(x))))
        x = halved(nnx.relu(self.norm2(self.conv2(x))))
        return self.head(self.dropout(x.reshape(len(x), -1)))


def halved(x: jax.Array) -> jax.Array:
    return nnx.max_pool(x, window_shape=(2, 2), strides=(2, 2))


def loss(model: ConvNet, batch: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
    """One loss for each example, and whether each was recognised.

    Nothing is said of training and testing here: ``fit`` calls it with the module in the mode of ``model.eval()`` on
    validation data, where batch normalization takes the running means and nothing is dropped out.
    """
    x, y = batch
    logits = model(x)
    return jl.losses.softmax_cross_entropy_with_integer_labels(logits, y), {"accuracy": logits.argmax(axis=-1) == y}


# ---------------------------------------------------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------------------------------------------------


def make_schedule(learning_rate: float, steps: int) -> jl.Schedule:
    """A tenth of the run to warm up, on top of half a cosine."""
    return jl.warmup(max(steps // 10, 1), from_zero=False) * jl.cosine_decay_schedule(learning_rate, steps)


def make_optimizer(rate: jl.Schedule) -> jl.GradientTransformation:
    """SGD with momentum, which suits convolutional networks, and the gradient of a term ``5e-4 / 2 * |params|^2``."""
    return jl.chain(jl.add_decayed_weights(5e-4), jl.sgd(rate, momentum=0.9, nesterov=True))


def print_epoch(run: jl.Run) -> None:
    """``fit`` calls it after each epoch; the training columns are means while the parameters change."""
    history = run.history
    print(
        f"epoch {run.epoch + 1:3}   train loss {history.epoch_mean('loss')[-1]:.4f}"
        f" accuracy {history.epoch_mean('accuracy')[-1]:.2%}"
        f"   test loss {history['val_loss'][-1]:.4f} accuracy {history['val_accuracy'][-1]:.2%}",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> jl.FitResult:
    options = parse(arguments)
    data = load(options)
    train, test = (images(data.x), data.y), (images(data.x_test), data.y_test)
    train = tuple(array[: options.examples] for array in train)
    print(f"{options.name}: {len(train[1]):,} images to learn from, {len(test[1]):,} to test with")

    # A last batch of a few images has means and variances of its own, on which batch normalization would stumble:
    # it is dropped, other images in each epoch. (With remainder="wrap" the next epoch begins with them.)
    batches = jl.minibatches(train, options.batch_size, remainder="drop")

    model = ConvNet(test[0].shape[1], len(data.classes), nnx.Rngs(options.seed))
    params, model_state, loss_fn = jl.nnx_loss(model, loss)
    schedule = make_schedule(options.learning_rate, options.epochs * batches.per_epoch)
    tx = make_optimizer(schedule)
    step = jl.make_step(loss_fn, tx, stateful=True)
    state = jl.init_state(params, step, key=options.seed, model_state=model_state)
    print(f"{sum(leaf.size for leaf in jax.tree.leaves(params)):,} parameters, {tx}\n")

    observers: list[Any] = [print_epoch]
    if options.run is not None:
        observers.append(jl.Checkpoint(options.run))
    out = jl.fit(
        step, state, batches, epochs=options.epochs, val=test, observers=observers, resume=options.run is not None
    )
    if out.reason != "finished":
        print(f"stopped after {int(out.state.step)} steps: {out.reason}")
        return out

    # The last line is not the history's: the trained module is put together and measured once more.
    trained = (out.state.params, out.state.model_state)
    measured = jl.evaluate(loss_fn, trained[0], test, batch_size=500, model_state=trained[1])
    print(f"\ntest accuracy {measured['accuracy']:.2%}, loss {measured['loss']:.4f}, after {out.seconds:.1f} s")
    model = loss_fn.merge(*trained)
    model.eval()
    parts = np.array_split(test[0], -(-len(test[0]) // 500))
    predicted = np.concatenate([model(x).argmax(axis=-1) for x in parts])
    draw(data, predicted, out.history, schedule, batches.per_epoch).savefig(options.figure)
    print(f"figure: {options.figure}")
    return out


# ---------------------------------------------------------------------------------------------------------------------
# The data
# ---------------------------------------------------------------------------------------------------------------------


def load(options: argparse.Namespace) -> Dataset:
    """The digits if they are asked for; else the files of Fashion-MNIST, or the end with what can be done."""
    if options.digits:
        return load_digits()
    places = PLACES if options.data_dir is None else (options.data_dir,)
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        sys.exit(
            f"train_fashion_convnet: Fashion-MNIST is not in {' or '.join(map(str, places))}. Either\n"
            "  apt-get install dataset-fashion-mnist   on Debian or Ubuntu, or\n"
            "  --data-dir DIR                          with its four files, train-images-idx3-ubyte.gz ..., or\n"
            "  --digits                                for the small digits of scikit-learn in its place"
        )
    print(f"files of {found}")
    try:
        return load_fashion_mnist(found)
    except DataError as error:
        sys.exit(f"train_fashion_convnet: {error}")


def images(x: np.ndarray) -> np.ndarray:
    """From rows of pixels to ``[image, side, side, channel]``."""
    side = round(x.shape[1] ** 0.5)
    return x.reshape(len(x), side, side, 1)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Trains a convolutional network with batch normalization.")
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--data-dir", type=Path, help="where Fashion-MNIST is (default: what Debian and others use)")
    source.add_argument("--digits", action="store_true", help="learn the digits of scikit-learn in its place")
    add("--examples", type=whole(1), help="how many of the images to learn from (default: all)")
    add("--epochs", type=whole(1), help="how many times to go through them (default: 4, for digits 20)")
    add("--batch-size", type=whole(1), help="images in a batch (default: 128, for digits 64)")
    add("--learning-rate", type=number(above=0), default=0.1, help="the largest (default: %(default)s)")
    add("--seed", type=whole(0), default=0, help="of the parameters, dropout and order (default: %(default)s)")
    add("--run", type=Path, help="a directory for checkpoints, from which the same command goes on (default: none)")
    add("--figure", type=Path, help="where to draw (default: figures/NAME_convnet.png beside this file)")
    options = parser.parse_args(arguments)
    options.name = "digits" if options.digits else "fashion"
    options.epochs = options.epochs or (20 if options.digits else 4)
    options.batch_size = options.batch_size or (64 if options.digits else 128)
    options.figure = options.figure or FIGURES / f"{options.name}_convnet.png"
    if not options.figure.parent.is_dir():
        parser.error(f"argument --figure: there is no directory {str(options.figure.parent)!r}")
    return options


if __name__ == "__main__":
    main()
