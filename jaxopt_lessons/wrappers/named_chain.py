"""A chain whose states have names.

The updates are those of ``chain``; the state is a dict, ``state["clip"]``, in the place of a tuple.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from jaxopt_lessons import _checks, _state_checks, core
from jaxopt_lessons.core import Functions, Part, chain, gradient_transformation
from jaxopt_lessons.types import Convert, Params, State, Updates


def _as_named(owner: str, name: str, value: Any) -> tuple[str, core.GradientTransformation]:
    label, tx = _checks.name_and_value(owner, value)
    return label, core.as_transformation(owner, f"{name}[{label!r}]", tx)


@gradient_transformation
def named_chain(*transforms: Annotated[Any, Convert(_as_named, mixed=True)]) -> Any:
    """A ``chain`` of named transformations, with a dict of their states as its state.

    Args:
      *transforms: pairs ``(name, transformation)`` with different names.

    >>> tx = named_chain(("clip", jl.clip(1.0)), ("momentum", jl.trace(0.9)))
    >>> tx.init(jnp.zeros(1))["momentum"]
    TraceState(trace=Array([0.], dtype=float32))
    """
    names = [name for name, _ in transforms]
    _checks.require(len(set(names)) == len(names), lambda: f"named_chain: the names must differ; got {names}.")
    stages = chain(*(tx for _, tx in transforms))

    def init(params: Params) -> dict[str, State]:
        return dict(zip(names, stages.init(params), strict=True))

    def update(updates: Updates, state: dict[str, State], params: Params | None = None, **extra: Any) -> Any:
        updates, states = stages.update(updates, tuple(part.state for part in parts(state)), params, **extra)
        return updates, dict(zip(names, states, strict=True))

    def parts(state: dict[str, State]) -> list[Part]:
        if not isinstance(state, Mapping) or set(state) != set(names):
            _state_checks.wrong_states_by_name("names", names, state)
        return [Part(name, tx, state[name]) for name, tx in transforms]

    return Functions(init, update, parts)
