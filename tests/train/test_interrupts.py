"""Ctrl-C and SIGTERM end a run at the end of a chunk; a second one ends it at once; and all is as before afterwards."""

import signal
import threading

import pytest
from training_problems import assert_same, network, noisy_loss, regression

import jaxopt_lessons as jl

DATA = regression(11)
STEP = jl.make_step(noisy_loss, jl.adam(0.05))
STATE = jl.init_state(network(), STEP, key=3)
SIGNALS = [signal.SIGINT, signal.SIGTERM]


def fit(*observers, steps=300):
    return jl.fit(STEP, STATE, DATA, batch_size=4, steps=steps, observers=observers)


def sends(number, at=6, times=1):
    def look(run):
        if run.cursor == at:
            for _ in range(times):
                signal.raise_signal(number)  # in this thread: of two that others get, one may be lost

    return look


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_run_and_loses_nothing(number, tmp_path, capsys):
    before = signal.getsignal(number)
    result = fit(sends(number), jl.Checkpoint(tmp_path, every=jl.Every(steps=100)))
    assert result.reason == signal.Signals(number).name
    assert int(result.state.cursor) == 6
    assert_same(result.state, fit(steps=6).state)
    assert jl.latest_step(tmp_path) == 6
    assert "the run ends after this chunk; once more ends it at once" in capsys.readouterr().err
    assert signal.getsignal(number) is before
    resumed = jl.fit(
        STEP,
        STATE,
        DATA,
        batch_size=4,
        steps=9,
        observers=[sends(number, at=0), jl.Checkpoint(tmp_path)],
        resume=True,
    )
    assert_same(resumed.state, fit(steps=9).state)


def test_a_second_signal_ends_it_at_once():
    with pytest.raises(KeyboardInterrupt) as raised:
        fit(sends(signal.SIGINT, times=2))
    assert int(raised.value.fit_result.state.cursor) == 6
    assert_same(raised.value.fit_result.state, fit(steps=6).state)


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert fit(sends(signal.SIGINT), steps=9).reason == "finished"
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_handlers_are_put_back_after_an_error():
    before = [signal.getsignal(number) for number in SIGNALS]

    def fails(run):
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        fit(fails)
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_in_another_thread_a_run_catches_no_signals():
    results = []
    thread = threading.Thread(target=lambda: results.append(fit(steps=3)))
    thread.start()
    thread.join()
    assert_same(results[0].state, fit(steps=3).state)
