"""The state: what ``init`` makes, that it belongs to nobody else, and that it keeps its form."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons._errors import describe
from jaxopt_lessons.testing.subject import (
    MIXES,
    Failed,
    NotApplicable,
    Subject,
    brief,
    finite,
    form,
    pairs,
    place,
    raises,
    same_form,
    same_structure,
    shown,
)


def runs(s: Subject) -> None:
    """init and update run on float32 parameters, compiled."""
    state = s.init(s.wide)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, bool, int, float, complex)):
            raise Failed(f"{place('the state', path)} is {describe(leaf)}; expected an array.")
    updates, _ = s.step(s.gradients(s.wide), state, s.wide)
    same_structure("the update", updates, s.wide, "the parameters")


def mixed_trees(s: Subject) -> None:
    """A tree with numbers, leaves without entries, None and several dtypes gets finite updates of its own form."""
    updates, _ = s.step(s.gradients(s.params), s.init(s.params), s.params)
    same_structure("the update", updates, s.params, "the parameters")
    finite("the update", updates)


def init_needs_shapes_only(s: Subject) -> None:
    """init works on shapes, under jax.eval_shape, and makes the same state as of arrays."""
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), s.wide)
    abstract = jax.eval_shape(s.init, shapes)
    same_form("the state", abstract, s.init(s.wide), "of arrays")


def state_is_made_of_arrays(s: Subject) -> None:
    """Every leaf of the state is an array: no Python number, no function."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(s.init(s.wide)):
        if not isinstance(leaf, (jax.Array, np.ndarray)):
            raise Failed(f"{place('the state', path)} is {describe(leaf)}; expected an array.")


def state_owns_its_arrays(s: Subject) -> None:
    """No array of a new state is one of the parameters: both can be donated to the first step."""
    params = s.cast(jnp.float32)  # arrays of their own
    state = s.init(params)
    owners = {}
    for what, values in (("the parameter", params), ("the state", state)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(values):
            if id(leaf) in owners and getattr(leaf, "size", 0):
                raise Failed(
                    f"{place(what, path)} is the same array as {owners[id(leaf)]}; expected one of its own. "
                    "Donating both is an error."
                )
            owners[id(leaf)] = place(what, path)

    with warnings.catch_warnings():  # that a donated buffer was of no use
        warnings.simplefilter("ignore")
        jax.block_until_ready(jax.jit(jax.lax.optimization_barrier, donate_argnums=0)((params, state)))


def state_keeps_its_form(s: Subject) -> None:
    """update returns a state of the structure, shapes, dtypes and weak types that it got, for any mix of dtypes."""
    for mix, (_, state, _, new_state) in s.mixes():
        same_form(f"{mix} the state after update", new_state, state, "before")


def state_is_a_loop_carry(s: Subject) -> None:
    """Three steps inside jax.lax.scan are three steps of a Python loop."""
    params, g = s.wide, s.gradients(s.wide)

    def body(state, _):
        updates, state = s.update(g, state, params)
        return state, updates

    state, every = jax.jit(lambda state: jax.lax.scan(body, state, None, length=3))(s.init(params))
    expected, last = s.run(params, [g] * 3)
    s.close("after a scan, the last update", jax.tree.map(lambda u: u[-1], every), expected[-1], "in a loop")
    s.close("after a scan, the state", state, last, "in a loop")


def state_of_other_params_is_refused(s: Subject) -> None:
    """A state made for parameters of other shapes or another structure raises, and is not broadcast."""
    params = s.wide
    if not any(np.ndim(leaf) for leaf in jax.tree.leaves(s.init(params))):
        raise NotApplicable("no array of the state has an axis.")
    longer = jax.tree.map(
        lambda leaf: np.zeros((leaf.shape[0] + 1, *leaf.shape[1:]), np.float32) if leaf.ndim else leaf, params
    )
    flat = jax.tree.map(lambda leaf: np.zeros((*leaf.shape[:-1], 1), np.float32) if leaf.ndim else leaf, params)
    others = {"a longer first axis": longer, "1 as the last axis": flat, "another structure": {"other": params}}
    for name, other in others.items():
        state = s.init(other)
        if any(form(a) != form(b) for _, a, b in pairs(other, params)) or name == "another structure":
            raises(f"with a state of parameters with {name}", s.update, s.gradients(params), state, params)


def missing_params_are_named(s: Subject) -> None:
    """update works without params, in the dtypes of the gradients, or its error names params."""
    for grad_dtype, param_dtype in MIXES:
        g = s.gradients(s.cast(grad_dtype))
        try:
            updates, _ = jax.eval_shape(s.update, g, s.init(s.cast(param_dtype)))
        except Exception as error:
            if "param" not in str(error):
                raise Failed(f"without params update raised {brief(error)}; expected that it names params.") from error
            return
        for path, u, leaf in pairs(updates, g):
            if form(u)[:2] != form(leaf)[:2]:
                raise Failed(
                    f"without params {place('the update', path)} is {shown(form(u))}, the gradient {describe(leaf)}."
                )


PROPERTIES = (
    runs,
    mixed_trees,
    init_needs_shapes_only,
    state_is_made_of_arrays,
    state_owns_its_arrays,
    state_keeps_its_form,
    state_is_a_loop_carry,
    state_of_other_params_is_refused,
    missing_params_are_named,
)
