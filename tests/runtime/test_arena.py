"""Arenas: aligned, apart, used again, as many as runs at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from partitioner.buffers import Storage
from partitioner.errors import BackendError
from partitioner.plan import Call
from partitioner.runtime.arena import Arena, Arenas
from partitioner.runtime.schedule import Scheduled, schedule
from partitioner.specs import TensorSpec
from tests.buffers.test_liveness import plan_of, stepping


def scheduled() -> Scheduled:
    steps = [Call("a", ("x",), ("v",)), stepping(3, "v"), Call("b", ("final",), ("y",))]
    empty = TensorSpec("bool", (0, 3))
    return schedule(plan_of([*steps, Call("c", ("x",), ("none",))], {"y": "y"}, {"none": empty}))


def test_arrays_are_aligned_and_of_their_storage() -> None:
    made = scheduled()
    arena = Arena(made.buffers.arena)
    arrays = arena.arrays(made)
    for storage, array in zip(made.buffers.storages, arrays, strict=True):
        assert array is not None
        assert storage.spec == TensorSpec(array.dtype.name, array.shape)
        assert array.flags.c_contiguous
        assert array.flags.writeable
        if storage.kind == "arena":
            assert 0 == array.ctypes.data % 64
    pairs = zip(made.buffers.storages, arrays, strict=True)
    for (one, array), (other, beside) in itertools.combinations(pairs, 2):
        if one.first <= other.last and other.first <= one.last:
            assert not np.shares_memory(array, beside)  # pyright: ignore


def test_what_is_handed_out_is_new_each_time_and_the_rest_is_not() -> None:
    made = scheduled()
    arena = Arena(made.buffers.arena)
    pairs = zip(made.buffers.storages, arena.arrays(made), arena.arrays(made), strict=True)
    for storage, one, other in pairs:
        assert (storage.kind == "arena") == (one is other)


def test_an_arena_is_used_again_and_no_two_runs_have_the_same() -> None:
    arenas = Arenas([scheduled(), scheduled()])
    first, second = arenas.take(), arenas.take()
    assert first is not second
    arenas.give_back(second)
    assert second is arenas.take()


@pytest.mark.parametrize("make", [Arena, lambda size: _arrays(size)])
def test_more_memory_than_there_is(make: Callable[[int], object]) -> None:
    with pytest.raises(BackendError, match="no memory for"):
        make(2**62)


def _arrays(size: int) -> object:
    made = scheduled()
    large = Storage(TensorSpec("int8", (size,)), size, 0, 1, "output")
    object.__setattr__(made.buffers, "storages", (large,))
    return Arena(64).arrays(made)
