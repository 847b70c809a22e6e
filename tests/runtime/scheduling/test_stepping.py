"""Requests at different steps share calls, and get what they would get alone."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partitioner.errors import BackendError, InputError
from partitioner.runtime.batches import BatchedPipeline
from partitioner.runtime.events import StepEvent
from partitioner.runtime.pipeline import Pipeline
from partitioner.runtime.queueing import QueueOptions
from partitioner.runtime.requests import Request
from partitioner.runtime.scheduling.lanes import SteppedRun
from partitioner.runtime.scheduling.sharing import joined_call
from partitioner.runtime.scheduling.stepping import SharedBody
from partitioner.runtime.traces import tracing
from tests.loops import TRIPS, buckets_of
from tests.runtime.tracefiles import check_trace, read_trace

Array = np.ndarray[Any, Any]


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Of each call of a body, at which steps its requests are."""
    seen: list[list[int]] = []
    step = SharedBody.step

    def watched(self: SharedBody, lanes: Any) -> None:
        seen.append([lane.trip for lane in lanes])
        step(self, lanes)

    monkeypatch.setattr(SharedBody, "step", watched)
    return seen


@pytest.fixture
def pipe(step_loaders: dict[int, Callable[[], Pipeline]]) -> Iterator[BatchedPipeline]:
    with BatchedPipeline(buckets_of(step_loaders), queue=QueueOptions()) as pipe:
        yield pipe


def x(number: int) -> Array:
    return np.full((1, 3), number, np.float32)


def alone(pipe: BatchedPipeline, number: int, scale: float = 1.0) -> Array:
    return pipe(x=x(number), scale=scale, seed=number)["y"]


def submit(pipe: BatchedPipeline, number: int, scale: float = 1.0, **arguments: Any) -> Request:
    return pipe.submit(x=x(number), scale=scale, seed=number, **arguments)


class Staggered:
    """Submits one more request after each step of the first."""

    def __init__(self, pipe: BatchedPipeline, count: int) -> None:
        self.pipe, self.count = pipe, count
        self.requests: list[Request] = []

    def __call__(self, event: StepEvent) -> None:
        if len(self.requests) < self.count:
            number = len(self.requests) + 1
            # What is no row of theirs may differ: it is used before the loop.
            self.requests.append(submit(self.pipe, number, float(number)))

    def run(self) -> list[Any]:
        first = submit(self.pipe, 0, callback=self)
        outputs = [first.result(30)]
        return [*outputs, *(request.result(30) for request in self.requests)]


def test_requests_join_at_any_step(pipe: BatchedPipeline, rounds: list[list[int]]) -> None:
    outputs = Staggered(pipe, 3).run()
    assert [[0], [1, 0], [2, 1, 0], [3, 2, 1, 0], [3, 2, 1], [3, 2], [3]] == rounds
    for number, own in enumerate(outputs):
        expected = alone(pipe, number, float(max(number, 1)))
        np.testing.assert_allclose(expected, own["y"], rtol=1e-6)
        np.testing.assert_array_equal(own["y"][0], own["kept"])


def test_more_requests_than_rows_take_the_places_of_those_that_leave(
    pipe: BatchedPipeline, rounds: list[list[int]]
) -> None:
    begun, go = threading.Event(), threading.Event()

    def hold(event: StepEvent) -> None:
        begun.set()
        assert go.wait(30)

    first = submit(pipe, 0, callback=hold)
    assert begun.wait(30)
    requests = [first, *(submit(pipe, number) for number in range(1, 11))]
    go.set()
    outputs = [request.result(30)["y"] for request in requests]
    assert 4 == max(map(len, rounds))
    assert 11 * TRIPS == sum(map(len, rounds))
    for number, own in enumerate(outputs):
        np.testing.assert_allclose(alone(pipe, number), own, rtol=1e-6)


def test_a_failed_step_fails_only_who_made_it_fail(
    pipe: BatchedPipeline, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    step, culprits = SharedBody.step, list[Request]()

    def failing(self: SharedBody, lanes: Any) -> None:
        if any(lane.request in culprits and lane.trip == 2 for lane in lanes):
            raise BackendError("out of order")
        step(self, lanes)

    monkeypatch.setattr(SharedBody, "step", failing)
    begun, go = threading.Event(), threading.Event()
    first = submit(pipe, 0, callback=lambda _: begun.set() or go.wait(30))
    assert begun.wait(30)
    culprits.append(submit(pipe, 1))
    others = [first, submit(pipe, 2)]
    go.set()
    with pytest.raises(BackendError, match="out of order"):
        culprits[0].result(30)
    for number, request in zip((0, 2), others, strict=True):
        np.testing.assert_allclose(alone(pipe, number), request.result(30)["y"], rtol=1e-6)
    assert ["a step of 3 requests failed, each makes it alone: out of order"] == caplog.messages


def test_what_fails_before_or_after_the_loop_is_its_own(pipe: BatchedPipeline) -> None:
    culprit = pipe.submit(x=np.full((1, 3), np.inf), scale=1.0, seed=0)
    bad = pipe.submit(x=np.ones((1, 3)), scale=np.ones(2), seed=0)
    good = submit(pipe, 3)
    np.testing.assert_allclose(alone(pipe, 3), good.result(30)["y"], rtol=1e-6)
    with pytest.raises(BackendError, match="a row is not finite"):
        culprit.result(30)
    with pytest.raises(InputError):
        bad.result(30)


def test_one_that_is_given_up_leaves_at_the_next_step(
    pipe: BatchedPipeline, rounds: list[list[int]]
) -> None:
    staggered = Staggered(pipe, 1)

    def watch(event: StepEvent) -> None:
        staggered(event)
        if event.step == 2:
            staggered.requests[0].cancel()

    np.testing.assert_allclose(
        alone(pipe, 0), submit(pipe, 0, callback=watch).result(30)["y"], rtol=1e-6
    )
    with pytest.raises(CancelledError):
        staggered.requests[0].result(30)
    assert [[0], [1, 0], [2, 1], [3]] == rounds


def test_lists_are_answered_by_lists(pipe: BatchedPipeline) -> None:
    one = pipe.submit(x=[x(1)], scale=1.0, seed=[1]).result(30)
    several = pipe.submit(x=[x(1), x(2)], scale=1.0, seed=[1, 2]).result(30)
    assert (1, 2) == (len(one["kept"]), len(several["kept"]))
    np.testing.assert_allclose(one["y"][0], several["y"][0], rtol=1e-6)


def test_a_request_that_shares_steps_is_counted_and_told_of_once(
    pipe: BatchedPipeline, tmp_path: Path
) -> None:
    with tracing(tmp_path / "trace.json"):
        Staggered(pipe, 2).run()
    events = read_trace(tmp_path / "trace.json")
    check_trace(events)
    assert 3 == sum(event["name"].startswith("request ") for event in events if event["ph"] == "b")
    told = Counter(event["name"] for event in events if event.get("cat") == "segment")
    figures = pipe.stats()
    counted = Counter[str]()
    for segment in figures.segments:
        counted[segment.name] += segment.calls
    assert {name: count for name, count in counted.items() if count} == told
    assert (3, 0, 0) == (figures.requests.served, figures.requests.running, figures.requests.failed)


def test_a_run_that_cannot_be_made_gives_its_arena_back(
    pipe: BatchedPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise BackendError("no memory")

    submit(pipe, 0).result(30)
    before = pipe.stats().memory.arenas
    with monkeypatch.context() as patched:
        patched.setattr(SteppedRun, "__init__", refuse)
        with pytest.raises(BackendError, match="no memory"):
            submit(pipe, 0).result(30)
    submit(pipe, 0).result(30)
    assert before == pipe.stats().memory.arenas


def test_calls_of_a_step_that_fails_are_counted(
    pipe: BatchedPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = SharedBody._run  # pyright: ignore[reportPrivateUsage]

    def failing(self: SharedBody, watch: Any, spent: Any) -> None:
        run(self, watch, spent)
        raise BackendError("out of order")

    monkeypatch.setattr(SharedBody, "_run", failing)
    with pytest.raises(BackendError):
        submit(pipe, 0).result(30)
    assert 1 in {segment.calls for segment in pipe.stats().segments}
    assert 1 == pipe.stats().requests.failed


def test_one_whose_inputs_cannot_be_taken_is_answered_though_it_joins_others(
    pipe: BatchedPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    staggered = Staggered(pipe, 1)

    def refuse(contents: Any) -> Any:
        if contents[0].seeds == [1]:
            raise MemoryError
        return joined_call(contents)

    monkeypatch.setattr("partitioner.runtime.batches.joined_call", refuse)
    submit(pipe, 0, callback=staggered).result(30)
    with pytest.raises(MemoryError):
        staggered.requests[0].result(30)
