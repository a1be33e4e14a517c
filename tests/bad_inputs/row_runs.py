"""Runs of the rows of the table, ten updates in one compiled program for each row and dtype, which all tests share."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CONTRACT, Case

import jaxopt_lessons as jl
from bad_inputs import bad_input

LENGTH = 10
"""Updates in a run."""

DTYPES = {"float16": jnp.float16, "bfloat16": jnp.bfloat16, "float32": jnp.float32, "float64": jnp.float64}
ROWS = {case.name: case for case in CONTRACT}

Tree = dict[str, np.ndarray]


def wide(leaf: Any) -> np.ndarray:
    """An array that NumPy can calculate with."""
    array = np.asarray(leaf)
    return array.astype(np.float64) if jnp.issubdtype(array.dtype, jnp.floating) else array


def random(seed: int, length: int | None = None, size: float = 1.0) -> Tree:
    """Numbers of both signs, none of them near 0: a matrix and a vector, or ``length`` of each, stacked."""
    rng = np.random.default_rng(seed)
    lead = () if length is None else (length,)

    def leaf(*shape: int) -> np.ndarray:
        return size * rng.choice([-1.0, 1.0], lead + shape) * rng.uniform(0.5, 1.5, lead + shape)

    return {"w": leaf(3, 2), "b": leaf(3)}


def full(value: float, length: int | None = None) -> Tree:
    return jax.tree.map(lambda leaf: np.full_like(leaf, value), random(0, length))


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """64 bits are enabled for float64 only."""
    with jax.enable_x64(dtype == "float64"):
        yield


@functools.lru_cache(maxsize=8)
def program(name: str, changes: tuple[tuple[str, Any], ...] = ()) -> Callable[..., Any]:
    """``run(params, state, gradients, moves, extras) -> (updates, params, state)``, compiled for each dtype.

    ``moves`` says whether the updates are added to the parameters; ``extras`` are arguments of every update, stacked.
    """
    case = ROWS[name]
    tx = case.make(**dict(changes))
    update = case.update(tx)

    @jax.jit
    def run(params: Any, state: Any, gradients: Any, moves: Any, extras: Any) -> Any:
        def one(carry: Any, inputs: Any) -> Any:
            params, state = carry
            g, extra = inputs
            updates, state = update(g, state, params, **extra)
            new = jl.apply_updates(params, updates)
            return (jax.tree.map(lambda a, b: jnp.where(moves, a, b), new, params), state), updates

        (params, state), updates = jax.lax.scan(one, (params, state), (gradients, extras))
        return updates, params, state

    return run


class Run:
    """A row on its way: parameters and state in one dtype, and the updates of the last ten gradients."""

    def __init__(self, case: Case, dtype: str = "float32", params: Tree | None = None, **changes: Any):
        self.case, self.dtype = case, dtype
        self.changes = tuple(changes.items())
        with precision(dtype):
            self.params = self.cast(random(1) if params is None else params)
            self.state = case.make(**changes).init(self.params)
        self.updates: Any = None

    def cast(self, values: Tree) -> Any:
        return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf).astype(DTYPES[self.dtype])), values)

    def go(self, gradients: Tree, *, moves: bool = False, **extras: Any) -> "Run":
        """Ten updates."""
        with precision(self.dtype):
            g = self.cast(gradients)
            self.updates, self.params, self.state = program(self.case.name, self.changes)(
                self.params, self.state, g, moves, {name: jnp.asarray(value) for name, value in extras.items()}
            )
        return self

    @property
    def steps(self) -> list[Any]:
        """The updates, one tree for each gradient."""
        return [jax.tree.map(lambda leaf, i=i: wide(leaf[i]), self.updates) for i in range(LENGTH)]


def is_finite(values: Any) -> bool:
    return all(np.all(np.isfinite(wide(leaf))) for leaf in jax.tree.leaves(values))


def not_finite(values: Any) -> list[str]:
    """The paths of the leaves with an infinite or NaN entry."""
    return [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(values)
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) and not np.all(np.isfinite(wide(leaf)))
    ]


def settled(values: Any) -> bool:
    """Whether every entry of stacked updates is other than 0 at one of the steps."""
    return all(np.all(np.any(wide(leaf) != 0, axis=0)) for leaf in jax.tree.leaves(values))


class Properties:
    """Properties of rows, asked row by row: the programs of a row are compiled once, and let go of with it."""

    def __init__(self) -> None:
        self.parameters: list[tuple[int, Any]] = []

    def ask(
        self,
        *numbers: int,
        dtypes: Sequence[str] = ("float32",),
        exempt: Mapping[str, str] | None = None,
        only: Callable[[Case], bool] = lambda case: True,
    ) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """Decorates ``property(case, dtype)``, which tries the bad inputs of these numbers on each row.

        ``exempt``: of a row, ``"adam"``, or a row in one dtype, ``"adam-float16"``, that must fail, the reason.
        """
        reasons = dict(exempt or {})
        unknown = [name for name in reasons if name.partition("-")[0] not in ROWS]
        assert not unknown, f"no such rows: {unknown}"

        def register(function: Callable[..., None]) -> Callable[..., None]:
            for i, case in enumerate(CONTRACT):
                for dtype in dtypes if only(case) else ():
                    reason = reasons.get(f"{case.name}-{dtype}", reasons.get(case.name))
                    failing = pytest.mark.xfail(reason=reason, strict=True, raises=AssertionError)
                    name = f"{case.name}-{dtype}-{function.__name__}"
                    marks = [bad_input(*numbers), *([failing] if reason else [])]
                    order = i * len(DTYPES) + list(DTYPES).index(dtype)
                    self.parameters.append((order, pytest.param(case, dtype, function, id=name, marks=marks)))
            return function

        return register

    def by_row(self) -> Any:
        """Parametrizes a test ``(case, dtype, asked)``."""
        sorted_by_row = [parameter for _, parameter in sorted(self.parameters, key=lambda item: item[0])]
        return pytest.mark.parametrize(("case", "dtype", "asked"), sorted_by_row)


def without_eps(case: Case) -> dict[str, float]:
    """Each safeguard at 0, if 0 is allowed."""
    ranges = case.factory._specification.ranges
    return {name: 0.0 for name in ("eps", "eps_root") if name in case.others and 0.0 in ranges[name]}
