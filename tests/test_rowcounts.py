"""Numbers that know how they grow with the rows."""

from __future__ import annotations

import json
import pickle

from hypothesis import given
from hypothesis import strategies as st

from partitioner.rowcounts import RowCount, RowRange, at_rows, row_counts

SPAN = RowRange(1, 8)


@given(growth=st.integers(1, 9), rest=st.integers(0, 9), rows=st.integers(1, 8))
def test_a_size_is_a_line_over_the_rows(growth: int, rest: int, rows: int) -> None:
    size = RowCount(growth * 8 + rest, growth, SPAN)
    assert growth * rows + rest == size.at(rows)
    assert [rows * growth + rest, (3, "x")] == at_rows([size, (3, "x")], rows)


def test_it_is_a_number_for_whoever_does_not_ask() -> None:
    size = RowCount(16, 2, SPAN)
    assert (16, "16", "[16]") == (size, f"{size}", json.dumps([size]))
    assert type(size + 1) is int
    again = pickle.loads(pickle.dumps(size))
    assert (2, SPAN) == (again.growth, again.span)


def test_texts_tell_sizes_that_grow() -> None:
    assert "[RowCount(16, 2)]" == repr([RowCount(16, 2, SPAN)])
    assert [2] == [one.growth for one in row_counts({"a": (1, [RowCount(16, 2, SPAN)])})]
    assert (1, 2, 3, 4, 5, 6, 7, 8) == tuple(SPAN.sizes)
    assert (8, 1, 4) == SPAN.checked
