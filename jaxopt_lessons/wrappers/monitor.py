"""Several looks at the updates as they pass, with or without a memory.

    measurements[name] = measure(g)                           a function
    measurements[name], s = measure.update(g, s)              a measurement with a memory, ``measure_with_ema``
    u = g

State: ``measurements``, a dict from name to what was measured at the last update, zero before the first one (in optax
the dict is empty then); ``measure_states``, a dict from name to the memory of those that have one.
"""

from collections.abc import Iterable
from typing import Annotated, Any, NamedTuple

from jaxopt_lessons import _checks, _state_checks, tree
from jaxopt_lessons.core import gradient_transformation
from jaxopt_lessons.transforms.snapshot import as_before, unmeasured
from jaxopt_lessons.types import Convert, Params, PyTree, State, Updates


class MonitorState(NamedTuple):
    measurements: dict[str, PyTree]
    measure_states: dict[str, State]


def _as_measures(owner: str, name: str, value: Any) -> dict[str, Any]:
    for label, measure in _checks.by_label(owner, name, value).items():
        pair = tuple(measure) if isinstance(measure, Iterable) and not isinstance(measure, str) else ()
        if not callable(measure) and (len(pair) != 2 or not all(map(callable, pair))):
            raise TypeError(
                f"{owner}: {name}[{label!r}] must be a function, or a pair (init, update); got {measure!r} of type "
                f"{type(measure).__name__}."
            )
    return dict(value)


@gradient_transformation
def monitor(measures: Annotated[Any, Convert(_as_measures, mixed=True)]) -> Any:
    """Keeps measurements of the updates in the state and lets them pass.

    Args:
      measures: a mapping from names to measurements: functions ``measure(updates)`` that return a number, an array or a
        tree of them, or pairs ``(init, update)`` such as ``measure_with_ema`` makes.

    >>> tx = monitor({"mean norm": jl.measure_with_ema(tree.global_norm, 0.9), "norm": tree.global_norm})
    >>> state = tx.init(jnp.zeros(2))
    >>> _, state = tx.update(jnp.array([3.0, 4.0]), state)
    >>> _, state = tx.update(jnp.zeros(2), state)
    >>> state.measurements
    {'mean norm': Array(2.368421, dtype=float32), 'norm': Array(0., dtype=float32)}
    """
    remembering = {name: tuple(measure) for name, measure in measures.items() if not callable(measure)}

    def init(params: Params) -> MonitorState:
        states = {name: start(params) for name, (start, _) in remembering.items()}
        return MonitorState(unmeasured(lambda updates: measure(updates, states)[0], params), states)

    def measure(updates: Updates, states: dict[str, State]) -> tuple[dict[str, PyTree], dict[str, State]]:
        measurements, new_states = {}, {}
        for name, function in measures.items():
            if name in remembering:
                measurements[name], new_states[name] = remembering[name][1](updates, states[name])
            else:
                measurements[name] = function(updates)
        return measurements, new_states

    def update(updates: Updates, state: MonitorState, params: Params | None = None, **extra: Any) -> Any:
        passed = tree.cast_like(updates, updates if params is None else params)
        if set(state.measure_states) != set(remembering):
            _state_checks.wrong_states_by_name("names", list(remembering), state.measure_states)
        measurements, states = measure(tree.widen(updates), state.measure_states)
        return passed, MonitorState(as_before(measurements, state.measurements), states)

    return init, update
