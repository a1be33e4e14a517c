"""How long one update of an optimizer takes: to trace, to compile and to run, beside optax and PyTorch.

    python tests/benchmarks/step_time.py [--rounds 7] [--optimizers sgd adam adamw adafactor lion] [--trees ...]

The step is ``updates, state = tx.update(grads, state, params); params = params + updates``, jitted, with params and
state donated and returned in the order they came, so that every buffer is updated in place; the same function for optax
and for us. PyTorch's is ``optimizer.step()``, fused where it is offered. Trees: a transformer of 12 layers and 47 M
parameters, 1,000 leaves of 32 x 32, one leaf of 50 M.

All contestants run alternately in one process, and the figures to quote are the medians of the ratios within a round.
"floor" is the time to move the bytes that the rule must move (for Adam three arrays read and written, and the gradient
read: seven passes), at the bandwidth that ``y = y + x`` reaches on the same machine in the same round.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import jaxopt_lessons as jl

OPTIMIZERS: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], Any] | None]] = {
    "sgd": (
        lambda library: library.sgd(1e-3, momentum=0.9),
        lambda torch, p: torch.optim.SGD(p, 1e-3, momentum=0.9, fused=True),
    ),
    "adam": (lambda library: library.adam(1e-3), lambda torch, p: torch.optim.Adam(p, 1e-3, fused=True)),
    "adamw": (
        lambda library: library.adamw(1e-3, weight_decay=0.1),
        lambda torch, p: torch.optim.AdamW(p, 1e-3, weight_decay=0.1, fused=True),
    ),
    "adafactor": (lambda library: library.adafactor(1e-3), lambda torch, p: torch.optim.Adafactor(p, 1e-3)),
    "lion": (lambda library: library.lion(1e-4), None),
}
PASSES = {"sgd": 5, "adam": 7, "adamw": 7, "lion": 5}
"""Arrays of the size of the parameters that one step must read or write."""


def transformer() -> dict[str, Any]:
    """12 layers of width 512, a vocabulary of 16,384 and 1,024 positions: 46.8 M parameters in 148 leaves."""
    d, tree = 512, {"embedding": jnp.zeros((16_384, 512)), "positions": jnp.zeros((1024, 512))}
    for i in range(12):
        tree[f"layer{i}"] = {
            "attention": {name: jnp.zeros((d, d)) for name in ("query", "key", "value", "out")},
            "mlp": {"up": jnp.zeros((d, 4 * d)), "up_bias": jnp.zeros(4 * d), "down": jnp.zeros((4 * d, d))},
            "norms": {name: jnp.ones(d) for name in ("scale1", "bias1", "scale2", "bias2", "down_bias")},
        }
    tree["final"] = {"scale": jnp.ones(d), "bias": jnp.zeros(d)}
    return tree


TREES: dict[str, Callable[[], Any]] = {
    "transformer": transformer,
    "1000 leaves": lambda: {f"layer{i}": jnp.zeros((32, 32)) for i in range(1000)},
    "50 M leaf": lambda: jnp.zeros(50_000_000),
}


def make_step(tx: Any) -> Callable[..., Any]:
    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, grads: Any) -> Any:
        updates, state = tx.update(grads, state, params)
        return jax.tree.map(lambda p, u: p + u, params, updates), state

    return step


class Jitted:
    """One of the two libraries on JAX: the times to trace and to compile, and ``run`` for the time of steps."""

    def __init__(self, tx: Any, params: Any, grads: Any):
        params = jax.tree.map(jnp.copy, params)
        state = tx.init(params)
        self.grads = grads
        began = time.perf_counter()
        traced = make_step(tx).trace(params, state, grads)
        self.trace = time.perf_counter() - began
        began = time.perf_counter()
        self.step = traced.lower().compile()
        self.compile = time.perf_counter() - began
        self.carry = params, state

    def run(self, steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            self.carry = self.step(*self.carry, self.grads)
        jax.block_until_ready(self.carry)
        return (time.perf_counter() - began) / steps


class Torch:
    def __init__(self, make: Callable[[Any, Any], Any], params: Any):
        import torch

        self.params = [torch.nn.Parameter(torch.zeros(leaf.shape)) for leaf in jax.tree.leaves(params)]
        for p in self.params:
            p.grad = torch.full_like(p, 1e-2)
        self.optimizer = make(torch, self.params)

    def run(self, steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            self.optimizer.step()
        return (time.perf_counter() - began) / steps


class Floor:
    """The time of one pass over an array of the size of the parameters."""

    def __init__(self, params: Any):
        size = sum(leaf.size for leaf in jax.tree.leaves(params))
        self.x, self.y = jnp.ones(size), jnp.ones(size)
        self.step = jax.jit(lambda y, x: y + x, donate_argnums=0)
        self.y = self.step(self.y, self.x)

    def run(self, steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            self.y = self.step(self.y, self.x)
        self.y.block_until_ready()
        return (time.perf_counter() - began) / steps / 3  # two read, one written


def compare(name: str, tree: str, rounds: int, with_torch: bool) -> None:
    make, make_torch = OPTIMIZERS[name]
    params = TREES[tree]()
    grads = jax.tree.map(lambda p: jnp.full_like(p, 1e-2), params)
    libraries = {"ours": jl, "optax": optax}
    traced: dict[str, list[float]] = {}
    for _ in range(3):
        for library, module in libraries.items():
            jax.clear_caches()
            contestant = Jitted(make(module), params, grads)
            traced.setdefault(f"{library} trace", []).append(contestant.trace)
            traced.setdefault(f"{library} compile", []).append(contestant.compile)
    contestants: dict[str, Any] = {
        library: Jitted(make(module), params, grads) for library, module in libraries.items()
    }
    if with_torch and make_torch is not None:
        contestants["torch"] = Torch(make_torch, params)
    contestants["floor"] = Floor(params)
    steps = max(3, int(2e7 // sum(leaf.size for leaf in jax.tree.leaves(params))))
    times: dict[str, list[float]] = {contestant: [] for contestant in contestants}
    for contestant in contestants.values():
        contestant.run(2)
    for i in range(rounds):
        order = list(contestants)
        for contestant in order[i % len(order) :] + order[: i % len(order)]:
            times[contestant].append(contestants[contestant].run(steps))

    def ratio(a: list[float], b: list[float], scale: float = 1.0) -> str:
        return f"{statistics.median(x / (scale * y) for x, y in zip(a, b, strict=True)):.2f}"

    columns = [
        name,
        tree,
        ratio(traced["ours trace"], traced["optax trace"]),
        ratio(traced["ours compile"], traced["optax compile"]),
        f"{statistics.median(times['ours']) * 1e3:.2f}",
        ratio(times["ours"], times["optax"]),
        ratio(times["ours"], times["torch"]) if "torch" in times else "-",
        ratio(times["ours"], times["floor"], PASSES[name]) if name in PASSES else "-",
        ratio(times["optax"], times["floor"], PASSES[name]) if name in PASSES else "-",
    ]
    print(ROW.format(*columns), flush=True)


ROW = "{:<10} {:<12} {:>11} {:>13} {:>9} {:>11} {:>11} {:>11} {:>12}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--optimizers", nargs="*", default=list(OPTIMIZERS), choices=list(OPTIMIZERS))
    parser.add_argument("--trees", nargs="*", default=list(TREES), choices=list(TREES))
    parser.add_argument("--no-torch", action="store_true")
    options = parser.parse_args()

    print(f"jax {jax.__version__}, optax {optax.__version__}, {jax.devices()[0].platform}, {options.rounds} rounds")
    print(ROW.format("", "", "trace", "compile", "step", "step", "step", "step", "optax"))
    print(
        ROW.format(
            "optimizer",
            "tree",
            "ours/optax",
            "ours/optax",
            "ours, ms",
            "ours/optax",
            "ours/torch",
            "ours/floor",
            "/floor",
        )
    )
    for name in options.optimizers:
        for tree in options.trees:
            compare(name, tree, options.rounds, not options.no_torch)


if __name__ == "__main__":
    main()
