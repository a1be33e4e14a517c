"""Parameter groups: one optimizer, and variants of it for some of the parameters.

    groups({"**/bias": {"weight_decay": 0.0},
            "encoder/**": {"learning_rate": 1e-4},
            "embedding/**": "freeze",
            "head/**": sgd(0.1)},
           default=adamw(1e-3))

A rule says which parameters, and beside it stands what is different for them: hyperparameters for
``default.replace(...)``, another transformation, or ``"freeze"`` for no training and no state. A parameter belongs to
the first rule that fits; to the default if none does.

Rules are patterns for the key path of a parameter, ``"encoder/dense/kernel"``: ``*`` stands for any characters within
one name, ``**`` for any number of names, none included, and every other character for itself. A rule may also be a
function ``(path, leaf) -> bool``, or, with ``labels``, a label. A rule that no parameter belongs to is an error, and so
is a parameter without a rule if there is no default: typing errors show themselves.

The numbers of all rules are leaves: with ``jit``, another learning rate of a group compiles nothing, ``vmap`` tries
several, and ``tx.replace(learning_rate=...)`` changes the default and all groups that do not say otherwise.

Each group is trained as if there were no others. What is calculated of all leaves together inside a group's
transformation, such as the norm of ``clip_by_global_norm``, is that of its own leaves; to clip all gradients together
write ``chain(clip_by_global_norm(1.0), groups(...))``.

State: that of ``partition``; every group has a ``count`` of its own, and its parameters cost what its transformation
costs.
"""

import functools
import re
from collections.abc import Mapping
from typing import Annotated, Any

import jax

from jaxopt_lessons import _checks, _errors, _tree_checks, tree
from jaxopt_lessons.core import GradientTransformation, as_transformation, gradient_transformation
from jaxopt_lessons.transforms.zero import set_to_zero
from jaxopt_lessons.types import Convert, Labels, Params, PyTree
from jaxopt_lessons.wrappers.masked import masked
from jaxopt_lessons.wrappers.partition import partition, split

DEFAULT = "default"


def _as_rules(owner: str, value: Any) -> dict[Any, Any]:
    """Rules in their order, with overrides as dicts, transformations or ``"freeze"``."""
    rules = {}
    for rule, override in _checks.pairs(owner, "rules", value):
        if rule in rules:
            raise ValueError(f"{owner}: the rule {rule_name(rule)!r} is there twice.")
        if isinstance(override, Mapping):
            rules[rule] = dict(override)
        elif override is None or (isinstance(override, str) and override == "freeze"):
            rules[rule] = "freeze"
        else:
            rules[rule] = as_transformation(f"{owner}: {rule_name(rule)!r}", override)
    return rules


def _as_default(owner: str, value: Any) -> GradientTransformation | None:
    return None if value is None else as_transformation(owner, value)


@gradient_transformation
def groups(
    rules: Annotated[Any, Convert(_as_rules, mixed=True)],
    default: Annotated[Any, Convert(_as_default)] = None,
    *,
    labels: Labels | None = None,
) -> Any:
    """Trains groups of parameters differently.

    Args:
      rules: a mapping from rules to what is different, or a list of such pairs; the first rule that fits counts. A rule
        is a pattern for key paths or a function ``(path, leaf) -> bool``. Beside it stands a dict of arguments for
        ``default.replace``, a transformation, or ``"freeze"`` (or None) for no training.
      default: the transformation of the parameters that no rule fits, and the one whose arguments are replaced. None:
        every parameter must have a rule.
      labels: the rules are labels, and this tells which leaf has which: a tree of labels like the parameters (or a
        prefix), ``labels(params) -> tree``, or ``labels(path, leaf) -> label``. Leaves labelled ``"default"`` get the
        default.

    Raises:
      InputError: a rule without parameters, or a parameter without a rule.

    >>> tx = groups({"**/bias": {"learning_rate": 0.5}, "embedding": "freeze"}, default=jl.sgd(0.25))
    >>> params = {"dense": {"bias": jnp.ones(()), "kernel": jnp.ones(())}, "embedding": jnp.ones(())}
    >>> jax.tree.map(float, tx.update(params, tx.init(params), params)[0])
    {'dense': {'bias': -0.5, 'kernel': -0.25}, 'embedding': 0.0}
    """
    for rule in rules if labels is None else ():
        _checks.require(
            isinstance(rule, str) or callable(rule),
            lambda rule=rule: f"groups: a rule is a pattern or a function (path, leaf) -> bool; got {rule!r}.",
        )
    return split(transforms_of(rules, default), functools.partial(labels_of, rules, default is not None, labels))


def transforms_of(
    rules: Mapping[Any, Any], default: GradientTransformation | None
) -> dict[str, GradientTransformation]:
    """The transformation of each group, by its name; that of the default comes last."""
    names = names_of(rules)
    transforms = {names[rule]: _transformation(rule, override, default) for rule, override in rules.items()}
    return transforms if default is None else {**transforms, DEFAULT: default}


def _transformation(rule: Any, override: Any, default: GradientTransformation | None) -> GradientTransformation:
    if override == "freeze":
        return set_to_zero()
    if isinstance(override, GradientTransformation):
        return override
    if default is None:
        raise ValueError(f"groups: {rule_name(rule)!r} replaces {list(override)}, but there is no default.")
    try:
        return default.replace(**override)
    except (TypeError, ValueError) as error:
        raise type(error)(f"groups: {rule_name(rule)!r}: {error}") from None


def rule_name(rule: Any) -> Any:
    return getattr(rule, "__qualname__", rule) if callable(rule) else rule


def names_of(rules: Mapping[Any, Any]) -> dict[Any, str]:
    """The name of each rule's group in the state: the pattern or label, or the function's name, made unique."""
    names: dict[Any, str] = {}
    for rule in rules:
        name, number = str(rule_name(rule)), 1
        while name in names.values() or name == DEFAULT:
            number += 1
            name = f"{rule_name(rule)} #{number}"
        names[rule] = name
    return names


def labels_of(rules: Mapping[Any, Any], has_default: bool, labels: Labels | None, params: Params) -> PyTree:
    """The name of its group for each leaf."""
    names = names_of(rules)
    if labels is not None:
        result = tree.label_leaves(labels, params)
        known = {**names, DEFAULT: DEFAULT} if has_default else names
        given = jax.tree.leaves(result)
        _tree_checks.labels_known([label for label in known if label != DEFAULT or label in given], given)
        return jax.tree.map(known.__getitem__, result)
    fitting = dict.fromkeys(rules, 0)

    def first(path: str, leaf: Any) -> str | None:
        fits = [rule for rule in rules if _fits(rule, path, leaf)]
        for rule in fits:
            fitting[rule] += 1
        if fits:
            taken.add(fits[0])
            return names[fits[0]]
        if not has_default:
            uncovered.append(path)
        return DEFAULT

    taken, uncovered = set(), []
    result = tree.label_leaves(first, params)
    idle = [rule for rule in rules if rule not in taken]
    if jax.tree.leaves(result) and (idle or uncovered):
        paths = [_errors.keys_name(keys) for _, keys, leaf in tree.named_leaves(params) if tree.is_trainable(leaf)]
        _tree_checks.rules_without_parameters(
            {names[rule]: fitting[rule] for rule in idle}, list(names.values()), uncovered, paths
        )
    return result


def _fits(rule: Any, path: str, leaf: Any) -> bool:
    if callable(rule):
        return bool(rule(path, leaf))
    return _expression(rule).fullmatch("/" + path if path != _errors.path_name(()) else "") is not None


@functools.lru_cache(maxsize=1024)
def _expression(pattern: str) -> re.Pattern[str]:
    """The regular expression of a pattern: of the path with a slash before every name."""
    runs: list[str] = [""]  # what stands between **
    for name in pattern.split("/"):
        if name == "**":
            runs.append("")
        else:
            runs[-1] += f"/{_name_expression(name)}(?![^/])"
    return re.compile(with_stars(runs, "(?:/[^/]*+)"))


def _name_expression(name: str) -> str:
    return with_stars([re.escape(piece) for piece in re.split(r"\*+", name)], "[^/]")


def with_stars(pieces: list[str], anything: str) -> str:
    """An expression for the pieces with any number of ``anything`` between them.

    A piece between two stars may stay where it fits first, which leaves most to the others. So these groups, ``(?>)``,
    are never tried twice, and no pattern takes longer than its length times that of the text.
    """
    first, *others = pieces
    if not others:
        return first
    return first + "".join(f"(?>{anything}*?{piece})" for piece in others[:-1]) + f"{anything}*{others[-1]}"


def group_labels(tx: Any, params: Params) -> PyTree:
    """Which group each parameter belongs to: a tree of labels like the parameters, None for what is not trained at all.

    Args:
      tx: an optimizer with one ``groups`` or ``partition`` in it, alone, in a chain or in another wrapper.
      params: the parameters.

    Raises:
      ValueError: there are no groups in the optimizer, or several kinds of them.

    >>> tx = jl.chain(jl.clip(1.0), groups({"b": {"learning_rate": 0.5}}, default=jl.sgd(0.1)))
    >>> group_labels(tx, {"w": jnp.ones(1), "b": jnp.ones(1)})
    {'b': 'b', 'w': 'default'}
    """
    found = list(_labels_inside(as_transformation("group_labels", tx), params))
    _checks.require(len(found) == 1, f"group_labels: there must be one groups or partition in it; got {tx!r}.")
    return found[0]


def labels_in(tx: GradientTransformation, params: Params) -> PyTree:
    """The label that a ``groups`` or ``partition`` gives to each leaf."""
    arguments = tx.arguments
    if tx.made_by(groups):
        return labels_of(arguments["rules"], arguments["default"] is not None, arguments["labels"], params)
    return tree.label_leaves(arguments["param_labels"], params)


def _labels_inside(tx: GradientTransformation, params: Params) -> Any:
    if tx.made_by(groups) or tx.made_by(partition):
        yield labels_in(tx, params)
        return
    if tx.made_by(masked):
        params = tree.pick(params, tree.mask_leaves(tx.arguments["mask"], params))
    for part in tx.inside():
        yield from _labels_inside(part, params)
