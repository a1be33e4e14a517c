"""How long it takes to shuffle the numbers of a million examples, beside JAX's and NumPy's permutations.

    python tests/benchmarks/shuffle.py [--rounds 9] [--sizes 60000 1000000] [--batch-size 128]

"all" is the whole order of an epoch, compiled: ``permuted`` of all positions, and ``jax.random.permutation``; NumPy's
is ``Generator.permutation``. "batch" is what a training step needs: the rows of one batch, calculated from their
positions alone, where the others must have shuffled everything before. Compilation is not timed. All contestants take
turns in one process; the table shows medians over the rounds and, as the figure to quote, medians of the ratios within
a round, "ours, all" over the others.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons.train import shuffle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--sizes", type=int, nargs="*", default=[60_000, 1_000_000])
    parser.add_argument("--batch-size", type=int, default=128)
    options = parser.parse_args()

    print(f"jax {jax.__version__}, numpy {np.__version__}, {jax.devices()[0].platform}, {options.rounds} rounds")
    print(f"{'examples':>9}  {'':<24} {'ms':>8}  {'ours / it':>9}   min - max")
    for examples in options.sizes:
        compare(examples, options.batch_size, options.rounds)


def compare(examples: int, batch_size: int, rounds: int) -> None:
    key, rng, words = jax.random.key(0), np.random.default_rng(0), shuffle.seed_words(jax.random.key(0))
    order = jax.jit(lambda words, epoch: shuffle.permuted(positions(examples), examples, words, epoch))
    batch = jax.jit(lambda words, first, epoch: shuffle.permuted(first + positions(batch_size), examples, words, epoch))
    theirs = jax.jit(lambda key, epoch: jax.random.permutation(jax.random.fold_in(key, epoch), examples))
    ways: dict[str, Callable[[np.int32], object]] = {
        "ours, all": lambda epoch: order(words, epoch).block_until_ready(),
        "jax.random.permutation": lambda epoch: theirs(key, epoch).block_until_ready(),
        "numpy permutation": lambda epoch: rng.permutation(examples),
        f"ours, batch of {batch_size}": lambda epoch: batch(words, np.uint32(7), epoch).block_until_ready(),
    }
    for way in ways.values():
        way(np.int32(0))
        way(np.int32(1))
    milliseconds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds):
        names = list(ways)
        for way in names[turn % len(names) :] + names[: turn % len(names)]:
            began = time.perf_counter()
            ways[way](np.int32(turn))
            milliseconds[way].append((time.perf_counter() - began) * 1e3)
    for way, times in milliseconds.items():
        ratios = [ours / other for ours, other in zip(milliseconds["ours, all"], times, strict=True)]
        print(
            f"{examples:>9}  {way:<24} {statistics.median(times):8.2f}  {statistics.median(ratios):9.3f}   "
            f"{min(ratios):.3f} - {max(ratios):.3f}",
            flush=True,
        )


def positions(size: int) -> jax.Array:
    return jnp.arange(size, dtype=jnp.uint32)


if __name__ == "__main__":
    main()
