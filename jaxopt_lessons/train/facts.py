"""Facts about a run that a run which goes on from its checkpoint must share: optimizer, step, data and key."""

import re
from typing import Any

import jax

from jaxopt_lessons._value import Value
from jaxopt_lessons.train.state import TrainState
from jaxopt_lessons.train.step import Step

ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def facts_of(step: Any, state: TrainState, source: dict[str, Any]) -> dict[str, Any]:
    """The facts, in types of JSON. Numbers of the optimizer are not among them: a new learning rate may go on."""
    key = jax.random.key_data(state.key)
    return {"step": outline(step), **source, "key": [str(jax.random.key_impl(state.key)), key.ravel().tolist()]}


def outline(step: Any) -> str:
    """The step as the call that made it, with ``...`` for numbers and without the loss function."""
    if not isinstance(step, Step):
        return getattr(step, "__name__", type(step).__name__)
    return ADDRESS.sub("", _outline(step))


def hyperparameters(step: Any) -> str:
    """The step with its numbers."""
    return ADDRESS.sub("", repr(step)) if isinstance(step, Value) else outline(step)


class _Number:
    def __repr__(self) -> str:
        return "..."


def _outline(step: Step) -> str:
    arguments = {name: value for name, value in step.arguments.items() if name not in ("loss_fn", "function")}
    inner = arguments.pop("step", None)
    shown = [_outline(inner)] if isinstance(inner, Step) else []
    for name, value in arguments.items():
        counts = name in step.hyperparameters or isinstance(value, Value)
        shown.append(f"{name}={jax.tree.map(lambda _: _Number(), value) if counts else value!r}")
    return f"{step.name}({', '.join(shown)})"
