"""The conversion job: a graph of aten ops to OpenVINO IR whose weights lie in the bundle's blobs.

Runs in the worker. The converter sees weights as inputs, never as numbers. In the IR that comes out
of it they are turned into constants at the places where the bundle has them; see
:mod:`partitioner.backends.openvino.ir` for what offsets in it mean.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import fx

from partitioner.backends.graphs import from_json
from partitioner.backends.lifting import export_graph, lifted_module
from partitioner.backends.openvino.ir import Place, as_constants, starts_of
from partitioner.backends.openvino.library import openvino
from partitioner.backends.openvino.packed import write_packed
from partitioner.errors import CompileError
from partitioner.program import TensorType, node_type
from partitioner.rowcounts import RowCount, row_counts

__all__ = ["ELEMENT_TYPES", "converted", "run"]

#: dtype -> OpenVINO's name of it.
ELEMENT_TYPES = {
    torch.bool: "boolean",
    torch.uint8: "u8",
    torch.int8: "i8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.float32: "f32",
}

#: The name of an input that stands for a weight; no name of a segment's own has a slash.
_WEIGHT = "/weight_{}"


def warm_up() -> None:
    """Import the library, where it is installed. No more: its threads do not survive a fork."""
    with contextlib.suppress(ImportError):
        openvino()


def run(directory: Path) -> dict[str, Any]:
    """The job: ``job.json`` in; ``model.xml`` and ``constants.bin`` (may be empty) out.

    ``sizes`` are those of the blobs that the segment reads; ``external`` has, for each lifted
    constant, the index of its blob, its offset there and its length, all in bytes.

    Raises:
        CompileError: the converter refuses the graph.
    """
    job = json.loads((directory / "job.json").read_text())
    graph, constants, lifted = from_json(job["graph"])
    packed = write_packed(graph, constants, lifted)
    results = [node_type(n) for n in cast("tuple[fx.Node, ...]", graph.output_node().args[0])]
    model = converted(graph, constants, packed.lifted)
    weights = [_WEIGHT.format(index) for index in range(len(lifted))]
    _check_ports(model, [*job["inputs"], *weights], job["outputs"])
    packed.restore(list(model.get_parameters())[len(job["inputs"]) :])
    _cast_outputs(model, results)
    _name(model, [*job["inputs"], *weights], job["outputs"])
    xml, binary = _serialised(model, directory)
    starts = starts_of([*job["sizes"], len(binary)])
    places = {
        name: Place(starts[blob] + offset, nbytes)
        for name, (blob, offset, nbytes) in zip(weights, job["external"], strict=True)
    }
    xml = as_constants(xml, places, own_start=starts[-1])
    (directory / "model.xml").write_bytes(xml)
    (directory / "constants.bin").write_bytes(binary)
    return {"operations": len(model.get_ops()), "bytes": len(xml)}


def converted(graph: fx.Graph, constants: Any, lifted: dict[str, TensorType]) -> Any:
    """The OpenVINO model of a graph: its own inputs first, then one for each lifted constant.

    Raises:
        CompileError: the converter refuses the graph.
    """
    ov = openvino()
    # It logs each op that its table of decompositions has no use for.
    logging.disable(logging.WARNING)
    module = lifted_module(graph, constants, lifted)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported, _ = export_graph(module, graph)
            names = list(exported.graph_signature.user_inputs)
            # Without shapes the inputs become dynamic, whatever the export says.
            types = [node_type(n) for n in graph.nodes if n.op == "placeholder"]
            given = {
                name: (_shape(type_), getattr(ov.Type, ELEMENT_TYPES[type_.dtype]))
                for name, type_ in zip(names, types, strict=True)
            }
            return _ordered(ov.convert_model(exported, input=given), given)
    except CompileError:
        raise
    except Exception as error:
        raise _convert_error(error, graph) from error


def _shape(type_: TensorType) -> Any:
    """A shape as OpenVINO has it: from the fewest rows to the most where it is for a range."""
    ov = openvino()
    return ov.PartialShape(
        [
            ov.Dimension(dim.at(dim.span.least), int(dim)) if isinstance(dim, RowCount) else dim
            for dim in type_.shape
        ]
    )


def _ordered(model: Any, inputs: Mapping[str, tuple[Any, Any]]) -> Any:
    """The model with these inputs in this order; where there are many, it may have another."""
    ov = openvino()
    found = {p.get_friendly_name(): p for p in model.get_parameters()}
    parameters = [
        found.get(name) or ov.opset13.parameter(shape, type_)
        for name, (shape, type_) in inputs.items()
    ]
    return ov.Model(model.get_results(), parameters, "segment")


def _convert_error(error: Exception, graph: fx.Graph) -> CompileError:
    text = str(error)
    ops = re.findall(r"aten[.:]+([a-z_0-9]+)", text)
    guilty = [
        n.meta["source"]
        for n in graph.nodes
        if any(re.search(rf"aten\.{op}\b", str(n.target)) for op in ops) and n.meta.get("source")
    ]
    # The first lines say where in OpenVINO, the later ones what.
    lines = [
        line.strip()
        for line in text.splitlines()
        if line.strip() and not line.startswith(("Exception from", "Check '"))
    ]
    return CompileError(
        f"OpenVINO cannot convert the graph: {lines[0] if lines else type(error).__name__}",
        where=guilty[0] if guilty else None,
        advice="write the step with other ops, or build with another backend (--backends)",
    )


# --- ports and names ----------------------------------------------------------------------------


def _check_ports(model: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    if len(inputs) == len(model.inputs) and len(outputs) == len(model.outputs):
        return
    raise CompileError(
        f"OpenVINO made {len(model.inputs)} inputs and {len(model.outputs)} outputs of "
        f"{len(inputs)} and {len(outputs)}",
        advice="this is a defect of the converter; build with another backend (--backends)",
    )


def _cast_outputs(model: Any, results: Sequence[TensorType]) -> None:
    """Give outputs the dtypes that torch gives them, where the converter has chosen others.

    Raises:
        CompileError: an output has another shape.
    """
    ov = openvino()
    for result, type_ in zip(model.get_results(), results, strict=True):
        source = result.input_value(0)
        wanted = getattr(ov.Type, ELEMENT_TYPES[type_.dtype])
        if source.get_element_type() != wanted:
            cast_up = ov.opset13.convert(source, ELEMENT_TYPES[type_.dtype])
            result.input(0).replace_source_output(cast_up.output(0))
    model.validate_nodes_and_infer_types()
    for port, type_ in zip(model.outputs, results, strict=True):
        shape = port.get_partial_shape()
        growing = bool(row_counts(type_.shape))
        if not (shape.compatible(_shape(type_)) if growing else shape == _shape(type_)):
            raise CompileError(
                f"OpenVINO gives an output of the shape {shape}, torch {list(type_.shape)}",
                advice="this is a defect of the converter; build with another backend (--backends)",
            )


def _name(model: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """The segment's own names for what goes in and out, numbers for the rest.

    The converter's names hold a counter of its process.
    """
    operations = model.get_ordered_ops()
    for index, operation in enumerate(operations):
        operation.set_friendly_name(f"/{operation.get_type_name()}_{index}")
        for port in operation.outputs():
            port.get_tensor().set_names(set())
    for parameter, name in zip(model.get_parameters(), inputs, strict=True):
        parameter.set_friendly_name(name)
        parameter.output(0).get_tensor().set_names({name})
    for result, name in zip(model.get_results(), outputs, strict=True):
        # An op that does nothing may have gone, and the output be an input.
        result.input_value(0).get_tensor().add_names({name})
    model.set_friendly_name("segment")


def _serialised(model: Any, directory: Path) -> tuple[bytes, bytes]:
    path = directory / "serialised.xml"
    binary = path.with_suffix(".bin")
    openvino().serialize(model, path, binary)
    return path.read_bytes(), binary.read_bytes()
