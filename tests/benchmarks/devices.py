"""What a plan saves and what it costs, on virtual devices: bytes of the state on each, numbers, communication.

    python tests/benchmarks/devices.py [--devices 1 2 4 8] [--width 512]

A network of three layers is trained for some steps of AdamW after clipping, on one device without a plan and then under
plans for more. The bytes are counted from what lies on a device; the difference is the largest of a parameter from the
run on one device, relative to how far the run moved it at most; the bytes of the collectives are those of their results
in the compiled step. Virtual devices share the cores of one machine, so nothing is timed.
"""

import argparse
import collections
import itertools
import math
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_lessons as jl

STEPS, BATCH, FEATURES, CLASSES = 10, 64, 64, 8
COLLECTIVE = re.compile(r"= (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")


class Row(NamedTuple):
    """One run: its devices and plan, bytes of the state on a device, difference, bytes of collectives by kind."""

    devices: int
    zero: int
    state_bytes: int
    difference: float
    collectives: dict[str, int]


def measure(devices: Sequence[int] = (1, 2, 4, 8), zeros: Sequence[int] = (0, 1, 3), width: int = 512) -> list[Row]:
    """The table; there must be as many devices as the largest number asked for."""
    step = jl.make_step(loss, jl.chain(jl.clip_by_global_norm(1.0), jl.adamw(1e-3, eps=1e-6)))
    start = jl.init_state(network(width), step)
    expected = scan(step, start, batches())[0].params
    moved = largest_difference(expected, start.params)

    rows = []
    for n in devices:
        mesh = jax.make_mesh((n,), ("data",), devices=jax.devices()[:n])
        for zero in zeros:
            plan = jl.make_plan(mesh, zero=zero)
            state, data = plan.place_state(start), plan.put_batch(batches(), BATCH)
            program = scan.lower(jl.with_plan(step, plan), state, data).compile()
            state = program(jl.with_plan(step, plan), state, data)[0]
            plan.assert_sharding(state)
            difference = largest_difference(state.params, expected) / moved
            rows.append(Row(n, zero, bytes_on_a_device(state), difference, collective_bytes(program.as_text())))
    return rows


@jax.jit
def scan(step: Any, state: Any, batches: Any) -> Any:
    return jax.lax.scan(lambda state, batch: step(state, batch), state, batches)


def network(width: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = (FEATURES, width, width, CLASSES)
    weights = [rng.standard_normal((a, b)) / np.sqrt(a) for a, b in itertools.pairwise(sizes)]
    return {f"w{i}": w.astype(np.float32) for i, w in enumerate(weights)}


def loss(params: Any, batch: Any) -> jax.Array:
    x, y = batch
    for name in ("w0", "w1"):
        x = jnp.tanh(x @ params[name])
    return jnp.mean((x @ params["w2"] - y) ** 2, axis=1)


def batches() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((STEPS, BATCH, FEATURES)).astype(np.float32)
    return x, np.sin(x[..., :CLASSES] * x[..., CLASSES : 2 * CLASSES])


def bytes_on_a_device(state: Any) -> int:
    """Of parameters, optimizer state and counters, from what lies on the first device."""
    leaves = jax.tree.leaves((state.params, state.opt_state, state.step, state.cursor))
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)


def collective_bytes(text: str) -> dict[str, int]:
    """Bytes of the results of collectives, by kind, in the text of a program: the loop's body is there once."""
    sizes: dict[str, int] = collections.defaultdict(int)
    for result, kind in COLLECTIVE.findall(text):
        sizes[kind] += sum(
            4 * math.prod(map(int, filter(None, s.split(",")))) for s in re.findall(r"f32\[(.*?)\]", result)
        )
    return dict(sizes)


def largest_difference(a: Any, b: Any) -> float:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.max(np.abs(np.asarray(x) - np.asarray(y)))) for x, y in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--width", type=int, default=512)
    options = parser.parse_args()
    print(f"jax {jax.__version__}, {jax.devices()[0].platform}, {STEPS} steps")
    print("devices  zero  bytes of the state  difference  bytes of collectives in a step")
    for row in measure(options.devices, width=options.width):
        shown = ", ".join(f"{kind} {size:,}" for kind, size in sorted(row.collectives.items())) or "none"
        print(f"{row.devices:>7}  {row.zero:>4}  {row.state_bytes:>18,}  {row.difference:>10.1e}  {shown}")


if __name__ == "__main__":
    main()
