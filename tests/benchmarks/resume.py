"""What checkpoints cost: ``fit`` with a ``Checkpoint`` beside the same run without one, and the time to go on.

    python tests/benchmarks/resume.py [--rounds 5]

A small network and one of two million parameters train with Adam; the runs take turns in every round. The table shows,
as medians over the rounds, the time of the run with checkpoints over the one without, what each checkpoint added, and
how long it takes to find the newest checkpoint and put it back. What is saved is written while the run goes on.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_lessons as jl

STEPS = 400
EVERY = (10, 100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"jax {jax.__version__}, {jax.devices()[0].platform}, {STEPS} steps, {options.rounds} rounds")
    print(f"{'parameters':>10} {'every':>6} {'time / without':>15} {'ms a checkpoint':>16} {'ms to resume':>13}")
    for width in (32, 1000):
        compare(width, options.rounds)


def compare(width: int, rounds: int) -> None:
    rng = np.random.default_rng(0)
    shapes = {"w1": (1000, width), "w2": (width, width)}
    params = {name: rng.standard_normal(shape, np.float32) / 32 for name, shape in shapes.items()}
    data = rng.standard_normal((1280, 1000), np.float32)
    step = jl.make_step(lambda p, x: jnp.sum(jnp.tanh(x @ p["w1"]) @ p["w2"], axis=1) ** 2, jl.adam(1e-4))
    state, batches = jl.init_state(params, step), jl.minibatches(data, 32)

    def run(every: int | None = None, saves: bool = False, directory: Any = None) -> float:
        """Without observers, or with a look now and then, which may save: in a new directory or one that is there."""
        observers: list[Any] = []
        if every is not None:
            where = tempfile.mkdtemp(dir=scratch) if directory is None else directory
            looks = jl.Every(steps=every)
            observers = [jl.Checkpoint(where, looks) if saves else jl.Lambda(lambda run: None, looks)]
        resume = directory is not None
        began = time.perf_counter()
        jl.fit(step, state, batches, steps=STEPS, observers=observers, resume=resume, progress=False)
        return time.perf_counter() - began

    seconds: dict[int, list[float]] = {0: [], **{every: [] for every in EVERY}}
    resumes = []
    with tempfile.TemporaryDirectory() as scratch:
        saved = Path(scratch, "saved")
        for every in EVERY:
            run(), run(every), run(every, saves=True)
        run(EVERY[0], saves=True, directory=saved)
        for _ in range(rounds):
            seconds[0].append(run())
            for every in EVERY:
                # Beside the same cuts without a checkpoint: what they cost is not what is saved.
                seconds[every].append(run(every, saves=True) - run(every))
            resumes.append(run(EVERY[0], saves=True, directory=saved))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    for every in EVERY:
        more = statistics.median(seconds[every])
        ratio = 1 + more / statistics.median(seconds[0])
        each = more / (STEPS // every) * 1e3
        print(
            f"{count:>10,} {every:>6} {ratio:>15.2f} {each:>16.1f} {statistics.median(resumes) * 1e3:>13.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
