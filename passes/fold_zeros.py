"""Leave out what is multiplied by zero.

A wavelet level whose details are all zero, an empty skip connection, a padded channel: constants
that are zero make everything linear in them zero, too. A ``cat`` of values and zeros is followed
through ops that work row by row, so that only the values are worked on; where zeros stand in the
contraction of a product, its other operand is cut down instead.

Zeros are taken to absorb whatever they are multiplied with: 0 * inf, NaN in eager, is 0 after this
pass. All else is exact up to the order of summation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import fx
from torch.fx.node import map_arg

from partitioner.passes.base import Pass
from partitioner.passes.notes import note
from partitioner.passes.ops import (
    argument,
    is_constant_number,
    op_name,
    shape_of,
    taken_rows,
)
from partitioner.passes.rows import resized_args, resized_type, row_operands
from partitioner.program import Program, TensorType, add_node, is_getitem, node_type

__all__ = ["FoldZeros"]

aten = torch.ops.aten

#: Zero where their first operand is: moves, sums, and functions with f(0) = 0.
_KEEP_ZERO = frozenset(
    [
        *("reshape", "view", "permute", "transpose", "t", "expand", "slice", "select", "squeeze"),
        *("unsqueeze", "flip", "repeat", "roll", "index", "gather", "index_select", "flatten"),
        *("_to_copy", "clone", "neg", "abs", "relu", "silu", "gelu", "tanh", "sin", "sqrt"),
        *("sum", "mean", "cumsum", "avg_pool1d", "avg_pool2d", "avg_pool3d"),
        *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
        *("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"),
    ]
)
_PRODUCTS = frozenset(["mul", "matmul", "mm", "bmm"])
_CONVOLUTIONS = frozenset(
    [f"{kind}{dims}d" for kind in ("conv", "conv_transpose") for dims in (1, 2, 3)]
)


@dataclass(frozen=True)
class _Part:
    """Rows of a value: so many, and the node that has them, or None where they are zero."""

    size: int
    node: fx.Node | None


@dataclass(frozen=True)
class _Parts:
    """A value of which some rows are zero."""

    dim: int
    parts: tuple[_Part, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(part.size for part in self.parts)


#: None stands for a value that is all zero.
_Fact = _Parts | None


class _Folder:
    """Follows zeros through one graph."""

    def __init__(self, program: Program, graph: fx.Graph, is_zero: Callable[[str], bool]) -> None:
        self._program, self._graph = program, graph
        self._is_zero = is_zero
        self._facts: dict[fx.Node, _Fact] = {}
        self.replaced = 0

    def run(self) -> None:
        for node in list(self._graph.nodes):
            if node.op == "get_attr" and self._is_zero(cast(str, node.target)):
                self._facts[node] = None
            elif op_name(node) or is_getitem(node):
                self._visit(node)
        self._write_back()

    # --- one node ---

    def _visit(self, node: fx.Node) -> None:
        if not isinstance(node.meta["type"], TensorType) or None in node_type(node).shape:
            return
        zeros = {n for n in node.all_input_nodes if self._facts.get(n, n) is None}
        if _is_fill(node) or _gives_zero(node, zeros):
            self._facts[node] = None
            return
        kept = _absorbed(node, zeros) if zeros else None
        if kept is not None:
            self._replace(node, self._fitted(node, kept))
            return
        if op_name(node) == "cat":
            self._visit_cat(node)
            return
        partial = [n for n in node.all_input_nodes if isinstance(self._facts.get(n), _Parts)]
        if partial:
            self._visit_parts(node, partial)

    def _visit_cat(self, node: fx.Node) -> None:
        operands = cast("Sequence[fx.Node]", node.args[0])
        dim = cast(int, argument(node, 1, "dim", 0)) % len(shape_of(node))
        parts: list[_Part] = []
        for operand in operands:
            fact = self._facts.get(operand, operand)
            if isinstance(fact, _Parts) and fact.dim == dim:
                parts += fact.parts
            else:
                zero = fact is None
                parts.append(_Part(shape_of(operand)[dim], None if zero else operand))
        if all(part.node is None for part in parts):
            self._facts[node] = None
        elif any(part.node is None for part in parts):
            self._facts[node] = _Parts(dim, tuple(parts))

    def _visit_parts(self, node: fx.Node, partial: Sequence[fx.Node]) -> None:
        own = cast(_Parts, self._facts[partial[0]])
        if op_name(node) in ("slice", "select") and self._is_taken_along(node, own):
            self._take(node, own)
            return
        narrow = self._contracted(node)
        if narrow is not None:
            self._replace(node, narrow)
            return
        found = self._rows(node, partial)
        if found is not None:
            self._apart(node, found, own.sizes)

    def _is_taken_along(self, node: fx.Node, own: _Parts) -> bool:
        dim = cast(int, argument(node, 1, "dim", 0)) % len(shape_of(node.args[0]))
        return dim == own.dim

    def _take(self, node: fx.Node, own: _Parts) -> None:
        """Slices and selections along the parts: each of the parts gives its own rows."""
        rows = taken_rows(node, sum(own.sizes))
        taken: list[_Part] = []
        position = 0
        for part in own.parts:
            inside = [row - position for row in rows if position <= row < position + part.size]
            position += part.size
            if inside:
                taken.append(_Part(len(inside), self._sliced(node, own.dim, part, inside, rows)))
        if all(part.node is None for part in taken):
            self._facts[node] = None
        elif op_name(node) == "select":
            self._replace(node, self._selected(node, own.dim, cast(fx.Node, taken[0].node)))
        elif len(taken) == 1:
            self._replace(node, cast(fx.Node, taken[0].node))
        else:
            self._facts[node] = _Parts(own.dim, tuple(taken))

    def _sliced(
        self, like: fx.Node, dim: int, part: _Part, inside: Sequence[int], rows: range
    ) -> fx.Node | None:
        if part.node is None or len(inside) == part.size:
            return part.node
        with self._graph.inserting_before(like):
            return add_node(
                self._graph,
                "call_function",
                aten.slice.Tensor,
                (part.node, dim, inside[0], inside[-1] + 1, rows.step),
                type=resized_type(part.node, dim, len(inside)),
                like=like,
            )

    def _selected(self, node: fx.Node, dim: int, rows: fx.Node) -> fx.Node:
        with self._graph.inserting_before(node):
            return add_node(
                self._graph,
                "call_function",
                aten.select.int,
                (rows, dim, 0),
                type=node_type(node),
                like=node,
            )

    def _rows(self, node: fx.Node, partial: Sequence[fx.Node]) -> int | None:
        """The dimension of the result along which its operands' parts lie."""
        sizes = cast(_Parts, self._facts[partial[0]]).sizes
        for dim, size in enumerate(shape_of(node)):
            rows = row_operands(node, dim) if size == sum(sizes) else None
            if rows is None or not rows.keys() <= {*partial, *self._zeros(node)}:
                continue
            facts = [(rows.get(n), cast(_Parts, self._facts[n])) for n in partial]
            if all(place == f.dim and f.sizes == sizes for place, f in facts):
                return dim
        return None

    def _zeros(self, node: fx.Node) -> set[fx.Node]:
        return {n for n in node.all_input_nodes if self._facts.get(n, n) is None}

    def _apart(self, node: fx.Node, dim: int, sizes: Sequence[int]) -> None:
        """Do the node for each part; what comes of zeros only must be zero."""
        parts: list[_Part] = []
        for index, size in enumerate(sizes):
            own = {n: self._row_part(n, index) for n in node.all_input_nodes}
            zeros = {n for n, part in own.items() if part is None}
            if _gives_zero(node, zeros):
                parts.append(_Part(size, None))
                continue
            kept = _absorbed(node, zeros) if zeros else None
            if kept is not None and own[kept] is not None and _is_same_type(node, kept):
                parts.append(_Part(size, own[kept]))
            elif zeros:
                return
            else:
                parts.append(_Part(size, self._part(node, dim, size, own)))
        if any(part.node is None for part in parts):
            self._facts[node] = _Parts(dim, tuple(parts))

    def _row_part(self, operand: fx.Node, index: int) -> fx.Node | None:
        fact = self._facts.get(operand, operand)
        return fact.parts[index].node if isinstance(fact, _Parts) else fact

    def _part(
        self, node: fx.Node, dim: int, size: int, own: dict[fx.Node, fx.Node | None]
    ) -> fx.Node:
        args, kwargs = map_arg(
            (resized_args(node, dim, size), node.kwargs), cast(Any, lambda n: own[n])
        )
        with self._graph.inserting_before(node):
            return add_node(
                self._graph,
                "call_function",
                node.target,
                cast(Any, args),
                cast(Any, kwargs),
                type=resized_type(node, dim, size),
                like=node,
            )

    # --- products ---

    def _contracted(self, node: fx.Node) -> fx.Node | None:
        """A product whose contraction meets zeros, without them."""
        place = _contraction(node)
        fact = self._facts.get(cast(fx.Node, node.args[0])) if place is not None else None
        if place is None or not isinstance(fact, _Parts) or fact.dim != place[0]:
            return None
        kept = [(index, p) for index, p in enumerate(fact.parts) if p.node is not None]
        weight = cast(fx.Node, node.args[1])
        if len(kept) != 1 or weight in self._facts:
            return None
        index, part = kept[0]
        start = sum(fact.sizes[:index])
        with self._graph.inserting_before(node):
            rows = add_node(
                self._graph,
                "call_function",
                aten.slice.Tensor,
                (weight, place[1], start, start + part.size),
                type=resized_type(weight, place[1], part.size),
                like=node,
            )
            return add_node(
                self._graph,
                "call_function",
                node.target,
                (part.node, rows, *node.args[2:]),
                dict(node.kwargs),
                type=node_type(node),
                like=node,
            )

    # --- the graph ---

    def _fitted(self, node: fx.Node, kept: fx.Node) -> fx.Node:
        """``kept`` in the type of the node that it stands for."""
        wanted, value = node_type(node), kept
        fact = self._facts.get(kept, kept)
        assert fact is not None
        with self._graph.inserting_before(node):
            if node_type(value).dtype != wanted.dtype:
                type_ = TensorType(node_type(value).shape, wanted.dtype)
                value = add_node(
                    self._graph,
                    "call_function",
                    aten._to_copy.default,
                    (value,),
                    {"dtype": wanted.dtype},
                    type=type_,
                    like=node,
                )
            if node_type(value).shape != wanted.shape:
                value = add_node(
                    self._graph,
                    "call_function",
                    aten.expand.default,
                    (value, list(wanted.shape)),
                    type=wanted,
                    like=node,
                )
            if op_name(node) == "sub" and kept is node.args[1]:
                value = add_node(
                    self._graph, "call_function", aten.neg.default, (value,), type=wanted, like=node
                )
        return value

    def _replace(self, node: fx.Node, value: fx.Node) -> None:
        node.replace_all_uses_with(value)
        if value in self._facts:
            self._facts[node] = self._facts[value]
        self.replaced += 1

    def _write_back(self) -> None:
        """Give zeros and joined parts to those who read them as a whole."""
        for node, fact in list(self._facts.items()):
            if node.op == "get_attr" or _is_fill(node) or not node.users:
                continue
            if op_name(node) == "cat" and isinstance(fact, _Parts):
                continue
            users = [u for u in node.users if self._reads_whole(u)]
            if not users:
                continue
            with self._graph.inserting_before(node):
                value = self._whole(node, fact)
            for user in users:
                user.replace_input_with(node, value)
            self.replaced += 1

    def _reads_whole(self, user: fx.Node) -> bool:
        """Whether a user stays, and so wants the value; a ``cat`` stays where it is read whole."""
        return user not in self._facts or op_name(user) == "cat"

    def _whole(self, node: fx.Node, fact: _Fact) -> fx.Node:
        if fact is None:
            return self._zero(node, node_type(node))
        parts = [
            part.node or self._zero(node, _resized(node_type(node), fact.dim, part.size))
            for part in fact.parts
        ]
        return add_node(
            self._graph,
            "call_function",
            aten.cat.default,
            (parts, fact.dim),
            type=node_type(node),
            like=node,
        )

    def _zero(self, like: fx.Node, type_: TensorType) -> fx.Node:
        return add_node(
            self._graph,
            "call_function",
            aten.full.default,
            (list(type_.shape), 0.0 if type_.dtype.is_floating_point else 0),
            {"dtype": type_.dtype},
            type=type_,
            like=like,
        )


def _resized(type_: TensorType, dim: int, size: int) -> TensorType:
    return TensorType((*type_.shape[:dim], size, *type_.shape[dim + 1 :]), type_.dtype)


# --- ops ----------------------------------------------------------------------------------------


def _is_fill(node: fx.Node) -> bool:
    name = op_name(node)
    if name in ("zeros", "zeros_like", "new_zeros"):
        return True
    return name in ("full", "full_like", "new_full") and is_constant_number(
        argument(node, 2 if name == "new_full" else 1, "fill_value"), 0
    )


def _gives_zero(node: fx.Node, zeros: set[fx.Node]) -> bool:
    """Whether the result is zero if these operands are."""
    name = op_name(node)
    if name in _PRODUCTS:
        return any(n in zeros for n in node.args[:2] if isinstance(n, fx.Node)) or (
            name == "mul" and is_constant_number(node.args[1], 0)
        )
    if name in ("linear", *_CONVOLUTIONS):
        bias = argument(node, 2, "bias")
        return any(n in zeros for n in node.args[:2]) and (bias is None or bias in zeros)
    if name in ("add", "sub"):
        return all(n in zeros or is_constant_number(n, 0) for n in node.args[:2])
    if name == "constant_pad_nd":
        value = argument(node, 2, "value", 0)
        return node.args[0] in zeros and is_constant_number(value, 0)
    return (name in _KEEP_ZERO or name == "div") and node.args[0] in zeros


def _absorbed(node: fx.Node, zeros: set[fx.Node]) -> fx.Node | None:
    """The other operand of a sum with zero."""
    if op_name(node) not in ("add", "sub") or argument(node, 2, "alpha", 1) != 1:
        return None
    left, right = node.args[:2]
    if right in zeros and isinstance(left, fx.Node) and left not in zeros:
        return left
    if left in zeros and isinstance(right, fx.Node) and right not in zeros:
        return right
    return None


def _is_same_type(node: fx.Node, kept: fx.Node) -> bool:
    # A part takes the place of a part: it must not need to be expanded, cast or negated.
    negated = op_name(node) == "sub" and kept is node.args[1]
    return node_type(node) == node_type(kept) and not negated


def _contraction(node: fx.Node) -> tuple[int, int] | None:
    """The dimensions of the first operand and of the weight that a product sums over."""
    name = op_name(node)
    if name in ("matmul", "mm"):
        left, right = (len(shape_of(n)) for n in node.args[:2])
        return (left - 1, right - 2) if left >= 2 and right >= 2 else None
    if name == "linear":
        return len(shape_of(node.args[0])) - 1, len(shape_of(node.args[1])) - 1
    if name in _CONVOLUTIONS:
        transposed = "transpose" in name
        groups = argument(node, 6, "groups", 1)
        batched = len(shape_of(node.args[0])) == len(shape_of(node.args[1]))
        return (1, 0 if transposed else 1) if groups == 1 and batched else None
    return None


# --- the pass -----------------------------------------------------------------------------------


class _ZeroConstants:
    """Which constants are all zero; each is looked at once."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._known: dict[str, bool] = {}

    def __call__(self, name: str) -> bool:
        if name not in self._known:
            tensor = self._program.constants[name]
            # One number that is not zero is enough; most weights have it at their start.
            first = tensor.numel() > 0 and not bool(tensor[(0,) * tensor.ndim])
            self._known[name] = first and not bool(tensor.any())
        return self._known[name]


@dataclass(frozen=True)
class FoldZeros(Pass):
    """Fold zeros through what is linear in them."""

    name: ClassVar[str] = "fold-zeros"

    def apply(self, program: Program) -> bool:
        is_zero = _ZeroConstants(program)
        count = 0
        for _, graph in program.all_graphs():
            before = len(graph.nodes)
            folder = _Folder(program, graph, is_zero)
            folder.run()
            count += folder.replaced
            if folder.replaced or len(graph.nodes) != before:
                _drop_dead(graph)
        if count:
            note(f"{count} values need no work, since zeros go into them")
        return bool(count)


def _drop_dead(graph: fx.Graph) -> None:
    for node in reversed(list(graph.nodes)):
        if not node.users and op_name(node):
            graph.erase_node(node)
