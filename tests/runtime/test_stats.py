"""What pipelines say of themselves, and warming them up."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partitioner.artifacts.bundle import Bundle
from partitioner.errors import OverloadedError, UsageError
from partitioner.runtime import BatchedPipeline, QueueOptions, StepEvent, load
from partitioner.runtime.verify import sample_inputs
from partitioner.runtime.warming import warm_inputs
from tests.runtime.stacks import NAMES, TRIPS, WEIGHT, given, make_stack

GOLDEN = Path(__file__).parents[1] / "artifacts" / "data" / "golden"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stack(tmp_path_factory.mktemp("stats") / "b")


def calls(pipe: Any) -> dict[str, int]:
    return {segment.name: segment.calls for segment in pipe.stats().segments}


def test_segments_are_counted(path: Path) -> None:
    with load(path) as pipe:
        assert dict.fromkeys(NAMES, 0) == calls(pipe)
        for _ in range(2):
            pipe(x=given())
        expected = {"first": 2, "left": 2 * TRIPS, "right": 2 * TRIPS, "last": 2}
        stats = pipe.stats()
        assert expected == calls(pipe)
        assert all(segment.seconds > 0 for segment in stats.segments)
        assert sum(s.seconds for s in stats.segments) < stats.requests.seconds.total
        assert 2 == stats.requests.served


def test_failed_requests_count_what_they_called(path: Path) -> None:
    def fail(event: StepEvent) -> None:
        raise ZeroDivisionError

    with load(path) as pipe:
        with pytest.raises(ZeroDivisionError):
            pipe(x=given(), callback=fail)
        assert {"first": 1, "left": 1, "right": 1, "last": 0} == calls(pipe)
        assert (0, 1) == (pipe.stats().requests.served, pipe.stats().requests.failed)


@pytest.mark.parametrize(
    ("memory", "packed", "mapped"), [("fast", {"onnx": 4 * WEIGHT}, 0), ("low", {}, 4 * WEIGHT)]
)
def test_memory(path: Path, memory: Any, packed: dict[str, int], mapped: int) -> None:
    with load(path, memory=memory) as pipe:
        assert 0 == pipe.stats().memory.arenas
        pipe(x=given())
        figures = pipe.stats().memory
        assert (packed, mapped) == (figures.packed, figures.mapped)
        assert pipe._schedules.arenas.nbytes == figures.arenas
        assert figures.resident is None or figures.resident > figures.arenas


def test_submitted_requests_are_counted_once(path: Path) -> None:
    begun, go = threading.Event(), threading.Event()

    def hold(event: StepEvent) -> None:
        begun.set()
        assert go.wait(60)

    with load(path, queue=QueueOptions(workers=1, limit=1)) as pipe:
        running = pipe.submit(x=given(), callback=hold)
        assert begun.wait(60)
        waiting = pipe.submit(x=given())
        with pytest.raises(OverloadedError):
            pipe.submit(x=given())
        requests = pipe.stats().requests
        assert (1, 1, 1) == (requests.running, requests.waiting, requests.refused)
        waiting.cancel()
        go.set()
        running.result(60)
        requests = pipe.stats().requests
        assert (1, 0, 1, 1) == (
            requests.served,
            requests.failed,
            requests.cancelled,
            requests.refused,
        )
        assert (0, 0) == (requests.running, requests.waiting)


def test_the_figures_can_be_written_as_json(path: Path) -> None:
    with load(path) as pipe:
        document = json.loads(json.dumps(pipe.stats().to_dict()))
    assert {"requests", "segments", "memory"} == set(document)
    assert "first" == document["segments"][0]["name"]


def test_of_a_closed_pipeline_there_are_none(path: Path) -> None:
    pipe = load(path)
    pipe.close()
    with pytest.raises(UsageError, match="closed"):
        pipe.stats()
    with pytest.raises(UsageError, match="closed"):
        pipe.warmup()


def test_warming_up_runs_everything_and_counts_nothing(path: Path) -> None:
    with load(path, lazy=True) as pipe:
        assert pipe.warmup() > 0
        assert all(segment.loaded for segment in pipe.stats().segments)
        assert (0, {0}) == (pipe.stats().requests.served, set(calls(pipe).values()))


def test_the_parity_sample_is_what_a_pipeline_is_warmed_up_with(path: Path) -> None:
    np.testing.assert_array_equal(
        np.zeros((2, 64), np.float32), warm_inputs(Bundle.open(path))["x"]
    )
    bundle = Bundle.open(GOLDEN / "1.4")
    assert bundle.manifest.parity is not None
    expected = sample_inputs(bundle, bundle.manifest.parity)
    actual = warm_inputs(bundle)
    assert expected.keys() == actual.keys() != set()
    for name, array in expected.items():
        np.testing.assert_array_equal(array, actual[name])


def test_buckets_are_warmed_up_and_counted(tmp_path: Path) -> None:
    """The smallest one, or each; a bucket that is not loaded yet has no figures."""
    with load(GOLDEN / "1.4-batches") as pipe:
        assert isinstance(pipe, BatchedPipeline)
        smallest, *others = pipe.batch_sizes
        pipe.warmup()
        assert {smallest} == {segment.batch for segment in pipe.stats().segments}
        pipe.warmup(every=True)
        assert set(pipe.batch_sizes) == {segment.batch for segment in pipe.stats().segments}
        assert others
        assert (0, 0) == (pipe.stats().requests.served, pipe.stats().segments[0].calls)
        assert pipe.stats().memory.arenas > 0
