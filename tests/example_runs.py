"""How the tests of examples load and run them."""

import contextlib
import importlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax

import jaxopt_lessons as jl

EXAMPLES = Path(__file__).parents[1] / "examples"


class Run(NamedTuple):
    """What ``main`` of an example returned and printed, and where it drew."""

    out: jl.FitResult
    printed: str
    figure: Path


def load(name: str) -> ModuleType:
    """An example as a module, which finds its neighbours as it does when it is run."""
    if str(EXAMPLES) not in sys.path:
        sys.path.append(str(EXAMPLES))
    return importlib.import_module(name)


def train(example: Any, figure: Path, *options: str) -> Run:
    """Runs ``main`` of an example with these options."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        out = example.main([*options, "--figure", str(figure)])
    return Run(out, printed.getvalue(), figure)


@contextlib.contextmanager
def jax_as_it_comes() -> Iterator[None]:
    """The settings examples are written for, where a bias of shape [n] may be added to [batch, n]."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield
