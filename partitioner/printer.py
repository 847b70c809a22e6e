"""Programs as text, for people."""

from __future__ import annotations

import operator
from typing import Any, cast

import torch
from torch import fx

from partitioner.program import Program, TensorType, call, host, loop

__all__ = ["format_graph", "format_program"]

_SHORT = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16", torch.float64: "f64"}


def format_program(program: Program) -> str:
    """All graphs, one node a line, with types, stages and source lines; then the constants."""
    parts = [format_graph(name, graph) for name, graph in program.all_graphs()]
    if program.draws:
        lines = [
            f"  {d.placeholder}: {d.distribution}{d.args} stream {d.stream}"
            + (f", a row at each of {s.repeat}" if d.row else "")
            for s in program.draws
            for d in s.draws
        ]
        parts.append("\n".join(["draws:", *lines]))
    lines = [
        f"  {name}: {_type(TensorType.of(tensor))}"
        for name, tensor in sorted(program.constants.items())
    ]
    parts.append("\n".join(["constants:", *lines]))
    return "\n\n".join(parts) + "\n"


def format_graph(name: str, graph: fx.Graph) -> str:
    """One graph."""
    inputs = ", ".join(
        f"%{n.name}: {_type(n.meta['type'])}" for n in graph.nodes if n.op == "placeholder"
    )
    lines = [f"graph {name}({inputs}) {{"]
    lines += [f"  {_line(node)}" for node in graph.nodes if node.op != "placeholder"]
    return "\n".join([*lines, "}"])


def _line(node: fx.Node) -> str:
    if node.op == "output":
        return f"return {_value(node.args[0])}"
    text = f"%{node.name}: {_type(node.meta['type'])} = {_call(node)}"
    notes = [node.meta.get("stage", ""), node.meta.get("source", "")]
    shown = "  ".join(note for note in notes if note)
    return f"{text}  # {shown}" if shown else text


def _call(node: fx.Node) -> str:
    if node.op == "get_attr":
        return f"constant {node.target}"
    if node.target is operator.getitem:
        return f"{_value(node.args[0])}[{node.args[1]}]"
    if node.target is loop:
        name, given, trips, carries, slices = cast("tuple[str, Any, int, int, int]", node.args)
        return (
            f"loop {name} x {trips} carries{_value(given[:carries])} "
            f"slices{_value(given[carries : carries + slices])} "
            f"invariants{_value(given[carries + slices :])}"
        )
    if node.target in (call, host):
        word = "call" if node.target is call else "host"
        rest = [_value(a) for a in node.args[2:] if a]
        return f"{word} {node.args[0]}{_value(node.args[1])}{''.join(rest)}"
    args = [_value(a) for a in node.args]
    args += [f"{k}={_value(v)}" for k, v in node.kwargs.items()]
    return f"{str(node.target).removesuffix('.default')}({', '.join(args)})"


def _value(value: Any) -> str:
    if isinstance(value, fx.Node):
        return f"%{value.name}"
    if isinstance(value, tuple):
        return f"({', '.join(_value(v) for v in cast('tuple[Any, ...]', value))})"
    if isinstance(value, list):
        return f"[{', '.join(_value(v) for v in cast('list[Any]', value))}]"
    return str(value)


def _type(type_: Any) -> str:
    if isinstance(type_, tuple):
        return f"({', '.join(_type(t) for t in cast('tuple[Any, ...]', type_))})"
    if type_ is None:
        return "-"
    name = _SHORT.get(type_.dtype, str(type_.dtype).removeprefix("torch."))
    return f"{name}[{', '.join('?' if d is None else str(d) for d in type_.shape)}]"
