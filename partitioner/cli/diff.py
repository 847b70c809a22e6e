"""``partition diff``: what differs between two plans or bundles."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import click

from partitioner.cli.printing import emit, json_option
from partitioner.cli.tables import aligned
from partitioner.report.differences import differences
from partitioner.report.numbers import size_text
from partitioner.report.sides import read_side

__all__ = ["DIFFER", "command"]

#: Exit code of ``--exit-code`` where the two differ.
DIFFER = 14

#: How many lines of one kind are shown to people; ``--json`` has them all.
_SHOWN = 8


@click.command("diff")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--target", help="Which plan of a file, or member of a bundle, that has several.")
@click.option("--exit-code", is_flag=True, help=f"Exit with {DIFFER} if they differ.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, a: Path, b: Path, target: str | None, exit_code: bool, as_json: bool
) -> None:
    """Compare A with B: bundles, or files that `partition plan --json` wrote.

    Segments are matched by name, then by what they hold; nodes by op, source line and stage.

    \b
      partition diff old.bundle new.bundle
      partition diff plan.json my.bundle
      partition diff before.json after.json --target inf2 --exit-code
    """
    document = differences(read_side(a, target), read_side(b, target))
    emit(as_json, document, lambda: "\n".join(_lines(document)))
    if exit_code and not document["same"]:
        ctx.exit(DIFFER)


def _lines(document: dict[str, Any]) -> Iterator[str]:
    for name in ("a", "b"):
        side = document[name]
        digest = f"  {side['digest']}" if side["digest"] else ""
        yield f"{name.upper()}  {side['path']}  {side['kind']} for {side['target']}{digest}"
    if document["same"]:
        yield "same: nothing that both have differs"
        return
    yield f"differ: {_summary(document)}"
    yield from _changes("settings", document["settings"])
    yield from _changes("inputs", document["inputs"])
    yield from _changes("outputs", document["outputs"])
    yield from _changes("loops", document["loops"])
    yield from _segments(document["segments"])
    yield from _moved(document)
    yield from _artifacts(document["artifacts"])
    yield from _blobs(document["blobs"])
    if document["estimate"]:
        yield "estimate"
        rows = [["", "A", "B"], *([n, x or "-", y or "-"] for n, x, y in document["estimate"])]
        yield from (f"  {line}" for line in aligned(rows))
    if document["manifest"]:
        yield f"manifest  {', '.join(document['manifest'])} differ"


def _summary(document: dict[str, Any]) -> str:
    segments = document["segments"]
    moved = [m for m in document["moved"] if m["from"] and m["to"]]
    counts = {
        "settings": len(document["settings"]),
        "segments added": len(segments.get("added", ())),
        "segments removed": len(segments.get("removed", ())),
        "segments renamed": len(segments.get("renamed", ())),
        "segments changed": len(segments.get("changed", ())),
        "nodes moved": sum(m["count"] for m in moved),
        "nodes added": sum(m["count"] for m in document["moved"] if not m["from"]),
        "nodes removed": sum(m["count"] for m in document["moved"] if not m["to"]),
        "artifacts": len(document["artifacts"]),
        "figures of the estimate": len(document["estimate"]),
    }
    found = [f"{count} {name}" for name, count in counts.items() if count]
    return ", ".join(found) or "other parts, see below"


def _changes(title: str, changes: list[Any]) -> Iterator[str]:
    if not changes:
        return
    yield title
    for name, *both in changes:
        texts = all(isinstance(value, str) for value in both)
        before, after = _own_passes(*both) if name == "passes" and texts else both
        yield f"  {name}: {_shown(before)} -> {_shown(after)}"


def _own_passes(before: str, after: str) -> tuple[str, str]:
    """Of two pipelines of passes, what only one of them has, in order."""
    old, new = before.split(","), after.split(",")
    blocks = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    parts = [(old[i:j], new[k:m]) for kind, i, j, k, m in blocks if kind != "equal"]
    gone = ",".join(name for some, _ in parts for name in some)
    come = ",".join(name for _, some in parts for name in some)
    return gone or "none", come or "none"


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def _segments(found: dict[str, Any]) -> Iterator[str]:
    if not found:
        return
    yield "segments"
    for sign, name in (("-", "removed"), ("+", "added")):
        for one in found.get(name, ()):
            stages = f"  stages {', '.join(one['stages'])}" if one["stages"] else ""
            yield f"  {sign} {one['name']}  [{one['backend']}]  {one['nodes']} nodes{stages}"
    yield from (f"  {start} is now {end}" for start, end in found.get("renamed", ()))
    for one in found.get("changed", ()):
        words = [_changed(*change) for change in one["changes"]]
        yield f"  {one['name']}: {'; '.join(words)}"


def _changed(name: str, before: Any, after: Any) -> str:
    """One change of a segment; of long lists of types only how many there are."""
    if not isinstance(before, list):
        return f"{name} {before} -> {after}"
    if len(before) == len(after):
        return f"{name} of other types"
    return f"{len(before)} -> {len(after)} {name}"


def _moved(document: dict[str, Any]) -> Iterator[str]:
    if not document["nodes_known"]:
        yield "nodes    not compared: a bundle does not say what its segments hold"
        return
    # What is on another backend comes first.
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in sorted(document["moved"], key=_is_elsewhere, reverse=True):
        groups.setdefault((_place(one["from"]), _place(one["to"])), []).append(one)
    if groups:
        yield "nodes"
    for (start, end), some in groups.items():
        yield f"  {start} -> {end}: {sum(one['count'] for one in some)}"
        for one in some[:_SHOWN]:
            times = f"{one['count']} x " if one["count"] > 1 else ""
            where = f" at {one['source']}" if one["source"] else ""
            yield f"    {times}{one['op']}{where}"
        if len(some) > _SHOWN:
            yield f"    and {sum(one['count'] for one in some[_SHOWN:])} more (--json has them)"


def _is_elsewhere(move: dict[str, Any]) -> bool:
    return not (move["from"] and move["to"]) or move["from"][0] != move["to"][0]


def _place(place: list[str] | None) -> str:
    return "nowhere" if place is None else f"{place[1]} [{place[0]}]"


def _artifacts(found: list[dict[str, Any]]) -> Iterator[str]:
    if not found:
        return
    yield "artifacts"
    for one in found:
        yield f"  {one['segment']}: {', '.join(one['changed'])} changed"
        yield from (f"    {reason}" for reason in one["why"])


def _blobs(found: dict[str, int]) -> Iterator[str]:
    if found:
        yield (
            f"blobs    {found['kept']} kept, {found['added']} added "
            f"({size_text(found['added_bytes'])}), {found['removed']} removed "
            f"({size_text(found['removed_bytes'])})"
        )
