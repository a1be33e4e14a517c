"""Every leaf has a label, and every label a transformation.

    u, s[label] = transforms[label](g, s[label])         for all leaves of a label together

Each transformation sees a tree with None at the leaves of other labels, as if there were only its own: a global norm
inside is that of its leaves. State: ``inner_states``, a dict from label to state; a leaf costs what its own
transformation costs.

``multi_transform`` is optax's older name of the same. Labels that no leaf has are an error here: most are typing
errors, and their optimizer would silently do nothing. See ``groups`` for labels by key path, and for groups that are
variants of one optimizer.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Annotated, Any, NamedTuple

import jax

from jaxopt_lessons import _checks, _errors, _state_checks, _tree_checks, tree
from jaxopt_lessons.core import Functions, GradientTransformation, Part, as_transformation, gradient_transformation
from jaxopt_lessons.types import Convert, Labels, Params, PyTree, State, Updates
from jaxopt_lessons.wrappers.masked import pick_compatible, pick_some, update_some


class PartitionState(NamedTuple):
    inner_states: dict[Any, State]


def _as_transformations(owner: str, name: str, value: Any) -> dict[Hashable, GradientTransformation]:
    transforms = _checks.by_label(owner, name, value)
    return {label: as_transformation(owner, f"{name}[{label!r}]", tx) for label, tx in transforms.items()}


@gradient_transformation
def partition(
    transforms: Annotated[Any, Convert(_as_transformations)],
    param_labels: Labels,
    *,
    mask_compatible_extra_args: bool = False,
) -> Any:
    """Applies to each leaf the transformation of its label.

    Args:
      transforms: a mapping from labels to transformations.
      param_labels: which leaf has which label: a tree of labels like the parameters (or a prefix),
        ``labels(params) -> tree``, or ``labels(path, leaf) -> label``.
      mask_compatible_extra_args: give each transformation its own leaves only of those extra arguments of ``update``
        that have the structure of the updates.

    Raises:
      InputError: a label has no transformation, a transformation no leaf, or the labels do not fit the parameters.

    >>> tx = partition({"small": jl.scale(1.0), "large": jl.scale(10.0)}, {"a": "small", "b": "large"})
    >>> params = {"a": jnp.ones(1), "b": jnp.ones(1)}
    >>> tx.update(params, tx.init(params), params)[0]
    {'a': Array([1.], dtype=float32), 'b': Array([10.], dtype=float32)}
    """

    def labels_of(params: Params) -> PyTree:
        labels = tree.label_leaves(param_labels, params)
        _tree_checks.labels_known(list(transforms), jax.tree.leaves(labels))
        return labels

    return split(transforms, labels_of, mask_compatible_extra_args)


def split(
    transforms: Mapping[Any, GradientTransformation],
    labels_of: Callable[[Params], PyTree],
    mask_compatible_extra_args: bool = False,
) -> Functions:
    """The functions of a partition by ``labels_of``, which makes the tree of the labels."""

    def where(params: Params) -> dict[Any, PyTree]:
        labels = labels_of(params)
        return {label: jax.tree.map(lambda own, label=label: own == label, labels) for label in transforms}

    def init(params: Params) -> PartitionState:
        return PartitionState(
            {label: transforms[label].init(pick_some(params, own)) for label, own in where(params).items()}
        )

    def update(updates: Updates, state: PartitionState, params: Params | None = None, **extra: Any) -> Any:
        tree.check_updates(updates, params)
        reference = updates if params is None else params
        own, inner_states = where(reference), {}
        for label, tx, inner_state in parts_by_label(state):
            with _errors.stage(repr(label)):
                given = extra
                if mask_compatible_extra_args:
                    given = {name: pick_compatible(value, reference, own[label]) for name, value in extra.items()}
                new, inner_states[label] = update_some(tx, own[label], updates, inner_state, params, given)
                updates = tree.merge(updates, new)
        return updates, PartitionState(inner_states)

    def parts_by_label(state: PartitionState) -> list[tuple[Any, GradientTransformation, State]]:
        if not isinstance(state.inner_states, Mapping) or set(state.inner_states) != set(transforms):
            _state_checks.wrong_states_by_name("labels", list(transforms), state.inner_states)
        return [(label, tx, state.inner_states[label]) for label, tx in transforms.items()]

    def parts(state: PartitionState) -> list[Part]:
        return [Part(str(label), tx, inner_state) for label, tx, inner_state in parts_by_label(state)]

    def eval_params(state: PartitionState, params: Params) -> Params:
        own = where(params)
        for label, tx, inner_state in parts_by_label(state):
            params = tree.merge(params, tx.eval_params(inner_state, pick_some(params, own[label])))
        return params

    return Functions(init, update, parts, eval_params)


multi_transform = partition
