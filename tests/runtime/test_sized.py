"""Buckets for a range: what is kept of the sizes that were asked for, and what is counted."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partitioner.artifacts.bundle import Bundle
from partitioner.backends.execution import DeviceOptions
from partitioner.runtime.batches import BatchedPipeline
from partitioner.runtime.bundles import load_bucket
from partitioner.runtime.narrowing import constants_at
from partitioner.runtime.pipeline import Pipeline
from partitioner.runtime.queueing import QueueOptions
from partitioner.runtime.sized import KEPT_SIZES, SizedBucket
from tests.sizes import FACTORS, MOST, TRIPS, WIDTH, expected, make_range_bundle, xs

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_range_bundle(tmp_path_factory.mktemp("sized") / "bundle")


@pytest.fixture
def loads(path: Path) -> Callable[[], Pipeline]:
    return partial(load_bucket, Bundle.open(path), DeviceOptions())


@pytest.fixture
def pipe(loads: Callable[[], Pipeline]) -> Iterator[BatchedPipeline]:
    bucket = SizedBucket(loads, range(1, MOST + 1))
    with BatchedPipeline([bucket], queue=QueueOptions(2, max_wait=0.01)) as pipe:
        yield pipe


@pytest.mark.parametrize("rows", [1, 5, MOST - 1, MOST, MOST + 3])
def test_rows_are_those_of_their_places(pipe: BatchedPipeline, rows: int) -> None:
    x = xs(rows)
    whole = [expected(part) for part in (x[:MOST], x[MOST:])]
    np.testing.assert_array_equal(np.concatenate(whole), pipe(x=x)["y"])


def test_numbers_without_dimensions_stay_numbers(path: Path) -> None:
    manifest = Bundle.open(path).manifest
    made = constants_at({"scale": np.array(2.0), "factors": FACTORS}, manifest, 3)
    assert {"scale": (), "factors": (TRIPS, 3, 1)} == {n: a.shape for n, a in made.items()}
    assert made["factors"].flags.c_contiguous


def test_memory_does_not_grow_with_the_sizes_that_are_used(
    pipe: BatchedPipeline, loads: Callable[[], Pipeline]
) -> None:
    with BatchedPipeline([SizedBucket(loads, range(1, MOST + 1))]) as other:
        other(x=xs(MOST))
        largest = other.stats().memory.arenas
    for rows in (*range(1, MOST + 1), *range(MOST, 0, -1)):
        pipe(x=xs(rows))
    # One arena, as large as the most rows that were served; and none is kept beside it.
    assert largest == pipe.stats().memory.arenas >= MOST * WIDTH * 4


def test_arenas_of_requests_beside_each_other_are_as_many_as_those(pipe: BatchedPipeline) -> None:
    pipe(x=xs(MOST))
    alone = pipe.stats().memory.arenas
    with ThreadPoolExecutor(3) as pool:
        for _ in range(5):
            list(pool.map(lambda rows: pipe(x=xs(rows)), range(1, MOST + 1)))
    assert alone <= pipe.stats().memory.arenas <= 3 * alone


def test_sizes_that_were_asked_for_long_ago_are_forgotten(loads: Callable[[], Pipeline]) -> None:
    bucket = SizedBucket(loads, range(1, MOST + 1))
    whole = bucket.whole()
    made = [weakref.ref(bucket.at(rows)) for rows in range(1, MOST)]
    for one, rows in zip(made, range(1, MOST), strict=True):
        if (pipeline := one()) is not None:
            pipeline(x=xs(rows), seed=0)
    del pipeline
    gc.collect()
    kept = [rows for rows, one in zip(range(1, MOST), made, strict=True) if one() is not None]
    assert list(range(MOST - KEPT_SIZES, MOST)) == kept
    assert bucket.at(kept[0]) is made[kept[0] - 1]()
    bucket.at(1)
    gc.collect()
    # The first of those kept was used just now, so the second is the one that goes.
    assert [False, True] == [made[rows - 1]() is None for rows in kept[:2]]
    assert whole is bucket.at(MOST)
    bucket.close()


def test_views_of_an_arena_go_with_their_size(loads: Callable[[], Pipeline]) -> None:
    bucket = SizedBucket(loads, range(1, MOST + 1))
    for rows in range(MOST, 0, -1):
        bucket.at(rows)(x=xs(rows))
    gc.collect()
    arenas = bucket.whole()._schedules.arenas
    (arena,) = arenas._free
    assert KEPT_SIZES + 1 == len(arena._views)
    bucket.close()


def test_calls_of_forgotten_sizes_stay_counted(pipe: BatchedPipeline) -> None:
    for rows in (*range(1, MOST + 1), 1):
        pipe(x=xs(rows))
    calls = {one.batch: one.calls for one in pipe.stats().segments if one.name == "body"}
    assert {rows: TRIPS * (1 + (rows == 1)) for rows in range(1, MOST + 1)} == calls
    weights = {one.batch for one in pipe.stats().segments if one.mapped or one.packed}
    assert weights <= {MOST}


def test_mixed_sizes_beside_each_other_give_each_its_own(pipe: BatchedPipeline) -> None:
    """More sizes than are kept, by calls and by requests that share calls, from many threads."""
    # Numbers of two requests are further apart than those of the table's rows.
    requests = [(xs(1 + number * 7 % MOST, first=1000 * number), number) for number in range(60)]

    def ask(request: tuple[Array, int]) -> Array:
        x, number = request
        return (pipe(x=x) if number % 3 == 0 else pipe.submit(x=x).result())["y"]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, requests))
    for (x, _), answer in zip(requests, answers, strict=True):
        # In a call that is shared a request has other places, whose numbers it is given.
        offsets = answer - np.abs(x)
        assert np.array_equal(offsets, np.broadcast_to(offsets[:, :1], offsets.shape))
        places = np.searchsorted(2 * FACTORS.sum(0)[:, 0], offsets[:, 0])
        np.testing.assert_array_equal(2 * FACTORS.sum(0)[places, 0], offsets[:, 0])
        np.testing.assert_array_equal(np.arange(len(x)) + places[0], places)
