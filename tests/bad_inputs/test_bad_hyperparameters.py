"""Every argument of every factory of transformations with every kind of value that it cannot be (inputs 1 to 12, 15 to
17).

The arguments come from the factories themselves: what a hyperparameter may be is its range, what another argument may
be is its annotation. A wrong value is refused when the transformation is built, by an error that begins with the
factory and the argument, and says what was expected and what came.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import Case

import jaxopt_lessons as jl
from bad_inputs import bad_input
from bad_inputs.factories import FACTORIES, built, named, owner, parameters, ranges
from bad_inputs.wrong_values import BAD, OTHER_TYPES, kind_of, numbers_outside, takes_none
from jaxopt_lessons.types import Range


def refused(case: Case, name: str, value: Any, error: type[Exception], *parts: str) -> None:
    """Asserts that an argument is refused by an error of just this type, whose text has these parts."""
    with pytest.raises((Exception,)) as caught:
        built(case, **{name: value})
    text = str(caught.value)
    assert type(caught.value) is error, f"{type(caught.value).__name__}: {text}"
    assert text.startswith(f"{owner(case)}: {name}"), text
    assert "must " in text
    for part in parts:
        assert part in text, text


# -- hyperparameters --------------------------------------------------------------------------------------------------


OF_INPUT = {"text": 3, "list": 3, "bool": 16, "numpy bool": 16, "nan": 2, "infinity": 2, "minus infinity": 2}
CLIPS = {"max_norm", "max_delta", "threshold", "clipping", "clipping_threshold", "clip_threshold", "l2_norm_clip"}


def input_number(name: str, allowed: Range, kind: str) -> list[Any]:
    """The mark of the bad input that a case tries, if it has a number."""
    number = OF_INPUT.get(kind)
    if number is None and name == "learning_rate" and kind == "below":
        number = 1
    elif number is None and allowed.low == 0 and allowed.high == 1:
        number = 5
    elif number is None and name.startswith("eps"):
        number = 6
    elif number is None and name == "weight_decay":
        number = 8
    elif number is None and name.startswith("eta_"):
        number = 10
    elif name in CLIPS and kind in ("nan", "below"):
        number = 12
    return [] if number is None else [bad_input(number)]


def hyperparameters() -> list[tuple[Case, str, Range]]:
    return [
        (case, name, allowed)
        for case in FACTORIES
        for name in named(case)
        if (allowed := ranges(case)[name]) is not None
    ]


def inside(case: Case, name: str, value: Any) -> Any:
    """The value as the argument takes it: among the others where there are several."""
    now = case.make().arguments[name]
    return (value, *now[1:]) if isinstance(now, tuple) else value


@pytest.mark.parametrize(
    ("case", "name", "value"),
    [
        pytest.param(case, name, value, id=f"{case.name}-{name}-{kind}", marks=input_number(name, allowed, kind))
        for case, name, allowed in hyperparameters()
        for kind, value in numbers_outside(allowed).items()
    ],
)
def test_numbers_outside_of_the_range_are_refused(case: Case, name, value):
    refused(case, name, inside(case, name, value), ValueError, f"{name} must be {ranges(case)[name]}", f"got {value!r}")


@pytest.mark.parametrize(
    ("case", "name", "value"),
    [
        pytest.param(case, name, value, id=f"{case.name}-{name}-{kind}", marks=input_number(name, allowed, kind))
        for case, name, allowed in hyperparameters()
        for kind, value in OTHER_TYPES.items()
    ],
)
def test_what_is_no_number_is_refused(case: Case, name, value):
    allowed = ranges(case)[name]
    refused(case, name, inside(case, name, value), TypeError, f"{name} must be {allowed}", "; got ")


@bad_input(3)
@pytest.mark.parametrize(
    ("case", "name"),
    [
        pytest.param(case, name, id=f"{case.name}-{name}")
        for case, name, _ in hyperparameters()
        if not takes_none(parameters(case)[name])
    ],
)
def test_none_is_refused_where_it_means_nothing(case: Case, name):
    refused(case, name, inside(case, name, None), TypeError, f"{name} must be {ranges(case)[name]}", "; got None")


@bad_input(3)
@pytest.mark.parametrize(
    ("case", "name"),
    [
        pytest.param(case, name, id=f"{case.name}-{name}")
        for case, name, allowed in hyperparameters()
        if not allowed.schedules
    ],
)
def test_a_schedule_is_refused_where_there_can_be_none(case: Case, name):
    schedule = jl.constant_schedule(0.5)
    refused(case, name, inside(case, name, schedule), TypeError, "not a schedule; got constant_schedule(value=0.5)")


@bad_input(16)
@pytest.mark.parametrize(
    ("case", "name"),
    [
        pytest.param(case, name, id=f"{case.name}-{name}")
        for case, name, allowed in hyperparameters()
        if not allowed.whole and any(number in allowed for number in (0, 1, 2))
    ],
)
def test_a_whole_number_is_that_number(case: Case, name):
    """An int makes the same value, a number of NumPy or of JAX one of the same structure with the same number."""
    allowed = ranges(case)[name]
    whole = next(number for number in (1, 0, 2) if number in allowed)
    tx = built(case, **{name: inside(case, name, float(whole))})
    same = built(case, **{name: inside(case, name, whole)})
    assert same == tx
    assert hash(same) == hash(tx)
    assert all(type(leaf) is float for leaf in jax.tree.leaves(same.arguments[name]))
    for number in (np.float32(whole), np.int64(whole), np.array(float(whole)), jnp.float32(whole)):
        other = built(case, **{name: inside(case, name, number)})
        assert jax.tree.structure(other) == jax.tree.structure(tx)
        assert list(map(float, jax.tree.leaves(other.arguments[name]))) == jax.tree.leaves(tx.arguments[name])


# -- other arguments --------------------------------------------------------------------------------------------------


OTHERS: dict[str, dict[str, tuple[Any, type[Exception], str]]] = {
    "init_step": {
        "number": (0.1, ValueError, "must be a pair such as ('heuristic', 1e-6); got 0.1"),
        "word": (("guess", 1e-6), ValueError, "[0] must be one of 'distance', 'learning_rate', 'heuristic'; got"),
        "zero": (("distance", 0.0), ValueError, "[1] must be a finite number in (0, inf); got 0.0"),
        "nan": (("heuristic", math.nan), ValueError, "[1] must be a finite number in (0, inf); got nan"),
        "text": (("heuristic", "small"), TypeError, "[1] must be a finite number in (0, inf); got 'small'"),
    },
    "every_k_schedule": {
        "zero": (0, ValueError, "must be a whole number in [1, 2^31 - 1]; got 0"),
        "negative": (-1, ValueError, "must be a whole number in [1, 2^31 - 1]; got -1"),
        "half": (1.5, ValueError, "must be a whole number in [1, 2^31 - 1]; got 1.5"),
        "nan": (math.nan, ValueError, "must be a whole number in [1, 2^31 - 1]; got nan"),
        "too many": (2**31, ValueError, "must be a whole number in [1, 2^31 - 1]; got 2147483648"),
        "text": ("2", TypeError, "must be a whole number in [1, 2^31 - 1], or a schedule; got '2' of type str"),
        "bool": (True, TypeError, "must be a whole number in [1, 2^31 - 1], or a schedule; got True of type bool"),
        "none": (None, TypeError, "must be a whole number in [1, 2^31 - 1], or a schedule; got None"),
    },
    "min_dim_size_to_factor": {
        "zero": (0, ValueError, "must be at least 1; got 0"),
        "half": (1.5, TypeError, "must be a whole number; got 1.5"),
        "bool": (True, TypeError, "must be a whole number; got True"),
        "too large": (2**31, ValueError, "must be at most 2147483647; got 2147483648"),
    },
    "sync_period": {
        "zero": (0, ValueError, "must be at least 1; got 0"),
        "half": (1.5, TypeError, "must be a whole number; got 1.5"),
        "none": (None, TypeError, "must be a whole number; got None"),
    },
    "transforms": {
        "list": ([jl.sgd(0.1)], TypeError, "must map labels to transformations; got "),
        "nothing": ({}, ValueError, "must have at least one label"),
        "number": ({"a": 0.1}, TypeError, "['a'] must be a gradient transformation, an (init, update) pair; got 0.1"),
        "factory": ({"a": jl.adam}, TypeError, "Call it: adam(...)"),
    },
    "rules": {
        "number": (0.1, TypeError, "must be a mapping or a list of pairs; got 0.1"),
        "override": ({"a": 0.1}, TypeError, "['a'] must be a gradient transformation, an (init, update) pair; got 0.1"),
        "word": ({"a": "frozen"}, TypeError, "['a'] must be a gradient transformation"),
    },
    "default": {
        "number": (0.1, TypeError, "must be a gradient transformation, an (init, update) pair; got 0.1"),
        "factory": (jl.adam, TypeError, "Call it: adam(...)"),
    },
    "measures": {
        "number": (0.1, TypeError, "must map labels to "),
        "nothing": ({}, ValueError, "must have at least one label"),
        "no measure": ({"norm": 0.1}, TypeError, "['norm'] must be a function, or a pair (init, update); got 0.1"),
    },
    "dtypes": {
        "number": (0.5, TypeError, "must be a floating-point dtype, as jnp.bfloat16 is; got 0.5"),
        "float16": (jnp.float16, ValueError, "must be bfloat16 or float32"),
        "field": ({"mu": jnp.int8}, TypeError, "['mu'] must be a floating-point dtype"),
    },
    "moments": {
        "number": (0.5, TypeError, "must be a floating-point dtype, as jnp.bfloat16 is; got 0.5"),
        "float16": ({"nu": jnp.float16}, ValueError, "['nu'] must be bfloat16 or float32"),
    },
    "axis": {
        "half": (0.5, TypeError, "must be a whole number; got 0.5"),
        "text": ("0", TypeError, "must be a whole number; got '0'"),
        "tuple": ((0, 1.5), TypeError, "must be a whole number; got 1.5"),
    },
}
"""Arguments of a kind of their own: what they cannot be, the type of the error, and its words."""

SEEN_WITH_THE_PARAMETERS = {"blocks", "param_labels", "labels"}
"""Arguments of which only the parameters can tell what is wrong: test_bad_labels_and_extras.py."""


def plain_arguments() -> list[tuple[Case, str]]:
    return [(case, name) for case in FACTORIES for name in named(case) if ranges(case)[name] is None]


def test_every_argument_is_of_a_kind_that_is_tried():
    """A new argument must be given what it cannot be."""
    for case, name in plain_arguments():
        tried = kind_of(parameters(case)[name].annotation) is not None or name in OTHERS
        assert tried != (name in SEEN_WITH_THE_PARAMETERS), f"{case.name}: {name}"


def bad_plain_arguments() -> list[Any]:
    cases = []
    for case, name in plain_arguments():
        if name in OTHERS:
            for label, (value, error, words) in OTHERS[name].items():
                marks = [bad_input(11)] if name in ("every_k_schedule", "sync_period") else []
                cases.append(
                    pytest.param(case, name, value, error, words, id=f"{case.name}-{name}-{label}", marks=marks)
                )
        elif (kind := kind_of(parameters(case)[name].annotation)) is not None:
            values, error, words = BAD[kind]
            for label, value in values.items():
                if value is not None or not takes_none(parameters(case)[name]):
                    cases.append(pytest.param(case, name, value, error, words, id=f"{case.name}-{name}-{label}"))
    return cases


@pytest.mark.parametrize(("case", "name", "value", "error", "words"), bad_plain_arguments())
def test_arguments_of_another_kind_are_refused(case: Case, name, value, error, words):
    refused(case, name, value, error, words)


@pytest.mark.parametrize("case", [c for c in FACTORIES if "key" in str(list(named(c)))], ids=lambda c: c.name)
def test_seeds_have_64_bits(case: Case):
    (name,) = (name for name in named(case) if kind_of(parameters(case)[name].annotation) == "key")
    for seed in (2**63, -(2**63) - 1):
        refused(case, name, seed, ValueError, f"as a seed, must be a whole number of 64 bits; got {seed}")


@pytest.mark.parametrize("name", ["chain", "named_chain"])
@pytest.mark.parametrize(
    "bad", [0.1, "adam", None, jl.adam, [jl.adam(0.1)]], ids=["number", "text", "None", "factory", "list"]
)
def test_stages_are_numbered(name, bad):
    stages = [("clip", jl.clip(1.0)), ("bad", bad)]
    where = r"\[1\]" if name == "chain" else r"\['bad'\]"
    with pytest.raises(TypeError, match=rf"^{name}: transforms.*{where} must be a gradient transformation"):
        getattr(jl, name)(*(stages if name == "named_chain" else [tx for _, tx in stages]))


def test_the_object_that_optax_makes_is_refused_with_what_to_write():
    optax = pytest.importorskip("optax")
    accumulation = optax.MultiSteps(optax.adam(0.1), 2)
    with pytest.raises(
        TypeError, match=r"^chain: transforms\[0\] must be .* Write its \.gradient_transformation\(\)\.$"
    ):
        jl.chain(accumulation)
    params = jnp.ones(2)
    tx = jl.chain(accumulation.gradient_transformation())
    with jax.numpy_dtype_promotion("standard"):  # which optax needs
        updates, _ = tx.update(params, tx.init(params), params)
    np.testing.assert_array_equal(updates, [0.0, 0.0])


# -- unknown keywords -------------------------------------------------------------------------------------------------


def by_keyword(case: Case) -> list[str]:
    return [name for name, p in parameters(case).items() if p.kind not in (p.VAR_POSITIONAL, p.POSITIONAL_ONLY)]


@bad_input(17)
@pytest.mark.parametrize(
    ("case", "name"),
    [pytest.param(case, name, id=f"{case.name}-{name}") for case in FACTORIES for name in by_keyword(case)],
)
def test_a_misspelled_keyword_is_told_the_near_name(case: Case, name):
    wrong = name[0] + name  # A letter typed twice.
    arguments = {n: value for n, value in case.make().arguments.items() if n in by_keyword(case) and n != name}
    expected = rf"^{owner(case)}: got an unknown argument '{wrong}'. Did you mean '{name}'\? The arguments are: "
    with pytest.raises(TypeError, match=expected):
        case.factory(*case.positional, **arguments, **{wrong: 0.5})


ELSEWHERE = {"lr": "learning_rate", "beta1": "b1", "beta2": "b2", "beta_1": "b1", "beta_2": "b2"}


@bad_input(17)
@pytest.mark.parametrize(
    ("case", "word"),
    [
        pytest.param(case, word, id=f"{case.name}-{word}")
        for case in FACTORIES
        for word, here in ELSEWHERE.items()
        if here in by_keyword(case) and word not in by_keyword(case)
    ],
)
def test_what_other_libraries_call_it_is_told_the_name_here(case: Case, word):
    with pytest.raises(TypeError, match=rf"^{case.name}: got an unknown .* Did you mean '{ELSEWHERE[word]}'\?"):
        case.factory(**{word: 0.5})


# -- a learning rate of 0 ---------------------------------------------------------------------------------------------


TRAINS = [case for case in FACTORIES if (r := ranges(case).get("learning_rate")) is not None and 0 in r]


@bad_input(4)
@pytest.mark.parametrize("case", TRAINS, ids=lambda case: case.name)
def test_a_learning_rate_of_0_moves_nothing(case: Case):
    """Not by one bit, in eight steps, without weight decay; and with another learning rate it moves."""
    off = {"weight_decay": 0.0} if "weight_decay" in named(case) else {}
    if "madgrad" in case.name:
        off["eps"] = 0.0  # which is added to the learning rate
    params = {"w": jnp.array([[0.3, -1.7], [2.5, 1e-3]]), "b": jnp.array([0.1, -7.0, 33.0])}
    grads = jax.tree.map(lambda p: 0.7 * p + 0.1, params)

    def moved(tx):
        @jax.jit
        def run(params):
            def step(_, now):
                params, state = now
                updates, state = case.update(tx)(grads, state, params)
                return jl.apply_updates(params, updates), state

            return jax.lax.fori_loop(0, 8, step, (params, tx.init(params)))[0]

        return run(params)

    still = moved(built(case, **off).replace(learning_rate=0.0))
    for leaf, before in zip(jax.tree.leaves(still), jax.tree.leaves(params), strict=True):
        assert np.asarray(leaf).tobytes() == np.asarray(before).tobytes()
    ran = moved(built(case, **off).replace(learning_rate=0.5))
    assert all(np.any(a != b) for a, b in zip(jax.tree.leaves(ran), jax.tree.leaves(params), strict=True))


# -- arguments that do not go together --------------------------------------------------------------------------------


@bad_input(9)
@pytest.mark.parametrize(
    "case",
    [
        c
        for c in FACTORIES
        if "nesterov" in named(c) and "momentum" in named(c) and parameters(c)["momentum"].default is None
    ],
    ids=lambda case: case.name,
)
def test_nesterov_without_momentum_is_refused(case: Case):
    with pytest.raises(ValueError, match=rf"^{case.name}: nesterov=True needs a momentum, such as momentum=0.9\.$"):
        built(case, nesterov=True, momentum=None)
    assert built(case, nesterov=True, momentum=0.5).arguments["nesterov"] is True


@bad_input(10)
@pytest.mark.parametrize("name", ["rprop", "scale_by_rprop"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eta_minus": 1.0}, r"eta_minus must be a finite number in \(0, 1\); got 1.0"),
        ({"eta_minus": 1.5}, r"eta_minus must be a finite number in \(0, 1\); got 1.5"),
        ({"eta_minus": 0.0}, r"eta_minus must be a finite number in \(0, 1\); got 0.0"),
        ({"eta_plus": 1.0}, r"eta_plus must be a finite number in \(1, inf\); got 1.0"),
        ({"eta_plus": 0.9}, r"eta_plus must be a finite number in \(1, inf\); got 0.9"),
        (
            {"min_step_size": 2.0, "max_step_size": 1.0},
            r"\(min_step_size, max_step_size\) must increase",
        ),
    ],
    ids=str,
)
def test_rprop_on_the_wrong_side_of_1_is_refused(name, changes, message):
    with pytest.raises(ValueError, match=f"^(scale_by_)?{name.removeprefix('scale_by_')}: {message}"):
        getattr(jl, name)(**{"learning_rate": 0.1, **changes})


@bad_input(12)
@pytest.mark.parametrize(
    "tx",
    [
        jl.clip(0.0),
        jl.clip_by_global_norm(0.0),
        jl.clip_by_block_rms(0.0),
        jl.adaptive_grad_clip(0.0),
    ],
    ids=lambda tx: tx.name,
)
@pytest.mark.parametrize("entry", [0.0, 3.0, 1e20, -1e-30])
def test_clipping_to_0_gives_zeros(tx, entry):
    grads = {"w": jnp.full((2, 3), entry), "b": jnp.array([entry, 1.0])}
    updates, _ = tx.update(grads, tx.init(grads), grads)
    for leaf in jax.tree.leaves(updates):
        np.testing.assert_array_equal(leaf, np.zeros(leaf.shape))
