"""The compiled programs of ``fit``: chunks of steps, kept from one run to the next.

A program gets the step as an argument, so the hyperparameters are inputs, and it gives the state back in the order in
which it came and in the same buffers. A new learning rate, or a second ``fit``, compiles nothing.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import numpy as np

from jaxopt_lessons import _training_checks, numerics
from jaxopt_lessons._value import Value
from jaxopt_lessons.train import compilation
from jaxopt_lessons.train.batches import Batches
from jaxopt_lessons.train.cost import Cost, cost_of
from jaxopt_lessons.train.device_plan import DevicePlan
from jaxopt_lessons.train.kept import kept
from jaxopt_lessons.train.scan import LoopFn, Metrics, StepFn, certain_loop, one_step, run_given, run_steps
from jaxopt_lessons.train.state import TrainState
from jaxopt_lessons.train.step import Step, step_of
from jaxopt_lessons.train.with_plan import with_plan
from jaxopt_lessons.types import PyTree

Program: TypeAlias = Callable[..., tuple[TrainState, Metrics]]

COLUMNS = ("batches", "epoch")
"""Columns that the table of a history has beside those of the metrics."""


class Compiled:
    """A step as the argument of compiled programs, on one device or on those of a plan."""

    def __init__(self, step: StepFn, plan: DevicePlan | None = None):
        self._plan = plan
        self._owner = function_of(step)
        argument = as_argument(step)
        self._unplanned = jax.tree.flatten(argument)
        planned = argument if plan is None else with_plan(argument, plan, ragged=True)
        self._leaves, self._structure = jax.tree.flatten(planned)

    def run_in_memory(
        self, state: TrainState, batches: Batches, length: int, tail: bool, in_loop: bool = True
    ) -> tuple[TrainState, Metrics]:
        """Steps on batches that the program cuts out of the data itself."""
        program = _in_memory(self._owner, self._structure, self._plan, length, tail, in_loop)
        return program(self._leaves, state, batches)

    def run_given(
        self, state: TrainState, batches: PyTree, masks: jax.Array | None, in_loop: bool = True
    ) -> tuple[TrainState, Metrics]:
        """Steps on batches ``[length, batch, ...]`` that are there."""
        return _given(self._owner, self._structure, self._plan, in_loop)(self._leaves, state, batches, masks)

    def cost(self, state: TrainState, batch: PyTree, mask: Any) -> Cost:
        """The cost of one step on a batch, on one device; of the arguments only shapes and dtypes count."""
        hyperparameters, step = self._unplanned
        leaves, structure = jax.tree.flatten((hyperparameters, state, batch, mask))
        return _cost(self._owner, step, structure, tuple((np.shape(x), x.dtype) for x in leaves))


@kept
def _in_memory(owner: Any, structure: Any, plan: DevicePlan | None, length: int, tail: bool, in_loop: bool) -> Program:
    def run(leaves: list[Any], state: TrainState, batches: Batches) -> tuple[TrainState, Metrics]:
        return run_steps(_measured(structure, leaves), state, batches, state.cursor, length, tail, _loop(in_loop))

    @compilation.counted(_latest_arguments(owner, structure, plan), donate_argnums=(1,))
    def run_chunk(leaves: list[Any], state: TrainState, batches: Batches) -> tuple[TrainState, Metrics]:
        return _inside(plan, run, leaves, state, batches)

    return run_chunk


@kept
def _given(owner: Any, structure: Any, plan: DevicePlan | None, in_loop: bool) -> Program:
    def run(leaves: list[Any], state: TrainState, batches: PyTree, masks: Any) -> tuple[TrainState, Metrics]:
        return run_given(_measured(structure, leaves), state, batches, masks, _loop(in_loop))

    @compilation.counted(donate_argnums=(1,))
    def run_chunk(leaves: list[Any], state: TrainState, batches: PyTree, masks: Any) -> tuple[TrainState, Metrics]:
        return _inside(plan, run, leaves, state, batches, masks)

    return run_chunk


def _loop(in_loop: bool) -> LoopFn:
    return certain_loop if in_loop else one_step


def _inside(plan: DevicePlan | None, run: Callable[..., Any], *arguments: Any) -> Any:
    return run(*arguments) if plan is None else plan.run(run, *arguments)


@kept
def _latest_arguments(owner: Any, structure: Any, plan: DevicePlan | None) -> compilation.Latest:
    """What the programs of a step were compiled for last, whatever their number of steps."""
    return compilation.Latest()


@kept
def _cost(owner: Any, step: Any, structure: Any, shapes: tuple[Any, ...]) -> Cost:
    leaves = [jax.ShapeDtypeStruct(*shape) for shape in shapes]

    def one(arguments: list[Any]) -> Any:
        hyperparameters, state, batch, mask = jax.tree.unflatten(structure, arguments)
        return _measured(step, hyperparameters)(state, batch, mask)

    return cost_of(jax.make_jaxpr(one)(leaves).jaxpr)


def _measured(structure: Any, leaves: list[Any]) -> StepFn:
    """The step with the learning rates it took among its metrics."""
    step: Step = jax.tree.unflatten(structure, leaves)

    def measured(state: TrainState, batch: PyTree, mask: jax.Array | None) -> tuple[TrainState, Metrics]:
        rates = {name: numerics.as_float(rate) for name, rate in step.learning_rates(state).items()}
        state, metrics = step(state, batch, mask)
        of_validation = [name for name in metrics if name.startswith("val_")]
        _training_checks.reserved_metrics(metrics, (*rates, *COLUMNS, *of_validation), "fit records its own")
        return state, {**metrics, **rates}

    return measured


def function_of(step: Any) -> Any:
    """The user's function in a step, with which its programs live and die: the loss function, or the step itself."""
    if not isinstance(step, Step):
        return step
    return step.loss_fn or step._argument_inside("function")


def as_argument(step: StepFn) -> Any:
    """The step as an argument of a compiled program, with its Python numbers as arrays of JAX's dtypes for them.

    A Python float and a float32 array are different types to ``jit``; as hyperparameters they are the same.
    """
    if not isinstance(step, Value):
        step = step_of(step)

    def strong(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array):
            return leaf.astype(leaf.dtype) if leaf.weak_type else leaf
        if isinstance(leaf, float):  # np.float64 is one
            return np.asarray(leaf, numerics.float_dtype())
        return np.asarray(leaf, np.int32) if isinstance(leaf, int) else leaf

    return jax.tree.map(strong, step)
