"""``map_leaves`` and the other mathematics on trees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import bad_input

import jaxopt_lessons as jl
from jaxopt_lessons import tree

TRACES = []


def counting_rule(g, m, decay):
    TRACES.append(g.shape)
    m = decay * m + g
    return m, m


def test_a_rule_is_traced_once_for_each_shape_and_dtype():
    params = {f"a{i}": jnp.ones((2, 3)) for i in range(100)} | {f"b{i}": jnp.ones(5) for i in range(10)}
    params["half"] = jnp.ones(5, jnp.bfloat16)
    state = tree.zeros_like(params)
    TRACES.clear()
    update = lambda g, m, decay: tree.map_leaves(counting_rule, g, m, decay=decay)
    jax.jit(update)(params, state, 0.5)
    assert sorted(TRACES) == [(2, 3), (5,), (5,)]
    jax.jit(lambda g, m: update(g, m, 0.9))(params, state)  # another program, another number: nothing is traced again
    update(params, state, 0.7)
    assert len(TRACES) == 3


def test_many_equal_leaves_are_not_mixed_up():
    """More than 64 equal leaves go through in groups."""
    params = [jnp.full(2, float(i)) for i in range(131)]
    updates, state = tree.map_leaves(counting_rule, params, tree.zeros_like(params), decay=0.5)
    np.testing.assert_array_equal(jnp.stack(updates), np.arange(131.0)[:, None] * np.ones((1, 2)))
    assert len(state) == 131


def test_closures_are_rules_too_and_leak_nothing():
    @jax.jit
    def f(x, factor):
        return tree.map_leaves(lambda g: factor * g, x)

    with jax.checking_leaks():
        np.testing.assert_array_equal(f(jnp.ones(2), 3.0), [3.0, 3.0])
        np.testing.assert_array_equal(f(jnp.ones(2), 4.0), [4.0, 4.0])


def test_rules_calculate_in_float32_or_wider():
    seen = []

    def rule(g, p, number):
        seen.append((g.dtype, p.dtype, number.dtype))
        return g

    x = lambda dtype: jnp.ones(2, dtype)
    tree.map_leaves(rule, x(jnp.bfloat16), read=(x(jnp.float16),), number=1)
    tree.map_leaves(rule, x(jnp.float16), read=(x(jnp.float32),), number=np.float64(1))
    with jax.enable_x64(True):
        tree.map_leaves(rule, x(jnp.float32), read=(x(jnp.float64),), number=jnp.float32(1))
    assert seen == [(jnp.float32,) * 3, (jnp.float32,) * 3, (jnp.float64,) * 3]


def test_a_rule_that_changes_a_shape_is_refused():
    with pytest.raises(jl.InputError, match=r"at 'a' the rule .*<lambda>.* returned the update as float32\[\]"):
        tree.map_leaves(lambda g: jnp.sum(g), {"a": jnp.ones(2)})
    with pytest.raises(jl.InputError, match="returned state 1"):
        tree.map_leaves(lambda g, s: (g, g), jnp.ones(2), jnp.ones(()), states_have_shape=False)


def test_where_leaves_updates_and_states_alone():
    updates, state = tree.map_leaves(
        counting_rule, [jnp.ones(2), jnp.ones(2)], [jnp.ones(2), jnp.ones(2)], where=[True, False], decay=0.5
    )
    np.testing.assert_array_equal(updates, [[1.5, 1.5], [1.0, 1.0]])
    np.testing.assert_array_equal(state, [[1.5, 1.5], [1.0, 1.0]])


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (True, {"a": True, "b": [True, None]}),
        ({"a": True, "b": False}, {"a": True, "b": [False, None]}),
        ({"a": False, "b": [True, True]}, {"a": False, "b": [True, None]}),
        (lambda params: {"a": False, "b": True}, {"a": False, "b": [True, None]}),
        (lambda path, leaf: path == "b/0", {"a": False, "b": [True, None]}),
        (lambda path, leaf: leaf.ndim == 2, {"a": True, "b": [False, None]}),
    ],
)
def test_masks(mask, expected):
    assert tree.mask_leaves(mask, {"a": jnp.ones((2, 2)), "b": [jnp.ones(2), jnp.arange(3)]}) == expected


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"a": True}, "mask has nothing at 'b', where params has"),
        ({"a": True, "b": True, "c": True}, "mask has True of type bool at 'c'"),
        (lambda params: {"a": 1, "b": True}, "a mask has bools as leaves; got 1 of type int"),
        (lambda params: {"a": "yes", "b": True}, "a mask is a tree of bools or a function; got the string 'yes'"),
        ([True, True], "mask"),
    ],
)
def test_bad_masks(mask, message):
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    tx = jl.adamw(0.1, mask=mask)
    with pytest.raises(jl.InputError, match=f"adamw > add_decayed_weights: .*{message}"):
        tx.update(params, tx.init(params), params)


def test_labels():
    params = {"a": jnp.ones((2, 2)), "b": [jnp.ones(2), jnp.arange(3)], "c": None, "d": {}}
    expected = {"a": "x", "b": ["y", None], "c": None, "d": {}}
    for labels in (
        {"a": "x", "b": "y"},
        {"a": "x", "b": ("y", "y"), "c": "z", "d": "z"},
        lambda params: {"a": "x", "b": "y"},
        lambda path, leaf: "y" if path == "b/0" else "x",
    ):
        assert tree.label_leaves(labels, params) == expected
    assert tree.label_leaves(3, jnp.ones(2)) == 3
    for labels, message in (
        ({"a": "x"}, r"labels has nothing at 'b/0', where params has float32\[2\]"),
        ({"a": "x", "b": "y", "e": "z"}, "labels has 'z' of type str at 'e', where params has nothing"),
        (lambda path, leaf: None, "labels returned None for 'a'"),
    ):
        with pytest.raises(jl.InputError, match=message):
            tree.label_leaves(labels, params)


def test_pick_and_merge():
    params = {"a": jnp.ones(2), "b": [jnp.zeros(2), jnp.arange(3)]}
    where = tree.mask_leaves(lambda path, leaf: path == "b/0", params)
    part = tree.pick(params, where)
    assert part["a"] is None
    assert part["b"][1] is None
    merged = tree.merge(params, jax.tree.map(lambda x: x + 5, part))
    np.testing.assert_array_equal(merged["b"][0], [5.0, 5.0])
    assert merged["a"] is params["a"]


@pytest.mark.parametrize(
    ("leaves", "norm"),
    [
        ([], 0.0),
        ([np.zeros(3, np.float32)], 0.0),
        ([np.zeros((0, 3), np.float32)], 0.0),
        ([np.array([3.0, 4.0], np.float32), None, np.float32(12.0)], 13.0),
        ([np.array([3e30, 4e30], np.float32)], 5e30),
        ([np.array([3e-30, 4e-30], np.float32)], 5e-30),
        ([np.array([1e38, 0.0], np.float32)], 1e38),
        ([np.array([3e38], np.float32)], 3e38),
        ([np.array([300.0] * 4, np.float16)], 600.0),
        ([jnp.ones(1000, jnp.bfloat16)] * 400, 400000**0.5),
        ([np.array([3 + 4j], np.complex64)], 5.0),
        ([np.array([np.inf, 1.0], np.float32)], np.inf),
        ([np.array([np.nan, 1.0], np.float32)], np.nan),
        ([np.array([3.0], np.float32), np.arange(5)], 3.0),
    ],
)
def test_global_norm(leaves, norm):
    actual = jl.global_norm(leaves)
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, norm, rtol=1e-6)


def test_global_norm_has_a_derivative():
    np.testing.assert_allclose(jax.grad(jl.global_norm)(jnp.array([3.0, 4.0])), [0.6, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(jax.grad(jl.global_norm)(jnp.zeros(2)), [0.0, 0.0])


@pytest.mark.parametrize(
    ("max_norm", "gradient", "expected"),
    [
        (0.0, [0.0, 0.0], [0.0, 0.0]),
        (0.0, [3.0, 4.0], [0.0, 0.0]),
        (1.0, [3.0, 4.0], [0.6, 0.8]),
        (5.0, [3.0, 4.0], [3.0, 4.0]),
        (1.0, [3e30, 4e30], [0.6, 0.8]),
        (1.0, [1e38, 0.0], [1.0, 0.0]),
        (1e-8, [3e30, 4e30], [6e-9, 8e-9]),
        (1.0, [np.inf, 1.0], [np.inf, 1.0]),
        (1.0, [np.nan, 1.0], [np.nan, 1.0]),
    ],
)
def test_clip_by_global_norm_at_the_corners(max_norm, gradient, expected):
    tx = jl.clip_by_global_norm(max_norm)
    g = jnp.array(gradient)
    np.testing.assert_allclose(tx.update(g, tx.init(g))[0], expected, rtol=1e-6)


@bad_input(24, 54)
def test_complex_gradients_of_real_parameters_are_refused():
    with pytest.raises(jl.InputError, match=r"the gradient is complex64\[2\] and the parameter float32\[2\]"):
        jl.sgd(0.1).update(jnp.ones(2, jnp.complex64), jl.sgd(0.1).init(jnp.ones(2)), jnp.ones(2))


def test_numbers_in_a_model_that_have_no_gradient():
    """Equinox's dropout has a rate that is a Python float; its gradient is None."""
    params = {"w": jnp.ones(2), "rate": 0.5}
    grads = {"w": jnp.ones(2), "rate": None}
    tx = jl.adam(0.1)
    updates, _ = tx.update(grads, tx.init(grads), params)
    assert jl.apply_updates(params, updates)["rate"] == 0.5


def test_apply_updates():
    params = {"w": jnp.ones(2, jnp.bfloat16), "n": jnp.arange(2), "f": jax.nn.relu}
    updates = {"w": jnp.full(2, 0.5), "n": None, "f": None}
    new = jl.apply_updates(params, updates)
    assert new["w"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(new["w"].astype(jnp.float32), [1.5, 1.5])
    assert new["f"] is jax.nn.relu
    with pytest.raises(jl.InputError, match="apply_updates: updates and params differ in structure"):
        jl.apply_updates(params, {"w": None, "n": None, "f": None})
    with pytest.raises(jl.InputError, match="apply_updates: at 'w' updates has"):
        jl.apply_updates(params, {**updates, "w": jnp.ones(())})


@bad_input(26, 27)
def test_python_and_numpy_leaves():
    tx = jl.adam(0.1)
    params = {"python": 1.0, "numpy": np.ones(2, np.float64)}
    state = tx.init(params)
    updates, state = tx.update({"python": 2.0, "numpy": np.ones(2, np.float64)}, state, params)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(updates))
    np.testing.assert_allclose(updates["python"], -0.1, rtol=1e-6)
    assert jl.apply_updates(params, updates)["python"].weak_type is False


def test_limited_norms_can_be_squared():
    """Of the finite entries; the factor brings the updates to the norm that is returned."""
    tree = {"a": jnp.array([3e38, jnp.nan]), "b": jnp.array(-3e38), "n": jnp.arange(2)}
    norm, factor = jl.tree.limited_norm(tree)
    assert np.isfinite(norm**2)
    assert float(norm) == pytest.approx(1.8446727e19)
    np.testing.assert_allclose(factor * tree["a"][0], norm, rtol=0.3)
    small = {"a": jnp.array([3.0, jnp.inf]), "b": jnp.array(-4.0, jnp.bfloat16)}
    np.testing.assert_array_equal(jl.tree.limited_norm(small), [5.0, 1.0])
    assert jax.grad(lambda x: jl.tree.limited_norm(x)[0])(jnp.zeros(2)).tolist() == [0, 0]


def test_distance_from_a_start():
    params = {"w": jnp.array([1.0, 2.0], jnp.bfloat16), "n": jnp.arange(3)}
    start = jl.tree.copy_like(params)
    moved = {**params, "w": params["w"] + jnp.array([3.0, -4.0], jnp.bfloat16)}
    assert float(jl.tree.distance(params, start)) == 0
    assert float(jl.tree.distance(moved, start)) == 5


@bad_input(49)
def test_leaves_that_are_not_finite_are_named_with_how_many_entries():
    params = {
        "net": {"w": jnp.array([[1.0, jnp.nan], [-jnp.inf, jnp.inf]]), "b": jnp.zeros(3)},
        "half": [jnp.array([65504.0, jnp.nan], jnp.float16), jnp.arange(2), None, jax.random.key(0)],
        "complex": jnp.array([1.0, complex(0, np.inf)]),
        "none": jnp.zeros([0]),
    }
    assert jl.tree.not_finite(params) == {"complex": 1, "half/0": 1, "net/w": 3}
    assert jl.tree.not_finite({"w": 3.0}) == {} == jl.tree.not_finite(None)
    with pytest.raises(jl.InputError, match="not_finite: the tree is traced"):
        jax.jit(jl.tree.not_finite)(params["net"])


@bad_input(39, 41)
def test_dot_leaves_out_what_is_not_finite_and_does_not_overflow():
    x, y = jnp.array([1.0, jnp.nan, jnp.inf, 2.0]), jnp.array([3.0, 1.0, 1.0, 4.0])
    assert float(jl.numerics.dot(x, y)) == 11
    assert np.isfinite(jl.numerics.dot(jnp.array([3e38, 3e38, -3e38, -3e38]), jnp.ones(4)))
    assert np.isfinite(jl.numerics.dot(jnp.full(4, 1e30), jnp.full(4, 1e30)))
    assert float(jl.numerics.dot(jnp.zeros(0), jnp.zeros(0))) == 0


def test_states_with_and_without_the_shape_of_their_leaf():
    def rule(g, m, total, v):
        return g, m + g, total + jnp.sum(g), [v[0] + jnp.sum(g, 0), v[1]]

    g = {"a": jnp.ones((2, 3)), "z": jnp.full(4, 1 + 2j)}
    states = tree.zeros_like(g), {"a": jnp.zeros(()), "z": jnp.zeros(())}
    pair = {"a": [jnp.zeros(3), jnp.zeros(1)], "z": [jnp.zeros(2), jnp.zeros(1)]}  # a complex vector has rows of 2
    apply = lambda m, total, v, shape: tree.map_leaves(rule, g, m, total, v, states_have_shape=(True, shape, False))
    _, m, total, v = apply(*states, pair, lambda leaf: ())
    np.testing.assert_array_equal(m["z"], g["z"])
    assert {name: float(x) for name, x in total.items()} == {"a": 6, "z": 12}
    np.testing.assert_array_equal(v["a"][0], [2, 2, 2])
    np.testing.assert_array_equal(v["z"][0], [4, 8])
    with pytest.raises(jl.InputError, match=r"at 'a' updates has float32\[2,3\] and state has float32\[\]"):
        apply(states[1], states[1], pair, False)
    with pytest.raises(
        jl.InputError, match=r"at 'a' .* the state beside it float32\[\], which should have the shape \[2\]"
    ):
        apply(*states, pair, lambda leaf: leaf.shape[:1])


def test_reduced_like():
    params = {"a": jnp.ones((2, 3), jnp.bfloat16), "n": jnp.arange(3), "s": 1.0}
    rows = tree.reduced_like(params, lambda leaf: 1 if np.ndim(leaf) else None)
    assert {name: (x.shape, x.dtype) for name, x in rows.items() if x is not None} == {
        "a": ((2,), jnp.float32),
        "s": ((1,), jnp.float32),
    }
    assert rows["n"] is None
    both = tree.reduced_like(params["a"], lambda leaf: [0, 1, (), (0, 1)])
    assert [x.shape for x in both] == [(3,), (2,), (2, 3), ()]
    assert tree.reduced_like(params["a"], lambda leaf: 1, keepdims=True).shape == (2, 1)
