"""``Profile``: which steps are recorded, and that the record always ends."""

import math

import jax
import pytest
from observer_runs import DATA, fit, gone_on
from training_problems import assert_same

import jaxopt_lessons as jl
from jaxopt_lessons.train.programs import Compiled


@pytest.fixture
def traced(monkeypatch):
    """What is done, in order: the record begins and ends, and chunks run."""
    events = []
    start, stop, run = jax.profiler.start_trace, jax.profiler.stop_trace, Compiled.run_in_memory

    def started(*arguments, **options):
        events.append("start")
        return start(*arguments, **options)

    def stopped():
        events.append("stop")
        return stop()

    def chunk(compiled, state, batches, length, tail, in_loop):
        events.append(length + tail)
        return run(compiled, state, batches, length, tail, in_loop)

    monkeypatch.setattr(jax.profiler, "start_trace", started)
    monkeypatch.setattr(jax.profiler, "stop_trace", stopped)
    monkeypatch.setattr(Compiled, "run_in_memory", chunk)
    return events


def is_recording():
    """Whether a record is going on: JAX refuses to begin a second one."""
    try:
        jax.profiler.stop_trace()
    except RuntimeError:
        return False
    return True


def test_exactly_these_steps_are_recorded(tmp_path, traced):
    result = fit(steps=12, observers=[jl.Profile(tmp_path, steps=(2, 7))])
    at = traced.index("start"), traced.index("stop")
    assert sum(traced[: at[0]]) == 2
    assert sum(traced[at[0] + 1 : at[1]]) == 5
    assert sum(traced[at[1] + 1 :]) == 5
    assert traced.count("start") == traced.count("stop") == 1
    memory = result.observed["Profile"]
    assert (memory.first, memory.last, memory.began) == (2, 7, -1)
    assert 0 < memory.seconds_per_step < result.seconds / 5
    assert any(tmp_path.rglob("*.xplane.pb"))
    assert not is_recording()


def test_it_changes_nothing_in_the_run(tmp_path):
    with_profile, without = fit(observers=[jl.Profile(tmp_path, steps=(1, 4))]), fit()
    assert_same(with_profile.state, without.state)
    assert_same(with_profile.history.to_records(), without.history.to_records())


def test_chunks_are_cut_there_and_nowhere_else(tmp_path, traced):
    """With 24 batches in an epoch, one chunk is an epoch; only the two bounds are cut."""
    data = jax.tree.map(lambda x: x.repeat(9, axis=0)[:96], DATA)
    fit(data=data, epochs=2, val=None, observers=[jl.Profile(tmp_path, steps=(4, 12))])
    assert traced == [4, "start", 8, "stop", 8, 4, 24]


def test_steps_are_counted_from_where_the_run_begins(tmp_path, traced):
    begun = fit(steps=5)
    traced.clear()
    result = fit(state=begun.state, steps=6, observers=[jl.Profile(tmp_path, steps=(1, 3))])
    assert sum(traced[: traced.index("start")]) == 1
    assert (result.observed["Profile"].first, result.observed["Profile"].last) == (6, 8)


def test_the_record_ends_after_an_error(tmp_path):
    def broken(run):
        if run.cursor == 6:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="^broken") as raised:
        fit(observers=[jl.Profile(tmp_path, steps=(2, 10)), broken])
    assert not is_recording()
    assert any(tmp_path.rglob("*.xplane.pb"))
    memory = raised.value.fit_result.observed["Profile"]
    assert memory.began == -1
    assert memory.seconds_per_step > 0


def test_the_record_ends_where_the_run_is_stopped(tmp_path):
    def stop(run):
        run.stop("enough")

    result = fit(observers=[jl.Profile(tmp_path, steps=(2, 10)), stop])
    assert (result.reason, int(result.state.cursor)) == ("enough", 3)
    assert not is_recording()
    assert result.observed["Profile"].seconds_per_step > 0


def test_a_run_that_is_stopped_before_has_no_record(tmp_path):
    result = fit(observers=[jl.Profile(tmp_path, steps=(5, 10)), lambda run: run.stop("enough")])
    assert math.isnan(result.observed["Profile"].seconds_per_step)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("at", [3, 5, 9])
def test_a_run_that_goes_on_records_what_it_has_not(tmp_path, at, traced):
    """Killed before, in the middle, and after; a process that goes on compiles anew, and counts from there."""
    profile = jl.Profile(tmp_path / "trace", steps=(4, 7))
    result = gone_on(tmp_path / "run", at=at, observers=[profile])
    begin = {3: 2, 5: 4, 9: 0}[at]
    memory = result.observed["Profile"]
    assert (memory.first, memory.last) == (begin + 4, begin + 7)
    assert memory.seconds_per_step > 0
    assert traced.count("start") == traced.count("stop") == (2 if at == 5 else 1)
    assert not is_recording()


@pytest.mark.parametrize(("steps", "recorded"), [((6, 12), 2), ((9, 12), 0)])
def test_a_run_that_goes_on_with_few_steps_left_records_those(tmp_path, steps, recorded, traced):
    result = gone_on(tmp_path / "run", at=5, observers=[jl.Profile(tmp_path / "trace", steps=steps)])
    assert math.isnan(result.observed["Profile"].seconds_per_step) == (recorded == 0)
    in_record = traced[traced.index("start") + 1 : traced.index("stop")] if recorded else []
    assert sum(in_record) == recorded
    assert int(result.state.cursor) == 12
    assert not is_recording()


def test_more_steps_than_there_are_are_refused_before_the_first(tmp_path):
    with pytest.raises(ValueError, match=r"^Profile: steps=\(10, 20\), but the run has only 12 steps"):
        fit(observers=[jl.Profile(tmp_path)])


@pytest.mark.parametrize(
    ("steps", "error", "message"),
    [
        ((0, 5), ValueError, r"^Profile: steps\[0\] must be at least 1; got 0"),
        ((5, 5), ValueError, r"^Profile: steps\[1\] must be at least 6; got 5"),
        ((1.0, 5), TypeError, r"^Profile: steps\[0\] must be a whole number; got 1.0"),
        ([1, 5], TypeError, r"^Profile: steps must be two whole numbers \(after, until\); got \[1, 5\]"),
        ((1, 5, 6), TypeError, r"^Profile: steps must be two whole numbers"),
    ],
)
def test_arguments_are_checked(steps, error, message):
    with pytest.raises(error, match=message):
        jl.Profile("somewhere", steps=steps)


def test_a_stream_is_cut_there_too(tmp_path):
    batches = iter([tuple(x[:4] for x in DATA)] * 20)
    result = fit(data=batches, batch_size=None, epochs=1, observers=[jl.Profile(tmp_path, steps=(3, 9))])
    memory = result.observed["Profile"]
    assert memory.seconds_per_step > 0
    assert memory.seconds_per_step * 6 < result.seconds
    assert not is_recording()


def test_a_stream_that_is_too_short_says_so(tmp_path):
    batches = iter([tuple(x[:4] for x in DATA)] * 4)
    with pytest.warns(UserWarning, match="^Profile: the run had ended before 10 batches; nothing was recorded"):
        fit(data=batches, batch_size=None, epochs=1, observers=[jl.Profile(tmp_path)])
