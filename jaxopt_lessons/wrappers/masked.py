"""A transformation for some of the leaves.

    inside the mask    u, s = inner(g, s)
    outside            u = g, or 0 with unmasked="zero"; no state

The inner transformation sees a tree with None at the leaves outside, the library's structure for "nothing": a norm
that it calculates is that of the leaves inside.

Beware of an optimizer under a mask: ``masked(sgd(0.1), mask)`` lets the *gradients* of the other leaves through, and
whoever adds the result to the weights adds raw gradients to those. That is right for a stage of a chain
(``masked(add_decayed_weights(0.1), mask)``) and almost never for a whole optimizer, so a UserWarning asks for
``unmasked`` if there is a ``scale_by_learning_rate`` inside and nothing was said.

State: ``inner_state``. Not to be confused with ``partition``, which has a transformation for every leaf.
"""

import operator
from typing import Any, NamedTuple

import jax

from jaxopt_lessons import _checks, _tree_checks, tree
from jaxopt_lessons.core import Functions, GradientTransformation, Part, Transformation, gradient_transformation
from jaxopt_lessons.transforms.learning_rate import warn_of_raw_gradients
from jaxopt_lessons.transforms.zero import set_to_zero, zero_rule
from jaxopt_lessons.types import Mask, Params, PyTree, State, Updates


class MaskedState(NamedTuple):
    inner_state: State


@gradient_transformation
def masked(
    inner: Transformation,
    mask: Mask,
    *,
    mask_compatible_extra_args: bool = False,
    unmasked: str | None = None,
) -> Any:
    """Applies a transformation to the leaves that a mask chooses.

    Args:
      inner: the transformation.
      mask: which leaves it transforms: a tree of bools like the parameters (or a prefix), ``mask(params) -> tree``, or
        ``mask(path, leaf) -> bool``.
      mask_compatible_extra_args: mask those extra arguments of ``update`` too that have the structure of the updates.
      unmasked: what becomes of the updates of the other leaves: ``"keep"``, they pass as they are, or ``"zero"``.
        None: they pass, with a warning if ``inner`` makes the step and so no later stage will see to them.

    Raises:
      InputError: the mask does not fit the parameters.

    >>> tx = masked(jl.scale(10.0), {"a": True, "b": False})
    >>> params = {"a": jnp.ones(1), "b": jnp.ones(1)}
    >>> tx.update(params, tx.init(params), params)[0]
    {'a': Array([10.], dtype=float32), 'b': Array([1.], dtype=float32)}
    """
    if unmasked is not None:
        _checks.one_of("masked", "unmasked", unmasked, ("keep", "zero"))
    else:
        warn_of_raw_gradients(
            "masked",
            inner,
            "the leaves outside the mask keep their",
            "Write unmasked='zero' to leave those weights alone, or unmasked='keep' if a later stage sees to them. "
            "(partition and groups give every leaf a transformation.)",
        )

    def init(params: Params) -> MaskedState:
        return MaskedState(inner.init(pick_some(params, tree.mask_leaves(mask, params))))

    def update(updates: Updates, state: MaskedState, params: Params | None = None, **extra: Any) -> Any:
        reference = updates if params is None else params
        if unmasked == "zero":
            outside = tree.map_leaves(zero_rule, updates, params=reference)
        else:
            outside = tree.cast_like(updates, reference)
        where = tree.mask_leaves(mask, reference)
        if mask_compatible_extra_args:
            extra = {name: pick_compatible(value, reference, where) for name, value in extra.items()}
        inside, inner_state = update_some(inner, where, updates, state.inner_state, params, extra)
        return tree.merge(outside, inside), MaskedState(inner_state)

    def parts(state: MaskedState) -> list[Part]:
        return [Part(inner.name, inner, state.inner_state)]

    def eval_params(state: MaskedState, params: Params) -> Params:
        inside = pick_some(params, tree.mask_leaves(mask, params))
        return tree.merge(params, inner.eval_params(state.inner_state, inside))

    return Functions(init, update, parts, eval_params)


def update_some(
    tx: GradientTransformation, where: PyTree, updates: Updates, state: State, params: Params | None, extra: Any
) -> tuple[Updates, State]:
    """``tx.update`` of the leaves for which ``where`` holds True; there is None in the place of the others."""
    inside = pick_some(updates, where)
    new, state = tx.update(inside, state, None if params is None else pick_some(params, where), **extra)
    if jax.tree.structure(new) != jax.tree.structure(inside):
        _tree_checks.different_trees("what came out", new, "what went in", inside)
    return new, state


def pick_some(x: PyTree, where: PyTree) -> PyTree:
    """``tree.pick``, and ``()`` if nothing is left of a tree that is one leaf: None would mean "without params"."""
    picked = tree.pick(x, where)
    return () if picked is None else picked


def pick_compatible(value: Any, reference: PyTree, where: PyTree) -> Any:
    """``value`` like the updates if it has the structure of the reference, else as it is."""
    return tree.pick(value, where) if jax.tree.structure(value) == jax.tree.structure(reference) else value


@gradient_transformation
def freeze(mask: Mask) -> Any:
    """Zeroes the updates of the leaves that a mask chooses; the others pass.

    Equivalent to ``masked(set_to_zero(), mask)``. As the last stage of a chain it holds weights still; the stages
    before it keep their state for them all the same, which ``selective_transform`` saves.

    Args:
      mask: True for the leaves to freeze: a tree of bools like the parameters (or a prefix), ``mask(params) -> tree``,
        or ``mask(path, leaf) -> bool``.
    """
    return masked(set_to_zero(), mask)


@gradient_transformation
def selective_transform(optimizer: Transformation, *, freeze_mask: Mask) -> Any:
    """An optimizer for all leaves but those that a mask freezes, whose updates are zero and cost no state.

    Equivalent to ``masked(optimizer, not freeze_mask, unmasked="zero")``.

    Args:
      optimizer: the transformation of the other leaves.
      freeze_mask: True for the leaves to freeze: a tree of bools like the parameters (or a prefix), ``mask(params) ->
        tree``, or ``mask(path, leaf) -> bool``.
    """
    return masked(
        optimizer,
        lambda params: jax.tree.map(operator.not_, tree.mask_leaves(freeze_mask, params)),
        unmasked="zero",
    )
