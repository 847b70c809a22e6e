"""Segments to StableHLO, by torch-mlir: what is checked and run in place of Neuron's own HLO.

torch-mlir is an extra (``partitioner[stablehlo]``), imported only where something is lowered.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import fx

from partitioner.backends.neuron.core_graph import PLACE, CoreGraph, core_graph
from partitioner.backends.neuron.instructions import ALIASES, Array, Instruction
from partitioner.errors import CompileError
from partitioner.program import TensorType

__all__ = ["lower", "read_instructions"]

#: As ``torch_mlir.fx`` runs them; then what folds the numbers that lowering leaves behind.
_PIPELINE = (
    "builtin.module("
    "func.func(torch-match-quantized-custom-ops),"
    "torchdynamo-export-to-torch-backend-pipeline{ extra-library=},"
    "torch-backend-to-stablehlo-backend-pipeline{allow-non-finites=true},"
    "func.func(stablehlo-aggressive-simplification,canonicalize,cse))"
)

#: MLIR's element types.
_DTYPES = {
    "i1": "bool",
    "ui8": "uint8",
    "ui16": "uint16",
    "ui32": "uint32",
    "ui64": "uint64",
    "f16": "float16",
    "bf16": "bfloat16",
    "f32": "float32",
    "f64": "float64",
    "complex<f32>": "complex64",
    "complex<f64>": "complex128",
}


def lower(graph: fx.Graph, constants: Mapping[str, TensorType]) -> tuple[Any, CoreGraph]:
    """A segment as an MLIR module with the one function ``main``, and the graph it was made of.

    Args:
        graph: of the segment; written to.
        constants: types of all constants that it reads, by name.

    Raises:
        CompileError: torch-mlir does not lower an op; names its source line.
    """
    decompositions = _torch_mlir("extras.fx_decomp_util").get_decomposition_table()
    sources = [str(n.meta.get("source", "")) for n in graph.nodes]
    ops = [str(n.target) for n in graph.nodes]
    with torch.no_grad():
        core = core_graph(graph, constants, decompositions)
    try:
        return _run_pipeline(core), core
    except _NotLoweredError as error:
        number = error.number
        what = f"torch-mlir does not lower {ops[number]}" if number is not None else "torch-mlir"
        raise CompileError(
            f"{what}: {error.message}",
            where=(sources[number] or None) if number is not None else None,
            advice="this says nothing of Neuron; the segment can be checked on a machine with the "
            "SDK only",
        ) from error


def _torch_mlir(name: str) -> Any:
    """A module of torch-mlir, which has no types."""
    return importlib.import_module(f"torch_mlir.{name}")


class _NotLoweredError(Exception):
    def __init__(self, message: str, number: int | None) -> None:
        super().__init__(message)
        self.message, self.number = message, number


def _run_pipeline(core: CoreGraph) -> Any:
    said: list[tuple[str, int | None]] = []

    def note(diagnostic: Any) -> bool:
        said.append((str(diagnostic.message), place_of(diagnostic.location)))
        return True

    context = _torch_mlir("ir").Context()
    _torch_mlir("dialects.torch").register_dialect(context)
    # To the handler, not into the text of an exception.
    context.emit_error_diagnostics = True
    handler = context.attach_diagnostic_handler(note)
    importer = _torch_mlir("extras.fx_importer").FxImporter(context=context)
    try:
        importer.import_stateless_graph(core.module.graph, func_name="main")
        with context:
            _torch_mlir("passmanager").PassManager.parse(_PIPELINE).run(importer.module.operation)
    except Exception as error:
        message, number = said[0] if said else (str(error).strip() or type(error).__name__, None)
        raise _NotLoweredError(message.splitlines()[0], number) from error
    finally:
        handler.detach()
    return importer.module


def place_of(location: Any) -> int | None:
    """The number of the segment's node that a location names; None if it names none."""
    found = re.search(rf'"{PLACE}":(\d+)', str(location))
    return int(found[1]) if found else None


# --- reading ------------------------------------------------------------------------------------


def read_instructions(module: Any) -> Iterator[Instruction]:
    """The instructions of ``main``, in order, without its return."""
    constants: set[Any] = set()
    (function,) = module.body.operations
    for op in function.regions[0].blocks[0].operations:
        if op.operation.name in ("func.return", "stablehlo.return"):
            continue
        constant = all(value in constants for value in op.operands)
        if constant:
            constants.update(op.results)
        yield Instruction(
            _opcode(op.operation.name),
            tuple(_array(value.type) for value in op.operands),
            tuple(_array(value.type) for value in op.results),
            _attributes(op, constants),
            place_of(op.location),
            constant,
        )


def _opcode(name: str) -> str:
    dialect, _, op = name.partition(".")
    if dialect not in ("stablehlo", "chlo") and op != "constant":
        return name
    opcode = op.replace("_", "-")
    return ALIASES.get(opcode, opcode)


def _array(type_: Any) -> Array:
    if not isinstance(type_, _torch_mlir("ir").RankedTensorType):
        return Array(str(type_), ())
    # MLIR's sizes are negative where they are not known.
    shape = tuple(None if type_.is_dynamic_dim(i) else n for i, n in enumerate(type_.shape))
    return Array(_dtype(str(type_.element_type)), shape)


def _dtype(text: str) -> str:
    if text in _DTYPES:
        return _DTYPES[text]
    if text[:1] == "i":
        return f"int{text[1:]}"
    # f8E4M3FN
    return f"float8_{text[2:].lower()}" if text.startswith("f8") else text


def _attributes(op: Any, constants: set[Any]) -> dict[str, Any]:
    reader = _READERS.get(_opcode(op.operation.name))
    return {} if reader is None else reader(op, constants)


def _numbers(op: Any, name: str) -> tuple[int, ...]:
    if name not in op.attributes:
        return ()
    return tuple(int(n) for n in re.findall(r"-?\d+", _list_in(str(op.attributes[name]))))


def _list_in(text: str) -> str:
    """``1, 2`` of ``array<i64: 1, 2>``."""
    return text.partition(":")[2]


def _dimensions(op: Any, attribute: str, name: str) -> tuple[int, ...]:
    """``[1, 2]`` behind a name in an attribute's text; empty if it is not there."""
    found = re.search(rf"{name} = \[([^\]]*)\]", str(op.attributes[attribute]))
    return tuple(int(n) for n in re.findall(r"\d+", found[1])) if found else ()


def _convolution(op: Any, constants: set[Any]) -> dict[str, Any]:
    kernel = re.search(r"x\[([^\]]*)\]", str(op.attributes["dimension_numbers"]))
    assert kernel is not None
    place = [name.strip() for name in kernel[1].split(",")].index("o")
    shape = _array(op.operands[1].type).shape
    return {
        "output_features": shape[place],
        **{n: _numbers(op, n) for n in ("window_strides", "lhs_dilation", "rhs_dilation")},
    }


def _dot(op: Any, constants: set[Any]) -> dict[str, Any]:
    shape = _array(op.operands[0].type).shape
    contracted = _dimensions(op, "dot_dimension_numbers", "lhs_contracting_dimensions")
    batch = _dimensions(op, "dot_dimension_numbers", "lhs_batching_dimensions")
    return {
        "contracted": _product(shape[i] for i in contracted),
        "batch": _product(shape[i] for i in batch),
    }


def _product(sizes: Iterator[int | None]) -> int:
    product = 1
    for size in sizes:
        product *= size or 1
    return product


def _inner(op: Any, constants: set[Any]) -> dict[str, Any]:
    blocks = [block for region in op.regions for block in region.blocks]
    inner = [_opcode(one.operation.name) for block in blocks for one in block.operations]
    return {
        "computations": tuple(name for name in inner if name != "return"),
        **{n: _numbers(op, n) for n in ("base_dilations", "window_dilations")},
    }


def _gather(op: Any, constants: set[Any]) -> dict[str, Any]:
    return {
        "indexed": _dimensions(op, "dimension_numbers", "start_index_map"),
        "collapsed": _dimensions(op, "dimension_numbers", "collapsed_slice_dims"),
    }


def _constant(op: Any, constants: set[Any]) -> dict[str, Any]:
    value = op.attributes["value"]
    if not isinstance(value, _torch_mlir("ir").DenseIntElementsAttr) or not len(value):
        return {}
    numbers = [int(value[0])] if value.is_splat else [int(n) for n in value]
    return {"integers": (min(numbers), max(numbers))}


def _update(op: Any, constants: set[Any]) -> dict[str, Any]:
    return {"constant_indices": all(value in constants for value in list(op.operands)[2:])}


def _call(op: Any, constants: set[Any]) -> dict[str, Any]:
    return {"target": str(op.attributes["call_target_name"]).strip('"')}


def _random(op: Any, constants: set[Any]) -> dict[str, Any]:
    return {"algorithm": str(op.attributes["rng_algorithm"])}


_READERS = {
    "constant": _constant,
    "convolution": _convolution,
    "custom-call": _call,
    "dot": _dot,
    "dynamic-update-slice": _update,
    "gather": _gather,
    "reduce": _inner,
    "reduce-window": _inner,
    "rng-bit-generator": _random,
    "scatter": _inner,
}
