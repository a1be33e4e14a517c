"""The example of figures: what it draws, and that the gallery's schedules are those it names."""

import numpy as np
import pytest
from example_runs import EXAMPLES, load

import jaxopt_lessons as jl

example = load("plot_schedules")


def test_it_draws_two_figures(tmp_path, capsys):
    paths = example.main(["--figures", str(tmp_path / "new")])
    assert [path.name for path in paths] == ["schedules.png", "plot_optimizer.png"]
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 20_000
        assert (EXAMPLES / "figures" / path.name).exists()
        assert str(path) in capsys.readouterr().out or path is not paths[0]


def test_the_gallery_draws_every_schedule():
    figure = example.gallery()
    assert len(figure.axes) == len(example.GALLERY)
    for ax, (title, schedules) in zip(figure.axes, example.GALLERY.items(), strict=True):
        assert ax.get_title(loc="left") == title
        assert [line.get_label() for line in ax.lines] == list(schedules)
        for line, schedule in zip(ax.lines, schedules.values(), strict=True):
            expected = np.asarray(schedule(np.arange(example.STEPS)))
            np.testing.assert_allclose(line.get_ydata(), expected / example.PEAK, rtol=1e-5, atol=1e-6)
            assert 0.5 <= max(line.get_ydata()) <= 1 + 1e-5


def test_the_optimizer_has_three_schedules():
    titles = [ax.get_title(loc="left") for ax in example.optimizer().axes]
    assert titles == ["adamw.learning_rate", "adamw.b1", "adamw.weight_decay"]
    assert jl.explain(example.OPTIMIZER, {"w": np.ones((2, 2), np.float32)}, steps=example.STEPS).warnings == ()


@pytest.mark.parametrize("argument", ["--nothing", "--figures"])
def test_wrong_options(argument):
    with pytest.raises(SystemExit):
        example.main([argument])
