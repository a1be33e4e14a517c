"""What an optimizer of this library is beyond its pair of functions: a value, with hyperparameters in ranges."""

import copy
import pickle
import sys
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lessons._value import Value
from jaxopt_lessons.testing.subject import Failed, NotApplicable, Subject, brief, equal


def only_of_a_value(s: Subject) -> None:
    if not s.is_value:
        raise NotApplicable("a plain pair of functions is no value; @jl.gradient_transformation makes one.")


def unknown_extras_are_accepted(s: Subject) -> None:
    """Keyword arguments that others need change nothing."""
    only_of_a_value(s)
    params, g = s.wide, s.gradients(s.wide)
    state = s.init(params)
    updates, _ = s.update(g, state, params)
    more = {"value": jnp.float32(1.0), **s.extra(params), "an_argument_of_another": None}
    with_more, _ = s.update(g, state, params, **more)
    equal("with more keyword arguments the update", with_more, updates, "without")


def prints_and_compares(s: Subject) -> None:
    """It prints as a call, equals and hashes as a copy of itself, and differs with another number."""
    only_of_a_value(s)
    twin = copy.deepcopy(s.tx)
    if s.tx != twin or hash(s.tx) != hash(twin):
        raise Failed("a deep copy is not equal, or has another hash.")
    if not repr(s.tx).startswith(f"{s.tx.name}("):
        raise Failed(f"it prints as {s.tx!r}; expected the call of {s.tx.name}.")
    leaves, structure = jax.tree.flatten(s.tx)
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, float):
            changed = [*leaves]
            changed[i] = leaf / 2 + 0.25
            if jax.tree.unflatten(structure, changed) == s.tx and changed[i] != leaf:
                raise Failed(f"with {changed[i]} in the place of {leaf} it is equal.")


def pickles(s: Subject) -> None:
    """It comes back from pickle as it was."""
    only_of_a_value(s)
    for name, function in functions(s.tx):
        if not importable(function):
            raise NotApplicable(f"pickle finds functions by their names, and {name} is not at the top of a module.")
    again = pickle.loads(pickle.dumps(s.tx))
    if again != s.tx:
        raise Failed(f"back from pickle it is {again!r}.")


def functions(value: Any) -> Iterator[tuple[str, Any]]:
    """The functions that a value is made of, at any depth."""
    if isinstance(value, Value):
        yield value.name, value.factory
        for argument in value.arguments.values():
            yield from functions(argument)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from functions(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from functions(item)
    elif hasattr(value, "__qualname__") and callable(value):
        yield value.__qualname__, value


def importable(function: Any) -> bool:
    found = sys.modules.get(getattr(function, "__module__", None) or "")
    for name in function.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is function or getattr(function, "__name__", "") == "GradientTransformation"


def new_numbers_compile_nothing(s: Subject) -> None:
    """Other hyperparameters run in the same program, and make a state of the same structure."""
    only_of_a_value(s)
    leaves, structure = jax.tree.flatten(s.tx)
    if not any(isinstance(leaf, float) for leaf in leaves):
        raise NotApplicable("it has no hyperparameters that are numbers.")
    other = jax.tree.unflatten(structure, [0.9 * leaf if isinstance(leaf, float) else leaf for leaf in leaves])
    params, g, traces = s.wide, s.gradients(s.wide), []

    def step(tx, g, state, params):
        traces.append(None)
        return s.update(g, state, params, tx)

    trace = jax.jit(step)
    for tx in (s.tx, other):
        trace.eval_shape(tx, g, s.init(params, tx), params)
    if jax.tree.structure(s.init(params)) != jax.tree.structure(s.init(params, other)):
        raise Failed("the structure of the state is another with other numbers.")
    if len(traces) != 1:
        raise Failed(f"{s.tx!r} and the same with other numbers were traced {len(traces)} times; expected once.")


def hyperparameters_are_checked(s: Subject) -> None:
    """NaN, text, and numbers out of range are refused by an error that names the hyperparameter."""
    only_of_a_value(s)
    names = [name for name, value in s.tx.hyperparameters.items() if isinstance(value, float)]
    if not names:
        raise NotApplicable("it has no hyperparameters that are numbers.")
    ranges = s.tx.factory._specification.ranges  # type: ignore[attr-defined]
    for name in names:
        wrong = [float("nan"), "1e-3"]
        if ranges[name].low > -float("inf"):
            wrong.append(ranges[name].low - 1)
        if ranges[name].high < float("inf"):
            wrong.append(ranges[name].high + 1)
        for value in wrong:
            try:
                s.tx.factory(**{**named(s.tx), name: value})
            except (TypeError, ValueError) as error:
                if name not in str(error):
                    raise Failed(f"{name}={value!r} raised {brief(error)}; expected that it names {name}.") from error
            else:
                raise Failed(f"{name}={value!r} is accepted; expected an error: {name} is {ranges[name]}.")


def named(tx: Any) -> dict[str, Any]:
    """The arguments that can be given by name."""
    parameters = tx.factory._specification.parameters
    return {
        name: value
        for name, value in tx.arguments.items()
        if parameters[name].kind not in (parameters[name].VAR_POSITIONAL, parameters[name].POSITIONAL_ONLY)
    }


PROPERTIES = (
    unknown_extras_are_accepted,
    prints_and_compares,
    pickles,
    new_numbers_compile_nothing,
    hyperparameters_are_checked,
)
