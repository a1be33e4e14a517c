"""``counted``: ``jit`` for functions of the training loop that notice when they are compiled.

The functions are made once, when the module is imported, and get everything they need as arguments. So JAX keeps what
they compiled for as long as the process lives, and a second run of equal structure compiles nothing. ``count()``
reports what was compiled during a ``with`` block of the same thread.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax

_local = threading.local()


@contextlib.contextmanager
def count() -> Iterator[list[str]]:
    """Yields a list that receives the name of each counted function that is compiled inside."""
    outer = getattr(_local, "compiled", None)
    _local.compiled = compiled = []
    try:
        yield compiled
    finally:
        _local.compiled = outer
        if outer is not None:
            outer.extend(compiled)


def counted(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``jax.jit(**options)``, with each trace, hence each compilation, reported to ``count``."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def traced(*args: Any, **kwargs: Any) -> Any:
            compiled = getattr(_local, "compiled", None)
            if compiled is not None:
                compiled.append(function.__name__)
            return function(*args, **kwargs)

        return jax.jit(traced, **options)

    return decorate
