"""Whether a program has a convolution: what decides between a loop and its steps written out on CPUs.

XLA takes many times as long there for a convolution, with its gradient, inside a loop as outside (JAX issue 12868).
"""

from typing import Any


def has_convolution(jaxpr: Any) -> bool:
    """Whether there is a convolution in a jaxpr, or in one inside it."""
    return any(
        equation.primitive.name == "conv_general_dilated"
        or any(has_convolution(inner) for value in equation.params.values() for inner in _jaxprs(value))
        for equation in jaxpr.eqns
    )


def _jaxprs(value: Any) -> list[Any]:
    if isinstance(value, (tuple, list)):
        return [jaxpr for item in value for jaxpr in _jaxprs(item)]
    if hasattr(value, "eqns"):
        return [value]
    return [value.jaxpr] if hasattr(value, "jaxpr") else []
