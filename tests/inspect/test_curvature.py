"""``inspect.curvature`` against dense Hessians in float64, and what it takes and refuses."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import bad_input
from training_problems import backend_compiles, example_loss, network, regression, scalar_loss, weighted_loss

import jaxopt_lessons as jl
from jaxopt_lessons.inspect import Curvature, curvature
from jaxopt_lessons.inspect.curvature import _program, _share_below
from jaxopt_lessons.inspect.mean_loss import planned_loss
from jaxopt_lessons.inspect.vectors import as_tree, as_vector
from jaxopt_lessons.train import compilation

N = 23
DATA = regression(N)
PARAMS = jax.tree.map(jnp.asarray, network())
LANCZOS = {"steps": 6, "probes": 3}
"""Fewer products than the network's 25 parameters."""


def dense(loss, params):
    """The eigenvalues and eigenvectors of the Hessian, and the gradient, in float64."""
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(np.asarray(x, np.float64)), params)

        def flat(vector):
            return loss(as_tree(vector, wide))

        vector = as_vector(wide)
        return *map(np.asarray, np.linalg.eigh(jax.hessian(flat)(vector))), np.asarray(jax.grad(flat)(vector))


def network_eigenvalues():
    data = [np.asarray(part, np.float64) for part in DATA]
    return dense(lambda params: scalar_loss(params, data), PARAMS)


def diagonal_loss(values):
    values = jnp.asarray(values, jnp.float32)
    return lambda params, _: jnp.sum(values * params**2) / 2


# ---------------------------------------------------------------------------------------------------------------------
# Exactly: up to steps * probes parameters
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss_fn", [example_loss, scalar_loss, weighted_loss])
@pytest.mark.parametrize("batch_size", [None, 4, 100])
def test_all_eigenvalues_of_a_small_network(loss_fn, batch_size):
    exact, _, gradient = network_eigenvalues()
    found = curvature(loss_fn, PARAMS, DATA, batch_size=batch_size)
    assert found.exact
    largest = np.max(np.abs(exact))
    np.testing.assert_allclose(found.eigenvalues, exact, atol=1e-6 * largest)
    np.testing.assert_array_equal(found.weights, 1 / len(exact))
    assert found.sharpness == found.eigenvalues[-1]
    assert found.smallest == found.eigenvalues[0]
    assert found.sharpness_error < 2e-6 * largest
    assert found.smallest_error < 2e-6 * largest
    assert found.trace == pytest.approx(np.sum(exact), rel=1e-5)
    assert found.loss == pytest.approx(jl.evaluate(example_loss, PARAMS, DATA)["loss"])
    assert found.gradient_norm == pytest.approx(np.linalg.norm(gradient), rel=1e-5)
    assert found.trace_error == found.negative_share_error == 0
    assert 0 < found.negative_share == np.mean(exact < -found.tolerance) < 1


def test_in_float64():
    with jax.enable_x64(True):
        params, data = (jax.tree.map(lambda x: np.asarray(x, np.float64), tree) for tree in (PARAMS, DATA))
        found = curvature(example_loss, params, data, batch_size=5)
        assert found.top["w1"].dtype == np.float64
    exact, vectors, _ = network_eigenvalues()
    np.testing.assert_allclose(found.eigenvalues, exact, atol=1e-14 * np.max(exact))
    assert found.sharpness_error < 1e-13
    assert found.tolerance < 1e-12
    for tree, column in ((found.top, -1), (found.bottom, 0)):
        flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
        assert abs(flat @ vectors[:, column]) == pytest.approx(1, abs=1e-12)


@bad_input(47)
def test_a_saddle_point():
    found = curvature(lambda p, _: p["x"] ** 2 - 3 * p["y"] ** 2, {"x": 0.0, "y": 0.0, "none": None})
    assert (found.sharpness, found.smallest, found.trace) == (2, -6, -4)
    assert (found.negative_share, found.negative_share_error, found.gradient_norm, found.loss) == (0.5, 0, 0, 0)
    assert jax.tree.map(abs, found.bottom) == {"x": 0, "y": 1, "none": None}
    assert jax.tree.map(abs, found.top) == {"x": 1, "y": 0, "none": None}


def test_one_parameter():
    found = curvature(lambda p, _: jnp.cos(p), 0.0)
    assert found.eigenvalues.tolist() == [-1]
    assert (found.sharpness, found.smallest, found.negative_share) == (-1, -1, 1)


@bad_input(47)
def test_repeated_eigenvalues_are_counted():
    values = [-1.0] * 3 + [0.0] * 20 + [2.0] * 4
    found = curvature(diagonal_loss(values), jnp.ones(27))
    np.testing.assert_allclose(found.eigenvalues, values)
    assert found.negative_share == 3 / 27


def test_what_rounding_makes_of_0_is_not_negative():
    """The Hessian has rank 3 of 12; its other eigenvalues come out as small numbers of either sign."""
    rows = jnp.asarray(np.random.default_rng(0).standard_normal((3, 12)), jnp.float32)
    found = curvature(lambda p, batch: (batch @ p) ** 2, jnp.ones(12), rows)
    assert np.sum(found.eigenvalues < 0) > 0
    assert found.negative_share == 0
    assert found.tolerance == pytest.approx(10 * np.finfo(np.float32).eps * math.sqrt(12) * found.sharpness)


def test_the_tolerance_can_be_given():
    loss = diagonal_loss([-3.0, -1.0, -0.5, 4.0])
    for tolerance, share in ((0, 0.75), (0.5, 0.5), (0.7, 0.5), (2, 0.25), (3, 0)):
        found = curvature(loss, jnp.ones(4), tolerance=tolerance)
        assert (found.tolerance, found.negative_share) == (tolerance, share)


@bad_input(47)
@pytest.mark.parametrize("size", [1, 5, 400])
def test_a_plateau(size):
    found = curvature(lambda p, _: 0 * jnp.sum(p), jnp.ones(size))
    assert found.exact == (size < 400)
    numbers = (found.sharpness, found.smallest, found.negative_share, found.trace, found.tolerance)
    assert numbers == (0, 0, 0, 0, 0)
    np.testing.assert_array_equal(found.eigenvalues, 0)


# ---------------------------------------------------------------------------------------------------------------------
# By Lanczos: more parameters
# ---------------------------------------------------------------------------------------------------------------------


def digits():
    """A network 64-4-10 on real data, 310 parameters, after some steps of gradient descent from random weights."""
    images, labels = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    data = (images[:200].astype(np.float32) / 16, labels[:200].astype(np.int32))
    rng = np.random.default_rng(0)
    params = {
        "w1": rng.standard_normal((64, 4)) / 8,
        "b1": np.zeros(4),
        "w2": rng.standard_normal((4, 10)) / 2,
        "b2": np.zeros(10),
    }
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    step = jax.jit(lambda p: jax.tree.map(lambda w, g: w - 0.5 * g, p, jax.grad(digit_loss)(p, data)))
    for _ in range(20):
        params = step(params)
    return params, data


def digit_losses(params, batch):
    images, labels = batch
    hidden = jnp.tanh(images.astype(params["w1"].dtype) @ params["w1"] + params["b1"][None])
    logits = hidden @ params["w2"] + params["b2"][None]
    return jl.losses.softmax_cross_entropy_with_integer_labels(logits, labels)


def digit_loss(params, batch):
    return jnp.mean(digit_losses(params, batch))


def test_a_network_on_digits():
    params, data = digits()
    exact, vectors, _ = dense(lambda p: digit_loss(p, data), params)
    found = curvature(digit_losses, params, data, batch_size=64, steps=30, probes=8)
    assert not found.exact
    assert found.eigenvalues.shape == found.weights.shape == (240,)
    assert np.all(np.diff(found.eigenvalues) >= 0)
    assert np.sum(found.weights) == pytest.approx(1)
    assert found.sharpness == pytest.approx(exact[-1], rel=1e-5)
    assert found.smallest == pytest.approx(exact[0], rel=1e-3)
    assert found.smallest < 0
    for value, error, true in (
        (found.sharpness, found.sharpness_error, exact[-1]),
        (found.smallest, found.smallest_error, exact[0]),
    ):
        assert abs(value - true) <= error < 0.05 * exact[-1]
    top = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(found.top)])
    assert abs(top @ vectors[:, -1]) == pytest.approx(1, abs=1e-4)
    assert abs(found.trace - np.sum(exact)) < 3 * found.trace_error
    assert found.trace_error < 0.2 * np.sum(exact)
    everything = curvature(digit_losses, params, data, steps=155, probes=2)
    assert everything.exact
    np.testing.assert_allclose(everything.eigenvalues, exact, atol=2e-6 * exact[-1])


def test_shares_of_a_wide_spectrum():
    """Eigenvalues from -1 to 3 in equal distances: a quarter are negative, the sum is 600."""
    found = curvature(diagonal_loss(np.linspace(-1, 3, 600)), jnp.ones(600), steps=30, probes=12)
    assert abs(found.negative_share - 0.25) < 3 * found.negative_share_error
    assert abs(found.negative_share - 0.25) < 0.03
    assert 0.02 < found.negative_share_error < 0.07
    assert abs(found.trace - 600) < 3 * found.trace_error
    # Of random directions, Var(n q.H q) = 2 n / (n + 2) * sum (lambda - mean)^2.
    expected = math.sqrt(2 * np.sum((np.linspace(-1, 3, 600) - 1) ** 2) / 12)
    assert found.trace_error == pytest.approx(expected, rel=0.5)
    assert np.sum(found.weights[found.eigenvalues < 1]) == pytest.approx(0.5, abs=0.03)
    assert -1 <= found.smallest < -0.99
    assert 2.99 < found.sharpness <= 3


def test_a_function_of_many_variables_with_both_signs():
    rng = np.random.default_rng(2)
    mixing, at = rng.standard_normal((400, 400)) / 20, rng.standard_normal(400)
    exact, _, _ = dense(lambda p: jnp.sum(jnp.sin(jnp.asarray(mixing, p.dtype) @ p)), at)
    loss = lambda p, _: jnp.sum(jnp.sin(jnp.asarray(mixing, jnp.float32) @ p))
    found = curvature(loss, jnp.asarray(at, jnp.float32), steps=60, probes=6)
    for value, error, true in (
        (found.sharpness, found.sharpness_error, exact[-1]),
        (found.smallest, found.smallest_error, exact[0]),
    ):
        assert value == pytest.approx(true, rel=2e-3)
        assert abs(value - true) <= error + 1e-6 * exact[-1]
    assert abs(found.negative_share - np.mean(exact < 0)) < 0.03
    assert 0.03 < found.negative_share_error < 0.2  # A node has a tenth of the weight.


def test_a_cluster_at_0_may_be_undecided_and_the_error_says_so():
    values = np.concatenate([np.zeros(300), np.linspace(-1, 2, 200), [50.0]])
    for steps in (20, 40):
        found = curvature(diagonal_loss(values), jnp.ones(501), steps=steps, probes=6)
        assert abs(found.negative_share - np.mean(values < 0)) < found.negative_share_error < 0.7


def test_shares_of_nodes():
    nodes, weights = np.array([[-1.0, 0.5, 2.0]]), np.array([[0.25, 0.5, 0.25]])
    converged, loose = np.zeros((1, 3)), np.full((1, 3), 9.0)
    for x, below in ((-2, 0), (-1, 0), (-0.9, 0.25), (0.5, 0.25), (1, 0.75), (3, 1)):
        share, error = _share_below(x, nodes, weights, converged)
        assert (share, error) == (below, 0), x
    # Loose nodes: linear in between, half of a weight below its node; off by at most the two weights around x.
    for x, below, off in ((-0.25, 0.125 + 0.25 * 0.5 + 0.125 * 0.5, 0.4375), (1.25, 0.5 + 0.125 + 0.0625, 0.4375)):
        share, error = _share_below(x, nodes, weights, loose)
        assert (share, error) == (pytest.approx(below), pytest.approx(off)), x
    # A residual of a third of the gap spreads a ninth of the weight.
    share, error = _share_below(-0.5, nodes, weights, np.array([[0.0, 0.5, 0.0]]))
    assert share == pytest.approx(0.25 + 0.25 / 9 / 3)
    assert error == pytest.approx(share[0] - 0.25)
    share, error = _share_below(0.4, nodes, weights, np.array([[0.0, 0.5, 0.0]]))
    assert share == pytest.approx(0.25 + 0.25 / 9 * 1.4 / 1.5)
    assert error == pytest.approx(0.75 - share[0])


def test_one_eigenvalue_that_all_share():
    """Every start is an invariant subspace: one step says all, and no later one spoils it."""
    found = curvature(diagonal_loss(np.full(900, -2.0)), jnp.ones(900), steps=10, probes=3)
    assert found.sharpness == pytest.approx(-2)
    assert found.smallest == pytest.approx(-2)
    assert found.negative_share == pytest.approx(1)
    assert found.trace == pytest.approx(-1800)


@pytest.mark.parametrize("loss_fn", [example_loss, scalar_loss, weighted_loss])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_it_depends_neither_on_the_form_of_the_loss_nor_on_the_batch(loss_fn, batch_size):
    one = curvature(example_loss, PARAMS, DATA, **LANCZOS)
    other = curvature(loss_fn, PARAMS, DATA, batch_size=batch_size, **LANCZOS)
    assert not one.exact
    for name in ("sharpness", "smallest", "trace", "trace_error", "loss", "gradient_norm"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-4), name
    np.testing.assert_allclose(other.eigenvalues, one.eigenvalues, atol=1e-4 * one.sharpness)


def test_the_key_is_the_start():
    found = [curvature(example_loss, PARAMS, DATA, key=key, **LANCZOS) for key in (0, jax.random.key(0), 1)]
    np.testing.assert_array_equal(found[0].eigenvalues, found[1].eigenvalues)
    assert np.max(np.abs(found[0].eigenvalues - found[2].eigenvalues)) > 1e-3
    exact = curvature(example_loss, PARAMS, DATA, key=1)
    assert exact.eigenvalues.tolist() == curvature(example_loss, PARAMS, DATA).eigenvalues.tolist()


# ---------------------------------------------------------------------------------------------------------------------
# What it takes
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, LANCZOS])
def test_one_program_for_all_parameters(options):
    def loss(params, batch):
        return example_loss(params, batch)

    with compilation.count() as compiled:
        first = curvature(loss, PARAMS, DATA, batch_size=4, **options)
    assert compiled == ["hessian_vector_product"]
    twice = jax.tree.map(lambda x: 2 * x, PARAMS)
    with compilation.count() as compiled, backend_compiles() as programs:
        other = curvature(loss, twice, regression(N, seed=5), batch_size=4, **options)
    assert compiled == []
    assert programs == []
    assert first.sharpness != other.sharpness


def test_metrics_and_a_key_that_is_none():
    given = []

    def loss(params, batch, key):
        given.append(key)
        return example_loss(params, batch), {"error": jnp.float32(1)}

    assert curvature(loss, PARAMS, DATA).sharpness == curvature(example_loss, PARAMS, DATA).sharpness
    assert set(given) == {None}


def test_weights_are_added_up_before_the_division():
    """The mean over tokens, of which later examples have more: batches must not count alike."""
    weights = np.arange(1, 8, dtype=np.float32)

    def loss(params, batch):
        return jl.Weighted(jnp.sum(batch**2 * params**2) / 2, jnp.sum(batch))

    for batch_size in (None, 3):
        found = curvature(loss, jnp.float32(1), weights, batch_size=batch_size)
        assert found.sharpness == pytest.approx(np.sum(weights**2) / np.sum(weights))


def test_a_model_state():
    def loss(params, model_state, batch):
        return example_loss(params, batch) * model_state["scale"], {"scale": model_state["scale"] + 1}

    found = curvature(loss, PARAMS, DATA, batch_size=4, model_state={"scale": jnp.float32(3)})
    assert found.sharpness == pytest.approx(3 * curvature(example_loss, PARAMS, DATA).sharpness, rel=1e-5)
    with pytest.raises(ValueError, match="curvature: loss_fn takes a model_state"):
        curvature(loss, PARAMS, DATA)


def test_a_policy():
    seen = []

    def loss(params, batch):
        seen.append(params["w1"].dtype)
        return example_loss(params, batch)

    found = curvature(loss, PARAMS, DATA, policy="bfloat16")
    assert set(seen) == {np.dtype(jnp.bfloat16)}
    assert found.sharpness == pytest.approx(curvature(example_loss, PARAMS, DATA).sharpness, rel=0.05)


def test_parameters_in_half_precision_are_added_up_in_float32():
    """A thousand batches, each of which adds as much: a sum in bfloat16 stops at 256 of them."""
    params = jnp.ones(3, jnp.bfloat16)
    loss = lambda p, batch: batch * jnp.sum(p.astype(jnp.float32) ** 2)
    found = curvature(loss, params, np.ones(1000, np.float32), batch_size=1)
    np.testing.assert_allclose(found.eigenvalues, 2, rtol=0.01)
    assert found.top.dtype == jnp.bfloat16


def test_batches_are_kept_one_at_a_time():
    """The memory that the program asks for does not grow with the number of batches."""
    sizes = []
    for batches in (16, 128):
        data = (np.ones((16 * batches, 200), np.float32), np.ones(16 * batches, np.float32))

        def loss(params, batch):
            return (jnp.tanh(batch[0] @ params["w"]) @ params["v"] - batch[1]) ** 2

        params = {"w": jnp.ones((200, 300)), "v": jnp.ones(300)}
        measured, planned = planned_loss("test", loss, data, 16, None, None)
        program = (
            _program(measured.function, measured)
            ._jitted.lower(np.ones(60300, np.float32), params, planned, None)
            .compile()
        )
        sizes.append(program.memory_analysis().temp_size_in_bytes)
    assert sizes[1] < sizes[0] + 4 * 16 * 112 * 300  # A hidden layer of the batches that there are more.


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"a": {"b": jnp.ones(2, jnp.complex64)}}, "curvature: at 'a/b' the parameter is complex64[2]"),
        ({"a": jnp.ones(2), "n": jnp.arange(3)}, "curvature: at 'n' the parameter is int32[3]"),
        ({"a": "name"}, "curvature: at 'a' the parameter is 'name' of type str"),
        ({}, "curvature: there are no parameters in params"),
        ({"a": jnp.ones((0, 2))}, "curvature: there are no parameters in params"),
    ],
)
def test_parameters_are_checked(params, message):
    with pytest.raises(jl.InputError) as error:
        curvature(lambda p, _: jnp.float32(0), params)
    assert str(error.value).startswith(message)


@bad_input(47)
@pytest.mark.parametrize("size", [2, 400])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_an_error(bad, size):
    with pytest.raises(ValueError, match="curvature: .* derivatives are not all finite. The loss is (nan|inf)"):
        curvature(lambda p, _: jnp.sum(p**2) * bad, jnp.ones(size))


@bad_input(49)
@pytest.mark.parametrize("options", [{}, LANCZOS])
def test_a_network_whose_weights_are_nan_is_no_plateau(options):
    """The second derivatives of one of ReLU are 0 then."""
    loss = lambda p, batch: jnp.mean((jax.nn.relu(batch[0] @ p["w"]) @ p["v"] - 1) ** 2)
    params = {"w": jnp.full((DATA[0].shape[1], 8), np.nan), "v": jnp.full(8, np.nan)}
    with pytest.raises(ValueError, match="not all finite. The loss is nan, the length of its gradient nan"):
        curvature(loss, params, DATA, **options)
    with pytest.raises(ValueError, match="not all finite. The loss is nan, the length of its gradient 2"):
        curvature(lambda p, _: jnp.where(p > 0, jnp.nan, 0) + 2 * p, 1.0)


def test_arguments_are_checked():
    loss = lambda p, _: jnp.sum(p**2)
    for name in ("steps", "probes"):
        with pytest.raises(ValueError, match=f"curvature: {name} must be at least 2; got 1"):
            curvature(loss, jnp.ones(3), **{name: 1})
    with pytest.raises(ValueError, match="curvature: batch_size=4 without data to cut"):
        curvature(loss, jnp.ones(3), batch_size=4)
    with pytest.raises(ValueError, match="curvature: tolerance must be"):
        curvature(loss, jnp.ones(3), tolerance=-1.0)
    with pytest.raises(TypeError, match="curvature: key must be a seed"):
        curvature(loss, jnp.ones(3), key="a")
    with pytest.raises(jl.InputError, match="^curvature: the loss must be a scalar, one number per example"):
        curvature(lambda p, _: p, jnp.ones(3))
    for wrong, kind in ((None, "NoneType"), ("a", "str"), ({"loss": 1.0}, "dict")):
        with pytest.raises(jl.InputError, match=f"^curvature: the loss must be a number or an array; got one {kind}"):
            curvature(lambda p, _, wrong=wrong: wrong, jnp.ones(3))
    for wrong in (None, "a", jl.make_step(loss, jl.sgd(0.1))):
        with pytest.raises(TypeError, match=r"^curvature: loss_fn must be a function \(params, batch\) -> loss; got"):
            curvature(wrong, jnp.ones(3))
    with pytest.raises(TypeError, match="curvature: data must be arrays, all of which are measured"):
        curvature(loss, jnp.ones(3), jl.minibatches(DATA, 4))
    with pytest.raises(ValueError, match="curvature: batch_size must be at least 1; got 0"):
        curvature(loss, jnp.ones(3), DATA, batch_size=0)
    for transform in (jax.jit, jax.grad):
        with pytest.raises(TypeError, match="curvature: the results are numbers on the host"):
            transform(lambda p: curvature(loss, p).sharpness)(jnp.ones(3))
    with pytest.raises(TypeError, match="curvature: policy must be a Policy"):
        curvature(loss, jnp.ones(3), policy=3)


def test_it_is_one_readable_line():
    found = curvature(example_loss, PARAMS, DATA, **LANCZOS)
    assert isinstance(found, Curvature)
    text = repr(found)
    assert text.startswith(f"Curvature(sharpness={found.sharpness:.4g}, smallest={found.smallest:.4g}, negative=")
    assert f"{found.negative_share:.1%} +- {found.negative_share_error:.1%}" in text
    assert text.endswith("18 Ritz values)")
    assert len(text) < 140
    exact = repr(curvature(lambda w, batch: jnp.sum(w**2), jnp.ones(3)))
    assert exact == "Curvature(sharpness=2, smallest=2, negative=0.0%, trace=6, 3 eigenvalues)"


def test_plot():
    pytest.importorskip("matplotlib")
    found = curvature(diagonal_loss([-1.0, 0.0, 0.0, 3.0]), jnp.ones(4))
    (ax,) = found.plot(bins=4).axes
    assert [bar.get_height() for bar in ax.patches] == [0.25, 0.5, 0, 0.25]
    assert (ax.get_xlabel(), ax.get_yscale()) == ("eigenvalue of the Hessian", "log")
    assert found.plot(ax) is ax.figure


def test_the_way_down_from_a_saddle_point():
    """What the vectors are for: a small step along ``bottom`` lowers the loss as the eigenvalue says."""
    loss = lambda p, _: jnp.sum(p["a"] ** 2) - 0.5 * jnp.sum(p["b"] ** 2) + jnp.sum(p["a"] * p["b"])
    params = {"a": jnp.zeros(3), "b": jnp.zeros(3)}
    found = curvature(loss, params)
    moved = jax.tree.map(lambda p, d: p + 0.1 * d, params, found.bottom)
    assert float(loss(moved, None)) == pytest.approx(0.005 * found.smallest, rel=1e-4)
