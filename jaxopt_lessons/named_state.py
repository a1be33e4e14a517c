"""The state of an optimizer by names: nested dicts to carry over to another program, another version, another chain.

    state_dict(adamw(1e-3), state)
    == {"scale_by_adam": {"count": 7, "mu": {"dense": {"bias": ..., "kernel": ...}}, "nu": {...}},
        "scale_by_learning_rate": {"count": 7}}

The keys are the names of transformations, of the fields of their states, and the key paths of the parameters. A chain
in a chain, or in a preset, adds no level, and a transformation without state no key: clipping can be added to an
optimizer, or taken away, and the old state still fits. A second transformation of one name is ``name_2``. A wrapper
holds its own fields and, under the names of its parts, their states. The arrays are those of the state, not copies.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxopt_lessons import _checks, _errors, _state_checks
from jaxopt_lessons.core import GradientTransformation, Part, ScheduledState, as_transformation
from jaxopt_lessons.types import Params, PyTree, State

Names = tuple[str, ...]


def state_dict(tx: Any, state: State) -> dict[str, Any]:
    """The state as nested dicts, keyed by the names of transformations, fields and parameters.

    Args:
      tx: the optimizer.
      state: its state.

    >>> tx = jl.sgd(0.1, momentum=0.9)
    >>> state_dict(tx, tx.init({"w": jnp.zeros(2)}))["trace"]
    {'trace': {'w': Array([0., 0.], dtype=float32)}}
    """
    leaves = jax.tree.leaves(state)
    result: dict[str, Any] = {}
    for names, position in _named_positions(as_transformation("state_dict", "tx", tx), state):
        inside = result
        for name in names[:-1]:
            inside = inside.setdefault(name, {})
        inside[names[-1]] = leaves[position]
    return result


def load_state_dict(tx: Any, params: Params, state: Mapping[str, Any], *, cast: bool = False) -> State:
    """The state of ``tx`` for ``params`` with the numbers of a ``state_dict``.

    Args:
      tx: the optimizer that will go on; it may have gained or lost transformations without a state.
      params: the parameters, for structure, shapes and shardings.
      state: what ``state_dict`` returned, perhaps of another process: dicts with arrays (NumPy's too).
      cast: let the arrays have other dtypes than the state of ``tx`` (a change of precision) and cast them.

    Raises:
      InputError: entries are missing, surplus, or of another shape or dtype; one message lists all of them.
    """
    with _errors.stage("load_state_dict"):
        tx = as_transformation("load_state_dict", "tx", tx)
        cast = _checks.flag("load_state_dict", "cast", cast)
        if not isinstance(state, Mapping):
            raise TypeError(
                f"load_state_dict: state must be the dict that state_dict returned; got one {type(state).__name__}."
            )
        template = tx.init(params)
        expected = dict(_named_positions(tx, template))
        given = dict(_flat(state))
        leaves, treedef = jax.tree.flatten(template)
        differences = [f"missing {_show(names)}" for names in expected if names not in given]
        differences += [f"surplus {_show(names)}" for names in given if names not in expected]
        for names, position in expected.items():
            if names in given:
                here, there = leaves[position], given[names]
                if np.shape(here) != np.shape(there) or (here.dtype != jnp.result_type(there) and not cast):
                    differences.append(f"{_show(names)} is {_errors.describe(there)}, not {_errors.describe(here)}")
        if differences:
            _state_checks.state_differs(differences)
        for names, position in expected.items():
            leaves[position] = put(given[names], leaves[position])
        return jax.tree.unflatten(treedef, leaves)


def put(value: Any, like: jax.Array) -> jax.Array:
    """A copy of ``value`` in the dtype and on the devices of ``like``."""
    array = jnp.array(value, copy=True).astype(like.dtype)
    return array if isinstance(like, Tracer) else jax.device_put(array, like.sharding)


# ---------------------------------------------------------------------------------------------------------------------
# Walking through a state
# ---------------------------------------------------------------------------------------------------------------------


def _named_positions(tx: GradientTransformation, state: State) -> Iterator[tuple[Names, int]]:
    """The name of each leaf of a state, and its position among the leaves."""
    leaves, treedef = jax.tree.flatten(state)
    numbered = jax.tree.unflatten(treedef, range(len(leaves)))
    seen: set[Names] = set()
    for names, position in _walk(Part(tx.name, tx, numbered), {}):
        if names in seen:
            _state_checks.ambiguous_name(_show(names))
        seen.add(names)
        yield names, position


def _walk(part: Part, records: dict[str, int]) -> Iterator[tuple[Names, int]]:
    """The leaves of the state of a part, named from the part on; ``records`` counts the names beside it."""
    for inside in without_chains(part):
        entries = list(_entries(inside))
        if not entries:
            continue
        records[inside.name] = records.get(inside.name, 0) + 1
        number = records[inside.name]
        name = inside.name if number == 1 else f"{inside.name}_{number}"
        yield from (((name, *names), position) for names, position in entries)


def without_chains(part: Part) -> Iterator[Part]:
    """The parts of chains in the place of the chains."""
    inside = part.tx.parts(part.state)
    if type(part.state) is tuple and inside and part.name == part.tx.name:
        for one in inside:
            yield from without_chains(one)
    else:
        yield part


def _entries(part: Part) -> Iterator[tuple[Names, Any]]:
    """The leaves of one record: the fields of its state, and its parts."""
    state = part.state
    if isinstance(state, ScheduledState):
        yield ("schedule_count",), state.count
        state = state.inner
    parts = part.tx.parts(part.state)
    owned = [id(one.state) for one in parts]
    for path, leaf in jax.tree_util.tree_leaves_with_path(state, is_leaf=lambda node: id(node) in owned):
        if id(leaf) not in owned:
            yield tuple(_errors.path_name((key,)) for key in path), leaf
    inside: dict[str, int] = {}
    for one in parts:
        yield from _walk(one, inside)


def _flat(tree: PyTree, names: Names = ()) -> Iterator[tuple[Names, Any]]:
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _flat(value, (*names, str(name)))
    elif tree is not None:
        yield names, tree


def _show(names: Names) -> str:
    return repr("/".join(names))
