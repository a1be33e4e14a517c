"""``with_guard``: a step that would make the run infinite or NaN is not taken, and the run goes on with the next batch.

The loss says too little: it may be finite where its gradient is not. So what is judged is the outcome. A step is left
out if after it the parameters, the optimizer's state or the model's would hold an infinite or NaN entry. Then all stays
as it was, what other wrappers inside keep included, but for the cursor: the data moves on, and so do the random
numbers. ``state.step`` counts the steps that were taken, ``state.extras["skipped"]`` those that were not.

Nothing is multiplied by 0 and no branch is taken: each leaf is selected, under ``vmap`` for each run by itself. Old and
new state are in memory at once.

``apply_if_finite`` and ``skip_nonfinite`` do this inside an optimizer, without a state of the run. They judge gradients
and updates, not what they are added to, and know neither cursor nor metrics.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _training_checks, numerics, tree
from jaxopt_lessons.train.state import TrainState
from jaxopt_lessons.train.step import StepFunctions, StepLike, step_factory
from jaxopt_lessons.types import Params, PyTree


@step_factory
def with_guard(step: StepLike) -> Any:
    """Leaves out the steps after which parameters or states would not be finite, counts them, and goes on.

    Make the state by ``init_state(params, step)``, or add ``extras=step.init_extras(params)`` to the state of a run.

    Args:
      step: a step, made by ``make_step`` or another wrapper.

    Returns:
      A step with the metric ``skipped``, 1 where a step was left out, else 0. There, and where the loss is not finite,
      ``weight`` is 0, so that the means of a history leave out the NaN that the loss may be.

    >>> step = with_guard(jl.make_step(lambda w, x: jnp.sqrt(w - x), jl.sgd(0.5)))
    >>> state = jl.init_state(1.0, step)
    >>> for x in (0.0, 0.75, -8.25):  # at x = w = 0.75 the loss is 0, and its gradient infinite
    ...     state, metrics = step(state, jnp.array([x]))
    ...     print(float(state.params), float(metrics["loss"]), float(metrics["skipped"]))
    0.75 1.0 0.0
    0.75 0.0 1.0
    0.6666666865348816 3.0 0.0
    >>> int(state.step), int(state.cursor), int(state.extras["skipped"])
    (2, 3, 1)
    """
    _training_checks.wrapped_once("with_guard", step)

    def init(params: Params) -> dict[str, Any]:
        return {"skipped": numerics.zero_count()}

    def guarded(state: TrainState, batch: PyTree, mask: jax.Array | None) -> tuple[TrainState, dict[str, jax.Array]]:
        skipped = _training_checks.kept_in_extras("with_guard", "skipped", state.extras)
        new, metrics = step(state, batch, mask)
        _training_checks.reserved_metrics(metrics, ("skipped",))
        spoiled = is_spoiled(new, state)
        kept = tree.select(~spoiled, new, state)
        skipped = jnp.where(spoiled, numerics.increment(skipped), skipped)
        kept = kept._replace(cursor=new.cursor, extras={**kept.extras, "skipped": skipped})
        if "weight" in metrics:
            counts = ~spoiled & jnp.isfinite(metrics.get("loss", 0.0))
            metrics = {**metrics, "weight": jnp.where(counts, metrics["weight"], 0)}
        return kept, {**metrics, "skipped": numerics.as_float(spoiled)}

    return StepFunctions(guarded, init)


def is_spoiled(new: TrainState, old: TrainState) -> jax.Array:
    """Whether anything that is trained or kept for training is infinite or NaN in ``new``.

    Not so single numbers that were in ``old`` too: the best loss at the start, say. Arrays are not compared with what
    they were: to read the old ones as well takes as long as a step of Adam.
    """
    pairs = zip(jax.tree.leaves(_judged(new)), jax.tree.leaves(_judged(old)), strict=True)
    spoiled = [_not_finite(a) if a.ndim else _not_finite(a) & ~_not_finite(b) for a, b in pairs if tree.is_trainable(a)]
    return functools.reduce(jnp.logical_or, spoiled, jnp.zeros([], bool))


def _judged(state: TrainState) -> PyTree:
    return state.params, state.opt_state, state.model_state


def _not_finite(leaf: jax.Array) -> jax.Array:
    return jnp.any(~jnp.isfinite(leaf))
