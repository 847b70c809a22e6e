"""Which backend has which node, and which nodes are together: all graphs of a program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from torch import fx

from partitioner.backends.base import Rejected
from partitioner.planning.graphs import reachable_graphs
from partitioner.planning.posing import Posed, Poser, rates_of
from partitioner.planning.problem import Rates
from partitioner.planning.refine import solve
from partitioner.planning.scale import Scale
from partitioner.planning.verdicts import Judge, Verdicts, ask
from partitioner.program import Program, call, is_getitem, loop

if TYPE_CHECKING:
    from partitioner.targets import Target

__all__ = ["Placement", "place"]


@dataclass
class Placement:
    """Who takes which node.

    Attributes:
        backends: of each aten node that the program needs, and of its items.
        levels: of each op, structural ones too: ops of one backend at one level of a graph are
            together, and what is at a lower level runs earlier.
        verdicts: what each backend said.
    """

    backends: dict[fx.Node, str] = field(default_factory=dict[fx.Node, str])
    levels: dict[fx.Node, int] = field(default_factory=dict[fx.Node, int])
    verdicts: Verdicts = field(default_factory=Verdicts)

    @property
    def rejections(self) -> dict[fx.Node, dict[str, Rejected]]:
        """Node -> backend -> why it refused; also of nodes that another backend took."""
        return self.verdicts.rejections


def place(
    program: Program, target: Target, judges: Mapping[str, Judge], scale: Scale | None = None
) -> Placement:
    """Give every aten node to the backend where it is best, by the estimate.

    On a target without figures the first backend that takes a node has it.

    Args:
        judges: by backend name. A backend of the target that is missing here is not asked.
        scale: measurements instead of estimates.

    Raises:
        PlacementError: nodes that none takes; names ops, source lines and each backend's reason.
    """
    placement = Placement(verdicts=ask(program, target, judges))
    names = [n for n in target.backends if n in judges]
    takers = placement.verdicts.takers
    if not target.devices:
        takers = {node: some[:1] for node, some in takers.items()}
    rates = rates_of(target, names)
    poser = Poser(program, target, rates, takers, scale or Scale())
    for name, live in _inner_first(program):
        posed = poser.pose(name, live)
        assignment = solve(posed.problem)
        _record(placement, posed, rates, assignment.owners, assignment.levels)
        _place_items(live, placement)
        if name != "main":
            poser.solve(name, posed, assignment.owners)
    return placement


def _inner_first(program: Program) -> list[tuple[str, list[fx.Node]]]:
    """Graphs with their live nodes, each after those that it runs."""
    graphs = {name: live for name, _, live in reachable_graphs(program)}
    ordered: dict[str, None] = {}

    def visit(name: str) -> None:
        for node in graphs[name]:
            if node.target in (call, loop) and node.args[0] not in ordered:
                visit(cast(str, node.args[0]))
        ordered[name] = None

    visit("main")
    return [(name, graphs[name]) for name in ordered]


def _record(
    placement: Placement, posed: Posed, rates: Rates, owners: Iterable[int], levels: Iterable[int]
) -> None:
    for node, owner, level in zip(posed.ops, owners, levels, strict=True):
        placement.levels[node] = level
        if owner >= 0:
            placement.backends[node] = rates.backends[owner]


def _place_items(live: Iterable[fx.Node], placement: Placement) -> None:
    """An item stays with its op."""
    for node in live:
        source = node.args[0] if is_getitem(node) else None
        if isinstance(source, fx.Node) and source in placement.backends:
            placement.backends[node] = placement.backends[source]
