"""One spelling for equal things, and no ops that do nothing.

Programs are dense and functional, so memory formats, aliases and copies mean nothing. Composite
ops that backends have kernels for (linear, convolution, attention, normalisation) stay whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import fx

from partitioner.passes.base import Pass
from partitioner.program import Program, TensorType, add_node, node_type

__all__ = ["Normalise"]

aten = torch.ops.aten

#: Give their operand, whatever else they are told.
_IDENTITIES = frozenset(
    {
        aten.alias.default,
        aten.clone.default,
        aten.contiguous.default,
        aten.detach.default,
        aten.lift_fresh.default,
        aten.lift_fresh_copy.default,
    }
)

#: Give their operand where it has the type of the result.
_IDENTITIES_OF_TYPE = frozenset(
    {
        aten._reshape_alias.default,
        aten._to_copy.default,
        aten._unsafe_view.default,
        aten.cat.default,
        aten.expand.default,
        aten.reshape.default,
        aten.slice.Tensor,
        aten.squeeze.default,
        aten.squeeze.dim,
        aten.squeeze.dims,
        aten.to.device,
        aten.to.dtype,
        aten.to.dtype_layout,
        aten.type_as.default,
        aten.view.default,
    }
)

_DROPOUTS = frozenset({aten.dropout.default, aten.feature_dropout.default})

#: ``view`` depends on strides, of which programs know nothing; ``squeeze`` of a dimension that is
#: not 1 does nothing in torch and is an error elsewhere.
_VIEWS = frozenset(
    {
        aten._reshape_alias.default,
        aten._unsafe_view.default,
        aten.squeeze.default,
        aten.squeeze.dim,
        aten.squeeze.dims,
        aten.view.default,
    }
)

_CASTS = frozenset({aten.to.dtype, aten.to.dtype_layout, aten.to.device, aten.type_as.default})


def _operand(node: fx.Node) -> fx.Node | None:
    first = node.args[0] if node.args else None
    if node.target is aten.cat.default and len(cast("list[fx.Node]", first)) == 1:
        first = cast("list[fx.Node]", first)[0]
    return first if isinstance(first, fx.Node) else None


def _does_nothing(node: fx.Node) -> bool:
    operand = _operand(node)
    if operand is None:
        return False
    if node.target in _IDENTITIES:
        return True
    if node.target in _DROPOUTS:
        return node.args[2] is False or bool(node.args[1] == 0.0)
    same = bool(operand.meta["type"] == node.meta["type"])
    # A slice with the shape of its operand takes all of it: negative steps do not exist.
    return node.target in _IDENTITIES_OF_TYPE and same


def _without_empty(node: fx.Node) -> bool:
    """Leave tensors without elements out of a ``cat``; whether there were any.

    Not where one decides the result's dtype, or where nothing would be left.
    """
    if node.target is not aten.cat.default:
        return False
    parts = list(cast("list[fx.Node]", node.args[0]))
    kept = [part for part in parts if 0 not in node_type(part).shape]
    if not kept or len(kept) == len(parts):
        return False
    if any(node_type(part).dtype != node_type(node).dtype for part in kept):
        return False
    node.update_arg(0, kept)
    return True


def _rewrite(node: fx.Node) -> bool:
    """Give a node its one spelling; whether it had another."""
    type_ = node.meta["type"]
    if node.target in _VIEWS or (node.target is aten.reshape.default and -1 in _shape(node)):
        node.target = aten.reshape.default
        node.args = (node.args[0], list(cast(TensorType, type_).shape))
        node.kwargs = {}
        return True
    if node.target in _CASTS or (node.target is aten._to_copy.default and len(node.kwargs) > 1):
        node.target = aten._to_copy.default
        node.args = (node.args[0],)
        node.kwargs = {"dtype": cast(TensorType, type_).dtype}
        return True
    if node.target is aten.convolution.default:
        return _named_convolution(node)
    if node.target is aten.scaled_dot_product_attention.default:
        return _with_heads(node)
    if node.target is aten._unsafe_index.Tensor:
        node.target = aten.index.Tensor
        return True
    return False


_CONVOLUTIONS = {
    1: (aten.conv1d.default, aten.conv_transpose1d.default),
    2: (aten.conv2d.default, aten.conv_transpose2d.input),
    3: (aten.conv3d.default, aten.conv_transpose3d.input),
}


def _named_convolution(node: fx.Node) -> bool:
    """``convolution`` is what the others are made of; its arguments say which of them it is."""
    x, weight, bias, stride, padding, dilation, transposed, output_padding, groups = node.args
    dims = len(cast("list[int]", stride))
    rank = len(cast(TensorType, cast(fx.Node, weight).meta["type"]).shape)
    if dims not in _CONVOLUTIONS or rank != dims + 2:
        return False
    node.target = _CONVOLUTIONS[dims][bool(transposed)]
    if transposed:
        node.args = (x, weight, bias, stride, padding, output_padding, groups, dilation)
    else:
        node.args = (x, weight, bias, stride, padding, dilation, groups)
    return True


def _with_heads(node: fx.Node) -> bool:
    """Attention without an axis of heads gets one of size 1: backends expect it."""
    result = cast(TensorType, node.meta["type"])
    if len(result.shape) != 3:
        return False
    operands = [n for n in node.all_input_nodes if len(node_type(n).shape) == 3]
    with node.graph.inserting_before(node):
        for operand in operands:
            type_ = node_type(operand)
            wide = TensorType((type_.shape[0], 1, *type_.shape[1:]), type_.dtype)
            headed = _op(node, aten.unsqueeze.default, (operand, 1), wide)
            node.replace_input_with(operand, headed)
    node.meta["type"] = TensorType((result.shape[0], 1, *result.shape[1:]), result.dtype)
    with node.graph.inserting_after(node):
        plain = _op(node, aten.reshape.default, (node, list(result.shape)), result)
    node.replace_all_uses_with(plain, delete_user_cb=lambda user: user is not plain)
    return True


def _op(like: fx.Node, target: Any, args: tuple[Any, ...], type_: TensorType) -> fx.Node:
    return add_node(like.graph, "call_function", target, args, type=type_, like=like)


def _shape(node: fx.Node) -> Any:
    return node.args[1]


@dataclass(frozen=True)
class Normalise(Pass):
    """Drop what does nothing, unify spellings."""

    name: ClassVar[str] = "normalise"

    def apply(self, program: Program) -> bool:
        modified = False
        for _, graph in program.all_graphs():
            for node in list(graph.nodes):
                if node.op != "call_function":
                    continue
                modified |= _without_empty(node)
                if _does_nothing(node):
                    node.replace_all_uses_with(cast(fx.Node, _operand(node)))
                    graph.erase_node(node)
                    modified = True
                else:
                    modified |= _rewrite(node)
        return modified
