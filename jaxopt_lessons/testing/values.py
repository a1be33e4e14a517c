"""Values: zero, huge, tiny, infinite and NaN gradients, zero parameters, and what has passed when they are gone."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons.testing.subject import HALF, Failed, NotApplicable, Subject, finite, pairs, place, wide
from jaxopt_lessons.types import Params, State, Updates

PATIENCE = 500
"""So many ordinary gradients may pass before a weight moves again."""


def zero_gradients_move_nothing(s: Subject) -> None:
    """Zero gradients give zero updates in float16, bfloat16 and float32; a decay takes a part of each weight."""
    for dtype in (*HALF, jnp.float32):
        zero_gradients(s, dtype, decay=True)


def zero_gradients(s: Subject, dtype: Any, *, decay: bool) -> tuple[Params, State]:
    """Three steps with zero gradients in one dtype; the parameters and the state afterwards."""
    name, params = np.dtype(dtype).name, s.cast(dtype)
    every, state = s.run(params, [s.fill(params, 0)] * 3)
    for i, updates in enumerate(every):
        when = f"({name}) at the zero gradient {i + 1} the update"
        finite(when, updates)
        for path, u, p in pairs(updates, params):
            u, p = wide(u), wide(p)
            way = np.sign(np.sum(np.real(u * np.conj(p))))  # 1 for what is added to gradients, -1 for steps
            decays = (np.sign(u) == way * np.sign(p)) & (np.abs(u) <= np.abs(p)) if decay else False
            if np.any(bad := ~((u == 0) | decays)):
                where = tuple(np.argwhere(bad)[0])
                allowed = f" or a decay of the parameter {p[where]:.6g}" if decay else ""
                raise Failed(f"{place(when, path, where)} is {u[where]:.6g}; expected 0{allowed}.")
    if decay:
        nothing = s.fill(params, 0)
        every, _ = s.run(nothing, [nothing] * 3)
        when = f"({name}) with zero parameters, at zero gradients, the update"
        finite(when, every[-1])
        for path, u in jax.tree_util.tree_leaves_with_path(every[-1]):
            if np.any(wide(u)):
                where = tuple(np.argwhere(wide(u))[0])
                raise Failed(f"{place(when, path, where)} is {wide(u)[where]:.6g}; expected 0.")
    return params, state


def zero_gradients_are_forgotten(s: Subject) -> None:
    """After zero gradients, ordinary ones move every weight."""
    for dtype in (*HALF, jnp.float32):
        params = s.cast(dtype)
        _, state = s.run(params, [s.fill(params, 0)] * 3)
        moves_again(s, params, state, f"({np.dtype(dtype).name}) after zero gradients")


def moves_again(s: Subject, params: Params, state: State, when: str, patience: int = PATIENCE) -> None:
    """Fails unless ordinary gradients soon move every entry, by finite updates."""
    still = jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), params)
    for i in range(patience):
        updates, state = s.step(s.gradients(params, i % 4), state, params)
        finite(f"{when}, at the ordinary gradient {i + 1}, the update", updates)
        still = jax.tree.map(lambda waits, u: waits & (wide(u) == 0), still, updates)
        if not any(np.any(leaf) for leaf in jax.tree.leaves(still)):
            return
    for path, leaf in jax.tree_util.tree_leaves_with_path(still):
        if np.any(leaf):
            where = tuple(np.argwhere(leaf)[0])
            raise Failed(f"{when}, {place('the update', path, where)} is 0 for {patience} ordinary gradients.")


def constant_gradients_are_finite(s: Subject) -> None:
    """Equal gradients, step after step, give finite updates: nothing divides by how they differ."""
    g = s.gradients(s.wide)
    every, _ = s.run(s.wide, [g] * 5)
    for i, updates in enumerate(every):
        finite(f"at the equal gradient {i + 1} the update", updates)


def zero_params_are_finite(s: Subject) -> None:
    """Parameters that are all 0 get finite updates: nothing divides by their size."""
    params = s.fill(s.wide, 0)
    every, _ = s.run(params, [s.gradients(params, seed) for seed in range(2)])
    for i, updates in enumerate(every):
        finite(f"with zero parameters, at the gradient {i + 1}, the update", updates)


def tiny_gradients_are_finite(s: Subject) -> None:
    """Gradients of 1e-25, 1e-38 and 1e-45 give finite updates."""
    tiny_gradients(s)


def tiny_gradients(s: Subject, largest: float = float("inf")) -> None:
    state = s.init(s.wide)
    for size in (1e-25, 1e-38, 1e-45):
        updates, state = s.step(s.fill(s.wide, size), state, s.wide)
        finite(f"with gradients of {size:g}, the update", updates)
        for path, u in jax.tree_util.tree_leaves_with_path(updates):
            if np.any(np.abs(wide(u)) > largest):
                raise Failed(f"with gradients of {size:g}, {place('the update', path)} is above {largest:g}.")


def huge_gradients_do_not_overflow(s: Subject) -> None:
    """Gradients of 1e20 in float32 and 300 in float16 give finite updates, and none of 0 where others do not."""
    for dtype, size in HUGE:
        params, g = s.cast(dtype), s.gradients(s.cast(dtype))
        (ordinary,), _ = s.run(params, [g])
        (updates,), _ = s.run(params, [huge(g, size)])
        when = f"with gradients of {size:g} in {np.dtype(dtype).name}"
        finite(f"{when} the update", updates)
        for path, u, usual in pairs(updates, ordinary):
            if np.any(stopped := (wide(u) == 0) & (wide(usual) != 0)):
                where = tuple(np.argwhere(stopped)[0])
                raise Failed(f"{when} {place('the update', path, where)} is 0, with others {wide(usual)[where]:.6g}.")


def huge_gradients_are_forgotten(s: Subject) -> None:
    """A weight that saw a gradient of 1e20 (300 in float16) has finite numbers in its state and moves again."""
    for dtype, size in HUGE:
        params, g = s.cast(dtype), s.gradients(s.cast(dtype))
        before = s.init(params)
        _, state = s.step(huge(g, size), before, params)
        when = f"after a gradient of {size:g} in {np.dtype(dtype).name}"
        for path, a, b in pairs(state, before):
            if np.any(np.isfinite(wide(b)) & ~np.isfinite(wide(a))):
                where = tuple(np.argwhere(np.isfinite(wide(b)) & ~np.isfinite(wide(a)))[0])
                raise Failed(
                    f"{when} {place('the state', path, where)} is {wide(a)[where]}; expected a finite number. An "
                    "average that is infinite stays so, and its weight never moves again."
                )
        if dtype == jnp.float32:  # What has to fade in float16 may be too small to be seen there for long.
            moves_again(s, params, state, when)


HUGE = ((jnp.float32, 1e20), (jnp.float16, 300.0))


def huge(g: Updates, size: float) -> Updates:
    """Gradients of half this size to this size, with the signs of ``g``: no two of them are equal."""

    def one(leaf: jax.Array) -> jax.Array:
        values = np.asarray(leaf).astype(np.complex64 if jnp.iscomplexobj(leaf) else np.float32)
        sizes = np.abs(values)
        share = 0.5 + 0.5 * sizes / np.max(sizes, initial=1e-30)
        return jnp.asarray((size * share * values / np.maximum(sizes, 1e-30)).astype(leaf.dtype))

    return jax.tree.map(one, g)


def nan_gradients_stay_where_they_are(s: Subject) -> None:
    """NaN in a gradient is seen in the update of its entry and spoils no other, or the step is left out."""
    stay_where_they_are(s, np.nan)


def infinite_gradients_stay_where_they_are(s: Subject) -> None:
    """An infinite entry of a gradient is seen in its update and spoils no other, or the step is left out."""
    for bad in (np.inf, -np.inf):
        stay_where_they_are(s, bad)


def spoilt(s: Subject, bad: float) -> tuple[Any, Any, Updates, Updates]:
    """The path and place of one entry, ordinary gradients, and the same with something non-finite there."""
    g = s.gradients(s.wide)
    path, leaf = max(s.paths(g), key=lambda item: item[1].size)
    where = (0,) * leaf.ndim
    wrong = np.array(leaf)
    wrong[where] = bad
    return path, where, g, s.replaced(g, path, jnp.asarray(wrong))


def stay_where_they_are(s: Subject, bad: float) -> None:
    path, where, g, wrong = spoilt(s, bad)
    params = s.wide
    (ordinary,), _ = s.run(params, [g])
    (updates,), state = s.run(params, [wrong])
    if not any(np.any(wide(u)) for u in jax.tree.leaves(updates)):  # left out, or seen in one of the next steps
        others_are_finite(s, params, state, path, where, bad, g)
        return
    when = f"with a gradient of {bad} at {place('', path, where).removeprefix(' at ')}"
    for p, u, usual in pairs(updates, ordinary):
        u, usual = wide(u), wide(usual)
        for index in itertools.product(*map(range, u.shape)):
            if p == path and index == where:
                if np.isfinite(u[index]) and usual[index] != 0:
                    raise Failed(f"{when} its update is {u[index]:.6g}: what is wrong is hidden.")
            elif not np.isfinite(u[index]) or (u[index] == 0) != (usual[index] == 0):
                raise Failed(f"{when} {place('the update', p, index)} is {u[index]}, without it {usual[index]:.6g}.")


def others_are_finite(
    s: Subject, params: Params, state: State, path: Any, where: Any, bad: float, g: Updates, steps: int = 10
) -> None:
    """After a step without movement: what comes later spoils no other entry."""
    for _ in range(steps):
        updates, state = s.step(g, state, params)
        for p, u in jax.tree_util.tree_leaves_with_path(updates):
            ok = np.isfinite(wide(u))
            if p == path:
                ok = ok.copy()
                ok[where] = True
            if not np.all(ok):
                index = tuple(np.argwhere(~ok)[0])
                raise Failed(
                    f"after a step with {bad} that was left out, {place('the update', p, index)} is {wide(u)[index]}."
                )


def nan_steps_that_are_left_out_stay_out(s: Subject) -> None:
    """If a step with NaN is left out, so are thirty in a row, and ordinary gradients move every entry again."""
    _, _, g, wrong = spoilt(s, np.nan)
    params = s.wide
    (updates,), state = s.run(params, [wrong])
    after, _ = s.step(g, state, params)
    if any(np.any(wide(u)) for u in jax.tree.leaves(updates)) or not all_finite(after):
        raise NotApplicable("a step with NaN is not left out: it is seen in the update.")
    for _ in range(30):
        _, state = s.step(wrong, state, params)
    moves_again(s, params, state, "after thirty steps with NaN that were left out")


def all_finite(values: Any) -> bool:
    return all(np.all(np.isfinite(wide(leaf))) for leaf in jax.tree.leaves(values))


def leaves_move_the_same_way(s: Subject) -> None:
    """All leaves go against their gradients, or all along them: none climbs while the others descend."""
    params = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf) * np.float32(0.01)), s.wide)
    g = s.gradients(params)
    every, _ = s.run(params, [g] * 5)
    ways = {}
    for path, leaf in s.paths(g):
        total = sum(wide(dict_of(updates)[path]) for updates in every)
        along, size = np.sum(total * wide(leaf)), np.linalg.norm(total) * np.linalg.norm(wide(leaf))
        if abs(along) > 0.1 * size:
            ways.setdefault(bool(along > 0), path)
    if len(ways) == 2:
        raise Failed(
            f"{place('the update', ways[False])} goes against the gradient and {place('the update', ways[True])} along "
            "it: is the raw gradient passed on there?"
        )


def dict_of(values: Any) -> dict[Any, Any]:
    return dict(jax.tree_util.tree_leaves_with_path(values))


PROPERTIES: tuple[Callable[[Subject], None], ...] = (
    zero_gradients_move_nothing,
    zero_gradients_are_forgotten,
    constant_gradients_are_finite,
    zero_params_are_finite,
    tiny_gradients_are_finite,
    huge_gradients_do_not_overflow,
    huge_gradients_are_forgotten,
    nan_gradients_stay_where_they_are,
    infinite_gradients_stay_where_they_are,
    nan_steps_that_are_left_out_stay_out,
    leaves_move_the_same_way,
)
