"""How a run is cut into chunks: the steps that one compiled program does before the host has its turn.

A chunk ends where an epoch ends, where an observer has to see the state, and at the end of the run. Each length is a
program of its own, so there are few of them: the longest, the one that completes an epoch, and powers of two.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jaxopt_lessons.train.batches import Batches

CHUNK_SECONDS = 0.25
"""About how long a chunk takes: the host's part is small beside it, and a bar still moves."""

MOST_STEPS = 1024
"""Steps in a chunk, at most."""


class Chunk(NamedTuple):
    """Steps that one compiled program does: ``length`` full batches, or the smaller one if ``tail``.

    The smaller batch has a program of its own, so that every step is the same program wherever a run begins and ends:
    XLA rounds a step differently inside another program, and a run that goes on would not be the run that did not stop.
    """

    first: int
    length: int
    tail: bool
    epoch: int
    ends_epoch: bool

    @property
    def steps(self) -> int:
        return self.length + self.tail

    @property
    def position(self) -> None:
        """Where the data is: the cursor says it."""


class Stops(NamedTuple):
    """Where observers have to see the run: where the cursor is a multiple of one of ``multiples``, or one of ``at``."""

    multiples: Sequence[int] = ()
    at: Sequence[int] = ()

    def next(self, cursor: int) -> list[int]:
        """The next of each after a cursor."""
        return [cursor - cursor % m + m for m in self.multiples] + [at for at in self.at if at > cursor]


class Cuts(NamedTuple):
    """Where chunks have to end.

    Attributes:
      longest: steps in a chunk, at most.
      end: the cursor at which the run ends; None where the data will tell.
      stops: where observers have to see the run.
      rest: a length beside ``longest`` that has a program of its own: what completes an epoch. 0: none.
    """

    longest: int
    end: int | None
    stops: Stops = Stops()
    rest: int = 0

    def room(self, cursor: int, left: int | None = None) -> int:
        """How many steps the chunk has that begins at ``cursor``, ``left`` before the end of the epoch; 0: no more."""
        ends = self.stops.next(cursor) + ([] if self.end is None else [self.end])
        limits = [end - cursor for end in ends] + ([] if left is None else [left])
        return self.piece(min(limits, default=self.longest))

    def piece(self, steps: int) -> int:
        """The first of the lengths into which so many steps are cut."""
        if steps >= self.longest:
            return self.longest
        if steps <= 0 or steps == self.rest:
            return max(steps, 0)
        return 1 << (steps.bit_length() - 1)


def pieces(steps: int, longest: int) -> Iterator[int]:
    """Cuts so many steps into lengths of which there are few: ``longest`` as often as it fits, then powers of two."""
    cuts = Cuts(longest, None)
    while steps:
        length = cuts.piece(steps)
        yield length
        steps -= length


def cuts_of_epochs(batches: Batches, end: int, limit: int, stops: Stops) -> Cuts:
    """Cuts into equal parts of an epoch, where there are any below the limit."""
    limit = min([limit, *stops.multiples])
    if not batches.full:
        return Cuts(limit, end, stops)
    parts = -(-batches.full // limit)
    parts = next((n for n in range(parts, 2 * parts) if batches.full % n == 0), parts)
    longest = -(-batches.full // parts)
    return Cuts(longest, end, stops, batches.full % longest)


def chunks_in_memory(batches: Batches, cursor: int, cuts: Cuts) -> Iterator[Chunk]:
    """The chunks of a run on arrays in memory, from a cursor to ``cuts.end``."""
    while True:
        epoch = batches.epoch_of(cursor)
        next_epoch = batches.epoch_start(epoch + 1)
        tail = batches.is_tail(cursor)
        length = cuts.room(cursor, 1 if tail else next_epoch - (batches.tail > 0) - cursor)
        if not length:
            return
        yield Chunk(cursor, 0 if tail else length, tail, epoch, cursor + length == next_epoch)
        cursor += length
