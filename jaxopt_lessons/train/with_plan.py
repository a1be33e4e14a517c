"""``with_plan``: a step on several devices, with the numbers of one.

    batch    split by examples
    params   as the plan has them
    grads    as the optimizer's state is: sharded under ``zero`` 1 and 3, so each device gets the sums it needs
    state    as the plan has it, before and after

These are constraints, from which JAX's compiler concludes the rest. Nothing is calculated otherwise: the step inside
sees whole arrays, so that norms, clipping, factored states, random numbers and means over a batch are what they are on
one device.

What the compiler makes of it, read in compiled programs (clipping, AdamW, 8 devices). ``zero`` 0: one all-reduce of all
gradients. 1 and 3: for TPU v5e each gradient is reduced and scattered, and 1 gathers the new parameters, 3 the old ones
where they are multiplied; for CPUs the gradients are all-reduced, then cut.

On CPUs a maximum over examples on several devices may leave out a NaN (jax 0.10 and 0.12); sums, means and
``with_guard`` do not.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from jaxopt_lessons import _device_checks, _training_checks
from jaxopt_lessons.train.device_plan import DevicePlan
from jaxopt_lessons.train.objective import number_of_examples
from jaxopt_lessons.train.state import TrainState
from jaxopt_lessons.train.step import Step, StepFunctions, StepLike, step_factory
from jaxopt_lessons.types import Params, PyTree


@step_factory
def with_plan(step: StepLike, plan: DevicePlan, ragged: bool = False) -> Any:
    """Takes a step on the devices of a plan, for loops of your own: ``fit`` does it with ``plan=plan``.

    Put the state there by ``plan.place_state(state)``. The state after the step lies where it lay before it. The
    weights to evaluate, ``step.eval_params(state)``, are whole on each device.

    Args:
      step: a step, made by ``make_step`` or another wrapper: this one is the outermost. Of a step that ``make_step``
        did not make the parameters are not gathered for the loss, which it does not tell: that is the compiler's.
      plan: made by ``make_plan``.
      ragged: whether to accept batches that the devices do not divide, such as a smaller last one: every device then
        calculates all of it. By default such a batch is refused.

    Raises:
      InputError: from the step, if the devices do not divide the batch.

    >>> plan = jl.make_plan(jax.make_mesh((1,), ("data",), devices=jax.devices()[:1]))
    >>> step = jl.with_plan(jl.make_step(lambda w, x: (w - x) ** 2, jl.sgd(0.25)), plan)
    >>> state = plan.place_state(jl.init_state(0.0, step))
    >>> state, metrics = jax.jit(step)(state, jnp.array([1.0, 2.0, 6.0]))
    >>> float(state.params)
    1.5
    """
    _training_checks.wrapped_once("with_plan", step)
    _training_checks.made_by("with_plan", "plan", plan, DevicePlan, "make_plan(mesh)")

    def planned(state: TrainState, batch: PyTree, mask: jax.Array | None) -> tuple[TrainState, dict[str, jax.Array]]:
        examples = number_of_examples(batch)
        if examples % plan.devices and not ragged:
            _device_checks.ragged_batch(examples, plan.axis, plan.devices)
        leaves, structure = jax.tree.flatten(step)
        inside = functools.partial(_step_inside, structure, plan)
        return plan.run(inside, leaves, state, batch, mask)

    def eval_params(state: TrainState) -> Params:
        leaves, structure = jax.tree.flatten(step)
        return plan.run_replicated(functools.partial(_eval_inside, structure, plan), leaves, state)

    return StepFunctions(planned, eval_params=eval_params)


def _eval_inside(structure: Any, plan: DevicePlan, leaves: list[Any], state: TrainState) -> Params:
    return plan.constrain_replicated(jax.tree.unflatten(structure, leaves).eval_params(state))


def _step_inside(
    structure: Any, plan: DevicePlan, leaves: list[Any], state: TrainState, batch: PyTree, mask: jax.Array | None
) -> tuple[TrainState, dict[str, jax.Array]]:
    step = _gathering_params(jax.tree.unflatten(structure, leaves), plan)
    state = plan.constrain_state(state)
    state, metrics = step(state, *plan.constrain_batch(batch, mask))
    return plan.constrain_state(state), plan.constrain_replicated(metrics)


@dataclasses.dataclass(frozen=True)
class PlannedLoss:
    """A loss function that splits the batch it gets over the devices of a plan, for measuring without gradients.

    ``evaluate(PlannedLoss(loss_fn, plan), params, plan.place_data(data), batch_size)`` shares the work out; what it
    returns is replicated. Equal if made of equal things, so that a program compiled for one serves the other.
    """

    loss_fn: Callable[..., Any]
    plan: DevicePlan

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.loss_fn  # whose signature says whether there is a key

    def __call__(self, params: Params, batch: PyTree, *args: Any, **kwargs: Any) -> Any:
        def inside(params: Params, batch: PyTree, args: Any, kwargs: Any) -> Any:
            batch, _ = self.plan.constrain_batch(batch, None)
            return self.loss_fn(self.plan.gather_params(params), batch, *args, **kwargs)

        return self.plan.run_replicated(inside, params, batch, args, kwargs)


def _gathering_params(step: Step, plan: DevicePlan) -> Step:
    """The step with a loss function that gathers the parameters it gets, and so scatters their gradients.

    In the loss and not around the step: an optimizer may ask for more gradients, or the batch be cut into parts, and
    the gradient of each should be summed to where it is needed. Gathered and not left to the compiler: with parameters
    sharded and a batch split over the same devices it may as well gather the batch.
    """
    if step.inner is not None:
        return step.replace(step=_gathering_params(step.inner, plan))
    loss_fn = step.loss_fn
    if loss_fn is None:
        return step

    @functools.wraps(loss_fn)  # which keeps the signature that says whether the loss takes a key
    def gathering(params: Params, *args: Any, **kwargs: Any) -> Any:
        def loss(params: Params) -> Any:
            return loss_fn(plan.gather_params(params), *args, **kwargs)

        # Whole parameters are not kept for the gradient where they are sharded, but gathered again.
        return jax.checkpoint(loss, policy=_keep_all_but_gathered)(params) if plan.zero == 3 else loss(params)

    return step.replace(loss_fn=gathering)


def _keep_all_but_gathered(primitive: Any, *_: Any, **params: Any) -> bool:
    return primitive.name != "sharding_constraint"
