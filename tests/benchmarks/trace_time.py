"""How long it takes to trace and lower one Adam update of a model with 1,000 leaves, beside optax.

    python tests/benchmarks/trace_time.py [--rounds 9] [--leaves 1000]

"trace" is the time to make the program (``jit(update).trace``), "lower" that to hand it to the compiler. Every round
does both libraries one after the other, each with a new function and empty caches; the figures to quote are the medians
of the ratios within a round.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import optax

import jaxopt_lessons as jl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--leaves", type=int, default=1000)
    options = parser.parse_args()

    params = {f"layer{i}": jnp.zeros((64, 64)) for i in range(options.leaves)}
    seconds: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.rounds):
        for name, tx in (("optax", optax.adam(1e-3)), ("jaxopt_lessons", jl.adam(1e-3))):
            state = tx.init(params)
            jax.clear_caches()
            began = time.perf_counter()
            traced = jax.jit(lambda g, s, p, tx=tx: tx.update(g, s, p)).trace(params, state, params)
            middle = time.perf_counter()
            traced.lower()
            seconds.setdefault((name, "trace"), []).append(middle - began)
            seconds.setdefault((name, "lower"), []).append(time.perf_counter() - middle)
    print(f"adam.update on {options.leaves} leaves of shape (64, 64), jax {jax.__version__}, {options.rounds} rounds")
    for what in ("trace", "lower"):
        ours, theirs = seconds["jaxopt_lessons", what], seconds["optax", what]
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        print(
            f"{what}: {statistics.median(ours) * 1e3:.0f} ms, optax {statistics.median(theirs) * 1e3:.0f} ms, "
            f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
