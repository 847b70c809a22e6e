"""Requests as spans of OpenTelemetry, where the process has imported it and somebody records.

A request that is submitted is a span whose parent is the context of the thread that submits it; a
call is a span inside of it, or of the caller's context where the pipeline is called directly. A
call that serves several requests is a child of the first and linked to the others. Segments are
children of calls, with the times that they had, and steps of loops are events. Where no SDK is set
up, or the request is not sampled, nothing is made but one span that records nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, Status, StatusCode, Tracer, TracerProvider

import partitioner
from partitioner.runtime.probes import Kind, Source, Watch

__all__ = ["Spans"]


class Spans:
    """A probe of :mod:`partitioner.runtime.probes`. Thread-safe.

    Args:
        provider: of tracers; None for the one of the process.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        # Until the process sets a provider up, this is a stand-in that finds it later.
        self._tracer = trace.get_tracer("partitioner", partitioner.__version__, provider)
        self._lock = threading.Lock()
        #: With the offset of its clock: the system's clock may be set while it waits.
        self._requests: dict[int, tuple[Span, int]] = {}

    def submitted(self, request: int, source: Source, at: int) -> None:
        """See :class:`partitioner.runtime.probes.Probe`."""
        offset = _offset()
        span = self._tracer.start_span(
            f"request {source.name}", attributes=_about(source), start_time=at + offset
        )
        # Also one that is not sampled: its call, without a parent, would begin a trace of its own.
        if span.get_span_context().is_valid:
            with self._lock:
                self._requests[request] = span, offset

    def begun(self, request: int, at: int) -> None:
        """See :class:`partitioner.runtime.probes.Probe`."""
        found = self._found(request)
        if found is not None:
            span, offset = found
            span.add_event("begun", timestamp=at + offset)

    def answered(self, request: int, at: int, error: BaseException | None) -> None:
        """See :class:`partitioner.runtime.probes.Probe`."""
        with self._lock:
            found = self._requests.pop(request, None)
        if found is not None:
            span, offset = found
            _end(span, at + offset, error)

    def call(self, source: Source, at: int, requests: Sequence[int]) -> Watch | None:
        """See :class:`partitioner.runtime.probes.Probe`."""
        known = [found for found in map(self._found, requests) if found is not None]
        # A child of one that is sampled, if there is any: a child of another is not recorded.
        known.sort(key=lambda found: not found[0].is_recording())
        parents = [span for span, _ in known]
        offset = known[0][1] if known else _offset()
        span = self._tracer.start_span(
            f"call {source.name}",
            context=trace.set_span_in_context(parents[0]) if parents else None,
            attributes=_about(source),
            links=[Link(parent.get_span_context()) for parent in parents[1:]],
            start_time=at + offset,
        )
        return _CallSpan(self._tracer, span, offset) if span.is_recording() else None

    def _found(self, request: int) -> tuple[Span, int] | None:
        with self._lock:
            return self._requests.get(request)


class _CallSpan:
    """A watch of a call: its span, under which those of segments are made when they are over."""

    __slots__ = ("_context", "_offset", "_span", "_tracer")

    def __init__(self, tracer: Tracer, span: Span, offset: int) -> None:
        self._tracer = tracer
        self._span = span
        self._offset = offset
        self._context: Context = trace.set_span_in_context(span)

    def span(self, kind: Kind, name: str, begin: int, end: int, number: int = 0) -> None:
        if kind == "step":
            about = {"partitioner.loop": name, "partitioner.step": number}
            self._span.add_event("step", about, timestamp=end + self._offset)
            return
        if kind == "loop":
            return  # its steps tell of it; the segments in it are children of the call
        child = self._tracer.start_span(
            f"{kind} {name}" if kind == "segment" else name,
            context=self._context,
            attributes={f"partitioner.{kind}": name},
            start_time=begin + self._offset,
        )
        child.end(end_time=end + self._offset)

    def done(self, end: int, error: BaseException | None) -> None:
        _end(self._span, end + self._offset, error)


def _about(source: Source) -> dict[str, str]:
    return {"partitioner.pipeline": source.name, "partitioner.digest": source.digest}


def _end(span: Span, at: int, error: BaseException | None) -> None:
    if error is not None:
        span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
    span.end(end_time=at)


def _offset() -> int:
    """From the clock of probes to nanoseconds since 1970, which spans have."""
    return time.time_ns() - time.perf_counter_ns()
