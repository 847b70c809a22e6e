"""Plans' sides made by hand."""

from __future__ import annotations

from typing import Any

from partitioner.report.sides import Piece, Side

__all__ = ["piece", "side"]


def piece(name: str, backend: str = "onnx", *ops: str, **more: Any) -> Piece:
    """A segment that holds ops, each ``op@line`` of ``m.py``, of the stage ``s``."""
    holds: dict[tuple[str, str, str], int] = {}
    for op in ops:
        kind, _, line = op.partition("@")
        key = (kind, f"m.py:{line} in forward" if line else "", "s")
        holds[key] = holds.get(key, 0) + 1
    tensors = more.pop("tensors", (("float32[2]",), ("float32[2]",)))
    return Piece(name, backend, len(ops), ("s",), holds, tensors, **more)


def side(*pieces: Piece, **more: Any) -> Side:
    given = {"kind": "plan", "target": "cpu", "settings": {"target": "cpu"}, "loops": {}}
    return Side(path="a", inputs={}, outputs={}, pieces=pieces, **{**given, **more})
