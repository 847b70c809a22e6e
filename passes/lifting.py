"""Taking nodes out of a loop's body: what they cost there, and how the body gets their results."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import fx

from partitioner.passes.costs import VIEWS, graph_cost, operations, result_bytes
from partitioner.passes.dependence import LoopSite
from partitioner.passes.frontier import Choice, Costs
from partitioner.passes.ops import op_name
from partitioner.program import (
    Program,
    TensorType,
    add_node,
    call,
    is_getitem,
    loop,
    node_type,
)

__all__ = [
    "BALANCE",
    "Lift",
    "Pricing",
    "add_invariants",
    "add_slices",
    "append_invariant",
    "lengthened",
    "step_graph",
    "table_name",
    "with_constants",
]

#: How many operations are done while a byte comes from memory: on the CPUs that were measured, 2
#: cores do some 100 operations in a nanosecond and move some 25 bytes.
BALANCE = 4

# One unit is an operation. Starting a kernel costs a microsecond, binding a value three. The
# ratios matter, and they only roughly.
_NODE = 1.2e5
_VALUE = 3.0e5


class Pricing:
    """What nodes of one body cost there.

    Args:
        program: that holds the body.
        body: the graph.
        candidates: nodes that may leave; a weight leaves with them only if nothing else reads it.
        balance: operations that a byte of memory traffic counts for.
    """

    def __init__(
        self,
        program: Program,
        body: fx.Graph,
        candidates: Collection[fx.Node],
        balance: int = BALANCE,
    ) -> None:
        self._program, self._byte = program, float(balance)
        chosen = set(candidates)
        self._kept = {
            cast(str, node.target)
            for node in body.nodes
            if node.op == "get_attr" and not chosen.issuperset(node.users)
        }

    def of(self, node: fx.Node, rows: int) -> Costs:
        """Costs of a node whose result is held for ``rows`` trips."""
        crosses = isinstance(node.meta["type"], TensorType) and not _is_unknown(node)
        held = result_bytes(node)
        crossing = _VALUE + self._byte * held if crosses else None
        return Costs(self.work(node), crossing, held * rows)

    def work(self, node: fx.Node) -> float:
        """Of doing a node once."""
        if is_getitem(node) or op_name(node) in VIEWS:
            return 0.0
        if node.target in (call, loop):
            inner = graph_cost(self._program, cast(str, node.args[0]))
            trips = cast(int, node.args[2]) if node.target is loop else 1
            return _NODE + trips * (inner.operations + self._byte * inner.weight_bytes)
        moved = result_bytes(node) + self.weight_bytes(node)
        return _NODE + operations(node) + self._byte * moved

    def weight_bytes(self, node: fx.Node) -> int:
        """Bytes of the weights that leave the loop with a node."""
        names = {cast(str, n.target) for n in node.all_input_nodes if n.op == "get_attr"}
        return sum(self._program.constants[n].nbytes for n in names - self._kept)


@dataclass(frozen=True)
class Lift:
    """What one loop was relieved of, in numbers for people.

    Attributes:
        operations, weight_bytes: that each trip saves.
        held_bytes: that stay in memory instead.
    """

    operations: int
    weight_bytes: int
    held_bytes: int

    @classmethod
    def of(cls, pricing: Pricing, moved: Iterable[fx.Node], held: int) -> Lift:
        moved = list(moved)
        weights = sum(pricing.weight_bytes(node) for node in moved)
        return cls(sum(operations(node) for node in moved), weights, held)

    def __str__(self) -> str:
        return (
            f"each step saves {self.operations / 1e6:.1f} M operations and reads "
            f"{self.weight_bytes / 2**20:.2f} MiB of weights less; "
            f"{self.held_bytes / 2**20:.2f} MiB are held"
        )


def table_name(program: Program, node: fx.Node) -> str:
    """A name for a table of a node's results, after the node's stage; not yet taken."""
    stage = re.sub(r"[^A-Za-z0-9_.]", "_", node.meta.get("stage") or "schedule")
    return f"table.{stage}.{node.name}"


def with_constants(body: fx.Graph, moved: Collection[fx.Node]) -> list[fx.Node]:
    """Moved nodes with all that they read but placeholders, in the body's order.

    Beside the moved nodes these are constants, and ops on constants that were too big to fold.
    """
    found = set(moved)
    open_ = list(found)
    while open_:
        for operand in open_.pop().all_input_nodes:
            if operand not in found and operand.op != "placeholder":
                found.add(operand)
                open_.append(operand)
    return [node for node in body.nodes if node in found]


def step_graph(
    site: LoopSite, choice: Choice, *, constants: bool = False
) -> tuple[fx.Graph, list[fx.Node]]:
    """The chosen nodes as a graph of one trip, whose results are the crossing values.

    Args:
        constants: make placeholders of constants, too.

    Returns:
        the graph, and the nodes of the body that its placeholders stand for.
    """
    graph, env = fx.Graph(), dict[fx.Node, fx.Node]()
    needed = with_constants(site.body, choice.moved)
    reading = set(needed)
    kinds = ("placeholder", "get_attr") if constants else ("placeholder",)
    read = [n for n in site.body.nodes if n.op in kinds and not reading.isdisjoint(n.users)]
    for node in read:
        env[node] = graph.placeholder(node.name)
        env[node].meta.update(node.meta)
    for node in needed:
        if node not in env:
            env[node] = graph.node_copy(node, lambda n: env[n])
    graph.output(tuple(env[node] for node in choice.crossing))
    return graph, read


def lengthened(table: torch.Tensor, rows: int) -> torch.Tensor:
    """A table with at least so many rows; what is added repeats the last one."""
    more = rows - table.shape[0]
    return torch.cat([table, table[-1:].expand(more, *table.shape[1:])]) if more > 0 else table


def add_invariants(site: LoopSite, pairs: Sequence[tuple[fx.Node, fx.Node]]) -> None:
    """Give the body values of the outer graph in place of its own nodes.

    Args:
        pairs: (node of the outer graph, node of the body), of the same type.
    """
    for outer, node in pairs:
        node.replace_all_uses_with(append_invariant(site, outer))


def append_invariant(site: LoopSite, outer: fx.Node) -> fx.Node:
    """Give the body one more value of the outer graph; the body's new placeholder for it."""
    with site.body.inserting_after(site.inner[-1]):
        placeholder = add_node(
            site.body, "placeholder", f"in_{outer.name}", type=node_type(outer), like=outer
        )
    name, given, trips, carries, slices = site.node.args
    given = (*cast("tuple[fx.Node, ...]", given), outer)
    site.node.args = (name, given, trips, carries, slices)
    return placeholder


def add_slices(site: LoopSite, pairs: Sequence[tuple[fx.Node, fx.Node]]) -> None:
    """Give the body rows of stacked values of the outer graph in place of its own nodes.

    Args:
        pairs: (stacked node of the outer graph, node of the body).
    """
    name, given, trips, carries, slices = site.node.args
    given = cast("tuple[fx.Node, ...]", given)
    moving = site.carries + site.slices
    after = site.inner[moving - 1]
    for _, node in pairs:
        with site.body.inserting_after(after):
            after = add_node(
                site.body, "placeholder", f"in_{node.name}", type=node_type(node), like=node
            )
        node.replace_all_uses_with(after)
    outer = tuple(stacked for stacked, _ in pairs)
    site.node.args = (
        name,
        (*given[:moving], *outer, *given[moving:]),
        trips,
        carries,
        cast(int, slices) + len(outer),
    )


def _is_unknown(node: fx.Node) -> bool:
    return None in node_type(node).shape
