"""How a run is cut into chunks: the steps that one compiled program does before the host has its turn.

A chunk ends where an epoch ends, where an observer has to see the state, and at the end of the run. Each length is a
program of its own, so there are few of them: the longest, what is often left over by it, and powers of two.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jaxopt_lessons.train.batches import Batches
from jaxopt_lessons.train.super_batches import power_of_two

MOST_STEPS = 1024
"""Steps in a chunk, at most."""

SEEN_AHEAD, MOST_RESTS = 1000, 2
"""Of so many pieces of a run between two stops, so many lengths have a program of their own, the most common."""


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
      rests: other lengths that have a program of their own.
    """

    longest: int
    end: int | None
    stops: Stops = Stops()
    rests: Sequence[int] = ()

    def room(self, cursor: int, left: int | None = None) -> int:
        """How many steps the chunk has that begins at ``cursor``, ``left`` before the end of the epoch; 0: no more."""
        ends = self.stops.next(cursor) + ([] if self.end is None else [self.end])
        limits = [end - cursor for end in ends] + ([] if left is None else [left])
        return self.piece(min(limits, default=self.longest))

    def piece(self, steps: int) -> int:
        """The first of the lengths into which so many steps are cut."""
        if steps >= self.longest:
            return self.longest
        if steps <= 0 or steps in self.rests:
            return max(steps, 0)
        return power_of_two(steps)


def pieces(steps: int, longest: int) -> Iterator[int]:
    """Cuts so many steps into lengths of which there are few: ``longest`` as often as it fits, then powers of two."""
    cuts = Cuts(longest, None)
    while steps:
        length = cuts.piece(steps)
        yield length
        steps -= length


def cuts_of_run(batches: Batches, cursor: int, end: int, limit: int, stops: Stops) -> Cuts:
    """Cuts a run from a cursor to its end into few lengths below the limit: equal parts of an epoch where there are."""
    whole = Cuts(end + 1, end, stops, range(end + 1))  # no limit, and no cuts but the stops
    found = Counter(chunk.length for chunk in itertools.islice(chunks_in_memory(batches, cursor, whole), SEEN_AHEAD))
    del found[0]  # those of smaller batches
    if not found:
        return Cuts(1, end, stops)
    usual, longest = max(found, key=lambda length: (found[length], length)), min(max(found), limit)
    if usual > limit:
        parts = -(-usual // limit)
        parts = next((n for n in range(parts, 2 * parts) if usual % n == 0), parts)
        longest = -(-usual // parts)
    rests = Counter(length % longest for length in found.elements() if length % longest)
    return Cuts(longest, end, stops, [length for length, _ in rests.most_common(MOST_RESTS)])


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
