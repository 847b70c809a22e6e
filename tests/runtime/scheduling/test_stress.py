"""Nothing is lost and nothing wrong: cancellations, deadlines and failures mixed in."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np
import pytest

from partitioner.runtime.batches import BatchedPipeline
from partitioner.runtime.pipeline import Pipeline
from partitioner.runtime.queueing import QueueOptions
from tests.loops import buckets_of
from tests.runtime.scheduling.stress import KINDS, Array, Key, stress

#: Of all runs of the long test together; an hour before a release (CONTRIBUTING.md).
SECONDS = float(os.environ.get("PARTITIONER_STRESS_SECONDS", "300"))
KEYS: list[Key] = [(number, scale) for number in range(6) for scale in (0.5, 2.0)]


def answers_of(pipe: BatchedPipeline) -> dict[Key, Array]:
    """Each request by itself, with nobody else about."""
    return {
        (number, scale): pipe(x=np.full((1, 3), number), scale=scale, seed=number)["y"]
        for number, scale in KEYS
    }


@pytest.fixture(params=["requests", "steps"])
def shared(
    request: pytest.FixtureRequest,
    loaders: dict[int, Callable[[], Pipeline]],
    step_loaders: dict[int, Callable[[], Pipeline]],
) -> dict[int, Callable[[], Pipeline]]:
    """Requests share calls from the first step on, or at whatever step they are."""
    return loaders if request.param == "requests" else step_loaders


@pytest.mark.parametrize("workers", [1, 2])
def test_mixed_load(shared: dict[int, Callable[[], Pipeline]], workers: int) -> None:
    options = QueueOptions(workers, limit=12, max_wait=0.002)
    with BatchedPipeline(buckets_of(shared), queue=options) as pipe:
        tally = stress(pipe, answers_of(pipe), lambda count: count < 100)
    assert [] == tally.wrong
    assert 400 == tally.submitted == tally.outcomes.total()
    assert set(KINDS) == {kind for kind, _ in tally.outcomes}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_minutes_of_mixed_load(shared: dict[int, Callable[[], Pipeline]], workers: int) -> None:
    end = time.monotonic() + SECONDS / 4
    options = QueueOptions(workers, limit=12, max_wait=0.002)
    with BatchedPipeline(buckets_of(shared), queue=options) as pipe:
        tally = stress(pipe, answers_of(pipe), lambda _: time.monotonic() < end, seed=workers)
    assert [] == tally.wrong
    assert tally.submitted == tally.outcomes.total()
    assert set(KINDS) == {kind for kind, _ in tally.outcomes}
