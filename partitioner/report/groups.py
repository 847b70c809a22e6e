"""What segments hold, in a form by which plans are compared."""

from __future__ import annotations

from collections import Counter
from typing import Any

from partitioner.capture.sources import portable
from partitioner.passes.ops import op_name
from partitioner.planning.borders import nodes_of_segments
from partitioner.planning.graphs import is_structural
from partitioner.planning.planned import Planned

__all__ = ["node_groups"]


def node_groups(planned: Planned) -> dict[str, list[dict[str, Any]]]:
    """What each segment holds: ops by name, source line and stage, and how many of each.

    Names of nodes change with every edit of a model; these do not, so plans are compared by them.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for name, nodes in nodes_of_segments(planned).items():
        counts = Counter(
            (
                str(node.args[0]) if is_structural(node) else op_name(node),
                portable(str(node.meta.get("source", ""))),
                str(node.meta.get("stage", "")).split(".")[0],
            )
            for node in nodes
        )
        found[name] = [
            {"op": op, "source": source, "stage": stage, "count": count}
            for (op, source, stage), count in counts.items()
        ]
    return found
