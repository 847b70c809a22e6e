"""Compute what depends on the step and the request, for all steps in one call before the loop.

The modulation of a transformer's blocks by time plus condition (adaLN, arXiv 2212.09748) depends on
no carried value, so all steps are one batch. Its weights, a quarter of such a model, are then read
once a request instead of once a step.

The batched graph is made by ``torch.vmap`` over the rows of the tables, traced to aten ops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from partitioner.errors import ProgramError
from partitioner.interpreter import run_graph
from partitioner.passes.base import Pass
from partitioner.passes.dependence import Depends, LoopSite
from partitioner.passes.frontier import Choice
from partitioner.passes.lifting import BALANCE, add_slices, lengthened, step_graph
from partitioner.passes.relieving import relieve
from partitioner.program import Program, TensorType, add_node, node_type

__all__ = ["BatchSteps"]

#: Where torch has no rule for a batch of some op it does the rows one by one, a node or more each.
_GROWTH = 8


def _batched(
    program: Program, graph: fx.Graph, read: Sequence[fx.Node], rows: Sequence[int | None]
) -> fx.Graph:
    """The graph of all trips.

    Args:
        graph: of one trip.
        read: nodes that its placeholders stand for.
        rows: for each of them, how many there are in its operand; None for one without rows.
    """
    one = Program(main=graph, graphs=program.graphs, constants=program.constants)

    def run(*operands: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return run_graph(one, "main", operands)

    with FakeTensorMode() as mode:
        # The constants are operands, too: what is traced must not hold them.
        fakes = [
            mode.from_tensor(_stacked(node_type(node), count).empty())
            for node, count in zip(read, rows, strict=True)
        ]
    mapped = torch.vmap(run, in_dims=tuple(None if count is None else 0 for count in rows))
    return make_fx(mapped, tracing_mode="fake")(*fakes).graph


def _stacked(type_: TensorType, rows: int | None) -> TensorType:
    return type_ if rows is None else TensorType((rows, *type_.shape), type_.dtype)


def _origins(graph: fx.Graph, crossing: Sequence[fx.Node]) -> dict[fx.Node, fx.Node]:
    """For each traced node, the first of the crossing values that is made of it."""
    origins: dict[fx.Node, fx.Node] = {}
    results = cast("Sequence[fx.Node]", graph.output_node().args[0])
    for result, like in zip(results, crossing, strict=True):
        open_ = [result]
        while open_:
            node = open_.pop()
            if node not in origins:
                origins[node] = like
                open_ += node.all_input_nodes
    return origins


def _copy_in(
    site: LoopSite, graph: fx.Graph, operands: Sequence[fx.Node], crossing: Sequence[fx.Node]
) -> list[fx.Node]:
    """Put a traced graph before the loop; its results there."""
    origins = _origins(graph, crossing)
    env: dict[fx.Node, fx.Node] = {}
    feed = iter(operands)
    for node in graph.nodes:
        if node.op == "placeholder":
            env[node] = next(feed)
        elif node in origins:
            copied = env[node] = site.graph.node_copy(node, lambda n: env[n])
            value, like = node.meta["val"], origins[node]
            many = isinstance(value, tuple | list)
            copied.meta = {
                "type": tuple(map(_type, value)) if many else _type(value),
                "source": like.meta.get("source", ""),
                "stage": like.meta.get("stage", ""),
            }
    return [env[n] for n in cast("Sequence[fx.Node]", graph.output_node().args[0])]


def _type(value: Any) -> TensorType | None:
    return None if value is None else TensorType.of(value)


def _outer(program: Program, site: LoopSite, node: fx.Node, rows: int) -> fx.Node:
    """What the outer graph has for a slice, an invariant or a constant of the body."""
    if node.op == "get_attr":
        return site.graph.node_copy(node)
    index = site.inner.index(node)
    is_slice = site.carries <= index < site.carries + site.slices
    return _table(program, site, site.given[index], rows) if is_slice else site.given[index]


def _table(program: Program, site: LoopSite, node: fx.Node, rows: int) -> fx.Node:
    """A table with exactly ``rows`` rows; what is added repeats the last row."""
    table = program.constants[cast(str, node.target)]
    if table.shape[0] == rows:
        return node
    name = program.add_constant(f"{node.target}.rows", lengthened(table, rows)[:rows])
    return add_node(
        site.graph, "get_attr", name, type=TensorType.of(program.constants[name]), like=node
    )


def _batch(program: Program, site: LoopSite, choice: Choice, rows: int) -> str | None:
    """Move the chosen nodes; what stands against it, if anything."""
    one, read = step_graph(site, choice, constants=True)
    first, last = site.carries, site.carries + site.slices
    slices = set(site.inner[first:last])
    try:
        graph = _batched(program, one, read, [rows if n in slices else None for n in read])
    except (ProgramError, RuntimeError) as error:
        # torch has no rule for a batch of some op; the nodes are as well off in the loop.
        return f"torch.vmap does not take them: {str(error).splitlines()[0]}"
    if len(graph.nodes) > _GROWTH * (len(choice.moved) + len(read)):
        return "as a batch they would be many more"
    with site.graph.inserting_before(site.node):
        operands = [_outer(program, site, node, rows) for node in read]
        results = _copy_in(site, graph, operands, choice.crossing)
    add_slices(site, list(zip(results, choice.crossing, strict=True)))
    for node in reversed(choice.moved):
        site.body.erase_node(node)
    return None


@dataclass(frozen=True)
class BatchSteps(Pass):
    """Move what depends on step and request before the loop, as one batch of all steps.

    Args:
        budget: bytes that the results of all steps of a loop may hold.
        trips: make as many rows as a loop of so many trips needs, so that variants of a program
            have the same shapes; 0 for the loop's own.
        balance: operations that a byte of memory traffic costs on the target.
    """

    budget: int = 256 * 2**20
    trips: int = 0
    balance: int = BALANCE

    name: ClassVar[str] = "batch-steps"

    def apply(self, program: Program) -> bool:
        return relieve(
            program,
            Depends.STEP | Depends.REQUEST,
            _batch,
            _says,
            budget=self.budget,
            balance=self.balance,
            trips=self.trips,
        )


def _says(site: LoopSite, choice: Choice) -> str:
    return (
        f"depend on step and request and are done for all {site.trips} steps at once before the "
        f"loop, {len(choice.crossing)} results are kept for it"
    )
