"""Trees: leaves of every kind, gradients that do not fit, and leaves that do not see one another."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lessons._errors import describe, path_name
from jaxopt_lessons.testing.subject import (
    Failed,
    Subject,
    brief,
    filled,
    finite,
    place,
    raises,
    same_form,
)

SHAPES = ((), (1,), (0,), (0, 3), (3, 0), (1, 1), (1, 3), (3, 1), (2, 1, 3), (2, 3, 1, 2, 2))
COMPILED = ((), (0, 3), (1, 3), (3, 1), (2, 1, 3))
"""Those whose numbers are looked at; the others are traced."""


def none_stays_none(s: Subject) -> None:
    """None in the place of a parameter has no state and no update."""
    params = {"w": filled((3, 2), 0), "none": None, "list": [None, filled((2,), 1)]}
    updates, state = jax.eval_shape(s.update, s.gradients(params), s.init(params), params)
    same_form("with None among the parameters, the update", updates, params, "the parameter")
    same_form("with None among the parameters, the state after update", state, s.init(params), "before")


def untrained_leaves_are_left_alone(s: Subject) -> None:
    """An integer leaf whose gradient is None gets no update, or an error that names it."""
    params = {"w": filled((3, 2), 0), "steps": jnp.asarray(np.arange(3, dtype=np.int32))}
    g = {"w": s.gradients(params["w"]), "steps": None}
    try:
        updates, _ = jax.eval_shape(s.update, g, s.init(params), params)
    except Exception as error:
        if "steps" not in str(error):
            raise Failed(
                f"the parameter 'steps' is int32[3] and its gradient None: raised {brief(error)}; expected no update, "
                "or an error that names the leaf."
            ) from error
        return
    if not isinstance(updates, dict) or updates.get("steps") is not None:
        raise Failed("the update of int32[3] with the gradient None is an array; expected None.")


def integer_params_with_gradients_are_refused(s: Subject) -> None:
    """A fractional gradient for an integer parameter raises: added to it, it would be cut off."""
    params = {"steps": jnp.asarray(np.arange(3, dtype=np.int32))}
    raises(
        "the parameter is int32[3] and the gradient float32[3]",
        lambda g: s.update(g, s.init(params), params),
        {"steps": np.ones(3, np.float32)},
    )


def str_of(shape: tuple[int, ...]) -> str:
    return f"shape{list(shape)}"


def leaves_of_any_shape(s: Subject) -> None:
    """Leaves without entries, without axes, and with axes of length 1 get finite updates of their shapes."""
    params = {str_of(shape): filled(shape, 7) for shape in SHAPES}
    for name, leaf in params.items():
        try:
            jax.eval_shape(s.update, {name: s.gradients(leaf)}, s.init({name: leaf}), {name: leaf})
        except Exception as error:
            raise Failed(f"a parameter {describe(leaf)}: raised {brief(error)}") from error
    params = {name: params[name] for name in map(str_of, COMPILED)}
    every, _ = s.run(params, [s.gradients(params)] * 2)
    same_form("the update", every[-1], params, "the parameter")
    finite("the second update", every[-1])


def empty_trees(s: Subject) -> None:
    """A tree without leaves gets itself as updates."""
    for empty in ({}, [], ()):
        updates, _ = jax.eval_shape(lambda e=empty: s.update(e, s.init(e), e))
        if updates != empty:
            raise Failed(f"the updates of the parameters {empty!r} are {updates!r}.")


def wrong_shapes(s: Subject) -> Iterator[tuple[str, Any, Any]]:
    """Gradients with one leaf of another shape: what is wrong, the path, and the gradients."""
    g = s.gradients(s.wide)
    for path, leaf in s.paths(g):
        if leaf.ndim:
            yield "is a scalar", path, s.replaced(g, path, np.ones((), np.float32))
            yield "has one axis less", path, s.replaced(g, path, np.asarray(leaf)[0])
            yield "has one entry less", path, s.replaced(g, path, np.asarray(leaf)[1:])
        else:
            yield "has one axis more", path, s.replaced(g, path, np.asarray(leaf)[None])


def gradient_shapes_are_checked(s: Subject) -> None:
    """A gradient of another shape than its parameter raises, and is not broadcast."""
    state = s.init(s.wide)
    for wrong, path, g in wrong_shapes(s):
        raises(f"{place('the gradient', path)} {wrong}", s.update, g, state, s.wide)


def gradient_structures_are_checked(s: Subject) -> None:
    """Gradients with a leaf missing, or one too many, raise."""
    state = s.init(s.wide)
    g = s.gradients(s.wide)
    for path, _ in s.paths(g)[:2]:
        raises(f"{place('the gradient', path)} is None", s.update, s.replaced(g, path, None), state, s.wide)
    raises(
        "the gradients have another leaf beside", s.update, {"all": g, "more": np.ones(2, np.float32)}, state, s.wide
    )
    raises("the gradients are a list of leaves", s.update, jax.tree.leaves(g), state, s.wide)


def gradient_dtypes_are_checked(s: Subject) -> None:
    """Integer, bool and float0 gradients raise: they are a mistake."""
    state = s.init(s.wide)
    g = s.gradients(s.wide)
    path, leaf = s.paths(g)[0]
    for dtype in (jnp.int32, jnp.bool_):
        wrong = s.replaced(g, path, np.ones(leaf.shape, dtype))
        raises(f"{place('the gradient', path)} is {np.dtype(dtype).name}", s.update, wrong, state, s.wide)
    nothing = s.replaced(g, path, np.zeros(leaf.shape, jax.dtypes.float0))
    raises(f"{place('the gradient', path)} is float0", lambda: s.update(nothing, state, s.wide))


def errors_name_the_leaf(s: Subject) -> None:
    """The error about a gradient that is None, or of another shape, names the leaf."""
    state = s.init(s.wide)
    g = s.gradients(s.wide)
    for path, leaf in s.paths(g):
        if not path:  # the only leaf has no name
            continue
        wrongs = {"None": None, f"float32[{leaf.ndim + 4}]": np.ones(leaf.ndim + 4, np.float32)}
        for what, wrong in wrongs.items():
            about = f"{place('the gradient', path)} is {what}"
            error = raises(about, s.update, s.replaced(g, path, wrong), state, s.wide)
            if not any(name in str(error) for name in (path_name(path), jax.tree_util.keystr(path))):
                raise Failed(f"{about}: expected an error that names {path_name(path)!r}, {brief(error)}")


def leaves_are_independent(s: Subject) -> None:
    """The gradient of a leaf, or that the leaf is there at all, changes the updates of no other leaf."""
    params = s.wide if len(s.paths(s.wide)) > 1 else {"w": s.wide, "other": filled((3, 2), 8)}
    g = s.gradients(params)
    path, leaf = s.paths(g)[0]
    every, _ = s.run(params, [g] * 3)
    larger, _ = s.run(params, [s.replaced(g, path, jnp.asarray(np.asarray(leaf) * -1000))] * 3)
    without = s.replaced(params, path, None)
    alone, _ = s.run(without, [s.replaced(g, path, None)] * 3)
    for i in range(3):
        expected = s.replaced(every[i], path, None)
        when = f"at step {i + 1}"
        s.close(
            f"{when} the update", s.replaced(larger[i], path, None), expected,
            f"with a thousandth of the gradient at {path_name(path)!r}",
        )  # fmt: skip
        s.close(f"{when} the update", alone[i], expected, f"with a leaf at {path_name(path)!r} beside it")


def order_of_leaves_does_not_matter(s: Subject) -> None:
    """The same leaves in another order get the same updates."""
    leaves = [filled((3, 2), 7), filled((3, 2), 8)]
    g = s.gradients(leaves)
    every, _ = s.run(leaves, [g] * 3)
    backward, _ = s.run(leaves[::-1], [g[::-1]] * 3)
    for i in range(3):
        s.close(f"in backward order, at step {i + 1}, the update", backward[i][::-1], every[i], "in the order given")


PROPERTIES = (
    none_stays_none,
    untrained_leaves_are_left_alone,
    integer_params_with_gradients_are_refused,
    leaves_of_any_shape,
    empty_trees,
    gradient_shapes_are_checked,
    gradient_structures_are_checked,
    gradient_dtypes_are_checked,
    errors_name_the_leaf,
    leaves_are_independent,
    order_of_leaves_does_not_matter,
)
