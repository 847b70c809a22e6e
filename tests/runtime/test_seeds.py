"""The seeds of a call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from partitioner.errors import InputError
from partitioner.runtime.seeds import is_several, one_seed, seeds_of


def test_one_seed_is_that_of_all_rows() -> None:
    assert seeds_of(7, 3) == [7, 7, 7]


@pytest.mark.parametrize("seeds", [[1, 2, 3], (1, 2, 3), np.array([1, 2, 3])])
def test_a_list_has_a_seed_for_each_row(seeds: Any) -> None:
    assert is_several(seeds)
    assert seeds_of(seeds, 3) == [1, 2, 3]


def test_fresh_seeds_differ() -> None:
    assert len(set(seeds_of(None, 8))) == 8


def test_there_are_as_many_seeds_as_rows() -> None:
    with pytest.raises(InputError, match="2 seeds are given for 3 rows"):
        seeds_of([1, 2], 3)


@pytest.mark.parametrize("seed", ["7", 1.5, True, 2**64, [1, "2"]])
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    with pytest.raises(InputError, match="the seed is a 64-bit integer"):
        seeds_of(seed, 2)


def test_a_list_is_refused_where_one_seed_is_meant() -> None:
    with pytest.raises(InputError, match="built with --batch"):
        one_seed([1, 2])
