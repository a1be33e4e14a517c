"""How long a sweep over learning rates takes, compilation included, and how its layouts compare without it.

    python tests/benchmarks/sweep.py [--rounds 5] [--lanes 2 4 8 16] [--parts peers layouts devices] [--devices 2]

"peers": 16 learning rates of Adam on a small network: one ``sweep`` beside 16 optax programs, each made as scripts make
them, with its learning rate in it, compiled and run; beside one compiled optax program that is called 16 times with the
learning rate as an argument; and beside ``vmap`` and ``lax.map`` of it, by hand. All start without compiled programs.
"layouts": "vmap" and "map" of the same sweep, compiled before. "devices": "shard" over virtual devices of the CPU,
beside the sweep and a ``lax.map`` by hand on one of them, compiled before, in a process of its own that has the
devices; more devices than free cores gain nothing.

Everything takes turns in every round, in one process for each part; the table shows medians over the rounds and medians
of the ratios within a round.
"""

import argparse
import functools
import itertools
import os
import statistics
import subprocess
import sys
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
PARTS = ("peers", "layouts", "devices")
TITLE = f"{'network, batch':>34}  {'how':<20} seconds   ratio   min - max"
CHILD = "SWEEP_BENCHMARK_CHILD"
"""Set in the process that has the devices of the part "devices"."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lanes", type=int, nargs="*", default=[2, 4, 8, 16])
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=PARTS)
    parser.add_argument("--devices", type=int, default=2, help="virtual devices of the part 'devices'")
    parser.add_argument("--device-lanes", type=int, default=16)
    options = parser.parse_args()

    if options.parts == ["devices"] and os.environ.get(CHILD):
        return devices(options.rounds, options.device_lanes)
    print(f"jax {jax.__version__}, optax {optax.__version__}, {jax.devices()[0].platform}, {options.rounds} rounds")
    if "peers" in options.parts:
        peers(options.rounds)
    if "layouts" in options.parts:
        layouts(options.rounds, options.lanes)
    if "devices" in options.parts:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={options.devices}"
        arguments = ["--rounds", options.rounds, "--device-lanes", options.device_lanes, "--parts", "devices"]
        subprocess.run(
            [sys.executable, __file__, *map(str, arguments)],
            check=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, CHILD: "1"},
        )


def peers(rounds: int) -> None:
    print(f"\nWith compilation, 16 learning rates, {STEPS} steps\n{TITLE}")
    rates = np.logspace(-4, -1, 16)
    for name in list(NETWORKS)[:2]:
        run, *data = problem(name)
        runs = {f"sweep, {how}": functools.partial(sweep, run, rates, how) for how in ("auto", "vmap", "map")}
        runs["16 optax programs"] = functools.partial(optax_programs, *data, rates)
        runs["1 optax program"] = functools.partial(optax_program, *data, rates)
        runs["vmap of optax"] = functools.partial(optax_lanes, jax.vmap, *data, rates)
        runs["lax.map of optax"] = functools.partial(optax_lanes, mapped, *data, rates)
        compare(name, runs, rounds, before=jax.clear_caches)


def layouts(rounds: int, lanes: list[int]) -> None:
    print(f"\nWithout compilation, {STEPS} steps\n{TITLE}")
    for name in NETWORKS:
        run, *_ = problem(name)
        for n in lanes:
            runs = {how: functools.partial(sweep, run, np.logspace(-4, -1, n), how) for how in ("vmap", "map")}
            for one in runs.values():
                one()
            compare(f"{name}, {n} lanes", runs, rounds)


def devices(rounds: int, lanes: int) -> None:
    """Only what is compiled is timed; "lax.map of optax" is made once, before."""
    print(f"\n{jax.device_count()} devices, {lanes} lanes, without compilation\n{TITLE}")
    rates = np.logspace(-4, -1, lanes)
    for name, steps in zip(NETWORKS, (2000, 300, 100), strict=True):
        run, *data = problem(name, steps)
        runs = {how: functools.partial(sweep, run, rates, how) for how in ("shard", "map", "vmap")}
        by_hand = lanes_program(mapped, *data, steps)
        runs["lax.map of optax"] = functools.partial(by_hand, rates)
        for one in runs.values():
            one()
            one()
        compare(f"{name}, {steps} steps", runs, rounds)


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
            f"{name:>34}  {run:<20} {statistics.median(times):7.3f}  {statistics.median(ratios):6.2f}   "
            f"{min(ratios):.2f} - {max(ratios):.2f}",
            flush=True,
        )


def problem(name: str, steps: int = STEPS):
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
        return {"loss": jl.make_scan(rated, steps)(state, batches)[1]["loss"]}

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


def optax_training(sizes, batch_size, rate, key, x, y, steps=STEPS):
    """The same training, written by hand."""
    tx = optax.adam(rate)
    params = weights(sizes, key)
    per_epoch = EXAMPLES // batch_size
    epochs = -(-steps // per_epoch)
    orders = [jax.random.permutation(jax.random.fold_in(key, e), EXAMPLES) for e in range(epochs)]
    rows = jnp.concatenate([order[: per_epoch * batch_size] for order in orders]).reshape(-1, batch_size)[:steps]

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


def mapped(function):
    return lambda rates: jax.lax.map(function, rates)


def lanes_program(transform, x, y, sizes, batch_size, steps=STEPS):
    """A compiled program of all lanes, ``vmap`` or ``lax.map`` of the optax training."""

    @jax.jit
    def train(rates, key, x, y):
        return transform(lambda rate: optax_training(sizes, batch_size, rate, key, x, y, steps))(rates)

    return lambda rates: jax.block_until_ready(train(jnp.asarray(rates, jnp.float32), jax.random.key(0), x, y))


def optax_lanes(transform, x, y, sizes, batch_size, rates):
    lanes_program(transform, x, y, sizes, batch_size)(rates)


if __name__ == "__main__":
    main()
