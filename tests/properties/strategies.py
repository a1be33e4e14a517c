"""What the properties are tried on: random trees, gradients, optimizers out of THE table, and schedules.

Shapes and dtypes are few: a program that is compiled for one example serves many others.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from cases import CASES, Case
from hypothesis import assume
from hypothesis import strategies as st
from schedule_rows import ROWS

import jaxopt_lessons as jl

# ---------------------------------------------------------------------------------------------------------------------
# Trees
# ---------------------------------------------------------------------------------------------------------------------


class Layer(NamedTuple):
    w: Any
    b: Any


SHAPES = [(), (3,), (2, 3), (1, 1), (0, 3), (2, 1, 2, 1)]
HALF = [jnp.float16, jnp.bfloat16]
REAL = [jnp.float32, *HALF]


def numbers(seed: int, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Numbers of a normal distribution, none of them near 0."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    x = x + np.where(x < 0, -0.1, 0.1)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        x = x + 1j * rng.standard_normal(shape)
    return jnp.asarray(np.asarray(x).astype(dtype))


@st.composite
def leaves(draw, dtypes=(jnp.float32,), shapes=SHAPES) -> jax.Array:
    return numbers(draw(st.integers(0, 99)), draw(st.sampled_from(shapes)), draw(st.sampled_from(list(dtypes))))


@st.composite
def trees(draw, dtypes=(jnp.float32,), shapes=SHAPES, least: int = 1, most: int = 4) -> Any:
    """Nested dicts, lists, tuples and NamedTuples of arrays and None; sometimes with one array twice."""
    first = draw(leaves(dtypes, shapes))
    nodes = [first, *draw(st.lists(leaves(dtypes, shapes), min_size=least - 1, max_size=most - 1))]
    if len(nodes) < most and draw(st.booleans()):
        nodes.append(first)
    if draw(st.booleans()):
        nodes.append(None)
    nodes = draw(st.permutations(nodes))
    while len(nodes) > 1 or draw(st.booleans()):
        take = draw(st.integers(1, min(3, len(nodes))))
        inside, nodes = nodes[:take], nodes[take:]
        kind = draw(st.sampled_from(["dict", "list", "tuple", "NamedTuple"]))
        if kind == "NamedTuple":
            made = Layer(inside[0], inside[1] if take > 1 else None)
            nodes = [*inside[2:], *nodes]
        elif kind == "dict":
            made = dict(zip(draw(st.permutations(["w", "b", "c"])), inside, strict=False))
        else:
            made = inside if kind == "list" else tuple(inside)
        nodes.append(made)
        if len(nodes) == 1 and draw(st.booleans()):
            break
    return nodes[0]


KINDS = {"zero": 0.0, "tiny": 1e-38, "normal": 1.0, "huge": 1e20, "nan": math.nan, "inf": math.inf, "-inf": -math.inf}
FINITE = ["normal", "zero", "tiny"]


@st.composite
def gradients(draw, params: Any, kinds=("normal",), dtypes=None) -> Any:
    """Gradients for ``params``, each leaf with one entry or all of them of a kind, else ordinary numbers."""

    def one(leaf: jax.Array) -> jax.Array:
        dtype = leaf.dtype
        if dtypes is not None and not jnp.iscomplexobj(leaf):
            dtype = draw(st.sampled_from(dtypes))
        g = numbers(draw(st.integers(100, 199)), leaf.shape, dtype)
        kind = draw(st.sampled_from(list(kinds)))
        return g if kind == "normal" else spoilt(g, kind, draw(st.booleans()))

    return jax.tree.map(one, params)


def spoilt(g: jax.Array, kind: str, everywhere: bool) -> jax.Array:
    """``g`` with its first entry, or all, of a kind; a huge number is one that the dtype holds."""
    size = KINDS[kind]
    if kind == "huge" and g.dtype == jnp.float16:
        size = 300.0
    x = np.array(g.astype(jnp.complex64 if jnp.iscomplexobj(g) else jnp.float32))
    where = (slice(None) if everywhere else slice(0, 1),) if x.ndim else ()
    x[where] = size if not math.isfinite(size) or size == 0 else size * np.sign(np.real(x[where]))
    return jnp.asarray(x).astype(g.dtype)


# ---------------------------------------------------------------------------------------------------------------------
# Numbers and schedules
# ---------------------------------------------------------------------------------------------------------------------


def numbers_in(allowed: Any) -> st.SearchStrategy:
    """The numbers of a range: its ends where they belong to it, ordinary ones, and some next to nothing."""
    low, high = allowed.low, allowed.high
    if allowed.whole:
        return st.integers(int(low), int(low) + 4)
    ordinary = [0.0, 1e-8, 1e-3, 0.1, 0.25, 0.5, 0.9, 0.999, 1.0, 2.5, 30.0, -0.75]
    ends = [x for x in (low, high) if x in allowed and math.isfinite(x)]
    if math.inf in allowed and not allowed.finite:
        ends.append(math.inf)
    between = st.floats(max(low, -3.0), min(high, 3.0), allow_subnormal=False, width=32).filter(allowed.__contains__)
    return st.sampled_from([float(x) for x in dict.fromkeys([*ends, *ordinary]) if x in allowed]) | between


def scheduled_in(allowed: Any) -> st.SearchStrategy:
    """Schedules from one number of a range to another: all their values are in it."""
    inside = numbers_in(dataclasses.replace(allowed, finite=True)) if not allowed.whole else numbers_in(allowed)
    steps = st.integers(1, 4)
    return (
        st.builds(jl.linear_schedule, inside, inside, steps)
        | st.builds(lambda a, b, n: jl.manual_schedule({0: a, n: b}), inside, inside, steps)
        | st.builds(lambda a, b, n: jl.join_schedules([a, b], [n]), inside, inside, steps)
    )


def hyperparameters_in(allowed: Any, schedules: bool) -> st.SearchStrategy:
    if schedules and allowed.schedules and not allowed.whole:
        return st.one_of(numbers_in(allowed), numbers_in(allowed), scheduled_in(allowed))
    return numbers_in(allowed)


@st.composite
def plain_schedules(draw) -> jl.Schedule:
    """A row of the table of schedules, with some of its arguments as the row has them elsewhere."""
    row = draw(st.sampled_from(ROWS))
    arguments = dict(row.arguments)
    for name in draw(st.lists(st.sampled_from(sorted(row.others)), unique=True)) if row.others else ():
        arguments[name] = row.others[name]
    try:
        return getattr(jl, row.name)(**arguments)
    except ValueError:  # These do not go together: the warm-up of one row is longer than another one, for instance.
        assume(False)


def end_of(schedule: jl.Schedule) -> int:
    """The first count at which another may take over."""
    return int(schedule.timed.boundary) + 1 if schedule.length is None else int(schedule.length)


FACTORS = st.sampled_from([-2.0, -0.5, 0.0, 0.25, 1.0, 3.0])


@st.composite
def schedules(draw, depth: int = 3) -> jl.Schedule:
    """Sums, products, joins, limits and other times of schedules of the table, to a depth."""
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return draw(plain_schedules())
    inner = draw(schedules(depth=depth - 1))
    steps = draw(st.integers(1, 5))
    kind = draw(
        st.sampled_from(
            ["+", "*", "scaled", "plus", "then", "join", "hold", "shift", "stretch", "repeat", "times", "epoch", "clip"]
        )
    )
    if kind in ("+", "*", "then", "join"):
        other = draw(schedules(depth=depth - 1))
        if kind == "+":
            return inner + other
        if kind == "*":
            return inner * other
        if kind == "then":
            return inner.then(other, at=end_of(inner))
        return jl.join_schedules([inner, other], [end_of(inner) + steps])
    if kind == "scaled":
        return draw(FACTORS) * inner
    if kind == "plus":
        return inner + draw(FACTORS)
    if kind == "hold":
        assume(inner.timed.rests)
        return inner.hold(steps)
    if kind == "shift":
        return inner.shift(steps)
    if kind == "stretch":
        return inner.stretch(draw(st.sampled_from([0.5, 2 / 3, 1.5, 2.0, 3.0])))
    if kind in ("repeat", "times"):
        every = end_of(inner)
        assume(every >= 1)
        return inner.repeat(every=every, times=steps if kind == "times" else None)
    if kind == "epoch":
        return inner.per_epoch(steps)
    low = draw(st.sampled_from([None, 0.0, 0.1]))
    return inner.clip(low=low, high=draw(st.sampled_from([0.3, 1.0] + ([None] if low is not None else []))))


# ---------------------------------------------------------------------------------------------------------------------
# Optimizers
# ---------------------------------------------------------------------------------------------------------------------

ROW = {case.name: case for case in CASES}
COMPLEX = "complex_parameters_are_pairs_of_real_ones"
TOGETHER = "leaves_are_independent"


def facts_of(case: Case) -> set[str]:
    """What a row is exempt from; a part is asked nothing itself, and has the exemptions of the preset around it."""
    return set(case.exempt) | (facts_of(ROW[case.part_of]) if case.part_of is not None else set())


INNER = ("inner", "optimizer", "base_optimizer", "fast_optimizer", "opt", "adv_optimizer")
"""What an argument is called that is a transformation."""

COMPOSED = ("chain", "named_chain", "masked", "partition", "multi_transform", "groups")
"""Rows whose arguments are drawn in their own way below."""

OVER_ALL = {
    "apply_if_finite": "it leaves out the step of all leaves",
    "skip_nonfinite": "it leaves out the step of all leaves",
    "prodigy": "it estimates one learning rate for all leaves; what is infinite shows at once",
    "dadapt_adamw": "it estimates one learning rate for all leaves; what is infinite shows at once",
    "mechanize": "it estimates one learning rate for all leaves; what is infinite shows at once",
    "flatten": "norms of leaves become norms of all",
}
"""Rows in which leaves may see each other, beside those whose row says so."""

DECIDES = {
    "sign": ("scale_by_sign", "sign_sgd", "signum", "scale_by_lion", "lion", "rprop", "scale_by_rprop"),
    "threshold": ("cautious", "add_cautious_weight_decay", "stochastic_rounding", "split_master_weights"),
}
"""Rows that turn a difference in the last bit into a whole step."""


class Drawn(NamedTuple):
    """An optimizer, and the rows of the table that it is made of."""

    tx: jl.GradientTransformation
    rows: tuple[Case, ...]

    @property
    def extras(self) -> dict[str, Any]:
        found = {name: value for case in self.rows for name, value in case.extras.items()}
        return {name: bowl if name == "obj_fn" else value for name, value in found.items()}

    @property
    def names(self) -> set[str]:
        return {case.name for case in self.rows}

    def update(self, updates: Any, state: Any, params: Any = None, tx: Any = None) -> Any:
        return (self.tx if tx is None else tx).update(updates, state, params, **self.extras)

    def __repr__(self) -> str:
        return f"<{self.tx!r}>"


def has(fact: str, case: Case) -> bool:
    return fact in facts_of(case)


def for_complex(case: Case) -> bool:
    return not has(COMPLEX, case)


def independent(case: Case) -> bool:
    return not has(TOGETHER, case) and case.name not in OVER_ALL


def anything(case: Case) -> bool:
    return True


def bowl(params: Any) -> jax.Array:
    """A loss for rows that ask for one, of leaves of any dtype."""
    leaves = [leaf.astype(jnp.complex64 if jnp.iscomplexobj(leaf) else jnp.float32) for leaf in jax.tree.leaves(params)]
    return sum((jnp.sum(jnp.abs(leaf) ** 2) for leaf in leaves), jnp.float32(0))


CLASHES: Mapping[str, tuple[str, ...]] = {
    "rprop": ("min_step_size", "max_step_size"),
    "scale_by_rprop": ("min_step_size", "max_step_size"),
}
"""Numbers that do not go with every other one: they stay as they are."""


@st.composite
def arguments_of(draw, case: Case, schedules: bool = True) -> dict[str, Any]:
    """Some numbers of a row, others than it has."""
    ranges = case.factory._specification.ranges
    now = case.make().arguments
    free = [
        name
        for name, allowed in ranges.items()
        if allowed is not None
        and isinstance(now[name], (int, float))
        and not isinstance(now[name], bool)
        and name not in CLASHES.get(case.name, ())
    ]
    chosen = draw(st.lists(st.sampled_from(free), unique=True, max_size=3)) if free else []
    return {name: draw(hyperparameters_in(ranges[name], schedules)) for name in chosen}


@st.composite
def plain_rows(draw, params: Any, rows=anything, schedules: bool = True) -> Drawn:
    """A row that contains no other, with random numbers and, where it takes one, a random mask."""
    plain = [c for c in CASES if c.name not in (*COMPOSED, *WRAPPERS) and not c.per_example and rows(c)]
    case = draw(st.sampled_from(plain))
    changes = draw(arguments_of(case, schedules))
    if "mask" in case.arguments:
        changes["mask"] = draw(masks(params))
    return Drawn(case.make(**changes), (case,))


def inner_of(case: Case) -> list[str]:
    return [name for name in INNER if isinstance(case.make().arguments.get(name), jl.GradientTransformation)]


WRAPPERS = tuple(case.name for case in CASES if case.name not in COMPOSED and inner_of(case))


def is_matrix(path: str, leaf: Any) -> bool:
    return leaf.ndim > 1


def is_weight(path: str, leaf: Any) -> bool:
    return path.rpartition("/")[2] in ("w", "0")


def everywhere(path: str, leaf: Any) -> bool:
    return True


FUNCTIONS: dict[str, Callable[..., Any]] = {f.__name__: f for f in (is_matrix, is_weight, everywhere)}


@st.composite
def masks(draw, params: Any) -> Any:
    """A tree of bools, one bool, or a function of path and leaf."""
    if draw(st.booleans()):
        return draw(st.sampled_from([is_matrix, is_weight, everywhere, True, False]))
    chosen = jax.tree.map(lambda _: draw(st.booleans()), params)
    return True if chosen is None else chosen  # None is no mask


def inside(params: Any, mask: Any) -> Any:
    return jl.tree.pick(params, jl.tree.mask_leaves(mask, params))


def as_vector(params: Any) -> jax.Array:
    return jnp.zeros(sum(math.prod(jl.tree.real_shape(leaf)) for leaf in jax.tree.leaves(params)))


def as_pairs(params: Any) -> Any:
    return jax.tree.map(lambda leaf: (leaf.real, leaf.imag) if jnp.iscomplexobj(leaf) else leaf, params)


BELOW: dict[str, Callable[[Any], Any]] = {"flatten": as_vector, "split_real_and_imaginary": as_pairs}
"""What is inside sees another tree."""


def makes_steps(tx: jl.GradientTransformation) -> bool:
    return any(part.name == "scale_by_learning_rate" for part in tx.walk())


@functools.cache
def takes_rounded(name: str, argument: str) -> bool:
    """Whether what a wrapper has inside may round its steps for half precision; the others say that it may not."""
    try:
        ROW[name].make(**{argument: jl.kahan(jl.trace(0.9))})
    except ValueError as error:
        if "has its steps rounded for half-precision parameters" not in str(error):
            raise
        return False
    return True


@st.composite
def labels(draw, params: Any, names=("one", "two")) -> Any:
    return jax.tree.map(lambda _: draw(st.sampled_from(names)), params)


@st.composite
def optimizers(draw, params: Any, depth: int = 3, rows=anything, schedules: bool = True, rounds: bool = True) -> Drawn:
    """Rows of the table, in chains, masks, groups and wrappers, to a depth.

    Args:
      params: the parameters, for masks and labels.
      depth: how many levels there may be around the innermost rows.
      rows: which rows may be part of it.
      schedules: whether hyperparameters may be schedules.
      rounds: whether it may round its steps for half precision: the outermost one may, and the last one of a chain.
    """
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return draw(plain_rows(params, rows, schedules))

    def more(below: Any = params, rounds: bool = rounds) -> Drawn:
        return draw(optimizers(below, depth - 1, rows, schedules, rounds))

    kinds = [name for name in COMPOSED if rows(ROW[name])]
    wrappers = [n for n in WRAPPERS if rows(ROW[n]) and (rounds or not ROW[n].make().takes_half_precision)]
    kind = draw(st.sampled_from([*kinds, *wrappers, *8 * ["chain"]]))
    case = ROW[kind]
    if kind in ("chain", "named_chain"):
        n = draw(st.integers(0 if kind == "chain" else 1, 3))
        parts = [more(rounds=rounds and i == n - 1) for i in range(n)]
        if n > 1 and draw(st.booleans()):
            parts[-1] = parts[0]  # two of one name
        stages = [part.tx for part in parts]
        if kind == "named_chain":
            return together(jl.named_chain(*zip("abc", stages, strict=False)), case, *parts)
        return together(jl.chain(*stages), case, *parts)
    if kind == "masked":
        mask = draw(masks(params))
        part = more(inside(params, mask))
        unmasked = draw(st.sampled_from(["keep", "zero"]))
        return together(jl.masked(part.tx, mask, unmasked=unmasked), case, part)
    if kind in ("partition", "multi_transform"):
        which = draw(labels(params))
        one, two = (more(inside(params, jax.tree.map(lambda x, n=n: x == n, which))) for n in ("one", "two"))
        used = set(jax.tree.leaves(which)) or {"one"}
        transforms = {name: part.tx for name, part in (("one", one), ("two", two)) if name in used}
        return together(case.factory(transforms, which), case, one, two)
    if kind == "groups":
        return draw(grouped(params, more, case))
    below, frozen = BELOW.get(kind, lambda params: params)(params), {}
    if "freeze_mask" in case.arguments:
        frozen = {"freeze_mask": draw(masks(params))}
        moving = jax.tree.map(lambda x: not x, jl.tree.mask_leaves(frozen["freeze_mask"], params))
        below = inside(params, moving)
    wrapped = {name: more(below, rounds and takes_rounded(case.name, name)) for name in inner_of(case)}
    changes = draw(arguments_of(case, schedules))
    if case.name == "conditionally_transform":  # Else it warns of raw gradients.
        assume(not any(makes_steps(part.tx) for part in wrapped.values()))
    changes |= frozen | {name: part.tx for name, part in wrapped.items()}
    return together(case.make(**changes), case, *wrapped.values())


@st.composite
def grouped(draw, params: Any, more: Callable[..., Drawn], case: Case) -> Drawn:
    """Groups by label: one with another transformation, or frozen, or with another number of the default."""
    which = draw(labels(params, ("one", "default")))
    assume("one" in (jax.tree.leaves(which) or ["one"]))
    one, rest = (inside(params, jax.tree.map(lambda x, n=n: x == n, which)) for n in ("one", "default"))
    default = more(rest)
    row, ranges = default.rows[0], default.tx.factory._specification.ranges
    changeable = len(default.rows) == 1 and "mask" not in row.arguments  # Its mask fits the other part only.
    names = [n for n, v in default.tx.hyperparameters.items() if isinstance(v, float) and changeable]
    names = [n for n in names if n not in CLASHES.get(row.name, ())]
    kind = draw(st.sampled_from(["other", "freeze", *(["number"] if names else [])]))
    if kind == "other":
        other = more(one)
        return together(jl.groups({"one": other.tx}, default.tx, labels=which), case, default, other)
    override: Any = "freeze"
    if kind == "number":
        name = draw(st.sampled_from(names))
        override = {name: draw(numbers_in(ranges[name]))}
    return together(jl.groups({"one": override}, default.tx, labels=which), case, default)


def together(tx: jl.GradientTransformation, case: Case, *parts: Drawn) -> Drawn:
    return Drawn(tx, (case, *itertools.chain.from_iterable(part.rows for part in parts)))


# ---------------------------------------------------------------------------------------------------------------------
# All at once
# ---------------------------------------------------------------------------------------------------------------------


class Problem(NamedTuple):
    """Parameters, an optimizer for them, and gradients of several steps."""

    params: Any
    drawn: Drawn
    grads: list[Any]


@st.composite
def problems(
    draw, steps: int = 2, dtypes=(jnp.float32,), rows=anything, kinds=("normal",), depth=3, mixed=False, **how
) -> Problem:
    params = draw(trees(dtypes, **how))
    drawn = draw(optimizers(params, depth, rows))
    grads = [draw(gradients(params, kinds, REAL if mixed else None)) for _ in range(steps)]
    return Problem(params, drawn, grads)
