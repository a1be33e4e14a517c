"""Measurements of updates that have a memory, for ``monitor``.

    m = measure(g)
    v = decay * v + (1 - decay) * m               the measurement is v, or v / (1 - decay^t)

A measurement is a value with an ``init`` and an ``update`` like those of a transformation, but what its ``update``
returns in the place of the updates is what was measured. State: that of ``ema``. One measurement that is NaN stays in
the average.
"""

from collections.abc import Callable, Iterator
from typing import Any, ParamSpec

import jax
import jax.numpy as jnp

from jaxopt_lessons import tree
from jaxopt_lessons._value import Value, value_factory
from jaxopt_lessons.transforms.ema import ema
from jaxopt_lessons.transforms.snapshot import unmeasured
from jaxopt_lessons.types import DecayRateOrSchedule, Params, PyTree, State, Updates

P = ParamSpec("P")


class Measure(Value):
    """A measurement with a memory: ``init(params) -> state``, ``update(updates, state) -> (measurement, state)``."""

    __slots__ = ()

    def init(self, params: Params) -> State:
        return self._make()[0](params)

    def update(
        self, updates: Updates, state: State, params: Params | None = None, **extra: Any
    ) -> tuple[PyTree, State]:
        return self._make()[1](updates, state)

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        return iter((self.init, self.update))


def _measurement(body: Callable[P, Any]) -> Callable[P, Measure]:
    return value_factory(Measure, body)


@_measurement
def measure_with_ema(
    measure: Callable[[Updates], PyTree],
    decay: DecayRateOrSchedule,
    debias: bool = True,
    accumulator_dtype: Any = None,
) -> Any:
    """The exponentially weighted average of a measurement, for ``monitor``.

    Args:
      measure: ``measure(updates)``, a number, an array or a tree of them; True counts as 1.
      decay: the beta of the average, in ``[0, 1)``.
      debias: divide by ``1 - decay^t``, so that the first averages are not pulled towards 0.
      accumulator_dtype: dtype of the average; that of the measurement by default, float32 for half precision.
    """
    average = ema(decay, debias, accumulator_dtype)

    def as_floats(updates: Updates) -> PyTree:
        return tree.widen(jax.tree.map(_as_float, measure(updates)))

    def init(params: Params) -> State:
        return average.init(unmeasured(as_floats, params))

    def update(updates: Updates, state: State) -> tuple[PyTree, State]:
        return average.update(as_floats(updates), state)

    return init, update


def _as_float(x: Any) -> jax.Array:
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.float32)
