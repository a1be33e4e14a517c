"""How ``fit`` grows: time with the number of leaves, memory with the number of steps.

    python tests/benchmarks/scaling.py [--parts leaves steps] [--leaves 10 30 100 300 1000] [--steps 100 ... 1000000]

"leaves": Adam on a tree of leaves of 8 x 8 and a loss that costs next to nothing. "first" has tracing and compilation
in it; "step" is that of later fits, of which "step / leaf" should not grow. Beside both the time of a hand-written scan
of optax's Adam in the same process, as a ratio, ours over theirs.

"steps": a network 2-8-1, batches of 4, and more and more steps. Their programs are compiled before, by a short fit.
"peak" is how far the resident memory of the process rose above what it was when the fit began; "history" are the bytes
of the arrays in ``result.history``, which has a row for each step; "rest", the difference, should not grow with the
steps, nor should "arrays", the bytes of all JAX arrays that are alive at the end.

Every row has a process of its own. Needs the /proc of Linux.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxopt_lessons as jl

MIB = 2**20
LEAVES_ROW = "{:>9} {:>9} {:>8} {:>9} {:>8} {:>16} {:>10}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--leaves", type=int, nargs="*", default=[10, 30, 100, 300, 1000])
    parser.add_argument("--steps", type=int, nargs="*", default=[10**2, 10**3, 10**4, 10**5, 10**6])
    parser.add_argument("--row", nargs=2, metavar=("PART", "SIZE"), help="measure one row and print it as JSON")
    options = parser.parse_args()

    if options.row:
        part, size = options.row
        return print(json.dumps(ROWS[part](int(size))))
    print(f"jax {jax.__version__}, {jax.devices()[0].platform}")
    if "leaves" in options.parts:
        titles = ("leaves", "first, s", "/ optax", "step, us", "/ optax", "step / leaf, us", "peak, MiB")
        print("\n" + LEAVES_ROW.format(*titles))
        for leaves in options.leaves:
            row = measured("leaves", leaves)
            microseconds = row["step"] * 1e6
            columns = [f"{row['first']:.2f}", f"{row['first'] / row['optax first']:.2f}"]
            columns += [f"{microseconds:.1f}", f"{row['step'] / row['optax step']:.2f}", f"{microseconds / leaves:.2f}"]
            print(LEAVES_ROW.format(leaves, *columns, f"{row['peak'] / MIB:.1f}"), flush=True)
    if "steps" in options.parts:
        print(
            f"\n{'steps':>9} {'peak, MiB':>10} {'history, MiB':>13} {'bytes / step':>13} {'rest, MiB':>10} arrays, KiB"
        )
        for steps in options.steps:
            row = measured("steps", steps)
            print(
                f"{steps:>9} {row['peak'] / MIB:10.2f} {row['history'] / MIB:13.2f} {row['history'] / steps:13.1f} "
                f"{(row['peak'] - row['history']) / MIB:10.2f} {row['arrays'] / 1024:11.1f}",
                flush=True,
            )
    # The part "devices" goes here: the bytes of a state on each of 1 to 8 devices.


def measured(part: str, size: int) -> dict[str, float]:
    """A row, measured in a new process."""
    command = [sys.executable, __file__, "--row", part, str(size)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def leaves_row(leaves: int, steps: int = 1024) -> dict[str, float]:
    if steps > 8:
        leaves_row(1, steps=8)  # what a process does once is not timed
    rng = np.random.default_rng(0)
    params = {f"layer{i}": jnp.asarray(rng.standard_normal((8, 8), dtype=np.float32)) for i in range(leaves)}
    data = jnp.asarray(rng.standard_normal((4 * steps, 8), dtype=np.float32))

    def loss(params: Any, batch: Any) -> Any:
        return jnp.mean(batch) * sum(jnp.sum(w**2) for w in params.values())

    step = jl.make_step(loss, jl.adam(1e-3))
    batches = jl.minibatches(data, 4)
    state = jl.init_state(params, step)
    peak = Peak()
    first = timed(step, state, batches, steps)[1]
    rose = peak.rose()
    by_hand = optax_scan(loss, params, data, steps)
    row = {"first": first, "peak": rose, "optax first": by_hand()}
    turns = [(timed(step, state, batches, steps)[1], by_hand()) for _ in range(7)]
    ours, theirs = (statistics.median(seconds) / steps for seconds in zip(*turns, strict=True))
    return {**row, "step": ours, "optax step": theirs}


def optax_scan(loss: Callable[..., Any], params: Any, data: jax.Array, steps: int) -> Callable[[], float]:
    """Runs the steps and returns the seconds; the first time it compiles them."""
    tx = optax.adam(1e-3)

    @jax.jit
    def train(params: Any, opt_state: Any, key: jax.Array, data: jax.Array) -> Any:
        def body(carry: Any, rows: jax.Array) -> Any:
            params, opt_state = carry
            value, grads = jax.value_and_grad(loss)(params, data[rows])
            updates, opt_state = tx.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), value

        order = jax.random.permutation(key, len(data)).reshape(steps, -1)
        return jax.lax.scan(body, (params, opt_state), order)

    opt_state, key = tx.init(params), jax.random.key(0)

    def run() -> float:
        began = time.perf_counter()
        jax.block_until_ready(train(params, opt_state, key, data))
        return time.perf_counter() - began

    return run


def steps_row(steps: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4096, 2), dtype=np.float32)
    params = {"w1": rng.standard_normal((2, 8), dtype=np.float32), "w2": rng.standard_normal(8, dtype=np.float32)}

    def loss(params: Any, batch: Any) -> Any:
        x, y = batch
        return (jnp.tanh(x @ params["w1"]) @ params["w2"] - y) ** 2

    step = jl.make_step(loss, jl.adam(1e-3))
    batches = jl.minibatches((x, x[:, 0] * x[:, 1]), 4)
    state = jl.init_state(params, step)
    for _ in range(2):  # compiles the programs of a whole epoch and of the last one, and keeps no long history
        timed(step, state, batches, min(steps, 1024 + steps % 1024))
    peak = Peak()
    result, _ = timed(step, state, batches, steps)
    rose = peak.rose()
    arrays = sum(array.nbytes for array in jax.live_arrays())
    return {"peak": rose, "history": bytes_of_history(result.history), "arrays": arrays}


def timed(step: Any, state: Any, batches: Any, steps: int) -> tuple[jl.FitResult, float]:
    began = time.perf_counter()
    result = jl.fit(step, state, batches, steps=steps, progress=False)
    jax.block_until_ready(result.state)
    return result, time.perf_counter() - began


class Peak:
    """The highest resident memory of this process since the object was made."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is resident
        self.begin = resident("VmRSS")

    def rose(self) -> int:
        return resident("VmHWM") - self.begin


def resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def bytes_of_history(history: jl.History) -> int:
    """All arrays that it keeps, each once."""
    lists = [parts for kept in vars(history).values() for parts in kept.values()]
    arrays = {id(array): array.nbytes for parts in lists for array in parts}
    return sum(arrays.values())


ROWS = {"leaves": leaves_row, "steps": steps_row}

if __name__ == "__main__":
    main()
