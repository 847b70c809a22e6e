"""What bisection finds: where a bundle goes wrong, and by how much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import fx

from partitioner.errors import ParityError

__all__ = ["Finding", "Neighbour", "place_of_node"]


@dataclass(frozen=True)
class Neighbour:
    """A node beside the wrong one."""

    node: str
    op: str
    source: str


@dataclass(frozen=True)
class Finding:
    """Where a bundle goes wrong.

    Attributes:
        kind: ``healthy``; ``capture`` (the captured program is not the eager pipeline); ``pass``;
            ``node`` (the backend computes a node wrongly); ``graph`` (the bundle's graph is not
            what the compiler makes of the segment, and is wrong); ``segment`` (no node can be
            named); ``whole`` (each segment is right, the outputs are not: a loop amplifies
            rounding).
        what: a sentence.
        exit_code: of the error that the finding is; 0 if healthy.
        segment, node, op, source, stage: the place, where there is one.
        error: relative; None where nothing differs.
        tolerance: that it exceeds.
        inputs, users: what the node reads, and what reads it.
        compiled: how many graphs were compiled on the way.
    """

    kind: str
    what: str
    exit_code: int = ParityError.exit_code
    segment: str = ""
    node: str = ""
    op: str = ""
    source: str = ""
    stage: str = ""
    error: float | None = None
    tolerance: float = 0.0
    inputs: tuple[Neighbour, ...] = ()
    users: tuple[Neighbour, ...] = ()
    compiled: int = 0


def place_of_node(segment: str, node: fx.Node) -> dict[str, Any]:
    """The fields of a finding that say where a node of a segment is."""
    return {
        "segment": segment,
        "node": node.name,
        "op": str(node.target),
        "source": node.meta.get("source", ""),
        "stage": node.meta.get("stage", ""),
        "inputs": tuple(_neighbour(n) for n in node.all_input_nodes),
        "users": tuple(_neighbour(n) for n in node.users if n.op != "output"),
    }


def _neighbour(node: fx.Node) -> Neighbour:
    return Neighbour(node.name, str(node.target), node.meta.get("source", ""))
