"""What the passes that take nodes out of loops share: from what may leave to what is said of it."""

from __future__ import annotations

from collections.abc import Callable

from torch import fx

from partitioner.passes.dependence import Depends, LoopSite, dependences, loop_sites
from partitioner.passes.frontier import Choice, choose
from partitioner.passes.lifting import Lift, Pricing
from partitioner.passes.notes import note
from partitioner.program import Program

__all__ = ["Move", "relieve"]

#: Takes the chosen nodes out of a loop; gives what stands against it, if anything.
Move = Callable[[Program, LoopSite, Choice, int], str | None]


def relieve(
    program: Program,
    depends: Depends,
    move: Move,
    says: Callable[[LoopSite, Choice], str],
    *,
    budget: int,
    balance: int,
    trips: int | None,
) -> bool:
    """Take out of every loop what depends on no more than this, where it pays.

    Args:
        depends: on what the nodes depend that may leave, exactly.
        says: what was done, for the note.
        budget: bytes that the results may hold for the whole of a loop.
        balance: operations that a byte of memory traffic counts for.
        trips: results are held for so many trips, or for the loop's own if it makes more; None
            where one result serves all.

    Returns:
        whether anything changed.
    """
    modified = False
    for site in loop_sites(program):
        candidates = _candidates(program, site, depends)
        pricing = Pricing(program, site.body, candidates, balance)
        rows = 1 if trips is None else max(trips, site.trips)
        choice = choose(candidates, lambda n, p=pricing, r=rows: p.of(n, r), budget)
        # Counted before anything moves.
        lift = Lift.of(pricing, choice.moved, choice.held)
        fault = move(program, site, choice, rows) if choice.moved else None
        if fault is not None:
            note(f"{site.node.name}: {len(choice.moved)} nodes stay in the loop: {fault}")
        elif choice.moved:
            note(f"{site.node.name}: {len(choice.moved)} nodes {says(site, choice)}; {lift}")
            modified = True
        if choice.declined:
            note(f"{site.node.name}: {choice.declined} more would not fit the budget")
    return modified


def _candidates(program: Program, site: LoopSite, depends: Depends) -> list[fx.Node]:
    found = dependences(program, site)
    return [
        node for node in site.body.nodes if node.op == "call_function" and found[node] == depends
    ]
