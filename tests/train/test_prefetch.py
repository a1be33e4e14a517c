"""What runs ahead in a thread: its order, its bound, its errors and its end. Events, no sleeps."""

import contextlib
import threading
import traceback

import jax
import jax.numpy as jnp
import pytest

from jaxopt_lessons.train import prefetch
from jaxopt_lessons.train.prefetch import prefetched

WAIT = 20


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("jaxopt_lessons")]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert threads() == []


def test_items_come_in_order_and_then_end():
    with prefetched(lambda background: (i for i in range(50))) as items:
        assert list(items) == list(range(50))
        assert next(items, "ended") == "ended"
        assert next(items, "ended") == "ended"


def test_the_generator_runs_in_another_thread_that_is_a_daemon():
    def make(background):
        yield threading.current_thread()

    with prefetched(make) as items:
        thread = next(items)
    assert thread is not threading.current_thread()
    assert thread.daemon
    assert not thread.is_alive()


@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_it_is_never_further_ahead_than_it_may(ahead):
    made = [threading.Event() for _ in range(40)]
    started = []

    def make(background):
        for i in range(30):
            started.append(i)
            made[i].set()
            yield i

    with prefetched(make, ahead) as items:
        assert made[ahead - 1].wait(WAIT)
        assert len(started) <= ahead
        for taken in range(1, 25):
            assert next(items) == taken - 1
            assert made[taken - 1 + ahead - 1].wait(WAIT)
            assert len(started) <= taken + ahead
    assert len(started) <= 24 + ahead


def test_it_does_run_ahead():
    """The thread makes as many as it may before the first is asked for."""
    third = threading.Event()

    def make(background):
        yield 0
        yield 1
        third.set()
        yield 2

    with prefetched(make, 2) as items:
        assert next(items) == 0
        assert third.wait(WAIT)
        assert list(items) == [1, 2]


def test_an_error_comes_after_the_items_before_it_and_is_the_very_one():
    error = KeyError("mine")

    def reader():
        raise error

    def make(background):
        yield 1
        yield 2
        reader()

    with prefetched(make) as items:
        assert next(items) == 1
        assert next(items) == 2
        with pytest.raises(KeyError) as raised:
            next(items)
        assert raised.value is error
        assert "reader" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        assert next(items, "ended") == "ended"


def test_an_error_before_the_first_item():
    def make(background):
        raise RuntimeError("at once")
        yield

    with prefetched(make) as items, pytest.raises(RuntimeError, match="at once"):
        next(items)


def test_an_interrupt_in_the_thread_is_raised_in_the_consumer():
    def make(background):
        raise KeyboardInterrupt
        yield

    with prefetched(make) as items, pytest.raises(KeyboardInterrupt):
        next(items)


@pytest.mark.parametrize("leave", ["break", "raise"])
def test_leaving_closes_the_generator_in_its_own_thread(leave):
    closed = []

    def make(background):
        try:
            while True:
                yield threading.current_thread()
        finally:
            closed.append(threading.current_thread())

    with contextlib.suppress(ZeroDivisionError), prefetched(make) as items:
        thread = next(items)
        if leave == "raise":
            raise ZeroDivisionError
    assert closed == [thread]


def test_an_error_that_nobody_reached_is_not_raised():
    raised = threading.Event()

    def make(background):
        yield 1
        raised.set()
        raise RuntimeError("never needed")

    with prefetched(make) as items:
        assert next(items) == 1
        assert raised.wait(WAIT)


def test_check_ends_a_generator_in_the_middle_of_an_item():
    inside, left, reached = threading.Event(), threading.Event(), []

    def make(background):
        yield 0
        inside.set()
        assert left.wait(WAIT)
        background.check()
        reached.append(1)

    with prefetched(make) as items:
        assert next(items) == 0
        assert inside.wait(WAIT)
        background_left = items._changed
        with background_left:
            items._left = True
        left.set()
    assert reached == []


def test_a_read_that_blocks_for_ever_does_not_block_the_consumer(monkeypatch):
    monkeypatch.setattr(prefetch, "LEAVE_SECONDS", 0.05)
    inside, release = threading.Event(), threading.Event()

    def make(background):
        yield 0
        inside.set()
        release.wait(WAIT)
        background.check()
        yield 1

    with prefetched(make) as items:
        assert next(items) == 0
        assert inside.wait(WAIT)
    (thread,) = threads()
    release.set()
    thread.join(WAIT)


def test_waiting_until_wanted_makes_nothing_ahead():
    asked = []

    def make(background):
        for i in range(3):
            background.wait_until_wanted()
            asked.append(i)
            yield i

    with prefetched(make) as items:
        for i in range(3):
            assert asked == list(range(i))
            assert next(items) == i


def test_an_interrupted_wait_can_be_taken_up_again(monkeypatch):
    """Control-C while the consumer waits: nothing is lost, and the bound stays."""
    release, started = threading.Event(), []

    def make(background):
        for i in range(10):
            release.wait(WAIT)
            started.append(i)
            yield i

    with prefetched(make, 1) as items:
        wait_for, calls = items._changed.wait_for, []

        def interrupted(condition):
            if threading.current_thread() is threading.main_thread() and not calls:
                calls.append(1)
                raise KeyboardInterrupt
            return wait_for(condition)

        monkeypatch.setattr(items._changed, "wait_for", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(items)
        release.set()
        assert [next(items) for _ in range(5)] == list(range(5))
        assert len(started) <= 6


def test_the_thread_has_the_settings_of_the_consumer():
    def make(background):
        yield jnp.asarray(1.5).dtype, next(iter(jnp.zeros(2).devices()))

    device = jax.devices()[3]
    with jax.enable_x64(True), jax.default_device(device), prefetched(make) as items:
        assert next(items) == (jnp.float64, device)
    with prefetched(make) as items:
        assert next(items) == (jnp.float32, jax.devices()[0])
