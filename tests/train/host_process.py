"""One of several processes that train together on CPUs: ``host_process.py PORT PROCESSES RANK``; prints one JSON line.

``run_all`` also runs in a single process, to be compared with.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

DEVICES, BATCH, EXAMPLES = 4, 8, 22
SMALLER = EXAMPLES % BATCH


def numbers(tree: Any) -> dict[str, list[float]]:
    """The parameters, whole, by name."""
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    if jax.process_count() > 1:
        tree = multihost_utils.process_allgather(tree, tiled=True)
    return {name: np.ravel(leaf).tolist() for name, leaf in tree.items()}


def step_and_state() -> Any:
    import jax
    import jax.numpy as jnp
    import numpy as np

    import jaxopt_lessons as jl

    def loss(params: Any, batch: Any, key: jax.Array) -> jax.Array:
        x, y = batch
        hidden = jnp.tanh(x @ params["w"])
        hidden = jnp.where(jax.random.bernoulli(key, 0.9, hidden.shape), hidden, 0)
        return (hidden @ params["v"] - y) ** 2

    rng = np.random.default_rng(0)
    params = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in {"w": (6, 8), "v": (8,)}.items()}
    tx = jl.chain(jl.clip_by_global_norm(1.0), jl.adamw(1e-2, eps=1e-3))
    step = jl.with_ema(jl.with_guard(jl.make_step(loss, tx)), 0.9)
    return step, jl.init_state(params, step, key=3)


def data() -> Any:
    import numpy as np

    rng = np.random.default_rng(1)
    x = rng.standard_normal((EXAMPLES, 6)).astype(np.float32)
    return x, np.sin(x[:, 0]).astype(np.float32)


def train_in_memory(plan: Any) -> dict[str, Any]:
    """Two epochs of data that every process has, with a smaller last batch."""
    import jax

    import jaxopt_lessons as jl
    from jaxopt_lessons.train.scan import run_steps

    step, start = step_and_state()
    batches = plan.place_data(jl.minibatches(data(), BATCH))

    @jax.jit
    def epoch(state: Any, batches: Any) -> Any:
        return run_steps(jl.with_plan(step, plan, ragged=True), state, batches, state.cursor, batches.full, tail=True)

    state, _ = epoch(plan.place_state(start), batches)
    state, metrics = epoch(state, batches)
    return result(plan, state, metrics)


def train_streamed(plan: Any, smaller: int) -> dict[str, Any]:
    """One epoch of which each process reads its rows, with ``smaller`` smaller batches at the end."""
    import jax

    import jaxopt_lessons as jl

    step, start = step_and_state()

    @jax.jit
    def scan(state: Any, batches: Any) -> Any:
        return jax.lax.scan(jl.with_plan(step, plan, ragged=True), state, batches)

    state, metrics = plan.place_state(start), None
    for first, size, count in ((0, BATCH, EXAMPLES // BATCH), (EXAMPLES - SMALLER, SMALLER, smaller)):
        if count:
            stop, rows = first + count * size, plan.rows(size)
            read = [leaf[first:stop].reshape(count, size, *leaf.shape[1:])[:, rows].copy() for leaf in data()]
            state, metrics = scan(state, plan.put_batch(tuple(read), size))
    return result(plan, state, metrics)


def result(plan: Any, state: Any, metrics: Any) -> dict[str, Any]:
    import jax

    plan.assert_sharding(state)
    loss = float(jax.device_get(metrics["loss"])[-1])
    return numbers(state.params) | numbers({"average": state.extras["ema"]["w"]}) | {"loss": [loss]}


def run_all() -> dict[str, Any]:
    """What is trained under each plan."""
    import jax

    import jaxopt_lessons as jl

    mesh = jax.make_mesh((DEVICES,), ("data",), devices=jax.devices()[:DEVICES])
    plans = {zero: jl.make_plan(mesh, zero=zero, min_size=1) for zero in (0, 1, 3)}
    return {
        "streamed, zero=0": train_streamed(plans[0], smaller=0),
        "in memory, zero=1": train_in_memory(plans[1]),
        "streamed, zero=3": train_streamed(plans[3], smaller=1),
    }


def main(port: str, processes: int, rank: int) -> None:
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={DEVICES // processes}"
    sys.path.insert(0, str(Path(__file__).parents[2]))
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", processes, rank, initialization_timeout=60)

    import jaxopt_lessons as jl

    plan = jl.make_plan(jax.make_mesh((DEVICES,), ("data",)))
    found: dict[str, Any] = {"trained": run_all()}
    found["main"] = jl.is_main()
    found["agree"] = [jl.agree(False), jl.agree(rank == 1), jl.agree(True)]
    found["rows"] = [[rows.start, rows.stop] for rows in (plan.rows(BATCH), plan.rows(SMALLER))]
    state = step_and_state()[1]
    again = plan.place_state(plan.place_state(state))  # what is there already may be placed again
    found["same key"] = jax.random.key_data(again.key).tolist() == jax.random.key_data(state.key).tolist()
    try:
        plan.place_state(state._replace(params={**state.params, "v": state.params["v"] + rank}))
    except jl.InputError as error:
        found["different"] = str(error)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
