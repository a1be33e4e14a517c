"""optax's name for what every transformation of this library can do anyway: ignore arguments it does not know."""

from typing import Any

from jaxopt_lessons.core import GradientTransformation, as_transformation


def with_extra_args_support(tx: Any) -> GradientTransformation:
    """``tx`` as a transformation whose ``update`` accepts and ignores extra arguments that it does not know.

    Args:
      tx: a transformation, or a pair of functions ``(init, update)``.
    """
    return as_transformation("with_extra_args_support", "tx", tx)
