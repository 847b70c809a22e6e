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
from partitioner.passes.ops import argument, op_name, shape_of, taken_rows
from partitioner.passes.rows import resized_args, resized_type, row_operands
from partitioner.passes.zero_parts import Fact, Part, Parts, fitted, selected, sliced, whole
from partitioner.passes.zeros import ZeroConstants, absorbed, contraction, gives_zero, is_fill
from partitioner.program import Program, TensorType, add_node, is_getitem, node_type

__all__ = ["FoldZeros"]

aten = torch.ops.aten


class _Folder:
    """Follows zeros through one graph."""

    def __init__(self, program: Program, graph: fx.Graph, is_zero: Callable[[str], bool]) -> None:
        self._program, self._graph = program, graph
        self._is_zero = is_zero
        self._facts: dict[fx.Node, Fact] = {}
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
        if is_fill(node) or gives_zero(node, zeros):
            self._facts[node] = None
            return
        kept = absorbed(node, zeros) if zeros else None
        if kept is not None:
            self._replace(node, fitted(node, kept))
            return
        if op_name(node) == "cat":
            self._visit_cat(node)
            return
        partial = [n for n in node.all_input_nodes if isinstance(self._facts.get(n), Parts)]
        if partial:
            self._visit_parts(node, partial)

    def _visit_cat(self, node: fx.Node) -> None:
        operands = cast("Sequence[fx.Node]", node.args[0])
        dim = cast(int, argument(node, 1, "dim", 0)) % len(shape_of(node))
        parts: list[Part] = []
        for operand in operands:
            fact = self._facts.get(operand, operand)
            if isinstance(fact, Parts) and fact.dim == dim:
                parts += fact.parts
            else:
                zero = fact is None
                parts.append(Part(shape_of(operand)[dim], None if zero else operand))
        if all(part.node is None for part in parts):
            self._facts[node] = None
        elif any(part.node is None for part in parts):
            self._facts[node] = Parts(dim, tuple(parts))

    def _visit_parts(self, node: fx.Node, partial: Sequence[fx.Node]) -> None:
        own = cast(Parts, self._facts[partial[0]])
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

    def _is_taken_along(self, node: fx.Node, own: Parts) -> bool:
        dim = cast(int, argument(node, 1, "dim", 0)) % len(shape_of(node.args[0]))
        return dim == own.dim

    def _take(self, node: fx.Node, own: Parts) -> None:
        """Slices and selections along the parts: each of the parts gives its own rows."""
        rows = taken_rows(node, sum(own.sizes))
        taken: list[Part] = []
        position = 0
        for part in own.parts:
            inside = [row - position for row in rows if position <= row < position + part.size]
            position += part.size
            if inside:
                taken.append(Part(len(inside), sliced(node, own.dim, part, inside, rows.step)))
        if all(part.node is None for part in taken):
            self._facts[node] = None
        elif op_name(node) == "select":
            self._replace(node, selected(node, own.dim, cast(fx.Node, taken[0].node)))
        elif len(taken) == 1:
            self._replace(node, cast(fx.Node, taken[0].node))
        else:
            self._facts[node] = Parts(own.dim, tuple(taken))

    def _rows(self, node: fx.Node, partial: Sequence[fx.Node]) -> int | None:
        """The dimension of the result along which its operands' parts lie."""
        sizes = cast(Parts, self._facts[partial[0]]).sizes
        for dim, size in enumerate(shape_of(node)):
            rows = row_operands(node, dim) if size == sum(sizes) else None
            if rows is None or not rows.keys() <= {*partial, *self._zeros(node)}:
                continue
            facts = [(rows.get(n), cast(Parts, self._facts[n])) for n in partial]
            if all(place == f.dim and f.sizes == sizes for place, f in facts):
                return dim
        return None

    def _zeros(self, node: fx.Node) -> set[fx.Node]:
        return {n for n in node.all_input_nodes if self._facts.get(n, n) is None}

    def _apart(self, node: fx.Node, dim: int, sizes: Sequence[int]) -> None:
        """Do the node for each part; what comes of zeros only must be zero."""
        parts: list[Part] = []
        for index, size in enumerate(sizes):
            own = {n: self._row_part(n, index) for n in node.all_input_nodes}
            zeros = {n for n, part in own.items() if part is None}
            if gives_zero(node, zeros):
                parts.append(Part(size, None))
                continue
            kept = absorbed(node, zeros) if zeros else None
            if kept is not None and own[kept] is not None and _is_same_type(node, kept):
                parts.append(Part(size, own[kept]))
            elif zeros:
                return
            else:
                parts.append(Part(size, self._part(node, dim, size, own)))
        if any(part.node is None for part in parts):
            self._facts[node] = Parts(dim, tuple(parts))

    def _row_part(self, operand: fx.Node, index: int) -> fx.Node | None:
        fact = self._facts.get(operand, operand)
        return fact.parts[index].node if isinstance(fact, Parts) else fact

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
        place = contraction(node)
        fact = self._facts.get(cast(fx.Node, node.args[0])) if place is not None else None
        if place is None or not isinstance(fact, Parts) or fact.dim != place[0]:
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

    def _replace(self, node: fx.Node, value: fx.Node) -> None:
        node.replace_all_uses_with(value)
        if value in self._facts:
            self._facts[node] = self._facts[value]
        self.replaced += 1

    def _write_back(self) -> None:
        """Give zeros and joined parts to those who read them as a whole."""
        for node, fact in list(self._facts.items()):
            if node.op == "get_attr" or is_fill(node) or not node.users:
                continue
            if op_name(node) == "cat" and isinstance(fact, Parts):
                continue
            users = [u for u in node.users if self._reads_whole(u)]
            if not users:
                continue
            with self._graph.inserting_before(node):
                value = whole(node, fact)
            for user in users:
                user.replace_input_with(node, value)
            self.replaced += 1

    def _reads_whole(self, user: fx.Node) -> bool:
        """Whether a user stays, and so wants the value; a ``cat`` stays where it is read whole."""
        return user not in self._facts or op_name(user) == "cat"


def _is_same_type(node: fx.Node, kept: fx.Node) -> bool:
    # A part takes the place of a part: it must not need to be expanded, cast or negated.
    negated = op_name(node) == "sub" and kept is node.args[1]
    return node_type(node) == node_type(kept) and not negated


@dataclass(frozen=True)
class FoldZeros(Pass):
    """Fold zeros through what is linear in them."""

    name: ClassVar[str] = "fold-zeros"

    def apply(self, program: Program) -> bool:
        is_zero = ZeroConstants(program)
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
