"""Which nodes ONNX can express and ONNX Runtime's CPU kernels take.

``table.json`` is the exporter's own: what ``torch.onnx`` has a translation for. What it takes
apart is taken apart here by the same decompositions, which are torch's. Needs neither ONNX nor its
runtime; :mod:`partitioner.backends.onnx.table` writes the table where they are installed.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import fx

from partitioner.backends.support_table import Evaluator, SupportTable, read_table
from partitioner.backends.verdicts import Supported, Verdict

if TYPE_CHECKING:
    from partitioner.targets import Target

__all__ = ["table", "verdict"]


@functools.cache
def table() -> SupportTable:
    """The rows, read once."""
    return read_table(Path(__file__).with_name("table.json"))


def _decompositions() -> Any:
    """How the exporter takes ops apart that it has no translation for."""
    from torch.onnx._internal.exporter import _decomp

    found = cast(Any, _decomp).create_onnx_friendly_decomposition_table(set())
    return {op: how for op, how in found.items() if table().row_of(str(op)) is None}


@functools.cache
def _evaluator() -> Evaluator:
    return Evaluator(table(), {}, _decompositions)


def _casts_a_weight(node: fx.Node) -> bool:
    """Whether a weight is stored in bfloat16 and cast up: there is no arithmetic in that."""
    if node.target is not torch.ops.aten._to_copy.default:
        return False
    weight = cast(fx.Node, node.args[0])
    given = str(node.meta["type"].dtype).removeprefix("torch.")
    stored = weight.op == "get_attr" and given in table().dtypes
    return stored and weight.meta["type"].dtype == torch.bfloat16


def verdict(node: fx.Node, target: Target) -> Verdict:
    """Whether the exporter and ONNX Runtime's CPU kernels take a node."""
    if _casts_a_weight(node):
        return Supported("a weight that is stored in bfloat16 is cast when it is loaded")
    return _evaluator().verdict(node, target)
