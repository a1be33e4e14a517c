"""``Rollback``: when a run goes back, to what, and how it goes on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import bad_input
from training_problems import assert_same, distance, example_loss, network, noisy_loss, regression

import jaxopt_lessons as jl

STEPS = jl.Every(steps=1)


def halving(bad, *, steps=8, observers=(), tx=None, step=None, **options):
    """Each step halves the parameter; at the cursors of ``bad`` the data is that number instead of 1."""
    data = np.ones(steps, np.float32)
    for cursor, value in bad.items():
        data[cursor - 1] = value
    step = step or jl.make_step(lambda w, x: x * w**2, tx or jl.sgd(0.25))
    state = jl.init_state(1.0, step)
    return jl.fit(step, state, data, steps=steps, batch_size=1, shuffle=False, observers=observers, **options)


def test_a_good_run_is_left_alone():
    rollback = jl.Rollback(every=STEPS)
    result = halving({}, observers=[rollback])
    assert_same(result.state, halving({}).state)
    memory = result.observed["Rollback"]
    assert (memory.count, memory.in_a_row) == (0, 0)
    assert_same(memory.newest, result.state)
    assert_same(memory.good, halving({}, steps=7).state)
    np.testing.assert_allclose(memory.recent[-8:], [4.0**-i for i in range(8)])
    assert np.isnan(memory.recent[:2]).all()


@bad_input(46)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_puts_the_last_good_state_back(bad):
    """The loss at batch 5 is bad, so the state after 4 was the last to be judged, and was not good enough."""
    result = halving({5: bad}, observers=[jl.Rollback(every=STEPS)])
    memory = result.observed["Rollback"]
    assert (memory.count, memory.in_a_row) == (1, 0)
    assert (int(result.state.cursor), int(result.state.step)) == (8, 3 + 3)
    assert float(result.state.params) == 0.5**6
    assert np.isfinite(result.history["loss"][5:]).all()
    assert len(result.history["loss"]) == 8


def test_a_step_that_breaks_the_state_is_seen_before_the_loss_is():
    """At batch 5 the loss is finite and its gradient is not."""
    step = jl.make_step(
        lambda w, x: jnp.where(x > 0, x * w**2, jnp.sqrt(jnp.where(x > 0, 1.0, w - 0.0625))), jl.sgd(0.25)
    )
    result = halving({5: -1.0}, step=step, observers=[jl.Rollback(every=STEPS)])
    assert float(result.history["loss"][4]) == 0.0
    assert (int(result.state.cursor), int(result.state.step)) == (8, 4 + 3)
    assert float(result.state.params) == 0.5**7
    assert result.observed["Rollback"].count == 1
    broken = halving({5: -1.0}, step=step)
    assert np.isnan(float(broken.state.params))


def test_an_explosion_puts_back_the_state_from_before_the_step_that_did_it():
    """Batch 5 moves the parameter far away, with a small loss; the look after it finds the explosion."""
    result = halving({5: -1e4}, observers=[jl.Rollback(every=STEPS)])
    assert result.history["loss"][4] < 0
    assert result.history["loss"][5] > 1e4
    assert (int(result.state.cursor), int(result.state.step)) == (8, 4 + 2)
    assert float(result.state.params) == 0.5**6


@pytest.mark.parametrize(("factor", "count"), [(1.5, 1), (2.5, 0)])
def test_too_much_is_a_multiple_of_the_median(factor, count):
    """The numbers before are 1, 1, 1, 7, of which the median is 1 and the mean 2.5."""
    step = jl.make_step(lambda w, x: 0 * w + x, jl.sgd(0.0))
    rollback = jl.Rollback(every=STEPS, factor=factor, window=4)
    at_first = halving({1: 9.0, 5: 2.0}, step=step, observers=[rollback])
    assert at_first.observed["Rollback"].count == count
    known = jl.Rollback(every=STEPS, factor=8.0, window=4)
    assert halving({4: 7.0, 5: 7.5}, step=step, observers=[known]).observed["Rollback"].count == 0
    assert halving({4: 7.0, 5: 8.5}, step=step, observers=[known]).observed["Rollback"].count == 1


@pytest.mark.parametrize(("window", "count"), [(2, 0), (4, 1)])
def test_the_window_forgets(window, count):
    """The numbers are 1, 1, 10, 10, 70: the median of the two before 70 is 10, that of the four is 5.5."""
    step = jl.make_step(lambda w, x: 0 * w + x, jl.sgd(0.0))
    rollback = jl.Rollback(every=STEPS, factor=11.0, window=window)
    result = halving({3: 10.0, 4: 10.0, 5: 70.0}, step=step, observers=[rollback])
    assert result.observed["Rollback"].count == count


def test_bad_numbers_are_not_in_the_median():
    step = jl.make_step(lambda w, x: 0 * w + x, jl.sgd(0.0))
    rollback = jl.Rollback(every=STEPS, factor=3.0, window=3, most=9)
    result = halving({3: 10.0, 4: 10.0, 5: 10.0, 6: 10.0}, step=step, observers=[rollback])
    assert result.observed["Rollback"].count == 4
    np.testing.assert_array_equal(result.observed["Rollback"].recent, [1, 1, 1])


def test_a_median_that_is_not_positive_is_no_measure():
    step = jl.make_step(lambda w, x: 0 * w + x, jl.sgd(0.0))
    negative = dict.fromkeys(range(1, 9), -1.0)
    result = halving({**negative, 6: 50.0}, step=step, observers=[jl.Rollback(every=STEPS)])
    assert result.observed["Rollback"].count == 0
    result = halving({**negative, 6: np.nan}, step=step, observers=[jl.Rollback(every=STEPS)])
    assert result.observed["Rollback"].count == 1


def test_it_gives_up_after_so_many_times_in_a_row_with_the_good_state():
    bad = dict.fromkeys(range(4, 9), np.nan)
    result = halving(bad, observers=[jl.Rollback(every=STEPS, most=3)])
    assert result.reason == "Rollback: the run went back 3 times in a row; the last good state is that of 2 updates"
    assert (int(result.state.cursor), int(result.state.step)) == (6, 2)
    assert float(result.state.params) == 0.25
    apart = halving({3: np.nan, 5: np.nan, 7: np.nan}, observers=[jl.Rollback(every=STEPS, most=2)])
    assert apart.reason == "finished"
    assert apart.observed["Rollback"].count == 3


def test_a_run_that_gave_up_gives_up_again_unless_it_may_go_back_more_often(tmp_path):
    bad = dict.fromkeys(range(3, 7), np.nan)
    observers = lambda most: [jl.Rollback(every=STEPS, most=most), jl.Checkpoint(tmp_path)]
    first = halving(bad, observers=observers(2))
    again = halving(bad, observers=observers(2), resume=True)
    assert again.reason == first.reason != "finished"
    assert_same(again.state, first.state)
    more = halving(bad, observers=observers(5), resume=True)
    assert more.reason == "finished"
    assert more.observed["Rollback"].count == 4


def test_the_data_goes_on_and_so_does_the_key():
    """After going back the run is that of the good state on the batches that follow, with their random numbers."""
    step = jl.make_step(noisy_loss, jl.adam(0.05))
    state, data = jl.init_state(network(), step, key=3), regression(11)
    batches = jl.minibatches(data, 4)

    def spoil(run):
        if run.cursor == 5:
            run.state = run.state._replace(params=jax.tree.map(lambda x: x * jnp.nan, run.state.params))

    looks = [jl.Lambda(spoil, every=STEPS), jl.Rollback(every=jl.Every(steps=1))]
    result = jl.fit(step, state, batches, steps=9, observers=looks)
    begun = jl.fit(step, state, batches, steps=4).state
    expected = jl.fit(step, begun._replace(cursor=jnp.int32(5)), batches, steps=4)
    assert_same(result.state, expected.state)
    assert int(result.state.step) == 8
    seen_again = jl.fit(step, begun, batches, steps=4)
    assert distance(seen_again.state.params, expected.state.params) > 1e-4


def test_going_back_keeps_the_good_state_for_the_next_time():
    """What was put back is a copy: the next chunk takes over its buffers."""
    bad = {4: np.nan, 5: np.nan, 7: np.nan}
    result = halving(bad, observers=[jl.Rollback(every=STEPS)])
    assert result.observed["Rollback"].count == 3
    # good: 2 after batch 3; back to 2 at 4 and 5; batch 6 makes 3, which 7 does not confirm: back to 2; batch 8: 3
    assert (int(result.state.step), float(result.state.params)) == (3, 0.125)


@bad_input(39)
def test_steps_that_were_skipped_say_nothing():
    step = jl.with_guard(jl.make_step(lambda w, x: x * w**2, jl.sgd(0.25)))
    result = halving({3: np.nan, 4: np.inf}, step=step, observers=[jl.Rollback(every=STEPS)])
    assert result.observed["Rollback"].count == 0
    assert int(result.state.extras["skipped"]) == 2
    assert int(result.state.step) == 6


def test_single_numbers_that_are_infinite_from_the_beginning_are_no_error():
    """The best value of ``reduce_on_plateau``, before there is one."""
    tx = jl.chain(jl.sgd(0.25), jl.reduce_on_plateau(accumulation_size=100))
    result = halving({}, tx=tx, observers=[jl.Rollback(every=STEPS)])
    assert result.observed["Rollback"].count == 0


def test_validation_may_be_what_is_watched():
    step = jl.make_step(example_loss, jl.sgd(0.1))
    state, data, val = jl.init_state(network(), step), regression(8), regression(4, seed=1)

    def spoil(run):
        if run.cursor == 6:
            run.state = run.state._replace(params=jax.tree.map(lambda x: 100 * x, run.state.params))

    rollback = jl.Rollback("val_loss", every=jl.Every(epochs=1))
    result = jl.fit(
        step, state, data, batch_size=4, epochs=5, val=val, observers=[rollback, jl.Lambda(spoil, every=STEPS)]
    )
    assert result.observed["Rollback"].count == 1
    assert result.history["val_loss"][3] > 50 * result.history["val_loss"][2]
    assert result.history["val_loss"][4] < 2 * result.history["val_loss"][2]
    assert int(result.state.step) == 4 + 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"factor": 1.0}, r"^Rollback: factor must be .*; got 1.0"),
        ({"window": 0}, "^Rollback: window must be at least 1; got 0"),
        ({"most": 0}, "^Rollback: most must be at least 1; got 0"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        jl.Rollback(**arguments)
