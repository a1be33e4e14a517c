"""Counters: at the end of their range, and after a billion steps."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons.testing.subject import Failed, NotApplicable, Subject, finite, pairs, place, wide
from jaxopt_lessons.types import State

BILLION = 10**9


def counters(s: Subject) -> set[Any]:
    """The paths of the whole numbers in the state that grow by 1 with every update."""
    state = s.init(s.wide)
    found = {path for path, leaf in jax.tree_util.tree_leaves_with_path(state) if is_whole(leaf)}
    for seed in range(30):
        if not found:
            break
        _, new_state = s.step(s.gradients(s.wide, seed % 4), state, s.wide)
        grown = {path for path, b, a in pairs(new_state, state) if is_whole(a) and int(b) == int(a) + 1}
        found, state = found & grown, new_state
    if not found:
        raise NotApplicable("no whole number of the state grows with every update.")
    return found


def is_whole(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.integer) and not leaf.shape


def with_counters(state: State, chosen: Callable[[Any, Any], bool], value: int | None) -> State:
    """The state with its counters at ``value``, or at the end of their range."""

    def one(path: Any, leaf: Any) -> Any:
        if not chosen(path, leaf):
            return leaf
        return jnp.asarray(np.iinfo(leaf.dtype).max if value is None else value, leaf.dtype)

    return jax.tree_util.tree_map_with_path(one, state)


def counters_saturate(s: Subject) -> None:
    """A counter at the end of its range stays there, and the updates are finite."""
    found = counters(s)
    saturate(s, lambda path, leaf: path in found)


def saturate(s: Subject, chosen: Callable[[Any, Any], bool]) -> None:
    state = with_counters(s.init(s.wide), chosen, None)
    updates, new_state = s.step(s.gradients(s.wide), state, s.wide)
    for path, after, before in pairs(new_state, state):
        if chosen(path, before) and int(after) != int(before):
            raise Failed(f"{place('the counter', path)} goes from {int(before)} to {int(after)}; expected it to stay.")
    finite("with counters at their ends, the update", updates)


def long_runs_go_on(s: Subject) -> None:
    """After a billion updates, finite and steady: beta**count is 0 and its correction 1."""
    found = counters(s)
    params, g = s.wide, s.gradients(s.wide)
    _, state = s.run(params, [g] * 3)
    early, _ = s.step(g, state, params)
    late, later = (
        s.step(g, with_counters(state, lambda path, leaf: path in found, count), params)[0]
        for count in (BILLION, BILLION + 1)
    )
    finite("after a billion updates, the update", late)
    for path, a, b in pairs(late, later):
        a, b = wide(a), wide(b)
        if np.any(apart := ~(np.abs(a - b) <= 1e-5 * np.abs(a))):
            where = tuple(np.argwhere(apart)[0])
            raise Failed(f"{place('the update', path, where)} is {a[where]:.9g} and at the next count {b[where]:.9g}.")
    for path, a, e in pairs(late, early):
        if np.any(stopped := (wide(a) == 0) & (wide(e) != 0)):
            where = tuple(np.argwhere(stopped)[0])
            raise Failed(f"{place('after a billion updates, the update', path, where)} is 0.")


PROPERTIES = (counters_saturate, long_runs_go_on)
