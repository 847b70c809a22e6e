"""Compute once a request what does not change from step to step.

Cross-attention keys and values of the condition, pooled conditions, the guidance batch: whatever
in a loop's body depends on neither the carried values nor the step moves before the loop. Values
that cross into the loop are held in memory for the whole of it, so which nodes move is a matter of
what they save and of a budget; see :mod:`partitioner.passes.frontier`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import fx

from partitioner.passes.base import Pass
from partitioner.passes.dependence import Depends, LoopSite, dependences, loop_sites
from partitioner.passes.frontier import Choice, choose
from partitioner.passes.lifting import BALANCE, Lift, Pricing, add_invariants, with_constants
from partitioner.passes.notes import note
from partitioner.program import Program

__all__ = ["HoistInvariants"]


def _hoist(site: LoopSite, choice: Choice) -> None:
    env = dict(zip(site.inner, site.given, strict=True))
    with site.graph.inserting_before(site.node):
        for node in with_constants(site.body, choice.moved):
            env[node] = site.graph.node_copy(node, lambda n: env[n])
    add_invariants(site, [(env[node], node) for node in choice.crossing])
    for node in reversed(choice.moved):
        site.body.erase_node(node)


def _candidates(program: Program, site: LoopSite) -> list[fx.Node]:
    found = dependences(program, site)
    return [
        node
        for node in site.body.nodes
        if node.op == "call_function" and found[node] == Depends.REQUEST
    ]


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
        modified = False
        for site in loop_sites(program):
            candidates = _candidates(program, site)
            pricing = Pricing(program, site.body, candidates, self.balance)
            choice = choose(candidates, lambda n, p=pricing: p.of(n, 1), self.budget)
            _tell(site, choice, Lift.of(pricing, choice.moved, choice.held))
            if choice.moved:
                _hoist(site, choice)
                modified = True
        return modified


def _tell(site: LoopSite, choice: Choice, lift: Lift) -> None:
    if choice.moved:
        note(
            f"{site.node.name}: {len(choice.moved)} nodes depend on the request only and are done "
            f"once before the loop, {len(choice.crossing)} results are kept for it; {lift}",
        )
    if choice.declined:
        note(f"{site.node.name}: {choice.declined} more would not fit the budget")
