"""Index tensors that move whole blocks are recovered as movements, exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partitioner.passes.affine import find_movement


def numbered(*shape: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)


def check(positions: Any, size: int) -> None:
    positions = np.ascontiguousarray(positions)
    movement = find_movement(positions, size)
    assert movement is not None
    source = np.random.default_rng(0).standard_normal(size)
    np.testing.assert_array_equal(source[positions], movement.apply(source))


@pytest.mark.parametrize("crop", [8, 7, 5])
def test_the_unpacking_of_wavelet_bands(crop: int) -> None:
    side = 12
    grid = np.arange(crop, 2 * side - crop)
    band = np.arange(7)[:, None, None, None]
    x, y, z = grid[:, None, None], grid[:, None], grid
    channel = 1 + ((x % 2 * 7 + band) * 2 + y % 2) * 2 + z % 2
    positions = numbered(64, side, side, side)[channel, x // 2, y // 2, z // 2]
    check(positions, 64 * side**3)


@pytest.mark.parametrize(
    "positions",
    [
        numbered(2, 3, 4).transpose(2, 0, 1),
        numbered(2, 3, 4)[:, 1:, ::2],
        numbered(2, 3, 4)[1],
        np.repeat(numbered(2, 3, 4), 2, axis=1),
        np.tile(numbered(2, 3, 4), (1, 2, 1)),
        np.broadcast_to(numbered(2, 3, 4)[:, :, :1], (2, 3, 5)),
        np.full((2, 3), 7),
    ],
    ids=["permute", "slices", "select", "repeat", "tile", "expand", "one"],
)
def test_movements(positions: Any) -> None:
    check(positions, 24)


@pytest.mark.parametrize(
    "positions",
    [
        np.random.default_rng(0).permutation(24),
        numbered(24)[::-1],
        np.arange(24) ** 2 % 24,
        np.zeros((0, 3), dtype=np.int64),
    ],
    ids=["permutation", "reversed", "squares", "empty"],
)
def test_what_is_no_movement(positions: Any) -> None:
    assert find_movement(np.ascontiguousarray(positions), 24) is None


@st.composite
def chains(draw: Any) -> tuple[Any, int]:
    """Positions after a random chain of reshapes, permutations, slices and expansions."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    moved = numbered(*shape)
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["permute", "slice", "merge", "expand"]))
        if kind == "permute":
            moved = moved.transpose(draw(st.permutations(range(moved.ndim))))
        elif kind == "slice":
            axis = draw(st.integers(0, moved.ndim - 1))
            start = draw(st.integers(0, moved.shape[axis] - 1))
            end = draw(st.integers(start + 1, moved.shape[axis]))
            moved = np.take(moved, range(start, end), axis=axis)
        elif kind == "merge" and moved.ndim > 1:
            moved = moved.reshape(-1, *moved.shape[2:])
        elif kind == "expand" and moved.ndim < 6:
            moved = np.broadcast_to(moved[None], (draw(st.integers(1, 3)), *moved.shape))
    return moved, int(np.prod(shape))


@given(chains())
@settings(max_examples=200, deadline=None)
def test_what_is_found_gathers_the_same(chain: tuple[Any, int]) -> None:
    positions, size = np.ascontiguousarray(chain[0]), chain[1]
    movement = find_movement(positions, size)
    if movement is not None:
        np.testing.assert_array_equal(positions, movement.apply(np.arange(size)))


@given(st.permutations(range(4)), st.lists(st.integers(2, 4), min_size=4, max_size=4), st.data())
@settings(max_examples=100, deadline=None)
def test_permuted_windows_are_found(order: Any, shape: list[int], data: Any) -> None:
    starts = [data.draw(st.integers(0, size - 1)) for size in shape]
    window = tuple(slice(start, None) for start in starts)
    check(numbered(*shape)[window].transpose(order), int(np.prod(shape)))
