"""The public factories of transformations, and how to call one with one argument changed."""

from collections.abc import Mapping
from typing import Any

from cases import CASES, Case

import jaxopt_lessons as jl
from jaxopt_lessons.types import Range

FACTORIES = list({case.name: case for case in reversed(CASES)}.values())[::-1]
"""One row for each public factory."""


def parameters(case: Case) -> Mapping[str, Any]:
    return case.factory._specification.parameters


def ranges(case: Case) -> Mapping[str, Range | None]:
    return case.factory._specification.ranges


def owner(case: Case) -> str:
    """The name in errors: multi_transform is optax's other name of partition."""
    return case.factory._specification.body.__name__


def named(case: Case) -> list[str]:
    """The arguments of a factory but for ``*transforms``."""
    return [name for name, p in parameters(case).items() if p.kind is not p.VAR_POSITIONAL]


def built(case: Case, **changes: Any) -> jl.GradientTransformation:
    """The factory called with all arguments of its row, some changed."""
    args, kwargs = [], {}
    for name, value in {**case.make().arguments, **changes}.items():
        kind = parameters(case)[name].kind
        if kind is kind.VAR_POSITIONAL:
            args += value
        elif kind is kind.POSITIONAL_ONLY:
            args.append(value)
        else:
            kwargs[name] = value
    return case.factory(*args, **kwargs)
