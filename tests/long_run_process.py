"""A long run in a process of its own: ``python long_run_process.py KIND COUNT LEAK`` prints what it measured, as JSON.

KIND is "memory", "stream" or "wrapped": one ``fit`` of COUNT steps; or "runs": COUNT times ``fit`` and what else trains
or measures. Ten times it is noted what there is: blocks of Python's memory, arrays on the devices, programs compiled so
far, resident bytes, and those that are the history's. LEAK plants one in each chunk: "dict", "array" or "pages" (100 kB
that no list of arrays shows), or "none".
"""

import gc
import json
import os
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from training_problems import example_loss, network, noisy_loss, regression

import jaxopt_lessons as jl
from jaxopt_lessons.train.loop import Loop

CHUNK, BATCH = 50, 8
PLANTED: list[Any] = []
LEAKS = {"dict": lambda: {"chunk": [1.5]}, "array": lambda: jnp.zeros(3), "pages": lambda: bytearray(100_000)}

programs = 0


def count_programs(event: str, seconds: float, **details: Any) -> None:
    global programs
    programs += event == "/jax/core/compile/backend_compile_duration"


def options_of(kind: str, data: Any) -> tuple[Any, Any, dict[str, Any]]:
    """The step, the data and what else ``fit`` gets."""
    adam = jl.adam(jl.cosine_decay_schedule(0.05, 10**5))
    if kind == "memory":
        return jl.make_step(example_loss, adam), data, {"batch_size": BATCH, "val": data}
    if kind == "stream":

        def stream(epoch: int) -> Any:
            for first in range(0, len(data[0]), BATCH):
                yield tuple(x[first : first + BATCH] for x in data)

        return jl.make_step(example_loss, adam), stream, {}
    guarded = jl.with_guard(jl.make_step(noisy_loss, adam, metrics=["gradient_norm"]))
    observers = [
        jl.EarlyStopping("val_loss", patience=10**9),
        jl.BestWeights(),
        jl.Lambda(lambda run: None, every=jl.Every(steps=100), needs_state=False),
    ]
    return jl.with_ema(guarded, 0.99), data, {"batch_size": BATCH, "val": data, "observers": observers}


def bytes_of(history: jl.History) -> int:
    columns = [c for table in history._tables for c in (table.steps, table.epochs, *table.columns.values())]
    return sum(column._space.nbytes for column in columns)


def sample(done: int, history: int = 0) -> dict[str, int]:
    gc.collect()
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    arrays = jax.live_arrays()
    return {
        "done": done,
        "blocks": sys.getallocatedblocks(),
        "arrays": len(arrays),
        "array_bytes": sum(x.nbytes for x in arrays),
        "programs": programs,
        "resident": resident,
        "history": history,
    }


def plant(leak: str) -> None:
    note = Loop._note

    def leaking(*arguments: Any) -> None:
        PLANTED.append(LEAKS[leak]())
        note(*arguments)

    Loop._note = leaking


def one_run(kind: str, steps: int) -> dict[str, Any]:
    step, data, options = options_of(kind, regression(BATCH * max(8, steps // 4000)))
    samples: list[dict[str, int]] = []

    def look(run: jl.Run) -> None:
        samples.append(sample(run.cursor, bytes_of(run.history)))

    options["observers"] = [*options.get("observers", ()), jl.Lambda(look, every=jl.Every(steps=steps // 10))]
    out = jl.fit(step, jl.init_state(network(), step), data, steps=steps, chunk_steps=CHUNK, progress=False, **options)
    rows = {name: len(out.history[name]) for name in out.history}
    return {"samples": samples, "rows": rows, "finite": bool(np.isfinite(out.history["loss"]).all())}


def many_runs(count: int) -> dict[str, Any]:
    """A new step, other data and other hyperparameters each time, of equal shapes."""
    batches = jl.minibatches(regression(64), BATCH)

    def run(hp: Any, key: Any) -> Any:
        made = jl.make_step(example_loss, jl.sgd(hp["learning_rate"]))
        _, metrics = jl.make_scan(made, 8)(jl.init_state(network(), made.tx, key=key), batches)
        return metrics["loss"][-1]

    samples = []
    for number in range(1, count + 1):
        for kind in ("memory", "stream", "wrapped"):
            step, data, options = options_of(kind, regression(64, seed=number))
            step = step.replace(b1=0.5 + 0.4 / number)
            out = jl.fit(step, jl.init_state(network(number), step), data, epochs=2, progress=False, **options)
        jl.evaluate(example_loss, out.state.params, data)
        jl.lr_find(step, out.state, batches, steps=10)
        jl.sweep(run, {"learning_rate": [0.1 / number, 0.1]}, seeds=2)
        if number % (count // 10) == 0:
            samples.append(sample(number))
    return {"samples": samples}


if __name__ == "__main__":
    jax.monitoring.register_event_duration_secs_listener(count_programs)
    kind, count, leak = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if leak != "none":
        plant(leak)
    began = time.process_time()
    measured = many_runs(count) if kind == "runs" else one_run(kind, count)
    print(json.dumps({**measured, "seconds": time.process_time() - began}))
