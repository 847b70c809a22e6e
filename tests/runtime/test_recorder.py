"""Requests are counted once, by what becomes of them."""

from __future__ import annotations

from concurrent.futures import CancelledError
from dataclasses import astuple

import pytest

from partitioner.errors import OverloadedError
from partitioner.runtime.recorder import WINDOW, Recorder
from partitioner.runtime.requests import Request


def figures(recorder: Recorder) -> tuple[int, ...]:
    """served, failed, cancelled, refused, running, waiting"""
    return astuple(recorder.stats())[:6]


def test_calls() -> None:
    recorder = Recorder()
    with recorder.call():
        assert (0, 0, 0, 0, 1, 0) == figures(recorder)
    with pytest.raises(ValueError), recorder.call():
        raise ValueError
    with pytest.raises(CancelledError), recorder.call():
        raise CancelledError
    with pytest.raises(OverloadedError), recorder.refusals():
        raise OverloadedError("as many wait as may")
    assert (1, 1, 1, 1, 0, 0) == figures(recorder)


def test_submitted_requests() -> None:
    recorder = Recorder()
    served, failed, waiting, running, early = (Request() for _ in range(5))
    early.finish({})
    for request in (served, failed, waiting, running, early):
        recorder.watch(request)
    for request in (served, failed, running):
        request.set_running_or_notify_cancel()
    assert (1, 0, 0, 0, 3, 1) == figures(recorder)
    served.finish({})
    failed.set_exception(ValueError())
    waiting.cancel()
    running.cancel()
    assert (2, 1, 1, 0, 1, 0) == figures(recorder)
    running.finish({})
    assert (2, 1, 2, 0, 0, 0) == figures(recorder)


def test_seconds_are_of_the_latest_requests() -> None:
    recorder = Recorder()
    nothing = recorder.stats().seconds
    assert (0.0, 0, 0.0, 0.0) == (nothing.total, nothing.count, nothing.p50, nothing.largest)
    for _ in range(WINDOW + 5):
        with recorder.call():
            pass
    seconds = recorder.stats().seconds
    assert (WINDOW + 5, WINDOW) == (recorder.stats().served, seconds.count)
    assert 0 < seconds.p50 <= seconds.p90 <= seconds.p99 <= seconds.largest <= seconds.total
