"""Handwritten digits, or Fashion-MNIST, and a small network: the main example.

    python examples/train_digits.py
    python examples/train_digits.py --optimizer momentum --schedule staircase --learning-rate 0.05
    python examples/train_digits.py --dataset fashion-mnist --data-dir /usr/share/datasets/fashion-mnist
    python examples/train_digits.py --help

With the default options the training is

    tx    = jl.chain(jl.clip_by_global_norm(1.0), jl.adamw(schedule, weight_decay=0.1))
    step  = jl.make_step(loss_fn, tx)
    state = jl.init_state(params, tx, key=key)
    out   = jl.fit(step, state, (x, y), epochs=20, batch_size=32, val=(x_test, y_test))

and the rest of the file is what goes in and what comes out, from top to bottom: network and loss, optimizer and
learning rate, training, data, report, options. It prints a table with a row for each epoch and what the network
confuses, and draws a figure. It needs scikit-learn (the 1,797 digits come with it) and matplotlib:
``pip install scikit-learn matplotlib``.
"""

import argparse
import gzip
import math
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import jaxopt_lessons as jl

HIDDEN = (256, 128)
"""Units in the hidden layers."""

Params = list[dict[str, jax.Array]]


# ---------------------------------------------------------------------------------------------------------------------
# The network and its loss
# ---------------------------------------------------------------------------------------------------------------------


def init_network(key: jax.Array, sizes: Sequence[int]) -> Params:
    """He initialisation: weights of variance ``2 / inputs``, with which ReLU layers keep the size of what they get."""
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        {"w": jax.random.normal(key, (inputs, outputs)) * math.sqrt(2 / inputs), "b": jnp.zeros(outputs)}
        for key, inputs, outputs in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def network(params: Params, x: jax.Array) -> jax.Array:
    """From images ``[batch, pixels]`` to logits ``[batch, classes]``."""
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    return x @ params[-1]["w"] + params[-1]["b"]


def loss_fn(params: Params, batch: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
    """One loss for each example, and whether each was recognised; the step takes the means."""
    x, y = batch
    logits = network(params, x)
    loss = jl.losses.softmax_cross_entropy_with_integer_labels(logits, y)
    return loss, {"accuracy": logits.argmax(axis=-1) == y}


# ---------------------------------------------------------------------------------------------------------------------
# The optimizer and its learning rate
# ---------------------------------------------------------------------------------------------------------------------


def optimizers(rate: jl.Schedule, weight_decay: float) -> dict[str, jl.GradientTransformation]:
    return {
        "sgd": jl.sgd(rate),
        "momentum": jl.sgd(rate, momentum=0.9),
        "ema_momentum": jl.ema_momentum(rate, beta=0.9),
        "rmsprop": jl.rmsprop(rate),
        "adagrad": jl.adagrad(rate),
        "adam": jl.adam(rate),
        "adamw": jl.adamw(rate, weight_decay=weight_decay),
    }


LEARNING_RATES = {
    "sgd": 0.5,
    "momentum": 0.1,
    "ema_momentum": 1.0,
    "rmsprop": 1e-3,
    "adagrad": 0.1,
    "adam": 3e-3,
    "adamw": 3e-3,
}
"""The largest learning rate of a run that asks for no other."""


def schedules(peak: float, epochs: int, steps_per_epoch: int) -> dict[str, jl.Schedule]:
    """Ways from the largest learning rate down; each is a function of the number of steps taken so far."""
    steps = epochs * steps_per_epoch
    stair = math.ceil(epochs / 5) * steps_per_epoch
    return {
        "constant": jl.constant_schedule(peak),
        "linear": jl.linear_schedule(peak, 0.0, steps),
        "cosine": jl.cosine_decay_schedule(peak, steps),
        "warmup-cosine": jl.warmup_cosine_decay_schedule(0.0, peak, warmup_steps=steps // 10, decay_steps=steps),
        "exponential": jl.exponential_decay(peak, steps, decay_rate=0.01),
        "staircase": jl.exponential_decay(peak, stair, decay_rate=0.5, staircase=True),
        "inverse-time": jl.inverse_time_decay(peak, decay_rate=1.0, steps_per_epoch=steps_per_epoch),
    }


def make_optimizer(name: str, rate: jl.Schedule, clip_norm: float, weight_decay: float) -> jl.GradientTransformation:
    """``chain(clip, optimizer)``, without the clipping if ``clip_norm`` is 0.

    AdamW has a weight decay of its own. For the others it is the gradient of a term in the loss, half of
    ``weight_decay * |params|^2``.
    """
    stages = [jl.clip_by_global_norm(clip_norm)] if clip_norm else []
    if weight_decay and name != "adamw":
        stages.append(jl.add_decayed_weights(weight_decay))
    return jl.chain(*stages, optimizers(rate, weight_decay)[name])


# ---------------------------------------------------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> jl.FitResult:
    options = parse(arguments)
    try:
        data = load_digits() if options.dataset == "digits" else load_fashion_mnist(options.data_dir)
    except DataError as error:
        sys.exit(f"train_digits: {error}")
    print(f"{options.dataset}: {len(data.y):,} images to learn from, {len(data.y_test):,} to test with")

    steps_per_epoch = math.ceil(len(data.y) / options.batch_size)
    init_key, run_key = jax.random.split(jax.random.key(options.seed))
    params = init_network(init_key, (data.x.shape[1], *HIDDEN, len(data.classes)))

    schedule = schedules(options.learning_rate, options.epochs, steps_per_epoch)[options.schedule]
    tx = make_optimizer(options.optimizer, schedule, options.clip_norm, options.weight_decay)
    step = jl.make_step(loss_fn, tx)
    state = jl.init_state(params, tx, key=run_key)
    train, test = (data.x, data.y), (data.x_test, data.y_test)
    print(f"{tx}\n")
    out = jl.fit(step, state, train, epochs=options.epochs, batch_size=options.batch_size, val=test)

    if not np.isfinite(out.history["loss"]).all():
        sys.exit(f"train_digits: the loss is not finite; try a --learning-rate below {options.learning_rate:g}")
    print_table(out.history, schedule)
    print(
        f"\ntest accuracy {out.history['val_accuracy'][-1]:.2%}"
        f" after {out.seconds:.2f} s, in which {out.compiles} programs were compiled"
    )

    # The hyperparameters are inputs of the compiled program: a run with other values compiles nothing.
    half = schedules(options.learning_rate / 2, options.epochs, steps_per_epoch)[options.schedule]
    again = jl.fit(step.replace(learning_rate=half), state, train, epochs=1, batch_size=options.batch_size, val=test)
    print(f"one epoch with half the learning rate: {again.seconds:.2f} s, {again.compiles} programs compiled\n")

    predicted = np.asarray(network(out.state.params, jnp.asarray(data.x_test)).argmax(axis=-1))
    print_confusions(data, predicted)
    if options.figure is not None:
        draw(data, predicted, out.history, schedule, steps_per_epoch).savefig(options.figure)
        print(f"\nfigure: {options.figure}")
    return out


# ---------------------------------------------------------------------------------------------------------------------
# The data
# ---------------------------------------------------------------------------------------------------------------------


class Dataset(NamedTuple):
    """Images ``[number, pixels]`` with values from 0 to 1, and the number of the class of each."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]


def load_digits() -> Dataset:
    """The digits of scikit-learn, 8 x 8 pixels. A fifth of each class is for testing, always the same one."""
    from sklearn import datasets, model_selection

    digits: Any = datasets.load_digits()
    x, y = np.float32(digits.data / 16), np.int32(digits.target)
    split: Any = model_selection.train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
    x, x_test, y, y_test = split
    return Dataset(x, y, x_test, y_test, tuple("0123456789"))


FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
GARMENTS = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
HOW_TO_GET_IT = (
    f"To get Fashion-MNIST on Debian or Ubuntu: apt-get install dataset-fashion-mnist, then --data-dir {FASHION_MNIST}"
)


class DataError(Exception):
    """A file is not there, or is not what it should be."""


def load_fashion_mnist(directory: Path) -> Dataset:
    """70,000 photographs of garments, 28 x 28 pixels, from four IDX files."""
    arrays = []
    for part in ("train", "t10k"):
        images = read_idx(directory / f"{part}-images-idx3-ubyte", dimensions=3)
        labels = read_idx(directory / f"{part}-labels-idx1-ubyte", dimensions=1)
        if len(images) != len(labels) or not len(images):
            raise DataError(f"{directory} has {len(images)} {part} images and {len(labels)} labels. {HOW_TO_GET_IT}")
        if labels.max() >= len(GARMENTS):
            raise DataError(f"{directory} has a {part} label {labels.max()}, which is no garment. {HOW_TO_GET_IT}")
        arrays += [np.float32(images.reshape(len(images), -1)) / 255, np.int32(labels)]
    return Dataset(*arrays, classes=GARMENTS)


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Reads an array of bytes in the IDX format, from ``path`` or from ``path`` with ``.gz`` after it.

        2 bytes       0
        1 byte        8, the code of unsigned bytes
        1 byte        number of dimensions
        4 bytes each  the dimensions, big-endian
        the rest      the entries, those of the last dimension next to each other

    Raises:
      DataError: there is no such file, or it is broken or of another kind.
    """
    zipped = path.with_name(path.name + ".gz")
    if not path.exists() and not zipped.exists():
        raise DataError(f"there is no {path.name} (or {zipped.name}) in {path.parent}. {HOW_TO_GET_IT}")
    path = path if path.exists() else zipped
    try:
        content = path.read_bytes()
        if path == zipped:
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {error}. {HOW_TO_GET_IT}") from None

    start = 4 + 4 * dimensions
    if len(content) < start or content[:4] != bytes([0, 0, 8, dimensions]):
        raise DataError(
            f"{path} is no IDX file of bytes with {dimensions} dimensions: it begins with {content[:4].hex(' ')}, "
            f"not with {bytes([0, 0, 8, dimensions]).hex(' ')}. {HOW_TO_GET_IT}"
        )
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", dimensions, offset=4))
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"{path} has {len(content) - start:,} bytes of data, but its header says {shape}, "
            f"which is {math.prod(shape):,} bytes. {HOW_TO_GET_IT}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


# ---------------------------------------------------------------------------------------------------------------------
# The report
# ---------------------------------------------------------------------------------------------------------------------


def print_table(history: jl.History, schedule: jl.Schedule) -> None:
    """A row for each epoch. The training columns are means over the epoch, taken while the parameters change."""
    last_updates = jnp.asarray(history.steps("val_loss")) - 1
    columns = zip(
        history.epoch_mean("loss"),
        history.epoch_mean("accuracy"),
        history["val_loss"],
        history["val_accuracy"],
        np.asarray(schedule(last_updates)),
        strict=True,
    )
    print("       ------ train ------   ------ test -------   learning rate")
    print("epoch      loss   accuracy       loss   accuracy        at end")
    for epoch, (loss, accuracy, test_loss, test_accuracy, rate) in enumerate(columns, start=1):
        print(f"{epoch:5}  {loss:8.4f}   {accuracy:8.2%}   {test_loss:8.4f}   {test_accuracy:8.2%}   {rate:11.3g}")


def print_confusions(data: Dataset, predicted: np.ndarray) -> None:
    """Which classes the network takes for which others, the most frequent mistakes first."""
    wrong = np.flatnonzero(predicted != data.y_test)
    print(
        f"{len(wrong)} of {len(predicted):,} test images are not recognised" + (", most often:" if len(wrong) else "")
    )
    pairs = Counter((int(data.y_test[i]), int(predicted[i])) for i in wrong)
    for (truth, answer), times in pairs.most_common(5):
        images = np.sum(data.y_test == truth)
        print(f"  {data.classes[truth]:>10} taken for {data.classes[answer]:<10}  {times:4} of {images}")


BLUE, ORANGE, RED, GREY = "#0072b2", "#e69f00", "#d00000", "#808080"  # Told apart by colour-blind readers, too.


def draw(
    data: Dataset, predicted: np.ndarray, history: jl.History, schedule: jl.Schedule, steps_per_epoch: int
) -> Figure:
    """The course of the training, and some test images with the network's answers."""
    figure = Figure(figsize=(11, 5), dpi=100, layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(2.4, 1))
    above, below = parts
    draw_curves(above.subplots(1, 3), history, schedule, steps_per_epoch)
    draw_images(below, data, predicted)
    return figure


def draw_curves(axes: Any, history: jl.History, schedule: jl.Schedule, steps_per_epoch: int) -> None:
    steps = history.steps("loss")
    train_epochs = np.arange(1, len(history["val_loss"]) + 1) - 0.5  # Means over an epoch belong to its middle.
    test_epochs = history.steps("val_loss") / steps_per_epoch
    loss, accuracy, rate = axes

    loss.plot(steps / steps_per_epoch, history["loss"], color=BLUE, alpha=0.3, linewidth=0.8, label="training batches")
    loss.plot(train_epochs, history.epoch_mean("loss"), color=BLUE, marker=".", label="training, mean")
    loss.plot(test_epochs, history["val_loss"], color=ORANGE, marker=".", label="test")
    loss.set(title="Loss", ylabel="cross-entropy (nats)", yscale="log")
    loss.legend(frameon=False)

    test_accuracy = 100 * history["val_accuracy"]
    accuracy.plot(train_epochs, 100 * history.epoch_mean("accuracy"), color=BLUE, marker=".", label="training, mean")
    label = f"test, {test_accuracy[-1]:.1f} % at the end"
    accuracy.plot(test_epochs, test_accuracy, color=ORANGE, marker=".", label=label)
    accuracy.set(title="Accuracy", ylabel="recognised images (%)", ylim=(max(test_accuracy.min() - 3, 0), None))
    accuracy.locator_params(axis="y", nbins=6)
    accuracy.legend(frameon=False, loc="lower right")

    rate.plot(steps / steps_per_epoch, schedule(jnp.arange(len(steps))), color=BLUE)
    rate.set(title="Learning rate", ylabel="learning rate", ylim=(0, None))

    for ax in axes:
        ax.set(xlabel="time (epochs)", xlim=(0, None))
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)


def draw_images(figure: Any, data: Dataset, predicted: np.ndarray) -> None:
    """A right answer for each class, and then wrong ones with the truth below."""
    is_right = predicted == data.y_test
    _, firsts = np.unique(predicted[is_right], return_index=True)
    chosen = [*np.flatnonzero(is_right)[firsts], *np.flatnonzero(~is_right)[:4]]
    side = math.isqrt(data.x_test.shape[1])
    for ax, i in zip(figure.subplots(1, len(chosen)), chosen, strict=True):
        ax.imshow(data.x_test[i].reshape(side, side), cmap="gray_r")
        ax.set(xticks=[], yticks=[])
        ax.set_title(data.classes[predicted[i]], fontsize=9, color="black" if is_right[i] else RED)
        ax.spines[:].set(color=GREY if is_right[i] else RED, linewidth=0.5 if is_right[i] else 2)
        if not is_right[i]:
            ax.set_xlabel(f"is {data.classes[data.y_test[i]]}", fontsize=8, color=RED)
    figure.suptitle("Test images and what the network takes them for; mistakes in red")


# ---------------------------------------------------------------------------------------------------------------------
# The options
# ---------------------------------------------------------------------------------------------------------------------

EPOCHS = {"digits": 20, "fashion-mnist": 5}
BATCH_SIZES = {"digits": 32, "fashion-mnist": 128}
FIGURE_TYPES = (".pdf", ".png", ".svg")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Trains a small network on images of digits or garments.")
    add = parser.add_argument
    add("--dataset", choices=EPOCHS, default="digits", help="what to learn (default: %(default)s)")
    add("--data-dir", type=Path, help=f"where the four files of Fashion-MNIST are (default: {FASHION_MNIST})")
    add("--optimizer", choices=LEARNING_RATES, default="adamw", help="(default: %(default)s)")
    add("--schedule", choices=schedules(1.0, 1, 1), default="warmup-cosine", help="(default: %(default)s)")
    add("--learning-rate", type=number(above=0), help="the largest of the run (default: one for each optimizer)")
    add("--weight-decay", type=number(least=0), help="(default: 0.1 for adamw, 0 for the others)")
    add(
        "--clip-norm",
        type=number(least=0),
        default=1.0,
        help="largest norm of the gradients; 0 for any (default: %(default)s)",
    )
    add("--batch-size", type=whole(1), help=f"images in a batch (default: {by_dataset(BATCH_SIZES)})")
    add("--epochs", type=whole(1), help=f"how many times to go through the images (default: {by_dataset(EPOCHS)})")
    add(
        "--seed",
        type=whole(0),
        default=0,
        help="of the first parameters and the order of the images (default: %(default)s)",
    )
    add("--figure", type=Path, help="where to draw (default: train_DATASET.png)")
    add("--no-figure", action="store_true", help="do not draw")
    options = parser.parse_args(arguments)

    if options.data_dir is not None and options.dataset == "digits":
        parser.error("argument --data-dir: the digits come with scikit-learn; only fashion-mnist is read from files")
    if options.figure is not None and options.figure.suffix.lower() not in FIGURE_TYPES:
        parser.error(f"argument --figure: must end in {', '.join(FIGURE_TYPES)}; got {str(options.figure)!r}")
    if options.figure is not None and not options.figure.parent.is_dir():
        parser.error(f"argument --figure: there is no directory {str(options.figure.parent)!r}")
    defaults = {
        "data_dir": FASHION_MNIST,
        "learning_rate": LEARNING_RATES[options.optimizer],
        "weight_decay": 0.1 if options.optimizer == "adamw" else 0.0,
        "batch_size": BATCH_SIZES[options.dataset],
        "epochs": EPOCHS[options.dataset],
        "figure": Path(f"train_{options.dataset}.png"),
    }
    for name, default in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, default)
    if options.no_figure:
        options.figure = None
    return options


def by_dataset(values: dict[str, int]) -> str:
    return ", ".join(f"{value} for {name}" for name, value in values.items())


def whole(least: int) -> Callable[[str], int]:
    """The type of an option that is a whole number of at least ``least``, and fits into 32 bits."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value < 2**31:
            raise argparse.ArgumentTypeError(f"must be a whole number in [{least}, 2^31); got {text!r}")
        return value

    return convert


def number(least: float = -math.inf, above: float = -math.inf) -> Callable[[str], float]:
    """The type of an option that is a finite number of at least ``least``, or more than ``above``."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (value >= least and value > above and value < math.inf):
            wanted = f"above {above:g}" if above > -math.inf else f"of at least {least:g}"
            raise argparse.ArgumentTypeError(f"must be a finite number {wanted}; got {text!r}")
        return value

    return convert


if __name__ == "__main__":
    main()
