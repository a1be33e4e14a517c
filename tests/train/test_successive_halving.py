"""Successive halving is training all lanes whole and crossing out by hand, without the steps of those that lost."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from matplotlib.figure import Figure
from training_problems import assert_near, assert_same, backend_compiles, distance, network, noisy_loss, regression

import jaxopt_lessons as jl
from jaxopt_lessons.train import compilation

BATCHES = jl.minibatches(regression(11), 4, remainder="wrap")
STEP = jl.make_step(noisy_loss, jl.adam(0.1))
SPACE = {"learning_rate": [0.03, 3.0, 1e-3, 0.1], "b1": [0.0, 0.9]}
RUNGS = [3, 6, 12]
SEEDS = [3, 8]


def init(hp, key):
    return jl.init_state(network(), STEP.replace(**hp).tx, key=key)


def train(hp, state, steps):
    state, metrics = jl.make_scan(STEP.replace(**hp), steps)(state, BATCHES)
    return state, {"loss": metrics["loss"]}


def search(space=SPACE, **arguments):
    return jl.successive_halving(init, train, space, SEEDS, rungs=RUNGS, eta=2, **arguments)


@functools.cache
def whole_trainings():
    """For each point and seed the states at the ends of the rungs and all losses, one step program after the other."""
    begin, go_on = jax.jit(init), jax.jit(train, static_argnums=2)
    lanes = {}
    for rate in SPACE["learning_rate"]:
        for b1 in SPACE["b1"]:
            hp = {"learning_rate": jnp.float32(rate), "b1": jnp.float32(b1)}
            for seed in SEEDS:
                state, states, losses = begin(hp, jax.random.key(seed)), {}, []
                for step in range(1, RUNGS[-1] + 1):
                    state, values = go_on(hp, state, 1)
                    losses.append(float(values["loss"][0]))
                    states[step] = state
                lanes[rate, b1, seed] = states, losses
    return lanes


def of(point, seed):
    return whole_trainings()[point["learning_rate"], point["b1"], seed]


def by_hand():
    """The points of each rung, in the order of the space."""
    points = [{"learning_rate": rate, "b1": b1} for rate in SPACE["learning_rate"] for b1 in SPACE["b1"]]
    rungs = [points]
    for end in RUNGS[:-1]:
        means = [np.mean([of(point, seed)[1][end - 1] for seed in SEEDS]) for point in rungs[-1]]
        kept = sorted(np.argsort(means)[: len(means) // 2])
        rungs.append([rungs[-1][i] for i in kept])
    return rungs


# ---------------------------------------------------------------------------------------------------------------------
# The numbers
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["vmap", "map", 3, "shard"])
def test_it_is_training_all_and_crossing_out_by_hand(how):
    result = search(how=how)
    rungs = by_hand()
    assert [len(points) for points in rungs] == [8, 4, 2]
    assert [rung.points for rung in result.rungs] == rungs
    assert result.chosen == [[rungs[0].index(point) for point in points] for points in rungs]
    assert result.chosen[1] not in ([0, 1, 2, 3], [4, 5, 6, 7])  # the order of the space is not that of the losses
    assert result.steps == RUNGS
    begin = 0
    for rung, end in zip(result.rungs, RUNGS, strict=True):
        expected = [[of(point, seed)[1][begin:end] for seed in SEEDS] for point in rung.points]
        np.testing.assert_allclose(rung.values["loss"], expected, 1e-4)
        assert rung.seeds == SEEDS
        begin = end
    ends = [[of(point, seed)[0][RUNGS[-1]] for seed in SEEDS] for point in rungs[-1]]
    for i, states in enumerate(ends):
        for j, state in enumerate(states):
            assert_near(jax.tree.map(lambda x, i=i, j=j: x[i, j], result.state), state, 1e-4)
    assert distance(ends[0][0].params, ends[1][0].params) > 1e-2
    assert distance(ends[0][0].params, ends[0][1].params) > 1e-2
    means = [np.mean([of(point, seed)[1][-1] for seed in SEEDS]) for point in rungs[-1]]
    assert result.best() == rungs[-1][int(np.argmin(means))]


def test_lanes_have_the_bits_that_they_have_alone():
    together = search(how="map")
    for i, point in enumerate(together.rungs[-1].points):
        alone = search([point], how="map")
        assert_same(jax.tree.map(lambda x: x[0], alone.state), jax.tree.map(lambda x, i=i: x[i], together.state))


def test_on_some_devices_with_shares_that_are_filled_up():
    mesh = Mesh(np.asarray(jax.devices()[:3]), ("some",))
    result, expected = search(how=mesh), search(how="map")
    assert len(result.state.params["w1"].devices()) > 1
    assert result.chosen == expected.chosen
    assert_near(result.state, expected.state, 1e-5)


def test_steps_of_lanes_that_lost_are_not_taken():
    """A callback for each lane that trains: 8, 4 and 2 points with two seeds."""
    ran = []

    def begin(hp, key):
        return hp["a"] + jax.random.normal(key)

    def go_on(hp, state, steps):
        jax.debug.callback(lambda a: ran.append((steps, float(a))), hp["a"])
        return state, hp["a"]

    points = [5.0, 1.0, 7.0, 3.0, 0.0, 6.0, 2.0, 4.0]
    for how in ("map", "vmap"):
        ran.clear()
        jax.block_until_ready(jl.successive_halving(begin, go_on, {"a": points}, 2, rungs=[1, 3, 9], eta=2, how=how))
        jax.effects_barrier()
        assert sorted(ran) == sorted(
            [(1, a) for a in points] * 2 + [(2, a) for a in range(4)] * 2 + [(6, a) for a in range(2)] * 2
        )


# -- who goes on ------------------------------------------------------------------------------------------------------


def begin(hp, key):
    return {"steps": 0, "noise": jax.random.normal(key), "a": hp["a"]}


def go_on(hp, state, steps):
    """The loss is ``a``, and not a number from the step ``dies`` on, for the seed with positive noise."""
    state = {**state, "steps": state["steps"] + steps}
    dead = (state["steps"] >= hp["dies"]) & (state["noise"] > 0)
    return state, {"loss": jnp.where(dead, hp["as"], hp["a"]), "other": jnp.stack([-state["a"], 10 * state["a"]])}


def toy(losses, dies=None, as_=np.nan, **arguments):
    dies = dies or [100] * len(losses)
    points = [{"a": float(a), "dies": n, "as": as_} for a, n in zip(losses, dies, strict=True)]
    result = jl.successive_halving(begin, go_on, points, 2, **{"rungs": [1, 3, 9, 27], "eta": 2, **arguments})
    return result, [[point["a"] for point in rung.points] for rung in result.rungs]


def test_one_of_the_seeds_has_positive_noise():
    noise = [float(jax.random.normal(jax.random.key(seed))) for seed in range(2)]
    assert sorted(x > 0 for x in noise) == [False, True]


@pytest.mark.parametrize(
    ("eta", "numbers"), [(2, [7, 3, 1, 1]), (3, [7, 2, 1, 1]), (4, [7, 1, 1, 1]), (100, [7, 1, 1, 1])]
)
def test_one_in_eta_goes_on_rounded_down(eta, numbers):
    losses = [4.0, 2.0, 7.0, 1.0, 3.0, 6.0, 5.0]
    result, points = toy(losses, eta=eta)
    assert points == [[a for a in losses if a <= number or number == 7] for number in numbers]
    assert np.asarray(result.state["steps"]).tolist() == [[27, 27]]


def test_eta_is_three_by_default():
    points = [{"a": float(a), "dies": 9, "as": 0.0} for a in range(9)]
    result = jl.successive_halving(begin, go_on, points, 1, rungs=[1, 2])
    assert [len(rung.points) for rung in result.rungs] == [9, 3]


def test_the_first_of_equal_ones_goes_on():
    result, _ = toy([1.0, 1.0, 1.0, 1.0], rungs=[1, 2])
    assert result.chosen == [[0, 1, 2, 3], [0, 1]]


def test_the_largest_or_another_metric():
    assert toy([1.0, 3.0, 2.0, 0.0], mode="max")[1][1:3] == [[3.0, 2.0], [3.0]]
    result, points = toy([1.0, 3.0, 2.0, 0.0], metric="other")
    assert points[1:3] == [[1.0, 0.0], [0.0]]  # of the curve -a, 10 a the last number counts
    assert (result.metric, result.mode) == ("other", "min")
    result, points = toy([1.0, 3.0, 2.0, 0.0], metric="other", mode="max")
    assert points[1:3] == [[3.0, 2.0], [3.0]]
    assert result.best()["a"] == 3.0


@pytest.mark.parametrize("as_", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_lanes_that_diverged_never_go_on(as_, mode):
    sign = 1 if mode == "min" else -1
    _, points = toy([sign * a for a in (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)], [1, 3, 99, 99, 99, 99], as_, mode=mode)
    assert [[sign * a for a in rung] for rung in points] == [[0, 1, 2, 3, 4, 5], [1, 2, 3], [2], [2]]


def test_fewer_go_on_if_fewer_are_left():
    _, points = toy([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [1, 1, 1, 1, 99, 1])
    assert points == [[0, 1, 2, 3, 4, 5], [4], [4], [4]]


def test_it_ends_where_no_point_is_left():
    result, points = toy([0.0, 1.0, 2.0, 3.0], [3, 3, 99, 99])
    assert points == [[0, 1, 2, 3], [0, 1]]
    assert result.steps == [1, 3]
    assert result.state["steps"].tolist() == [[3, 3], [3, 3]]
    assert result.rungs[0].best()["a"] == 0.0
    with pytest.raises(ValueError, match="^best: every point has a lane that is NaN or infinite"):
        result.best()


# ---------------------------------------------------------------------------------------------------------------------
# Compilation
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["vmap", "map", 2, "shard"])
def test_a_program_for_each_rung_and_none_the_second_time(how):
    traces = []

    def begin(hp, key):
        traces.append("begin")
        return hp["a"] + jax.random.normal(key)

    def go_on(hp, x, steps):
        traces.append(steps)
        x = jax.lax.scan(lambda x, _: (x * hp["b"], None), x, length=steps)[0]
        return x, {"loss": x**2}

    space = {"a": [4.0, 1.0, 3.0, 2.0], "b": [0.5, 0.9]}
    arguments = {"rungs": [2, 4, 7], "eta": 2, "how": how}
    with compilation.count() as compiled, backend_compiles() as events:
        first = jl.successive_halving(begin, go_on, space, [0, 1], **arguments)
    assert compiled == ["run_lanes"] * 3
    assert len(events) <= 3 + 2  # and, the first time in a process, what stacks the keys
    assert traces == ["begin", 2, 2, 3]
    others = {"a": [-9.0, 9.0, 0.0, 8.0], "b": [0.6, 0.8]}
    with compilation.count() as compiled, backend_compiles() as events:
        second = jl.successive_halving(begin, go_on, others, [5, 7], **arguments)
    assert compiled == events == []
    assert traces == ["begin", 2, 2, 3]
    assert first.chosen[1] != second.chosen[1]
    with compilation.count() as compiled:
        jl.successive_halving(begin, go_on, space, [0, 1], **{**arguments, "rungs": [2, 4, 8]})
    assert compiled == ["run_lanes"]


def test_the_step_is_an_int():
    seen = []

    def go_on(hp, state, steps):
        seen.append(steps)
        return state, hp["a"]

    jl.successive_halving(begin, go_on, {"a": [1.0, 2.0, 3.0]}, rungs=np.array([2, 5, 11]))
    assert seen == [2, 3, 6]
    assert all(type(steps) is int for steps in seen)


# ---------------------------------------------------------------------------------------------------------------------
# The result
# ---------------------------------------------------------------------------------------------------------------------


def test_a_table():
    result, _ = toy([4.0, 2.0, 1.0, 3.0], [1, 99, 99, 99], rungs=[10, 20], as_=np.inf)
    assert [list(row)[3:] for row in result.table()] == [["steps", "mean", "std", "best"]] * 4
    assert [(row["a"], row["steps"], row["mean"]) for row in result.table()] == [
        (4.0, 10, np.inf),
        (2.0, 20, 2.0),
        (1.0, 20, 1.0),
        (3.0, 10, 3.0),
    ]
    assert result.table()[0]["best"] == 4.0
    result, _ = toy([4.0, 2.0], metric="other", mode="max", rungs=[10])
    assert [row["mean"] for row in result.table()] == [40.0, 20.0]


def test_equal_points_have_rows_of_their_own():
    result, _ = toy([2.0, 2.0, 1.0, 1.0], rungs=[1, 2])
    assert [row["steps"] for row in result.table()] == [1, 1, 2, 2]


def test_it_prints_and_pickles():
    result = search()
    expected = "HalvingResult(points of learning_rate, b1 to steps: 8 to 3, 4 to 6, 2 to 12; 2 seeds)"
    assert repr(result) == expected
    again = pickle.loads(pickle.dumps(result._replace(state=None)))
    assert repr(again) == expected
    assert again.table() == result.table()
    with pytest.raises(AttributeError):
        result.rungs = []


def test_a_figure():
    result, _ = toy([4.0, 2.0, 1.0, 3.0], [1, 99, 99, 99], rungs=[10, 20])
    figure = result.plot(log=True)
    (axis,) = figure.axes
    assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_yscale()) == ("steps", "loss", "log")
    lines = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in axis.lines]
    assert lines[1:] == [([10], [3.0]), ([10, 20], [2.0, 2.0]), ([10, 20], [1.0, 1.0])]
    assert np.isnan(lines[0][1]).all()
    colors = [line.get_color() for line in axis.lines]
    assert colors[0] == colors[1]
    assert len(set(colors)) == 3
    texts = [text.get_text() for text in axis.get_legend().get_texts()]
    assert texts == ["a 2, dies 99, as nan", "a 1, dies 99, as nan"]
    given = Figure()
    left, right = given.subplots(1, 2)
    assert result.plot(ax=right) is given
    assert (len(left.lines), len(right.lines), right.get_yscale()) == (0, 4, "linear")


# ---------------------------------------------------------------------------------------------------------------------
# Errors
# ---------------------------------------------------------------------------------------------------------------------


class Unhashable:
    __hash__ = None

    def __call__(self, *arguments):
        return arguments


def halving(begin=begin, go_on=lambda hp, state, steps: (state, state["a"]), space=None, seeds=1, **arguments):
    return jl.successive_halving(begin, go_on, space or {"a": [1.0, 2.0]}, seeds, **{"rungs": [1, 2], **arguments})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: halving(begin=3), TypeError, "init must be a function (hp, key) -> state; got 3."),
        (lambda: halving(go_on=3), TypeError, "train must be a function (hp, state, steps) -> (state, values); got 3."),
        (lambda: halving(begin=Unhashable()), TypeError, "init must be hashable, as functions are"),
        (lambda: halving(go_on=Unhashable()), TypeError, "train must be hashable, as functions are"),
        (lambda: halving(space=[1.0]), TypeError, "space must map names to lists of numbers"),
        (lambda: halving(seeds=0), ValueError, "seeds must be at least 1; got 0."),
        (lambda: halving(rungs=3), TypeError, "rungs must be a list of numbers of steps, as in [10, 30, 90]; got 3."),
        (lambda: halving(rungs=[]), ValueError, "rungs is empty."),
        (lambda: halving(rungs=[1.5]), TypeError, "a rung must be a whole number; got 1.5"),
        (lambda: halving(rungs=[0, 1]), ValueError, "a rung must be at least 1; got 0."),
        (lambda: halving(rungs=[3, 3]), ValueError, "rungs must increase; got (3, 3)."),
        (lambda: halving(eta=1), ValueError, "eta must be at least 2; got 1."),
        (lambda: halving(eta=2.0), TypeError, "eta must be a whole number; got 2.0"),
        (lambda: halving(mode="least"), ValueError, "mode must be one of 'min', 'max'; got 'least'."),
        (lambda: halving(how="pmap"), ValueError, "how must be 'auto', 'vmap', 'map'"),
        (lambda: halving(metric="los"), ValueError, "there is no metric 'los'."),
        (
            lambda: halving(go_on=lambda hp, state, steps: (state, {"x": hp["a"], "y": hp["a"]})),
            ValueError,
            "say which metric; there are: x, y.",
        ),
        (
            lambda: halving(go_on=lambda hp, state, steps: (state, jnp.zeros((3, 4)) * hp["a"])),
            ValueError,
            "a metric is one real number in each lane, or a curve of them; '(the only leaf)' is float32[3,4].",
        ),
        (
            lambda: halving(go_on=lambda hp, state, steps: state),
            TypeError,
            "train must return a pair (state, values); got",
        ),
        (
            lambda: halving(go_on=lambda hp, state, steps: (state, {"loss": "low"})),
            TypeError,
            "train must return a tree of arrays; the leaf at 'loss' is 'low' of type str.",
        ),
        (
            lambda: halving(go_on=lambda hp, state, steps: (None, hp["a"])),
            TypeError,
            "train must return a tree of arrays; got None.",
        ),
        (lambda: halving(begin=lambda hp, key: None), TypeError, "init must return a tree of arrays; got None."),
        (
            lambda: halving(space={"a": [1.0], "b": [1.0]}),
            ValueError,
            "the training does not use hp['b']: all its values would be one.",
        ),
        (
            lambda: halving(begin=lambda hp, key: {"a": hp["a"]}, seeds=2),
            ValueError,
            "the training does not use its key: 2 seeds would be one.",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value).startswith("successive_halving: " + message)


def test_columns_of_the_table_are_no_axes():
    result = jl.successive_halving(
        lambda hp, key: hp["steps"], lambda hp, x, steps: (x, x), {"steps": [1.0]}, rungs=[1]
    )
    with pytest.raises(ValueError, match="^table: an axis cannot be called 'steps'"):
        result.table()


@pytest.mark.parametrize("steps", [[1], [1, 2]])
def test_notes_on_errors_of_the_functions(steps):
    """In the first rung and in a later one."""

    def go_on(hp, state, n):
        return state, state["a"] if n == 1 and len(steps) > 1 and not seen.append(n) and len(seen) == 1 else hp["b"]

    seen = []
    with pytest.raises(KeyError) as raised:
        jl.successive_halving(begin, go_on, {"a": [1.0, 2.0]}, rungs=steps)
    assert "successive_halving: hp has the axes of space. There are: a." in raised.value.__notes__
    assert len(seen) == (2 if len(steps) > 1 else 0)
