"""The nearest code by the expanded square.

``argmin |v - c|^2`` over a constant codebook, written with a difference of every vector and every
code, is ``argmin (|c|^2 - 2 v . c)``: |v|^2 is the same for all codes. One matrix product instead
of a tensor of (vectors, codes, width).

Each distance is off by at most about (width + 4) eps (|v|^2 + |c|^2), so another code is found only
where two are that close to equally far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import fx

from partitioner.passes.base import Pass
from partitioner.passes.notes import note
from partitioner.passes.ops import argument, is_constant_number, op_name, shape_of
from partitioner.program import Program, TensorType, add_node, is_getitem, node_type

__all__ = ["ExpandDistances"]

aten = torch.ops.aten

#: Smaller floats have too few digits for the difference of large numbers.
_DTYPES = frozenset((torch.float32, torch.float64))


@dataclass(frozen=True)
class _Search:
    """A search for the nearest code.

    Attributes:
        vectors: (..., width), with an axis of size 1 for the codes before the last, or without.
        codes: (codes, width), perhaps with leading axes of size 1.
        axis: of the codes in the distances.
    """

    vectors: fx.Node
    codes: fx.Node
    axis: int


def _squared(node: fx.Node) -> fx.Node:
    """The distances whose order a monotonic function keeps."""
    while op_name(node) == "sqrt" or _clamps_nothing(node):
        node = cast(fx.Node, node.args[0])
    return node


def _clamps_nothing(node: fx.Node) -> bool:
    """Whether an op keeps distances from being negative; a higher bound would make them equal."""
    return op_name(node) == "clamp_min" and is_constant_number(argument(node, 1, "min"), 0)


def _difference(node: fx.Node) -> fx.Node | None:
    """The operand that an op squares."""
    name = op_name(node)
    squares = name == "square" or (name == "pow" and is_constant_number(node.args[1], 2))
    if squares or (name == "mul" and node.args[0] is node.args[1]):
        operand = node.args[0]
        return operand if isinstance(operand, fx.Node) else None
    return None


def _distances(node: fx.Node) -> tuple[tuple[fx.Node, fx.Node], ...]:
    """Both sides of squared distances, or of a function that has the same order.

    Returns:
        pairs of what may be the vectors and what the codes; both ways where a difference leaves it
        open.
    """
    node = _squared(node)
    name = op_name(node)
    if name in ("cdist", "_cdist_forward"):
        power = argument(node, 2, "p", 2.0)
        left, right = cast("tuple[fx.Node, fx.Node]", node.args[:2])
        # The second operand's rows are along the last axis of the result.
        return ((left, right),) if is_constant_number(power, 2) else ()
    if name == "linalg_vector_norm":
        order, dims = argument(node, 1, "ord", 2), argument(node, 2, "dim")
        difference = node.args[0] if is_constant_number(order, 2) else None
    elif name in ("sum", "mean"):
        dims = argument(node, 1, "dim")
        difference = _difference(cast(fx.Node, node.args[0]))
    else:
        return ()
    if not isinstance(difference, fx.Node) or op_name(difference) != "sub":
        return ()
    if argument(difference, 2, "alpha", 1) != 1 or len(shape_of(difference)) < 2:
        return ()
    rank = len(shape_of(difference))
    listed: list[Any] = list(dims) if isinstance(dims, list | tuple) else [dims]
    kept = len(shape_of(node)) == rank
    if listed not in ([-1], [rank - 1]):
        return ()
    left, right = difference.args[:2]
    if kept or not isinstance(left, fx.Node) or not isinstance(right, fx.Node):
        return ()
    return (left, right), (right, left)


def _search(node: fx.Node, constant: set[fx.Node]) -> _Search | None:
    """The search that an op does."""
    if op_name(node) not in ("argmin", "min") or len(node.args) < 2 or node.args[1] is None:
        return None
    if not isinstance(node.args[1], int) or not isinstance(node.args[0], fx.Node):
        return None
    distances = node.args[0]
    rank = len(shape_of(distances))
    axis = node.args[1] % max(rank, 1)
    for vectors, codes in _distances(distances):
        if codes in constant and vectors not in constant and axis == rank - 1:
            dtypes = {node_type(n).dtype for n in (vectors, codes, distances)}
            search = _Search(vectors, codes, axis)
            fits = len(dtypes) == 1 and dtypes <= _DTYPES
            return _fitting(search, shape_of(distances)) if fits else None
    return None


def _fitting(search: _Search, shape: tuple[int, ...]) -> _Search | None:
    """The search, if its codes are a plain list and its vectors do not vary over them."""
    codes, vectors = shape_of(search.codes), shape_of(search.vectors)
    count = shape[search.axis]
    if len(codes) < 2 or codes[-2] != count or any(size != 1 for size in codes[:-2]):
        return None
    direct = len(vectors) == len(shape) and vectors[:-1] == shape[:-1]
    spread = len(vectors) == len(shape) + 1 and vectors[-2] == 1 and vectors[:-2] == shape[:-1]
    return search if codes[-1] == vectors[-1] and (direct or spread) else None


class _Emitter:
    def __init__(self, graph: fx.Graph, like: fx.Node, dtype: torch.dtype) -> None:
        self.graph, self.like, self.dtype = graph, like, dtype

    def op(self, target: Any, args: tuple[Any, ...], shape: tuple[int, ...]) -> fx.Node:
        type_ = TensorType(shape, self.dtype)
        return add_node(self.graph, "call_function", target, args, type=type_, like=self.like)


def _emit(graph: fx.Graph, node: fx.Node, search: _Search) -> fx.Node:
    """Distances without |v|^2, in the shape of the old ones."""
    distances = cast(fx.Node, node.args[0])
    shape = shape_of(distances)
    emit = _Emitter(graph, node, node_type(distances).dtype)
    count, width = shape[-1], shape_of(search.codes)[-1]
    codes = emit.op(aten.reshape.default, (search.codes, [count, width]), (count, width))
    rows = (*shape[:-1], width)
    vectors = emit.op(aten.reshape.default, (search.vectors, list(rows)), rows)
    squares = emit.op(aten.mul.Tensor, (codes, codes), (count, width))
    norms = emit.op(aten.sum.dim_IntList, (squares, [1]), (count,))
    turned = emit.op(aten.permute.default, (codes, [1, 0]), (width, count))
    doubled = emit.op(aten.mul.Tensor, (turned, -2.0), (width, count))
    products = emit.op(aten.matmul.default, (vectors, doubled), shape)
    return emit.op(aten.add.Tensor, (products, norms), shape)


def _reads_values(node: fx.Node) -> bool:
    """Whether a ``min`` gives its values to someone, not only where they are."""
    return op_name(node) == "min" and any(
        is_getitem(user) and user.args[1] == 0 and user.users for user in node.users
    )


def _constants(graph: fx.Graph) -> set[fx.Node]:
    found: set[fx.Node] = set()
    for node in graph.nodes:
        known = op_name(node) and found.issuperset(node.all_input_nodes) and node.all_input_nodes
        if node.op == "get_attr" or known:
            found.add(node)
    return found


@dataclass(frozen=True)
class ExpandDistances(Pass):
    """Search for the nearest code by products instead of differences."""

    name: ClassVar[str] = "expand-distances"
    # The new distances are others than the old: only their order is kept.
    keeps_values: ClassVar[bool] = False

    def apply(self, program: Program) -> bool:
        count = 0
        for _, graph in program.all_graphs():
            constant = _constants(graph)
            for node in list(graph.nodes):
                search = _search(node, constant)
                if search is None or _reads_values(node):
                    continue
                with graph.inserting_before(node):
                    distances = _emit(graph, node, search)
                node.update_arg(0, distances)
                count += 1
        if count:
            note(f"{count} searches for the nearest code are done by the expanded square")
        return bool(count)
