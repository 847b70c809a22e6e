"""A small bundle in which everything occurs that a manifest can hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from partitioner.artifacts.digest import digest_bytes
from partitioner.artifacts.manifest import (
    Artifact,
    Blob,
    ConstantRef,
    Expected,
    Manifest,
    ParitySample,
    Requirement,
    SampleInput,
    SegmentExpected,
    Tolerance,
    Variant,
)
from partitioner.artifacts.writer import BundleWriter
from partitioner.buffers import measure
from partitioner.plan import (
    Call,
    Carry,
    Draw,
    DrawGroup,
    Loop,
    Plan,
    SegmentInfo,
    Slice,
    Stacked,
    rescheduled,
)
from partitioner.specs import Image, InputSpec, Noise, TensorSpec

__all__ = ["BLOBS", "GRAPH", "PARITY", "TABLES", "WEIGHTS", "listed", "manifest", "ref"]
__all__ += ["several", "write_bundle", "write_several"]

GRAPH = b"a compiled graph"
WEIGHTS = bytes(range(256)) * 4
TABLES = np.arange(24, dtype="<f4").tobytes() + np.arange(3, dtype="<i8").tobytes()
PARITY = np.linspace(-1, 1, 16, dtype="<f8").tobytes()

BLOBS = {
    GRAPH: "application/vnd.partitioner.onnx.v1",
    WEIGHTS: "application/vnd.partitioner.weights.v1",
    TABLES: "application/vnd.partitioner.constants.v1",
    PARITY: "application/vnd.partitioner.parity.v1",
}

STATE = TensorSpec("float32", (1, 4))
NUMBER = TensorSpec("int64", ())
MESH = TensorSpec("float64", (None, 3))


def listed(path: Path) -> list[str]:
    """The names in a directory."""
    return sorted(entry.name for entry in path.iterdir())


def ref(data: bytes, offset: int, nbytes: int) -> ConstantRef:
    return ConstantRef(digest_bytes(data), offset, nbytes)


def manifest() -> Manifest:
    """Valid; two nested loops, draws, every kind of input, parity, two variants."""
    return Manifest(
        name="sample",
        version="1.2",
        target="cpu",
        inputs=(
            InputSpec("image", TensorSpec("float32", (1, 3, 2, 5)), Image((2, 5))),
            InputSpec("latents", STATE, Noise("uniform", 2.0)),
            InputSpec("größe", TensorSpec("int64", ("batch", 2))),
            InputSpec("unused", NUMBER, used=False),
        ),
        outputs={"vertices": MESH, "path": TensorSpec("float32", (3, 1, 4)), "again": STATE},
        plan=_plan(),
        artifacts={
            "encode": Artifact("onnx", digest_bytes(GRAPH), (digest_bytes(WEIGHTS),), {}),
            "step": Artifact("onnx", digest_bytes(GRAPH), (), {"session.x": "1"}),
            "march": Artifact("host", None, (), {"op": "march", "options": {"level": 0.5}}),
        },
        constants={"table": ref(TABLES, 0, 96), "ids": ref(TABLES, 96, 24)},
        blobs=tuple(sorted(_blobs(), key=lambda blob: blob.digest)),
        parity=_parity(),
        toolchain={"partitioner": "0.1.0", "python": "3.11.7"},
        options={"steps": 3, "guidance": 7.5, "prompt": None, "deep": [{"a": [True, "ä"]}]},
        report={"warnings": ["two\nlines"], "loops": [{"trips": 3}]},
        variants=(
            Variant({"steps": 6}, {"outer": 3, "inner": 2}, (3, 1), {}),
            Variant(
                {"steps": 3},
                {"outer": 3, "inner": 1},
                (2, 1),
                {"ids": ref(TABLES, 96, 24)},
                dataclasses.replace(_parity(), segments=()),
                measure(rescheduled(_plan(), {"outer": 3, "inner": 1}, (2, 1))),
            ),
        ),
        memory=measure(_plan()),
        requirements=(
            Requirement("machine", "x86_64,aarch64", firm=False, reason="of the target"),
            Requirement("instructions", "x86_64", "x86-64-v3", firm=False),
            Requirement("library", "onnxruntime", "1.17", "3.0", reason="opset 20"),
        ),
    )


def write_bundle(path: Path, content: Manifest | None = None, **options: Any) -> str:
    """Write the sample; gives the bundle's digest."""
    with BundleWriter(path, **options) as writer:
        for data, media_type in BLOBS.items():
            writer.add_bytes(data, media_type)
        return writer.commit(content or manifest())


def several() -> list[tuple[Manifest, dict[str, str]]]:
    """Members of one bundle with their labels: two targets, one of them with two batch sizes."""
    labels = ({"target": "xeon"}, *({"target": "cpu", "batch": size} for size in ("1", "4")))
    return [
        (manifest().replace(target=own["target"], version=own.get("batch", "0")), dict(own))
        for own in labels
    ]


def write_several(path: Path, **options: Any) -> str:
    """Write them as one bundle; gives its digest."""
    with BundleWriter(path, **options) as writer:
        for content, labels in several():
            for data, media_type in BLOBS.items():
                writer.add_bytes(data, media_type)
            writer.add_member(content, labels, "x86_64")
        return writer.publish()


def _blobs() -> list[Blob]:
    return [Blob(digest_bytes(data), len(data), kind) for data, kind in BLOBS.items()]


def _segment(
    name: str, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
) -> SegmentInfo:
    backend = "host" if name == "march" else "onnx"
    source = f"/src/model.py:7 in {name}"
    return SegmentInfo(
        name, backend, tuple(inputs.items()), tuple(outputs.items()), ("net",), 3, (source,)
    )


def _plan() -> Plan:
    row = TensorSpec("float32", (2, 4))
    rows = TensorSpec("float32", (3, 2, 4))
    image = TensorSpec("float32", (1, 3, 2, 5))
    inner = Loop(
        name="inner",
        trips=2,
        carries=(Carry("x", "y", "y.next", "y.last"),),
        slices=(Slice("row", "half"),),
        stacked=(),
        body=(Call("step", ("y", "half.noise"), ("y.next",)),),
    )
    outer = Loop(
        name="outer",
        trips=3,
        carries=(Carry("code", "x", "y.last", "x.last"),),
        slices=(Slice("table", "row"), Slice("noise", "half.noise")),
        stacked=(Stacked("y.last", "path"),),
        body=(inner,),
    )
    return Plan(
        values={
            "image": image,
            "latents": STATE,
            "size": TensorSpec("int64", ("batch", 2)),
            "table": rows,
            "ids": TensorSpec("int64", (3,)),
            "noise": TensorSpec("float32", (3, 1, 4)),
            "fixed": TensorSpec("int64", (2,)),
            "code": STATE,
            "x": STATE,
            "x.last": STATE,
            "row": row,
            "half": TensorSpec("float32", (4,)),
            "half.noise": STATE,
            "y": STATE,
            "y.next": STATE,
            "y.last": STATE,
            "path": TensorSpec("float32", (3, 1, 4)),
            "vertices": MESH,
        },
        inputs={"image": "image", "latents": "latents", "größe": "size"},
        constants=("table", "ids"),
        draws=(
            DrawGroup(3, (Draw("noise", "normal", (0.0, 1.0), row=True),)),
            DrawGroup(1, (Draw("fixed", "integers", (0.0, 10.0), stream=1),)),
        ),
        steps=(
            Call("encode", ("image", "latents"), ("code",)),
            outer,
            Call("march", ("x.last",), ("vertices",)),
        ),
        outputs={"vertices": "vertices", "path": "path", "again": "x.last"},
        segments={
            "encode": _segment("encode", {"a": image, "b": STATE}, {"c": STATE}),
            "step": _segment("step", {"a": STATE, "n": STATE}, {"b": STATE}),
            "march": _segment("march", {"x": STATE}, {"vertices": MESH}),
        },
    )


def _parity() -> ParitySample:
    expected = Expected(TensorSpec("float32", (1, 4)), 2.0, 2, ref(PARITY, 0, 16))
    mesh = Expected(TensorSpec("float64", (7, 3)), -1, 4, ref(PARITY, 16, 32), exact=False)
    return ParitySample(
        seed=0,
        inputs={"image": SampleInput(TensorSpec("uint8", (2, 5, 3)), ref(WEIGHTS, 1, 30))},
        outputs={"vertices": mesh, "again": expected},
        segments=(
            SegmentExpected("encode", 0, {"c": expected}),
            SegmentExpected("step", 0, {"b": expected}),
            SegmentExpected("step", 1, {"b": expected}),
        ),
        tolerance=Tolerance(1e-3, 0.0),
    )
