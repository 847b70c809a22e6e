"""Compute once a request what does not change from step to step.

Cross-attention keys and values of the condition, pooled conditions, the guidance batch: whatever
in a loop's body depends on neither the carried values nor the step moves before the loop. Values
that cross into the loop are held in memory for the whole of it, so which nodes move is a matter of
what they save and of a budget; see :mod:`partitioner.passes.frontier`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from partitioner.passes.base import Pass
from partitioner.passes.dependence import Depends, LoopSite
from partitioner.passes.frontier import Choice
from partitioner.passes.lifting import BALANCE, add_invariants, with_constants
from partitioner.passes.relieving import relieve
from partitioner.program import Program

__all__ = ["HoistInvariants"]


def _hoist(program: Program, site: LoopSite, choice: Choice, rows: int) -> None:
    env = dict(zip(site.inner, site.given, strict=True))
    with site.graph.inserting_before(site.node):
        for node in with_constants(site.body, choice.moved):
            env[node] = site.graph.node_copy(node, lambda n: env[n])
    add_invariants(site, [(env[node], node) for node in choice.crossing])
    for node in reversed(choice.moved):
        site.body.erase_node(node)


@dataclass(frozen=True)
class HoistInvariants(Pass):
    """Move loop invariants before their loop.

    Args:
        budget: bytes that values which cross into a loop may hold.
        balance: operations that a byte of memory traffic costs on the target; more of them keep
            more in the loop.
    """

    budget: int = 2**30
    balance: int = BALANCE

    name: ClassVar[str] = "hoist-invariants"

    def apply(self, program: Program) -> bool:
        return relieve(
            program,
            Depends.REQUEST,
            _hoist,
            _says,
            budget=self.budget,
            balance=self.balance,
            trips=None,
        )


def _says(site: LoopSite, choice: Choice) -> str:
    return (
        "depend on the request only and are done once before the loop, "
        f"{len(choice.crossing)} results are kept for it"
    )
