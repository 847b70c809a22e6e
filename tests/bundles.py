"""Small bundles made by hand, for tests that need one and no compiler."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from partitioner.artifacts.digest import hex_of
from partitioner.artifacts.manifest import Artifact, Batch, Blob, ConstantRef, Manifest
from partitioner.artifacts.writer import BundleWriter
from partitioner.plan import Call, Carry, DrawGroup, Loop, Plan, SegmentInfo, Slice, Step
from partitioner.specs import InputSpec, TensorSpec

__all__ = ["Maker", "external", "model", "node", "spec", "tensor"]

ONNX_TYPES = {
    "bool": TensorProto.BOOL,
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
}

node = helper.make_node
tensor = numpy_helper.from_array


def spec(text: str) -> TensorSpec:
    """``"float32[2, n, ?]"`` as a spec."""
    match = re.fullmatch(r"(\w+)\[(.*)\]", text)
    assert match is not None
    dims = [dim.strip() for dim in match[2].split(",") if dim.strip()]
    shape = [None if d == "?" else int(d) if d.isdigit() else d for d in dims]
    return TensorSpec(match[1], tuple(shape))


def specs(tensors: Mapping[str, str]) -> tuple[tuple[str, TensorSpec], ...]:
    return tuple((name, spec(text)) for name, text in tensors.items())


def model(
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    nodes: Sequence[onnx.NodeProto],
    initializers: Sequence[onnx.TensorProto] = (),
    functions: Sequence[onnx.FunctionProto] = (),
) -> bytes:
    """An ONNX protobuf; tensors as in :func:`spec`."""
    infos = [
        [
            helper.make_tensor_value_info(name, ONNX_TYPES[s.dtype], list(s.shape))
            for name, s in specs(tensors)
        ]
        for tensors in (inputs, outputs)
    ]
    graph = helper.make_graph(list(nodes), "segment", *infos, list(initializers))
    opsets = [helper.make_opsetid("", 18), *(helper.make_opsetid(f.domain, 1) for f in functions)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=list(functions))
    return proto.SerializeToString()


def external(name: str, array: np.ndarray[Any, Any], location: str, offset: int) -> Any:
    """A tensor whose numbers lie in a file."""
    proto = TensorProto()
    proto.name = name
    proto.data_type = ONNX_TYPES[array.dtype.name]
    proto.dims.extend(array.shape)
    proto.data_location = TensorProto.EXTERNAL
    pairs = {"location": location, "offset": str(offset), "length": str(array.nbytes)}
    for key, value in pairs.items():
        proto.external_data.add(key=key, value=value)
    return proto


class Maker:
    """Collects segments and constants, then writes a bundle.

    ``values`` are the plan's values by id; segments declare those of their calls.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, TensorSpec] = {}
        self.segments: dict[str, SegmentInfo] = {}
        self.artifacts: dict[str, Artifact] = {}
        self.constants: dict[str, ConstantRef] = {}
        self._writer = BundleWriter(path)
        self._writer.__enter__()

    def value(self, **tensors: str) -> None:
        self.values.update(specs(tensors))

    def blob(self, data: bytes, media_type: str = "application/octet-stream") -> Blob:
        return self._writer.add_bytes(data, media_type)

    def constant(self, name: str, array: np.ndarray[Any, Any]) -> None:
        blob = self.blob(array.tobytes())
        self.values[name] = TensorSpec(array.dtype.name, array.shape)
        self.constants[name] = ConstantRef(blob.digest, 0, array.nbytes)

    def onnx(
        self,
        name: str,
        inputs: Mapping[str, str],
        outputs: Mapping[str, str],
        nodes: Sequence[Any],
        *,
        weights: Mapping[str, np.ndarray[Any, Any]] | None = None,
        options: Mapping[str, Any] | None = None,
        change: Callable[[str], bytes] | None = None,
    ) -> None:
        """A segment; its weights lie in a blob of their own.

        ``change`` makes the protobuf itself, from the name of the weights' file.
        """
        arrays = weights or {}
        blob = self.blob(b"".join(array.tobytes() for array in arrays.values()))
        location, offset, tensors = hex_of(blob.digest), 0, list[Any]()
        for key, array in arrays.items():
            tensors.append(external(key, array, location, offset))
            offset += array.nbytes
        data = change(location) if change else model(inputs, outputs, nodes, tensors)
        graph = self.blob(data, "application/vnd.onnx")
        self._segment(name, "onnx", inputs, outputs)
        self.artifacts[name] = Artifact("onnx", graph.digest, (blob.digest,), dict(options or {}))

    def host(
        self,
        name: str,
        op: str,
        inputs: Mapping[str, str],
        outputs: Mapping[str, str],
        **options: Any,
    ) -> None:
        self._segment(name, "host", inputs, outputs)
        self.artifacts[name] = Artifact("host", None, (), {"op": op, "options": options})

    def _segment(
        self, name: str, backend: str, inputs: Mapping[str, str], outputs: Mapping[str, str]
    ) -> None:
        self.segments[name] = SegmentInfo(
            name, backend, specs(inputs), specs(outputs), sources=(f"model.py:7 in {name}",)
        )

    def write(
        self,
        inputs: Sequence[InputSpec],
        steps: Sequence[Step],
        outputs: Mapping[str, str],
        draws: Sequence[DrawGroup] = (),
        batch: Batch | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write the bundle; used inputs are the values of their own names."""
        for given in inputs:
            if given.used:
                self.values[given.name] = given.tensor
        self._type_calls(steps)
        plan = Plan(
            values=self.values,
            inputs={given.name: given.name for given in inputs if given.used},
            constants=tuple(self.constants),
            draws=tuple(draws),
            steps=tuple(steps),
            outputs=dict(outputs),
            segments=self.segments,
        )
        manifest = Manifest(
            name="hand-made",
            version="1",
            target="cpu",
            inputs=tuple(inputs),
            outputs={name: self.values[value] for name, value in outputs.items()},
            plan=plan,
            artifacts=self.artifacts,
            constants=self.constants,
            blobs=tuple(blob for _, blob in sorted(self._writer.blobs.items())),
            batch=batch,
            options=dict(options or {}),
        )
        self._writer.commit(manifest)
        return self.path

    def _type_calls(self, steps: Sequence[Step]) -> None:
        """Give the values of calls and loops the types that follow from the segments."""
        for step in steps:
            if isinstance(step, Call):
                info = self.segments[step.segment]
                for value, (_, tensor_spec) in zip(
                    (*step.inputs, *step.outputs), (*info.inputs, *info.outputs), strict=True
                ):
                    self.values.setdefault(value, tensor_spec)
                continue
            for carry in step.carries:
                self._same(carry)
            for part in step.slices:
                self._row(step, part)
            self._type_calls(step.body)
            for carry in step.carries:
                if carry.final is not None:
                    self.values.setdefault(carry.final, self.values[carry.next])
            for stacked in step.stacked:
                row = self.values[stacked.inner]
                self.values.setdefault(
                    stacked.result, TensorSpec(row.dtype, (step.trips, *row.shape))
                )

    def _same(self, carry: Carry) -> None:
        self.values.setdefault(carry.inner, self.values[carry.init])

    def _row(self, loop: Loop, part: Slice) -> None:
        whole = self.values[part.source]
        self.values.setdefault(part.inner, TensorSpec(whole.dtype, whole.shape[1:]))
