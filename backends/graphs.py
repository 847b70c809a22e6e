"""Graphs as JSON, for the way into a compiler's process. Tensors travel only if they are small."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import fx

from partitioner.program import TensorType
from partitioner.rowcounts import RowCount, RowRange
from partitioner.weights import tensor_bytes

__all__ = ["encode_argument", "encode_type", "from_json", "identifier", "to_json"]


def to_json(graph: fx.Graph, constants: Mapping[str, torch.Tensor], lifted: set[str]) -> Any:
    """A graph without structural ops.

    Args:
        lifted: constants that stay behind; only their types travel.
    """
    nodes = [_node(node) for node in graph.nodes]
    named = {cast(str, n.target) for n in graph.nodes if n.op == "get_attr"}
    return {
        "nodes": nodes,
        "constants": {name: _tensor(constants[name]) for name in sorted(named - lifted)},
        "lifted": {name: encode_type(TensorType.of(constants[name])) for name in sorted(lifted)},
    }


def from_json(document: Any) -> tuple[fx.Graph, dict[str, torch.Tensor], dict[str, TensorType]]:
    """The graph, its small constants, and the types of the lifted ones."""
    graph = fx.Graph()
    env: dict[str, fx.Node] = {}
    for entry in document["nodes"]:
        args = _decode(entry["args"], env)
        if entry["op"] == "output":
            graph.output(args[0])
            continue
        target = _target(entry["op"], entry["target"])
        node = graph.create_node(
            entry["op"], target, args, _decode(entry["kwargs"], env), name=entry["name"]
        )
        node.meta["type"] = _untype(entry["type"])
        node.meta["source"] = entry["source"]
        env[entry["name"]] = node
    constants = {name: _untensor(value) for name, value in document["constants"].items()}
    lifted = {name: cast(TensorType, _untype(t)) for name, t in document["lifted"].items()}
    return graph, constants, lifted


def _node(node: fx.Node) -> dict[str, Any]:
    return {
        "op": node.op,
        "name": node.name,
        "target": str(node.target) if node.op != "output" else "",
        "args": encode_argument(node.args),
        "kwargs": encode_argument(dict(node.kwargs)),
        "type": encode_type(node.meta.get("type")),
        "source": node.meta.get("source", ""),
    }


def _target(op: str, text: str) -> Any:
    if op != "call_function":
        return text
    if "getitem" in text:
        import operator

        return operator.getitem
    namespace, name, overload = text.split(".")
    return getattr(getattr(getattr(torch.ops, namespace), name), overload)


def encode_argument(value: Any) -> Any:
    """An argument of a node as JSON values; other nodes by their names.

    Raises:
        TypeError: it is of a type that graphs do not have.
    """
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, tuple):
        return {"tuple": [encode_argument(v) for v in cast("tuple[Any, ...]", value)]}
    if isinstance(value, list):
        return [encode_argument(v) for v in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {"dict": {k: encode_argument(v) for k, v in cast("dict[str, Any]", value).items()}}
    if isinstance(value, torch.dtype | torch.device | torch.memory_format | torch.layout):
        kind = type(value).__name__.replace("torch.", "")
        return {kind: str(value).removeprefix("torch.")}
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, RowCount):
        return {"rows": [int(value), value.growth, value.span.least, value.span.most]}
    if value is None or isinstance(value, bool | int | str):
        return value
    raise TypeError(f"an argument of type {type(value).__name__}")


def _decode(value: Any, env: Mapping[str, fx.Node]) -> Any:
    if isinstance(value, list):
        return [_decode(v, env) for v in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = cast("dict[str, Any]", value).items()
    if kind == "node":
        return env[inner]
    if kind == "tuple":
        return tuple(_decode(v, env) for v in inner)
    if kind == "dict":
        return {k: _decode(v, env) for k, v in inner.items()}
    if kind == "float":
        return float.fromhex(inner)
    if kind == "rows":
        return _row_count(inner)
    return torch.device(inner) if kind == "device" else getattr(torch, inner)


def encode_type(type_: Any) -> Any:
    """``meta["type"]`` as JSON values."""
    if isinstance(type_, tuple):
        return {"tuple": [encode_type(t) for t in cast("tuple[Any, ...]", type_)]}
    if type_ is None:
        return None
    shape = [encode_argument(dim) for dim in type_.shape]
    return {"dtype": str(type_.dtype).removeprefix("torch."), "shape": shape}


def _untype(value: Any) -> Any:
    if value is None:
        return None
    if "tuple" in value:
        return tuple(_untype(v) for v in value["tuple"])
    dims = (_row_count(dim["rows"]) if isinstance(dim, dict) else dim for dim in value["shape"])
    return TensorType(tuple(dims), getattr(torch, value["dtype"]))


def _row_count(numbers: Any) -> RowCount:
    size, growth, least, most = numbers
    return RowCount(size, growth, RowRange(least, most))


def _tensor(tensor: torch.Tensor) -> Any:
    data = base64.b64encode(tensor_bytes(tensor)).decode()
    return {**encode_type(TensorType.of(tensor)), "data": data}


def _untensor(value: Any) -> torch.Tensor:
    data = bytearray(base64.b64decode(value["data"]))
    type_ = _untype({"dtype": value["dtype"], "shape": value["shape"]})
    if not data:
        return torch.empty(type_.shape, dtype=type_.dtype)
    return torch.frombuffer(data, dtype=type_.dtype).reshape(type_.shape)


def identifier(name: str) -> str:
    """A name that is an identifier in Python."""
    return re.sub(r"\W", "_", name)
