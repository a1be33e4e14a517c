"""A small transformer that learns to write, character by character, from half of Jane Austen's "Persuasion".

    python examples/train_characters.py
    python examples/train_characters.py --steps 3000 --run runs/characters     # stop it; the same command goes on
    python examples/train_characters.py --accumulate 4 --policy bfloat16
    python examples/train_characters.py --help

No framework: the parameters are a dict of arrays, the model is thirty lines. What to see from top to bottom:

    model       embedding, blocks of causal attention and a network, each behind a normalization; dropout takes a key
    data        a function of the epoch returns the batches: windows that begin anywhere in the text
    optimizer   chain(clip_by_global_norm, adamw(warm-up, then half a cosine)), and an average of the weights
    measure     bits for each character of the text that was held back, beside those of counting characters and pairs
    sampling    one compiled scan, a character after the other

On two busy CPU cores the 1,500 steps took 171 s (busier, at a load of 9: 488 s). The text that was held back costs
2.13 bits a character; counting pairs of characters, 3.53.

It needs matplotlib, with ``--run`` also orbax-checkpoint. ``persuasion.md`` says where the text comes from.
"""

import argparse
import functools
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from train_digits import number, whole

import jaxopt_lessons as jl

HERE = Path(__file__).parent
WIDTH, LAYERS, HEADS = 128, 3, 4
CONTEXT = 64
"""Characters that the model sees at once."""
DROPOUT = 0.1
EPOCH = 100
"""Batches between two validations; the windows are drawn, so an epoch is what we call one."""

Params = dict[str, Any]


# ---------------------------------------------------------------------------------------------------------------------
# The model
# ---------------------------------------------------------------------------------------------------------------------


def init_model(key: jax.Array, characters: int) -> Params:
    """Weights ``[inputs, outputs]``. What ends a block is 0: the model begins without them, as embeddings alone."""
    keys = iter(jax.random.split(key, 2 + 2 * LAYERS))

    def normal(deviation: float, *shape: int) -> jax.Array:
        return deviation * jax.random.normal(next(keys), shape)

    def block() -> Params:
        return {
            "norm1": jnp.ones(WIDTH),
            "query_key_value": normal(WIDTH**-0.5, WIDTH, 3 * WIDTH),
            "project": jnp.zeros((WIDTH, WIDTH)),
            "norm2": jnp.ones(WIDTH),
            "widen": normal(WIDTH**-0.5, WIDTH, 4 * WIDTH),
            "narrow": jnp.zeros((4 * WIDTH, WIDTH)),
        }

    return {
        "embedding": normal(0.02, characters, WIDTH),
        "position": normal(0.02, CONTEXT, WIDTH),
        "blocks": [block() for _ in range(LAYERS)],
        "norm": jnp.ones(WIDTH),
    }


def normalized(x: jax.Array, scale: jax.Array) -> jax.Array:
    """Root mean square normalization, calculated in float32 whatever comes."""
    x32 = x.astype(jnp.float32)
    return (x32 * jax.lax.rsqrt(jnp.mean(x32**2, axis=-1, keepdims=True) + 1e-6)).astype(x.dtype) * scale


def attention(block: Params, x: jax.Array) -> jax.Array:
    """What each place takes from itself and the places before it, ``[batch, time, width]``."""
    batch, time, width = x.shape
    parts = (x @ block["query_key_value"]).reshape(batch, time, 3, HEADS, width // HEADS)
    found = jax.nn.dot_product_attention(parts[:, :, 0], parts[:, :, 1], parts[:, :, 2], is_causal=True)
    return found.reshape(batch, time, width) @ block["project"]


def feed_forward(block: Params, x: jax.Array) -> jax.Array:
    return jax.nn.relu(x @ block["widen"]) @ block["narrow"]


def dropout(x: jax.Array, key: jax.Array | None) -> jax.Array:
    """Without a key, as in validation and sampling, nothing is dropped out."""
    if key is None:
        return x
    return jnp.where(jax.random.bernoulli(key, 1 - DROPOUT, x.shape), x / (1 - DROPOUT), 0).astype(x.dtype)


def model(params: Params, text: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """From characters ``[batch, time]`` to logits of the next ones, ``[batch, time, characters]``."""
    keys = iter([None] * 2 * LAYERS if key is None else jax.random.split(key, 2 * LAYERS))
    x = params["embedding"][text] + params["position"][: text.shape[1]]
    for block in params["blocks"]:
        x = x + dropout(attention(block, normalized(x, block["norm1"])), next(keys))
        x = x + dropout(feed_forward(block, normalized(x, block["norm2"])), next(keys))
    return normalized(x, params["norm"]) @ params["embedding"].T  # Tied: the same table reads and writes.


def loss_fn(params: Params, windows: jax.Array, key: jax.Array | None) -> tuple[jax.Array, dict[str, jax.Array]]:
    """One loss for each window ``[batch, time + 1]``, in nats; every character is to be told from those before it."""
    logits = model(params, windows[:, :-1], key).astype(jnp.float32)
    loss = jl.losses.softmax_cross_entropy_with_integer_labels(logits, windows[:, 1:]).mean(axis=-1)
    return loss, {"bits": loss / math.log(2)}


# ---------------------------------------------------------------------------------------------------------------------
# The data
# ---------------------------------------------------------------------------------------------------------------------


class Text(NamedTuple):
    """A text as numbers of its characters; the last tenth is held back for validation."""

    characters: str
    train: np.ndarray
    val: np.ndarray


def read(path: Path) -> Text:
    text = path.read_text(encoding="utf-8")
    characters = "".join(sorted(set(text)))
    numbers = np.array([characters.index(c) for c in text], np.int32)
    return Text(characters, *np.split(numbers, [len(numbers) * 9 // 10]))


def windows(text: np.ndarray, batch_size: int, seed: int) -> Callable[[int], list[np.ndarray]]:
    """The batches of an epoch, as a function of its number: a run that goes on asks for the same ones again."""

    def epoch_of_windows(epoch: int) -> list[np.ndarray]:
        random = np.random.default_rng((seed, epoch))
        starts = random.integers(len(text) - CONTEXT, size=(EPOCH, batch_size, 1))
        return list(text[starts + np.arange(CONTEXT + 1)])

    return epoch_of_windows


def in_a_row(text: np.ndarray) -> np.ndarray:
    """Windows, each of which begins with the last character of the one before: each character is told once."""
    return np.lib.stride_tricks.sliding_window_view(text, CONTEXT + 1)[::CONTEXT]


def baselines(text: Text) -> dict[str, float]:
    """Bits for each character of the validation text, for who knows the alphabet; how frequent each character is in
    the training text; and each pair. One is added to each count, so that nothing is impossible."""
    n = len(text.characters)
    pairs = np.ones((n, n))
    np.add.at(pairs, (text.train[:-1], text.train[1:]), 1)
    single = np.bincount(text.train, minlength=n) + 1.0
    before, after = text.val[:-1], text.val[1:]
    return {
        "uniform": math.log2(n),
        "unigram": float(-np.log2(single / single.sum())[after].mean()),
        "bigram": float(-np.log2(pairs / pairs.sum(axis=1, keepdims=True))[before, after].mean()),
    }


# ---------------------------------------------------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------------------------------------------------


def matrices(params: Params) -> Any:
    """What decays: embeddings and weights; the scales of normalizations are not pulled to zero."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def make_optimizer(learning_rate: float, steps: int) -> jl.GradientTransformation:
    """A tenth of the run to warm up, then half a cosine down to a twentieth."""
    up = max(steps // 10, 1)
    down = jl.cosine_decay_schedule(learning_rate, max(steps - up, 1), alpha=0.05)
    rate = jl.warmup(up, learning_rate, from_zero=False).then(down)
    return jl.chain(jl.clip_by_global_norm(1.0), jl.adamw(rate, b2=0.99, weight_decay=0.1, mask=matrices))


def print_epoch(run: jl.Run) -> None:
    """After each epoch. The training bits are those of its steps, with dropout and the weights of the moment."""
    bits = run.history.epoch_mean("bits")[-1]
    print(f"{run.cursor:5} steps   training {bits:.3f}   validation {run.history['val_bits'][-1]:.3f} bits", flush=True)


def main(arguments: Sequence[str] | None = None) -> jl.FitResult:
    options = parse(arguments)
    text = read(options.text)
    if len(text.val) <= CONTEXT:
        sys.exit(f"train_characters: {options.text} is too short: a tenth of it must be longer than {CONTEXT}")
    known = baselines(text)

    init_key, run_key, sample_key = jax.random.split(jax.random.key(options.seed), 3)
    params = init_model(init_key, len(text.characters))
    tx = make_optimizer(options.learning_rate, options.steps)
    step = jl.make_step(loss_fn, tx, accumulate=options.accumulate, policy=options.policy, metrics=["gradient_norm"])
    step = jl.with_ema(step, decay=0.99)  # ``fit`` validates with the average.
    state = jl.init_state(params, step, key=run_key)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    print(f"{len(text.train):,} characters to learn from, {len(text.val):,} held back; {size:,} parameters\n{tx}\n")

    observers: list[Any] = [print_epoch]
    if options.run is not None:
        observers.append(jl.Checkpoint(options.run))
    out = jl.fit(
        step,
        state,
        windows(text.train, options.batch_size, options.seed),
        steps=options.steps,
        val=in_a_row(text.val),
        val_batch_size=64,
        observers=observers,
        resume=options.run is not None,
    )
    if out.reason != "finished":
        print(f"stopped after {int(out.state.step)} steps: {out.reason}")
        return out

    known["model"] = float(out.history["val_bits"][-1])
    print("\nbits a character: " + ", ".join(f"{name} {bits:.3f}" for name, bits in known.items()))
    print(f"{out.seconds:.0f} s, {out.compiles} programs compiled\n")
    prompt = text.val[:CONTEXT]
    written = sample(step.eval_params(out.state), jnp.asarray(prompt), sample_key, options.temperature, options.length)
    print("".join(text.characters[i] for i in prompt) + "|" + "".join(text.characters[i] for i in np.asarray(written)))
    draw(out.history, known).savefig(options.figure)
    print(f"\nfigure: {options.figure}")
    return out


# ---------------------------------------------------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames="length")
def sample(params: Params, prompt: jax.Array, key: jax.Array, temperature: float, length: int) -> jax.Array:
    """``length`` characters that follow a prompt of ``CONTEXT``, drawn from ``softmax(logits / temperature)``."""

    def next_character(window: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = model(params, window[None])[0, -1]
        drawn = jax.random.categorical(key, logits / temperature).astype(window.dtype)
        return jnp.append(window[1:], drawn), drawn

    return jax.lax.scan(next_character, prompt, jax.random.split(key, length))[1]


BLUE, ORANGE, GREY = "#0072b2", "#e69f00", "#808080"  # Told apart by colour-blind readers, too.


def draw(history: jl.History, bits: dict[str, float]) -> Figure:
    """The course of the bits with what counting reaches; the learning rate and the length of the gradient."""
    figure = Figure(figsize=(11, 4), dpi=100, layout="constrained")
    curve, rate, norm = figure.subplots(1, 3, width_ratios=(2, 1, 1))
    steps = history.steps("bits")
    curve.plot(steps, history["bits"], color=BLUE, alpha=0.3, linewidth=0.8, label="training batches, with dropout")
    label = f"validation, average of the weights: {bits['model']:.2f} at the end"
    curve.plot(history.steps("val_bits"), history["val_bits"], color=ORANGE, marker=".", label=label)
    for name in ("uniform", "unigram", "bigram"):
        curve.axhline(bits[name], color=GREY, linestyle="--", linewidth=0.8)
        curve.text(steps[-1], bits[name], f"{name} {bits[name]:.2f}", color=GREY, ha="right", va="bottom", fontsize=9)
    curve.set(
        title="What a character costs", ylabel="bits", ylim=(math.floor(min(bits.values())), bits["uniform"] + 0.4)
    )
    curve.legend(frameon=False, loc="center right", bbox_to_anchor=(1, 0.75))
    rate.plot(steps, history["learning_rate"], color=BLUE)
    rate.set(title="Learning rate", ylim=(0, None))
    norm.plot(steps, history["gradient_norm"], color=BLUE, linewidth=0.8)
    norm.axhline(1, color=GREY, linestyle="--", linewidth=0.8)
    norm.set(title="Gradient norm", ylabel="clipped where above 1", yscale="log")
    for ax in (curve, rate, norm):
        ax.set(xlabel="step", xlim=(0, None))
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Trains a character-level transformer.")
    add = parser.add_argument
    add("--text", type=Path, default=HERE / "persuasion.txt", help="what to learn (default: %(default)s)")
    add("--steps", type=whole(1), default=1500, help="(default: %(default)s)")
    add("--batch-size", type=whole(1), default=16, help="windows in a batch (default: %(default)s)")
    add("--accumulate", type=whole(1), help="calculate each batch in so many parts (default: in one)")
    add("--policy", choices=("bfloat16", "float16"), help="precision of the loss (default: float32)")
    add("--learning-rate", type=number(above=0), default=3e-3, help="the largest (default: %(default)s)")
    add("--seed", type=whole(0), default=0, help="(default: %(default)s)")
    add("--run", type=Path, help="a directory for checkpoints, from which the same command goes on (default: none)")
    add("--temperature", type=number(above=0), default=0.7, help="of the sample (default: %(default)s)")
    add("--length", type=whole(1), default=500, help="characters of the sample (default: %(default)s)")
    add("--figure", type=Path, default=HERE / "figures" / "characters.png", help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    if not options.figure.parent.is_dir():
        parser.error(f"argument --figure: there is no directory {str(options.figure.parent)!r}")
    return options


if __name__ == "__main__":
    main()
