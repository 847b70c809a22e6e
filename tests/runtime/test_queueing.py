"""The queue is bounded, in order, and loses nothing when it is closed."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from typing import Any, Literal

import pytest

from partitioner.errors import DeadlineError, OverloadedError, UsageError
from partitioner.runtime.events import StepEvent
from partitioner.runtime.probes import Follower, Source, Watch
from partitioner.runtime.queueing import Job, QueueOptions, RequestQueue
from partitioner.runtime.requests import Outputs, Request


class Held:
    """Serves a request when it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, request: Request) -> Outputs:
        self.begun.set()
        assert self.go.wait(30)
        return {}


def put(
    queue: RequestQueue,
    serve: Callable[[Request], Outputs],
    *,
    timeout: float | None = None,
    client: str = "",
) -> Request:
    request = Request(timeout)
    queue.put(Job(request, serve), client)
    return request


def test_requests_are_served_in_order_and_all_of_them_before_closing_ends() -> None:
    queue, order, held = RequestQueue("pipe", QueueOptions()), list[int](), Held()
    put(queue, held)
    requests = [Request() for _ in range(5)]
    for number, request in enumerate(requests):
        queue.put(Job(request, lambda _, n=number: order.append(n) or {"n": n}))
    held.go.set()
    queue.close()
    assert list(range(5)) == order
    assert [{"n": number} for number in range(5)] == [r.result(0) for r in requests]


def test_more_requests_than_may_wait_are_refused() -> None:
    queue, held = RequestQueue("pipe", QueueOptions(limit=1)), Held()
    put(queue, held)
    assert held.begun.wait(30)
    waiting = put(queue, lambda _: {})
    with pytest.raises(OverloadedError, match="1 requests wait for pipe already"):
        put(queue, lambda _: {})
    held.go.set()
    assert {} == waiting.result(30)
    queue.close()


def test_a_failure_is_its_requests_answer_and_no_others() -> None:
    queue = RequestQueue("pipe", QueueOptions())

    def fail(request: Request) -> Outputs:
        raise ValueError("bad")

    first, second = put(queue, fail), put(queue, lambda _: {"y": 1})
    with pytest.raises(ValueError, match="bad"):
        first.result(30)
    assert {"y": 1} == second.result(30)
    queue.close()


def test_a_closed_queue_takes_no_more() -> None:
    queue = RequestQueue("pipe", QueueOptions())
    queue.close()
    with pytest.raises(UsageError, match="closed"):
        put(queue, lambda _: {})


@pytest.mark.parametrize(
    "bad",
    [
        {"workers": 0},
        {"workers": 1.5},
        {"limit": 0},
        {"limit": float("nan")},
        {"max_wait": -1.0},
        {"max_wait": float("inf")},
        {"max_wait": float("nan")},
    ],
)
def test_options_that_cannot_be_meant(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        QueueOptions(**bad)


def test_a_deadline_ends_the_waiting_though_all_workers_are_busy() -> None:
    queue, held = RequestQueue("pipe", QueueOptions(limit=1)), Held()
    put(queue, held)
    assert held.begun.wait(30)
    late = put(queue, lambda _: {}, timeout=0.01)
    with pytest.raises(DeadlineError, match=r"within 0\.01 s"):
        late.result(30)
    assert 0 == queue.waiting
    in_its_place = put(queue, lambda _: {"y": 1}, timeout=60)
    held.go.set()
    assert {"y": 1} == in_its_place.result(30)
    queue.close()


@pytest.mark.parametrize("timeout", [1e12, float("inf")])
def test_a_deadline_beyond_what_a_lock_waits_for(timeout: float) -> None:
    queue, held = RequestQueue("pipe", QueueOptions()), Held()
    put(queue, held)
    assert held.begun.wait(30)
    patient = put(queue, lambda _: {"y": 1}, timeout=timeout)
    late = put(queue, lambda _: {}, timeout=0.01)
    with pytest.raises(DeadlineError):
        late.result(30)
    held.go.set()
    assert {"y": 1} == patient.result(30)
    queue.close()


def test_a_cancelled_request_gives_its_place_free_at_once() -> None:
    queue, held = RequestQueue("pipe", QueueOptions(limit=1)), Held()
    put(queue, held)
    assert held.begun.wait(30)
    given_up = put(queue, lambda _: {})
    assert (True, 0) == (given_up.cancel(), queue.waiting)
    with pytest.raises(CancelledError):
        given_up.result(0)
    in_its_place = put(queue, lambda _: {"y": 1})
    held.go.set()
    assert {"y": 1} == in_its_place.result(30)
    queue.close()


def test_clients_take_turns() -> None:
    queue, order, held = RequestQueue("pipe", QueueOptions()), list[str](), Held()
    put(queue, held)
    assert held.begun.wait(30)
    for name in ("a1", "a2", "a3", "b1", "b2", "c1"):
        put(queue, lambda _, name=name: order.append(name) or {}, client=name[0])
    held.go.set()
    queue.close()
    assert ["a1", "b1", "c1", "a2", "b2", "a3"] == order


def test_several_workers_serve_at_once() -> None:
    queue, meeting = RequestQueue("pipe", QueueOptions(workers=2)), threading.Barrier(2)
    both = [put(queue, lambda _: {"n": meeting.wait(30)}) for _ in range(2)]
    assert {0, 1} == {request.result(30)["n"] for request in both}
    queue.close()


def test_closing_serves_what_waits_with_a_deadline() -> None:
    queue, held = RequestQueue("pipe", QueueOptions()), Held()
    put(queue, held)
    kept, late = put(queue, lambda _: {"y": 1}, timeout=60), put(queue, lambda _: {}, timeout=0.01)
    with pytest.raises(DeadlineError):
        late.result(30)
    held.go.set()
    queue.close()
    assert {"y": 1} == kept.result(0)


@pytest.mark.parametrize("kind", ["served", "failed", "cancelled"])
def test_a_request_is_gone_with_its_last_holder(kind: str) -> None:
    """Not only with the next full collection: it holds outputs, and its job holds inputs."""

    def serve(request: Request) -> Outputs:
        after = request.callback(None)
        if kind == "cancelled":
            request.cancel()
            after(StepEvent("loop", 0, 2))
        if kind == "failed":
            raise ValueError
        return {}

    gc.disable()
    try:
        queue = RequestQueue("pipe", QueueOptions())
        request = put(queue, serve)
        gone = weakref.ref(request)
        end = time.monotonic() + 30
        while not request.done() and time.monotonic() < end:
            time.sleep(0.001)
        queue.close()
        assert request.done()
        del request
        assert gone() is None
    finally:
        gc.enable()


class Raising:
    """A probe that cannot do one of the things that it is to do."""

    def __init__(self, at: Literal["begun", "answered"]) -> None:
        self.at = at

    def submitted(self, request: int, source: Source, at: int) -> None: ...

    def begun(self, request: int, at: int) -> None:
        if self.at == "begun":
            raise OSError(self.at)

    def answered(self, request: int, at: int, error: BaseException | None) -> None:
        if self.at == "answered":
            raise OSError(self.at)

    def call(self, source: Source, at: int, requests: Sequence[int]) -> Watch | None: ...


@pytest.mark.parametrize("at", ["begun", "answered"])
def test_what_a_probe_raises_is_the_answer_and_no_worker_is_lost(
    at: Literal["begun", "answered"],
) -> None:
    queue = RequestQueue("pipe", QueueOptions())
    request = Request()
    request.follower = Follower([Raising(at)], Source("pipe", "sha256:0"))
    queue.put(Job(request, lambda _: {}))
    with pytest.raises(OSError, match=at):
        request.result(30)
    assert {"y": 1} == put(queue, lambda _: {"y": 1}).result(30)
    queue.close()


@pytest.mark.parametrize("at", ["begun", "answered"])
def test_what_a_probe_raises_keeps_nothing_from_the_others(
    at: Literal["begun", "answered"],
) -> None:
    told: list[str] = []

    class Telling(Raising):
        def begun(self, request: int, at: int) -> None:
            told.append("begun")

        def answered(self, request: int, at: int, error: BaseException | None) -> None:
            told.append("answered")

    queue = RequestQueue("pipe", QueueOptions())
    request = Request()
    request.follower = Follower([Raising(at), Telling(at)], Source("pipe", "sha256:0"))
    queue.put(Job(request, lambda _: {}))
    with pytest.raises(OSError, match=at):
        request.result(30)
    queue.close()
    assert ["begun", "answered"] == told


def test_where_no_thread_can_be_started_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    queue = RequestQueue("pipe", QueueOptions())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fails)
        with pytest.raises(RuntimeError, match="new thread"):
            put(queue, lambda _: {"y": 1})
    assert 0 == queue.waiting
    assert {"y": 1} == put(queue, lambda _: {"y": 1}).result(30)
    queue.close()
