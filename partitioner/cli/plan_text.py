"""Plans as text, from their documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from partitioner.cli import probe_report, segment_report
from partitioner.cli.tables import passes_table, wide_table
from partitioner.report.comparison import compare
from partitioner.report.numbers import (
    count_text,
    money_text,
    seconds_text,
    share_text,
    size_text,
)

__all__ = ["lines"]

Document = dict[str, Any]


def lines(documents: Sequence[Document], show_passes: bool) -> Iterator[str]:
    """Each plan, and a table of them all where there are several.

    Args:
        documents: as :func:`partitioner.report.document.describe` makes them.
    """
    for index, document in enumerate(documents):
        if index:
            yield ""
        yield from _plan(document, show_passes)
    if len(documents) > 1:
        yield ""
        yield "side by side"
        yield from wide_table(compare(documents))


def _plan(document: Document, show_passes: bool) -> Iterator[str]:
    yield from (f"warning  {text}" for text in document["warnings"])
    instance = f"  (figures of {document['instance']})" if document["instance"] else ""
    yield f"target   {document['target']}{instance}"
    yield from (f"input    {name}: {spec}" for name, spec in document["inputs"].items())
    yield from (f"output   {name}: {spec}" for name, spec in document["outputs"].items())
    cost = document["cost"]
    yield (
        f"cost     {count_text(cost['operations'])} operations a run; weights read: "
        f"{size_text(cost['weight_bytes'])} a run, {size_text(cost['step_weight_bytes'])} a step"
    )
    yield "plan"
    yield from _steps(document["plan"], document["segments"], 1)
    yield from _fallbacks(document)
    yield from _estimate(document["estimate"])
    if show_passes:
        yield "passes"
        yield from passes_table(document["passes"])
    yield from probe_report.lines(document.get("probe", []))
    yield from segment_report.lines(document.get("checks", []))


# --- the steps ----------------------------------------------------------------------------------


def _steps(steps: Sequence[Document], segments: dict[str, Document], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for step in steps:
        border = step["border"]
        # That a loop is a border is seen.
        if border is not None and border["kind"] != "loop":
            at = f" at {border['source']}" if border["source"] else ""
            yield f"{indent}  -- {border['reason']}{at}"
        if "loop" in step:
            carried = ", ".join(step["carries"])
            yield f"{indent}{step['loop']} x {step['trips']}  carries {carried}"
            yield from _steps(step["steps"], segments, depth + 1)
            continue
        yield f"{indent}{_segment_line(step['segment'], segments[step['segment']])}"


def _segment_line(name: str, segment: Document) -> str:
    count = segment["nodes"]
    parts = [f"{name}  [{segment['backend']}]", f"{count} node{'' if count == 1 else 's'}"]
    if segment["operations"]:
        parts.append(f"{count_text(segment['operations'])} operations")
    if segment["weight_bytes"]:
        parts.append(f"weights {size_text(segment['weight_bytes'])}")
    own = segment["estimate"]
    if own is not None:
        calls = f"{own['calls']} x " if own["calls"] > 1 else ""
        parts.append(f"{calls}{seconds_text(own['seconds'])}")
    if segment["stages"]:
        parts.append(f"stages {', '.join(segment['stages'])}")
    return "  ".join(parts)


# --- fallbacks ----------------------------------------------------------------------------------


def _fallbacks(document: Document) -> Iterator[str]:
    found = document["fallbacks"]
    if not found:
        return
    yield f"not on {document['preferred']}"
    for one in found:
        ops = ", ".join(f"{n} x {op}" if n > 1 else op for op, n in one["ops"].items())
        where = f" at {one['source']}" if one["source"] else ""
        yield f"  {ops}  [{one['backend']}]{where}"
        yield f"    {one['code']}: {one['message']}"
        yield (
            f"    {share_text(one['share'])} of the operations, about "
            f"{seconds_text(one['seconds'])} a request, in {', '.join(one['segments'])}"
        )
        yield f"    to do: {one['advice']}"


# --- the estimate -------------------------------------------------------------------------------


def _estimate(own: Document | None) -> Iterator[str]:
    if own is None:
        yield "estimate none: the target has no figures"
        return
    yield "estimate (by the target's peak figures; nothing was measured)"
    moved = sum(t["times"] * t["nbytes"] for t in own["transfers"])
    times = sum(t["times"] for t in own["transfers"])
    seconds = sum(t["seconds"] for t in own["transfers"])
    transfers = (
        f", of which {times} transfers of {size_text(moved)} in all take {seconds_text(seconds)}"
        if times
        else ""
    )
    yield f"  time     {seconds_text(own['seconds'])} a request{transfers}"
    yield f"  rate     {own['requests_s']:.4g} requests a second; {own['bottleneck']} is busiest"
    yield from (f"  memory   {_device(device)}" for device in own["devices"])
    price = own["price"]
    if price is None:
        yield f"  price    not known: {own['no_price']}"
    else:
        yield (
            f"  price    {money_text(price['per_million'], price['currency'])} a million requests, "
            f"at {money_text(price['per_hour'], price['currency'])} an hour "
            f"({price['terms'] or 'terms not stated'}, {price['date']}, {price['source']})"
        )
    yield from (f"  without  {text}" for text in own["unknown"])


def _device(device: Document) -> str:
    need = device["memory"]
    over = "" if device["fits"] else ", which is too much"
    return (
        f"{device['name']}: {size_text(need['total'])} of {size_text(device['memory_bytes'])}{over}"
        f" (weights {size_text(need['weights'])}, values {size_text(need['values'])}, "
        f"inputs and tables {size_text(need['given'])})"
    )
