"""THE table: a row for each public factory of gradient transformations. All facts a test needs to know stand here.

A new optimizer gets a row, and with it every test of the contract, of the numbers and of the values. Nothing is skipped
in silence: a row that cannot meet a property says why in ``exempt``, and the test checks that it is still so.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import optax
import oracles

import jaxopt_lessons as jl


@dataclass(frozen=True)
class Case:
    """One factory.

    Attributes:
      name: its public name.
      arguments: what a minimal call needs.
      others: for each argument (but those of ``dtypes``) another value, which must change the updates.
      dtypes: arguments that only choose a dtype of the state.
      needs_params: whether ``update`` needs ``params``.
      fields: the field names of its states, from the glossary in ``jaxopt_lessons.types``.
      optax: the same transformation made by optax, called with the same arguments.
      minimizes: arguments with which it minimizes a quadratic bowl; None if it is not an optimizer.
      exempt: properties that it cannot have, with the reason.
    """

    name: str
    arguments: Mapping[str, Any]
    others: Mapping[str, Any]
    dtypes: tuple[str, ...] = ()
    needs_params: bool = False
    fields: frozenset[str] = frozenset()
    optax: Callable[..., Any] | None = None
    minimizes: Mapping[str, Any] | None = None
    exempt: Mapping[str, str] = field(default_factory=dict)

    @property
    def factory(self) -> Callable[..., jl.GradientTransformation]:
        return getattr(jl, self.name)

    def make(self, **changes: Any) -> jl.GradientTransformation:
        return self.factory(**{**self.arguments, **changes})

    def oracle(self, grads: Any, params: Any, **changes: Any) -> Any:
        return getattr(oracles, self.name)(grads, params, **{**self.arguments, **changes})

    def variants(self) -> list[dict[str, Any]]:
        """Changes of one argument each, with what it needs beside it."""
        return [
            {name: value} if not isinstance(value, With) else {name: value.value, **value.beside}
            for name, value in self.others.items()
        ]


@dataclass(frozen=True)
class With:
    """A value that makes sense only beside others."""

    value: Any
    beside: Mapping[str, Any]


def half(count: Any) -> Any:
    """A schedule for anything: 0.5, from the third update on 0.25."""
    return jnp.where(count >= 2, 0.25, 0.5)


ADAM = {"b1": 0.8, "b2": 0.9, "eps": 1e-2, "eps_root": 1e-2, "nesterov": True}
RMS = {"decay": 0.7, "eps": 1e-2, "initial_scale": 0.5, "eps_in_sqrt": False, "bias_correction": True}
# eps_in_sqrt makes a difference only where eps does.
RMS_OTHERS = {**RMS, "eps_in_sqrt": With(False, {"eps": 1e-2})}

CASES = [
    Case("identity", {}, {}, optax=optax.identity),
    Case("chain", {}, {}, exempt={"optax": "optax.chain() without a part cannot be called"}),
    Case("scale", {"step_size": -0.5}, {"step_size": 2.0}, optax=optax.scale),
    Case(
        "scale_by_learning_rate",
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, "flip_sign": False},
        fields=frozenset({"count"}),
        optax=optax.scale_by_learning_rate,
    ),
    Case(
        "scale_by_schedule",
        {"step_size_fn": half},
        {"step_size_fn": lambda count: 0.3},
        fields=frozenset({"count"}),
        optax=optax.scale_by_schedule,
    ),
    Case("clip", {"max_delta": 0.5}, {"max_delta": 0.25}, optax=optax.clip),
    Case("clip_by_global_norm", {"max_norm": 0.5}, {"max_norm": 0.25}, optax=optax.clip_by_global_norm),
    Case(
        "add_decayed_weights",
        {"weight_decay": 0.1},
        {"weight_decay": 0.2, "mask": False},
        needs_params=True,
        optax=optax.add_decayed_weights,
    ),
    Case(
        "trace",
        {"decay": 0.9},
        {"decay": 0.5, "nesterov": True},
        dtypes=("accumulator_dtype",),
        fields=frozenset({"trace"}),
        optax=optax.trace,
    ),
    Case(
        "ema",
        {"decay": 0.9},
        {"decay": 0.5, "debias": False},
        dtypes=("accumulator_dtype",),
        fields=frozenset({"count", "ema"}),
        optax=optax.ema,
    ),
    Case("scale_by_rms", {}, RMS_OTHERS, fields=frozenset({"count", "nu"}), optax=optax.scale_by_rms),
    Case(
        "scale_by_stddev",
        {"eps": 0.1},  # At the first step the variance is almost 0: with a small eps rounding would be all there is.
        {**RMS_OTHERS, "eps": 0.3, "eps_in_sqrt": False},
        fields=frozenset({"count", "mu", "nu"}),
        optax=optax.scale_by_stddev,
    ),
    Case(
        "scale_by_rss",
        {},
        {"initial_accumulator_value": 0.3, "eps": 1e-2},
        fields=frozenset({"sum_of_squares"}),
        optax=optax.scale_by_rss,
    ),
    Case(
        "scale_by_adam",
        {},
        ADAM,
        dtypes=("mu_dtype",),
        fields=frozenset({"count", "mu", "nu"}),
        optax=optax.scale_by_adam,
    ),
    Case(
        "sgd",
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, "momentum": 0.5, "nesterov": With(True, {"momentum": 0.5})},
        dtypes=("accumulator_dtype",),
        fields=frozenset({"count", "trace"}),
        optax=optax.sgd,
        minimizes={"learning_rate": 0.03, "momentum": 0.9},
    ),
    Case(
        "ema_momentum",
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, "beta": 0.5, "debias": True},
        fields=frozenset({"count", "ema"}),
        optax=lambda learning_rate, beta=0.9, debias=False: optax.chain(
            optax.ema(beta, debias), optax.scale_by_learning_rate(learning_rate)
        ),
        minimizes={"learning_rate": 0.3},
    ),
    Case(
        "rmsprop",
        {"learning_rate": 0.1},
        {
            "learning_rate": 0.3,
            **RMS_OTHERS,
            "centered": With(True, {"eps": 0.1}),
            "momentum": 0.5,
            "nesterov": With(True, {"momentum": 0.5}),
        },
        fields=frozenset({"count", "mu", "nu", "trace"}),
        optax=optax.rmsprop,
        minimizes={"learning_rate": jl.exponential_decay(0.1, 100, 0.5)},
    ),
    Case(
        "adagrad",
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, "initial_accumulator_value": 0.3, "eps": 1e-2},
        fields=frozenset({"count", "sum_of_squares"}),
        optax=optax.adagrad,
        minimizes={"learning_rate": 1.0},
    ),
    Case(
        "adam",
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, **ADAM},
        dtypes=("mu_dtype",),
        fields=frozenset({"count", "mu", "nu"}),
        optax=optax.adam,
        minimizes={"learning_rate": 0.1},
    ),
    Case(
        "adamw",
        {"learning_rate": 0.1},
        {"learning_rate": 0.3, **ADAM, "weight_decay": 0.3, "mask": With(False, {"weight_decay": 0.3})},
        dtypes=("mu_dtype",),
        needs_params=True,
        fields=frozenset({"count", "mu", "nu"}),
        optax=optax.adamw,
        minimizes={"learning_rate": 0.1, "weight_decay": 0.0},
    ),
]
