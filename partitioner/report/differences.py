"""What differs between two plans or bundles, as one document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from partitioner.report.formats import DIFF_FORMAT, VERSION
from partitioner.report.matching import Move, match_segments, moves, same_nodes
from partitioner.report.numbers import money_text, seconds_text, size_text
from partitioner.report.sides import Piece, Side

__all__ = ["differences"]

#: A name, what it was, what it is.
Change = list[Any]

#: Keys of a manifest whose differences are told elsewhere in the document.
_TOLD = frozenset(
    ("artifacts", "blobs", "inputs", "options", "outputs", "plan", "report", "target", "toolchain")
)


def differences(a: Side, b: Side) -> dict[str, Any]:
    """Compare what both sides have; a plan has no artifacts, and a bundle has no estimate."""
    matched = match_segments(a.pieces, b.pieces)
    changed_settings = _changes(a.settings, b.settings, both=a.kind != b.kind)
    known = all(piece.holds for side in (a, b) for piece in side.pieces if piece.nodes)
    moved = moves(a.pieces, b.pieces, matched) if known else ()
    found: dict[str, Any] = {
        "settings": changed_settings,
        "inputs": _changes(a.inputs, b.inputs),
        "outputs": _changes(a.outputs, b.outputs),
        "segments": _segments(a, b, matched),
        "moved": [_move(move) for move in moved],
        "loops": _changes(a.loops, b.loops),
        "artifacts": _artifacts(a, b, matched, changed_settings),
        "blobs": _blobs(a, b),
        "estimate": _estimates(a.estimate, b.estimate),
        "manifest": _manifest(a, b),
    }
    return {
        "format": DIFF_FORMAT,
        "version": VERSION,
        # Whatever bundles are made of stands in their digests.
        "same": not any(found.values()) and (a.kind != b.kind or a.digest == b.digest),
        "a": _side(a),
        "b": _side(b),
        # Bundles of older versions do not say what their segments hold.
        "nodes_known": known,
        **found,
    }


def _side(side: Side) -> dict[str, Any]:
    return {"path": side.path, "kind": side.kind, "target": side.target, "digest": side.digest}


def _changes(a: Mapping[str, Any], b: Mapping[str, Any], *, both: bool = False) -> list[Change]:
    """Entries that differ; None where a side has none.

    Args:
        both: whether to look only at what both sides have.
    """
    names = [n for n in dict.fromkeys([*a, *b]) if not both or (n in a and n in b)]
    return [[n, a.get(n), b.get(n)] for n in names if a.get(n) != b.get(n)]


# --- segments and nodes -------------------------------------------------------------------------


def _segments(a: Side, b: Side, matched: Mapping[str, str]) -> dict[str, Any]:
    """Added, removed, renamed and changed segments; empty where there is nothing of these."""
    old, new = _by_name(a), _by_name(b)
    arrived = set(matched.values())
    changed = [
        {"name": end, "changes": changes}
        for start, end in matched.items()
        if (changes := _piece_changes(old[start], new[end]))
    ]
    found: dict[str, Any] = {
        "added": [_described(p) for p in b.pieces if p.name not in arrived],
        "removed": [_described(p) for p in a.pieces if p.name not in matched],
        "renamed": [[start, end] for start, end in matched.items() if start != end],
        "changed": changed,
    }
    return {name: some for name, some in found.items() if some}


def _by_name(side: Side) -> dict[str, Piece]:
    return {piece.name: piece for piece in side.pieces}


def _described(piece: Piece) -> dict[str, Any]:
    return {
        "name": piece.name,
        "backend": piece.backend,
        "nodes": piece.nodes,
        "stages": list(piece.stages),
    }


def _piece_changes(a: Piece, b: Piece) -> list[Change]:
    return _changes(
        {
            "backend": a.backend,
            "nodes": a.nodes,
            "inputs": list(a.tensors[0]),
            "outputs": list(a.tensors[1]),
        },
        {
            "backend": b.backend,
            "nodes": b.nodes,
            "inputs": list(b.tensors[0]),
            "outputs": list(b.tensors[1]),
        },
    )


def _move(move: Move) -> dict[str, Any]:
    op, source, stage = move.key
    return {
        "op": op,
        "source": source,
        "stage": stage,
        "count": move.count,
        "from": None if move.start is None else list(move.start),
        "to": None if move.end is None else list(move.end),
    }


# --- artifacts ----------------------------------------------------------------------------------


def _artifacts(
    a: Side, b: Side, matched: Mapping[str, str], settings: Sequence[Change]
) -> list[dict[str, Any]]:
    """Artifacts of segments that both bundles have and that differ, and why."""
    if a.kind != "bundle" or b.kind != "bundle":
        return []
    old, new = _by_name(a), _by_name(b)
    found: list[dict[str, Any]] = []
    for start, end in matched.items():
        one, other = old[start].artifact or {}, new[end].artifact or {}
        parts = [name for name in ("backend", "graph", "weights", "options")
                 if one.get(name) != other.get(name)]  # fmt: skip
        if parts:
            found.append(
                {
                    "segment": end,
                    "changed": parts,
                    "graph": [one.get("graph"), other.get("graph")],
                    "why": _why(old[start], new[end], parts, settings, a, b),
                }
            )
    return found


def _why(
    a: Piece, b: Piece, parts: Sequence[str], settings: Sequence[Change], one: Side, other: Side
) -> list[str]:
    """Reasons, the surest first; the versions of tools only where the nodes explain nothing."""
    why: list[str] = []
    if "backend" in parts:
        why.append(f"another backend: {a.backend} before, {b.backend} now")
    if not same_nodes(a, b):
        why.append("it holds other nodes")
    if a.tensors != b.tensors:
        why.append("its inputs or outputs have other types")
    if "options" in parts:
        names = _changes(_of(a, "options"), _of(b, "options"))
        why.append(f"other options: {', '.join(name for name, _, _ in names)}")
    if "weights" in parts:
        why.append(_weights_reason(a, b, one, other))
    if "graph" in parts and not why:
        made = [name for name, _, _ in settings if name == "passes" or name.startswith("version ")]
        why.append(
            f"the same nodes, made with another {', another '.join(made)}"
            if made
            else "the same nodes, with other arguments, types or constants compiled in"
        )
    return why


def _of(piece: Piece, name: str) -> Mapping[str, Any]:
    return (piece.artifact or {}).get(name) or {}


def _weights_reason(a: Piece, b: Piece, one: Side, other: Side) -> str:
    old, new = set(_of(a, "weights")), set(_of(b, "weights"))
    gone = sum(one.blobs.get(digest, 0) for digest in old - new)
    come = sum(other.blobs.get(digest, 0) for digest in new - old)
    if not old ^ new:
        return "the same weights in another order"
    return (
        f"other weights: {size_text(come)} new, {size_text(gone)} gone, {len(old & new)} blobs kept"
    )


def _blobs(a: Side, b: Side) -> dict[str, int]:
    """Counts and bytes of blobs of one side only; empty where there are none."""
    if a.kind != "bundle" or b.kind != "bundle" or a.blobs.keys() == b.blobs.keys():
        return {}
    come, gone = b.blobs.keys() - a.blobs.keys(), a.blobs.keys() - b.blobs.keys()
    return {
        "added": len(come),
        "added_bytes": sum(b.blobs[digest] for digest in come),
        "removed": len(gone),
        "removed_bytes": sum(a.blobs[digest] for digest in gone),
        "kept": len(a.blobs.keys() & b.blobs.keys()),
    }


def _manifest(a: Side, b: Side) -> list[str]:
    """Other keys of the manifests that differ."""
    if a.kind != "bundle" or b.kind != "bundle" or a.digest == b.digest:
        return []
    names = sorted({*a.manifest, *b.manifest} - _TOLD)
    found = [name for name in names if a.manifest.get(name) != b.manifest.get(name)]
    plain = [name for name in ("plan", "report") if a.manifest.get(name) != b.manifest.get(name)]
    return [*found, *plain]


# --- estimates ----------------------------------------------------------------------------------


def _estimates(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> list[Change]:
    if a is None or b is None:
        return []
    return _changes(_figures(a), _figures(b))


def _figures(own: Mapping[str, Any]) -> dict[str, str]:
    price = own["price"]
    moved = sum(one["times"] * one["nbytes"] for one in own["transfers"])
    figures = {
        "a request": seconds_text(own["seconds"]),
        "requests a second": f"{own['requests_s']:.4g}",
        "bottleneck": own["bottleneck"],
        "transfers": f"{sum(t['times'] for t in own['transfers'])}, {size_text(moved)}",
        "a million requests": "not known"
        if price is None
        else money_text(price["per_million"], price["currency"]),
    }
    for device in own["devices"]:
        figures[f"memory on {device['name']}"] = size_text(device["memory"]["total"])
    return figures
