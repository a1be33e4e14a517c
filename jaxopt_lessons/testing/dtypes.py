"""Dtypes: those of the updates, what is calculated in float32, 64 bits, Python's numbers, complex ones."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons._errors import describe
from jaxopt_lessons.testing.subject import (
    HALF,
    Failed,
    NotApplicable,
    Subject,
    brief,
    filled,
    form,
    pairs,
    place,
    same_form,
    wide,
)


def updates_have_the_dtypes_of_params(s: Subject) -> None:
    """The updates have the structure, shapes and dtypes of the parameters, for any mix of dtypes."""
    for mix, (params, _, updates, _) in s.mixes():
        same_form(f"{mix} the update", updates, params, "the parameter")


def half_precision_is_calculated_in_float32(s: Subject) -> None:
    """Steps in half precision are the float32 steps on the same numbers, rounded once, with averages in float32."""
    for dtype in HALF:
        name = np.dtype(dtype).name
        params = s.cast(dtype)
        gradients = [s.gradients(params, seed) for seed in range(3)]
        every, state = s.run(params, gradients)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state):
            if getattr(leaf, "dtype", None) in HALF:
                raise Failed(f"({name}) {place('the state', path)} is {describe(leaf)}; expected float32.")
        in_float32 = [jax.tree.map(to_float32, g) for g in gradients]
        expected, _ = s.run(jax.tree.map(to_float32, params), in_float32)
        for path, u, e in pairs(every[-1], expected[-1]):
            # Two programs may round float32 differently, which can be seen where a number lies between two halves.
            rounded = wide(e.astype(dtype))
            spacing = 0.0 if s.strict else jnp.finfo(dtype).eps * np.abs(rounded)
            bad = ~(np.abs(wide(u) - rounded) <= spacing)
            if np.any(bad):
                where = tuple(np.argwhere(bad)[0])
                raise Failed(
                    f"({name}) {place('the third update', path, where)} is {wide(u)[where]:.6g}, "
                    f"calculated in float32 {rounded[where]:.6g}."
                )


def to_float32(leaf: jax.Array) -> jax.Array:
    return leaf if jnp.iscomplexobj(leaf) else jnp.asarray(np.asarray(leaf).astype(np.float32))


def x64_does_not_change_float32(s: Subject) -> None:
    """With 64 bits enabled, float32 parameters keep float32 updates and states, and about the same numbers."""
    params, g = s.wide, s.gradients(s.wide)
    (expected,), _ = s.run(params, [g])
    with jax.enable_x64(True):
        state = s.init(params)
        updates, new_state = jax.jit(s.update)(g, state, params)
        for what, values in (("the state", state), ("the state after update", new_state), ("the update", updates)):
            for path, leaf in jax.tree_util.tree_leaves_with_path(values):
                if getattr(leaf, "dtype", None) in (jnp.float64, jnp.complex128):
                    raise Failed(f"{place(what, path)} is {describe(leaf)}; expected no 64 bits.")
        updates = jax.tree.map(np.asarray, updates)
    # A correction such as 1 - 0.999**count is more exact if it is calculated in 64 bits.
    s.close("with 64 bits the update", updates, expected, "without", s.tolerance if s.strict else 100 * s.tolerance)


def python_numbers_do_not_retrace(s: Subject) -> None:
    """Parameters that are Python floats have the state and the updates of arrays: nothing is traced again."""
    numbers = {"a": 0.5, "b": [-1.5]}
    arrays = jax.tree.map(lambda x: jnp.asarray(np.asarray(x, jnp.result_type(float))), numbers)
    g = s.gradients(arrays)
    state = s.init(numbers)
    same_form("the state of Python floats", state, s.init(arrays), "of arrays")
    updates, new_state = jax.eval_shape(s.update, g, state, numbers)
    same_form("the state of Python floats after update", new_state, state, "before")
    same_form("the update of a Python float", updates, arrays, "an array is")


def complex_parameters_are_pairs_of_real_ones(s: Subject) -> None:
    """A complex parameter is updated as two real ones, or refused."""
    z = filled((2, 5), 9, jnp.complex64)
    params, g = {"z": z}, {"z": filled((2, 5), 10, jnp.complex64)}

    def apart(x):
        return {"z": jnp.asarray(np.stack([np.real(x["z"]), np.imag(x["z"])], axis=-1))}

    try:
        jax.eval_shape(s.update, g, s.init(params), params)
    except (TypeError, ValueError) as error:
        raise NotApplicable(f"complex parameters are refused: {brief(error, 120)}") from error
    every, _ = s.run(params, [g] * 3)
    expected, _ = s.run(apart(params), [apart(g)] * 3)
    if form(every[-1]["z"])[:2] != form(z)[:2]:
        raise Failed(f"the update of complex64[2,5] is {describe(every[-1]['z'])}.")
    s.close("the third complex update, in pairs,", apart(every[-1]), expected[-1], "that of a pair of real parameters")


PROPERTIES = (
    updates_have_the_dtypes_of_params,
    half_precision_is_calculated_in_float32,
    x64_does_not_change_float32,
    python_numbers_do_not_retrace,
    complex_parameters_are_pairs_of_real_ones,
)
