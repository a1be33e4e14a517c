"""``counted``: ``jit`` for functions of the training loop that notice when they are compiled, and say why.

The functions are made once for a step, and get everything they need as arguments. So JAX keeps what they compiled for
as long as they live, and a second run of equal structure compiles nothing. ``count()`` reports what was compiled during
a ``with`` block of the same thread, and, of what was compiled before, which argument has another shape, dtype or
sharding now.
"""

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.core import Tracer

_local = threading.local()


class Compiled(list[str]):
    """The names of the functions that were compiled.

    Attributes:
      again: for each one that was compiled before with other arguments, a line that says what is different.
    """

    def __init__(self) -> None:
        super().__init__()
        self.again: list[str] = []


@contextlib.contextmanager
def count() -> Iterator[Compiled]:
    """Yields a list that receives the name of each counted function that is compiled inside."""
    outer = getattr(_local, "compiled", None)
    _local.compiled = compiled = Compiled()
    try:
        yield compiled
    finally:
        _local.compiled = outer
        if outer is not None:
            outer.extend(compiled)
            outer.again.extend(compiled.again)


class Latest:
    """What a function was compiled for last.

    Attributes:
      arguments: the shape, dtype and sharding of each leaf by its path; None before the first time. It is replaced and
        never changed, because several threads may read it.
    """

    def __init__(self) -> None:
        self.arguments: dict[str, Any] | None = None


def counted(latest: Latest | None = None, **options: Any) -> Callable[[Callable[..., Any]], "Counted"]:
    """``jax.jit(**options)``, with each compilation reported to ``count``.

    Args:
      latest: where the arguments of the latest compilation are noted: functions that share it, because they are the
        same but for the number of their steps, say, are compared with each other.
      options: those of ``jax.jit``.
    """
    return lambda function: Counted(function, latest or Latest(), options)


class Counted:
    """A jitted function that reports its compilations."""

    def __init__(self, function: Callable[..., Any], latest: Latest, options: dict[str, Any]):
        functools.update_wrapper(self, function)
        self._function, self._latest = function, latest
        self._here = threading.local()  # Another thread may call it at the same time.

        @functools.wraps(function)
        def traced(*args: Any, **kwargs: Any) -> Any:
            self._here.traced = True
            return function(*args, **kwargs)

        self._jitted = jax.jit(traced, **options)
        _listen()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._here.traced = False
        programs = getattr(_local, "programs", 0)
        result = self._jitted(*args, **kwargs)
        if self._here.traced or getattr(_local, "programs", 0) != programs:
            self._compiled(args, kwargs)
        return result

    def _compiled(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = _signature(self._function, args, kwargs)
        compiled = getattr(_local, "compiled", None)
        before, self._latest.arguments = self._latest.arguments, given
        if compiled is not None:
            compiled.append(self._function.__name__)
            if before is not None and (different := _differences(before, given)):
                compiled.again.append(f"{self._function.__name__} was compiled again: {different}")


@functools.cache
def _listen() -> None:
    """Counts the programs that XLA compiles in each thread: another sharding is another program of the same trace."""

    def listener(event: str, duration_secs: float, **details: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            _local.programs = getattr(_local, "programs", 0) + 1

    jax.monitoring.register_event_duration_secs_listener(listener)


def _signature(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Shape and dtype, and the sharding, of each leaf by its path; donated arrays still know them."""
    given = inspect.signature(function).bind(*args, **kwargs).arguments
    signature = {}
    for name, argument in given.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(argument):
            shape = f"{leaf.dtype}{list(leaf.shape)}" if hasattr(leaf, "shape") else f"a {type(leaf).__name__}"
            placed = isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer) and leaf.committed
            signature[name + jax.tree_util.keystr(path)] = shape, leaf.sharding if placed else "on no certain device"
    return signature


def _differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What is different, the first few of it; "" for nothing."""
    found = []
    for path in dict.fromkeys([*before, *now]):
        if path not in now or path not in before:
            found.append(f"{path} is new" if path in now else f"{path} is gone")
        elif before[path] != now[path]:
            (shape, sharding), (new_shape, new_sharding) = before[path], now[path]
            was, now_is = (shape, new_shape) if shape != new_shape else (sharding, new_sharding)
            found.append(f"{path} was {was}, is {now_is}")
    more = f", and {len(found) - 3} more" if len(found) > 3 else ""
    return "; ".join(found[:3]) + more
