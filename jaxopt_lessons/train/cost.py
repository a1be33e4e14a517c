"""What one step costs, estimated from its program before it is compiled: how many steps fit into one chunk.

    seconds = operations / speed + bytes / bandwidth + equations * overhead

``operations`` are those of matrix products and convolutions, two for each product and sum; ``bytes`` what the
equations write; a loop counts as often as it turns, a branch as its dearest. The speeds are round numbers for the
platform. The estimate may be wrong by a factor of ten, which is enough to choose between one step and a thousand. It is
the same each time, where a measured time would cut the same run in another way each time.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Cost(NamedTuple):
    """What a program does.

    Attributes:
      operations: floating-point operations of matrix products and convolutions.
      bytes: what all equations write.
      equations: how many there are.
      has_convolution: whether one of them is a convolution. XLA takes many times as long on CPUs for a convolution,
        with its gradient, inside a loop as outside (JAX issue 12868).
    """

    operations: float = 0.0
    bytes: float = 0.0
    equations: float = 0.0
    has_convolution: bool = False

    def seconds(self, platform: str) -> float:
        """About how long it takes on a device of this platform."""
        speed, bandwidth, overhead = (3e10, 4e9, 3e-7) if platform == "cpu" else (1e13, 5e11, 2e-6)
        return self.operations / speed + self.bytes / bandwidth + self.equations * overhead

    def times(self, turns: float) -> "Cost":
        return Cost(self.operations * turns, self.bytes * turns, self.equations * turns, self.has_convolution)

    def plus(self, other: "Cost") -> "Cost":
        return Cost(
            self.operations + other.operations,
            self.bytes + other.bytes,
            self.equations + other.equations,
            self.has_convolution or other.has_convolution,
        )


def cost_of(jaxpr: Any) -> Cost:
    """The cost of a jaxpr, with all that it calls."""
    total = Cost()
    for equation in jaxpr.eqns:
        inner = [cost_of(inside) for value in equation.params.values() for inside in _jaxprs(value)]
        if not inner:
            total = total.plus(_cost_of_equation(equation))
        elif equation.primitive.name == "cond":
            dearest = max(inner, key=lambda cost: cost.seconds("cpu"))
            total = total.plus(dearest._replace(has_convolution=any(cost.has_convolution for cost in inner)))
        else:
            turns = equation.params["length"] if equation.primitive.name == "scan" else 1
            for cost in inner:
                total = total.plus(cost.times(turns))
    return total


def _cost_of_equation(equation: Any) -> Cost:
    out = sum(_bytes(variable.aval) for variable in equation.outvars)
    name = equation.primitive.name
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        summed = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        return Cost(2.0 * summed * _size(equation.outvars[0].aval), out, 1)
    if name == "conv_general_dilated":
        # The gradient of the kernel has the batch for its window; what is multiplied is the same in both directions.
        window = _size(equation.invars[1].aval) / max(1, _features_out(equation))
        return Cost(2.0 * window * _size(equation.outvars[0].aval), out, 1, has_convolution=True)
    return Cost(0.0, out, 1)


def _features_out(equation: Any) -> int:
    return equation.invars[1].aval.shape[equation.params["dimension_numbers"].rhs_spec[0]]


def _size(aval: Any) -> int:
    return math.prod(getattr(aval, "shape", ()))


def _bytes(aval: Any) -> int:
    dtype = getattr(aval, "dtype", None)
    if dtype is None or jnp.issubdtype(dtype, jax.dtypes.extended):
        return 8 * _size(aval)
    return _size(aval) * np.dtype(dtype).itemsize


def _jaxprs(value: Any) -> list[Any]:
    if isinstance(value, (tuple, list)):
        return [jaxpr for item in value for jaxpr in _jaxprs(item)]
    if hasattr(value, "eqns"):
        return [value]
    return [value.jaxpr] if hasattr(value, "jaxpr") else []
