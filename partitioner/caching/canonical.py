"""Segments in canonical form: names depend on the order of things only.

A change to one stage renumbers the nodes of all that come later. In canonical form a segment that
does the same is the same, so it is compiled the same, and found again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import fx
from torch.fx.node import map_arg

from partitioner.artifacts.manifest import ConstantRef
from partitioner.backends.base import Outside
from partitioner.planning.segments import Segment
from partitioner.weights import Layout

__all__ = ["Canonical", "canonical", "canonical_graph"]


@dataclass(frozen=True)
class Canonical:
    """A segment with what its compiler is given beside it.

    Attributes:
        segment: nodes and constants have canonical names; ``inputs`` and ``outputs`` are as they
            were, since artifacts are called by them.
        constants, layout: by canonical name, in the order of first use.
    """

    segment: Segment
    constants: dict[str, torch.Tensor]
    layout: dict[str, ConstantRef]

    @property
    def outside(self) -> Outside:
        """What an artifact of the segment may name."""
        places = tuple(ref for _, ref in sorted(self.layout.items()))
        return Outside(self.segment.inputs, self.segment.outputs, places)


def canonical(
    segment: Segment, constants: Mapping[str, torch.Tensor], layout: Layout, lifted: set[str]
) -> Canonical:
    """A segment in canonical form.

    Args:
        lifted: constants that lie in blobs; the others of ``layout`` are left out.
    """
    graph, names = canonical_graph(segment.graph)
    return Canonical(
        replace(segment, graph=graph),
        {new: constants[old] for old, new in names.items()},
        {new: layout[old] for old, new in names.items() if old in lifted},
    )


def canonical_graph(graph: fx.Graph) -> tuple[fx.Graph, dict[str, str]]:
    """A copy of a graph with canonical names, and the new names of its constants."""
    copied = fx.Graph()
    env: dict[fx.Node, fx.Node] = {}
    constants: dict[str, str] = {}
    for index, node in enumerate(graph.nodes):
        target = node.target
        if node.op == "placeholder":
            target = f"x{index}"
        elif node.op == "get_attr":
            # Sorted as numbered.
            target = constants.setdefault(cast(str, target), f"c{len(constants):06}")
        args, kwargs = map_arg((node.args, node.kwargs), env.__getitem__)
        made = copied.create_node(node.op, target, args, kwargs, name=f"x{index}")
        made.meta = {key: node.meta[key] for key in ("type", "source") if key in node.meta}
        env[node] = made
    return copied, constants
