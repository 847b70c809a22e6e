"""What ``--probe`` adds to a plan beside differences: checks of whole segments."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from partitioner.errors import CompileError, ParityError, PartitionerError

__all__ = ["document", "entry", "failure_of", "lines"]


def document(prepared: Any, example_inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Have every backend of a target that can check its segments do so.

    Args:
        prepared: as :func:`partitioner.frontend.prepare` gives it.
    """
    from partitioner.backends import find_backend

    infos = [find_backend(name) for name in prepared.target.backends]
    return [
        _checked(info, prepared, example_inputs)
        for info in infos
        if info.segment_check and _segments(prepared, info.name)
    ]


def _segments(prepared: Any, backend: str) -> dict[str, Any]:
    from partitioner.planning.segments import Segment

    planned = prepared.planned.segments
    return {
        name: one
        for name, one in planned.items()
        if isinstance(one, Segment) and one.backend == backend
    }


def _checked(info: Any, prepared: Any, example_inputs: Mapping[str, Any]) -> dict[str, Any]:
    from partitioner.frontend import example_request
    from partitioner.reference import record

    missing = info.missing_to_check()
    if missing:
        note = f"not installed: {', '.join(missing)} (pip install 'partitioner[stablehlo]')"
        return {"backend": info.name, "note": note, "segments": []}
    _, values = example_request(prepared, prepared.cases[0], example_inputs)
    checks = info.make_segment_check()(
        _segments(prepared, info.name),
        prepared.program.constants,
        prepared.target,
        lambda: record(prepared.program, prepared.planned, [values]),
    )
    return {"backend": info.name, "note": "", "segments": [entry(one) for one in checks]}


def entry(check: Any) -> dict[str, Any]:
    """A check as plain data."""
    report = None
    if check.report is not None:
        findings = [{**asdict(one), "refused": one.refused} for one in check.report.findings]
        report = {**asdict(check.report), "findings": findings}
    error = check.error
    return {
        "segment": check.name,
        "passed": check.passed,
        "limit": check.limit,
        # JSON has no infinity.
        "error": error if error is None or math.isfinite(error) else "infinite",
        "failure": check.failure,
        "source": check.source,
        "report": report,
    }


def failure_of(entries: list[dict[str, Any]]) -> PartitionerError | None:
    """The error that the checks end with; None if all passed."""
    failed = [one for entry in entries for one in entry["segments"] if not one["passed"]]
    if not failed:
        return None
    names = ", ".join(repr(one["segment"]) for one in failed)
    where = next((line for one in failed for line in _sources(one)), None)
    wrong = all(one["report"] is not None and not one["failure"] for one in failed)
    if wrong and not any(_refused(one) for one in failed):
        return ParityError(
            f"segments are not lowered to what torch computes: {names}",
            where=where,
            advice="report it; until then give their stages to another backend (--place)",
        )
    return CompileError(
        f"segments did not pass the check: {names}",
        where=where,
        advice="the report above says which instructions; write them otherwise, or give them to "
        "another backend (--place-op, --place)",
    )


def _refused(segment: dict[str, Any]) -> list[dict[str, Any]]:
    report = segment["report"]
    return [one for one in report["findings"] if one["refused"]] if report else []


def _sources(segment: dict[str, Any]) -> list[str]:
    found = [line for one in _refused(segment) for line in one["sources"]]
    return [segment["source"], *found] if segment["source"] else found


def lines(entries: list[dict[str, Any]]) -> Iterator[str]:
    """The same for people."""
    for entry in entries:
        if entry["note"]:
            yield f"check    {entry['backend']}: segments not checked, {entry['note']}"
        for one in entry["segments"]:
            yield from _segment_lines(entry["backend"], one)


def _segment_lines(backend: str, one: dict[str, Any]) -> Iterator[str]:
    verdict = "passed" if one["passed"] else "FAILED"
    yield f"check    {backend} {one['segment']}: {verdict}"
    report = one["report"]
    if report is not None:
        total = sum(report["opcodes"].values())
        kinds = ", ".join(f"{count} {name}" for name, count in report["opcodes"].items())
        yield f"  {total} instructions of HLO: {kinds}"
        limit = f" of {one['limit']:,}" if one["limit"] is not None else ""
        yield f"  about {report['instructions']:,}{limit} instructions of the device"
        for finding in report["findings"]:
            yield from _finding_lines(finding)
    if one["failure"]:
        yield f"  {one['failure']}"
        yield from (f"    at {line}" for line in (one["source"],) if line)
    if one["error"] is not None:
        error = one["error"]
        text = error if isinstance(error, str) else f"{error:.1e}"
        yield f"  relative error on the CPU: {text}"


def _finding_lines(finding: dict[str, Any]) -> Iterator[str]:
    times = f", {finding['count']} times" if finding["count"] > 1 else ""
    kind = "refused" if finding["refused"] else "unproven"
    detail = f" ({finding['detail']})" if finding["detail"] else ""
    yield f"  {kind}: {finding['opcode']}  {finding['types']}{times}"
    yield f"    {finding['code']}{detail}: {finding['message']}"
    yield from (f"    at {source}" for source in finding["sources"])
    if finding["refused"] and finding["advice"]:
        yield f"    to do: {finding['advice']}"
