"""Spans of OpenTelemetry, recorded by its SDK in memory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import StatusCode

from partitioner.runtime import Pipeline, StepEvent, load
from partitioner.runtime.probes import Source
from partitioner.runtime.spans import Spans
from tests.runtime.samples import count_positive, make_identity, make_sampler

IMAGE = np.ones((1, 8), np.float32)


@pytest.fixture(scope="module")
def recorded() -> InMemorySpanExporter:
    """What is recorded in this process: it has one provider, for good."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    path = make_sampler(tmp_path_factory.mktemp("bundles") / "sampler.bundle")
    with load(path, host_ops=[count_positive]) as loaded:
        assert isinstance(loaded, Pipeline)
        yield loaded


@pytest.fixture
def spans(recorded: InMemorySpanExporter) -> InMemorySpanExporter:
    recorded.clear()
    return recorded


def by_name(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    (span,) = [span for span in spans.get_finished_spans() if span.name == name]
    return span


def parent_id(span: ReadableSpan) -> int:
    assert span.parent is not None
    return span.parent.span_id


def own_id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def test_a_call_is_a_span_in_its_callers_with_segments_in_it(
    pipe: Pipeline, spans: InMemorySpanExporter
) -> None:
    with trace.get_tracer("server").start_as_current_span("handler"):
        pipe(image=IMAGE, seed=1)
    handler, call = by_name(spans, "handler"), by_name(spans, "call hand-made")
    children = [s for s in spans.get_finished_spans() if s not in (handler, call)]

    assert own_id(handler) == parent_id(call)
    assert {own_id(call)} == set(map(parent_id, children))
    expected = {
        "inputs": 1,
        "segment encode": 1,
        "segment mix": 5,
        "segment denoise": 5,
        "segment rows": 1,
    }
    assert expected == Counter(child.name for child in children)
    assert [0, 1, 2, 3, 4] == [(e.attributes or {})["partitioner.step"] for e in call.events]
    assert {"partitioner.pipeline": "hand-made", "partitioner.digest": pipe.digest} == dict(
        call.attributes or {}
    )
    for child in children:
        assert (call.start_time or 0) <= (child.start_time or 0) <= (child.end_time or 0)
        assert (child.end_time or 0) <= (call.end_time or 0)


def test_a_submitted_request_belongs_to_who_submits_it(
    pipe: Pipeline, spans: InMemorySpanExporter
) -> None:
    with trace.get_tracer("server").start_as_current_span("handler"):
        request = pipe.submit(image=IMAGE, seed=1)
    request.result(60)
    handler = by_name(spans, "handler")
    waited = by_name(spans, "request hand-made")

    assert own_id(handler) == parent_id(waited)
    assert own_id(waited) == parent_id(by_name(spans, "call hand-made"))
    assert ["begun"] == [event.name for event in waited.events]


def test_a_failure_is_its_spans_status(pipe: Pipeline, spans: InMemorySpanExporter) -> None:
    def refuse(event: StepEvent) -> None:
        raise ValueError("no such step")

    with pytest.raises(ValueError, match="no such"):
        pipe.submit(image=IMAGE, seed=1, callback=refuse).result(60)

    for name in ("request hand-made", "call hand-made"):
        status = by_name(spans, name).status
        assert (StatusCode.ERROR, "ValueError: no such step") == (
            status.status_code,
            status.description,
        )


def test_a_call_for_several_requests_is_linked_to_all(spans: InMemorySpanExporter) -> None:
    probe, source = Spans(), Source("shared", "sha256:0")
    probe.submitted(1, source, 10)
    probe.submitted(2, source, 20)
    watch = probe.call(source, 30, (1, 2))
    assert watch is not None
    watch.done(40, None)
    for number in (1, 2):
        probe.answered(number, 50, None)
    call = by_name(spans, "call shared")
    first, second = (s for s in spans.get_finished_spans() if s.name == "request shared")

    assert own_id(first) == parent_id(call)
    assert [own_id(second)] == [link.context.span_id for link in call.links]


def test_who_has_not_imported_it_does_not_import_it_here(tmp_path: Path) -> None:
    path = make_identity(tmp_path / "b")
    code = (
        f"import partitioner, numpy, sys\n"
        f"partitioner.load({str(path)!r})(x=numpy.zeros(2))\n"
        f"print([name for name in sys.modules if 'opentelemetry' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]" == done.stdout.strip()


def test_what_calls_a_request_that_is_not_sampled_is_not_recorded_either() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=ParentBased(_NoRequests()))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    probe, source = Spans(provider), Source("sampled", "sha256:0")
    probe.submitted(1, source, 10)
    assert probe.call(source, 30, (1,)) is None
    probe.answered(1, 50, None)

    assert () == exporter.get_finished_spans()


def test_a_request_ends_after_it_began_though_the_systems_clock_is_set_back(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe, source = Spans(), Source("clock", "sha256:0")
    probe.submitted(1, source, 10)
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() - 10**12)
    watch = probe.call(source, 30, (1,))
    assert watch is not None
    watch.done(40, None)
    probe.answered(1, 50, None)
    request, call = by_name(spans, "request clock"), by_name(spans, "call clock")

    assert 40 == (request.end_time or 0) - (request.start_time or 0)
    assert 20 == (call.start_time or 0) - (request.start_time or 0)


class _NoRequests(Sampler):
    """Of traces that begin, those of requests are left out."""

    def should_sample(
        self, parent_context: object, trace_id: int, name: str, *args: object, **named: object
    ) -> SamplingResult:
        dropped = name.startswith("request")
        return SamplingResult(Decision.DROP if dropped else Decision.RECORD_AND_SAMPLE)

    def get_description(self) -> str:
        return "no requests"
