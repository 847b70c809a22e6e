"""Requests share calls, and nothing else: no results, no errors, no ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest

from partitioner.errors import BackendError, DeadlineError, InputError
from partitioner.runtime.batches import BatchedPipeline
from partitioner.runtime.events import StepEvent
from partitioner.runtime.pipeline import Pipeline
from partitioner.runtime.queueing import QueueOptions
from partitioner.runtime.requests import Request
from tests.loops import buckets_of

Array = np.ndarray[Any, Any]


class Counted(BatchedPipeline):
    """Knows how many rows its calls had."""

    calls: list[int]

    def _ask(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        outputs = super()._ask(*args, **kwargs)
        self.calls.append(len(outputs["y"]))
        return outputs


@pytest.fixture
def pipe(loaders: dict[int, Callable[[], Pipeline]]) -> Iterator[Counted]:
    # All that is submitted within a second, or fills a bucket, is served together.
    with Counted(buckets_of(loaders), queue=QueueOptions(max_wait=1.0)) as pipe:
        pipe.calls = []
        yield pipe


def x(number: int) -> Array:
    return np.full((1, 3), number, np.float32)


def alone(pipe: BatchedPipeline, number: int) -> Array:
    return pipe(x=x(number), scale=1.0, seed=number)["y"]


def submit(pipe: BatchedPipeline, number: int, **arguments: Any) -> Request:
    return pipe.submit(x=x(number), scale=1.0, seed=number, **arguments)


def test_requests_share_a_call_and_get_what_they_would_alone(pipe: Counted) -> None:
    expected = [alone(pipe, number) for number in range(4)]
    pipe.calls.clear()
    requests = [submit(pipe, number) for number in range(4)]
    for number, request in enumerate(requests):
        outputs = request.result(30)
        np.testing.assert_allclose(expected[number], outputs["y"], rtol=1e-6)
        np.testing.assert_array_equal(outputs["y"][0], outputs["kept"])
    assert [4] == pipe.calls


def test_requests_of_several_rows_share_too(pipe: Counted) -> None:
    expected = [alone(pipe, number) for number in range(4)]
    pipe.calls.clear()
    three = pipe.submit(x=[x(0), x(1), x(2)], scale=1.0, seed=[0, 1, 2])
    one = submit(pipe, 3)
    np.testing.assert_allclose(np.concatenate(expected[:3]), three.result(30)["y"], rtol=1e-6)
    assert 3 == len(three.result()["kept"])
    np.testing.assert_allclose(expected[3], one.result(30)["y"], rtol=1e-6)
    assert [4] == pipe.calls


def test_what_has_no_rows_must_be_alike(pipe: Counted) -> None:
    others = [pipe.submit(x=x(1), scale=2.0, seed=n) for n in range(2)]
    requests = [submit(pipe, n) for n in range(3)]
    assert 5 == len([request.result(30) for request in (*others, *requests)])
    assert [2, 3] == sorted(pipe.calls)


def test_more_rows_than_a_bucket_holds_are_served_alone(pipe: Counted) -> None:
    request = pipe.submit(x=[x(n) for n in range(6)], scale=1.0, seed=list(range(6)))
    assert 6 == len(request.result(30)["y"])


def test_a_bad_input_does_not_join(pipe: Counted) -> None:
    bad = [
        pipe.submit(x=np.ones((1, 5)), scale=1.0),
        pipe.submit(x=x(1)),
        pipe.submit(x=x(1), scale=np.ones(3)),
        pipe.submit({"x": x(1)}, x=x(1), scale=1.0),
    ]
    good = [submit(pipe, n) for n in range(4)]
    for request in bad:
        with pytest.raises(InputError):
            request.result(30)
    assert 4 == len([request.result(30) for request in good])


def test_a_failed_call_fails_only_who_made_it_fail(
    pipe: Counted, caplog: pytest.LogCaptureFixture
) -> None:
    expected = [alone(pipe, number) for number in range(3)]
    requests = [submit(pipe, number) for number in range(3)]
    culprit = pipe.submit(x=np.full((1, 3), np.inf), scale=1.0, seed=0)
    for number, request in enumerate(requests):
        np.testing.assert_allclose(expected[number], request.result(30)["y"], rtol=1e-6)
    with pytest.raises(BackendError, match="a row is not finite"):
        culprit.result(30)
    (told,) = caplog.messages
    assert told.startswith("a call of 4 requests failed, each makes it alone: ")


def test_one_that_ends_between_steps_leaves_the_others_alone(pipe: Counted) -> None:
    expected = alone(pipe, 3)
    steps: list[int] = []

    def stop(event: StepEvent) -> None:
        if event.step == 1:
            raise RuntimeError("enough")

    def give_up(event: StepEvent) -> None:
        given_up.cancel()

    stopped = submit(pipe, 0, callback=stop)
    given_up = submit(pipe, 1, callback=give_up)
    late = submit(pipe, 2, timeout=60)
    late.deadline = late.submitted
    whole = submit(pipe, 3, callback=lambda event: steps.append(event.step))
    np.testing.assert_allclose(expected, whole.result(30)["y"], rtol=1e-6)
    assert [0, 1, 2, 3] == steps
    for request, error in (
        (stopped, RuntimeError),
        (given_up, CancelledError),
        (late, DeadlineError),
    ):
        with pytest.raises(error):
            request.result(30)
    assert (True, False) == (given_up.cancelled(), stopped.cancelled())


def test_a_call_that_nobody_waits_for_any_more_is_left(pipe: Counted) -> None:
    steps: list[int] = []

    def give_up(event: StepEvent) -> None:
        steps.append(event.step)
        for request in requests:
            request.cancel()

    requests = [submit(pipe, n, callback=give_up if n == 3 else None) for n in range(4)]
    for request in requests:
        with pytest.raises(CancelledError):
            request.result(30)
    assert ([0], []) == (steps, pipe.calls)


def test_cancelling_a_task_cancels_its_request(pipe: Counted) -> None:
    async def run() -> Any:
        task = asyncio.create_task(pipe.run_async(x=x(1), scale=1.0, seed=1))
        await asyncio.sleep(0)
        waiting = pipe._queue.waiting
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return waiting, pipe._queue.waiting

    assert (1, 0) == asyncio.run(run())


def test_tasks_share_calls(pipe: Counted) -> None:
    async def run() -> list[Any]:
        return await asyncio.gather(*(pipe.run_async(x=x(n), scale=1.0, seed=n) for n in range(8)))

    outputs = asyncio.run(run())
    assert [4, 4] == pipe.calls
    np.testing.assert_allclose(alone(pipe, 7), outputs[7]["y"], rtol=1e-6)
