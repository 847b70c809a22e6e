"""Requests end once: by outputs, an error, their deadline or by being given up."""

from __future__ import annotations

import weakref
from concurrent.futures import CancelledError

import pytest

from partitioner.errors import DeadlineError, UsageError
from partitioner.runtime.events import StepEvent
from partitioner.runtime.requests import Outputs, Request


def test_a_waiting_request_is_cancelled_at_once() -> None:
    request = Request()
    assert (True, True, True) == (request.cancel(), request.cancelled(), request.done())
    assert not request.set_running_or_notify_cancel()


def test_a_running_request_ends_at_its_next_step() -> None:
    request = Request()
    request.set_running_or_notify_cancel()
    assert (True, False) == (request.cancel(), request.done())
    with pytest.raises(CancelledError):
        request.callback(None)(StepEvent("loop", 0, 2))


def test_outputs_of_a_request_given_up_are_not_shown() -> None:
    request = Request()
    request.set_running_or_notify_cancel()
    request.cancel()
    request.finish({"y": 1})
    assert request.cancelled()
    with pytest.raises(CancelledError):
        request.result()


def test_a_finished_request_cannot_be_cancelled() -> None:
    request = Request()
    request.set_running_or_notify_cancel()
    request.finish({"y": 1})
    assert (False, False, {"y": 1}) == (request.cancel(), request.cancelled(), request.result())


def test_a_deadline_is_checked_between_steps() -> None:
    request = Request(timeout=0.0)
    with pytest.raises(DeadlineError, match="within 0 s"):
        request.callback(None)(StepEvent("loop", 0, 2))


def test_a_timeout_is_a_number() -> None:
    assert (None, None) == (Request().deadline, Request(float("inf")).deadline)
    with pytest.raises(UsageError, match="timeout of nan"):
        Request(float("nan"))


def test_a_callback_of_the_caller_is_called_too() -> None:
    seen: list[StepEvent] = []
    event = StepEvent("loop", 1, 2)
    Request().callback(seen.append)(event)
    assert [event] == seen


def test_an_error_does_not_keep_what_its_frames_held() -> None:
    class Held:
        pass

    def fail(held: Held, request: Request) -> None:
        try:
            raise KeyError
        except KeyError as error:
            raise ValueError from error

    request, held = Request(), Held()
    gone = weakref.ref(held)
    try:
        fail(held, request)
    except ValueError as error:
        del held
        request.set_exception(error)
    assert gone() is None
    with pytest.raises(ValueError):
        request.result()


def test_outputs_that_are_on_their_way_cannot_be_given_up() -> None:
    cancelled: list[bool] = []

    class Probe(Request):
        def set_result(self, result: Outputs) -> None:
            cancelled.append(self.cancel())
            super().set_result(result)

    request = Probe()
    request.set_running_or_notify_cancel()
    request.finish({"y": 1})
    assert [False] == cancelled
    assert (False, {"y": 1}) == (request.cancelled(), request.result())
