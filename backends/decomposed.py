"""Ops taken apart by torch's own decompositions, one node at a time.

A backend need not name every op: what is made of ops that it takes, it takes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg

from partitioner.program import TensorType

__all__ = ["Decompositions", "parts_of", "signature"]

#: op -> how it is taken apart; an op that is missing stays whole unless torch itself has only a
#: composite implementation of it.
Decompositions = Mapping[Any, Callable[..., Any]]


def signature(node: fx.Node) -> str:
    """A text that is the same for nodes that do the same to values of equal type, and no others."""

    def type_text(operand: fx.Node) -> Any:
        return _Text(str(operand.meta["type"]))

    return f"{node.target}{map_arg((node.args, node.kwargs), type_text)}{node.meta['type']}"


class _Text(str):
    """Shows itself without quotes, so that no string argument looks like a type."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{self}>"


def parts_of(node: fx.Node, table: Decompositions) -> tuple[fx.Node, ...] | None:
    """What an op is made of: nodes with types, in the order in which they run.

    Empty for an op that does nothing to these operands (``contiguous``); None
    where torch cannot take it apart: it has no decomposition, or its result depends on the data.
    """
    inputs = node.all_input_nodes

    def run(*tensors: torch.Tensor) -> Any:
        given = dict(zip(inputs, tensors, strict=True))
        args, kwargs = map_arg((node.args, node.kwargs), cast(Any, given.__getitem__))
        return cast(Any, node.target)(*cast(Any, args), **cast(Any, kwargs))

    with FakeTensorMode(), torch.no_grad():
        tensors = [n.meta["type"].empty("cpu") for n in inputs]
        try:
            graph = make_fx(run, decomposition_table=cast(Any, table))(*tensors).graph
        except Exception:  # noqa: BLE001 - torch has no common class for "cannot be decomposed"
            return None
    parts = [n for n in graph.nodes if n.op == "call_function"]
    for part in graph.nodes:
        if part.op != "output":
            part.meta["type"] = _type_of(part.meta.get("val"))
    found = tuple(part for part in parts if part.target is not operator.getitem)
    return None if any(part.target is node.target for part in found) else found


def _type_of(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return TensorType.of(value)
    if isinstance(value, tuple | list):
        return tuple(_type_of(v) for v in cast("tuple[Any, ...]", value))
    return None
