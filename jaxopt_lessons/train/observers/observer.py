"""What an observer of a run is.

    class Observer:
        every                           when it looks
        begin(run) -> memory            before the first step
        observe(run, memory) -> memory  each time it looks
        end(run, memory) -> memory      after the last step, or after an error

An observer is a setting and keeps nothing itself: what it has to remember it returns, and is given the next time, as an
optimizer its state. So one observer serves many runs, and its memory is saved with the state of the run: it is a tree
of arrays and numbers whose structure stays as ``begin`` made it.

Observers run on the host, between compiled chunks; nothing calls back from compiled code.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from jaxopt_lessons import _checks
from jaxopt_lessons.train.run import Moment, Run
from jaxopt_lessons.types import Range


def check_times(owner: str, observer: "Observer") -> None:
    """Raises unless ``observer.every`` says when it looks."""
    if not isinstance(observer.every, Every):
        raise TypeError(
            f"{owner}: every must say when to look, as Every(epochs=1) does; got {observer.every!r} of type "
            f"{type(observer.every).__name__}."
        )


@dataclasses.dataclass(frozen=True)
class Every:
    """When an observer looks. Exactly one of these is given.

    Attributes:
      steps: whenever the number of batches consumed is a multiple of this, at least 1. Chunks end there.
      epochs: at the end of each epoch whose number (1, 2, ...) is a multiple of this, at least 1.
      seconds: at the first end of a chunk after so many seconds, above 0.
    """

    steps: int | None = None
    epochs: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("steps", "epochs", "seconds") if getattr(self, name) is not None]
        _checks.require(
            len(given) == 1,
            lambda: f"Every: say one of steps, epochs and seconds; got {' and '.join(given) or 'none'}.",
        )
        if self.seconds is not None:
            _checks.number("Every", "seconds", self.seconds, Range(0, includes_low=False))
        else:
            _checks.whole("Every", given[0], getattr(self, given[0]), least=1)

    def is_due(self, moment: Moment, seconds: float) -> bool:
        """Whether it is time, ``seconds`` after the last look."""
        if self.steps is not None:
            return moment.cursor % self.steps == 0
        if self.epochs is not None:
            return moment.ends_epoch and (moment.epoch + 1) % self.epochs == 0
        return self.seconds is not None and seconds >= self.seconds


EACH_EPOCH = Every(epochs=1)
EACH_100_STEPS = Every(steps=100)


class Observer:
    """Looks at a run from time to time. Derive yours from it and define what you need of its methods.

    Attributes:
      every: when ``observe`` is called; None for no other time than ``cuts`` says.
      needs_state: whether it reads or changes ``run.state``. One that does not sees the run a chunk late, and the
        device does not wait for it.
      is_last: whether it looks after all others, at the same moment: for one that saves what they remember.

    >>> class Largest(Observer):
    ...     every = Every(epochs=1)
    ...     needs_state = False
    ...
    ...     def begin(self, run):
    ...         return 0.0
    ...
    ...     def observe(self, run, memory):
    ...         return max(memory, float(run.history["loss"].max()))
    >>> step = jl.make_step(lambda w, x: (w - x) ** 2, jl.sgd(0.25))
    >>> out = jl.fit(step, jl.init_state(1.0, step), jnp.array([3.0]), epochs=3, observers=[Largest()])
    >>> out.observed
    {'Largest': 4.0}
    """

    every: Every | None = EACH_EPOCH
    needs_state: bool = True
    is_last: bool = False

    @property
    def name(self) -> str:
        """What its memory is called in ``FitResult.observed`` and in checkpoints."""
        return type(self).__name__

    def cuts(self, run: Run) -> Sequence[int]:
        """At which cursors it looks, beside the times of ``every``; asked before the first step. Chunks end there."""
        return ()

    def begin(self, run: Run) -> Any:
        """Returns the memory before the first look; None for none."""
        return None

    def resume(self, run: Run, memory: Any) -> Any:
        """Called after ``begin`` where the run goes on from a checkpoint, with the memory from there; returns it."""
        return memory

    def observe(self, run: Run, memory: Any) -> Any:
        """Looks at the run and returns the new memory. ``run.stop(reason)`` ends the run."""
        return memory

    def end(self, run: Run, memory: Any) -> Any:
        """Called once after the last step, in the opposite order; after an error too, which is ``run.error`` then."""
        return memory


@dataclasses.dataclass(frozen=True)
class Lambda(Observer):
    """Calls a function with the run: ``function(run)``.

    Attributes:
      function: takes the ``Run``; what it returns is ignored.
      every: when it is called.
      needs_state: whether it reads ``run.state``.

    >>> step = jl.make_step(lambda w, x: (w - x) ** 2, jl.sgd(0.25))
    >>> look = Lambda(lambda run: print(run.cursor, float(run.state.params)), every=Every(steps=2))
    >>> out = jl.fit(step, jl.init_state(1.0, step), jnp.array([3.0]), epochs=4, observers=[look])
    2 2.5
    4 2.875
    """

    function: Callable[[Run], Any]
    every: Every = EACH_EPOCH
    needs_state: bool = True

    def __post_init__(self) -> None:
        check_times("Lambda", self)
        _checks.flag("Lambda", "needs_state", self.needs_state)
        if not callable(self.function):
            raise TypeError(f"Lambda: function must be a function of the run; got {self.function!r}.")

    def observe(self, run: Run, memory: Any) -> Any:
        self.function(run)
        return memory
