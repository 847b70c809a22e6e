"""Segments to ONNX: the graph without its weights goes through ``torch.onnx``, in a process of its
own; then the weights are declared as external data that lies in the bundle's blobs.

The exporter never sees a weight, so exporting takes little memory whatever the model's size, and
the weights of a bundle are stored once, however many segments read them.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import fx

from partitioner.artifacts.digest import hex_of
from partitioner.artifacts.manifest import ConstantRef
from partitioner.backends.base import (
    CacheFacts,
    Compiled,
    CompileOptions,
    Outside,
    Resources,
    Verdict,
)
from partitioner.backends.facts import SHARED, code_digest, versions_of
from partitioner.backends.graphs import from_json, identifier, to_json
from partitioner.backends.lifting import WEIGHT, export_graph, lifted_module, lifted_names
from partitioner.backends.onnx.moving import moved_graph, point_to, rename
from partitioner.backends.onnx.packed import write_packed
from partitioner.backends.onnx.slices import merge_slices
from partitioner.backends.onnx.support import verdict
from partitioner.backends.worker import run_job
from partitioner.errors import CompileError
from partitioner.program import TensorType
from partitioner.torchexport import ops_listed_once

if TYPE_CHECKING:
    from partitioner.planning.segments import Segment
    from partitioner.targets import Target
    from partitioner.weights import Layout

__all__ = ["OPSET", "OnnxCompiler", "check_loads", "export_alone", "run"]

#: 20 is the first opset with Gelu; from 21 on group normalisation is an op that ONNX Runtime has
#: no CPU kernel for and expands into many.
OPSET = 20

#: Names while exporting; the segment's own are put in afterwards.
_INPUT, _OUTPUT = "segment_input_{}", "segment_output_{}"


class OnnxCompiler:
    """The backend ``onnx`` at build time."""

    name = "onnx"
    compresses = True

    def verdict(self, node: fx.Node, target: Target) -> Verdict:
        """See :func:`partitioner.backends.onnx.support.verdict`."""
        return verdict(node, target)

    def outside(self, segment: Segment, constants: Mapping[str, torch.Tensor]) -> set[str]:
        """The constants of a segment that must lie in blobs."""
        return lifted_names(segment, constants)

    def compile(
        self,
        segment: Segment,
        constants: Mapping[str, torch.Tensor],
        layout: Layout,
        options: CompileOptions,
    ) -> Compiled:
        """Export one segment.

        Raises:
            CompileError: names the source line of the node that failed, where that is known.
        """
        lifted = self.outside(segment, constants)
        job = options.workdir / identifier(segment.name)
        job.mkdir(parents=True)
        document = {
            "graph": to_json(segment.graph, constants, lifted),
            "inputs": list(segment.inputs),
            "outputs": list(segment.outputs),
            "external": {
                name: [hex_of(layout[name].blob), layout[name].offset, layout[name].nbytes]
                for name in sorted(lifted)
            },
            "blobs_dir": str(options.blobs_dir),
        }
        (job / "job.json").write_text(json.dumps(document))
        report = run_job(
            "partitioner.backends.onnx.compile:run",
            job,
            what=f"segment {segment.name!r}",
            where=segment.where,
            **options.limits,
        )
        weights = sorted({layout[name].blob for name in lifted})
        return Compiled(job / "model.onnx", tuple(weights), {"optimization": "extended"}, report)

    def resources(
        self, segment: Segment, constants: Mapping[str, torch.Tensor], options: CompileOptions
    ) -> Resources:
        """A worker with its libraries: no weight is read."""
        return Resources(1.0, 2**30)

    def cache_facts(self, segment: Segment, target: Target, options: CompileOptions) -> CacheFacts:
        """An ONNX graph is the same for every target, and knows of weights only where they lie."""
        code = code_digest("partitioner.backends.onnx", *SHARED)
        versions = versions_of("torch", "onnx", "onnxscript", "onnxruntime")
        return CacheFacts({**versions, "code": code}, {"opset": OPSET}, weight_free=True)

    def moved(self, kept: Compiled, old: Outside, new: Outside) -> Compiled:
        """The graph with other tensors' names and other places of weights."""
        assert kept.graph is not None
        data = moved_graph(kept.graph.read_bytes(), old, new)
        kept.graph.write_bytes(data)
        return replace(kept, weights=new.blobs, report={**kept.report, "bytes": len(data)})


# --- in the worker ------------------------------------------------------------------------------


def warm_up() -> None:
    """Export something small, so that the exporter's tables are made once and not in each job."""
    # It would say for each op of torchvision that torchvision is not there.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        graph = fx.Graph()
        x = graph.placeholder("x")
        x.meta["type"] = TensorType((2, 2), torch.float32)
        graph.output((graph.call_function(torch.ops.aten.gelu.default, (x,)),))
        model = export_alone(graph, {}, ["x"], ["y"])
        check_loads(model.SerializeToString(), Path(folder))


def export_alone(
    graph: fx.Graph,
    constants: Mapping[str, torch.Tensor],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> Any:
    """An ONNX model of a graph, with all of its constants in it.

    Raises:
        CompileError: the exporter refuses the graph.
    """
    module, names = _module(graph, constants, {})
    return _export(module, graph, names, {"inputs": inputs, "outputs": outputs})


def run(directory: Path) -> dict[str, Any]:
    """The job: ``job.json`` in, ``model.onnx`` out. Gives what is worth reporting."""
    job = json.loads((directory / "job.json").read_text())
    graph, constants, lifted = from_json(job["graph"])
    module, names = _module(graph, constants, lifted)
    model = _export(module, graph, names, job)
    refs = {
        name: ConstantRef(f"sha256:{place[0]}", place[1], place[2])
        for name, place in job["external"].items()
    }
    _externalise(model, dict(zip(names.values(), names, strict=True)), refs)
    _strip(model)
    data = model.SerializeToString(deterministic=True)
    check_loads(data, Path(job["blobs_dir"]))
    (directory / "model.onnx").write_bytes(data)
    return {"nodes": len(model.graph.node), "bytes": len(data), "opset": OPSET}


def _module(
    graph: fx.Graph, constants: Mapping[str, torch.Tensor], lifted: Mapping[str, TensorType]
) -> tuple[fx.GraphModule, dict[str, str]]:
    """A module whose lifted constants are inputs behind its own; constant -> input name."""
    write_packed(graph)
    names = {name: f"/{WEIGHT.format(index)}" for index, name in enumerate(lifted)}
    return lifted_module(graph, constants, lifted), names


def _export(
    module: fx.GraphModule, graph: fx.Graph, names: Mapping[str, str], job: dict[str, Any]
) -> Any:
    _keep_translations()
    try:
        with torch.no_grad(), warnings.catch_warnings(), ops_listed_once():
            warnings.simplefilter("ignore")
            exported, args = export_graph(module, graph)
            program = cast(Any, torch.onnx).export(
                exported,
                dynamo=True,
                opset_version=OPSET,
                optimize=True,
                verbose=False,
                input_names=[_INPUT.format(i) for i in range(len(args))],
                output_names=[_OUTPUT.format(i) for i in range(len(job["outputs"]))],
            )
            model = program.model_proto
    except CompileError:
        raise
    except Exception as error:
        raise _export_error(error, graph) from error
    outer = {_INPUT.format(i): n for i, n in enumerate([*job["inputs"], *names.values()])}
    outer |= {_OUTPUT.format(i): n for i, n in enumerate(job["outputs"])}
    # First: names that it makes must not hold a segment's own, which are not the exporter's.
    merge_slices(model)
    # The exporter numbers its values as capture does, so they would clash.
    rename(model.graph, lambda name: outer.get(name, f"/{name}"))
    return model


@functools.cache
def _keep_translations() -> None:
    """Let torch.onnx make its table of translations once for all exports of this process.

    It makes one for every export, from 500 parsed sources, and changes none: more than half of what
    exporting a small segment takes.
    """
    from torch.onnx._internal.exporter import _registration

    registry = cast(Any, _registration).ONNXRegistry
    registry.from_torchlib = staticmethod(functools.cache(registry.from_torchlib))


def _export_error(error: Exception, graph: fx.Graph) -> CompileError:
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    ops = re.findall(r"aten[.:]+([a-z_0-9]+)", text)
    guilty = [
        n.meta["source"]
        for n in graph.nodes
        if any(re.search(rf"aten\.{op}\b", str(n.target)) for op in ops) and n.meta.get("source")
    ]
    lines = [line for line in text.splitlines() if line.strip()]
    return CompileError(
        f"torch.onnx cannot export the graph: {lines[0] if lines else type(error).__name__}",
        where=guilty[0] if guilty else None,
        advice="write the step with other ops, or make it a host op (@partitioner.host_op)",
    )


def _externalise(model: Any, lifted: Mapping[str, str], refs: Mapping[str, ConstantRef]) -> None:
    """Turn the inputs that stand for weights into initialisers with external data."""
    import onnx

    kept: list[Any] = []
    for value in model.graph.input:
        name = lifted.get(value.name)
        if name is None:
            kept.append(value)
            continue
        ref = refs[name]
        tensor = model.graph.initializer.add()
        tensor.name = value.name
        tensor.data_type = value.type.tensor_type.elem_type
        tensor.dims.extend(d.dim_value for d in value.type.tensor_type.shape.dim)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        point_to(tensor, ref)
    del model.graph.input[:]
    model.graph.input.extend(kept)


def _strip(model: Any) -> None:
    """Take out what differs from machine to machine: traces, paths, notes."""
    graphs = [model.graph]
    model.doc_string = ""
    del model.metadata_props[:]
    for function in model.functions:
        function.doc_string = ""
        del function.metadata_props[:]
        graphs.append(function)
    for graph in graphs:
        if hasattr(graph, "initializer"):
            graph.doc_string = ""
            del graph.metadata_props[:]
            for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
                value.doc_string = ""
                del value.metadata_props[:]
        for node in graph.node:
            node.doc_string = ""
            del node.metadata_props[:]


def check_loads(data: bytes, blobs_dir: Path) -> None:
    """Let ONNX Runtime read the model, so that what it refuses is known at build time.

    Raises:
        CompileError: it refuses the model.
    """
    import onnxruntime as ort

    options = cast(Any, ort).SessionOptions()
    options.graph_optimization_level = cast(Any, ort).GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(blobs_dir)
    )
    options.intra_op_num_threads = 1
    try:
        cast(Any, ort).InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise CompileError(
            f"ONNX Runtime refuses the exported graph: {str(error).splitlines()[0]}",
            advice="this is a defect of the exporter; write the step with other ops",
        ) from error
