"""How long an epoch of training takes: ``fit`` beside other ways to write the same loop.

    python tests/benchmarks/train_loop.py [--rounds 9] [--rows mlp-16 mlp-32 mlp-128 small convnet]

The peers are in ``training_loops.py``: a hand-written ``lax.scan`` with optax, a Python loop of jitted optax steps
(without and with donated buffers), a flax nnx loop, and, where they are installed, Keras' ``fit`` on JAX and a PyTorch
loop with fused Adam. All train the same network on the same random data with Adam for a few epochs, in a new random
order each epoch, in one process, one after the other in every round. The table shows medians over the rounds and, as
the figure to quote, the medians of the ratios within a round. Compilation is not timed.
"""

import argparse
import statistics
import time

import jax
import numpy as np
import optax
from training_loops import EPOCHS, LOOPS, Loop, Problem

MLP, SMALL, CONVNET = ((), (784, 128, 128, 10)), ((), (2, 16, 16, 1)), ((16, 32), (7 * 7 * 32, 10))
ROWS = {
    "mlp-16": ("784-128-128-10", MLP, 10_000, 16),
    "mlp-32": ("784-128-128-10", MLP, 10_000, 32),
    "mlp-128": ("784-128-128-10", MLP, 10_000, 128),
    "small": ("2-16-16-1", SMALL, 20_000, 32),
    "convnet": ("conv 16-32, 10", CONVNET, 2_000, 32),
}
LEFT_OUT = {"convnet": ["hand-written scan"]}
"""Convolutions in a loop take many times as long on CPUs; it would only make the benchmark longer."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--loops", nargs="*", default=list(LOOPS), choices=list(LOOPS))
    options = parser.parse_args()

    print(f"jax {jax.__version__}, optax {optax.__version__}, {jax.devices()[0].platform}, {options.rounds} rounds")
    print(f"{'network':>16} {'batch':>5}  {'loop':<22} {'us/step':>9}  {'time / fit':>10}   min - max")
    for row in options.rows:
        on_accelerator = jax.default_backend() != "cpu"
        names = [name for name in options.loops if on_accelerator or name not in LEFT_OUT.get(row, ())]
        compare(row, list(dict.fromkeys(["fit", *names])), options.rounds)


def compare(row: str, names: list[str], rounds: int) -> None:
    """Times one network and batch size with every loop and prints a line for each."""
    title, (channels, widths), examples, batch_size = ROWS[row]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((examples, 28, 28, 1) if channels else (examples, widths[0]), dtype=np.float32)
    y = rng.integers(0, max(widths[-1], 2), examples).astype(np.int32)
    problem = Problem(channels, widths, x, y, batch_size)
    loops: dict[str, Loop] = {}
    for name in names:
        try:
            loops[name] = LOOPS[name](problem)
        except ImportError as error:
            print(f"({name}: {error})")
    for loop in loops.values():
        loop()
        loop()
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(rounds):
        order = list(loops)
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            began = time.perf_counter()
            loops[name]()
            seconds[name].append(time.perf_counter() - began)
    for name, times in seconds.items():
        ratios = [a / b for a, b in zip(times, seconds["fit"], strict=True)]
        each = statistics.median(times) / (EPOCHS * problem.steps_in_epoch)
        print(
            f"{title:>16} {batch_size:>5}  {name:<22} {each * 1e6:9.1f}  {statistics.median(ratios):10.2f}   "
            f"{min(ratios):.2f} - {max(ratios):.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
