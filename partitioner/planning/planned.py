"""What planning gives: a plan, and what it was made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import fx

from partitioner.plan import Plan
from partitioner.planning.placement import Placement
from partitioner.planning.segments import Segment
from partitioner.planning.tables import HostCall
from partitioner.rowcounts import Growth

__all__ = ["Planned"]


@dataclass(frozen=True)
class Planned:
    """A plan with what it was made of.

    Attributes:
        segments: by name; a graph, or a host op.
        constants: value id -> name of the program's constant, for ``plan.constants``.
        placement: who takes which node, and who does not and why.
        loops: name of a loop -> name of the graph that is its body.
        splits: name of a segment -> the limit for which it is not one with the segment before it.
        origins: node of the program -> the segment that holds it.
        growth: how the plan's values grow with the rows, where it is for a range of batch sizes.
    """

    plan: Plan
    segments: dict[str, Segment | HostCall]
    constants: dict[str, str]
    placement: Placement
    loops: dict[str, str] = field(default_factory=dict[str, str])
    splits: dict[str, str] = field(default_factory=dict[str, str])
    origins: dict[fx.Node, str] = field(default_factory=dict[fx.Node, str])
    growth: Growth = field(default_factory=dict[str, tuple[int, ...]])
