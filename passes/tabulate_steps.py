"""Compute at build time what depends on the step only, for all steps, into tables.

Time embeddings and the modulation made of them are functions of the timestep, and the timesteps are
known. The body then reads a row of a table; weights that nothing else uses leave the program.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import fx

from partitioner.interpreter import run_graph
from partitioner.passes.base import Pass
from partitioner.passes.dependence import Depends, LoopSite
from partitioner.passes.frontier import Choice
from partitioner.passes.lifting import (
    BALANCE,
    add_slices,
    lengthened,
    step_graph,
    table_name,
)
from partitioner.passes.relieving import relieve
from partitioner.program import Program, TensorType, add_node

__all__ = ["TabulateSteps"]


def _rows(program: Program, site: LoopSite, choice: Choice, rows: int) -> list[torch.Tensor]:
    """The crossing values of all trips, stacked, and lengthened to so many rows."""
    graph, read = step_graph(site, choice)
    source = dict(zip(site.inner, site.given, strict=True))
    tables = [program.constants[cast(str, source[node].target)] for node in read]
    step = Program(main=graph, graphs=program.graphs, constants=program.constants)
    trips = [
        run_graph(step, "main", [table[trip] for table in tables]) for trip in range(site.trips)
    ]
    return [lengthened(torch.stack(column), rows) for column in zip(*trips, strict=True)]


def _tabulate(program: Program, site: LoopSite, choice: Choice, rows: int) -> None:
    pairs: list[tuple[fx.Node, fx.Node]] = []
    tables = _rows(program, site, choice, rows)
    for node, tensor in zip(choice.crossing, tables, strict=True):
        table = program.add_constant(table_name(program, node), tensor)
        with site.graph.inserting_before(site.node):
            stacked = add_node(site.graph, "get_attr", table, type=TensorType.of(tensor), like=node)
        pairs.append((stacked, node))
    add_slices(site, pairs)
    for moved in reversed(choice.moved):
        site.body.erase_node(moved)


@dataclass(frozen=True)
class TabulateSteps(Pass):
    """Replace what depends on the step only by tables.

    Args:
        budget: bytes that all new tables of a loop may have.
        trips: make tables as long as a loop of so many trips needs, so that variants of a program
            have the same shapes; 0 for the loop's own.
        balance: operations that a byte of memory traffic costs on the target.
    """

    budget: int = 64 * 2**20
    trips: int = 0
    balance: int = BALANCE

    name: ClassVar[str] = "tabulate-steps"

    def apply(self, program: Program) -> bool:
        return relieve(
            program,
            Depends.STEP,
            _tabulate,
            _says,
            budget=self.budget,
            balance=self.balance,
            trips=self.trips,
        )


def _says(site: LoopSite, choice: Choice) -> str:
    count = len(choice.crossing)
    return f"depend on the step only and became {count} tables of {site.trips} rows"
