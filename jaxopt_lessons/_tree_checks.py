"""Errors about trees, raised when they are traced: structures, shapes and dtypes of leaves, labels."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NoReturn

import jax
import numpy as np

from jaxopt_lessons._errors import InputError, describe, keys_name, path_name, some


def different_trees(name: str, tree: Any, reference_name: str, reference: Any, *, beside: bool = False) -> NoReturn:
    """Raises the first difference between the structures of two trees, by path.

    With ``beside`` a leaf of the tree may face a small tree of the reference.
    """
    here = dict(jax.tree_util.tree_leaves_with_path(tree))
    there = dict(jax.tree_util.tree_leaves_with_path(reference))
    if beside:
        there = {next((path[:i] for i in range(len(path)) if path[:i] in here), path): there[path] for path in there}
    where, kind, other = _first_container(tree, reference)
    lost = [path for path in there if path not in here and (where is None or path[: len(where)] != where)]
    surplus = [path for path in here if path not in there and (where is None or path[: len(where)] != where)]
    if not lost and not surplus:
        if where is None:  # They have no leaves where they differ.
            where, kind, other = _first_container(tree, reference, names_too=True)
        raise InputError(
            f"{name} and {reference_name} differ in structure: they have different containers. At "
            f"{path_name(where) if where else 'the top'} {name} has {kind} and {reference_name} has {other}."
        )
    parts = []
    if lost:
        paths = some(list(map(path_name, lost)))
        parts.append(f"nothing at {paths}, where {reference_name} has {describe(there[lost[0]])}")
    if surplus:
        paths = some(list(map(path_name, surplus)))
        parts.append(f"{describe(here[surplus[0]])} at {paths}, where {reference_name} has nothing")
    raise InputError(f"{name} and {reference_name} differ in structure. {name} has {'; and '.join(parts)}.")


def labels_differ(name: str, missing: Mapping[Any, Any], surplus: Mapping[Any, Any]) -> NoReturn:
    """Raises where a tree of labels and the parameters differ; both mappings are by the names along a path."""
    parts = []
    if missing:
        paths = some(list(map(keys_name, missing)))
        parts.append(f"nothing at {paths}, where params has {describe(next(iter(missing.values())))}")
    if surplus:
        paths = some(list(map(keys_name, surplus)))
        parts.append(f"{describe(next(iter(surplus.values())))} at {paths}, where params has nothing")
    raise InputError(f"{name} and params differ in structure. {name} has {'; and '.join(parts)}.")


def label_is_none(name: str, path: Sequence[Any]) -> NoReturn:
    raise InputError(f"{name} returned None for {path_name(path)!r}: every leaf needs a label.")


def _first_container(
    tree: Any, reference: Any, path: tuple[Any, ...] = (), names_too: bool = False
) -> tuple[tuple[Any, ...] | None, str, str]:
    """The path to the first container that differs in more than the names in it, and both containers in words."""
    absent = (tree is None or reference is None) and not names_too
    if absent or jax.tree_util.all_leaves([tree]) or jax.tree_util.all_leaves([reference]):
        return None, "", ""
    if type(tree) is not type(reference):
        return path, _a(type(tree)), _a(type(reference))
    here, there = _children(tree), _children(reference)
    for key, child in here.items():
        if key in there and jax.tree.structure(child) != jax.tree.structure(there[key]):
            found = _first_container(child, there[key], path + key, names_too)
            if found[0] is not None:
                return found
    if (names_too or here.keys() == there.keys()) and _around(tree) != _around(reference):
        return path, str(_around(tree)), str(_around(reference))
    return None, "", ""


def _children(node: Any) -> dict[tuple[Any, ...], Any]:
    return dict(jax.tree_util.tree_leaves_with_path(node, is_leaf=lambda child: child is not node))


def _around(node: Any) -> Any:
    """The structure of a container itself: with settings that are part of it, and the order of its keys."""
    return jax.tree.structure(node, is_leaf=lambda child: child is not node)


def _a(kind: type) -> str:
    return f"a {kind.__module__.split('.')[0]}.{kind.__qualname__}".replace("builtins.", "")


def different_shapes(path: Sequence[Any], name: str, leaf: Any, reference_name: str, reference: Any) -> NoReturn:
    raise InputError(
        f"at {path_name(path)!r} {name} has {describe(leaf)} and {reference_name} has {describe(reference)}. The "
        "shapes must be equal; nothing is broadcast."
    )


def wrong_state_shape(path: Sequence[Any], leaf: Any, state: Any, expected: tuple[int, ...]) -> NoReturn:
    raise InputError(
        f"at {path_name(path)!r} updates has {describe(leaf)} and the state beside it {describe(state)}, which should "
        f"have the shape {list(expected)}. Was the state made for other parameters or arguments?"
    )


def wrong_result_shape(rule: str, path: Sequence[Any], position: int, expected: Any, got: Any) -> NoReturn:
    what = "the update" if position == 0 else f"state {position}"
    raise InputError(
        f"at {path_name(path)!r} the rule {rule} returned {what} as {describe(got)} where {describe(expected)} came "
        "in. Was the state made for other parameters?"
    )


def not_differentiable(path: Sequence[Any], leaf: Any) -> NoReturn:
    hint = "float0 marks a leaf with no gradient" if getattr(leaf, "dtype", None) == jax.dtypes.float0 else ""
    raise InputError(
        f"at {path_name(path)!r} the gradient is {describe(leaf)}, which is not a floating-point or complex array"
        f"{' (' + hint + ')' if hint else ''}. Split the parameters into trained and untrained ones first, and leave "
        "None where a leaf is not trained."
    )


def complex_gradient(path: Sequence[Any], leaf: Any, parameter: Any) -> NoReturn:
    raise InputError(
        f"at {path_name(path)!r} the gradient is {describe(leaf)} and the parameter {describe(parameter)}: an "
        "imaginary part would be lost."
    )


def complex_refused(path: Sequence[Any], leaf: Any) -> NoReturn:
    raise InputError(
        f"at {path_name(path)!r} the leaf is {describe(leaf)}: the axes of a leaf have a meaning here, and complex "
        "numbers have none among them. Keep real and imaginary parts as leaves of their own."
    )


def real_parameter(path: Sequence[Any], leaf: Any) -> NoReturn:
    raise InputError(
        f"at {path_name(path)!r} the parameter is {describe(leaf)}: every leaf must be real and floating point. Make "
        "real and imaginary parts leaves of their own, and take out what is not trained, with None in its place."
    )


def has_numbers(leaf: Any) -> None:
    """Raises for a shape in the place of an array, where the state begins with the numbers of the parameters."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        raise InputError(
            "the state begins with the numbers of the parameters, and a leaf is a shape, "
            f"{describe(leaf)}: for the shapes of the state call jax.eval_shape(tx.init, params)."
        )


def untrained_parameter(path: Sequence[Any], leaf: Any) -> NoReturn:
    raise InputError(
        f"at {path_name(path)!r} the parameter is {describe(leaf)} and cannot take a fractional update. Split the "
        "parameters into trained and untrained ones first, and leave None where a leaf is not trained."
    )


def wrong_blocks(path: Sequence[Any], shape: tuple[int, ...], kept: Any, problem: str) -> NoReturn:
    raise InputError(
        f"at {path_name(path)!r} a leaf of shape {list(shape)} has no blocks {kept!r}: {problem}. Give an axis, or a "
        "tuple of axes and of pairs (axis, number of pieces)."
    )


def examples(grads: Any) -> None:
    """Raises unless all leaves have a first axis of the same length."""
    sizes = set()
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        sizes.add(np.shape(leaf)[:1])
        if len(sizes) > 1 or () in sizes:
            raise InputError(
                f"at {path_name(path)!r} the gradient is {describe(leaf)}: all leaves need a first axis of the same "
                "number of examples, as jax.vmap(jax.grad(loss), in_axes=(None, 0)) gives them."
            )


def units_unknown(shape: tuple[int, ...]) -> NoReturn:
    raise InputError(f"a leaf has the shape {list(shape)}: say with axis=... along which axes a unit's weights lie.")


def labels_known(known: Sequence[Any], given: Sequence[Any]) -> None:
    """Raises unless the labels of the leaves are those of the transformations, each of which has a leaf."""
    for label in given:
        if not isinstance(label, Hashable):
            raise InputError(f"the label of a leaf is {describe(label)}: it must be one that a dict can have as a key.")
    unknown = [label for label in dict.fromkeys(given) if label not in known]
    unused = [label for label in known if label not in given]
    if given and (unknown or unused):
        parts = [f"no transformation has the label {', '.join(map(repr, unknown))}"] if unknown else []
        parts += [f"no leaf has the label {', '.join(map(repr, unused))}"] if unused else []
        raise InputError(
            f"{' and '.join(parts)}. The transformations are for {', '.join(map(repr, known))}; the labels of the "
            f"leaves are {', '.join(map(repr, dict.fromkeys(given)))}."
        )


def rules_without_parameters(
    idle: Mapping[str, int], rules: Sequence[str], uncovered: Sequence[str], paths: Sequence[str]
) -> NoReturn:
    """Raises for rules that no parameter belongs to, with how many fitted, and parameters that no rule fits."""
    parts = [
        f"{name!r} fits {'only parameters that belong to earlier rules' if fitting else 'no parameter'}"
        for name, fitting in idle.items()
    ]
    if uncovered:
        parts.append(f"no rule fits {some(list(uncovered), 12)}, and there is no default")
    raise InputError(
        f"{'; '.join(parts)}. The rules are {', '.join(map(repr, rules)) or 'none'}; the parameters are "
        f"{some(list(paths), 12)}. In a pattern * stays within one name and ** crosses names, as in '**/bias' and "
        "'encoder/**'."
    )


def mask_by_pattern(pattern: str) -> NoReturn:
    raise InputError(
        f"a mask is a tree of bools or a function; got the string {pattern!r}. Patterns are for groups; here write "
        "lambda path, leaf: path.startswith('encoder/'), for instance."
    )
