"""The backend ``host`` at build time: a host op is kept by name, so there is little to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx

from partitioner.backends.base import Compiled, Rejected, Verdict

__all__ = ["HostCompiler"]


class HostCompiler:
    """Keeps host ops by name and options."""

    name = "host"

    def verdict(self, node: fx.Node, target: Any) -> Verdict:
        """Tensor ops belong to compilers."""
        source = str(node.meta.get("source", ""))
        return Rejected("policy", "the host runs host ops only, not tensor ops", source)

    def compile_host(self, op: str, options: Mapping[str, Any]) -> Compiled:
        """The artifact of a host op."""
        return Compiled(None, (), {"op": op, "options": dict(options)})
