"""Whoever wants to know what pipelines do, and when, is told here: the one hook of the runtime.

Traces (:mod:`partitioner.runtime.traces`), spans of OpenTelemetry
(:mod:`partitioner.runtime.spans`) and benchmarks are *probes*. A request that is submitted is told
of when it comes, when it is begun and when it is answered; a call, which serves one request or
several, gives each probe a *watch*, which is told of segments, loops and steps. Nothing is copied.
Where no probe is registered, a call looks once whether there is one, and a segment once whether
there is a watch.

All times are nanoseconds on the clock of ``time.perf_counter_ns``.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Literal, Protocol

__all__ = [
    "Follower",
    "Kind",
    "Probe",
    "Source",
    "Watch",
    "call",
    "follow",
    "serving",
    "watching",
]

#: What a span is: checking inputs and drawing noise, a call of a segment, a loop, a trip of one.
Kind = Literal["inputs", "segment", "loop", "step"]

_OPENTELEMETRY = "opentelemetry.trace"


@dataclass(frozen=True)
class Source:
    """The pipeline that something is told of.

    Args:
        name: of the bundle; buckets have their batch size behind it.
        digest: of the bundle.
    """

    name: str
    digest: str


class Watch(Protocol):
    """Is told of one call, by the thread that makes it."""

    def span(self, kind: Kind, name: str, begin: int, end: int, number: int = 0) -> None:
        """Something is done; what it is made of was told before.

        Args:
            name: of the segment or loop.
            number: of a step: which trip, from 0.
        """
        ...

    def done(self, end: int, error: BaseException | None) -> None:
        """The call is over; nothing is told after it."""
        ...


class Probe(Protocol):
    """Wants to know. Called by many threads at once; what it raises ends the request."""

    def submitted(self, request: int, source: Source, at: int) -> None:
        """A request waits for its turn; told by the thread that submits it.

        Args:
            request: its number in this process.
        """
        ...

    def begun(self, request: int, at: int) -> None:
        """It waits no more."""
        ...

    def answered(self, request: int, at: int, error: BaseException | None) -> None:
        """It is done, perhaps without having begun.

        Args:
            error: that its caller gets; a CancelledError where it was given up.
        """
        ...

    def call(self, source: Source, at: int, requests: Sequence[int]) -> Watch | None:
        """A call begins in this thread.

        Args:
            requests: the submitted ones that it serves; none where the pipeline is called directly.

        Returns:
            None where this call is of no interest.
        """
        ...


_lock = threading.Lock()
#: Replaced as a whole, so that it is read without the lock.
_probes: tuple[Probe, ...] = ()
_telling = False
_numbers = itertools.count(1)
_nobody: AbstractContextManager[Watch | None] = nullcontext()


class _Serving(threading.local):
    requests: tuple[int, ...] = ()


_serving = _Serving()


@contextmanager
def watching(probe: Probe) -> Generator[None]:
    """Register a probe for all pipelines of this process, as long as the context lasts."""
    global _probes
    with _lock:
        _probes = (*_probes, probe)
    try:
        yield
    finally:
        with _lock:
            _probes = tuple(one for one in _probes if one is not probe)


class Follower:
    """Tells probes what becomes of a request that was submitted, each of it once."""

    __slots__ = ("_probes", "number")

    def __init__(self, probes: Sequence[Probe], source: Source) -> None:
        self._probes = probes
        self.number = next(_numbers)
        at = time.perf_counter_ns()
        for probe in probes:
            probe.submitted(self.number, source, at)

    def begun(self) -> None:
        """It waits no more."""
        at = time.perf_counter_ns()
        _tell(partial(probe.begun, self.number, at) for probe in self._probes)

    def answered(self, error: BaseException | None) -> None:
        """It is done."""
        at = time.perf_counter_ns()
        _tell(partial(probe.answered, self.number, at, error) for probe in self._probes)


def follow(source: Source) -> Follower | None:
    """A request is submitted now; None where nobody wants to know."""
    probes = _registered()
    return Follower(probes, source) if probes else None


@contextmanager
def serving(*followers: Follower | None) -> Generator[None]:
    """Calls that this thread makes in the context serve these requests."""
    before = _serving.requests
    _serving.requests = tuple(one.number for one in followers if one is not None)
    try:
        yield
    finally:
        _serving.requests = before


def call(source: Source) -> AbstractContextManager[Watch | None]:
    """The context of a call; None where nobody wants to know of it."""
    probes = _registered()
    if not probes:
        return _nobody
    at, requests = time.perf_counter_ns(), _serving.requests
    found = [probe.call(source, at, requests) for probe in probes]
    watches = [watch for watch in found if watch is not None]
    return _Call(watches) if watches else _nobody


def _registered() -> tuple[Probe, ...]:
    # Who sends spans anywhere has imported OpenTelemetry: it is looked for and never imported.
    if not _telling and _OPENTELEMETRY in sys.modules:
        _tell_opentelemetry()
    return _probes


def _tell_opentelemetry() -> None:
    global _probes, _telling
    from partitioner.runtime.spans import Spans

    with _lock:
        if not _telling:
            _probes, _telling = (*_probes, Spans()), True


class _Call:
    """Passes on what is told of a call, and how it ended."""

    __slots__ = ("_watches",)

    def __init__(self, watches: Sequence[Watch]) -> None:
        self._watches = watches

    def __enter__(self) -> Watch:
        return self._watches[0] if len(self._watches) == 1 else self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.done(time.perf_counter_ns(), error)

    def span(self, kind: Kind, name: str, begin: int, end: int, number: int = 0) -> None:
        for watch in self._watches:
            watch.span(kind, name, begin, end, number)

    def done(self, end: int, error: BaseException | None) -> None:
        _tell(partial(watch.done, end, error) for watch in self._watches)


def _tell(told: Iterable[Callable[[], None]]) -> None:
    """Tell everybody, whatever one of them raises: who was told of a beginning waits for the end.

    Raises:
        the first error.
    """
    raised: BaseException | None = None
    for tell in told:
        try:
            tell()
        except BaseException as error:  # noqa: BLE001 - it is raised when all have been told
            raised = raised or error
    if raised is not None:
        raise raised
