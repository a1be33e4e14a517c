"""A training that is killed and started again: ``python resuming_process.py DIRECTORY STEPS``.

For each line on its standard input the program forks a process, which is quicker than to start one, and prints its
number. That one trains from the newest checkpoint in the directory on, tells the number of each batch, and at the end
prints a checksum of everything that the run has. The run has dropout, an average of the weights, accumulation, a guard,
a schedule, validation and early stopping, and its data is a stream.
"""

import hashlib
import os
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from training_problems import example_loss, forward, network, plain, regression

import jaxopt_lessons as jl
from jaxopt_lessons.train import checkpoint

DATA = regression(11)


def dropout_loss(params: Any, batch: Any, key: jax.Array | None) -> jax.Array:
    x, y = batch
    if key is not None:
        x = jnp.where(jax.random.bernoulli(key, 0.8, x.shape), x / 0.8, 0)
    return (forward(params, x) - y) ** 2


def batches(epoch: int) -> Any:
    order = np.random.default_rng(epoch).permutation(11)
    for first in (0, 4, 8):
        yield tuple(x[order[first : first + 4]] for x in DATA)


def train(directory: str | None, steps: int, tell: Any = None) -> jl.FitResult:
    tx = jl.chain(jl.clip_by_global_norm(1.0), jl.adamw(jl.cosine_decay_schedule(0.05, 100)))
    step = jl.with_ema(jl.with_guard(jl.make_step(dropout_loss, tx, accumulate=2)), 0.9)
    observers: list[Any] = [jl.EarlyStopping("val_loss", patience=1000)]
    if directory is not None:
        observers.append(jl.Checkpoint(directory, every=jl.Every(steps=2)))
    if tell is not None:
        observers.append(jl.Lambda(tell, every=jl.Every(steps=1), needs_state=False))
    state = jl.init_state(network(), step, key=3)
    val = regression(5, seed=1)
    return jl.fit(
        step,
        state,
        batches,
        steps=steps,
        val=val,
        val_loss_fn=example_loss,
        observers=observers,
        resume=bool(directory),
    )


def checksum(result: jl.FitResult) -> str:
    records = result.history.to_records()
    leaves = [plain(leaf) for leaf in jax.tree.leaves((result.state, result.observed["EarlyStopping"]))]
    parts = [*leaves, *(records[name] for name in sorted(records))]
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


def main(directory: str, steps: int) -> None:
    result = train(directory, steps, tell=lambda run: print("batch", run.cursor, flush=True))
    print("done", checksum(result), flush=True)


if __name__ == "__main__":
    checkpoint._orbax("save")  # what takes long to import; nothing here may start JAX's threads before the fork
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            main(sys.argv[1], int(sys.argv[2]))
            os._exit(0)
        print("process", child, flush=True)
        os.waitpid(child, 0)
        print("ended", flush=True)
