"""How long a sweep over learning rates takes, compilation included, and how its layouts compare without it.

    python tests/benchmarks/sweep.py [--rounds 5] [--lanes 2 4 8 16]

First 16 learning rates of Adam on a small network: one ``sweep`` beside 16 optax programs, each made as scripts make
them, with its learning rate in it, compiled and run; and beside one compiled optax program that is called 16 times
with the learning rate as an argument. All start without compiled programs. Then "vmap" and "map" of the same sweep,
compiled before. Everything runs in one process, and takes turns in every round; the table shows medians over the rounds
and medians of the ratios within a round.
"""

import argparse
import functools
import itertools
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxopt_lessons as jl

NETWORKS = {
    "2-16-16-1, 32": ((2, 16, 16, 1), 32),
    "64-128-10, 64": ((64, 128, 10), 64),
    "784-128-128-10, 32": ((784, 128, 128, 10), 32),
}
EXAMPLES = 2000
STEPS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lanes", type=int, nargs="*", default=[2, 4, 8, 16])
    parser.add_argument("--parts", nargs="*", default=["peers", "layouts"], choices=["peers", "layouts"])
    options = parser.parse_args()

    print(f"jax {jax.__version__}, optax {optax.__version__}, {jax.devices()[0].platform}, {options.rounds} rounds")
    if "peers" in options.parts:
        peers(options.rounds)
    if "layouts" in options.parts:
        layouts(options.rounds, options.lanes)


def peers(rounds: int) -> None:
    print(f"\nWith compilation, 16 learning rates, {STEPS} steps\n{'network, batch':>28}  {'how':<20} seconds   ratio")
    rates = np.logspace(-4, -1, 16)
    for name in list(NETWORKS)[:2]:
        run, *data = problem(name)
        runs = {f"sweep, {how}": functools.partial(sweep, run, rates, how) for how in ("auto", "vmap", "map")}
        runs["16 optax programs"] = functools.partial(optax_programs, *data, rates)
        runs["1 optax program"] = functools.partial(optax_program, *data, rates)
        compare(name, runs, rounds, before=jax.clear_caches)


def layouts(rounds: int, lanes: list[int]) -> None:
    print(f"\nWithout compilation, {STEPS} steps\n{'network, batch':>28}  {'how':<20} seconds   ratio")
    for name in NETWORKS:
        run, *_ = problem(name)
        for n in lanes:
            runs = {how: functools.partial(sweep, run, np.logspace(-4, -1, n), how) for how in ("vmap", "map")}
            for one in runs.values():
                one()
            compare(f"{name}, {n} lanes", runs, rounds)


def compare(name: str, runs: dict[str, Callable[[], None]], rounds: int, before: Callable[[], None] | None = None):
    """Times the runs, in turns, and prints a row for each; ratios are to the first."""
    seconds: dict[str, list[float]] = {run: [] for run in runs}
    for turn in range(rounds):
        names = list(runs)
        for run in names[turn % len(names) :] + names[: turn % len(names)]:
            if before is not None:
                before()
            began = time.perf_counter()
            runs[run]()
            seconds[run].append(time.perf_counter() - began)
    first = seconds[next(iter(runs))]
    for run, times in seconds.items():
        ratios = [a / b for a, b in zip(times, first, strict=True)]
        print(
            f"{name:>28}  {run:<20} {statistics.median(times):7.3f}  {statistics.median(ratios):6.2f}   "
            f"{min(ratios):.2f} - {max(ratios):.2f}",
            flush=True,
        )


def problem(name: str):
    """A function for ``sweep``, the data, and the sizes."""
    sizes, batch_size = NETWORKS[name]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((EXAMPLES, sizes[0]), dtype=np.float32))
    y = jnp.asarray(rng.standard_normal((EXAMPLES, sizes[-1]), dtype=np.float32))
    batches = jl.minibatches((x, y), batch_size, remainder="wrap")
    step = jl.make_step(mean_loss, jl.adam(1e-3))

    def run(hp, key):
        rated = step.replace(learning_rate=hp["learning_rate"])
        state = jl.init_state(weights(sizes, key), rated.tx, key=key)
        return {"loss": jl.make_scan(rated, STEPS)(state, batches)[1]["loss"]}

    return run, x, y, sizes, batch_size


def weights(sizes, key):
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        (jax.random.normal(k, (m, n)) / np.sqrt(m), jnp.zeros(n))
        for k, (m, n) in zip(keys, itertools.pairwise(sizes), strict=True)
    ]


def mean_loss(params, batch):
    x, y = batch
    for w, b in params[:-1]:
        x = jax.nn.relu(x @ w + b)
    w, b = params[-1]
    return jnp.mean((x @ w + b - y) ** 2)


def sweep(run, rates, how):
    jax.block_until_ready(jl.sweep(run, {"learning_rate": rates}, how=how).values)


def optax_training(sizes, batch_size, rate, key, x, y):
    """The same training, written by hand."""
    tx = optax.adam(rate)
    params = weights(sizes, key)
    per_epoch = EXAMPLES // batch_size
    epochs = -(-STEPS // per_epoch)
    orders = [jax.random.permutation(jax.random.fold_in(key, e), EXAMPLES) for e in range(epochs)]
    rows = jnp.concatenate([order[: per_epoch * batch_size] for order in orders]).reshape(-1, batch_size)[:STEPS]

    def body(carry, rows):
        params, opt_state = carry
        loss, grads = jax.value_and_grad(mean_loss)(params, (x[rows], y[rows]))
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    return jax.lax.scan(body, (params, tx.init(params)), rows)[1]


def optax_programs(x, y, sizes, batch_size, rates):
    for rate in rates.tolist():
        train = jax.jit(lambda key, x, y, rate=rate: optax_training(sizes, batch_size, rate, key, x, y))
        jax.block_until_ready(train(jax.random.key(0), x, y))


def optax_program(x, y, sizes, batch_size, rates):
    train = jax.jit(lambda rate, key, x, y: optax_training(sizes, batch_size, rate, key, x, y))
    for rate in rates.tolist():
        jax.block_until_ready(train(rate, jax.random.key(0), x, y))


if __name__ == "__main__":
    main()
