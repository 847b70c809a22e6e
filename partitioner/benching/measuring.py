"""Times of requests in this process: one after the other, several at a time, segment by segment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from partitioner.errors import UsageError
from partitioner.runtime.probes import Kind, Source, Watch, watching

__all__ = ["Budget", "Spent", "Tally", "at_once", "in_turn", "watched"]

#: Makes one request and waits for its result.
Call = Callable[[], object]


@dataclass(frozen=True)
class Budget:
    """How long a measurement goes on.

    Args:
        seconds: it takes at least; 0 for ``least`` requests only.
        least: requests at least.
        most: requests at most, at least ``least``.
        warm_up: requests before it that are not counted.
    """

    seconds: float = 5.0
    least: int = 20
    most: int = 10_000
    warm_up: int = 2

    def __post_init__(self) -> None:
        if self.least < 1 or self.most < self.least or self.seconds < 0 or self.warm_up < 0:
            raise UsageError(
                f"cannot measure {self.least} to {self.most} requests for {self.seconds} seconds "
                f"after {self.warm_up}",
                advice="give at least one request, and no negative numbers",
            )

    def wants_more(self, count: int, seconds: float) -> bool:
        """Whether a measurement goes on after so many requests and seconds."""
        return count < self.least or (seconds < self.seconds and count < self.most)


def in_turn(calls: Sequence[Call], budget: Budget) -> list[list[float]]:
    """Seconds of each of several calls, which take turns, one at a time.

    Every other round goes backwards, so that none always follows the same other one.
    """
    for call in calls:
        for _ in range(budget.warm_up):
            call()
    seconds: list[list[float]] = [[] for _ in calls]
    order = list(range(len(calls)))
    began = time.perf_counter()
    while budget.wants_more(len(seconds[0]), time.perf_counter() - began):
        for place in order:
            start = time.perf_counter()
            calls[place]()
            seconds[place].append(time.perf_counter() - start)
        order.reverse()
    return seconds


def at_once(call: Call, concurrency: int, budget: Budget) -> tuple[list[float], float]:
    """Requests by so many clients, each of which makes its next one when it has its result.

    Returns:
        seconds of each request, its waiting included; and seconds from the first to the last.
    """
    for _ in range(budget.warm_up):
        call()
    lock, count = threading.Lock(), 0
    began = time.perf_counter()

    def takes_one() -> bool:
        nonlocal count
        with lock:
            more = budget.wants_more(count, time.perf_counter() - began)
            count += more
            return more

    def client() -> list[float]:
        own: list[float] = []
        while takes_one():
            start = time.perf_counter()
            call()
            own.append(time.perf_counter() - start)
        return own

    with ThreadPoolExecutor(concurrency) as clients:
        running = [clients.submit(client) for _ in range(concurrency)]
        seconds = [one for client in running for one in client.result()]
    return seconds, time.perf_counter() - began


@dataclass
class Tally:
    """How often something was done, and the seconds it took together."""

    calls: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Spent:
    """Where the time of calls went.

    Args:
        segments: by name, in the order in which they first ended.
        whole: the calls themselves; of a batched bundle those of its buckets.
        inputs: checking inputs and drawing noise.
    """

    segments: dict[str, Tally]
    whole: Tally
    inputs: Tally


class _Tallying:
    """A probe, and the watch of each call: one call at a time."""

    def __init__(self) -> None:
        self.spent = Spent({}, Tally(), Tally())
        self._began = 0

    def submitted(self, request: int, source: Source, at: int) -> None:
        """See :class:`partitioner.runtime.probes.Probe`."""

    def begun(self, request: int, at: int) -> None:
        """See :class:`partitioner.runtime.probes.Probe`."""

    def answered(self, request: int, at: int, error: BaseException | None) -> None:
        """See :class:`partitioner.runtime.probes.Probe`."""

    def call(self, source: Source, at: int, requests: Sequence[int]) -> Watch:
        """See :class:`partitioner.runtime.probes.Probe`."""
        self._began = at
        return self

    def span(self, kind: Kind, name: str, begin: int, end: int, number: int = 0) -> None:
        """See :class:`partitioner.runtime.probes.Watch`."""
        if kind == "segment":
            _add(self.spent.segments.setdefault(name, Tally()), begin, end)
        elif kind == "inputs":
            _add(self.spent.inputs, begin, end)

    def done(self, end: int, error: BaseException | None) -> None:
        """See :class:`partitioner.runtime.probes.Watch`."""
        _add(self.spent.whole, self._began, end)


def _add(tally: Tally, begin: int, end: int) -> None:
    tally.calls += 1
    tally.seconds += (end - begin) / 1e9


def watched(call: Call, count: int) -> Spent:
    """Make so many calls, one after the other, and tell what they did."""
    probe = _Tallying()
    with watching(probe):
        for _ in range(count):
            call()
    return probe.spent
