"""Programs: what ``jit``, ``vmap`` and ``grad`` make of an optimizer is what it does without them."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons.core import apply_updates
from jaxopt_lessons.testing.subject import Failed, Subject, equal, place


def jit_equals_eager(s: Subject) -> None:
    """Compiled or not, update returns the same numbers."""
    params, g = s.wide, s.gradients(s.wide)
    state = s.init(params)
    updates, new_state = s.update(g, state, params)
    compiled, compiled_state = s.step(g, state, params)
    s.close("compiled, the update", compiled, updates, "not compiled")
    s.close("compiled, the state", compiled_state, new_state, "not compiled")


def one_trace_for_many_steps(s: Subject) -> None:
    """update is traced once for all steps of a run."""
    traces = []

    @jax.jit
    def step(g, state, params):
        traces.append(None)
        updates, state = s.update(g, state, params)
        return apply_updates(params, updates), state

    params, g = s.wide, s.gradients(s.wide)
    state = s.init(params)
    for _ in range(4):
        params, state = step.eval_shape(g, state, params)
    if len(traces) != 1:
        raise Failed(f"four steps traced update {len(traces)} times; expected once.")


def runs_are_deterministic(s: Subject) -> None:
    """The same gradients give the same updates and the same state, bit by bit."""
    params, gradients = s.wide, [s.gradients(s.wide, seed) for seed in range(3)]
    first, state = s.run(params, gradients)
    second, other = s.run(params, gradients)
    equal("in a second run the update", second, first, "in the first")
    equal("in a second run the state", other, state, "in the first")


def vmap_equals_loop(s: Subject) -> None:
    """Three sets of parameters under vmap are three runs."""
    every = [s.gradients(s.wide, seed) for seed in (10, 11, 12)]
    stack = stacked(every)
    g = s.gradients(s.wide)

    def two(params):
        _, state = s.step(g, s.init(params), params)
        return s.step(params, state, params)

    actual = jax.jit(jax.vmap(two))(stack)
    expected = stacked([two(params) for params in every])
    s.close("under vmap the update", actual[0], expected[0], "in a loop")
    s.close("under vmap the state", actual[1], expected[1], "in a loop")


def stacked(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *trees)


def derivatives_of_update_are_finite(s: Subject) -> None:
    """Derivatives through two steps are finite, where gradients and state are 0 too: for hyperparameters as well."""
    params = s.least

    def final(tx, g):
        state, total = s.init(params, tx), jnp.zeros(())
        for _ in range(2):
            updates, state = s.update(g, state, params, tx)
            parts = [jnp.sum(jnp.real(u) * weights(u)) for u in jax.tree.leaves(updates)]
            total = sum(parts, total)
        return total

    differentiate = jax.jit(jax.grad(final, argnums=(0, 1), allow_int=True))
    zeros = s.fill(params, 0)
    some = jax.tree.map(lambda leaf: np.where(np.real(leaf) > 0, leaf, np.zeros_like(leaf)), s.gradients(params))
    for what, g in (("zero gradients", zeros), ("gradients of which some are 0", some)):
        for_tx, for_g = differentiate(s.tx, g)
        check_derivatives(f"with {what} the derivative for the gradient", for_g)
        check_derivatives(f"with {what} the derivative for the hyperparameter", for_tx)


def weights(leaf: jax.Array) -> np.ndarray:
    """1, 2, 3 ..., so that no two entries can cancel."""
    return 1 + np.arange(leaf.size, dtype=np.float32).reshape(leaf.shape)


def check_derivatives(what: str, derivatives: Any) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(derivatives):
        if leaf.dtype != jax.dtypes.float0 and not np.all(np.isfinite(np.asarray(leaf))):
            raise Failed(f"{place(what, path)} is {np.asarray(leaf).ravel()[:4]}; expected finite numbers.")


def nothing_calls_the_host(s: Subject) -> None:
    """init and update have no callbacks to Python in their programs."""
    params = s.wide
    programs = {
        "init": jax.make_jaxpr(s.init)(params),
        "update": jax.make_jaxpr(s.update)(s.gradients(params), s.init(params), params),
    }
    for name, program in programs.items():
        for primitive in primitives(program.jaxpr):
            if "callback" in primitive or primitive in ("infeed", "outfeed"):
                raise Failed(f"{name} has the primitive {primitive}; expected that nothing leaves the device.")


def primitives(jaxpr: Any) -> Iterator[str]:
    """The names of all primitives of a program, at any depth."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from primitives(inner)


PROPERTIES = (
    jit_equals_eager,
    one_trace_for_many_steps,
    runs_are_deterministic,
    vmap_equals_loop,
    derivatives_of_update_are_finite,
    nothing_calls_the_host,
)
