"""``plot`` draws what the schedules say: the numbers are read back from the axes."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matplotlib.figure import Figure

import jaxopt_lessons as jl

RATE = jl.warmup(10, 1.0, from_zero=True).then(jl.cosine_decay_schedule(1.0, 90))
MOMENTUM = jl.linear_schedule(0.9, 0.5, 50)


def lines(figure, panel=0):
    return figure.axes[panel].lines


def assert_draws(line, schedule):
    counts = np.asarray(line.get_xdata())
    expected = np.array([float(schedule(int(count))) for count in counts])
    np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-5, atol=1e-6)


def test_a_schedule_to_its_end():
    figure = jl.plot(RATE, quantity="learning rate")
    assert isinstance(figure, Figure)
    (line,) = lines(figure)
    np.testing.assert_array_equal(line.get_xdata(), np.arange(RATE.length + 1))
    assert_draws(line, RATE)
    assert line.get_ydata()[0] == 0 == line.get_ydata()[-1]
    assert max(line.get_ydata()) == 1
    assert figure.axes[0].get_xlabel() == "updates"
    assert figure.axes[0].get_ylabel() == "learning rate"


def test_as_many_updates_as_wanted():
    (line,) = lines(jl.plot(RATE, 40))
    np.testing.assert_array_equal(line.get_xdata(), np.arange(40))


def test_all_that_is_scheduled_in_an_optimizer():
    tx = jl.chain(jl.clip(lambda count: 1 / (1 + count)), jl.adamw(RATE, b1=MOMENTUM))
    figure = jl.plot(tx)
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == ["clip.max_delta", "adamw.learning_rate", "adamw.b1"]
    assert [axis.get_ylabel() for axis in figure.axes] == ["max delta", "learning rate", "b1"]
    assert [axis.get_xlabel() for axis in figure.axes] == ["", "", "updates"]
    for panel, schedule in enumerate((lambda count: 1 / (1 + count), RATE, MOMENTUM)):
        assert_draws(lines(figure, panel)[0], schedule)
        assert len(lines(figure, panel)[0].get_xdata()) == 101


def test_one_quantity_of_several_groups_shares_a_panel():
    tx = jl.groups({"bias": {"learning_rate": MOMENTUM}}, default=jl.sgd(RATE))
    figure = jl.plot(tx)
    assert [line.get_label() for line in lines(figure)] == ["bias.sgd.learning_rate", "default.sgd.learning_rate"]
    assert_draws(lines(figure)[0], MOMENTUM)
    assert_draws(lines(figure)[1], RATE)
    assert (
        len({line.get_color() for line in lines(figure)}) == len({line.get_linestyle() for line in lines(figure)}) == 2
    )


def test_the_learning_rate_is_the_one_that_is_used():
    """A preset may add a warm-up to the number it is given."""
    (line,) = lines(jl.plot(jl.schedule_free_adamw(0.5, warmup_steps=10), 20))
    np.testing.assert_allclose(line.get_ydata()[[0, 5, 10, 19]], [0.05, 0.3, 0.5, 0.5], rtol=1e-6)


def test_several_for_comparison():
    def falling(count):
        return 1 / (1 + count)

    figure = jl.plot([RATE, MOMENTUM, falling])
    names = [line.get_label() for line in lines(figure)]
    assert names[:2] == ["then_schedule", "linear_schedule"]
    assert names[2].startswith("test_several_for_comparison")
    for line, schedule in zip(lines(figure), (RATE, MOMENTUM, falling), strict=True):
        assert_draws(line, schedule)
    figure = jl.plot({"one": RATE, "two": jl.sgd(MOMENTUM)})
    assert [line.get_label() for line in lines(figure, 0)] + [lines(figure, 1)[0].get_label()] == [
        "one",
        "two: sgd.learning_rate",
    ]


def test_long_names_are_told_apart():
    lanes = jl.grid(jl.sgd, learning_rate=[RATE, RATE])
    labels = [line.get_label() for line in lines(jl.plot(lanes))]
    assert len(set(labels)) == 2
    assert labels[1].endswith("... (2)")
    assert max(map(len, labels)) <= 60


def test_names_in_a_list():
    one, two = jl.linear_schedule(1.0, 0.0, 5), jl.linear_schedule(2.0, 0.0, 5)
    labels = [line.get_label() for line in lines(jl.plot([one, two, two]))]
    assert labels[0].startswith("linear_schedule(init_value=1.0")
    assert len(set(map(str, [one, two]))) == 2
    assert [line.get_label() for line in lines(jl.plot([one, RATE]))] == ["linear_schedule", "then_schedule"]


def test_schedules_of_optax_and_functions_that_branch():
    with jax.numpy_dtype_promotion("standard"):  # as optax expects it
        (line,) = lines(jl.plot(optax.cosine_decay_schedule(1.0, 50), 50))
        assert_draws(line, optax.cosine_decay_schedule(1.0, 50))

    def branching(count):
        return jax.lax.cond(count < 5, lambda: 1.0, lambda: 0.1)

    assert_draws(lines(jl.plot(branching, 10))[0], branching)


def test_a_logarithmic_axis():
    figure = jl.plot(RATE, log=True)
    assert figure.axes[0].get_yscale() == "log"
    assert jl.plot(RATE).axes[0].get_yscale() == "linear"


def test_epochs():
    figure = jl.plot(jl.adamw(RATE, b1=MOMENTUM), steps_per_epoch=20)
    figure.draw_without_rendering()
    (epochs,) = figure.axes[0].child_axes
    assert epochs.get_xlabel() == "epochs"
    np.testing.assert_allclose(epochs.get_xlim(), np.array(figure.axes[0].get_xlim()) / 20)
    assert figure.axes[1].child_axes == []


def test_constants_are_listed_when_asked_for():
    tx = jl.adam(RATE, eps=1e-6)
    assert jl.plot(tx).get_supxlabel() == ""
    listed = jl.plot(tx, constants=True).get_supxlabel()
    assert "adam.b1 = 0.9" in listed
    assert "adam.eps = 1e-06" in listed
    assert "learning_rate" not in listed
    several = jl.plot({"a": tx, "b": jl.lion(RATE, b1=0.8)}, constants=True).get_supxlabel()
    assert "adam.b1 = 0.9" in several
    assert "lion.b1 = 0.8" in several
    assert jl.plot(RATE, constants=True).get_supxlabel() == ""


def test_on_given_axes():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert jl.plot(RATE, ax=right) is figure
    assert (len(left.lines), len(right.lines)) == (0, 1)


# -- long runs --------------------------------------------------------------------------------------------------------


def test_no_jump_of_a_long_run_is_missed():
    steps = 300_001
    spikes = jl.manual_schedule({0: 1.0, 7: 5.0, 8: 1.0, 123_456: 9.0, 123_457: 1.0, 299_999: 0.5})
    (line,) = lines(jl.plot(spikes, steps))
    drawn = dict(zip(np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist(), strict=True))
    assert len(drawn) < 4000
    assert drawn[0] == 1.0
    assert drawn[123_456] == 9.0
    assert drawn[7] == 5.0
    assert drawn[299_998] == 1.0
    assert drawn[299_999] == 0.5
    assert max(drawn) == steps - 1
    assert_draws(line, spikes)


def test_the_curve_between_is_kept():
    """What is left out lies on the lines between what is drawn, up to a thousandth of the height."""
    steps = 200_000
    schedule = jl.cosine_decay_restarts(1.0, 30_000, t_mul=1)
    (line,) = lines(jl.plot(schedule, steps))
    counts = np.arange(steps)
    exact = np.asarray(jax.vmap(schedule)(jnp.arange(steps)))
    np.testing.assert_allclose(np.interp(counts, line.get_xdata(), line.get_ydata()), exact, atol=1e-3)


def test_short_runs_are_drawn_whole():
    assert len(lines(jl.plot(RATE, 3000))[0].get_xdata()) == 3000


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jl.plot(jl.adam(0.1)), ValueError, "plot: nothing is scheduled in adam(learning_rate=0.1"),
        (lambda: jl.plot({}), ValueError, "plot: nothing is scheduled in {}"),
        (
            lambda: jl.plot(jl.exponential_decay(1.0, 10, 0.5)),
            ValueError,
            "exponential_decay has no end of its own; say wi",
        ),
        (lambda: jl.plot(0.1), TypeError, "plot: thing must be a schedule or a transformation"),
        (lambda: jl.plot(RATE, 0), ValueError, "plot: steps must be at least 1"),
        (lambda: jl.plot(RATE, 10.5), TypeError, "plot: steps must be a whole number"),
        (lambda: jl.plot(RATE, 2**30), ValueError, "plot: steps must be at most 2^24"),
        (lambda: jl.plot(RATE, steps_per_epoch=0), ValueError, "plot: steps_per_epoch must be at least 1"),
        (
            lambda: jl.plot(jl.adam(RATE, b1=MOMENTUM), ax=Figure().subplots()),
            ValueError,
            "plot: there are schedules of learning_rate, b1, for which one ax is too few",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert message in str(raised.value)


def test_without_matplotlib(uninstalled):
    uninstalled("matplotlib")
    with pytest.raises(ImportError, match="plot needs matplotlib: pip install matplotlib"):
        jl.plot(RATE)


def test_it_draws_without_a_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jl.plot(jl.adamw(RATE, b1=MOMENTUM), log=True, steps_per_epoch=10, constants=True).savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000
