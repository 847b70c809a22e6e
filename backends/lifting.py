"""Graphs whose large constants are inputs: what exporters are given, so that none sees a weight.

The weights stay in the bundle's blobs. Backends that export through torch share this, so that the
same constants lie outside, in the same blobs, whichever of them compiles a segment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import fx, nn

from partitioner.backends.graphs import identifier
from partitioner.backends.symbols import dynamic_shapes, export_error, write_symbols
from partitioner.program import TensorType, node_type
from partitioner.rowcounts import RowCount

if TYPE_CHECKING:
    from partitioner.planning.segments import Segment

__all__ = [
    "WEIGHT",
    "export_graph",
    "is_lifted",
    "lifted_bytes",
    "lifted_module",
    "lifted_names",
]

#: The name of the placeholder that stands for a lifted constant.
WEIGHT = "weight_{}"

#: Constants up to this size travel with the graph, since exporters look at index and shape
#: constants, and a small scale is better inside the file than outside.
_SMALL_FLOAT_BYTES = 1024
_SMALL_INT_BYTES = 64 * 2**10


def is_lifted(tensor: torch.Tensor) -> bool:
    """Whether a constant stays outside of the graph, in a blob."""
    limit = _SMALL_FLOAT_BYTES if tensor.dtype.is_floating_point else _SMALL_INT_BYTES
    return tensor.nbytes > limit


def lifted_names(segment: Segment, constants: Mapping[str, torch.Tensor]) -> set[str]:
    """The constants of a segment that must lie in blobs."""
    names = {cast(str, n.target) for n in segment.graph.nodes if n.op == "get_attr"}
    return {name for name in names if is_lifted(constants[name])}


def lifted_bytes(segment: Segment, constants: Mapping[str, torch.Tensor]) -> int:
    """Bytes of the constants of a segment that lie in blobs."""
    return sum(constants[name].nbytes for name in lifted_names(segment, constants))


def lifted_module(
    graph: fx.Graph, constants: Mapping[str, torch.Tensor], lifted: Mapping[str, TensorType]
) -> fx.GraphModule:
    """A module whose lifted constants are inputs behind its own, in the order of ``lifted``.

    Args:
        graph: written to.
        constants: those that are not lifted.
    """
    root = nn.Module()
    last = [n for n in graph.nodes if n.op == "placeholder"]
    with graph.inserting_before(next(iter(graph.nodes))):
        anchor = graph.create_node("placeholder", "partitioner_anchor")
    position = last[-1] if last else anchor
    inputs: dict[str, fx.Node] = {}
    for index, (name, type_) in enumerate(lifted.items()):
        with graph.inserting_after(position):
            position = graph.create_node("placeholder", WEIGHT.format(index))
        position.meta["type"] = type_
        inputs[name] = position
    graph.erase_node(anchor)
    write_symbols(graph)
    for node in list(graph.nodes):
        if node.op == "get_attr" and node.target in inputs:
            node.replace_all_uses_with(inputs[cast(str, node.target)])
            graph.erase_node(node)
        elif node.op == "get_attr":
            key = f"constant_{identifier(cast(str, node.target))}"
            root.register_buffer(key, constants[cast(str, node.target)])
            node.target = key
    return fx.GraphModule(root, graph)


def export_graph(module: fx.GraphModule, graph: fx.Graph) -> tuple[Any, tuple[torch.Tensor, ...]]:
    """The module as an ``ExportedProgram``, and the arguments it was exported with (zeros).

    Raises:
        CompileError: the graph is for a range of batch sizes, and does not hold for all of them.
    """
    placeholders = [n for n in graph.nodes if n.op == "placeholder"]
    # calloc: pages that are never touched, however large the weights are.
    args = tuple(
        torch.zeros(node_type(n).empty().shape, dtype=node_type(n).dtype) for n in placeholders
    )
    shapes = dynamic_shapes(placeholders)
    if shapes is None:
        return torch.export.export(module, args, strict=False), args
    try:
        exported = torch.export.export(module, args, dynamic_shapes=shapes, strict=False)
        _check_open(exported, placeholders)
    except Exception as error:
        raise export_error(error, graph) from error
    return exported, args


def _check_open(exported: Any, placeholders: Sequence[fx.Node]) -> None:
    """See that torch has not settled for one number of rows."""
    for node, given in zip(placeholders, exported.graph_signature.user_inputs, strict=True):
        found = next(n for n in exported.graph.nodes if n.name == given).meta["val"].shape
        for size, symbol in zip(node_type(node).shape, found, strict=True):
            if isinstance(size, RowCount) and isinstance(symbol, int):
                raise ValueError(f"an op takes {node.name!r} with {symbol} rows only")
