"""Which ONNX Runtime runs a graph: by its opset, its IR version and the domains of its ops."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

import onnx

from partitioner.artifacts.manifest import Requirement

__all__ = ["requirements"]

#: Opset, and IR version -> the first ONNX Runtime that takes it: the table "ONNX opset support" of
#: https://onnxruntime.ai/docs/reference/compatibility.html. All later versions do, too.
_OPSETS = {17: "1.12", 18: "1.14", 19: "1.15", 20: "1.17", 21: "1.18"}
_FORMATS = {8: "1.10", 9: "1.15", 10: "1.18"}


def requirements(graphs: Sequence[Path]) -> list[Requirement]:
    """The ONNX Runtime that all of some graphs run on.

    Args:
        graphs: files of ONNX protobufs.
    """
    needs = {_needed(onnx.load(path, load_external_data=False)) for path in graphs}
    if not needs:
        return []
    version, reason = max(needs, key=lambda need: _numbers(need[0]))
    return [Requirement("library", "onnxruntime", version, reason=reason)]


def _needed(model: onnx.ModelProto) -> tuple[str, str]:
    """The version that a graph needs at least, and why."""
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=17)
    others = sorted({n.domain for n in model.graph.node} - {"", "ai.onnx"})
    known = others or opset > max(_OPSETS) or model.ir_version > max(_FORMATS)
    if known:
        # Ops beyond the standard, and newer standards, are only known to be in what is here.
        here = ".".join(importlib.metadata.version("onnxruntime").split(".")[:2])
        what = f"ops of {', '.join(others)}" if others else f"opset {opset}"
        return here, f"{what}, compiled with it"
    by_opset = _OPSETS.get(opset, min(_OPSETS.values(), key=_numbers))
    by_format = _FORMATS.get(model.ir_version, min(_FORMATS.values(), key=_numbers))
    reason = f"opset {opset}, IR version {model.ir_version}"
    return max(by_opset, by_format, key=_numbers), reason


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
