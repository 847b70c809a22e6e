"""Traces of real requests, for Perfetto (https://ui.perfetto.dev) and Chrome's tracing page.

The form is the Trace Event Format in JSON (Chromium's document of that name): calls, loops, steps
and segments are complete events (``X``) on the track of their thread, nested in time; requests that
were submitted are nestable asynchronous events (``b``, ``e``), each with its waiting inside, since
many of them wait at a time. Their ids are local to the process (``id2``): Perfetto puts others on
tracks of no process, where those of two processes would be one.
"""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from partitioner.errors import OutputError, UsageError
from partitioner.runtime.probes import Kind, Source, Watch, watching
from partitioner.wholefiles import write_whole

__all__ = ["LIMIT", "Trace", "tracing"]

#: Spans that a trace keeps at most: about 20 MB of memory, and as much on disk.
LIMIT = 100_000

Event = dict[str, Any]


@contextmanager
def tracing(path: str | os.PathLike[str], *, limit: int = LIMIT) -> Generator[Trace]:
    """Trace all calls and requests of this process, whatever thread makes them, into a file.

    It may be switched on in a process that serves, for a while: pipelines need not be loaded anew.
    The file is written at the end of the context, also where an exception ends it; ``write`` of the
    trace writes it earlier.

    Args:
        path: of the file, replaced at once when it is whole.
        limit: spans that are kept. Where there are more, the oldest calls are dropped, and of a
            call that has more by itself its later ones; the file says how many.

    Raises:
        OutputError: the file cannot be written.
        UsageError: a limit below 1.
    """
    target = Path(path)
    if not target.absolute().parent.is_dir():
        raise OutputError(
            f"there is no folder {target.absolute().parent} for the trace",
            advice="give a path in a folder that exists",
        )
    if target.is_dir():
        raise OutputError(f"{target} is a folder", advice="give the path of a file for the trace")
    trace = Trace(target, limit)
    with watching(trace):
        try:
            yield trace
        finally:
            trace.write()


@dataclass(slots=True)
class _Call:
    """A call that is traced: a watch of :mod:`partitioner.runtime.probes`."""

    trace: Trace
    source: Source
    begin: int
    requests: Sequence[int]
    thread: tuple[int, str]
    end: int = 0
    error: str = ""
    spans: list[tuple[Kind, str, int, int, int]] = field(
        default_factory=list[tuple[Kind, str, int, int, int]]
    )
    dropped: int = 0

    def span(self, kind: Kind, name: str, begin: int, end: int, number: int = 0) -> None:
        if len(self.spans) < self.trace.limit:
            self.spans.append((kind, name, begin, end, number))
        else:
            self.dropped += 1

    def done(self, end: int, error: BaseException | None) -> None:
        self.end = end
        self.error = _text(error)
        self.trace.keep(self)


@dataclass(slots=True)
class _Request:
    """A request that was submitted."""

    number: int
    source: Source
    submitted: int
    begun: int = 0
    answered: int = 0
    error: str = ""


class Trace:
    """What was seen so far: a probe of :mod:`partitioner.runtime.probes`. Thread-safe.

    Args:
        path: where it is written.
        limit: as of :func:`tracing`.

    Attributes:
        dropped: spans and requests that were not kept.
    """

    def __init__(self, path: str | os.PathLike[str], limit: int = LIMIT) -> None:
        if limit < 1:
            raise UsageError(f"a trace keeps at least 1 span, not {limit}")
        self.path = Path(path)
        self.limit = limit
        self.dropped = 0
        self._lock = threading.Lock()
        self._calls: deque[_Call] = deque()
        self._kept = 0
        self._under_way: dict[int, _Request] = {}
        self._requests: deque[_Request] = deque()

    def submitted(self, request: int, source: Source, at: int) -> None:
        """See :class:`partitioner.runtime.probes.Probe`."""
        with self._lock:
            self._under_way[request] = _Request(request, source, at)

    def begun(self, request: int, at: int) -> None:
        """See :class:`partitioner.runtime.probes.Probe`."""
        with self._lock:
            found = self._under_way.get(request)
            if found is not None:
                found.begun = at

    def answered(self, request: int, at: int, error: BaseException | None) -> None:
        """See :class:`partitioner.runtime.probes.Probe`."""
        with self._lock:
            found = self._under_way.pop(request, None)
            if found is None:
                return
            found.answered, found.error = at, _text(error)
            self._requests.append(found)
            if len(self._requests) > self.limit:
                self._requests.popleft()
                self.dropped += 1

    def call(self, source: Source, at: int, requests: Sequence[int]) -> Watch:
        """See :class:`partitioner.runtime.probes.Probe`."""
        thread = threading.current_thread()
        return _Call(self, source, at, requests, (thread.ident or 0, thread.name))

    def keep(self, call: _Call) -> None:
        """Add a call that is over; older ones make room for it."""
        with self._lock:
            self._calls.append(call)
            self._kept += 1 + len(call.spans)
            self.dropped += call.dropped
            while self._kept > self.limit + 1 and len(self._calls) > 1:
                oldest = self._calls.popleft()
                self._kept -= 1 + len(oldest.spans)
                self.dropped += 1 + len(oldest.spans)

    def write(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write what was seen so far; tracing goes on.

        Args:
            path: another one than the trace's.

        Raises:
            OutputError: the file system refuses.
        """
        text = json.dumps(self.document(), separators=(",", ":"))
        return write_whole(path or self.path, lambda file: file.write(text.encode()))

    def document(self) -> dict[str, Any]:
        """The trace as a JSON object of the Trace Event Format; times in microseconds."""
        with self._lock:
            calls, requests, dropped = list(self._calls), list(self._requests), self.dropped
        process = os.getpid()
        threads = {
            thread: number
            for number, thread in enumerate(dict.fromkeys(call.thread for call in calls), 1)
        }
        timed = [event for call in calls for event in _call_events(call, threads[call.thread])]
        timed += [event for request in requests for event in _request_events(request)]
        # Of events that begin together the longest comes first: the others are inside of it.
        timed.sort(key=lambda event: (event["ts"], -event.get("dur", 0.0)))
        named = [{"ph": "M", "name": "process_name", "args": {"name": "partitioner"}, "tid": 0}]
        named += [
            {"ph": "M", "name": "thread_name", "args": {"name": name}, "tid": number}
            for (_, name), number in threads.items()
        ]
        return {
            "traceEvents": [{**event, "pid": process} for event in [*named, *timed]],
            "displayTimeUnit": "ms",
            "otherData": {"dropped": dropped},
        }


def _call_events(call: _Call, thread: int) -> Iterator[Event]:
    about: Event = {"digest": call.source.digest, "requests": list(call.requests)}
    if call.error:
        about["error"] = call.error
    yield _complete("call", call.source.name, call.begin, call.end, thread, about)
    for kind, name, begin, end, number in call.spans:
        if kind == "step":
            yield _complete(kind, f"step {number + 1}", begin, end, thread, {"loop": name})
        else:
            yield _complete(kind, name, begin, end, thread, {})


def _complete(kind: str, name: str, begin: int, end: int, thread: int, about: Event) -> Event:
    return {
        "ph": "X",
        "cat": kind,
        "name": name,
        "ts": begin / 1e3,
        "dur": (end - begin) / 1e3,
        "tid": thread,
        "args": about,
    }


def _request_events(request: _Request) -> Iterator[Event]:
    name = f"request {request.number}"
    about: Event = {"pipeline": request.source.name}
    if request.error:
        about["error"] = request.error
    # Where it was never begun, it has waited until it was answered.
    waited = request.begun or request.answered
    yield _asynchronous("b", name, request.number, request.submitted, about)
    yield _asynchronous("b", "waiting", request.number, request.submitted, {})
    yield _asynchronous("e", "waiting", request.number, waited, {})
    yield _asynchronous("e", name, request.number, request.answered, {})


def _asynchronous(phase: str, name: str, number: int, at: int, about: Event) -> Event:
    return {
        "ph": phase,
        "cat": "request",
        "name": name,
        "id2": {"local": hex(number)},
        "ts": at / 1e3,
        "tid": 0,
        "args": about,
    }


def _text(error: BaseException | None) -> str:
    return "" if error is None else f"{type(error).__name__}: {error}".splitlines()[0]
