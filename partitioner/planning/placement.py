"""Placement: which backend takes which node, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from torch import fx

from partitioner.backends.base import Rejected, Verdict
from partitioner.errors import PlacementError
from partitioner.planning.graphs import is_op, is_structural, reachable_graphs
from partitioner.program import Program, is_getitem

if TYPE_CHECKING:
    from partitioner.targets import Target

__all__ = ["Judge", "Placement", "place"]

#: How many different refusals an error shows.
_SHOWN = 5

_ADVICE = "write the step with other ops, or make it a host op (@partitioner.host_op)"


class Judge(Protocol):
    """The part of a backend's compiler that planning asks."""

    def verdict(self, node: fx.Node, target: Target) -> Verdict: ...


@dataclass
class Placement:
    """Who takes which node.

    Attributes:
        backends: of each aten node that the program needs, and of its items.
        rejections: node -> backend -> why it refused; also of nodes that another backend took.
    """

    backends: dict[fx.Node, str] = field(default_factory=dict[fx.Node, str])
    rejections: dict[fx.Node, dict[str, Rejected]] = field(
        default_factory=dict[fx.Node, dict[str, Rejected]]
    )


def place(program: Program, target: Target, compilers: Mapping[str, Judge]) -> Placement:
    """Give every aten node to the first backend of the target that takes it.

    Args:
        compilers: by backend name. A backend of the target that is missing here is not asked.

    Raises:
        PlacementError: nodes that none takes; names ops, source lines and each backend's reason.
    """
    placement = Placement()
    asked = [name for name in target.backends if name in compilers]
    unplaced: list[fx.Node] = []
    for _, _, live in reachable_graphs(program):
        for node in live:
            if is_op(node) and not is_structural(node):
                taker = _first_taker(node, target, asked, compilers, placement)
                if taker is None:
                    unplaced.append(node)
                else:
                    placement.backends[node] = taker
        _place_items(live, placement)
    if unplaced:
        raise _error(unplaced, placement, target, asked)
    return placement


def _first_taker(
    node: fx.Node,
    target: Target,
    asked: Sequence[str],
    compilers: Mapping[str, Judge],
    placement: Placement,
) -> str | None:
    for name in asked:
        verdict = compilers[name].verdict(node, target)
        if not isinstance(verdict, Rejected):
            return name
        placement.rejections.setdefault(node, {})[name] = verdict
    return None


def _place_items(live: Iterable[fx.Node], placement: Placement) -> None:
    """An item stays with its op."""
    for node in live:
        source = node.args[0] if is_getitem(node) else None
        if isinstance(source, fx.Node) and source in placement.backends:
            placement.backends[node] = placement.backends[source]


# --- the error ----------------------------------------------------------------------------------


def _error(
    unplaced: Sequence[fx.Node], placement: Placement, target: Target, asked: Sequence[str]
) -> PlacementError:
    if not asked:
        return PlacementError(
            f"none of the backends of target {target.name!r} ({', '.join(target.backends)}) is "
            "available",
            advice="install one of them, or build for another target",
        )
    # The same line of code, in each of twelve layers, is one thing to mend.
    found: dict[tuple[str, ...], list[fx.Node]] = {}
    for node in unplaced:
        found.setdefault(_reasons(node, placement), []).append(node)
    count = len(unplaced)
    lines = [
        f"no backend of target {target.name!r} takes {count} of the pipeline's ops:"
        if count > 1
        else f"no backend of target {target.name!r} takes one of the pipeline's ops:"
    ]
    for reasons, nodes in list(found.items())[:_SHOWN]:
        times = f" ({len(nodes)} times)" if len(nodes) > 1 else ""
        lines += [f"  {reasons[0]}{times}", *(f"    {reason}" for reason in reasons[1:])]
    if len(found) > _SHOWN:
        lines.append(f"  and {len(found) - _SHOWN} more like these")
    where = unplaced[0].meta.get("source") or None
    return PlacementError("\n".join(lines), where=where, advice=_ADVICE)


def _reasons(node: fx.Node, placement: Placement) -> tuple[str, ...]:
    where = node.meta.get("source") or "an unknown line"
    refusals = placement.rejections.get(node, {})
    return (
        f"{node.target} at {where}",
        *(f"{name}: {r.code}: {r.message}" for name, r in refusals.items()),
    )
