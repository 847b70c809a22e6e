"""Ask every backend about every node, and say what is wrong where none takes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from torch import fx

from partitioner.backends.base import Rejected, Verdict
from partitioner.errors import PlacementError
from partitioner.planning.graphs import is_op, is_structural, reachable_graphs
from partitioner.program import Program

if TYPE_CHECKING:
    from partitioner.targets import Target

__all__ = ["Judge", "Verdicts", "ask"]

#: How many different refusals an error shows.
_SHOWN = 5

_ADVICE = "write the step with other ops, or make it a host op (@partitioner.host_op)"


class Judge(Protocol):
    """The part of a backend that planning asks; it needs neither the backend nor a device."""

    def verdict(self, node: fx.Node, target: Target, /) -> Verdict: ...


@dataclass
class Verdicts:
    """What backends say about the aten nodes that a program needs.

    Attributes:
        takers: node -> the backends that take it, in the target's order.
        rejections: node -> backend -> why it refused; also of nodes that another backend takes.
    """

    takers: dict[fx.Node, tuple[str, ...]] = field(default_factory=dict[fx.Node, "tuple[str, ...]"])
    rejections: dict[fx.Node, dict[str, Rejected]] = field(
        default_factory=dict[fx.Node, dict[str, Rejected]]
    )


def ask(program: Program, target: Target, judges: Mapping[str, Judge]) -> Verdicts:
    """The verdict of each backend of the target on each aten node.

    Args:
        judges: by backend name. A backend of the target that is missing here is not asked.

    Raises:
        PlacementError: nodes that none takes; names ops, source lines and each backend's reason.
    """
    found = Verdicts()
    asked = [name for name in target.backends if name in judges]
    unplaced: list[fx.Node] = []
    for _, _, live in reachable_graphs(program):
        for node in live:
            if not is_op(node) or is_structural(node):
                continue
            verdicts = {name: judges[name].verdict(node, target) for name in asked}
            refused = {n: v for n, v in verdicts.items() if isinstance(v, Rejected)}
            found.takers[node] = tuple(name for name in asked if name not in refused)
            if refused:
                found.rejections[node] = refused
            if not found.takers[node]:
                unplaced.append(node)
    if unplaced:
        raise _error(unplaced, found.rejections, target, asked)
    return found


# --- the error ----------------------------------------------------------------------------------


def _error(
    unplaced: Sequence[fx.Node],
    rejections: Mapping[fx.Node, Mapping[str, Rejected]],
    target: Target,
    asked: Sequence[str],
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
        found.setdefault(_reasons(node, rejections.get(node, {})), []).append(node)
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


def _reasons(node: fx.Node, refusals: Mapping[str, Rejected]) -> tuple[str, ...]:
    where = node.meta.get("source") or "an unknown line"
    return (
        f"{node.target} at {where}",
        *(f"{name}: {r.code}: {r.message}" for name, r in refusals.items()),
    )
