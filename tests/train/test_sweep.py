"""A sweep is the loop over its points and seeds, however it is laid out, and one program."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from matplotlib.figure import Figure
from training_problems import assert_near, backend_compiles, distance, network, noisy_loss, regression

import jaxopt_lessons as jl
from jaxopt_lessons.train import compilation
from jaxopt_lessons.train.lanes import FEW_LANES, layout_of
from jaxopt_lessons.train.search_space import space_points
from jaxopt_lessons.train.sweep import trace
from jaxopt_lessons.train.sweep_result import Table

BATCHES = jl.minibatches(regression(11), 4, remainder="wrap")
STEP = jl.make_step(noisy_loss, jl.adam(0.1))
SPACE = {"learning_rate": [1e-3, 0.1], "b1": [0.0, 0.5, 0.9]}


def train(hp, key):
    """Six steps: the losses, and a tree of parameters."""
    step = STEP.replace(**hp)
    state = jl.init_state(network(), step.tx, key=key)
    state, metrics = jl.make_scan(step, 6)(state, BATCHES)
    return {"loss": metrics["loss"], "final": (metrics["loss"][-1], state.params)}


@functools.cache
def by_hand(seeds):
    """One compiled training after the other."""
    one = jax.jit(train)
    rows = [
        [one({"learning_rate": jnp.float32(rate), "b1": jnp.float32(b1)}, jax.random.key(seed)) for seed in seeds]
        for rate in SPACE["learning_rate"]
        for b1 in SPACE["b1"]
    ]
    points = [jax.tree.map(lambda *x: jnp.stack(x), *row) for row in rows]
    return jax.tree.map(lambda *x: jnp.stack(x), *points)


def simple(hp, key):
    """Lanes that tell which one they are."""
    return {"loss": hp["a"] + jax.random.normal(key), "index": hp["n"] * 10}


def traced(run, space):
    return trace("sweep", run, space_points("sweep", space), 1)


def layout(how, lane, lanes):
    return layout_of("sweep", how, lane.jaxpr, lanes)


def lanes_of(values):
    """A result with given numbers ``[points, seeds]`` in the place of what was trained."""
    values = np.asarray(values, np.float32)
    points = [{"learning_rate": 10.0**i, "b1": 0.9} for i in range(len(values))]
    return jl.SweepResult(points, list(range(values.shape[1])), {"loss": values, "accuracy": -values})


# ---------------------------------------------------------------------------------------------------------------------
# The numbers
# ---------------------------------------------------------------------------------------------------------------------

LAYOUTS = ["auto", "vmap", "map", 1, 4, 100, np.int64(5), "shard"]


@pytest.mark.parametrize("how", LAYOUTS)
def test_a_sweep_is_the_loop_over_points_and_seeds(how):
    result = jl.sweep(train, SPACE, seeds=[3, 8], how=how)
    expected = by_hand((3, 8))
    assert_near(result.values, expected, 1e-5)
    assert result.values["loss"].shape == (6, 2, 6)
    assert result.seeds == [3, 8]
    assert distance(expected["loss"][0], expected["loss"][5]) > 1e-2
    assert distance(expected["loss"][:, 0], expected["loss"][:, 1]) > 1e-2


def test_lanes_are_shared_out_over_devices():
    """Twelve lanes on eight, and on three devices: the last share is filled up."""
    mesh = Mesh(np.asarray(jax.devices()[:3]), ("some",))
    result = jl.sweep(simple, {"a": [1.0, 2.0], "n": [1, 2]}, seeds=2, how=mesh)
    assert len(result.values["loss"].devices()) > 1
    assert_near(result.values, jl.sweep(simple, {"a": [1.0, 2.0], "n": [1, 2]}, seeds=2, how="vmap").values)
    single = jl.sweep(simple, {"a": [1.0], "n": [1]}, how="shard")  # fewer lanes than devices
    assert single.values["loss"].shape == (1, 1)


def test_the_last_axis_changes_fastest():
    result = jl.sweep(simple, {"n": [1, 2], "a": [0.5, 0.25, 0.125]})
    assert result.points[1] == {"n": 1, "a": 0.25}
    assert [point["n"] for point in result.points] == [1, 1, 1, 2, 2, 2]
    assert np.ravel(result.values["index"]).tolist() == [10, 10, 10, 20, 20, 20]
    steps = np.diff(np.ravel(result.values["loss"]))
    np.testing.assert_allclose(steps, [-0.25, -0.125, 0.375, -0.25, -0.125], atol=1e-6)


def test_the_seeds_are_those_of_jax_random():
    result = jl.sweep(simple, {"a": [0.0], "n": [1]}, seeds=3)
    assert result.seeds == [0, 1, 2] == jl.sweep(simple, {"a": [0.0], "n": [1]}, seeds=np.arange(3)).seeds
    expected = [jax.random.normal(jax.random.key(seed)) for seed in range(3)]
    np.testing.assert_allclose(result.values["loss"][0], expected)


@pytest.mark.parametrize("values", [[0.1, 0.2], (0.1, 0.2), np.array([0.1, 0.2], np.float32), jnp.array([0.1, 0.2])])
def test_axes_are_lists_or_arrays(values):
    result = jl.sweep(simple, {"a": values, "n": range(1, 2)})
    assert result.points == [{"a": 0.1, "n": 1}, {"a": 0.2, "n": 1}]
    assert type(result.points[0]["a"]) is float
    assert result.values["index"].dtype == jnp.int32
    assert result.values["loss"].dtype == jnp.float32


def test_whole_numbers_among_others_are_floats():
    result = jl.sweep(simple, {"a": [1, 0.5], "n": [np.float32(1), 2]})
    assert result.points[0] == {"a": 1.0, "n": 1.0}
    assert result.values["index"].dtype == jnp.float32


def test_points_by_themselves():
    points = [{"a": 0.5, "n": 3}, {"n": 1, "a": 2}, {"a": 0.25, "n": 2}]
    result = jl.sweep(simple, points, seeds=2)
    assert result.points == points
    assert [list(point) for point in result.points] == [["a", "n"]] * 3
    assert [type(point["a"]) for point in result.points] == [float] * 3
    assert result.values["index"].tolist() == [[30, 30], [10, 10], [20, 20]]
    assert result.values["index"].dtype == jnp.int32
    whole = jl.sweep(simple, {"a": [0.5, 2.0, 0.25], "n": [1, 2, 3]}, seeds=2)
    rows = [whole.points.index({"a": float(point["a"]), "n": point["n"]}) for point in points]
    assert_near(result.values, jax.tree.map(lambda x: x[np.asarray(rows)], whole.values))


# ---------------------------------------------------------------------------------------------------------------------
# Compilation
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["vmap", "map", 2, "shard"])
def test_a_second_sweep_compiles_nothing(how):
    traces = []

    def run(hp, key):
        traces.append(hp)
        return train({"learning_rate": hp["learning_rate"], "b1": hp["b1"]}, key)["loss"]

    with compilation.count() as compiled:
        first = jl.sweep(run, SPACE, seeds=2, how=how)
    assert compiled == ["run_lanes"]
    assert len(traces) == 1
    with compilation.count() as compiled, backend_compiles() as events:
        second = jl.sweep(run, {"learning_rate": [0.2, 1.0], "b1": np.array([0.1, 0.2, 0.3])}, seeds=[7, 9], how=how)
    assert compiled == events == []
    assert len(traces) == 1
    assert distance(first.values, second.values) > 0.01
    with compilation.count() as compiled:
        jl.sweep(run, {"learning_rate": [0.2], "b1": [0.1]}, how=how)
    assert compiled == ["run_lanes"]
    assert len(traces) == 1


def test_data_is_an_argument_of_the_program_and_no_constant():
    data = jnp.arange(100_000.0)

    def run(hp, key):
        return jnp.sum(data * hp["a"]) + jax.random.normal(key)

    assert any(const is data for const in traced(run, {"a": [1.0]}).jaxpr.consts)
    np.testing.assert_allclose(jl.sweep(run, {"a": [0.0, 1.0]}).values[1, 0], 4999950000.0, rtol=1e-5)


def convolving(hp, key):
    def body(x, _):
        return jax.lax.conv(x, jnp.ones((1, 1, 3, 3)) * hp["a"], (1, 1), "SAME"), None

    return jax.lax.scan(body, jax.random.normal(key, (1, 1, 8, 8)), None, length=3)[0]


@pytest.mark.parametrize(
    ("run", "lanes", "expected"),
    [(train, FEW_LANES + 1, "map"), (train, FEW_LANES, "vmap"), (convolving, FEW_LANES + 1, "vmap")],
)
def test_auto_on_a_cpu(run, lanes, expected):
    lane = traced(run, {"a": [1.0]} if run is convolving else {name: [0.1] for name in SPACE})
    assert layout("auto", lane, lanes) == (expected, None)
    share, mesh = layout("shard", lane, lanes * len(jax.devices()))
    assert share == expected
    assert mesh.size == 8


def test_auto_on_an_accelerator(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert layout("auto", traced(train, {name: [0.1] for name in SPACE}), 100) == ("vmap", None)


# ---------------------------------------------------------------------------------------------------------------------
# The result
# ---------------------------------------------------------------------------------------------------------------------


def test_a_table():
    table = lanes_of([[1.0, 3.0], [0.5, np.nan]]).table()
    assert table[0] == {"learning_rate": 1.0, "b1": 0.9, "mean": 2.0, "std": pytest.approx(2**0.5), "best": 1.0}
    assert np.isnan(table[1]["mean"])
    assert table[1]["best"] == 0.5
    assert str(table).splitlines() == [
        "learning_rate   b1  mean    std  best",
        "            1  0.9     2  1.414     1",
        "           10  0.9   nan    nan   0.5",
    ]
    assert lanes_of([[1.0, 3.0]]).table(mode="max")[0]["best"] == 3.0
    assert lanes_of([[1.0, 3.0]]).table("accuracy", mode="min")[0]["best"] == -3.0
    assert lanes_of([[1.0]]).table()[0]["std"] == 0.0
    assert np.isnan(lanes_of([[np.inf]]).table()[0]["best"])


def test_the_best_point():
    result = lanes_of([[1.0, 3.0], [1.5, 1.5], [9.0, 9.0]])
    assert result.best()["learning_rate"] == 10.0
    assert result.best(mode="max")["learning_rate"] == 100.0
    assert result.best("accuracy", mode="max")["learning_rate"] == 10.0
    result.best()["learning_rate"] = 5.0
    assert result.points[1]["learning_rate"] == 10.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_lanes_that_diverged_never_win(bad, mode):
    assert lanes_of([[bad, 1.0], [2.0, 2.0], [bad, bad]]).best(mode=mode)["learning_rate"] == 10.0
    with pytest.raises(ValueError, match=r"^best: every point has a lane that is NaN or infinite"):
        lanes_of([[bad, 1.0], [bad, bad]]).best(mode=mode)


def test_of_curves_the_last_number_counts():
    result = jl.sweep(train, SPACE, seeds=2)
    losses = np.asarray(result.values["loss"])[..., -1]
    assert [row["mean"] for row in result.table()] == pytest.approx(losses.mean(axis=1).tolist())
    assert result.best() == result.points[int(np.argmin(losses.mean(axis=1)))]
    assert result.best("final/0", mode="min") == result.best()


def test_a_tree_that_is_one_array_needs_no_name():
    result = jl.sweep(lambda hp, key: hp["a"] ** 2, {"a": [2.0, -1.0]})
    assert result.best() == {"a": -1.0}
    assert result.table()[0]["mean"] == 4.0


def test_it_prints_pickles_and_is_immutable():
    result = jl.sweep(train, SPACE, seeds=2)
    assert repr(result).startswith("SweepResult(6 points of learning_rate, b1; 2 seeds; final/0, ")
    again = pickle.loads(pickle.dumps(result))
    assert again.points == result.points
    assert_near(again.values, result.values)
    for change in (lambda: setattr(result, "points", []), lambda: delattr(result, "seeds")):
        with pytest.raises(AttributeError, match="SweepResult is immutable"):
            change()


# -- the figure -------------------------------------------------------------------------------------------------------


def test_a_figure_with_a_band():
    losses = np.array([[1.0, 3.0], [0.5, 1.5], [np.nan, 1.0]])
    figure = lanes_of(losses).plot(x="learning_rate", y="loss", log=True)
    (axis,) = figure.axes
    assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_xscale()) == ("learning rate", "loss", "log")
    (line,) = axis.lines
    np.testing.assert_array_equal(line.get_xdata(), [1.0, 10.0, 100.0])
    np.testing.assert_array_equal(line.get_ydata(), [2.0, 1.0, np.nan])
    (band,) = axis.collections
    points = band.get_paths()[0].vertices
    assert max(y for x, y in points if x == 1.0) == pytest.approx(2 + 2**0.5)
    assert min(y for x, y in points if x == 10.0) == pytest.approx(1 - 0.5**0.5)


def test_a_line_for_each_combination_of_the_other_axes():
    result = jl.sweep(simple, {"n": [3, 1, 2], "a": [0.5, 0.25]})
    figure = result.plot("n", "loss")
    axis = figure.axes[0]
    assert [line.get_xdata().tolist() for line in axis.lines] == [[1.0, 2.0, 3.0]] * 2
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["a 0.5", "a 0.25"]
    losses = np.asarray(result.values["loss"])[:, 0]
    np.testing.assert_allclose(axis.lines[0].get_ydata(), losses[[2, 4, 0]])
    assert len(axis.collections) == 0  # one seed, no band
    assert axis.get_xscale() == "linear"


def test_on_given_axes_and_to_a_file(tmp_path):
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert lanes_of([[1.0, 2.0]]).plot(ax=right) is figure
    assert (len(left.lines), len(right.lines)) == (0, 1)
    lanes_of([[1.0, 2.0], [2.0, 3.0]]).plot(log=True).savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5_000


def test_without_matplotlib(uninstalled):
    uninstalled("matplotlib")
    with pytest.raises(ImportError, match="plot needs matplotlib: pip install matplotlib"):
        lanes_of([[1.0]]).plot()


# ---------------------------------------------------------------------------------------------------------------------
# Errors
# ---------------------------------------------------------------------------------------------------------------------


def unused(hp, key):
    return hp["a"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jl.sweep(3, SPACE), TypeError, "sweep: run must be a function (hp, key) -> tree of arrays; got 3."),
        (
            lambda: jl.sweep(train, [1.0]),
            TypeError,
            "sweep: space must map names to lists of numbers, or be a list of points; got [1.0].",
        ),
        (lambda: jl.sweep(train, []), ValueError, "sweep: space is empty"),
        (lambda: jl.sweep(train, [{}]), ValueError, "sweep: space is empty"),
        (
            lambda: jl.sweep(unused, [{"a": 1.0}, {"b": 1.0}]),
            ValueError,
            "sweep: the points of space must have the same names; got {'a': 1.0} and {'b': 1.0}.",
        ),
        (lambda: jl.sweep(unused, [{3: 1.0}]), ValueError, "sweep: the points of space must have the same names"),
        (lambda: jl.sweep(unused, [{"a": "x"}]), TypeError, "sweep: the values of a must be numbers; got 'x'"),
        (lambda: jl.sweep(train, {3: [1.0]}), TypeError, "sweep: space must map names to lists of numbers"),
        (lambda: jl.sweep(train, {}), ValueError, "sweep: space is empty"),
        (lambda: jl.sweep(train, {"b1": []}), ValueError, "sweep: b1 is empty"),
        (lambda: jl.sweep(train, {"b1": np.zeros(0)}), ValueError, "sweep: b1 is empty"),
        (lambda: jl.sweep(train, {"b1": 0.9}), TypeError, "sweep: b1 must be a list of numbers; got 0.9 of type float"),
        (
            lambda: jl.sweep(train, {"b1": np.zeros((2, 2))}),
            TypeError,
            "b1 must be a list of numbers; got float64[2,2]",
        ),
        (lambda: jl.sweep(train, {"b1": [0.9, "x"]}), TypeError, "sweep: the values of b1 must be numbers; got 'x'"),
        (lambda: jl.sweep(train, {"b1": [True]}), TypeError, "sweep: the values of b1 must be numbers; got True"),
        (lambda: jl.sweep(train, {"b1": np.array([True])}), TypeError, "the values of b1 must be numbers; got True"),
        (lambda: jl.sweep(train, {"b1": [1j]}), TypeError, "sweep: the values of b1 must be numbers; got 1j"),
        (lambda: jl.sweep(unused, {"a": [2**31]}), ValueError, "sweep: a has whole numbers above 2147483647"),
        (lambda: jl.sweep(unused, {"a": [1.0], "b": [1.0]}), ValueError, "sweep: run does not use hp['b']"),
        (lambda: jl.sweep(unused, {"a": [1.0]}, seeds=3), ValueError, "sweep: run does not use its key: 3 seeds"),
        (lambda: jl.sweep(train, SPACE, seeds=0), ValueError, "sweep: seeds must be at least 1; got 0."),
        (lambda: jl.sweep(train, SPACE, seeds=[]), ValueError, "sweep: seeds is empty"),
        (lambda: jl.sweep(train, SPACE, seeds=[0.5]), TypeError, "sweep: a seed must be a whole number; got 0.5"),
        (lambda: jl.sweep(train, SPACE, seeds="a"), TypeError, "sweep: seeds must be a number of seeds or a list"),
        (lambda: jl.sweep(train, SPACE, how="pmap"), ValueError, "sweep: how must be 'auto', 'vmap', 'map'"),
        (lambda: jl.sweep(train, SPACE, how="pmap"), ValueError, "got 'pmap'."),
        (lambda: jl.sweep(train, SPACE, how=None), ValueError, "got None."),
        (lambda: jl.sweep(train, SPACE, how=True), ValueError, "got True."),
        (lambda: jl.sweep(train, SPACE, how=0), ValueError, "sweep: how must be at least 1; got 0."),
        (
            lambda: jl.sweep(lambda hp, key: {"ok": hp["a"], "bad": "text"}, {"a": [1.0]}),
            TypeError,
            "sweep: run must return a tree of arrays; the leaf at 'bad' is 'text' of type str.",
        ),
        (
            lambda: jl.sweep(lambda hp, key: None, {"a": [1.0]}),
            TypeError,
            "sweep: run must return a tree of arrays; got None.",
        ),
        (lambda: jl.sweep(train, {"learning_rat": [0.1], "b1": [0.1]}), TypeError, "Did you mean 'learning_rate'?"),
        (lambda: lanes_of([[1.0]]).best("los"), ValueError, "best: there is no metric 'los'. Did you mean 'loss'?"),
        (lambda: lanes_of([[1.0]]).table("x"), ValueError, "there is no metric 'x'. There are: accuracy, loss."),
        (lambda: lanes_of([[1.0]]).best(mode="least"), ValueError, "mode must be one of 'min', 'max'; got 'least'."),
        (lambda: lanes_of([[1.0]]).plot("learning"), ValueError, "plot: there is no axis 'learning'. Did you mean"),
        (lambda: lanes_of([[1.0]]).plot(y="acc"), ValueError, "plot: there is no metric 'acc'."),
        (
            lambda: jl.sweep(train, SPACE).best("final/1/w1"),
            ValueError,
            "best: a metric is one real number in each lane, or a curve of them; 'final/1/w1' is float32[6,1,3,5]",
        ),
        (
            lambda: jl.SweepResult([{"a": 1.0}], [0], {"x": np.ones((1, 1)), "y": np.ones((1, 1))}).best(),
            ValueError,
            "best: say which metric; there are: x, y.",
        ),
        (
            lambda: jl.SweepResult([{"std": 1.0}], [0], np.ones((1, 1))).table(),
            ValueError,
            "table: an axis cannot be called 'std'",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert message in str(raised.value)


def test_notes_on_errors_of_the_function():
    with pytest.raises(KeyError) as raised:
        jl.sweep(lambda hp, key: hp["learning_rat"], SPACE)
    expected = "sweep: hp has the axes of space. Did you mean 'learning_rate'? There are: b1, learning_rate."
    assert expected in raised.value.__notes__

    with pytest.raises(KeyError) as raised:
        jl.sweep(lambda hp, key: {}["b1"], SPACE)
    assert not any(note.startswith("sweep: ") for note in getattr(raised.value, "__notes__", []))

    def fitting(hp, key):
        return jl.fit(STEP, jl.init_state(network(), STEP.tx, key=key), BATCHES, steps=int(hp["b1"])).history

    with pytest.raises(jax.errors.ConcretizationTypeError) as raised:
        jl.sweep(fitting, SPACE)
    assert any("use make_scan or make_epoch" in note for note in raised.value.__notes__)


def test_a_function_that_cannot_be_kept():
    class Unhashable:
        __hash__ = None

        def __call__(self, hp, key):
            return hp["a"]

    with pytest.raises(TypeError, match="^sweep: run must be hashable, as functions are"):
        jl.sweep(Unhashable(), {"a": [1.0]})


def test_a_table_without_rows_is_printed_too():
    assert str(Table()) == "(no rows)"
