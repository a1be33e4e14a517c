"""Small runs with observers, whole, and killed and gone on with."""

from typing import Any

import numpy as np
from training_problems import assert_same, network, noisy_loss, regression

import jaxopt_lessons as jl

EXAMPLES, BATCH = 11, 4
PER_EPOCH = 3
DATA, VAL = regression(EXAMPLES), regression(5, seed=1)
ADAM = jl.adam(0.05)
STEP = jl.make_step(noisy_loss, ADAM)
STATE = jl.init_state(network(), ADAM, key=3)


def fit(step: Any = STEP, state: Any = STATE, data: Any = DATA, **options: Any) -> jl.FitResult:
    """Four epochs of three steps, unless ``options`` say otherwise."""
    options = {"epochs": 4} | options if "steps" not in options else options
    return jl.fit(step, state, data, **{"batch_size": BATCH, "val": VAL} | options)


class Killed(BaseException):
    """What ends a run from outside."""


def killed(*, at: int, observers: list[Any], **options: Any) -> None:
    """A run that dies after so many batches, with what its checkpoints have saved until then."""

    def die(run: jl.Run) -> None:
        if run.cursor == at:
            raise Killed

    try:
        fit(observers=[*observers, jl.Lambda(die, every=jl.Every(steps=1))], **options)
    except Killed:
        return
    raise AssertionError(f"the run had ended before {at} batches")


def gone_on(directory: Any, *, at: int, observers: list[Any], save_every: int = 2, **options: Any) -> jl.FitResult:
    """A run that dies after ``at`` batches and goes on from its last checkpoint."""
    saving = jl.Checkpoint(directory, every=jl.Every(steps=save_every))
    killed(at=at, observers=[*observers, saving], **options)
    silent = jl.Lambda(lambda run: None, every=jl.Every(steps=1))
    return fit(observers=[*observers, silent, saving], resume=True, **options)


def without(result: jl.FitResult, *names: str) -> dict[str, Any]:
    """What the observers remember, but for those of these names and for those that save or kill."""
    left_out = {"Lambda", "Checkpoint", *names}
    return {name: memory for name, memory in result.observed.items() if name not in left_out}


def assert_same_run(got: jl.FitResult, expected: jl.FitResult, *except_memories_of: str) -> None:
    """State, history, reason, and what the observers remember: bit for bit."""
    assert_same(got.state, expected.state)
    assert_same(got.history.to_records(), expected.history.to_records())
    assert got.reason == expected.reason
    assert_same(without(got, *except_memories_of), without(expected, *except_memories_of))


def script(losses: Any, *, weights: Any = None) -> dict[str, Any]:
    """Arguments of ``fit`` for a run that does nothing and whose loss at each step is the next of these numbers."""

    def loss(params: Any, batch: Any) -> Any:
        return jl.Weighted(batch["loss"][0] * batch["weight"][0] + 0 * params, batch["weight"][0])

    step = jl.make_step(loss, jl.sgd(0.0))
    losses = np.asarray(losses, np.float32)
    weights = np.ones_like(losses) if weights is None else np.asarray(weights, np.float32)
    return {
        "step": step,
        "state": jl.init_state(0.0, step),
        "data": {"loss": losses, "weight": weights},
        "batch_size": 1,
        "shuffle": False,
        "steps": len(losses),
        "val": None,
    }
