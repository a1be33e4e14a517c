"""``with_ema``: an exponentially weighted average of the parameters in the state of the run.

    n      steps taken, this one included
    a = a + c * (p - a)        p: the parameters after the step
    c = (1 - decay) / (1 - decay^n)     debias=True
    c = 1 - decay, at n = 1: c = 1      debias=False

The numbers are those of ``ema_params``, which keeps the same average in the state of the optimizer; there it goes with
the optimizer wherever it is used, here it works with any step, and sees the steps as they were taken: one that
``with_guard`` left out does not count, whichever of the two is inside.

Memory: 4 bytes a parameter.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons import _training_checks, numerics, tree
from jaxopt_lessons.train.state import TrainState
from jaxopt_lessons.train.step import StepFunctions, StepLike, step_factory
from jaxopt_lessons.types import DecayRate, Params, PyTree
from jaxopt_lessons.wrappers.average_params import ema_share


@step_factory
def with_ema(step: StepLike, decay: DecayRate, debias: bool = True) -> Any:
    """Keeps an exponentially weighted average of the parameters, for evaluation: ``step.eval_params(state)``.

    ``fit`` validates with it. It is ``state.extras["ema"]``, in float32 for half-precision parameters, and
    ``state.extras["ema_count"]`` the number of steps in it. Make the state by ``init_state(params, step)``, or add
    ``extras=step.init_extras(params)`` to the state of a run: the average begins there.

    Args:
      step: a step, made by ``make_step`` or another wrapper.
      decay: the beta of the average, in ``[0, 1)``; it covers about ``1 / (1 - decay)`` steps.
      debias: give the parameters of the first steps no more weight than the others of their age; False begins with
        those of the first step as if they had been there for ever.

    >>> step = with_ema(jl.make_step(lambda w, x: w * x, jl.sgd(1.0)), decay=0.5)
    >>> state = jl.init_state(10.0, step)
    >>> for _ in range(2):
    ...     state, metrics = step(state, jnp.array([3.0]))
    >>> float(state.params), float(step.eval_params(state))  # 7 and 4 with the weights 1/3 and 2/3
    (4.0, 5.0)
    """
    _training_checks.wrapped_once("with_ema", step)
    share = ema_share(decay, debias)

    def init(params: Params) -> dict[str, Any]:
        return {"ema": tree.copy_like(params), "ema_count": numerics.zero_count()}

    def averaged(state: TrainState, batch: PyTree, mask: jax.Array | None) -> tuple[TrainState, dict[str, jax.Array]]:
        average = _training_checks.kept_in_extras("with_ema", "ema", state.extras)
        new, metrics = step(state, batch, mask)
        taken = new.step != state.step
        n = numerics.increment(state.extras["ema_count"])
        average = tree.map_leaves(
            average_rule, average, read=(new.params,), c=lambda dtype: share(n, dtype), taken=taken
        )
        count = jnp.where(taken, n, state.extras["ema_count"])
        return new._replace(extras={**new.extras, "ema": average, "ema_count": count}), metrics

    def eval_params(state: TrainState) -> Params:
        average = _training_checks.kept_in_extras("with_ema", "ema", state.extras)
        average = tree.cast_like(average, state.params)
        return tree.select(state.extras["ema_count"] > 0, average, state.params)

    return StepFunctions(averaged, init, eval_params)


def average_rule(a: jax.Array, p: jax.Array, c: jax.Array, taken: jax.Array) -> jax.Array:
    return jnp.where(taken > 0, numerics.toward(a, p, c), a)
