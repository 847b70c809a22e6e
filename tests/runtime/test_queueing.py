"""The queue is bounded, in order, and loses nothing when it is closed."""

from __future__ import annotations

import threading

import pytest

from partitioner.errors import OverloadedError, UsageError
from partitioner.runtime.queueing import QueueOptions, RequestQueue
from partitioner.runtime.requests import Outputs, Request


class Held:
    """Serves a request when it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, request: Request) -> Outputs:
        self.begun.set()
        assert self.go.wait(30)
        return {}


def test_requests_are_served_in_order_and_all_of_them_before_closing_ends() -> None:
    queue, order, held = RequestQueue("pipe", QueueOptions()), list[int](), Held()
    queue.put(Request(), held)
    requests = [Request() for _ in range(5)]
    for number, request in enumerate(requests):
        queue.put(request, lambda _, number=number: order.append(number) or {"n": number})
    held.go.set()
    queue.close()
    assert list(range(5)) == order
    assert [{"n": number} for number in range(5)] == [r.result(0) for r in requests]


def test_more_requests_than_may_wait_are_refused() -> None:
    queue, held = RequestQueue("pipe", QueueOptions(limit=1)), Held()
    queue.put(Request(), held)
    assert held.begun.wait(30)
    waiting = Request()
    queue.put(waiting, lambda _: {})
    with pytest.raises(OverloadedError, match="1 requests wait for pipe already"):
        queue.put(Request(), lambda _: {})
    held.go.set()
    assert {} == waiting.result(30)
    queue.close()


def test_a_failure_is_its_requests_answer_and_no_others() -> None:
    queue = RequestQueue("pipe", QueueOptions())

    def fail(request: Request) -> Outputs:
        raise ValueError("bad")

    first, second = Request(), Request()
    queue.put(first, fail)
    queue.put(second, lambda _: {"y": 1})
    with pytest.raises(ValueError, match="bad"):
        first.result(30)
    assert {"y": 1} == second.result(30)
    queue.close()


def test_a_closed_queue_takes_no_more() -> None:
    queue = RequestQueue("pipe", QueueOptions())
    queue.close()
    with pytest.raises(UsageError, match="closed"):
        queue.put(Request(), lambda _: {})


@pytest.mark.parametrize("bad", [{"workers": 0}, {"limit": 0}])
def test_options_that_cannot_be_meant(bad: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        QueueOptions(**bad)
