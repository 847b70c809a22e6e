"""Trace files, checked against the Trace Event Format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["check_trace", "read_trace"]

Event = dict[str, Any]


def read_trace(path: Path) -> list[Event]:
    """The events of a file that keeps the format."""
    document = json.loads(path.read_text())
    assert {"traceEvents", "displayTimeUnit", "otherData"} == set(document)
    check_trace(document["traceEvents"])
    return document["traceEvents"]


def check_trace(events: list[Event]) -> None:
    """Refuse events that a viewer would draw wrongly."""
    timed = [event for event in events if event["ph"] != "M"]
    assert {"X", "b", "e"} >= {event["ph"] for event in timed}
    assert all(isinstance(event["pid"], int) and isinstance(event["tid"], int) for event in events)
    assert timed == sorted(timed, key=lambda event: event["ts"])
    tracks = {event["tid"] for event in timed if event["ph"] == "X"}
    named = {event["tid"] for event in events if event["name"] == "thread_name"}
    assert named == tracks
    for track in tracks:
        _check_nesting([e for e in timed if e["ph"] == "X" and e["tid"] == track])
    pairs = [event for event in timed if event["ph"] != "X"]
    for number in {event["id2"]["local"] for event in pairs}:
        _check_pairs([event for event in pairs if event["id2"]["local"] == number])


def _check_nesting(events: list[Event]) -> None:
    """Each event lies in the one around it, or begins when that one has ended."""
    ends: list[float] = []
    for event in events:
        assert event["dur"] >= 0
        # Microseconds are fractions: two that were one nanosecond differ by rounding only.
        while ends and ends[-1] <= event["ts"] + 1e-3:
            ends.pop()
        end = event["ts"] + event["dur"]
        assert not ends or end <= ends[-1] + 1e-3
        ends.append(end)


def _check_pairs(events: list[Event]) -> None:
    """Each beginning has its end, what began last ends first."""
    open_names: list[str] = []
    for event in events:
        if event["ph"] == "b":
            open_names.append(event["name"])
        else:
            assert event["name"] == open_names.pop()
    assert [] == open_names
