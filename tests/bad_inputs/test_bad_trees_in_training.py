"""Trees that do not fit what trains, measures, saves and looks at them: refused by the function's name, never by JAX.

What one function alone asks of its arguments is tested beside it; here is what all of them get.
"""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxopt_lessons as jl
from bad_inputs import bad_input
from jaxopt_lessons import losses, projections


def loss_fn(params, batch):
    x, y = batch
    return jnp.sum((x @ params["w"] + params["b"] - y) ** 2, axis=-1)


PARAMS = {"w": jnp.ones((3, 2)), "b": jnp.zeros((1, 2))}
X, Y = jnp.ones((8, 3)), jnp.ones((8, 2))
DATA = (X, Y)
TX = jl.adam(0.1)
STEP = jl.make_step(loss_fn, TX)
STATE = jl.init_state(PARAMS, STEP)
BATCHES = jl.minibatches(DATA, 4)


def refused(function, *words: str, kind=(TypeError, ValueError)) -> str:
    """The message of the call; it says all of the words, and does not come out of JAX or NumPy."""
    with pytest.raises(kind) as error:
        function()
    message = str(error.value)
    for word in words:
        assert word in message, message
    return message


# -- data -------------------------------------------------------------------------------------------------------------

NOT_DATA = {
    "other lengths": ((X, Y[:4]), "must have equal lengths; got 8 at '0', 4 at '1'"),
    "a number": ((X, jnp.float32(1)), "the leaf at '1' is a single number"),
    "a Python number": ((X, 1.0), "the leaf at '1' is 1.0 of type float, not an array"),
    "numbers": ([1.0, 2.0], "the leaf at '0' is 1.0 of type float, not an array"),
    "None": (None, "there are no arrays in it"),
    "empty": ((), "there are no arrays in it"),
    "no examples": ((X[:0], Y[:0]), "there are no examples in it"),
    "text": (("ab", X), "the leaf at '0' is 'ab' of type str, not an array"),
    "objects": ((X, np.array([None] * 8)), "the leaf at '1' is object[8], not an array of numbers"),
}
TAKES_DATA = {
    "minibatches": lambda data: jl.minibatches(data, 4),
    "fit": lambda data: jl.fit(STEP, STATE, data, epochs=1, progress=False),
    "fit val": lambda data: jl.fit(STEP, STATE, DATA, epochs=1, val=data, progress=False),
    "evaluate": lambda data: jl.evaluate(loss_fn, PARAMS, data),
}


@bad_input(18, 28, 29)
@pytest.mark.parametrize("function", TAKES_DATA)
@pytest.mark.parametrize("wrong", NOT_DATA)
def test_what_is_no_data_is_named(function, wrong):
    if (function, wrong) == ("fit val", "None"):
        pytest.skip("None is no validation data")
    data, message = NOT_DATA[wrong]
    assert re.match(r"(data|val)\b", refused(lambda: TAKES_DATA[function](data), message))


@bad_input(19)
def test_none_and_lists_in_data_are_structure():
    with_none = jl.minibatches((X, None, [Y]), 4)
    batch, _ = with_none.load(with_none.locate(None, jnp.int32(0)))
    assert batch[1] is None
    assert batch[2][0].shape == (4, 2)
    assert float(jl.evaluate(loss_fn, PARAMS, [X, Y])["loss"]) == float(jl.evaluate(loss_fn, PARAMS, DATA)["loss"])


@pytest.mark.parametrize("remainder", ["keep", "drop", "pad", "wrap"])
@pytest.mark.parametrize("batch_size", [8, 4, 3])
@pytest.mark.parametrize("shuffle", [True, False])
def test_data_on_an_explicit_axis_is_read_as_any(remainder, batch_size, shuffle):
    """A batch that can be cut lies as the data does; another one is whole on each device."""
    mesh = jax.make_mesh((4,), ("data",), devices=jax.devices()[:4], axis_types=(AxisType.Explicit,))
    here = jnp.arange(32.0).reshape(16, 2)
    there = jax.device_put(here, NamedSharding(mesh, P("data")))
    plans = [jl.minibatches(x, batch_size, shuffle=shuffle, remainder=remainder) for x in (here, there)]
    if not shuffle and batch_size == 3:
        shuffle_only = "a slice of consecutive rows that cannot be cut"
        pytest.skip(shuffle_only) if remainder in ("keep", "drop") else None
    for cursor in range(2):
        (expected, mask), (got, got_mask) = (
            plan.load(plan.locate(plan.order(jax.random.key(1)), jnp.int32(cursor))) for plan in plans
        )
        np.testing.assert_array_equal(got, expected)
        assert (mask is None) == (got_mask is None)
        assert got.sharding.spec[0] == ("data" if batch_size % 4 == 0 else None)


def test_fit_on_an_explicit_axis():
    mesh = jax.make_mesh((4,), ("data",), devices=jax.devices()[:4], axis_types=(AxisType.Explicit,))
    there = jax.device_put(DATA, NamedSharding(mesh, P("data")))
    expected = jl.fit(STEP, STATE, DATA, epochs=2, batch_size=4, progress=False).state.params
    with jax.set_mesh(mesh):
        got = jl.fit(STEP, STATE, there, epochs=2, batch_size=4, progress=False).state.params
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


# -- parameters and states --------------------------------------------------------------------------------------------

NOT_PARAMS = {
    "integers": ({"w": jnp.arange(3)}, "the parameter at 'w' is int32[3], which has no gradient"),
    "a whole number": ({"w": [1]}, "the parameter at 'w/0' is int32[], which has no gradient"),
    "bools": ({"w": jnp.ones(2, bool)}, "the parameter at 'w' is bool[2]"),
    "a key": ({"w": jax.random.key(0)}, "the parameter at 'w' is key<fry>[]"),
    "a shape": ({"w": jax.ShapeDtypeStruct((2,), jnp.float32)}, "the leaf at 'w' is float32[2], not an array"),
    "a function": ({"net": {"f": jax.nn.relu}}, "the leaf at 'net/f' is "),
    "text": ({"w": "a"}, "the leaf at 'w' is 'a' of type str, not an array"),
    "objects": ({"w": np.array([None])}, "the leaf at 'w' is object[1], not an array"),
    "strings": ({"w": np.array(["a"])}, "the leaf at 'w' is <U1[1], not an array"),
    "float0": ({"w": np.zeros(2, jax.dtypes.float0)}, "the leaf at 'w' is float0[2], not an array"),
    "a module": (eqx.nn.MLP(2, 1, 2, 1, key=jax.random.key(0)), "the leaf at 'activation' is "),
}


@bad_input(24, 25, 33, 34)
@pytest.mark.parametrize("wrong", NOT_PARAMS)
def test_what_is_no_parameter_is_named(wrong):
    params, message = NOT_PARAMS[wrong]
    assert refused(lambda: jl.init_state(params, STEP), message).startswith("init_state: ")


@bad_input(18, 19)
@pytest.mark.parametrize("params", [{}, [], (), None, {"a": None, "b": []}], ids=str)
def test_nothing_to_train_is_trained(params):
    step = jl.make_step(lambda params, x: jnp.sum(x) * 1.0, jl.adamw(0.1), metrics=["gradient_norm", "update_ratio"])
    state, metrics = step(jl.init_state(params, step), X)
    assert state.params == params
    assert float(metrics["gradient_norm"]) == 0
    assert float(metrics["update_ratio"]) == 0


@bad_input(26, 27)
@pytest.mark.parametrize("leaf", [0.5, np.float32(0.5), np.asarray(0.5), np.float64(0.5)], ids=lambda x: repr(x))
def test_numbers_are_converted_once(leaf):
    traces = []

    def loss(params, x):
        traces.append(params)
        return jnp.mean((params["w"] - x) ** 2)

    step = jl.make_step(loss, TX)
    compiled, state = jax.jit(step), jl.init_state({"w": leaf}, step)
    for _ in range(3):
        state, _ = compiled(state, X)
    assert len(traces) == 1
    assert not state.params["w"].weak_type


@bad_input(32)
@pytest.mark.parametrize("unroll", ["step", "fit"])
def test_tied_leaves_are_trained_as_two_and_the_callers_stay(unroll):
    tied = jnp.ones(3)
    params = {"a": tied, "b": [tied]}
    step = jl.make_step(lambda p, x: jnp.sum(p["a"] * 2 + p["b"][0]) + 0 * jnp.sum(x), jl.sgd(1.0))
    state = jl.init_state(params, step)
    if unroll == "step":
        state, _ = step(state, X)
    else:
        state = jl.fit(step, state, X, steps=1, progress=False).state
    np.testing.assert_array_equal(state.params["a"], np.full(3, -1))
    np.testing.assert_array_equal(state.params["b"][0], np.zeros(3))
    np.testing.assert_array_equal(tied, np.ones(3))


NOT_STATES = {"dict": PARAMS, "None": None, "state of the optimizer": TX.init(PARAMS), "tuple": tuple(STATE)}
TAKES_STATE = {
    "make_step": lambda state: STEP(state, DATA),
    "make_scan": lambda state: jl.make_scan(STEP, 2)(state, BATCHES),
    "fit": lambda state: jl.fit(STEP, state, DATA, epochs=1, progress=False),
    "lr_find": lambda state: jl.lr_find(STEP, state, BATCHES, steps=10),
}


@bad_input(37)
@pytest.mark.parametrize("name", TAKES_STATE)
@pytest.mark.parametrize("wrong", NOT_STATES)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_what_is_no_state_is_named(name, wrong, compiled):
    if compiled and name in ("fit", "lr_find"):
        pytest.skip("it returns numbers on the host")
    call = TAKES_STATE[name]
    run = (lambda: jax.eval_shape(call, NOT_STATES[wrong])) if compiled else (lambda: call(NOT_STATES[wrong]))
    message = refused(run, "state must be made by init_state(params, step); got ", kind=TypeError)
    assert message.startswith(f"{name}: ")


OTHER_STATES = {
    "sgd": (jl.sgd(0.1, momentum=0.9), "expected the state ScaleByAdamState that init returned, got TraceState"),
    "lion": (jl.lion(0.1), "expected a tuple of 2 states, one for each of scale_by_adam, scale_by_learning_rate"),
    "chain": (jl.chain(jl.clip(1.0), TX), "expected the state ScaleByAdamState that init returned, got EmptyState"),
    "three stages": (jl.adamw(0.1), "expected a tuple of 2 states"),
}


@bad_input(37)
@pytest.mark.parametrize("name", TAKES_STATE)
@pytest.mark.parametrize("wrong", OTHER_STATES)
def test_the_state_of_another_optimizer_is_named(name, wrong):
    other, message = OTHER_STATES[wrong]
    refused(lambda: TAKES_STATE[name](jl.init_state(PARAMS, other)), message, kind=jl.InputError)


READS_STATE = {
    "hyperparams": jl.hyperparams,
    "state_dict": jl.state_dict,
    "eval_params": lambda tx, state: jl.eval_params(tx, state, PARAMS),
}
SCHEDULED = jl.ema_params(jl.adam(jl.linear_schedule(0.1, 0.0, 5), b1=jl.linear_schedule(0.9, 0.5, 5)))


@bad_input(37)
@pytest.mark.parametrize("name", READS_STATE)
@pytest.mark.parametrize("state", [None, {}, TX.init(PARAMS), STATE, jl.sgd(0.1, 0.9).init(PARAMS)], ids=range(5))
def test_what_is_read_from_another_state_is_refused(name, state):
    if name == "hyperparams" and state is None:
        pytest.skip("None is a state that tells nothing")
    refused(lambda: READS_STATE[name](SCHEDULED, state), "expected the state AverageParamsState", kind=jl.InputError)


@bad_input(37)
def test_a_schedule_of_a_state_without_a_count_is_named():
    tx = jl.adam(0.1, b1=jl.linear_schedule(0.9, 0.5, 5))
    refused(lambda: jl.hyperparams(tx, jl.sgd(0.1, 0.9).init(PARAMS)), "TraceState, has no count", kind=jl.InputError)


KEYS = {"None": None, "float": 1.0, "text": "a", "bool": True, "two keys": jax.random.split(jax.random.key(0))}


@pytest.mark.parametrize("wrong", KEYS)
def test_what_is_no_key_is_named(wrong):
    message = refused(lambda: jl.init_state(PARAMS, STEP, key=KEYS[wrong]), "key must be a whole number or a key made")
    assert message.startswith("init_state: ")


@pytest.mark.parametrize("wrong", [None, DATA, [1.0], X], ids=["None", "tuple", "list", "array"])
@pytest.mark.parametrize("name", ["make_scan", "lr_find"])
def test_what_are_no_batches_is_named(name, wrong):
    calls = {
        "make_scan": lambda: jl.make_scan(STEP, 2)(STATE, wrong),
        "lr_find": lambda: jl.lr_find(STEP, STATE, wrong, steps=10),
    }
    refused(calls[name], f"{name}: batches must be made by minibatches; got ", kind=TypeError)


# -- losses of a training -----------------------------------------------------------------------------------------

NOT_LOSSES = {
    "None": (None, "the loss must be a number or an array; got one NoneType"),
    "text": ("a", "the loss must be a number or an array; got one str"),
    "a dict": ({"loss": 1.0}, "the loss must be a number or an array; got one dict"),
    "a key": (jax.random.key(0), "the loss must be a number or an array; got one "),
    "of another length": (jnp.ones(3), "one number per example (shape (8,))"),
    "a matrix": (jnp.ones((8, 2)), "one number per example (shape (8,))"),
    "a pair": ((jnp.float32(1), 1), "a loss function returns a loss, or (loss, dict of metrics)"),
    "complex": (jnp.complex64(1), "the loss must be real; got complex64[]"),
    "metric None": ((jnp.float32(1), {"a": None}), "the metric 'a' must be a number or an array; got one NoneType"),
    "metric key": ((jnp.float32(1), {"a": jax.random.key(0)}), "the metric 'a' must be a number or an array"),
    "metric vector": ((jnp.float32(1), {"a": jnp.ones(3)}), "the metric 'a' must be a scalar, one number per example"),
}


@pytest.mark.parametrize("wrong", NOT_LOSSES)
@pytest.mark.parametrize("name", ["make_step", "evaluate"])
def test_what_is_no_loss_is_named(name, wrong):
    value, message = NOT_LOSSES[wrong]
    step = jl.make_step(lambda params, batch: value, TX)
    calls = {
        "make_step": lambda: step(STATE, DATA),
        "evaluate": lambda: jl.evaluate(lambda params, batch: value, PARAMS, DATA),
    }
    refused(calls[name], message, kind=jl.InputError)


# -- functions of trees -----------------------------------------------------------------------------------------------

WRONG_UPDATES = {
    "None": (None, "updates has nothing at 'b', 'w', where params has float32[1,2]"),
    "a list": ([PARAMS["b"], PARAMS["w"]], "At the top updates has a list and params has a dict"),
    "a leaf less": ({"w": PARAMS["w"]}, "updates has nothing at 'b', where params has float32[1,2]"),
    "a leaf more": ({**PARAMS, "c": X}, "updates has float32[8,3] at 'c', where params has nothing"),
    "broadcastable": ({**PARAMS, "w": jnp.ones((1, 2))}, "at 'w' updates has float32[1,2] and params has float32[3,2]"),
    "integers": ({**PARAMS, "w": jnp.ones((3, 2), int)}, "at 'w' the gradient is int32[3,2]"),
    "float0": ({**PARAMS, "w": np.zeros((3, 2), jax.dtypes.float0)}, "at 'w' the gradient is float0[3,2]"),
    "complex": (
        {**PARAMS, "w": jnp.ones((3, 2), jnp.complex64)},
        "at 'w' the gradient is complex64[3,2] and the parameter float32",
    ),
    "a function": ({**PARAMS, "w": jax.nn.relu}, "at 'w' the gradient is "),
}
TAKES_UPDATES = {
    "apply_updates": lambda updates: jl.apply_updates(PARAMS, updates),
    "tree.cast_like": lambda updates: jl.tree.cast_like(updates, PARAMS),
    "tree.check_updates": lambda updates: jl.tree.check_updates(updates, PARAMS),
}


@bad_input(20, 21, 22, 23, 24)
@pytest.mark.parametrize("name", TAKES_UPDATES)
@pytest.mark.parametrize("wrong", WRONG_UPDATES)
def test_wrong_updates_are_named(name, wrong):
    updates, message = WRONG_UPDATES[wrong]
    said = refused(lambda: TAKES_UPDATES[name](updates), message, kind=jl.InputError)
    assert name.startswith("tree.") or said.startswith("apply_updates: ")


# -- checkpoints ------------------------------------------------------------------------------------------------------

OTHER_TREES = {
    "parameters": PARAMS,
    "a leaf less": STATE._replace(params={"w": PARAMS["w"]}),
    "a leaf more": STATE._replace(params={**PARAMS, "c": X}),
    "broadcastable": STATE._replace(params={**PARAMS, "w": jnp.ones((1, 2))}),
    "other dtype": STATE._replace(params=jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)),
    "list": STATE._replace(params=[PARAMS["b"], PARAMS["w"]]),
    "other optimizer": jl.init_state(PARAMS, jl.sgd(0.1, 0.9)),
    "tuple": tuple(STATE),
    "None": None,
}


@bad_input(21, 22, 23, 37)
@pytest.mark.parametrize("wrong", OTHER_TREES)
def test_a_checkpoint_of_another_tree_is_refused(wrong, tmp_path):
    jl.save(tmp_path, STATE, step=1)
    message = refused(lambda: jl.restore(tmp_path, OTHER_TREES[wrong]), "does not fit the tree", kind=jl.InputError)
    assert message.startswith("restore: ")


@bad_input(18, 28, 29, 34)
@pytest.mark.parametrize("tree", [{}, [], None, {"a": None}, jnp.ones((0, 3)), jnp.float32(2)], ids=str)
def test_trees_of_nothing_are_saved_and_restored(tree, tmp_path):
    jl.save(tmp_path, tree, step=1)
    restored = jl.restore(tmp_path, tree)
    assert jax.tree.structure(restored) == jax.tree.structure(tree)
    jax.tree.map(np.testing.assert_array_equal, restored, tree)


# -- losses and projections -------------------------------------------------------------------------------------------


@bad_input(23)
@pytest.mark.parametrize("name", ["squared_error", "l2_loss", "huber_loss", "log_cosh", "softmax_cross_entropy"])
@pytest.mark.parametrize("wrong", [None, "a", {"a": 1.0}, jnp.ones((1, 2)), jnp.ones(2), jnp.complex64(1)], ids=str)
def test_losses_of_other_shapes_are_refused_by_name(name, wrong):
    assert refused(lambda: getattr(losses, name)(wrong, jnp.ones((3, 2)))).startswith(f"{name}: ")


@bad_input(18, 19, 25)
@pytest.mark.parametrize("name", ["projection_non_negative", "projection_simplex", "projection_l2_ball"])
@pytest.mark.parametrize("tree", [{}, None, {"a": None, "n": jnp.arange(3)}], ids=str)
def test_projections_leave_what_is_not_trained(name, tree):
    projected = getattr(projections, name)(tree)
    assert jax.tree.structure(projected) == jax.tree.structure(tree)
    jax.tree.map(np.testing.assert_array_equal, projected, tree)
