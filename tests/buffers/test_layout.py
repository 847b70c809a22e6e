"""Offsets: nothing overlaps, nothing is wasted where a better order is known."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partitioner.buffers import layout
from partitioner.buffers.layout import Interval, aligned, assign_offsets, most_alive


@st.composite
def intervals(draw: st.DrawFn) -> list[Interval]:
    found: list[Interval] = []
    for _ in range(draw(st.integers(0, 30))):
        first = draw(st.integers(0, 20))
        size = 64 * draw(st.integers(0, 9))
        found.append((size, first, first + draw(st.integers(0, 8))))
    return found


def overlaps(one: tuple[Interval, int], other: tuple[Interval, int]) -> bool:
    (size, first, last), start = one
    (size_, first_, last_), start_ = other
    in_time = first <= last_ and first_ <= last
    return in_time and start < start_ + size_ and start_ < start + size


@given(intervals(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_nothing_overlaps(given_: list[Interval], many: bool) -> None:
    # As if there were too many for the better heuristic.
    place = layout._best_fit if many else assign_offsets
    offsets, arena = place(given_)

    placed = list(zip(given_, offsets, strict=True))
    assert not any(overlaps(placed[i], placed[j]) for i in range(len(placed)) for j in range(i))
    assert arena == max((size + start for (size, _, _), start in placed if size), default=0)
    assert all(offset % 64 == 0 for offset in offsets)
    assert arena >= max(most_alive(given_), default=0)
    assert arena <= sum(size for size, _, _ in given_)


def test_alive() -> None:
    assert [1, 3, 3, 2] == most_alive([(1, 0, 2), (2, 1, 3)])
    assert [] == most_alive([])


@pytest.mark.parametrize(("nbytes", "expected"), [(0, 0), (1, 64), (64, 64), (65, 128)])
def test_alignment(nbytes: int, expected: int) -> None:
    assert expected == aligned(nbytes)


def test_by_size_where_an_allocator_would_leave_holes() -> None:
    # In the order of time the small one takes the first place, and the large one none below it.
    given_ = [(64, 0, 1), (64, 1, 4), (128, 3, 4), (64, 0, 0), (64, 2, 2)]
    assert 192 == assign_offsets(given_)[1]


def test_thousands_of_values() -> None:
    source = random.Random(0)
    chain = [(64 * source.randint(1, 1000), i, i + source.randint(1, 6)) for i in range(5000)]
    offsets, arena = assign_offsets(chain)
    assert len(chain) == len(offsets)
    assert arena <= 1.1 * max(most_alive(chain))
