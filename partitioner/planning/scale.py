"""Measurements instead of estimates: factors on the estimated seconds of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Scale"]


@dataclass(frozen=True)
class Scale:
    """Factors on the estimated seconds of nodes.

    Nodes are known by their names, so that a scale holds for every copy of a program.

    Attributes:
        factors: graph's name -> node's name -> backend -> factor.
        usual: backend -> the factor of nodes that have none of their own: measured seconds are more
            than the roofline's, so a node without a measurement must not look better for it.
    """

    factors: Mapping[str, Mapping[str, Mapping[str, float]]] = field(
        default_factory=dict[str, "Mapping[str, Mapping[str, float]]"]
    )
    usual: Mapping[str, float] = field(default_factory=dict[str, float])

    def of(self, graph: str, node: str, backend: str) -> float | None:
        """The factor of a node on a backend; None where nothing was measured on the backend."""
        own = self.factors.get(graph, {}).get(node, {})
        return own.get(backend, self.usual.get(backend))
