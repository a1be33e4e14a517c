"""Masks and labels that do not fit (input 35), and calls of ``update`` without what it needs (36 and 38)."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import pytest
from cases import CONTRACT, Case

import jaxopt_lessons as jl
from bad_inputs import bad_input
from bad_inputs.factories import FACTORIES, built, named, parameters
from bad_inputs.wrong_values import kind_of

PARAMS = {"a": jnp.ones((2, 2)), "b": {"c": jnp.ones((2, 2))}}


DIFFER = r"and params differ in structure\. "
"""How an error about two trees goes on."""


def through(tx: Any, case: Case | None = None, **extra: Any) -> None:
    """``init`` and one ``update``."""
    update = tx.update if case is None else case.update(tx)
    update(PARAMS, tx.init(PARAMS), PARAMS, **extra)


# -- masks ------------------------------------------------------------------------------------------------------------


MASKS: dict[str, tuple[Any, str]] = {
    "nothing at a leaf": ({"a": True}, r"mask has nothing at 'b/c', where params has float32\[2,2\]"),
    "an unknown leaf": (
        {"a": True, "b": True, "d": True},
        r"mask has True of type bool at 'd', where params has nothing",
    ),
    "below a leaf": ({"a": {"x": True}, "b": True}, r"mask has nothing at 'a', .* and True of type bool at 'a/x'"),
    "nothing": ({}, r"mask has nothing at 'a', 'b/c', where params has float32\[2,2\]"),
    "a list": ([True, False], r"mask has nothing at 'a', 'b/c'.*; and True of type bool at '0', '1'"),
    "None from a function": (lambda params: {"a": True, "b": None}, r"mask has nothing at 'b/c'"),
    "a number from a function": (lambda params: {"a": 1, "b": True}, r"a mask has bools as leaves; got 1 of type int"),
    "text from a function": (
        lambda params: {"a": "yes", "b": True},
        r"a mask is a tree of bools or a function; got .*'yes'",
    ),
    "numbers from a function": (lambda params: params, r"a mask has bools as leaves; got float32\[2,2\]"),
}
"""What a mask cannot be for these parameters, and what is said."""


def masks() -> list[tuple[Case, str]]:
    return [
        (case, name)
        for case in FACTORIES
        for name in named(case)
        if kind_of(parameters(case)[name].annotation) == "mask"
    ]


@bad_input(35)
@pytest.mark.parametrize("wrong", MASKS)
@pytest.mark.parametrize(("case", "name"), [pytest.param(c, n, id=f"{c.name}-{n}") for c, n in masks()])
def test_masks_that_do_not_fit_are_refused(case: Case, name, wrong):
    """For every transformation that takes one, by an error that begins with its name."""
    mask, message = MASKS[wrong]
    decay = {n: 0.1 for n in ("weight_decay", "weight_decay_rate") if n in named(case)}
    tx = built(case, **decay, **{name: mask})
    with pytest.raises(jl.InputError, match=rf"^{case.name}( > [\w']+)*: (mask {DIFFER})?{message}"):
        through(tx, case)


# -- labels -----------------------------------------------------------------------------------------------------------


SGD = jl.sgd(0.1)
LABELS: dict[str, tuple[Any, str]] = {
    "unknown": ({"a": "x", "b": "z"}, "no transformation has the label 'z' and no leaf has the label 'y'"),
    "unused": ({"a": "x", "b": "x"}, "no leaf has the label 'y'"),
    "unknown number": ({"a": "x", "b": 3}, "no transformation has the label 3 and no leaf has the label 'y'"),
    "nan": (float("nan"), "no transformation has the label nan and no leaf has the label 'x', 'y'"),
    "nothing at a leaf": ({"a": "x"}, r"labels has nothing at 'b/c', where params has float32\[2,2\]"),
    "an unknown leaf": ({"a": "x", "b": "y", "d": "x"}, "labels has 'x' of type str at 'd', where params has nothing"),
    "below a leaf": ({"a": {"e": "x"}, "b": "y"}, r"labels has nothing at 'a', .* and 'x' of type str at 'a/e'"),
    "unknown from a function": (lambda path, leaf: path, "no transformation has the label 'a', 'b/c' and no leaf has"),
    "None from a function": (lambda path, leaf: None, "labels returned None for 'a': every leaf needs a label"),
    "a tree from a function": (lambda params: {"a": "x"}, "labels has nothing at 'b/c'"),
}


@bad_input(35)
@pytest.mark.parametrize("wrong", LABELS)
@pytest.mark.parametrize("name", ["partition", "multi_transform", "groups"])
def test_labels_that_do_not_fit_are_refused(name, wrong):
    labels, message = LABELS[wrong]
    transforms = {"x": SGD, "y": jl.adam(0.1)}
    tx = jl.groups(transforms, labels=labels) if name == "groups" else getattr(jl, name)(transforms, labels)
    with pytest.raises(jl.InputError, match=f"^{tx.name}: (labels {DIFFER})?{message}"):
        tx.init(PARAMS)


@bad_input(35)
@pytest.mark.parametrize(
    ("rules", "default", "message"),
    [
        ({"*/bias": SGD}, SGD, r"'\*/bias' fits no parameter\. The rules are '\*/bias'; the parameters are 'a', 'b/c'"),
        ({"a": SGD, "a*": SGD}, SGD, r"'a\*' fits only parameters that belong to earlier rules"),
        ({"a": SGD}, None, "no rule fits 'b/c', and there is no default"),
        ({"B/c": SGD}, None, "'B/c' fits no parameter; no rule fits 'a', 'b/c', and there is no default"),
        ({}, None, "no rule fits 'a', 'b/c', and there is no default. The rules are none"),
        ([(lambda path, leaf: False, SGD)], SGD, "'.*lambda.*' fits no parameter"),
    ],
)
def test_rules_without_parameters_are_refused(rules, default, message):
    tx = jl.groups(rules, default)
    with pytest.raises(jl.InputError, match=f"^groups: {message}"):
        tx.init(PARAMS)


@bad_input(17, 35)
@pytest.mark.parametrize(
    ("rules", "default", "error", "message"),
    [
        ({"a": {"learning_rat": 0.1}}, SGD, TypeError, "groups: 'a': sgd: no argument 'learning_rat' .* Did you mean"),
        ({"a": {"learning_rate": -0.1}}, SGD, ValueError, "groups: 'a': sgd: learning_rate must be a finite number"),
        ({"a": {"learning_rate": "0.1"}}, SGD, TypeError, "groups: 'a': sgd: learning_rate must be a finite number"),
        ({"a": {"learning_rate": 0.1}}, None, ValueError, "groups: 'a' replaces .*, but there is no default"),
        ([("a", SGD), ("a", SGD)], SGD, ValueError, "groups: the rule 'a' is there twice"),
        ({3: SGD}, SGD, ValueError, r"groups: a rule is a pattern or a function \(path, leaf\) -> bool; got 3"),
    ],
)
def test_overrides_that_cannot_be_are_refused_when_the_groups_are_made(rules, default, error, message):
    with pytest.raises(error, match=f"^{message}"):
        jl.groups(rules, default)


@bad_input(35)
@pytest.mark.parametrize("name", ["adam_mini", "scale_by_adam_mini"])
@pytest.mark.parametrize("blocks", [2, -3, "0", 0.5, (0, 5), ((0, 3),), ((0, 0),), ((0, 1.5),)], ids=str)
def test_blocks_that_a_leaf_does_not_have_are_refused(name, blocks):
    first = (0.1,) if name == "adam_mini" else ()
    tx = getattr(jl, name)(*first, blocks=lambda path, leaf: blocks)
    with pytest.raises(jl.InputError, match=rf"^{name}.*: at 'a' a leaf of shape \[2, 2\] has no blocks "):
        through(tx)


@bad_input(35)
@pytest.mark.parametrize(
    ("returned", "got"),
    [
        (1, r"int32\[\]"),
        (0.5, r"float32\[\]"),
        (jnp.ones(2, bool), r"bool\[2\]"),
        ("yes", "'yes' of type str"),
        (None, "None"),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["conditionally_mask", "conditionally_transform"])
def test_conditions_that_return_no_bool_are_refused(name, returned, got):
    tx = getattr(jl, name)(jl.scale(2.0), lambda step: returned)
    with pytest.raises(jl.InputError, match=rf"^{name}: should_transform_fn must return a scalar bool; got {got}"):
        through(tx)


# -- update without what it needs -------------------------------------------------------------------------------------


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "chain": lambda tx: jl.chain(jl.identity(), tx),
    "named_chain": lambda tx: jl.named_chain(("first", jl.identity()), ("second", tx)),
    "masked": lambda tx: jl.masked(tx, True, unmasked="zero"),
    "partition": lambda tx: jl.partition({"all": tx}, "all"),
    "groups": lambda tx: jl.groups({"a": tx}, default=jl.scale(1.0)),
    "apply_if_finite": lambda tx: jl.apply_if_finite(tx, 5),
    "MultiSteps": lambda tx: jl.MultiSteps(tx, 1),
    "conditionally_mask": lambda tx: jl.conditionally_mask(tx, lambda step: step == 0),
}
"""What stands around a transformation."""

ROUNDS = {"master_weights", "split_master_weights", "kahan", "stochastic_rounding", "with_precision"}


@bad_input(36)
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("case", [case for case in CONTRACT if case.needs_params], ids=lambda case: case.name)
def test_missing_params_are_named_at_depth(case: Case, wrapper):
    """The error leads from the outermost transformation to the part that needs them."""
    tx = WRAPPERS[wrapper](case.make())
    state = tx.init(PARAMS)
    with pytest.raises(jl.InputError) as caught:
        case.update(tx)(PARAMS, state)
    *stages, last = str(caught.value).split(" > ")
    assert stages[0] == wrapper
    assert case.name in (*stages, last.split(":")[0]) or case.name == "with_precision"
    assert last.endswith(": needs the parameters: call update(updates, state, params).")
    assert hasattr(jl, last.split(":")[0])


NEEDS = [
    (case, name)
    for case in CONTRACT
    for name in case.extras
    if name in ("value", "obj_fn") and "condition" not in case.name
]


@bad_input(38)
@pytest.mark.parametrize("wrapper", ["alone", *WRAPPERS])
@pytest.mark.parametrize(("case", "name"), [pytest.param(c, n, id=f"{c.name}-{n}") for c, n in NEEDS])
def test_missing_extra_arguments_are_named_with_the_call_to_write(case: Case, name, wrapper):
    tx = case.make() if wrapper == "alone" else WRAPPERS[wrapper](case.make())
    state = tx.init(PARAMS)
    extras = {n: value for n, value in case.extras.items() if n != name}
    message = rf"^{tx.name}\b.*: needs {name}: call update\(updates, state, params, {name}=\.\.\.\)\."
    with pytest.raises(jl.InputError, match=message) as caught:
        tx.update(PARAMS, state, PARAMS, **extras)
    assert case.name in str(caught.value).split(": ")[0]


VALUES = {
    "none": (None, "None"),
    "text": ("1.0", "'1.0' of type str"),
    "bool": (True, "True of type bool"),
    "complex": (jnp.complex64(1), r"complex64\[\]"),
    "one per example": (jnp.ones(3), r"float32\[3\]"),
    "list": ([1.0], r"\[1.0\] of type list"),
}


@bad_input(38)
@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("case", [case for case, name in NEEDS if name == "value"], ids=lambda case: case.name)
def test_a_value_that_is_no_loss_is_refused(case: Case, kind):
    value, got = VALUES[kind]
    tx = case.make()
    message = rf"^{tx.name}\b.*: value must be the loss, one real number: call update\(.*, value=loss\); got {got}"
    with pytest.raises(jl.InputError, match=message):
        case.update(tx)(PARAMS, tx.init(PARAMS), PARAMS, value=value)


@bad_input(38)
@pytest.mark.parametrize("name", ["sam", "asam"])
def test_sharpness_without_a_gradient_function_says_what_to_write(name):
    tx = (
        getattr(jl, name)(jl.sgd(0.1), jl.sgd(0.1), opaque_mode=True)
        if name == "sam"
        else jl.asam(jl.sgd(0.1), opaque_mode=True)
    )
    with pytest.raises(jl.InputError, match=rf"^{name}.*grad_fn"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS)
