"""Compute in a smaller float where that is safe, as torch's autocast does.

Matrix products, convolutions and attention take their operands in the small dtype; ops that lose
digits there take theirs in float32; all others take what they are given, and where that differs the
wider. The lists are those of torch.amp ("Autocast Op Reference", CUDA ops that autocast to float16
and to float32). Carried values of loops, inputs and outputs keep their dtypes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import fx

from partitioner.passes.base import Pass
from partitioner.passes.notes import note
from partitioner.passes.ops import op_name
from partitioner.passes.retyping import cast_constant, cast_node, inferred_type
from partitioner.passes.stage_dtypes import dtypes_by_stage
from partitioner.program import (
    STRUCTURAL,
    Program,
    TensorType,
    is_getitem,
    node_type,
)

__all__ = ["LOW", "WIDE", "Autocast"]

_SMALL = frozenset((torch.bfloat16, torch.float16))

#: Ops that take their operands in the small dtype.
LOW = frozenset(
    [
        *("matmul", "mm", "bmm", "mv", "addmm", "baddbmm", "linear"),
        *(f"{kind}{dims}d" for kind in ("conv", "conv_transpose") for dims in (1, 2, 3)),
        "scaled_dot_product_attention",
    ]
)

#: Ops that take their operands in float32.
WIDE = frozenset(
    [
        *("acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log1p", "log2", "pow"),
        *("reciprocal", "rsqrt", "sinh", "tan", "sin", "cos", "softplus", "sum", "prod", "cumsum"),
        *("cumprod", "mean", "var", "std", "norm", "linalg_vector_norm", "cdist", "argmin"),
        *("argmax", "softmax", "_softmax", "log_softmax", "layer_norm", "group_norm"),
        *("native_layer_norm", "native_group_norm", "batch_norm", "instance_norm", "rms_norm"),
        *("mse_loss", "l1_loss", "grid_sampler"),
    ]
)


class _Caster:
    """Casts one graph."""

    def __init__(
        self, program: Program, graph: fx.Graph, dtype_at: Callable[[fx.Node], torch.dtype]
    ) -> None:
        self._program, self._graph, self._dtype_at = program, graph, dtype_at
        self._casts: dict[tuple[fx.Node, torch.dtype], fx.Node] = {}
        self.lowered = 0

    def run(self) -> None:
        for node in list(self._graph.nodes):
            if node.op == "output" or node.target in STRUCTURAL:
                self._restore(node)
            elif is_getitem(node):
                source = cast(fx.Node, node.args[0])
                if source.target not in STRUCTURAL:
                    node.meta["type"] = source.meta["type"][node.args[1]]
            elif op_name(node):
                self._op(node)

    def _op(self, node: fx.Node) -> None:
        floats = [n for n in node.all_input_nodes if _is_float(n)]
        wanted = self._wanted(node, floats)
        if wanted is None:
            return
        for operand in floats:
            if node_type(operand).dtype != wanted:
                node.replace_input_with(operand, self._cast(operand, wanted, node))
        if op_name(node) in LOW and wanted in _SMALL:
            self.lowered += 1
        node.meta["type"] = inferred_type(node)

    def _wanted(self, node: fx.Node, floats: list[fx.Node]) -> torch.dtype | None:
        """The dtype for a node's operands; None to leave it alone."""
        dtypes = {node_type(n).dtype for n in floats}
        if not dtypes <= {torch.float32, *_SMALL} or not dtypes:
            return None
        if op_name(node) in LOW:
            return self._dtype_at(node)
        small = dtypes & _SMALL
        if not small:
            return None
        return torch.float32 if op_name(node) in WIDE or len(dtypes) > 1 else small.pop()

    def _cast(self, value: fx.Node, dtype: torch.dtype, like: fx.Node) -> fx.Node:
        key = (value, dtype)
        if key not in self._casts:
            with self._graph.inserting_after(_last_placeholder(value)):
                self._casts[key] = self._new_cast(value, dtype, like)
        return self._casts[key]

    def _new_cast(self, value: fx.Node, dtype: torch.dtype, like: fx.Node) -> fx.Node:
        if value.op == "get_attr":
            # A weight is rounded now.
            source = str(like.meta.get("source", ""))
            name = cast_constant(self._program, cast(str, value.target), dtype, source)
            copy = self._graph.node_copy(value)
            copy.target = name
            copy.meta["type"] = TensorType(node_type(value).shape, dtype)
            return copy
        return cast_node(self._graph, value, dtype, like)

    def _restore(self, node: fx.Node) -> None:
        """What leaves the graph keeps its dtype."""
        for operand in node.all_input_nodes:
            before = operand.meta.get("dtype before")
            if before is not None and node_type(operand).dtype != before:
                node.replace_input_with(operand, self._cast(operand, before, operand))


def _is_float(node: fx.Node) -> bool:
    type_ = node.meta["type"]
    return isinstance(type_, TensorType) and type_.dtype.is_floating_point


def _last_placeholder(value: fx.Node) -> fx.Node:
    """The node behind which a cast of ``value`` may stand: placeholders come first."""
    if value.op != "placeholder":
        return value
    while value.next.op == "placeholder":
        value = value.next
    return value


@dataclass(frozen=True)
class Autocast(Pass):
    """Compute products in a smaller float.

    Args:
        dtype: ``bfloat16`` or ``float16``; ``float32`` to change only ``stages``.
        stages: other dtypes for some stages; see :mod:`partitioner.passes.stage_dtypes`.
    """

    dtype: str = "bfloat16"
    stages: str = ""

    name: ClassVar[str] = "autocast"
    # bfloat16 has 8 bits of mantissa; what is made of many roundings is right to two digits.
    tolerance: ClassVar[float] = 5e-2
    keeps_values: ClassVar[bool] = False

    def apply(self, program: Program) -> bool:
        dtype_at = dtypes_by_stage(self.dtype, self.stages, self.name)
        lowered = 0
        for _, graph in program.all_graphs():
            for node in graph.nodes:
                type_: Any = node.meta.get("type")
                if isinstance(type_, TensorType):
                    node.meta["dtype before"] = type_.dtype
            caster = _Caster(program, graph, dtype_at)
            caster.run()
            lowered += caster.lowered
        if lowered:
            note(f"{lowered} products and convolutions compute in {self.dtype}")
        return bool(lowered)
