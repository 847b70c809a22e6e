"""What became of requests: how many there are of each kind, and how long those served took."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from partitioner.errors import OverloadedError
from partitioner.runtime.requests import Outputs, Request

__all__ = ["WINDOW", "Latency", "Recorder", "RequestStats"]

#: Requests whose seconds are kept, the latest ones.
WINDOW = 1024


@dataclass(frozen=True)
class Latency:
    """Seconds of requests that were served, as their callers saw them: waiting included.

    Args:
        total: of all requests since loading.
        count: how many requests the figures below are of, the latest ones: at most :data:`WINDOW`.
        p50, p90, p99: percentiles of those; 0 where there are none.
        largest: of those.
    """

    total: float
    count: int
    p50: float
    p90: float
    p99: float
    largest: float


@dataclass(frozen=True)
class RequestStats:
    """Requests since loading; a call counts as one, whatever number of rows it has.

    Args:
        served: ended with outputs.
        failed: ended with an error, their deadline's included.
        cancelled: given up by their callers.
        refused: not taken, since too many waited.
        running: under way now.
        waiting: submitted, and not begun.
        seconds: of those served.
    """

    served: int
    failed: int
    cancelled: int
    refused: int
    running: int
    waiting: int
    seconds: Latency


class Recorder:
    """Counts the requests of one pipeline. Thread-safe."""

    def __init__(self) -> None:
        # A submitted request may end, and be counted, while this thread counts.
        self._lock = threading.RLock()
        self._ended = {"served": 0, "failed": 0, "cancelled": 0, "refused": 0}
        self._calls = 0
        self._submitted: set[Request] = set()
        self._total = 0.0
        self._latest: deque[float] = deque(maxlen=WINDOW)

    @contextmanager
    def call(self) -> Generator[None]:
        """A request that the calling thread serves."""
        began = time.monotonic()
        with self._lock:
            self._calls += 1
        kind = "failed"
        try:
            yield
            kind = "served"
        except CancelledError:
            kind = "cancelled"
            raise
        finally:
            with self._lock:
                self._calls -= 1
                self._end(kind, time.monotonic() - began)

    def watch(self, request: Request) -> None:
        """A request that was submitted: counted by what becomes of the future."""
        with self._lock:
            self._submitted.add(request)
        request.add_done_callback(self._done)

    @contextmanager
    def refusals(self) -> Generator[None]:
        """A request is submitted; counted if it is not taken."""
        try:
            yield
        except OverloadedError:
            with self._lock:
                self._ended["refused"] += 1
            raise

    def stats(self) -> RequestStats:
        """The figures now."""
        with self._lock:
            running = sum(request.running() for request in self._submitted)
            waiting = len(self._submitted) - running
            latest = np.array(self._latest)
            ended, total, calls = dict(self._ended), self._total, self._calls
        return RequestStats(
            **ended,
            running=calls + running,
            waiting=waiting,
            seconds=_latency(total, latest),
        )

    def _done(self, request: Future[Outputs]) -> None:
        assert isinstance(request, Request)
        if request.cancelled():
            kind = "cancelled"
        else:
            kind = "served" if request.exception() is None else "failed"
        with self._lock:
            self._submitted.discard(request)
            self._end(kind, time.monotonic() - request.submitted)

    def _end(self, kind: str, seconds: float) -> None:
        self._ended[kind] += 1
        if kind == "served":
            self._total += seconds
            self._latest.append(seconds)


def _latency(total: float, latest: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Latency:
    if not latest.size:
        return Latency(total, 0, 0.0, 0.0, 0.0, 0.0)
    p50, p90, p99 = (float(one) for one in np.percentile(latest, (50, 90, 99)))
    return Latency(total, latest.size, p50, p90, p99, float(latest.max()))
