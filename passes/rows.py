"""Which ops work row by row along a dimension of their result.

An op works row by row along dimension ``d`` if row i of its result depends on nothing but row i
of some operands, and on all of the others. Then it may be applied to parts of the rows: a batch
can be cut in two, and rows that nothing reads need not be computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import fx

from partitioner.passes.ops import argument, op_name, shape_of
from partitioner.program import TensorType, is_getitem

__all__ = ["resized_args", "resized_type", "row_operands"]

#: Operand -> its dimension that holds the rows. Operands that are not named have no rows.
Rows = dict[fx.Node, int]
_Rule = Callable[[fx.Node, int], "Rows | None"]


def row_operands(node: fx.Node, dim: int) -> Rows | None:
    """How the rows of a result come from rows of the operands.

    Args:
        node: an aten op, or ``getitem`` of one.
        dim: of the result (of every result, where there are several), not negative.

    Returns:
        the operands with rows; None where the op does not work row by row, or is not known to.
    """
    if is_getitem(node):
        return {cast(fx.Node, node.args[0]): dim}
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return None
    rule = _RULES.get(op_name(node))
    if rule is not None:
        return rule(node, dim)
    if torch.Tag.pointwise in target.tags:
        return _pointwise(node, dim)
    return None


def resized_type(node: fx.Node, dim: int, size: int) -> Any:
    """The type of a node with another number of rows."""
    type_ = node.meta["type"]
    if isinstance(type_, TensorType):
        return _resized(type_, dim, size)
    parts = cast("tuple[TensorType | None, ...]", type_)
    return tuple(None if part is None else _resized(part, dim, size) for part in parts)


def resized_args(node: fx.Node, dim: int, size: int) -> tuple[Any, ...]:
    """The arguments of a node with another number of rows: some ops name their result's shape."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return node.args
    if op_name(node) not in ("expand", "reshape", "view"):
        return node.args
    shape = list(shape_of(node))
    shape[dim] = size
    return (node.args[0], shape, *node.args[2:])


def _resized(type_: TensorType, dim: int, size: int) -> TensorType:
    return TensorType((*type_.shape[:dim], size, *type_.shape[dim + 1 :]), type_.dtype)


def _operand(node: fx.Node) -> fx.Node:
    return cast(fx.Node, node.args[0])


# --- rules: (node, dimension of the result) -> operands with rows ---------------------------------


def _aligned(node: fx.Node, dim: int, operands: Sequence[fx.Node]) -> Rows | None:
    """Operands are broadcast: dimensions are counted from the last."""
    shape, rows = shape_of(node), Rows()
    for operand in operands:
        own = shape_of(operand)
        place = dim - (len(shape) - len(own))
        if place >= 0 and own[place] == shape[dim]:
            rows[operand] = place
        elif place >= 0 and own[place] != 1:
            return None
    return rows


def _pointwise(node: fx.Node, dim: int) -> Rows | None:
    return _aligned(node, dim, node.all_input_nodes)


def _matmul(node: fx.Node, dim: int) -> Rows | None:
    left, right = cast("tuple[fx.Node, fx.Node]", node.args[:2])
    if len(shape_of(left)) < 2 or len(shape_of(right)) < 2 or left is right:
        return None
    rank = len(shape_of(node))
    if dim == rank - 1:
        return {right: len(shape_of(right)) - 1}
    if dim == rank - 2:
        return {left: len(shape_of(left)) - 2}
    return _aligned(node, dim, (left, right))


def _all_but_last(node: fx.Node, dim: int) -> Rows | None:
    return {_operand(node): dim} if dim < len(shape_of(node)) - 1 else None


def _first(node: fx.Node, dim: int) -> Rows | None:
    return {_operand(node): 0} if dim == 0 else None


def _first_two(node: fx.Node, dim: int) -> Rows | None:
    return {_operand(node): dim} if dim < 2 else None


def _convolution(node: fx.Node, dim: int) -> Rows | None:
    # Without a batch the first dimension is that of the channels, of which each result has all.
    batched = len(shape_of(_operand(node))) == len(shape_of(node.args[1]))
    return _first(node, dim) if batched else None


def _pool(node: fx.Node, dim: int) -> Rows | None:
    """Batch and channels; the batch may be missing."""
    pooled = int(op_name(node)[-2])
    return {_operand(node): dim} if dim < len(shape_of(node)) - pooled else None


def _layer_norm(node: fx.Node, dim: int) -> Rows | None:
    normed = len(cast("Sequence[int]", node.args[1]))
    return {_operand(node): dim} if dim < len(shape_of(node)) - normed else None


def _softmax(node: fx.Node, dim: int) -> Rows | None:
    over = cast(int, node.args[1]) % len(shape_of(node))
    return {_operand(node): dim} if dim != over else None


def _reduction(node: fx.Node, dim: int) -> Rows | None:
    rank = len(shape_of(_operand(node)))
    over = argument(node, 1, "dim")
    if over is None or isinstance(over, bool) or rank == 0:
        return None
    listed = cast("list[int]", over if isinstance(over, list | tuple) else [over])
    reduced = {d % rank for d in listed}
    if not reduced:
        return None
    if len(shape_of(node)) == rank:
        return None if dim in reduced else {_operand(node): dim}
    kept = [d for d in range(rank) if d not in reduced]
    return {_operand(node): kept[dim]}


def _attention(node: fx.Node, dim: int) -> Rows | None:
    query, key, value = cast("tuple[fx.Node, ...]", node.args[:3])
    mask, rank = argument(node, 3, "attn_mask"), len(shape_of(node))
    if dim < rank - 2:
        masks = [mask] if isinstance(mask, fx.Node) else []
        return _aligned(node, dim, (query, key, value, *masks))
    plain = mask is None and not argument(node, 5, "is_causal", default=False)
    return {query: dim} if dim == rank - 2 and plain and query not in (key, value) else None


def _transpose(node: fx.Node, dim: int) -> Rows | None:
    rank = len(shape_of(node))
    a, b = (cast(int, node.args[i]) % rank for i in (1, 2))
    return {_operand(node): {a: b, b: a}.get(dim, dim)}


def _permute(node: fx.Node, dim: int) -> Rows | None:
    order = cast("list[int]", node.args[1])
    return {_operand(node): order[dim] % len(order)}


def _t(node: fx.Node, dim: int) -> Rows | None:
    rank = len(shape_of(node))
    return {_operand(node): rank - 1 - dim}


def _unsqueeze(node: fx.Node, dim: int) -> Rows | None:
    added = cast(int, node.args[1]) % len(shape_of(node))
    if dim == added:
        return None
    return {_operand(node): dim - (dim > added)}


def _reshape(node: fx.Node, dim: int) -> Rows | None:
    given, wanted = shape_of(_operand(node)), shape_of(node)
    before = math.prod(wanted[:dim])
    for place, size in enumerate(given):
        if size == wanted[dim] and math.prod(given[:place]) == before:
            return {_operand(node): place}
    return None


def _expand(node: fx.Node, dim: int) -> Rows | None:
    return _aligned(node, dim, (_operand(node),))


def _other_dim(index: int, default: int = 0) -> _Rule:
    """Ops that do something along one dimension, and leave the others alone."""

    def rule(node: fx.Node, dim: int) -> Rows | None:
        own = cast(int, argument(node, index, "dim", default)) % len(shape_of(node))
        return {_operand(node): dim} if dim != own else None

    return rule


def _select(node: fx.Node, dim: int) -> Rows | None:
    taken = cast(int, node.args[1]) % len(shape_of(_operand(node)))
    return {_operand(node): dim + (dim >= taken)}


def _cat(node: fx.Node, dim: int) -> Rows | None:
    along = cast(int, argument(node, 1, "dim", 0)) % len(shape_of(node))
    if dim == along:
        return None
    return dict.fromkeys(cast("list[fx.Node]", node.args[0]), dim)


def _pad(node: fx.Node, dim: int) -> Rows | None:
    padded = len(cast("list[int]", node.args[1])) // 2
    return {_operand(node): dim} if dim < len(shape_of(node)) - padded else None


def _embedding(node: fx.Node, dim: int) -> Rows | None:
    index = cast(fx.Node, node.args[1])
    return {index: dim} if dim < len(shape_of(index)) else None


_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("matmul", "mm", "bmm"), _matmul),
    "linear": _all_but_last,
    **dict.fromkeys(
        [f"{kind}{dims}d" for kind in ("conv", "conv_transpose") for dims in (1, 2, 3)],
        _convolution,
    ),
    "group_norm": _first,
    **dict.fromkeys(
        [
            *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
            *("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"),
        ],
        _first_two,
    ),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool2d", "max_pool3d"), _pool),
    "layer_norm": _layer_norm,
    **dict.fromkeys(("softmax", "_softmax", "log_softmax"), _softmax),
    **dict.fromkeys(("mean", "sum", "amax", "amin"), _reduction),
    "scaled_dot_product_attention": _attention,
    "transpose": _transpose,
    "permute": _permute,
    "t": _t,
    "unsqueeze": _unsqueeze,
    **dict.fromkeys(("reshape", "view"), _reshape),
    "expand": _expand,
    "slice": _other_dim(1),
    **dict.fromkeys(("split", "chunk", "split_with_sizes"), _other_dim(2)),
    "select": _select,
    "cat": _cat,
    "constant_pad_nd": _pad,
    "embedding": _embedding,
    "_to_copy": _pointwise,
}
