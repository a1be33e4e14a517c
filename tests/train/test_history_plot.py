"""``History.plot``: which curves are in which panel, and that they are the numbers."""

import numpy as np
import pytest

import jaxopt_lessons as jl
from jaxopt_lessons.train.history_plot import smoothed

pytest.importorskip("matplotlib")


def history(rows=200):
    """Four epochs; the loss falls with noise, and one of its rows is a step that was skipped."""
    rng = np.random.default_rng(0)
    steps = np.arange(1, rows + 1)
    loss = 1 + 5 / steps + rng.standard_normal(rows) / 10
    weight = np.full(rows, 4.0)
    loss[6], weight[6] = np.nan, 0
    made = jl.History()
    for epoch in range(4):
        at = slice(epoch * rows // 4, (epoch + 1) * rows // 4)
        columns = {"learning_rate": 1 / steps[at], "loss": loss[at], "large": loss[at] > 1, "weight": weight[at]}
        made.append(columns, steps[at], epoch)
        made.append({"val_loss": 2.0 - epoch, "val_large": 0.5}, at.stop, epoch)
    return made


def drawn(axis):
    return [(line.get_label(), np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in axis.lines]


def test_there_is_a_panel_for_each_quantity():
    figure = history().plot()
    assert [axis.get_ylabel() for axis in figure.axes] == ["loss", "large", "learning rate"]
    assert [len(axis.lines) for axis in figure.axes] == [3, 3, 1]
    assert [axis.get_legend() is not None for axis in figure.axes] == [True, True, False]
    assert figure.axes[-1].get_xlabel() == "batches"
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == ["loss", "val loss"]


def test_the_curves_are_the_numbers_and_their_averages():
    made = history()
    (_, steps, thin), (label, _, thick), (val_label, val_steps, val) = drawn(made.plot("loss", "val_loss").axes[0])
    counts = np.arange(200) != 6
    np.testing.assert_array_equal(steps, made.steps("loss")[counts])
    np.testing.assert_array_equal(thin, made["loss"][counts])
    np.testing.assert_allclose(thick, smoothed(made["loss"][counts], 0.75), 1e-6)
    assert (label, val_label) == ("loss", "val loss")
    np.testing.assert_array_equal(val_steps, [50, 100, 150, 200])
    np.testing.assert_array_equal(val, [2, 1, 0, -1])


def test_the_average_is_that_of_the_lessons():
    """``v = decay * v + (1 - decay) * x`` from 0, over ``1 - decay^t``."""
    values = np.random.default_rng(1).standard_normal(30)
    v, expected = 0.0, []
    for t, value in enumerate(values, 1):
        v = 0.9 * v + 0.1 * value
        expected.append(v / (1 - 0.9**t))
    np.testing.assert_allclose(smoothed(values, 0.9), expected, rtol=1e-5, atol=1e-6)


def test_how_much_is_smoothed():
    made = history()
    (only,) = drawn(made.plot("loss", smooth=0).axes[0])
    np.testing.assert_array_equal(only[2], made["loss"][np.arange(200) != 6])
    _, (_, _, average) = drawn(made.plot("loss", smooth=0.5).axes[0])
    np.testing.assert_allclose(average, smoothed(only[2], 0.5), 1e-6)
    assert len(history(40).plot("loss").axes[0].lines) == 1  # a 50th of so few steps is no average


def test_over_epochs_there_are_means():
    made = history()
    figure = made.plot("loss", "val_loss", x="epochs")
    (_, epochs, loss), (_, _, val) = drawn(figure.axes[0])
    np.testing.assert_array_equal(epochs, [1, 2, 3, 4])
    np.testing.assert_array_equal(loss, made.epoch_mean("loss"))
    np.testing.assert_array_equal(val, [2, 1, 0, -1])
    assert figure.axes[0].get_xlabel() == "epochs"


def test_logarithmic_axes_are_those_of_quantities():
    assert [axis.get_yscale() for axis in history().plot(log=True).axes] == ["log", "log", "linear"]
    assert [axis.get_yscale() for axis in history().plot().axes] == ["linear"] * 3


def test_it_draws_on_axes_that_are_there():
    figure = history().plot("loss", "learning_rate")
    for axis in figure.axes:
        axis.clear()
    assert history().plot("val_loss", "learning_rate", axes=figure.axes) is figure
    assert [axis.get_ylabel() for axis in figure.axes] == ["val loss", "learning rate"]
    with pytest.raises(ValueError, match="^plot: axes must be one for each of loss, learning rate; got 1"):
        history().plot("loss", "learning_rate", axes=figure.axes[0])


def test_the_weights_can_be_drawn_where_they_are_asked_for():
    (axis,) = history().plot("weight", smooth=0).axes
    assert axis.get_ylabel() == "weight"


@pytest.mark.parametrize(
    ("names", "options", "error", "message"),
    [
        (("accuracy",), {}, KeyError, "history has no 'accuracy'; it has learning_rate, loss"),
        ((), {"x": "seconds"}, ValueError, "^plot: x must be one of 'steps', 'epochs'; got 'seconds'"),
        ((), {"smooth": 1.0}, ValueError, "^plot: smooth must be"),
        ((), {"log": "y"}, TypeError, "^plot: log must be True or False; got 'y'"),
    ],
)
def test_arguments_are_checked(names, options, error, message):
    with pytest.raises(error, match=message):
        history().plot(*names, **options)


def test_an_empty_history_has_nothing_to_draw():
    with pytest.raises(ValueError, match="^plot: the history has no column to draw"):
        jl.History().plot()
