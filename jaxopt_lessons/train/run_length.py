"""How long a run is, and how many of its steps are one chunk."""

from collections.abc import Callable
from typing import NamedTuple

from jaxopt_lessons import _checks
from jaxopt_lessons.train.chunks import MOST_STEPS
from jaxopt_lessons.train.cost import Cost
from jaxopt_lessons.train.state import TrainState
from jaxopt_lessons.train.super_batches import power_of_two

CHUNK_SECONDS = 0.25
"""About how long a chunk takes: the host's part is small beside it, and a bar still moves."""

MOST_BATCHES = 2**31 - 1
"""The largest cursor, an int32. The data and the random numbers of a run follow it, so it must not stand still."""

LOOPS = ("auto", "scan", "steps")


class Length(NamedTuple):
    """How long a run is, and its chunks.

    Attributes:
      epochs: epochs to go through from where the run is; None where ``steps`` is given.
      steps: steps to take.
      chunk_steps: steps in a chunk, at most; None to choose by what a step costs.
      loop: "scan", a loop in the compiled program; "steps", a program of one step; "auto".
    """

    epochs: int | None
    steps: int | None
    chunk_steps: int | None
    loop: str

    def pace(self, cost: Callable[[], Cost], platform: str) -> "Pace":
        """How many steps a chunk has, at most, and whether they are a loop."""
        if self.loop == "steps":
            return Pace(1, in_loop=False)
        if self.chunk_steps is not None and self.loop == "scan":
            return Pace(self.chunk_steps)
        cost_of_step = cost()
        if self.loop == "auto" and platform == "cpu" and cost_of_step.has_convolution:
            return Pace(1, in_loop=False)
        if self.chunk_steps is not None:
            return Pace(self.chunk_steps)
        fitting = int(CHUNK_SECONDS / max(cost_of_step.seconds(platform), 1e-9))
        return Pace(min(MOST_STEPS, power_of_two(fitting)))


class Pace(NamedTuple):
    """Steps in a chunk, at most, and whether they are a loop in the compiled program.

    A chunk of one step that happens to be short is a loop of one turn all the same, so that every step of a run is the
    same program: XLA may round a step differently outside of a loop.
    """

    longest: int
    in_loop: bool = True


def length_of(epochs: int | None, steps: int | None, chunk_steps: int | None, loop: str) -> Length:
    """The length of a run from the arguments of ``fit``, checked."""
    _checks.require((epochs is None) != (steps is None), "fit: say either epochs=... or steps=..., and not both.")
    epochs = None if epochs is None else _checks.whole("fit", "epochs", epochs, least=0)
    steps = None if steps is None else _checks.whole("fit", "steps", steps, least=0)
    chunk_steps = None if chunk_steps is None else _checks.whole("fit", "chunk_steps", chunk_steps, least=1)
    _checks.one_of("fit", "loop", loop, LOOPS)
    return Length(epochs, steps, chunk_steps, loop)


def checked_end(end: int | None) -> int | None:
    """The cursor at which a run ends; raises if no cursor is so large."""
    _checks.require(
        end is None or end <= MOST_BATCHES,
        lambda: (
            f"fit: the run would end after {end} batches, counted from the first one of its state; there can be at "
            f"most {MOST_BATCHES}. Go on with state._replace(cursor=jnp.int32(0)), another key and a new history."
        ),
    )
    return end


def platform_of(state: TrainState) -> str:
    """The platform of the devices that hold the state."""
    return next(iter(state.cursor.devices())).platform
