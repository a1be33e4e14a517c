"""Into which lengths runs are cut."""

import numpy as np
import pytest

import jaxopt_lessons as jl
from jaxopt_lessons.train.chunks import Cuts, Stops, chunks_in_memory, cuts_of_run, pieces


@pytest.mark.parametrize(
    ("cursor", "left", "room"),
    [
        (0, None, 8),  # the longest
        (12, None, 8),
        (13, None, 7),  # one of the rests
        (14, None, 4),  # the largest power of two in 6
        (17, None, 2),
        (19, None, 1),
        (20, None, 0),  # the end
        (21, None, 0),
        (0, 3, 2),  # an epoch ends
        (0, 7, 7),
        (0, 9, 8),
        (0, 0, 0),
    ],
)
def test_how_many_steps_the_next_chunk_has(cursor, left, room):
    assert Cuts(longest=8, end=20, rests=[7]).room(cursor, left) == room


def test_without_an_end_the_longest_fits():
    assert Cuts(longest=8, end=None).room(10**9) == 8


def test_chunks_end_where_observers_look():
    stops = Stops(multiples=(6, 4), at=(9,))
    assert [stops.next(cursor) for cursor in (0, 6, 9)] == [[6, 4, 9], [12, 8, 9], [12, 12]]
    assert [Cuts(8, 20, stops).room(cursor) for cursor in (0, 4, 8, 9, 16)] == [4, 2, 1, 2, 2]


@pytest.mark.parametrize(("steps", "lengths"), [(0, []), (1, [1]), (8, [8]), (21, [8, 8, 4, 1]), (7, [4, 2, 1])])
def test_pieces(steps, lengths):
    assert list(pieces(steps, 8)) == lengths


@pytest.mark.parametrize(
    ("examples", "limit", "longest", "rests"),
    [
        (30, 100, 30, []),  # whole epochs
        (30, 30, 30, []),
        (30, 11, 10, []),  # in three equal parts
        (30, 8, 6, []),  # five equal ones, as four are none
        (29, 8, 8, [5]),  # a prime number: three of eight and a rest
        (30, 1, 1, []),
    ],
)
def test_epochs_are_cut_into_equal_parts_where_there_are_some(examples, limit, longest, rests):
    batches = jl.minibatches(np.zeros(examples, np.float32), 1)
    cuts = cuts_of_run(batches, 0, 10 * examples, limit, Stops())
    assert (cuts.longest, list(cuts.rests)) == (longest, rests)
    lengths = [chunk.length for chunk in chunks_in_memory(batches, 0, cuts)]
    assert sum(lengths) == 10 * examples
    assert set(lengths) == {longest, *rests}
