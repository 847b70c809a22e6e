"""Moves of data in cheaper forms: the same numbers, moved in longer rows."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from partitioner.passes.cheapen_moves import collapsed, split
from tests.passes.running import after, captured, difference, names

PASSES = "inline-calls,normalise,cheapen-moves,eliminate-dead"


class Function(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Pipeline(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.stage = Function(function)

    def forward(self, x: Tensor) -> Tensor:
        return self.stage(x)


def cheapened(function: Any, x: Tensor) -> list[str]:
    program = captured(Pipeline(function), x=x)
    done, _ = after(program, PASSES)
    assert 0.0 == difference(program, done)
    again, _ = after(done, PASSES)
    assert names(done.main) == names(again.main)
    return names(done.main)


@st.composite
def permutations(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    shape = draw(st.lists(st.sampled_from([1, 2, 3, 5, 8, 9]), min_size=1, max_size=5))
    return shape, draw(st.permutations(range(len(shape))))


@settings(deadline=None)
@given(permutations())
def test_a_permutation_of_fewer_dimensions_is_the_same(case: tuple[list[int], list[int]]) -> None:
    shape, order = case
    numbers = np.arange(math.prod(shape))
    sizes, fewer = collapsed(shape, order)
    expected = numbers.reshape(shape).transpose(order).ravel()
    assert np.array_equal(expected, numbers.reshape(sizes).transpose(fewer).ravel())
    assert all(b != a + 1 for a, b in itertools.pairwise(fewer))


@settings(deadline=None)
@given(permutations())
def test_two_steps_are_the_same_and_move_rows(case: tuple[list[int], list[int]]) -> None:
    shape, order = [4 * size if size > 1 else size for size in case[0]], case[1]
    found = split(shape, order)
    if found is None:
        return
    numbers = np.arange(math.prod(shape))
    first = numbers.reshape(found.sizes).transpose(found.order)
    second = first.reshape(found.rows).transpose(found.row_order)
    assert np.array_equal(numbers.reshape(shape).transpose(order).ravel(), second.ravel())
    assert len(found.rows) - 1 == found.row_order[-1]
    assert 8 <= found.rows[-1]


@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ((64, 128), (1, 0)),  # one dimension moves
        ((2, 64, 8, 16), (0, 2, 1, 3)),  # heads: rows stay whole
        ((2, 64, 8, 16), (0, 2, 3, 1)),  # keys: one dimension moves
        ((2, 2, 2, 2, 2), (4, 2, 0, 3, 1)),  # small
        ((64, 3, 64, 5), (3, 1, 2, 0)),  # rows would not be longer
    ],
)
def test_permutations_that_are_as_good_in_one(
    shape: tuple[int, ...], order: tuple[int, ...]
) -> None:
    assert None is split(shape, order)


def test_bands_are_interleaved_row_by_row() -> None:
    def interleave(x: Tensor) -> Tensor:
        return x.permute(1, 4, 0, 5, 2, 6, 3).reshape(7, 44, 44, 44)

    found = cheapened(interleave, torch.randn(2, 7, 2, 2, 22, 22, 22))
    assert ["permute", "reshape", "permute", "reshape"] == found


def test_a_pixel_shuffle_is_two_moves() -> None:
    def shuffle(x: Tensor) -> Tensor:
        wide = x.reshape(1, 16, 2, 2, 24, 24).permute(0, 1, 4, 2, 5, 3)
        return wide.reshape(1, 16, 48, 48)

    assert 2 == cheapened(shuffle, torch.randn(1, 64, 24, 24)).count("permute")


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x[0] * 2, ["reshape", "mul"]),
        (lambda x: x[:, 1] * 2, ["select", "mul"]),
        (lambda x: x[0].reshape(12, 5).reshape(60) * 2, ["reshape", "mul"]),
        (lambda x: x[0][1:] * 2, ["slice", "reshape", "mul"]),
        (lambda x: x[0][:, -1] * 2, ["slice", "reshape", "mul"]),
        (lambda x: x.unsqueeze(2)[:, :, :, ::2] * 2, ["slice", "reshape", "mul"]),
        (lambda x: x.reshape(3, 4, 5)[1:] * 2, ["slice", "reshape", "mul"]),
        (lambda x: x.reshape(6, 10)[1:] * 2, ["reshape", "slice", "mul"]),
    ],
    ids=["only row", "one of three", "chain", "rows", "row", "steps", "ones", "other rows"],
)
def test_reshapes_are_free(function: Any, expected: list[str]) -> None:
    found = cheapened(function, torch.randn(1, 3, 4, 5))
    assert expected == [name for name in found if name != "x"]
