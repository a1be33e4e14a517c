"""The progress bar: where it is drawn, and what it is told."""

import io
import sys
import types

import jax
import numpy as np
import pytest
from training_problems import example_loss, network, regression

import jaxopt_lessons as jl
from jaxopt_lessons.train import progress as progress_module
from jaxopt_lessons.train.progress import make_progress

SGD = jl.sgd(0.01)


class Bar:
    """Notes everything a tqdm bar is told."""

    bars: list["Bar"]

    def __init__(self, **options):
        self.options, self.calls = options, []
        Bar.bars.append(self)

    def update(self, steps):
        self.calls.append(("update", steps))

    def set_description(self, text, refresh=True):
        self.calls.append(("description", text))

    def set_postfix(self, values, refresh=True):
        self.calls.append(("postfix", dict(values)))

    def refresh(self):
        self.calls.append(("refresh", None))

    def close(self):
        self.calls.append(("close", None))

    def told(self, what):
        return [value for name, value in self.calls if name == what]


@pytest.fixture
def bars(monkeypatch):
    module = types.ModuleType("tqdm.auto")
    module.tqdm = Bar
    monkeypatch.setitem(sys.modules, "tqdm.auto", module)
    monkeypatch.setattr(progress_module, "_in_notebook", lambda: True)
    Bar.bars = []
    return Bar.bars


class Stream(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


def train(progress, examples=10, loss_fn=example_loss, **options):
    data = regression(examples)
    step = jl.make_step(loss_fn, SGD)
    options = {"epochs": 2, "batch_size": 4} | options
    return jl.fit(step, jl.init_state(network(), SGD), data, progress=progress, **options)


def test_the_bar_is_told_every_step_and_the_epoch(bars):
    train(True)
    (bar,) = bars
    assert bar.options["total"] == 6
    assert bar.options["desc"] == "compiling"
    assert sum(bar.told("update")) == 6
    assert list(dict.fromkeys(bar.told("description"))) == ["epoch 1", "epoch 2"]
    assert bar.calls[-1] == ("close", None)
    assert len(bar.told("close")) == 1


def test_the_total_is_the_number_of_steps(bars):
    train(True, epochs=None, steps=7)
    train(True, epochs=0)
    train(True, remainder="drop")
    assert [bar.options["total"] for bar in bars] == [7, 0, 4]
    assert [sum(bar.told("update")) for bar in bars] == [7, 0, 4]


def test_the_bar_shows_the_latest_numbers_but_no_weights(bars):
    result = train(True, val=regression(5, seed=1))
    shown = bars[0].told("postfix")[-1]
    assert shown == {
        "loss": f"{result.history['loss'][-1]:.4g}",
        "learning_rate": f"{result.history['learning_rate'][-1]:.4g}",
        "val_loss": f"{result.history['val_loss'][-1]:.4g}",
    }


def test_a_validation_stays_on_the_bar_until_the_next(bars, monkeypatch):
    result = train(True, val=regression(5, seed=1), chunk_steps=1)
    shown = [values.get("val_loss") for values in bars[0].told("postfix")]
    first, second = (f"{value:.4g}" for value in result.history["val_loss"])
    assert shown == [None, None, first, first, first, second]
    assert bars[0].told("update") == [1] * 6


def test_the_bar_is_closed_when_the_run_fails(bars):
    def loss(params, batch):
        raise RuntimeError("not today")

    with pytest.raises(RuntimeError, match="not today"):
        train(True, loss_fn=loss)
    assert bars[0].calls[-1] == ("close", None)


@pytest.mark.parametrize(
    ("progress", "terminal", "drawn"), [(None, False, 0), (None, True, 1), (False, True, 0), (True, True, 1)]
)
def test_by_default_there_is_a_bar_where_there_is_a_terminal(bars, monkeypatch, progress, terminal, drawn):
    monkeypatch.setattr(progress_module, "_in_notebook", lambda: False)
    monkeypatch.setattr(sys, "stderr", Stream(terminal))
    assert (make_progress(progress, 3) is not None) == bool(drawn)
    assert len(bars) == drawn


def test_without_a_terminal_nothing_is_printed(capfd):
    train(None)
    train(False)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_the_bar_of_tqdm_itself_counts_to_the_end(monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", Stream(terminal=True))
    train(True)
    drawn = sys.stderr.getvalue()
    assert "6/6" in drawn
    assert "epoch 2" in drawn
    assert "loss=" in drawn


def test_without_tqdm_a_bar_that_was_asked_for_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    monkeypatch.setattr(sys, "stderr", Stream(terminal=True))
    with pytest.raises(ImportError, match=r"^fit\(progress=True\) needs tqdm: pip install tqdm$"):
        train(True)


def test_without_tqdm_the_default_is_no_bar(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    monkeypatch.setattr(sys, "stderr", Stream(terminal=True))
    assert make_progress(None, 3) is None
    assert np.isfinite(train(None).history["loss"]).all()


# ---------------------------------------------------------------------------------------------------------------------
# Lines for a log
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is told."""

    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


def test_without_a_terminal_a_bar_that_was_asked_for_is_lines(capsys, clock):
    bar = make_progress(True, 100, done=20)
    clock.now = 4.0
    bar.advance(10, 0, {"loss": 0.5, "weight": 4.0})
    clock.now = 10.0
    bar.advance(10, 1, {"loss": 0.25, "weight": 4.0})
    clock.now = 12.0
    bar.advance(60, 1, {"val_loss": 0.125})
    bar.close()
    assert capsys.readouterr().err.splitlines() == [
        "fit: step 20/100: compiling",
        "fit: step 40/100: epoch 2, loss 0.25, 2 steps/s, 0:30 left",
        "fit: step 100/100: epoch 2, loss 0.25, val_loss 0.125, 6.67 steps/s",
    ]


def test_lines_say_no_total_where_nobody_knows_it(capsys, clock):
    bar = make_progress(True, None)
    clock.now = 20.0
    bar.advance(10, 0, {})
    bar.close()
    assert capsys.readouterr().err.splitlines() == ["fit: step 0: compiling", "fit: step 10: epoch 1, 0.5 steps/s"]


def test_only_the_first_process_draws(monkeypatch, capsys):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    assert make_progress(True, 3) is None
    assert capsys.readouterr().err == ""


def test_a_notebook_is_a_place_for_a_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Stream(terminal=False))
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert progress_module._in_notebook()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: None))
    assert not progress_module._in_notebook()
    assert make_progress(None, 3) is None
