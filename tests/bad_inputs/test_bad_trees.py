"""Trees that an optimizer must take, or refuse by its name, the leaf's path, and both sides of the difference.

Every row of the table, eagerly and while it is traced. What ``tests/test_contract.py`` asks is not asked again.
"""

import collections
import dataclasses
import functools
import inspect
from typing import Any, NamedTuple

import equinox as eqx
import flax.core
import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CONTRACT, Case, rows
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxopt_lessons as jl
from bad_inputs import bad_input


def filled(*shape, seed=0, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape).astype(dtype))


def eagerly(update, *arguments):
    return update(*arguments)


def traced(update, *arguments):
    return jax.eval_shape(update, *arguments)


both_ways = pytest.mark.parametrize("run", [eagerly, traced])


def refusal(case: Case, run, gradients, params, state=None) -> str:
    """The message with which the row refuses the gradients or the state; it begins with the name of the row."""
    tx = case.make()
    state = tx.init(params) if state is None else state
    with pytest.raises(jl.InputError) as error:
        run(case.update(tx), gradients, state, params)
    message = str(error.value)
    assert message.startswith((f"{tx.name}: ", f"{tx.name} > ")), message
    return message


def outcome(function, *arguments):
    """The result and None, or None and the message of an ``InputError``."""
    try:
        return function(*arguments), None
    except jl.InputError as error:
        return None, str(error)


# -- 18. empty trees --------------------------------------------------------------------------------------------------

EMPTY = {"dict": {}, "list": [], "tuple": (), "None": None, "containers": {"a": {}, "b": [(), None]}}


@bad_input(18)
@rows
@pytest.mark.parametrize("kind", EMPTY)
@both_ways
def test_nothing_is_updated_by_nothing(case: Case, kind, run):
    empty, tx = EMPTY[kind], case.make()
    state = tx.init(empty)
    updates, new_state = run(case.update(tx), empty, state, empty)
    assert updates == empty
    assert jl.apply_updates(empty, updates) == empty
    assert jax.tree.structure(new_state) == jax.tree.structure(state)
    if run is eagerly:
        for leaf in jax.tree.leaves(new_state):
            assert jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) or np.all(np.isfinite(leaf))


@bad_input(18, 36)
@pytest.mark.parametrize(
    "tx",
    [
        jl.masked(jl.adamw(0.1), False, unmasked="zero"),
        jl.selective_transform(jl.lookahead(jl.adamw(0.1), 2, 0.5), freeze_mask=True),
        jl.groups({"**": "freeze"}, jl.adamw(0.1)),
    ],
    ids=lambda tx: tx.name,
)
def test_an_optimizer_without_leaves_needs_no_parameters(tx):
    """A single array that is frozen leaves None, which is not the None of ``update`` without ``params``."""
    updates, _ = tx.update(jnp.ones(3), tx.init(jnp.ones(3)), jnp.ones(3))
    np.testing.assert_array_equal(updates, np.zeros(3))


# -- 22. containers ---------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    x: Any
    y: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Data:
    x: Any
    y: Any


A, B = filled(3, 2), filled(2)
MADE = {
    "dict": {"x": A, "y": B},
    "FrozenDict": flax.core.FrozenDict({"x": A, "y": B}),
    "OrderedDict": collections.OrderedDict(x=A, y=B),
    "list": [A, B],
    "tuple": (A, B),
    "Pair": Pair(A, B),
    "Data": Data(A, B),
}
CONTAINERS = [
    ("dict", "FrozenDict"), ("FrozenDict", "dict"), ("dict", "OrderedDict"), ("list", "tuple"), ("tuple", "list"),
    ("Pair", "tuple"), ("tuple", "Pair"), ("Pair", "dict"), ("Data", "dict"), ("dict", "Data"), ("dict", "list"),
]  # fmt: skip


@bad_input(22)
@rows
@pytest.mark.parametrize(("expected", "got"), CONTAINERS, ids=lambda kind: kind)
@both_ways
def test_other_containers_are_named(case: Case, expected, got, run):
    message = refusal(case, run, {"net": [MADE[got]]}, {"net": [MADE[expected]]})
    assert "At net/0 updates has a " in message
    assert f"{got} and params has a " in message
    assert message.endswith(f"{expected}.")


@bad_input(22)
@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ((A, B), [A, B], "they have different containers. At the top updates has a tuple and params has a list."),
        ({"w": A, "e": []}, {"w": A, "e": {}}, "At e updates has a list and params has a dict."),
        ({"w": A, "e": {}}, {"w": A, "e": None}, "At e updates has a dict and params has a NoneType."),
        ({"e": (A, A, A)}, {"e": Pair(A, B)}, "At e updates has a tuple and params has a test_bad_trees.Pair."),
        ({"w": A, "e": (A,)}, {"v": A, "e": [A]}, "updates has nothing at 'v', where params has float32[3,2]; and"),
        (
            collections.OrderedDict(b=B, a=A),
            collections.OrderedDict(a=A, b=B),
            "At the top updates has PyTreeDef(CustomNode(OrderedDict[('b', 'a')], [*, *])) and params has PyTreeDef(",
        ),
        (
            {"w": A, "e": {}},
            {"w": A, "f": {}},
            "PyTreeDef({'e': *, 'w': *}) and params has PyTreeDef({'f': *, ",
        ),
    ],
    ids=["at the top", "empty", "None", "of another length", "a leaf too few first", "order", "names of empty ones"],
)
def test_the_first_difference_is_named(wrong, right, message):
    with pytest.raises(jl.InputError) as error:
        jl.scale(1.0).update(wrong, jl.scale(1.0).init(right), right)
    assert message.replace("test_bad_trees", __name__.split(".")[0]) in str(error.value)


@bad_input(22, 37)
@rows
@pytest.mark.parametrize(("made_for", "given"), [*CONTAINERS[1:7:2], ("dict", "Data")], ids=lambda kind: kind)
def test_a_state_with_other_containers_is_refused(case: Case, made_for, given):
    state = case.make().init({"net": [MADE[made_for]]})
    has_names = any(leaf.shape for leaf in jax.tree.leaves(state)) and "flatten" not in case.name
    if not has_names:  # numbers, or one vector of all leaves, fit any tree
        return
    params = {"net": [MADE[given]]}
    message = refusal(case, eagerly, params, params, state)
    assert f"{given} and" in message
    assert f"{made_for}" in message


# -- 23, 24. leaves ---------------------------------------------------------------------------------------------------

WRONG_SHAPES = {
    "a number": (), "one axis less": (2,), "a row": (1, 2), "a column": (3, 1), "an axis more": (1, 3, 2),
    "turned": (2, 3), "nothing": (0, 2),
}  # fmt: skip
DEEP = {"net": {"layers": [{"bias": filled(2)}, {"kernel": filled(3, 2)}]}}


def with_kernel(leaf):
    return {"net": {"layers": [DEEP["net"]["layers"][0], {"kernel": leaf}]}}


@bad_input(23)
@rows
@pytest.mark.parametrize("wrong", WRONG_SHAPES)
@both_ways
def test_wrong_shapes_are_named_at_depth(case: Case, wrong, run):
    leaf = jnp.ones(WRONG_SHAPES[wrong])
    message = refusal(case, run, with_kernel(leaf), DEEP)
    shape = ",".join(map(str, leaf.shape))
    expected = f"at 'net/layers/1/kernel' updates has float32[{shape}] and params has float32[3,2]. The shapes must be"
    assert expected in message


WRONG_DTYPES = {
    "int32": jnp.ones((3, 2), jnp.int32),
    "uint8": jnp.ones((3, 2), jnp.uint8),
    "bool": jnp.ones((3, 2), bool),
    "float0": np.zeros((3, 2), jax.dtypes.float0),
    "key<fry>": jax.random.split(jax.random.key(0), (3, 2)),
    "complex64": jnp.ones((3, 2), jnp.complex64),
}


@bad_input(24)
@rows
@pytest.mark.parametrize("dtype", WRONG_DTYPES)
@both_ways
def test_wrong_dtypes_are_named_at_depth(case: Case, dtype, run):
    if case.per_example and dtype == "float0":  # None in an index makes another dtype of it
        pytest.skip("an array of float0 gets no axis of examples")
    gradients = with_kernel(WRONG_DTYPES[dtype])
    if run is traced and dtype == "float0":
        run = lambda update, gradients, state, params: jax.eval_shape(  # float0 is no argument of jit
            lambda state, params: update(gradients, state, params), state, params
        )
    message = refusal(case, run, gradients, DEEP)
    assert "at 'net/layers/1/kernel' " in message
    assert f"{dtype}[" in message
    remedy = "an imaginary part would be lost" if dtype == "complex64" else "leave None where a leaf is not trained"
    assert remedy in message or "complex numbers have none" in message


@bad_input(24, 54)
@rows
@both_ways
def test_real_gradients_of_complex_parameters_have_no_imaginary_part(case: Case, run):
    """Or complex parameters are refused by name."""
    tx, params, g = case.make(), {"z": jax.lax.complex(filled(3), filled(3, seed=1))}, {"z": filled(3, seed=2)}
    result, message = outcome(run, case.update(tx), g, tx.init(params), params)
    if message:
        assert message.startswith(tx.name)
        assert "at 'z' " in message
        assert "complex64[3]" in message
        return
    updates, _ = result
    assert updates["z"].dtype == jnp.complex64
    if run is eagerly:
        complex_g = {"z": g["z"].astype(jnp.complex64)}
        expected, _ = case.update(tx)(complex_g, tx.init(params), params)
        np.testing.assert_allclose(updates["z"], expected["z"], rtol=1e-6, atol=1e-12)


# -- 26, 27. leaves that are no arrays of JAX -------------------------------------------------------------------------


@bad_input(26)
@rows
def test_a_python_number_is_an_array_after_one_step(case: Case):
    """The update of a Python number is traced once, and all that follow as those of an array."""
    tx, traces = case.make(), []

    @jax.jit
    def step(params, state, g):
        traces.append(params)
        updates, state = case.update(tx)(g, state, params)
        return jl.apply_updates(params, updates), state

    g = {"a": jnp.float32(0.25), "b": [jnp.float32(-1.0)]}
    numbers = {"a": 0.5, "b": [1]} | {"b": [-1.5]}
    params, state = step(numbers, tx.init(numbers), g)
    for _ in range(3):
        params, state = step(params, state, g)
    assert len(traces) == 2  # JAX has a program for weak types, those of Python's numbers, and one for arrays
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(params))


@bad_input(27)
@rows
def test_numpy_leaves_are_the_same_to_the_bit(case: Case):
    numbers = {
        "matrix": np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2),
        "scalar": [np.float32(0.3), np.asarray(0.2, np.float32)],
        "double": np.linspace(1, 2, 3),
        "strided": np.linspace(1, 2, 12, dtype=np.float32).reshape(4, 3)[::2, ::-1],
    }
    arrays, tx = jax.tree.map(jnp.asarray, numbers), case.make()
    of_numpy = case.update(tx)(numbers, tx.init(numbers), numbers)
    of_jax = case.update(tx)(arrays, tx.init(arrays), arrays)
    for ours, theirs in zip(jax.tree.leaves(of_numpy), jax.tree.leaves(of_jax), strict=True):
        assert isinstance(ours, jax.Array)
        assert (ours.dtype, ours.weak_type) == (theirs.dtype, theirs.weak_type)
        np.testing.assert_array_equal(ours, theirs)


# -- 30, 31. shapes that have a meaning for some ----------------------------------------------------------------------

SHAPED = {
    "vector": (6,), "row": (1, 6), "column": (6, 1), "one": (1, 1),
    "conv3d": (2, 1, 2, 2, 3), "stack": (2, 4, 2),
}  # fmt: skip


def random_shapes(seed):
    """Leaves of all shapes, those of a vector with the same numbers, and those that are stacked, one by one."""
    made = {name: filled(*shape, seed=seed + i) for i, (name, shape) in enumerate(SHAPED.items())}
    made |= {name: made["vector"].reshape(SHAPED[name]) for name in ("row", "column")}
    return made | {"slices": list(made["stack"])}


@functools.cache
def second_updates(name: str):
    """The updates of all shapes after two steps."""
    case = next(case for case in CONTRACT if case.name == name)
    tx, params = case.make(), random_shapes(100)
    step = jax.jit(case.update(tx))
    _, state = step(random_shapes(200), tx.init(params), params)
    return jax.device_get(step(random_shapes(300), state, params)[0])


@bad_input(30, 31)
@rows
def test_any_shape_has_finite_updates(case: Case):
    updates = second_updates(case.name)
    for name, shape in SHAPED.items():
        assert updates[name].shape == shape
        assert np.all(np.isfinite(updates[name]))


ALONG_AXES = {
    ("adam_mini", "row"): "each index of the last axis is a block",
    ("came", "row"): "averages (b2) of the means of s over the last axis",
    ("came", "column"): "averages (b2) of the means of s over the last axis",
    ("centralize", "row"): "arrays of two axes or more; others pass as they are",
    ("centralize", "column"): "arrays of two axes or more; others pass as they are",
    ("noisy_sgd", "row"): "How the random numbers are made: see ``add_noise``",
    ("noisy_sgd", "column"): "How the random numbers are made: see ``add_noise``",
}
"""Rows for which a row or a column is no vector, and the words about it in their files. For all others they are."""

PER_LEAF = {
    "adafactor": "A leaf is factored along its two largest axes",
    "adam_mini": "each index of the last axis is a block",
    "came": "averages (b2) of the means of s over the last axis and over the last but one",
    "cautious": "mean over the leaf",
    "mars": "the norm of the leaf",
    "sm3": "for more axes one number for each index of each axis",
    "clip_by_block_rms": "leaf by leaf; keeps each leaf's direction",
    "scale_by_param_block_norm": "multiplication by the size of each leaf",
    "scale_by_param_block_rms": "multiplication by the size of each leaf",
    "scale_by_trust_ratio": "each leaf's step in proportion to the leaf",
    "lars": "each layer's step in proportion to the layer",
    "lamb": "|.|: the norm of a leaf",
    "fromage": "Euclidean norms of the leaf",
    "novograd": "one number a leaf",
    "adaptive_grad_clip": "of two or three axes ``[in, ...]`` all that share the",
    "centralize": "over all axes but output_axis",
    "noisy_sgd": "How the random numbers are made: see ``add_noise``",
    "scale_by_distance_over_gradients": "DoG for every leaf by itself",
}
"""Rows for which layers that are stacked are not the layers one by one, and the words about it in their files."""


def documented(case: Case, words: str) -> bool:
    return words in " ".join((inspect.getmodule(case.factory).__doc__ or "").split())


@bad_input(30)
@pytest.mark.parametrize("kind", ["row", "column"])
@rows
def test_a_row_is_a_vector_or_is_documented_otherwise(case: Case, kind):
    updates = second_updates(case.name)
    same = np.allclose(updates[kind].ravel(), updates["vector"], rtol=2e-6, atol=1e-7)
    words = ALONG_AXES.get((case.name, kind))
    assert same == (words is None)
    assert same or documented(case, words)


@bad_input(31)
@rows
def test_a_stack_is_its_slices_or_is_documented_otherwise(case: Case):
    """What is stacked along a first axis, as by ``scan`` over layers, is updated as the layers one by one."""
    updates = second_updates(case.name)
    same = np.allclose(updates["stack"], np.stack(updates["slices"]), rtol=2e-6, atol=1e-7)
    words = PER_LEAF.get(case.name)
    assert same == (words is None)
    assert same or documented(case, words)


# -- 32. the same array twice -----------------------------------------------------------------------------------------


@bad_input(32)
@rows
def test_tied_leaves_are_two_leaves_and_their_state_can_be_donated(case: Case):
    tied, g, tx = filled(4), filled(4, seed=1), case.make()
    params = {"a": tied, "b": [tied]}
    step = jax.jit(lambda state, g, params: case.update(tx)(g, state, params), donate_argnums=0)
    state = tx.init(params)
    for _ in range(2):
        updates, state = step(state, {"a": g, "b": [g]}, params)
    apart = {"a": filled(4), "b": [filled(4)]}
    expected, _ = step(step(tx.init(apart), {"a": g, "b": [g]}, apart)[1], {"a": g, "b": [g]}, apart)
    jax.tree.map(np.testing.assert_array_equal, updates, expected)
    np.testing.assert_array_equal(params["a"], filled(4))  # neither donated nor written to


# -- 33. modules ------------------------------------------------------------------------------------------------------


class Callable(eqx.Module):
    """A module that must not be called, with leaves ``a`` and ``b``."""

    a: Any
    b: Any

    def __call__(self, *args):
        raise AssertionError("it was taken for a function")


def equinox_module():
    return eqx.filter(eqx.nn.MLP(2, 1, 3, 1, key=jax.random.key(0)), eqx.is_inexact_array)


def nnx_state():
    return nnx.split(nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0))), nnx.Param)[1]


MODULES = {"equinox": equinox_module, "nnx": nnx_state, "callable": lambda: Callable(filled(3, 2), [filled(2)])}


@bad_input(33)
@rows
@pytest.mark.parametrize("kind", MODULES)
def test_modules_are_trees(case: Case, kind):
    params, tx = MODULES[kind](), case.make()
    state = tx.init(params)
    updates, new_state = jax.eval_shape(case.update(tx), params, state, params)
    assert jax.tree.structure(updates) == jax.tree.structure(params)
    assert jax.tree.structure(new_state) == jax.tree.structure(state)
    assert jax.tree.structure(jl.apply_updates(params, params)) == jax.tree.structure(params)


TWO = Callable(jnp.ones(2), jnp.ones(3))
RATES = {"x": jl.sgd(1.0), "y": jl.sgd(2.0)}
CHOOSES = {
    "masked": (lambda chosen: jl.masked(jl.scale(3.0), chosen), Callable(True, False), (3.0, 1.0)),
    "freeze": (jl.freeze, Callable(True, False), (0.0, 1.0)),
    "selective_transform": (
        lambda chosen: jl.selective_transform(jl.sgd(1.0), freeze_mask=chosen), Callable(True, False), (0.0, -1.0),
    ),
    "add_decayed_weights": (lambda chosen: jl.add_decayed_weights(0.5, chosen), Callable(True, False), (1.5, 1.0)),
    "partition": (lambda labels: jl.partition(RATES, labels), Callable("x", "y"), (-1.0, -2.0)),
    "groups": (
        lambda labels: jl.groups({"x": {}, "y": "freeze"}, jl.sgd(1.0), labels=labels),
        Callable("x", "y"), (-1.0, 0.0),
    ),
}  # fmt: skip


@bad_input(33)
@pytest.mark.parametrize("name", CHOOSES)
def test_a_module_that_chooses_leaves_is_not_called(name):
    make, module, expected = CHOOSES[name]
    tx = make(module)
    updates, _ = tx.update(TWO, tx.init(TWO), TWO)
    np.testing.assert_array_equal(updates.a, np.full(2, expected[0]))
    np.testing.assert_array_equal(updates.b, np.full(3, expected[1]))


@bad_input(33, 35)
@pytest.mark.parametrize("name", CHOOSES)
def test_a_module_of_numbers_chooses_no_leaves(name):
    """A mask is refused when it is built, labels when they meet the parameters."""
    with pytest.raises((TypeError, jl.InputError)) as error:
        CHOOSES[name][0](TWO).init(TWO)
    assert str(error.value).startswith(name)
    assert "got float32[2] at 'a'" in str(error.value) or "the label of a leaf is float32[2]" in str(error.value)


LINEAR = eqx.nn.Linear(2, 1, key=jax.random.key(0))
SCHEDULES = {
    "equinox": (LINEAR, "and raised ValueError: "),
    "nnx": (nnx.Linear(2, 1, rngs=nnx.Rngs(0)), "and raised Type"),  # or TypePromotionError
    "two arguments": (lambda params, leaf: True, "and raised TypeError: "),
    "vector": (lambda count: jnp.full(3, 0.1), "and must return one real number; got float32[3]"),
    "None": (lambda count: None, "and must return one real number; got None of type NoneType"),
    "bool": (lambda count: count > 1, "and must return one real number; got bool[]"),
    "text": (lambda count: "0.1", "and must return one real number; got '0.1' of type str"),
    "complex": (lambda count: 1j, "and must return one real number; got 1j of type complex"),
}


@bad_input(3, 33)
@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize(
    "make",
    [jl.sgd, lambda rate: jl.adamw(0.1, weight_decay=rate), lambda rate: jl.clip_by_global_norm(rate)],
    ids=["sgd", "adamw", "clip_by_global_norm"],
)
@both_ways
def test_what_is_no_schedule_is_named(make, kind, run):
    schedule, message = SCHEDULES[kind]
    tx, params = make(schedule), jnp.ones(3)
    with pytest.raises(jl.InputError) as error:
        run(tx.update, params, tx.init(params), params)
    assert str(error.value).startswith(tx.name)
    assert "is called as a schedule, " in str(error.value)
    assert message in str(error.value)


def test_an_error_of_jax_in_a_schedule_stays_what_it_is():
    tx = jl.sgd(lambda count: 0.1 if count > 1 else 0.2)
    with pytest.raises(jax.errors.TracerBoolConversionError):
        jax.eval_shape(tx.update, jnp.ones(3), tx.init(jnp.ones(3)))


# -- 34. shapes -------------------------------------------------------------------------------------------------------

MESH = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
SHARDED = NamedSharding(MESH, P("data"))


@bad_input(34)
@rows
def test_states_of_shapes_are_sharded_as_they_are(case: Case):
    """``init`` reads shapes, with keys among them, and numbers only where the state is a copy of them."""
    tx = case.make()
    shapes = {"w": jax.ShapeDtypeStruct((16, 2), jnp.float32, sharding=SHARDED), "key": jax.random.key(0)}
    with jax.set_mesh(MESH):
        states = [jax.eval_shape(tx.init, shapes)]
        state, message = outcome(tx.init, shapes)
    if message:
        assert message.startswith(tx.name)
        assert "a leaf is a shape, float32[16,2]: for the shapes of the state call jax.eval_shape(" in message
    else:
        states.append(state)
    for state in states:
        assert jax.tree.structure(state) == jax.tree.structure(states[0])
        for leaf in jax.tree.leaves(state):
            if leaf.shape == (16, 2):
                assert leaf.sharding.mesh.axis_types == MESH.axis_types
                assert leaf.sharding.spec[:1] == ("data",)


# -- 37. the state of another optimizer -------------------------------------------------------------------------------

RATE = jl.linear_schedule(0.1, 0.0, 10)
FAMILIES = {
    "adam": {
        "adam": jl.adam(0.1), "adam nesterov": jl.adam(0.1, nesterov=True), "adamw": jl.adamw(0.1),
        "nadam": jl.nadam(0.1), "amsgrad": jl.amsgrad(0.1), "adamax": jl.adamax(0.1), "adabelief": jl.adabelief(0.1),
        "lion": jl.lion(0.1), "rmsprop": jl.rmsprop(0.1), "radam": jl.radam(0.1), "adan": jl.adan(0.1),
        "yogi": jl.yogi(0.1),
    },
    "sgd": {
        "sgd": jl.sgd(0.1), "momentum": jl.sgd(0.1, 0.9), "nesterov": jl.sgd(0.1, 0.9, nesterov=True),
        "sign": jl.sign_sgd(0.1), "rmsprop": jl.rmsprop(0.1), "centered": jl.rmsprop(0.1, centered=True),
        "rmsprop momentum": jl.rmsprop(0.1, momentum=0.9), "adagrad": jl.adagrad(0.1), "lars": jl.lars(0.1),
    },
    "wrappers": {
        "adam": jl.adam(0.1), "clipped": jl.chain(jl.clip_by_global_norm(1.0), jl.adam(0.1)),
        "masked": jl.masked(jl.adam(0.1), True, unmasked="zero"), "lookahead": jl.lookahead(jl.adam(0.1), 2, 0.5),
        "skip_nonfinite": jl.skip_nonfinite(jl.adam(0.1)), "partition": jl.partition({"a": jl.adam(0.1)}, "a"),
        "other label": jl.partition({"b": jl.adam(0.1)}, "b"), "scheduled b1": jl.adam(0.1, b1=RATE),
        "scheduled decay": jl.adamw(0.1, weight_decay=RATE), "ema_params": jl.ema_params(jl.adam(0.1)),
        "named": jl.named_chain(("rate", jl.adam(0.1))),
    },
}  # fmt: skip
PAIRS = [
    pytest.param(family[made], family[given], id=f"{made}-to-{given}")
    for family in FAMILIES.values()
    for made in family
    for given in family
    if made != given
]


@bad_input(37)
@pytest.mark.parametrize(("made", "given"), PAIRS)
@both_ways
def test_the_state_of_another_optimizer_fits_or_is_refused_by_name(made, given, run):
    params = {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}
    state = made.init(params)
    if jax.tree.structure(state) == jax.tree.structure(given.init(params)):
        _, new = run(given.update, params, state, params)  # a state of the same records: what they mean is the same
        assert jax.tree.structure(new) == jax.tree.structure(state)
        return
    with pytest.raises(jl.InputError) as error:
        run(given.update, params, state, params)
    message = str(error.value)
    assert message.startswith((f"{given.name}: ", f"{given.name} > "))
    assert any(word in message for word in ("expected ", "differ in structure", "has no count"))


OTHER_PARAMS = {
    "a leaf more": {"a": jnp.ones((3, 2)), "b": [jnp.ones(2), jnp.ones(4)]},
    "a leaf less": {"a": jnp.ones((3, 2)), "b": []},
    "renamed": {"a": jnp.ones((3, 2)), "c": [jnp.ones(2)]},
    "turned": {"a": jnp.ones((2, 3)), "b": [jnp.ones(2)]},
    "broadcastable": {"a": jnp.ones((3, 1)), "b": [jnp.ones(2)]},
    "one axis less": {"a": jnp.ones(2), "b": [jnp.ones(2)]},
}


@bad_input(37)
@rows
@pytest.mark.parametrize("other", OTHER_PARAMS)
@both_ways
def test_the_state_of_other_parameters_is_refused_by_path(case: Case, other, run):
    params, tx = {"a": jnp.ones((3, 2)), "b": [jnp.ones(2)]}, case.make()
    try:
        state = tx.init(OTHER_PARAMS[other])
    except jl.InputError:
        return
    fits = jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, tx.init(params))
    bare = not any(jnp.ndim(leaf) for leaf in jax.tree.leaves(state))
    if fits or bare or case.name == "flatten":  # nothing of the shape of the parameters is in it
        return
    message = refusal(case, run, params, params, state)
    assert any(where in message for where in ("'a'", "'b/0'", "'b/1", "'c/0'", "At the top ", "At b "))
