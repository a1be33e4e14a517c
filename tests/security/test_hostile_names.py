"""Names and patterns made to hang or to execute: linear time, a clear error, nothing else."""

import itertools
import re
import time

import jax.numpy as jnp
import pytest

import jaxopt_lessons as jl
from jaxopt_lessons.wrappers.groups import _expression

TX = jl.adamw(1e-3)
PARAMS = {"a" * 100_000: jnp.zeros(()), "a/" * 50: jnp.zeros(()), "b": jnp.zeros(())}

PATTERNS = {
    "stars": "*a" * 30 + "*b",
    "many stars": "*a" * 5_000 + "*b",
    "deep": "**/" * 30 + "c",
    "stars in depth": "**/a*a*a*b/" * 30 + "c",
    "brackets": "[" * 20_000,
    "classes": "[!a" * 10_000,
    "marks": "?*" * 5_000 + "b?",
    "groups": "(a+)+" * 20 + "$",
    "long": "a" * 99_999,
    "code": "__import__('os').system('touch executed')",
    "format": "{0.__class__.__mro__}",
    "null": "\0\n\x1b[2J",
}
SECONDS = 10.0
"""Of CPU. Each takes less than one; a pattern that is tried again and again takes years."""


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_patterns_that_fit_nothing_say_so_soon(pattern):
    begun = time.process_time()
    with pytest.raises(ValueError, match="^set_hyperparams: "):
        jl.set_hyperparams(TX, {pattern: 0.5})
    with pytest.raises(jl.InputError):
        jl.groups({pattern: {"learning_rate": 0.1}}, default=TX).init(PARAMS)
    assert time.process_time() - begun < SECONDS


def old_expression(pattern):
    """The meaning of a pattern in the plainest expression, which may try each way to place its pieces."""
    names = (
        "(/[^/]*)*" if name == "**" else "/" + re.sub(r"(\\\*)+", "[^/]*", re.escape(name))
        for name in pattern.split("/")
    )
    return re.compile("".join(names))


NAMES = ["", "a", "*", "**", "a*", "*a", "*b*", "a*b", "*a*b", "a**b", "b"]
PATHS = ["/".join(p) for depth in range(4) for p in itertools.product(["a", "ab", "aab", "", "b"], repeat=depth)]


@pytest.mark.parametrize("first", NAMES)
def test_patterns_mean_what_they_meant(first):
    fits = 0
    for rest in itertools.product(NAMES, repeat=2):
        pattern = "/".join((first, *rest))
        for path in PATHS:
            expected = old_expression(pattern).fullmatch("/" + path) is not None
            assert (_expression(pattern).fullmatch("/" + path) is not None) == expected, (pattern, path)
            fits += expected
    assert 0 < fits < len(NAMES) ** 2 * len(PATHS)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [("*.b1", ["b1"]), ("*.b?", ["b1", "b2"]), ("a*w.e*s", ["eps"]), ("*b*1*", ["b1"]), ("adamw.?1", ["b1"])],
)
def test_wildcards_of_hyperparameters(pattern, names):
    assert jl.set_hyperparams(TX, {pattern: 0.25}) == TX.replace(**dict.fromkeys(names, 0.25))


def test_brackets_are_characters():
    with pytest.raises(ValueError, match="no hyperparameter|has no"):
        jl.set_hyperparams(TX, {"adamw.b[12]": 0.5})


HOSTILE = [
    "__class__",
    "_factory",
    "__init__",
    "learning_rate.__class__",
    "../../x",
    "",
    "lr; import os",
    "a" * 100_000,
]


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: name[:20])
def test_hostile_names_in_search_spaces(name):
    step = jl.make_step(lambda w, x: (w - x) ** 2, jl.sgd(0.1))
    with pytest.raises((TypeError, ValueError)):
        jl.sweep(lambda hp, key: {"loss": jnp.float32(step.replace(**hp).tx.arguments["learning_rate"])}, {name: [0.1]})
    with pytest.raises((TypeError, ValueError)):
        jl.sgd(0.1).replace(**{name: 0.1})
    with pytest.raises((TypeError, ValueError)):
        jl.grid(jl.sgd, **{name: [0.1]})


@pytest.mark.parametrize("value", ["os.system", "1e-3", float("nan"), float("inf"), "9" * 100_000, ["x"], {"a": 1}])
def test_hostile_values(value):
    with pytest.raises((TypeError, ValueError)):
        jl.set_hyperparams(TX, {"adamw.learning_rate": value})
    with pytest.raises((TypeError, ValueError)):
        jl.groups({"b": {"learning_rate": value}}, default=TX).init({"b": jnp.zeros(())})
