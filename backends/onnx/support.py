"""Which nodes ONNX can express.

The table is the exporter's own: what ``torch.onnx`` has a translation for, or decomposes into such.
It is asked for the installed versions, so that it cannot be out of date.
"""

from __future__ import annotations

import functools
import logging
import operator
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg

from partitioner.backends.base import Rejected, Supported, Verdict
from partitioner.backends.onnx.packed import PACKED
from partitioner.program import TensorType

if TYPE_CHECKING:
    from partitioner.targets import Target

__all__ = ["verdict"]

#: What ONNX Runtime's CPU kernels compute in. bfloat16 has no arithmetic there.
_DTYPES = frozenset(
    {
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.float16,
        torch.float32,
        torch.float64,
    }
)


@functools.cache
def _registry() -> Any:
    """The exporter's translations."""
    from torch.onnx._internal.exporter import _registration

    # It says for each op of torchvision that torchvision is not there.
    log = logging.getLogger(_registration.__name__)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        return cast(Any, _registration.ONNXRegistry).from_torchlib()
    finally:
        log.setLevel(level)


@functools.cache
def _is_translated(op: Any) -> bool:
    return bool(_registry().is_registered(op))


@functools.cache
def _table() -> Any:
    """How the exporter takes ops apart that it has no translation for."""
    from torch.onnx._internal.exporter import _decomp

    return cast(Any, _decomp).create_onnx_friendly_decomposition_table(set())


#: op -> whether all its parts are translated.
_divisible: dict[Any, bool] = {}


def _comes_apart(node: fx.Node) -> bool:
    """Whether an op is made of ops that are translated; found by taking it apart once."""
    if node.target not in _divisible:
        _divisible[node.target] = _try_apart(node)
    return _divisible[node.target]


def _try_apart(node: fx.Node) -> bool:
    inputs = node.all_input_nodes

    def run(*tensors: torch.Tensor) -> Any:
        given = dict(zip(inputs, tensors, strict=True))
        args, kwargs = map_arg((node.args, node.kwargs), cast(Any, given.__getitem__))
        return cast(Any, node.target)(*cast(Any, args), **cast(Any, kwargs))

    with FakeTensorMode(), torch.no_grad():
        tensors = [n.meta["type"].empty("cpu") for n in inputs]
        try:
            parts = make_fx(run, decomposition_table=_table())(*tensors)
        except Exception:  # noqa: BLE001 - whatever stops the exporter's own way stops the exporter
            return False
    called = [n.target for n in parts.graph.nodes if n.op == "call_function"]
    return all(op is operator.getitem or _is_translated(op) for op in called)


def _types(node: fx.Node) -> list[TensorType]:
    found: list[TensorType] = []
    for one in (node, *node.all_input_nodes):
        type_ = one.meta["type"]
        parts = cast("tuple[Any, ...]", type_ if isinstance(type_, tuple) else (type_,))
        found += [part for part in parts if part is not None]
    return found


def _casts_a_weight(node: fx.Node) -> bool:
    """Whether a weight is stored in bfloat16 and cast up: there is no arithmetic in that."""
    if node.target is not torch.ops.aten._to_copy.default:
        return False
    weight = cast(fx.Node, node.args[0])
    stored = weight.op == "get_attr" and node.meta["type"].dtype in _DTYPES
    return stored and weight.meta["type"].dtype == torch.bfloat16


def verdict(node: fx.Node, target: Target) -> Verdict:
    """Whether the exporter and ONNX Runtime's CPU kernels take a node."""
    source = cast(str, node.meta.get("source", ""))
    if _casts_a_weight(node):
        return Supported()
    for type_ in _types(node):
        if type_.dtype not in _DTYPES:
            name = str(type_.dtype).removeprefix("torch.")
            return Rejected("dtype", f"ONNX Runtime's CPU kernels do not compute in {name}", source)
        if None in type_.shape:
            return Rejected("dynamic-shape", "a size is known only at run time", source)
    op = node.target
    if op in PACKED:
        return Supported()
    if _is_translated(op) or _comes_apart(node):
        return Supported()
    return Rejected("op-unsupported", f"ONNX has no counterpart of {op}", source)
