"""An OpenVINO artifact made by hand: ``y = x @ w + b``, with ``w`` and ``b`` in two blobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from partitioner.backends.execution import ArtifactFiles
from partitioner.backends.openvino.ir import Place, as_constants, starts_of
from partitioner.backends.openvino.library import openvino
from partitioner.plan import SegmentInfo
from tests.bundles import specs

__all__ = ["BIAS", "WEIGHT", "X", "affine_xml", "files"]

WEIGHT = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
BIAS = np.random.default_rng(2).standard_normal((1, 64)).astype(np.float32)
X = np.random.default_rng(1).standard_normal((2, 64)).astype(np.float32)
TENSOR = "float32[2, 64]"

#: Names of files whose names are digests.
FIRST, SECOND = "a" * 64, "b" * 64


def affine_xml(folder: Path, weight_at: int = 64) -> bytes:
    """The IR; ``w`` at ``weight_at`` of the first blob, ``b`` at the start of the second."""
    ov = openvino()
    ops = ov.opset13
    x, w, b = (ops.parameter(list(a.shape), np.float32) for a in (X, WEIGHT, BIAS))
    for node, name in ((x, "x"), (w, "/weight_0"), (b, "/weight_1")):
        node.set_friendly_name(name)
        node.output(0).get_tensor().set_names({name})
    result = ops.add(ops.matmul(x, w, False, False), b)
    result.output(0).get_tensor().set_names({"y"})
    for index, node in enumerate((result, result.input_value(0).get_node())):
        # What it would call them holds a counter of the process.
        node.set_friendly_name(f"node_{index}")
    model = ov.Model([result], [x, w, b], "segment")
    model.get_results()[0].set_friendly_name("result")
    ov.serialize(model, folder / "made.xml", folder / "made.bin")
    starts = starts_of([weight_at + WEIGHT.nbytes, BIAS.nbytes])
    places = {
        "/weight_0": Place(starts[0] + weight_at, WEIGHT.nbytes),
        "/weight_1": Place(starts[1], BIAS.nbytes),
    }
    return as_constants((folder / "made.xml").read_bytes(), places, own_start=0)


def files(folder: Path, xml: bytes | None = None, **options: Any) -> ArtifactFiles:
    """The artifact in a folder of blobs without suffixes."""
    blobs = folder / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    (blobs / FIRST).write_bytes(b"\0" * 64 + WEIGHT.tobytes())
    (blobs / SECOND).write_bytes(BIAS.tobytes())
    graph = blobs / ("c" * 64)
    graph.write_bytes(affine_xml(folder) if xml is None else xml)
    info = SegmentInfo(
        "affine", "openvino", specs({"x": TENSOR}), specs({"y": TENSOR}), sources=("net.py:3",)
    )
    return ArtifactFiles(graph, blobs, (blobs / FIRST, blobs / SECOND), options, info)
