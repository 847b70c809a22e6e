"""What ``--probe`` adds to a plan: where tables and installed backends differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

__all__ = ["document", "lines"]


def document(program: Any, target: Any) -> list[dict[str, Any]]:
    """Ask every backend of a target about the ops of a program.

    Args:
        program: after the passes.
        target: as :func:`partitioner.targets.find_target` gives it.
    """
    from partitioner.backends import find_backend
    from partitioner.backends.probing import probe
    from partitioner.planning.graphs import is_op, is_structural, reachable_graphs
    from partitioner.program import is_getitem

    nodes = [
        node
        for _, _, live in reachable_graphs(program)
        for node in live
        if is_op(node) and not is_structural(node) and not is_getitem(node)
    ]
    # The host refuses every tensor op by its own rule; there is nothing to ask.
    infos = [find_backend(name) for name in target.backends if name != "host"]
    return [_entry(probe(info, nodes, target)) for info in infos]


def _entry(report: Any) -> dict[str, Any]:
    return {
        "backend": report.backend,
        "asked": report.asked,
        "nodes": report.nodes,
        "note": report.note,
        "differences": [
            {
                "op": found.op,
                "types": found.types,
                "table": {"taken": found.is_promise, **asdict(found.table)},
                "probe": {"taken": not found.refusal, "message": found.refusal},
                "sources": list(found.sources),
                "count": found.count,
            }
            for found in report.differences
        ],
    }


def lines(entries: list[dict[str, Any]]) -> Iterator[str]:
    """The same for people."""
    for entry in entries:
        if entry["note"]:
            yield f"probe    {entry['backend']}: not asked, {entry['note']}"
            continue
        count = len(entry["differences"])
        told = f"{count} differ from the table" if count else "all as the table says"
        asked = f"asked about {entry['asked']} distinct ops ({entry['nodes']} in all)"
        yield f"probe    {entry['backend']}: {asked}; {told}"
        for found in entry["differences"]:
            yield from _difference_lines(found)


def _difference_lines(found: dict[str, Any]) -> Iterator[str]:
    times = f", {found['count']} times" if found["count"] > 1 else ""
    table, refusal = found["table"], found["probe"]["message"]
    yield f"  {found['op']}  {found['types']}{times}"
    if table["taken"]:
        yield f"    table: taken; library: {refusal}"
    else:
        yield f"    table: {table['code']}: {table['message']}; library: taken"
    yield from (f"    at {source}" for source in found["sources"])
