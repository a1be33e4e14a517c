"""What a row of the table is. The rows stand in the other files, beside the NumPy rules they must obey."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

import jaxopt_lessons as jl

TOGETHER = {"leaves_are_independent": "a number that all leaves make together decides how far each of them goes"}
"""For ``exempt``: global norms, and learning rates that are estimated, where a few steps show it. The estimates of
Prodigy, D-Adaptation and Mechanic have not moved by then."""


@dataclass(frozen=True)
class Case:
    """One public factory of gradient transformations, and all facts that a test needs to know about it.

    Attributes:
      name: its public name.
      oracle: the published rule again, in NumPy and float64, one step after the other and nothing shared with the
        package: ``oracle(grads, params, **arguments, **extras)`` takes the gradients and the parameters of successive
        steps and returns the updates of each. Hyperparameters may be schedules: read them with ``at``.
      arguments: what a minimal call needs.
      positional: the arguments of a factory that has no names for them; the oracle knows them.
      others: for each argument (but those of ``dtypes`` and ``silent``) another value, which must change the updates.
      dtypes: arguments that only choose a dtype of the state.
      silent: arguments that do not move the updates, or not those of a tree with one leaf; tested on their own.
      extras: further keyword arguments of every ``update``, such as ``value=``.
      evaluates: the oracle returns the weights to evaluate after each step, in the place of the updates.
      cyclic: fields of its states that count in a circle, and so never reach the largest number.
      forgets: after how many updates at the latest a single huge gradient no longer keeps it from moving.
      per_example: whether its ``update`` takes the gradients of single examples: it gets batches of one.
      needs_params: whether ``update`` needs ``params``.
      fields: the field names of its states, from the glossary in ``jaxopt_lessons.types``.
      optax: the same transformation made by optax, called with the same arguments.
      beyond: the arguments that it does not have.
      minimizes: arguments with which it minimizes a quadratic bowl; None if it is not an optimizer.
      scheduled: first values of the schedules in tests, or both, for arguments with which 0.5 and 0.25 make no
        difference.
      hides: which of inf, -inf and nan it is there to replace by something finite.
      part_of: the name of a preset that contains it; the contract is then checked on the preset only.
      tolerance: relative and absolute tolerance against the oracle in float32.
      exempt: properties that it cannot have, with the reason. A property is one of ``check_optimizer``, or the name of
        a test without ``test_``. It is asked for all the same, and must fail.
    """

    name: str
    oracle: Callable[..., Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, Any] = field(default_factory=dict)
    dtypes: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    positional: tuple[Any, ...] = ()
    extras: Mapping[str, Any] = field(default_factory=dict)
    evaluates: bool = False
    cyclic: frozenset[str] = frozenset()
    forgets: int = 20
    needs_params: bool = False
    per_example: bool = False
    fields: frozenset[str] = frozenset()
    optax: Callable[..., Any] | None = None
    beyond: frozenset[str] = frozenset()
    minimizes: Mapping[str, Any] | None = None
    scheduled: Mapping[str, float | tuple[float, float]] = field(default_factory=dict)
    hides: tuple[float, ...] = ()
    part_of: str | None = None
    tolerance: float = 5e-6
    exempt: Mapping[str, str] = field(default_factory=dict)

    @property
    def factory(self) -> Callable[..., jl.GradientTransformation]:
        return getattr(jl, self.name)

    def make(self, **changes: Any) -> jl.GradientTransformation:
        return self.factory(*self.positional, **{**self.arguments, **changes})

    def update(self, tx: jl.GradientTransformation) -> Callable[..., Any]:
        """``tx.update`` with the extra arguments it needs."""

        def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
            if self.per_example:
                updates = jax.tree.map(lambda leaf: leaf[None], updates)
            return tx.update(updates, state, params, **{**self.extras, **extra})

        return update

    def run_oracle(self, grads: Any, params: Any, **changes: Any) -> Any:
        return self.oracle(grads, params, **{**self.arguments, **changes}, **self.extras)

    def variants(self) -> list[dict[str, Any]]:
        """Changes of one argument each, with what it needs beside it."""
        return [
            {name: value} if not isinstance(value, With) else {name: value.value, **value.beside}
            for name, value in self.others.items()
        ]

    def other_numbers(self) -> list[dict[str, Any]]:
        """Changes of one number each to another number: the structure stays."""
        now = self.make().arguments
        changes = [change for change in self.variants() if len(change) == 1]
        return [c for c in changes if all(isinstance(v, float) and isinstance(now[n], float) for n, v in c.items())]


@dataclass(frozen=True)
class With:
    """A value that makes sense only beside others."""

    value: Any
    beside: Mapping[str, Any]


def at(value: Any, count: int) -> Any:
    """A hyperparameter of an oracle at this count: 0 at the first update."""
    return float(value(count)) if callable(value) else value


def stepped(first: float, then: float) -> Callable[[Any], Any]:
    """A schedule: a number, from the third update on another."""
    return lambda count: jnp.where(count >= 2, then, first)


def halved(first: float) -> Callable[[Any], Any]:
    """A schedule: a number, from the third update on half of it."""
    return stepped(first, first / 2)


def half(count: Any) -> Any:
    """A schedule for anything: 0.5, from the third update on 0.25."""
    return halved(0.5)(count)
