"""Take a batch apart where its halves need not be computed alike.

Guidance runs a model on a batch of two: with the condition, and without. What is made of the second
is constant, or depends on the step only, as long as no carried value comes in; and the carried
value itself is the same in both halves. A ``cat`` of such parts sinks towards its users::

    f(cat(a, b)) -> cat(f(a), f(b))

- where all parts are the same value, so that ``f`` is computed once;
- where nothing carried comes in and one part depends on less than another, so that ``f`` of it can
  be folded or tabulated; within a budget, since its results become constants.

Row by row, that is exact up to the order of summation within a matrix product.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import fx
from torch.fx.node import map_arg

from partitioner.passes.base import Pass
from partitioner.passes.costs import MOVES, VIEWS, result_bytes
from partitioner.passes.dependence import Depends, LoopSite, dependences, loop_sites
from partitioner.passes.lifting import append_invariant
from partitioner.passes.notes import note
from partitioner.passes.ops import op_name, shape_of
from partitioner.passes.rows import resized_args, resized_type, row_operands
from partitioner.program import (
    STRUCTURAL,
    Program,
    add_node,
    copy_graph,
    is_getitem,
    node_type,
)

__all__ = ["SplitBatch"]

aten = torch.ops.aten

#: At least this share of the rows must depend on less than the whole; few are not worth a copy.
_SHARE = 0.25


@dataclass(frozen=True)
class _Batch:
    """What is known of a value whose rows are those of several parts.

    Attributes:
        dim: along which the parts are joined.
        sizes: rows of each part.
        depends: what each part depends on.
        same: all parts are one value.
    """

    dim: int
    sizes: tuple[int, ...]
    depends: tuple[Depends, ...]
    same: bool


def _joined(node: fx.Node) -> tuple[int, tuple[fx.Node, ...]] | None:
    """The dimension and the parts of a ``cat``."""
    if node.target is not aten.cat.default:
        return None
    nodes = tuple(cast("Sequence[fx.Node]", node.args[0]))
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    return (cast(int, dim) % len(node_type(node).shape), nodes) if len(nodes) > 1 else None


def _is_cheap(node: fx.Node, *, same: bool) -> bool:
    """Whether a node on the whole batch costs next to nothing, so that it is not worth two."""
    target = cast(torch._ops.OpOverload, node.target)
    name = op_name(node)
    # Of equal parts, half of the work is saved; only what does not work at all is cheap then.
    return name in VIEWS or (not same and (name in MOVES or torch.Tag.pointwise in target.tags))


# --- which nodes --------------------------------------------------------------------------------


class _Analysis:
    """Finds the nodes of one graph that should work on parts.

    Args:
        graph: the graph.
        depends: what its nodes depend on.
        unequal: consider parts that are not all the same value, too.
    """

    def __init__(self, graph: fx.Graph, depends: dict[fx.Node, Depends], unequal: bool) -> None:
        self._depends, self._unequal = depends, unequal
        self.batches: dict[fx.Node, _Batch] = {}
        self.split: dict[fx.Node, _Batch] = {}
        for node in graph.nodes:
            joined = _joined(node)
            if joined is not None:
                self.batches[node] = self._of_cat(*joined)
            elif node.op == "call_function":
                self._visit(node)
        self._leave_cheap_ends()

    def _of_cat(self, dim: int, nodes: tuple[fx.Node, ...]) -> _Batch:
        sizes = tuple(shape_of(n)[dim] for n in nodes)
        return _Batch(dim, sizes, tuple(self._depends[n] for n in nodes), len(set(nodes)) == 1)

    def _visit(self, node: fx.Node) -> None:
        operands = [n for n in node.all_input_nodes if n in self.batches]
        dim = self._row_dim(node, operands) if operands else None
        if dim is None:
            return
        own = [self.batches[n] for n in operands]
        shared = Depends(0)
        for other in node.all_input_nodes:
            shared |= Depends(0) if other in self.batches else self._depends[other]
        columns = zip(*(batch.depends for batch in own), strict=True)
        depends = tuple(functools.reduce(operator.or_, column, shared) for column in columns)
        batch = _Batch(dim, own[0].sizes, depends, all(b.same for b in own))
        if batch.same or self._pays(node, batch):
            self.batches[node] = self.split[node] = batch

    def _pays(self, node: fx.Node, batch: _Batch) -> bool:
        if not self._unequal or self._depends[node] & Depends.CARRY:
            return False
        pairs = zip(batch.sizes, batch.depends, strict=True)
        lesser = sum(size for size, depends in pairs if depends != self._depends[node])
        return lesser >= _SHARE * sum(batch.sizes)

    def _row_dim(self, node: fx.Node, operands: Sequence[fx.Node]) -> int | None:
        """The dimension of the result whose rows are those of the operands' parts."""
        sizes = self.batches[operands[0]].sizes
        for dim, size in enumerate(shape_of(node)):
            rows = row_operands(node, dim) if size == sum(sizes) else None
            # An operand with rows that is not joined could be sliced: not worth it so far.
            if rows is None or rows.keys() != set(operands):
                continue
            batches = [(rows[n], self.batches[n]) for n in operands]
            if all(place == b.dim and b.sizes == sizes for place, b in batches):
                return dim
        return None

    def _leave_cheap_ends(self) -> None:
        """The fewer values are joined, and the earlier, the better."""
        for node in reversed(list(self.split)):
            # The items of an op go with it.
            if is_getitem(node) or not _is_cheap(node, same=self.split[node].same):
                continue
            items = [user for user in node.users if is_getitem(user)]
            readers = [user for item in (items or [node]) for user in item.users]
            if not any(reader in self.split for reader in readers):
                for gone in (node, *items):
                    self.split.pop(gone, None)


# --- taking them apart --------------------------------------------------------------------------


class _Splitter:
    """Takes nodes of one graph apart.

    Attributes:
        joined: parts that are joined again, with what they depend on.
    """

    def __init__(self, graph: fx.Graph, split: dict[fx.Node, _Batch]) -> None:
        self._graph, self._split = graph, split
        self._parts: dict[fx.Node, tuple[fx.Node, ...]] = {}
        self.joined: dict[fx.Node, Depends] = {}
        for node in list(graph.nodes):
            joined = _joined(node)
            if joined is not None:
                self._parts[node] = joined[1]
            elif node in split:
                self._parts[node] = self._apart(node, split[node])
        for node in split:
            self._join(node)
        for node in reversed(list(split)):
            graph.erase_node(node)

    def _apart(self, node: fx.Node, batch: _Batch) -> tuple[fx.Node, ...]:
        made: list[fx.Node] = []
        with self._graph.inserting_before(node):
            for index, size in enumerate(batch.sizes):
                known = batch.same and made
                made.append(made[0] if known else self._part(node, batch.dim, index, size))
        return tuple(made)

    def _part(self, node: fx.Node, dim: int, index: int, size: int) -> fx.Node:
        def of(operand: fx.Node) -> fx.Node:
            parts = self._parts.get(operand)
            return operand if parts is None else parts[index]

        args, kwargs = map_arg((resized_args(node, dim, size), node.kwargs), cast(Any, of))
        type_ = resized_type(node, dim, size)
        return add_node(
            self._graph,
            "call_function",
            node.target,
            cast(Any, args),
            cast(Any, kwargs),
            type=type_,
            like=node,
        )

    def _join(self, node: fx.Node) -> None:
        """Join the parts again for those who want the whole."""
        users = [user for user in node.users if user not in self._split]
        if not users:
            return
        batch, parts = self._split[node], self._parts[node]
        self.joined.update(zip(parts, batch.depends, strict=True))
        with self._graph.inserting_before(node):
            whole = add_node(
                self._graph,
                "call_function",
                aten.cat.default,
                (list(parts), batch.dim),
                type=node_type(node),
                like=node,
            )
        for user in users:
            user.replace_input_with(node, whole)

    def constant_bytes(self, trips: int) -> int:
        """Bytes of the joined parts that can be folded now, or tabulated for so many trips."""
        rows = {Depends(0): 1, Depends.STEP: trips}
        return sum(result_bytes(n) * rows.get(flags, 0) for n, flags in self.joined.items())


# --- whole programs -----------------------------------------------------------------------------


def _main_depends(graph: fx.Graph) -> dict[fx.Node, Depends]:
    """What the main graph's nodes depend on: the request, or constants only."""
    found: dict[fx.Node, Depends] = {}
    for node in graph.nodes:
        impure = node.op == "call_function" and node.target in STRUCTURAL
        flags = Depends.REQUEST if node.op == "placeholder" or impure else Depends(0)
        for operand in node.all_input_nodes:
            flags |= found[operand]
        found[node] = flags
    return found


def _sink_cats(site: LoopSite) -> bool:
    """Join in the body what is joined before the loop, if the parts could be told apart there."""
    first = site.carries + site.slices
    sunk = False
    for outer, inner in list(zip(site.given, site.inner, strict=True))[first:]:
        joined = _joined(outer)
        if joined is None or not _is_worth_sinking(joined[1]) or not inner.users:
            continue
        dim, parts = joined
        with site.body.inserting_before(_first_op(site.body)):
            whole = add_node(
                site.body,
                "call_function",
                aten.cat.default,
                ([inner], dim),
                type=node_type(inner),
                like=outer,
            )
        inner.replace_all_uses_with(whole, delete_user_cb=lambda user, new=whole: user is not new)
        whole.args = ([_inside(site, part) for part in parts], dim)
        sunk = True
    return sunk


def _is_worth_sinking(parts: Sequence[fx.Node]) -> bool:
    return len(set(parts)) < len(parts) or any(n.op == "get_attr" for n in parts)


def _first_op(body: fx.Graph) -> fx.Node:
    return next(n for n in body.nodes if n.op not in ("placeholder", "get_attr"))


def _inside(site: LoopSite, outer: fx.Node) -> fx.Node:
    """The body's node for a value of the outer graph: a constant, or an invariant."""
    first = site.carries + site.slices
    if outer.op == "get_attr":
        with site.body.inserting_before(_first_op(site.body)):
            return site.body.node_copy(outer)
    known = dict(zip(site.given[first:], site.inner[first:], strict=True))
    if outer not in known:
        known[outer] = append_invariant(site, outer)
    return known[outer]


def _depends(program: Program, name: str) -> dict[fx.Node, Depends]:
    for site in loop_sites(program):
        if site.node.args[0] == name:
            return dependences(program, site)
    return _main_depends(program.main)


def _split(program: Program, name: str, trips: int, budget: int) -> bool:
    """Split the batches of one graph, but not so that constants grow beyond the budget."""
    before = program.main if name == "main" else program.graphs[name]
    for unequal in (True, False):
        graph = copy_graph(before)
        _put(program, name, graph)
        found = _Analysis(graph, _depends(program, name), unequal)
        splitter = _Splitter(graph, found.split)
        size = splitter.constant_bytes(trips)
        if size <= budget:
            break
        note(
            f"{name}: a split batch would make {size / 2**20:.1f} MiB of constants, over the budget"
        )
    if not found.split:
        _put(program, name, before)
        return False
    note(
        f"{name}: {len(found.split)} nodes work on the parts of a batch one by one; "
        f"{size / 2**20:.2f} MiB may become constants"
    )
    return True


def _put(program: Program, name: str, graph: fx.Graph) -> None:
    if name == "main":
        program.main = graph
    else:
        program.graphs[name] = graph


@dataclass(frozen=True)
class SplitBatch(Pass):
    """Sink joins of a batch where a part can be folded, tabulated, or shared.

    Args:
        budget: bytes of constants and tables that may come of it, in each graph.
        trips: count bytes of tables as for a loop of so many trips; 0 for the loop's own.
    """

    budget: int = 128 * 2**20
    trips: int = 0

    name: ClassVar[str] = "split-batch"

    def apply(self, program: Program) -> bool:
        modified = _split(program, "main", 1, self.budget)
        bodies = {cast(str, s.node.args[0]): s for s in loop_sites(program)}
        for name, site in bodies.items():
            sunk = _sink_cats(site)
            split = _split(program, name, max(self.trips, site.trips), self.budget)
            modified = modified or sunk or split
        return modified
