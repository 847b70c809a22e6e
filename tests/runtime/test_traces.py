"""Traces against the Trace Event Format, and what is in them of real requests."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partitioner.errors import OutputError, OverloadedError, UsageError
from partitioner.runtime import Pipeline, QueueOptions, StepEvent, load, tracing
from partitioner.runtime.probes import Source
from partitioner.runtime.traces import Trace
from tests.runtime.samples import count_positive, make_sampler
from tests.runtime.tracefiles import check_trace, read_trace

IMAGE = np.ones((1, 8), np.float32)


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    path = make_sampler(tmp_path_factory.mktemp("bundles") / "sampler.bundle")
    queue = QueueOptions(workers=2, limit=8)
    with load(path, host_ops=[count_positive], queue=queue) as loaded:
        assert isinstance(loaded, Pipeline)
        yield loaded


def names(events: list[dict[str, Any]], category: str) -> Counter[str]:
    """How many events of a category have each name, beginnings of pairs only."""
    return Counter(e["name"] for e in events if e.get("cat") == category and e["ph"] != "e")


def test_a_call_is_traced_with_its_segments_and_steps(pipe: Pipeline, tmp_path: Path) -> None:
    with tracing(tmp_path / "trace.json"):
        pipe(image=IMAGE, seed=1)
    events = read_trace(tmp_path / "trace.json")

    assert {"hand-made": 1} == names(events, "call")
    assert {"inputs": 1} == names(events, "inputs")
    assert {f"step {number}": 1 for number in range(1, 6)} == names(events, "step")
    assert {"encode": 1, "mix": 5, "denoise": 5, "rows": 1} == names(events, "segment")
    assert {"sampler": 1} == names(events, "loop")
    assert [tmp_path / "trace.json"] == list(tmp_path.iterdir())


def test_submitted_requests_have_tracks_with_their_waiting(pipe: Pipeline, tmp_path: Path) -> None:
    with tracing(tmp_path / "trace.json"):
        requests = [pipe.submit(image=IMAGE, seed=seed) for seed in range(6)]
        for request in requests:
            request.result(60)
    events = read_trace(tmp_path / "trace.json")

    calls = [event for event in events if event.get("cat") == "call"]
    served = sorted(number for call in calls for number in call["args"]["requests"])
    own = {event["id2"]["local"] for event in events if event.get("cat") == "request"}
    tracks = sorted(int(number, 16) for number in own)
    assert tracks == served
    assert 6 == len(served)
    assert 6 == names(events, "request")["waiting"]
    workers = [event["args"]["name"] for event in events if event["name"] == "thread_name"]
    assert all(name.startswith("hand-made worker") for name in workers)


def test_what_failed_and_what_was_refused_is_there(pipe: Pipeline, tmp_path: Path) -> None:
    go, begun = threading.Event(), threading.Barrier(3)

    def hold(event: StepEvent) -> None:
        if event.step == 0:
            begun.wait(30)
            assert go.wait(30)

    with tracing(tmp_path / "trace.json"):
        held = [pipe.submit(image=IMAGE, seed=1, callback=hold) for _ in range(2)]
        begun.wait(30)
        waiting = [pipe.submit(image=IMAGE, seed=1) for _ in range(8)]
        with pytest.raises(OverloadedError):
            pipe.submit(image=IMAGE, seed=1)
        assert waiting[0].cancel()
        assert held[0].cancel()
        go.set()
        for request in (held[1], *waiting[1:]):
            request.result(60)
        with pytest.raises(ValueError, match="no such"):
            pipe(image=IMAGE, seed=1, callback=refuse)
    events = read_trace(tmp_path / "trace.json")

    errors = Counter(
        event["args"]["error"].split(":")[0]
        for event in events
        if event.get("cat") in ("request", "call") and "error" in event["args"]
    )
    assert {"OverloadedError": 1, "ValueError": 1, "CancelledError": 3} == errors


def refuse(event: StepEvent) -> None:
    raise ValueError("no such step")


def test_a_trace_is_written_where_its_context_fails(pipe: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the server"), tracing(tmp_path / "trace.json"):
        pipe(image=IMAGE, seed=1)
        raise ValueError("the server stops")

    assert {"hand-made": 1} == names(read_trace(tmp_path / "trace.json"), "call")


def test_nothing_is_traced_outside_of_the_context(pipe: Pipeline, tmp_path: Path) -> None:
    pipe(image=IMAGE, seed=1)
    with tracing(tmp_path / "trace.json") as trace:
        trace.write(tmp_path / "earlier.json")
    pipe(image=IMAGE, seed=1)

    assert [] == trace.document()["traceEvents"][1:]
    assert 1 == len(read_trace(tmp_path / "earlier.json"))


def test_two_traces_at_a_time_see_the_same(pipe: Pipeline, tmp_path: Path) -> None:
    with tracing(tmp_path / "a.json"), tracing(tmp_path / "b.json"):
        pipe(image=IMAGE, seed=1)

    assert read_trace(tmp_path / "a.json") == read_trace(tmp_path / "b.json")


def test_the_oldest_calls_make_room(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "t.json", limit=10)
    for number in range(7):
        watch = trace.call(Source(f"call {number}", "sha256:0"), 100 * number, ())
        for part in range(3):
            begin = 100 * number + part
            watch.span("segment", "a", begin, begin + 1)
        watch.done(100 * number + 50, None)
    document = trace.document()
    check_trace(document["traceEvents"])

    assert ["call 5", "call 6"] == list(names(document["traceEvents"], "call"))
    assert {"dropped": 20} == document["otherData"]


def test_a_call_alone_keeps_its_first_spans(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "t.json", limit=10)
    watch = trace.call(Source("long", "sha256:0"), 0, ())
    for part in range(25):
        watch.span("segment", "a", part, part + 1)
    watch.done(50, None)

    assert {"a": 10} == names(trace.document()["traceEvents"], "segment")
    assert 15 == trace.dropped


def test_places_and_limits_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no folder"), tracing(tmp_path / "no" / "t.json"):
        pass
    with pytest.raises(UsageError, match="at least 1"), tracing(tmp_path / "t.json", limit=0):
        pass
    assert [] == list(tmp_path.iterdir())


def test_a_request_that_cannot_be_read_is_not_kept_as_waiting(
    pipe: Pipeline, tmp_path: Path
) -> None:
    with tracing(tmp_path / "trace.json"), pytest.raises(TypeError):
        pipe.submit(5)  # type: ignore[arg-type]
    events = read_trace(tmp_path / "trace.json")

    assert 2 == sum(event["ph"] == "e" for event in events)
