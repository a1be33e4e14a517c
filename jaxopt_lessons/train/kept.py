"""``kept``: what is made once for a user's function, and lives as long as this function.

A compiled program holds the loss function that it was made of, and with it all that the function closes over, perhaps a
whole data set. A cache of the module would hold it when the run is long over. So what is made is kept on the function,
as an attribute: the two hold each other, nothing else holds them, and the garbage collector takes both when the user
has let go of the function.

Of a function that takes no attribute (a bound method, an object that can be called) what is made is kept in a cache of
the module, the latest ``KEPT``: those are compared by ``==``, and hold what they hold until others take their places.
"""

import functools
import types
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import jax

R = TypeVar("R")

KEPT = 64
"""Results that are kept, the latest, of each function that makes them, for each function that they are made for."""

_ATTRIBUTE = "__jaxopt_lessons_kept__"
_FUNCTIONS = (types.FunctionType, functools.partial, type(jax.jit(lambda: None)))


class _Kept:
    """What is kept on a function: a cache for each maker."""

    def __init__(self, owner: Any = None):
        self.owner = (lambda: None) if owner is None else weakref.ref(owner)
        self.caches: dict[Any, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _Kept, ()  # Whoever pickles a function by value pickles its attributes, and programs cannot be.


def kept(make: Callable[..., R]) -> Callable[..., R]:
    """``make(owner, *key)``, made once for each owner and key, as by ``functools.lru_cache``.

    Args:
      make: a function of hashable arguments; the first is the user's function with which the result lives and dies.
    """
    elsewhere = functools.lru_cache(maxsize=KEPT)(make)

    def get(owner: Any, *key: Any) -> R:
        home = owner if isinstance(owner, _FUNCTIONS) else getattr(owner, "__wrapped__", None)
        if not isinstance(home, _FUNCTIONS):
            return elsewhere(owner, *key)
        caches = _caches(home)
        cache = caches.get(make)
        if cache is None:  # setdefault: another thread may have made it by now.
            cache = caches.setdefault(make, functools.lru_cache(maxsize=KEPT)(make))
        return cache(owner, *key)

    return functools.update_wrapper(get, make)


def _caches(owner: Any) -> dict[Any, Any]:
    attributes = vars(owner)
    found = attributes.get(_ATTRIBUTE)
    if found is None:
        found = attributes.setdefault(_ATTRIBUTE, _Kept(owner))
    if found.owner() is not owner:  # functools.wraps copies attributes, and a pickled one has no owner.
        found = attributes[_ATTRIBUTE] = _Kept(owner)
    return found.caches
