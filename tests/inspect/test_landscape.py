"""The loss on planes: every number against the loss itself, directions against NumPy, points against their formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import bad_input
from training_problems import (
    assert_near,
    assert_same,
    backend_compiles,
    distance,
    example_loss,
    network,
    regression,
    scalar_loss,
    weighted_loss,
)

import jaxopt_lessons as jl
from jaxopt_lessons.train import compilation

landscape = jl.inspect.landscape

DATA = regression(11)


def rosenbrock(w, _):
    return (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2


def square(w, _):
    return jnp.sum(w**2)


def vector(tree):
    """A tree as one vector of NumPy's float64."""
    return np.concatenate([np.asarray(leaf, np.float64).reshape(-1) for leaf in jax.tree.leaves(tree)])


def test_coordinates_are_the_parameters_own():
    plane = landscape(
        rosenbrock, np.float32([5.0, 7.0]), directions="coordinates", extent=((-2, 2), (-1, 3)), resolution=(9, 5)
    )
    np.testing.assert_array_equal(plane.a, np.linspace(-2, 2, 9))
    np.testing.assert_array_equal(plane.b, np.linspace(-1, 3, 5))
    a, b = np.meshgrid(plane.a, plane.b)
    assert plane.losses.shape == (5, 9)
    np.testing.assert_allclose(plane.losses, (1 - a) ** 2 + 100 * (b - a**2) ** 2, rtol=1e-5)
    assert plane.axes == ("params[0]", "params[1]")
    found = plane.project(np.float32([[0.5, 0.25], [-3.0, 8.0]]))
    np.testing.assert_array_equal(found.coordinates, [[0.5, 0.25], [-3.0, 8.0]])
    np.testing.assert_array_equal(found.distances, [0, 0])


def test_coordinates_of_two_leaves_around_their_values():
    params = {"y": jnp.bfloat16(3.0), "x": np.float32([2.0])}
    plane = landscape(
        lambda p, _: p["x"][0] + 100 * jnp.float32(p["y"]), params, directions="coordinates", extent=0.5, resolution=3
    )
    assert plane.axes == ("x[0]", "y")
    np.testing.assert_array_equal(plane.a, [1.5, 2, 2.5])
    np.testing.assert_array_equal(plane.b, [2.5, 3, 3.5])
    np.testing.assert_array_equal(plane.losses, [[a + 100 * b for a in plane.a] for b in plane.b])
    assert plane.point(1.5, 2.5)["y"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(plane.project(params).coordinates, [2, 3])


@pytest.mark.parametrize("loss", [example_loss, scalar_loss, weighted_loss], ids=["vector", "scalar", "weighted"])
def test_it_is_the_loss_at_each_point(loss):
    params, d1, d2 = network(), network(1), network(2)
    plane = landscape(loss, params, DATA, directions=(d1, d2), extent=((-1, 0.5), (0, 2)), resolution=(4, 3))
    assert_near(plane.directions, (d1, d2), 0)
    assert_near(plane.center, params, 0)
    for i, b in enumerate(plane.b):
        for j, a in enumerate(plane.a):
            point = jax.tree.map(lambda p, x, y: p + np.float32(a) * x + np.float32(b) * y, params, d1, d2)  # noqa: B023
            np.testing.assert_allclose(plane.losses[i, j], jl.evaluate(loss, point, DATA)["loss"], rtol=1e-5)
            assert_near(plane.point(a, b), point)
    assert np.ptp(plane.losses) > 0.1


@pytest.mark.parametrize("batch_size", [4, 30])
def test_it_does_not_depend_on_the_batch_size(batch_size):
    def loss(params, batch, key):
        assert key is None
        losses = example_loss(params, batch)
        return losses, {"largest input": jnp.max(jnp.abs(batch[0]), axis=1)}

    whole = landscape(loss, network(), DATA, resolution=3)
    parts = landscape(loss, network(), DATA, resolution=3, batch_size=batch_size)
    np.testing.assert_allclose(parts.losses, whole.losses, rtol=1e-5)
    assert list(parts.metrics) == ["largest input"]
    largest = np.mean(np.max(np.abs(DATA[0]), axis=1))
    np.testing.assert_allclose(parts.metrics["largest input"], np.full([3, 3], largest), rtol=1e-5)


def test_a_model_state_and_a_policy():
    def loss(params, model_state, batch):
        return model_state["scale"] * example_loss(params, batch), model_state

    plane = landscape(loss, network(), DATA, model_state={"scale": 3.0}, resolution=2)
    np.testing.assert_allclose(plane.losses, 3 * landscape(example_loss, network(), DATA, resolution=2).losses, 1e-5)
    half = landscape(example_loss, network(), DATA, policy="bfloat16", resolution=2)
    np.testing.assert_allclose(half.losses, plane.losses / 3, rtol=0.1)
    assert np.any(half.losses != plane.losses / 3)


# ---------------------------------------------------------------------------------------------------------------------
# Directions
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filter_axis", [-1, 0])
def test_random_directions_have_the_norms_of_the_filters(filter_axis):
    rng = np.random.default_rng(0)
    params = {
        "kernel": rng.standard_normal((3, 2, 4, 5)).astype(np.float32),
        "matrix": rng.standard_normal((6, 3)).astype(np.float32),
        "bias": rng.standard_normal(7).astype(np.float32),
        "new": np.zeros(3, np.float32),
        "number": np.float32(-2),
    }
    params["matrix"][:, 1] = 0
    plane = landscape(lambda p, _: 0.0 * p["number"], params, filter_axis=filter_axis, resolution=2)
    for direction in plane.directions:
        for name in ("kernel", "matrix"):
            counted = np.moveaxis(params[name], filter_axis, 0).reshape(params[name].shape[filter_axis], -1)
            found = np.moveaxis(np.asarray(direction[name]), filter_axis, 0).reshape(counted.shape)
            np.testing.assert_allclose(np.linalg.norm(found, axis=1), np.linalg.norm(counted, axis=1), rtol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(direction["bias"]), np.linalg.norm(params["bias"]), rtol=1e-5)
        np.testing.assert_array_equal(direction["new"], np.zeros(3))
        np.testing.assert_allclose(abs(float(direction["number"])), 2, rtol=1e-6)
    d1, d2 = map(vector, plane.directions)
    assert abs(d1 @ d2) < 0.5 * np.linalg.norm(d1) * np.linalg.norm(d2)
    assert len(np.unique(np.sign(np.asarray(plane.directions[0]["kernel"])))) == 2


def test_random_directions_are_normal_and_depend_on_the_key():
    params = np.ones(20_000, np.float32)
    plane, again, other = (landscape(square, params, key=key, resolution=2) for key in (0, jax.random.key(0), 1))
    assert_same(plane.directions, again.directions)
    assert distance(plane.directions, other.directions) > 1
    d1 = np.asarray(plane.directions[0], np.float64)
    np.testing.assert_allclose([np.mean(d1), np.mean(d1**2), np.mean(d1**4)], [0, 1, 3], atol=0.1)
    assert abs(np.mean(d1 * np.asarray(plane.directions[1], np.float64))) < 0.05


def test_through_three_points():
    params, p, q = network(), network(1), network(2)
    plane = landscape(scalar_loss, params, DATA, through=[p, q], resolution=3)
    d1, d2 = map(vector, plane.directions)
    np.testing.assert_allclose([[d1 @ d1, d1 @ d2], [d2 @ d1, d2 @ d2]], np.eye(2), atol=1e-6)
    u, v = vector(p) - vector(params), vector(q) - vector(params)
    along = u @ v / np.linalg.norm(u)
    points = jax.tree.map(lambda *x: jnp.stack(x), params, p, q)
    found = plane.project(points)
    corners = [[0, 0], [np.linalg.norm(u), 0], [along, np.sqrt(v @ v - along**2)]]
    np.testing.assert_allclose(found.coordinates, corners, atol=1e-5)
    np.testing.assert_allclose(found.distances, [0, 0, 0], atol=1e-5)
    for corner, point in zip(corners, (params, p, q), strict=True):
        np.testing.assert_allclose(vector(plane.point(*corner)), vector(point), atol=1e-5)
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    margin = 0.25 * np.max(high - low)
    np.testing.assert_allclose([plane.a[0], plane.b[0]], low - margin, rtol=1e-5)
    np.testing.assert_allclose([plane.a[-1], plane.b[-1]], high + margin, rtol=1e-5)


def run_in_a_plane():
    """A run whose path lies in a plane: gradient descent in two of four orthogonal directions."""
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0].astype(np.float32)

    def loss(w, _):
        return 0.5 * jnp.sum(jnp.array([10.0, 1.0, 3.0, 4.0]) * jnp.square(basis.T @ w))

    start = basis @ np.float32([1.0, 2.0, 0.0, 0.0])
    step = jl.make_step(loss, jl.sgd(0.05))
    return loss, basis, jl.inspect.trajectory(step, jl.init_state(start, step), steps=30)


def test_the_main_directions_of_a_path_in_a_plane():
    loss, basis, run = run_in_a_plane()
    plane = landscape(loss, run.state.params, directions=run, resolution=3)
    found = plane.project(run)
    assert found.coordinates.shape == (31, 2)
    np.testing.assert_allclose(found.distances, np.zeros(31), atol=1e-6)
    outside = np.stack(plane.directions) @ basis[:, 2:]
    np.testing.assert_allclose(outside, np.zeros((2, 2)), atol=1e-5)
    np.testing.assert_allclose(found.coordinates[-1], [0, 0], atol=1e-6)
    lengths = np.linalg.norm(np.asarray(run.params - run.state.params[None]), axis=1)
    np.testing.assert_allclose(np.linalg.norm(found.coordinates, axis=1), lengths, atol=1e-5)
    for low, high, axis in ((plane.a[0], plane.a[-1], 0), (plane.b[0], plane.b[-1], 1)):
        assert low < found.coordinates[:, axis].min() <= found.coordinates[:, axis].max() < high


@pytest.mark.parametrize("numbers", [3, 50])
def test_main_directions_are_those_of_the_singular_value_decomposition(numbers):
    """With more points than parameters, and with fewer."""
    data = np.random.default_rng(0).standard_normal((12, numbers)).astype(np.float32)
    step = jl.make_step(lambda w, x: jnp.sum((w[None] - x) ** 2), jl.sgd(0.3))
    run = jl.inspect.trajectory(step, jl.init_state(np.zeros(numbers, np.float32), step), data, 12, batch_size=1)
    plane = landscape(square, run.state.params, directions=run, resolution=2)
    rows = np.asarray(run.params, np.float64) - np.asarray(run.state.params, np.float64)
    _, values, vectors = np.linalg.svd(rows, full_matrices=False)
    assert values[1] > 1.1 * values[2] > 0.1
    for found, expected in zip(plane.directions, vectors[:2], strict=True):
        np.testing.assert_allclose(abs(np.asarray(found, np.float64) @ expected), 1, atol=1e-5)
    beside = np.sqrt(np.maximum(np.sum((rows - rows @ vectors[:2].T @ vectors[:2]) ** 2, axis=1), 0))
    np.testing.assert_allclose(plane.project(run).distances, beside, atol=1e-5)


def test_a_second_direction_that_is_short_is_found():
    points = np.zeros((5, 3), np.float32)
    points[:, 0] = [0, 1, 2, 3, 4]
    points[:, 1] = [0, 1e-4, -1e-4, 1e-4, 0]
    run = jl.inspect.Trajectory(jnp.asarray(points), None, None, {}, {}, None, None)
    d1, d2 = landscape(square, points[0], directions=run, resolution=2).directions
    np.testing.assert_allclose(np.abs(d1), [1, 0, 0], atol=1e-4)
    np.testing.assert_allclose(np.abs(d2), [0, 1, 0], atol=1e-4)


def test_projection_on_skewed_directions():
    d1, d2 = np.float32([2, 0, 0]), np.float32([1, 1, 0])
    plane = landscape(square, np.float32([1, 1, 1]), directions=(d1, d2), resolution=2)
    found = plane.project(np.float32([1, 1, 1]) + 3 * d1 - 2 * d2 + np.float32([0, 0, 5]))
    np.testing.assert_allclose(found.coordinates, [3, -2], rtol=1e-6)
    np.testing.assert_allclose(found.distances, 5, rtol=1e-6)
    assert found.distances.shape == ()


@bad_input(54)
def test_complex_and_half_precision():
    params = {"c": np.complex64([1 + 2j]), "h": jnp.array([3.0], jnp.bfloat16)}
    other = {"c": np.complex64([1 + 4j]), "h": jnp.array([3.0], jnp.bfloat16)}
    third = {"c": np.complex64([4 + 2j]), "h": jnp.array([7.0], jnp.bfloat16)}

    def loss(p, _):
        return jnp.sum(jnp.abs(p["c"]) ** 2) + jnp.sum(p["h"].astype(jnp.float32))

    plane = landscape(loss, params, through=(other, third), resolution=2, extent=((0, 2), (0, 5)))
    np.testing.assert_allclose(plane.directions[0]["c"], [1j], atol=1e-6)
    np.testing.assert_allclose(plane.directions[1]["c"], [0.6], atol=1e-6)
    np.testing.assert_allclose(plane.directions[1]["h"], [0.8], atol=1e-6)
    assert plane.directions[1]["h"].dtype == jnp.float32
    np.testing.assert_allclose(plane.losses, [[5 + 3, 17 + 3], [20 + 7, 32 + 7]], rtol=1e-5)
    np.testing.assert_allclose(plane.project(third).coordinates, [0, 5], atol=1e-5)
    random = landscape(loss, params, resolution=2)
    np.testing.assert_allclose(np.abs(random.directions[0]["c"]), [5**0.5], rtol=1e-5)
    run = jl.inspect.Trajectory(jax.tree.map(lambda *x: jnp.stack(x), params, other, third), *[None] * 6)
    main = landscape(loss, params, directions=run, resolution=2)
    np.testing.assert_allclose(main.project(run).distances, [0, 0, 0], atol=1e-5)
    assert main.directions[0]["c"].dtype == jnp.complex64


# ---------------------------------------------------------------------------------------------------------------------
# Programs and figures
# ---------------------------------------------------------------------------------------------------------------------


def test_other_points_compile_nothing():
    def measured(seed, extent):
        return landscape(scalar_loss, network(seed), DATA, key=seed, extent=extent, resolution=(5, 3 + seed))

    measured(0, 1.0)
    with compilation.count() as compiled, backend_compiles() as events:
        measured(1, 0.5)
    assert compiled == events == []
    with compilation.count() as compiled:
        landscape(scalar_loss, network(), DATA, resolution=(6, 3))
    assert compiled == ["measure_points"]


def test_what_is_not_finite_stays_so_and_is_hatched():
    def loss(w, _):
        return jnp.where(w[0] > 0.5, jnp.nan, jnp.where(w[1] > 0.5, jnp.inf, w[0] + w[1]))

    plane = landscape(loss, np.zeros(2, np.float32), directions="coordinates", resolution=9)
    a, b = np.meshgrid(plane.a, plane.b)
    np.testing.assert_array_equal(np.isnan(plane.losses), a > 0.5)
    np.testing.assert_array_equal(np.isposinf(plane.losses), (a <= 0.5) & (b > 0.5))
    (axis,) = plane.plot().axes
    assert [c.hatches for c in axis.collections if any(c.hatches or [])] == [["///"]]
    nothing = plane._replace(losses=np.full((9, 9), np.nan))
    assert len(nothing.plot().axes[0].collections) == 1
    flat = plane._replace(losses=np.ones((9, 9)))
    assert len(flat.plot().axes[0].collections) == 0


def test_a_figure():
    plane = landscape(
        rosenbrock, np.zeros(2, np.float32), directions="coordinates", extent=((-2, 2), (-1, 3)), resolution=(21, 11)
    )
    figure = plane.plot(levels=8)
    (axis,) = figure.axes
    assert (axis.get_xlabel(), axis.get_ylabel()) == plane.axes
    assert (axis.get_xlim(), axis.get_ylim()) == ((-2, 2), (-1, 3))
    filled, lines = axis.collections
    np.testing.assert_array_equal(filled.levels, lines.levels)
    assert len(lines.levels) == 8
    between = np.histogram(plane.losses, [0, *lines.levels, np.inf])[0]
    assert between.min() >= plane.losses.size / 9 - 2
    low = lines.get_paths()[0].vertices
    assert np.max(np.abs(low[:, 1] - low[:, 0] ** 2)) < 1.5  # The lowest contour is along the valley b = a^2.
    assert figure is plane.plot(axis, levels=[1.0, 10.0], labels=False)
    np.testing.assert_array_equal(axis.collections[-1].levels, [1.0, 10.0])


def test_matplotlib_is_needed_for_figures_only(uninstalled):
    uninstalled("matplotlib")
    plane = landscape(square, np.ones(2, np.float32), directions="coordinates", resolution=2)
    with pytest.raises(ImportError, match="plot needs matplotlib: pip install matplotlib"):
        plane.plot()


# ---------------------------------------------------------------------------------------------------------------------
# Errors
# ---------------------------------------------------------------------------------------------------------------------

TWO = np.ones(2, np.float32)
EYE = np.eye(2, dtype=np.float32)


def straight(rate=0.1):
    step = jl.make_step(square, jl.sgd(rate))
    return jl.inspect.trajectory(step, jl.init_state(TWO, step), steps=3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: landscape(3, TWO), TypeError, "landscape: loss_fn must be a function (params, batch) -> loss; got 3"),
        (lambda: landscape(square, {"n": np.ones(2, int)}), jl.InputError, "landscape: at 'n' the parameter is int"),
        (
            lambda: landscape(square, TWO, directions="x"),
            ValueError,
            "directions must be one of 'coordinates'; got 'x'",
        ),
        (
            lambda: landscape(square, TWO, directions=3),
            TypeError,
            "landscape: directions must be None, 'coordinates', a",
        ),
        (lambda: landscape(square, TWO, directions=(TWO,)), TypeError, "or a pair of trees like params; got"),
        (
            lambda: landscape(square, np.ones(3), directions="coordinates"),
            ValueError,
            "exactly two real numbers; these are 3 real ones",
        ),
        (lambda: landscape(square, np.ones(2, complex), directions="coordinates"), ValueError, "2 complex ones"),
        (
            lambda: landscape(square, TWO, directions=(EYE[0], {"a": TWO})),
            jl.InputError,
            "landscape: direction 2 and params differ in structure",
        ),
        (
            lambda: landscape(square, TWO, directions=(np.ones(3), EYE[0])),
            jl.InputError,
            "direction 1 has float32[3] and params has float32[2]",
        ),
        (lambda: landscape(square, TWO, directions=(EYE[0], np.ones(2, int))), jl.InputError, "cannot take a frac"),
        (lambda: landscape(square, TWO, directions=(EYE[0], EYE[1] * 1j)), jl.InputError, "direction 2 is complex"),
        (
            lambda: landscape(square, TWO, directions=(EYE[0], 0 * TWO)),
            jl.InputError,
            "landscape: the second direction has length 0.",
        ),
        (lambda: landscape(square, TWO, directions=(TWO * np.nan, TWO)), jl.InputError, "that is not a finite number"),
        (
            lambda: landscape(square, TWO, directions=(TWO, -3 * TWO)),
            jl.InputError,
            "the first direction and the second direction are parallel",
        ),
        (lambda: landscape(square, 0 * TWO), jl.InputError, "first random direction has length 0. Filters of zeros"),
        (
            lambda: landscape(square, 1.0),
            jl.InputError,
            "second random direction are parallel: they span a line, no pl",
        ),
        (lambda: landscape(square, TWO, through=TWO), TypeError, "through must be a pair of trees like params, [p, q]"),
        (
            lambda: landscape(square, TWO, through=(TWO, EYE[0])),
            jl.InputError,
            "the way from params to the first point has length 0",
        ),
        (
            lambda: landscape(square, TWO, through=(2 * TWO, 3 * TWO)),
            jl.InputError,
            "way from params to the second point are parallel",
        ),
        (
            lambda: landscape(square, TWO, through=(TWO, TWO), directions="coordinates"),
            ValueError,
            "landscape: give directions or through, not both.",
        ),
        (lambda: landscape(square, TWO, directions=straight()), jl.InputError, "and params are on one line"),
        (
            lambda: landscape(square, np.ones(3), directions=straight()),
            jl.InputError,
            "the trajectory has float32[4,2] and",
        ),
        (
            lambda: landscape(square, TWO, directions=straight(1e30)),
            jl.InputError,
            "landscape: some points of the trajectory are infinite or NaN.",
        ),
        (lambda: landscape(square, TWO, extent=0), ValueError, "landscape: extent must be a finite number in (0, inf)"),
        (lambda: landscape(square, TWO, extent=(-1, 1)), TypeError, "extent must be a number, or two pairs"),
        (
            lambda: landscape(square, TWO, extent=((-1, 1), (2, 2))),
            ValueError,
            "landscape: extent: low must be below high; got (2, 2).",
        ),
        (
            lambda: landscape(square, TWO, extent=((-1, np.inf), (2, 3))),
            ValueError,
            "landscape: extent must be a finite",
        ),
        (lambda: landscape(square, TWO, resolution=1), ValueError, "landscape: resolution must be at least 2; got 1."),
        (lambda: landscape(square, TWO, resolution=(3, 3, 3)), TypeError, "a whole number or a pair (n_a, n_b)"),
        (lambda: landscape(square, TWO, key="a"), TypeError, "landscape: key must be a seed or one key"),
        (lambda: landscape(square, TWO, directions=EYE, key="a"), TypeError, "landscape: key must be a seed"),
        (lambda: landscape(square, TWO, directions=EYE, filter_axis=None), TypeError, "filter_axis must be a whole"),
        (lambda: landscape(square, {}), jl.InputError, "landscape: there are no parameters in params."),
        (lambda: landscape(square, TWO, DATA, batch_size=0), ValueError, "landscape: batch_size must be at least 1"),
        (
            lambda: jax.jit(lambda w: landscape(square, w, resolution=2).losses)(TWO),
            TypeError,
            "landscape: the results are numbers on the host",
        ),
        (lambda: landscape(square, EYE, filter_axis=2), jl.InputError, "filter_axis=2: the parameter at"),
        (lambda: landscape(square, EYE, filter_axis=1.0), TypeError, "filter_axis must be a whole number; got 1.0"),
        (lambda: landscape(square, TWO, batch_size=2), ValueError, "landscape: batch_size=2 without data to cut."),
        (lambda: landscape(square, TWO, jl.minibatches(TWO)), TypeError, "landscape: data must be arrays"),
        (lambda: landscape(square, TWO, policy=3), TypeError, "landscape: policy must be a Policy"),
        (
            lambda: landscape(lambda w, model_state, batch: 0, TWO, TWO),
            ValueError,
            "landscape: loss_fn takes a model_state; say model_state=",
        ),
        (
            lambda: landscape(lambda w, _: w, TWO, DATA),
            jl.InputError,
            "landscape: the loss must be a scalar, one number",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert message in str(raised.value)


def test_errors_of_a_landscape():
    plane = landscape(square, TWO, directions="coordinates", resolution=2)
    with pytest.raises(jl.InputError, match="^project: points and the parameters of the plane differ in structure"):
        plane.project({"w": TWO})
    with pytest.raises(
        jl.InputError,
        match=r"^project: at '.*' points has float32\[3\] and the parameters of the plane has float32\[2\]",
    ):
        plane.project(np.ones(3, np.float32))
    two = landscape(lambda p, _: p["x"] + p["y"], {"x": 1.0, "y": 2.0}, directions="coordinates", resolution=2)
    with pytest.raises(jl.InputError, match=r"first axes count the points and must have equal lengths; got \[2, 3\]"):
        two.project({"x": np.ones(2), "y": np.ones(3)})
    with pytest.raises(TypeError, match=r"^point: b must be a finite number, a single number; got an array"):
        plane.point(0, np.ones(3))
    with pytest.raises(ValueError, match="^plot: levels must be a whole number, or losses that increase"):
        plane.plot(levels=[2.0, 1.0])
    with pytest.raises(ValueError, match="^plot: levels must be at least 2; got 1"):
        plane.plot(levels=1)
    with pytest.raises(TypeError, match="^plot: labels must be True or False"):
        plane.plot(labels="x")


def test_data_in_a_file_are_put_on_the_device(tmp_path):
    x = np.memmap(tmp_path / "x", np.float32, "w+", shape=(4, 2))
    x[:] = np.arange(8).reshape(4, 2)
    loss = lambda w, x: x @ w
    measured = [landscape(loss, TWO, data, resolution=3, batch_size=3).losses for data in (x, np.array(x))]
    np.testing.assert_array_equal(*measured)
