"""Every argument of every schedule and combinator, with what it cannot be (inputs 1 to 3 and 13 to 17)."""

import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from schedule_rows import ROWS

import jaxopt_lessons as jl
from bad_inputs import bad_input
from bad_inputs.wrong_values import BAD, OTHER_TYPES, kind_of, numbers_outside, takes_none

LINE = jl.linear_schedule(1.0, 0.5, 6)
COMBINATORS: dict[str, dict[str, Any]] = {
    "join_schedules": {"schedules": [LINE, 0.1, 0.2], "boundaries": [6, 9]},
    "then_schedule": {"first": LINE, "second": 0.1, "at": 6},
    "hold_schedule": {"inner": LINE, "steps": 3},
    "add_schedules": {"first": LINE, "second": 0.1},
    "multiply_schedules": {"first": LINE, "second": 0.1},
    "clip_schedule": {"inner": LINE, "low": 0.6, "high": 0.9},
    "shift_schedule": {"inner": LINE, "steps": 3},
    "per_epoch_schedule": {"inner": LINE, "steps_per_epoch": 3},
    "stretch_schedule": {"inner": LINE, "to": 3, "per": 2},
    "repeat_schedule": {"inner": LINE, "every": 6, "times": 2},
}


def calls() -> dict[str, dict[str, Any]]:
    """A call of each public schedule with all its arguments; of a schedule with modes, in that of its first row."""
    found: dict[str, dict[str, Any]] = {}
    for attribute in ("others", "arguments"):
        for row in reversed(ROWS):
            found.setdefault(row.name, {}).update(getattr(row, attribute))
    for name in ("linear_onecycle_schedule", "linear_onecycle_momentum_schedule"):
        found[name] |= {"pct_start": 0.25, "pct_final": 0.75}
    return found | COMBINATORS


ARGUMENTS = calls()


def specification(name: str) -> Any:
    return getattr(jl, name)._specification


def arguments_with(kind: str) -> list[tuple[str, str]]:
    """The arguments of all schedules that are numbers, or of another kind."""
    found = []
    for name, call in ARGUMENTS.items():
        for argument, parameter in specification(name).parameters.items():
            allowed = specification(name).ranges[argument]
            this = "number" if allowed is not None else kind_of(parameter.annotation) or "its own"
            if this == kind and argument in call:
                found.append((name, argument))
    return found


def inside(name: str, argument: str, value: Any) -> Any:
    """The value as the argument takes it: among the others where there are several."""
    now = ARGUMENTS[name][argument]
    if isinstance(now, Mapping):
        return {**now, next(iter(now)): value}
    return [value, *now[1:]] if isinstance(now, list) else value


def refused(name: str, argument: str, value: Any, error: type[Exception], *parts: str) -> None:
    with pytest.raises((Exception,)) as caught:
        getattr(jl, name)(**{**ARGUMENTS[name], argument: value})
    text = str(caught.value)
    assert type(caught.value) is error, f"{type(caught.value).__name__}: {text}"
    assert text.startswith(f"{name}: {argument} must "), text
    for part in parts:
        assert part in text, text


def test_every_schedule_has_a_call_with_all_its_arguments():
    public = {
        name
        for name, thing in vars(jl).items()
        if hasattr(thing, "_specification")
        and inspect.isfunction(thing)
        and getattr(thing._specification, "kind", None) is jl.Schedule
    }
    assert public == set(ARGUMENTS)
    for name, call in ARGUMENTS.items():
        assert set(call) == set(specification(name).parameters), name
        getattr(jl, name)(**call)


def mark(name: str, argument: str, kind: str) -> list[Any]:
    steps = specification(name).ranges[argument].whole
    numbers = {"text": 3, "list": 3, "bool": 16, "numpy bool": 16, "nan": 2, "infinity": 2, "minus infinity": 2}
    number = numbers.get(kind, 13 if steps else 1 if kind == "below" else None)
    return [bad_input(number)] if number else []


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        pytest.param(name, argument, value, id=f"{name}-{argument}-{kind}", marks=mark(name, argument, kind))
        for name, argument in arguments_with("number")
        for kind, value in numbers_outside(specification(name).ranges[argument]).items()
    ],
)
def test_numbers_outside_of_the_range_are_refused(name, argument, value):
    allowed = specification(name).ranges[argument]
    refused(name, argument, inside(name, argument, value), ValueError, f"must be {allowed}; got {value!r}")


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        pytest.param(name, argument, value, id=f"{name}-{argument}-{kind}", marks=mark(name, argument, kind))
        for name, argument in arguments_with("number")
        for kind, value in OTHER_TYPES.items()
    ],
)
def test_what_is_no_number_is_refused(name, argument, value):
    allowed = specification(name).ranges[argument]
    refused(name, argument, inside(name, argument, value), TypeError, f"must be {allowed}", "; got ")


KINDS = ("schedule", "switch", "word", "text")


@pytest.mark.parametrize(
    ("name", "argument", "value", "error", "words"),
    [
        pytest.param(name, argument, value, error, words, id=f"{name}-{argument}-{label}")
        for kind in KINDS
        for name, argument in arguments_with(kind)
        for values, error, words in [BAD[kind]]
        for label, value in values.items()
        if value is not None or not takes_none(specification(name).parameters[argument])
        if not (kind == "schedule" and callable(value))
    ],
)
def test_arguments_of_another_kind_are_refused(name, argument, value, error, words):
    if kind_of(specification(name).parameters[argument].annotation) == "schedule":
        error = ValueError if isinstance(value, (int, float)) and not isinstance(value, bool) else TypeError
    refused(name, argument, value, error, words)


def test_every_argument_is_of_a_kind_that_is_tried():
    assert set(arguments_with("its own")) == {("join_schedules", "schedules"), ("sgdr_schedule", "cosine_kwargs")}
    kinds = {kind for kind in BAD if arguments_with(kind)}
    assert kinds <= set(KINDS), kinds


@pytest.mark.parametrize("bad", [None, 0.1, [], LINE, {"a": 0.1}], ids=str)
def test_a_list_of_schedules_is_one(bad):
    refused("join_schedules", "schedules", bad, TypeError, "must be a list of one schedule or more; got ")


@pytest.mark.parametrize("bad", ["0.1", True, None, [0.1], 1j], ids=str)
def test_schedules_of_a_list_are_numbered(bad):
    with pytest.raises(
        TypeError, match=r"^join_schedules: schedules\[1\] must be a finite number, or a schedule; got "
    ):
        jl.join_schedules([LINE, bad, 0.2], [6, 9])


@pytest.mark.parametrize("bad", [None, 0.1, [], {"a": 0.1}, [0.1], [LINE], "ab"], ids=str)
def test_the_cycles_of_sgdr_are_a_list_of_dicts(bad):
    refused("sgdr_schedule", "cosine_kwargs", bad, TypeError, "must be a list of one dict or more")


@bad_input(13)
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jl.warmup_cosine_decay_schedule(0.0, 0.1, 10, 5), "warmup_cosine_decay_schedule: .*warmup_steps"),
        (lambda: jl.warmup_cosine_decay_schedule(0.0, 0.1, 5, 5), "warmup_cosine_decay_schedule: .*warmup_steps"),
        (
            lambda: jl.sgdr_schedule([{"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 5, "decay_steps": 5}]),
            "warmup_cosine_decay_schedule: .*warmup_steps",
        ),
        (lambda: jl.linear_onecycle_schedule(10, 0.1, 0.9, 0.3), r"linear_onecycle_schedule: .*must increase"),
        (lambda: LINE.then(0.1, at=3), "then_schedule: linear_schedule takes 6 updates, not 3"),
        (lambda: jl.constant_schedule(0.1).then(0.2), "then_schedule: constant_schedule has no end of its own"),
        (lambda: jl.constant_schedule(0.1).repeat(), "repeat_schedule: constant_schedule has no end of its own"),
        (lambda: LINE.repeat(every=3), "repeat_schedule: linear_schedule takes 6 updates, not 3"),
        (lambda: LINE.hold(2**31 - 1), r"hold_schedule: takes 2147483653 updates; counters go up to 2\^31 - 1"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        make()
    assert type(caught.value) is ValueError


@bad_input(14)
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: jl.join_schedules([0.1, 0.2, 0.3], [9, 6]), ValueError, "join_schedules: boundaries must increase"),
        (lambda: jl.join_schedules([0.1, 0.2, 0.3], [6, 6]), ValueError, "join_schedules: boundaries must increase"),
        (lambda: jl.join_schedules([0.1, 0.2], [6, 9]), ValueError, "join_schedules: 2 schedules need 1 boundaries"),
        (lambda: jl.multistep_decay(0.1, [9, 6]), ValueError, "multistep_decay: milestones must increase"),
        (lambda: jl.multistep_decay(0.1, [6, 6]), ValueError, "multistep_decay: milestones must increase"),
        (lambda: jl.multistep_decay(0.1, 6), TypeError, "multistep_decay: milestones must be a list or tuple"),
        *(
            (lambda make=make, at=at: make({0: 0.1, at: 0.5}), error, message)
            for make in (
                jl.manual_schedule,
                lambda values: jl.piecewise_constant_schedule(0.1, values),
                lambda values: jl.piecewise_interpolate_schedule("linear", 0.1, values),
            )
            for at, error, message in (
                (-1, ValueError, r"\w+: the steps of \w+ must not be negative; got -1"),
                (1.5, TypeError, r"\w+: the steps of \w+ must be whole numbers; got 1.5"),
                ("6", TypeError, r"\w+: the steps of \w+ must be whole numbers; got '6'"),
                (True, TypeError, r"\w+: the steps of \w+ must be whole numbers; got True"),
            )
        ),
    ],
)
def test_boundaries_that_are_none_are_refused(make, error, message):
    with pytest.raises(error, match=f"^{message}") as caught:
        make()
    assert type(caught.value) is error


@bad_input(14)
@pytest.mark.parametrize("kind", ["piecewise_constant_schedule", "manual_schedule", "piecewise_interpolate_schedule"])
def test_a_mapping_of_boundaries_has_no_order(kind):
    """A dict written in another order is the same schedule."""
    first = {"piecewise_interpolate_schedule": ("linear", 0.5), "piecewise_constant_schedule": (0.5,)}.get(kind, ())
    make = getattr(jl, kind)
    assert make(*first, {0: 1.0, 7: 0.5, 3: 0.25}) == make(*first, {0: 1.0, 3: 0.25, 7: 0.5})
    assert float(make(*first, {0: 1.0, 7: 0.5, 3: 0.25})(3)) == (0.25 if kind == "manual_schedule" else 0.125)


@bad_input(15)
@pytest.mark.parametrize(
    ("name", "argument"),
    [
        pytest.param(name, argument, id=f"{name}-{argument}")
        for name, argument in arguments_with("number")
        if isinstance(ARGUMENTS[name][argument], (int, float))
    ],
)
def test_a_traced_number_is_that_number(name, argument):
    """The schedule made inside of jit, of a number that is not known there, has the same values."""
    value = ARGUMENTS[name][argument]
    counts = jnp.arange(12)

    def values(value):
        return getattr(jl, name)(**{**ARGUMENTS[name], argument: value})(counts)

    traced = jax.jit(values)(jnp.asarray(value, jnp.int32 if isinstance(value, int) else jnp.float32))
    np.testing.assert_allclose(traced, values(value), rtol=2e-6, atol=1e-7)


@bad_input(16)
@pytest.mark.parametrize(
    ("name", "argument"),
    [
        pytest.param(name, argument, id=f"{name}-{argument}")
        for name, argument in arguments_with("number")
        if isinstance(ARGUMENTS[name][argument], float) and 1 in specification(name).ranges[argument]
    ],
)
def test_a_whole_number_is_that_number(name, argument):
    if (name, argument) in (("clip_schedule", "low"), ("cosine_onecycle_schedule", "pct_start")):
        pytest.skip("1 is beyond another argument")
    one, as_float = (getattr(jl, name)(**{**ARGUMENTS[name], argument: number}) for number in (1, 1.0))
    assert one == as_float
    assert hash(one) == hash(as_float)
    assert all(type(leaf) is float for leaf in jax.tree.leaves(one.arguments[argument]))


@bad_input(17)
@pytest.mark.parametrize(
    ("name", "argument"),
    [pytest.param(name, argument, id=f"{name}-{argument}") for name, call in ARGUMENTS.items() for argument in call],
)
def test_a_misspelled_keyword_is_told_the_near_name(name, argument):
    call = {n: value for n, value in ARGUMENTS[name].items() if n != argument}
    wrong = argument[0] + argument  # A letter typed twice.
    expected = rf"^{name}: got an unknown argument '{wrong}'. Did you mean '{argument}'\? The arguments are: "
    with pytest.raises(TypeError, match=expected):
        getattr(jl, name)(**call, **{wrong: ARGUMENTS[name][argument]})


COUNTS = {"half": 0.5, "float": 3.0, "text": "3", "bool": True, "none": None, "list": [1], "nan": float("nan")}


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("kind", COUNTS)
def test_what_is_no_count_is_refused(name, kind):
    with pytest.raises(TypeError, match=rf"^{name}: count must be a whole number of updates, an integer; got "):
        getattr(jl, name)(**ARGUMENTS[name])(COUNTS[kind])
