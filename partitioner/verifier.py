"""What is legal in a program, as a list of rules; the verifier runs them all over every node."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensor

from partitioner.errors import ProgramError
from partitioner.program import (
    STRUCTURAL,
    Program,
    TensorType,
    call,
    host,
    loop,
    operands,
)

__all__ = ["verify"]

Rule = Callable[[Program, fx.Graph, fx.Node], str | None]


def verify(program: Program) -> None:
    """Check a program against the rules.

    Raises:
        ProgramError: names the graph, the node, the rule it breaks, and the source line.
    """
    for name, tensor in program.constants.items():
        fault = _constant_fault(tensor)
        if fault:
            raise ProgramError(f"constant {name!r} {fault}")
    for name, graph in program.all_graphs():
        _verify_graph(program, name, graph)
    _verify_signature(program)
    _verify_acyclic(program)


def _verify_graph(program: Program, name: str, graph: fx.Graph) -> None:
    seen: set[fx.Node] = set()
    outputs = 0
    for node in graph.nodes:
        for rule in RULES:
            fault = rule(program, graph, node)
            if fault:
                raise ProgramError(
                    f"graph {name!r}, node {node.name!r}: {fault}",
                    where=node.meta.get("source") or None,
                )
        for operand in node.all_input_nodes:
            if operand not in seen:
                raise ProgramError(
                    f"graph {name!r}, node {node.name!r} uses {operand.name!r}, which is not "
                    "defined before it in this graph",
                    where=node.meta.get("source") or None,
                )
        seen.add(node)
        outputs += node.op == "output"
    if outputs != 1:
        raise ProgramError(f"graph {name!r} has {outputs} output nodes, not one")


def _constant_fault(tensor: torch.Tensor) -> str | None:
    if isinstance(tensor, FakeTensor):
        return "is a fake tensor: it has a shape but no numbers"
    if tensor.device.type == "meta":
        return "is on the meta device: it has a shape but no numbers"
    if tensor.layout is not torch.strided:
        return f"has the layout {tensor.layout}"
    if tensor.requires_grad:
        return "requires grad"
    return None


def _legal_op(program: Program, graph: fx.Graph, node: fx.Node) -> str | None:
    if node.op in ("placeholder", "get_attr", "output"):
        return None
    if node.op != "call_function":
        return f"op {node.op!r} is not part of a program"
    if node.target in STRUCTURAL or node.target is operator.getitem:
        return None
    if not isinstance(node.target, torch._ops.OpOverload):
        return f"{node.target!r} is neither an aten overload nor a structural op"
    if node.target._schema.is_mutable:
        return f"{node.target} writes to its operand"
    return None


def _declared_type(program: Program, graph: fx.Graph, node: fx.Node) -> str | None:
    if node.op == "output":
        return None
    type_ = node.meta.get("type")
    if type_ is None:
        return "has no declared shape and dtype"
    parts = cast("tuple[Any, ...]", type_ if isinstance(type_, tuple) else (type_,))
    if not all(part is None or isinstance(part, TensorType) for part in parts):
        return f"has a malformed type {type_!r}"
    return None


def _known_constant(program: Program, graph: fx.Graph, node: fx.Node) -> str | None:
    if node.op != "get_attr":
        return None
    tensor = program.constants.get(cast(str, node.target))
    if tensor is None:
        return f"names the constant {node.target!r}, which is not in the program"
    if "type" in node.meta and TensorType.of(tensor) != node.meta["type"]:
        return f"declares {node.meta['type']}, but the constant is {TensorType.of(tensor)}"
    return None


def _flat_output(program: Program, graph: fx.Graph, node: fx.Node) -> str | None:
    if node.op != "output":
        return None
    values = node.args[0]
    if not isinstance(values, tuple) or not all(isinstance(v, fx.Node) for v in values):
        return "does not return a flat tuple of nodes"
    return None


def _structural(program: Program, graph: fx.Graph, node: fx.Node) -> str | None:
    if node.target not in STRUCTURAL:
        return None
    name = cast(str, node.args[0])
    if node.target is host:
        return None if name in program.host_ops else f"names the host op {name!r}, not known"
    body = program.graphs.get(name)
    if body is None:
        return f"names the graph {name!r}, which is not in the program"
    given = [n.meta["type"] for n in operands(node)]
    wanted = [n.meta.get("type") for n in body.nodes if n.op == "placeholder"]
    if node.target is loop:
        return _loop_fault(node, body, given, wanted)
    return None if given == wanted else f"operands {given} do not fit placeholders {wanted}"


def _loop_fault(
    node: fx.Node, body: fx.Graph, given: list[TensorType], wanted: list[TensorType | None]
) -> str | None:
    trips, carries, slices = cast("tuple[int, int, int]", node.args[2:5])
    if trips < 1:
        return f"makes {trips} trips"
    for index in range(carries, min(carries + slices, len(given))):
        shape = given[index].shape
        if not shape or shape[0] is None or shape[0] < trips:
            return f"slice operand {index} has shape {shape}, not {trips} rows"
        given[index] = TensorType(shape[1:], given[index].dtype)
    if given != wanted:
        return f"operands {given} do not fit the body's placeholders {wanted}"
    results = cast("tuple[fx.Node, ...]", body.output_node().args[0])
    nexts = [n.meta.get("type") for n in results[:carries]]
    if nexts != wanted[:carries]:
        return f"carried values change type from {wanted[:carries]} to {nexts}"
    return None


def _getitem(program: Program, graph: fx.Graph, node: fx.Node) -> str | None:
    if node.op != "call_function" or node.target is not operator.getitem:
        return None
    source = cast(fx.Node, node.args[0])
    types = source.meta.get("type")
    if not isinstance(types, tuple):
        return f"takes an item of {source.name!r}, which has one result"
    if types[cast(int, node.args[1])] != node.meta.get("type"):
        return f"declares another type than item {node.args[1]} of {source.name!r}"
    return None


def _verify_signature(program: Program) -> None:
    placeholders = [n.target for n in program.main.nodes if n.op == "placeholder"]
    drawn = [draw.placeholder for sequence in program.draws for draw in sequence.draws]
    given = [spec.name for spec in program.inputs if spec.used]
    if sorted(placeholders) != sorted([*drawn, *given]):
        raise ProgramError(
            f"the main graph takes {placeholders}, but the program declares the inputs {given} "
            f"and the draws {drawn}"
        )
    results = cast("tuple[fx.Node, ...]", program.main.output_node().args[0])
    if len(results) != len(program.outputs):
        raise ProgramError(f"{len(results)} results for {len(program.outputs)} output names")


def _verify_acyclic(program: Program) -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise ProgramError(f"graphs call one another in a circle: {' -> '.join((*path, name))}")
        if name in done:
            return
        for node in program.graphs[name].nodes:
            if node.target in (call, loop):
                visit(cast(str, node.args[0]), (*path, name))
        done.add(name)

    for name in program.graphs:
        visit(name, ())


RULES: tuple[Rule, ...] = (
    _legal_op,
    _declared_type,
    _known_constant,
    _flat_output,
    _getitem,
    _structural,
)
